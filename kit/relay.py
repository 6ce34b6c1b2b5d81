"""Publishes the outbox: one relay at a time, each aggregate in its order, a row marked only after the broker's ack."""

import asyncio
import time
import uuid
from collections.abc import Sequence
from typing import Any

from contracts.topics import KEPT_DAYS
from kit import logs, outbox
from kit.database import Busy, Connection, Database
from kit.metrics import Metrics
from kit.producer import Flight, Producer
from kit.settings import Settings

log = logs.get(__name__)

BATCH = 2000  # rows a turn: enough to fill the broker's batches, few enough to be marked in some 30 ms
BATCH_BYTES = 16 * 1024 * 1024  # parked copies have up to 2 MB each: 2,000 of them would be the machine's memory
LEASE_S = 3.0  # how long nobody publishes after the holder has stopped without a word
RENEW_S = 1.0
IDLE_S = 0.5  # a commit in this process wakes the relay at once; this is for commits made by others
BUSY_S = 0.05
BACKOFF_S = 0.1  # after the first failure …
MOST_BACKOFF_S = 1.0  # … and after many: a broker that starts again has better things to do than to refuse us
PRUNE_S = 60.0
PRUNE_ROWS = 2000
LEAVE_S = 5.0  # for the last acks and marks when the process stops

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
# What is under way is left out by its ids, never by "above the last": a lower id may be committed later.
_NEXT = """
SELECT id, aggregate, topic, key, headers, payload FROM (
    SELECT *, sum(octet_length(payload)) OVER (ORDER BY id) - octet_length(payload) AS bytes_before FROM (
        SELECT id, aggregate, topic, key, headers, payload FROM outbox
        WHERE published_at IS NULL AND aggregate <> ALL($1::text[]) AND id NOT IN (SELECT unnest($2::bigint[]))
        ORDER BY id LIMIT $3
    ) AS next
) AS sized
WHERE bytes_before < $4 ORDER BY id
"""
_MARK = """
WITH marked AS (UPDATE outbox SET published_at = clock_timestamp() WHERE id = ANY($1::bigint[]))
UPDATE lease SET expires_at = clock_timestamp() + make_interval(secs => $4)
WHERE name = 'relay' AND holder = $2 AND term = $3
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
    # What is over. It holds what strangers sent, which is not ours to keep for ever; what still waits is never deleted.
    "parked": """
