"""SQL of offerings and their places."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from uuid import UUID

import asyncpg

from contracts.fields import OfferingRules
from kit.database import Connection
from services.enrolment.domain import Offering, Place

_OFFERING = """
SELECT id, course_id, partner, version, starts_at, ends_at, cancelled, rules, warned_for, judged_for,
       tell_line_at, over_since
FROM offerings
"""


def _offering(row: asyncpg.Record) -> Offering:
    return Offering(**{**row, "rules": OfferingRules.model_validate_json(row["rules"])})


async def now(conn: Connection) -> datetime:
    """The database's time, which all replicas share."""
    found: datetime = await conn.fetchval("SELECT app_now()")
    return found


async def offering(conn: Connection, offering_id: UUID) -> Offering | None:
    row = await conn.fetchrow(f"{_OFFERING} WHERE id = $1", offering_id)
    return _offering(row) if row else None


async def lock(conn: Connection, offering_ids: Sequence[UUID]) -> dict[UUID, Offering]:
    """These offerings, locked until the transaction ends; those that are not there are not in the answer.

    The rule of locks: whoever changes an offering, its places, its enrolments or its offers holds the offering's row
    FOR UPDATE first, and reads the places and the line *after* that, in statements of their own: a statement sees what
    was committed when it began, so one that waited for the lock has seen the seats as they were before. Several are
    locked in the order of their ids. The rows of learners who ask are made, or locked, before the offerings' are.
    Timers are taken before the offering's lock and only added to under it. So nobody waits in a circle.
    """
    rows = await conn.fetch(f"{_OFFERING} WHERE id = ANY ($1::uuid[]) ORDER BY id FOR UPDATE", offering_ids)
    return {row["id"]: _offering(row) for row in rows}


async def put_offering(conn: Connection, known: Offering) -> None:
    await conn.execute(
        """
        INSERT INTO offerings (id, course_id, partner, version, starts_at, ends_at, cancelled, rules, over_since)
        VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)
        ON CONFLICT (id) DO UPDATE SET
            version = excluded.version, starts_at = excluded.starts_at, ends_at = excluded.ends_at,
            cancelled = excluded.cancelled, rules = excluded.rules, over_since = excluded.over_since
        """,
        known.id,
        known.course_id,
        known.partner,
        known.version,
        known.starts_at,
        known.ends_at,
        known.cancelled,
        known.rules.model_dump_json(),
        known.over_since,
    )


async def put_judgement(conn: Connection, known: Offering) -> None:
    """Keep what has been warned of and judged, so that it is said once."""
    await conn.execute(
        "UPDATE offerings SET warned_for = $2, judged_for = $3 WHERE id = $1",
        known.id,
        known.warned_for,
        known.judged_for,
    )


async def put_places(conn: Connection, offering_id: UUID, capacities: Mapping[str, int]) -> None:
    """Take in arena -> wanted capacity. A place never shrinks below what is taken."""
    await conn.execute(
        """
        INSERT INTO places AS mine (offering_id, arena, number, wanted_capacity, capacity)
        SELECT $1, new.arena, new.number, new.capacity, new.capacity
        FROM unnest($2::text[], $3::int[]) WITH ORDINALITY AS new (arena, capacity, number)
        ON CONFLICT (offering_id, arena) DO UPDATE SET
            number = excluded.number, wanted_capacity = excluded.wanted_capacity, open = true,
            capacity = greatest(excluded.wanted_capacity, mine.taken)
        """,
        offering_id,
        list(capacities),
        list(capacities.values()),
    )


async def close_other_places(conn: Connection, offering_id: UUID, arenas: Sequence[str]) -> None:
    """Places the catalogue names no more: whoever sits there stays, and nobody new comes."""
    await conn.execute(
        """
        UPDATE places SET open = false, wanted_capacity = 0, capacity = taken
        WHERE offering_id = $1 AND arena <> ALL ($2::text[])
        """,
        offering_id,
        arenas,
    )


async def make_room(conn: Connection, offering_id: UUID, back: Mapping[str, int]) -> None:
    """Arena -> how many come back there: whoever had a seat has it, also where there are fewer by now."""
    await conn.execute(
        """
        UPDATE places SET capacity = greatest(capacity, taken + back.seated)
        FROM unnest($2::text[], $3::int[]) AS back (arena, seated)
        WHERE places.offering_id = $1 AND places.arena = back.arena
        """,
        offering_id,
        list(back),
        list(back.values()),
    )


async def places(conn: Connection, offering_ids: Sequence[UUID]) -> dict[UUID, dict[str, Place]]:
    """Each offering's places by arena, in the partner's order."""
    rows = await conn.fetch(
        """
        SELECT offering_id, arena, capacity, taken, open, queued, wanted_capacity FROM places
        WHERE offering_id = ANY ($1::uuid[]) ORDER BY number, arena
        """,
        offering_ids,
    )
    found: dict[UUID, dict[str, Place]] = {offering_id: {} for offering_id in offering_ids}
    for row in rows:
        found[row["offering_id"]][row["arena"]] = Place(*tuple(row)[1:])
    return found


async def watched(conn: Connection, offering_ids: Sequence[UUID]) -> dict[UUID, tuple[bool, list[Place]]]:
    """Of each offering that there is, whether nobody gets a seat any more, as `domain.closed` says, and its places."""
    rows = await conn.fetch(
        """
        SELECT o.id, o.cancelled OR over_since IS NOT NULL
                   OR coalesce((rules ->> 'late_enrolment_until')::timestamptz, starts_at) <= app_now(),
               arena, capacity, taken, open, queued, wanted_capacity
        FROM places p JOIN offerings o ON o.id = p.offering_id
        WHERE p.offering_id = ANY ($1::uuid[]) ORDER BY number, arena
        """,
        offering_ids,
    )
    found: dict[UUID, tuple[bool, list[Place]]] = {}
    for offering_id, is_over, *place in rows:
        found.setdefault(offering_id, (is_over, []))[1].append(Place(*place))
    return found


async def count(conn: Connection, deltas: Mapping[tuple[UUID, str], tuple[int, int]]) -> None:
    """(offering, arena) -> how many more are seated there, and how many more stand in line for it.

    A place that holds more than is wanted becomes smaller by what is given back. Raises asyncpg.CheckViolationError
    when there are not so many seats.
    """
    await conn.execute(
        """
        UPDATE places SET
            taken = taken + new.seated, queued = queued + new.waiting,
            capacity = CASE WHEN new.seated < 0 THEN greatest(wanted_capacity, taken + new.seated) ELSE capacity END
        FROM unnest($1::uuid[], $2::text[], $3::int[], $4::int[]) AS new (offering_id, arena, seated, waiting)
        WHERE places.offering_id = new.offering_id AND places.arena = new.arena
        """,
        [offering_id for offering_id, _ in deltas],
        [arena for _, arena in deltas],
        [seated for seated, _ in deltas.values()],
        [waiting for _, waiting in deltas.values()],
    )
