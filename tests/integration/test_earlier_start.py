"""A course that is moved to begin earlier: no offer holds past 12 hours before its start, and who has one is told."""

from datetime import datetime

import pytest

from kit.problems import Problem
from services.enrolment import offers
from services.enrolment.store import steps
from tests.delivery import Servers
from tests.seats import World, world

pytestmark = pytest.mark.anyio

RULES = {"offer_hours": 72}


async def last_of(here: World, offering_id: object) -> datetime:
    async with here.database.reading() as conn:
        starts_at = await conn.fetchval("SELECT starts_at FROM offerings WHERE id = $1", offering_id)
    return offers.last(starts_at)


async def marks(here: World) -> dict[tuple[str, str], str]:
    async with here.database.reading() as conn:
        return await steps.marks(conn, [("issuer", "ola")])


async def outcomes(here: World) -> list[str | None]:
    async with here.database.reading() as conn:
        return [row["outcome"] for row in await conn.fetch("SELECT outcome FROM offers ORDER BY made_at, id")]


async def test_an_offer_ends_in_time_when_the_course_begins_earlier(servers: Servers) -> None:
    async with world(servers) as here:
        offering_id = await here.scheduled(online=1, in_days=30, rules=RULES)
        kari, ola, per = [await here.enrol(offering_id, who) for who in ("kari", "ola", "per")]
        await here.act("withdraw", kari)
        before = await here.now(ola)
        await here.scheduled(offering_id=offering_id, online=1, in_days=10, rules=RULES)
        assert (await here.now(ola)).expires_at == before.expires_at, "there is time enough still"
        mark = await marks(here)
        await here.scheduled(offering_id=offering_id, online=1, in_days=2, rules=RULES)
        assert await marks(here) != mark, "a page that is open is drawn anew"
        after = await here.now(ola)
        assert (after.state, after.place, after.expires_at) == ("offered", "online", await last_of(here, offering_id))
        assert await outcomes(here) == ["replaced", None]
        told = [data for kind, data in await here.said() if kind == "SeatOffered"]
        assert [one["enrolment_id"] for one in told] == [str(ola.id)] * 2, "who has the offer is told of its new hour"
        assert datetime.fromisoformat(told[1]["expires_at"]) == after.expires_at
        async with here.later(days=1.6) as then:
            with pytest.raises(Problem) as refused:
                await then.act("accept", ola)
            assert refused.value.slug == "offer-lapsed"
            await then.tick()
            assert await then.stands(ola, per) == [("queued", None), ("queued", None)], "it was the last offer"


async def test_a_page_that_is_open_is_drawn_anew_when_the_course_is_moved(servers: Servers) -> None:
    """It says when the course is, and what is asked of its learner; nothing of their own enrolment has changed."""
    async with world(servers) as here:
        offering_id = await here.scheduled(online=1, in_days=30)
        await here.enrol(offering_id, "ola")
        mark = await marks(here)
        await here.scheduled(online=1, in_days=30)
        assert await marks(here) == mark, "the control: another course"
        await here.scheduled(offering_id=offering_id, online=1, in_days=10)
        assert await marks(here) != mark


async def test_an_offer_is_over_when_the_course_begins_too_soon_for_any(servers: Servers) -> None:
    async with world(servers) as here:
        offering_id = await here.scheduled(online=2, in_days=30, rules=RULES)
        kari, siri, ola, liv, per = [
            await here.enrol(offering_id, who) for who in ("kari", "siri", "ola", "liv", "per")
        ]
        for one in (kari, siri):
            await here.act("withdraw", one)
        assert await here.stands(ola, liv, per) == [("offered", "online")] * 2 + [("queued", None)], "the control"
        await here.scheduled(offering_id=offering_id, online=2, in_days=0.3, rules=RULES)
        assert await here.stands(ola, liv, per) == [("queued", None)] * 3
        assert await outcomes(here) == ["withdrawn"] * 2
        kinds, data = zip(*(await here.said())[-3:], strict=True)
        assert kinds == ("LearnerQueued", "LearnerQueued", "OfferingReopened")
        assert [(one["place_in_line"], one["offers"]) for one in data[:2]] == [(1, False), (2, False)]
        assert (await here.now(per)).place_in_line == 3, "nobody has lost their place"
        assert (await here.enrol(offering_id, "per")).state == "associated", "it is whose who asks first"
