"""Tells listeners how the seats of an offering change: one query for all that is watched, one text for all."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Annotated
from uuid import UUID

from fastapi import Depends, Request
from fastapi.sse import format_sse_event
from pydantic import TypeAdapter

from kit import logs, tags
from kit.database import Busy, Database
from kit.http import ThisService
from kit.running import Running
from services.enrolment import refusals
from services.enrolment.shown import SeatsAt, seats_at
from services.enrolment.store import seats

log = logs.get(__name__)

LOOK_S = 0.25
ALIVE_S = 15.0  # a comment now and then, so that nobody on the way takes the silence for an end
MOST = 5_000  # listeners of one process, about 30 kB each
AGAIN_MS = 2_000  # when a browser that has lost the stream asks again

_PLACES = TypeAdapter(list[SeatsAt])


@dataclass(slots=True)
class _Watched:
    """One offering: its last event, and what its listeners wait for."""

    id: str = ""
    event: bytes = b""
    listeners: int = 0
    changed: asyncio.Event = field(default_factory=asyncio.Event)


class Hub:
    """The listeners of one process. Looks at the database only while there are any."""

    def __init__(self, running: Running) -> None:
        self._running = running
        self._watched: dict[UUID, _Watched] = {}
        self._asked: dict[UUID, asyncio.Task[_Watched | None]] = {}  # first looks under way
        self._looking: asyncio.Task[None] | None = None

    async def listen(self, offering_id: UUID, last_id: str | None) -> AsyncIterator[bytes]:
        """The stream for one listener. Raises Problem (404) for an unknown offering, Busy when there are too many."""
        if sum(watched.listeners for watched in self._watched.values()) >= MOST:
            raise Busy("too many listeners")
        watched = self._watched.get(offering_id) or await self._first(offering_id)
        if watched is None:
            raise refusals.unknown_offering()
        return self._stream(offering_id, watched, last_id)

    async def _first(self, offering_id: UUID) -> _Watched | None:
        """One look for all who come at the same time: after a restart every browser comes back at once."""

        async def look() -> _Watched | None:
            try:
                found = await _look(self._running.database, [offering_id])
                return _Watched(*found[offering_id]) if found else None
            finally:
                del self._asked[offering_id]

        if offering_id not in self._asked:
            self._asked[offering_id] = asyncio.create_task(look())
        return await asyncio.shield(self._asked[offering_id])

    async def _stream(self, offering_id: UUID, seen: _Watched, last_id: str | None) -> AsyncIterator[bytes]:
        # Only who has begun to listen is counted, and all of one offering by one: a stream may never be begun.
        watched = self._watched.setdefault(offering_id, seen)
        watched.listeners += 1
        if self._looking is None or self._looking.done():
            self._looking = asyncio.create_task(self._look())
        try:
            yield format_sse_event(retry=AGAIN_MS)
            while not self._running.stopping.is_set():
                changed = watched.changed
                if watched.id != last_id:
                    last_id = watched.id
                    yield watched.event
                try:
                    async with asyncio.timeout(ALIVE_S):
                        await changed.wait()
                except TimeoutError:
                    yield format_sse_event(comment="alive")
        finally:
            watched.listeners -= 1
            if not watched.listeners:
                self._watched.pop(offering_id, None)

    async def _look(self) -> None:
        while self._watched and await self._running.pause(LOOK_S):
            try:
                found = await _look(self._running.database, list(self._watched))
            except Exception as error:  # whatever it is, those who listen are told again once it is over
                log.warning("seats_not_seen", error=type(error).__name__)
                continue
            for offering_id, (name, event) in found.items():
                watched = self._watched.get(offering_id)
                if watched is not None and watched.id != name:
                    watched.id, watched.event = name, event
                    _wake(watched)
        for watched in self._watched.values():  # the process is asked to stop
            _wake(watched)


def _wake(watched: _Watched) -> None:
    watched.changed.set()
    watched.changed = asyncio.Event()


async def _look(database: Database, offering_ids: list[UUID]) -> dict[UUID, tuple[str, bytes]]:
    """Offering -> the id of its present seats, and the event that tells them; only offerings that there are."""
    async with database.reading() as conn:
        places = await seats.places(conn, offering_ids)
    found: dict[UUID, tuple[str, bytes]] = {}
    for offering_id, by_arena in places.items():
        if by_arena:
            text = _PLACES.dump_json([seats_at(one) for one in by_arena.values() if one.open or one.taken])
            name = tags.tag(text).strip('"')
            found[offering_id] = (name, format_sse_event(data_str=text.decode(), event="seats", id=name))
    return found


async def the_hub(request: Request, running: ThisService) -> Hub:
    state = request.app.state
    if not hasattr(state, "hub"):
        state.hub = Hub(running)
    hub: Hub = state.hub
    return hub


TheHub = Annotated[Hub, Depends(the_hub)]
