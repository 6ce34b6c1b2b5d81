"""After a database was restored from a backup: the numbers go on where nobody has heard any, and what is lost is told.

What its service said after the backup is on the topics, under numbers that the restored database would give again: so
its epoch is raised above each that was ever told. What it heard after the backup it hears again.
"""

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from uuid import UUID

from contracts.envelope import Envelope, decode, encode
from contracts.registry import BY_TYPE, EVENTS
from contracts.topics import owned_by, parked
from kit import acts
from kit.acts import Operator
from kit.database import Connection, connect
from kit.rewinding import is_empty, rewind, written
from kit.settings import Settings

# What was written a little before the backup is looked at too: the broker's clock may be behind the database's. What
# the backup knows is told apart by its id.
MARGIN = timedelta(minutes=5)
PART = 1000

_RAISE = "UPDATE epoch SET number = greatest(number, $1) + 1 RETURNING number"
_EPOCH = "SELECT number FROM epoch"
_HEARD_EPOCH = """
SELECT coalesce(max(epoch), 0) FROM inbox_position WHERE split_part(aggregate, '/', 1) = ANY($1::text[])
"""
# One statement for all of them: the outbox has no index by event, and is read once.
_UNKNOWN = """
SELECT id FROM unnest($1::uuid[]) AS told (id) WHERE NOT EXISTS (SELECT FROM outbox WHERE event_id = told.id)
"""
_SAID = """
SELECT id, payload FROM outbox
WHERE created_at >= $1 AND id > $2 AND topic = ANY($3::text[]) ORDER BY id LIMIT $4
"""
_HEAR = """
INSERT INTO inbox (consumer, event_id) SELECT * FROM unnest($1::text[], $2::text[]) ON CONFLICT DO NOTHING
"""
_TAKE_BACK = """
WITH told AS (
    SELECT * FROM unnest($1::uuid[], $2::text[], $3::int[], $4::bigint[], $5::text[], $6::bytea[], $7::bytea[],
                         $8::text[], $9::text[], $10::timestamptz[]) WITH ORDINALITY
        AS told (event_id, aggregate, epoch, seq, topic, key, payload, subject, correlation_id, at, place)
), kept AS (
    INSERT INTO outbox (event_id, aggregate, epoch, seq, topic, key, payload, subject, correlation_id, created_at,
                        published_at)
    SELECT event_id, aggregate, epoch, seq, topic, key, payload, subject, correlation_id, at, app_now() FROM told
    ORDER BY place ON CONFLICT DO NOTHING
)
INSERT INTO outbox_sequence AS mine (aggregate, epoch, seq)
SELECT DISTINCT ON (aggregate) aggregate, epoch, seq FROM told ORDER BY aggregate, epoch DESC, seq DESC
ON CONFLICT (aggregate) DO UPDATE SET epoch = excluded.epoch, seq = excluded.seq
WHERE (mine.epoch, mine.seq) < (excluded.epoch, excluded.seq)
"""
_SAY_AGAIN = "UPDATE outbox SET published_at = NULL WHERE published_at IS NOT NULL"
_RUNS = """
SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND application_name LIKE '%/consumer'
"""


@dataclass(frozen=True)
class Restored:
    """What a service's own part of a restore has to go by. `lost`: events that it said and knows nothing of."""

    settings: Settings
    since: datetime
    lost: Sequence[Envelope]
    heard: Sequence[str]  # the topics that it listens to
    kept: Connection | None = None  # the database that was there before, where there is one to ask

    async def later(self) -> list[Envelope]:
        """What was written since the backup on the topics that this service listens to."""
        return await written(self.settings.kafka_bootstrap, self.heard, self.since - MARGIN)


@dataclass(frozen=True)
class Outcome:
    """What a restore has come to. `told`: in words, what the service's own part has done."""

    epoch: int
    lost: Sequence[Envelope]
    told: Sequence[str] = ()
    rewound: dict[str, int] = field(default_factory=dict)  # consumer group -> how many records it reads again


@dataclass(frozen=True)
class Restated:
    """What a service's own part has done, in words; and the ids of the events that are not lost any more."""

    told: Sequence[str] = ()
    taken_back: frozenset[str] = frozenset()


Restate = Callable[[Connection, Restored], Awaitable[Restated]]


async def nothing_to_restate(conn: Connection, restored: Restored) -> Restated:
    return Restated()


async def runs(conn: Connection) -> bool:
    """Whether the service is running on this database."""
    return bool(await conn.fetchval(_RUNS))


async def epoch(conn: Connection) -> int:
    number: int = await conn.fetchval(_EPOCH)
    return number


