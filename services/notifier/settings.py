"""The notifier's own knobs: the mail server, the sender, and the key that opens what is sealed for us."""

import re
from datetime import time
from email.errors import MessageError
from email.headerregistry import Address
from typing import Literal
from urllib.parse import urlsplit

from pydantic import Field, SecretStr, field_validator

from kit import sealing
from kit.settings import Settings
from services.notifier.decisions import Hours
from services.notifier.guard import places


class NotifierSettings(Settings):
    """What the notifier needs to know besides what every service does."""

    database_name: str = Field("notifier", description="this service's own database; no other service may connect")
    database_user: str = Field("notifier", description="this service's own login role, which owns its database")
    contact_private_key: SecretStr = Field(
        description="the private JWK set that opens what is sealed for us: how to reach a learner, links of an offer"
    )
    smtp_host: str = Field("127.0.0.1", description="the mail server that takes our mail")
    smtp_port: int = Field(25, ge=1, le=65535, description="its port: 587 with starttls, 465 with tls, mostly")
    smtp_tls: Literal["none", "starttls", "tls"] = Field(
        "starttls", description="mail names people: only a server on the same machine may be spoken to without TLS"
    )
    smtp_user: str = Field("", description="the login at the mail server; empty: it knows us by our address")
    smtp_password: SecretStr = Field(SecretStr(""), description="the password of smtp_user")
    smtp_timeout_s: int = Field(
        30, ge=1, le=40, description="the longest one mail may take; under 60 s, when a notice is taken to be abandoned"
    )
    mail_from: str = Field(
        "Kursnett <ikke-svar@kursnett.example>",
        description="the sender of every mail, at a domain that you may send for",
    )
    sender_connections: int = Field(
        4, ge=1, le=50, description="mails under way at once; mail servers often refuse more than a few connections"
    )
    sender_per_domain: int = Field(
        3,
        ge=1,
        le=50,
        description="of these, mails to one recipient domain: one that is slow leaves others a connection",
    )
    give_up_hours: int = Field(
        120,
        ge=1,
        le=240,
        description="how long a mail is tried, from the first time on: a mail server may be away over Easter; the "
        "hours in which the notifier itself stands still do not count",
    )
    notices_kept_days: int = Field(
        183,
        ge=60,
        le=3650,
        description="how long it is kept who was told what, when that and its run are over; longer than an event can "
        "be heard again (28 days), so that none is told twice",
    )

    sms_gateway_url: str = Field(
        "", description="the address to which each SMS is posted, over https; empty: no SMS goes"
    )
    sms_gateway_token: SecretStr = Field(SecretStr(""), description="the bearer token that the gateway knows us by")

    changes_settle_s: int = Field(
        120,
        ge=0,
        le=3600,
        description="how long the letter about a change waits for further ones of the same run: they go as one",
    )
    quiet_hours: str = Field(
        "21:00-07:00",
        description="when nobody who has not chosen otherwise is disturbed by what can wait, on Oslo's clock; or none",
    )

    partners_told_at: time = Field(
        time(7),
        description="when partners' offices are told by mail what has happened to their runs, on Oslo's clock: it is "
        "there when the office opens",
    )

    webhook_allow: str = Field(
        "",
        description="host:port, with commas between, that webhooks may call although they are not https on port 443 of "
        "the public network: for developers, and for partners inside the house",
    )

    @property
    def webhook_places(self) -> frozenset[tuple[str, int]]:
        """`webhook_allow` as host and port."""
        return places(self.webhook_allow)

    @property
    def quiet(self) -> Hours | None:
        """`quiet_hours` as two times."""
        return hours(self.quiet_hours)

    @property
    def own_hosts(self) -> frozenset[str]:
        """Names of ours: no partner may have its events sent there."""
        addresses = (self.public_url, self.issuer, self.issuer_keys_url, self.otlp_endpoint, self.sms_gateway_url)
        hosts = {urlsplit(address).hostname or "" for address in addresses} | {self.smtp_host, self.database_host}
        return frozenset(hosts | {one.rpartition(":")[0] for one in self.kafka_bootstrap.split(",")})

    @field_validator("sms_gateway_url")
    @classmethod
    def names_a_gateway(cls, value: str) -> str:
        """An SMS names people, and the token is a secret: neither goes over a network in clear."""
        try:
            parts = urlsplit(value)
            inside = parts.hostname in ("127.0.0.1", "::1", "localhost")
            right = bool(parts.hostname) and (parts.port is None or parts.port > 0)
        except ValueError:
            right = inside = False
        plain = value.isascii() and value.isprintable() and not set(value) & set(" @#\\")
        if value and not (
            right and plain and (value.startswith("https://") or (inside and value.startswith("http://")))
        ):
            raise ValueError("must be https://host/path, without user and password; http:// on this machine alone")
        return value

    @field_validator("webhook_allow")
    @classmethod
    def names_places(cls, value: str) -> str:
        places(value)
        return value

    @field_validator("quiet_hours")
    @classmethod
    def names_hours(cls, value: str) -> str:
        hours(value)
        return value

    @field_validator("contact_private_key")
    @classmethod
    def can_open(cls, value: SecretStr) -> SecretStr:
        """A key that will not do is found at start, not at the first learner."""
        try:
            sealing.check_private(value.get_secret_value())
        except sealing.Unsealable:
            raise ValueError("must be a JWK set with a private EC key, as `kit.sealing.generate` makes") from None
        return value

    @field_validator("mail_from")
    @classmethod
    def one_address(cls, value: str) -> str:
        sender(value)
        return value


def hours(value: str) -> Hours | None:
    """`21:00-07:00` as two times; none for `none`. Raises ValueError for anything else."""
    if value == "none":
        return None
    found = re.fullmatch(r"(\d\d:\d\d)-(\d\d:\d\d)", value)
    try:
        if found is not None and found[1] != found[2]:
            return time.fromisoformat(found[1]), time.fromisoformat(found[2])
    except ValueError:
        pass
    raise ValueError("must be two different times such as 21:00-07:00, or none")


def sender(value: str) -> Address:
    """`Kursnett <ikke-svar@example.no>` or the address alone. Raises ValueError for anything else."""
    name, bracket, rest = value.rpartition("<")
    try:
        address = Address(name.strip(), addr_spec=rest.removesuffix(">") if bracket else rest)
    except (ValueError, IndexError, MessageError):
        address = Address()
    if not address.domain or not value.isascii() or any(sign in name for sign in '<>@,;"'):
        raise ValueError("must be one address such as Kursnett <ikke-svar@example.no>")
    return address
