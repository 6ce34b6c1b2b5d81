"""Keeps what could not be handled, whole, until an operator lets it run again or discards it with a reason."""

import base64
import json
from collections.abc import Container, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple

from contracts import topics
from kit import outbox
from kit.database import Connection

_HELD = """
SELECT DISTINCT topic, key FROM parked
WHERE consumer = $1 AND state IN ('parked', 'held', 'redrive') AND topic = ANY($2::text[]) AND key = ANY($3::bytea[])
"""
_PARK = """
INSERT INTO parked (
    consumer, topic, partition, "offset", key, headers, value, event_id, type, reason, detail, state, said_at_latest
)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, said_at_latest($13))
ON CONFLICT DO NOTHING
"""
# The oldest that an operator has let go (redrive) or waits (held), before which nothing with its key is open: in the
# order in which they came. Without a key there is nothing to hold back.
_HEAD = """
SELECT * FROM parked AS mine
WHERE consumer = $1 AND state IN ('held', 'redrive') AND NOT id = ANY($2::bigint[]) AND NOT topic = ANY($3::text[])
  AND (key IS NULL OR NOT EXISTS (
      SELECT FROM parked AS elder
      WHERE elder.consumer = mine.consumer AND elder.topic = mine.topic AND elder.key = mine.key AND elder.id < mine.id
        AND elder.state IN ('parked', 'held', 'redrive')
  ))
ORDER BY id LIMIT 1
FOR UPDATE SKIP LOCKED
"""
# A record that waits for its sender, and not behind one with its key.
_KEPT_BACK = """
SELECT name FROM unnest($2::text[]) AS name
WHERE EXISTS (SELECT FROM parked WHERE consumer = $1 AND topic = name AND state = 'held' AND reason <> $3)
"""
_HOLD = """
INSERT INTO parked (
    consumer, topic, partition, "offset", key, headers, value, event_id, type, reason, detail, said_at_latest, state
)
SELECT $1, topic, partition, "offset", key, headers, value, event_id, type, reason, detail,
       said_at_latest(written_ms), 'held'
FROM unnest(
    $2::text[], $3::int[], $4::bigint[], $5::bytea[], $6::json[], $7::bytea[], $8::text[], $9::text[], $10::text[],
    $11::text[], $12::bigint[]
) AS new (topic, partition, "offset", key, headers, value, event_id, type, reason, detail, written_ms)
ON CONFLICT DO NOTHING
"""
_UNHEARD = "DELETE FROM inbox WHERE consumer = $1 AND event_id = ANY($2::text[])"
_CLOSE = "UPDATE parked SET state = 'redriven', closed_at = app_now() WHERE id = $1"
# Whatever has become of it since, it was said when it was said.
_AGAIN = """
UPDATE parked SET state = $2, reason = $3, detail = $4, said_at_latest = coalesce(said_at_latest, parked_at),
    parked_at = CASE WHEN $2 = 'parked' THEN parked_at ELSE app_now() END
WHERE id = $1
"""
_REDRIVE = """
UPDATE parked
SET state = 'redrive', closed_by = $2, asked_by = NULL, asked_name = NULL, asked_reason = NULL, asked_at = NULL
WHERE id = ANY($1::bigint[]) AND state IN ('parked', 'refused') RETURNING id
"""
_DISCARD = """
UPDATE parked SET state = 'discarded', closed_at = app_now(), closed_by = $2, closed_reason = $3
WHERE id = ANY($1::bigint[]) AND state IN ('parked', 'held', 'refused', 'redrive') RETURNING id, consumer, event_id
"""
_ASK = """
UPDATE parked SET asked_by = $2, asked_name = $3, asked_reason = $4, asked_at = app_now()
WHERE id = $1 AND asked_by IS NULL AND state IN ('parked', 'held', 'refused', 'redrive') RETURNING id
"""
_ASKED = """
SELECT asked_by, asked_name, asked_reason FROM parked
WHERE id = $1 AND asked_by IS NOT NULL AND state IN ('parked', 'held', 'refused', 'redrive') FOR UPDATE
"""
_UNASK = "UPDATE parked SET asked_by = NULL, asked_name = NULL, asked_reason = NULL, asked_at = NULL WHERE id = $1"
# With a digest that no words have: who mends what was given up and sends it under the same id hears that a new one is
# needed, and is not taken for a repeat.
_FORGET = """
INSERT INTO inbox (consumer, event_id, digest)
SELECT *, ''::bytea FROM unnest($1::text[], $2::text[]) ON CONFLICT DO NOTHING
"""
# Whatever was said under this key: what is open is given up, and of all of it nothing stays that could be read.
_EMPTY = """
UPDATE parked SET value = NULL, state = CASE WHEN open THEN 'discarded' ELSE state END,
    closed_at = CASE WHEN open THEN app_now() ELSE closed_at END,
    closed_by = CASE WHEN open THEN $3 ELSE closed_by END,
    closed_reason = CASE WHEN open THEN $4 ELSE closed_reason END
FROM (SELECT id, state IN ('parked', 'held', 'refused', 'redrive') AS open FROM parked WHERE topic = $1 AND key = $2)
    AS mine
WHERE parked.id = mine.id RETURNING consumer, event_id
"""
_LIST = """
SELECT id, consumer, state, topic, partition, "offset", key, type, event_id, reason, detail, parked_at,
       octet_length(value) AS bytes, asked_name, asked_reason, closed_at, closed_by, closed_reason
FROM parked WHERE ($1 OR state IN ('parked', 'held', 'refused', 'redrive')) AND id > $2 ORDER BY id LIMIT $3
"""
_SHOW = "SELECT * FROM parked WHERE id = $1"
_STATES = "SELECT id, state FROM parked WHERE id = ANY($1::bigint[])"
_OPEN = "SELECT count(*) FROM parked WHERE consumer = $1 AND state IN ('parked', 'held', 'redrive')"
_COUNTS = """
SELECT count(*) FILTER (WHERE state IN ('parked', 'held', 'redrive')), count(*) FILTER (WHERE state = 'refused')
FROM parked WHERE state IN ('parked', 'held', 'redrive', 'refused')
"""

