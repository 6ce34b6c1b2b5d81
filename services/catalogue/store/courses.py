"""SQL of courses and their offerings."""

import json
from collections.abc import Sequence
from typing import Any
from uuid import UUID

from kit.database import Connection
from services.catalogue.store import Row


async def subjects(conn: Connection) -> list[str]:
    return [row["slug"] for row in await conn.fetch("SELECT slug FROM subjects ORDER BY slug")]


async def create_course(conn: Connection, partner: str, code: str, content: dict[str, Any]) -> UUID | None:
    """The new course's id; none when the partner has a course by this code, which is locked then by nobody."""
    found: UUID | None = await conn.fetchval(
        """
        INSERT INTO courses (partner, code, content) VALUES ($1, $2, $3)
        ON CONFLICT ON CONSTRAINT course_code_is_the_partners_own DO NOTHING RETURNING id
        """,
        partner,
        code,
        json.dumps(content),
    )
    return found


async def lock_course(conn: Connection, partner: str, code: str) -> Row | None:
    """A course and its row lock: whoever changes a course or one of its offerings holds it until commit."""
    return await conn.fetchrow(
        """
        SELECT id, partner, code, version, content, withdrawn FROM courses
        WHERE partner = $1 AND code = $2 FOR UPDATE
        """,
        partner,
        code,
    )


async def lock_courses_of(conn: Connection, offering_ids: Sequence[UUID]) -> dict[UUID, Row]:
    """As `lock_course` for many: the course of each of these offerings that there is, by the offering's id.

    The rows come in id order, so that two who lock several wait for each other instead of deadlocking.
    """
    rows = await conn.fetch(
        """
        SELECT offerings.id AS offering_id, courses.id, partner, code, courses.version, courses.content, withdrawn
        FROM offerings JOIN courses ON courses.id = course_id
        WHERE offerings.id = ANY($1) ORDER BY courses.id FOR UPDATE OF courses
        """,
        offering_ids,
    )
    return {row["offering_id"]: row for row in rows}


async def change_course(conn: Connection, course_id: UUID, content: dict[str, Any]) -> int:
    """The new version."""
    version: int = await conn.fetchval(
        """
        UPDATE courses SET content = $2, withdrawn = false, version = version + 1, changed_at = app_now()
        WHERE id = $1 RETURNING version
        """,
        course_id,
        json.dumps(content),
    )
    return version


async def withdraw_course(conn: Connection, course_id: UUID) -> int:
    version: int = await conn.fetchval(
        """
        UPDATE courses SET withdrawn = true, version = version + 1, changed_at = app_now()
        WHERE id = $1 RETURNING version
        """,
        course_id,
    )
    return version


async def create_offering(conn: Connection, course_id: UUID, key: str, content: dict[str, Any]) -> UUID:
    offering_id: UUID = await conn.fetchval(
        "INSERT INTO offerings (course_id, key, content) VALUES ($1, $2, $3) RETURNING id",
        course_id,
        key,
        json.dumps(content),
    )
    return offering_id


async def offering_of(conn: Connection, course_id: UUID, key: str) -> Row | None:
    """A run by its partner's key. `came_over`: its dates had passed when it was made; when that was tells its id."""
    return await conn.fetchrow(
        """
        SELECT id, version, content, state, (content->>'ends_at')::timestamptz <= app_now() AS is_over,
               (content->>'ends_at')::timestamptz
                   <= uuid_extract_timestamp(id) + (app_now() - now()) AS came_over,
               (content->>'starts_at')::timestamptz <= app_now() AS has_begun, decision, enrolled, minimum
        FROM offerings LEFT JOIN judgements ON offering_id = id WHERE course_id = $1 AND key = $2
        """,
        course_id,
        key,
    )


async def change_offering(conn: Connection, offering_id: UUID, content: dict[str, Any], state: str) -> int:
    version: int = await conn.fetchval(
        """
        UPDATE offerings SET content = $2, state = $3, version = version + 1, changed_at = app_now()
        WHERE id = $1 RETURNING version
        """,
        offering_id,
        json.dumps(content),
        state,
    )
    return version


async def course(conn: Connection, course_id: UUID) -> Row | None:
    return await conn.fetchrow(
        "SELECT id, partner, code, version, content, withdrawn FROM courses WHERE id = $1", course_id
    )


async def offerings(conn: Connection, course_id: UUID) -> list[Row]:
    """The runs of one course, and how each was judged: `decision` is none while it was not."""
    return await conn.fetch(
        """
        SELECT id, course_id, key, version, content, state, decision, enrolled, minimum, decided_at
        FROM offerings LEFT JOIN judgements ON offering_id = id WHERE course_id = $1 ORDER BY id
        """,
        course_id,
    )


