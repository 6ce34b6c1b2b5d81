"""How an offering's seats are given out, as a partner says it; and what to take instead of a run that is cancelled."""

import json
import time
import uuid
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from contracts.fields import OfferingRules
from services.catalogue import events, joining, retracting
from services.catalogue import operating as catalogue
from tests.delivery import Servers, listening, running, until
from tests.integration.corpus import COURSE, COURSE_CELLS, DATES, RUN_CELLS
from tests.integration.test_catalogue import BASE, World, world
from tests.integration.test_catalogue_partners import change
from tests.integration.test_corpus import upload

pytestmark = pytest.mark.anyio

RULES = {
    "minimum": 8,
    "decide_at": "2049-02-15T12:00:00+01:00",
    "on_too_few": "cancel",
    "requires_approval": True,
    "periods": [
        {"group": "ansatte", "opens_at": "2026-12-01T08:00:00+01:00", "closes_at": "2026-12-15T08:00:00+01:00"},
        {"opens_at": "2026-12-15T08:00:00+01:00", "closes_at": "2049-02-20T08:00:00+01:00"},
    ],
    "late_enrolment_until": "2049-03-02T09:00:00+01:00",
    "priority_groups": ["ansatte", "helgeland"],
    "offer_hours": 24,
    "on_lapse": "back_of_queue",
    "reminder_days": [14, 2],
}


async def told(here: World, kind: str) -> list[dict[str, Any]]:
    """The data of each event of this kind that the catalogue has said, in order."""
    async with here.here.database.reading() as conn:
        rows = await conn.fetch("SELECT payload FROM outbox WHERE topic = 'catalogue.courses' ORDER BY id")
    said = [json.loads(row["payload"]) for row in rows]
    return [one["data"] for one in said if one["type"].split(".")[-2] == kind]


def in_utc(rules: dict[str, Any]) -> dict[str, Any]:
    known: dict[str, Any] = OfferingRules.model_validate(rules).model_dump(mode="json")
    return known


async def test_the_rules_are_kept_shown_and_said(servers: Servers) -> None:
    async with world(servers) as here:
        await here.put("SV-1", COURSE)
        made = await here.put("SV-1/offerings/v27", DATES | RULES)
        assert made.status_code == 201
        again = await here.put("SV-1/offerings/v27", DATES | RULES)
        assert (again.status_code, again.headers["etag"]) == (200, '"1"')
        one = (await here.asking.get(made.headers["location"])).json()
        [listed] = (await here.asking.get(f"/api/catalogue/v1/courses/{one['course_id']}")).json()["offerings"]
        [said] = await told(here, "OfferingScheduled")
        for shown in (one, listed, said):
            assert {name: shown[name] for name in RULES} == in_utc(RULES)
        nothing = {"decision": "none", "enrolled": None, "minimum": None, "decided_at": None}
        assert one["judgement"] == listed["judgement"] == nothing

        assert (await here.put("SV-1/offerings/v27", DATES | RULES | {"offer_hours": 12})).headers["etag"] == '"2"'
        [changed] = await told(here, "OfferingChanged")
        assert {name: changed[name] for name in RULES} == in_utc(RULES) | {"offer_hours": 12}
        assert (await here.put("SV-1/offerings/v27", DATES)).headers["etag"] == '"3"'
        one = (await here.asking.get(made.headers["location"])).json()
        assert {name: one[name] for name in RULES} == in_utc({})


PASSED = "has passed: give a day to come, or leave out minimum and decide_at"


