"""The gateway of the whole stack: every kind of problem has a page there, and what it says itself is a problem too."""

import importlib
from collections.abc import AsyncIterator

import httpx2
import pytest

from contracts.topics import SERVICES
from deploy.local.stack import Stack
from kit import problems

pytestmark = pytest.mark.anyio


@pytest.fixture
async def gateway(stack: Stack) -> AsyncIterator[httpx2.AsyncClient]:
    async with httpx2.AsyncClient(base_url=stack.places.gateway, timeout=20) as asking:
        yield asking


def slugs() -> list[str]:
    for service in SERVICES:
        importlib.import_module(f"services.{service}.app")
    return sorted(problems.KINDS)


async def test_every_kind_of_problem_of_every_service_has_its_page_at_the_gateway(
    stack: Stack, gateway: httpx2.AsyncClient
) -> None:
    assert {"already-enrolled", "not-this-partner", "busy"} < set(slugs())
    elsewhere = 0
    for slug in slugs():
        answer = await gateway.get(f"/problems/{slug}")
        assert answer.status_code == 200, slug
        assert answer.json()["title"] == problems.KINDS[slug].title
        page = await gateway.get(f"/problems/{slug}", headers={"accept": "text/html"})
        assert problems.KINDS[slug].title in page.text
        first = await gateway.get(f"http://{stack.places.address(SERVICES[0])}/problems/{slug}")
        elsewhere += first.status_code == 404
    assert elsewhere, "the control: one service alone does not explain them all"


async def test_the_type_of_an_answer_is_an_address_that_explains_it(gateway: httpx2.AsyncClient) -> None:
    for address in ("/api/catalogue/v1/courses?limit=0", "/api/enrolment/v1/me/enrolments", "/api/notifier/v1/x"):
        problem = (await gateway.get(address)).json()
        explained = await gateway.get(problem["type"])
        assert explained.json()["title"] == problem["title"]


async def test_an_unknown_kind_of_problem_is_not_found(gateway: httpx2.AsyncClient) -> None:
    answer = await gateway.get("/problems/no-such-kind")
    assert answer.status_code == 404
    assert answer.json()["detail"] == "There is no such kind of problem."


async def test_what_the_gateway_says_itself_is_a_problem(gateway: httpx2.AsyncClient) -> None:
    nothing = await gateway.get("/metrics")
    assert (nothing.status_code, nothing.headers["content-type"]) == (404, "application/problem+json")
    assert nothing.json()["status"] == 404
    body = b"x" * (10 * 1024 * 1024 + 1)
    large = await gateway.post("/api/catalogue/v1/partners/torgar/import", content=body)
    assert (large.status_code, large.headers["content-type"]) == (413, "application/problem+json")
