"""What went wrong, told the same way everywhere: RFC 9457 problem+json, and a page in words for each kind."""

import html
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response

from contracts.envelope import field_of, words_of
from kit import trail

CONTENT_TYPE = "application/problem+json"


@dataclass(frozen=True)
class Kind:
    """One kind of problem: `words` say what it means and what the caller can do."""

    slug: str
    title: str
    words: str


KINDS: dict[str, Kind] = {}


def explain(slug: str, title: str, words: str) -> None:
    """Give a kind of problem its page at /problems/{slug}. A service explains its own beside where it raises them.

    Raises ValueError for a second meaning: the gateway has one address for each kind, whichever service raises it.
    """
    kind = Kind(slug, title, words)
    if KINDS.setdefault(slug, kind) != kind:
        raise ValueError(f"the kind of problem {slug} is explained already, in other words: use another slug")


class Problem(Exception):
    """An answer that is not what was asked for; the `extensions` become members of the body beside RFC 9457's own."""

    def __init__(
        self,
        slug: str,
        title: str,
        status: int,
        detail: str | None = None,
        *,
        headers: Mapping[str, str] | None = None,
        **extensions: Any,
    ) -> None:
        super().__init__(slug)
        self.slug = slug
        self.title = title
        self.status = status
        self.detail = detail
        self.headers = dict(headers or {})
        self.extensions = extensions


def answer(problem: Problem, public_url: str) -> Response:
    """The problem as an HTTP answer, with the request's id so that its log lines can be found."""
    followed = trail.current()
    body: dict[str, Any] = {
        "type": f"{public_url}/problems/{problem.slug}",
        "title": problem.title,
        "status": problem.status,
    }
    if problem.detail:
        body["detail"] = problem.detail
    if followed is not None:
        body["request_id"] = followed.correlation_id
    return JSONResponse(body | problem.extensions, problem.status, problem.headers, CONTENT_TYPE)


def field_name(place: tuple[Any, ...]) -> str:
    """Where pydantic found something wrong, as a caller would write it: `contact.email`, `places[1]`, `query limit`."""
    source, *rest = place or ("body",)
    name = field_of(rest)
    if source in ("query", "header", "cookie", "path"):
        return f"{source} {name}"
    return name or "body"


def invalid(errors: Any) -> Problem:
    """A request whose fields will not do: each is named with what is wrong with it, and never with what was sent."""
    shown = [
        {
            "field": field_name(tuple(error["loc"]))[:200],
            "detail": words_of(error)[:300],
        }
        for error in list(errors)[:50]
    ]
    fields = ", ".join(dict.fromkeys(error["field"] for error in shown[:5]))
    return Problem("invalid", "The request is not valid", 422, f"See errors: {fields}.", errors=shown)


async def page(request: Request) -> Response:
    """GET /problems/{slug}: what this kind of problem means, in JSON or HTML as the caller likes."""
    kind = KINDS.get(request.path_params["slug"])
    if kind is None:
        raise Problem("not-found", "Not found", 404, "There is no such kind of problem.")
    headers = {"cache-control": "public, max-age=3600", "vary": "accept"}
    if "text/html" in request.headers.get("accept", ""):
        title, words = html.escape(kind.title), html.escape(kind.words)
        text = f'<!doctype html><html lang="en"><title>{title}</title><h1>{title}</h1><p>{words}</p></html>'
        return HTMLResponse(text, headers=headers)
    return JSONResponse({"slug": kind.slug, "title": kind.title, "explanation": kind.words}, headers=headers)


for _slug, _title, _words in (
    (
        "invalid",
        "The request is not valid",
        "Fields are missing or wrong. `errors` names each field and what is wrong with it. Nothing was done.",
    ),
    (
        "malformed-json",
        "The body is not JSON",
        "The body must be one JSON value in UTF-8: no text after it, no key twice in one object, numbers that 64 bits "
        "hold, no NUL and no half characters, and at most 32 levels deep. Nothing was done.",
    ),
    (
        "malformed-request",
        "The request is malformed",
        "A header was sent twice that may come once, or the address holds a character that no text may hold.",
    ),
    ("unauthenticated", "Log in first", "Send `Authorization: Bearer <access token>` with a valid token for this API."),
    ("forbidden", "Not allowed", "You are known, but this is not yours to see or do."),
    ("not-found", "Not found", "There is nothing at this address, or it is not yours to see."),
    (
        "method-not-allowed",
        "Method not allowed",
        "This address does not take this method; `Allow` names those it does.",
    ),
    ("conflict", "Conflict", "This cannot be done in the present state of things; `detail` says why."),
    (
        "precondition-failed",
        "It has changed since you read it",
        "The version in `If-Match` is not the present one. Read it again, and send your change with its new `ETag`.",
    ),
    ("body-too-large", "The body is too large", "A body may hold 256 KiB, unless the address says otherwise."),
    ("wrong-content-type", "Wrong content type", "Send the body as `application/json`, and name it in `Content-Type`."),
    ("too-many-requests", "Too many requests", "Wait for as many seconds as `Retry-After` says, then ask again."),
    (
        "idempotency-key-invalid",
        "The Idempotency-Key is not valid",
        "Send one key of 1 to 255 visible ASCII characters.",
    ),
    (
        "idempotency-key-reused",
        "The Idempotency-Key was used for another request",
        "This key came before with another body. Make a new key for each new request, and reuse it only to repeat one.",
    ),
    (
        "request-in-progress",
        "The same request is under way",
        "A request with this Idempotency-Key has not ended yet. Ask again with the same key in a second.",
    ),
    (
        "busy",
        "Busy at the moment",
        "Nothing was done. Ask again after as many seconds as `Retry-After` says, with the same Idempotency-Key.",
    ),
    (
        "outcome-unknown",
        "It is not known whether this was done",
        "The connection to the database was lost while it said whether the change was kept: it was made whole or not "
        "at all. Ask again with the same Idempotency-Key: you get the answer of the first, or it is done now.",
    ),
    (
        "internal-error",
        "Something went wrong on our side",
        "It is logged under the request id. Asking again with the same Idempotency-Key does no harm.",
    ),
):
    explain(_slug, _title, _words)
