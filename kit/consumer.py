"""Listens to topics: the only caller of `broker.subscriber`. Records become events, effects, then committed offsets."""

import asyncio
import logging
import os
import random
import time
from collections import deque
from collections.abc import Iterable, Sequence
from typing import Any

import asyncpg
from aiokafka import AIOKafkaConsumer
from aiokafka.errors import KafkaError
from faststream import AckPolicy
from faststream.kafka import KafkaBroker, KafkaMessage

from kit import inbox, logs, offsets, parking, switch
from kit.database import AWAY, COLLIDED, Connection, Unknown, is_away
from kit.listeners import Listeners, Received, Refused
from kit.parking import Record
from kit.running import Running

log = logs.get(__name__)

BATCH = 1000  # records in one transaction; one offset commit costs some 6 ms, so it must serve many records
WAIT_MS = 5  # FastStream sleeps this long after finding nothing: half of it is what a lone event waits on average
ATTEMPTS = 3
BACKOFF_S = (0.1, 0.5)  # between attempts at one record, with jitter
ONE_S = 10.0  # how long one record may take; far below the poll interval, so that it never costs a rebalance
TRANSIENT_S = 60.0  # how long locks and time-outs are waited out before a record counts as failed
TOPICS_MS = 5_000  # how soon a new topic that fits the pattern is followed
SWITCH_S = 1.0  # how soon an operator's pause, resume, replay or redrive is seen
WATCH_S = 5.0
STUCK_S = 60.0  # waiting records and no progress for so long: this process is no use and should be restarted
STUCK_EXIT = 70
WINDOW = 100  # of so many records of our own topics …
MOST_PARKED = 50  # … so many may be parked before the consumer stops: a bad deploy must not park everything

TRANSIENT = (asyncpg.LockNotAvailableError, asyncpg.QueryCanceledError, Unknown, *COLLIDED)


