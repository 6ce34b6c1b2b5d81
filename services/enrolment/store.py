"""Every SQL statement of enrolment: one function, one statement."""

from collections import Counter
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


async def lock_offerings(conn: Connection, offering_ids: Sequence[UUID]) -> dict[UUID, Offering]:
    """Lock several, in the order of their ids; those that are not there are not in the answer."""
    rows = await conn.fetch(
        """
        SELECT id, course_id, partner, version, starts_at, ends_at, cancelled FROM offerings
        WHERE id = ANY($1::uuid[]) ORDER BY id FOR UPDATE
        """,
        offering_ids,
    )
    return {row["id"]: Offering(**row) for row in rows}


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


async def places_of(conn: Connection, offering_ids: Sequence[UUID]) -> dict[UUID, list[Place]]:
    """Each offering's places in the partner's order, without how many stand in line."""
    rows = await conn.fetch(
        """
        SELECT offering_id, arena, capacity, taken, open FROM places
        WHERE offering_id = ANY ($1::uuid[]) ORDER BY number, arena
        """,
        offering_ids,
    )
    found: dict[UUID, list[Place]] = {offering_id: [] for offering_id in offering_ids}
    for row in rows:
        found[row["offering_id"]].append(Place(row["arena"], row["capacity"], row["taken"], row["open"]))
    return found


async def take_seats(conn: Connection, seats: Mapping[tuple[UUID, str], int]) -> None:
    """(offering, arena) -> how many. Raises asyncpg.CheckViolationError when there are not so many."""
    await conn.execute(
        """
        UPDATE places SET taken = taken + new.seats
        FROM unnest($1::uuid[], $2::text[], $3::int[]) AS new (offering_id, arena, seats)
        WHERE places.offering_id = new.offering_id AND places.arena = new.arena
        """,
        [offering_id for offering_id, _ in seats],
        [arena for _, arena in seats],
        list(seats.values()),
    )


async def free_seats(conn: Connection, seats: Mapping[tuple[UUID, str], int]) -> None:
    """(offering, arena) -> how many are given back; a place that holds more than is wanted becomes smaller by it."""
    await conn.execute(
        """
        UPDATE places SET taken = taken - new.seats, capacity = greatest(wanted_capacity, taken - new.seats)
        FROM unnest($1::uuid[], $2::text[], $3::int[]) AS new (offering_id, arena, seats)
        WHERE places.offering_id = new.offering_id AND places.arena = new.arena
        """,
        [offering_id for offering_id, _ in seats],
        [arena for _, arena in seats],
        list(seats.values()),
    )


async def free_all_seats(conn: Connection, offering_id: UUID) -> None:
    await conn.execute("UPDATE places SET taken = 0, capacity = wanted_capacity WHERE offering_id = $1", offering_id)


async def know_learners(conn: Connection, logins: Sequence[tuple[str, str]]) -> dict[tuple[str, str], UUID]:
    """The ids of these logins, (issuer, subject), made at a login's first visit.

    The update that changes nothing makes RETURNING give the row of a login that another transaction has just made;
    one that was known before costs no write. In the order of logins, so that nobody waits in a circle.
    """
    rows = await conn.fetch(
        """
        WITH asked AS (
            SELECT DISTINCT issuer, subject FROM unnest($1::text[], $2::text[]) AS new (issuer, subject)
        ), known AS (
            SELECT issuer, subject, id FROM learners JOIN asked USING (issuer, subject)
        ), made AS (
            INSERT INTO learners (issuer, subject)
            SELECT issuer, subject FROM asked WHERE (issuer, subject) NOT IN (SELECT issuer, subject FROM known)
            ORDER BY issuer, subject
            ON CONFLICT (issuer, subject) DO UPDATE SET subject = excluded.subject RETURNING issuer, subject, id
        )
        SELECT * FROM known UNION ALL SELECT * FROM made
        """,
        [issuer for issuer, _ in logins],
        [subject for _, subject in logins],
    )
    return {(row["issuer"], row["subject"]): row["id"] for row in rows}


