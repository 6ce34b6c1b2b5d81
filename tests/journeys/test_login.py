"""Logging in and out at the gateway of the whole stack, as a browser does it."""

from collections.abc import AsyncIterator

import httpx2
import pytest

from deploy.local.stack import Stack
from tests.visiting import Person

pytestmark = pytest.mark.anyio


@pytest.fixture
async def web() -> AsyncIterator[httpx2.AsyncClient]:
    async with httpx2.AsyncClient(timeout=20) as asking:
        yield asking


@pytest.fixture
def person(stack: Stack, web: httpx2.AsyncClient) -> Person:
    return Person(web, stack.places.gateway)


async def test_one_who_logs_in_comes_back_to_where_they_were(person: Person) -> None:
    first = await person.ask("GET", "/min-side?vis=alle")
    assert first.status_code == 303
    assert first.headers["location"] == "/logg-inn?neste=/min-side%3Fvis%3Dalle"
    page = await person.log_in("kari", "/min-side%3Fvis%3Dalle")
    assert (page.status_code, page.url.raw_path) == (200, b"/min-side?vis=alle")
    assert person.session


async def test_a_session_that_was_ended_lets_nobody_in(stack: Stack, web: httpx2.AsyncClient, person: Person) -> None:
    await person.log_in("kari")
    thief = Person(web, stack.places.gateway, cookies={key: dict(jar) for key, jar in person.cookies.items()})
    pages = ("/min-side", "/varsler")  # the first by the session itself, the second by a pass
    for page in pages:
        assert (await thief.ask("GET", page)).status_code == 200, "the control: the cookie alone is enough"
    out = await person.send("/logg-ut")
    assert out.status_code == 200
    assert person.session is None
    for page in pages:
        assert (await thief.ask("GET", page)).status_code == 303


async def test_only_our_own_form_logs_one_out(person: Person) -> None:
    await person.log_in("kari")
    assert (await person.ask("POST", "/logg-ut", {"csrf": "forged"})).status_code == 403
    assert (await person.ask("POST", "/logg-ut", {})).status_code == 403
    assert (await person.ask("GET", "/min-side")).status_code == 200


async def test_the_cookie_is_for_this_host_and_for_no_script(person: Person) -> None:
    form = await person.go("/logg-inn")
    begun = await person.ask("POST", str(form.url), {"username": "kari"})
    back = await person.ask("GET", begun.headers["location"])
    [cookie] = [line for line in back.headers.get_list("set-cookie") if line.startswith("__Host-kursnett=")]
    said = {part.strip().lower() for part in cookie.split(";")[1:]}
    assert {"secure", "httponly", "path=/", "samesite=lax"} <= said
    assert not any(part.startswith("domain") for part in said)


async def test_an_answer_that_nobody_asked_for_logs_nobody_in(
    stack: Stack, web: httpx2.AsyncClient, person: Person
) -> None:
    form = await person.go("/logg-inn")
    begun = await person.ask("POST", str(form.url), {"username": "kari"})
    victim = Person(web, stack.places.gateway)  # a stranger's answer, in another browser
    forged = await victim.ask("GET", begun.headers["location"])
    assert forged.status_code == 400
    assert victim.session is None
    assert "/logg-inn?neste=" in forged.text
    again = await person.ask("GET", begun.headers["location"])
    assert again.status_code == 303, "the control: the browser that began may"


@pytest.mark.parametrize("strange", ["//evil.example", "https://evil.example", "/\\evil.example", "evil", "/a\nb"])
async def test_one_is_led_back_to_this_site_only(person: Person, strange: str) -> None:
    page = await person.go("/logg-inn?" + str(httpx2.QueryParams({"neste": strange})))
    begun = await person.ask("POST", str(page.url), {"username": "kari"})
    back = await person.ask("GET", begun.headers["location"])
    assert back.headers["location"] == "/min-side"


async def test_a_pass_that_a_client_sends_counts_for_nothing(person: Person) -> None:
    answer = await person.ask("GET", "/min-side", kursnett_pass="made.up.by-me")
    assert answer.status_code == 303


async def test_what_gives_out_passes_is_not_reached_from_outside(person: Person) -> None:
    assert (await person.ask("GET", "/sesjon")).status_code == 404
