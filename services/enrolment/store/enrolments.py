"""SQL of learners, enrolments and each step of them."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

import asyncpg

from kit.database import Connection
from services.enrolment.domain import LIVE, Change, Enrolment

COLUMNS = """
SELECT e.id, e.offering_id, e.learner_id, e.state, e.choices, e.place, e.name, e.asked_at, e.queue_number, e.rank,
       e.group_name, e.waiting_for, e.wait_for_earlier, e.on_lapse, e.denied_because, o.id AS offer_id, o.expires_at
"""
FROM = "FROM enrolments e LEFT JOIN offers o ON o.enrolment_id = e.id AND o.ended_at IS NULL"
# How many of `e`'s line stand further up and would take a seat that it would take: whole blocks, and those of its own.
_IN_FRONT = """
coalesce((
    SELECT sum(waiting) FROM line_blocks front
    WHERE front.offering_id = e.offering_id AND (front.rank, front.block) < (e.rank, line_block(e.queue_number))
      AND front.waiting_for && e.choices
), 0) + (
    SELECT count(*) FROM enrolments front
    WHERE front.offering_id = e.offering_id AND front.waiting_for <> '{}' AND front.waiting_for && e.choices
      AND front.rank = e.rank AND front.queue_number >= line_block(e.queue_number)
      AND front.queue_number < e.queue_number
)
"""
_IN_LINE = f", CASE WHEN e.state = 'queued' THEN 1 + {_IN_FRONT} END AS place_in_line"
SHOWN_COLUMNS = f"{COLUMNS} {_IN_LINE}"
_SHOWN = f"{SHOWN_COLUMNS} {FROM}"


def enrolment(row: asyncpg.Record) -> Enrolment:
    """The enrolment in a row that has these columns; there may be others beside them."""
    return Enrolment(
        row["id"],
        row["offering_id"],
        row["learner_id"],
        row["state"],
        tuple(row["choices"]),
        row["place"],
        row["name"],
        row["asked_at"],
        row.get("place_in_line"),
        row["queue_number"],
        row["rank"],
        row["group_name"],
        tuple(row["waiting_for"]),
        row["wait_for_earlier"],
        row["on_lapse"],
        row["denied_because"],
        row["offer_id"],
        row["expires_at"],
    )


@dataclass(frozen=True, slots=True)
class Owner:
    """Whose an enrolment is: the learner's log-in, and the partner of its offering."""

    offering_id: UUID
    learner_id: UUID
    partner: str
    login: tuple[str, str]


