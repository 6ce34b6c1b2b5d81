"""The gateway of the whole stack: every kind of problem has a page there, and what it says itself is a problem too."""

import asyncio
import importlib
import os
import re
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import httpx2
import pytest

from contracts.topics import SERVICES
from deploy.local import composition
from deploy.local.composition import CADDYFILE
from deploy.local.ports import open_block
from deploy.local.stack import Stack
from kit import problems
from tests.delivery import until
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


async def test_the_head_of_a_page_can_be_had_alone(gateway: httpx2.AsyncClient) -> None:
    """From the gateway itself and from each service behind it; a page that needs a log-in leads to it."""
    asked = (
        "/",
        "/kurs",
        "/healthz",
        "/api/catalogue/v1/courses/feed.atom",
        "/api/notifier/v1/me/notices",
        "/min-side",
    )
    for address in asked:
        got, head = (
            await gateway.get(address, headers={"accept": HTML}),
            await gateway.head(address, headers={"accept": HTML}),
        )
        assert (head.status_code, head.content) == (got.status_code, b""), address
        assert head.headers.get("content-type") == got.headers.get("content-type")


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


async def test_a_person_is_told_in_words_what_the_gateway_says_itself(
    stack: Stack, gateway: httpx2.AsyncClient
) -> None:
    person = Person(gateway, stack.places.gateway)
    await person.log_in("torgar", "/partner/fil")
    headers = {"accept": HTML, "cookie": f"__Host-kursnett={person.session}"}
    sent = {"csrf": person.csrf, "gjor": "lagre"}
    large = {"fil": ("kurs.csv", b"x" * (10 * 1024 * 1024 + 1), "text/csv")}
    for answer, status, words in (
        (
            await gateway.get("/kurss", headers=headers),
            404,
            ("<h1>Siden finnes ikke", '<p lang="nn">Sida finst ikkje', '<p lang="en">There is no such page'),
        ),
        (
            await gateway.post("/partner/fil", data=sent, files=large, headers=headers),
            413,
            ("<h1>Filen er for stor", '<p lang="nn">Fila er for stor', '<p lang="en">The file is too large'),
        ),
    ):
        assert (answer.status_code, answer.headers["content-type"]) == (status, "text/html; charset=utf-8"), answer.text
        assert [text for text in words if text not in answer.text] == []
        assert not unsafe(answer)


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


HIDDEN = "GET /sesjon HTTP/1.1\r\nHost: kursnett\r\nX-Hidden: "  # what the gateway itself lets nobody ask for
CHUNKED = "Transfer-Encoding: chunked\r\n"


def whole(hidden: str) -> str:
    """A chunk that holds the hidden request, and the end of chunks."""
    return f"{len(hidden):x}\r\n{hidden}\r\n0\r\n\r\n"


def ended(hidden: str) -> str:
    """The end of chunks, and then the hidden request."""
    return f"0\r\n\r\n{hidden}"


