"""How courses are found: `GET /courses` with words, filters, counts of each kind, and pages that hold still."""

import base64
import json
import re
from datetime import date, datetime, time
from typing import Annotated, Any, Literal
from urllib.parse import urlencode
from uuid import UUID
from zoneinfo import ZoneInfo

from fastapi import APIRouter, Query, Request, Response
from pydantic import AfterValidator, AwareDatetime, BaseModel, BeforeValidator, WithJsonSchema

from contracts.fields import Language, NkrLevel, Slug, in_utc, is_written_out
from kit import tags
from kit.database import Connection
from kit.http import Db
from kit.problems import Problem
from kit.tags import IfNoneMatch
from services.catalogue.domain import eqf
from services.catalogue.languages import AcceptLanguage, Text, in_language, wanted
from services.catalogue.store import Row, search
from services.catalogue.store.search import PLACES, Wanted

BASE = "/api/catalogue/v1"
MOST_LISTED = 100
OSLO = ZoneInfo("Europe/Oslo")
CACHING = "public, no-cache"  # anybody may keep it, and asks each time whether it still holds
NOT_SENT: dict[int | str, Any] = {304: {"description": "It is as `If-None-Match` says."}}

router = APIRouter(prefix=BASE, tags=["catalogue"])

TOKEN = re.compile(r'(-?)"([^"]*)"?|(\S+)')
TYPED = re.compile(r"[\w.-]*\w[\w.-]*")
Sort = Literal["relevance", "title", "start"]


def a_moment(value: object) -> object:
    """A date is the beginning of that day in Norway."""
    if isinstance(value, str) and re.fullmatch(r"[0-9]{4}-[0-9]{2}-[0-9]{2}", value):
        return datetime.combine(date.fromisoformat(value), time(), OSLO)
    return is_written_out(value)


Moment = Annotated[
    AwareDatetime,
    BeforeValidator(a_moment),
    AfterValidator(in_utc),
    WithJsonSchema({"anyOf": [{"type": "string", "format": form} for form in ("date-time", "date")]}),
]


class Heading(BaseModel):
    """A course's title and summary in the language asked for, or the next best of each."""

    title: Text
    summary: Text | None


class CourseFound(BaseModel):
    """`starts_at` and `arenas` are of its runs to come (with `starts_after`: from then on); none when it has none."""

    course_id: UUID
    partner: str
    code: str
    title: dict[str, str]
    text: Heading
    subjects: list[str]
    level: str | None
    eqf: int | None
    language: str
    studiepoeng: str | None
    price_ore: int
    starts_at: datetime | None
    arenas: list[str]


class Count(BaseModel):
    """How many courses there would be with this value, all other conditions as they are."""

    value: str
    courses: int


class Facets(BaseModel):
    subject: list[Count] = []
    arena: list[Count] = []
    level: list[Count] = []
    partner: list[Count] = []
    language: list[Count] = []


class CoursesFound(BaseModel):
    items: list[CourseFound]
    facets: Facets | None = None


def words_of(q: str) -> tuple[list[str], list[str], str]:
    """(what must be there, what must not, what is being typed) of a search as people write it.

    `-word` and `-"a phrase"` leave out, `"a phrase"` keeps words together, `a or b` takes either. The last word may be
    half typed, when it is a plain one.
    """
    parts: list[str] = []
    without: list[str] = []
    typed = ""
    either = False
    for minus, phrase, word in TOKEN.findall(q):
        typed = ""
        if not word:
            (without if minus else parts).append(f'"{phrase}"')
        elif word.startswith("-"):
            without.append(word[1:])
        elif word.lower() == "or" and parts:
            either = True
            continue
        elif either:
            parts[-1] += f" or {word}"
        else:
            parts.append(word)
            typed = word.lower() if TYPED.fullmatch(word) else ""
        either = False
    return parts[:-1] if typed else parts, [one for one in without if one], typed


def cursor(*place: str) -> str:
    """Where a page ends, as a text that says nothing to its reader."""
    return base64.urlsafe_b64encode(json.dumps(place).encode()).decode().rstrip("=")


def place_of(after: str, sort: Sort) -> tuple[str, UUID]:
    """What `cursor` was made of: a key and an id. Raises Problem (400) for anything else."""
    try:
        kind, key, last = json.loads(base64.urlsafe_b64decode(after + "=" * (-len(after) % 4)))
        key.encode()
        if kind != sort or "\0" in key or (sort == "relevance" and key not in map(str, range(len(PLACES)))):
            raise ValueError
        if sort == "start":
            in_utc(datetime.fromisoformat(key))
        return key, UUID(last)
    except (ValueError, TypeError, AttributeError):
        words = "is not where a page of this list ends: follow the address in `Link`"
        wrong = [{"field": "query after", "detail": words}]
        detail = f"query after {words}."
        raise Problem("malformed-request", "The request is malformed", 400, detail, errors=wrong) from None


