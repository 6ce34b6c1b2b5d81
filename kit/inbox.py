"""Hears things once: which of these events are new to this consumer, and not older than what it has heard."""

from collections.abc import Sequence
from dataclasses import dataclass

from contracts.envelope import Envelope
from kit.database import Connection

_HEAR = """
INSERT INTO inbox (consumer, event_id, digest)
SELECT $1, * FROM unnest($2::text[], $3::bytea[])
ON CONFLICT DO NOTHING
RETURNING event_id
"""
_DIGESTS = (
    "SELECT event_id, digest FROM inbox WHERE consumer = $1 AND event_id = ANY($2::text[]) AND digest IS NOT NULL"
)
_POSITIONS = "SELECT aggregate, epoch, seq FROM inbox_position WHERE consumer = $1 AND aggregate = ANY($2::text[])"
_MOVE = """
INSERT INTO inbox_position AS mine (consumer, aggregate, epoch, seq)
SELECT $1, * FROM unnest($2::text[], $3::int[], $4::bigint[])
ON CONFLICT (consumer, aggregate) DO UPDATE SET epoch = excluded.epoch, seq = excluded.seq
WHERE (mine.epoch, mine.seq) < (excluded.epoch, excluded.seq)
"""


@dataclass(frozen=True, slots=True)
class Heard:
    """`fresh`: places of the events to act on. `reused`: ids heard before with other words. `gaps`: a count."""

    fresh: list[int]
    reused: list[int]
    gaps: int


async def hear(
    conn: Connection, consumer: str, envelopes: Sequence[Envelope], ids: Sequence[str], digests: Sequence[bytes | None]
) -> Heard:
    """Note these events as heard, with the caller's transaction, and tell which are new.

    `ids` are the events' ids, made unique among all senders; `digests` are given for strangers' events only.
    An event is old when its id was heard before, or its (epoch, seq) is not above the last of its aggregate.
    """
    first: dict[str, int] = {}
    for place, event_id in enumerate(ids):
        first.setdefault(event_id, place)
    rows = await conn.fetch(_HEAR, consumer, list(first), [digests[place] for place in first.values()])
    new = {row["event_id"] for row in rows}
    reused = await _reused(conn, consumer, ids, digests) if any(digests) else []

    numbered = {str(e.aggregate) for e in envelopes if e.aggregate and e.seq is not None}
    last: dict[str, tuple[int, int]] = {}
    if numbered:
        for row in await conn.fetch(_POSITIONS, consumer, list(numbered)):
            last[row["aggregate"]] = (row["epoch"], row["seq"])
    before = dict(last)
    fresh: list[int] = []
    gaps = 0
    for event_id, place in first.items():
        if event_id not in new:
            continue
        envelope = envelopes[place]
        if envelope.aggregate and envelope.seq is not None:
            here = (envelope.epoch or 0, envelope.seq)
            there = last.get(envelope.aggregate)
            if there is not None and here <= there:
                continue
            if there is not None and here[0] == there[0] and here[1] > there[1] + 1:
                gaps += 1
            last[envelope.aggregate] = here
        fresh.append(place)
    moved = {aggregate: here for aggregate, here in last.items() if before.get(aggregate) != here}
    if moved:
        order = sorted(moved)  # one lock order for all
        await conn.execute(_MOVE, consumer, order, [moved[a][0] for a in order], [moved[a][1] for a in order])
    return Heard(fresh, reused, gaps)


async def _reused(conn: Connection, consumer: str, ids: Sequence[str], digests: Sequence[bytes | None]) -> list[int]:
    rows = await conn.fetch(_DIGESTS, consumer, list(set(ids)))
    known = {row["event_id"]: row["digest"] for row in rows}
    return [
        place
        for place, (event_id, digest) in enumerate(zip(ids, digests, strict=True))
        if digest is not None and known.get(event_id, digest) != digest
    ]
