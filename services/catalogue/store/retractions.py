"""SQL of what was retracted with people enrolled, and of which enrolments are not over."""

from collections.abc import Sequence
from uuid import UUID

from kit.database import Connection
from services.catalogue.store import Row


async def join(conn: Connection, enrolments: Sequence[UUID], runs: Sequence[UUID]) -> None:
    """These enrolments, each once, are not over, each in its run; what is of no run of ours is passed over."""
    await conn.execute(
        """
        INSERT INTO live_enrolments (enrolment_id, offering_id)
        SELECT enrolment_id, offerings.id FROM unnest($1::uuid[], $2::uuid[]) AS new (enrolment_id, offering_id)
        JOIN offerings ON offerings.id = new.offering_id
        ON CONFLICT (enrolment_id) DO NOTHING
        """,
        enrolments,
        runs,
    )


async def leave(conn: Connection, enrolments: Sequence[UUID]) -> None:
    """These enrolments are over."""
    await conn.execute("DELETE FROM live_enrolments WHERE enrolment_id = ANY($1)", enrolments)


async def people(conn: Connection, course_id: UUID, offering_id: UUID | None) -> int:
    """How many a run that is not cancelled or over has, or all such runs of a course."""
    count: int = await conn.fetchval(
        """
        SELECT count(*) FROM live_enrolments JOIN offerings ON offerings.id = offering_id
        WHERE course_id = $1 AND ($2::uuid IS NULL OR offering_id = $2) AND state = 'scheduled'
          AND (content->>'ends_at')::timestamptz > app_now()
        """,
        course_id,
        offering_id,
    )
    return count


async def ask(conn: Connection, course_id: UUID, offering_id: UUID | None, reason: str, event_id: str) -> None:
    """Keep a retraction of a run, or of a whole course, until it is decided; the newest word of it counts."""
    await conn.execute(
        """
        INSERT INTO retractions (course_id, offering_id, reason, event_id) VALUES ($1, $2, $3, $4)
        ON CONFLICT ON CONSTRAINT retraction_waits_once
        DO UPDATE SET reason = excluded.reason, event_id = excluded.event_id, asked_at = excluded.asked_at
        """,
        course_id,
        offering_id,
        reason,
        event_id,
    )


async def drop(conn: Connection, course_id: UUID, offering_id: UUID | None) -> bool:
    """Forget what waits of a run, or of the course as a whole. False when nothing did."""
    done = await conn.execute(
        "DELETE FROM retractions WHERE course_id = $1 AND offering_id IS NOT DISTINCT FROM $2", course_id, offering_id
    )
    return bool(done == "DELETE 1")


async def drop_runs(conn: Connection, runs: Sequence[UUID]) -> dict[UUID, str]:
    """Forget what waits of these runs; the reason of each that did."""
    rows = await conn.fetch("DELETE FROM retractions WHERE offering_id = ANY($1) RETURNING offering_id, reason", runs)
    return {row["offering_id"]: row["reason"] for row in rows}


async def drop_all(conn: Connection, course_id: UUID) -> None:
    """Forget what waits of a course and of its runs, those that are over included."""
    await conn.execute("DELETE FROM retractions WHERE course_id = $1", course_id)


async def waits(conn: Connection, course_id: UUID, offering_id: UUID | None) -> bool:
    """Whether it waits for a decision. Of a run that is over nothing can be decided: it took place."""
    found: bool = await conn.fetchval(
        """
        SELECT EXISTS (
            SELECT FROM retractions LEFT JOIN offerings ON offerings.id = offering_id
            WHERE retractions.course_id = $1 AND offering_id IS NOT DISTINCT FROM $2
              AND (offering_id IS NULL OR (content->>'ends_at')::timestamptz > app_now())
        )
        """,
        course_id,
        offering_id,
    )
    return found


async def waiting(conn: Connection, partner: str | None, limit: int) -> list[Row]:
    """What `waits`, of one partner or of all, the oldest first. `key` and the run's own are none for a whole course."""
    return await conn.fetch(
        """
        SELECT partner, code, courses.id AS course_id, courses.content->>'title' AS title, key, offering_id, starts_at,
               reason, asked_at,
               (
                   SELECT count(*) FROM live_enrolments JOIN offerings AS run ON run.id = live_enrolments.offering_id
                   WHERE run.course_id = courses.id AND run.state = 'scheduled'
                     AND (run.content->>'ends_at')::timestamptz > app_now()
                     AND (retractions.offering_id IS NULL OR run.id = retractions.offering_id)
               ) AS people
        FROM retractions JOIN courses ON courses.id = retractions.course_id
        LEFT JOIN offerings ON offerings.id = retractions.offering_id
        WHERE ($1::text IS NULL OR partner = $1)
          AND (offering_id IS NULL OR (offerings.content->>'ends_at')::timestamptz > app_now())
        ORDER BY asked_at, code, key LIMIT $2
        """,
        partner,
        limit,
    )
