"""How far a consumer group has read, asked of the broker: for operators, who ask from outside the service's process."""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import datetime

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import GroupCoordinatorNotAvailableError, KafkaError

ASKING_S = 10.0
SOON_S = 2.0  # somebody waits for an answer that has more than this in it


class NoAnswer(Exception):
    """The broker did not say."""


async def behind(bootstrap: str, groups: Sequence[str]) -> dict[str, int | None]:
    """For each group how many records it has not taken yet; none when it has never taken any. Raises NoAnswer."""
    async with asking(bootstrap, groups) as (committed, broker):
        return await _waiting(broker, committed)


async def since(bootstrap: str, groups: Sequence[str], instant: datetime) -> dict[str, int]:
    """For each group how many records it has taken that were written at or after `instant`. Raises NoAnswer."""
    async with asking(bootstrap, groups) as (committed, broker):
        at_ms = int(instant.timestamp() * 1000)
        asked = {place: at_ms for offsets in committed.values() for place in offsets}
        begin = await broker.offsets_for_times(asked) if asked else {}
        return {
            group: sum(max(0, taken - begin[place].offset) for place, taken in offsets.items() if begin[place])
            for group, offsets in committed.items()
        }


async def on_topic(bootstrap: str, group: str, topic: str) -> int | None:
    """How many records of one topic a group has not taken yet; none when it has taken none, or the broker is busy."""
    try:
        async with asyncio.timeout(SOON_S), asking(bootstrap, [group]) as (committed, broker):
            places = {place: offset for place, offset in committed[group].items() if place.topic == topic}
            return (await _waiting(broker, {group: places}))[group]
    except (NoAnswer, TimeoutError):
        return None


@asynccontextmanager
async def asking(
    bootstrap: str, groups: Sequence[str]
) -> AsyncIterator[tuple[dict[str, dict[TopicPartition, int]], AIOKafkaConsumer]]:
    """What each group has committed, and a client that belongs to no group, to ask more with."""
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
    broker = AIOKafkaConsumer(bootstrap_servers=bootstrap)
    try:
        async with asyncio.timeout(ASKING_S):
            await admin.start()
            await broker.start()
            committed = {}
            for group in groups:
                committed[group] = await _committed(admin, group)
            yield committed, broker
    except (KafkaError, OSError, TimeoutError) as error:
        raise NoAnswer(type(error).__name__) from error
    finally:
        await broker.stop()
        await admin.close()


async def _waiting(
    broker: AIOKafkaConsumer, committed: Mapping[str, Mapping[TopicPartition, int]]
) -> dict[str, int | None]:
    """For each group what it has not taken of its topics: from the beginning where it has taken nothing yet."""
    taken = {place for offsets in committed.values() for place in offsets}
    if not taken:
        return dict.fromkeys(committed)
    await broker.end_offsets(list(taken))  # then it knows all partitions of those topics
    parts = {place.topic: broker.partitions_for_topic(place.topic) or () for place in taken}
    places = [TopicPartition(topic, part) for topic, them in parts.items() for part in them]
    begins, ends = await broker.beginning_offsets(places), await broker.end_offsets(places)
    waiting: dict[str, int | None] = {}
    for group, offsets in committed.items():
        topics = {place.topic for place in offsets}
        theirs = [place for place in places if place.topic in topics]
        left = sum(max(0, ends[place] - offsets.get(place, begins[place])) for place in theirs)
        waiting[group] = left if offsets else None
    return waiting


async def _committed(admin: AIOKafkaAdminClient, group: str) -> dict[TopicPartition, int]:
    while True:
        try:
            found = await admin.list_consumer_group_offsets(group)
        except GroupCoordinatorNotAvailableError:  # a new broker makes room for offsets when it is first asked
            await asyncio.sleep(0.2)
        else:
            return {place: told.offset for place, told in found.items() if told.offset >= 0}
