"""A record that the Kafka client itself cannot read is read all the same, and costs nobody a record."""

import asyncio
import itertools
import json
import uuid
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.errors import CorruptRecordException
from aiokafka.record.default_records import _DefaultRecordBatchBuilderPy

from contracts.envelope import Event
from contracts.registry import BY_TYPE
from contracts.topics import Topic
from kit import parking, topics
from kit.consumer import Consumer
from kit.database import Connection, connect
from kit.listeners import Listeners, Received
from kit.running import Running
from tests.delivery import Servers, listening, running, until

pytestmark = pytest.mark.anyio

PARTITIONS = 8
EVENTS = 8 * 21


class NotUtf8(str):
    """A header name whose bytes are not UTF-8, as a client in another language may send it."""

    def encode(self, *_: Any) -> bytes:
        return b"\xff\xfe"


@dataclass
class Place:
    topic: str
    here: Running
    conn: Connection
    event: Any
    listeners: Listeners
    heard: list[int]

    def consumer(self) -> Consumer:
        return Consumer("things", self.listeners, topics=(self.topic,))

    def value(self, number: int) -> bytes:
        return json.dumps(
            {
                "specversion": "1.0",
                "id": str(uuid.uuid4()),
                "source": f"/{self.here.name}",
                "type": self.event.spec.type,
                "data": {"thing": f"t{number}", "number": number},
            }
        ).encode()


@pytest.fixture
async def place(servers: Servers, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Place]:
    """21 events in each of eight partitions; in the middle of the last partition lies one with such a header."""
    name = f"unread{uuid.uuid4().hex[:8]}"
    topic = Topic(f"{name}.things", name, "thing", (), partitions=PARTITIONS)
    await topics.declare(servers.kafka, [topic, Topic(f"{name}.parked", name, "", (), partitions=1)])

    class Seen(Event, topic=topic.name, aggregate="thing", key="thing"):
        thing: str
        number: int

    Seen.spec = replace(Seen.spec, type=f"no.kursnett.{name}.Seen.v1")
    monkeypatch.setitem(BY_TYPE, Seen.spec.type, Seen)
    settings = await servers.database()
    conn = await connect(settings, "test")
    listeners = Listeners()
    heard: list[int] = []

    @listeners.on(Seen)
    async def note(_: Connection, received: Sequence[Received]) -> None:
        events: list[Any] = [one.event for one in received]
        heard.extend(event.number for event in events)

    async with running(settings, name) as here:
        place = Place(topic.name, here, conn, Seen, listeners, heard)
        producer = AIOKafkaProducer(bootstrap_servers=servers.kafka)
        await producer.start()
        number = itertools.count()
        for partition in range(PARTITIONS):
            batch = producer.create_batch()
            batch._builder = _DefaultRecordBatchBuilderPy(
                2, 0, 0, -1, -1, 0, 100_000
            )  # the compiled one takes a str only
            for place_in_partition in range(21):
                if partition == PARTITIONS - 1 and place_in_partition == 10:
                    batch.append(
                        key=None, value=place.value(next(number)), timestamp=None, headers=[(NotUtf8("x"), b"")]
                    )
                else:
                    batch.append(key=None, value=place.value(next(number)), timestamp=None)
            await (await producer.send_batch(batch, topic.name, partition=partition))
        await producer.stop()
        yield place
    await conn.close()


async def test_events_around_and_with_a_header_name_that_is_not_utf8_are_all_heard(place: Place) -> None:
    async with listening(place.here, place.consumer()):
        await until(lambda: asyncio.sleep(0, len(place.heard) >= EVENTS))
    assert sorted(place.heard) == list(range(EVENTS))
    assert await parking.listing(place.conn) == []


async def test_events_beside_a_record_that_came_damaged_are_all_heard(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """aiokafka raises when a checksum is wrong, and what it has taken from other partitions is gone with the error."""
    damaged = False

    async def once_damaged(consumer: Any, *partitions: Any, **wanted: Any) -> Any:
        nonlocal damaged
        found = await getmany(consumer, *partitions, **wanted)
        if found and not damaged:
            damaged = True
            raise CorruptRecordException
        return found

    getmany = AIOKafkaConsumer.getmany
    monkeypatch.setattr(AIOKafkaConsumer, "getmany", once_damaged)
    async with listening(place.here, place.consumer()):
        await until(lambda: asyncio.sleep(0, len(place.heard) >= EVENTS))
    assert damaged
    assert sorted(place.heard) == list(range(EVENTS))


async def test_reading_on_without_going_back_would_lose_other_partitions_events(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The red control: what was taken beside the record that raised is never heard."""

    async def stay(*_: Any) -> dict[Any, int]:
        return {}

    ordered = False

    async def unreadable_last(consumer: Any, *partitions: Any, **wanted: Any) -> Any:
        """The client hands over partitions in the order in which they arrived: see that the bad one comes last."""
        nonlocal ordered
        arrived = consumer._fetcher._records
        if not ordered:
            await until(lambda: asyncio.sleep(0, len(arrived) == PARTITIONS))
            bad = next(tp for tp in arrived if tp.partition == PARTITIONS - 1)
            arrived[bad] = arrived.pop(bad)
            ordered = True
        return await getmany(consumer, *partitions, **wanted)

    getmany = AIOKafkaConsumer.getmany
    monkeypatch.setattr(AIOKafkaConsumer, "getmany", unreadable_last)
    monkeypatch.setattr(AIOKafkaConsumer, "seek_to_committed", stay)
    async with listening(place.here, place.consumer()):
        await until(lambda: asyncio.sleep(0, EVENTS - 1 in place.heard))
    assert len(place.heard) < EVENTS
