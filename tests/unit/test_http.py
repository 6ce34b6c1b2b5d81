import asyncio
import json
import threading
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Annotated, Any

import asyncpg
import pytest
from fastapi import APIRouter, Body, Query, Request
from fastapi.responses import HTMLResponse, StreamingResponse
from httpx2 import AsyncClient
from openapi_spec_validator import OpenAPIV31SpecValidator
from pydantic import BaseModel, ConfigDict, Field

from kit import http, problems, trail
from kit.database import Busy, Unknown
from kit.problems import Problem
from tests import web

pytestmark = pytest.mark.anyio
CANARY = "kari.nordmann@example.no"
router = APIRouter(prefix="/api/demo/v1")


class Contact(BaseModel):
    model_config = ConfigDict(extra="forbid")

    email: Annotated[str, Field(max_length=60)]
    age: Annotated[int, Field(ge=0)]


class Asked(BaseModel):
    places: Annotated[list[Annotated[str, Field(pattern="^[a-z]+$")]], Field(min_length=1)]
    contact: Contact


@router.post("/things/{thing}")
async def ask(thing: int, asked: Asked, limit: Annotated[int, Query(ge=1)] = 10) -> dict[str, Any]:
    return {"thing": thing, "places": asked.places, "limit": limit}


@router.put("/files", max_body_size=1024 * 1024)
async def take_file(request: Request) -> int:
    return len(await request.body())


@router.put("/small")
async def take_small(request: Request) -> int:
    return len(await request.body())


@router.get("/small")
async def give_small() -> str:
    return "small"


@router.post("/unread")
async def unread() -> str:
    return "not read"


@router.get("/trail")
async def tell_trail() -> dict[str, Any]:
    here = trail.here()
    return {"correlation_id": here.correlation_id, "traceparent": here.traceparent}


@router.get("/page")
async def page() -> HTMLResponse:
    return HTMLResponse("<p>", headers={"content-security-policy": "default-src 'self'", "cache-control": "public"})


@router.get("/fails/{how}")
async def fail(how: str) -> None:
    raise {
        "problem": Problem("too-late", "Too late", 409, "It has begun.", opened_at="2026-01-01"),
        "busy": Busy("x"),
        "unknown": Unknown(),
        "bug": RuntimeError(CANARY),
        "away": asyncpg.ConnectionDoesNotExistError(CANARY),
        "full": asyncpg.DiskFullError(CANARY),
        "standby": asyncpg.ReadOnlySQLTransactionError(CANARY),
        "slow": asyncpg.QueryCanceledError(CANARY),
        "nul": asyncpg.CharacterNotInRepertoireError(CANARY),
    }[how]


@router.get("/endless")
async def stream() -> StreamingResponse:
    async def forever() -> AsyncIterator[bytes]:
        try:
            while True:
                yield b"data: x\n\n"
                await asyncio.sleep(0.01)
        finally:
            ENDED.set()

    ENDED.clear()
    return StreamingResponse(forever(), media_type="text/event-stream")


ENDED = threading.Event()


@pytest.fixture
async def asking() -> AsyncIterator[AsyncClient]:
    async with web.client(web.build([router])) as client:
        yield client


GOOD = {"places": ["mo"], "contact": {"email": CANARY, "age": 3}}


def problem(answer: Any, status: int, slug: str) -> dict[str, Any]:
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    body: dict[str, Any] = answer.json()
    assert body["status"] == status
    assert body["type"] == f"http://localhost:8080/problems/{slug}"
    assert body["request_id"] == answer.headers["x-request-id"]
    assert slug in problems.KINDS or slug == "too-late"
    return body


async def test_a_good_request_is_answered(asking: AsyncClient) -> None:
    answer = await asking.post("/api/demo/v1/things/7", json=GOOD)
    assert answer.json() == {"thing": 7, "places": ["mo"], "limit": 10}


