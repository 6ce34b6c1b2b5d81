"""SQL of the worker that calls webhooks: what it takes in hand, fairly and in order, and what came of each attempt."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from kit.database import Connection
from services.notifier.channels.webhook import Answer
from services.notifier.store import columns

EACH = 4  # in hand for one webhook at a time; one, while it does not answer
ABANDONED_S = 30  # one in `sending` for so long has lost its worker: an attempt takes 12 s at the very most
GIVE_UP_HOURS = 72
PATIENCE_S = 60.0  # a webhook that nobody answers at for so long is left to rest
LONGEST_REST_S = 600.0


@dataclass(frozen=True)
class Claimed:
    """One delivery in this worker's hands. Attempts count from 1; the secrets are sealed."""

    id: int
    webhook_id: UUID
    event_id: str
    type: str
    key: str
    attempt: int
    failures: int
    url: str
    failing: bool
    off: bool
    secrets: list[str] = field(repr=False)
    body: bytes = field(repr=False)
    correlation_id: str | None
    traceparent: str | None


@dataclass(frozen=True)
class Outcome:
    """What came of one attempt, and how long to wait before the next."""

    claimed: Claimed
    answer: Answer
    pause_s: float


@dataclass(frozen=True)
class Health:
    """What a turn's answers say of one webhook: whether anybody was there, and how long to stay away (none: 0)."""

    id: UUID
    reached: bool
    wait_s: float
    gone: bool
    woken: bool
    jitter: float


async def claim(conn: Connection, most: int) -> list[Claimed]:
    """Take at most so many in hand: due, none older of the same webhook and key, and no webhook more than its share.

    What is taken first is what makes the webhooks' hands equally full, so that one with a long line takes nobody's
    turn. One that was left in `sending` for 30 s by this database's clock is taken again.
    """
    rows = await conn.fetch(
        """
        WITH ready AS (
            SELECT webhook.id, webhook.state = 'off' AS off, hand.count AS in_hand,
                   CASE WHEN webhook.failures > 0 THEN 1 ELSE $2::int END AS most
            FROM webhooks AS webhook
            CROSS JOIN LATERAL (
                SELECT count(*) FROM webhook_deliveries AS one
                WHERE one.webhook_id = webhook.id AND one.state = 'sending'
                  AND one.sending_since >= app_now() - make_interval(secs => $3)
            ) AS hand
            WHERE webhook.state <> 'deleted' AND webhook.rests_until <= app_now()
        ), next AS (
            SELECT due.id
            FROM ready
            CROSS JOIN LATERAL (
                SELECT one.id, one.due_at, row_number() OVER (ORDER BY one.due_at, one.id) + ready.in_hand AS place
                FROM webhook_deliveries AS one
                WHERE one.webhook_id = ready.id AND one.state IN ('pending', 'deferred', 'sending')
                  AND one.due_at <= app_now() AND one.due_at > '-infinity'  -- always so: its index says why
                  AND (one.state <> 'sending' OR one.sending_since < app_now() - make_interval(secs => $3))
                  AND (NOT ready.off OR one.key = ready.id::text)
                  AND NOT EXISTS (
                      SELECT FROM webhook_deliveries AS older
                      WHERE older.webhook_id = one.webhook_id AND older.key = one.key AND older.id < one.id
                        AND older.state NOT IN ('delivered', 'failed')  -- as in `outgoing.claim`
                  )
                ORDER BY one.due_at, one.id
                LIMIT greatest(ready.most - ready.in_hand, 0)
            ) AS due
            ORDER BY due.place, due.due_at, due.id
            LIMIT $1
        ), mine AS (
            SELECT one.id FROM webhook_deliveries AS one JOIN next ON next.id = one.id
            WHERE one.state IN ('pending', 'deferred', 'sending') AND one.due_at <= app_now()
              AND (one.state <> 'sending' OR one.sending_since < app_now() - make_interval(secs => $3))
            FOR UPDATE OF one SKIP LOCKED
        )
        UPDATE webhook_deliveries AS one SET
            state = 'sending', sending_since = app_now(), updated_at = app_now(), attempts = one.attempts + 1
        FROM mine, webhooks AS webhook WHERE one.id = mine.id AND webhook.id = one.webhook_id
        RETURNING one.id, one.webhook_id, one.event_id, one.type, one.key, one.attempts AS attempt, one.failures,
                  one.body, one.correlation_id, one.traceparent, webhook.url, webhook.failures > 0 AS failing,
                  webhook.state = 'off' AS off,
                  array_remove(ARRAY[webhook.secret,
                      CASE WHEN webhook.old_secret_until > app_now() THEN webhook.old_secret END], NULL) AS secrets
        """,
        most,
        EACH,
        float(ABANDONED_S),
    )
    return sorted((Claimed(**dict(row)) for row in rows), key=lambda one: one.id)


