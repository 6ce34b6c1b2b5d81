"""Every SQL statement of enrolment: one function, one statement."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

import asyncpg

from kit.database import Connection
from services.enrolment.domain import LIVE, Offering, Place, Waiting


@dataclass(frozen=True, slots=True)
class Enrolment:
    """One enrolment as it is kept. `place_in_line` is 1-based, none unless queued."""

    id: UUID
    offering_id: UUID
    learner_id: UUID
    state: str
    choices: tuple[str, ...]
    place: str | None
    name: str
    asked_at: datetime
    place_in_line: int | None


# How many stand in front: those who asked earlier and would take a seat that this one would take, too.
_ENROLMENT = """
SELECT e.id, e.offering_id, e.learner_id, e.state, e.choices, e.place, e.name, e.asked_at,
       CASE WHEN e.state = 'queued' THEN 1 + (
           SELECT count(*) FROM enrolments front
           WHERE front.offering_id = e.offering_id AND front.state = 'queued'
             AND front.queue_number < e.queue_number AND front.choices && e.choices
       ) END AS place_in_line
FROM enrolments e
"""


def _enrolment(row: asyncpg.Record) -> Enrolment:
    return Enrolment(**{**row, "choices": tuple(row["choices"])})


async def now(conn: Connection) -> datetime:
    found: datetime = await conn.fetchval("SELECT app_now()")
    return found


async def offering(conn: Connection, offering_id: UUID) -> Offering | None:
    row = await conn.fetchrow(
        "SELECT id, course_id, partner, version, starts_at, ends_at, cancelled FROM offerings WHERE id = $1",
        offering_id,
    )
    return Offering(**row) if row else None


async def lock_offering(conn: Connection, offering_id: UUID) -> Offering | None:
    """The offering, locked until the transaction ends.

    The rule of locks: whoever changes an offering, its places or its enrolments holds the offering's row FOR UPDATE
    first, and reads the places and the line *after* that, in statements of their own: a statement sees what was
    committed when it began, so one that waited for the lock has seen the seats as they were before. Who locks several
    offerings does it in the order of their ids (`lock_offerings`), and whoever needs a learner's row takes it before
    the offering's. So nobody waits in a circle.
    """
    row = await conn.fetchrow(
        "SELECT id, course_id, partner, version, starts_at, ends_at, cancelled FROM offerings WHERE id = $1 FOR UPDATE",
        offering_id,
    )
    return Offering(**row) if row else None


async def lock_offerings(conn: Connection, offering_ids: Sequence[UUID]) -> None:
    """Lock several, in the order of their ids."""
    await conn.execute("SELECT 1 FROM offerings WHERE id = ANY($1::uuid[]) ORDER BY id FOR UPDATE", offering_ids)


async def put_offering(conn: Connection, known: Offering) -> None:
    await conn.execute(
        """
        INSERT INTO offerings (id, course_id, partner, version, starts_at, ends_at, cancelled)
        VALUES ($1, $2, $3, $4, $5, $6, $7)
        ON CONFLICT (id) DO UPDATE SET
            version = excluded.version, starts_at = excluded.starts_at, ends_at = excluded.ends_at,
            cancelled = excluded.cancelled
        """,
        known.id,
        known.course_id,
        known.partner,
        known.version,
        known.starts_at,
        known.ends_at,
        known.cancelled,
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


async def places(conn: Connection, offering_id: UUID) -> list[Place]:
    """In the partner's order, each with how many in line would sit there."""
    rows = await conn.fetch(
        """
        SELECT p.arena, p.capacity, p.taken, p.open, coalesce(line.queued, 0)::int AS queued
        FROM places p
        LEFT JOIN (
            SELECT choice, count(*) AS queued FROM enrolments, unnest(choices) AS choice
            WHERE offering_id = $1 AND state = 'queued' GROUP BY choice
        ) line ON line.choice = p.arena
        WHERE p.offering_id = $1
        ORDER BY p.number, p.arena
        """,
        offering_id,
    )
    return [Place(**row) for row in rows]


async def take_seats(conn: Connection, offering_id: UUID, seats: Mapping[str, int]) -> None:
    """Arena -> how many. Raises asyncpg.CheckViolationError when there are not so many: nothing is oversold."""
    await conn.execute(
        """
        UPDATE places SET taken = taken + new.seats FROM unnest($2::text[], $3::int[]) AS new (arena, seats)
        WHERE offering_id = $1 AND places.arena = new.arena
        """,
        offering_id,
        list(seats),
        list(seats.values()),
    )


async def free_seat(conn: Connection, offering_id: UUID, arena: str) -> None:
    """Give one seat back; a place that holds more than is wanted becomes smaller by it."""
    await conn.execute(
        """
        UPDATE places SET taken = taken - 1, capacity = greatest(wanted_capacity, taken - 1)
        WHERE offering_id = $1 AND arena = $2
        """,
        offering_id,
        arena,
    )


async def free_all_seats(conn: Connection, offering_id: UUID) -> None:
    await conn.execute("UPDATE places SET taken = 0, capacity = wanted_capacity WHERE offering_id = $1", offering_id)


async def know_learner(conn: Connection, issuer: str, subject: str) -> UUID:
    """The id of this login, made at its first visit. The update that changes nothing makes RETURNING give the row."""
    found: UUID = await conn.fetchval(
        """
        INSERT INTO learners (issuer, subject) VALUES ($1, $2)
        ON CONFLICT (issuer, subject) DO UPDATE SET subject = excluded.subject RETURNING id
        """,
        issuer,
        subject,
    )
    return found