HELD = "held"  # the reason of what waits behind a record with its key


class Record(NamedTuple):  # a thousand are made at a time, and a dataclass takes three times as long
    """One Kafka record as it came. `written_ms` is the broker's time of it, none where its sender told the time."""

    topic: str
    partition: int
    offset: int
    key: bytes | None
    headers: tuple[tuple[str, bytes | None], ...]
    value: bytes | None
    written_ms: int | None = None

    def held_by(self, held: Container[tuple[str, bytes]]) -> bool:
        """Whether one of these (topic, key) holds this record back. A record without a key is never held."""
        return self.key is not None and (self.topic, self.key) in held


@dataclass(frozen=True, slots=True)
class Waiting:
    """A record that is to run later, and why not now."""

    record: Record
    event_id: str | None
    type: str | None
    reason: str
    detail: str


async def held_keys(conn: Connection, consumer: str, records: Iterable[Record]) -> set[tuple[str, bytes]]:
    """Which of these records' (topic, key) are held back behind something parked."""
    keys = {(record.topic, record.key) for record in records if record.key is not None}
    if not keys:
        return set()
    rows = await conn.fetch(_HELD, consumer, [topic for topic, _ in keys], [key for _, key in keys])
    return {(row["topic"], row["key"]) for row in rows} & keys


async def park(
    conn: Connection,
    service: str,
    consumer: str,
    record: Record,
    *,
    state: str,
    reason: str,
    detail: str,
    event_id: str | None = None,
    type: str | None = None,
) -> bool:
    """Keep a record, and say a copy of it on `<service>.parked`; returns False when it was kept before."""
    kept = await conn.execute(
        _PARK,
        consumer,
        record.topic,
        record.partition,
        record.offset,
        record.key,
        _headers(record),
        record.value,
        event_id,
        type,
        reason,
        _line(detail),
        state,
        record.written_ms,
    )
    if kept != "INSERT 0 1":
        return False
    why = {
        "reason": reason,
        "topic": record.topic,
        "partition": str(record.partition),
        "offset": str(record.offset),
    }
    await outbox.add_copy(conn, topics.parked(service).name, record.key, record.value, why, about=event_id or "")
    return True


async def kept_back(conn: Connection, consumer: str, topics: Sequence[str]) -> set[str]:
    """Which of these topics have records that wait for their sender to be let go, or have not all run since."""
    return {row["name"] for row in await conn.fetch(_KEPT_BACK, consumer, topics, HELD)}


async def hold(conn: Connection, consumer: str, waiting: Sequence[Waiting]) -> None:
    """Keep records that are to run later, in this order, in one statement. No fault of theirs: no copy is said."""
    rows = [
        (
            one.record.topic,
            one.record.partition,
            one.record.offset,
            one.record.key,
            _headers(one.record),
            one.record.value,
            one.event_id,
            one.type,
            one.reason,
            _line(one.detail),
            one.record.written_ms,
        )
        for one in waiting
    ]
    await conn.execute(_HOLD, consumer, *zip(*rows, strict=True))


async def forget(conn: Connection, consumer: str, event_ids: Sequence[str]) -> None:
    """These were noted as heard in this transaction and had no effect: they may still have it."""
    await conn.execute(_UNHEARD, consumer, event_ids)


async def next_released(
    conn: Connection, consumer: str, failed: Sequence[int], closed: Sequence[str] = ()
) -> tuple[int, datetime, Record] | None:
    """The next record that may run again, locked: first of its key, and let go; and by when it was said.

    `failed`: ids to leave for later. `closed`: topics whose records wait.
    """
    row = await conn.fetchrow(_HEAD, consumer, list(failed), list(closed))
    return (row["id"], row["said_at_latest"] or row["parked_at"], record_of(row)) if row else None