async def note(conn: Connection, outcomes: Sequence[Outcome]) -> list[Any]:
    """Write down what came of these attempts; returns id, state and reason of those still in this worker's hands."""
    answers = [one.answer for one in outcomes]
    return list(
        await conn.fetch(
            """
            UPDATE webhook_deliveries AS one SET
                state = CASE WHEN told.reason IS NULL THEN 'delivered'
                             WHEN told.gone OR webhook.state <> 'on' OR app_now() >= last.at THEN 'failed'
                             ELSE 'deferred' END,
                reason = CASE WHEN told.reason IS NULL OR told.gone THEN told.reason
                              WHEN webhook.state <> 'on' AND one.key <> webhook.id::text THEN 'webhook_off'
                              WHEN webhook.state <> 'on' THEN told.reason  -- a test, whose answer is asked for
                              WHEN app_now() >= last.at THEN 'gave_up' ELSE told.reason END,
                due_at = least(app_now() + make_interval(secs => told.pause_s), last.at),
                failures = one.failures + (told.reason IS NOT NULL)::int,
                status_code = told.status,
                delivered_at = CASE WHEN told.reason IS NULL THEN app_now() ELSE one.delivered_at END,
                updated_at = app_now()
            FROM unnest($1::bigint[], $2::int[], $3::int[], $4::text[], $5::bool[], $6::float8[])
                     AS told (id, attempt, status, reason, gone, pause_s)
            JOIN webhook_deliveries AS same ON same.id = told.id
            JOIN webhooks AS webhook ON webhook.id = same.webhook_id
            CROSS JOIN LATERAL (SELECT same.owed_at + make_interval(hours => $7) AS at) AS last
            WHERE one.id = told.id AND one.state = 'sending' AND one.attempts = told.attempt
            RETURNING one.id, one.state, one.reason
            """,
            [one.claimed.id for one in outcomes],
            [one.claimed.attempt for one in outcomes],
            [one.status for one in answers],
            [one.reason for one in answers],
            [one.gone for one in answers],
            [one.pause_s for one in outcomes],
            GIVE_UP_HOURS,
        )
    )


async def note_health(conn: Connection, found: Sequence[Health]) -> list[Any]:
    """Write down whether these webhooks answer: id, whether one is back after a rest, whether it is off now.

    One at which nobody was reached for a minute rests, longer each time, to ten minutes; one that says when to come
    again rests until then. Gone (410) turns it off; a test event that is taken turns it on again.
    """
    return list(
        await conn.fetch(
            """
            UPDATE webhooks AS webhook SET
                failing_since = CASE WHEN told.reached THEN NULL ELSE coalesce(webhook.failing_since, app_now()) END,
                failures = CASE WHEN told.reached THEN 0 ELSE least(webhook.failures + 1, 30) END,
                rests_until = CASE
                    WHEN told.wait_s > 0 THEN app_now() + make_interval(secs => told.wait_s)
                    WHEN told.reached THEN '-infinity'
                    WHEN webhook.failing_since < app_now() - make_interval(secs => $7)
                        THEN app_now() + make_interval(secs => told.jitter * least(2 ^ (webhook.failures + 1), $8))
                    ELSE webhook.rests_until END,
                state = CASE WHEN webhook.state = 'on' AND told.gone THEN 'off'
                             WHEN webhook.state = 'off' AND told.woken THEN 'on' ELSE webhook.state END,
                reason = CASE WHEN webhook.state = 'on' AND told.gone THEN 'gone'
                              WHEN webhook.state = 'off' AND told.woken THEN NULL ELSE webhook.reason END
            FROM unnest($1::uuid[], $2::bool[], $3::float8[], $4::bool[], $5::bool[], $6::float8[])
                     AS told (id, reached, wait_s, gone, woken, jitter)
            WHERE webhook.id = told.id AND webhook.state <> 'deleted'
            RETURNING webhook.id, old.rests_until > '-infinity' AND new.rests_until = '-infinity' AS back,
                      old.state <> new.state AS turned, new.state
            """,
            *columns(found, "id reached wait_s gone woken jitter"),
            PATIENCE_S,
            LONGEST_REST_S,
        )
    )


async def hurry(conn: Connection, webhooks: Sequence[UUID]) -> None:
    """Let what was put off go now: these webhooks are back."""
    await conn.execute(
        """
        UPDATE webhook_deliveries SET due_at = app_now()
        WHERE webhook_id = ANY($1) AND state = 'deferred' AND due_at > '-infinity'
        """,
        webhooks,
    )


async def close_open(conn: Connection, webhooks: Sequence[UUID]) -> None:
    """Nothing that waits goes to these any more: they are off."""
    await conn.execute(
        """
        UPDATE webhook_deliveries SET state = 'failed', reason = 'webhook_off', updated_at = app_now()
        WHERE webhook_id = ANY($1) AND state IN ('pending', 'deferred') AND due_at > '-infinity'
        """,
        webhooks,
    )
