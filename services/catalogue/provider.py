"""A provider's own pages: how it goes with what it sends, its courses, and what was refused and why."""

import asyncio
import json
import re
from collections.abc import Awaitable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any, get_args
from urllib.parse import urlencode
from uuid import UUID

from fastapi import APIRouter, Depends, Query, Request
from markupsafe import Markup
from starlette.responses import Response

from contracts.fields import Language
from kit.auth import forbidden
from kit.database import Connection, Database
from kit.http import Db, ThisService
from kit.pages.languages import spoken
from kit.pages.visitors import Visiting, visiting_plainly
from kit.passes import Visitor
from kit.problems import Problem
from kit.shortway import route_class
from services.catalogue import retracting
from services.catalogue.current import current
from services.catalogue.details import Run, Shown, in_order, shown
from services.catalogue.feeds import lacking
from services.catalogue.intake import IntakeItem, Outcome, begin, page, received
from services.catalogue.kept import part_for_everybody
from services.catalogue.mending import because, in_words
from services.catalogue.quarantine import REFUSED
from services.catalogue.site import site
from services.catalogue.store import Row, partners, views
from services.catalogue.store.search import Words

SLUG = re.compile(r"[a-z0-9][a-z0-9-]{0,39}")
NEXT_FIELD = re.compile(r"; (?=[^\s:]{1,80}: )")
AND_MORE = re.compile(r" \(and [0-9]+ more\)$")
MOST_COURSES = 50
MOST_CODE = 60  # characters
MOST_ITEMS = 50
MOST_PEOPLE = 100_000
NEWEST = 5  # of what was not taken, on the first page

router = APIRouter(include_in_schema=False)


async def plainly(request: Request) -> Awaitable[Response] | None:
    """The first page for whoever is logged in. Raises Problem as the whole way does: 401, 403 for who has no pages."""
    visitor = await visiting_plainly(request)
    return None if visitor is None else read_provider(request, visitor, request.app.state.running)


first = APIRouter(include_in_schema=False, route_class=route_class(plainly))


@dataclass(frozen=True, slots=True)
class Provider:
    """The provider whose pages these are, and who looks at them: somebody of its own, or an operator."""

    visitor: Visitor
    row: Row
    by_operator: bool

    @property
    def slug(self) -> str:
        return str(self.row["slug"])

    @property
    def was_refused(self) -> bool:
        """Whether it is held up for what was refused; else by an operator, whose reason stands in its row."""
        return REFUSED.fullmatch(self.row["state_because"]) is not None

    def address(self, path: str = "", **query: object) -> str:
        """An address of these pages. Only an operator has to say whose."""
        asked = ({"tilbyder": self.slug} if self.by_operator else {}) | query
        known = {name: value for name, value in asked.items() if value not in (None, "")}
        return f"/partner{path}" + (f"?{urlencode(known)}" if known else "")


def whose(visitor: Visitor, request: Request) -> str | None:
    """The slug of whose pages the visitor sees; none for an operator who has not chosen yet.

    Raises Problem: 403 for whoever belongs to no provider or asks for another's, 404 for what can be no slug.
    """
    own, asked = visitor.caller.partner, request.query_params.get("tilbyder") or None
    is_operator = visitor.caller.role == "operator"
    slug = asked or own
    if slug is None and not is_operator:
        raise forbidden("This is for providers.")
    if slug not in (None, own) and not is_operator:
        raise forbidden("This belongs to another partner.")
    if slug is not None and not SLUG.fullmatch(slug):
        raise _unknown()
    return slug


def _provider(visitor: Visitor, row: Row | None) -> Provider:
    """Raises Problem (404) where there is none."""
    if row is None:
        raise _unknown()
    return Provider(visitor, row, by_operator=row["slug"] != visitor.caller.partner)


def _unknown() -> Problem:
    return Problem("not-found", "Not found", 404, "There is no such partner.")


async def the_provider(request: Request, visitor: Visiting, database: Db) -> Provider:
    """For pages of one provider. Raises Problem as `whose` does, and 404 for an operator who has not chosen."""
    slug = whose(visitor, request)
    if slug is None:
        raise Problem("not-found", "Not found", 404, "Say whose page it is, by ?tilbyder=SLUG.")
    async with database.reading() as conn:
        return _provider(visitor, await partners.known(conn, slug))


TheProvider = Annotated[Provider, Depends(the_provider)]


@dataclass(frozen=True, slots=True)
class Own:
    """One of a provider's courses, its runs that are not over, and the texts that readers of a language miss."""

    id: UUID
    code: str
    title: Shown | None
    withdrawn: bool
    runs: list[Run]
    lacks: dict[str, list[str]]


@dataclass(frozen=True, slots=True)
class Line:
    """One thing that came. `why` says in plain words what is wrong, `mend` how the field has to be."""

    item: IntakeItem
    why: str
    mend: list[Shown]


@dataclass(frozen=True, slots=True)
class Undecided:
    """What the provider has retracted, a whole course where `key` is none, with `people` enrolled as far as known."""

    code: str
    key: str | None
    title: Shown | None
    starts_at: datetime | None
    reason: str
    asked_at: datetime
    people: int

    @classmethod
    def of(cls, one: dict[str, Any], language: str) -> "Undecided":
        known = {name: one[name] for name in ("code", "key", "starts_at", "reason", "asked_at", "people")}
        return cls(**known, title=shown(one, "title", language))


