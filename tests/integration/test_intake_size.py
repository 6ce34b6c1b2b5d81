"""What a partner's program may send that is too large or packed: refused with a reason or read, and no one waits."""

import asyncio
import json
import os
import struct
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import aiokafka.codec
import asyncpg
import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.errors import MessageSizeTooLargeError, UnsupportedCodecError
from aiokafka.record import default_records

from contracts.topics import MAX_EVENT_BYTES, Topic, owned_by, partner_courses
from kit import parking, topics
from services.catalogue import events
from tests.delivery import Servers, listening, records, relaying, until
from tests.integration.corpus import COURSE
from tests.integration.test_catalogue import World, world

pytestmark = pytest.mark.anyio

GZIP, ZSTD = 1, 4
SPACES = 2000
MEGABYTE = 1_000_000


def zstd(data: bytes) -> bytes:
    """A zstd frame of three blocks: what stands before a run of spaces, the run in one byte, what stands after."""
    before, _, after = bytes(data).partition(b" " * SPACES)

    def block(kind: int, size: int, content: bytes, last: int = 0) -> bytes:
        return (size << 3 | kind << 1 | last).to_bytes(3, "little") + content

    head = b"\x28\xb5\x2f\xfd\xa0" + struct.pack("<I", len(data))
    return head + block(0, len(before), before) + block(1, SPACES, b" ") + block(0, len(after), after, 1)


async def send_packed(kafka: str, topic: str, codec: int, value: bytes) -> None:
    """Send one record in a batch packed with a codec that our own client may not have."""
    producer = AIOKafkaProducer(bootstrap_servers=kafka, max_request_size=10 * MEGABYTE)
    await producer.start()
    try:
        batch = producer.create_batch()
        batch._builder = default_records._DefaultRecordBatchBuilderPy(2, codec, 0, -1, -1, 0, 100 * MEGABYTE)
        batch.append(key=b"SV-2", value=value, timestamp=None)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(aiokafka.codec, "has_zstd", lambda: True)
            patch.setattr(default_records, "zstd_encode", zstd)
            await (await producer.send_batch(batch, topic, partition=0))
    finally:
        await producer.stop()


def published(partner: str) -> bytes:
    event = {
        "specversion": "1.0",
        "id": str(uuid.uuid4()),
        "source": f"/partners/{partner}",
        "type": "no.kursnett.partner.CoursePublished.v1",
        "data": {"code": "SV-2", **COURSE},
    }
    return json.dumps(event).encode() + b" " * SPACES


@asynccontextmanager
async def listened(servers: Servers) -> AsyncIterator[World]:
    await topics.declare(servers.kafka, owned_by("catalogue"))
    async with world(servers) as here, relaying(here.here), listening(here.here, events.partners()):
        yield here


async def taken(here: World, code: str) -> None:
    """Wait until a course has been taken in from the partner's topic."""

    async def noted() -> bool:
        return any((one["outcome"], one["code"]) == ("taken", code) for one in await here.intake())

    await until(noted, within_s=40)


async def test_a_value_of_a_megabyte_is_refused_with_a_reason_and_the_next_runs_on(servers: Servers) -> None:
    async with listened(servers) as here:
        topic = f"partners.{here.partner}.courses"
        sizes = [MAX_EVENT_BYTES + 1, MEGABYTE, 1024 * 1024 - 200]  # the last fills a batch with its key and headers
        producer = AIOKafkaProducer(bootstrap_servers=servers.kafka, max_request_size=2 * 1024 * 1024)
        await producer.start()
        try:
            for size in sizes:
                await producer.send_and_wait(topic, b'{"a": "' + b"x" * (size - 9) + b'"}', key=b"SV-1")
        finally:
            await producer.stop()
        await here.send(("CoursePublished", {"code": "SV-1", **COURSE}))
        await taken(here, "SV-1")

        refused = [one for one in await here.intake() if one["outcome"] == "refused"]
        assert [one["reason"] for one in refused] == ["too_large"] * len(sizes)
        assert f"the value is {MEGABYTE} bytes; an event may have {MAX_EVENT_BYTES}" in [
            one["detail"] for one in refused
        ]
        async with here.here.database.reading() as conn:
            assert [row["bytes"] for row in await parking.listing(conn)] == sizes
        assert await copies(servers.kafka, topic, len(sizes)) == sizes


