"""SQL of partners' webhooks: where they are, what they want, and the log that a partner may read and run again."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from uuid import UUID

from kit.database import Connection
from services.notifier.store import columns

KEPT_DAYS = 14  # as long as a topic keeps the event
ROTATION_HOURS = 24  # how long the secret before also signs
SAME_S = 60  # who asks for another within it has not had the answer: nobody uses what was made then
FORGET_ROWS = 2000

Row = Any


@dataclass(frozen=True)
class Told:
    """One event as partners are told of it. `body` is what is sent; the feed goes by `course_id`."""

    event_id: str
    partner: str
    type: str
    name: str
    key: str
    body: bytes = field(repr=False)
    correlation_id: str | None = None
    traceparent: str | None = None
    course_id: str = ""
    subject: str | None = None


async def now(conn: Connection) -> datetime:
    """The database's time."""
    at: datetime = await conn.fetchval("SELECT app_now()")
    return at


async def listening(conn: Connection, partners: Sequence[str]) -> set[str]:
    """Those of these partners who have a webhook that is on."""
    rows = await conn.fetch("SELECT DISTINCT partner FROM webhooks WHERE partner = ANY($1) AND state = 'on'", partners)
    return {row["partner"] for row in rows}


async def owe(conn: Connection, told: Sequence[Told]) -> None:
    """Owe these events, in this order, to each webhook that wants them; what is owed or was sent is left as it is."""
    await conn.execute(
        """
        INSERT INTO webhook_deliveries (webhook_id, event_id, type, key, body, correlation_id, traceparent)
        SELECT webhook.id, told.event_id, told.type, told.key, told.body, told.correlation_id, told.traceparent
        FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::text[], $6::bytea[], $7::text[], $8::text[])
            WITH ORDINALITY
            AS told (event_id, partner, type, name, key, body, correlation_id, traceparent, place)
        JOIN webhooks AS webhook ON webhook.partner = told.partner AND webhook.state = 'on'
            AND webhook.events && ARRAY['*', told.type, told.name]
        ORDER BY told.place, webhook.id
        ON CONFLICT ON CONSTRAINT webhook_deliveries_once DO NOTHING
        """,
        *columns(told, "event_id partner type name key body correlation_id traceparent"),
    )


async def owe_test(conn: Connection, webhook_id: UUID, told: Told) -> Row:
    """Owe one event to this webhook alone, whatever it wants and although it may be off."""
    return await conn.fetchrow(
        """
        INSERT INTO webhook_deliveries (webhook_id, event_id, type, key, body, correlation_id)
        VALUES ($1, $2, $3, $4, $5, $6) RETURNING *
        """,
        webhook_id,
        told.event_id,
        told.type,
        told.key,
        told.body,
        told.correlation_id,
    )


async def add(conn: Connection, partner: str, url: str, events: Sequence[str], secret: str, most: int) -> Row | None:
    """A new webhook; none when the partner has so many already. `secret` is sealed.

    One at a time for each partner: what another adds meanwhile counts, and there may be no row yet to lock.
    """
    await conn.execute("SELECT pg_advisory_xact_lock(hashtextextended('webhooks ' || $1::text, 0))", partner)
    return await conn.fetchrow(
        """
        INSERT INTO webhooks (partner, url, events, secret)
        SELECT $1, $2, $3::text[], $4
        WHERE (SELECT count(*) FROM webhooks WHERE partner = $1 AND state <> 'deleted') < $5
        RETURNING *
        """,
        partner,
        url,
        events,
        secret,
        most,
    )


async def webhooks(conn: Connection, partner: str) -> list[Row]:
    """A partner's webhooks, oldest first."""
    return list(
        await conn.fetch("SELECT * FROM webhooks WHERE partner = $1 AND state <> 'deleted' ORDER BY id", partner)
    )


async def webhook(conn: Connection, partner: str, webhook_id: UUID) -> Row | None:
    """One webhook of this partner."""
    return await conn.fetchrow(
        "SELECT * FROM webhooks WHERE id = $1 AND partner = $2 AND state <> 'deleted'", webhook_id, partner
    )