@dataclass(frozen=True, slots=True)
class OnHold:
    """A run that `enrolled` had a seat in on its day, fewer than it needs. `people` are there now, as far as known."""

    code: str
    key: str
    title: Shown | None
    starts_at: datetime
    enrolled: int
    minimum: int
    people: int

    @classmethod
    def of(cls, row: Row, language: str) -> "OnHold":
        known = {name: row[name] for name in ("code", "key", "starts_at", "enrolled", "minimum", "people")}
        return cls(**known, title=shown({"title": json.loads(row["title"])}, "title", language))


async def own_courses(conn: Connection, partner: str, after: str, language: str) -> tuple[list[Own], str | None]:
    """One page of a provider's courses by code, and the code that the next begins behind."""
    rows = await views.own(conn, partner, after, MOST_COURSES + 1)
    page = rows[:MOST_COURSES]
    by_course: dict[UUID, list[Run]] = {}
    runs = await views.runs_of(conn, [row["id"] for row in page])
    for run in in_order(Run.of(row, row, row["now"]) for row in runs):
        by_course.setdefault(run.course_id, []).append(run)
    found = []
    for row in page:
        looked_for = [one for one in get_args(Language) if one in row["languages"]]
        lacks = {} if row["withdrawn"] else {name: some for name, some in lacking(row, looked_for).items() if some}
        title = shown({"title": json.loads(row["title"])}, "title", language)
        found.append(Own(row["id"], row["code"], title, row["withdrawn"], by_course.get(row["id"], []), lacks))
    return found, page[-1]["code"] if len(rows) > MOST_COURSES else None


async def list_courses(database: Database, provider: Provider, after: str, language: str) -> Markup:
    """The part of the first page that tells of the courses behind the code `after`."""
    async with database.reading() as conn:
        courses, further = await own_courses(conn, provider.slug, after, language)
    on = provider.address(etter=further) if further else ""
    return site().part("provider_courses.html", language, provider=provider, courses=courses, further=on, after=after)


def line(one: IntakeItem, language: str) -> Line:
    if one.outcome == "taken":
        return Line(one, "", [])
    rules = [part.partition(": ")[2] for part in NEXT_FIELD.split(AND_MORE.sub("", one.detail or ""))]
    mend = [said for rule in rules if (said := in_words(rule, language)).language != "en" or language == "en"]
    return Line(one, because(one.reason, language), mend)


@first.get("/partner")
async def read_provider(
    request: Request,
    visitor: Visiting,
    running: ThisService,
    etter: str = "",
    avgjort: str = "",
    antall: Annotated[int, Query(ge=0, le=MOST_PEOPLE)] = 0,
) -> Response:
    """How it goes: the provider's state, what it has to decide, what came in, and its courses.

    An operator chooses a provider first. After a decision `avgjort` is what was done, and `antall` how many are told.
    """
    language = spoken(request)
    slug = whose(visitor, request)
    if slug is None:
        async with running.database.reading() as conn:
            listed = await partners.partners(conn)
        return site().page(request, "providers.html", visitor=visitor, providers=listed)
    came, _ = await asyncio.gather(running.together(received).submit(slug), current(running).index(Words()))
    if came is None:
        raise _unknown()
    found = _provider(visitor, came.partner)
    refused: list[IntakeItem] = []
    undecided: Sequence[dict[str, Any]] = ()
    on_hold: Sequence[Row] = ()
    if came.was_refused or came.may_decide:
        async with running.database.reading() as conn:
            if came.was_refused:
                refused, _ = await page(conn, found.slug, "refused", None, NEWEST)
            if came.may_decide:
                undecided = await retracting.waiting(conn, found.slug)
                on_hold = await views.on_hold(conn, found.slug, retracting.MOST_WAITING)
    after = etter[:MOST_CODE]
    key = (language, f"{found.slug} {found.address(etter=after)}")  # a provider's own address does not name it
    courses = await part_for_everybody(running, key, lambda: list_courses(running.database, found, after, language))
    return site().page(
        request,
        "provider.html",
        visitor=visitor,
        provider=found,
        contact=running.settings.contact_email,  # type: ignore[attr-defined]  # the catalogue's own
        ways=came.ways,
        waiting=came.waiting,
        refused=[line(one, language) for one in refused],
        undecided=[Undecided.of(one, language) for one in undecided],
        on_hold=[OnHold.of(one, language) for one in on_hold],
        decided=avgjort,
        told=antall,
        courses=courses,
    )


@router.get("/partner/mottak")
async def read_intake_page(
    request: Request, provider: TheProvider, database: Db, vis: str = "", fra: str = ""
) -> Response:
    """Everything that came from the provider and what became of it, newest first, a page at a time."""
    outcome: Outcome | None = next((one for one in get_args(Outcome) if one == vis), None)
    async with database.reading() as conn:
        items, further = await page(conn, provider.slug, outcome, begin(fra or None), MOST_ITEMS)
    return site().page(
        request,
        "intake.html",
        visitor=provider.visitor,
        provider=provider,
        outcome=outcome,
        lines=[line(one, spoken(request)) for one in items],
        further=provider.address("/mottak", vis=outcome, fra=further) if further else "",
        first=provider.address("/mottak", vis=outcome) if fra else "",
    )
