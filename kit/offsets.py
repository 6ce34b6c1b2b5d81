"""Where in its partitions a batch of records begins and ends."""

from collections.abc import Iterable

from aiokafka import TopicPartition

from kit.parking import Record


def after(records: Iterable[Record]) -> dict[TopicPartition, int]:
    """For each partition the offset to commit: the one after its last record."""
    found: dict[TopicPartition, int] = {}
    for record in records:
        place = TopicPartition(record.topic, record.partition)
        found[place] = max(found.get(place, 0), record.offset + 1)
    return found


def first(records: Iterable[Record]) -> dict[TopicPartition, int]:
    """For each partition the offset of its first record."""
    found: dict[TopicPartition, int] = {}
    for record in records:
        place = TopicPartition(record.topic, record.partition)
        found[place] = min(found.get(place, record.offset), record.offset)
    return found