async def heard_epoch(conn: Connection, service: str) -> int:
    """The highest epoch that this database has heard another service speak in; 0 when it has heard nothing of it."""
    topics = {topic.name for topic in owned_by(service)}
    kinds = sorted({event.spec.aggregate for event in EVENTS if event.spec.topic in topics})
    number: int = await conn.fetchval(_HEARD_EPOCH, kinds)
    return number


async def pass_over(conn: Connection, heard: Sequence[tuple[str, str]]) -> int:
    """Note these (consumer group, event id) as heard without any effect; returns how many had not been heard."""
    done = await conn.execute(_HEAR, [group for group, _ in heard], [event_id for _, event_id in heard])
    return int(done.rsplit(" ", 1)[1])


async def look(conn: Connection, name: str, settings: Settings, since: datetime, kept: Connection | None) -> Outcome:
    """What `finish` would find: the highest epoch that was told, and what is lost. Changes nothing. Raises NoAnswer."""
    topics = said_on(name)
    told = await written(settings.kafka_bootstrap, topics, since - MARGIN)
    highest = max((one.epoch or 0 for one in told), default=0)
    if kept is not None:
        highest = max(highest, await epoch(kept))
        told += [one async for one in _said(kept, topics, since - MARGIN)]
    return Outcome(highest, await _unknown(conn, {UUID(one.id): one for one in told}))


async def finish(
    conn: Connection, name: str, who: Operator, restored: Restored, above: int, restate: Restate, groups: Sequence[str]
) -> Outcome:
    """Raise the epoch above all that were told, do the service's own part, and let its consumers read again.

    May be run again when it ended half way: the epoch is raised once more, which harms nobody. Raises NoAnswer.
    """
    async with conn.transaction():
        number: int = await conn.fetchval(_RAISE, above)
        if await is_empty(restored.settings.kafka_bootstrap, said_on(name)):
            await conn.execute(_SAY_AGAIN)  # with the broker went what others had not heard yet
        done = await restate(conn, restored)
        back = [one for one in restored.lost if one.id in done.taken_back]
        await _take_back(conn, back)
        causes = {one.causationid for one in back if one.causationid}  # had their effect, and would have it once more
        await pass_over(conn, [(group, cause) for group in groups for cause in causes])
        await acts.add(conn, who, "restored", [f"epoch {number}"], f"from a backup of {restored.since.isoformat()}")
    rewound = await rewind(restored.settings.kafka_bootstrap, groups, restored.since - MARGIN)
    return Outcome(number, [one for one in restored.lost if one.id not in done.taken_back], done.told, rewound)


def said_on(service: str) -> list[str]:
    """The topics on which a service says what it has done; not the copies of what it could not take."""
    return [topic.name for topic in owned_by(service) if topic != parked(service)]


@asynccontextmanager
async def beside(settings: Settings, database: str | None) -> AsyncIterator[Connection | None]:
    """A connection to another database on the same server, or none when none is named."""
    if database is None:
        yield None
        return
    conn = await connect(settings.model_copy(update={"database_name": database}), "operator")
    try:
        yield conn
    finally:
        await conn.close()


async def _said(conn: Connection, topics: Sequence[str], since: datetime) -> AsyncIterator[Envelope]:
    """What stands in the outbox of the database that was there before, be it published or not."""
    last = 0
    while rows := await conn.fetch(_SAID, since, last, topics, PART):
        last = rows[-1]["id"]
        for row in rows:
            yield decode(row["payload"], [], ours=True)


async def _unknown(conn: Connection, told: dict[UUID, Envelope]) -> list[Envelope]:
    """Those of these events, by their ids, that this database never said, in the order of aggregate and number."""
    lost = [told[row["id"]] for row in await conn.fetch(_UNKNOWN, list(told))]
    return sorted(lost, key=lambda one: (one.aggregate or "", one.epoch or 0, one.seq or 0))


async def _take_back(conn: Connection, events: Sequence[Envelope]) -> None:
    """These events, which are in the order of their numbers, were said and published by this database after all."""
    if not events:
        return
    await conn.execute(
        _TAKE_BACK,
        [UUID(one.id) for one in events],
        [one.aggregate for one in events],
        [one.epoch for one in events],
        [one.seq for one in events],
        [topic_of(one) for one in events],
        [(one.partitionkey or "").encode() for one in events],
        [encode(one) for one in events],
        [one.subject for one in events],
        [one.correlationid for one in events],
        [one.time for one in events],
    )


def topic_of(one: Envelope) -> str:
    """On which topic an event of ours was said; empty of a kind that this version does not know."""
    kind = BY_TYPE.get(one.type)
    return kind.spec.topic if kind else ""
