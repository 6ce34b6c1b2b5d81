"""Idempotency-Key: a request that is sent twice has its effect once, and both get the same answer."""

import hashlib
import json
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Annotated, Any

from fastapi import Depends, Header, Request
from pydantic_core import to_json
from starlette.responses import Response

from kit import edge
from kit.auth import PerhapsSigned
from kit.database import Connection
from kit.problems import Problem
from kit.running import Running

KEPT_HOURS = 24  # who has not asked again after a day has given up
LONGEST_KEY = 255
FORGET_ROWS = 2000
FORGET_EVERY_S = 300.0

# The lock is this transaction's alone and is gone with it. Who does not get it is told at once, and waits for nobody.
_LOCK = "SELECT pg_try_advisory_xact_lock(hashtextextended($1, 0))"
# A statement of its own, after the lock: its snapshot shows what the lock's last holder has committed.
_STORED = "SELECT body_hash, status, headers, body FROM idempotency WHERE caller = $1 AND route = $2 AND key = $3"
_KEEP = """
INSERT INTO idempotency (caller, route, key, body_hash, status, headers, body)
VALUES ($1, $2, $3, $4, $5, $6::text::jsonb, $7)
"""
_FORGET = """
DELETE FROM idempotency WHERE ctid IN (
    SELECT ctid FROM idempotency WHERE created_at < app_now() - make_interval(hours => $1) LIMIT $2)
"""


@dataclass(frozen=True)
class Asked:
    """One request that may be sent again. `body_hash` covers the address too, since a route has one for each thing."""

    caller: str
    route: str
    key: str
    body_hash: bytes


@dataclass(frozen=True)
class Answer:
    """What an effect gives back: `content` is whatever pydantic can write as JSON."""

    content: Any
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)


# Told here and checked below: a key that will not do is a kind of problem of its own.
IdempotencyKey = Annotated[
    str | None,
    Header(
        description="Names this request, so that it may be sent again without a second effect.",
        json_schema_extra={"minLength": 1, "maxLength": LONGEST_KEY, "pattern": "^[!-~]*$"},
    ),
]


async def asked(request: Request, caller: PerhapsSigned, idempotency_key: IdempotencyKey = None) -> Asked | None:
    """The dependency of every write; none when no key was sent. Raises Problem (400) for a key that will not do."""
    if idempotency_key is None:
        return None
    if not 1 <= len(idempotency_key) <= LONGEST_KEY or not all("!" <= letter <= "~" for letter in idempotency_key):
        words = f"must be 1 to {LONGEST_KEY} visible ASCII characters"
        errors = [{"field": "header idempotency-key", "detail": words}]
        told = f"Idempotency-Key {words}."
        raise Problem("idempotency-key-invalid", "The Idempotency-Key is not valid", 400, told, errors=errors)
    place = f"{request.url.path}?{request.url.query}\0{request.headers.get('content-type', '')}\0"
    return Asked(
        caller=caller.key if caller else "",
        route=f"{request.method} {edge.template(request.scope)}",
        key=idempotency_key,
        body_hash=hashlib.sha256(place.encode() + await request.body()).digest(),
    )


Repeatable = Annotated[Asked | None, Depends(asked)]


async def once(conn: Connection, request: Asked | None, effect: Callable[[], Awaitable[Answer]]) -> Response:
    """Have the effect in this transaction, or give the answer that its first time got.

    The answer is kept in the transaction of the effect: both are there or neither is. What `effect` raises is not kept,
    since nothing was done: the same key may be tried again, with a mended body too. Raises Problem: 422 for another
    request under the same key, 409 while the first is under way (also in another process).
    """
    if request is None:
        return written(await effect())
    name = "\0".join((request.caller, request.route, request.key))
    if not await conn.fetchval(_LOCK, hashlib.sha256(name.encode()).hexdigest()):
        words = "A request with this Idempotency-Key has not ended yet. Ask again with the same key."
        raise Problem("request-in-progress", "The same request is under way", 409, words, headers={"retry-after": "1"})
    stored = await conn.fetchrow(_STORED, request.caller, request.route, request.key)
    if stored is not None:
        if stored["body_hash"] != request.body_hash:
            words = "This Idempotency-Key came before with another request. Make a new key for a new request."
            raise Problem("idempotency-key-reused", "The Idempotency-Key was used for another request", 422, words)
        headers = json.loads(stored["headers"]) | {"idempotency-replayed": "true"}
        return Response(stored["body"], stored["status"], headers)
    response = written(await effect())
    headers = {name: value for name, value in response.headers.items() if name != "content-length"}
    body = bytes(response.body)
    await conn.execute(
        _KEEP,
        request.caller,
        request.route,
        request.key,
        request.body_hash,
        response.status_code,
        json.dumps(headers),
        body,
    )
    return response


def written(answer: Answer) -> Response:
    if answer.status == 204:
        return Response(None, 204, answer.headers)
    return Response(to_json(answer.content), answer.status, answer.headers, "application/json")


async def forget(running: Running) -> None:
    """A worker: delete what is older than a day, some rows at a time, so that nobody waits for it."""
    while True:
        gone = FORGET_ROWS
        while gone == FORGET_ROWS and not running.stopping.is_set():
            async with running.database.reading("worker") as conn:
                told = await conn.execute(_FORGET, KEPT_HOURS, FORGET_ROWS)
            gone = int(told.rpartition(" ")[2])
        if not await running.pause(FORGET_EVERY_S):
            return