async def how_many(conn: Connection) -> Row:
    """Partners, courses and runs, whatever has become of them."""
    row = await conn.fetchrow(
        """
        SELECT (SELECT count(*) FROM partners) AS partners, (SELECT count(*) FROM courses) AS courses,
               (SELECT count(*) FROM offerings) AS runs
        """
    )
    if row is None:
        raise LookupError("a count gives a row")
    return row


async def lock_next(conn: Connection, after: UUID, most: int) -> list[Row]:
    """As `lock_course`: the next courses after this id, in id order."""
    return await conn.fetch(
        """
        SELECT id, partner, code, version, content, withdrawn FROM courses WHERE id > $1
        ORDER BY id LIMIT $2 FOR UPDATE
        """,
        after,
        most,
    )


async def offerings_of(conn: Connection, course_ids: Sequence[UUID]) -> list[Row]:
    """The runs of these courses, as `offerings` gives those of one."""
    return await conn.fetch(
        """
        SELECT id, course_id, key, version, content, state, decision, decided_at
        FROM offerings LEFT JOIN judgements ON offering_id = id WHERE course_id = ANY ($1) ORDER BY course_id, id
        """,
        course_ids,
    )


async def not_over(conn: Connection, course_id: UUID) -> list[Row]:
    """The runs of one course that have not ended, as far as cancelling them needs it."""
    return await conn.fetch(
        """
        SELECT id, content, state FROM offerings
        WHERE course_id = $1 AND (content->>'ends_at')::timestamptz > app_now() ORDER BY id
        """,
        course_id,
    )


async def offering(conn: Connection, offering_id: UUID) -> Row | None:
    """As `offerings`, with whose course it is, whether it has begun, and whether it was made after its day of decision:
    when it was made tells its id."""
    return await conn.fetchrow(
        """
        SELECT offerings.id, course_id, key, offerings.version, offerings.content, state, partner, code,
               decision, enrolled, minimum, decided_at, starts_at <= app_now() AS has_begun,
               coalesce((offerings.content->>'decide_at')::timestamptz
                        <= uuid_extract_timestamp(offerings.id) + (app_now() - now()), false) AS came_late
        FROM offerings JOIN courses ON courses.id = course_id LEFT JOIN judgements ON offering_id = offerings.id
        WHERE offerings.id = $1
        """,
        offering_id,
    )


async def instead(conn: Connection, course_id: UUID, subjects: Sequence[str], most: int) -> list[Row]:
    """Runs that have not begun, with their course's title: of this course, then of one with a subject in common, each
    the soonest first.

    Either half is sought in the order of time and ends with its last that is named: there are tens of thousands, and
    whoever cancels many runs asks for each.
    """
    return await conn.fetch(
        """
        SELECT id, course_id, title, starts_at, arenas FROM (
            (SELECT offerings.id, course_id, courses.content->>'title' AS title, starts_at, arenas, 1 AS half
             FROM offerings JOIN courses ON courses.id = course_id
             WHERE course_id = $1 AND state = 'scheduled' AND NOT withdrawn AND starts_at > app_now()
             ORDER BY starts_at, offerings.id LIMIT $3)
            UNION ALL
            (SELECT offerings.id, course_id, courses.content->>'title', starts_at, arenas, 2
             FROM offerings JOIN courses ON courses.id = course_id
             WHERE course_id <> $1 AND subjects && $2
               AND state = 'scheduled' AND NOT withdrawn AND starts_at > app_now()
             ORDER BY starts_at, offerings.id LIMIT $3)
        ) AS both_halves ORDER BY half, starts_at, id LIMIT $3
        """,
        course_id,
        subjects,
        most,
    )


async def judge(conn: Connection, offering_id: UUID, decision: str, enrolled: int, minimum: int) -> None:
    """Keep this judgement in place of the one before."""
    await conn.execute(
        """
        INSERT INTO judgements (offering_id, decision, enrolled, minimum) VALUES ($1, $2, $3, $4)
        ON CONFLICT (offering_id) DO UPDATE SET decision = excluded.decision, enrolled = excluded.enrolled,
            minimum = excluded.minimum, decided_at = excluded.decided_at
        """,
        offering_id,
        decision,
        enrolled,
        minimum,
    )


async def forget_judgement(conn: Connection, offering_id: UUID) -> None:
    await conn.execute("DELETE FROM judgements WHERE offering_id = $1", offering_id)
