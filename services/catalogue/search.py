"""How courses are found: `GET /courses` with words, filters, counts of each kind, and pages that hold still."""

import base64
import json
import re
from collections.abc import Awaitable, Iterator
from dataclasses import dataclass
from datetime import date, datetime, time
from itertools import islice
from typing import Annotated, Any, Literal
from urllib.parse import urlencode
from uuid import UUID
from zoneinfo import ZoneInfo

from fastapi import APIRouter, Query, Request, Response
from pydantic import AfterValidator, AwareDatetime, BaseModel, BeforeValidator, Field, ValidationError, WithJsonSchema

from contracts.fields import Language, NkrLevel, Slug, in_utc, is_written_out
from kit.http import ThisService
from kit.problems import Problem
from kit.running import Running
from kit.shortway import route_class
from kit.tags import IfNoneMatch
from services.catalogue.current import Version, current
from services.catalogue.index import Index, Wanted
from services.catalogue.kept import for_everybody
from services.catalogue.languages import MOST_LANGUAGES, AcceptLanguage, Text
from services.catalogue.languages import wanted as in_which
from services.catalogue.postings import NOWHERE, Bits, Places
from services.catalogue.site import names
from services.catalogue.spelling import named_in, place_names, words_of

BASE = "/api/catalogue/v1"
MOST_LISTED = 100
OSLO = ZoneInfo("Europe/Oslo")
NOT_SENT: dict[int | str, Any] = {304: {"description": "It is as `If-None-Match` says."}}

Sort = Literal["relevance", "title", "start"]


def a_moment(value: object) -> object:
    """A date is the beginning of that day in Norway. A `+` in an address came as a space: that of a zone is meant."""
    if isinstance(value, str):
        value = re.sub(r"^(.{10}[Tt ].+) ([0-9]{2}:[0-9]{2})$", r"\1+\2", value)
    if isinstance(value, str) and re.fullmatch(r"[0-9]{4}-[0-9]{2}-[0-9]{2}", value):
        return datetime.combine(date.fromisoformat(value), time(), OSLO)
    return is_written_out(value)


MOMENT = WithJsonSchema({"anyOf": [{"type": "string", "format": form} for form in ("date-time", "date")]})
Moment = Annotated[AwareDatetime, BeforeValidator(a_moment), AfterValidator(in_utc), MOMENT]


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


class Asked(BaseModel):
    q: Annotated[str, Field(max_length=200, description='words; "a phrase", -without, this or that')] = ""
    partner: Slug | None = None
    subject: Slug | None = None
    arena: Annotated[Slug | None, Field(description="where a run to come can be attended")] = None
    level: Annotated[NkrLevel | None, Field(description="of the Norwegian framework of qualifications")] = None
    language: Annotated[Language | None, Field(description="that the course is held in")] = None
    starts_after: Annotated[Moment | None, Field(description="a run starts then or later, be it begun")] = None
    free: Annotated[
        bool, Field(description="a run to come has a free seat, as far as is known, and one may ask for it now")
    ] = False
    withdrawn: Annotated[bool, Field(description="also show what is no longer offered")] = False
    sort: Annotated[Sort | None, Field(description="left out: relevance when there is a q, else title")] = None
    facets: Annotated[bool, Field(description="also count the courses of each kind")] = False
    # A title of 200 letters, of 4 bytes each, with its id; base64 makes 4 characters of 3 bytes.
    after: Annotated[str | None, Field(max_length=1200, description="from the Link of the page before")] = None
    limit: Annotated[int, Field(ge=1, le=MOST_LISTED)] = 20


def cursor(*place: str) -> str:
    """Where a page ends, as a text that says nothing to its reader."""
    return base64.urlsafe_b64encode(json.dumps(place, ensure_ascii=False).encode()).decode().rstrip("=")


def place_of(after: str, sort: Sort) -> tuple[str, UUID]:
    """What `cursor` was made of: a key and an id. Raises Problem (400) for anything else."""
    try:
        kind, key, last = json.loads(base64.urlsafe_b64decode(after + "=" * (-len(after) % 4)))
        key.encode()
        if kind != sort or "\0" in key or (sort == "relevance" and key not in ("0", "1", "2")):
            raise ValueError
        if sort == "start":
            in_utc(datetime.fromisoformat(key))
        return key, UUID(last)
    except (ValueError, TypeError, AttributeError):
        words = "is not where a page of this list ends: follow the address in `Link`"
        wrong = [{"field": "query after", "detail": words}]
        detail = f"query after {words}."
        raise Problem("malformed-request", "The request is malformed", 400, detail, errors=wrong) from None


