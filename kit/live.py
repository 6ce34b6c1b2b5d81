"""Server-sent events: what changes is told to all who listen, by one query for all that is watched."""

import asyncio
import time
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Generic, TypeVar

from fastapi import Header
from fastapi.sse import format_sse_event

from kit import logs
from kit.database import Busy
from kit.running import Running

log = logs.get(__name__)

ALIVE_S = 15.0  # a comment now and then, so that nobody on the way takes the silence for an end
MOST = 5_000  # listeners of one process, about 30 kB each
WHILE_S = 300.0  # of a person's own stream: then the browser asks again, and who has logged out is told no more
AGAIN_MS = 2_000  # when a browser that has lost the stream asks again

K = TypeVar("K")
LastEventId = Annotated[str | None, Header(description="The id of the last event that was seen.")]


@dataclass(slots=True)
class _Watched:
    """One thing that is watched: its last event, and what its listeners wait for."""

    id: str = ""
    event: bytes = b""
    listeners: int = 0
    changed: asyncio.Event = field(default_factory=asyncio.Event)


class Hub(ABC, Generic[K]):
    """The listeners of one process. Looks only while there are any, every `every_s`. A service says what it sees."""

    every_s = 0.5
    most_each = MOST  # who listen to one thing

    def __init__(self, running: Running) -> None:
        self._running = running
        self._watched: dict[K, _Watched] = {}
        self._asked: dict[K, asyncio.Future[_Watched | None]] = {}  # who waits for a first look
        self._asking: asyncio.Task[None] | None = None
        self._looking: asyncio.Task[None] | None = None

    @abstractmethod
    async def look(self, keys: Sequence[K]) -> Mapping[K, tuple[str, bytes]]:
        """Thing -> the id of its present state, and the event that tells it; only of things that there are."""

    async def listen(self, key: K, last_id: str | None) -> AsyncIterator[bytes]:
        """The stream for one listener. Raises LookupError when there is no such thing, Busy when too many listen."""
        watched = self._watched.get(key)
        if self._is_full():
            raise Busy("too many listeners")
        if watched is not None and watched.listeners >= self.most_each:
            raise Busy("too many listeners")
        watched = watched or await self._first(key)
        if watched is None:
            raise LookupError("there is no such thing")
        return self._stream(key, watched, last_id)

    def _is_full(self) -> bool:
        return sum(one.listeners for one in self._watched.values()) >= MOST

    async def _first(self, key: K) -> _Watched | None:
        """One look for all who come at the same time: after a restart every browser comes back at once."""
        if key not in self._asked:
            self._asked[key] = asyncio.get_running_loop().create_future()
            if self._asking is None or self._asking.done():
                self._asking = asyncio.create_task(self._ask())
        return await asyncio.shield(self._asked[key])

    async def _ask(self) -> None:
        while self._asked:  # who comes in the same turn of the loop shares the first of these, the rest the next
            asked, self._asked = self._asked, {}
            try:
                found = await self.look(list(asked))
            except Exception as error:  # each of them is told of it
                for waiting in asked.values():
                    waiting.set_exception(error)
                continue
            for key, waiting in asked.items():
                waiting.set_result(_Watched(*found[key]) if key in found else None)

    async def _stream(self, key: K, seen: _Watched, last_id: str | None) -> AsyncIterator[bytes]:
        if self._is_full():  # many have come since this one asked: its browser asks again
            yield format_sse_event(retry=AGAIN_MS)
            return
        # Only who has begun to listen is counted, and all of one thing by one: a stream may never be begun.
        watched = self._watched.setdefault(key, seen)
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
                self._watched.pop(key, None)

    async def _look(self) -> None:
        while self._watched and await self._running.pause(self.every_s):
            try:
                found = await self.look(list(self._watched))
            except Exception as error:  # whatever it is, those who listen are told again once it is over
                log.warning("live_not_seen", error=type(error).__name__)
                continue
            for key, (name, event) in found.items():
                watched = self._watched.get(key)
                if watched is not None and watched.id != name:
                    watched.id, watched.event = name, event
                    _wake(watched)
        for watched in self._watched.values():  # the process is asked to stop
            _wake(watched)


def _wake(watched: _Watched) -> None:
    watched.changed.set()
    watched.changed = asyncio.Event()


async def for_a_while(stream: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """A stream that ends now and then, so that it does not outlive the session that began it by much."""
    ends = time.monotonic() + WHILE_S
    async for part in stream:  # at least a comment every quarter of a minute
        yield part
        if time.monotonic() > ends:
            return
