"""Takes records from aiokafka, also those whose headers it cannot decode, without losing what came beside them."""

from itertools import chain
from typing import Any

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.consumer import fetcher
from aiokafka.record.default_records import _DefaultRecordBatchPy
from aiokafka.record.memory_records import _MemoryRecordsPy

from kit.parking import Record

LOG_APPEND_TIME = 1  # who told a record's time, in Kafka's protocol; 0 is its sender
LOOK_MS = 1_000  # for the answer of a broker that is known to have something


def records(found: dict[TopicPartition, list[Any]]) -> tuple[Record, ...]:
    """aiokafka's records as ours, in the order of each partition."""
    return tuple(
        Record(one.topic, one.partition, one.offset, one.key, tuple(one.headers), one.value, written_ms(one))
        for one in chain.from_iterable(found.values())
    )


def written_ms(one: Any) -> int | None:
    """The broker's own time of a record; none where a topic has its senders' times, whose clocks may be wrong."""
    return one.timestamp if one.timestamp_type == LOG_APPEND_TIME else None


async def leniently(consumer: AIOKafkaConsumer, most: int) -> tuple[Record, ...]:
    """At most `most` records from what was committed on; what is not UTF-8 in a header's name becomes `\\ufffd`.

    aiokafka decodes those names while it iterates, and raises UnicodeDecodeError out of `getmany`: the record and all
    that its sender sent with it cannot be read, and what was taken from *other* partitions for the same answer is
    passed over. One sender could stop everybody. So all go back to what is committed, and are read by the slower of
    aiokafka's two readers, with a buffer whose names always decode.
    """
    fetcher.MemoryRecords = _Lenient  # answers of the broker are opened with this from here on …
    try:
        await go_back(consumer)
        return records(await consumer.getmany(timeout_ms=LOOK_MS, max_records=most))
    finally:
        fetcher.MemoryRecords = _STRICT  # … to here: it costs ten times as much a record


async def go_back(consumer: AIOKafkaConsumer) -> None:
    """Read on from what is committed, in every partition: after an error nobody knows what was passed over."""
    assigned = consumer.assignment()
    committed = await consumer.seek_to_committed(*assigned) if assigned else {}
    never = [place for place, offset in committed.items() if not offset]
    if never:
        await consumer.seek_to_beginning(*never)


_STRICT = fetcher.MemoryRecords


class _Lenient:
    """What aiokafka's `MemoryRecords` is to its fetcher, around its readers in Python."""

    def __init__(self, data: bytes) -> None:
        self._strict: Any = _MemoryRecordsPy(data)

    def size_in_bytes(self) -> Any:
        return self._strict.size_in_bytes()

    def has_next(self) -> Any:
        return self._strict.has_next()

    def next_batch(self) -> Any:
        before = self._strict._next_slice
        batch: Any = self._strict.next_batch()
        if batch is None or before is None or batch.magic < 2:  # older formats have no headers
            return batch
        batch = _DefaultRecordBatchPy(before)
        return _Names(batch)


class _Names:
    """A batch that is read through a buffer whose slices decode whatever they hold."""

    def __init__(self, batch: Any) -> None:
        self._batch = batch

    def __getattr__(self, name: str) -> Any:
        return getattr(self._batch, name)

    def __iter__(self) -> Any:
        self._batch._maybe_uncompress()
        self._batch._buffer = _Bytes(self._batch._buffer)
        return iter(self._batch)

    def __next__(self) -> Any:  # the marker of a control batch
        return next(self._batch)


class _Bytes(bytearray):
    def __getitem__(self, at: Any) -> Any:
        found = super().__getitem__(at)
        return _Bytes(found) if isinstance(at, slice) else found

    def decode(self, *_: Any) -> str:
        return bytes(self).decode(errors="replace")
