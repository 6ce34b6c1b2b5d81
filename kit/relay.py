"""Publishes the outbox: one relay at a time, each aggregate in its order, a row marked only after the broker's ack."""

import asyncio
import base64
import json
import time
import uuid
from collections.abc import Sequence
from typing import Any

from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError

from contracts.envelope import STRUCTURED
from contracts.topics import KEPT_DAYS, MAX_PARKED_BYTES
from kit import logs
from kit.database import Busy, Connection, Database
from kit.metrics import Metrics
from kit.settings import Settings

log = logs.get(__name__)

BATCH = 2000  # rows a turn: enough to fill the broker's batches, few enough to be marked in some 20 ms
LEASE_S = 3.0  # how long nobody publishes after the holder has stopped without a word
RENEW_S = 1.0
IDLE_S = 0.5  # a commit in this process wakes the relay at once; this is for commits made by others
BUSY_S = 0.05
SEND_S = 15.0  # an idempotent producer never gives up by itself; after this all is sent again
BLOCKED_S = 5.0  # how long an aggregate rests whose record the broker refused
TOPIC_S = 5.0
PRUNE_S = 60.0
PRUNE_ROWS = 2000

HEADERS = [("content-type", STRUCTURED.encode())]

# Free, or left behind by an earlier run of this same replica. The loser's term is stale: it stops.
_TAKE = """
INSERT INTO lease (name, holder, term, expires_at)
VALUES ('relay', $1, 1, clock_timestamp() + make_interval(secs => $2))
ON CONFLICT (name) DO UPDATE SET
    holder = excluded.holder, term = lease.term + 1, expires_at = excluded.expires_at
WHERE lease.expires_at < clock_timestamp() OR lease.holder = excluded.holder
RETURNING term
"""
_RENEW = """
UPDATE lease SET expires_at = clock_timestamp() + make_interval(secs => $3)
WHERE name = 'relay' AND holder = $1 AND term = $2
"""
_FREE = "UPDATE lease SET expires_at = '-infinity' WHERE name = 'relay' AND holder = $1 AND term = $2"
# Within an aggregate id order is number order, because the number is given under its row lock and the id after it.
# A snapshot that shows number 8 shows number 7, so the rows of one turn are always a whole beginning of what is left.
_NEXT = """
SELECT id, aggregate, topic, key, headers, payload FROM outbox
WHERE published_at IS NULL AND aggregate <> ALL($1::text[])
ORDER BY id LIMIT $2
"""
_MARK = "UPDATE outbox SET published_at = clock_timestamp() WHERE id = ANY($1::bigint[])"
_WAITING = """
SELECT count(*) AS backlog, coalesce(extract(epoch FROM app_now() - min(created_at)), 0)::float8 AS age_s
FROM outbox WHERE published_at IS NULL
"""
_PRUNES = {
    "outbox": """
DELETE FROM outbox WHERE id IN (
    SELECT id FROM outbox WHERE created_at < app_now() - make_interval(days => $1) AND published_at IS NOT NULL
    ORDER BY id LIMIT $2)""",
    # Longer than any topic keeps its records, so that nothing that can still be read again is forgotten.
    "inbox": """
DELETE FROM inbox WHERE ctid IN (
    SELECT ctid FROM inbox WHERE received_at < app_now() - make_interval(days => 2 * $1) LIMIT $2)""",
}