async def copies(kafka: str, topic: str, count: int) -> list[int]:
    """The sizes of the first copies of a topic's records that operators can read on `catalogue.parked`."""
    found: list[int] = []
    async with AIOKafkaConsumer("catalogue.parked", bootstrap_servers=kafka, auto_offset_reset="earliest") as reader:
        async with asyncio.timeout(30):
            while len(found) < count:
                for part in (await reader.getmany(timeout_ms=200)).values():
                    found += [len(one.value) for one in part if dict(one.headers)["topic"] == topic.encode()]
    return found


async def test_a_key_that_could_not_be_parked_is_refused_before_it_is_looked_at(servers: Servers) -> None:
    async with listened(servers) as here:
        async with AIOKafkaProducer(bootstrap_servers=servers.kafka) as producer:
            topic = f"partners.{here.partner}.courses"
            await producer.send_and_wait(topic, published(here.partner), key=os.urandom(3000))
        await here.send(("CoursePublished", {"code": "SV-1", **COURSE}))
        await taken(here, "SV-1")
        [refused] = [one for one in await here.intake() if one["outcome"] == "refused"]
        assert (refused["reason"], refused["detail"]) == ("too_large", "key: is 3000 bytes; a key may have 1000")
        # The red control: had its listener failed, the consumer would try to park it for ever.
        record = parking.Record(topic, 0, 1_000_000, os.urandom(3000), (), b"{}")
        with pytest.raises(asyncpg.ProgramLimitExceededError):
            await here.here.database.run(
                lambda conn: parking.park(
                    conn, "catalogue", "catalogue.partners", record, state="parked", reason="failed", detail=""
                )
            )


async def test_a_batch_is_read_whatever_codec_the_sender_packed_it_with(servers: Servers) -> None:
    async with listened(servers) as here:
        await send_packed(servers.kafka, f"partners.{here.partner}.courses", ZSTD, published(here.partner))
        await taken(here, "SV-2")


async def test_a_batch_that_unpacks_to_more_than_a_batch_may_hold_is_refused_to_its_sender(servers: Servers) -> None:
    async with listened(servers) as here:
        topic = f"partners.{here.partner}.courses"
        with pytest.raises(MessageSizeTooLargeError):
            await send_packed(servers.kafka, topic, GZIP, b"x" * (5 * MEGABYTE))
        await here.send(("CoursePublished", {"code": "SV-1", **COURSE}))
        await taken(here, "SV-1")
        assert len(await here.intake()) == 1


async def test_on_a_topic_that_keeps_what_is_packed_both_get_through(servers: Servers) -> None:
    """The red control of the two tests before: our client then cannot read the one, and unpacks all of the other."""
    slug = f"packed-{uuid.uuid4().hex[:8]}"
    packed = Topic(f"partners.{slug}.packed", "catalogue", "", (), partitions=1)
    assert "compression.type" not in packed.settings
    assert partner_courses(slug).settings["compression.type"] == "uncompressed"
    await topics.declare(servers.kafka, [packed])
    await send_packed(servers.kafka, packed.name, GZIP, b"x" * (5 * MEGABYTE))
    [bomb] = await records(servers.kafka, packed.name, 1)
    assert len(bomb.value) == 5 * MEGABYTE
    await send_packed(servers.kafka, packed.name, ZSTD, published(slug))
    with pytest.raises(UnsupportedCodecError):
        await records(servers.kafka, packed.name, 2)
