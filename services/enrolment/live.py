"""Tells listeners how the seats of an offering change, one text for all; and each person that their own have."""

from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Annotated
from uuid import UUID

from fastapi import Depends, Request
from fastapi.sse import format_sse_event
from pydantic import TypeAdapter

from kit import live, tags
from kit.database import Database
from kit.http import ThisService
from services.enrolment import refusals
from services.enrolment.shown import SeatsAt, seats_at
from services.enrolment.store import seats, steps

LOOK_S = 0.25

_PLACES = TypeAdapter(list[SeatsAt])


class Hub(live.Hub[UUID]):
    """Who listens to offerings."""

    every_s = LOOK_S

    async def look(self, keys: Sequence[UUID]) -> Mapping[UUID, tuple[str, bytes]]:
        return await _look(self._running.database, keys)

    async def listen(self, key: UUID, last_id: str | None) -> AsyncIterator[bytes]:
        """The stream for one listener. Raises Problem (404) for an unknown offering, Busy when there are too many."""
        try:
            return await super().listen(key, last_id)
        except LookupError:
            raise refusals.unknown_offering() from None


async def _look(database: Database, offering_ids: Sequence[UUID]) -> dict[UUID, tuple[str, bytes]]:
    """Offering -> the id of its present seats, and the event that tells them; only offerings that there are.

    The id is another once nobody gets a seat any more: a page that is open looks anew then, although none has changed.
    """
    async with database.reading() as conn:
        watched = await seats.watched(conn, offering_ids)
    found: dict[UUID, tuple[str, bytes]] = {}
    for offering_id, (is_over, places) in watched.items():
        text = _PLACES.dump_json([seats_at(one) for one in places if one.open or one.taken])
        name = tags.tag(text + (b"over" if is_over else b"")).strip('"')
        found[offering_id] = (name, format_sse_event(data_str=text.decode(), event="seats", id=name))
    return found


async def the_hub(request: Request, running: ThisService) -> Hub:
    state = request.app.state
    if not hasattr(state, "hub"):
        state.hub = Hub(running)
    hub: Hub = state.hub
    return hub


TheHub = Annotated[Hub, Depends(the_hub)]


class Own(live.Hub[tuple[str, str]]):
    """Who listens to their own enrolments, by log-in. They are told that something has changed, and nothing of what."""

    every_s = 1.0
    most_each = 10  # of one person: browsers that were left open

    async def look(self, keys: Sequence[tuple[str, str]]) -> Mapping[tuple[str, str], tuple[str, bytes]]:
        async with self._running.database.reading() as conn:
            marks = await steps.marks(conn, keys)
        named = {login: marks.get(login, "none") for login in keys}
        return {login: (mark, format_sse_event(data_str="", event="own", id=mark)) for login, mark in named.items()}
