"""Each thing that cannot be has a kind of problem of its own, over HTTP, with a page that says what to do."""

import re
import uuid
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from contracts.catalogue import OfferingCancelled
from kit.problems import CONTENT_TYPE
from services.enrolment import offerings, refusals
from tests.delivery import Servers
from tests.integration.test_enrolment_http import BASE, World, world
from tests.integration.test_enrolment_links import links, offered

pytestmark = pytest.mark.anyio

DAY = timedelta(days=1)
PROGRAM = {"accept": "application/problem+json"}


async def post(here: World, path: str, who: str = "kari", key: str | None = None, **how: Any) -> Any:
    headers = here.signed(who, key) | how.pop("headers", {})
    return await here.asking.post(f"{BASE}{path}", headers=headers, **how)


async def unknown_place(here: World) -> Any:
    return await here.enrol(await here.offering(online=1), "kari", places=["online", "mosjoen"])


async def place_twice(here: World) -> Any:
    return await here.enrol(await here.offering(online=1), "kari", places=["online", "online"])


async def unknown_group(here: World) -> Any:
    return await here.enrol(await here.offering(online=1), "kari", group="ansatt")


async def too_large_a_list(here: World) -> Any:
    return await here.enrol(await here.offering(online=1), "kari", places=["a", "b", "c", "d"])


async def cancelled(here: World) -> Any:
    offering_id = await here.offering(online=1)
    said = OfferingCancelled(offering_id=offering_id, course_id=uuid.uuid4(), partner="torgar", version=2)
    await here.database.run(lambda conn: offerings.cancel(conn, said, here.settings))
    return await here.enrol(offering_id, "kari")


async def period(here: World, group: str | None, opens: timedelta, closes: timedelta) -> Any:
    now = datetime.now(UTC)
    rules = {"periods": [{"group": group, "opens_at": now + opens, "closes_at": now + closes}]}
    return await here.enrol(await here.offering(rules, online=1), "kari")


async def enrolled_elsewhere(here: World) -> Any:
    for _ in range(2):
        await here.enrol(await here.offering(online=1), "kari")
    return await here.enrol(await here.offering(online=1), "kari")


async def once_more(here: World) -> Any:
    """As often as one may in an hour (3), each time withdrawn, and again: from an address that may be anybody's."""
    for _ in range(3):
        made = (await here.enrol(await here.offering(online=1), "kari")).json()["enrolment_id"]
        assert (await post(here, f"/enrolments/{made}/withdraw")).status_code == 200
    last = await here.offering(online=2)
    assert (await here.enrol(last, "ola")).status_code == 201, "the control: another may"
    answer = await here.enrol(last, "kari")
    assert 3_500 < int(answer.headers["retry-after"]) <= 3_601
    await here.database.run(lambda conn: conn.execute("UPDATE enrolments SET asked_at = asked_at - interval '1 hour'"))
    assert (await here.enrol(last, "kari")).status_code == 201, "an hour later"
    return answer


async def enrolled_here(here: World) -> Any:
    offering_id = await here.offering(online=1)
    await here.enrol(offering_id, "kari")
    return await here.enrol(offering_id, "kari")


async def anothers(here: World) -> Any:
    made = (await here.enrol(await here.offering(online=1), "ola")).json()["enrolment_id"]
    return await post(here, f"/enrolments/{made}/withdraw")


async def without_an_offer(here: World) -> Any:
    made = (await here.enrol(await here.offering(online=1), "kari")).json()["enrolment_id"]
    return await post(here, f"/enrolments/{made}/accept")


async def past_its_hour(here: World, answer: str = "accept") -> Any:
    _, [one] = await offered(here, "ola")
    async with here.database.reading() as conn:
        await conn.execute("UPDATE offers SET expires_at = app_now()")
    return await post(here, f"/enrolments/{one.json()['enrolment_id']}/{answer}", "ola")


async def over(here: World) -> Any:
    made = (await here.enrol(await here.offering({"requires_approval": True}, online=1), "kari")).json()["enrolment_id"]
    denied = here.partner("torgar")
    await here.asking.post(f"{BASE}/enrolments/{made}/deny", json={"reason": "Fullt."}, headers=denied)
    return await post(here, f"/enrolments/{made}/withdraw")


async def decided(here: World) -> Any:
    made = (await here.enrol(await here.offering({"requires_approval": True}, online=1), "kari")).json()["enrolment_id"]
    headers = here.partner("torgar")
    await here.asking.post(f"{BASE}/enrolments/{made}/deny", json={"reason": "Fullt."}, headers=headers)
    return await here.asking.post(f"{BASE}/enrolments/{made}/approve", headers=headers)


async def stale(here: World) -> Any:
    made = (await here.enrol(await here.offering(online=1), "kari")).json()["enrolment_id"]
    return await post(here, f"/enrolments/{made}/withdraw", headers={"if-match": '"0123456789abcdef"'})


async def same_key(here: World) -> Any:
    await here.enrol(await here.offering(online=1), "kari", key="one")
    return await here.enrol(await here.offering(online=1), "kari", key="one")


