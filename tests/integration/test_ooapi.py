"""OOAPI v6 as a stranger's program reads it: shapes, pages, filters, expansions, versions and errors.

The shapes are written by hand after `oeapi.yaml` 6.0 of https://github.com/open-education-api/specification: what is
required there, the types, formats and enumerations of the fields that we fill.
"""

import asyncio
import time
import uuid
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from openapi_schema_validator import OAS31Validator, oas31_format_checker

from kit.database import POOLS, connect
from services.catalogue import exchange, retracting
from services.catalogue.ooapi import MOST_LOOKING, OSLO
from services.catalogue.terms import wanted_version
from tests.delivery import Servers, until
from tests.integration.test_catalogue import World, world

pytestmark = pytest.mark.anyio

ROOT = "/ooapi/v6"
UUID = {"type": "string", "format": "uuid"}
TIME = {"type": "string", "format": "date-time"}
URI = {"type": "string", "format": "uri", "pattern": "^https?://"}
# No brace may stand in one (RFC 3986).
REFERENCE = {"type": "string", "format": "uri-reference", "pattern": r"^[\w%/-]*$"}
AMOUNT = {"type": "string", "pattern": r"^\d+(?:\.\d+)?$"}
LANGUAGE = {"type": "string", "pattern": "^([a-z]{2,3})(-([A-Z]{2}|[0-9]{3}))?$"}


def thing(required: str, **properties: Any) -> dict[str, Any]:
    """An object with these fields and no other: a misspelt one would be read by nobody."""
    return {
        "type": "object",
        "required": required.split(),
        "properties": properties,
        "additionalProperties": False,
    }


def some(items: dict[str, Any]) -> dict[str, Any]:
    return {"type": "array", "items": items, "minItems": 1}


def open_to(*names: str) -> dict[str, Any]:
    """An extensible enumeration: its own values, and others with `x-`."""
    return {"type": "string", "pattern": f"^({'|'.join(names)}|x-.+)$"}


CODE = thing(
    "codeType code",
    codeType=open_to("identifier", "offering_code", "organisation_id"),
    code={"type": "string"},
)
WORDS = some(thing("language value", language=LANGUAGE, value={"type": "string"}))
MODES = {"type": "array", "items": open_to("blended", "hybrid", "online", "presential")}
LEVEL = open_to("associate_degree", "bachelor", "master", "doctoral", "undefined")
EXT = {"type": "object"}
ORGANISATION = thing(
    "organisationId organisationType name primaryCode",
    organisationId=UUID,
    primaryCode=CODE,
    organisationType=open_to("root", "institute", "department", "faculty", "branch", "academy", "school"),
    name=WORDS,
    otherCodes={"type": "array", "items": CODE},
)
COURSE = thing(
    "courseId name primaryCode",
    courseId=UUID,
    primaryCode=CODE,
    name=WORDS,
    description=WORDS,
    admissionRequirements=WORDS,
    studyLoad=some(
        thing(
            "studyLoadUnit value",
            studyLoadUnit=open_to("contact_time", "ects", "sbu", "sp", "hour"),
            value={"type": "number"},
        )
    ),
    modesOfDelivery=MODES,
    teachingLanguages=some(LANGUAGE),
    level=LEVEL,
    link=URI,
    organisationId=UUID,
    organisation=ORGANISATION,
    ext=EXT,
)
OFFERING = thing(
    "courseOfferingId name primaryCode",
    courseOfferingId=UUID,
    primaryCode=CODE,
    name=WORDS,
    state=open_to("concept", "cancelled", "active", "inactive"),
    startDateTime=TIME,
    endDateTime=TIME,
    teachingLanguages=some(LANGUAGE),
    modesOfDelivery=MODES,
    maxNumberStudents={"type": "number", "minimum": 0},
    enrolledNumberStudents={"type": "number", "minimum": 0},
    minNumberStudents={"type": "number", "minimum": 0},
    resultExpected={"type": "boolean"},
    link=URI,
    enrolmentPeriods={
        "type": "array",
        "items": thing(
            "startDateTime",
            startDateTime=TIME,
            endDateTime=TIME,
            targetGroups={"type": "array", "items": {"type": "string"}},
        ),
    },
    addresses={
        "type": "array",
        "items": thing(
            "addressType",
            addressType=open_to("postal", "visit", "deliveries", "invoicing", "teaching"),
            city={"type": "string"},
        ),
    },
    priceInformation={
        "type": "array",
        "items": thing(
            "costType", costType=open_to("stap_eligible", "total_costs"), amount=AMOUNT, currency={"const": "NOK"}
        ),
    },
    courseId=UUID,
    course=COURSE,
    organisationId=UUID,
    ext=EXT,
)
SERVICE = thing(
    "contactEmail specification",
    contactEmail={"type": "string", "format": "email"},
    specification=URI,
    documentation=URI,
    supportedConsumers={"type": "array"},
    supportedOperations=some(
        thing("verbs path", verbs=some({"enum": ["GET", "PUT", "PATCH", "POST"]}), path=REFERENCE)
    ),
    supportedExpands=some(thing("expandableObjects path", expandableObjects=some({"type": "string"}), path=REFERENCE)),
)
PROBLEM = {
    "type": "object",
    "required": ["type", "status", "title"],
    "properties": {"type": URI, "title": {"type": "string"}, "status": {"type": "integer"}, "instance": URI},
}


