"""When one may ask for a seat, and what is said to who comes too early, too late or for another group."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from contracts.catalogue import OfferingCancelled
from kit.problems import Problem
from services.enrolment import offerings
from tests.delivery import Servers
from tests.integration.test_enrolment_pages import open_pages, own, person
from tests.seats import world

pytestmark = pytest.mark.anyio

NOW = datetime.now(UTC)


def period(group: str | None, opens_days: float, closes_days: float) -> dict[str, Any]:
    hours = {"opens_at": opens_days, "closes_at": closes_days}
    return {"group": group} | {name: (NOW + timedelta(days=days)).isoformat() for name, days in hours.items()}


@pytest.mark.parametrize(
    ("periods", "slug", "opens_days"),
    [
        ([period("ansatt", 1, 3)], "not-open-yet", 1),
        ([period("ansatt", 1, 3), period(None, 2, 3)], "not-open-yet", 2),
        ([period("ansatt", -1, 1)], "other-group", None),
        ([period("ansatt", -3, -1), period("pendler", 1, 3)], "not-open-yet", 1),
        ([period("ansatt", -3, -1), period(None, -2, -1)], "offering-closed", None),
    ],
)
async def test_who_is_of_no_group_is_not_told_that_it_is_over_before_it_has_begun(
    servers: Servers, periods: list[Any], slug: str, opens_days: int | None
) -> None:
    async with world(servers) as here:
        offering_id = await here.scheduled(online=1, rules={"periods": periods})
        with pytest.raises(Problem) as refused:
            await here.enrol(offering_id, "kari")
        opens_at = (NOW + timedelta(days=opens_days)).isoformat().replace("+00:00", "Z") if opens_days else None
        assert (refused.value.slug, refused.value.extensions.get("opens_at")) == (slug, opens_at)


async def test_the_page_says_when_it_opens_for_the_first(servers: Servers) -> None:
    """It knows nobody's group as yet: who is of it must not be told the hour of the others, or that it is over."""
    async with open_pages(servers) as here:
        for periods, told in (
            ([period("ansatt", 1, 3)], "Påmeldingen åpner"),
            ([period("ansatt", 1, 3), period(None, 2, 3)], "Påmeldingen åpner"),
            ([period("ansatt", -3, -1)], "Påmeldingsfristen er ute."),
        ):
            offering_id = await here.offering(online=1, rules={"periods": periods})
            eva = person(here, "eva")
            await eva.go(f"/delta/{offering_id}")
            assert told in eva.words
            if "åpner" in told:
                day = (NOW + timedelta(days=1, hours=1)).day
                assert f" {day}. " in eva.words.split("Påmeldingen åpner")[1].split(" kl.")[0]


async def test_the_part_of_a_courses_page_has_no_way_to_ask_where_nobody_can(servers: Servers) -> None:
    async with open_pages(servers) as here:
        for periods, told in (
            ([period("ansatt", 1, 3)], "Påmeldingen åpner"),
            ([period(None, -3, -1)], "Påmeldingsfristen er ute."),
            ([period("ansatt", -1, 1)], "Meld deg på"),  # the control: for a group, which one names on the page
        ):
            offering_id = await here.offering(online=3, rules={"periods": periods})
            anybody = person(here, "eva")
            await anybody.go(f"/plasser/{offering_id}/delta")
            assert told in anybody.words
            assert "3 ledige plasser" in anybody.words
            assert ("<a " in anybody.text) == (told == "Meld deg på")


async def test_seats_of_a_course_that_is_cancelled_or_has_begun_are_not_called_free(servers: Servers) -> None:
    async with open_pages(servers) as here:
        gone, begun = await here.offering(online=3), await here.offering(online=3)
        said = OfferingCancelled(offering_id=gone, course_id=gone, partner="torgar", version=9)
        await here.database.run(lambda conn: offerings.cancel(conn, said, here.settings))
        await here.database.run(
            lambda conn: conn.execute("UPDATE offerings SET starts_at = app_now() WHERE id = $1", begun)
        )
        anybody = person(here, "eva")
        for offering_id, told in ((gone, "Kurset er avlyst"), (begun, "Kurset har begynt")):
            for address in (f"/plasser/{offering_id}", f"/plasser/{offering_id}/delta"):
                await anybody.go(address)
                assert (told in anybody.words, "ledig" in anybody.words, "<a " in anybody.text) == (True, False, False)


async def test_who_waits_where_nobody_is_taken_any_more_is_promised_no_offer(servers: Servers) -> None:
    """The partner names the place no more: who sits there stays, and who stands in line for it waits in vain."""
    async with open_pages(servers) as here:
        offering_id = await here.offering(mosjoen=1, online=1)
        await person(here, "kari").enrol(offering_id, place1="mosjoen")
        ola, per, liv = [person(here, who) for who in ("ola", "per", "liv")]
        await ola.enrol(offering_id, place1="mosjoen")
        await liv.enrol(offering_id, place1="mosjoen", place2="online")
        await per.enrol(offering_id, place1="mosjoen", place2="online")
        pages = [(who, own(who)) for who in (ola, per, liv)]
        assert "Blir det en plass der, flytter vi deg dit." in liv.words, "the control"
        assert "Du venter på: Mosjøen, På nett." in per.words
        closed = "UPDATE places SET open = false, wanted_capacity = 0, capacity = taken WHERE arena = 'mosjoen'"
        await here.database.run(lambda conn: conn.execute(closed))
        for who, address in pages:
            await who.go(address)
        assert "Du får ikke plass. Arrangøren tar ikke flere her: Mosjøen." in ola.words
        assert "får du tilbud om plassen" not in ola.words
        assert ("Du venter på: På nett." in per.words, "får du tilbud om plassen" in per.words) == (True, True)
        assert ("Du har plass." in liv.words, "flytter vi deg dit" in liv.words) == (True, False)
