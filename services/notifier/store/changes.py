"""SQL of what has changed about an offering, and whom it concerns."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from uuid import UUID

from kit.database import Connection
from services.notifier.store import columns


@dataclass(frozen=True)
class Run:
    """An offering as it is known. `sessions` and `arenas` are none when they were never heard of."""

    version: int
    starts_at: datetime
    ends_at: datetime
    sessions: list[dict[str, Any]] | None
    arenas: list[str] | None
    cancelled: bool


@dataclass(frozen=True)
class Change:
    """What learners of an offering are to be told, by the event that said so."""

    offering_id: UUID
    event_id: str
    correlation_id: str
    traceparent: str | None
    facts: dict[str, Any] = field(default_factory=dict)


async def runs(conn: Connection, offerings: Sequence[UUID]) -> dict[UUID, Run]:
    """These offerings as they are known, each locked: a seat taken meanwhile is heard of before or after."""
    rows = await conn.fetch(
        """
        SELECT offering_id, version, starts_at, ends_at, sessions, arenas, cancelled FROM offerings
        WHERE offering_id = ANY($1) ORDER BY offering_id FOR UPDATE
        """,
        offerings,
    )
    return {
        row["offering_id"]: Run(
            version=row["version"],
            starts_at=row["starts_at"],
            ends_at=row["ends_at"],
            sessions=None if row["sessions"] is None else json.loads(row["sessions"]),
            arenas=row["arenas"],
            cancelled=row["cancelled"],
        )
        for row in rows
    }


async def owe_changes(conn: Connection, changes: Sequence[Change], channel: str) -> None:
    """Owe these changes to all who sit there, are offered a seat or stand in line, while there is something to come."""
    await conn.execute(
        """
        INSERT INTO notices (event_id, learner_id, offering_id, about, template, channel, place, correlation_id,
                             traceparent, facts)
        SELECT new.event_id, live.learner_id, live.offering_id, live.enrolment_id, 'changed', $6, live.place,
               new.correlation_id, new.traceparent, new.facts
        FROM unnest($1::uuid[], $2::text[], $3::text[], $4::text[], $5::jsonb[])
            AS new (offering_id, event_id, correlation_id, traceparent, facts)
        JOIN offerings AS offering USING (offering_id)
        JOIN enrolments AS live USING (offering_id)
        WHERE live.state IN ('associated', 'offered', 'queued') AND offering.ends_at > app_now()
        ORDER BY live.since, live.enrolment_id
        ON CONFLICT ON CONSTRAINT notices_once DO NOTHING
        """,
        *columns(changes, "offering_id event_id correlation_id traceparent"),
        [json.dumps(one.facts) for one in changes],
        channel,
    )