class Relay:
    """Moves one service's outbox to Kafka until it is told to stop. Repeats may happen; gaps and inversions may not."""

    def __init__(self, database: Database, settings: Settings, metrics: Metrics) -> None:
        self._database = database
        self._bootstrap = settings.kafka_bootstrap
        self._metrics = metrics
        self._holder = settings.instance or str(uuid.uuid4())
        self._term = 0  # 0: not the holder
        self._renewed = 0.0
        self._producer: AIOKafkaProducer | None = None
        self._topics: set[str] = set()
        self._blocked: dict[str, float] = {}  # aggregate -> when to try it again
        self._pruned = 0.0
        self._moved = time.monotonic()  # when it last published, found nothing to publish, or stood by
        self._trouble = ""

    async def check(self) -> str | None:
        """What is wrong, for /readyz: nothing, or why the outbox has not moved for 30 s."""
        stuck_s = time.monotonic() - self._moved
        return f"the outbox has not moved for {stuck_s:.0f} s: {self._trouble}" if stuck_s > 30 else None

    async def run(self, stopping: asyncio.Event) -> None:
        """Publish until `stopping`, then hand the lease over. Every trouble is logged and tried again."""
        stop = asyncio.ensure_future(stopping.wait())
        try:
            while not stopping.is_set():
                try:
                    moved = await self._turn()
                except asyncio.CancelledError:
                    raise
                except Exception as error:
                    await self._recover(error)
                    moved = 0
                if moved < BATCH:
                    await self._rest(BUSY_S if moved else IDLE_S, stop)
        finally:
            stop.cancel()
            await self._leave()

    async def _turn(self) -> int:
        """One look at the outbox; returns how many rows were published."""
        self._database.committed.clear()  # before looking: a commit after this wakes the next turn
        async with self._database.reading("relay") as conn:
            if not await self._holds(conn):
                self._moved = time.monotonic()
                return 0
            rows = await conn.fetch(_NEXT, self._resting(), BATCH)
            if not rows:
                self._moved = time.monotonic()
                await self._prune(conn)
                return 0
            acked = await self._send(rows)
            if acked:
                await self._mark(conn, acked)
                self._moved = time.monotonic()
                self._metrics.relayed.inc(len(acked))
            return len(acked)

    async def _holds(self, conn: Connection) -> bool:
        """Whether this replica holds the lease, after taking or renewing it if it is time to."""
        now = time.monotonic()
        if self._term and now - self._renewed < RENEW_S:
            return True
        if self._term:
            if await conn.execute(_RENEW, self._holder, self._term, LEASE_S) == "UPDATE 1":
                self._renewed = now
                await self._measure(conn)
                return True
            self._lose()
        term = await conn.fetchval(_TAKE, self._holder, LEASE_S)
        if term is None:
            return False
        self._term, self._renewed = term, now
        log.info("relay_lease_taken", holder=self._holder, term=term)
        return True

    async def _mark(self, conn: Connection, acked: Sequence[int]) -> None:
        """Mark what the broker has acked, and renew the lease with it."""
        async with conn.transaction():
            await conn.execute(_MARK, acked)
            renewed = await conn.execute(_RENEW, self._holder, self._term, LEASE_S)
        if renewed != "UPDATE 1":  # the marks are true all the same: these rows are on the topic
            self._lose()
            return
        self._renewed = time.monotonic()

    def _lose(self) -> None:
        """Another replica publishes now; this one stands by."""
        self._term = 0
        log.info("relay_lease_lost", holder=self._holder)

    async def _send(self, rows: Sequence[Any]) -> list[int]:
        """Send rows in order, whole batches in flight; returns the ids that the broker has acked."""
        producer = await self._open()
        sent: list[tuple[int, str, asyncio.Future[Any]]] = []
        for row in rows:
            aggregate, topic = row["aggregate"], row["topic"]
            if aggregate in self._blocked:
                continue
            try:
                if topic not in self._topics:
                    await self._know(producer, topic)
                headers = HEADERS if row["headers"] is None else _headers(row["headers"])
                future = await producer.send(topic, row["payload"], key=row["key"], headers=headers)
            except (KafkaError, TimeoutError) as error:
                self._block(aggregate, topic, error)
                continue
            sent.append((row["id"], aggregate, future))
        await asyncio.wait([future for _, _, future in sent], timeout=SEND_S) if sent else None
        acked: list[int] = []
        failure: BaseException | None = None
        for row_id, aggregate, future in sent:
            wrong = _wrong(future)
            if wrong is not None:
                failure = wrong
                self._block(aggregate, "", wrong)
            elif aggregate not in self._blocked:
                acked.append(row_id)
        if failure is not None:
            await self._drop()  # it may be unable to go on; a new one sends again from the table
        return acked

    async def _know(self, producer: AIOKafkaProducer, topic: str) -> None:
        """Make sure the topic is there, so that a missing one stops its own aggregates only and not the whole relay."""
        async with asyncio.timeout(TOPIC_S):
            await producer.partitions_for(topic)
        self._topics.add(topic)

    def _block(self, aggregate: str, topic: str, error: BaseException) -> None:
        """Let this aggregate rest: what comes after the failed record must not overtake it."""
        self._blocked[aggregate] = time.monotonic() + BLOCKED_S
        self._trouble = type(error).__name__
        self._metrics.relay_errors.inc()
        log.warning("relay_aggregate_rests", aggregate=aggregate, topic=topic, error=type(error).__name__)

    def _resting(self) -> list[str]:
        now = time.monotonic()
        self._blocked = {aggregate: until for aggregate, until in self._blocked.items() if until > now}
        return list(self._blocked)

    async def _open(self) -> AIOKafkaProducer:
        if self._producer is None:
            producer = AIOKafkaProducer(
                bootstrap_servers=self._bootstrap,
                acks="all",
                enable_idempotence=True,
                max_batch_size=256 * 1024,
                max_request_size=MAX_PARKED_BYTES,
                linger_ms=0,  # a lone event leaves at once; a backlog fills the batches by itself
                request_timeout_ms=10_000,
            )
            try:
                await producer.start()
            except BaseException:
                await producer.stop()
                raise
            self._producer = producer
        return self._producer

    async def _drop(self) -> None:
        producer, self._producer = self._producer, None
        self._topics.clear()
        if producer is not None:
            stop = asyncio.ensure_future(producer.stop())
            await asyncio.wait([stop], timeout=2)  # it would wait for a broker that is gone
            stop.cancel()

    async def _recover(self, error: Exception) -> None:
        self._trouble = type(error).__name__
        self._metrics.relay_errors.inc()
        log.warning("relay_tries_again", error=type(error).__name__)
        if not isinstance(error, Busy):
            await self._drop()

    async def _rest(self, seconds: float, stop: asyncio.Future[Any]) -> None:
        wake = asyncio.ensure_future(self._database.committed.wait())
        await asyncio.wait([wake, stop], timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        wake.cancel()

    async def _measure(self, conn: Connection) -> None:
        row = await conn.fetchrow(_WAITING)
        if row is not None:
            self._metrics.outbox_backlog.set(row["backlog"])
            self._metrics.outbox_age_s.set(row["age_s"])

    async def _prune(self, conn: Connection) -> None:
        """Delete what is old enough, some rows at a time, when there is nothing else to do."""
        if time.monotonic() - self._pruned < PRUNE_S:
            return
        self._pruned = time.monotonic()
        for statement in _PRUNES.values():
            await conn.execute(statement, KEPT_DAYS, PRUNE_ROWS)

    async def _leave(self) -> None:
        try:
            if self._term:
                async with self._database.reading("relay") as conn:
                    await conn.execute(_FREE, self._holder, self._term)
        except Exception as error:  # it runs out by itself
            log.info("relay_lease_left", error=type(error).__name__)
        await self._drop()


def _wrong(future: asyncio.Future[Any]) -> BaseException | None:
    if not future.done():
        return TimeoutError("no ack in time")
    return asyncio.CancelledError() if future.cancelled() else future.exception()


def _headers(stored: str) -> list[tuple[str, bytes]]:
    return [(name, base64.b64decode(value)) for name, value in json.loads(stored)]
