"""The short way to a seat answers every request as the whole way does, and is taken when it can be."""

import json
from typing import Any
from uuid import uuid4

import fastapi.routing
import pytest

from tests.delivery import Servers
from tests.integration.test_enrolment_http import BASE, World, world

pytestmark = pytest.mark.anyio

SHORT, WHOLE = "application/json", "application/json; charset=utf-8"  # the short way knows the plain name only
CONTACT = {"email": "kari@example.no", "language": "nn"}
ORDER = {"places": ["online"], "name": "Kari Nordmann", "contact": CONTACT}
# Each is asked both ways: body, headers, what stands behind the address.
ASKED: dict[str, tuple[Any, dict[str, str | None], str]] = {
    "in order": (ORDER, {}, ""),
    "everything said": (ORDER | {"group": "ansatt", "wait_for_earlier": False, "on_lapse": "leave"}, {}, ""),
    "a place twice": (ORDER | {"places": ["online", "online"]}, {}, ""),
    "an unknown place": (ORDER | {"places": ["oslo"]}, {}, ""),
    "an unknown group": (ORDER | {"group": "venn"}, {}, ""),
    "no name": ({"places": ["online"]}, {}, ""),
    "one field too many": (ORDER | {"seat": 1}, {}, ""),
    "a wrong type": (ORDER | {"wait_for_earlier": "yes"}, {}, ""),
    "a wrong address": (ORDER | {"contact": {"email": "kari"}}, {}, ""),
    "no body": (b"", {}, ""),
    "not JSON": (b"{", {}, ""),
    "a name twice": (b'{"name": "Kari", "name": "Ola", "places": ["online"]}', {}, ""),
    "too much": (b'{"name": "' + b"x" * 300 * 1024 + b'"}', {}, ""),
    "no token": (ORDER, {"authorization": ""}, ""),
    "a token of nobody": (ORDER, {"authorization": "Bearer a.b.c"}, ""),
    "a small bearer": (ORDER, {"authorization": "bearer a.b.c"}, ""),
    "another scheme": (ORDER, {"authorization": "Basic a2FyaTpuYXRh"}, ""),
    "a bad key": (ORDER, {"idempotency-key": "a b"}, ""),
    "an empty key": (ORDER, {"idempotency-key": ""}, ""),
    "no key": (ORDER, {"idempotency-key": None}, ""),
    "a filter": (ORDER, {}, "?place=online"),
}


async def ask(here: World, kind: str, body: Any, headers: dict[str, str | None], behind: str, address: str = "") -> Any:
    """The status, the headers that a caller acts on, and the body without what is another each time."""
    offering_id = address or await here.offering({"priority_groups": ["ansatt"]}, online=1)
    sent = here.signed(f"learner-{uuid4()}", str(uuid4())) | headers | {"content-type": kind}
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    where = f"{BASE}/offerings/{offering_id}/enrolments{behind}"
    answer = await here.asking.post(where, content=content, headers={k: v for k, v in sent.items() if v is not None})
    told = answer.json()
    for name in ("enrolment_id", "offering_id", "asked_at", "request_id"):
        told.pop(name, None)
    return answer.status_code, answer.headers.get("www-authenticate"), answer.headers["content-type"], told


@pytest.mark.parametrize("what", ASKED)
async def test_both_ways_answer_alike(servers: Servers, what: str) -> None:
    body, headers, behind = ASKED[what]
    async with world(servers) as here:
        short, whole = [await ask(here, kind, body, headers, behind) for kind in (SHORT, WHOLE)]
        assert short == whole
        assert (short[0] == 201) == (what in ("in order", "everything said", "no key")), short


@pytest.mark.parametrize("address", ["7", str(uuid4())], ids=["no id", "unknown"])
async def test_both_ways_know_no_such_offering(servers: Servers, address: str) -> None:
    async with world(servers) as here:
        short, whole = [await ask(here, kind, ORDER, {}, "", address) for kind in (SHORT, WHOLE)]
        assert short == whole
        assert short[0] in (404, 422)


async def test_who_asks_too_often_is_told_so_on_either_way(servers: Servers) -> None:
    async with world(servers, requests_per_minute=1) as here:
        offering_id = await here.offering(online=1)
        for kind in (SHORT, WHOLE):
            who = here.signed(kind) | {"content-type": kind}
            where = f"{BASE}/offerings/{offering_id}/enrolments"
            codes = [(await here.asking.post(where, json=ORDER, headers=who)).status_code for _ in range(2)]
            assert codes == [201, 429]


async def test_a_request_in_order_takes_the_short_way(servers: Servers, monkeypatch: pytest.MonkeyPatch) -> None:
    async def solve(**_: Any) -> None:
        raise RuntimeError("the whole way")

    async with world(servers) as here:
        monkeypatch.setattr(fastapi.routing, "solve_dependencies", solve)
        assert (await ask(here, SHORT, ORDER, {}, ""))[0] == 201
        assert (await ask(here, WHOLE, ORDER, {}, ""))[0] == 500