async def test_a_day_of_decision_that_has_passed_is_refused(servers: Servers) -> None:
    """Enrolment would judge it at once, and cancel on the spot a run that people have their seats in."""
    async with world(servers) as here, listening(here.here, events.partners()):
        await here.put("SV-1", COURSE)
        dates = DATES | days_from_now(30)
        few = {"minimum": 8, "on_too_few": "cancel"}
        ahead, passed = (few | {"decide_at": days_from_now(day)["starts_at"]} for day in (20, -1))
        assert (await here.put("SV-1/offerings/v27", dates | ahead)).status_code == 201
        for key in ("v27", "h27"):
            answer = await here.put(f"SV-1/offerings/{key}", dates | passed)
            assert (answer.status_code, answer.json()["errors"]) == (422, [{"field": "decide_at", "detail": PASSED}])
            await here.send(("OfferingPublished", {"course_code": "SV-1", "key": key, **dates, **passed}))

        async def refused() -> bool:
            return [one["reason"] for one in await here.intake()].count("decide_at_passed") == 2

        await until(refused, within_s=40)
        assert (await here.intake())[0]["field"] == "decide_at"
        assert [one["version"] for one in await told(here, "OfferingScheduled")] == [1]
        assert await told(here, "OfferingChanged") == []


async def test_a_day_of_decision_that_passes_afterwards_is_refused_at_no_door(servers: Servers) -> None:
    async with world(servers) as here, listening(here.here, events.partners()):
        await here.put("SV-1", COURSE)
        dates, begun = DATES | days_from_now(30), DATES | days_from_now(-1)
        passed = {"minimum": 8, "decide_at": days_from_now(-3)["starts_at"]}
        assert (await here.put("SV-1/offerings/old", begun | passed)).status_code == 201, "it is begun: told as it was"
        made = await here.put("SV-1/offerings/v27", dates | passed | {"decide_at": days_from_now(3)["starts_at"]})
        async with here.here.database.reading() as conn:
            day = "jsonb_build_object('decide_at', $2::text)"
            update = f"UPDATE offerings SET content = content || {day} WHERE id = $1"
            await conn.execute(update, uuid.UUID(made.json()["offering_id"]), in_utc(passed)["decide_at"])
        assert (await here.put("SV-1/offerings/v27", dates | passed)).headers["etag"] == '"1"'
        assert (await here.put("SV-1/offerings/v27", dates | passed | {"offer_hours": 9})).headers["etag"] == '"2"'
        again = {"course_code": "SV-1", "key": "v27", **dates, **passed, "offer_hours": 8}
        await here.send(("OfferingPublished", again))

        async def changed() -> bool:
            return len(await told(here, "OfferingChanged")) == 2

        await until(changed, within_s=40)
        cells = COURSE_CELLS | RUN_CELLS | {"offering": "v27", "capacity": "20"}
        cells |= {name: str(dates[name]) for name in ("starts_at", "ends_at")}
        assert (await upload(here, cells)).status_code == 200, "a file leaves the rules as they were"
        assert len(await told(here, "OfferingChanged")) == 3
        without = await here.put("SV-1/offerings/v27", dates)
        assert without.status_code == 200


def late(days: float) -> dict[str, Any]:
    """A new run that starts in a month and is decided in so many days."""
    rules = {"minimum": 8, "decide_at": days_from_now(days)["starts_at"], "on_too_few": "cancel"}
    return {"course_code": "SV-1", "key": "v27", **DATES, **days_from_now(30), **rules}


async def test_a_day_that_had_not_passed_when_it_was_said_is_taken_however_late_it_is_read(servers: Servers) -> None:
    """As when the catalogue was down: its partner has said it in time, and would say it again in vain."""
    async with world(servers) as here:
        await here.put("SV-1", COURSE)
        said = late(8 / 86_400)
        await here.send(("OfferingPublished", said))
        decide_at = datetime.fromisoformat(said["decide_at"])

        async def passed() -> bool:
            async with here.here.database.reading() as conn:
                return bool(await conn.fetchval("SELECT app_now() > $1", decide_at))

        await until(passed, within_s=40)
        over_http = {name: it for name, it in said.items() if name not in ("course_code", "key")}
        assert (await here.put("SV-1/offerings/h27", over_http)).status_code == 422, "the control: this is said now"
        async with listening(here.here, events.partners()):
            await until(lambda: heard(here, 2), within_s=40)
        assert [one["outcome"] for one in await here.intake()] == ["taken", "taken"]
        assert len(await told(here, "OfferingScheduled")) == 1


