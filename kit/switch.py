"""The operators' switch of each consumer: pause, resume, read again from an instant."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from kit.database import Connection

_LOOK = "SELECT paused, reason, replay_from, replay_asked_at FROM consumer_switch WHERE consumer = $1"
_SET = """
INSERT INTO consumer_switch (consumer, paused, reason) VALUES ($1, $2, $3)
ON CONFLICT (consumer) DO UPDATE SET paused = excluded.paused, reason = excluded.reason, changed_at = app_now()
"""
_REPLAY = """
INSERT INTO consumer_switch (consumer, replay_from, replay_asked_at) VALUES ($1, $2, clock_timestamp())
ON CONFLICT (consumer) DO UPDATE SET replay_from = excluded.replay_from, replay_asked_at = excluded.replay_asked_at
"""
_SHOWN = """
SELECT paused, nullif(reason, '') AS reason, changed_at, replay_from, replay_asked_at
FROM consumer_switch WHERE consumer = $1
"""


@dataclass(frozen=True, slots=True)
class Position:
    paused: bool = False
    reason: str = ""
    replay_from: datetime | None = None
    replay_asked_at: datetime | None = None


async def look(conn: Connection, consumer: str) -> Position:
    row = await conn.fetchrow(_LOOK, consumer)
    return Position(**dict(row)) if row else Position()


async def pause(conn: Connection, consumer: str, reason: str) -> None:
    """Stop taking records, within a second, until it is resumed; survives restarts."""
    await conn.execute(_SET, consumer, True, reason)


async def resume(conn: Connection, consumer: str) -> None:
    await conn.execute(_SET, consumer, False, "")


async def replay(conn: Connection, consumer: str, since: datetime) -> None:
    """Read again what was written since this instant. The inbox knows what had its effect: it has none again."""
    await conn.execute(_REPLAY, consumer, since)


async def shown(conn: Connection, consumer: str) -> dict[str, Any]:
    """One consumer's switch as an operator reads it; `paused` is false when nobody ever touched it."""
    row = await conn.fetchrow(_SHOWN, consumer)
    return dict(row) if row else {"paused": False}
