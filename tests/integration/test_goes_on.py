"""A run that was over by what enrolment knew, and is not: whoever its end put out is where they were before it.

The catalogue lets nobody come back to a run that was over, but what it said in time is heard late where enrolment was
down or held up: its clock has let the run be over meanwhile. And a run that is over may go on longer.
"""

from datetime import UTC, datetime, timedelta

import pytest

from kit import audit
from kit.problems import Problem
from services.enrolment import erasing, offerings
from services.enrolment.app import MIGRATIONS
from services.enrolment.domain import Enrolment
from services.enrolment.store import steps
from tests.delivery import Servers
from tests.seats import World, world

pytestmark = pytest.mark.anyio

GROUPS = {"priority_groups": ["ansatt"]}


async def numbers(here: World, *several: Enrolment) -> list[int | None]:
    """Which in line each is."""
    return [(await here.now(one)).place_in_line for one in several]


async def since(here: World, before: int) -> list[str]:
    """The kinds of what was said after so many events."""
    return (await here.kinds())[before:]


async def forgotten(here: World, one: Enrolment) -> None:
    await here.database.run(lambda conn: erasing.forget(conn, one.learner_id, "operator", here.settings))


async def is_well(here: World) -> bool:
    """Whether `audit` finds nothing. What is asked of what has been said is left out: no relay sends it here."""
    found = await audit.look(here.settings, [MIGRATIONS.parent / "audit.sql"])
    return [one for one in found if one.wrong] == []


async def test_who_had_the_seat_has_it_when_the_move_is_heard_after_the_end(servers: Servers) -> None:
    async with world(servers) as here:
        run = await here.scheduled(online=1, in_days=1)
        kari, ola, per = [await here.enrol(run, who) for who in ("kari", "ola", "per")]
        async with here.later(days=2) as then:
            await then.tick()
            assert await then.stands(kari, ola) == [("finished", "online"), ("cancelled", None)]
            before = len(await then.said())
            await then.scheduled(offering_id=run, online=1, in_days=30)
            assert await then.stands(kari, ola, per) == [("associated", "online"), ("queued", None), ("queued", None)]
            assert await since(then, before) == ["EnrolmentRestated"] * 3 + ["OfferingFilled"]
            assert await numbers(then, ola, per, await then.enrol(run, "eva")) == [1, 2, 3]
            async with then.database.reading() as conn:
                [last, *_] = await steps.steps(conn, kari.id)
            assert (last.by_whom, last.why) == ("catalogue", "goes on")
            assert await is_well(then)
            await then.withdraw(kari, "kari")
            assert await then.stands(kari, ola, per) == [("cancelled", None), ("offered", "online"), ("queued", None)]
            assert await is_well(then)


async def test_the_same_word_twice_changes_nothing(servers: Servers) -> None:
    async with world(servers) as here:
        run = await here.scheduled(online=1, in_days=1)
        kari = await here.enrol(run, "kari")
        async with here.later(days=2) as then:
            await then.tick()
            for _ in range(2):
                await then.scheduled(offering_id=run, online=1, in_days=30)
                then.version -= 1
                await then.tick()
            await then.withdraw(kari, "kari")
            then.version += 1
            await then.scheduled(offering_id=run, online=2, in_days=30)
            await then.tick()
            assert await then.stands(kari) == [("cancelled", None)]
            assert (await then.kinds()).count("EnrolmentRestated") == 1


async def test_who_sat_in_a_run_that_goes_on_longer_sits_there(servers: Servers) -> None:
    async with world(servers) as here:
        run = await here.scheduled(online=1, in_days=1)
        kari, ola = [await here.enrol(run, who) for who in ("kari", "ola")]
        async with here.later(days=2) as then:
            await then.tick()
            await then.scheduled(offering_id=run, online=1, in_days=1, lasts_days=0.5)
            await then.tick()
            assert await then.stands(kari) == [("finished", "online")], "it is over still, later than was known"
            await then.scheduled(offering_id=run, online=1, in_days=1, lasts_days=9)
            await then.tick()
            assert await then.stands(kari, ola) == [("associated", "online"), ("queued", None)]
            await then.withdraw(kari, "kari")
            assert await then.stands(ola) == [("queued", None)], "it has begun"
        async with here.later(days=12) as then:
            await then.tick()
            assert await then.stands(kari, ola) == [("cancelled", None), ("cancelled", None)]


