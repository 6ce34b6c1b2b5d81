"""SQL that keeps what was sent after the backup that was restored from being sent again."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from kit.database import Connection
from services.notifier.store import columns

REASON = "sent_before"  # why a notice is not sent: it was, before the database was restored


@dataclass(frozen=True)
class Sent:
    """A notice that the database does not know to be over, and the event for which it was owed."""

    notice_id: UUID
    learner_id: UUID
    template: str
    channel: str
    about: UUID
    event_id: str
    offering_id: UUID
    at: datetime


async def runs(conn: Connection) -> dict[UUID, UUID]:
    """Enrolment id -> its run, as far as is known here."""
    rows = await conn.fetch("SELECT enrolment_id, offering_id FROM enrolments")
    return {row["enrolment_id"]: row["offering_id"] for row in rows}


async def keep(conn: Connection, sent: Sequence[Sent]) -> None:
    """None of these is sent again. Each counts as a version of its appointment, so that the next one is newer."""
    await conn.execute(
        """
        INSERT INTO notices AS mine (event_id, learner_id, offering_id, about, template, channel, state, reason,
                                     created_at, sequence)
        SELECT event_id, learner_id, offering_id, about, template, channel, 'suppressed', $8, at,
               coalesce((SELECT max(sequence) FROM notices AS before WHERE before.about = told.about), -1)
                   + row_number() OVER (PARTITION BY about ORDER BY place)
        FROM unnest($1::text[], $2::uuid[], $3::uuid[], $4::uuid[], $5::text[], $6::text[], $7::timestamptz[])
            WITH ORDINALITY AS told (event_id, learner_id, offering_id, about, template, channel, at, place)
        ORDER BY place
        ON CONFLICT ON CONSTRAINT notices_once DO UPDATE SET
            state = 'suppressed', reason = excluded.reason, sealed = NULL, updated_at = app_now()
        WHERE mine.state IN ('due', 'held', 'deferred', 'sending')
        """,
        *columns(sent, "event_id learner_id offering_id about template channel at"),
        REASON,
    )


async def feeds(conn: Connection) -> list[str]:
    """Which partners read a feed."""
    return [row["partner"] for row in await conn.fetch("SELECT partner FROM partner_feeds ORDER BY partner")]


async def take_webhooks(conn: Connection, before: Connection) -> int:
    """Let each webhook that is here be on, off or deleted, and sign, as in the database that was there before; how many
    were otherwise."""
    names = ("id", "state", "reason", "secret", "old_secret", "old_secret_until")
    rows = await before.fetch("SELECT id, state, reason, secret, old_secret, old_secret_until FROM webhooks")
    done = await conn.execute(
        """
        UPDATE webhooks AS mine SET
            state = coalesce(told.state, 'deleted'), reason = told.reason, secret = coalesce(told.secret, ''),
            old_secret = told.old_secret, old_secret_until = told.old_secret_until
        FROM webhooks AS one
        LEFT JOIN unnest($1::uuid[], $2::text[], $3::text[], $4::text[], $5::text[], $6::timestamptz[])
            AS told (id, state, reason, secret, old_secret, old_secret_until) ON told.id = one.id
        WHERE mine.id = one.id AND (mine.state, mine.reason, mine.secret)
            IS DISTINCT FROM (coalesce(told.state, 'deleted'), told.reason, coalesce(told.secret, ''))
        """,
        *([row[name] for row in rows] for name in names),
    )
    return int(done.rsplit(" ", 1)[1])


async def take_deliveries(conn: Connection, before: Connection, since: datetime) -> int:
    """Take over what was owed to webhooks that are here, and what became of it, from the database that was there
    before; how many these are."""
    rows = await before.fetch(
        "SELECT to_jsonb(one) AS row FROM webhook_deliveries AS one WHERE updated_at >= $1 ORDER BY id", since
    )
    done = await conn.execute(
        """
        INSERT INTO webhook_deliveries AS mine (webhook_id, event_id, type, key, body, state, owed_at, due_at, attempts,
                                                failures, status_code, reason, delivered_at, created_at, updated_at,
                                                correlation_id, traceparent)
        SELECT webhook_id, event_id, type, key, body, CASE state WHEN 'sending' THEN 'pending' ELSE state END, owed_at,
               due_at, attempts, failures, status_code, reason, delivered_at, created_at, updated_at, correlation_id,
               traceparent
        FROM jsonb_populate_recordset(NULL::webhook_deliveries, $1::jsonb) AS told
        WHERE webhook_id IN (SELECT id FROM webhooks)
        ORDER BY id
        ON CONFLICT ON CONSTRAINT webhook_deliveries_once DO UPDATE SET
            state = excluded.state, due_at = excluded.due_at, attempts = excluded.attempts,
            failures = excluded.failures, status_code = excluded.status_code, reason = excluded.reason,
            delivered_at = excluded.delivered_at, updated_at = excluded.updated_at, sending_since = NULL
        """,
        json.dumps([json.loads(row["row"]) for row in rows]),
    )
    return int(done.rsplit(" ", 1)[1])
