"""Whatever a web client sends, each service answers with a problem that names the field; on a real database."""

import json
import uuid
from typing import Any

import pytest
from httpx2 import AsyncClient

from kit.problems import CONTENT_TYPE
from tests.delivery import Servers
from tests.integration import test_catalogue, test_enrolment_http
from tests.integration.test_catalogue import COURSE, DATES

pytestmark = pytest.mark.anyio

JSON = {"content-type": "application/json"}
LARGE = b'{"title": {"nb": "' + b"x" * 300 * 1024 + b'"}}'
UNREADABLE = {  # bodies that are refused before a field is looked at
    "cut short": b'{"title": {"nb": "Sveis"',
    "nothing but text": b"title=Sveis",
    "two values": b"{} {}",
    "a name twice": b'{"title": {"nb": "Sveis", "nb": "Saum"}}',
    "NUL": b'{"title": {"nb": "Sveis\\u0000"}}',
    "half a character": b'{"title": {"nb": "Sveis\\ud83d"}}',
    "half a character as a name": b'{"\\udc00": 1}',
    "not UTF-8": b'{"title": {"nb": "Sveis\xff"}}',
    "UTF-16": '{"title": {"nb": "Sveis"}}'.encode("utf-16"),
    "a number without end": b'{"price_ore": ' + b"9" * 5000 + b"}",
    "more than 64 bits": b'{"price_ore": 9223372036854775808}',
    "1e400": b'{"price_ore": 1e400}',
    "NaN": b'{"price_ore": NaN}',
    "too deep": b"[" * 5000 + b"]" * 5000,
}
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
    for kind, body in UNREADABLE.items():
        assert named(await sent(asking, method, address, body, authorization=signed), 422) == ["body"], kind
    assert named(await sent(asking, method, address, LARGE, authorization=signed), 413) == ["body"]
    for body in (b"[]", b'"x"', b"7", b"null"):
        assert named(await sent(asking, method, address, body, authorization=signed), 422) == ["body"], body
    whole = json.dumps(good).encode()
    for headers, status, field in HEADERS:
        body = b"\x1f\x8b" + whole if "content-encoding" in headers else whole
        answer = await sent(asking, method, address, body, authorization=signed, **headers)
        assert named(answer, status) == [field], headers


async def test_the_catalogue_names_what_is_wrong_with_a_course(servers: Servers) -> None:
    async with test_catalogue.world(servers) as here:
        address, signed = f"{here.courses}/SV-1", f"Bearer {here.key}"
        await refuses_what_is_unreadable(here.asking, "PUT", address, COURSE, signed)
        for change, fields in (
            ({"title": "Sveis"}, ["title"]),
            ({"title": {}}, ["title"]),
            ({"title": {"nb": 7}}, ["title.nb"]),
            ({"title": {"nb": " \u200b "}}, ["title.nb"]),
            ({"title": {"nb": "x" * 201}}, ["title.nb"]),
            ({"title": {"nb": "to\nlinjer"}}, ["title.nb"]),
            ({"title": {"nb": "\u202eSveis"}}, ["title.nb"]),
            ({"title": {"nb\ud7ff\ue000": "Sveis"}}, ["title.nb\ud7ff\ue000"]),
            ({"subjects": ["bygg"] * 11}, ["subjects"]),
            ({"subjects": "bygg"}, ["subjects"]),
            ({"studiepoeng": 7.5}, ["studiepoeng"]),
            ({"studiepoeng": "7,5"}, ["studiepoeng"]),
            ({"price_ore": 1.5, "level": "9"}, ["level", "price_ore"]),
            ({"price_ore": "100"}, ["price_ore"]),
            ({"price_ore": -1}, ["price_ore"]),
            ({"price_ore": 2**63 - 1}, ["price_ore"]),
            ({"price_ore": True}, ["price_ore"]),
            ({"price_ore": None}, ["price_ore"]),
            ({"code": "SV-1", "seq": 4}, ["code", "seq"]),
        ):
            assert named(await here.put("SV-1", COURSE | change), 422) == fields, change
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
        place = {"arena": "online", "capacity": 1}
        start = DATES["starts_at"]
        for change, fields in (
            ({"starts_at": "2027-03-01"}, ["starts_at"]),
            ({"starts_at": "2027-03-01T09:00:00"}, ["starts_at"]),
            ({"starts_at": 1800000000}, ["starts_at"]),
            ({"starts_at": "9999-12-31T23:59:59-23:59"}, ["starts_at"]),
            ({"starts_at": "0001-01-01T00:00:00+23:59"}, ["starts_at"]),
            ({"starts_at": "2027-02-30T09:00:00Z"}, ["starts_at"]),
            ({"ends_at": start}, ["ends_at"]),
            ({"sessions": [{"starts_at": start, "ends_at": start}]}, ["sessions[0].ends_at"]),
            ({"sessions": [{"starts_at": start, "ends": start}]}, ["sessions[0].ends_at", "sessions[0].ends"]),
            ({"places": []}, ["places"]),
            ({"places": [place] * 2}, ["places"]),
            ({"places": [place | {"capacity": 10**12}]}, ["places[0].capacity"]),
            ({"places": [place | {"capacity": "12"}]}, ["places[0].capacity"]),
            ({"places": [place | {"capasity": 12}]}, ["places[0].capasity"]),
            ({"places": {"online": 12}}, ["places"]),
        ):
            assert named(await here.put("SV-1/offerings/v27", DATES | change), 422) == fields, change
        assert named(await here.put("SV-1/offerings/v%2027", DATES), 422) == ["path key"]
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
            ({"contact": {"email": "\u0430@\u0430.no\u202e"}}, ["contact.email"]),
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
        for before in ("yesterday", "2027-01-01T00:00:00", "2027-01-01T00:00:00+01:00", "1"):  # a bare + is a space
            address = f"{test_catalogue.BASE}/partners/{here.partner}/intake?before={before}"
            answer = await here.asking.get(address, headers={"authorization": f"Bearer {here.key}"})
            assert named(answer, 422) == ["query before"], before
        assert (await here.asking.get(f"{test_catalogue.BASE}/courses?q=%FF%EF%BF%BF'%5C%22")).json() == {"items": []}
        assert (await here.asking.get(f"{test_catalogue.BASE}/courses/{uuid.uuid4()}")).status_code == 404
