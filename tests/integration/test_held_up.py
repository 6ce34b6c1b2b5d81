"""A consumer that is held up, by a lock, by a fault of its own or by an operator, passes no record over."""

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest
from aiokafka.admin import AIOKafkaAdminClient

from contracts.topics import Topic
from kit import lag, parking, switch, topics
from kit.database import Connection, connect
from kit.effects import Effects
from kit.listeners import Received, Refused
from kit.parking import Record
from tests.delivery import listening, until
from tests.integration.test_delivery import World, done, has, open_rows
from tests.integration.test_delivery import world as world  # a fixture

pytestmark = pytest.mark.anyio

ALL_PARTITIONS = range(12)  # so many keys fall into each of three


def group(world: World) -> str:
    return f"{world.name}.things"


async def numbers(world: World) -> set[int]:
    return {number for _, number in await done(world)}


async def send(world: World, some: range) -> None:
    await world.send(*((f"k{n}", world.raw(f"k{n}", n)) for n in some))


async def test_a_consumer_whose_stop_cannot_be_written_at_once_passes_nothing_over(world: World) -> None:
    async def listen(conn: Connection, received: Sequence[Received]) -> None:
        if any(getattr(one.event, "number", 0) < 50 for one in received):
            raise Refused("never", "a test")
        await world.listen(conn, received)

    async def stopped() -> Any:
        return await world.conn.fetchval("SELECT paused FROM consumer_switch")

    world.listeners._by_event = {world.event: listen}
    await send(world, range(80))
    other = await connect(world.here.settings, "test")
    async with listening(world.here, world.consumer()) as consumer:
        async with other.transaction():
            await other.execute("LOCK TABLE consumer_switch IN EXCLUSIVE MODE")
            await until(lambda: asyncio.sleep(0, consumer._effects.waiting_for_database))
        await until(stopped)
        await send(world, range(80, 80 + len(ALL_PARTITIONS)))
        await switch.resume(world.conn, group(world))
        await until(lambda: _are_done(world, set(range(50, 80 + len(ALL_PARTITIONS)))))
    await other.close()