DELETE FROM parked WHERE id IN (
    SELECT id FROM parked WHERE state IN ('refused', 'redriven', 'discarded')
    AND coalesce(closed_at, parked_at) < app_now() - make_interval(days => 6 * $1) ORDER BY id LIMIT $2)""",
}


class Relay:
    """Moves one service's outbox to Kafka until it is told to stop. Repeats may happen; gaps and inversions may not.

    While one turn's rows wait for their acks and are marked, the next turn's are read and sent.
    """

    def __init__(self, database: Database, settings: Settings, metrics: Metrics) -> None:
        self._database = database
        self._metrics = metrics
        self._producer = Producer(settings.kafka_bootstrap, metrics)
        self._holder = settings.instance or str(uuid.uuid4())
        self._term = 0  # 0: not the holder
        self._renewed = 0.0
        self._under_way: list[int] = []  # ids of the rows that are sent and not yet marked
        self._settling: asyncio.Task[None] | None = None
        self._pruned = 0.0
        self._moved = time.monotonic()  # when it last published, found nothing to publish, or stood by
        self._trouble = ""
        self._backoff_s = BACKOFF_S

    async def check(self) -> str | None:
        """What is wrong, for /readyz: nothing, or why the outbox has not moved for 30 s."""
        stuck_s = time.monotonic() - self._moved
        trouble = self._producer.trouble or self._trouble
        return f"the outbox has not moved for {stuck_s:.0f} s: {trouble}" if stuck_s > 30 else None

    async def refused(self) -> str | None:
        """What the broker will not take, for an operator: everything else goes on, and this process is ready."""
        stuck = self._producer.stuck() if self._term else {}
        if not stuck:
            return None
        aggregate, longest = min(stuck.items(), key=lambda item: item[1].since)
        for_s = time.monotonic() - longest.since
        return (
            f"the broker does not take what is next of {len(stuck)} in the outbox; the longest for {for_s:.0f} s: "
            f"{aggregate} ({longest.why})"
        )

    async def run(self, stopping: asyncio.Event) -> None:
        """Publish until `stopping`, then hand the lease over. Every trouble is logged and tried again."""
        stop = asyncio.ensure_future(stopping.wait())
        try:
            while not stopping.is_set():
                try:
                    sent = await self._turn()
                except asyncio.CancelledError:
                    raise
                except Exception as error:
                    await self._recover(error)
                    await asyncio.wait([stop], timeout=self._backoff_s)  # no commit wakes it: it would only fail again
                    self._backoff_s = min(2 * self._backoff_s, MOST_BACKOFF_S)
                    continue
                self._backoff_s = BACKOFF_S
                if sent < BATCH:
                    await self._rest(BUSY_S if self._under_way else IDLE_S, stop)
        finally:
            stop.cancel()
            await self._leave()

    async def _turn(self) -> int:
        """One look at the outbox; returns how many rows were put under way."""
        self._database.committed.clear()  # before looking: a commit after this wakes the next turn
        async with self._database.reading("relay") as conn:
            if not await self._holds(conn):
                self._moved = time.monotonic()
                return 0
            rows = await conn.fetch(_NEXT, self._producer.resting(), self._under_way, BATCH, BATCH_BYTES)
            if not rows and not self._under_way:
                self._moved = time.monotonic()
                await self._prune(conn)
        if rows and self._under_way and self._producer.is_gone:  # it took with it what these would overtake
            await self._settled()
            return 0
        flights = await self._producer.send(rows) if rows else []
        if not flights and self._settling is not None and not self._settling.done():
            return 0  # nothing new: the rows under way are waited for when there is, or looked after below
        await self._settled()
        if flights:
            self._under_way = [row["id"] for flight in flights for row in flight.rows]
            self._settling = asyncio.create_task(self._settle(flights))
        return len(self._under_way)

    async def _settled(self) -> None:
        """Wait until nothing is under way. Raises what went wrong with it."""
        settling, self._settling = self._settling, None
        if settling is not None:
            await settling
        self._under_way = []

    async def _settle(self, flights: Sequence[Flight]) -> None:
        """Wait for the acks; mark what the broker has, and renew the lease with it."""
        acked = await self._producer.settle(flights)
        if acked:
            await self._mark(acked)

    async def _mark(self, acked: Sequence[int]) -> None:
        async with self._database.reading("relay") as conn:
            renewed = await conn.execute(_MARK, acked, self._holder, self._term, LEASE_S)
        self._metrics.relayed.inc(len(acked))
        self._moved = time.monotonic()
        if renewed == "UPDATE 1":
            self._renewed = time.monotonic()
        else:  # the marks are true all the same: these rows are on the topic
            self._lose()

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

    def _lose(self) -> None:
        """Another replica publishes now, and tells of the backlog; this one stands by."""
        self._term = 0
        self._metrics.relay_stuck.set(0)
        self._metrics.outbox_backlog.set(0)
        self._metrics.outbox_age_s.set(0)
        log.info("relay_lease_lost", holder=self._holder)

    async def _recover(self, error: Exception) -> None:
        self._trouble = type(error).__name__
        self._metrics.relay_errors.inc()
        log.warning("relay_tries_again", error=type(error).__name__)
        await self._abandon()
        if not isinstance(error, Busy):
            await self._producer.drop()

    async def _abandon(self) -> None:
        """Forget what is under way: it is read and sent again."""
        settling, self._settling = self._settling, None
        self._under_way = []
        if settling is not None:
            settling.cancel()
            await asyncio.gather(settling, return_exceptions=True)

    async def _rest(self, seconds: float, stop: asyncio.Future[Any]) -> None:
        wake = asyncio.ensure_future(self._database.committed.wait())
        await asyncio.wait([wake, stop], timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        wake.cancel()

    async def _measure(self, conn: Connection) -> None:
        self._metrics.relay_stuck.set(len(self._producer.stuck()))
        backlog, age_s = await outbox.waiting(conn)
        self._metrics.outbox_backlog.set(backlog)
        self._metrics.outbox_age_s.set(age_s)

    async def _prune(self, conn: Connection) -> None:
        """Delete what is old enough, some rows at a time, when there is nothing else to do; more with the next look."""
        now = time.monotonic()
        if now - self._pruned < PRUNE_S:
            return
        self._pruned = now
        told = [await conn.execute(statement, KEPT_DAYS, PRUNE_ROWS) for statement in _PRUNES.values()]
        if f"DELETE {PRUNE_ROWS}" in told:
            self._pruned = now - PRUNE_S

    async def _leave(self) -> None:
        try:
            async with asyncio.timeout(LEAVE_S):
                await self._settled()
                if self._term:
                    async with self._database.reading("relay") as conn:
                        await conn.execute(_FREE, self._holder, self._term)
        except Exception as error:  # the lease runs out by itself, and what is not marked is sent again
            log.info("relay_lease_left", error=type(error).__name__)
        await self._abandon()
        await self._producer.drop()