async def know_learners(conn: Connection, logins: Sequence[tuple[str, str]]) -> dict[tuple[str, str], UUID]:
    """The ids of these logins, (issuer, subject), made at a login's first visit; nobody else asks for a seat for these
    people until the transaction ends, so that what they have already can be counted.

    The update that changes nothing makes RETURNING give the row of a login that another transaction has just made.
    One that was known before is locked, which its new enrolment would do too. In the order of logins, so that nobody
    waits in a circle; whoever does, having just met another process in making the same login, is tried again.
    """
    rows = await conn.fetch(
        """
        WITH asked AS (
            SELECT DISTINCT issuer, subject FROM unnest($1::text[], $2::text[]) AS new (issuer, subject)
        ), known AS (
            SELECT issuer, subject, id FROM learners JOIN asked USING (issuer, subject)
            ORDER BY issuer, subject FOR NO KEY UPDATE OF learners
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


async def of_learners(
    conn: Connection, learner_ids: Sequence[UUID], or_since: datetime | None = None
) -> list[Enrolment]:
    """All enrolments of these learners that live, in any offering; and, where it is said, those begun since then."""
    # Said by what they are not: else the planner takes the index of who lives where, and looks at each offering.
    rows = await conn.fetch(
        f"""
        {COLUMNS} {FROM}
        WHERE e.learner_id = ANY ($1::uuid[])
          AND (e.state NOT IN ('denied', 'cancelled', 'finished') OR e.asked_at > $2::timestamptz)
        """,
        learner_ids,
        or_since,
    )
    return [enrolment(row) for row in rows]


async def lines(conn: Connection, offering_ids: Sequence[UUID]) -> dict[UUID, Counter[tuple[int, tuple[str, ...]]]]:
    """Offering -> how many of each rank wait for which places. A line has few different ones, however long it is."""
    rows = await conn.fetch(
        """
        SELECT offering_id, rank, waiting_for, sum(waiting) AS waiting FROM line_blocks
        WHERE offering_id = ANY ($1::uuid[]) GROUP BY offering_id, rank, waiting_for
        """,
        offering_ids,
    )
    found: dict[UUID, Counter[tuple[int, tuple[str, ...]]]] = {offering_id: Counter() for offering_id in offering_ids}
    for row in rows:
        found[row["offering_id"]][row["rank"], tuple(row["waiting_for"])] = row["waiting"]
    return found


async def add(conn: Connection, made: Sequence[Enrolment]) -> None:
    """New enrolments and their first changes, in this order: it becomes the order of the line."""
    await conn.execute(
        """
        WITH made AS (
            INSERT INTO enrolments (id, offering_id, learner_id, state, choices, place, name, waiting_for,
                                    wait_for_earlier, group_name, rank, on_lapse, place_told)
            SELECT id, offering_id, learner_id, state, string_to_array(choices, ' '), place, name,
                   string_to_array(waiting_for, ' '), wait_for_earlier, group_name, rank, on_lapse, place_in_line
            FROM unnest($1::uuid[], $2::uuid[], $3::uuid[], $4::text[], $5::text[], $6::text[], $7::text[], $8::text[],
                        $9::boolean[], $10::text[], $11::smallint[], $12::text[], $13::int[]) WITH ORDINALITY
                 AS new (id, offering_id, learner_id, state, choices, place, name, waiting_for, wait_for_earlier,
                         group_name, rank, on_lapse, place_in_line, number)
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
        [" ".join(one.waiting_for) for one in made],
        [one.wait_for_earlier for one in made],
        [one.group for one in made],
        [one.rank for one in made],
        [one.on_lapse for one in made],
        [one.place_in_line for one in made],
    )


async def first_in_line(conn: Connection, offering_id: UUID, arenas: Sequence[str], most: int) -> list[Enrolment]:
    """At most so many who would sit in one of these arenas, first in front: by rank, then the time of asking."""
    rows = await conn.fetch(
        f"""
        {COLUMNS} {FROM}
        WHERE e.offering_id = $1 AND e.waiting_for <> '{{}}' AND e.waiting_for && $2::text[]
        ORDER BY e.rank, e.queue_number LIMIT $3
        """,
        offering_id,
        arenas,
        most,
    )
    return [enrolment(row) for row in rows]


async def in_front(conn: Connection, one: Enrolment) -> int:
    """How many stand further up in line who would take a seat that this one would take."""
    found: int = await conn.fetchval(
        f"""
        WITH e (offering_id, rank, queue_number, choices) AS (VALUES ($1::uuid, $2::smallint, $3::bigint, $4::text[]))
        SELECT {_IN_FRONT} FROM e
        """,  # noqa: S608 - constants alone
        one.offering_id,
        one.rank,
        one.queue_number,
        list(one.choices),
    )
    return found


async def numbers(conn: Connection, count: int) -> list[int]:
    """New numbers at the back of the line."""
    if not count:
        return []
    rows = await conn.fetch(
        "SELECT nextval(pg_get_serial_sequence('enrolments', 'queue_number')) AS number FROM generate_series(1, $1)",
        count,
    )
    return [row["number"] for row in rows]


async def change(conn: Connection, changes: Sequence[Change]) -> None:
    """Take these steps, each of another enrolment, and keep what happened. Where it stands in line `after` says."""
    await conn.execute(
        """
        WITH step AS (
            SELECT * FROM unnest($1::uuid[], $2::text[], $3::text[], $4::text[], $5::text[], $6::text[], $7::bigint[],
                                 $8::text[], $9::text[], $10::text[], $11::int[], $12::smallint[], $13::boolean[],
                                 $14::text[], $15::text[])
                WITH ORDINALITY
                AS step (id, from_state, from_place, state, place, waiting_for, queue_number, denied_because, by_whom,
                         why, place_in_line, rank, put_back, choices, name, number)
        ), taken AS (
            UPDATE enrolments AS e SET
                state = step.state, place = step.place, waiting_for = string_to_array(step.waiting_for, ' '),
                queue_number = step.queue_number, denied_because = step.denied_because, place_told = step.place_in_line,
                rank = step.rank, put_back = e.put_back OR step.put_back,
                choices = string_to_array(step.choices, ' '), name = step.name
            FROM step WHERE e.id = step.id
        )
        INSERT INTO enrolment_changes (enrolment_id, from_state, from_place, to_state, place, by_whom, why)
        SELECT id, from_state, from_place, state, place, by_whom, why FROM step ORDER BY number
        """,
        [one.before.id for one in changes],
        [one.before.state for one in changes],
        [one.before.place for one in changes],
        [one.after.state for one in changes],
        [one.after.place for one in changes],
        [" ".join(one.after.waiting_for) for one in changes],
        [one.after.queue_number for one in changes],
        [one.after.denied_because for one in changes],
        [one.by for one in changes],
        [one.why for one in changes],
        [one.after.place_in_line for one in changes],
        [one.after.rank for one in changes],
        [one.to_back for one in changes],
        [" ".join(one.after.choices) for one in changes],
        [one.after.name for one in changes],
    )


async def rank_again(conn: Connection, offering_id: UUID, groups: Sequence[str], unranked: int) -> None:
    """The offering's groups have changed: everybody's rank is by the new ones, but of those who were put back."""
    await conn.execute(
        """
        UPDATE enrolments SET rank = coalesce(array_position($2::text[], group_name) - 1, $3)
        WHERE offering_id = $1 AND NOT put_back AND rank <> coalesce(array_position($2::text[], group_name) - 1, $3)
        """,
        offering_id,
        groups,
        unranked,
    )


async def live_in(conn: Connection, offering_id: UUID, most: int) -> list[Enrolment]:
    """At most so many who have a seat or stand in line, in the order of asking; without places in line."""
    rows = await conn.fetch(
        f"""
        {COLUMNS} {FROM}
        WHERE e.offering_id = $1 AND e.state = ANY ($2::text[]) ORDER BY e.queue_number LIMIT $3
        """,
        offering_id,
        LIVE,
        most,
    )
    return [enrolment(row) for row in rows]


async def lapsed(conn: Connection, offering_id: UUID, now: datetime, most: int) -> list[Enrolment]:
    """At most so many whose offer nobody has answered in time, those first whose offer ended first."""
    rows = await conn.fetch(
        f"""
        {COLUMNS} FROM offers o JOIN enrolments e ON e.id = o.enrolment_id
        WHERE o.offering_id = $1 AND o.ended_at IS NULL AND o.expires_at <= $2
        ORDER BY o.expires_at, e.queue_number LIMIT $3
        """,
        offering_id,
        now,
        most,
    )
    return [enrolment(row) for row in rows]


async def offered_past(conn: Connection, offering_id: UUID, last: datetime) -> list[Enrolment]:
    """Everybody whose offer ends later than that, first in front."""
    rows = await conn.fetch(
        f"""
        {COLUMNS} FROM offers o JOIN enrolments e ON e.id = o.enrolment_id
        WHERE o.offering_id = $1 AND o.ended_at IS NULL AND o.expires_at > $2
        ORDER BY e.rank, e.queue_number
        """,
        offering_id,
        last,
    )
    return [enrolment(row) for row in rows]


async def seated(conn: Connection, offering_id: UUID) -> int:
    """How many have a seat of their own, over all places."""
    found: int = await conn.fetchval(
        "SELECT count(*) FROM enrolments WHERE offering_id = $1 AND state = 'associated'", offering_id
    )
    return found


async def owners(conn: Connection, enrolment_ids: Sequence[UUID]) -> dict[UUID, Owner]:
    """Whose these are; those that are not there are not in the answer."""
    rows = await conn.fetch(
        """
        SELECT e.id, e.offering_id, e.learner_id, f.partner, l.issuer, l.subject FROM enrolments e
        JOIN learners l ON l.id = e.learner_id JOIN offerings f ON f.id = e.offering_id
        WHERE e.id = ANY ($1::uuid[])
        """,
        enrolment_ids,
    )
    return {
        row["id"]: Owner(row["offering_id"], row["learner_id"], row["partner"], (row["issuer"], row["subject"]))
        for row in rows
    }


async def enrolments(conn: Connection, enrolment_ids: Sequence[UUID]) -> dict[UUID, Enrolment]:
    """These enrolments as they are now, by id."""
    rows = await conn.fetch(f"{_SHOWN} WHERE e.id = ANY ($1::uuid[])", enrolment_ids)
    return {row["id"]: enrolment(row) for row in rows}


async def own_enrolment(conn: Connection, enrolment_id: UUID, issuer: str, subject: str) -> Enrolment | None:
    """The enrolment when it is this login's, else none: others need not learn that it exists."""
    row = await conn.fetchrow(
        f"{_SHOWN} JOIN learners l ON l.id = e.learner_id WHERE e.id = $1 AND l.issuer = $2 AND l.subject = $3",
        enrolment_id,
        issuer,
        subject,
    )
    return enrolment(row) if row else None


async def own_enrolments(
    conn: Connection, issuer: str, subject: str, before: UUID | None, most: int
) -> list[Enrolment]:
    """This login's enrolments, newest first, older than `before`."""
    rows = await conn.fetch(
        f"""
        {_SHOWN} JOIN learners l ON l.id = e.learner_id
        WHERE l.issuer = $1 AND l.subject = $2 AND ($3::uuid IS NULL OR e.id < $3)
        ORDER BY e.id DESC LIMIT $4
        """,
        issuer,
        subject,
        before,
        most,
    )
    return [enrolment(row) for row in rows]


async def rosters(conn: Connection, asked: Sequence[tuple[UUID, UUID | None, int]]) -> Sequence[list[Enrolment]]:
    """For each (run, after, most): who has a seat, waits for approval or stands in line, in the order of asking, after
    the enrolment `after`."""
    rows = await conn.fetch(
        f"""
        SELECT shown.*, asked.number
        FROM unnest($1::uuid[], $2::uuid[], $3::int[]) WITH ORDINALITY AS asked (offering_id, after, most, number),
        LATERAL (
            {COLUMNS} {FROM}
            WHERE e.offering_id = asked.offering_id AND e.state <> 'cancelled'
              AND (asked.after IS NULL OR e.id > asked.after)
            ORDER BY e.id LIMIT asked.most
        ) AS shown ORDER BY asked.number, shown.id
        """,  # noqa: S608 - constants alone
        *map(list, zip(*asked, strict=True)),
    )
    found: list[list[Enrolment]] = [[] for _ in asked]
    for row in rows:
        found[row["number"] - 1].append(enrolment(row))
    return found


async def roster(conn: Connection, offering_id: UUID, after: UUID | None, most: int) -> list[Enrolment]:
    """The same of one run."""
    return (await rosters(conn, [(offering_id, after, most)]))[0]


async def pending(conn: Connection, offering_id: UUID, most: int) -> list[Enrolment]:
    """At most so many who wait for approval, those first who asked first."""
    rows = await conn.fetch(
        f"{COLUMNS} {FROM} WHERE e.offering_id = $1 AND e.state = 'pending' ORDER BY e.queue_number LIMIT $2",
        offering_id,
        most,
    )
    return [enrolment(row) for row in rows]
