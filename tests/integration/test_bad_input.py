"""Whatever a web client sends, each service answers with a problem that names the field; on a real database."""

import json
import uuid
from typing import Any

import pytest
from httpx2 import AsyncClient

from kit.problems import CONTENT_TYPE
from tests.delivery import Servers
from tests.integration import test_catalogue, test_enrolment_http
from tests.integration.corpus import BODIES, COURSE, DATES, MEGABYTE

pytestmark = pytest.mark.anyio

JSON = {"content-type": "application/json"}
HEADERS: list[tuple[dict[str, str], int, str]] = [
    ({"idempotency-key": ""}, 400, "header idempotency-key"),
    ({"idempotency-key": "a b"}, 400, "header idempotency-key"),
    ({"idempotency-key": "a" * 256}, 400, "header idempotency-key"),
    ({"idempotency-key": "n\xf8kkel"}, 400, "header idempotency-key"),
    ({"content-type": "text/plain"}, 415, "header content-type"),
    ({"content-type": "application/x-www-form-urlencoded"}, 415, "header content-type"),
    ({"content-type": ""}, 415, "header content-type"),
    ({"content-encoding": "gzip"}, 422, "body"),
]
QUERIES = [
    ("limit=0", "limit"),
    ("limit=101", "limit"),
    ("limit=ten", "limit"),
    ("limit=1e1", "limit"),
    ("limit=" + "9" * 400, "limit"),
    ("limit=", "limit"),
    ("after=7", "after"),
    ("after=%F0%9F", "after"),
    ("limt=3", "limt"),
    ("%00=3", ""),
]


def named(answer: Any, status: int) -> list[str]:
    """The fields that a problem names."""
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == CONTENT_TYPE
    problem = answer.json()
    assert problem["status"] == status
    assert problem["detail"]
    assert all(error["detail"] for error in problem["errors"])
    return [error["field"] for error in problem["errors"]]


async def sent(asking: AsyncClient, method: str, address: str, body: bytes, **headers: str) -> Any:
    known = JSON | {name.replace("_", "-"): value for name, value in headers.items()}
    encoded = [(name.encode(), value.encode("latin-1")) for name, value in known.items()]
    return await asking.request(method, address, content=body, headers=encoded)


async def refuses_what_is_unreadable(asking: AsyncClient, method: str, address: str, good: Any, signed: str) -> None:
    """Bodies and headers that no write takes, whichever it is."""
    for kind, one in BODIES.items():
        assert named(await sent(asking, method, address, one.body, authorization=signed), 422) == ["body"], kind
    assert named(await sent(asking, method, address, MEGABYTE, authorization=signed), 413) == ["body"]
    whole = json.dumps(good).encode()
    for headers, status, field in HEADERS:
        body = b"\x1f\x8b" + whole if "content-encoding" in headers else whole
        answer = await sent(asking, method, address, body, authorization=signed, **headers)
        assert named(answer, status) == [field], headers


async def test_the_catalogue_names_what_is_wrong_with_a_course(servers: Servers) -> None:
    async with test_catalogue.world(servers) as here:
        address, signed = f"{here.courses}/SV-1", f"Bearer {here.key}"
        await refuses_what_is_unreadable(here.asking, "PUT", address, COURSE, signed)
        both = COURSE | {"price_ore": 1.5, "level": "9"}
        assert named(await here.put("SV-1", both), 422) == ["level", "price_ore"]
        assert named(await here.put("SV-1", COURSE | {"code": "SV-1", "seq": 4}), 422) == ["code", "seq"]
        assert named(await here.put("SV-1", COURSE, if_match="sometime"), 412) == ["header if-match"]
        assert named(await here.put("SV-1", COURSE, if_match="*"), 412) == ["header if-match"], "there is none yet"
        assert named(await here.put("sv 1", COURSE), 422) == ["path code"]
        assert named(await here.put("x" * 61, COURSE), 422) == ["path code"]
        assert await here.said() == [("PartnerJoined", 1)], "nothing of all this was done"
        assert (await here.put("SV-1", COURSE)).status_code == 201
        assert (await here.put("SV-1", COURSE, if_match="*")).status_code == 200