async def test_a_day_that_passed_while_its_partner_was_kept_out_is_taken_too(servers: Servers) -> None:
    async with world(servers) as here:
        await here.put("SV-1", COURSE)
        await change(here, lambda conn: joining.quarantine(conn, here.partner, "test"))
        async with listening(here.here, events.partners()):
            await here.send(("OfferingPublished", late(1)), ("OfferingPublished", late(-1) | {"key": "h27"}))
            await until(lambda: heard(here, 3), within_s=40)
        assert {one["reason"] for one in await here.intake()} == {None, "quarantined"}
        await change(here, lambda conn: joining.release(conn, here.partner))
        moved = here.settings.model_copy(update={"test_clock_offset": timedelta(days=2)})
        async with running(moved, "catalogue") as then, listening(then, events.partners()):

            async def all_ran() -> bool:
                return "quarantined" not in {one["reason"] for one in await here.intake()}

            await until(all_ran, within_s=40)
        assert [one["key"] for one in await told(here, "OfferingScheduled")] == ["v27"]
        assert [one["reason"] for one in await here.intake()].count("decide_at_passed") == 1, "it had when it was said"


async def heard(here: World, number: int) -> bool:
    return len(await here.intake()) == number


OVER = "has passed, and this run has not begun: give a day to come, or cancel it"


async def test_a_run_that_has_not_begun_is_not_moved_to_where_it_is_over(servers: Servers) -> None:
    """A wrong year: enrolment would end it at once, and neither its seats nor its line would come back with the right
    one. One that has begun may end earlier than it was to, and a new one may be over: it is told as it was.
    """
    async with world(servers) as here, listening(here.here, events.partners()):
        await here.put("SV-1", COURSE)
        ahead, over = DATES | days_from_now(30), DATES | days_from_now(-335)
        assert (await here.put("SV-1/offerings/v27", ahead)).status_code == 201
        answer = await here.put("SV-1/offerings/v27", over)
        assert (answer.status_code, answer.json()["errors"]) == (422, [{"field": "ends_at", "detail": OVER}])
        await here.send(("OfferingPublished", {"course_code": "SV-1", "key": "v27", **over}))

        async def refused() -> bool:
            return "ends_at_passed" in [one["reason"] for one in await here.intake()]

        await until(refused, within_s=40)
        assert (await here.intake())[0]["field"] == "ends_at"
        cells = COURSE_CELLS | RUN_CELLS | {"offering": "v27", "capacity": "20"}
        cells |= {name: str(over[name]) for name in ("starts_at", "ends_at")}
        assert (await upload(here, cells)).status_code == 422
        assert await told(here, "OfferingChanged") == []

        begun = ahead | {"starts_at": days_from_now(-2)["starts_at"]}
        assert (await here.put("SV-1/offerings/v27", begun)).status_code == 200
        assert (await here.put("SV-1/offerings/v27", begun | {"ends_at": days_from_now(-1)["ends_at"]})).is_success
        assert (await here.put("SV-1/offerings/v26", over)).status_code == 201