class Consumer:
    """One consumer group of a service. `foreign`: strangers write here, so what is malformed holds nobody back."""

    def __init__(
        self,
        name: str,
        listeners: Listeners,
        topics: Sequence[str] = (),
        pattern: str | None = None,
        foreign: bool = False,
    ) -> None:
        self.name = name
        self._listeners = listeners
        self._topics = topics
        self._pattern = pattern
        self._foreign = foreign
        self._outcomes: deque[bool] = deque(maxlen=WINDOW)  # True: parked
        self._progress = time.monotonic()
        self._waiting_for_database = False
        self._paused = ""

    async def run(self, running: Running) -> None:
        """Listen until the process is asked to stop; what is in hand is finished, what is not is read again."""
        self._running = running
        self.group = f"{running.name}.{self.name}"
        running.health.register(f"consumer {self.name}", self._check)
        broker = KafkaBroker(
            running.settings.kafka_bootstrap,
            client_id=self.group,
            consumer_only=True,  # it has no producer, so that no header of a record can make us write anywhere
            allow_auto_create_topics=False,
            metadata_max_age_ms=TOPICS_MS,
            graceful_timeout=12,
            logger=logging.getLogger("faststream"),
        )
        self._subscriber = self._subscribe(broker)
        await broker.start()
        try:
            await self._watch()
        finally:
            await broker.stop()

    def _subscribe(self, broker: KafkaBroker) -> Any:
        # A lasting member that comes back gets its old assignment and never the topics that fit the pattern since.
        instance = "" if self._pattern else self._running.settings.instance
        subscriber = broker.subscriber(
            *self._topics,
            pattern=self._pattern,
            group_id=self.group,
            group_instance_id=f"{self.group}-{instance}" if instance else None,  # restarted, it needs no rebalance
            batch=True,
            max_records=BATCH,
            batch_timeout_ms=WAIT_MS,
            auto_offset_reset="earliest",
            ack_policy=AckPolicy.MANUAL,
            no_reply=True,  # a reply_to header would make FastStream publish with our credentials
            parser=self._parse,
            decoder=_as_it_is,
            max_poll_interval_ms=300_000,
            session_timeout_ms=6_000,  # the least that a broker allows: how long a killed member is waited for
        )
        subscriber(self._take)
        return subscriber

    async def _parse(self, records: Any) -> KafkaMessage:
        """FastStream's own parser raises on a header that is not UTF-8, and the batch would be passed over."""
        return KafkaMessage(body=b"", raw_message=records, consumer=self._kafka)

    @property
    def _kafka(self) -> AIOKafkaConsumer:
        return self._subscriber.consumer

    async def _take(self, message: KafkaMessage) -> None:
        """One batch: one transaction and one commit of offsets; record by record when that fails. Never raises."""
        raw = message.raw_message if isinstance(message.raw_message, tuple) else (message.raw_message,)
        records = [Record(r.topic, r.partition, r.offset, r.key, tuple(r.headers), r.value) for r in raw]
        if self._paused:
            self._rewind(records)
            return
        done = await self._handle(records)
        if not done:
            self._rewind(records)
            return
        self._progress = time.monotonic()
        await self._commit(records)

    async def _handle(self, records: Sequence[Record]) -> bool:
        """Give every record its effect or park it. False when the process is stopping or was paused meanwhile."""
        try:
            async with asyncio.timeout(ONE_S):
                await self._running.database.run(lambda conn: self._effects(conn, records), "consumer")
            return True
        except asyncio.CancelledError:
            raise
        except Exception as error:
            if len(records) > 1:
                log.info("batch_taken_apart", consumer=self.group, count=len(records), error=type(error).__name__)
        for record in records:
            if self._paused or not await self._one(record):
                return False
        return True

    async def _one(self, record: Record) -> bool:
        """One record, tried at most 3 times, then parked. False when the process is stopping."""
        attempt, began = 0, time.monotonic()
        while True:
            try:
                async with asyncio.timeout(ONE_S):
                    await self._running.database.run(lambda conn: self._effects(conn, [record]), "consumer")
                return True
            except Refused as error:
                return await self._park(record, error.reason, error.detail)
            except Exception as error:
                if is_away(error) and not isinstance(error, TimeoutError):
                    if not await self._wait_for_database(error):
                        return False
                    continue
                if isinstance(error, TRANSIENT) and time.monotonic() - began < TRANSIENT_S:
                    if not await self._running.pause(0.2):
                        return False
                    continue
                attempt += 1
                log.warning(
                    "record_failed",
                    consumer=self.group,
                    topic=record.topic,
                    partition=record.partition,
                    offset=record.offset,
                    attempt=attempt,
                    exc_info=error,
                )
                if attempt == ATTEMPTS:
                    return await self._park(record, "failed", f"{type(error).__name__} after {ATTEMPTS} attempts")
                self._running.metrics.consumer_retries.labels(self.group).inc()
                if not await self._running.pause(BACKOFF_S[attempt - 1] * random.uniform(0.5, 1.5)):  # noqa: S311
                    return False

    async def _effects(self, conn: Connection, records: Sequence[Record]) -> None:
        """The whole batch in the caller's transaction: held keys, inbox, listeners. Raises Refused for a bad record.

        What a stranger sends malformed is kept here at once, so that it does not cost the others their batch.
        """
        held = await parking.held_keys(conn, self.group, records)
        received: list[Received] = []
        for record in records:
            if record.key is not None and (record.topic, record.key) in held:
                await self._hold(conn, record)
                continue
            try:
                received.append(self._listeners.read(record))
            except Refused as error:
                if not self._foreign:
                    raise
                await self._keep(conn, record, "refused", error.reason, error.detail)
        if received:
            await self._hear(conn, received)

    async def _hear(self, conn: Connection, received: Sequence[Received]) -> None:
        heard = await inbox.hear(
            conn,
            self.group,
            [one.envelope for one in received],
            [one.event_id for one in received],
            [one.digest for one in received],
        )
        if heard.reused:
            raise Refused("id_reused", "this id was sent before with other data: a new event needs a new id")
        fresh = [received[place] for place in heard.fresh]
        await self._listeners.tell(conn, fresh)
        count = self._running.metrics.consumer_events
        count.labels(self.group, "done").inc(len(fresh))
        count.labels(self.group, "repeat").inc(len(received) - len(fresh))
        self._outcomes.extend([False] * len(fresh))
        if heard.gaps:
            log.warning("numbers_missing", consumer=self.group, count=heard.gaps)

    async def _hold(self, conn: Connection, record: Record) -> None:
        detail = "waits behind a parked record with the same key"
        await parking.park(conn, self._running.name, self.group, record, state="held", reason="held", detail=detail)
        self._running.metrics.consumer_events.labels(self.group, "held").inc()

    async def _park(self, record: Record, reason: str, detail: str) -> bool:
        """Park one record; waits for the database as long as it takes. False when the process is stopping."""
        state = "refused" if self._foreign and reason != "failed" else "parked"

        async def keep(conn: Connection) -> None:
            await self._keep(conn, record, state, reason, detail)

        while True:
            try:
                await self._running.database.run(keep, "consumer")
                break
            except Exception as error:
                if not await self._wait_for_database(error):
                    return False
        if state == "parked":
            self._outcomes.append(True)
            if sum(self._outcomes) >= MOST_PARKED:
                self._outcomes.clear()
                await self._set_paused(f"{MOST_PARKED} of the last {WINDOW} records were parked")
        return True

    async def _keep(self, conn: Connection, record: Record, state: str, reason: str, detail: str) -> None:
        event_id, kind = self._named(record)
        await parking.park(
            conn,
            self._running.name,
            self.group,
            record,
            state=state,
            reason=reason,
            detail=detail,
            event_id=event_id,
            type=kind,
        )
        place = {"topic": record.topic, "partition": record.partition, "offset": record.offset}
        log.warning("record_parked", consumer=self.group, reason=reason, **place)
        self._running.metrics.consumer_events.labels(self.group, "parked").inc()

    def _named(self, record: Record) -> tuple[str | None, str | None]:
        try:
            received = self._listeners.read(record)
        except Refused:
            return None, None
        return received.event_id, received.envelope.type

    async def _redrive(self) -> None:
        """Run what operators have let go, and what nothing holds back any more, each in a transaction of its own."""
        failed: list[int] = []
        while not self._running.stopping.is_set() and not self._paused:
            found: list[int] = []

            async def again(conn: Connection, found: list[int] = found) -> None:
                released = await parking.next_released(conn, self.group, failed)
                if released is None:
                    return
                parked_id, record = released
                found.append(parked_id)
                try:
                    async with conn.transaction():
                        await self._hear(conn, [self._listeners.read(record)])
                except Exception as error:
                    if is_away(error) or isinstance(error, TRANSIENT):
                        raise
                    reason = error.reason if isinstance(error, Refused) else "failed"
                    detail = error.detail if isinstance(error, Refused) else f"{type(error).__name__} when run again"
                    state = "refused" if self._foreign and isinstance(error, Refused) else "parked"
                    failed.append(parked_id)
                    await parking.park_again(conn, parked_id, state, reason, detail)
                else:
                    await parking.close(conn, parked_id)

            await self._running.database.run(again, "consumer")
            if not found:
                return

    async def _commit(self, records: Iterable[Record]) -> None:
        try:
            await self._kafka.commit(offsets.after(records))
        except KafkaError as error:  # a rebalance came between; the new owner reads again and the inbox knows
            log.info("offsets_not_committed", consumer=self.group, error=type(error).__name__)

    def _rewind(self, records: Iterable[Record]) -> None:
        for place, offset in offsets.first(records).items():
            if place in self._kafka.assignment():
                self._kafka.seek(place, offset)

    async def _wait_for_database(self, error: Exception) -> bool:
        if not self._waiting_for_database:
            log.warning("waiting_for_database", consumer=self.group, error=type(error).__name__)
        self._waiting_for_database = True
        try:
            return await self._running.pause(0.5)
        finally:
            self._waiting_for_database = False
            self._progress = time.monotonic()

    async def _watch(self) -> None:
        """Look at the operators' switch each second and at our own progress every 5 s."""
        replayed = None
        first = True
        watched = time.monotonic()
        while True:
            try:
                async with self._running.database.reading("consumer") as conn:
                    position = await switch.look(conn, self.group)
                    self._running.metrics.parked.labels(self.group).set(await parking.count_open(conn, self.group))
                self._apply(position.paused, position.reason)
                if not first and position.replay_asked_at != replayed and position.replay_from is not None:
                    await self._replay(position.replay_from.timestamp())
                replayed, first = position.replay_asked_at, False
                await self._redrive()
            except AWAY as error:
                log.info("switch_not_seen", consumer=self.group, error=type(error).__name__)
            except Exception as error:
                log.warning("switch_not_seen", consumer=self.group, exc_info=error)
            if time.monotonic() - watched > WATCH_S:
                watched = time.monotonic()
                await self._look_for_progress()
            if not await self._running.pause(SWITCH_S):
                return

    def _apply(self, paused: bool, reason: str) -> None:
        if bool(self._paused) != paused:
            log.warning("consumer_paused" if paused else "consumer_resumed", consumer=self.group, because=reason)
        self._paused = (reason or "by an operator") if paused else ""
        assigned = self._kafka.assignment()
        if paused:
            self._kafka.pause(*assigned)
            self._progress = time.monotonic()
        else:
            self._kafka.resume(*(assigned & self._kafka.paused()))

    async def _set_paused(self, reason: str) -> None:
        self._paused = reason
        await self._running.database.run(lambda conn: switch.pause(conn, self.group, reason), "consumer")
        log.error("consumer_paused", consumer=self.group, because=reason)

    async def _replay(self, since_s: float) -> None:
        assigned = self._kafka.assignment()
        found = await self._kafka.offsets_for_times({place: int(since_s * 1000) for place in assigned})
        for place, offset in found.items():
            if offset is not None:
                self._kafka.seek(place, offset.offset)
        log.info("consumer_replays", consumer=self.group, partitions=len(assigned))

    async def _look_for_progress(self) -> None:
        lag = 0
        assigned = self._kafka.assignment()
        try:
            async with asyncio.timeout(WATCH_S):
                for place, end in (await self._kafka.end_offsets(list(assigned))).items():
                    lag += max(0, end - await self._kafka.position(place))
        except (KafkaError, TimeoutError) as error:  # the broker is away: a restart of ours would not help
            log.info("lag_not_known", consumer=self.group, error=type(error).__name__)
            return
        self._running.metrics.consumer_lag.labels(self.group).set(lag)
        nothing_yet = self._pattern is not None and not self._kafka.subscription()  # no topic fits the pattern
        if (assigned and lag == 0) or nothing_yet or self._waiting_for_database:
            self._progress = time.monotonic()
        if time.monotonic() - self._progress > STUCK_S:
            log.error("consumer_stuck", consumer=self.group, lag=lag, partitions=len(assigned))
            os._exit(STUCK_EXIT)  # the supervisor starts a new one; nothing that was not committed is lost

    async def _check(self) -> str | None:
        """For /readyz."""
        if self._paused:
            return f"paused: {self._paused}"
        behind_s = time.monotonic() - self._progress
        return f"no progress for {behind_s:.0f} s" if behind_s > STUCK_S / 2 else None


async def _as_it_is(message: KafkaMessage) -> Any:
    """Hand over raw records: a lying content-type must not make a decoder raise before our own code is asked."""
    return message.raw_message
