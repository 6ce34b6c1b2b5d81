"""Hears things once: which of these events are new to this consumer, and not older than what it has heard."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from kit.database import Connection
from kit.listeners import Received

ONCE = "inbox_has_each_event_once"


def _statement(repeats: str) -> str:
    """One statement, because each round trip is a large part of what a lone event waits.

    Nothing is written when a key of the batch is held back behind a parked record: the caller first puts that key's
    records behind it. The aggregates come in name order, one lock order for all. It answers one row, since a thousand
    cost more than their arrays.
    """
    return f"""
        WITH held AS (
            SELECT FROM parked
            WHERE consumer = $1 AND state IN ('parked', 'held', 'redrive')
              AND topic = ANY($2::text[]) AND key = ANY($3::bytea[])
        ), heard AS (
            INSERT INTO inbox (consumer, event_id, digest, received_at)
            SELECT $1, new.event_id, new.digest, (SELECT app_now())
            FROM unnest($4::text[], $5::bytea[]) AS new (event_id, digest)
            WHERE NOT EXISTS (SELECT FROM held)
            {repeats}
        ), moved AS (
            INSERT INTO inbox_position AS mine (consumer, aggregate, epoch, seq)
            SELECT $1, new.aggregate, new.epoch, new.seq
            FROM unnest($6::text[], $7::int[], $8::bigint[]) AS new (aggregate, epoch, seq)
            WHERE NOT EXISTS (SELECT FROM held)
            ON CONFLICT (consumer, aggregate) DO UPDATE SET epoch = excluded.epoch, seq = excluded.seq
            WHERE (mine.epoch, mine.seq) < (excluded.epoch, excluded.seq)
            RETURNING mine.aggregate, old.epoch, old.seq
        )
        SELECT EXISTS (SELECT FROM held) AS held, {"ARRAY(SELECT event_id FROM heard)" if repeats else "NULL"} AS heard,
            array_agg(aggregate) AS aggregates, array_agg(epoch) AS epochs, array_agg(seq) AS seqs
        FROM moved
    """  # noqa: S608 - constants alone


_NEW = _statement("")  # a quarter of what noting an event costs is to be ready for one that was heard before
_ANY = _statement("ON CONFLICT DO NOTHING RETURNING event_id")

_DIGESTS = (
    "SELECT event_id, digest FROM inbox WHERE consumer = $1 AND event_id = ANY($2::text[]) AND digest IS NOT NULL"
)

Position = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Heard:
    """`held`: a key is held back and nothing was done. `fresh`: places of the events to act on. `reused`: places of
    ids heard before with other words. `gaps`: a count."""

    held: bool = False
    fresh: list[int] = field(default_factory=list)
    reused: list[int] = field(default_factory=list)
    gaps: int = 0


async def hear(
    conn: Connection,
    consumer: str,
    received: Sequence[Received],
    whatever_is_held: bool = False,
    all_new: bool = False,
) -> Heard:
    """Note these events as heard, with the caller's transaction, and tell which are new.

    An event is old when its id was heard before, or its (epoch, seq) is not above the last of its aggregate.
    `whatever_is_held`: the caller has seen to the keys that are held back. `all_new`: none is thought to have been
    heard before; raises UniqueViolationError, of the constraint `ONCE`, when one was.
    """
    keys = [] if whatever_is_held else [one.record.key for one in received if one.record.key is not None]
    first: dict[str, int] = {}
    for place, one in enumerate(received):
        first.setdefault(one.event_id, place)
    digests = [received[place].digest for place in first.values()]
    positions = [_position(one) for one in received]
    highest = _highest(received, positions)
    order = sorted(highest)
    row = await conn.fetchrow(
        _NEW if all_new else _ANY,
        consumer,
        list({one.topic for one in received}),
        keys,
        list(first),
        digests,
        order,
        [highest[aggregate][0] for aggregate in order],
        [highest[aggregate][1] for aggregate in order],
    )
    if row is None:
        raise LookupError("an aggregate gives one row")
    if row["held"]:
        return Heard(held=True)
    new = first.keys() if all_new else set(row["heard"])
    # Of the aggregates that moved; the others have heard all of it.
    before: dict[str, Position | None] = {
        aggregate: None if seq is None else (epoch, seq)
        for aggregate, epoch, seq in zip(row["aggregates"] or (), row["epochs"] or (), row["seqs"] or (), strict=True)
    }
    reused = await _reused(conn, consumer, received) if any(digests) else []
    places = [place for event_id, place in first.items() if event_id in new]
    fresh, gaps = _fresh(received, positions, places, before)
    return Heard(fresh=fresh, reused=reused, gaps=gaps)


def _position(one: Received) -> Position | None:
    envelope = one.envelope
    return (envelope.epoch or 0, envelope.seq) if envelope.aggregate and envelope.seq is not None else None


def _highest(received: Sequence[Received], positions: Sequence[Position | None]) -> dict[str, Position]:
    highest: dict[str, Position] = {}
    for one, here in zip(received, positions, strict=True):
        if here is not None:
            aggregate = str(one.envelope.aggregate)
            highest[aggregate] = max(highest.get(aggregate, here), here)
    return highest


def _fresh(
    received: Sequence[Received],
    positions: Sequence[Position | None],
    new: Sequence[int],
    before: dict[str, Position | None],
) -> tuple[list[int], int]:
    """Of the places whose ids are new: those whose number is above all before them, and how often one was left out."""
    last = dict(before)
    fresh: list[int] = []
    gaps = 0
    for place in new:
        here = positions[place]
        if here is not None:
            aggregate = str(received[place].envelope.aggregate)
            if aggregate not in last:
                continue
            there = last[aggregate]
            if there is not None and here <= there:
                continue
            if there is not None and here[0] == there[0] and here[1] > there[1] + 1:
                gaps += 1
            last[aggregate] = here
        fresh.append(place)
    return fresh, gaps


async def _reused(conn: Connection, consumer: str, received: Sequence[Received]) -> list[int]:
    rows = await conn.fetch(_DIGESTS, consumer, list({one.event_id for one in received}))
    known = {row["event_id"]: row["digest"] for row in rows}
    return [
        place
        for place, one in enumerate(received)
        if one.digest is not None and known.get(one.event_id, one.digest) != one.digest
    ]
