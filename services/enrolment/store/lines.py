"""SQL of whole lines: who stands where, and which place each was last told."""

from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

from kit.database import Connection
from services.enrolment.domain import Standing, Waiting


async def standing(conn: Connection, offering_id: UUID) -> list[Standing]:
    """Everybody who waits for a seat here, first in front; those too who have one, and wait for a better."""
    rows = await conn.fetch(
        """
        SELECT id, learner_id, waiting_for, state = 'queued' AS queued, place_told, place_told_at FROM enrolments
        WHERE offering_id = $1 AND waiting_for <> '{}' ORDER BY rank, queue_number
        """,
        offering_id,
    )
    return [Standing(*row) for row in rows]


async def told(conn: Connection, places: Sequence[tuple[UUID, int]]) -> None:
    """(enrolment, place in line): so much its learner knows from now on."""
    await conn.execute(
        """
        UPDATE enrolments SET
            place_told = known.place, place_told_at = CASE WHEN place_told IS NULL THEN place_told_at ELSE app_now() END
        FROM unnest($1::uuid[], $2::int[]) AS known (id, place) WHERE enrolments.id = known.id
        """,
        [enrolment_id for enrolment_id, _ in places],
        [place for _, place in places],
    )


async def in_vain(conn: Connection, offering_id: UUID, closed_at: datetime, most: int) -> list[Waiting]:
    """At most so many who wait still and were not told since then that no seat came, in the order of asking; noted."""
    rows = await conn.fetch(
        """
        WITH waiting AS (
            SELECT id FROM enrolments
            WHERE offering_id = $1 AND state IN ('pending', 'queued', 'offered')
              AND (no_seat_told_at IS NULL OR no_seat_told_at < $2)
            ORDER BY queue_number LIMIT $3
        ), told AS (
            UPDATE enrolments SET no_seat_told_at = app_now() FROM waiting WHERE enrolments.id = waiting.id
            RETURNING enrolments.id, learner_id, state = 'pending' AS pending, queue_number
        )
        SELECT id, learner_id, pending FROM told ORDER BY queue_number
        """,
        offering_id,
        closed_at,
        most,
    )
    return [Waiting(*row) for row in rows]


async def told_in_vain(conn: Connection, told: Sequence[tuple[UUID, datetime]]) -> None:
    """(enrolment, when): so its learner was told that no seat came."""
    await conn.execute(
        """
        UPDATE enrolments SET no_seat_told_at = said.at
        FROM unnest($1::uuid[], $2::timestamptz[]) AS said (id, at) WHERE enrolments.id = said.id
        """,
        [enrolment_id for enrolment_id, _ in told],
        [at for _, at in told],
    )


async def tell_at(conn: Connection, offering_id: UUID, at: datetime | None) -> None:
    """When this line is to be told; none: it has been."""
    await conn.execute("UPDATE offerings SET tell_line_at = $2 WHERE id = $1", offering_id, at)
