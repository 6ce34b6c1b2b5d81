"""Listens to topics: the only caller of `broker.subscriber`. Records become events, effects, then committed offsets."""

import asyncio
import logging
import os
import time
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any

from aiokafka import AIOKafkaConsumer, ConsumerRebalanceListener
from aiokafka.errors import KafkaError
from faststream import AckPolicy
from faststream.kafka import KafkaBroker, KafkaMessage

from kit import fetching, logs, offsets, parking, switch
from kit.database import Busy, is_away
from kit.effects import Effects
from kit.health import broker_answers
from kit.listeners import Listeners
from kit.parking import Record
from kit.running import Running

log = logs.get(__name__)

BATCH = 1000  # records in one transaction: read at once, some 20 ms in which this process does nothing else
A_RUSH = 4  # records at once: then more come, and the next batch begins GATHER_S after this one, or when it is whole
GATHER_S = 0.05
SOON_MS = 20  # for the answer of a broker that most likely has something
FETCH_MS = 200  # how long one look at the broker waits for something; it ends at once when something comes
TOPICS_MS = 5_000  # how soon a new topic that fits the pattern is followed
SWITCH_S = 1.0  # how soon an operator's pause, resume, replay or redrive is seen
WATCH_S = 5.0
STUCK_S = 60.0  # waiting records and no progress for so long: this process is no use and should be restarted
STUCK_EXIT = 70


