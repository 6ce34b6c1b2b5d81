"""Reads our topics from an instant on, and lets consumer groups do so, while nobody of theirs is listening."""

import asyncio
import contextlib
from collections.abc import Sequence
from datetime import datetime

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError

from contracts.envelope import Envelope, Undecodable, decode
from kit import lag
from kit.lag import NoAnswer

READING_S = 600.0  # two weeks of a busy topic
LEAVING_S = 45.0  # how long a broker counts members of a group that were killed: six seconds, and its own start


async def written(bootstrap: str, topics: Sequence[str], since: datetime) -> list[Envelope]:
    """What our services wrote on these topics since an instant, up to now; what is no event is passed over.

    Raises NoAnswer.
    """
    found: list[Envelope] = []
    places = await _places(bootstrap, topics)
    if not places:
        return found
    broker = AIOKafkaConsumer(bootstrap_servers=bootstrap, enable_auto_commit=False)
    try:
        async with asyncio.timeout(READING_S):
            await broker.start()
            ends = await broker.end_offsets(places)
            at_ms = int(since.timestamp() * 1000)
            begin = await broker.offsets_for_times(dict.fromkeys(places, at_ms))
            left = {place for place in places if begin[place] is not None and begin[place].offset < ends[place]}
            broker.assign(list(left))
            for place in left:
                broker.seek(place, begin[place].offset)
            while left:
                for records in (await broker.getmany(timeout_ms=200)).values():
                    for record in records:
                        with contextlib.suppress(Undecodable):
                            found.append(decode(record.value, record.headers, ours=True))
                done = {place for place in left if await broker.position(place) >= ends[place]}
                broker.pause(*done)
                left -= done
    except (KafkaError, OSError, TimeoutError) as error:
        raise NoAnswer(type(error).__name__) from error
    finally:
        await broker.stop()
    return found


async def is_empty(bootstrap: str, topics: Sequence[str]) -> bool:
    """Whether nothing was ever written to these topics: the broker is a new one. Raises NoAnswer."""
    places = await _places(bootstrap, topics)
    if not places:
        return True
    broker = AIOKafkaConsumer(bootstrap_servers=bootstrap, enable_auto_commit=False)
    try:
        async with asyncio.timeout(lag.ASKING_S):
            await broker.start()
            return not any((await broker.end_offsets(places)).values())
    except (KafkaError, OSError, TimeoutError) as error:
        raise NoAnswer(type(error).__name__) from error
    finally:
        await broker.stop()


async def rewind(bootstrap: str, groups: Sequence[str], since: datetime) -> dict[str, int]:
    """Let these consumer groups, none of which may have a member, read again from an instant; never forward.

    Returns for each how many records that are. Raises NoAnswer.
    """
    rewound: dict[str, int] = {}
    if not groups:
        return rewound
    async with lag.asking(bootstrap, groups) as (committed, broker):
        at_ms = int(since.timestamp() * 1000)
        for group, taken in committed.items():
            found = await broker.offsets_for_times(dict.fromkeys(taken, at_ms)) if taken else {}
            begin = {place: at.offset for place, at in found.items() if at is not None and at.offset < taken[place]}
            if begin:
                await _commit(bootstrap, group, begin)
            rewound[group] = sum(taken[place] - offset for place, offset in begin.items())
    return rewound


async def _commit(bootstrap: str, group: str, offsets: dict[TopicPartition, int]) -> None:
    """Set a group's offsets from outside, as soon as the broker has let go of the members that were there."""
    member = AIOKafkaConsumer(bootstrap_servers=bootstrap, group_id=group, enable_auto_commit=False)
    member.assign(list(offsets))
    try:
        await member.start()
        async with asyncio.timeout(LEAVING_S):
            while True:
                try:
                    await member.commit(offsets)
                except KafkaError:
                    await asyncio.sleep(0.5)
                else:
                    return
    except (KafkaError, OSError, TimeoutError) as error:
        raise NoAnswer(type(error).__name__) from error
    finally:
        await member.stop()


async def _places(bootstrap: str, topics: Sequence[str]) -> list[TopicPartition]:
    """The partitions of those of these topics that there are. Raises NoAnswer."""
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
    try:
        async with asyncio.timeout(lag.ASKING_S):
            await admin.start()
            there = set(await admin.list_topics()) & set(topics)
            told = await admin.describe_topics(sorted(there)) if there else []
    except (KafkaError, OSError, TimeoutError) as error:
        raise NoAnswer(type(error).__name__) from error
    finally:
        await admin.close()
    return [TopicPartition(one["topic"], part["partition"]) for one in told for part in one["partitions"]]