async def test_all_are_as_before_and_nobody_else(servers: Servers) -> None:
    """In the line as it was, also where some come first in it or were put back; who left or was refused stays out."""
    async with world(servers) as here:
        rules = GROUPS | {"requires_approval": True}
        run = await here.scheduled(online=1, mosjoen=1, in_days=3, rules=GROUPS)
        kari = await here.enrol(run, "kari", "online")
        moves = await here.enrol(run, "moves", "online", "mosjoen")
        ola, per, left = [await here.enrol(run, who, "online") for who in ("ola", "per", "left")]
        eva = await here.enrol(run, "eva", "online", group="ansatt")
        await here.withdraw(left, "left")
        assert (await here.now(moves)).waiting_for == ("online",)
        await here.scheduled(offering_id=run, online=1, mosjoen=1, in_days=3, rules=rules)
        asks, refused = [await here.enrol(run, who, "online") for who in ("asks", "refused")]
        await here.act("deny", refused, reason="full")
        everybody = (kari, moves, ola, per, eva, left, asks, refused)
        stood = await here.stands(*everybody)
        assert stood[-2:] == [("pending", None), ("denied", None)]
        line = await numbers(here, eva, ola, per)
        async with here.later(days=5) as then:
            await then.tick()
            await then.scheduled(offering_id=run, online=1, mosjoen=1, in_days=30, rules=rules)
            await then.tick()
            assert await then.stands(*everybody) == stood
            assert await numbers(then, eva, ola, per) == line == [1, 3, 4]
            assert (await then.now(moves)).waiting_for == ("online",)
            assert await is_well(then)


async def test_an_offer_that_ended_with_the_run_goes_to_the_same_again(servers: Servers) -> None:
    async with world(servers) as here:
        run = await here.scheduled(online=1, in_days=1, rules={"offer_hours": 72})
        kari, ola, per = [await here.enrol(run, who) for who in ("kari", "ola", "per")]
        await here.withdraw(kari, "kari")
        assert await here.stands(ola, per) == [("offered", "online"), ("queued", None)]
        async with here.later(days=2) as then:
            await then.tick()
            await then.scheduled(offering_id=run, online=1, in_days=30)
            await then.tick()
            assert await then.stands(kari, ola, per) == [("cancelled", None), ("offered", "online"), ("queued", None)]
            assert await is_well(then)


async def test_nobody_is_thrown_out_where_there_are_fewer_seats_by_now(servers: Servers) -> None:
    async with world(servers) as here:
        run = await here.scheduled(online=2, mosjoen=1, in_days=1)
        seated = [await here.enrol(run, who) for who in ("kari", "ola")]
        away = await here.enrol(run, "away", "mosjoen")
        per = await here.enrol(run, "per")
        async with here.later(days=2) as then:
            await then.tick()
            await then.scheduled(offering_id=run, online=1, in_days=30)
            await then.tick()
            assert await then.stands(*seated, away, per) == [
                *([("associated", "online")] * 2),
                ("associated", "mosjoen"),
                ("queued", None),
            ]
            assert await is_well(then)
            await then.withdraw(seated[0], "kari")
            await then.withdraw(away, "away")
            assert await then.stands(per) == [("queued", None)], "there is one seat, and it is taken"
            assert [(one.capacity, one.taken) for one in (await then.places(run)).values()] == [(1, 1), (0, 0)]
            await then.withdraw(seated[1], "ola")
            assert await then.stands(per) == [("offered", "online")]
            assert await is_well(then)


async def test_more_seats_go_to_the_line_once_all_are_back(servers: Servers, monkeypatch: pytest.MonkeyPatch) -> None:
    """Some at a time, so that nobody waits for the lock for seconds: no seat is free before the last is back."""
    monkeypatch.setattr(offerings, "AT_ONCE", 2)
    async with world(servers) as here:
        run = await here.scheduled(online=3, in_days=1)
        seated = [await here.enrol(run, f"seated-{n}") for n in range(3)]
        line = [await here.enrol(run, f"line-{n}") for n in range(3)]
        async with here.later(days=2) as then:
            await then.tick()
            before = len(await then.said())
            await then.scheduled(offering_id=run, online=4, in_days=30)
            looked = 0
            with pytest.raises(Problem) as refused:
                await then.enrol(run, "eva")
            assert refused.value.slug == "offering-closed"
            while (said := await since(then, before)).count("EnrolmentRestated") < 6:
                assert set(said) <= {"EnrolmentRestated"}
                assert await then.database.run(then._next)
                looked += 1
            assert looked == 2
            await then.tick()
            assert await then.stands(*seated) == [("associated", "online")] * 3
            assert await then.stands(*line) == [("offered", "online"), ("queued", None), ("queued", None)]
            assert (await since(then, before))[6:] == ["SeatOffered", "OfferingFilled"]
            assert await is_well(then)


