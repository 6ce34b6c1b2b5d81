"""SQL of reminders: whom it is time to remind, and which reminders that have not gone are wrong by now.

The moment is so many days before the first meeting, at the same hour by the clock in Oslo, however long the days
between are. An hour that does not exist there is the one after it, one that comes twice the second.
"""

from kit.database import Connection


async def owe(conn: Connection, channel: str, most: int) -> int:
    """Owe at most so many reminders whose moment has come; returns how many.

    Each once for a learner, an offering, a number of days and the day of its moment; and not again within twelve hours
    of the last, when the course was moved by less. For a day at most after its moment, and not once the course has
    begun: after a long stop a late reminder says nothing new. Who got the seat after the moment knows.
    """
    rows = await conn.fetch(
        """
        INSERT INTO notices (event_id, learner_id, offering_id, about, template, channel, place, facts, expires_at)
        SELECT reminder.id, seat.learner_id, run.offering_id, seat.enrolment_id, 'reminder', $1, seat.place,
               jsonb_build_object('days', kind.days), first.at
        FROM offerings AS run
        CROSS JOIN LATERAL (
            SELECT coalesce(min((meeting ->> 'starts_at')::timestamptz), run.starts_at) AS at
            FROM jsonb_array_elements(run.sessions) AS meeting
        ) AS first
        CROSS JOIN unnest(run.reminder_days) AS kind (days)
        CROSS JOIN LATERAL (
            SELECT first.at AT TIME ZONE 'Europe/Oslo' - make_interval(days => kind.days) AS local
        ) AS clock
        CROSS JOIN LATERAL (
            SELECT clock.local AT TIME ZONE 'Europe/Oslo' AS at,
                   'reminder-' || kind.days || '-' || run.offering_id || '-' || clock.local::date AS id
        ) AS reminder
        JOIN enrolments AS seat ON seat.offering_id = run.offering_id
        WHERE NOT run.cancelled AND run.ends_at > app_now()
          AND reminder.at <= app_now() AND app_now() < least(reminder.at + interval '24 hours', first.at)
          AND seat.state = 'associated' AND coalesce(seat.since, '-infinity') <= reminder.at
          AND NOT EXISTS (
              SELECT FROM notices AS owed
              WHERE owed.about = seat.enrolment_id AND owed.template = 'reminder'
                AND (owed.facts ->> 'days')::int = kind.days AND owed.created_at > reminder.at - interval '12 hours'
          )
        ORDER BY first.at, seat.enrolment_id
        LIMIT $2
        ON CONFLICT ON CONSTRAINT notices_once DO NOTHING
        RETURNING id
        """,
        channel,
        most,
    )
    return len(rows)


async def take_back(conn: Connection) -> None:
    """Forget reminders that have not gone and are wrong: the seat is given up, the course cancelled or later, or its
    partner wants none on that day any more.

    One of a course that was moved is owed again at its new moment.
    """
    await conn.execute(
        """
        DELETE FROM notices AS notice USING offerings AS run, enrolments AS seat
        WHERE notice.template = 'reminder' AND notice.state IN ('due', 'held', 'deferred')
          AND run.offering_id = notice.offering_id AND seat.enrolment_id = notice.about
          AND (run.cancelled OR seat.state <> 'associated'
               OR (notice.facts ->> 'days')::int <> ALL (run.reminder_days)
               OR (
                   SELECT coalesce(min((meeting ->> 'starts_at')::timestamptz), run.starts_at)
                   FROM jsonb_array_elements(run.sessions) AS meeting
               ) > app_now() + make_interval(days => (notice.facts ->> 'days')::int, hours => 2))
        """
    )