def page(items: dict[str, Any]) -> dict[str, Any]:
    number = {"type": "integer", "minimum": 0}
    return thing(
        "pageSize pageNumber hasPreviousPage hasNextPage items",
        pageSize={"enum": [10, 20, 50, 100, 250]},
        pageNumber={"type": "integer", "minimum": 1},
        hasPreviousPage={"type": "boolean"},
        hasNextPage={"type": "boolean"},
        totalPages=number,
        items={"type": "array", "items": items},
    )


async def read(here: World, path: str, shape: dict[str, Any], status: int = 200, **headers: str) -> Any:
    answer = await here.asking.get(f"{ROOT}{path}", headers=headers)
    assert answer.status_code == status, answer.text
    wrong = list(OAS31Validator(shape, format_checker=oas31_format_checker).iter_errors(answer.json()))
    assert not wrong, [f"{error.json_path}: {error.message}" for error in wrong]
    return answer.json()


def dates(days: int, **more: Any) -> dict[str, Any]:
    starts_at = datetime.now(UTC) + timedelta(days=days)
    ends_at = starts_at + timedelta(days=2)
    places = [{"arena": "online", "capacity": 12}, {"arena": "mosjoen", "capacity": 8}]
    return {"starts_at": starts_at.isoformat(), "ends_at": ends_at.isoformat(), "places": places, **more}


FULL = {
    "title": {"nb": "Sveising", "en": "Welding"},
    "description": {"nb": "Vi sveiser."},
    "prerequisites": {"nb": "Fagbrev."},
    "subjects": ["bygg"],
    "studiepoeng": "7.5",
    "level": "5.1",
    "delivery_mode": "blended",
    "price_ore": 120050,
}


