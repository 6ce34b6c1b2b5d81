"""Pages that say what went wrong: whoever is logged in stays so on them, whatever it was."""

from collections.abc import AsyncIterator, Awaitable
from functools import cache

import pytest
from fastapi import APIRouter, Request
from httpx2 import AsyncClient, Response
from starlette.responses import Response as Answer

from kit import passes
from kit.auth import Caller
from kit.database import Busy, Unknown
from kit.pages import errors, visitors
from kit.passes import Visitor
from kit.problems import Problem
from kit.shortway import route_class
from tests import web

pytestmark = pytest.mark.anyio

SIGNS, BELIEVES = passes.generate()
KARI = Visitor(Caller(web.ISSUER, "kari", name="Kari Åsnes"), "token-of-kari")
FAILURES = {
    "problem": Problem("forbidden", "Not allowed", 403),
    "busy": Busy("x"),
    "unknown": Unknown(),
    "bug": RuntimeError("x"),
}
router = APIRouter(include_in_schema=False)


@router.get("/side/{how}")
async def fail(how: str) -> None:
    raise FAILURES[how]


@router.post("/side")
async def take(request: Request) -> int:
    return len(await request.body())


@router.get("/skap/{number}")
@router.post("/skap/{number}/vis")
@router.post("/skap/{number}/a/vis")
async def cupboard(number: int) -> int:
    return number


async def plainly(request: Request) -> Awaitable[Answer] | None:
    raise RuntimeError("x")


quick = APIRouter(include_in_schema=False, route_class=route_class(plainly))


@quick.get("/kort")
async def quickly() -> None:
    return None


@cache
def given() -> str:
    return passes.sign(SIGNS, KARI)


@pytest.fixture
async def asking() -> AsyncIterator[AsyncClient]:
    async with web.client(web.build([router, quick], pass_public_key=BELIEVES)) as client:
        yield client


WRONG: dict[str, tuple[str, str, int]] = {
    "refused": ("GET", "/side/problem", 403),
    "busy": ("GET", "/side/busy", 503),
    "not known whether": ("GET", "/side/unknown", 503),
    "a fault of ours": ("GET", "/side/bug", 500),
    "a fault of ours on a short way": ("GET", "/kort", 500),
    "nothing there": ("GET", "/nothing", 404),
    "not for this method": ("POST", "/side/bug", 405),
    "malformed": ("GET", "/side/%00", 400),
    "too large": ("POST", "/side", 413),
}


async def fails(asking: AsyncClient, kind: str, **headers: str) -> Response:
    method, address, status = WRONG[kind]
    sent = {"accept": "text/html", "accept-language": "nb", **headers}
    body = b"x" * (300 * 1024) if status == 413 else None
    answer = await asking.request(method, address, headers=sent, content=body)
    assert answer.status_code == status
    return answer


@pytest.mark.parametrize("kind", WRONG)
async def test_who_is_logged_in_is_named_on_it_and_can_log_out(asking: AsyncClient, kind: str) -> None:
    page = await fails(asking, kind, **{visitors.HEADER: given()})
    assert page.headers["content-type"].startswith("text/html")
    assert page.headers["cache-control"] == "no-store"
    assert "<span>Kari Åsnes</span>" in page.text
    assert 'action="/logg-ut"' in page.text
    assert 'name="csrf" value="token-of-kari"' in page.text


@pytest.mark.parametrize("kind", WRONG)
async def test_who_only_looked_may_try_again_where_that_may_help(asking: AsyncClient, kind: str) -> None:
    method, address, status = WRONG[kind]
    page = await fails(asking, kind)
    assert (f'href="{address}">Prøv igjen<' in page.text) == (method == "GET" and status >= 500)
    assert page.text.count(">Prøv igjen<") == page.text.count(f'href="{address}">Prøv igjen<')


@pytest.mark.parametrize("kind", WRONG)
@pytest.mark.parametrize("forged", [False, True])
async def test_nobody_else_is(asking: AsyncClient, kind: str, forged: bool) -> None:
    other = passes.sign(passes.generate()[0], KARI)
    page = await fails(asking, kind, **({visitors.HEADER: other} if forged else {}))
    assert page.headers["content-type"].startswith("text/html")
    assert "Kari" not in page.text
    assert "logg-ut" not in page.text


@pytest.mark.parametrize("kind", WRONG)
async def test_a_program_is_told_as_a_program(asking: AsyncClient, kind: str) -> None:
    answer = await fails(asking, kind, accept="application/json", **{visitors.HEADER: given()})
    assert answer.headers["content-type"] == "application/problem+json"
    assert "Kari" not in answer.text


async def test_a_page_that_cannot_be_drawn_keeps_no_answer_back(
    asking: AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    def undrawn(*_: object) -> Answer:
        raise RuntimeError("the layout is broken")

    monkeypatch.setattr(errors, "answer", undrawn)
    answer = await fails(asking, "a fault of ours on a short way")
    assert answer.json()["status"] == 500


async def test_who_opens_the_address_of_a_form_is_led_to_the_page_that_it_stands_on(asking: AsyncClient) -> None:
    """What a form answers with may be shown at its own address, which people copy for each other, or load anew."""
    for address, above in (("/skap/7/vis?sprak=nn", "/skap/7?sprak=nn"), ("/skap/7/a/vis", "/skap/7")):
        answer = await asking.get(address, headers={"accept": "text/html"})
        assert (answer.status_code, answer.headers["location"]) == (303, above)
        assert answer.headers["cache-control"] == "no-store"
        program = await asking.get(address, headers={"accept": "application/json"})
        assert (program.status_code, program.headers["allow"]) == (405, "POST")
    assert (await asking.get("/side", headers={"accept": "text/html"})).status_code == 405, "there is none above it"


async def test_a_page_leads_to_no_other_site_whatever_its_address_is(asking: AsyncClient) -> None:
    """A browser takes what follows two strokes for a host, and the gateway lets them through."""
    answer = await asking.get("http://demo.test//logg-inn.evil.example/x", headers={"accept": "text/html"})
    assert (answer.status_code, answer.url.raw_path) == (404, b"//logg-inn.evil.example/x"), "the control"
    assert 'href="/logg-inn.evil.example/x?sprak=nn"' in answer.text
    assert 'href="//' not in answer.text
