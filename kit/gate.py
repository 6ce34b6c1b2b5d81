"""Who is not listened to for a while: a service says so of its strangers' topics, and the consumer keeps what comes."""

from collections.abc import Collection
from typing import Protocol

from kit.database import Connection
from kit.settings import Settings


class Watch(Protocol):
    """The senders of one batch, in its transaction. What it has counted is gone when that fails."""

    def closed(self, topic: str) -> str:
        """Why the records of this topic are kept back; empty: they run."""

    def taken(self, topic: str) -> None:
        """A record of this topic had its effect."""

    async def refused(self, topic: str) -> None:
        """A record of this topic was refused and is kept so; the topic may be closed by this one."""


class Gate(Protocol):
    """Decides who is listened to."""

    async def look(self, conn: Connection, settings: Settings, topics: Collection[str]) -> Watch:
        """A watch over these topics, for one transaction."""

    async def closed(self, conn: Connection) -> list[str]:
        """The topics whose records wait; what was kept of all others runs on."""
