"""SQL that deletes notices which have been over for long."""

from kit.database import Connection


async def prune(conn: Connection, kept_days: int, most: int) -> int:
    """Delete at most so many notices that have been over for so long; returns how many.

    Not while their run is to come or goes on: its learner may still look at them, and what a calendar was told is
    needed. The last version of an appointment goes to its enrolment. Ids are in the order of time, so that the oldest
    are found by them. What another has locked is left to it.
    """
    gone: int = await conn.fetchval(
        """
        WITH old AS (
            SELECT id FROM notices AS notice
            WHERE id < (SELECT uuidv7(app_now() - clock_timestamp() - make_interval(days => $1)))
              AND state IN ('sent', 'failed', 'suppressed') AND updated_at < app_now() - make_interval(days => $1)
              AND NOT EXISTS (
                  SELECT FROM offerings AS run
                  WHERE run.offering_id = notice.offering_id AND run.ends_at > app_now() AND NOT run.cancelled
              )
            ORDER BY id LIMIT $2
            FOR UPDATE SKIP LOCKED
        ), gone AS (
            DELETE FROM notices USING old WHERE notices.id = old.id
            RETURNING about, sequence, created_at
        ), kept AS (
            UPDATE enrolments AS seat
            SET sequence = greatest(seat.sequence, last.sequence), sequence_at = greatest(seat.sequence_at, last.at)
            FROM (
                SELECT about, max(sequence) AS sequence, max(created_at) AS at FROM gone
                WHERE sequence IS NOT NULL GROUP BY about
            ) AS last
            WHERE seat.enrolment_id = last.about
        )
        SELECT count(*) FROM gone
        """,
        kept_days,
        most,
    )
    return gone
