"""A consumer that is held up, by a lock, by a fault of its own or by an operator, passes no record over."""

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest

from kit import parking, switch
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
