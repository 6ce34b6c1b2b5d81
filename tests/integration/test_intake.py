"""A partner reads what became of everything it sent, in pages, and how it goes as a whole; and nothing of another's."""

import asyncio
import json
import uuid
from typing import Any

import pytest

from contracts.enrolment import OfferingFilled, OfferingReopened, SeatCount
from contracts.topics import partner_courses
from kit import lag
from services.catalogue import events, joining
from services.catalogue import operating as catalogue
from services.catalogue.intake import GROUP, KEPT_DAYS, forget
from tests.delivery import Servers, listening, until
from tests.integration.corpus import COURSE, DATES, event
from tests.integration.test_catalogue import BASE, World, world
from tests.integration.test_catalogue_minimum import Enrolment, judging
from tests.integration.test_catalogue_partners import change
from tests.integration.test_corpus import send

pytestmark = pytest.mark.anyio


async def read(here: World, path: str, key: str = "", **query: Any) -> Any:
    headers = {"authorization": f"Bearer {key or here.key}"}
    address = path if path.startswith("/") else f"{BASE}/partners/{here.partner}/{path}"
    return await here.asking.get(address, headers=headers, params=query or None)


async def test_each_thing_sent_is_told_with_its_way_its_event_and_the_field_that_was_wrong(servers: Servers) -> None:
    async with world(servers) as here, listening(here.here, events.partners()):
        other = (await catalogue.add(here.settings, f"{here.partner}-b", "En annen", None, ["online"]))["key"]
        await here.put("SV-1", COURSE)
        await here.send(
            ("CoursePublished", {"code": "SV-2", **COURSE}),
            ("CoursePublished", {"code": "SV-3", **COURSE, "subjects": ["magi"]}),
            ("CoursePublished", {"code": "SV-4", "title": {"nb": 7}}),
        )

        async def all_four() -> bool:
            return len(await here.intake()) == 4

        await until(all_four, within_s=40)
        found = {one["code"]: one for one in await here.intake()}
        assert (found["SV-1"]["way"], found["SV-1"]["event_id"]) == ("http", None)
        assert (found["SV-2"]["way"], found["SV-2"]["what"]) == ("kafka", "CoursePublished")
        assert len(found["SV-2"]["event_id"]) == len(found["SV-3"]["event_id"]) == len(str(uuid.uuid4()))
        assert (found["SV-3"]["reason"], found["SV-3"]["field"]) == ("unknown_subject", "subjects")
        assert (found["SV-4"]["reason"], found["SV-4"]["field"]) == ("invalid", "title.nb")
        assert (len(found["SV-4"]["event_id"] or ""), found["SV-4"]["what"]) == (36, "CoursePublished"), "which it was"
        assert (await read(here, "intake", other)).status_code == 403
        assert (await read(here, "status", other)).status_code == 403
        here.partner, here.key = f"{here.partner}-b", other
        assert await here.intake() == []


async def test_what_is_refused_for_what_stands_around_it_is_told_with_its_own_id(
    servers: Servers,
) -> None:
    around: dict[str, dict[str, Any]] = {
        "source": {"source": "/partners/torgar"},
        "specversion": {"specversion": "2.0"},
        "type": {"type": "no.kursnett.partner.CoursePublished.v9"},
        "data": {"data": []},
    }
    async with world(servers) as here, listening(here.here, events.partners()):
        sent = {
            field: event(here.partner, "CoursePublished", {"code": "SV-1", **COURSE}) | wrong
            for field, wrong in around.items()
        }
        nameless = event(here.partner, "CoursePublished", {"code": "SV-1", **COURSE}, id="", source="/partners/torgar")
        await send(here, [(b"SV-1", json.dumps(one).encode(), []) for one in (*sent.values(), nameless)])

        async def all_told() -> bool:
            return len(await here.intake()) == len(sent) + 1

        await until(all_told, within_s=40)
        told = {one["field"]: (one["outcome"], one["event_id"]) for one in await here.intake()}
        assert told == {field: ("refused", one["id"]) for field, one in sent.items()} | {"id": ("refused", None)}


async def test_pages_hold_every_line_once_also_those_of_one_moment(servers: Servers) -> None:
    async with world(servers) as here, listening(here.here, events.partners()):
        await here.send(
            *[("CoursePublished", {"code": f"SV-{n}", **COURSE}) for n in range(7)],
            *[("CoursePublished", {"code": f"SV-{n}", "title": {}}) for n in range(6)],
        )

        async def all_of_them() -> bool:
            return len(await here.intake()) == 13

        await until(all_of_them, within_s=40)
        whole = await here.intake()
        for outcome, count in ((None, 13), ("taken", 7), ("refused", 6), ("parked", 0)):
            lines: list[Any] = []
            query: dict[str, Any] = {"limit": 4} | ({"outcome": outcome} if outcome else {})
            answer = await read(here, "intake", **query)
            while True:
                lines += answer.json()["items"]
                if "link" not in answer.headers:
                    break
                answer = await read(here, answer.headers["link"].partition(">")[0].removeprefix("<"))
            assert lines == [one for one in whole if outcome in (None, one["outcome"])]
            assert len(lines) == count
        for wrong in ({"cursor": "1"}, {"outcome": "lost"}, {"cursor": "9" * 16 + "-7-1"}):
            assert (await read(here, "intake", **wrong)).status_code == 422
        assert (await read(here, "intake", cursor="9" * 16 + "-1-" + "9" * 18)).json()["items"] == whole
        assert (await read(here, "intake", cursor="later")).json()["errors"][0]["field"] == "query cursor"


