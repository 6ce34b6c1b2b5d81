"""The page of one course: what it is, its runs in words, and how many seats are known to be free."""

import json
from collections.abc import Awaitable, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from typing import Any
from uuid import UUID

from fastapi import APIRouter, Request
from markupsafe import Markup
from starlette.responses import Response

from contracts.fields import OfferingRules
from contracts.partner import CourseText, OfferingDates
from kit.http import ThisService
from kit.pages.languages import pick, spoken
from kit.problems import Problem
from kit.shortway import route_class
from services.catalogue import linked
from services.catalogue.answers import SeatCount, Seats
from services.catalogue.current import Version, current
from services.catalogue.domain import is_open
from services.catalogue.kept import for_everybody
from services.catalogue.languages import mixes_scripts
from services.catalogue.site import site
from services.catalogue.store import Row, courses, intake, partners, views
from services.catalogue.store.search import Words

MOST_DATES = 1_000  # of some 3 KB
MOST_LIVE = 3  # runs whose seats are followed: a browser opens six connections to one host, and a page needs some
# What was stored before a course could say it, means the same as when it is left out.
UNSAID: Mapping[str, Any] = {
    name: one.get_default(call_default_factory=True) for name, one in CourseText.model_fields.items()
}


async def plainly(request: Request) -> Awaitable[Response]:
    """The page of a request; there is none that has to go the whole way."""
    return read_course_page(request.path_params["course_id"], request, request.app.state.running)


router = APIRouter(include_in_schema=False, route_class=route_class(plainly))


@dataclass(frozen=True, slots=True)
class Shown:
    """A text, and the language that it is in."""

    text: str
    language: str


@dataclass(frozen=True, slots=True)
class At:
    """One place of a run. `free` and `queued` are none until enrolment has spoken of them."""

    arena: str
    capacity: int
    free: int | None
    queued: int


@dataclass(frozen=True, slots=True)
class Run:
    """A run as its page tells it. `state`: cancelled, begun, full or open, as far as is known; `until`: one may still
    ask for a seat of what has begun. `shut`: nobody may ask at this hour, and then `opens_at` is when the first may."""

    id: UUID
    course_id: UUID
    dates: OfferingDates
    decision: str | None
    enrolled: int | None
    places: list[At]
    as_of: datetime | None
    state: str
    until: datetime | None
    shut: bool
    opens_at: datetime | None

    @property
    def can_ask(self) -> bool:
        return self.state in ("open", "full") or (self.state == "begun" and self.until is not None)

    @property
    def in_line(self) -> int:
        return sum(one.queued for one in self.places)

    @classmethod
    def of(cls, row: Row, counted: Row | None, now: datetime) -> "Run | None":
        """None when it is over."""
        dates = dates_of(row["content"])
        if dates.ends_at <= now:
            return None
        seats = Seats.of(counted)
        known = {one.arena: one for one in seats.places} if seats else {}
        was_full = all(one.taken >= one.capacity for one in known.values())
        places = []
        for place in dates.places:
            one = known.get(place.arena)
            free = _free(place.capacity, one, was_full)
            places.append(At(place.arena, place.capacity, free, one.queued if one else 0))
        late = dates.late_enrolment_until
        until = late if late is not None and late > now else None
        if row["state"] == "cancelled":
            state = "cancelled"
        elif dates.starts_at <= now:
            state = "begun"
        else:
            state = "full" if all(one.free == 0 for one in places) else "open"
        as_of = seats.as_of if seats else None
        about = (row["id"], row["course_id"], dates, row["decision"], row["enrolled"])
        shut = not is_open(((one.opens_at, one.closes_at) for one in dates.periods), now)
        opens_at = min((one.opens_at for one in dates.periods if one.opens_at > now), default=None)
        return cls(*about, places, as_of, state, until, shut, opens_at)


def _free(capacity: int, known: SeatCount | None, was_full: bool) -> int | None:
    """How many seats are free, as far as is known.

    What has come since a place was full is offered to who stands in line there, and how many do is not said. Where the
    whole run was full (`was_full`), enrolment says so once a seat is left over; where it was not, nobody knows.
    """
    if known is None:
        return None if capacity else 0
    if capacity > known.capacity and known.taken >= known.capacity:
        return 0 if was_full else None
    return max(capacity - known.taken, 0)


@lru_cache(maxsize=MOST_DATES)
def dates_of(content: str) -> OfferingDates:
    """What is stored of a run, read. The same text reads the same, and the page of a partner has many."""
    # What was stored before there were rules lacks them, which means that they are as when left out.
    return OfferingDates.model_validate(OfferingRules().model_dump(mode="json") | json.loads(content))


def in_order(runs: Iterable[Run | None]) -> list[Run]:
    """Those that are not over, the soonest first; what is cancelled comes last."""
    return sorted(filter(None, runs), key=lambda run: (run.state == "cancelled", run.dates.starts_at, run.id))


def shown(content: Mapping[str, Any], name: str, language: str) -> Shown | None:
    """One of a course's texts in the reader's language, or the nearest that there is."""
    text, its = pick(content.get(name) or {}, language)
    return Shown(text, its) if text else None


def no_such_course() -> Problem:
    return Problem("not-found", "Not found", 404, "There is no such course.")


@router.get("/kurs/{course_id}")
async def read_course_page(course_id: str, request: Request, running: ThisService) -> Response:
    """One course with the runs that are not over."""
    wanted = _id(course_id)
    return await for_everybody(request, running, spoken(request), lambda: _course(request, running, wanted))


async def _course(request: Request, running: ThisService, course_id: UUID) -> tuple[Response, Version]:
    language, now_is = spoken(request), current(running)
    await now_is.index(Words())
    version = now_is.version
    async with running.database.reading() as conn:
        row = await courses.course(conn, course_id)
        owner = await partners.known(conn, row["partner"]) if row else None
        if row is None or owner is None:
            raise no_such_course()
        rows = await courses.offerings(conn, course_id)
        now = await views.now(conn)
        counted = await intake.seats(conn, [row["id"] for row in rows])
        runs = in_order(Run.of(row, counted.get(row["id"]), now) for row in rows)
    content = UNSAID | json.loads(row["content"])
    title = shown(content, "title", language)
    if title is None:
        raise no_such_course()
    data, _ = linked.course(row, rows, owner["name"], language, running.settings.public_url, now)
    page = site().page(
        request,
        "course.html",
        row=row,
        content=content,
        title=title,
        mixed=mixes_scripts(title.text),
        summary=shown(content, "summary", language),
        description=shown(content, "description", language),
        prerequisites=shown(content, "prerequisites", language),
        provider=owner["name"],
        contact=owner["contact"],
        runs=runs,
        most_live=MOST_LIVE,
        data=Markup(data.decode()),  # noqa: S704 - `linked` escapes each `<`
    )
    return page, version


def _id(text: str) -> UUID:
    """Raises Problem (404) for an address that can be no course's."""
    try:
        return UUID(text)
    except ValueError:
        raise no_such_course() from None
