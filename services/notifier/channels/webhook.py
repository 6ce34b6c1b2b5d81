"""Events to a partner's own address: one signed POST by Standard Webhooks, and what its answer means."""

import asyncio
import base64
import hashlib
import hmac
import secrets
import ssl
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any

from contracts.envelope import STRUCTURED
from services.notifier.guard import Guard, Refused, Target

if TYPE_CHECKING:
    from httpcore2 import AsyncNetworkBackend, Response

# httpcore2 is imported where it is used: a notifier whose partners have no webhooks does not need it.

TOTAL_S = 10.0  # from the name to the head of the answer
BODY_S = 2.0  # for the rest of an answer, which nobody reads; its status stands
BODY_BYTES = 64 * 1024
CONNECT_S = 5.0
MOST_WAIT_S = 3600.0  # of a Retry-After: longer is a mistake, or an endpoint that had better be off
PREFIX = "whsec_"
# Nobody who could take it was reached; any other answer is about this one event.
UNREACHED = (429, 502, 503, 504)


@dataclass(frozen=True)
class Call:
    """One event for one address. `webhook_id` is the same at every attempt; `keys`: two while the secret rotates."""

    url: str
    webhook_id: str
    body: bytes
    keys: Sequence[str] = field(repr=False)


@dataclass(frozen=True)
class Answer:
    """What came of one attempt: `reason` is none when it was taken, else a code.

    `reached`: somebody answered, so that the next event may fare better. `wait_s`: how long not to come again.
    """

    status: int | None = None
    reason: str | None = None
    reached: bool = True
    wait_s: float = 0.0
    gone: bool = False


def new_secret() -> str:
    return PREFIX + base64.b64encode(secrets.token_bytes(32)).decode()


def signatures(keys: Iterable[str], webhook_id: str, timestamp: int, body: bytes) -> str:
    """The value of `webhook-signature`: one v1 signature for each secret, with a space between."""
    signed = f"{webhook_id}.{timestamp}.".encode() + body
    made = [hmac.new(base64.b64decode(key.removeprefix(PREFIX)), signed, hashlib.sha256).digest() for key in keys]
    return " ".join(f"v1,{base64.b64encode(one).decode()}" for one in made)


class Webhook:
    """Makes each connection anew, to an address that the guard has just checked; follows no redirect and no proxy."""

    def __init__(self, guard: Guard, trust: ssl.SSLContext | None = None) -> None:
        self._guard = guard
        self._trust = trust

    async def deliver(self, call: Call) -> Answer:
        """Try once. Never raises for what the other side is or does."""
        import httpcore2

        try:
            target = self._guard.target(call.url)
            async with asyncio.timeout(TOTAL_S) as limit:
                pinned = _pinned(await self._guard.addresses(target))
                return await self._post(target, call, pinned, limit)
        except Refused:
            return Answer(reason="refused_address", reached=False)
        except (TimeoutError, httpcore2.TimeoutException):
            return Answer(reason="timed_out", reached=False)
        except (OSError, httpcore2.ConnectError):
            return Answer(reason="no_connection", reached=False)
        except (httpcore2.NetworkError, httpcore2.ProtocolError):
            return Answer(reason="no_answer", reached=False)

    async def _post(self, target: Target, call: Call, backend: "AsyncNetworkBackend", limit: asyncio.Timeout) -> Answer:
        import httpcore2

        host = target.host.encode("ascii")
        url = httpcore2.URL(scheme=target.scheme, host=host, port=target.port, target=target.path)
        now = int(time.time())
        headers: dict[bytes | str, bytes | str] = {
            "host": target.authority,
            "content-type": STRUCTURED,
            "user-agent": "kursnett-webhooks/1",
            "webhook-id": call.webhook_id,
            "webhook-timestamp": str(now),
            "webhook-signature": signatures(call.keys, call.webhook_id, now, call.body),
            "connection": "close",
        }
        trust = self._context() if target.scheme == "https" else None
        async with httpcore2.AsyncHTTPConnection(url.origin, ssl_context=trust, network_backend=backend) as connection:
            limits = {"timeout": {"connect": CONNECT_S}}
            async with connection.stream("POST", url, headers=headers, content=call.body, extensions=limits) as answer:
                told = of_status(answer.status, _headers(answer).get("retry-after"))
                limit.reschedule(None)  # the status stands; the rest has a limit of its own
                await _throw_away(answer)
                return told

    def _context(self) -> ssl.SSLContext:
        if self._trust is None:
            self._trust = ssl.create_default_context()
            self._trust.minimum_version = ssl.TLSVersion.TLSv1_2
        return self._trust


def of_status(status: int, retry_after: str | None) -> Answer:
    """What an answer means: 2xx is taken, 410 ends it for good, all else may be otherwise later."""
    if 200 <= status < 300:
        return Answer(status)
    if status == 410:
        return Answer(status, "gone", gone=True)
    if 300 <= status < 400:
        return Answer(status, "redirect")
    wait_s = seconds(retry_after) if status in (429, 503) else 0.0
    return Answer(status, f"answer_{status}", reached=status not in UNREACHED, wait_s=wait_s)


def seconds(retry_after: str | None) -> float:
    """How long a Retry-After asks to wait, by a number or a date: at most an hour, nothing when it is neither."""
    text = (retry_after or "").strip()
    if text.isascii() and text.isdecimal():
        return min(float(text[:9]), MOST_WAIT_S)
    try:
        at = parsedate_to_datetime(text)
    except (TypeError, ValueError, OverflowError):  # a number in it may be larger than any calendar's
        return 0.0
    at = at if at.tzinfo else at.replace(tzinfo=UTC)
    return min(max((at - datetime.now(UTC)).total_seconds(), 0.0), MOST_WAIT_S)


def _headers(answer: "Response") -> dict[str, str]:
    return {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in answer.headers}


async def _throw_away(answer: "Response") -> None:
    """Read some of the body, as packed as it comes, so that a server that means well is not cut off in its answer."""
    import httpcore2

    read = 0
    try:
        async with asyncio.timeout(BODY_S):
            async for part in answer.aiter_stream():
                read += len(part)
                if read >= BODY_BYTES:
                    return
    except (TimeoutError, OSError, httpcore2.NetworkError, httpcore2.ProtocolError, httpcore2.TimeoutException):
        return


def _pinned(addresses: Sequence[str]) -> "AsyncNetworkBackend":
    """A network in which the host has these addresses and no name server is asked again. TLS still checks the name."""
    import httpcore2

    class Pinned(httpcore2.AsyncNetworkBackend):
        async def connect_tcp(self, host: str, port: int, *rest: Any, **more: Any) -> httpcore2.AsyncNetworkStream:
            network = httpcore2.AnyIOBackend()
            for address in addresses[:-1]:
                try:
                    return await network.connect_tcp(address, port, *rest, **more)
                except (httpcore2.ConnectError, httpcore2.ConnectTimeout):
                    continue
            return await network.connect_tcp(addresses[-1], port, *rest, **more)

    return Pinned()
