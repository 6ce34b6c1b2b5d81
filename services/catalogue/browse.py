"""The front page, and the page where courses are found: by the same search as `GET courses`, for people."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from urllib.parse import urlencode

from fastapi import APIRouter, Request
from pydantic import ValidationError
from starlette.responses import Response

from kit.http import ThisService
from kit.pages.languages import spoken
from kit.problems import Problem
from kit.running import Running
from services.catalogue.index import Wanted
from services.catalogue.postings import EVERYWHERE
from services.catalogue.search import Asked, Found, find
from services.catalogue.site import for_everybody, names, site

SOON = 6  # courses on the front page
KINDS = ("arena", "subject", "level", "language", "partner")

router = APIRouter(include_in_schema=False)


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


def items(found: Found, language: str) -> list[dict[str, Any]]:
    """The courses of a page, as `GET courses` gives them."""
    shown = [json.loads(found.index.json(slot, language, found.wanted)) for slot in found.slots]
    for one in shown:
        one["starts_at"] = one["starts_at"] and datetime.fromisoformat(one["starts_at"])
    return shown


def choices(counts: Mapping[str, Sequence[Mapping[str, Any]]], given: Mapping[str, str]) -> dict[str, list[Any]]:
    """Kind -> (value, how many courses) of each that can be chosen; what is chosen stands there, be there none."""
    found: dict[str, list[Any]] = {}
    for kind in KINDS:
        there = {one["value"]: one["courses"] for one in counts.get(kind, ())}
        if kind in given:
            there.setdefault(given[kind], 0)
        found[kind] = list(there.items())
    found["level"].sort()
    return found


@router.get("/")
async def read_front(request: Request, running: ThisService) -> Response:
    """What this is, a search, what begins next and has free seats, and the arenas."""

    async def make() -> Response:
        providers = await names(running)
        found = await find(running, Asked(sort="start", free=True, limit=SOON))
        arenas = found.index.counts(Wanted(), EVERYWHERE.all)["arena"]
        return site().page(
            request, "front.html", courses=items(found, spoken(request)), arenas=arenas, providers=providers
        )

    return await for_everybody(request, running, make)


@router.get("/kurs")
async def read_courses(request: Request, running: ThisService) -> Response:
    """Courses by words and choices, a page at a time."""
    return await for_everybody(request, running, lambda: _courses(request, running))


async def _courses(request: Request, running: Running) -> Response:
    search = Search.of(request.query_params)
    providers = await names(running)
    try:
        found = await find(running, Asked() if search.wrong else search.asked)
    except Problem as problem:
        if problem.slug != "malformed-request":
            raise
        search.wrong.add("after")
        found = await find(running, Asked())
    counts = found.index.counts(found.wanted, found.by_words)
    return site().page(
        request,
        "courses.html",
        422 if search.wrong else 200,
        search=search,
        given=search.given,
        sort=found.sort,
        courses=[] if search.wrong else items(found, spoken(request)),
        total=0 if search.wrong else found.total,
        further=search.page(found.after) if found.after and not search.wrong else "",
        choices=choices(counts, search.given),
        providers=providers,
    )
