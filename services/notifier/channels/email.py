"""Letters over SMTP: a few connections used again and again, and what the server's answers mean."""

import asyncio
import re
import ssl
import time
from typing import cast

import aiosmtplib

from services.notifier import bounces
from services.notifier.channels import mime
from services.notifier.channels.channel import UNANSWERED, Later, Letter, Never
from services.notifier.channels.wire import Wire
from services.notifier.settings import NotifierSettings, sender

IDLE_S = 10.0  # after so long without use the server is asked whether it still listens
_ONE_MAILBOX = re.compile(r"4\.[12]\.[1-9]")  # RFC 3463: this address, this mailbox; 4.2.0 is how postgrey greylists
_NEVER = {"recipient": "refused_address", "message": "refused_message"}


class Email:
    """A few connections to the mail server, each opened when first needed and used again."""

    def __init__(self, settings: NotifierSettings) -> None:
        self._settings = settings
        self._sender = sender(settings.mail_from)
        self._from = str(self._sender)
        self._idle: list[tuple[Wire, float]] = []
        self._slots = asyncio.Semaphore(settings.sender_connections)

    async def deliver(self, letter: Letter) -> None:
        """Hand one letter to the mail server. Returning means that it answered 250. Raises Later or Never."""
        content = mime.mail(letter, self._from)
        wire: Wire | None = None
        async with self._slots:
            try:
                async with asyncio.timeout(self._settings.smtp_timeout_s):
                    wire = await self._connection()
                    await self._hand_over(wire, letter.address, content)
            except (TimeoutError, aiosmtplib.SMTPTimeoutError) as error:
                raise Later(UNANSWERED if wire and wire.handing_over else "timed_out") from error
            except (OSError, aiosmtplib.SMTPException) as error:
                raise answer(error, wire) from error

    async def _connection(self) -> Wire:
        while self._idle:
            wire, used = self._idle.pop()
            if wire.is_open and (time.monotonic() - used < IDLE_S or await wire.listens()):
                return wire
            wire.close()
        settings = self._settings
        client = aiosmtplib.SMTP(
            hostname=settings.smtp_host,
            port=settings.smtp_port,
            local_hostname=self._sender.domain,  # the machine's own name is nobody's business
            use_tls=settings.smtp_tls == "tls",
            start_tls=settings.smtp_tls == "starttls",
            username=settings.smtp_user or None,
            password=settings.smtp_password.get_secret_value() or None,
            timeout=settings.smtp_timeout_s,
        )
        await client.connect()
        try:
            if client.is_ehlo_or_helo_needed:
                await client.ehlo()  # sent by itself where TLS or a log-in begins
        except BaseException:  # also when its time is over
            client.close()
            raise
        if client.transport is None:  # it hung up just now
            raise aiosmtplib.SMTPServerDisconnected("the connection was lost")
        transport = cast(asyncio.Transport, client.transport)
        return Wire(transport, pipelining=client.supports_extension("pipelining"))

    async def _hand_over(self, wire: Wire, address: str, content: bytes) -> None:
        usable = False
        try:
            await wire.send(self._sender.addr_spec, address, content)
            usable = True
        except (aiosmtplib.SMTPResponseException, aiosmtplib.SMTPRecipientsRefused):
            usable = True  # a "no" about this letter; the next one may go
            raise
        finally:
            if usable and wire.is_open:
                self._idle.append((wire, time.monotonic()))
            else:
                wire.close()

    async def close(self) -> None:
        """Say goodbye on every idle connection."""
        while self._idle:
            wire, _ = self._idle.pop()
            await wire.goodbye()


def answer(error: Exception, wire: Wire | None) -> Later | Never:
    """What a refusal means: 5xx about the recipient or the message is final, all else may be otherwise later.

    A server that hangs up before it has anything of the letter cannot have taken it. `wire`: none when there was none.
    5xx about us (greeting, login, sender, and at the recipient what names these or our relaying) is a fault of the
    set-up: it would be wrong to fail every notice for it.
    """
    about = "server"
    if isinstance(error, aiosmtplib.SMTPRecipientsRefused) and error.recipients:
        error, about = error.recipients[0], "recipient"
    elif isinstance(error, aiosmtplib.SMTPDataError):
        about = "message"
    if not isinstance(error, aiosmtplib.SMTPResponseException):
        if wire is None:
            return Later(no_connection(error))
        return Later(UNANSWERED if wire.handing_over else "hung_up")
    to_us = about == "recipient" and bounces.is_to_us(error.code, error.message)
    if about in _NEVER and 500 <= error.code <= 599 and not to_us:
        refused = bounces.status(error.code, error.message) if about == "recipient" else None
        return Never(_NEVER[about], refused)
    of_domain = about == "recipient" and not _ONE_MAILBOX.match(error.message)
    return Later(f"answer_{error.code}", of_domain)


def no_connection(error: BaseException) -> str:
    """Why there is none that we would use; without TLS, or with one that cannot be trusted, nothing has been said."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, ssl.SSLCertVerificationError):
            return "bad_certificate"
        if isinstance(cause, ssl.SSLError) or "STARTTLS" in str(cause):
            return "no_tls"
        cause = cause.__cause__ or cause.__context__
    return "no_connection"
