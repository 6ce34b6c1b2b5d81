"""Pages at the gateway of the whole stack, in a browser without JavaScript: from a course to a seat, and out of it."""

import re
from collections.abc import AsyncIterator

import httpx2
import pytest

from deploy.local.stack import Stack
from tests.delivery import until
from tests.journeys.web import Web
from tests.visiting import Person

pytestmark = pytest.mark.anyio


@pytest.fixture
async def web(stack: Stack) -> AsyncIterator[Web]:
    async with httpx2.AsyncClient(base_url=stack.places.gateway, timeout=20) as http:
        yield Web(stack.places, http)


def somebody(web: Web) -> Person:
    return Person(web.http, web.places.gateway)


async def enrol(person: Person, offering: str, name: str) -> str:
    """Log in on the way to the form, fill it in, and land on the enrolment's page; its address."""
    led = await person.ask("GET", f"/delta/{offering}")
    assert (led.status_code, led.headers["location"]) == (303, f"/logg-inn?neste=/delta/{offering}")
    await person.log_in(name, f"/delta/{offering}")
    assert "Brønnøysund" in person.text
    page = await person.send(
        f"/delta/{offering}",
        name=f"Deltaker {name}",
        email=f"{name}@example.org",
        language="nb",
        place1="bronnoysund",
    )
    assert page.status_code == 200
    assert re.fullmatch(r"/min-side/[0-9a-f-]{36}", page.url.path)
    return str(page.url.path)


async def test_from_a_course_to_a_seat_and_out_of_it(web: Web) -> None:
    name = f"inn-{web.word}"
    offering = await web.offering(f"P-{web.word}", 1, f"Sveising {web.word}")
    kari = somebody(web)
    at = await enrol(kari, offering, name)
    assert "Du har plass." in kari.text
    assert [mail["Subject"] for mail in await web.mails(name, 1)] == [f"Du har fått plass på Sveising {web.word}"]

    async def titled() -> bool:
        return f"Sveising {web.word}" in (await kari.go("/min-side")).text

    await until(titled)
    await kari.go(f"{at}/meld-av")
    await kari.send(f"{at}/meld-av")
    assert "Du er ikke påmeldt lenger." in kari.text
    assert len(await web.mails(name, 2)) == 2
    await kari.go(f"/delta/{offering}")
    assert "én ledig plass" in kari.text


async def test_two_learners_and_one_seat(web: Web) -> None:
    offering = await web.offering(f"Q-{web.word}", 1)
    first, second = somebody(web), somebody(web)
    one = await enrol(first, offering, f"a-{web.word}")
    two = await enrol(second, offering, f"b-{web.word}")
    assert "Du er nummer 1 i køen." in second.text
    assert (await first.ask("GET", two)).status_code == 404, "a learner sees their own only"
    assert (await second.ask("POST", f"{one}/meld-av", {"csrf": second.csrf})).status_code == 404

    await first.go(f"{one}/meld-av")
    await first.send(f"{one}/meld-av")
    await second.go("/min-side")
    assert "Du har fått tilbud om plass." in second.text
    await web.mails(f"b-{web.word}", 2)  # before it is answered: no mail tells of an offer that is
    assert (await second.ask("POST", f"{two}/godta", {"csrf": "forged"})).status_code == 403
    await second.send(f"{two}/godta")
    assert (second.page and second.page.status_code, "Du har plass." in second.text) == (200, True)
    assert len(await web.mails(f"b-{web.word}", 3)) == 3  # in line, offered, seated


async def test_a_roster_is_for_its_partner(web: Web) -> None:
    offering = await web.offering(f"R-{web.word}", 1)
    learner, tor = somebody(web), somebody(web)
    await enrol(learner, offering, f"c-{web.word}")
    assert (await learner.ask("GET", f"/deltakere/{offering}")).status_code == 403
    page = await tor.log_in("torgar", f"/deltakere/{offering}")
    assert (page.status_code, f"Deltaker c-{web.word}" in page.text) == (200, True)
    file = await tor.ask("GET", f"/deltakere/{offering}.csv")
    assert f"Deltaker c-{web.word}" in file.content.decode("utf-8-sig")
