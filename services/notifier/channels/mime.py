"""A letter as the bytes of one mail to one recipient. Put together by hand: the library takes ten times as long.

What comes from outside reaches a header only as plain letters or as an encoded word, and a body only in an encoding
that has neither a line of ours nor a boundary in it.
"""

import re
from binascii import b2a_base64, b2a_qp
from email.utils import format_datetime
from functools import lru_cache

from services.notifier.channels.channel import Letter, Never

# `=` stands in neither encoding with a `_` behind it, so that no body can end its part (RFC 2045, 6.7).
BOUNDARY = "=_kursnett"
_WORDS = re.compile(r"[A-Za-z0-9 ,.:;!()/'-]{0,60}")  # what a subject may show as it is
_NAME = re.compile(r"[A-Za-z0-9 '-]{1,60}")  # a display name's atoms
_ATOM = r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+"
_ADDRESS = re.compile(rf"{_ATOM}(?:\.{_ATOM})*@[A-Za-z0-9-]+(?:\.[A-Za-z0-9-]+)*")
_URL = re.compile(r"https?://[!#-;=?-~]{1,900}")
_WORD = 39  # octets of text in an encoded word: with `Subject: ` before it, its line has fewer than 76 signs
_MESSAGE_ID = re.compile(r"<[!-;=?-~]+>")


def mail(letter: Letter, sender: str) -> bytes:
    """The letter as it is sent: text and HTML, and the appointment if there is one. Raises Never for what cannot be.

    `sender` is ours, e.g. `Kursnett <ikke-svar@example.no>`, and was checked when the settings were read.
    """
    lines = [
        f"From: {sender}",
        f"To: {_recipient(letter)}",
        f"Subject: {_subject(letter.subject)}",
        f"Date: {format_datetime(letter.written_at)}",
        f"Message-ID: {_message_id(letter.message_id)}",
        "Auto-Submitted: auto-generated",  # no holiday replies
        *_unsubscribe(letter.unsubscribe),
        f"Content-Language: {letter.language}",
        "MIME-Version: 1.0",
        f'Content-Type: multipart/alternative; boundary="{BOUNDARY}"',
        "",
        _part("text/plain", "quoted-printable"),
        _quoted(letter.text),
        _part("text/html", "quoted-printable"),
        _quoted(letter.html),
    ]
    if letter.appointment is not None:  # the last alternative is the one that a program which knows it prefers
        lines += [
            _part("text/calendar", "base64", f"; method={letter.appointment.method}"),
            _base64(letter.appointment.text),
        ]
    lines.append(f"--{BOUNDARY}--\r\n")
    return "\r\n".join(lines).encode("ascii")


def _part(media: str, encoding: str, more: str = "") -> str:
    return f'--{BOUNDARY}\r\nContent-Type: {media}; charset="utf-8"{more}\r\nContent-Transfer-Encoding: {encoding}\r\n'


def _quoted(text: str) -> str:
    """Quoted-printable, since some servers on the way still take seven bits only; lines end as SMTP's do."""
    lines = text.replace("\r\n", "\n").replace("\r", "\n").rstrip("\n")
    # The encoder breaks its own lines as the first line of the text ends.
    return b2a_qp(lines.replace("\n", "\r\n").encode() + b"\r\n").decode("ascii")


def _base64(text: str) -> str:
    """Base64 in lines of 76 (RFC 2045, 6.8), the last with its line break."""
    whole = b2a_base64(text.encode(), newline=False).decode("ascii")
    return "\r\n".join([*(whole[place : place + 76] for place in range(0, len(whole), 76)), ""])


def _recipient(letter: Letter) -> str:
    """The one address of a letter. Raises Never for anything that is not one plain ASCII address."""
    if not _ADDRESS.fullmatch(letter.address):  # "a@b.no, c@d.no" would silently be two recipients
        raise Never("bad_address")
    if not letter.name:
        return letter.address
    name = letter.name if _NAME.fullmatch(letter.name) else _encoded(letter.name)
    return f"{name}\r\n <{letter.address}>"


@lru_cache(maxsize=256)
def _subject(text: str) -> str:
    return text if _WORDS.fullmatch(text) else _encoded(text)


def _message_id(value: str) -> str:
    if not _MESSAGE_ID.fullmatch(value):
        raise Never("bad_header")
    return value


def _unsubscribe(address: str | None) -> tuple[str, ...]:
    """RFC 8058: one click, by a POST of the mail program. The address stays in one piece, however long it is."""
    if address is None:
        return ()
    if not _URL.fullmatch(address):
        raise Never("bad_header")
    return f"List-Unsubscribe: <{address}>", "List-Unsubscribe-Post: List-Unsubscribe=One-Click"


def _encoded(text: str) -> str:
    """Text as encoded words (RFC 2047): whatever stands in it, a reader shows it and no header begins in it."""
    words, word = [], b""
    try:
        if len(text) <= _WORD and "\r" not in text and "\n" not in text and len(whole := text.encode()) <= _WORD:
            return _encoded_word(whole)
        for sign in text.replace("\r", " ").replace("\n", " "):
            octets = sign.encode()
            if len(word) + len(octets) > _WORD:  # each has whole characters alone
                words.append(word)
                word = b""
            word += octets
    except UnicodeEncodeError as error:  # half a character
        raise Never("bad_header") from error
    return "\r\n ".join(map(_encoded_word, (*words, word)))


def _encoded_word(octets: bytes) -> str:
    return f"=?utf-8?b?{b2a_base64(octets, newline=False).decode('ascii')}?="
