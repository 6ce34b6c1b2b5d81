"""Keeps out a partner whose program has gone wrong, and it alone: what it sends waits until it is let go on."""

import re
from collections import deque
from collections.abc import Collection
from typing import cast

import asyncpg

from contracts.topics import partner_courses
from kit import logs
from kit.database import Connection
from kit.settings import Settings
from services.catalogue import joining
from services.catalogue.settings import CatalogueSettings
from services.catalogue.store import partners

log = logs.get(__name__)

REFUSED = re.compile(r"[0-9]+ of its last [0-9]+ records were refused")  # what it says; else an operator's own words


class Quarantine:
    """The gate of the partners' topics: shut for a partner that is suspended or quarantined."""

    async def look(self, conn: Connection, settings: Settings, topics: Collection[str]) -> "Watch":
        """A watch over these partners, for one transaction."""
        rows = await partners.held_up(conn)
        return Watch(conn, {partner_courses(row["slug"]).name: row["state"] for row in rows}, settings)

    async def closed(self, conn: Connection) -> list[str]:
        return [partner_courses(row["slug"]).name for row in await partners.held_up(conn)]


class Watch:
    """Counts what is refused; asks the database for what was before only when something is."""

    def __init__(self, conn: Connection, closed: dict[str, str], settings: Settings) -> None:
        self._conn = conn
        self._closed = closed
        self._settings = cast(CatalogueSettings, settings)
        self._last: dict[str, deque[bool]] = {}  # True: refused
        self._put_off: set[str] = set()  # to what comes next of it

    def closed(self, topic: str) -> str:
        return self._closed.get(topic, "")

    def taken(self, topic: str) -> None:
        if topic in self._last:
            self._last[topic].append(False)

    async def refused(self, topic: str) -> None:
        most, of = self._settings.quarantine_refused, self._settings.quarantine_of
        partner = topic.split(".")[1]
        if topic in self._last:
            self._last[topic].append(True)
        else:  # this one is among them
            self._last[topic] = deque(await partners.last_refused(self._conn, partner, topic, of), maxlen=of)
        count = sum(self._last[topic])
        if count < most or topic in self._closed or topic in self._put_off:
            return
        if await partners.known(self._conn, partner) is None:
            return
        because = f"{count} of its last {len(self._last[topic])} records were refused"
        try:
            async with self._conn.transaction():
                await joining.quarantine(self._conn, partner, because)
        except asyncpg.LockNotAvailableError:  # a command has it until Kafka answers, and the others must not wait
            self._put_off.add(topic)
            return
        self._closed[topic] = "quarantined"
        log.warning("partner_quarantined", partner=partner, count=count)
