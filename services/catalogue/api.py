"""What partners write and everybody reads over HTTP."""

import json
from collections.abc import Awaitable, Callable
from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Header, Query, Response
from pydantic import BaseModel

from contracts.fields import Code
from contracts.partner import CourseText, OfferingDates
from kit import idempotency, openapi, problems, tags
from kit.bodies import Whole
from kit.database import Connection, Database
from kit.http import Db, ThisService
from kit.idempotency import Answer, Asked
from kit.partners import Partner, Repeatable
from kit.problems import Problem
from kit.tags import IfMatch
from services.catalogue import commands, linked
from services.catalogue.answers import (
    CourseShown,
    CourseTaken,
    OfferingOfCourse,
    OfferingTaken,
    Seats,
)
from services.catalogue.commands import ONLY_NEW, Published, Wanted
from services.catalogue.domain import Rule, eqf
from services.catalogue.languages import (
    AcceptLanguage,
    TextLanguage,
    languages_of,
    mixes_scripts,
    texts_in,
    wanted,
)
from services.catalogue.retracting import PeopleEnrolled
from services.catalogue.store import Row, courses, intake, partners, views

BASE = "/api/catalogue/v1"
MOST_LISTED = 100

router = APIRouter(prefix=BASE, tags=["catalogue"])

OnlyNew = Annotated[str | None, Header(description="`*`: make it, and change nothing; 412 when there is one.")]
Limit = Annotated[int, Query(ge=1, le=MOST_LISTED)]
STATUSES = {
    "unknown_partner": 404,
    "unknown_course": 404,
    "unknown_offering": 404,
    "course_withdrawn": 409,
    "offering_cancelled": 409,
    "offering_over": 409,
    "offering_begun": 409,
    "nothing_waits": 409,
}


def refused(rule: Rule) -> Problem:
    """A broken rule as an answer."""
    if rule.code == "stale":
        errors = [{"field": rule.field, "detail": rule.text}]
        return Problem("precondition-failed", "It has changed since you read it", 412, str(rule), errors=errors)
    if isinstance(rule, PeopleEnrolled):
        errors = [{"field": rule.field, "detail": rule.text}]
        return Problem("people-enrolled", "People are enrolled", 409, str(rule), errors=errors, people=rule.people)
    code = STATUSES.get(rule.code, 422)
    slug = {404: "not-found", 409: "conflict", 422: "invalid"}[code]
    title = {404: "Not found", 409: "Conflict", 422: "The request is not valid"}[code]
    return Problem(slug, title, code, str(rule), errors=[{"field": rule.field, "detail": rule.text}])


def version_of(if_match: str | None, if_none_match: str | None = None) -> Wanted:
    """The versions of which one must be there; what is none of ours matches nothing. Raises Problem (422)."""
    if if_none_match is not None:
        if if_none_match.strip() != "*":
            raise problems.invalid([{"loc": ("header", "if-none-match"), "msg": "must be *, for what must be new"}])
        return ONLY_NEW if if_match is None else frozenset()
    if if_match is None or if_match.strip() == "*":
        return None if if_match is None else "*"
    numbers = [tag.strip().removeprefix("W/").strip('"') for tag in if_match.split(",")]
    return frozenset(int(one) for one in numbers if one.isdecimal() and len(one) < 10 and one[0] != "0")


async def done(
    database: Database,
    asked: Asked | None,
    name: str,
    note: tuple[str, str, str, str | None],
    command: Callable[[Connection], Awaitable[Published]],
) -> Response:
    """The command's effect and its note in the intake, once, as an answer. Raises Problem for a broken rule."""
    partner, what, code, key = note

    async def work(conn: Connection) -> Response:
        async def effect() -> Answer:
            published = await command(conn)
            await intake.note_intake(conn, partner, "http", what, code, key)
            headers = {
                "etag": f'"{published.version}"',
                "location": f"{BASE}/{name.removesuffix('_id')}s/{published.id}",
            }
            body = {name: str(published.id), "version": published.version}
            return Answer(body, 201 if published.created else 200, headers)

        return await idempotency.once(conn, asked, effect)

    try:
        return await database.run(work)
    except Rule as rule:
        raise refused(rule) from None


def writes(taken: type[BaseModel]) -> dict[str, Any]:
    """What every PUT of a partner tells of its answers."""
    made = {201: {"model": taken, "description": "It is new."}}
    return {"response_model": taken, "responses": {**made, **openapi.problems(403, 404, 409, 412)}}