async def test_each_wrong_field_is_named_and_no_value_is_shown(asking: AsyncClient) -> None:
    bad = {"places": ["mo", "BÅD-canary"], "contact": {"email": "canary" * 20, "age": -1, "rank": "canary"}}
    answer = await asking.post("/api/demo/v1/things/canary?limit=0", json=bad)
    body = problem(answer, 422, "invalid")
    fields = [error["field"] for error in body["errors"]]
    assert fields == [
        "path thing",
        "query limit",
        "places[1]",
        "contact.email",
        "contact.age",
        "contact.rank",
    ]
    assert "canary" not in answer.text


async def test_a_query_parameter_that_the_address_does_not_take_is_named(asking: AsyncClient) -> None:
    answer = await asking.post("/api/demo/v1/things/7?limit=3&limt=2&a%0Ab=canary", json=GOOD)
    errors = problem(answer, 422, "invalid")["errors"]
    assert errors == [
        {"field": "query limt", "detail": "is not known; this address takes limit"},
        {"field": "query a\nb", "detail": "is not known; this address takes limit"},
    ]
    assert "canary" not in answer.text
    problem(await asking.get("/api/demo/v1/trail?x="), 422, "invalid")
    assert (await asking.get("/healthz?probe=1")).status_code == 200  # machines ask there


async def test_a_missing_body_is_named(asking: AsyncClient) -> None:
    body = problem(await asking.post("/api/demo/v1/things/1"), 422, "invalid")
    assert body["errors"][0]["field"] == "body"


MALFORMED = {
    "truncated": b'{"places": [',
    "trailing": json.dumps(GOOD).encode() + b" x",
    "twice": b'{"places": ["mo"], "places": ["bo"], "contact": {"email": "a", "age": 1}}',
    "twice_inside": b'{"places": ["mo"], "contact": {"email": "a", "email": "b", "age": 1}}',
    "nan": b'{"places": ["mo"], "contact": {"email": "a", "age": NaN}}',
    "bom": b"\xef\xbb\xbf{}",
    "utf16": json.dumps(GOOD).encode("utf-16"),
    "not_utf8": b'{"places": ["\xff"]}',
    "nul": b'{"places": ["mo"], "contact": {"email": "\\u0000", "age": 1}}',
    "raw_nul": b'{"places": ["mo\x00"]}',
    "deep": b"[" * 10_000 + b"]" * 10_000,
    "rather_deep": b'{"a": ' + b"[" * 32 + b"]" * 32 + b"}",
    "number": b"9" * 5000,
    "past_64_bits": b'{"a": 9223372036854775808}',
    "no_number": b'{"a": 1e400}',
    "half_a_character": b'{"places": ["mo"], "contact": {"email": "\\ud800", "age": 1}}',
    "half_a_character_in_a_name": b'{"\\udfff": 1}',
}


@pytest.mark.parametrize("kind", MALFORMED)
async def test_a_body_that_is_not_strict_json_is_refused(asking: AsyncClient, kind: str) -> None:
    headers = {"content-type": "application/json"}
    answer = await asking.post("/api/demo/v1/things/1", content=MALFORMED[kind], headers=headers)
    problem(answer, 422, "malformed-json")


async def test_text_that_only_looks_like_nul_is_taken(asking: AsyncClient) -> None:
    text = r'{"places": ["mo"], "contact": {"email": "\\u0000", "age": 1}}'
    headers = {"content-type": "application/json; charset=utf-8"}
    answer = await asking.post("/api/demo/v1/things/1", content=text.encode(), headers=headers)
    assert answer.status_code == 200


@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", ""])
async def test_a_body_that_is_not_called_json_is_refused(asking: AsyncClient, kind: str) -> None:
    headers = {"content-type": kind} if kind else {}
    answer = await asking.post("/api/demo/v1/things/1", content=json.dumps(GOOD).encode(), headers=headers)
    problem(answer, 415, "wrong-content-type")