async def page_of(
    conn: Connection, looked_for: Wanted, sort: Sort, after: str | None, limit: int
) -> tuple[list[Row], str | None]:
    """The courses of one page, and where the next begins; none when this is the last."""
    place = place_of(after, sort) if after is not None else None
    if sort == "title":
        rows = await search.by_title(conn, looked_for, place, limit + 1)
        keys = [row["title_order"] for row in rows]
    elif sort == "start":
        since = (datetime.fromisoformat(place[0]), place[1]) if place else None
        rows = await search.by_start(conn, looked_for, since, limit + 1)
        keys = [row["starts_at"].isoformat() for row in rows]
    else:
        rows, keys = [], []
        for where in range(int(place[0]) if place else 0, len(PLACES)):
            last = place[1] if place and str(where) == place[0] else None
            more = await search.by_words(conn, looked_for, where, last, limit + 1 - len(rows))
            rows += more
            keys += [str(where)] * len(more)
            if len(rows) > limit:
                break
    if len(rows) <= limit:
        return rows, None
    return rows[:limit], cursor(sort, keys[limit - 1], str(rows[limit - 1]["id"]))


@router.get("/courses", response_model=CoursesFound, response_model_exclude_none=True, responses=NOT_SENT)
async def list_courses(
    request: Request,
    database: Db,
    q: Annotated[str, Query(max_length=200, description='words; "a phrase", -without, this or that')] = "",
    partner: Slug | None = None,
    subject: Slug | None = None,
    arena: Annotated[Slug | None, Query(description="where a run to come can be attended")] = None,
    level: Annotated[NkrLevel | None, Query(description="of the Norwegian framework of qualifications")] = None,
    language: Annotated[Language | None, Query(description="that the course is held in")] = None,
    starts_after: Annotated[Moment | None, Query(description="a run starts then or later, be it begun")] = None,
    free: Annotated[bool, Query(description="a run to come has a free seat, as far as is known")] = False,
    withdrawn: Annotated[bool, Query(description="also show what is no longer offered")] = False,
    sort: Annotated[Sort | None, Query(description="left out: relevance when there is a q, else title")] = None,
    facets: Annotated[bool, Query(description="also count the courses of each kind")] = False,
    after: Annotated[str | None, Query(max_length=1000, description="from the Link of the page before")] = None,
    limit: Annotated[int, Query(ge=1, le=MOST_LISTED)] = 20,
    accept_language: AcceptLanguage = None,
    if_none_match: IfNoneMatch = None,
) -> Response:
    """Courses that are offered, a page at a time; `Link` with rel="next" leads to the next."""
    words, without, typed = words_of(q)
    looked_for = Wanted(
        partner,
        subject,
        level,
        language,
        withdrawn,
        arena,
        starts_after,
        free,
        words=words,
        without=without,
        typed=typed,
    )
    order: Sort = sort or ("relevance" if looked_for.by_words else "title")
    if order == "relevance" and not looked_for.by_words:
        order = "title"
    async with database.reading() as conn:
        rows, next_page = await page_of(conn, looked_for, order, after, limit)
        counted = await search.counts(conn, looked_for) if facets else []
    shown_in = wanted(None, accept_language)
    answer: dict[str, Any] = {"items": [found(row, shown_in) for row in rows]}
    if facets:
        answer["facets"] = {
            kind: [{"value": one["value"], "courses": one["courses"]} for one in counted if one["kind"] == kind]
            for kind in Facets.model_fields
        }
    response = tags.unless_known(json.dumps(answer, ensure_ascii=False).encode(), if_none_match, CACHING)
    response.headers["vary"] = "accept-language"
    if next_page:
        query = {**request.query_params, "after": next_page}
        response.headers["link"] = f'<{BASE}/courses?{urlencode(query)}>; rel="next"'
    return response


def found(row: Row, shown_in: str) -> dict[str, Any]:
    """One course of a list as JSON."""
    title = json.loads(row["title"])
    heading = in_language(title, shown_in)
    summary = in_language(json.loads(row["summary"] or "{}"), shown_in)
    return {
        "course_id": str(row["id"]),
        "partner": row["partner"],
        "code": row["code"],
        "title": title,
        "text": {"title": heading and heading.model_dump(), "summary": summary and summary.model_dump()},
        "subjects": row["subjects"],
        "level": row["level"],
        "eqf": eqf(row["level"]),
        "language": row["language"],
        "studiepoeng": row["studiepoeng"],
        "price_ore": row["price_ore"] or 0,
        "starts_at": row["starts_at"] and row["starts_at"].isoformat().replace("+00:00", "Z"),
        "arenas": row["arenas"] or [],
    }