async def test_what_is_published_is_read_in_the_shape_of_ooapi(servers: Servers) -> None:
    async with world(servers) as here:
        course_id = (await here.put("SV-1", FULL)).json()["course_id"]
        await here.put("REG-1", {"title": {"nn": "Rekneskap"}})
        now = datetime.now(UTC)
        rules = {
            "minimum": 5,
            "decide_at": (now + timedelta(days=3)).isoformat(),
            "periods": [
                {"opens_at": now.isoformat(), "closes_at": (now + timedelta(days=2)).isoformat(), "group": "ansatt"}
            ],
        }
        late = (await here.put("SV-1/offerings/h", dates(90))).json()["offering_id"]
        soon = (await here.put("SV-1/offerings/v", dates(9, **rules))).json()["offering_id"]
        await here.put("SV-1/offerings/past", dates(-9))
        await here.cancel("SV-1/offerings/h")

        service = await read(here, "/", SERVICE)
        assert {"verbs": ["GET"], "path": "/courses/%7BcourseId%7D"} in service["supportedOperations"]
        courses = await read(here, "/courses", page(COURSE))
        assert [one["primaryCode"]["code"] for one in courses["items"]] == ["REG-1", "SV-1"], "by name"
        one = await read(here, f"/courses/{course_id}", COURSE)
        assert one == courses["items"][1]
        assert (one["level"], one["studyLoad"]) == ("x-nkr-5.1", [{"studyLoadUnit": "ects", "value": 7.5}])
        assert one["admissionRequirements"] == [{"language": "nb", "value": "Fagbrev."}]
        assert "admissionRequirements" not in courses["items"][0], "none rather than an empty list"
        assert one["ext"] == {"subjects": ["bygg"], "nkrLevel": "5.1", "eqfLevel": 5}
        runs = await read(here, f"/courses/{course_id}/course-offerings", page(OFFERING))
        assert [run["courseOfferingId"] for run in runs["items"]] == [soon, late], "what is to come, in order of time"
        first = runs["items"][0]
        assert first == await read(here, f"/course-offerings/{soon}", OFFERING)
        assert (first["maxNumberStudents"], first["minNumberStudents"], first["state"]) == (20, 5, "active")
        assert first["priceInformation"] == [{"costType": "total_costs", "amount": "1200.50", "currency": "NOK"}]
        assert first["addresses"] == [{"addressType": "teaching", "city": "Mosjøen"}]
        assert first["enrolmentPeriods"][0]["targetGroups"] == ["ansatt"]
        assert runs["items"][1]["state"] == "cancelled"
        assert one["link"] == first["link"] == f"http://localhost:8080/kurs/{course_id}", "a page for people"
        who = await read(here, "/organisations", page(ORGANISATION))
        assert who["items"][0]["organisationId"] == one["organisationId"]
        by = f"/organisations/{one['organisationId']}"
        assert await read(here, by, ORGANISATION) == who["items"][0]
        assert (await read(here, f"{by}/courses", page(COURSE)))["items"] == courses["items"]
        assert (await read(here, f"{by}/course-offerings", page(OFFERING)))["items"] == runs["items"]


async def test_what_is_asked_for_whole_is_there(servers: Servers) -> None:
    async with world(servers) as here:
        course_id = (await here.put("SV-1", FULL)).json()["course_id"]
        run = (await here.put("SV-1/offerings/v", dates(9))).json()["offering_id"]
        one = await read(here, f"/courses/{course_id}?expand=organisation,programmes&consumer=x&fields=(name)", COURSE)
        assert one["organisation"]["organisationId"] == one["organisationId"]
        expanded = await read(here, f"/course-offerings/{run}?expand=course", OFFERING)
        assert expanded["course"] == await read(here, f"/courses/{course_id}", COURSE)


