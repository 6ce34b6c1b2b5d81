"""Several clocks and a rush of requests at the same offerings: each offer lapses once, and nobody waits in a circle."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import asyncpg
import pytest

from kit.database import Connection, Database, connect
from kit.groupcommit import GroupCommit
from kit.health import Health
from kit.metrics import Metrics
from kit.problems import Problem
from kit.running import Running
from services.enrolment import clock, commands, offerings
from services.enrolment.commands import Command, Enrol
from services.enrolment.domain import Enrolment
from services.enrolment.settings import EnrolmentSettings
from services.enrolment.store import times
from tests.delivery import Servers, until
from tests.seats import World, acting, world

pytestmark = pytest.mark.anyio

OFFERINGS, SEATS, IN_LINE, ROUNDS = 3, 4, 24, 3


@asynccontextmanager
async def a_replica(here: World) -> AsyncIterator[tuple[Running, GroupCommit[Command, Enrolment]]]:
    """A process of its own as far as the database can tell: its own connections, its clock, and its desk."""
    database = Database(here.settings, pools={"web": 4, "together": 2, "worker": 2})
    await database.open()
    running = Running("enrolment", here.settings, database, Metrics(), Health("enrolment"))
    ticking = asyncio.create_task(clock.run(running))
    try:
        yield running, GroupCommit(database, lambda conn, asked: commands.decide(conn, asked, here.settings))
    finally:
        running.stopping.set()
        await ticking
        await database.close()


async def test_a_clock_passes_over_what_another_has_in_hand(servers: Servers) -> None:
    async with world(servers) as here:
        offerings = [await here.scheduled(online=1) for _ in range(2)]
        async with (
            here.later(days=20) as then,
            then.database.reading() as one,
            then.database.reading() as other,
            one.transaction(),
            other.transaction(),
        ):
            # Each has two hours that are past: when enrolment closes, and its end.
            taken = [await times.take_timer(one)]
            taken += [await asyncio.wait_for(times.take_timer(other), 1) for _ in range(3)]
            assert sorted(map(str, taken)) == sorted(map(str, 2 * offerings))
            assert await asyncio.wait_for(times.take_timer(other), 1) is None


async def test_a_clock_that_puts_an_offering_off_waits_for_no_other(servers: Servers) -> None:
    """Else it would end: one that has failed at an offering would wait for one that is at the same."""
    async with world(servers) as here:
        offering_id = await here.scheduled(online=1)
        async with here.database.reading() as conn:
            await times.add_timers(conn, [(offering_id, datetime.now(UTC)), (offering_id, datetime.now(UTC))])
        async with here.later(minutes=1) as then, then.database.reading() as one, one.transaction():
            assert await times.take_timer(one) == offering_id
            await asyncio.wait_for(then.database.run(lambda conn: times.put_off(conn, offering_id, 30)), 1)
            async with then.database.reading() as other:
                assert await times.take_timer(other) is None, "the other is put off"


async def test_an_offering_whose_look_fails_keeps_no_other_from_its_own(
    servers: Servers, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with world(servers) as here:
        bad, good = await here.scheduled(in_days=1, online=1), await here.scheduled(in_days=2, online=1)
        look = offerings.look

        async def fails(conn: Connection, offering_id: UUID, settings: EnrolmentSettings) -> None:
            if offering_id == bad:
                raise LookupError("a test")
            await look(conn, offering_id, settings)

        async def left() -> set[UUID]:
            async with here.database.reading() as conn:
                return {row["offering_id"] for row in await conn.fetch("SELECT offering_id FROM timers")}

        async def good_is_done() -> bool:
            return good not in await left()

        monkeypatch.setattr(offerings, "look", fails)
        async with here.later(days=20) as then, a_replica(then):
            await until(good_is_done)
        assert await left() == {bad}, "it is looked at again, later"


async def due_now(here: World, offering_ids: list[UUID]) -> set[UUID]:
    """The hour of every open offer has come; which they are."""
    async with here.database.reading() as conn:
        rows = await conn.fetch("UPDATE offers SET expires_at = app_now() WHERE ended_at IS NULL RETURNING id")
        now = await conn.fetchval("SELECT app_now()")
        await times.add_timers(conn, [(one, now) for one in offering_ids for _ in range(3)])  # more often than needed
    return {row["id"] for row in rows}


async def test_a_strangers_lock_holds_an_offer_up_no_longer_than_it_lasts(
    servers: Servers, capsys: pytest.CaptureFixture[str]
) -> None:
    """Red control: what has failed otherwise is looked at again in half a minute, which this does not wait for."""
    async with world(servers) as here:
        offering_id = await here.scheduled(online=1, in_days=30)
        [seated] = await here.together(offering_id, range(1))
        await here.together(offering_id, range(1, 2))
        await here.act("withdraw", seated)
        stranger = await connect(here.settings, "operator")
        try:
            await due_now(here, [offering_id])
            await stranger.execute("BEGIN")
            await stranger.execute("SELECT FROM offerings WHERE id = $1 FOR UPDATE", offering_id)
            said = ""

            async def met() -> bool:
                nonlocal said
                said += capsys.readouterr().out
                return "offering_not_looked_at" in said

            async with a_replica(here):
                await until(met)
                await stranger.execute("ROLLBACK")
                await until(lambda: nothing_due(here), within_s=clock.AGAIN_S / 2)
        finally:
            await stranger.close()


async def deadlocks(here: World) -> int:
    """How many the server has ended in this database; known for certain once the sessions are closed."""
    conn = await connect(here.settings, "test")
    try:
        found: int = await conn.fetchval("SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()")
        return found
    finally:
        await conn.close()


async def test_two_clocks_and_a_rush_lapse_each_offer_once_and_nobody_waits_in_a_circle(
    servers: Servers, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(clock, "LOOK_S", 0.02)
    async with world(servers) as here:
        offerings = [await here.scheduled(online=SEATS, mosjoen=1, in_days=30) for _ in range(OFFERINGS)]
        for offering_id in offerings:
            seated = await here.together(offering_id, range(SEATS))
            await here.together(offering_id, range(SEATS, SEATS + IN_LINE))
            for one in seated:
                await here.act("withdraw", one)
        async with AsyncExitStack() as replicas:
            desks = [(await replicas.enter_async_context(a_replica(here)))[1] for _ in range(2)]
            lapsing: set[UUID] = set()
            for turn in range(ROUNDS):
                lapsing |= await due_now(here, offerings)
                await asyncio.gather(*(rush(here, desks, offering_id, turn) for offering_id in offerings))
                await until(lambda: nothing_due(here))
        assert await deadlocks(here) == 0
        said = Counter(data["offer_id"] for kind, data in await here.said() if kind == "SeatOfferLapsed")
        assert set(said.values()) == {1}, "an offer lapses once"
        assert {UUID(one) for one in said} == lapsing
        for offering_id in offerings:
            places = await here.places(offering_id)
            states = await here.states(offering_id)
            assert sum(one.taken for one in places.values()) == states["associated"] + states["offered"]
            assert all(one.taken == one.capacity for one in places.values() if one.queued)


async def rush(here: World, desks: list[GroupCommit[Command, Enrolment]], offering_id: UUID, turn: int) -> None:
    """Learners who come, leave and answer at both desks while the clocks look."""
    async with here.database.reading() as conn:
        rows = await conn.fetch("SELECT id, state FROM enrolments WHERE offering_id = $1 ORDER BY id", offering_id)
    asked: list[Command] = []
    for n, row in enumerate(rows):
        if row["state"] == "offered":
            asked.append(acting("accept", row["id"]))  # too late, each of them
        elif row["state"] in ("queued", "associated") and n % 5 == turn:
            asked.append(acting("withdraw", row["id"]))
    for n in range(12):
        choices = ("mosjoen", "online") if n % 2 else ("online", "mosjoen")
        asked.append(Enrol(offering_id, ("issuer", f"new-{turn}-{n}"), choices, "Kari"))
    outcomes: list[Any] = await asyncio.gather(
        *(desks[n % 2].submit(one) for n, one in enumerate(asked)), return_exceptions=True
    )
    for one in outcomes:
        assert isinstance(one, Enrolment | Problem), repr(one)
        assert not isinstance(one, asyncpg.PostgresError)


async def nothing_due(here: World) -> bool:
    async with here.database.reading() as conn:
        return not await conn.fetchval(
            "SELECT EXISTS (SELECT FROM offers WHERE ended_at IS NULL AND expires_at <= app_now())"
            " OR EXISTS (SELECT FROM timers WHERE due_at <= app_now())"
        )
