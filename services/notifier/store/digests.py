"""SQL of notices that are held for a digest, and of the one notice that they become."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from kit.database import Connection
from services.notifier.kinds import CATEGORY_OF


@dataclass(frozen=True)
class Held:
    """A notice whose digest is to be made now, with its person's present choice and its course.

    `sequence` is the version of the appointment that its change has made, none where none goes with it;
    `sessions_before` as of `outgoing.Claimed`.
    """

    id: UUID
    learner_id: UUID
    about: UUID
    offering_id: UUID
    template: str
    channel: str
    place: str | None
    place_in_line: int | None
    facts: dict[str, Any]
    cadence: str
    concerned: bool
    title: dict[str, str]
    starts_at: datetime
    ends_at: datetime
    sessions: list[dict[str, Any]]
    sequence: int | None
    sessions_before: list[dict[str, Any]]


async def held(conn: Connection, most: int) -> list[Held]:
    """So many notices that are held for now, and all others of the same people, locked; people whose rows another has
    locked are left to it.

    A person's digest is made from all that is held for it: that is why people are taken, and not notices. Theirs are
    looked for by a CASE, for the reason of `outgoing.mark_sent`.
    """
    rows = await conn.fetch(
        """
        WITH first AS (
            SELECT learner_id FROM notices
            WHERE state = 'held' AND reason = 'digest' AND due_at <= app_now() ORDER BY due_at LIMIT $1
        ), people AS (
            SELECT learner_id, coalesce(login, learner_id::text) AS person FROM contacts
            WHERE learner_id IN (SELECT learner_id FROM first)
            FOR UPDATE SKIP LOCKED
        )
        SELECT notice.id, notice.learner_id, notice.about, notice.offering_id, notice.template, notice.channel,
               coalesce(seat.place, notice.place) AS place, notice.place_in_line, notice.facts,
               coalesce(choice.cadence, 'at_once') AS cadence,
               (seat.enrolment_id IS NULL
                    OR seat.state IN ('pending', 'associated', 'offered', 'queued', 'finished', 'over'))
                   AND (coalesce(seat.state NOT IN ('finished', 'over'), true)
                        OR greatest(offering.ends_at, (notice.facts #>> '{was,ends_at}')::timestamptz) > app_now())
                   AND NOT offering.cancelled
                   AND (notice.template <> 'advanced' OR seat.state = 'queued' AND NOT EXISTS (
                       SELECT FROM notices AS later WHERE later.about = notice.about AND later.id > notice.id
                         AND later.template IN ('queued', 'offered', 'lapsed', 'declined', 'no_seat')
                   ))  -- as in `outgoing.claim`
                   AND coalesce(notice.expires_at > app_now(), true) AS concerned,  -- a course that has begun
               course.title, offering.starts_at, offering.ends_at, coalesce(offering.sessions, '[]') AS sessions,
               CASE WHEN notice.template = 'changed' AND seat.state IN ('associated', 'finished') THEN
                   greatest(0, seat.sequence, (
                       SELECT max(sequence) FROM notices AS said WHERE said.about = notice.about
                   ))
               END AS sequence,  -- a mail's own number, which no other has, would be the one of its row
               coalesce((
                   SELECT before.sessions FROM notices AS said CROSS JOIN LATERAL (
                       SELECT coalesce(said.facts -> 'entered', said.facts #> '{was,sessions}') AS sessions
                   ) AS before WHERE said.about = notice.about AND said.template = 'changed'
                   ORDER BY jsonb_array_length(before.sessions) DESC NULLS LAST LIMIT 1  -- as in `outgoing.claim`
               ), '[]') AS sessions_before
        FROM people JOIN notices AS notice USING (learner_id)
        JOIN offerings AS offering USING (offering_id)
        JOIN courses AS course USING (course_id)
        LEFT JOIN enrolments AS seat ON seat.enrolment_id = notice.about
        LEFT JOIN preferences AS choice ON choice.person = people.person
            AND choice.category = $2::jsonb ->> notice.template AND choice.channel = notice.channel
        WHERE CASE notice.state WHEN 'held' THEN notice.reason END = 'digest' AND notice.due_at <= app_now()
        ORDER BY notice.learner_id, notice.id
        FOR UPDATE OF notice
        """,
        most,
        json.dumps(CATEGORY_OF),
    )
    spelled = ("title", "facts", "sessions", "sessions_before")
    return [Held(**{**dict(row), **{name: json.loads(row[name]) for name in spelled}}) for row in rows]


async def owe(conn: Connection, told: Sequence[Held], template: str, facts: Mapping[str, Any]) -> None:
    """Owe one notice for all of these, which are one person's. Its event is the first of them: it is owed once."""
    first = told[0]
    await conn.execute(
        """
        INSERT INTO notices (event_id, learner_id, offering_id, about, template, channel, correlation_id, facts)
        SELECT $1::uuid::text, learner_id, offering_id, learner_id, $2, channel, correlation_id, $3
        FROM notices WHERE id = $1
        ON CONFLICT ON CONSTRAINT notices_once DO NOTHING
        """,
        first.id,
        template,
        json.dumps(facts),
    )


async def done_with(conn: Connection, reasons: Mapping[UUID, str]) -> None:
    """Note of each of these why it is not sent by itself."""
    await conn.execute(
        """
        UPDATE notices SET state = 'suppressed', reason = done.reason, updated_at = app_now()
        FROM unnest($1::uuid[], $2::text[]) AS done (id, reason)
        WHERE notices.id = done.id AND state = 'held'
        """,
        list(reasons),
        list(reasons.values()),
    )


async def turned_off(conn: Connection, people: Sequence[str]) -> set[tuple[str, str, str]]:
    """(person, category, channel) of what these people are not told."""
    rows = await conn.fetch(
        "SELECT person, category, channel FROM preferences WHERE person = ANY($1) AND cadence = 'off'", people
    )
    return {(row["person"], row["category"], row["channel"]) for row in rows}


@dataclass(frozen=True)
class Seat:
    """An enrolment and its run as they are now. `placed_by`: the last notice of where it stands in line."""

    state: str
    place: str | None
    sequence: int | None
    concerned: bool
    placed_by: UUID | None
    title: dict[str, str]
    starts_at: datetime
    ends_at: datetime
    begins_at: datetime
    sessions: list[dict[str, Any]]
    arenas: list[str]


async def seats(conn: Connection, abouts: Sequence[str]) -> dict[str, Seat]:
    """Enrolment id -> what is so of it now."""
    rows = await conn.fetch(
        """
        SELECT seat.enrolment_id::text AS about, seat.state, seat.place, seat.sequence,
               seat.state IN ('pending', 'associated', 'offered', 'queued', 'finished', 'over')
                   AND NOT offering.cancelled AS concerned,
               (SELECT later.id FROM notices AS later
                WHERE later.about = seat.enrolment_id
                  AND later.template IN ('queued', 'offered', 'lapsed', 'declined', 'no_seat')
                ORDER BY later.id DESC LIMIT 1) AS placed_by,
               course.title, offering.starts_at, offering.ends_at,
               (SELECT coalesce(min((meeting ->> 'starts_at')::timestamptz), offering.starts_at)
                FROM jsonb_array_elements(offering.sessions) AS meeting) AS begins_at,
               coalesce(offering.sessions, '[]') AS sessions, coalesce(offering.arenas, '{}') AS arenas
        FROM enrolments AS seat JOIN offerings AS offering USING (offering_id) JOIN courses AS course USING (course_id)
        WHERE seat.enrolment_id = ANY($1::uuid[])
        """,
        abouts,
    )
    read = [{**dict(row), **{name: json.loads(row[name]) for name in ("title", "sessions")}} for row in rows]
    return {row.pop("about"): Seat(**row) for row in read}