async def test_filters_find_what_they_name(servers: Servers) -> None:
    async with world(servers) as here:
        course_id = (await here.put("SV-1", FULL)).json()["course_id"]
        brief = {"summary": {"nb": "Om bilag."}, "description": {"nb": "", "en": ""}}
        await here.put("REG-1", {"title": {"nb": "Regnskap på Åsen"}, "level": "7", "language": "en"} | brief)
        for query, codes in {
            "q=WELD": ["SV-1"],
            "q=vi%20sveiser": ["SV-1"],
            "q=A%CC%8ASEN": ["REG-1"],  # the letter and its ring, one after the other
            "q=bilag": ["REG-1"],  # its description, as it has no other
            "q=%25": [],
            "primaryCode=REG-1": ["REG-1"],
            "level=master": ["REG-1"],
            "level=x-nkr-5.1": ["SV-1"],
            "level=bachelor": [],
            "teachingLanguage=en-GB": ["REG-1"],
            "modeOfDelivery=blended": ["SV-1"],
            "modeOfDelivery=coil": [],
        }.items():
            found = await read(here, f"/courses?{query}", page(COURSE))
            assert [one["primaryCode"]["code"] for one in found["items"]] == codes, query
        await here.put("SV-1/offerings/past", dates(-9))
        await here.put("SV-1/offerings/soon", dates(9))
        until = (datetime.now(UTC)).date().isoformat()
        ended = (datetime.now(UTC) - timedelta(days=7)).astimezone(OSLO).date()
        for query, keys in {
            "": ["soon"],
            "since=2020-01-01": ["past", "soon"],
            f"since=2020-01-01T00:00:00Z&until={until}": ["past"],
            f"since=2020-01-01&until={ended}": ["past"],  # it ends on that day
            f"since=2020-01-01&until={ended - timedelta(days=1)}": [],
            "since=0001-01-01T00:00:00%2B01:00&until=9999-12-31T23:59:59-01:00": ["past", "soon"],
            "since=1970-01-01": ["past", "soon"],
            "since=9999-12-31": [],
            "state=cancelled": [],
            "state=active": ["soon"],
            "resultExpected=true": [],
            "q=sveising": ["soon"],
        }.items():
            found = await read(here, f"/courses/{course_id}/course-offerings?{query}", page(OFFERING))
            assert [one["primaryCode"]["code"] for one in found["items"]] == keys, query


async def test_pages_are_counted_from_one(servers: Servers) -> None:
    async with world(servers) as here:
        for number in range(21):
            await here.put(f"C-{number:02}", {"title": {"nb": f"Kurs {number:02}"}})
        first = await read(here, "/courses", page(COURSE))
        del first["items"]
        counts = {"pageSize": 10, "pageNumber": 1, "hasPreviousPage": False, "hasNextPage": True, "totalPages": 3}
        assert first == counts
        last = await read(here, "/courses?pageNumber=3", page(COURSE))
        assert [one["primaryCode"]["code"] for one in last["items"]] == ["C-20"]
        assert (last["hasPreviousPage"], last["hasNextPage"]) == (True, False)
        beyond = await read(here, "/courses?pageSize=250&pageNumber=2147483647", page(COURSE))
        assert (beyond["items"], beyond["totalPages"]) == ([], 1)


async def test_errors_are_told_as_ooapi_does(servers: Servers) -> None:
    async with world(servers) as here:
        for path in (
            *("/courses?pageSize=11", "/courses?pageSize=0", "/courses?pageSize=x", "/courses?pageNumber=0"),
            *(
                "/courses?pageNumber=-1",
                "/courses?pageNumber=1.5",
                "/courses?pageSize=10.0",
                "/courses?pageNumber=%201",
                "/courses?filter_query[a][in]=b",
                "/courses?x=1",
            ),
            *(
                f"/courses/{uuid.uuid4().hex}",
                f"/organisations/{{{uuid.uuid4()}}}",
                f"/course-offerings/{uuid.uuid4().urn}",
            ),
            *("/courses/HELSE-101", f"/courses/{uuid.uuid4()}?expand=offerings", "/organisations?pageSize=5"),
            f"/courses/{uuid.uuid4()}/course-offerings?since=yesterday",
            f"/course-offerings/{uuid.uuid4()}?expand=course,run",
        ):
            told = await read(here, path, PROBLEM, 400)
            assert told["status"] == 400
            assert told["instance"].endswith(f"{ROOT}{path.partition('?')[0]}")
        for path in ("/courses", "/course-offerings", "/organisations"):
            await read(here, f"{path}/{uuid.uuid4()}", PROBLEM, 404)
        none = await read(here, f"/courses/{uuid.uuid4()}/course-offerings", page(OFFERING))
        assert (none["items"], none["totalPages"]) == ([], 0), "a list that is empty is no error"


