"""Who waits in vain hears so, once: when nobody gets a seat any more, and not at the end of the course."""

import pytest

from services.enrolment import offerings
from services.enrolment.domain import Enrolment
from tests.delivery import Servers
from tests.integration.test_goes_on import forgotten, is_well, since
from tests.seats import World, world

pytestmark = pytest.mark.anyio


async def told(here: World) -> list[tuple[str, str]]:
    """(enrolment, what it had waited for) of each that was said to have got no seat, in order."""
    said = [data for kind, data in await here.said() if kind == "LearnerGotNoSeat"]
    return [(data["enrolment_id"], data["waited_for"]) for data in said]


def seat(*several: Enrolment) -> list[tuple[str, str]]:
    return [(str(one.id), "seat") for one in several]


async def test_who_waits_when_enrolment_closes_hears_so_once(servers: Servers) -> None:
    async with world(servers) as here:
        run = await here.scheduled(online=1, in_days=1, lasts_days=40)
        kari, ola, left = [await here.enrol(run, who) for who in ("kari", "ola", "left")]
        await here.withdraw(left, "left")
        asked = await here.scheduled(online=1, in_days=1, lasts_days=40, rules={"requires_approval": True})
        eva, refused = [await here.enrol(asked, who) for who in ("eva", "refused")]
        await here.act("deny", refused, reason="full")
        async with here.later(hours=23) as before:
            await before.tick()
            assert await told(before) == []
        async with here.later(hours=25) as then:
            await then.tick()
            assert await told(then) == [*seat(ola), (str(eva.id), "approval")]
            assert await then.stands(kari, ola, eva) == [("associated", "online"), ("queued", None), ("pending", None)]
            await then.scheduled(offering_id=run, online=1, in_days=1, lasts_days=41)  # the same again, but its end
            await then.tick()
            assert len(await told(then)) == 2
            assert await is_well(then)
        async with here.later(days=60) as over:
            await over.tick()
            assert len(await told(over)) == 2, "the end is no news to them"
            assert (await over.now(ola)).state == (await over.now(eva)).state == "cancelled"
            assert await is_well(over)


async def test_late_enrolment_is_waited_for(servers: Servers) -> None:
    async with world(servers) as here:
        run = await here.scheduled(online=1, in_days=1, lasts_days=40)
        _, ola = [await here.enrol(run, who) for who in ("kari", "ola")]
        async with here.later(days=2) as then:
            until = (await then.offering(run)).ends_at
            await then.scheduled(
                offering_id=run, online=1, in_days=1, lasts_days=40, rules={"late_enrolment_until": until}
            )
            await then.tick()
            assert await told(then) == []
        async with here.later(days=45) as over:
            await over.tick()
            assert await told(over) == seat(ola)
            assert (await over.kinds())[-2:] == ["EnrolmentFinished", "LearnerWithdrew"]


async def test_all_are_told_before_the_end_when_nobody_looked_in_time(
    servers: Servers, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Enrolment was down from before the start until after the end. Who was offered a seat got none either."""
    monkeypatch.setattr(offerings, "AT_ONCE", 2)
    async with world(servers) as here:
        run = await here.scheduled(online=2, in_days=1, rules={"offer_hours": 72})
        seated = [await here.enrol(run, f"seated-{n}") for n in range(2)]
        line = [await here.enrol(run, f"line-{n}") for n in range(5)]
        await here.withdraw(seated[0], "seated-0")
        assert (await here.now(line[0])).state == "offered"
        async with here.later(days=9) as then:
            await then.tick()
            await then.tick()
            assert await told(then) == seat(*line)
            assert await then.stands(*line) == [("cancelled", None)] * 5
            kinds = await then.kinds()
            assert kinds.count("LearnerWithdrew") == 6
            assert await is_well(then)


async def test_many_are_told_some_at_a_time(servers: Servers, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(offerings, "AT_ONCE", 2)
    async with world(servers) as here:
        run = await here.scheduled(online=1, in_days=1, lasts_days=9)
        await here.enrol(run, "seated")
        line = [await here.enrol(run, f"line-{n}") for n in range(5)]
        async with here.later(days=2) as then:
            before = len(await then.said())
            await then.tick()
            assert await told(then) == seat(*line)
            assert len(await since(then, before)) == 5


async def test_who_hears_it_of_a_run_that_is_moved_hears_it_again_when_that_begins(servers: Servers) -> None:
    async with world(servers) as here:
        run = await here.scheduled(online=1, in_days=1)
        _, ola, per = [await here.enrol(run, who) for who in ("kari", "ola", "per")]
        async with here.later(days=2) as then:
            await then.tick()
            assert await told(then) == seat(ola, per)
            await then.scheduled(offering_id=run, online=1, in_days=30)
            await then.tick()
            assert await then.stands(ola, per) == [("queued", None)] * 2
            assert len(await told(then)) == 2
            await forgotten(then, per)
        async with here.later(days=40) as over:
            await over.tick()
            assert await told(over) == [*seat(ola, per), *seat(ola)]


async def test_of_a_run_that_is_cancelled_that_is_all_that_is_said(servers: Servers) -> None:
    async with world(servers) as here:
        run = await here.scheduled(online=1, in_days=1)
        for who in ("kari", "ola"):
            await here.enrol(run, who)
        await here.cancelled(run)
        async with here.later(days=2) as then:
            await then.tick()
            assert await told(then) == []
