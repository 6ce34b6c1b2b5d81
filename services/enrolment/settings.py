"""What enrolment needs to know beside what every service does."""

from datetime import time
from typing import Self

from pydantic import Field, SecretStr, field_validator, model_validator

from kit import passes, sealing
from kit.settings import Settings
from services.enrolment import asserting


class EnrolmentSettings(Settings):
    database_name: str = Field("enrolment", description="the database of this service")
    database_user: str = Field("enrolment", description="the role that owns it")
    contact_public_key: str = Field(
        description="the notifier's public keys (a JWK set): contacts are sealed for the first"
    )

    pass_private_key: SecretStr = Field(
        SecretStr(""),
        description="what the passes of people who are logged in are signed with (a JWK); empty: no log-in",
    )
    login_client_id: str = Field("kursnett", description="what the issuer calls us; it is the `aud` of its ID tokens")
    login_client_secret: SecretStr = Field(
        SecretStr(""),
        description="what we show the issuer for a code; empty: nothing, as the code's own proof suffices",
    )
    login_client_key: SecretStr = Field(
        SecretStr(""),
        description="a private JWK, by which the issuer knows us in place of a secret; empty: it does not",
    )
    login_scope: str = Field(
        "openid profile", pattern=r"(^|\s)openid(\s|$)", description="what we ask the issuer to tell of a person"
    )
    login_acr: str = Field(
        "",
        pattern=r"^\S*(,\S+)*$",
        description="how a person must have logged in (`acr`), with commas between; empty: as the issuer likes",
    )
    issuer_inside: str = Field(
        "",
        pattern=r"^(https?://[^/]+)?$",
        description="the origin at which this service reaches the issuer; empty: its own address",
    )

    most_live_enrolments: int = Field(
        10, ge=1, description="how many seats and places in line one learner may have at once: seats are for many"
    )
    enrolments_per_hour: int = Field(
        30,
        ge=1,
        description="how many one learner may begin in an hour, all processes together: each sends mails and an SMS "
        "to an address and a phone that nobody has confirmed",
    )
    requests_per_minute: int = Field(
        120, ge=1, description="how often one person may change something: a program that grabs seats asks more often"
    )

    line_told_at: time = Field(
        time(7),
        description="when those in line are told how far up they have come, on Oslo's clock: after the usual quiet "
        "hours, before digests go",
    )

    @field_validator("contact_public_key")
    @classmethod
    def can_seal(cls, value: str) -> str:
        """A key that will not do is found at start, not at the first learner."""
        try:
            sealing.check_public(value)
        except sealing.Unsealable:
            raise ValueError("must be a JWK set with a public EC key, as `kit.sealing.generate` makes") from None
        return value

    @field_validator("login_client_key")
    @classmethod
    def can_assert(cls, value: SecretStr) -> SecretStr:
        """A key that will not do is found at start, not at the first log-in."""
        if value.get_secret_value():
            asserting.opened(value.get_secret_value())
        return value

    @model_validator(mode="after")
    def one_proof(self) -> Self:
        if self.login_client_key.get_secret_value() and self.login_client_secret.get_secret_value():
            raise ValueError("login_client_key and login_client_secret are both set: keep the one the issuer knows")
        return self

    @field_validator("pass_private_key")
    @classmethod
    def can_sign(cls, value: SecretStr) -> SecretStr:
        """A key that will not do is found at start, not at the first log-in."""
        if value.get_secret_value():
            passes.check(value.get_secret_value())
        return value