async def test_unknown_addresses_and_methods_are_problems(asking: AsyncClient) -> None:
    problem(await asking.get("/api/demo/v1/nothing"), 404, "not-found")
    answer = await asking.delete("/api/demo/v1/small")
    problem(answer, 405, "method-not-allowed")
    assert answer.headers["allow"] == "GET, HEAD, PUT", "each, whichever function takes it"
    assert answer.json()["detail"] == "This address takes GET, HEAD, PUT."
    assert (await asking.delete("/api/demo/v1/files")).headers["allow"] == "PUT"


def test_the_page_above_an_address_is_looked_for_in_a_few_steps_however_deep_it_is() -> None:
    """Each step looks at all routes: a stranger's address of 60 KB would hold up everybody for seconds."""
    looked: list[str] = []

    class Route:
        methods = ("GET",)

        class path_regex:
            @staticmethod
            def match(path: str) -> bool:
                looked.append(path)
                return path == "/kurs"

    assert http.page_above("/kurs/7/meld", [Route()]) == "/kurs"  # type: ignore[list-item]
    assert len(looked) == 2
    http.page_above("/kurs" + "/a" * 30_000, [Route()])  # type: ignore[list-item]
    assert len(looked) < 20


async def test_the_head_of_an_answer_comes_alone_and_ends_a_stream_without_end() -> None:
    """Through a real server: what it makes of a stream that nobody listens to is its own business."""
    async with web.served(web.build([router])) as at, AsyncClient(base_url=at) as client:
        got = await client.get("/api/demo/v1/page")
        head = await client.head("/api/demo/v1/page")
        assert (head.status_code, head.content, got.content) == (200, b"", b"<p>")
        for name in ("content-type", "content-length", "content-security-policy", "cache-control"):
            assert head.headers[name] == got.headers[name]
        assert (await client.head("/api/demo/v1/nothing")).status_code == 404
        assert (await client.head("/api/demo/v1/files")).status_code == 405
        endless = await client.head("/api/demo/v1/endless")
        assert endless.headers["content-type"].startswith("text/event-stream")
        assert await asyncio.to_thread(ENDED.wait, 10), "nobody listens, and it goes on"


