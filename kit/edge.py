"""The outermost layer of HTTP: request ids, safe headers, malformed requests, times, and the last catch."""

import asyncio
import time
from contextlib import suppress

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from contracts.strict import Undecodable, read
from kit import database, logs, tracing, trail
from kit.metrics import Metrics
from kit.pages import errors
from kit.problems import Problem, answer

log = logs.get(__name__)

ONCE = (
    b"authorization",
    b"content-type",
    b"content-length",
    b"idempotency-key",
    b"if-match",
    b"x-request-id",
    b"kursnett-pass",
)
METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")
THROWN_BYTES = 11 * 1024 * 1024  # of a body that is too large; the gateway lets 10 MB through
THROWN_S = 10.0
QUIET = ("/healthz", "/readyz", "/metrics")  # asked every few seconds by machines
INNER = "/sesjon"  # asked by the gateway for each page, whose own line tells of it where it comes to a page
SAFE_HEADERS = {
    b"x-content-type-options": b"nosniff",
    b"referrer-policy": b"no-referrer",  # addresses hold single-purpose links
    # A page says its own. The last three are not among what `default-src` covers.
    b"content-security-policy": b"default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    b"cache-control": b"no-store",  # answers are about persons unless a route says otherwise
}


class _Body:
    """The body of a request as it comes, which can be read to its end."""

    def __init__(self, receive: Receive) -> None:
        self._receive = receive
        self._ended = False

    async def receive(self) -> Message:
        message = await self._receive()
        self._ended = not message.get("more_body")
        return message

    async def finish(self) -> None:
        """Throw the rest away, within reason: who is answered while still sending may see a broken line, no answer."""
        thrown = 0
        with suppress(TimeoutError):
            async with asyncio.timeout(THROWN_S):
                while not self._ended and thrown <= THROWN_BYTES:
                    thrown += len((await self.receive()).get("body", b""))


class Edge:
    """A pure ASGI layer around a whole application. Nothing that happens inside reaches the server as an exception."""

    def __init__(self, app: ASGIApp, metrics: Metrics, public_url: str) -> None:
        self.app = app
        self.metrics = metrics
        self.public_url = public_url
        self.headers = dict(SAFE_HEADERS)
        if public_url.startswith("https:"):
            self.headers[b"strict-transport-security"] = b"max-age=31536000"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        method = scope["method"]
        if method == "HEAD":  # what answers GET answers it too, and its body stays here
            scope, send = {**scope, "method": "GET"}, headless(send)
        sent = {name: value.decode("latin-1") for name, value in scope["headers"]}
        followed = trail.trail(sent.get(b"x-request-id"), None, sent.get(b"traceparent"))
        with trail.following(followed), tracing.span(method, "server") as span:
            await self._answer(scope, receive, send, followed.correlation_id, sent.get(b"content-type", ""))
            span.rename(f"{method} {template(scope)}")

    async def _answer(self, scope: Scope, receive: Receive, send: Send, request_id: str, content_type: str) -> None:
        began = time.perf_counter()
        status = 0
        replaced = False
        body = _Body(receive)

        async def sending(message: Message) -> None:
            nonlocal status, replaced
            if replaced:
                return
            if message["type"] == "http.response.start" and not status:
                status = message["status"]
                if status == 413:
                    await body.finish()
                if status == 413 and is_plain(message):  # Starlette's own words
                    replaced = True
                    await self._told(scope, too_large())(scope, receive, finishing)
                    return
                self._add_headers(message, request_id)
            await send(message)

        async def finishing(message: Message) -> None:
            if message["type"] == "http.response.start":
                self._add_headers(message, request_id)
            await send(message)

        try:
            problem = malformed(scope)
            if problem is not None:
                await self._told(scope, problem)(scope, receive, sending)
            else:
                guarded = strict(body.receive) if is_json(content_type) else body.receive
                await self.app(scope, guarded, sending)
        except asyncio.CancelledError:  # the process has to stop before this request was done
            log.warning("request_cut_off", method=scope["method"], route=template(scope))
            if not status:
                await self._told(scope, unknown())(scope, receive, sending)
            raise
        except Exception as error:
            log.exception("request_failed", method=scope["method"], route=template(scope))
            if not status:
                await self._told(scope, unforeseen(error))(scope, receive, sending)
        finally:
            self._tell(scope, status, time.perf_counter() - began)

    def _told(self, scope: Scope, problem: Problem) -> Response:
        """The problem as a page for whoever asked for one."""
        request = Request(scope)
        with suppress(Exception):  # a page that cannot be drawn keeps no answer back
            if errors.wanted(request):
                return errors.answer(request, problem)
        return answer(problem, self.public_url)

    def _add_headers(self, message: Message, request_id: str) -> None:
        headers = list(message.get("headers", []))
        there = {name.lower() for name, _ in headers}
        headers += [(name, value) for name, value in self.headers.items() if name not in there]
        headers.append((b"x-request-id", request_id.encode("ascii")))
        message["headers"] = headers

    def _tell(self, scope: Scope, status: int, seconds: float) -> None:
        method = scope["method"] if scope["method"] in METHODS else "OTHER"
        route = template(scope)
        self.metrics.http_seconds.labels(method, route, str(status)).observe(seconds)
        tell = log.debug if route in QUIET or (route == INNER and status < 500) else log.info
        tell("request", method=method, route=route, status=status, duration_ms=round(seconds * 1000, 1))