@router.put("/partners/{partner}/courses/{code}", **writes(CourseTaken))
async def put_course(
    code: Code,
    course: Annotated[CourseText, Whole()],
    partner: Partner,
    database: Db,
    asked: Repeatable,
    if_match: IfMatch = None,
    if_none_match: OnlyNew = None,
) -> Response:
    """Make or change a course; the same again changes nothing."""
    version = version_of(if_match, if_none_match)
    return await done(
        database,
        asked,
        "course_id",
        (partner, "CoursePublished", code, None),
        lambda conn: commands.publish_course(conn, partner, code, course, version),
    )


@router.put("/partners/{partner}/courses/{code}/offerings/{key}", **writes(OfferingTaken))
async def put_offering(
    code: Code,
    key: Code,
    dates: Annotated[OfferingDates, Whole()],
    partner: Partner,
    database: Db,
    asked: Repeatable,
    if_match: IfMatch = None,
    if_none_match: OnlyNew = None,
) -> Response:
    """Schedule or change a run of a course; the same again changes nothing."""
    version = version_of(if_match, if_none_match)
    return await done(
        database,
        asked,
        "offering_id",
        (partner, "OfferingPublished", code, key),
        lambda conn: commands.publish_offering(conn, partner, code, key, dates, version),
    )


@router.get(
    "/courses/{course_id}",
    response_model=CourseShown,
    responses={200: {"content": {linked.KIND: {"schema": {"type": "object"}}}}, **openapi.problems(404)},
)
async def read_course(
    course_id: UUID,
    database: Db,
    running: ThisService,
    response: Response,
    language: TextLanguage = None,
    accept: Annotated[str, Header(description="application/ld+json: the course as schema.org has it")] = "",
    accept_language: AcceptLanguage = None,
) -> Any:
    """One course with its offerings."""
    async with database.reading() as conn:
        row = await courses.course(conn, course_id)
        runs = await courses.offerings(conn, course_id)
        owner = await partners.known(conn, row["partner"]) if row else None
        now = await views.now(conn)
        counted = await intake.seats(conn, [run["id"] for run in runs])
    if row is None or owner is None:
        raise Problem("not-found", "Not found", 404, "There is no such course.")
    shown_in = wanted(language, accept_language)
    response.headers["vary"] = "accept, accept-language"
    if linked.KIND in accept.lower():
        body, texts = linked.course(row, runs, owner["name"], shown_in, running.settings.public_url, now)
        headers = {"vary": "accept, accept-language", "content-language": languages_of(texts), "etag": tags.tag(body)}
        return Response(body, headers=headers, media_type=linked.KIND)
    content = json.loads(row["content"])
    texts = texts_in(content, shown_in)
    response.headers["content-language"] = languages_of(texts)
    response.headers["etag"] = f'"{row["version"]}"'
    return {
        "course_id": row["id"],
        "partner": row["partner"],
        "code": row["code"],
        "version": row["version"],
        "withdrawn": row["withdrawn"],
        **content,
        "eqf": eqf(content.get("level")),
        "mixed_scripts": [language for language, text in content["title"].items() if mixes_scripts(text)],
        "text": texts,
        "offerings": [shown(run, counted.get(run["id"])) for run in runs],
    }


@router.get("/offerings/{offering_id}", response_model=OfferingOfCourse, responses=openapi.problems(404))
async def read_offering(offering_id: UUID, database: Db, response: Response) -> dict[str, Any]:
    """One run of a course."""
    async with database.reading() as conn:
        row = await courses.offering(conn, offering_id)
        counted = await intake.seats(conn, [offering_id])
    if row is None:
        raise Problem("not-found", "Not found", 404, "There is no such offering.")
    response.headers["etag"] = f'"{row["version"]}"'
    return {
        **shown(row, counted.get(offering_id)),
        "course_id": row["course_id"],
        "partner": row["partner"],
        "code": row["code"],
    }


def shown(row: Row, counted: Row | None) -> dict[str, Any]:
    about = {"offering_id": row["id"], "key": row["key"], "version": row["version"], "state": row["state"]}
    found = {name: row[name] for name in ("decision", "enrolled", "minimum", "decided_at")}
    return {
        **about,
        **json.loads(row["content"]),
        "judgement": found if row["decision"] else {},
        "seats": Seats.of(counted),
    }