async def chunks(total: int) -> AsyncIterator[bytes]:
    for _ in range(total // 1024):
        yield b"x" * 1024


async def test_a_body_over_the_limit_is_refused(asking: AsyncClient) -> None:
    limit = http.BODY_BYTES
    assert (await asking.put("/api/demo/v1/small", content=b"x" * limit)).json() == limit
    problem(await asking.put("/api/demo/v1/small", content=b"x" * (limit + 1)), 413, "body-too-large")


async def test_a_body_without_a_stated_length_is_counted_as_it_comes(asking: AsyncClient) -> None:
    assert (await asking.put("/api/demo/v1/small", content=chunks(http.BODY_BYTES))).json() == http.BODY_BYTES
    answer = await asking.put("/api/demo/v1/small", content=chunks(http.BODY_BYTES + 1024))
    problem(answer, 413, "body-too-large")


async def test_a_route_may_take_more(asking: AsyncClient) -> None:
    size = http.BODY_BYTES + 1
    assert (await asking.put("/api/demo/v1/files", content=b"x" * size)).json() == size


async def test_a_body_that_nobody_reads_is_refused_in_the_same_form(asking: AsyncClient) -> None:
    answer = await asking.post("/api/demo/v1/unread", content=b"x" * (http.BODY_BYTES + 1))
    problem(answer, 413, "body-too-large")
    assert answer.headers["x-content-type-options"] == "nosniff"


@pytest.mark.parametrize(
    ("how", "status", "slug"),
    [
        ("problem", 409, "too-late"),
        ("busy", 503, "busy"),
        ("unknown", 503, "outcome-unknown"),
        ("bug", 500, "internal-error"),
        ("away", 503, "busy"),
        ("full", 503, "busy"),
        ("standby", 503, "busy"),
        ("slow", 503, "busy"),
        ("nul", 422, "invalid"),
    ],
)
async def test_an_exception_becomes_a_problem_without_its_words(
    asking: AsyncClient, how: str, status: int, slug: str
) -> None:
    answer = await asking.get(f"/api/demo/v1/fails/{how}")
    problem(answer, status, slug)
    assert CANARY not in answer.text
    assert "Traceback" not in answer.text
    assert ("retry-after" in answer.headers) == (status == 503)


async def test_a_problem_carries_its_own_members(asking: AsyncClient) -> None:
    body = problem(await asking.get("/api/demo/v1/fails/problem"), 409, "too-late")
    assert body["opened_at"] == "2026-01-01"
    assert body["detail"] == "It has begun."


async def test_an_unknown_outcome_says_to_ask_again_with_the_same_key(asking: AsyncClient) -> None:
    body = (await asking.get("/api/demo/v1/fails/unknown")).json()
    assert "Ask again with the same Idempotency-Key" in body["detail"]


async def test_every_answer_has_safe_headers_and_a_page_keeps_its_own(asking: AsyncClient) -> None:
    for path in ("/api/demo/v1/trail", "/nothing", "/api/demo/v1/fails/bug", "/healthz"):
        headers = (await asking.get(path)).headers
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["referrer-policy"] == "no-referrer"
        policy = headers["content-security-policy"]
        assert policy == "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
        assert headers["cache-control"] == "no-store"
        assert "strict-transport-security" not in headers
    page = (await asking.get("/api/demo/v1/page")).headers
    assert page["content-security-policy"] == "default-src 'self'"
    assert page["cache-control"] == "public"


async def test_https_is_insisted_on_where_it_is_used() -> None:
    async with web.client(web.build([router], public_url="https://kurs.example")) as asking:
        assert "strict-transport-security" in (await asking.get("/healthz")).headers


async def test_a_request_keeps_its_id_and_its_trace(asking: AsyncClient) -> None:
    parent = "00-" + "a" * 32 + "-" + "b" * 16 + "-01"
    answer = await asking.get("/api/demo/v1/trail", headers={"x-request-id": "mine-1", "traceparent": parent})
    assert answer.json() == {"correlation_id": "mine-1", "traceparent": parent}
    assert answer.headers["x-request-id"] == "mine-1"


async def test_a_hostile_request_id_is_replaced(asking: AsyncClient) -> None:
    answer = await asking.get("/api/demo/v1/trail", headers={"x-request-id": "<script>"})
    assert len(answer.headers["x-request-id"]) == 36


async def test_a_header_that_comes_twice_is_refused(asking: AsyncClient) -> None:
    answer = await asking.get("/api/demo/v1/trail", headers=[("idempotency-key", "a"), ("idempotency-key", "b")])
    problem(answer, 400, "malformed-request")


@pytest.mark.parametrize("path", ["/api/demo/v1/fails/a%00b", "/api/demo/v1/trail?q=a%00b"])
async def test_an_address_with_nul_is_refused(asking: AsyncClient, path: str) -> None:
    problem(await asking.get(path), 400, "malformed-request")


async def test_a_kind_of_problem_is_explained_to_programs_and_people(asking: AsyncClient) -> None:
    answer = await asking.get("/problems/outcome-unknown")
    assert answer.json()["title"] == "It is not known whether this was done"
    page = await asking.get("/problems/outcome-unknown", headers={"accept": "text/html,*/*"})
    assert page.headers["content-type"].startswith("text/html")
    assert "<h1>It is not known whether this was done</h1>" in page.text
    problem(await asking.get("/problems/nothing"), 404, "not-found")


def test_one_kind_of_problem_has_one_meaning() -> None:
    known = problems.KINDS["conflict"]
    problems.explain(known.slug, known.title, known.words)
    with pytest.raises(ValueError, match="explained already"):
        problems.explain("conflict", known.title, "Something else.")
    assert problems.KINDS["conflict"] == known


async def test_the_openapi_document_is_openapi_3_1(asking: AsyncClient) -> None:
    document = (await asking.get("/openapi.json")).json()
    assert document["openapi"].startswith("3.1")
    OpenAPIV31SpecValidator(document).validate()
    responses = document["paths"]["/api/demo/v1/things/{thing}"]["post"]["responses"]
    assert set(responses) == {"200", "400", "413", "415", "422", "500", "503", "default"}
    assert responses["413"] == {"$ref": "#/components/responses/413"}
    refusals = [*document["components"]["responses"].values(), responses["default"]]
    assert {kind for one in refusals for kind in one["content"]} == {"application/problem+json"}
    assert "/metrics" not in document["paths"]
    problem(await asking.get("/docs"), 404, "not-found")


async def test_the_asyncapi_document_is_served(asking: AsyncClient) -> None:
    answer = await asking.get("/asyncapi.json")
    assert answer.json() == json.loads((Path(__file__).parents[2] / "contracts" / "asyncapi.json").read_text())


async def test_requests_are_counted_and_logged_by_route_template(
    asking: AsyncClient, capsys: pytest.CaptureFixture[str]
) -> None:
    await asking.get("/api/demo/v1/fails/busy", headers={"x-secret": "canary"})
    await asking.get("/api/demo/v1/nothing/canary")
    text = (await asking.get("/metrics")).text
    assert 'route="/api/demo/v1/fails/{how}",status="503"' in text
    assert 'route="unmatched",status="404"' in text
    logged = capsys.readouterr().out
    assert "/api/demo/v1/fails/{how}" in logged
    assert "canary" not in text + logged


async def test_readiness_tells_what_is_wrong() -> None:
    hands = web.running()
    stuck = "the outbox has not moved for 31 s"
    told: list[str | None] = [None]

    async def relay() -> str | None:
        return told[0]

    async def broken() -> str | None:
        raise OSError(CANARY)

    hands.health.register("relay", relay)
    async with web.client(http.build(hands, [])) as asking:
        answer = await asking.get("/readyz")
        assert answer.json() == {"service": "demo", "ready": True, "checks": {"relay": "ok"}}
        told[0] = stuck
        answer = await asking.get("/readyz")
        assert answer.status_code == 503
        assert answer.json() == {"service": "demo", "ready": False, "checks": {"relay": stuck}}
        hands.health.register("relay", broken)
        assert (await asking.get("/readyz")).json()["checks"]["relay"] == "the check failed: OSError"
        assert (await asking.get("/healthz")).status_code == 200


async def test_a_process_that_stops_is_not_ready() -> None:
    hands = web.running()
    hands.health.stopping = True
    async with web.client(http.build(hands, [])) as asking:
        assert (await asking.get("/readyz")).status_code == 503


async def test_a_body_parameter_alone_is_named() -> None:
    alone = APIRouter()

    @alone.post("/alone")
    async def take(value: Annotated[int, Body()]) -> int:
        return value

    async with web.client(web.build([alone])) as asking:
        answer = await asking.post("/alone", json="x")
    assert problem(answer, 422, "invalid")["errors"] == [{"field": "body", "detail": "must be a whole number"}]


async def test_whoever_sends_too_much_is_heard_out_before_they_are_told() -> None:
    app = web.build([router])
    length = b"2000000"
    scope = {
        "type": "http",
        "method": "POST",
        "path": "/api/demo/v1/unread",
        "raw_path": b"/api/demo/v1/unread",
        "query_string": b"",
        "headers": [(b"content-type", b"application/json"), (b"content-length", length)],
        "http_version": "1.1",
        "scheme": "http",
        "server": ("demo.test", 80),
        "client": ("127.0.0.1", 1),
    }
    heard: list[str] = []
    left = [b"x" * 500_000] * 4

    async def receive() -> dict[str, Any]:
        assert left, "the body has an end, and what comes after it never does"
        heard.append("part")
        return {"type": "http.request", "body": left.pop(), "more_body": bool(left)}

    async def send(message: Any) -> None:
        if message["type"] == "http.response.start":
            heard.append(str(message["status"]))

    await app(scope, receive, send)
    assert heard == ["part"] * 4 + ["413"]
