"""SQL of what partners sent, what became of it, and how many seats of their runs are taken."""

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from kit.database import Connection
from services.catalogue.store import Row
from services.catalogue.store.partners import KNOWN


async def note_intake(
    conn: Connection, partner: str, way: str, what: str, code: str, key: str | None, event_id: str | None = None
) -> None:
    await conn.execute(
        "INSERT INTO intake (partner, way, what, code, key, event_id) VALUES ($1, $2, $3, $4, $5, $6)",
        partner,
        way,
        what,
        code,
        key,
        event_id,
    )


async def note_file(
    conn: Connection, partner: str, whats: Sequence[str], codes: Sequence[str], keys: Sequence[str | None]
) -> None:
    """Note all that a file had, in its order: an event's name, a code and a run's key each."""
    await conn.execute(
        """
        INSERT INTO intake (partner, way, what, code, key)
        SELECT $1, 'csv', * FROM unnest($2::text[], $3::text[], $4::text[])
        """,
        partner,
        whats,
        codes,
        keys,
    )


async def said_at(conn: Connection, said_at_latest: datetime | None, written_ms: int | None) -> datetime | None:
    """By when a record was said, by when written where nothing nearer is known; none where that is not either."""
    at: datetime | None = await conn.fetchval("SELECT coalesce($1, said_at_latest($2))", said_at_latest, written_ms)
    return at


async def said_since(
    conn: Connection, partner: str, code: str, key: str | None, said_at: datetime, whole: bool
) -> bool:
    """Whether its partner has said anything of a run, or of a course, over HTTP or in a file since then; `whole`: of a
    course or any of its runs. That a course was withdrawn was said of each of its runs."""
    found: bool = await conn.fetchval(
        """
        SELECT EXISTS (
            SELECT FROM intake
            WHERE partner = $1 AND way <> 'kafka' AND code = $2 AND at > $4
              AND ($5 OR key = $3 OR what = 'CourseRetracted' OR $3 IS NULL AND what LIKE 'Course%')
        )
        """,
        partner,
        code,
        key,
        said_at,
        whole,
    )
    return found


async def forget(conn: Connection, days: int, most: int) -> int:
    """Delete what was taken so many days ago, at most so many rows, the oldest first; how many."""
    done: str = await conn.execute(
        """
        DELETE FROM intake WHERE id IN (SELECT id FROM intake ORDER BY id LIMIT $2)
            AND at < app_now() - make_interval(days => $1)
        """,
        days,
        most,
    )
    return int(done.split()[-1])


async def intake(
    conn: Connection,
    partner: str,
    topic: str,
    outcome: str | None,
    before: tuple[datetime, int, int] | None,
    limit: int,
) -> list[Row]:
    """What came from one partner and what became of it, newest first; `before`: (at, source, id) of the row before.

    `source` tells the table, since each numbers its own: 1 is what was taken, 0 what was not.
    """
    at, source, number = before or (None, 0, 0)
    return await conn.fetch(
        """
        SELECT * FROM (
            (SELECT at, 1 AS source, id, 'taken' AS outcome, way, what, code, NULL::bytea AS key, event_id,
                    CASE WHEN EXISTS (
                        SELECT FROM retractions JOIN courses ON courses.id = retractions.course_id
                        LEFT JOIN offerings ON offerings.id = offering_id
                        WHERE courses.partner = intake.partner AND retractions.event_id = intake.event_id
                          AND (offering_id IS NULL OR (offerings.content->>'ends_at')::timestamptz > app_now())
                    ) THEN 'decision_wanted' END AS reason, NULL AS detail
             FROM intake
             WHERE partner = $1 AND coalesce($3, 'taken') = 'taken'
               AND ($4::timestamptz IS NULL OR at <= $4 AND (at, 1, id) < ($4, $5, $6))
             ORDER BY at DESC, id DESC LIMIT $7)
            UNION ALL
            (SELECT parked_at, 0, id, outcome, 'kafka', type, NULL, key, event_id, reason, detail
             FROM (
                 SELECT *, CASE WHEN state IN ('refused', 'discarded') THEN 'refused' ELSE 'parked' END AS outcome
                 FROM parked WHERE topic = $2 AND state <> 'redriven'
             ) AS kept
             WHERE ($3::text IS NULL OR outcome = $3)
               AND ($4::timestamptz IS NULL OR parked_at <= $4 AND (parked_at, 0, id) < ($4, $5, $6))
             ORDER BY parked_at DESC, id DESC LIMIT $7)
        ) AS everything
        ORDER BY at DESC, source DESC, id DESC LIMIT $7
        """,
        partner,
        topic,
        outcome,
        at,
        source,
        number,
        limit,
    )


