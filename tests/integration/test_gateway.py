"""The gateway of the whole stack: every kind of problem has a page there, and what it says itself is a problem too."""

import asyncio
import importlib
from collections.abc import AsyncIterator
from urllib.parse import parse_qs, urlsplit

import httpx2
import pytest

from contracts.topics import SERVICES
from deploy.local.stack import Stack
from kit import problems
from tests.integration.test_headers import unsafe
from tests.visiting import HTML, Person

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


async def raw(stack: Stack, path: str, headers: str = "") -> tuple[int, str]:
    """(status, headers) of an address as it stands: a client would tidy it up first."""
    reader, writer = await asyncio.open_connection("127.0.0.1", int(stack.places.gateway.rpartition(":")[2]))
    try:
        writer.write(f"GET {path} HTTP/1.1\r\nHost: kursnett\r\nConnection: close\r\n{headers}\r\n".encode())
        head = (await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 20)).decode("latin-1").lower()
    finally:
        writer.close()
    return int(head.split()[1]), head


INNER = ("/sesjon", "/metrics", "/readyz", "/openapi.json", "/asyncapi.json")
WAYS = [
    r"{}",
    r"{}/",
    r"/{}",
    r"/.{}",
    r"{};",
    r"{};/kurs",
    r"{}?x=/kurs",
    r"{}%00",
    r"{}%20",
    r"/x/..{}",
    r"/logg-inn{}",
    r"/logg-inn/..{}",
    r"/logg-inn/%2e%2e{}",
    r"/logg-inn%2f..{}",
    r"/logg-inn/..;{}",
    r"/min-side/..{}",
    r"/kurs/../kurs/..{}",
    r"/api/enrolment/v1/../../..{}",
    r"/api/catalogue/v1/..%2f..%2f..{}",
    r"/tilbud/x\..{}",
    r"/felles/..{}",
    r"http://enrolment:8000{}",
]


async def test_what_is_for_operators_and_the_gateway_is_reached_by_no_way(
    stack: Stack, gateway: httpx2.AsyncClient
) -> None:
    person = Person(gateway, stack.places.gateway)
    await person.log_in("kari")
    headers = f"Cookie: __Host-kursnett={person.session}\r\n"
    reached = []
    for inner in INNER:
        for way in WAYS:
            for address in (
                way.format(inner),
                way.format(inner.upper()),
                way.format(f"/%{ord(inner[1]):02x}{inner[2:]}"),
            ):
                status, head = await raw(stack, address, headers)
                if status not in (303, 400, 404, 422) or "kursnett-pass" in head:
                    reached.append(f"{address}: {status}")
    assert not reached, "\n".join(reached)
    status, _ = await raw(stack, "/min-side", headers)
    assert status == 200, "the control"
    inside = await gateway.get(f"http://{stack.places.address('enrolment')}/sesjon", headers={"cookie": headers[8:-2]})
    assert inside.headers["kursnett-pass"], "the control"


async def test_no_pass_leaves_the_house_and_none_comes_in(stack: Stack, gateway: httpx2.AsyncClient) -> None:
    person = Person(gateway, stack.places.gateway)
    await person.log_in("kari")
    own = (await gateway.get(
        f"http://{stack.places.address('enrolment')}/sesjon", headers={"cookie": f"__Host-kursnett={person.session}"}
    )).headers["kursnett-pass"]  # fmt: skip
    for address in ("/min-side", "/logg-ut", "/kurs", "/"):
        answer = await person.ask("GET", address)
        assert "kursnett-pass" not in answer.headers
        assert own not in answer.text
    stolen = f"Accept: text/html\r\nKursnett-Pass: {own}\r\n"
    for headers in (stolen, stolen + "Cookie: __Host-kursnett=x\r\n", stolen.lower(), stolen.replace("-P", "_P")):
        status, head = await raw(stack, "/min-side", headers)
        assert (status, "location: /logg-inn" in head) == (303, True), "a right pass, sent by a client"
    direct = await gateway.get(
        f"http://{stack.places.address('enrolment')}/min-side", headers={"kursnett-pass": own, "accept": HTML}
    )
    assert direct.status_code == 200, "the control"


async def test_every_answer_at_the_gateway_is_safe_for_a_browser(stack: Stack, gateway: httpx2.AsyncClient) -> None:
    person = Person(gateway, stack.places.gateway)
    await person.log_in("kari")
    wrong = []
    for address in (
        *(
            "/",
            "/kurs",
            "/min-side",
            "/min-side?sprak=nn",
            "/logg-inn",
            "/logg-inn/svar",
            "/logg-ut",
            "/varsler",
            "/partner",
        ),
        *(
            "/drift",
            "/tilbud/x/godta",
            "/healthz",
            "/sesjon",
            "/nothing",
            "/kurs/nothing",
            "/problems/busy",
            "/ooapi/v6/",
        ),
        *("/api/catalogue/v1/courses", "/api/enrolment/v1/me/enrolments", "/api/notifier/v1/nothing"),
    ):
        for accept in (HTML, "application/json"):
            answer = await person.ask("GET", address, accept=accept)
            wrong += [f"{address}, {accept[:9]}: {fault}" for fault in unsafe(answer)]
            assert "via" not in answer.headers
    large = await gateway.post("/api/catalogue/v1/partners/torgar/import", content=b"x" * (10 * 1024 * 1024 + 1))
    wrong += [f"too large: {fault}" for fault in unsafe(large)]
    assert not wrong, "\n".join(wrong)


async def test_by_which_name_it_is_asked_does_not_turn_a_log_in_elsewhere(
    stack: Stack, gateway: httpx2.AsyncClient
) -> None:
    for header in ("host", "x-forwarded-host", "x-forwarded-proto", "forwarded", "x-original-url", "x-rewrite-url"):
        answer = await gateway.get("/logg-inn", headers={header: "evil.example"})
        [back] = parse_qs(urlsplit(answer.headers["location"]).query)["redirect_uri"]
        assert back == f"{stack.places.gateway}/logg-inn/svar"
        led = await gateway.get("/min-side", headers={header: "evil.example", "accept": HTML})
        assert led.headers["location"] == "/logg-inn?neste=/min-side"