async def test_a_run_that_is_over_does_not_take_others_in(servers: Servers) -> None:
    """Enrolment has ended it for each who had a seat, and they would hear of no other day while others take the seats.
    What was over already when it came, as by a wrong year, had nobody in it, and is put right. Where it goes on after
    all, it is for those who were there."""
    async with world(servers) as here, listening(here.here, events.partners()):
        await here.put("SV-1", COURSE)
        ahead, over = DATES | days_from_now(30), DATES | days_from_now(-3)
        made = await here.put("SV-1/offerings/v27", ahead)
        async with here.here.database.reading() as conn:
            await conn.execute(
                """
                UPDATE offerings SET content = content || $2,
                    id = overlay(id::text placing '01900000-0000' from 1 for 13)::uuid  -- made in June 2024
                WHERE id = $1
                """,
                uuid.UUID(made.json()["offering_id"]),
                json.dumps({name: over[name] for name in ("starts_at", "ends_at")}),
            )
        answer = await here.put("SV-1/offerings/v27", ahead)
        detail = (
            "this offering is over, and would take others than its own learners; publish a new one under another key"
        )
        assert (answer.status_code, answer.json()["errors"]) == (409, [{"field": "key", "detail": detail}])
        await here.send(("OfferingPublished", {"course_code": "SV-1", "key": "v27", **ahead}))

        async def refused() -> bool:
            return "offering_over" in [one["reason"] for one in await here.intake()]

        await until(refused, within_s=40)
        cells = COURSE_CELLS | RUN_CELLS | {"code": "SV-1", "offering": "v27", "capacity": "20"}
        cells |= {name: str(ahead[name]) for name in ("starts_at", "ends_at")}
        [mistake] = (await upload(here, cells)).json()["errors"]
        assert (mistake["column"], mistake["detail"]) == ("offering", detail)
        assert await told(here, "OfferingChanged") == []

        longer = over | {"ends_at": ahead["ends_at"]}
        late = await here.put("SV-1/offerings/v27", longer | {"late_enrolment_until": ahead["ends_at"]})
        assert (late.status_code, late.json()["errors"][0]["detail"]) == (409, detail)
        assert (await here.put("SV-1/offerings/v27", longer)).headers["etag"] == '"2"'
        earlier = DATES | days_from_now(-4)
        assert (await here.put("SV-1/offerings/v27", earlier)).status_code == 200, "it is over still"
        assert (await here.put("SV-1/offerings/v27", earlier)).headers["etag"] == '"3"'
        assert (await here.put("SV-1/offerings/h26", over)).status_code == 201
        assert (await here.put("SV-1/offerings/h26", ahead)).status_code == 200, "nobody was ever in it"


async def test_the_rules_come_over_kafka(servers: Servers) -> None:
    async with world(servers) as here, listening(here.here, events.partners()):
        offering = {"course_code": "SV-1", "key": "v27", **DATES}
        await here.send(("CoursePublished", {"code": "SV-1", **COURSE}), ("OfferingPublished", offering | RULES))

        async def all_told() -> bool:
            return len(await here.intake()) == 2

        await until(all_told, within_s=40)
        [said] = await told(here, "OfferingScheduled")
        assert {name: said[name] for name in RULES} == in_utc(RULES)


async def test_what_was_published_before_there_were_rules_and_comes_again_as_it_was_changes_nothing(
    servers: Servers,
) -> None:
    async with world(servers) as here:
        await here.put("SV-1", COURSE)
        made = await here.put("SV-1/offerings/v27", DATES)
        async with here.here.database.reading() as conn:
            await conn.execute("UPDATE offerings SET content = content - $1::text[]", list(in_utc({})))
            [kept] = await conn.fetch("SELECT content FROM offerings")
        assert set(json.loads(kept["content"])) == {"starts_at", "ends_at", "sessions", "places"}
        one = (await here.asking.get(made.headers["location"])).json()
        assert {name: one[name] for name in RULES} == in_utc({})

        again = await here.put("SV-1/offerings/v27", DATES)
        assert (again.status_code, again.headers["etag"]) == (200, '"1"')
        assert await told(here, "OfferingChanged") == []
        # The control: a rule that is not as it is when left out is a change.
        assert (await here.put("SV-1/offerings/v27", DATES | {"offer_hours": 24})).headers["etag"] == '"2"'
        assert len(await told(here, "OfferingChanged")) == 1


