"""SQL of the notices that are owed, and of what became of each."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, time
from functools import lru_cache
from typing import Any
from uuid import UUID

from contracts.fields import Session
from kit.database import Connection
from services.notifier.channels.channel import UNANSWERED
from services.notifier.kinds import CATEGORY_OF, SMS, TEXTED, with_method
from services.notifier.store import columns
from services.notifier.store.known import Confirmation

ABANDONED_S = 60  # a notice in `sending` for so long has lost its sender: a mail takes 40 s at the very most
PATIENCE_S = 600  # how long "cancelled" waits for the catalogue's word, with the alternatives; then it goes without


@dataclass(frozen=True)
class NewNotice:
    """A notice as an event asks for it. `facts` are for this template alone; the last two for an offer."""

    event_id: str
    learner_id: UUID
    offering_id: UUID
    about: UUID
    template: str
    channel: str
    place: str | None
    place_in_line: int | None
    correlation_id: str
    traceparent: str | None
    facts: dict[str, Any] = field(default_factory=dict)
    expires_at: datetime | None = None
    sealed: str | None = field(default=None, repr=False)


@dataclass(frozen=True)
class Claimed:
    """A notice in this sender's hands, with all that its letter needs. `attempt` counts from 1.

    `may_have_gone`: nobody knows whether the attempt before this one reached the learner. `late`: its offer is
    answered, over or replaced, or what it reminds of has begun or is nothing for its learner now. `alternatives` are
    those of a cancelled offering. `sequence` is the version of the appointment that goes with it, none where none does;
    `sessions_before` are the most that the run had before a change. `person` and what follows is what `decisions`
    decides by: whose choices they are, the database's time, the choice for this category and channel, quiet hours where
    the person has said something of them, and whether the enrolment is still a live one; `bounced`, that its address is
    refused for good, is the sender's to find out. `phone` and `provider_contact` are none when none was given.
    """

    id: UUID
    event_id: str
    learner_id: UUID
    about: UUID
    template: str
    channel: str
    place: str | None
    place_in_line: int | None
    facts: dict[str, Any]
    expires_at: datetime | None
    late: bool
    sealed: str | None = field(repr=False)
    attempt: int
    message_id: str
    correlation_id: str | None
    traceparent: str | None
    created_at: datetime
    sending_since: datetime
    may_have_gone: bool
    email: str
    name: str | None
    language: str
    title: dict[str, str]
    starts_at: datetime
    ends_at: datetime
    alternatives: list[dict[str, Any]]
    sessions: list[dict[str, Any]]
    sequence: int | None
    person: str = ""
    now: datetime | None = None
    cadence: str = "at_once"
    says_when_quiet: bool = False
    quiet_from: time | None = None
    quiet_until: time | None = None
    concerned: bool = True
    bounced: bool = False
    cancelled_because: str = ""
    phone: str | None = field(default=None, repr=False)
    sessions_before: list[dict[str, Any]] = field(default_factory=list)
    provider: str | None = None
    provider_contact: str | None = None

    @property
    def address(self) -> str:
        """Where it goes: to the phone or by mail."""
        return (self.phone or "") if self.channel == SMS else self.email

    def meetings(self) -> list[Session]:
        """When people meet: each session, or the offering as a whole when it has none."""
        sessions = [Session.model_validate(one) for one in self.sessions]
        return sessions or [_whole(self.starts_at, self.ends_at)]

    def starts(self) -> list[datetime]:
        """When each of these begins."""
        return [datetime.fromisoformat(one["starts_at"]) for one in self.sessions] or [self.starts_at]

    def dropped(self) -> list[Session]:
        """Meetings that a calendar may still have: those by numbers that there are no more."""
        return [Session.model_validate(one) for one in self.sessions_before[len(self.meetings()) :]]


@lru_cache(maxsize=256)
def _whole(starts_at: datetime, ends_at: datetime) -> Session:
    return Session(starts_at=starts_at, ends_at=ends_at)


async def owe_confirmations(conn: Connection, confirmed: Sequence[Confirmation], channel: str) -> None:
    """Owe "the course will take place" to all who had a seat, an offer or a place in line when it was confirmed."""
    await conn.execute(
        """
        INSERT INTO notices (event_id, learner_id, offering_id, about, template, channel, place, correlation_id,
                             traceparent)
        SELECT new.event_id, seat.learner_id, seat.offering_id, seat.enrolment_id, 'confirmed', $5,
               CASE seat.state WHEN 'associated' THEN seat.place END, new.correlation_id, new.traceparent
        FROM unnest($1::uuid[], $2::text[], $3::text[], $4::text[])
            AS new (offering_id, event_id, correlation_id, traceparent)
        JOIN offerings AS offering ON offering.offering_id = new.offering_id AND confirmed_by = new.event_id
        JOIN enrolments AS seat ON seat.offering_id = new.offering_id
        WHERE seat.state IN ('associated', 'offered', 'queued') AND seat.since <= offering.confirmed_at
        ORDER BY seat.since, seat.enrolment_id
        ON CONFLICT ON CONSTRAINT notices_once DO NOTHING
        """,
        *columns(confirmed, "offering_id event_id correlation_id traceparent"),
        channel,
    )


async def add_notices(conn: Connection, notices: Sequence[NewNotice]) -> None:
    """Owe these notices, in this order. One that is owed or sent already is left as it is."""
    await conn.execute(
        """
        INSERT INTO notices (event_id, learner_id, offering_id, about, template, channel, place, place_in_line,
                             correlation_id, traceparent, facts, expires_at, sealed)
        SELECT * FROM unnest($1::text[], $2::uuid[], $3::uuid[], $4::uuid[], $5::text[], $6::text[], $7::text[],
                             $8::int[], $9::text[], $10::text[], $11::jsonb[], $12::timestamptz[], $13::text[])
        ON CONFLICT ON CONSTRAINT notices_once DO NOTHING
        """,
        *columns(
            notices,
            "event_id learner_id offering_id about template channel place place_in_line correlation_id traceparent",
        ),
        [json.dumps(one.facts) for one in notices],
        *columns(notices, "expires_at sealed"),
    )


async def take_back(conn: Connection, sender: str, in_hand: Sequence[UUID] = ()) -> int:
    """Let go of what this sender, by its lasting name, has in `sending` but not in hand; returns how many they were.

    An earlier run had them, or it took them itself and never knew. They stay in `sending`, so that an earlier run that
    still lives can note what it has sent.
    """
    rows = await conn.fetch(
        """
        UPDATE notices SET sending_since = '-infinity'
        WHERE state = 'sending' AND sender = $1 AND id <> ALL($2::uuid[])
        RETURNING id
        """,
        sender,
        in_hand,
    )
    return len(rows)


async def claim(conn: Connection, most: int, domain: str, sender: str) -> list[Claimed]:
    """Take at most so many notices in hand: due, of a known learner and course, and none older about the same thing.

    What is held for its hour holds up nothing that is newer, nor does what goes another way; what is held for a digest
    goes in that. One that was left in `sending` for 60 s by this database's clock is taken too, by its old Message-ID.
    What is older is looked for among all notices of its enrolment: said as `notices_open` says it, PostgreSQL may read
    that from end to end for each notice, as it counts it as empty when nothing was open the last time it counted.
    A notice with an appointment gets the next number of its enrolment, and keeps it; one that takes an appointment back
    gets none when none was sent. Of one that was put off, the time in which nobody took it counts as none.
    `domain` is the right side of a new Message-ID; `sender` the lasting name of who takes them, empty if it has none.
    """
    rows = await conn.fetch(
        """
        WITH mine AS (
            SELECT notice.id, notice.state = 'sending' OR notice.reason IS NOT DISTINCT FROM $5 AS may_have_gone,
                   notice.template = 'reminder' AND (
                       offering.cancelled OR seat.state IS DISTINCT FROM 'associated' OR (
                           SELECT coalesce(min((meeting ->> 'starts_at')::timestamptz), offering.starts_at)
                           FROM jsonb_array_elements(offering.sessions) AS meeting
                       ) <= app_now()
                   ) OR notice.template = 'offered' AND (coalesce(seat.state <> 'offered', false) OR EXISTS (
                       SELECT FROM notices AS later WHERE later.about = notice.about AND later.id > notice.id
                         AND later.channel = notice.channel AND later.template = 'offered')) AS unwanted,
                   contact.email, contact.phone, contact.name, contact.language, course.title, offering.starts_at,
                   offering.ends_at, offering.alternatives, offering.cancelled_because, provider.name AS provider,
                   provider.contact AS provider_contact, coalesce(offering.sessions, '[]') AS sessions,
                   CASE WHEN notice.channel = 'sms' THEN NULL
                        WHEN notice.template = ANY($7)
                             AND (notice.template <> 'changed' OR seat.state IN ('associated', 'finished'))
                             THEN greatest(0, appointment.last + 1,  -- and see `calendars.raised`
                                           seat.sequence + (notice.template <> 'changed')::int)
                        WHEN notice.template = ANY($8) THEN greatest(appointment.last, seat.sequence) + 1
                   END AS sequence,
                   CASE WHEN appointment.last IS NOT NULL AND notice.channel <> 'sms' THEN (
                       SELECT before.sessions FROM notices AS said CROSS JOIN LATERAL (
                           SELECT coalesce(said.facts -> 'entered', said.facts #> '{was,sessions}') AS sessions
                       ) AS before WHERE said.about = notice.about
                       ORDER BY jsonb_array_length(before.sessions) DESC NULLS LAST LIMIT 1) END AS sessions_before,
                   CASE WHEN notice.template IN ('changed', 'confirmed', 'reminder') AND seat.state = 'associated'
                        THEN seat.place END AS place_now,
                   coalesce(contact.login, contact.learner_id::text) AS person,
                   coalesce(choice.cadence, CASE notice.channel WHEN 'sms' THEN 'off' ELSE 'at_once' END) AS cadence,
                   quiet.person IS NOT NULL AS says_when_quiet, quiet.quiet_from, quiet.quiet_until,
                   (seat.enrolment_id IS NULL OR (
                       CASE notice.channel WHEN 'sms' THEN coalesce($10::jsonb -> notice.template ? seat.state, true)
                           ELSE seat.state IN ('pending', 'associated', 'offered', 'queued', 'finished', 'over')
                       END AND (NOT offering.cancelled OR notice.template = 'offering_cancelled')
                       AND (seat.state NOT IN ('finished', 'over')  -- or the last meetings are not dropped, but over
                            OR greatest(offering.ends_at, (notice.facts #>> '{was,ends_at}')::timestamptz) > app_now())
                   )) AND (notice.template <> 'advanced' OR seat.state = 'queued' AND NOT EXISTS (
                       SELECT FROM notices AS later  -- since which they stand elsewhere in line
                       WHERE later.about = notice.about AND later.id > notice.id
                         AND later.template IN ('queued', 'offered', 'lapsed', 'declined', 'no_seat')
                   )) AND NOT (
                       notice.channel = 'sms' AND notice.template = 'changed' AND notice.attempts > 0 AND EXISTS (
                           SELECT FROM notices AS later WHERE later.about = notice.about AND later.id > notice.id
                             AND later.channel = 'sms' AND later.template = 'changed'
                   )) AS concerned
            FROM notices AS notice
            JOIN contacts AS contact USING (learner_id)
            JOIN offerings AS offering USING (offering_id)
            JOIN courses AS course USING (course_id)
            LEFT JOIN providers AS provider USING (partner)  -- may be heard of later
            LEFT JOIN enrolments AS seat ON seat.enrolment_id = notice.about
            LEFT JOIN preferences AS choice ON choice.person = coalesce(contact.login, contact.learner_id::text)
                AND choice.category = $9::jsonb ->> notice.template AND choice.channel = notice.channel
            LEFT JOIN quiet_hours AS quiet ON quiet.person = coalesce(contact.login, contact.learner_id::text)
            CROSS JOIN LATERAL (
                SELECT max(sequence) AS last FROM notices AS said
                WHERE said.about = notice.about AND said.sequence IS NOT NULL
            ) AS appointment
            WHERE notice.state IN ('due', 'deferred', 'held', 'sending') AND notice.due_at <= app_now()
              AND (notice.state <> 'held' OR notice.reason <> 'digest')
              AND (notice.state <> 'sending' OR notice.sending_since < app_now() - make_interval(secs => $3))
              AND (notice.template <> 'offering_cancelled' OR offering.cancelled
                   OR notice.created_at < app_now() - make_interval(secs => $6))
              AND NOT EXISTS (
                  SELECT FROM notices AS older
                  WHERE older.about = notice.about AND older.channel = notice.channel AND older.id < notice.id
                    AND older.state NOT IN ('sent', 'failed', 'suppressed')  -- not as notices_open says it
                    AND (older.state <> 'held' OR (older.due_at <= app_now() AND older.reason <> 'digest'))
              )
            ORDER BY notice.due_at, notice.id
            LIMIT $1
            FOR UPDATE OF notice SKIP LOCKED
        )
        UPDATE notices AS notice SET
            state = 'sending', sending_since = app_now(), updated_at = app_now(), attempts = notice.attempts + 1,
            tried_since = CASE WHEN notice.attempts = 0 THEN app_now()
                               ELSE least(app_now(), notice.tried_since + (app_now() - notice.due_at)) END,
            sender = nullif($4, ''), resends = notice.resends + mine.may_have_gone::int,
            message_id = coalesce(notice.message_id, '<' || notice.id || '@' || $2 || '>'),
            sequence = coalesce(notice.sequence, mine.sequence)
        FROM mine WHERE notice.id = mine.id
        RETURNING notice.id, notice.event_id, notice.learner_id, notice.about, notice.template, notice.channel,
                  coalesce(mine.place_now, notice.place) AS place, notice.place_in_line, notice.facts,
                  notice.expires_at, notice.sealed,
                  mine.unwanted OR coalesce(notice.expires_at <= app_now(), false) AS late, notice.attempts AS attempt,
                  notice.message_id, notice.correlation_id, notice.traceparent, notice.created_at, notice.sending_since,
                  mine.may_have_gone, mine.email, mine.phone, mine.name, mine.language, mine.title, mine.starts_at,
                  mine.ends_at, mine.alternatives, mine.cancelled_because, mine.sessions, mine.provider,
                  mine.provider_contact, notice.sequence, coalesce(mine.sessions_before, '[]') AS sessions_before,
                  mine.person, app_now() AS now, mine.cadence, mine.says_when_quiet, mine.quiet_from, mine.quiet_until,
                  mine.concerned
        """,
        most,
        domain,
        float(ABANDONED_S),
        sender,
        UNANSWERED,
        float(PATIENCE_S),
        with_method("REQUEST"),
        with_method("CANCEL"),
        json.dumps(CATEGORY_OF),
        json.dumps({template: states for template, states in TEXTED.items() if states}),
    )
    return [_claimed(row) for row in rows]


def _claimed(row: Any) -> Claimed:
    spelled = ("title", "facts", "alternatives", "sessions", "sessions_before")
    return Claimed(**{**row, **{name: _read(row[name]) for name in spelled}})


@lru_cache(maxsize=256)  # a rush is for few courses; whoever reads of them changes nothing in it
def _read(text: str) -> Any:
    return json.loads(text)


async def mark_sent(conn: Connection, notices: Sequence[Claimed]) -> set[UUID]:
    """Note that these notices were taken. Those that are no longer in this sender's hands are not in the answer.

    By a CASE, since a plain `state = 'sending'` would let PostgreSQL look in `notices_open`, and read all that is owed
    for each few that are noted.
    """
    rows = await conn.fetch(
        """
        UPDATE notices SET state = 'sent', sent_at = app_now(), updated_at = app_now(), reason = NULL, sealed = NULL
        FROM unnest($1::uuid[], $2::int[]) AS taken (id, attempt)
        WHERE notices.id = taken.id AND CASE state WHEN 'sending' THEN attempts END = taken.attempt
        RETURNING notices.id
        """,
        *columns(notices, "id attempt"),
    )
    return {row["id"] for row in rows}


async def put_back(conn: Connection, notices: Sequence[Claimed], pauses_s: Sequence[float]) -> None:
    """Let go of notices whose turn did not come, each for so many seconds.

    Nothing was tried, so each is as it was before it was claimed; of one that may have gone before, that stays known.
    With a pause of 0 it keeps its place in front. The CASE is that of `mark_sent`.
    """
    await conn.execute(
        """
        UPDATE notices SET state = 'due', attempts = notices.attempts - 1, resends = resends - mine.resent::int,
            due_at = CASE WHEN mine.pause_s > 0 THEN app_now() + make_interval(secs => mine.pause_s) ELSE due_at END,
            reason = CASE WHEN mine.resent THEN $5 ELSE reason END, updated_at = app_now()
        FROM unnest($1::uuid[], $2::int[], $3::boolean[], $4::float8[]) AS mine (id, attempt, resent, pause_s)
        WHERE notices.id = mine.id AND CASE state WHEN 'sending' THEN attempts END = mine.attempt
        """,
        *columns(notices, "id attempt may_have_gone"),
        pauses_s,
        UNANSWERED,
    )


async def mark_failed(conn: Connection, notice: Claimed, reason: str) -> bool:
    """Note that the notice will not be sent. False when it is no longer in this sender's hands."""
    done = await conn.fetchval(
        """
        UPDATE notices SET state = 'failed', failed_at = app_now(), updated_at = app_now(), reason = $3, sealed = NULL
        WHERE id = $1 AND state = 'sending' AND attempts = $2
        RETURNING true
        """,
        notice.id,
        notice.attempt,
        reason,
    )
    return bool(done)


async def defer(conn: Connection, notice: Claimed, reason: str, delay_s: float, give_up_hours: int) -> bool:
    """Put the notice off. False when it is no longer in this sender's hands, or was tried for too long already."""
    done = await conn.fetchval(
        """
        UPDATE notices SET state = 'deferred', due_at = app_now() + make_interval(secs => $4), updated_at = app_now(),
            reason = $3
        WHERE id = $1 AND state = 'sending' AND attempts = $2
          AND coalesce(tried_since, created_at) > app_now() - make_interval(hours => $5)
        RETURNING true
        """,
        notice.id,
        notice.attempt,
        reason,
        delay_s,
        give_up_hours,
    )
    return bool(done)


async def timeline(conn: Connection, ids: Sequence[str]) -> list[dict[str, Any]]:
    """What became of every notice about these events, enrolments or requests, as `kit.timeline` wants it."""
    rows = await conn.fetch(
        """
        SELECT coalesce(sent_at, failed_at, nullif(sending_since, '-infinity'), created_at) AS at,  -- see `take_back`
               'notice ' || state AS what, template, channel, attempts, reason,
               CASE WHEN state IN ('due', 'deferred', 'held') THEN due_at END AS due_at,
               event_id, about::text AS subject, correlation_id
        FROM notices
        WHERE event_id = ANY($1) OR correlation_id = ANY($1) OR about = ANY($2::uuid[])  -- an index for each
        """,
        list(ids),
        [one for one in map(_uuid, ids) if one],
    )
    return [dict(row) for row in rows]


def _uuid(text: str) -> UUID | None:
    try:
        return UUID(text)
    except ValueError:
        return None