async def rotate(conn: Connection, partner: str, webhook_id: UUID, secret: str) -> Row | None:
    """Give it a new secret, sealed; the one before, which is in use, also signs for a day."""
    return await conn.fetchrow(
        """
        UPDATE webhooks SET secret = $3, old_secret_until = app_now() + make_interval(hours => $4),
            old_secret = CASE WHEN old_secret_until > app_now() + make_interval(hours => $4, secs => -$5::float8)
                              THEN old_secret ELSE secret END
        WHERE id = $1 AND partner = $2 AND state <> 'deleted' RETURNING *
        """,
        webhook_id,
        partner,
        secret,
        ROTATION_HOURS,
        float(SAME_S),
    )


async def delete(conn: Connection, partner: str, webhook_id: UUID) -> bool:
    """Nothing goes there any more, and its secrets are gone. Its log is deleted little by little."""
    done = await conn.execute(
        """
        UPDATE webhooks SET state = 'deleted', secret = '', old_secret = NULL
        WHERE id = $1 AND partner = $2 AND state <> 'deleted'
        """,
        webhook_id,
        partner,
    )
    return done == "UPDATE 1"


async def log(conn: Connection, webhook_id: UUID, before: int | None, limit: int) -> list[Row]:
    """What was owed to it, newest first; `before` is the last id of the page before."""
    return list(
        await conn.fetch(
            """
            SELECT id, event_id, type, state, attempts, status_code, reason, created_at, delivered_at,
                   CASE WHEN state IN ('pending', 'deferred') THEN due_at END AS next_try_at
            FROM webhook_deliveries WHERE webhook_id = $1 AND ($2::bigint IS NULL OR id < $2) ORDER BY id DESC LIMIT $3
            """,
            webhook_id,
            before,
            limit,
        )
    )


async def count_over(conn: Connection, webhook_id: UUID, since: datetime, until: datetime | None, most: int) -> int:
    """How many that are over were owed first in this time, counted to `most` and one."""
    counted: int = await conn.fetchval(
        """
        SELECT count(*) FROM (
            SELECT FROM webhook_deliveries
            WHERE webhook_id = $1 AND created_at >= $2 AND created_at < coalesce($3::timestamptz, 'infinity')
              AND state IN ('delivered', 'failed')
            LIMIT $4::int + 1
        ) AS found
        """,
        webhook_id,
        since,
        until,
        most,
    )
    return counted


async def replay(conn: Connection, webhook_id: UUID, since: datetime, until: datetime | None) -> int:
    """Owe anew what was owed first in this time and is over; returns how many these are."""
    done = await conn.execute(
        """
        UPDATE webhook_deliveries SET
            state = 'pending', owed_at = app_now(), due_at = app_now(), failures = 0, updated_at = app_now(),
            reason = NULL
        WHERE webhook_id = $1 AND created_at >= $2 AND created_at < coalesce($3::timestamptz, 'infinity')
          AND state IN ('delivered', 'failed')
        """,
        webhook_id,
        since,
        until,
    )
    return int(done.rpartition(" ")[2])


async def forget(conn: Connection) -> int:
    """Delete some of what is older than the log is kept, or of a webhook that was deleted; returns how many."""
    done = await conn.execute(
        """
        DELETE FROM webhook_deliveries WHERE id IN (
            (SELECT id FROM webhook_deliveries
             WHERE created_at < app_now() - make_interval(days => $1)
               AND owed_at < app_now() - make_interval(days => $1)
             LIMIT $2)
            UNION ALL
            (SELECT one.id FROM webhooks JOIN webhook_deliveries AS one ON one.webhook_id = webhooks.id
             WHERE webhooks.state = 'deleted' LIMIT $2)
        )
        """,
        KEPT_DAYS,
        FORGET_ROWS,
    )
    return int(done.rpartition(" ")[2])


async def forget_webhooks(conn: Connection) -> None:
    """Delete those that were deleted and have no log any more."""
    await conn.execute(
        """
        DELETE FROM webhooks WHERE state = 'deleted'
          AND NOT EXISTS (SELECT FROM webhook_deliveries AS one WHERE one.webhook_id = webhooks.id)
        """
    )


async def timeline(conn: Connection, ids: Sequence[str]) -> list[dict[str, Any]]:
    """What became of these events, or of those of these requests, at webhooks."""
    rows = await conn.fetch(
        """
        SELECT coalesce(delivered_at, updated_at) AS at, 'webhook ' || state AS what, event_id, type,
               webhook_id::text AS webhook_id, attempts, status_code, reason
        FROM webhook_deliveries WHERE event_id = ANY($1) OR correlation_id = ANY($1)
        """,
        list(ids),
    )
    return [dict(row) for row in rows]
