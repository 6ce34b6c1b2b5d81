"""Who is put at the back of the line stands behind everybody, also behind those whom their group came before."""

import pytest

from tests.delivery import Servers
from tests.seats import world

pytestmark = pytest.mark.anyio

RULES = {"priority_groups": ["helse"]}


async def test_who_declines_and_stays_is_not_offered_the_same_seat_again_for_their_group(servers: Servers) -> None:
    async with world(servers) as here:
        offering_id = await here.scheduled(online=1, in_days=30, rules=RULES)
        kari = await here.enrol(offering_id, "kari")
        ola = await here.enrol(offering_id, "ola")
        liv = await here.enrol(offering_id, "liv", group="helse")
        await here.act("withdraw", kari)
        assert await here.stands(liv, ola) == [("offered", "online"), ("queued", None)]
        await here.act("decline", liv, stay=True)
        assert await here.stands(liv, ola) == [("queued", None), ("offered", "online")]
        assert (await here.now(liv)).place_in_line == 1
        per = await here.enrol(offering_id, "per", group="helse")
        assert [(await here.now(one)).place_in_line for one in (per, liv)] == [1, 2], "as one of no group"


async def test_who_lets_an_offer_lapse_stands_behind_all_and_stays_there_when_the_groups_change(
    servers: Servers,
) -> None:
    async with world(servers) as here:
        rules = RULES | {"on_lapse": "back_of_queue", "offer_hours": 4}
        offering_id = await here.scheduled(online=1, in_days=30, rules=rules)
        kari = await here.enrol(offering_id, "kari")
        liv = await here.enrol(offering_id, "liv", group="helse")
        ola = await here.enrol(offering_id, "ola")
        await here.act("withdraw", kari)
        async with here.later(hours=30) as then:
            await then.tick()
            assert await then.stands(liv, ola) == [("queued", None), ("offered", "online")]
            await then.scheduled(
                offering_id=offering_id, online=1, in_days=30, rules={"priority_groups": ["a", "helse"]}
            )
            per = await then.enrol(offering_id, "per")
            assert [(await then.now(one)).place_in_line for one in (liv, per)] == [1, 2]
            siri = await then.enrol(offering_id, "siri", group="helse")
            places = [(await then.now(one)).place_in_line for one in (siri, liv, per)]
            assert places == [1, 2, 3], "a group that comes first does, and who was put back is of none"