async def close(conn: Connection, parked_id: int) -> None:
    """It has had its effect."""
    await conn.execute(_CLOSE, parked_id)


async def park_again(conn: Connection, parked_id: int, state: str, reason: str, detail: str) -> None:
    """It failed again."""
    await conn.execute(_AGAIN, parked_id, state, reason, _line(detail))


async def redrive(conn: Connection, ids: Sequence[int], by: str) -> list[int]:
    """Let these run again; the service's own consumer does it within a second or two. Returns the ids that could be."""
    return [row["id"] for row in await conn.fetch(_REDRIVE, ids, by)]


async def discard(conn: Connection, ids: Sequence[int], by: str, reason: str) -> list[int]:
    """Give these up for good: noted as heard; what waited behind them runs on. Returns the ids given up."""
    if not reason.strip():
        raise ValueError("say why: a discarded record is gone for good")
    rows = await conn.fetch(_DISCARD, ids, by, reason)
    known = [(row["consumer"], row["event_id"]) for row in rows if row["event_id"]]
    if known:
        await conn.execute(_FORGET, [consumer for consumer, _ in known], [event_id for _, event_id in known])
    return [row["id"] for row in rows]


async def empty(conn: Connection, topic: str, key: bytes, by: str, reason: str) -> int:
    """Give up, and empty, every record with this key: it must not be read, and has no effect any more. How many."""
    rows = await conn.fetch(_EMPTY, topic, key, by, reason)
    known = [(row["consumer"], row["event_id"]) for row in rows if row["event_id"]]
    if known:
        await conn.execute(_FORGET, [consumer for consumer, _ in known], [event_id for _, event_id in known])
    return len(rows)


class Asked(NamedTuple):
    """That a record be discarded: who asked, by digest and by name, and why."""

    by: str
    name: str
    reason: str


async def ask(conn: Connection, parked_id: int, asked: Asked) -> bool:
    """Note that somebody wants this one discarded; false when it is over, or is asked for already."""
    return await conn.fetchval(_ASK, parked_id, *asked) is not None


async def asked(conn: Connection, parked_id: int) -> Asked | None:
    """Who wants this one discarded, none when nobody does; it stays so until the transaction ends."""
    row = await conn.fetchrow(_ASKED, parked_id)
    return None if row is None else Asked(*row)


async def unask(conn: Connection, parked_id: int) -> None:
    await conn.execute(_UNASK, parked_id)


async def listing(conn: Connection, *, closed: bool = False, after: int = 0, limit: int = 1000) -> list[dict[str, Any]]:
    """The parked rows in order, without their bytes; open ones only unless `closed`."""
    return [_shown(row) for row in await conn.fetch(_LIST, closed, after, limit)]


async def show(conn: Connection, parked_id: int) -> dict[str, Any] | None:
    """One row whole; `value` as text, with what is not UTF-8 escaped."""
    row = await conn.fetchrow(_SHOW, parked_id)
    if row is None:
        return None
    shown = _shown(row)
    shown["headers"] = [[name, _text(value)] for name, value in record_of(row).headers]
    shown["value"] = _text(row["value"])
    return shown


async def states(conn: Connection, ids: Sequence[int]) -> dict[int, str]:
    """The state of each of these that exists."""
    return {row["id"]: row["state"] for row in await conn.fetch(_STATES, ids)}


async def count_open(conn: Connection, consumer: str) -> int:
    found: int = await conn.fetchval(_OPEN, consumer)
    return found


async def count_all(conn: Connection) -> tuple[int, int]:
    """Of all consumers: how many records wait for an operator or behind one that does, and how many are refused."""
    row = await conn.fetchrow(_COUNTS)
    return (row[0], row[1]) if row else (0, 0)


def _headers(record: Record) -> str:
    return json.dumps(
        [[name, None if value is None else base64.b64encode(value).decode()] for name, value in record.headers]
    )


def record_of(row: Any) -> Record:
    headers = tuple(
        (name, None if value is None else base64.b64decode(value)) for name, value in json.loads(row["headers"])
    )
    return Record(row["topic"], row["partition"], row["offset"], row["key"], headers, row["value"])


def _shown(row: Any) -> dict[str, Any]:
    shown: dict[str, Any] = {}
    for name, value in dict(row).items():
        if name in ("value", "headers"):
            continue
        if name == "key":
            value = _text(value)
        shown[name] = value.isoformat() if isinstance(value, datetime) else value
    return shown


def _line(detail: str) -> str:
    """A stranger's field names may stand in a detail: no control characters, and not endless."""
    return "".join(c if c.isprintable() else "?" for c in detail)[:2000]


def readable(text: str, kept: str = "") -> str:
    """A stranger's text so that it can be read and does nothing: what cannot be printed, but `kept`, is spelt out."""
    return "".join(c if c.isprintable() or c in kept else repr(c)[1:-1] for c in text)


def _text(value: bytes | None) -> str | None:
    return None if value is None else value.decode("utf-8", "backslashreplace")