def headless(send: Send) -> Send:
    """Send the head of an answer and end it; of a stream without end the server then tells that nobody listens."""

    async def sending(message: Message) -> None:
        if message["type"] == "http.response.start":
            await send(message)
            await send({"type": "http.response.body", "body": b""})

    return sending


def template(scope: Scope) -> str:
    """The route's template, never the address itself: addresses hold ids and secrets, and there is no end of them."""
    route = scope.get("route")
    return str(getattr(route, "path", "unmatched"))


def is_json(content_type: str) -> bool:
    kind = content_type.partition(";")[0].strip().lower()
    return kind == "application/json" or (kind.startswith("application/") and kind.endswith("+json"))


def is_plain(message: Message) -> bool:
    return any(name == b"content-type" and value.startswith(b"text/plain") for name, value in message["headers"])


def too_large() -> Problem:
    words = "The body is larger than this address takes; most take 256 KiB."
    return Problem("body-too-large", "The body is too large", 413, words, errors=[{"field": "body", "detail": words}])


def unforeseen(error: Exception) -> Problem:
    """What the caller is told of an exception that nobody foresaw: 503 when the database was away, else 500."""
    if isinstance(error, TimeoutError) or database.is_away(error):
        return busy(1)
    return Problem("internal-error", "Something went wrong on our side", 500)


def busy(retry_after_s: int) -> Problem:
    headers = {"retry-after": str(retry_after_s)}
    return Problem("busy", "Busy at the moment", 503, "Nothing was done. Ask again in a moment.", headers=headers)


def unknown() -> Problem:
    words = "Ask again with the same Idempotency-Key: you get the first answer, or it is done now."
    headers = {"retry-after": "1"}
    return Problem("outcome-unknown", "It is not known whether this was done", 503, words, headers=headers)


def malformed(scope: Scope) -> Problem | None:
    """A request that two readers could take differently, or with a character that PostgreSQL cannot keep."""
    names = [name for name, _ in scope["headers"] if name in ONCE]
    twice = sorted({name.decode() for name in names if names.count(name) > 1})
    if twice:
        return _malformed([(f"header {name}", "was sent more than once: send it once") for name in twice])
    if "\0" in scope["path"] or b"%00" in scope["query_string"]:
        return _malformed([("address", "holds the character NUL: leave %00 out")])
    return None


def _malformed(wrong: list[tuple[str, str]]) -> Problem:
    words = "; ".join(f"{field} {detail}" for field, detail in wrong)
    errors = [{"field": field, "detail": detail} for field, detail in wrong]
    return Problem("malformed-request", "The request is malformed", 400, words, errors=errors)


def strict(receive: Receive) -> Receive:
    """Check a JSON body when its last byte has come. Raises Problem (422) inside whoever reads it."""
    body = bytearray()

    async def receiving() -> Message:
        message = await receive()
        if message["type"] == "http.request":
            body.extend(message.get("body", b""))
            if body and not message.get("more_body"):
                check_json(bytes(body))
        return message

    return receiving


def check_json(body: bytes) -> None:
    """Refuse what another reader could take differently, or a database could not keep. Raises Problem (422, 413)."""
    try:
        read(body)
    except Undecodable as error:
        if error.reason == "too_large":
            raise too_large() from None
        words = error.detail.replace("the value", "the body")  # a record has a value, a request a body
        wrong = [{"field": "body", "detail": words}]
        raise Problem("malformed-json", "The body is not JSON", 422, words, errors=wrong) from None


def content_type_of(request: Request) -> str:
    return request.headers.get("content-type", "")