async def test_a_meeting_from_before_it_had_to_lie_within_its_run_may_stay_until_the_dates_change(
    servers: Servers,
) -> None:
    june = {"starts_at": "2049-06-01T08:00:00Z", "ends_at": "2049-06-01T10:00:00Z"}
    march = {"starts_at": "2049-03-02T08:00:00Z", "ends_at": "2049-03-02T10:00:00Z"}
    async with world(servers) as here:
        await here.put("SV-1", COURSE)
        await here.put("SV-1/offerings/v27", DATES | {"sessions": [march]})
        async with here.here.database.reading() as conn:
            await conn.execute(
                "UPDATE offerings SET content = jsonb_set(content::jsonb, '{sessions}', $1)",
                json.dumps([june | {"room": None}]),
            )
        dates = DATES | {"sessions": [june]}
        assert (await here.put("SV-1/offerings/v27", dates)).headers["etag"] == '"1"'
        more = {"places": [{"arena": "online", "capacity": 20}]}
        assert (await here.put("SV-1/offerings/v27", dates | more)).headers["etag"] == '"2"'
        moved = await here.put("SV-1/offerings/v27", dates | {"ends_at": "2049-03-06T14:00:00Z"})
        assert (moved.status_code, moved.json()["errors"][0]["field"]) == (422, "sessions[0].ends_at")
        assert (await here.put("SV-1/offerings/v27", DATES | {"sessions": []})).status_code == 200
        moved = await here.put("SV-1/offerings/v27", DATES | {"sessions": [march], "starts_at": march["ends_at"]})
        assert (moved.status_code, moved.json()["errors"][0]["field"]) == (422, "sessions[0].starts_at")


def days_from_now(days: float) -> dict[str, Any]:
    starts_at = datetime.now(UTC) + timedelta(days=days)
    return {"starts_at": starts_at.isoformat(), "ends_at": (starts_at + timedelta(hours=6)).isoformat()}


async def fill(here: World, *runs: tuple[str, str, int], **subjects: list[str]) -> dict[str, str]:
    """Courses with these subjects, and runs (course, key, days from now) of them; returns each run's id by its key."""
    for code, known in subjects.items():
        await here.put(code, COURSE | {"title": {"nb": f"Kurs {code}", "en": code}, "subjects": known})
    found = {}
    for code, key, days in runs:
        answer = await here.put(f"{code}/offerings/{key}", DATES | days_from_now(days))
        assert answer.status_code == 201
        found[key] = answer.json()["offering_id"]
    return found


async def test_a_run_that_its_partner_cancels_names_what_to_take_instead(servers: Servers) -> None:
    async with world(servers) as here:
        other = await catalogue.add(here.settings, f"{here.partner}-b", "En annen", None, ["online", "mosjoen"])
        runs = [("A", "gone", 20), ("A", "past", -3), ("A", "late", 60), ("A", "soon", 9), ("C", "far", 1)]
        ids = await fill(here, *runs, ("A", "dead", 5), A=["bygg", "sjofart"], C=["sprak"])
        await here.cancel("A/offerings/dead")
        theirs = World(here.here, here.settings, here.asking, here.issuer, other["slug"], other["key"])
        ids |= await fill(theirs, ("B", "akin", 2), B=["helse", "sjofart"])
        two_places = [{"arena": "online", "capacity": 1}, {"arena": "mosjoen", "capacity": 2}]
        await theirs.put("B/offerings/akin", DATES | days_from_now(2) | {"places": two_places})

        await here.cancel("A/offerings/gone")
        said = (await told(here, "OfferingCancelled"))[-1]
        named = said["alternatives"]
        assert (said["reason"], [one["offering_id"] for one in named]) == ("", [ids["soon"], ids["late"], ids["akin"]])
        assert [one["title"] for one in named] == [{"nb": f"Kurs {code}", "en": code} for code in "AAB"]
        assert [one["arenas"] for one in named] == [["online"], ["online"], ["online", "mosjoen"]]
        [kept] = [one for one in await told(here, "OfferingScheduled") if one["offering_id"] == ids["soon"]]
        assert named[0]["starts_at"] == kept["starts_at"]
        assert named[0]["course_id"] == kept["course_id"]