async def test_who_was_forgotten_stays_so(servers: Servers) -> None:
    async with world(servers) as here:
        run = await here.scheduled(online=1, in_days=1)
        kari, ola = [await here.enrol(run, who) for who in ("kari", "ola")]
        async with here.later(days=2) as then:
            await then.tick()
            for one in (kari, ola):
                await forgotten(then, one)
            per = await then.enrol(await then.scheduled(online=1, in_days=30), "per")
            await then.scheduled(offering_id=run, online=1, in_days=30)
            await then.tick()
            assert await then.stands(kari, ola, per) == [
                ("finished", "online"),
                ("cancelled", None),
                ("associated", "online"),
            ]
            assert await then.stands(await then.enrol(run, "eva")) == [("associated", "online")], "the seat is free"
            assert await is_well(then)


async def test_who_finished_another_term_of_before_does_not_come_back(servers: Servers) -> None:
    """A run of before the catalogue refused a next term under the same key: its learners were others."""
    async with world(servers) as here:
        run = await here.scheduled(online=1, in_days=1)
        kari = await here.enrol(run, "kari")
        async with here.later(days=2) as then:
            await then.tick()
            async with then.database.reading() as conn:
                ends = "ends_at = app_now() + interval '9 days', starts_at = app_now() + interval '8 days'"
                await conn.execute(f"UPDATE offerings SET {ends}")
            ola = await then.enrol(run, "ola")
            async with here.later(days=12) as after:
                await after.database.run(lambda conn: offerings.look(conn, run, after.settings))
                assert await after.stands(kari, ola) == [("finished", "online")] * 2
                after.version = then.version
                await after.scheduled(offering_id=run, online=1, in_days=30)
                await after.tick()
                assert await after.stands(kari, ola) == [("finished", "online"), ("associated", "online")]


@pytest.mark.parametrize("back", [1, 1_000])
async def test_all_are_told_when_it_is_cancelled_after_all_however_many_are_back(
    servers: Servers, back: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(offerings, "AT_ONCE", back)
    async with world(servers) as here:
        run = await here.scheduled(online=2, in_days=1)
        several = [await here.enrol(run, f"learner-{n}") for n in range(3)]
        async with here.later(days=2) as then:
            await then.tick()
            before = len(await then.said())
            await then.scheduled(offering_id=run, online=2, in_days=30)
            await then.cancelled(run)
            await then.tick()
            assert await then.stands(*several) == [("cancelled", None)] * 3
            assert (await since(then, before)).count("LearnerWithdrew") == 3
            assert await is_well(then)


async def withdrawn(here: World) -> list[tuple[str, str | None, str]]:
    """(enrolment, its seat, why) of each who was said to be out, in order."""
    said = [data for kind, data in await here.said() if kind == "LearnerWithdrew"]
    return [(data["enrolment_id"], data["place"], data["reason"]) for data in said]


@pytest.mark.parametrize("at_once", [1, 1_000])
async def test_that_it_was_cancelled_before_its_end_is_told_when_it_is_heard_after_it(
    servers: Servers, at_once: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(offerings, "AT_ONCE", at_once)
    async with world(servers) as here:
        run = await here.scheduled(online=1, in_days=1)
        kari, ola, gone = [await here.enrol(run, who) for who in ("kari", "ola", "gone")]
        await here.withdraw(gone, "gone")
        said_at = datetime.now(UTC) + timedelta(hours=20)
        async with here.later(days=2) as then:
            await then.tick()
            assert await then.stands(kari, ola) == [("finished", "online"), ("cancelled", None)]
            before = len(await withdrawn(then))
            for _ in range(2):
                await then.cancelled(run, at=said_at)
                await then.tick()
            assert await then.stands(kari, ola, gone) == [("cancelled", None)] * 3
            told = (await withdrawn(then))[before:]
            assert told == [
                (str(kari.id), "online", "offering_cancelled"),
                (str(ola.id), None, "offering_cancelled"),
            ]
            assert await is_well(then)


async def test_of_a_run_that_is_over_a_later_word_that_it_is_cancelled_tells_nobody(servers: Servers) -> None:
    async with world(servers) as here:
        run = await here.scheduled(online=1, in_days=1)
        kari = await here.enrol(run, "kari")
        async with here.later(days=2) as then:
            await then.tick()
            await then.cancelled(run)
            await then.tick()
            assert await then.stands(kari) == [("finished", "online")]
            assert await withdrawn(then) == []