async def received(conn: Connection, asked: Mapping[str, str]) -> list[Row]:
    """Partners, as `partners.known` gives them, with how much of each was taken, refused and still waits.

    `asked`: {partner: its topic}; for one that there is not, there is no row. `taken` is {way in: {"day", "week"}}, in
    JSON; the other numbers are of its topic: how much of it was refused, and how much of what came since still waits,
    in a day and in a week; `waiting` is all that is kept to run later.

    And what there is no need to ask for: `was_refused` is false when nothing of it ever was, `may_decide` when neither
    a retraction nor a run with too few can wait for its decision.
    """
    return await conn.fetch(
        f"""
        SELECT {KNOWN}, of_topic.*,
               (SELECT count(*) FROM parked WHERE parked.topic = asked.topic AND state = 'held') AS waiting,
               EXISTS (
                   SELECT FROM parked WHERE parked.topic = asked.topic AND state IN ('refused', 'discarded')
               ) AS was_refused,
               EXISTS (SELECT FROM retractions JOIN courses ON courses.id = course_id WHERE courses.partner = slug)
               OR EXISTS (
                   SELECT FROM judgements JOIN offerings ON offerings.id = offering_id
                   JOIN courses ON courses.id = course_id WHERE courses.partner = slug AND decision = 'too_few'
               ) AS may_decide,
               coalesce((SELECT jsonb_object_agg(way, jsonb_build_object('day', day, 'week', week)) FROM (
                   SELECT way, count(*) FILTER (WHERE at > app_now() - interval '24 hours') AS day, count(*) AS week
                   FROM intake WHERE intake.partner = slug AND at > app_now() - interval '7 days' GROUP BY way
               ) AS by_way), '{{}}') AS taken
        FROM unnest($1::text[], $2::text[]) AS asked (partner, topic) JOIN partners ON slug = asked.partner, LATERAL (
            SELECT count(*) FILTER (WHERE refused AND parked_at > app_now() - interval '24 hours') AS refused_day,
                   count(*) FILTER (WHERE refused) AS refused_week,
                   count(*) FILTER (WHERE NOT refused AND parked_at > app_now() - interval '24 hours') AS parked_day,
                   count(*) FILTER (WHERE NOT refused) AS parked_week
            FROM (
                SELECT parked_at, state IN ('refused', 'discarded') AS refused FROM parked
                WHERE parked.topic = asked.topic AND state <> 'redriven' AND parked_at > app_now() - interval '7 days'
            ) AS kept
        ) AS of_topic
        """,  # noqa: S608 - constants alone
        list(asked),
        list(asked.values()),
    )


async def keep_seats(conn: Connection, offering_id: UUID, places: list[dict[str, Any]], as_of: datetime) -> None:
    """What enrolment said of a run's seats; what is older than what is known, or of a strange run, is passed over."""
    await conn.execute(
        """
        INSERT INTO seat_counts AS mine (offering_id, places, as_of)
        SELECT id, $2, $3 FROM offerings WHERE id = $1
        ON CONFLICT (offering_id) DO UPDATE SET places = excluded.places, as_of = excluded.as_of
        WHERE mine.as_of <= excluded.as_of
        """,
        offering_id,
        json.dumps(places),
        as_of,
    )


async def seats(conn: Connection, offering_ids: Sequence[UUID]) -> dict[UUID, Row]:
    """What is known of these runs' seats, by the run."""
    rows = await conn.fetch(
        "SELECT offering_id, places, as_of FROM seat_counts WHERE offering_id = ANY($1)", offering_ids
    )
    return {row["offering_id"]: row for row in rows}


async def runs(conn: Connection, partner: str, limit: int) -> list[Row]:
    """A partner's runs that are not over, the soonest first, with what is known of their seats and people."""
    return await conn.fetch(
        """
        SELECT offerings.id AS offering_id, course_id, code, key, state, offerings.starts_at, places, as_of,
               (SELECT count(*) FROM live_enrolments AS live WHERE live.offering_id = offerings.id) AS people
        FROM offerings JOIN courses ON courses.id = course_id LEFT JOIN seat_counts ON offering_id = offerings.id
        WHERE partner = $1 AND state = 'scheduled' AND (offerings.content->>'ends_at')::timestamptz > app_now()
        ORDER BY offerings.starts_at, offerings.id LIMIT $2
        """,
        partner,
        limit,
    )
