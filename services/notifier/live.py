"""Tells people who are logged in that they have something to read: one query for all who listen."""

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Annotated

from fastapi import Depends, Header, Request
from fastapi.sse import format_sse_event

from kit import logs, tags
from kit.database import Busy, Database
from kit.http import ThisService
from kit.running import Running
from services.notifier.store import feed

log = logs.get(__name__)

LOOK_S = 0.5
ALIVE_S = 15.0  # a comment now and then, so that nobody on the way takes the silence for an end
MOST = 5_000  # listeners of one process
MOST_EACH = 10  # of one person: browsers that were left open
AGAIN_MS = 2_000  # when a browser that has lost the stream asks again


@dataclass(slots=True)
class _Watched:
    """One person: the last event, and what their browsers wait for."""

    id: str = ""
    event: bytes = b""
    listeners: int = 0
    changed: asyncio.Event = field(default_factory=asyncio.Event)


class Hub:
    """The listeners of one process. Looks at the database only while there are any."""

    def __init__(self, running: Running) -> None:
        self._running = running
        self._watched: dict[str, _Watched] = {}
        self._looking: asyncio.Task[None] | None = None

    async def listen(self, login: str, last_id: str | None) -> AsyncIterator[bytes]:
        """The stream for one listener. Raises Busy when there are too many."""
        watched = self._watched.get(login)
        if sum(one.listeners for one in self._watched.values()) >= MOST or (watched and watched.listeners >= MOST_EACH):
            raise Busy("too many listeners")
        if watched is None:
            watched = _Watched(*(await _look(self._running.database, [login]))[login])
        return self._stream(login, watched, last_id)

    async def _stream(self, login: str, seen: _Watched, last_id: str | None) -> AsyncIterator[bytes]:
        watched = self._watched.setdefault(login, seen)  # only now is one counted: a stream may never be begun
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
                self._watched.pop(login, None)

    async def _look(self) -> None:
        while self._watched and await self._running.pause(LOOK_S):
            try:
                found = await _look(self._running.database, list(self._watched))
            except Exception as error:  # whatever it is, those who listen are told again once it is over
                log.warning("feeds_not_seen", error=type(error).__name__)
                continue
            for login, (name, event) in found.items():
                watched = self._watched.get(login)
                if watched is not None and watched.id != name:
                    watched.id, watched.event = name, event
                    _wake(watched)
        for watched in self._watched.values():  # the process is asked to stop
            _wake(watched)


def _wake(watched: _Watched) -> None:
    watched.changed.set()
    watched.changed = asyncio.Event()


async def _look(database: Database, logins: list[str]) -> dict[str, tuple[str, bytes]]:
    """Log-in -> the id of what they have now, and the event that tells it."""
    async with database.reading() as conn:
        counted = await feed.counts(conn, logins)
    found = {}
    for login in logins:
        count = counted.get(login, feed.Count())
        text = json.dumps({"unread": count.unread, "newest": str(count.newest) if count.newest else None})
        name = tags.tag(f"{count.total} {text}".encode()).strip('"')
        found[login] = (name, format_sse_event(data_str=text, event="notices", id=name))
    return found


async def the_hub(request: Request, running: ThisService) -> Hub:
    state = request.app.state
    if not hasattr(state, "hub"):
        state.hub = Hub(running)
    hub: Hub = state.hub
    return hub


LastEventId = Annotated[str | None, Header(description="The id of the last event that was seen.")]
TheHub = Annotated[Hub, Depends(the_hub)]
