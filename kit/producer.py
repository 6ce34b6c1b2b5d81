"""Sends rows of the outbox to Kafka: a batch a partition built by hand, all in flight, and what became of each."""

import asyncio
import base64
import contextlib
import functools
import json
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from aiokafka import AIOKafkaProducer
from aiokafka.errors import (
    KafkaError,
    KafkaTimeoutError,
    OutOfOrderSequenceNumber,
    ProducerClosed,
    ProducerFenced,
)
from aiokafka.partitioner import DefaultPartitioner

from contracts.envelope import STRUCTURED
from contracts.topics import MAX_PARKED_BYTES
from kit import logs
from kit.metrics import Metrics

log = logs.get(__name__)

BATCH_BYTES = 256 * 1024
SEND_S = 15.0  # an idempotent producer never gives up by itself; after this all is sent again
REST_S = 5.0  # how long an aggregate rests whose record the broker refused, or whose topic is not there
TOPIC_S = 5.0
STOP_S = 2.0

# Beside what aiokafka calls retriable: the broker or this producer is in trouble, and says nothing of the record.
AWAY = (TimeoutError, KafkaTimeoutError, OutOfOrderSequenceNumber, ProducerClosed, ProducerFenced)

HEADERS = [("content-type", STRUCTURED.encode())]


@dataclass(slots=True)
class Stuck:
    """An aggregate whose next record the broker does not take: why, and since when and until when that was seen."""

    why: str
    since: float
    seen: float


@dataclass(frozen=True, slots=True)
class Flight:
    """Rows under way to one partition; `ack` is done when the broker has them, or says why not."""

    rows: Sequence[Any]
    ack: asyncio.Future[Any]
    producer: AIOKafkaProducer