def page_of(
    index: Index, wanted: Wanted, where: Places, whole: bool, sort: Sort, after: str | None, limit: int
) -> tuple[list[int], str | None]:
    """The slots of one page, and where the next begins; none when this is the last.

    `whole`: with what was looked for left out of a text, where it stands elsewhere says nothing.
    """
    place = place_of(after, sort) if after is not None else None
    fitting = index.fitting(wanted)
    last = (place[0], str(place[1])) if place else None
    found: Iterator[tuple[str, tuple[Any, str, int]]]
    if sort == "title":
        found = ((entry[0], entry) for entry in index.by_title(fitting & where.all, last))
    elif sort == "start":
        since = (datetime.fromisoformat(place[0]), str(place[1])) if place else None
        starts = index.by_start(fitting & where.all, since, wanted)
        found = ((entry[0].isoformat(), entry) for entry in starts)
    else:
        enough = fitting & where.all if whole else fitting
        parts = (enough & where.title, enough & where.brief - where.title, fitting & where.all - where.brief)
        found = (
            (str(number), entry)
            for number, part in enumerate(parts)
            if not place or number >= int(place[0])
            for entry in index.by_id(part, ("", str(place[1])) if place and str(number) == place[0] else None)
        )
    page = list(islice(found, limit + 1))
    slots = [entry[2] for _, entry in page]
    if len(page) <= limit:
        return slots, None
    key, (_, course_id, _) = page[limit - 1]
    return slots[:limit], cursor(sort, key, course_id)


@dataclass(frozen=True, slots=True)
class Found:
    """One page of a search, all of it of one moment. `after` is where the next begins, none when it is the last.

    `version`: of the courses before anything of it was read.
    """

    index: Index
    version: Version
    wanted: Wanted
    by_words: Bits
    sort: Sort
    slots: list[int]
    after: str | None

    @property
    def total(self) -> int:
        """How many there are on all pages."""
        return self.index.count(self.wanted, self.by_words, with_a_run=self.sort == "start")

    @property
    def counts(self) -> dict[str, list[dict[str, Any]]]:
        """How many there would be with each value of a kind: {kind: [{value, courses}]}, most first."""
        return self.index.counts(self.wanted, self.by_words, with_a_run=self.sort == "start")


async def find(running: Running, asked: Asked) -> Found:
    """What is asked for. Raises Problem (400) for an `after` that is none of ours."""
    words = words_of(asked.q)
    wanted = Wanted(
        asked.partner,
        asked.subject,
        asked.level,
        asked.language,
        asked.withdrawn,
        asked.arena,
        asked.starts_after,
        asked.free,
    )
    order: Sort = asked.sort or ("relevance" if words else "title")
    if order == "relevance" and not words:
        order = "title"
    kept = current(running)
    index, query = await kept.index(words)
    version = kept.version
    where = NOWHERE if asked.q.strip() else index.everywhere  # signs alone are in no text, and are not nothing
    if words:
        where = (await kept.where(query, index)).either(await _named(running, index, wanted, asked.q))
    # From here on nothing is waited for, so that all of an answer is of the same moment.
    slots, after = page_of(index, wanted, where, bool(words.without), order, asked.after, asked.limit)
    return Found(index, version, wanted, where.all, order, slots, after)


async def _named(running: Running, index: Index, wanted: Wanted, q: str) -> Places:
    """Where a place or a provider is named in a search: those of its courses in whose texts all else stands."""
    kept, providers = current(running), await names(running)
    called = [*providers.items(), *((slug, slug.replace("-", " ")) for slug in providers)]
    found = NOWHERE
    for named, its in (
        (named_in(q, place_names(index.arenas)), lambda arena: index.attended_at(arena, wanted)),
        (named_in(q, called), index.offered_by),
    ):
        if named:
            what, rest = named
            words = words_of(rest)
            beside = await kept.where((await kept.index(words))[1], index) if words else index.everywhere
            bits = its(what)
            found = found.either(beside.both(Places(bits, bits, bits)))
    return found


async def plainly(request: Request) -> Awaitable[Response] | None:
    """`list_courses` called with what a request that is plainly in order asks; none for any other request."""
    query, languages = request.query_params, request.headers.get("accept-language")
    if len(query.multi_items()) > len(query) or not query.keys() <= Asked.model_fields.keys():
        return None
    if languages is not None and len(languages) > MOST_LANGUAGES:
        return None
    try:
        asked = Asked.model_validate(dict(query))
    except ValidationError:
        return None
    running = request.app.state.running
    return list_courses(request, running, asked, languages, request.headers.get("if-none-match"))


router = APIRouter(prefix=BASE, tags=["catalogue"], route_class=route_class(plainly))


@router.get("/courses", response_model=CoursesFound, response_model_exclude_none=True, responses=NOT_SENT)
async def list_courses(
    request: Request,
    running: ThisService,
    asked: Annotated[Asked, Query()],
    accept_language: AcceptLanguage = None,
    if_none_match: IfNoneMatch = None,
) -> Response:
    """Courses that are offered, a page at a time; `Link` with rel="next" leads to the next."""
    # `if_none_match` stands above to be described and checked; `for_everybody` looks at it in the request.
    shown_in = in_which(None, accept_language)
    return await for_everybody(request, running, shown_in, lambda: _listed(request, running, asked, shown_in))


async def _listed(request: Request, running: Running, asked: Asked, shown_in: str) -> tuple[Response, Version]:
    found = await find(running, asked)
    index, wanted = found.index, found.wanted
    items = ", ".join(index.json(slot, shown_in, wanted) for slot in found.slots)
    counted = f', "facets": {json.dumps(found.counts)}' if asked.facets else ""
    answer = f'{{"items": [{items}]{counted}}}'.encode()
    response = Response(answer, media_type="application/json", headers={"vary": "accept-language"})
    if found.after:
        following = {**request.query_params, "after": found.after}
        response.headers["link"] = f'<{BASE}/courses?{urlencode(following)}>; rel="next"'
    return response, found.version