async def test_a_batch_that_fails_in_a_way_that_nobody_foresaw_is_read_again(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    take, tried = Effects.take, []

    async def once_broken(effects: Effects, records: Sequence[Record]) -> bool:
        tried.append(len(records))
        if len(tried) == 1:
            raise LookupError("nobody foresaw this")
        return await take(effects, records)

    monkeypatch.setattr(Effects, "take", once_broken)
    await send(world, ALL_PARTITIONS)
    async with listening(world.here, world.consumer()):
        await until(lambda: asyncio.sleep(0, tried))
        await send(world, range(100, 100 + len(ALL_PARTITIONS)))
        await until(lambda: _are_done(world, {*ALL_PARTITIONS, *range(100, 100 + len(ALL_PARTITIONS))}))


async def _are_done(world: World, wanted: set[int]) -> bool:
    return wanted <= await numbers(world)


async def test_what_cannot_be_read_waits_its_turn_behind_a_parked_record_too(world: World) -> None:
    world.poison.add(1)
    async with listening(world.here, world.consumer()):
        await world.send(("a", world.raw("a", 1)), ("a", b"{"), ("a", world.raw("a", 2)))

        async def all_wait() -> bool:
            return [row["state"] for row in await open_rows(world)] == ["parked", "held", "held"]

        await until(all_wait)
        world.poison.clear()
        rows = await open_rows(world)
        await parking.redrive(world.conn, [rows[0]["id"]], "test")
        await until(lambda: world.conn.fetchval("SELECT state = 'parked' FROM parked WHERE id = $1", rows[1]["id"]))
        assert await done(world) == [("a", 1)]


async def test_a_lock_that_others_hold_is_waited_for_and_no_reason_to_restart(world: World) -> None:
    other = await connect(world.here.settings, "test")
    async with listening(world.here, world.consumer()) as consumer:
        async with other.transaction():
            await other.execute("LOCK TABLE done IN EXCLUSIVE MODE")
            await send(world, range(1))
            await until(lambda: asyncio.sleep(0, world.calls >= 4))  # each tries for two seconds
            assert consumer._idle_s() < 4
        await has(world, 1)
    await other.close()


async def test_a_pause_is_seen_while_much_that_was_held_back_runs_on(world: World) -> None:
    async def listen(conn: Connection, received: Sequence[Received]) -> None:
        await asyncio.sleep(0.1)
        await world.listen(conn, received)

    world.poison.add(0)
    async with listening(world.here, world.consumer()) as consumer:
        await world.send(*(("a", world.raw("a", n)) for n in range(50)))
        await until(lambda: world.conn.fetchval("SELECT count(*) = 49 FROM parked WHERE state = 'held'"))
        world.poison.clear()
        world.listeners._by_event = {world.event: listen}
        await parking.redrive(world.conn, [(await open_rows(world))[0]["id"]], "test")
        await has(world, 1)
        await switch.pause(world.conn, group(world), "a test")
        await until(lambda: asyncio.sleep(0, consumer._effects.paused))
        so_far = await done(world)
        assert len(so_far) < 40
        await switch.resume(world.conn, group(world))
        assert [number for _, number in await has(world, 50)] == list(range(50))


async def test_a_record_at_the_offset_of_one_that_was_parked_in_an_older_topic_is_kept(world: World) -> None:
    """A topic that is made anew begins at 0 again: whoever fails there, or waits behind one that did, is another."""
    world.poison.add(1)
    async with listening(world.here, world.consumer()):
        await world.send(("a", world.raw("a", 1)), ("a", world.raw("a", 2)))
        rows = await until(lambda: _both(world))
        await parking.discard(world.conn, [row["id"] for row in rows], "test", "a test")
    await _make_anew(world)
    async with listening(world.here, world.consumer()):
        await world.send(("a", world.raw("a", 1)), ("a", world.raw("a", 3)))
        rows = await until(lambda: _both(world))
        assert [row["offset"] for row in rows] == [0, 1]
        world.poison.clear()
        await parking.redrive(world.conn, [rows[0]["id"]], "test")
        assert await has(world, 2) == [("a", 1), ("a", 3)]


async def _both(world: World) -> Any:
    rows = await open_rows(world)
    return rows if [row["state"] for row in rows] == ["parked", "held"] else None


async def _make_anew(world: World) -> None:
    admin = AIOKafkaAdminClient(bootstrap_servers=world.kafka)
    await admin.start()

    async def gone() -> bool:
        return world.topic not in await admin.list_topics()

    await admin.delete_topics([world.topic])
    await until(gone)
    await admin.close()
    await topics.declare(world.kafka, [Topic(world.topic, world.name, "thing", (), partitions=3)])


async def test_a_record_that_is_read_twice_is_kept_once(world: World) -> None:
    record = Record(world.topic, 0, 0, b"a", (), None)
    async with world.conn.transaction():
        how = {"state": "parked", "reason": "failed", "detail": "a test"}
        assert await parking.park(world.conn, world.name, group(world), record, **how)
        assert not await parking.park(world.conn, world.name, group(world), record, **how)


async def test_a_pause_is_seen_by_a_record_that_waits_for_a_lock(world: World) -> None:
    """An operator pauses because of what holds the lock: the record must not go on trying, and be parked for it."""
    other = await connect(world.here.settings, "test")
    async with listening(world.here, world.consumer()) as consumer:
        async with other.transaction():
            await other.execute("LOCK TABLE done IN EXCLUSIVE MODE")
            await send(world, range(1))
            await until(lambda: asyncio.sleep(0, world.calls >= 2))
            await switch.pause(world.conn, group(world), "a test")
            await until(lambda: asyncio.sleep(0, consumer._effects.paused and not consumer._in_hand), within_s=8)
            calls = world.calls
        await switch.resume(world.conn, group(world))
        await has(world, 1)
        assert world.calls == calls + 1
    await other.close()


NOW_FULL = """
CREATE FUNCTION disk_is_full() RETURNS trigger LANGUAGE plpgsql AS
$$ BEGIN RAISE EXCEPTION 'could not extend file' USING ERRCODE = 'disk_full'; END $$;
CREATE TRIGGER full_disk BEFORE INSERT ON done EXECUTE FUNCTION disk_is_full()
"""
AGAIN = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"  # noqa: E501
# What takes a database's pen away, and what gives it back.
PENS = {
    "a full disk": (NOW_FULL, "DROP TRIGGER full_disk ON done"),
    "a standby": (
        f"ALTER DATABASE %I SET default_transaction_read_only = on; {AGAIN}",
        f"ALTER DATABASE %I RESET default_transaction_read_only; {AGAIN}",
    ),
}


@pytest.mark.parametrize("kind", PENS)
async def test_a_database_that_nobody_can_write_to_is_waited_for_and_nothing_is_parked(world: World, kind: str) -> None:
    named = f'"{await world.conn.fetchval("SELECT current_database()")}"'
    taken, given_back = (statements.replace("%I", named) for statements in PENS[kind])
    async with listening(world.here, world.consumer()) as consumer:
        await send(world, range(1))
        await has(world, 1)
        await world.conn.execute(taken)
        await send(world, range(1, 4))
        await until(lambda: asyncio.sleep(0, consumer._effects.waiting_for_database))
        await world.conn.execute(given_back)
        await until(lambda: _are_done(world, set(range(4))))
        assert await open_rows(world) == []


async def test_what_waits_where_nothing_was_taken_yet_is_counted(world: World) -> None:
    """A consumer that is paused, or away, when something first comes to one of its partitions."""
    async with listening(world.here, world.consumer()):
        await send(world, range(1))

        async def all_taken() -> bool:
            return await lag.behind(world.kafka, [group(world)]) == {group(world): 0}

        await until(all_taken)
    await send(world, ALL_PARTITIONS)
    assert await lag.behind(world.kafka, [group(world), "nobody"]) == {
        group(world): len(ALL_PARTITIONS),
        "nobody": None,
    }