class Producer:
    """An idempotent aiokafka producer that is thrown away at the first error: a new one sends again from the table.

    Each partition has one batch under way at a time, so that what is sent later cannot arrive earlier. Behind a batch
    that it has refused, the broker takes nothing more of the same producer: that would be out of order. But it can tell
    only when it has taken one before, and so a partition's first batch is waited for before the next is sent.
    """

    def __init__(self, bootstrap: str, metrics: Metrics) -> None:
        self._bootstrap = bootstrap
        self._metrics = metrics
        self._producer: AIOKafkaProducer | None = None
        self._resting: dict[str, float] = {}  # aggregate -> when to try it again
        self._stuck: dict[str, Stuck] = {}
        self._missing: dict[str, asyncio.Future[set[int]]] = {}  # topic -> the look for it, beside everything else
        self._firsts: dict[
            tuple[AIOKafkaProducer, str, int], asyncio.Future[Any]
        ] = {}  # acks of partitions' first batches
        self._suspects: set[str] = set()  # aggregates of a refused batch: sent apart, so that one costs only itself
        self.trouble = ""

    @property
    def is_gone(self) -> bool:
        """Whether it was thrown away, with whatever was under way."""
        return self._producer is None

    def resting(self) -> list[str]:
        """The aggregates not to be sent now: what comes after a failed record must not overtake it."""
        now = time.monotonic()
        self._resting = {aggregate: until for aggregate, until in self._resting.items() if until > now}
        return list(self._resting)

    def stuck(self) -> dict[str, Stuck]:
        """The aggregates whose next record was refused each time that it was tried, by their names."""
        oldest = time.monotonic() - 3 * REST_S  # one that is not refused again is over, whoever ended it
        self._stuck = {aggregate: one for aggregate, one in self._stuck.items() if one.seen > oldest}
        return dict(self._stuck)

    async def send(self, rows: Sequence[Any]) -> list[Flight]:
        """Put rows (id, aggregate, topic, key, headers, payload) under way, in their order within each aggregate.

        Rows whose topic is missing are left out and rest. Raises KafkaError or OSError when the broker is away.
        """
        producer = await self._open()
        flights: list[Flight] = []
        partitions: dict[str, list[int]] = {}
        for topic in {row["topic"] for row in rows}:
            partitions[topic] = await self._partitions(producer, topic)
        for topic, partition, batch, batched in self._batches(producer, rows, partitions):
            first = self._firsts.get((producer, topic, partition))
            if first is not None:
                if not first.done():
                    await asyncio.wait([first], timeout=SEND_S)
                if _wrong(first):  # this producer is thrown away, and what is left is read and sent again
                    break
            ack = await producer.send_batch(batch, topic, partition=partition)
            ack.add_done_callback(_seen)
            self._firsts.setdefault((producer, topic, partition), ack)
            flights.append(Flight(batched, ack, producer))
        return flights

    def _batches(
        self, producer: AIOKafkaProducer, rows: Sequence[Any], partitions: dict[str, list[int]]
    ) -> Iterator[tuple[str, int, Any, list[Any]]]:
        """(topic, partition, batch, its rows), whole batches as they fill up and then what is left."""
        open_batches: dict[tuple[str, int, str], tuple[Any, list[Any]]] = {}
        for row in rows:
            aggregate, topic = row["aggregate"], row["topic"]
            if aggregate in self._resting:  # since these rows were read
                continue
            if not partitions[topic]:
                self.rest(aggregate, f"topic {topic} is not there")
                continue
            partition = _partition(row["key"], len(partitions[topic]))
            place = (topic, partition, aggregate if aggregate in self._suspects else "")
            headers = HEADERS if row["headers"] is None else _headers(row["headers"])
            batch, batched = open_batches.get(place) or (producer.create_batch(), [])
            if batch.append(key=row["key"], value=row["payload"], timestamp=None, headers=headers) is None:
                yield topic, partition, batch, batched
                batch, batched = producer.create_batch(), []
                batch.append(key=row["key"], value=row["payload"], timestamp=None, headers=headers)
            batched.append(row)
            open_batches[place] = batch, batched
        for (topic, partition, _), (batch, batched) in open_batches.items():
            yield topic, partition, batch, batched

    async def _partitions(self, producer: AIOKafkaProducer, topic: str) -> list[int]:
        """The topic's partitions; none when it is missing, which must not stop the other topics.

        It is waited for once. From then on it is looked for beside them: aiokafka asks for ten seconds each time.
        """
        look = self._missing.get(topic)
        if look is None:
            try:
                async with asyncio.timeout(TOPIC_S):
                    return sorted(await producer.partitions_for(topic))
            except (KafkaError, TimeoutError) as error:
                log.warning("relay_topic_not_found", topic=topic, error=type(error).__name__)
        elif not look.done():
            return []
        elif _wrong(look) is None:
            del self._missing[topic]
            return sorted(look.result())
        self._missing[topic] = look = asyncio.ensure_future(producer.partitions_for(topic))
        look.add_done_callback(_seen)
        return []

    async def settle(self, flights: Sequence[Flight]) -> list[int]:
        """Wait for the broker; returns the ids of the rows that it has for certain, and lets rest what it refused.

        Those whose producer was thrown away since are to be read and sent again.
        """
        flights = [flight for flight in flights if flight.producer is self._producer]
        if not flights:
            return []
        await asyncio.wait([flight.ack for flight in flights], timeout=SEND_S)
        failed = {row["aggregate"] for flight in flights if _wrong(flight.ack) for row in flight.rows}
        acked: list[int] = []
        for flight in flights:
            wrong = _wrong(flight.ack)
            if wrong is None:
                acked += [row["id"] for row in flight.rows if row["aggregate"] not in failed]
                if self._stuck:
                    for row in flight.rows:
                        if row["aggregate"] not in failed:
                            self._stuck.pop(row["aggregate"], None)
            elif isinstance(wrong, AWAY) or getattr(wrong, "retriable", False):  # not the record's fault: it goes again
                self.trouble = type(wrong).__name__
            else:
                for aggregate in {row["aggregate"] for row in flight.rows}:
                    self._suspects.add(aggregate)
                    self.rest(aggregate, type(wrong).__name__)
        if failed:
            await self.drop()  # it may be unable to go on
        else:
            self._suspects -= {row["aggregate"] for flight in flights for row in flight.rows}
        return acked

    def rest(self, aggregate: str, why: str) -> None:
        """Leave an aggregate alone for some seconds."""
        now = time.monotonic()
        self._resting[aggregate] = now + REST_S
        known = self._stuck.setdefault(aggregate, Stuck(why, now, now))
        known.why, known.seen = why, now
        self.trouble = why
        self._metrics.relay_errors.inc()
        log.warning("relay_aggregate_rests", aggregate=aggregate, error=why)

    async def _open(self) -> AIOKafkaProducer:
        if self._producer is None:
            producer = AIOKafkaProducer(
                bootstrap_servers=self._bootstrap,
                acks="all",
                enable_idempotence=True,
                max_batch_size=BATCH_BYTES,
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

    async def drop(self) -> None:
        """Close the producer, whatever state it is in. The next `send` makes a new one."""
        producer, self._producer = self._producer, None
        for look in self._missing.values():
            look.cancel()
        self._firsts.clear()
        if producer is None:
            return
        stop = asyncio.ensure_future(producer.stop())
        await asyncio.wait([stop], timeout=STOP_S)  # it would wait for a broker that is gone
        if not stop.done():
            stop.cancel()
            await asyncio.wait([asyncio.ensure_future(_hang_up(producer))], timeout=STOP_S)
        elif not stop.cancelled():
            stop.exception()


async def _hang_up(producer: AIOKafkaProducer) -> None:
    """End what a `stop` that was cut off leaves running: it would hold its connections, and send what was given up."""
    await producer.client.close()  # first, so that nothing under way is waited for
    with contextlib.suppress(Exception):  # it may have failed before
        await producer._sender.close()


# Hashing in Python costs more than all else that is done to a row, and a busy aggregate's key comes again and again.
@functools.lru_cache(maxsize=20_000)
def _partition(key: bytes | None, count: int) -> int:
    """As every Kafka client chooses by default: murmur2 of the key. Without a key: always the first."""
    partition: int = DefaultPartitioner()(key, range(count), []) if key is not None else 0
    return partition


def _wrong(ack: asyncio.Future[Any]) -> BaseException | None:
    if not ack.done():
        return TimeoutError("no ack in time")
    return asyncio.CancelledError() if ack.cancelled() else ack.exception()


def _seen(future: asyncio.Future[Any]) -> None:
    """Take note of an error that nobody may ask for any more, so that no warning of it is logged at exit."""
    if not future.cancelled():
        future.exception()


def _headers(stored: str) -> list[tuple[str, bytes]]:
    return [(name, base64.b64decode(value)) for name, value in json.loads(stored)]
