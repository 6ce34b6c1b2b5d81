"""Letters over SMTP: how a mail is built so that nobody else gets it, and what the server's answers mean."""

import asyncio
import contextlib
import time
from email import policy
from email.errors import MessageError
from email.headerregistry import Address
from email.message import EmailMessage

import aiosmtplib

from services.notifier.channels.channel import UNANSWERED, Later, Letter, Never
from services.notifier.settings import NotifierSettings, sender

IDLE_S = 10.0  # after so long without use the server is asked whether it still listens
UNSUBSCRIBE = "List-Unsubscribe"
_NEVER = {"recipient": "refused_address", "message": "refused_message"}


class Whole(policy.EmailPolicy):
    """The usual rules, but an address stays in one piece: Python writes a long one as encoded words, which no mail
    program takes for an address.
    """

    def fold_binary(self, name: str, value: str) -> bytes:
        if name == UNSUBSCRIBE:
            return f"{name}: {value}{self.linesep}".encode("ascii")
        return super().fold_binary(name, value)


RULES = Whole(linesep="\r\n")


def message(letter: Letter, mail_from: Address) -> EmailMessage:
    """The letter as one mail to one recipient, text and HTML. Raises Never for what no header can hold.

    Addresses are objects and never strings in a header: "a@b.no, c@d.no" would silently be two recipients.
    """
    mail = EmailMessage(policy=RULES)
    try:
        mail["From"] = mail_from
        mail["To"] = recipient(letter)
    except (ValueError, IndexError, MessageError) as error:
        raise Never("bad_address") from error
    try:
        mail["Subject"] = literal(letter.subject)
        mail["Date"] = letter.written_at
        mail["Message-ID"] = letter.message_id
        mail["Auto-Submitted"] = "auto-generated"  # no holiday replies
        if letter.unsubscribe is not None:  # RFC 8058: one click, by a POST of the mail program
            mail[UNSUBSCRIBE] = f"<{letter.unsubscribe}>"
            mail[f"{UNSUBSCRIBE}-Post"] = "List-Unsubscribe=One-Click"
    except ValueError as error:
        raise Never("bad_header") from error
    # Quoted-printable: some servers on the way still take seven bits only.
    mail.set_content(letter.text, cte="quoted-printable")
    mail.add_alternative(letter.html, subtype="html", cte="quoted-printable")
    if letter.appointment is not None:  # the last alternative is the one that a program which knows it prefers
        method = {"method": letter.appointment.method}
        mail.add_alternative(letter.appointment.text, subtype="calendar", params=method, cte="base64")
    mail["Content-Language"] = letter.language  # last: setting a content clears the headers that describe it
    return mail


def literal(text: str) -> str:
    """Text that a header shows as it is: the library decodes `=?utf-8?q?=0d=0aBcc:_…?=` and writes its line break."""
    return text.replace("=?", "= ?")


def recipient(letter: Letter) -> Address:
    """The one address of a letter. Raises ValueError for anything that is not one plain ASCII address."""
    address = Address(literal(letter.name or ""), addr_spec=letter.address)
    if not address.domain or not address.addr_spec.isascii() or address.addr_spec != letter.address:
        raise ValueError("not one plain address")
    return address


def serialised(mail: EmailMessage) -> bytes:
    """The mail as it is sent. Raises Never when a header has become two on the way, by whatever means."""
    content = mail.as_bytes()
    lines = content.partition(b"\r\n\r\n")[0].split(b"\r\n")
    written = [
        line.partition(b":")[0].decode("ascii", "replace") for line in lines if not line.startswith((b" ", b"\t"))
    ]
    if written != mail.keys():
        raise Never("bad_header")
    return content


class Email:
    """A few connections to the mail server, each opened when first needed and used again."""

    def __init__(self, settings: NotifierSettings) -> None:
        self._settings = settings
        self._sender = sender(settings.mail_from)
        self._idle: list[tuple[aiosmtplib.SMTP, float]] = []
        self._slots = asyncio.Semaphore(settings.sender_connections)

    async def deliver(self, letter: Letter) -> None:
        """Hand one letter to the mail server. Returning means that it answered 250. Raises Later or Never."""
        content = serialised(message(letter, self._sender))
        connected = False
        async with self._slots:
            try:
                async with asyncio.timeout(self._settings.smtp_timeout_s):
                    client = await self._connection()
                    connected = True
                    await self._hand_over(client, letter.address, content)
            except (TimeoutError, aiosmtplib.SMTPTimeoutError) as error:
                raise Later(UNANSWERED if connected else "timed_out") from error
            except (OSError, aiosmtplib.SMTPException) as error:
                raise answer(error, connected) from error

    async def _connection(self) -> aiosmtplib.SMTP:
        while self._idle:
            client, used = self._idle.pop()
            if not client.is_connected:
                continue
            if time.monotonic() - used < IDLE_S:
                return client
            with contextlib.suppress(OSError, aiosmtplib.SMTPException):
                await client.noop()
                return client
            client.close()
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
        return client

    async def _hand_over(self, client: aiosmtplib.SMTP, address: str, content: bytes) -> None:
        usable = False
        try:
            await client.sendmail(self._sender.addr_spec, [address], content)
            usable = True
        except (aiosmtplib.SMTPResponseException, aiosmtplib.SMTPRecipientsRefused):
            usable = True  # a "no" about this letter; the next one may go
            raise
        finally:
            if usable and client.is_connected:
                self._idle.append((client, time.monotonic()))
            else:
                client.close()

    async def close(self) -> None:
        """Say goodbye on every idle connection."""
        while self._idle:
            client, _ = self._idle.pop()
            with contextlib.suppress(OSError, aiosmtplib.SMTPException):
                await client.quit(timeout=1)
            client.close()


def answer(error: Exception, connected: bool) -> Later | Never:
    """What a refusal means: 5xx about the recipient or the message is final, all else may be otherwise later.

    5xx about us (greeting, login, sender) is a fault of the set-up: it would be wrong to fail every notice for it.
    """
    about = "server"
    if isinstance(error, aiosmtplib.SMTPRecipientsRefused) and error.recipients:
        error, about = error.recipients[0], "recipient"
    elif isinstance(error, aiosmtplib.SMTPDataError):
        about = "message"
    if not isinstance(error, aiosmtplib.SMTPResponseException):
        return Later(UNANSWERED if connected else "no_connection")
    if about in _NEVER and 500 <= error.code <= 599:
        return Never(_NEVER[about])
    return Later(f"answer_{error.code}")
