"""To read again, to run again and to give up: what an operator asks for is done whole, and stops nobody else."""

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from aiokafka.admin import AIOKafkaAdminClient

from kit import operating, parking, switch
from kit.database import Connection
from kit.listeners import Received
from kit.parking import Record
from tests.delivery import listening, until
from tests.integration.test_delivery import World, has, open_rows
from tests.integration.test_delivery import world as world  # a fixture
from tests.integration.test_held_up import group, send

pytestmark = pytest.mark.anyio


async def states(world: World) -> list[str]:
    return [row["state"] for row in await world.conn.fetch("SELECT state FROM parked ORDER BY id")]


async def forget(world: World) -> None:
    """As if nothing had been heard: what is read again has its effect again, and can be counted."""
    await world.conn.execute("DELETE FROM inbox")
    await world.conn.execute("DELETE FROM done")


async def test_a_record_that_waited_and_was_discarded_has_no_effect_when_it_is_read_again(world: World) -> None:
    async def held() -> bool:
        return await states(world) == ["parked", "held"]

    world.poison.add(1)
    async with listening(world.here, world.consumer()):
        await world.send(("a", world.raw("a", 1)), ("a", world.raw("a", 2)))
        await until(held)
        rows = await open_rows(world)
        assert rows[1]["event_id"]
        assert rows[1]["type"] == world.event.spec.type
        await parking.discard(world.conn, [row["id"] for row in rows], "test", "given up")
        await switch.replay(world.conn, group(world), datetime.now(UTC) - timedelta(minutes=5))
        await world.send(("b", world.raw("b", 3)))
        assert await has(world, 1) == [("b", 3)]
        await until(lambda: _replayed(world))
        await world.send(("a", world.raw("a", 4)))
        assert await has(world, 2) == [("b", 3), ("a", 4)]


async def _replayed(world: World) -> bool:
    """Whether the consumer has taken all there is, after an operator's wish was seen."""
    admin = AIOKafkaAdminClient(bootstrap_servers=world.kafka)
    await admin.start()
    try:
        await asyncio.sleep(0)
        found = await admin.list_consumer_group_offsets(group(world))
    finally:
        await admin.close()
    return bool(sum(told.offset for told in found.values()) >= 3)


async def test_one_that_is_too_slow_to_run_again_does_not_keep_the_others_from_it(world: World) -> None:
    world.poison |= {1, 2}

    async def listen(conn: Connection, received: Sequence[Received]) -> None:
        if any(getattr(one.event, "number", 0) == 1 for one in received) and not world.poison:
            await conn.execute("SET LOCAL statement_timeout = '100ms'")
            await conn.execute("SELECT pg_sleep(10)")
        await world.listen(conn, received)

    world.listeners._by_event = {world.event: listen}
    async with listening(world.here, world.consumer()):
        await world.send(("a", world.raw("a", 1)), ("b", world.raw("b", 2)))

        async def two() -> bool:
            return await states(world) == ["parked", "parked"]

        await until(two)
        world.poison.clear()
        await parking.redrive(world.conn, [row["id"] for row in await open_rows(world)], "test")
        assert await has(world, 1) == [("b", 2)]
        [row] = await open_rows(world)
        assert row["key"] == "a"  # and it is tried again


def holding(world: World, turn: asyncio.Event, in_hand: asyncio.Event, fails: bool) -> Any:
    """A listener that has a batch of new records in hand until its turn comes."""

    async def listen(conn: Connection, received: Sequence[Received]) -> None:
        if any(getattr(one.event, "number", 0) >= 100 for one in received):
            in_hand.set()
            await turn.wait()
            if fails:
                raise ValueError("a test")
        await world.listen(conn, received)

    return listen


async def test_a_batch_in_hand_that_is_not_done_with_does_not_undo_what_was_asked_to_be_read_again(
    world: World,
) -> None:
    turn, in_hand = asyncio.Event(), asyncio.Event()
    await world.send(*(("a", world.raw("a", n)) for n in range(6)))
    async with listening(world.here, world.consumer()) as consumer:
        await has(world, 6)
        await until(lambda: _committed(world, 6))
        await forget(world)
        world.listeners._by_event = {world.event: holding(world, turn, in_hand, fails=True)}
        await world.send(*(("a", world.raw("a", 100 + n)) for n in range(6)))
        await in_hand.wait()
        await switch.replay(world.conn, group(world), datetime.now(UTC) - timedelta(minutes=5))
        await switch.pause(world.conn, group(world), "a test")  # it is taken apart, and goes back to its first record
        await looked(world)
        turn.set()
        await until(lambda: asyncio.sleep(0, consumer._in_hand == 0))
        world.listeners._by_event = {world.event: world.listen}
        await switch.resume(world.conn, group(world))
        assert [number for _, number in await has(world, 12)] == [*range(6), *range(100, 106)]


async def test_a_batch_in_hand_does_not_let_a_restart_pass_over_what_was_asked_to_be_read_again(world: World) -> None:
    turn, in_hand = asyncio.Event(), asyncio.Event()
    await world.send(*(("a", world.raw("a", n)) for n in range(6)))
    async with listening(world.here, world.consumer()):
        await has(world, 6)
        await until(lambda: _committed(world, 6))
        world.listeners._by_event = {world.event: holding(world, turn, in_hand, fails=False)}
        await world.send(*(("a", world.raw("a", 100 + n)) for n in range(6)))
        await in_hand.wait()
        await forget(world)
        await switch.replay(world.conn, group(world), datetime.now(UTC) - timedelta(minutes=5))
        await looked(world)
        again = asyncio.Event()

        async def never(conn: Connection, received: Sequence[Received]) -> None:
            again.set()
            raise ValueError("a test")

        world.listeners._by_event = {world.event: never}
        turn.set()
        await again.wait()  # it reads again, and ends before it has done anything
        world.here.stopping.set()
    world.listeners._by_event = {world.event: world.listen}
    async with listening(world.here, world.consumer()):
        assert {number for _, number in await has(world, 12)} == {*range(6), *range(100, 106)}


async def looked(world: World) -> None:
    """Until the consumer has seen all that operators have asked for until now: it counts the parked with each look."""
    gauge = world.here.metrics.parked.labels(group(world))
    for count in (1, 0):
        if count:
            async with world.conn.transaction():
                record = Record("x", 0, 0, None, (), b"")
                how = {"state": "parked", "reason": "failed", "detail": "a test"}
                await parking.park(world.conn, world.name, group(world), record, **how)
        else:
            await world.conn.execute("DELETE FROM parked")
        await until(lambda count=count: asyncio.sleep(0, gauge._value.get() == count))  # type: ignore[misc]


async def _committed(world: World, count: int) -> bool:
    admin = AIOKafkaAdminClient(bootstrap_servers=world.kafka)
    await admin.start()
    try:
        found = await admin.list_consumer_group_offsets(group(world))
    finally:
        await admin.close()
    return bool(sum(told.offset for told in found.values()) == count)


@pytest.mark.parametrize("since", ["1970-01-01T00:00:00+01:00", "0001-01-01T00:00:00+01:00"])
async def test_all_there_is_can_be_read_again(world: World, since: str) -> None:
    await send(world, range(3))
    async with listening(world.here, world.consumer()):
        await has(world, 3)
        await forget(world)
        await switch.replay(world.conn, group(world), operating.instant_of(since))
        await has(world, 3)
