"""Where nobody may ask for a seat at this hour, the catalogue promises none."""

import re
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tests.delivery import Servers
from tests.integration.corpus import COURSE, DATES
from tests.integration.test_catalogue import World, world
from tests.integration.test_catalogue_pages import look, of, pages, words
from tests.integration.test_catalogue_rules import days_from_now

pytestmark = pytest.mark.anyio


def period(opens_days: float, closes_days: float, group: str | None = None) -> dict[str, Any]:
    now = datetime.now(UTC)
    opens_at, closes_at = (now + timedelta(days=days) for days in (opens_days, closes_days))
    return {"group": group, "opens_at": opens_at.isoformat(), "closes_at": closes_at.isoformat()}


async def publish(here: World, code: str, *periods: dict[str, Any], **more: Any) -> str:
    """A course with a run in a month; returns the address of its page."""
    made = await here.put(code, COURSE | {"title": {"nb": f"Kurs {code}"}})
    run = await here.put(f"{code}/offerings/v27", DATES | days_from_now(30) | {"periods": list(periods)} | more)
    assert run.status_code == 201, run.text
    return f"/kurs/{made.json()['course_id']}"


@pytest.mark.parametrize(
    ("periods", "told"),
    [
        ([], "Ledige plasser"),
        ([period(-1, 1)], "Ledige plasser"),
        ([period(-1, 1, "ansatt")], "Ledige plasser"),
        ([period(-3, -1)], "Påmeldingsfristen er ute."),
        ([period(-3, -1, "ansatt"), period(2, 3), period(4, 5)], "Påmeldingen åpner"),
    ],
)
async def test_the_page_of_a_course_leads_on_only_where_somebody_may_ask(
    servers: Servers, periods: list[dict[str, Any]], told: str
) -> None:
    async with world(servers) as here:
        page = await look(here, await publish(here, "A", *periods))
        can_ask = told == "Ledige plasser"
        assert told in words(page)
        assert ("Ledige plasser" in words(page), "Meld deg på" in words(page)) == (can_ask, can_ask)
        assert "/plasser/" in page.text, "enrolment knows when that changes"


async def test_a_provider_is_told_which_of_its_runs_take_no_enrolments_now(servers: Servers) -> None:
    async with pages(servers) as here:
        await publish(here, "A", period(-3, -1))
        await publish(here, "B", period(-1, 1))
        page = await look(here, "/partner", **of(partner=here.partner))
        states = re.findall(r"<td>\s*(Påmeldingen er stengt|Ledige plasser)\s*</td>", page.text)
        assert sorted(states) == ["Ledige plasser", "Påmeldingen er stengt"]
