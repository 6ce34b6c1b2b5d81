"""Idempotency-Key: a request that is sent twice has its effect once, and both get the same answer."""

import hashlib
import json
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field, replace
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

# The locks are this transaction's alone and gone with it, tried in the order of the requests. Who does not get one is
# told at once, and waits for nobody.
_LOCK = """
SELECT pg_try_advisory_xact_lock(hashtextextended(new.name, 0)) AS free
FROM unnest($1::text[]) WITH ORDINALITY AS new (name, place) ORDER BY new.place
"""
# A statement of its own, after the locks: its snapshot shows what a lock's last holder has committed.
_STORED = """
SELECT new.place, body_hash, status, headers, body
FROM unnest($1::text[], $2::text[], $3::text[]) WITH ORDINALITY AS new (caller, route, key, place)
JOIN idempotency USING (caller, route, key)
"""
_KEEP = """
INSERT INTO idempotency (caller, route, key, body_hash, status, headers, body)
SELECT caller, route, key, body_hash, status, headers::jsonb, body
FROM unnest($1::text[], $2::text[], $3::text[], $4::bytea[], $5::smallint[], $6::text[], $7::bytea[])
     AS new (caller, route, key, body_hash, status, headers, body)
"""
_FORGET = """
DELETE FROM idempotency WHERE ctid IN (
    SELECT ctid FROM idempotency WHERE created_at < app_now() - make_interval(hours => $1) LIMIT $2)
"""
_FORGET_CALLER = "DELETE FROM idempotency WHERE caller = $1"


@dataclass(frozen=True)
class Asked:
    """One request that may be sent again. `body_hash` covers the address too, since a route has one for each thing."""

    caller: str
    route: str
    key: str
    body_hash: bytes

    @property
    def name(self) -> str:
        """One word for caller, route and key, for the lock."""
        return hashlib.sha256("\0".join((self.caller, self.route, self.key)).encode()).hexdigest()

    def nameless(self) -> "Asked":
        """The same, from which nobody can tell whose it is who does not know the key: of one who is forgotten by it."""
        return replace(self, caller="", key=self.name)


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
    [found] = await answered(conn, [request])
    if isinstance(found, Problem):
        raise found
    if found is not None:
        return found
    response = written(await effect())
    if request is not None:
        await keep(conn, [(request, response)])
    return response


async def answered(conn: Connection, requests: Sequence[Asked | None]) -> list[Response | Problem | None]:
    """For each of many requests in one transaction: the answer its first time got, what is wrong, or none: do it.

    The second of two with one key in the same list is told that the first is under way, as it would be from elsewhere.
    """
    found: list[Response | Problem | None] = [None] * len(requests)
    first: dict[str, int] = {}
    for place, request in enumerate(requests):
        if request is not None and first.setdefault(request.name, place) != place:
            found[place] = _under_way()
    places = list(first.values())
    if not places:
        return found
    for place, row in zip(places, await conn.fetch(_LOCK, list(first)), strict=True):
        if not row["free"]:
            found[place] = _under_way()
    asked = [request for request in (requests[place] for place in places) if request is not None]
    columns = ([one.caller for one in asked], [one.route for one in asked], [one.key for one in asked])
    for stored in await conn.fetch(_STORED, *columns):
        place = places[stored["place"] - 1]
        request = requests[place]
        if request is not None and found[place] is None:
            try:
                found[place] = _again(request, stored)
            except Problem as problem:
                found[place] = problem
    return found


async def keep(conn: Connection, answers: Sequence[tuple[Asked, Response]]) -> None:
    """Keep these answers in the transaction of their effects."""
    if not answers:
        return
    rows = [
        (
            request.caller,
            request.route,
            request.key,
            request.body_hash,
            response.status_code,
            json.dumps({name: value for name, value in response.headers.items() if name != "content-length"}),
            bytes(response.body),
        )
        for request, response in answers
    ]
    await conn.execute(_KEEP, *zip(*rows, strict=True))


def _again(request: Asked, stored: Any) -> Response:
    """The stored answer. Raises Problem (422) when it was another request that had this key."""
    if stored["body_hash"] != request.body_hash:
        words = "This Idempotency-Key came before with another request. Make a new key for a new request."
        raise Problem("idempotency-key-reused", "The Idempotency-Key was used for another request", 422, words)
    headers = json.loads(stored["headers"]) | {"idempotency-replayed": "true"}
    return Response(stored["body"], stored["status"], headers)


def _under_way() -> Problem:
    words = "A request with this Idempotency-Key has not ended yet. Ask again with the same key."
    return Problem("request-in-progress", "The same request is under way", 409, words, headers={"retry-after": "1"})


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


async def forget_caller(conn: Connection, caller: str) -> int:
    """Drop every answer that is kept for this caller (`kit.auth.Caller.key`); how many."""
    done: str = await conn.execute(_FORGET_CALLER, caller)
    return int(done.split()[-1])