async def no_key(here: World) -> Any:
    return await here.enrol(await here.offering(online=1), "kari", key="a b")


async def used_link(here: World) -> Any:
    await offered(here, "ola")
    address = f"/tilbud/{(await links(here))['accept']}/godta"
    assert (await here.asking.post(address)).status_code == 200
    return await here.asking.post(address, headers=PROGRAM)


async def lapsed_link(here: World) -> Any:
    await past_its_hour(here)
    return await here.asking.post(f"/tilbud/{(await links(here))['accept']}/godta", headers=PROGRAM)


async def anothers_link(here: World) -> Any:
    await offered(here, "ola")
    return await here.asking.post(f"/tilbud/{(await links(here))['decline']}/godta", headers=PROGRAM)


async def huge(here: World) -> Any:
    return await here.enrol(await here.offering(online=1), "kari", name="x" * 300_000)


async def a_form(here: World) -> Any:
    offering_id = await here.offering(online=1)
    return await post(here, f"/offerings/{offering_id}/enrolments", data={"places": "online", "name": "Kari"})


async def not_json(here: World) -> Any:
    path = f"/offerings/{await here.offering(online=1)}/enrolments"
    return await post(here, path, content=b"{", headers={"content-type": "application/json"})


async def a_stranger(here: World) -> Any:
    return await here.asking.post(f"{BASE}/offerings/{uuid.uuid4()}/enrolments", json={})


async def anothers_roster(here: World) -> Any:
    path = f"{BASE}/offerings/{await here.offering(online=1)}/roster"
    return await here.asking.get(path, headers=here.partner("mosjoen"))


async def too_often(here: World) -> Any:
    answer = await enrolled_here(here)
    while answer.status_code != 429:  # a minute may end on the way
        answer = await post(here, f"/enrolments/{uuid.uuid4()}/withdraw")
    return answer


ASKED: list[tuple[Callable[[World], Awaitable[Any]], int, str]] = [
    (unknown_place, 422, "unknown-place"),
    (place_twice, 422, "place-twice"),
    (unknown_group, 422, "unknown-group"),
    (too_large_a_list, 422, "invalid"),
    (cancelled, 409, "offering-closed"),
    (lambda here: period(here, None, -DAY, -DAY / 2), 409, "offering-closed"),
    (lambda here: period(here, None, DAY, 2 * DAY), 409, "not-open-yet"),
    (lambda here: period(here, "ansatt", -DAY, DAY), 409, "other-group"),
    (enrolled_elsewhere, 409, "too-many-enrolments"),
    (once_more, 429, "enrolling-too-often"),
    (enrolled_here, 409, "already-enrolled"),
    (anothers, 404, "not-found"),
    (lambda here: here.enrol(uuid.uuid4(), "kari"), 404, "not-found"),
    (without_an_offer, 409, "no-offer"),
    (past_its_hour, 409, "offer-lapsed"),
    (lambda here: past_its_hour(here, "decline"), 409, "offer-lapsed"),
    (over, 409, "not-withdrawable"),
    (decided, 409, "not-pending"),
    (stale, 412, "precondition-failed"),
    (same_key, 422, "idempotency-key-reused"),
    (no_key, 400, "idempotency-key-invalid"),
    (used_link, 410, "link-used"),
    (lapsed_link, 410, "offer-lapsed"),
    (anothers_link, 404, "link-not-valid"),
    (huge, 413, "body-too-large"),
    (a_form, 415, "wrong-content-type"),
    (not_json, 422, "malformed-json"),
    (a_stranger, 401, "unauthenticated"),
    (anothers_roster, 403, "forbidden"),
    (too_often, 429, "too-many-requests"),
]


@pytest.mark.parametrize(("ask", "status", "slug"), ASKED, ids=[f"{n}-{slug}" for n, (_, _, slug) in enumerate(ASKED)])
async def test_what_cannot_be_has_its_own_kind_of_problem_and_a_page(
    servers: Servers, ask: Callable[[World], Awaitable[Any]], status: int, slug: str
) -> None:
    async with world(servers, most_live_enrolments=2, requests_per_minute=8, enrolments_per_hour=3) as here:
        answer = await ask(here)
        assert (answer.status_code, answer.headers["content-type"]) == (status, CONTENT_TYPE)
        problem = answer.json()
        address = problem["type"].removeprefix(here.settings.public_url)
        assert address == f"/problems/{slug}"
        assert problem["request_id"] == answer.headers["x-request-id"]
        assert problem["detail"], "who asked is told more than the title"
        page = (await here.asking.get(address)).json()
        assert (page["title"], page["slug"]) == (problem["title"], slug)
        seen = await here.asking.get(address, headers={"accept": "text/html"})
        assert f"<h1>{problem['title']}</h1>" in seen.text.replace("&#x27;", "'")


def test_each_kind_of_refusal_is_asked_for() -> None:
    explained = set(re.findall(r'explain\(\s*"([a-z-]+)"', Path(refusals.__file__).read_text("utf-8")))
    assert len(explained) > 10
    assert explained <= {slug for _, _, slug in ASKED}