# What two readers could take for requests of different lengths: (headers, body), each made for one hidden request.
# `{all}` is the length of the body.
AMBIGUOUS: dict[str, tuple[str, Callable[[str], str]]] = {
    "both, the length longer": (CHUNKED + "Content-Length: {all}\r\n", ended),
    "both, the length first": ("Content-Length: {all}\r\n" + CHUNKED, ended),
    "both, the length shorter": ("Content-Length: 4\r\n" + CHUNKED, whole),
    "both, no length": ("Content-Length: 0\r\n" + CHUNKED, whole),
    "two lengths": ("Content-Length: 0\r\nContent-Length: {all}\r\n", str),
    "two lengths, the long one first": ("Content-Length: {all}\r\nContent-Length: 0\r\n", str),
    "the same length twice": ("Content-Length: {all}\r\nContent-Length: {all}\r\n", str),
    "two lengths in one": ("Content-Length: 0, {all}\r\n", str),
    "a length with a sign": ("Content-Length: +{all}\r\n", str),
    "a length below nothing": ("Content-Length: -1\r\n", str),
    "a length by sixteen": ("Content-Length: 0x{all}\r\n", str),
    "a length and a space": ("Content-Length : {all}\r\n", str),
    "a length on the next line": ("Content-Length:\r\n {all}\r\n", str),
    "a length by another name": ("Content_Length: 0\r\nContent-Length: {all}\r\n", str),
    "no length": ("", str),
    "chunked twice": (CHUNKED + CHUNKED + "Content-Length: {all}\r\n", ended),
    "chunked and chunked": ("Transfer-Encoding: chunked, chunked\r\nContent-Length: {all}\r\n", ended),
    "chunked, then not": ("Transfer-Encoding: chunked, identity\r\nContent-Length: {all}\r\n", ended),
    "not, then chunked": ("Transfer-Encoding: identity\r\n" + CHUNKED + "Content-Length: {all}\r\n", ended),
    "chunked, nearly": ("Transfer-Encoding: xchunked\r\nContent-Length: {all}\r\n", ended),
    "chunked, and a space": ("Transfer-Encoding : chunked\r\nContent-Length: {all}\r\n", ended),
    "chunked, and a tab": ("Transfer-Encoding:\tchunked\r\nContent-Length: {all}\r\n", ended),
    "chunked, and a strange space": ("Transfer-Encoding: \x0bchunked\r\nContent-Length: {all}\r\n", ended),
    "chunked, in quotes": ('Transfer-Encoding: "chunked"\r\nContent-Length: {all}\r\n', ended),
    "chunked in large letters": ("Transfer-Encoding: CHUNKED\r\nContent-Length: {all}\r\n", ended),
    "chunked on the next line": ("Transfer-Encoding:\r\n chunked\r\nContent-Length: {all}\r\n", ended),
    "chunked by another name": ("Transfer_Encoding: chunked\r\nContent-Length: {all}\r\n", ended),
    "chunked behind a lone feed": ("X: y\nTransfer-Encoding: chunked\r\nContent-Length: {all}\r\n", ended),
    "chunked behind a lone return": ("X: y\rTransfer-Encoding: chunked\r\nContent-Length: {all}\r\n", ended),
    "a chunk by sixteen, twice": (CHUNKED, lambda hidden: f"0x{whole(hidden)}"),
    "a chunk with a sign": (CHUNKED, lambda hidden: f"+{whole(hidden)}"),
    "a chunk with a lone feed": (CHUNKED, lambda hidden: f"1\nZ\n{ended(hidden)}"),
    "a chunk that says more": (CHUNKED, lambda hidden: f"0;x=\n\n{hidden}\r\n0\r\n\r\n"),
    "a chunk larger than numbers": (CHUNKED, lambda hidden: f"10000000000000000\r\n\r\n{hidden}"),
    "a last chunk with a header": (CHUNKED, lambda hidden: f"0\r\nContent-Length: {len(hidden)}\r\n\r\n{hidden}"),
}
OUTER = ("POST /logg-ut", "GET /min-side", "GET /logg-inn", "POST /api/enrolment/v1/enrolments/x/withdraw")


