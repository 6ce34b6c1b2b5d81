"""Follows one thing through one service: what it said, heard and parked of it, and what the service itself adds."""

from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from kit.database import Connection

Row = dict[str, Any]  # `at` and `what`, and what else there is to tell: ids and codes, never what a person typed
More = Callable[[Connection, Sequence[str]], Awaitable[list[Row]]]  # given the ids: also those of the events found

_SAID = """
SELECT created_at AS at, 'said' AS what, topic, convert_from(payload, 'UTF8')::json->>'type' AS type,
       event_id::text AS event_id, subject, correlation_id, published_at
FROM outbox
WHERE headers IS NULL AND (correlation_id = ANY($1) OR subject = ANY($1) OR event_id::text = ANY($1)) ORDER BY id
"""
_HEARD = "SELECT received_at AS at, 'heard' AS what, consumer, event_id FROM inbox WHERE event_id = ANY($1::text[])"
_PARKED = """
SELECT parked_at AS at, state AS what, consumer, event_id, type, reason, id AS number FROM parked
WHERE event_id = ANY($1::text[])
"""


async def nothing_more(conn: Connection, ids: Sequence[str]) -> list[Row]:
    """For a service whose part is told by its events."""
    return []


async def timeline(conn: Connection, ids: Sequence[str], more: More = nothing_more) -> list[Row]:
    """What one service knows of these ids (correlation, event or subject), in time order.

    What belongs to the same request as something found is found too.
    """
    rows = [dict(row) for row in await conn.fetch(_SAID, list(ids))]
    requests = {row["correlation_id"] for row in rows if row["correlation_id"]}
    if requests - set(ids):
        rows = [dict(row) for row in await conn.fetch(_SAID, [*ids, *requests])]
    events = list({*ids, *(row["event_id"] for row in rows)})
    for statement in (_HEARD, _PARKED):
        rows += [dict(row) for row in await conn.fetch(statement, events)]
    return sorted([*rows, *await more(conn, events)], key=lambda row: row["at"])
