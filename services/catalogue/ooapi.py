"""Courses as other education systems read them: OOAPI v6 (OEAPI 6.0), for reading, at /ooapi/v6."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import datetime, time
from typing import Annotated, cast
from urllib.parse import quote
from uuid import UUID
from zoneinfo import ZoneInfo

from fastapi import APIRouter, Depends, Path, Query, Response
from fastapi.routing import APIRoute
from pydantic import AfterValidator, BaseModel, BeforeValidator

from kit import tags
from kit.database import ACQUIRE_S, Busy, Connection
from kit.http import Db, ThisService
from kit.problems import Problem
from kit.running import Running
from kit.tags import IfNoneMatch
from services.catalogue import exchange, terms
from services.catalogue.exchange import Course, CourseOffering, CourseOfferings, Courses, Organisation, Organisations
from services.catalogue.kept import CACHING
from services.catalogue.settings import CatalogueSettings
from services.catalogue.store import Row, courses, views
from services.catalogue.terms import Ignored, Level, Mode, Search, Since, State, Teaching, ThePage, Until, among, told

ROOT = "/ooapi/v6"
SPECIFICATION = "https://open-education-api.github.io/specification/v6/docs.html"
OSLO = ZoneInfo("Europe/Oslo")
MOST_LOOKING = 2

router = APIRouter(prefix=ROOT, tags=["ooapi"], route_class=terms.Exchanged)


CourseId = Annotated[UUID, Path(alias="courseId"), BeforeValidator(terms.an_id)]
OfferingId = Annotated[UUID, Path(alias="courseOfferingId"), BeforeValidator(terms.an_id)]
OrganisationId = Annotated[UUID, Path(alias="organisationId"), BeforeValidator(terms.an_id)]
EXPANDS = Query(description="what to show whole, names with commas between")
CourseExpand = Annotated[
    str | None, EXPANDS, AfterValidator(among("programmes", "coordinators", "instructors", "organisation"))
]
OfferingExpand = Annotated[
    str | None, EXPANDS, AfterValidator(among("course", "programme_offering", "academic_session"))
]
OrganisationExpand = Annotated[str | None, EXPANDS, AfterValidator(among("parent", "children"))]


@dataclass(frozen=True, slots=True)
class RunsWanted:
    """The filters of a list of runs."""

    q: str
    teaching_language: str | None
    state: str | None
    mode_of_delivery: str | None
    result_expected: bool | None
    since: datetime | None
    until: datetime | None


async def wanted_runs(
    q: Search = "",
    teaching_language: Teaching = None,
    state: State = None,
    mode_of_delivery: Mode = None,
    result_expected: Annotated[bool | None, Query(alias="resultExpected")] = None,
    since: Since = None,
    until: Until = None,
) -> RunsWanted:
    return RunsWanted(q, teaching_language, state, mode_of_delivery, result_expected, since, until)


Runs = Annotated[RunsWanted, Depends(wanted_runs)]


def answered(body: BaseModel, known: str | None) -> Response:
    return tags.unless_known(body.model_dump_json(exclude_none=True).encode(), known, CACHING)


def not_found(what: str, which: object) -> Problem:
    return Problem("not-found", "Not found", 404, f"There is no {what} with the id {which}.")


def course_of(row: Row, site: str) -> Course:
    return exchange.course(row["id"], row["partner"], row["code"], json.loads(row["content"]), site)


def offering_of(row: Row, site: str) -> tuple[CourseOffering, Course]:
    about = json.loads(row["course"])
    of = exchange.course(row["course_id"], row["partner"], row["code"], about, site)
    return exchange.offering(dict(row), json.loads(row["content"]), of, about.get("price_ore", 0)), of


class Looks(asyncio.Semaphore):
    """Who may look through the texts of all courses at this moment."""


@asynccontextmanager
async def looking(running: Running, q: str) -> AsyncIterator[Connection]:
    """A connection; to look for a text, one of two at a time. Raises Busy when none is free within 2 s.

    Anybody may ask, and with 50,000 courses PostgreSQL looks for half a second: eight at a time would have all
    connections, and nobody else would be answered.
    """
    async with AsyncExitStack() as stack:
        if q:
            looks: Looks = running.kept.setdefault(Looks, Looks(MOST_LOOKING))
            try:
                async with asyncio.timeout(ACQUIRE_S):
                    await stack.enter_async_context(looks)
            except TimeoutError:
                raise Busy("others look for a text") from None
        yield await stack.enter_async_context(running.database.reading())


async def provider(conn: Connection, which: UUID) -> Row | None:
    rows = await views.providers(conn)
    return next((row for row in rows if exchange.organisation_id(row["slug"]) == which), None)


def reference(path: str) -> str:
    """A path as a URI reference, which OOAPI asks for: it may hold no brace."""
    return quote(path)


@router.get("", include_in_schema=False)
@router.get("/", response_model=exchange.Service, responses=told())
async def read_service(running: ThisService, if_none_match: IfNoneMatch = None) -> Response:
    """Who provides this, and what of OOAPI there is."""
    settings = cast(CatalogueSettings, running.settings)
    paths = [route.path.removeprefix(ROOT) for route in router.routes if isinstance(route, APIRoute)]
    body = exchange.Service(
        contactEmail=settings.contact_email,
        specification=SPECIFICATION,
        documentation=f"{settings.public_url}/ooapi/v6/",
        supportedOperations=[exchange.Operation(path=reference(path)) for path in paths if path],
        supportedExpands=[
            exchange.Expands(expandableObjects=["organisation"], path=reference("/courses/{courseId}")),
            exchange.Expands(expandableObjects=["course"], path=reference("/course-offerings/{courseOfferingId}")),
        ],
    )
    return answered(body, if_none_match)


@router.get("/courses", response_model=Courses, responses=told())
async def list_ooapi_courses(
    running: ThisService,
    page: ThePage,
    q: Search = "",
    primary_code: Annotated[str | None, Query(alias="primaryCode", max_length=60)] = None,
    teaching_language: Teaching = None,
    level: Level = None,
    mode_of_delivery: Mode = None,
    if_none_match: IfNoneMatch = None,
) -> Response:
    """The courses on offer, by name."""
    async with looking(running, q) as conn:
        return await some_courses(
            *(conn, running, page, None, q, primary_code, teaching_language, level, mode_of_delivery, if_none_match)
        )


async def some_courses(
    conn: Connection,
    running: Running,
    page: terms.Paged,
    partner: str | None,
    q: str,
    code: str | None,
    teaching_language: str | None,
    level: str | None,
    mode: str | None,
    known: str | None,
) -> Response:
    language, levels, mode = terms.spoken(teaching_language), terms.levels_of(level), terms.mode_of(mode)
    rows, total = await views.courses(conn, q, partner, code, language, levels, mode, page.size, page.offset)
    items = [course_of(row, running.settings.public_url) for row in rows]
    return answered(Courses(**page.told(total), items=items), known)


@router.get("/courses/{courseId}", response_model=Course, dependencies=[Ignored], responses=told(404))
async def read_ooapi_course(
    course_id: CourseId,
    database: Db,
    running: ThisService,
    expand: CourseExpand = None,
    timeline: Annotated[bool, Query(alias="returnTimelineOverrides", description="there are none")] = False,
    if_none_match: IfNoneMatch = None,
) -> Response:
    """One course that is on offer, or has runs that lists show. We have no programmes and no persons to expand."""
    async with database.reading() as conn:
        row = await courses.course(conn, course_id)
        if row is None or (row["withdrawn"] and not await courses.offerings(conn, course_id)):
            raise not_found("course", course_id)
        found = course_of(row, running.settings.public_url)
        if expand and "organisation" in expand.split(","):
            by = await provider(conn, found.organisationId)
            found.organisation = exchange.organisation(dict(by)) if by else None
    return answered(found, if_none_match)


@router.get("/courses/{courseId}/course-offerings", response_model=CourseOfferings, responses=told())
async def list_ooapi_offerings_of_course(
    course_id: CourseId,
    running: ThisService,
    page: ThePage,
    which: Runs,
    if_none_match: IfNoneMatch = None,
) -> Response:
    """The runs of a course, in the order of time; those that are to come, unless `since` says otherwise."""
    async with looking(running, which.q) as conn:
        return await some_offerings(conn, running, page, which, course_id, None, if_none_match)


async def some_offerings(
    conn: Connection,
    running: Running,
    page: terms.Paged,
    which: RunsWanted,
    course_id: UUID | None,
    partner: str | None,
    known: str | None,
) -> Response:
    language, state, mode = (
        terms.spoken(which.teaching_language),
        terms.state_of(which.state),
        terms.mode_of(which.mode_of_delivery),
    )
    since = which.since or datetime.combine((await views.now(conn)).astimezone(OSLO), time(), OSLO)
    if which.result_expected:  # of nothing here a result is expected
        state = "none"
    rows, total = await views.runs(
        *(conn, which.q, course_id, partner, language, state, mode, since, which.until, page.size, page.offset)
    )
    items = [offering_of(row, running.settings.public_url)[0] for row in rows]
    return answered(CourseOfferings(**page.told(total), items=items), known)


@router.get(
    "/course-offerings/{courseOfferingId}", response_model=CourseOffering, dependencies=[Ignored], responses=told(404)
)
async def read_ooapi_offering(
    offering_id: OfferingId,
    database: Db,
    running: ThisService,
    expand: OfferingExpand = None,
    if_none_match: IfNoneMatch = None,
) -> Response:
    """One run of a course. We have no programmes and no academic sessions to expand."""
    async with database.reading() as conn:
        row = await views.run(conn, offering_id)
    if row is None:
        raise not_found("course offering", offering_id)
    found, of = offering_of(row, running.settings.public_url)
    if expand and "course" in expand.split(","):
        found.course = of
    return answered(found, if_none_match)


@router.get("/organisations", response_model=Organisations, responses=told())
async def list_ooapi_organisations(
    database: Db,
    page: ThePage,
    q: Search = "",
    primary_code: Annotated[str | None, Query(alias="primaryCode", max_length=60)] = None,
    kind: Annotated[str | None, Query(alias="organisationType", max_length=40)] = None,
    if_none_match: IfNoneMatch = None,
) -> Response:
    """The providers, by name."""
    async with database.reading() as conn:
        rows = await views.providers(conn)
    found = [
        row
        for row in rows
        if q.lower() in f"{row['name']}\n{row['slug']}".lower()
        and primary_code in (None, row["slug"])
        and kind in (None, "root")
    ]
    items = [exchange.organisation(dict(row)) for row in found[page.offset : page.offset + page.size]]
    return answered(Organisations(**page.told(len(found)), items=items), if_none_match)


@router.get("/organisations/{organisationId}", response_model=Organisation, dependencies=[Ignored], responses=told(404))
async def read_ooapi_organisation(
    organisation_id: OrganisationId,
    database: Db,
    expand: OrganisationExpand = None,
    if_none_match: IfNoneMatch = None,
) -> Response:
    """One provider; none has a parent or children."""
    async with database.reading() as conn:
        row = await provider(conn, organisation_id)
    if row is None:
        raise not_found("organisation", organisation_id)
    return answered(exchange.organisation(dict(row)), if_none_match)


@router.get("/organisations/{organisationId}/courses", response_model=Courses, responses=told())
async def list_ooapi_courses_of_organisation(
    organisation_id: OrganisationId,
    running: ThisService,
    page: ThePage,
    q: Search = "",
    teaching_language: Teaching = None,
    level: Level = None,
    mode_of_delivery: Mode = None,
    if_none_match: IfNoneMatch = None,
) -> Response:
    """The courses of one provider, by name."""
    async with looking(running, q) as conn:
        row = await provider(conn, organisation_id)
        slug = row["slug"] if row else ""  # nobody's: an empty list, as OOAPI wants it
        return await some_courses(
            *(conn, running, page, slug, q, None, teaching_language, level, mode_of_delivery, if_none_match)
        )


@router.get("/organisations/{organisationId}/course-offerings", response_model=CourseOfferings, responses=told())
async def list_ooapi_offerings_of_organisation(
    organisation_id: OrganisationId,
    running: ThisService,
    page: ThePage,
    which: Runs,
    if_none_match: IfNoneMatch = None,
) -> Response:
    """The runs that one provider has to come, unless `since` says otherwise."""
    async with looking(running, which.q) as conn:
        row = await provider(conn, organisation_id)
        return await some_offerings(conn, running, page, which, None, row["slug"] if row else "", if_none_match)