async def live_enrolment(conn: Connection, offering_id: UUID, learner_id: UUID) -> UUID | None:
    found: UUID | None = await conn.fetchval(
        "SELECT id FROM enrolments WHERE offering_id = $1 AND learner_id = $2 AND state = ANY ($3::text[])",
        offering_id,
        learner_id,
        LIVE,
    )
    return found


async def add_enrolment(
    conn: Connection,
    offering_id: UUID,
    learner_id: UUID,
    choices: Sequence[str],
    place: str | None,
    name: str,
) -> UUID:
    """A new enrolment and its first change: associated at `place`, queued without one. Returns its id."""
    found: UUID = await conn.fetchval(
        """
        WITH made AS (
            INSERT INTO enrolments (offering_id, learner_id, state, choices, place, name)
            VALUES ($1, $2, CASE WHEN $4::text IS NULL THEN 'queued' ELSE 'associated' END, $3, $4, $5)
            RETURNING id, state, place
        ), noted AS (
            INSERT INTO enrolment_changes (enrolment_id, to_state, place, by_whom, why)
            SELECT id, state, place, 'learner', 'asked' FROM made
        )
        SELECT id FROM made
        """,
        offering_id,
        learner_id,
        choices,
        place,
        name,
    )
    return found


async def first_in_line(conn: Connection, offering_id: UUID, arenas: Sequence[str], most: int) -> list[Waiting]:
    """At most so many who would sit in one of these arenas, first in front."""
    rows = await conn.fetch(
        """
        SELECT id, learner_id, choices FROM enrolments
        WHERE offering_id = $1 AND state = 'queued' AND choices && $2::text[]
        ORDER BY queue_number LIMIT $3
        """,
        offering_id,
        arenas,
        most,
    )
    return [Waiting(row["id"], row["learner_id"], tuple(row["choices"])) for row in rows]


async def seat_from_line(conn: Connection, seated: Sequence[tuple[UUID, str]], why: str) -> None:
    """(enrolment, arena): out of the line into a seat, with the change noted."""
    await conn.execute(
        """
        WITH moved AS (
            UPDATE enrolments SET state = 'associated', place = new.arena
            FROM unnest($1::uuid[], $2::text[]) AS new (id, arena) WHERE enrolments.id = new.id
            RETURNING enrolments.id, enrolments.place
        )
        INSERT INTO enrolment_changes (enrolment_id, from_state, to_state, place, by_whom, why)
        SELECT id, 'queued', 'associated', place, 'line', $3 FROM moved
        """,
        [enrolment_id for enrolment_id, _ in seated],
        [arena for _, arena in seated],
        why,
    )


async def cancel(conn: Connection, enrolment_ids: Sequence[UUID], by_whom: str, why: str) -> None:
    """To cancelled, with the change and the seat given up noted."""
    await conn.execute(
        """
        WITH before AS (
            SELECT id, state, place FROM enrolments WHERE id = ANY ($1::uuid[])
        ), moved AS (
            UPDATE enrolments SET state = 'cancelled', place = NULL WHERE id = ANY ($1::uuid[])
        )
        INSERT INTO enrolment_changes (enrolment_id, from_state, to_state, place, by_whom, why)
        SELECT id, state, 'cancelled', place, $2, $3 FROM before
        """,
        enrolment_ids,
        by_whom,
        why,
    )


async def live_enrolments(conn: Connection, offering_id: UUID) -> list[Enrolment]:
    """Everybody who has a seat or stands in line, in the order of asking; without places in line."""
    rows = await conn.fetch(
        """
        SELECT id, offering_id, learner_id, state, choices, place, name, asked_at, NULL AS place_in_line
        FROM enrolments WHERE offering_id = $1 AND state = ANY ($2::text[]) ORDER BY queue_number
        """,
        offering_id,
        LIVE,
    )
    return [_enrolment(row) for row in rows]


async def enrolment(conn: Connection, enrolment_id: UUID) -> Enrolment | None:
    row = await conn.fetchrow(f"{_ENROLMENT} WHERE e.id = $1", enrolment_id)
    return _enrolment(row) if row else None


async def own_enrolment(conn: Connection, enrolment_id: UUID, issuer: str, subject: str) -> Enrolment | None:
    """The enrolment when it is this login's, else none: others need not learn that it exists."""
    row = await conn.fetchrow(
        f"{_ENROLMENT} JOIN learners l ON l.id = e.learner_id WHERE e.id = $1 AND l.issuer = $2 AND l.subject = $3",
        enrolment_id,
        issuer,
        subject,
    )
    return _enrolment(row) if row else None


async def own_enrolments(
    conn: Connection, issuer: str, subject: str, before: UUID | None, most: int
) -> list[Enrolment]:
    """This login's enrolments, newest first, older than `before`."""
    rows = await conn.fetch(
        f"""
        {_ENROLMENT} JOIN learners l ON l.id = e.learner_id
        WHERE l.issuer = $1 AND l.subject = $2 AND ($3::uuid IS NULL OR e.id < $3)
        ORDER BY e.id DESC LIMIT $4
        """,
        issuer,
        subject,
        before,
        most,
    )
    return [_enrolment(row) for row in rows]