def test_an_accept_without_end_is_read_in_a_moment() -> None:
    """One pattern over the whole took 19 s for this, and the gateway lets through five times as much."""
    began = time.process_time()
    assert wanted_version("application/vnd.oeapi+json;" * 8_000)
    assert time.process_time() - began < 1
    assert wanted_version('text/html, application/VND.oeapi+json ;q=1; Version = "6.1", */*')
    assert not wanted_version("text/html;version=5.0, application/json")


async def test_a_version_is_chosen_by_accept(servers: Servers) -> None:
    async with world(servers) as here:
        kind = "application/vnd.oeapi+json"
        for accept in (f"{kind};version=6.0", f"{kind}; version=6.7; consumer=x", kind):
            answer = await here.asking.get(f"{ROOT}/courses", headers={"accept": accept})
            assert answer.headers["content-type"] == f"{kind};version=6.0"
        for accept in ("*/*", "application/json"):
            answer = await here.asking.get(f"{ROOT}/courses", headers={"accept": accept})
            assert answer.headers["content-type"] == "application/json"
        told = await read(here, "/courses", PROBLEM, 406, accept=f"{kind};version=5.0")
        assert (told["requestedVersion"], told["supportedVersions"]) == ("5.0", ["6.0"])


async def test_a_withdrawn_course_is_gone_and_the_same_is_not_sent_twice(servers: Servers) -> None:
    async with world(servers) as here:
        course_id = (await here.put("SV-1", FULL)).json()["course_id"]
        first = await here.asking.get(f"{ROOT}/courses/{course_id}")
        again = await here.asking.get(f"{ROOT}/courses/{course_id}", headers={"if-none-match": first.headers["etag"]})
        assert (again.status_code, again.headers["cache-control"]) == (304, "public, no-cache")
        async with here.here.database.reading() as conn:
            await conn.execute("UPDATE courses SET withdrawn = true")
        await read(here, f"/courses/{course_id}", PROBLEM, 404)
        assert (await read(here, "/courses", page(COURSE)))["items"] == []


async def test_a_run_that_is_listed_has_its_course_also_when_that_is_withdrawn(servers: Servers) -> None:
    async with world(servers) as here:
        course_id = (await here.put("SV-1", FULL)).json()["course_id"]
        run = (await here.put("SV-1/offerings/v", dates(9))).json()["offering_id"]
        await here.here.database.run(lambda conn: retracting.cancel(conn, here.partner, "SV-1", None))
        by = f"/organisations/{exchange.organisation_id(here.partner)}/course-offerings"
        (one,) = (await read(here, by, page(OFFERING)))["items"]
        assert (one["courseOfferingId"], one["courseId"], one["state"]) == (run, course_id, "cancelled")
        course = await read(here, f"/courses/{course_id}", COURSE)
        assert (await read(here, f"/course-offerings/{run}?expand=course", OFFERING))["course"] == course
        assert (await read(here, "/courses", page(COURSE)))["items"] == []


async def test_who_looks_for_a_text_keeps_nobody_else_waiting(servers: Servers) -> None:
    async with world(servers) as here:
        await here.put("A", {"title": {"nb": "Kurs"}})
        blocking = await connect(here.settings, "test")
        try:
            async with blocking.transaction():
                await blocking.execute("LOCK TABLE courses IN ACCESS EXCLUSIVE MODE")
                asking = [
                    asyncio.create_task(here.asking.get(f"{ROOT}/courses?q=a&pageNumber={1 + number}"))
                    for number in range(POOLS["web"])
                ]
                await until(lambda: _wait(here), 5)
                answer = await here.asking.get(f"{ROOT}/organisations")
                assert answer.status_code == 200
                assert not any(one.done() for one in asking), "the others have given up, which made room"
            assert {one.status_code for one in await asyncio.gather(*asking)} == {200}
        finally:
            await blocking.close()


async def _wait(here: World) -> bool:
    """Whether as many wait for the courses as may look for a text at a time."""
    async with here.here.database.reading("worker") as conn:
        count = await conn.fetchval(
            "SELECT count(*) FROM pg_locks WHERE NOT granted AND relation = 'courses'::regclass"
        )
    return bool(count >= MOST_LOOKING)
