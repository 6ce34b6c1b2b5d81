"""What who asks is told is what is so afterwards: a later read says the same, and its tag holds."""

import asyncio

import pytest

from kit.groupcommit import GroupCommit
from services.enrolment import commands
from services.enrolment.domain import Enrolment
from services.enrolment.shown import shown
from tests.delivery import Servers
from tests.seats import World, acting, world

pytestmark = pytest.mark.anyio


async def together(here: World, *asked: commands.Command) -> list[commands.Outcome]:
    """What came of these, decided in one transaction."""
    return await here.database.run(lambda conn: commands.decide(conn, asked, here.settings))


async def test_two_who_approve_at_the_same_time_give_one_seat(servers: Servers) -> None:
    async with world(servers) as here:
        offering_id = await here.scheduled(online=3, rules={"requires_approval": True})
        kari = await here.enrol(offering_id, "kari")
        first, second = await together(here, acting("approve", kari.id), acting("approve", kari.id))
        assert [getattr(one, "state", one) for one in (first, second)] == ["associated", "associated"]
        assert (await here.places(offering_id))["online"].taken == 1
        assert (await here.kinds()).count("LearnerEnrolled") == 1


async def test_who_is_let_into_the_line_is_told_the_place_that_is_theirs(servers: Servers) -> None:
    async with world(servers) as here:
        offering_id = await here.scheduled(online=0, rules={"requires_approval": True})
        asked = [await here.enrol(offering_id, who) for who in ("kari", "ola", "per")]
        let_in = [await here.act("approve", one) for one in (asked[0], asked[2], asked[1])]
        assert [one.place_in_line for one in let_in] == [1, 2, 2], "ola asked before per"
        told = [data["place_in_line"] for kind, data in await here.said() if kind == "LearnerQueued"]
        assert told == [1, 2, 2]


async def test_who_declines_and_stays_is_told_where_they_stand(servers: Servers) -> None:
    async with world(servers) as here:
        offering_id = await here.scheduled(online=1)
        kari, ola, per = [await here.enrol(offering_id, who) for who in ("kari", "ola", "per")]
        await here.act("withdraw", kari)
        told = await here.act("decline", ola, stay=True)
        assert (told.state, told.place_in_line) == ("queued", 1), "per has the offer by now"
        assert shown(told) == shown(await here.now(ola))
        await here.act("withdraw", per)  # the seat comes back to ola
        alone = await here.act("decline", ola, stay=True)
        assert alone.state == "offered", "nobody else waits: the seat is offered again in the same moment"
        assert shown(alone) == shown(await here.now(ola))


async def test_who_answers_while_another_leaves_is_told_of_the_place_that_came_of_it(servers: Servers) -> None:
    async with world(servers) as here:
        offering_id = await here.scheduled(mosjoen=1, online=1)
        kari, liv = [await here.enrol(offering_id, who, at) for who, at in (("kari", "mosjoen"), ("liv", "online"))]
        ola = await here.enrol(offering_id, "ola", "mosjoen", "online")
        await here.act("withdraw", liv)
        desk: GroupCommit[commands.Command, Enrolment] = GroupCommit(
            here.database, lambda conn, asked: commands.decide(conn, asked, here.settings)
        )
        accepted, _ = await asyncio.gather(
            desk.submit(acting("accept", ola.id)), desk.submit(acting("withdraw", kari.id))
        )
        assert (accepted.state, accepted.place) == ("associated", "mosjoen")
        assert shown(accepted) == shown(await here.now(ola))


@pytest.mark.parametrize(("capacity", "anew"), [(1, "OfferingFilled"), (2, "OfferingReopened")])
async def test_an_offering_that_was_over_and_comes_again_says_anew_whether_it_has_seats(
    servers: Servers, capacity: int, anew: str
) -> None:
    """Beside hers, who had a seat in it to its end."""
    async with world(servers) as here:
        offering_id = await here.scheduled(online=1)
        await here.enrol(offering_id, "kari")
        async with here.later(days=10) as then:
            await then.tick()
            await then.scheduled(offering_id=offering_id, online=capacity, in_days=30)
            said = [kind for kind in await then.kinds() if kind.startswith("Offering")]
            assert said == ["OfferingFilled", anew]