async def live_enrolments_of(conn: Connection, pairs: Sequence[tuple[UUID, UUID]]) -> dict[tuple[UUID, UUID], UUID]:
    """(offering, learner) -> the enrolment that lives, for those that have one."""
    rows = await conn.fetch(
        """
        SELECT e.id, e.offering_id, e.learner_id FROM enrolments e
        JOIN unnest($1::uuid[], $2::uuid[]) AS asked (offering_id, learner_id) USING (offering_id, learner_id)
        WHERE e.state = ANY ($3::text[])
        """,
        [offering_id for offering_id, _ in pairs],
        [learner_id for _, learner_id in pairs],
        LIVE,
    )
    return {(row["offering_id"], row["learner_id"]): row["id"] for row in rows}


async def lines(conn: Connection, offering_ids: Sequence[UUID]) -> dict[UUID, Counter[tuple[str, ...]]]:
    """Offering -> how many in line have made which choices. A line has few different ones, however long it is."""
    rows = await conn.fetch(
        """
        SELECT offering_id, choices, count(*) AS queued FROM enrolments
        WHERE offering_id = ANY ($1::uuid[]) AND state = 'queued' GROUP BY offering_id, choices
        """,
        offering_ids,
    )
    found: dict[UUID, Counter[tuple[str, ...]]] = {offering_id: Counter() for offering_id in offering_ids}
    for row in rows:
        found[row["offering_id"]][tuple(row["choices"])] = row["queued"]
    return found


async def add_enrolments(conn: Connection, made: Sequence[Enrolment]) -> None:
    """New enrolments and their first changes, in this order: it becomes the order of the line."""
    await conn.execute(
        """
        WITH made AS (
            INSERT INTO enrolments (id, offering_id, learner_id, state, choices, place, name)
            SELECT id, offering_id, learner_id, state, string_to_array(choices, ' '), place, name
            FROM unnest($1::uuid[], $2::uuid[], $3::uuid[], $4::text[], $5::text[], $6::text[], $7::text[])
                 WITH ORDINALITY AS new (id, offering_id, learner_id, state, choices, place, name, number)
            ORDER BY number
            RETURNING id, state, place
        )
        INSERT INTO enrolment_changes (enrolment_id, to_state, place, by_whom, why)
        SELECT id, state, place, 'learner', 'asked' FROM made
        """,
        [one.id for one in made],
        [one.offering_id for one in made],
        [one.learner_id for one in made],
        [one.state for one in made],
        [" ".join(one.choices) for one in made],  # arenas are slugs, and unnest takes no arrays of arrays
        [one.place for one in made],
        [one.name for one in made],
    )


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


async def enrolments(conn: Connection, enrolment_ids: Sequence[UUID]) -> dict[UUID, Enrolment]:
    """These enrolments as they are now, by id."""
    rows = await conn.fetch(f"{_ENROLMENT} WHERE e.id = ANY ($1::uuid[])", enrolment_ids)
    return {row["id"]: _enrolment(row) for row in rows}


async def own_offerings(conn: Connection, owned: Sequence[tuple[UUID, str, str]]) -> dict[UUID, UUID]:
    """Enrolment -> its offering, for those of (enrolment, issuer, subject) that are that login's own."""
    rows = await conn.fetch(
        """
        SELECT e.id, e.offering_id FROM unnest($1::uuid[], $2::text[], $3::text[]) AS asked (id, issuer, subject)
        JOIN enrolments e USING (id)
        JOIN learners l ON l.id = e.learner_id AND l.issuer = asked.issuer AND l.subject = asked.subject
        """,
        [enrolment_id for enrolment_id, _, _ in owned],
        [issuer for _, issuer, _ in owned],
        [subject for _, _, subject in owned],
    )
    return {row["id"]: row["offering_id"] for row in rows}


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