async def test_the_runs_of_a_course_that_is_withdrawn_name_none_of_its_own(servers: Servers) -> None:
    async with world(servers) as here:
        runs = [("A", "one", 20), ("A", "two", 30), ("A", "gone", 5), ("B", "akin", 40)]
        ids = await fill(here, *runs, A=["bygg"], B=["bygg"])
        await here.cancel("A/offerings/gone")
        for _ in range(2):
            await here.here.database.run(lambda conn: retracting.cancel(conn, here.partner, "A", None))
        said = await told(here, "OfferingCancelled")
        assert [one["offering_id"] for one in said] == [ids["gone"], ids["one"], ids["two"]]
        named = [[instead["offering_id"] for instead in one["alternatives"]] for one in said]
        assert named == [[ids["one"], ids["two"], ids["akin"]], [ids["akin"]], [ids["akin"]]]
        assert [one["reason"] for one in said] == ["", *["course_withdrawn"] * 2]
        assert len(await told(here, "CourseWithdrawn")) == 1


async def test_a_run_that_took_place_stays_so_whatever_is_retracted(servers: Servers) -> None:
    """Who took part keeps it in the calendar, and nobody is told of a cancellation that never was."""
    async with world(servers) as here:
        ids = await fill(here, ("A", "was", -9), ("A", "is", 0), ("A", "comes", 9), A=["bygg"])
        assert (await here.cancel("A/offerings/was")).status_code == 409
        await here.here.database.run(lambda conn: retracting.cancel(conn, here.partner, "A", None))
        said = {one["offering_id"] for one in await told(here, "OfferingCancelled")}
        assert said == {ids["is"], ids["comes"]}
        states = {key: (await here.asking.get(f"{BASE}/offerings/{one}")).json()["state"] for key, one in ids.items()}
        assert states == {"was": "scheduled", "is": "cancelled", "comes": "cancelled"}


async def test_five_are_named_those_of_the_course_first_then_by_time_and_all_others_are_not_even_read(
    servers: Servers,
) -> None:
    """Whoever cancels many runs asks for each: with 20,000 to come, reading them took a quarter of a second."""
    async with world(servers) as here:
        await fill(here, ("A", "gone", 20), A=["bygg"], B=["bygg", "helse"], C=["sprak"], D=[])
        async with here.here.database.reading() as conn:
            await conn.execute(
                """
                INSERT INTO offerings (course_id, key, content)
                SELECT courses.id, 'k' || day, jsonb_build_object(
                    'starts_at', app_now() + make_interval(days => day), 'ends_at', app_now() + interval '99 years',
                    'places', '[{"arena": "online", "capacity": 9}]'::jsonb)
                FROM courses
                JOIN (VALUES ('A', 90), ('A', 80), ('B', 6), ('B', 5), ('C', 1), ('D', 1)) AS run (of_course, day)
                ON of_course = code
                """
            )
            await conn.execute(
                """
                INSERT INTO offerings (course_id, key, content)
                SELECT id, 'far' || n, jsonb_build_object('starts_at', '2090-01-01T00:00:00Z'::text, 'ends_at',
                    '2090-01-02T00:00:00Z', 'places', '[{"arena": "online", "capacity": 9}]'::jsonb)
                FROM courses, generate_series(1, 20000) AS n WHERE code = 'B'
                """
            )
            rows = await conn.fetch(
                "SELECT offerings.id, code, key FROM offerings JOIN courses ON courses.id = course_id"
            )
        began = time.process_time()
        await here.cancel("A/offerings/gone")
        spent_s = time.process_time() - began
        named = {str(row["id"]): row["code"] + row["key"] for row in rows}
        [said] = await told(here, "OfferingCancelled")
        found = [named[one["offering_id"]] for one in said["alternatives"]]
        assert found[:4] == ["Ak80", "Ak90", "Bk5", "Bk6"]
        assert len(found) == 5
        assert found[4].startswith("Bfar")
        assert spent_s < 0.1
