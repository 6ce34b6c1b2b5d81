"""A partner decides of a run that has too few learners: it takes place all the same, or it is called off."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from typing import Any

import pytest

from contracts.enrolment import MinimumAtRisk, MinimumMissed, MinimumReached
from services.catalogue import events, joining
from tests.delivery import Servers, listening
from tests.integration.corpus import COURSE, DATES
from tests.integration.test_catalogue_minimum import Enrolment, judgement, said, shown
from tests.integration.test_catalogue_pages import PUBLIC, look, of, words
from tests.integration.test_catalogue_partners import change
from tests.integration.test_catalogue_rules import days_from_now, told
from tests.integration.test_catalogue_sync import environment
from tests.integration.test_retracting import ENROLLED, People, decide, enrolled
from tests.typed import typed

pytestmark = pytest.mark.anyio

RUN = "SV-1/offerings/v27"
ANSWERS = ("gar", "avlys-for-fa")


@asynccontextmanager
async def on_hold(servers: Servers) -> AsyncIterator[tuple[People, Enrolment, dict[str, Any]]]:
    """A run that one person has a seat in, of eight that it needs, on the day on which it was to be decided."""
    async with enrolled(servers, pass_public_key=PUBLIC) as people, listening(people.here.here, events.enrolments()):
        run = await needing_eight(people)
        enrolment = Enrolment(people.here)
        await people.are(run, ENROLLED)
        await enrolment.found(MinimumMissed, run, enrolled=1)
        assert await judgement(people.here, run) == ("too_few", 1, 8)
        yield people, enrolment, run


async def needing_eight(people: People, key: str = "v27") -> dict[str, Any]:
    dates = days_from_now(30)
    rules = {"minimum": 8, "decide_at": (datetime.fromisoformat(dates["starts_at"]) - timedelta(days=9)).isoformat()}
    await people.here.put("SV-1", COURSE)
    made = await people.here.put(f"SV-1/offerings/{key}", DATES | dates | rules)
    return await shown(people.here, made.json()["offering_id"])


async def begins(people: People) -> None:
    """Each run has begun an hour ago."""
    async with people.here.here.database.reading() as conn:
        await conn.execute(
            """
            UPDATE offerings SET content = content || jsonb_build_object(
                'starts_at', now() - interval '1 hour', 'decide_at', now() - interval '9 days'
            )
            """
        )


async def test_its_partner_says_that_it_takes_place_and_that_is_said_once(servers: Servers) -> None:
    async with on_hold(servers) as (people, enrolment, run):
        here = people.here
        first = await people.post(f"{RUN}/confirm")
        assert (first.status_code, first.json()) == (200, {"offering_id": run["offering_id"], "version": 2})
        assert (await people.post(f"{RUN}/confirm")).json()["version"] == 2, "twice changes nothing"
        assert await judgement(here, run) == ("confirmed", 1, 8)
        assert await said(here) == [("OfferingScheduled", 1), ("OfferingConfirmed", 2)]
        [confirmed] = await told(here, "OfferingConfirmed")
        assert (confirmed["enrolled"], confirmed["minimum"], confirmed["partner"]) == (1, 8, here.partner)
        assert {one["what"] for one in await here.intake()} >= {"OfferingConfirmed"}

        # Who was told can rely on it, whatever enrolment finds by the same rules.
        await enrolment.found(MinimumMissed, run, enrolled=0, on_too_few="cancel")
        await enrolment.found(MinimumReached, run, enrolled=8)
        assert await judgement(here, run) == ("confirmed", 1, 8)
        assert len(await said(here)) == 2


async def test_its_partners_program_finds_what_waits_for_an_answer_and_until_when(servers: Servers) -> None:
    async with on_hold(servers) as (people, enrolment, run):
        second = await needing_eight(people, "h27")
        await enrolment.found(MinimumAtRisk, second, enrolled=2)
        [one] = (await people.status())["on_hold"]
        assert datetime.fromisoformat(one.pop("decide_before")) == datetime.fromisoformat(run["starts_at"])
        known = {name: run[name] for name in ("course_id", "offering_id")}
        assert one == known | {"code": "SV-1", "key": "v27", "enrolled": 1, "minimum": 8, "people": 1}
        await people.retract()
        assert (await people.status())["on_hold"] == [], "what it has retracted besides is asked of as that"
        assert (await people.post(f"{RUN}/confirm")).status_code == 200
        await enrolment.found(MinimumMissed, second, enrolled=2)
        assert [one["key"] for one in (await people.status())["on_hold"]] == ["h27"]
        await begins(people)
        assert (await people.status())["on_hold"] == [], "it can be answered no more"


async def test_operators_answer_in_its_stead_at_the_command_line(servers: Servers) -> None:
    async with on_hold(servers) as (people, enrolment, run):
        here = people.here

        async def run_it(*arguments: str) -> tuple[int | None, str, str]:
            return await typed("catalogue", "partners", *arguments, environment=environment(here))

        await enrolment.found(MinimumMissed, await needing_eight(people, "h27"), enrolled=0)
        rows = json.loads((await run_it("on-hold", here.partner, "--json"))[1])
        assert [(one["partner"], one["key"], one["enrolled"], one["people"]) for one in rows] == [
            (here.partner, "v27", 1, 1),
            (here.partner, "h27", 0, 0),
        ]
        assert rows[0]["title"] == COURSE["title"]
        assert f"{here.partner} SV-1 v27" in (await run_it("on-hold"))[1]
        assert "1 of 8 on its day  decide before" in (await run_it("on-hold"))[1]
        assert (await run_it("on-hold", "nobody", "--json"))[1].strip() == "[]"

        took_place = (0, "It takes place; who has a seat or is in line is told.\n", "")
        assert await run_it("go-ahead", here.partner, "SV-1", "v27") == took_place
        assert (await judgement(here, run))[0] == "confirmed"
        again = await run_it("go-ahead", here.partner, "SV-1", "v27")
        assert again == (1, "", "Nothing was said: this offering takes place: that was said.\n")
        off = (0, "It is cancelled; 0 people are told.\n", "")
        assert await run_it("call-off", here.partner, "SV-1", "h27") == off
        assert [one["reason"] for one in await told(here, "OfferingCancelled")] == ["too_few"]
        async with here.here.database.reading() as conn:
            rows = await conn.fetch("SELECT act, about FROM operator_acts WHERE way = 'command' ORDER BY id")
        assert [(row["act"], row["about"]) for row in rows][-2:] == [
            ("partners go-ahead", f"{here.partner}/SV-1/v27"),
            ("partners call-off", f"{here.partner}/SV-1/h27"),
        ]


async def test_that_it_takes_place_takes_its_retraction_back(servers: Servers) -> None:
    async with on_hold(servers) as (people, _, _):
        await people.retract()
        assert [one[1] for one in await people.waiting()] == ["v27"]
        assert (await people.post(f"{RUN}/confirm")).status_code == 200
        assert await people.waiting() == []


async def test_what_is_not_to_be_decided_or_is_no_longer_says_so(servers: Servers) -> None:
    async with on_hold(servers) as (people, enrolment, _):
        here = people.here

        async def refused(key: str) -> tuple[int, str]:
            answer = await people.post(f"SV-1/offerings/{key}/confirm")
            return answer.status_code, answer.json()["detail"]

        assert await refused("nope") == (404, "course SV-1 has no offering nope")
        early = await needing_eight(people, "h27")
        assert await refused("h27") == (
            409,
            "nothing waits for a decision: this offering was not judged to have too few",
        )
        await enrolment.found(MinimumAtRisk, early, enrolled=1)
        assert (await refused("h27"))[0] == 409, "its day has not come"
        await here.cancel("SV-1/offerings/h27")
        assert await refused("h27") == (409, "this offering was cancelled; publish a new one under another key")
        await begins(people)
        assert await refused("v27") == (409, "this offering has begun")
        assert await told(here, "OfferingConfirmed") == []


async def test_a_provider_is_asked_on_its_page_and_answers_there(servers: Servers) -> None:
    async with on_hold(servers) as (people, enrolment, run):
        here, mine = people.here, of(partner=people.here.partner)
        second = await needing_eight(people, "h27")
        await people.are(second, ENROLLED, ENROLLED)
        assert words(await look(here, "/partner", **mine)).count("av minst 8 hadde plass") == 1
        await enrolment.found(MinimumMissed, second, enrolled=2)
        page = await look(here, "/partner", **mine)
        assert "Dette må dere avgjøre" in words(page)
        assert "1 av minst 8 hadde plass da det skulle avgjøres." in words(page)
        assert "2 av minst 8 hadde plass da det skulle avgjøres." in words(page)
        assert "Det går Avlys, og gi 1 person beskjed" in words(page)
        assert "Det går Avlys, og gi 2 personer beskjed" in words(page)
        course = f"/kurs/{run['course_id']}"
        assert words(await look(here, course)).count("Arrangøren avgjør om kurset blir holdt.") == 2

        assert (await decide(people, "gar", fields={"csrf": "of another"})).status_code == 403
        assert (await decide(people, "gar", headers=of(partner="torgar"))).status_code == 404
        assert (await decide(people, "gar", key="nope")).status_code == 404
        assert (await decide(people, "gar", key="")).status_code == 404, "a course takes place by its runs"
        assert len(await said(here)) == 2, "nothing was done"

        goes = (await decide(people, "gar")).headers["location"]
        assert goes == "/partner?avgjort=gar&antall=0"
        page = await look(here, goes, **mine)
        assert "Kurset går. De som har plass eller står i kø, får beskjed." in words(page)
        assert words(page).count("av minst 8 hadde plass") == 1
        assert (await judgement(here, run))[0] == "confirmed"

        off = (await decide(people, "avlys-for-fa", key="h27")).headers["location"]
        assert off == "/partner?avgjort=avlyst&antall=2"
        page = await look(here, off, **mine)
        assert "2 personer får beskjed." in words(page)
        assert "Dette må dere avgjøre" not in words(page)
        [cancelled] = await told(here, "OfferingCancelled")
        assert (cancelled["offering_id"], cancelled["reason"]) == (second["offering_id"], "too_few")
        page = await look(here, course)
        assert "Det er avgjort: kurset blir holdt." in words(page)
        assert "Arrangøren avgjør" not in words(page)


async def test_an_answer_that_comes_too_late_says_so_and_does_nothing(servers: Servers) -> None:
    """By a page that was open since before."""
    async with on_hold(servers) as (people, enrolment, _):
        here, mine = people.here, of(partner=people.here.partner)
        second, third = await needing_eight(people, "h27"), await needing_eight(people, "x27")
        for one in (second, third):
            await enrolment.found(MinimumMissed, one, enrolled=1)
        assert (await decide(people, "gar")).status_code == 303
        await here.cancel("SV-1/offerings/h27")
        before = await said(here)

        late = [(await decide(people, act, key)).headers["location"] for key in ("v27", "h27") for act in ANSWERS]
        assert late == ["/partner?avgjort=alt"] * 4
        assert "Dette var alt avgjort. Ingenting ble gjort nå." in words(await look(here, late[0], **mine))

        assert "Dette må dere avgjøre" in words(await look(here, "/partner", **mine))
        await begins(people)
        assert "Dette må dere avgjøre" not in words(await look(here, "/partner", **mine))
        late = [(await decide(people, act, "x27")).headers["location"] for act in ANSWERS]
        assert late == ["/partner?avgjort=begynt"] * 2
        begun = "Kurset har startet, så dette kan ikke avgjøres lenger. Ingenting ble gjort nå."
        assert begun in words(await look(here, late[0], **mine))
        assert "Arrangøren avgjør" not in words(await look(here, f"/kurs/{third['course_id']}"))
        assert await said(here) == before


async def test_a_run_that_was_retracted_too_is_asked_of_once(servers: Servers) -> None:
    async with on_hold(servers) as (people, _, _):
        await people.retract()
        page = words(await look(people.here, "/partner", **of(partner=people.here.partner)))
        assert "Trukket" in page
        assert "Det går" not in page
        assert (await decide(people, "behold")).status_code == 303
        page = words(await look(people.here, "/partner", **of(partner=people.here.partner)))
        assert "Det går Avlys, og gi 1 person beskjed" in page


async def test_who_is_suspended_says_nothing_of_it_and_an_operator_is_written_down(servers: Servers) -> None:
    async with on_hold(servers) as (people, enrolment, run):
        here = people.here
        second = await needing_eight(people, "h27")
        await enrolment.found(MinimumMissed, second, enrolled=0)
        await change(here, lambda conn: joining.suspend(conn, here.partner, "avtalen er ute"))
        assert "Det går" not in words(await look(here, "/partner", **of(partner=here.partner)))
        assert (await people.post(f"{RUN}/confirm")).status_code == 403
        assert [(await decide(people, act)).status_code for act in ANSWERS] == [403, 403]
        assert await judgement(here, run) == ("too_few", 1, 8)
        await change(here, lambda conn: joining.release(conn, here.partner))

        query = f"?tilbyder={here.partner}"
        for act, key in zip(ANSWERS, ("v27", "h27"), strict=True):
            assert (await decide(people, act, key, query, headers=of("operator"))).status_code == 303
        async with here.here.database.reading() as conn:
            rows = await conn.fetch("SELECT act, about FROM operator_acts WHERE way = 'console' ORDER BY id")
        assert [(row["act"], row["about"]) for row in rows] == [
            ("partners go-ahead", f"{here.partner}/SV-1/v27"),
            ("partners call-off", f"{here.partner}/SV-1/h27"),
        ]
