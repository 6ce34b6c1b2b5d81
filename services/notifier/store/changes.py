"""SQL of what has changed about an offering, and whom it concerns."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from uuid import UUID

from kit.database import Connection
from services.notifier.channels.channel import UNANSWERED
from services.notifier.kinds import ADVANCED, with_method
from services.notifier.store import columns


@dataclass(frozen=True)
class Run:
    """An offering as it is known. `sessions` and `arenas` are none when they were never heard of."""

    version: int
    starts_at: datetime
    ends_at: datetime
    sessions: list[dict[str, Any]] | None
    arenas: list[str] | None
    cancelled: bool


@dataclass(frozen=True)
class Change:
    """What learners of an offering are to be told, by the event that said so."""

    offering_id: UUID
    event_id: str
    correlation_id: str
    traceparent: str | None
    said_at: datetime | None = None
    facts: dict[str, Any] = field(default_factory=dict)
    open_now: tuple[str, ...] = ()


@dataclass(frozen=True)
class Untold:
    """A change that one enrolment was to be told of, and now is with the next one. `since`: owed first then.

    `heard`: by SMS, in the feed, or from a mail about something else, which says when the course is, its learner knows
    of it although its own mail has not gone.
    """

    about: UUID
    offering_id: UUID
    facts: dict[str, Any]
    since: str
    heard: bool


@dataclass(frozen=True)
class Together:
    """What one enrolment is told instead, of both changes; without `facts` nothing, since all is as it was."""

    about: UUID
    facts: dict[str, Any] | None
    since: str


async def take_over(conn: Connection, offerings: Sequence[UUID]) -> list[Untold]:
    """Take what was to be told of earlier changes of these offerings and has surely not gone: the next letter tells it.

    An SMS goes the way of its mail: where that has gone, or was not wanted, nothing is added to the next.
    """
    rows = await conn.fetch(
        """
        WITH mail AS (
            UPDATE notices SET state = 'suppressed', reason = 'told_with_later', updated_at = app_now()
            WHERE template = 'changed' AND channel <> 'sms' AND offering_id = ANY($1)
              AND state IN ('due', 'held', 'deferred') AND resends = 0 AND reason IS DISTINCT FROM $2
            RETURNING event_id, learner_id, about, offering_id, facts, read_at IS NOT NULL AS read,
                      coalesce(facts ->> 'since', to_json(created_at) #>> '{}') AS since
        ), beside AS (
            UPDATE notices AS text SET state = 'suppressed', reason = 'told_with_later', updated_at = app_now()
            FROM mail
            WHERE text.event_id = mail.event_id AND text.learner_id = mail.learner_id AND text.template = 'changed'
              AND text.channel = 'sms' AND text.state IN ('due', 'held', 'deferred') AND text.resends = 0
              AND text.reason IS DISTINCT FROM $2
        )
        SELECT about, offering_id, facts, since, read OR EXISTS (
            SELECT FROM notices AS text
            WHERE text.event_id = mail.event_id AND text.learner_id = mail.learner_id AND text.template = 'changed'
              AND text.channel = 'sms' AND (text.state IN ('sending', 'sent') OR text.resends > 0
                                            OR text.reason = $2)
        ) OR EXISTS (
            SELECT FROM notices AS said
            WHERE (said.about = mail.about OR said.learner_id = mail.learner_id AND said.template = 'digest'
                   AND said.facts @> jsonb_build_object('items', jsonb_build_array(
                       jsonb_build_object('about', mail.about))))
              AND (said.state IN ('sending', 'sent') OR said.reason = $2)
              AND said.sending_since >= mail.since::timestamptz  -- its words are of then
        ) AS heard FROM mail
        """,
        offerings,
        UNANSWERED,
    )
    return [Untold(**{**dict(row), "facts": json.loads(row["facts"])}) for row in rows]


async def runs(conn: Connection, offerings: Sequence[UUID]) -> dict[UUID, Run]:
    """These offerings as they are known, each locked: a seat taken meanwhile is heard of before or after."""
    rows = await conn.fetch(
        """
        SELECT offering_id, version, starts_at, ends_at, sessions, arenas, cancelled FROM offerings
        WHERE offering_id = ANY($1) ORDER BY offering_id FOR UPDATE
        """,
        offerings,
    )
    return {
        row["offering_id"]: Run(
            version=row["version"],
            starts_at=row["starts_at"],
            ends_at=row["ends_at"],
            sessions=None if row["sessions"] is None else json.loads(row["sessions"]),
            arenas=row["arenas"],
            cancelled=row["cancelled"],
        )
        for row in rows
    }


async def owe_changes(
    conn: Connection, changes: Sequence[Change], channel: str, together: Sequence[Together] = ()
) -> None:
    """Owe these changes to all who sit there, are offered a seat, stand in line or wait for approval, while there is
    something to come: or was, in a run that had begun. Enrolment may have said already that one without its last
    meetings is over, or one that had been moved before its end; who has finished, or waited to the end (`over`), is
    told of nothing else, as a new term may have the key of the last.

    Those of `together` are told of an earlier change too, or of none.
    """
    await conn.execute(
        """
        INSERT INTO notices (event_id, learner_id, offering_id, about, template, channel, place, correlation_id,
                             traceparent, facts, state, reason)
        SELECT new.event_id, live.learner_id, live.offering_id, live.enrolment_id, 'changed', $6, live.place,
               new.correlation_id, new.traceparent, coalesce(pair.facts, new.facts),
               CASE WHEN pair.back THEN 'suppressed' ELSE 'due' END, CASE WHEN pair.back THEN 'changed_back' END
        FROM unnest($1::uuid[], $2::text[], $3::text[], $4::text[], $10::timestamptz[], $5::jsonb[])
            AS new (offering_id, event_id, correlation_id, traceparent, said_at, facts)
        JOIN offerings AS offering USING (offering_id)
        JOIN enrolments AS live USING (offering_id)
        LEFT JOIN unnest($7::uuid[], $8::jsonb[], $9::bool[]) AS pair (about, facts, back)
            ON pair.about = live.enrolment_id
        WHERE live.state IN ('pending', 'associated', 'offered', 'queued', 'finished', 'over')
          AND ((live.state NOT IN ('finished', 'over') OR new.said_at < (new.facts #>> '{was,ends_at}')::timestamptz)
                   AND offering.ends_at > app_now()
               OR live.state <> 'over' AND (app_now() BETWEEN (new.facts #>> '{was,starts_at}')::timestamptz
                                AND (new.facts #>> '{was,ends_at}')::timestamptz
               OR EXISTS (
                   SELECT FROM notices AS said WHERE said.about = live.enrolment_id AND said.template = 'changed'
                     AND app_now() BETWEEN (said.facts #>> '{was,starts_at}')::timestamptz
                                       AND (said.facts #>> '{was,ends_at}')::timestamptz
               )))
        ORDER BY live.since, live.enrolment_id
        ON CONFLICT ON CONSTRAINT notices_once DO NOTHING
        """,
        *columns(changes, "offering_id event_id correlation_id traceparent"),
        [json.dumps(one.facts) for one in changes],
        channel,
        [one.about for one in together],
        [None if one.facts is None else json.dumps({**one.facts, "since": one.since}) for one in together],
        [one.facts is None for one in together],
        [one.said_at for one in changes],
    )


async def keep_entered(conn: Connection, changes: Sequence[Change]) -> None:
    """Note on what takes these runs out of calendars, and has not gone, which meetings there were: who has left hears
    of no change, and has those still that it has dropped."""
    await conn.execute(
        """
        UPDATE notices SET facts = facts || jsonb_build_object('entered', before.sessions)
        FROM unnest($1::uuid[], $2::jsonb[]) AS before (offering_id, sessions)
        WHERE notices.offering_id = before.offering_id AND template = ANY($3)
          AND state IN ('due', 'held', 'deferred', 'sending')
          AND jsonb_array_length(coalesce(facts -> 'entered', '[]')) < jsonb_array_length(before.sessions)
        """,
        [one.offering_id for one in changes],
        [json.dumps(one.facts["was"]["sessions"]) for one in changes],
        with_method("CANCEL"),
    )


async def leave_older(conn: Connection, event_ids: Sequence[str]) -> None:
    """Of these events the newest place in line is told; an older one that has not gone is not sent any more."""
    await conn.execute(
        """
        UPDATE notices AS old SET state = 'suppressed', reason = 'told_with_later', updated_at = app_now()
        FROM notices AS new
        WHERE new.event_id = ANY($1) AND new.template = $2 AND old.about = new.about AND old.template = $2
          AND old.id < new.id
          AND old.state NOT IN ('sending', 'sent', 'failed', 'suppressed')  -- as in `outgoing.claim`
        """,
        event_ids,
        ADVANCED,
    )
