"""Text messages through a gateway's HTTP: one POST each, and what its answers mean."""

import asyncio
import json
import ssl

from services.notifier import bounces
from services.notifier.channels.channel import UNANSWERED, Later, Letter, Never
from services.notifier.channels.email import no_connection
from services.notifier.channels.webhook import seconds
from services.notifier.settings import NotifierSettings

# httpcore2 is imported where it is used: a notifier without a gateway does not need it.

TOTAL_S = 10.0  # from the name to the head of the answer
CONNECT_S = 5.0
BODY_S = 2.0  # for the rest of an answer; its status stands
BODY_BYTES = 64 * 1024  # of an answer that are read
MOST_PARTS = 3
WRONG_NUMBER = "invalid_number"  # the `code` in a gateway's refusal, when it is the number's fault
# About us, or passing: a wrong token or address must not fail every message.
LATER = frozenset({401, 403, 404, 405, 407, 408, 409, 425, 429})
# GSM 03.38, 6.2.1: seven bits each, and two sevens for those of its extension.
_GSM = frozenset(
    "@£$¥èéùìòÇ\nØø\rÅåΔ_ΦΓΛΩΠΨΣΘΞÆæßÉ !\"#¤%&'()*+,-./0123456789:;<=>?¡ABCDEFGHIJKLMNOPQRSTUVWXYZÄÖÑÜ§¿"
    "abcdefghijklmnopqrstuvwxyzäöñüà"
)
_GSM_TWICE = frozenset("\f^{}\\[~]|€")


def parts(text: str) -> int:
    """How many messages a phone is sent for this text: 160 signs of GSM or 70 of UCS-2 in one, less in each of more."""
    if _GSM.issuperset(set(text) - _GSM_TWICE):
        length, alone, each = len(text) + sum(sign in _GSM_TWICE for sign in text), 160, 153
    else:
        length, alone, each = len(text.encode("utf-16-be", "surrogatepass")) // 2, 70, 67
    return 1 if length <= alone else -(-length // each)


class Sms:
    """Makes each connection anew, so that none is found dead by a message; follows no redirect and no proxy."""

    def __init__(self, settings: NotifierSettings) -> None:
        self._url = settings.sms_gateway_url
        self._token = settings.sms_gateway_token.get_secret_value()
        self._trust: ssl.SSLContext | None = None

    async def deliver(self, letter: Letter) -> None:
        """Hand one message to the gateway. Returning means that it answered 2xx. Raises Later or Never."""
        import httpcore2

        if parts(letter.text) > MOST_PARTS:
            raise Never("too_long")
        asked = {"to": letter.address, "text": letter.text, "reference": reference(letter.message_id)}
        try:
            async with asyncio.timeout(TOTAL_S) as limit:
                status, retry_after, body = await self._post(json.dumps(asked).encode(), limit)
        except (httpcore2.ConnectError, httpcore2.ConnectTimeout) as error:
            raise Later(no_connection(error), of_domain=True) from error
        except (
            TimeoutError,
            OSError,
            httpcore2.NetworkError,
            httpcore2.ProtocolError,
            httpcore2.TimeoutException,
        ) as e:
            raise Later(UNANSWERED) from e
        said = answer(status, retry_after, body)
        if said is not None:
            raise said

    async def _post(self, body: bytes, limit: asyncio.Timeout) -> tuple[int, str | None, bytes]:
        """(status, Retry-After, the beginning of the body) of the answer."""
        import httpcore2

        url = httpcore2.URL(self._url)
        headers: dict[bytes | str, bytes | str] = {
            "host": url.host if url.port is None else url.host + f":{url.port}".encode(),
            "content-type": "application/json",
            "user-agent": "kursnett/1",
            "connection": "close",
        }
        if self._token:
            headers["authorization"] = f"Bearer {self._token}"
        trust = self._context() if url.scheme == b"https" else None
        limits = {"timeout": {"connect": CONNECT_S}}
        async with (
            httpcore2.AsyncHTTPConnection(url.origin, ssl_context=trust) as connection,
            connection.stream("POST", url, headers=headers, content=body, extensions=limits) as said,
        ):
            after = next(
                (value.decode("latin-1") for name, value in said.headers if name.lower() == b"retry-after"), None
            )
            limit.reschedule(None)  # the status stands: what was taken must not go again
            read = b""
            try:
                async with asyncio.timeout(BODY_S):
                    async for part in said.aiter_stream():
                        read += part
                        if len(read) >= BODY_BYTES:
                            break
            except (TimeoutError, OSError, httpcore2.NetworkError, httpcore2.ProtocolError):
                pass
            return said.status, after, read[:BODY_BYTES]

    def _context(self) -> ssl.SSLContext:
        if self._trust is None:
            self._trust = ssl.create_default_context()
            self._trust.minimum_version = ssl.TLSVersion.TLSv1_2
        return self._trust

    async def close(self) -> None:
        """It keeps no connection."""


def reference(message_id: str) -> str:
    """By what a gateway knows a message that comes again: the notice's id, which stands first in its Message-ID."""
    return message_id.strip("<>").partition("@")[0]


def answer(status: int, retry_after: str | None, body: bytes) -> Later | Never | None:
    """What an answer means: 2xx is taken; 4xx is final, but for those that are about us; all else may change."""
    if 200 <= status < 300:
        return None
    if 400 <= status < 500 and status not in LATER:
        if _code(body) == WRONG_NUMBER:
            return Never("refused_number", bounces.BAD_NUMBER)
        return Never(f"answer_{status}")
    busy = status in (429, 503)
    return Later(f"answer_{status}", of_domain=busy, wait_s=seconds(retry_after) if busy else 0.0)


def _code(body: bytes) -> object:
    try:
        said = json.loads(body)
    except (ValueError, RecursionError):
        return None
    return said.get("code") if isinstance(said, dict) else None
