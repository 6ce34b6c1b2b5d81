"""A partner decides of a run that has too few learners: it takes place all the same, or it is called off."""

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
from tests.integration.test_catalogue_pages import PUBLIC
from tests.integration.test_catalogue_partners import change
from tests.integration.test_catalogue_rules import days_from_now, told
from tests.integration.test_retracting import ENROLLED, People, enrolled

pytestmark = pytest.mark.anyio

RUN = "SV-1/offerings/v27"


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
            "UPDATE offerings SET content = content || jsonb_build_object('starts_at', now() - interval '1 hour')"
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
        assert await refused("h27") == (409, "nothing is to be decided: too few were not found on its day")
        await enrolment.found(MinimumAtRisk, early, enrolled=1)
        assert (await refused("h27"))[0] == 409, "its day has not come"
        await here.cancel("SV-1/offerings/h27")
        assert await refused("h27") == (409, "this offering was cancelled; publish a new one under another key")
        await begins(people)
        assert await refused("v27") == (409, "this offering has begun")
        assert await told(here, "OfferingConfirmed") == []


async def test_who_is_suspended_says_nothing_of_it(servers: Servers) -> None:
    async with on_hold(servers) as (people, _, run):
        here = people.here
        await change(here, lambda conn: joining.suspend(conn, here.partner, "avtalen er ute"))
        assert (await people.post(f"{RUN}/confirm")).status_code == 403
        assert await judgement(here, run) == ("too_few", 1, 8)
