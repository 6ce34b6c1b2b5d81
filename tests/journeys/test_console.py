"""The operators' console at the gateway of the whole stack: one view of three services, and one enrolment in them."""

import re
from collections.abc import AsyncIterator

import asyncpg
import httpx2
import pytest

from deploy.local.places import SERVICES
from deploy.local.service import command
from deploy.local.stack import Stack
from tests.delivery import until
from tests.visiting import Person

pytestmark = pytest.mark.anyio


@pytest.fixture
async def web() -> AsyncIterator[httpx2.AsyncClient]:
    async with httpx2.AsyncClient(timeout=20) as asking:
        yield asking


@pytest.fixture
async def operator(stack: Stack, web: httpx2.AsyncClient) -> Person:
    person = Person(web, stack.places.gateway)
    page = await person.log_in("drift", "/drift")
    assert (page.status_code, page.url.path) == (200, "/drift")
    return person


async def test_an_operator_comes_from_one_page_to_each_service(operator: Person) -> None:
    assert {f"/drift/{name}/del" for name in SERVICES} == set(re.findall(r'data-part="([^"]+)"', operator.text))
    for name in SERVICES:
        for address in ("", "/del", "/parkert", "/logg", "/tidslinje/x"):
            page = await operator.go(f"/drift/{name}{address}")
            assert page.status_code == 200, address
        page = await operator.go(f"/drift/{name}")
        assert "Alt svarer" in page.text
        assert page.text.count("<svg") >= 2
    assert (await operator.go("/drift/catalogue/tilbydere")).status_code == 200


@pytest.mark.parametrize("username", ["kari", "torgar"])
async def test_nobody_else_gets_in(stack: Stack, web: httpx2.AsyncClient, username: str) -> None:
    person = Person(web, stack.places.gateway)
    await person.log_in(username)
    for address in ("/drift", "/drift/tidslinje", *(f"/drift/{name}" for name in SERVICES), "/drift/catalogue/logg"):
        assert (await person.go(address)).status_code == 403, address
    answer = await person.ask("POST", "/drift/notifier/lyttere/enrolments/pause", {"reason": "x"})
    assert answer.status_code == 403


async def test_an_enrolment_is_followed_from_the_request_to_the_mail(stack: Stack, operator: Person) -> None:
    seated = "SELECT about::text AS id FROM notices WHERE state = 'sent' AND template = 'enrolled' ORDER BY id"
    id = (await _sql(stack, seated))[0]
    view = await operator.go(f"/drift/tidslinje?id={id}")
    parts = re.findall(r'data-part="([^"]+)"', view.text)
    assert parts == [f"/drift/{name}/del/tidslinje/{id}" for name in SERVICES]
    assert "Enrolled" in (await operator.go(f"/drift/enrolment/tidslinje/{id}")).text
    told = (await operator.go(f"/drift/notifier/tidslinje/{id}")).text
    assert 'sendte varselet<br><code lang="en">notice sent</code>' in told


async def test_a_pause_takes_effect_and_is_written_down(stack: Stack, operator: Person) -> None:
    await operator.go("/drift/notifier")
    page = await operator.send("/drift/notifier/lyttere/webhooks/pause", reason="en prøve")
    assert (page.status_code, "stopper innen et sekund" in page.text) == (200, True)

    async def says(words: str) -> bool:
        return words in (await operator.go("/drift/notifier/del")).text

    await until(lambda: says("På pause"))
    await operator.go("/drift/notifier")
    page = await operator.send("/drift/notifier/lyttere/webhooks/resume")
    assert "går videre" in page.text
    log = (await operator.go("/drift/notifier/logg")).text
    assert "en prøve" in log
    told = await command(stack.places, "notifier", "acts", "--json")
    assert "consumer resume" in told


async def _sql(stack: Stack, statement: str) -> list[str]:

    async def found() -> list[str]:
        conn = await asyncpg.connect(stack.places.database("notifier"))
        try:
            return [row["id"] for row in await conn.fetch(statement)]
        finally:
            await conn.close()

    rows: list[str] = await until(found)
    return rows