async def test_the_status_counts_by_way_and_shows_what_waits(servers: Servers) -> None:
    async with world(servers) as here, listening(here.here, events.partners()):
        await here.put("SV-1", COURSE)
        await here.put("SV-1/offerings/v27", DATES)
        await here.send(("CoursePublished", {"code": "SV-2", **COURSE}), ("CoursePublished", {"code": "SV-3"}))

        async def has_come() -> bool:
            return len(await here.intake()) == 4

        await until(has_come, within_s=40)
        topic, broker = partner_courses(here.partner).name, here.settings.kafka_bootstrap

        async def nothing_is_behind() -> bool:  # a status looks at the broker so often a minute and no more
            return await lag.on_topic(broker, GROUP, topic) == 0

        await until(nothing_is_behind)
        status = (await read(here, "status")).json()
        assert status["lag"] == 0
        week = {"received": 2, "taken": 1, "refused": 1, "parked": 0}
        assert status["ways"]["kafka"] == {"last_24_hours": week, "last_7_days": week}
        assert status["ways"]["http"]["last_7_days"]["taken"] == 2
        assert (status["state"], status["waiting"], status["since"]) == ("active", 0, None)
        assert status["last"]["way"] == "kafka"
        assert [(one["code"], one["key"], one["seats"]) for one in status["offerings"]] == [("SV-1", "v27", None)]

        await change(here, lambda conn: joining.suspend(conn, here.partner, "avtalen er ute"))
        await here.send(("CoursePublished", {"code": "SV-2", **COURSE}))

        async def waits() -> Any:
            status = (await read(here, "status")).json()
            return status if status["waiting"] == 1 else None

        status = await until(waits, within_s=40)
        assert (status["state"], status["because"]) == ("suspended", "avtalen er ute")
        assert status["since"]
        [first, *_] = await here.intake()
        assert (first["outcome"], first["reason"]) == ("parked", "suspended")


async def test_seats_are_shown_with_the_time_at_which_enrolment_told_them(servers: Servers) -> None:
    async with judging(servers) as here:
        await here.put("SV-1", COURSE)
        run = (await here.put("SV-1/offerings/v27", DATES)).headers["location"]
        shown = (await here.asking.get(run)).json()
        assert shown["seats"] is None
        about = {"offering_id": shown["offering_id"], "course_id": shown["course_id"], "partner": here.partner}
        enrolment = Enrolment(here)
        full = SeatCount(arena="online", capacity=12, taken=12, queued=3)
        await enrolment.say([OfferingFilled(**about, seats=[full])])
        shown = (await here.asking.get(run)).json()
        assert shown["seats"]["places"] == [full.model_dump()]
        [said] = await enrolment.say([OfferingReopened(**about, seats=[full.model_copy(update={"taken": 11})])])
        shown = (await here.asking.get(run)).json()
        assert shown["seats"]["places"][0]["taken"] == 11
        assert said.time is not None
        assert shown["seats"]["as_of"] == said.time.isoformat().replace("+00:00", "Z")
        course = (await here.asking.get(f"{BASE}/courses/{shown['course_id']}")).json()
        assert course["offerings"][0]["seats"] == shown["seats"]
        strange = {**about, "offering_id": uuid.uuid4()}
        await enrolment.say([OfferingFilled(**strange, seats=[full])])
        assert (await read(here, "status")).json()["offerings"][0]["seats"] == shown["seats"]


async def test_what_was_taken_is_told_for_twelve_weeks(servers: Servers) -> None:
    async with world(servers) as here:
        for code in ("OLD", "YOUNG", "NEW"):
            await here.put(code, COURSE)
        async with here.here.database.reading() as conn:
            for code, days in (("OLD", KEPT_DAYS + 1), ("YOUNG", KEPT_DAYS - 1)):
                await conn.execute(
                    "UPDATE intake SET at = now() - make_interval(days => $2) WHERE code = $1", code, days
                )
        working = asyncio.create_task(forget(here.here))

        async def told() -> bool:
            return [one["code"] for one in await here.intake()] == ["NEW", "YOUNG"]

        await until(told)
        here.here.stopping.set()
        await working
