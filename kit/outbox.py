"""Says things: an event is written in the transaction that caused it, numbered under its aggregate's row lock."""

import base64
import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

import uuid_utils.compat as uuid

from contracts.envelope import Envelope, Event, aggregate_of, encode, wrap
from contracts.topics import MAX_EVENT_BYTES
from kit import trail
from kit.database import Connection

# Aggregates are locked in name order, so that two transactions that speak of the same ones wait instead of deadlocking.
_NUMBER = """
INSERT INTO outbox_sequence AS mine (aggregate, epoch, seq)
SELECT new.aggregate, epoch.number, new.count
FROM unnest($1::text[], $2::bigint[]) WITH ORDINALITY AS new (aggregate, count, place), epoch
ORDER BY new.place
ON CONFLICT (aggregate) DO UPDATE SET
    seq = CASE WHEN mine.epoch = excluded.epoch THEN mine.seq ELSE 0 END + excluded.seq,
    epoch = excluded.epoch
RETURNING aggregate, epoch, seq, app_now() AS at
"""

_WRITE = """
INSERT INTO outbox (event_id, aggregate, epoch, seq, topic, key, headers, payload, subject, correlation_id)
SELECT * FROM unnest($1::uuid[], $2::text[], $3::int[], $4::bigint[], $5::text[], $6::bytea[], $7::json[],
                     $8::bytea[], $9::text[], $10::text[])
"""

_WAITING = """
SELECT count(*) AS backlog, coalesce(extract(epoch FROM app_now() - min(created_at)), 0)::float8 AS age_s
FROM outbox WHERE published_at IS NULL
"""


@dataclass(frozen=True, slots=True)
class Copy:
    """An event of another service as it is said again on `topic`: under the id that it has, in these bytes."""

    event_id: UUID
    topic: str
    key: bytes
    payload: bytes
    subject: str | None = None
    correlation_id: str | None = None


Row = tuple[UUID, str, int, int, str, bytes | None, str | None, bytes, str | None, str | None]


async def add(conn: Connection, event: Event) -> Envelope:
    """Say one event with the caller's transaction. Raises RuntimeError outside one: it could be said and not done."""
    return (await add_all(conn, [event]))[0]


async def add_all(
    conn: Connection, events: Sequence[Event], trails: Sequence[trail.Trail] | None = None
) -> list[Envelope]:
    """Say events in this order with the caller's transaction, in two statements however many they are.

    `trails` gives each event its own, when one transaction does the work of several requests.
    """
    if not events:
        return []
    numbers, at = await _number(conn, [aggregate_of(event) for event in events])
    paths = trails or [trail.here()] * len(events)
    envelopes = []
    rows: list[Row] = []
    for event, path, (epoch, seq) in zip(events, paths, numbers, strict=True):
        event_id = uuid.uuid7()
        envelope = wrap(
            event,
            id=event_id,
            source=f"/{event.spec.service}",
            time=at,
            epoch=epoch,
            seq=seq,
            correlationid=path.correlation_id,
            causationid=path.causation_id,
            traceparent=path.traceparent,
        )
        payload = encode(envelope)
        if len(payload) > MAX_EVENT_BYTES:
            raise ValueError(f"{event.spec.type} is {len(payload)} bytes; an event may have {MAX_EVENT_BYTES}")
        envelopes.append(envelope)
        key = str(envelope.partitionkey).encode()
        rows.append(
            (
                event_id,
                aggregate_of(event),
                epoch,
                seq,
                event.spec.topic,
                key,
                None,
                payload,
                envelope.subject,
                envelope.correlationid,
            )
        )
    await conn.execute(_WRITE, *zip(*rows, strict=True))
    return envelopes


async def add_copy(
    conn: Connection, topic: str, key: bytes | None, value: bytes | None, headers: dict[str, str], about: str
) -> None:
    """Say a record again as it was, with headers that tell why: the copy of what was parked, for operators to read."""
    [(epoch, seq)], _ = await _number(conn, [f"copy/{topic}"])
    row: Row = (
        uuid.uuid7(),
        f"copy/{topic}",
        epoch,
        seq,
        topic,
        key,
        json.dumps([[name, base64.b64encode(text.encode()).decode()] for name, text in headers.items()]),
        value or b"",
        about,
        trail.here().correlation_id,
    )
    await conn.execute(_WRITE, *([field] for field in row))


async def pass_on(conn: Connection, copies: Sequence[Copy]) -> None:
    """Say events of other services again, in this order, with the caller's transaction; each topic is an aggregate."""
    if not copies:
        return
    numbers, _ = await _number(conn, [f"copy/{one.topic}" for one in copies])
    rows: list[Row] = [
        (
            one.event_id,
            f"copy/{one.topic}",
            epoch,
            seq,
            one.topic,
            one.key,
            None,
            one.payload,
            one.subject,
            one.correlation_id,
        )
        for one, (epoch, seq) in zip(copies, numbers, strict=True)
    ]
    await conn.execute(_WRITE, *zip(*rows, strict=True))


async def waiting(conn: Connection) -> tuple[int, float]:
    """How many events are not on their topic yet, and the age of the oldest in seconds."""
    row = await conn.fetchrow(_WAITING)
    return (row["backlog"], row["age_s"]) if row else (0, 0.0)


async def _number(conn: Connection, aggregates: Sequence[str]) -> tuple[list[tuple[int, int]], datetime]:
    """(epoch, seq) for each, in order, and the database's time."""
    if not conn.is_in_transaction():
        raise RuntimeError("an event is said inside the transaction that caused it")
    counts = Counter(aggregates)
    names = sorted(counts)
    rows = await conn.fetch(_NUMBER, names, [counts[name] for name in names])
    next_seq = {row["aggregate"]: row["seq"] - counts[row["aggregate"]] for row in rows}
    epoch = rows[0]["epoch"]
    numbers = []
    for aggregate in aggregates:
        next_seq[aggregate] += 1
        numbers.append((epoch, next_seq[aggregate]))
    return numbers, rows[0]["at"]
