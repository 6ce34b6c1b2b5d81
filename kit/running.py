"""What a service has in its hands while it runs; given to its routes, consumers and workers."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from starlette.requests import Request

from kit.database import Database
from kit.groupcommit import Commit, GroupCommit, GroupRead
from kit.health import Health
from kit.metrics import Metrics
from kit.pace import Pace
from kit.passes import Visitor
from kit.plots import Plot
from kit.settings import Settings
from kit.timeline import More, nothing_more

C = TypeVar("C")
R = TypeVar("R")

SessionOf = Callable[[Request], Awaitable[Visitor | None]]


@dataclass(frozen=True)
class Shown:
    """What operators see of one service on its console. `links`: {language: text} by address, of pages of its own."""

    consumers: Sequence[str] = ()
    timeline: More = nothing_more
    plots: Sequence[Plot] = ()
    links: Mapping[str, Mapping[str, str]] = field(default_factory=dict)


@dataclass
class Running:
    """`stopping` is set when the process is asked to stop: finish what is in hand, take nothing new, return."""

    name: str
    settings: Settings
    database: Database
    metrics: Metrics
    health: Health
    desk: GroupCommit[Any, Any] | None = None  # where requests that are committed together are handed in
    session: SessionOf | None = None  # where sessions are kept: who is logged in by a request's cookie
    kept: dict[type[Any], Any] = field(default_factory=dict)  # what a part of the service holds in memory, by its class
    shown: Shown = field(default_factory=Shown)
    pace: Pace = field(default_factory=Pace)
    stopping: asyncio.Event = field(default_factory=asyncio.Event)
    _looks: dict[Any, GroupRead[Any, Any]] = field(default_factory=dict)  # by what they ask

    def together(self, look: Commit[C, R]) -> GroupRead[C, R]:
        """Where `look`, a function that only reads, is asked once for all who want it at the same time."""
        if look not in self._looks:
            self._looks[look] = GroupRead(self.database, look)
        return self._looks[look]

    async def pause(self, seconds: float) -> bool:
        """Wait so long, or until the process is asked to stop. True when there is still work to do."""
        try:
            async with asyncio.timeout(seconds):
                await self.stopping.wait()
        except TimeoutError:
            return True
        return False
