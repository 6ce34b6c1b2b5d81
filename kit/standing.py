"""How one service stands: what an operator looks at first, asked of its own database and the broker."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from kit import lag, outbox, parking, switch
from kit.database import Connection
from kit.running import Running


@dataclass(frozen=True, slots=True)
class Standing:
    """`checks`: the name of each of /readyz's checks, and `ok` or what is wrong. `consumers`: as `consumers` gives.

    `attention`: what leaves the service ready and needs an operator, by who says it.
    """

    ready: bool
    checks: dict[str, str]
    attention: dict[str, str]
    backlog: int
    age_s: float
    parked: int
    refused: int
    consumers: list[dict[str, Any]]
    at: datetime


async def behind(kafka: str, groups: Sequence[str], within_s: float) -> dict[str, int | None]:
    """How many records wait for each group; empty when the broker does not say in time."""
    try:
        async with asyncio.timeout(within_s):
            return await lag.behind(kafka, groups) if groups else {}
    except (lag.NoAnswer, TimeoutError):
        return {}


async def consumers(conn: Connection, groups: Sequence[str], waiting: Mapping[str, int | None]) -> list[dict[str, Any]]:
    """One row a consumer. `lag` is none where the broker has not said it, or nothing was ever taken."""
    return [
        {
            "consumer": group,
            **await switch.shown(conn, group),
            "lag": waiting.get(group),
            "parked": await parking.count_open(conn, group),
        }
        for group in groups
    ]


async def look(running: Running) -> Standing:
    """How the service stands now, within a few seconds whoever is away. Raises Busy when the database is."""
    groups = [f"{running.name}.{name}" for name in running.shown.consumers]
    (ready, body), waiting = await asyncio.gather(
        running.health.ready(), behind(running.settings.kafka_bootstrap, groups, lag.SOON_S)
    )
    async with running.database.reading() as conn:
        rows = await consumers(conn, groups, waiting)
        backlog, age_s = await outbox.waiting(conn)
        parked, refused = await parking.count_all(conn)
    attention = body.get("attention", {})
    return Standing(ready, body["checks"], attention, backlog, age_s, parked, refused, rows, datetime.now(UTC))
