"""Entity tags: what a caller has read is not sent to it twice, and not changed when it has changed since."""

import hashlib
from typing import Annotated

from fastapi import Header
from starlette.responses import Response

from kit.problems import Problem

IfMatch = Annotated[str | None, Header(description="The ETag that it must still have; 412 when it has another by now.")]
IfNoneMatch = Annotated[str | None, Header(description="The ETag of what is here already; 304 when it still has it.")]


def tag(body: bytes) -> str:
    """The ETag of an answer with this body."""
    return f'"{hashlib.sha256(body).hexdigest()[:32]}"'


def unless_known(body: bytes, known: str | None, caching: str, media_type: str = "application/json") -> Response:
    """The body as an answer, or 304 without it when the caller's If-None-Match names it. `caching`: who may keep it."""
    headers = {"etag": tag(body), "cache-control": caching}
    if names(known, headers["etag"]):
        return Response(status_code=304, headers=headers)
    return Response(body, headers=headers, media_type=media_type)


def must_match(wanted: str | None, here: str) -> None:
    """Raises Problem (412) when there is an If-Match and it does not name the tag that is here."""
    if wanted is None or names(wanted, here):
        return
    words = "is not the present ETag: read it again, and decide anew"
    errors = [{"field": "header if-match", "detail": words}]
    told = f"If-Match {words}."
    raise Problem("precondition-failed", "It has changed since you read it", 412, told, errors=errors)


def names(header: str | None, here: str) -> bool:
    """Whether this If-Match or If-None-Match, if there is one, names the tag that is here."""
    if header is None:
        return False
    return bool({one.strip().removeprefix("W/") for one in header.split(",")} & {here, "*"})
