"""One open connection to a mail server: a mail goes over it in two round trips where the server lets us, else in four.

The library opens it, with TLS and log-in, and hands its transport over: it waits for each answer before it sends the
next command. Where a server offers PIPELINING (RFC 2920), what names the two sides and asks to go on is one write.
"""

import asyncio
import re
from collections.abc import Sequence
from typing import NamedTuple

import aiosmtplib

MOST_UNREAD = 64 * 1024  # of an answer that does not end: no server has so much to say
_LINE = re.compile(rb"([2-5][0-9]{2})(?:([ -])(.*))?", re.DOTALL)
DONE, FORWARDED, GO_ON = 250, 251, 354


class Answer(NamedTuple):
    """What the server said to one command; several lines of it stand with line breaks between."""

    code: int
    text: str


class Wire(asyncio.Protocol):
    """A connection that is used for one mail after the other. After any error but a refusal it is of no use."""

    def __init__(self, transport: asyncio.Transport, *, pipelining: bool) -> None:
        self.handing_over = False  # whether the server has all or part of a letter, and has not answered
        self._transport = transport
        self._pipelining = pipelining
        self._unread = b""  # of a line whose end has not come
        self._lines: list[bytes] = []  # of an answer whose last line has not come
        self._answers: list[Answer] = []
        self._wanted = 0  # answers, of which some may be there
        self._read = 0  # octets since something was said
        self._heard: asyncio.Future[None] | None = None  # done when all are there, or no more will come
        transport.set_protocol(self)

    @property
    def is_open(self) -> bool:
        return not self._transport.is_closing()

    async def send(self, sender: str, recipient: str, content: bytes) -> None:
        """Hand over one mail. Returning means that the server answered 250 to all of it.

        Both addresses are plain ones, as `mime.mail` lets them through; `content` has lines that end with CR LF. Raises
        the library's refusals, after which the next mail may go; SMTPServerDisconnected and ConnectionError.
        """
        commands = f"MAIL FROM:<{sender}>\r\n", f"RCPT TO:<{recipient}>\r\n", "DATA\r\n"
        answers: list[Answer] = []
        for part in ["".join(commands)] if self._pipelining else commands:
            answers += await self._say(part.encode("ascii"), part.count("\n"))
            refused = refusal(answers, sender, recipient)
            if refused is not None:
                await self._forget(answers)
                raise refused
        self.handing_over = True
        [told] = await self._say(content.replace(b"\r\n.", b"\r\n..") + b".\r\n", 1)  # it begins with a header
        self.handing_over = False
        if told.code != DONE:
            raise aiosmtplib.SMTPDataError(told.code, told.text)

    async def _forget(self, answers: Sequence[Answer]) -> None:
        """Let the server drop the mail whose beginning it has. What it said first counts, whatever it says now."""
        try:
            if answers[-1].code == GO_ON:  # it waits for a letter to nobody (RFC 2920, 3.1): an empty one
                await self._say(b".\r\n", 1)
            await self._say(b"RSET\r\n", 1)
        except ConnectionError:
            self.close()

    async def listens(self) -> bool:
        """Whether the server still answers."""
        try:
            await self._say(b"NOOP\r\n", 1)
        except ConnectionError:
            return False
        return True

    async def goodbye(self) -> None:
        """Take leave, and close."""
        try:
            async with asyncio.timeout(1):
                await self._say(b"QUIT\r\n", 1)
        except (ConnectionError, TimeoutError):
            pass
        self.close()

    def close(self) -> None:
        self._transport.close()

    async def _say(self, words: bytes, count: int) -> list[Answer]:
        """What the server says to these commands: so many answers, or fewer when it refused and hung up.

        Raises SMTPServerDisconnected.
        """
        if not self.is_open:
            raise aiosmtplib.SMTPServerDisconnected("the connection is closed")
        self._answers, self._wanted, self._read = [], count, 0
        self._heard = asyncio.get_running_loop().create_future()
        self._transport.write(words)
        try:
            await self._heard
        finally:
            self._wanted, self._heard = 0, None
        if len(self._answers) < count and all(one.code < 400 for one in self._answers):
            raise aiosmtplib.SMTPServerDisconnected("the connection was lost")
        return self._answers

    def data_received(self, data: bytes) -> None:
        self._read += len(data)
        *lines, self._unread = (self._unread + data).split(b"\n")
        for line in lines:
            found = _LINE.fullmatch(line.rstrip(b"\r"))
            if found is None or not self._wanted:  # no answer, or one to nothing: which belongs to what is not sure now
                self._end()
                return
            self._lines.append(found[3] or b"")
            if found[2] != b"-":
                text = b"\n".join(self._lines).decode("utf-8", "surrogateescape")
                self._lines = []
                self._answers.append(Answer(int(found[1]), text))
                self._wanted -= 1
        if self._read > MOST_UNREAD:
            self._end()
        elif not self._wanted and self._heard is not None and not self._heard.done():
            self._heard.set_result(None)

    def eof_received(self) -> None:
        self._end()

    def connection_lost(self, error: Exception | None) -> None:
        self._end()

    def _end(self) -> None:
        """No more is heard here; whoever waits gets what has come."""
        self._transport.close()
        if self._heard is not None and not self._heard.done():
            self._heard.set_result(None)


def refusal(answers: Sequence[Answer], sender: str, recipient: str) -> aiosmtplib.SMTPException | None:
    """The first of these answers to MAIL, RCPT and DATA that is a "no"; those behind it only repeat that."""
    mail, rcpt, data = (*answers, None, None, None)[:3]
    if mail and mail.code != DONE:
        return aiosmtplib.SMTPSenderRefused(mail.code, mail.text, sender)
    if rcpt and rcpt.code not in (DONE, FORWARDED):
        return aiosmtplib.SMTPRecipientsRefused([aiosmtplib.SMTPRecipientRefused(rcpt.code, rcpt.text, recipient)])
    if data and data.code != GO_ON:
        return aiosmtplib.SMTPDataError(data.code, data.text)
    return None