async def test_the_catalogue_names_what_is_wrong_with_an_offering(servers: Servers) -> None:
    async with test_catalogue.world(servers) as here:
        await here.put("SV-1", COURSE)
        address, signed = f"{here.courses}/SV-1/offerings/v27", f"Bearer {here.key}"
        await refuses_what_is_unreadable(here.asking, "PUT", address, DATES, signed)
        session = {"starts_at": DATES["starts_at"], "ends": DATES["ends_at"]}
        answer = await here.put("SV-1/offerings/v27", DATES | {"sessions": [session]})
        assert named(answer, 422) == ["sessions[0].ends_at", "sessions[0].ends"]
        assert named(await here.put("SV-1/offerings/v%2049", DATES), 422) == ["path key"]
        cancel = f"{address}/cancel"
        assert named(await sent(here.asking, "POST", cancel, b'{"raeson": "x"}', authorization=signed), 422) == [
            "raeson"
        ]
        assert named(await sent(here.asking, "POST", cancel, b'{"reason": 4}', authorization=signed), 422) == ["reason"]
        assert named(await sent(here.asking, "POST", cancel, b"[]", authorization=signed), 422) == ["body"]
        assert [kind for kind, _ in await here.said()] == ["PartnerJoined", "CourseCreated"]


async def test_enrolment_names_what_is_wrong_with_a_request(servers: Servers) -> None:
    async with test_enrolment_http.world(servers) as here:
        offering_id = await here.offering(online=1)
        address = f"{test_enrolment_http.BASE}/offerings/{offering_id}/enrolments"
        signed = here.signed("kari")["authorization"]
        good = {"places": ["online"], "name": "Kari Nordmann"}
        await refuses_what_is_unreadable(here.asking, "POST", address, good, signed)
        for change, fields in (
            ({"places": [7]}, ["places[0]"]),
            ({"places": ["Online"]}, ["places[0]"]),
            ({"name": "x" * 201}, ["name"]),
            ({"name": None, "contact": []}, ["name", "contact"]),
            ({"contact": {"email": "a@" + "b" * 400 + ".no"}}, ["contact.email"]),
            ({"contact": {"email": "kari@example.no", "phone": "1"}}, ["contact.phone"]),
            ({"contact": {"email": "kari@example.no", "fax": "91234567"}}, ["contact.fax"]),
            ({"contact": {"email": "\u0430@\u0430.no\u202e"}}, ["contact.email"]),
            ({"contact": {"email": "kåre@example.no"}}, ["contact.email"]),  # no mail of ours would go there
        ):
            assert named(await here.enrol(offering_id, "kari", **change), 422) == fields, change
        for part in ("7", "x" * 5000, "%F0%9F", str(offering_id)[:-1]):
            bad = f"{test_enrolment_http.BASE}/offerings/{part}"
            assert named(await here.asking.get(bad), 422) == ["path offering_id"], part
            answer = await here.asking.post(f"{bad}/enrolments", json=good, headers=here.signed("kari"))
            assert named(answer, 422) == ["path offering_id"], part
        seats = (await here.asking.get(f"{test_enrolment_http.BASE}/offerings/{offering_id}")).json()["places"]
        assert seats[0]["free"] == 1, "nothing of all this was done"
        assert (await here.enrol(offering_id, "kari")).status_code == 201


async def test_a_wrong_query_is_named_and_never_shows_everything(servers: Servers) -> None:
    async with test_catalogue.world(servers) as here:
        for query, field in QUERIES:
            answer = await here.asking.get(f"{test_catalogue.BASE}/courses?{query}")
            fields = named(answer, 422 if field and field != "after" else 400)
            assert fields == [f"query {field}" if field else "address"], query
        answer = await here.asking.get(f"{test_catalogue.BASE}/courses?q={'x' * 201}&partner=Torgar")
        assert named(answer, 422) == ["query q", "query partner"]
        for before in ("yesterday", "2049-01-01T00:00:00", "2049-01-01T00:00:00+01:00", "1"):  # a bare + is a space
            address = f"{test_catalogue.BASE}/partners/{here.partner}/intake?before={before}"
            answer = await here.asking.get(address, headers={"authorization": f"Bearer {here.key}"})
            assert named(answer, 422) == ["query before"], before
        assert (await here.asking.get(f"{test_catalogue.BASE}/courses?q=%FF%EF%BF%BF'%5C%22")).json() == {"items": []}
        assert (await here.asking.get(f"{test_catalogue.BASE}/courses/{uuid.uuid4()}")).status_code == 404