class Consumer:
    """One consumer group of a service. `foreign`: strangers write here, so what is malformed holds nobody back.

    `batch`: records in one transaction, fewer where its locks keep others waiting.
    """

    def __init__(
        self,
        name: str,
        listeners: Listeners,
        topics: Sequence[str] = (),
        pattern: str | None = None,
        foreign: bool = False,
        batch: int = BATCH,
    ) -> None:
        self.name = name
        self.topics = tuple(topics)
        self._listeners = listeners
        self._pattern = pattern
        self._foreign = foreign
        self._batch = batch
        self._progress = time.monotonic()
        self._is_rush = False  # more than a few came at once, and fewer than a batch holds
        self._began = 0.0
        self._in_hand = 0  # records taken and not done with
        self._astray = False  # a look at the broker ended in an error: what it passed over is not known
        self._read_again: datetime | None = None  # what an operator has asked for and was not begun yet
        self._member = _Member()
        self._effects: Effects

    async def run(self, running: Running) -> None:
        """Listen until the process is asked to stop; what is in hand is finished, what is not is read again."""
        self._running = running
        self.group = f"{running.name}.{self.name}"
        self._effects = Effects(self.group, running, self._listeners, self._foreign)
        running.health.register(f"consumer {self.name}", self._check)
        running.health.mention(f"consumer {self.name}", self._held_up)
        broker = KafkaBroker(
            running.settings.kafka_bootstrap.split(","),  # FastStream takes one text for one address
            client_id=self.group,
            consumer_only=True,  # it has no producer, so that no header of a record can make us write anywhere
            allow_auto_create_topics=False,
            metadata_max_age_ms=TOPICS_MS,
            graceful_timeout=12,
            logger=logging.getLogger("faststream"),
        )
        self._subscriber = self._subscribe(broker)
        self._broker_answers = broker_answers(running.settings.kafka_bootstrap)
        try:
            if await self._knows_switch() and await self._joins(broker):
                await self._watch()
        finally:
            await broker.stop()

    async def _knows_switch(self) -> bool:
        """See before the first record whether operators have paused us. False when asked to stop before."""
        while True:
            try:
                async with self._running.database.reading("consumer") as conn:
                    position = await switch.look(conn, self.group)
            except Busy:
                if not await self._running.pause(SWITCH_S):
                    return False
            else:
                self._effects.paused = (position.reason or "by an operator") if position.paused else ""
                return True

    async def _joins(self, broker: KafkaBroker) -> bool:
        """Join the group, which waits for a topic that its owner has not made yet. False when asked to stop before."""
        joining = asyncio.ensure_future(broker.start())
        stop = asyncio.ensure_future(self._running.stopping.wait())
        await asyncio.wait([joining, stop], return_when=asyncio.FIRST_COMPLETED)
        stop.cancel()
        if not joining.done():
            joining.cancel()
            await asyncio.wait([joining])
            return False
        await joining
        self._progress = time.monotonic()
        return True

    def _subscribe(self, broker: KafkaBroker) -> Any:
        # A lasting member that comes back gets its old assignment and never the topics that fit the pattern since.
        instance = "" if self._pattern else self._running.settings.instance
        subscriber = broker.subscriber(
            *self.topics,
            pattern=self._pattern,
            group_id=self.group,
            group_instance_id=f"{self.group}-{instance}" if instance else None,  # restarted, it needs no rebalance
            batch=True,
            max_records=self._batch,
            auto_offset_reset="earliest",
            ack_policy=AckPolicy.MANUAL,
            no_reply=True,  # a reply_to header would make FastStream publish with our credentials
            listener=self._member,
            parser=self._parse,
            decoder=_as_it_is,
            max_poll_interval_ms=300_000,
            session_timeout_ms=6_000,  # the least that a broker allows: how long a killed member is waited for
        )
        subscriber.get_msg = self._fetch  # type: ignore[method-assign]  # its own sleeps, and loses what came beside
        subscriber(self._take)
        return subscriber

    async def _fetch(self, consumer: AIOKafkaConsumer) -> tuple[Record, ...]:
        """The next records, as soon as there are any; none after a while, so that FastStream can see it is to stop."""
        if self._is_rush:
            await asyncio.sleep(self._began + GATHER_S - time.monotonic())
        if self._astray:
            await fetching.go_back(consumer)
        self._astray = True
        if self._read_again is not None and self._member.has_joined:
            await self._replay(self._read_again)
        try:
            found = fetching.records(await consumer.getmany(timeout_ms=FETCH_MS, max_records=self._batch))
            if self._is_rush and found and len(found) < self._batch:  # that was read ahead when the first of it came
                most = self._batch - len(found)
                found += fetching.records(await consumer.getmany(timeout_ms=SOON_MS, max_records=most))
        except UnicodeDecodeError:
            log.warning("header_not_utf8", consumer=self.group)
            found = await fetching.leniently(consumer, self._batch)
        self._astray = False
        return found

    async def _parse(self, records: Any) -> KafkaMessage:
        """FastStream's own parser raises on a header that is not UTF-8, and the batch would be passed over."""
        return KafkaMessage(body=b"", raw_message=records, consumer=self._kafka)

    @property
    def _kafka(self) -> AIOKafkaConsumer:
        return self._subscriber.consumer

    async def _take(self, message: KafkaMessage) -> None:
        """One batch: one transaction and one commit of offsets; record by record when that fails. Never raises."""
        records: Any = message.raw_message
        self._in_hand = len(records)
        self._began = time.monotonic()
        self._is_rush = A_RUSH <= len(records) < self._batch
        taken = False
        try:
            taken = not self._effects.paused and await self._effects.take(records)
        except Exception as error:  # FastStream would go on behind the batch, and the next commit past it
            log.error("batch_not_taken", consumer=self.group, count=len(records), exc_info=error)
            await self._running.pause(SWITCH_S)
        finally:
            self._in_hand = 0
        if not taken:
            self._rewind(records)
            return
        self._progress = time.monotonic()
        await self._commit(records)

    async def _commit(self, records: Iterable[Record]) -> None:
        try:
            await self._kafka.commit(offsets.after(records))
        except KafkaError as error:  # a rebalance came between; the new owner reads again and the inbox knows
            log.info("offsets_not_committed", consumer=self.group, error=type(error).__name__)

    def _rewind(self, records: Iterable[Record]) -> None:
        for place, offset in offsets.first(records).items():
            if place in self._kafka.assignment():
                self._kafka.seek(place, offset)

    async def _watch(self) -> None:
        """Look at the operators' switch each second and at our own progress every 5 s."""
        replayed = None
        first = True
        watched = time.monotonic()
        while True:
            more = False
            try:
                async with self._running.database.reading("consumer") as conn:
                    position = await switch.look(conn, self.group)
                    self._running.metrics.parked.labels(self.group).set(await parking.count_open(conn, self.group))
                self._apply(position.paused, position.reason)
                if not first and position.replay_asked_at != replayed and position.replay_from is not None:
                    self._read_again = position.replay_from
                replayed, first = position.replay_asked_at, False
                more = await self._effects.redrive(SWITCH_S)
            except Exception as error:
                if is_away(error):
                    log.info("switch_not_seen", consumer=self.group, error=type(error).__name__)
                else:
                    log.warning("switch_not_seen", consumer=self.group, exc_info=error)
            if time.monotonic() - watched > WATCH_S:
                watched = time.monotonic()
                await self._look_for_progress()
            if not await self._running.pause(0 if more else SWITCH_S):
                return

    def _apply(self, paused: bool, reason: str) -> None:
        if bool(self._effects.paused) != paused:
            log.warning("consumer_paused" if paused else "consumer_resumed", consumer=self.group, because=reason)
        self._effects.paused = (reason or "by an operator") if paused else ""
        assigned = self._kafka.assignment()
        if paused:
            self._kafka.pause(*assigned)
        else:
            self._kafka.resume(*(assigned & self._kafka.paused()))

    async def _replay(self, since: datetime) -> None:
        """Go back to what was written since. Between two batches: one in hand would commit, or go back, past it."""
        at_ms = int(since.timestamp() * 1000)
        assigned = self._kafka.assignment()
        found = await self._kafka.offsets_for_times(dict.fromkeys(assigned, at_ms)) if assigned else {}
        begin = {place: offset.offset for place, offset in found.items() if offset is not None}
        for place, at in begin.items():
            self._kafka.seek(place, at)
        if begin:
            await self._kafka.commit(begin)  # a restart or another owner goes on with it
        if self._read_again == since:  # else somebody has asked for more meanwhile
            self._read_again = None
        log.info("consumer_replays", consumer=self.group, partitions=len(assigned))

    async def _look_for_progress(self) -> None:
        known = self._in_hand  # the broker's client counts these as taken
        assigned = self._kafka.assignment()
        try:
            async with asyncio.timeout(WATCH_S):
                for place, end in (await self._kafka.end_offsets(list(assigned))).items():
                    known += max(0, end - await self._kafka.position(place))
            lag: int | None = known
            self._running.metrics.consumer_lag.labels(self.group).set(known)
        except (KafkaError, TimeoutError) as error:
            log.info("lag_not_known", consumer=self.group, error=type(error).__name__)
            lag = None
        nothing_yet = self._pattern is not None and not self._kafka.subscription()  # no topic fits the pattern
        # In the group without a partition: there are more replicas than partitions. Not in it for long: stuck.
        nothing_to_do = lag == 0 and self._member.has_joined
        # A broker that is away is no reason to restart; one that answers everybody but this client is.
        away = lag is None and await self._broker_answers() is not None
        held_up = bool(self._effects.paused) or self._effects.waiting_for_database
        if nothing_to_do or nothing_yet or away or held_up:
            self._progress = time.monotonic()
        if self._idle_s() > STUCK_S:
            log.error("consumer_stuck", consumer=self.group, lag=lag, partitions=len(assigned))
            os._exit(STUCK_EXIT)  # the supervisor starts a new one; nothing that was not committed is lost

    def _idle_s(self) -> float:
        return time.monotonic() - max(self._progress, self._effects.waited)

    async def _check(self) -> str | None:
        """For /readyz."""
        behind_s = self._idle_s()
        late = behind_s > STUCK_S / 2 and not self._effects.paused
        return f"no progress for {behind_s:.0f} s" if late else None

    async def _held_up(self) -> str | None:
        """For an operator: who asks for nothing but what others say is served, and a service that is started so gets
        ready, or nobody could resume it.
        """
        return f"paused: {self._effects.paused}" if self._effects.paused else None


class _Member(ConsumerRebalanceListener):  # type: ignore[misc]  # aiokafka has no types
    """Whether this consumer is in its group, be it without any partition."""

    has_joined = False

    async def on_partitions_revoked(self, revoked: Any) -> None:
        self.has_joined = False

    async def on_partitions_assigned(self, assigned: Any) -> None:
        self.has_joined = True


async def _as_it_is(message: KafkaMessage) -> Any:
    """Hand over raw records: a lying content-type must not make a decoder raise before our own code is asked."""
    return message.raw_message