async def answers(port: int, request: str) -> list[int]:
    """The status of each answer to what is sent as it stands, until the other side closes."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(request.encode("latin-1"))
        said = await asyncio.wait_for(reader.read(), 20)
    finally:
        writer.close()
    return [int(status) for status in re.findall(rb"^HTTP/1\.1 (\d{3}) ", said, re.MULTILINE)]


async def asked_for_passes(stack: Stack, gateway: httpx2.AsyncClient) -> float:
    """How often the service was asked for a pass."""
    text = (await gateway.get(f"http://{stack.places.address('enrolment')}/metrics")).text
    found = re.findall(r'^\w*http_\w*seconds_count\{[^}]*route="/sesjon"[^}]*\} (\S+)$', text, re.MULTILINE)
    return sum(map(float, found))


async def test_no_request_is_smuggled_in_behind_another(stack: Stack, gateway: httpx2.AsyncClient) -> None:
    """Whatever of a request is its body, a service is asked what the gateway was asked, and nothing else."""
    port, service = int(stack.places.gateway.rpartition(":")[2]), stack.places.address("enrolment")
    before, strange = await asked_for_passes(stack, gateway), []
    last = "GET /healthz HTTP/1.1\r\nHost: kursnett\r\nConnection: close\r\n\r\n"
    for kind, (headers, body) in AMBIGUOUS.items():
        hidden = f"{HIDDEN}{kind}\r\n\r\n"
        sent = body(hidden)
        for outer in OUTER:
            head = f"{outer} HTTP/1.1\r\nHost: kursnett\r\n{headers.replace('{all}', str(len(sent)))}"
            told = await answers(port, f"{head}\r\n{sent}{last}")
            # One that is refused is the last; after one whose end is plain the gateway itself answers what comes.
            if not told or told[0] not in {200, 303, 400, 401, 501, 503} or not set(told[1:]) <= {200, 404}:
                strange.append(f"{kind}, {outer}: {told}")
        page = await gateway.get("/min-side", headers={"accept": HTML})
        assert page.headers["location"] == "/logg-inn?neste=/min-side", f"another's answer, after: {kind}"
    assert not strange, "\n".join(strange)
    assert await asked_for_passes(stack, gateway) == before

    hidden = f"{HIDDEN}control\r\n\r\n"
    told = await answers(int(service.rpartition(":")[2]), f"GET /logg-inn HTTP/1.1\r\nHost: x\r\n\r\n{hidden}{last}")
    assert told == [303, 204, 200]
    assert await asked_for_passes(stack, gateway) == before + 1, "the control: where the gateway does not stand"


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


async def test_no_page_that_holds_a_forms_secret_is_made_smaller(stack: Stack, gateway: httpx2.AsyncClient) -> None:
    """Its length would tell the secret to whoever may choose other words of the page, and sees how long it is."""
    person = Person(gateway, stack.places.gateway)
    await person.log_in("kari")
    for address in ("/min-side", "/varsler", "/personvern"):
        page = await person.ask("GET", address, accept_encoding="gzip")
        assert ('name="csrf"' in page.text, page.headers.get("content-encoding")) == (True, None), address
    for address in ("/", "/kurs"):
        page = await person.ask("GET", address, accept_encoding="gzip")
        assert ('name="csrf"' in page.text, page.headers.get("content-encoding")) == (False, "gzip"), address


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


WHO = ("a-browser-of-somebody", "an-enrolment-of-somebody", "/min-side/live", "remote_ip", "Referer")  # of a request


async def left_a_stream(at: str, session: str | None, log: Callable[[], str]) -> str:
    """What a gateway writes when a browser closes a page that is kept fresh, and the gateway has noticed."""
    before = len(log())
    sent = {"cookie": f"__Host-kursnett={session}", "user-agent": WHO[0], "referer": f"{at}/min-side/{WHO[1]}"}
    async with (
        httpx2.AsyncClient(base_url=at, timeout=20) as browser,
        browser.stream("GET", "/min-side/live", headers=sent) as answer,
    ):
        assert answer.status_code == 200

    async def noticed() -> bool:
        return "aborting with incomplete response" in log()[before:]

    await until(noticed)
    return log()[before:]


@asynccontextmanager
async def another(stack: Stack, config: Path, log: Path) -> AsyncIterator[str]:
    """A second gateway with a configuration of its own, before the same services: its address."""
    port, first = open_block(), composition.gateway(stack.places)
    command = [*first.argv[:3], str(config), *first.argv[4:]]
    environment = {**os.environ, **first.environment, "KURSNETT_GATEWAY_PORT": str(port)}
    with log.open("wb") as out:
        running = await asyncio.create_subprocess_exec(*command, stdout=out, stderr=out, env=environment)
    try:
        await until(lambda: answers_at(port))
        yield f"http://127.0.0.1:{port}"
    finally:
        running.kill()
        await running.wait()


async def answers_at(port: int) -> bool:
    try:
        return await answers(port, "GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n") == [200]
    except OSError:
        return False


async def test_of_who_asks_for_what_nothing_is_in_the_gateways_log(
    stack: Stack, gateway: httpx2.AsyncClient, tmp_path: Path
) -> None:
    person = Person(gateway, stack.places.gateway)
    await person.log_in("kari")
    told = await left_a_stream(stack.places.gateway, person.session, stack.places.log("gateway").read_text)
    assert not [word for word in WHO if word in told], told
    assert f'"upstream":"{stack.places.address("enrolment")}"' in told, "which service it was"

    config, log = tmp_path / "Caddyfile", tmp_path / "log"
    config.write_text(re.sub(r"\tlog default \{.*?\n\t\}\n", "", CADDYFILE.read_text(), flags=re.DOTALL))
    async with another(stack, config, log) as control:
        told = await left_a_stream(control, person.session, log.read_text)
    assert not [word for word in WHO if word not in told], "the control: without the filter all of it stands there"
