"""The front page, and the page where courses are found: by the same search as `GET courses`, for people."""

import json
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import lru_cache
from typing import Any
from urllib.parse import urlencode

from fastapi import APIRouter, Request
from markupsafe import Markup
from pydantic import ValidationError
from starlette.responses import Response

from contracts.arenas import place_name
from kit.http import ThisService
from kit.pages.languages import spoken
from kit.problems import Problem
from kit.running import Running
from kit.shortway import route_class
from services.catalogue import words
from services.catalogue.current import Version
from services.catalogue.index import Wanted
from services.catalogue.kept import for_everybody
from services.catalogue.search import Asked, Found, find
from services.catalogue.site import names, site

SOON = 6  # courses on the front page
MOST_CARDS = 5_000  # of 1 KB


async def plainly(request: Request) -> Awaitable[Response]:
    """The page of a request; there is none that has to go the whole way."""
    page = read_front if request.scope["path"] == "/" else read_courses
    return page(request, request.app.state.running)


router = APIRouter(include_in_schema=False, route_class=route_class(plainly))


@dataclass(slots=True)
class Search:
    """What somebody looks for, as the address says it. `wrong` are the fields that cannot be looked for as they are."""

    given: dict[str, str]
    asked: Asked = field(default_factory=Asked)
    wrong: set[str] = field(default_factory=set)

    @classmethod
    def of(cls, query: Mapping[str, str]) -> "Search":
        """A form sends its empty fields too: they ask for nothing. What is not ours is passed over."""
        given = {name: text.strip() for name, text in query.items() if name in Asked.model_fields and text.strip()}
        try:
            return cls(given, Asked.model_validate(given))
        except ValidationError as error:
            return cls(given, wrong={str(one["loc"][0]) for one in error.errors()})

    @property
    def first(self) -> str:
        """The address of the first page."""
        return self.page("")

    def page(self, after: str) -> str:
        """The address of the page that begins there."""
        asked = {name: value for name, value in (self.given | {"after": after}).items() if value}
        return "/kurs" + (f"?{urlencode(asked)}" if asked else "")


def cards(found: Found, language: str, providers: Mapping[str, str]) -> list[Markup]:
    """The courses of a page, each as it stands in lists."""
    index = found.index
    owners = (index.partner(slot) for slot in found.slots)
    return [
        card(index.json(slot, language, found.wanted), providers.get(owner, owner), language)
        for slot, owner in zip(found.slots, owners, strict=True)
    ]


@lru_cache(maxsize=MOST_CARDS)
def card(text: str, provider: str, language: str) -> Markup:
    """A course as `GET courses` gives it, for people. Making one takes ten times as long as finding it."""
    course = json.loads(text)
    course["starts_at"] = course["starts_at"] and datetime.fromisoformat(course["starts_at"])
    return site().part("card.html", language, course=course, provider=provider)


def choices(
    counts: Mapping[str, Sequence[Mapping[str, Any]]],
    given: Mapping[str, str],
    language: str,
    providers: Mapping[str, str],
) -> dict[str, list[tuple[str, str, int]]]:
    """Kind -> (value, its name, how many courses) of what can be chosen; what is chosen stands there, be there none."""
    names: dict[str, Callable[[str], str]] = {
        "arena": lambda value: place_name(value, language),
        "subject": lambda value: words.subject(value, language),
        "level": lambda value: words.level(value, language),
        "language": lambda value: words.tongue(value, language),
        "partner": lambda value: providers.get(value, value),
    }
    found: dict[str, list[tuple[str, str, int]]] = {}
    for kind, name in names.items():
        there = {one["value"]: one["courses"] for one in counts.get(kind, ())}
        if kind in given:
            there.setdefault(given[kind], 0)
        found[kind] = [(value, name(value), count) for value, count in there.items()]
    found["level"].sort()
    return found


@router.get("/")
async def read_front(request: Request, running: ThisService) -> Response:
    """What this is, a search, what begins next and has free seats, and the arenas."""

    async def make() -> tuple[Response, Version]:
        providers = await names(running)
        found = await find(running, Asked(sort="start", free=True, limit=SOON))
        arenas = found.index.counts(Wanted(), found.index.everywhere.all, with_a_run=True)["arena"]
        listed = cards(found, spoken(request), providers)
        return site().page(request, "front.html", cards=listed, arenas=arenas), found.version

    return await for_everybody(request, running, spoken(request), make)


@router.get("/kurs")
async def read_courses(request: Request, running: ThisService) -> Response:
    """Courses by words and choices, a page at a time."""
    return await for_everybody(request, running, spoken(request), lambda: _courses(request, running))


async def _courses(request: Request, running: Running) -> tuple[Response, Version]:
    search, language = Search.of(request.query_params), spoken(request)
    providers = await names(running)
    try:
        found = await find(running, Asked() if search.wrong else search.asked)
    except Problem as problem:
        if problem.slug != "malformed-request":
            raise
        search.wrong.add("after")
        found = await find(running, Asked())
    page = site().page(
        request,
        "courses.html",
        422 if search.wrong else 200,
        search=search,
        given=search.given,
        sort=found.sort,
        cards=[] if search.wrong else cards(found, language, providers),
        total=0 if search.wrong else found.total,
        further=search.page(found.after) if found.after and not search.wrong else "",
        choices=choices(found.counts, search.given, language, providers),
    )
    return page, found.version
