"""The operators' pages of a service, below /drift/<service>: how it stands, what is parked, switches, acts, timelines.

Only a POST changes anything; it does what the command line does, by the same function, and is written to the list of
acts in the same transaction. Nothing here asks another service: the view of all is put together by the browser.
"""

from collections.abc import Awaitable, Callable, Mapping
from datetime import datetime
from functools import cache
from typing import Annotated, Any

from babel.dates import format_datetime
from fastapi import APIRouter, Depends, Request
from starlette.responses import RedirectResponse, Response

from contracts.topics import SERVICES
from kit import acts, parking, plots, standing
from kit.acts import Operator
from kit.database import Connection
from kit.http import Db, ThisService
from kit.pages import languages
from kit.pages.site import HERE, Site
from kit.pages.visitors import acting_as, form, visiting_as, visiting_plainly
from kit.passes import Visitor
from kit.problems import Problem
from kit.running import Running
from kit.shortway import route_class
from kit.timeline import timeline

ROLE = "operator"
PER_PAGE = 50
MOST_SHOWN = 4000  # characters of what somebody sent: enough to see what is wrong, not enough to flood a page
MOST_REASON = 500  # characters
FRESH = {"cache-control": "no-store"}

watching = visiting_as(ROLE)
Watching = Annotated[Visitor, Depends(watching)]
Acting = Annotated[Visitor, Depends(acting_as(ROLE))]

router = APIRouter()


def mounted(service: str) -> APIRouter:
    """The console of a service, where the gateway looks for it."""
    of_one = APIRouter(include_in_schema=False)  # pages for people, not an interface for programs
    of_one.include_router(router, prefix=f"/drift/{service}")
    return of_one


@cache
def site() -> Site:
    return Site(HERE, FILTERS)


def operator(visitor: Visitor) -> Operator:
    """Who acts by a form: the list has a digest of the log-in and the name that the issuer says."""
    return Operator("console", visitor.caller.key, visitor.caller.name)


async def reason(request: Request) -> str:
    """What was typed as the reason, on one line; empty when nothing was."""
    given = (await form(request)).get("reason")
    text = given if isinstance(given, str) else ""
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())[:MOST_REASON]


def plain(text: str | None, language: str, most: int = 80) -> str:
    """A stranger's text so that it can be read and does nothing: what cannot be printed is spelt out; cut to `most`."""
    shown = parking.readable((text or "")[: most + 1], kept="\n")
    return shown if len(shown) <= most else f"{shown[:most]} …"


def instant(at: datetime | str, language: str) -> str:
    """`26.11.2026 14.48.07`, on Oslo's clock."""
    moment = datetime.fromisoformat(at) if isinstance(at, str) else at
    form = "yyyy-MM-dd HH:mm:ss" if language == "en" else "dd.MM.yyyy HH.mm.ss"
    return format_datetime(moment.astimezone(languages.OSLO), form, locale=languages.LOCALES[language])


def _picked(by_language: Mapping[str, str], language: str) -> str:
    return languages.pick(by_language, language)[0]


def _named(type: str | None, language: str) -> str:
    """`PartnerJoined` of `no.kursnett.catalogue.PartnerJoined.v1`; a type of a stranger's own as it is."""
    parts = (type or "").split(".")
    return plain(parts[-2] if len(parts) > 2 and type and type.startswith("no.kursnett.") else type, language)


FILTERS: Mapping[str, Callable[..., Any]] = {"plain": plain, "instant": instant, "pick": _picked, "name": _named}


def _whole(text: str | None, otherwise: int = 0) -> int:
    """A number that the database can hold, out of an address."""
    number = int(text) if text and text.isascii() and text.isdecimal() and len(text) < 20 else otherwise
    return number if number <= acts.NEWEST else otherwise


def _nothing() -> Problem:
    return Problem("not-found", "Not found", 404, "There is nothing at this address.")


@router.get("")
async def overview(request: Request, running: ThisService, visitor: Watching) -> Response:
    return await _overview(request, running, visitor)


async def _overview(
    request: Request, running: Running, visitor: Visitor, status: int = 200, wrong: str = ""
) -> Response:
    """`wrong`: the consumer for which a reason was not given."""
    now = await standing.look(running)
    async with running.database.reading() as conn:
        drawn = [await plots.draw(conn, plot) for plot in (*plots.OF_ALL, *running.shown.plots)]
    return site().page(
        request,
        "console.html",
        status,
        visitor=visitor,
        service=running.name,
        now=now,
        plots=drawn,
        links=running.shown.links,
        wrong=wrong,
        done=request.query_params.get("done", ""),
    )


@router.get("/del")
async def summary(request: Request, running: ThisService, visitor: Watching) -> Response:
    """How it stands, as a part of other pages."""
    now = await standing.look(running)
    return site().page(request, "console_standing.html", visitor=visitor, service=running.name, now=now)


@router.post("/lyttere/{name}/{act}")
async def switch(request: Request, name: str, act: str, running: ThisService, visitor: Acting) -> Response:
    """Pause a consumer, with a reason, or let it go on."""
    if name not in running.shown.consumers or act not in ("pause", "resume"):
        raise _nothing()
    group, why = f"{running.name}.{name}", await reason(request)
    if act == "pause" and not why:
        return await _overview(request, running, visitor, 422, group)

    async def work(conn: Connection) -> None:
        if act == "pause":
            await acts.pause(conn, operator(visitor), group, why)
        else:
            await acts.resume(conn, operator(visitor), group)

    await running.database.run(work)
    return RedirectResponse(f"/drift/{running.name}?done={act}#lyttere", 303, FRESH)


@router.get("/parkert")
async def parked(request: Request, running: ThisService, visitor: Watching, database: Db) -> Response:
    """What is parked, held or refused, in order; with `alle` also what is over."""
    closed = request.query_params.get("alle") == "1"
    after = _whole(request.query_params.get("etter"))
    async with database.reading() as conn:
        rows = await parking.listing(conn, closed=closed, after=after, limit=PER_PAGE + 1)
    return site().page(
        request,
        "console_parked.html",
        visitor=visitor,
        service=running.name,
        rows=rows[:PER_PAGE],
        more=rows[PER_PAGE - 1]["id"] if len(rows) > PER_PAGE else 0,
        closed=closed,
        after=after,
    )


@router.get("/parkert/{number}")
async def letter(request: Request, number: str, running: ThisService, visitor: Watching, database: Db) -> Response:
    """One parked record, without what is in it."""
    async with database.reading() as conn:
        found = await parking.show(conn, _whole(number))
    return _letter(request, running, visitor, found, done=request.query_params.get("done", ""))


def _letter(
    request: Request, running: Running, visitor: Visitor, found: dict[str, Any] | None, status: int = 200, **more: Any
) -> Response:
    """`opened`: whether its content is shown. `wrong`: the act that was refused, `done`: the one that was done."""
    if found is None:
        raise _nothing()
    told: dict[str, Any] = {"opened": False, "wrong": "", "done": "", "typed": ""} | more
    size = len(found["value"] or "")
    if not told["opened"]:
        found = {name: value for name, value in found.items() if name not in ("value", "headers", "key")}
    return site().page(
        request,
        "console_letter.html",
        status,
        visitor=visitor,
        service=running.name,
        row=found,
        mine=found["asked_by"] == visitor.caller.key,
        size=size,
        most=MOST_SHOWN,
        most_reason=MOST_REASON,
        **told,
    )


@router.post("/parkert/{number}/{act}")
async def decide(request: Request, number: str, act: str, running: ThisService, visitor: Acting) -> Response:
    """Show what is in a record, let it run again, or give it up, which takes two: `discard` asks for it, `confirm`
    does it, `keep` does not. 422 without a reason, 409 when it is over already or not for this one to do.
    """
    if act not in ("show", "redrive", "discard", "confirm", "keep"):
        raise _nothing()
    which, who, why = _whole(number), operator(visitor), await reason(request)
    refused = act in ("show", "discard") and not why

    async def work(conn: Connection) -> tuple[dict[str, Any] | None, bool]:
        if refused:
            return await parking.show(conn, which), False
        if act == "show":
            return await acts.read(conn, who, which, why), True
        if act == "redrive":
            done = bool(await acts.redrive(conn, who, [which]))
        elif act == "discard":
            done = await acts.ask_discard(conn, who, which, why)
        else:
            done = await (acts.discard_asked if act == "confirm" else acts.keep_asked)(conn, who, which)
        return await parking.show(conn, which), done

    found, done = await running.database.run(work)
    if not done:
        return _letter(request, running, visitor, found, 422 if refused else 409, wrong=act, typed=why)
    if act == "show":
        return _letter(request, running, visitor, found, opened=True)
    return RedirectResponse(f"/drift/{running.name}/parkert/{which}?done={act}", 303, FRESH)


@router.get("/logg")
async def log(request: Request, running: ThisService, visitor: Watching, database: Db) -> Response:
    """What operators have done, newest first."""
    before = _whole(request.query_params.get("eldre_enn"), acts.NEWEST)
    async with database.reading() as conn:
        rows = await acts.listing(conn, before, PER_PAGE + 1)
    more = rows[PER_PAGE - 1]["id"] if len(rows) > PER_PAGE else 0
    return site().page(
        request, "console_acts.html", visitor=visitor, service=running.name, rows=rows[:PER_PAGE], more=more
    )


@router.get("/tidslinje/{about:path}")
async def story(request: Request, about: str, running: ThisService, visitor: Watching, database: Db) -> Response:
    """What this service knows of one thing, as a page."""
    rows = await _story(running, database, about)
    return site().page(
        request, "console_story.html", visitor=visitor, service=running.name, about=about.strip()[:100], rows=rows
    )


@router.get("/del/tidslinje/{about:path}")
async def story_part(request: Request, about: str, running: ThisService, visitor: Watching, database: Db) -> Response:
    """The same as a part of another page."""
    rows = await _story(running, database, about)
    return site().page(request, "console_story_part.html", visitor=visitor, service=running.name, rows=rows)


async def _story(running: Running, database: Db, about: str) -> list[dict[str, Any]]:
    async with database.reading() as conn:
        return await timeline(conn, [about.strip()[:100]], running.shown.timeline)


async def plainly(request: Request) -> Awaitable[Response] | None:
    """The page of all services for whoever is logged in. Raises Problem as `Watching` does: 401, 403 for others."""
    visitor = await visiting_plainly(request)
    return None if visitor is None else home(request, await watching(visitor))


first = APIRouter(prefix="/drift", include_in_schema=False, route_class=route_class(plainly))
shared = APIRouter(prefix="/drift", include_in_schema=False)


@first.get("")
async def home(request: Request, visitor: Watching) -> Response:
    """All services: what each says of itself is fetched by the browser; without a script there are links."""
    return site().page(request, "console_home.html", visitor=visitor, services=SERVICES)


@shared.get("/tidslinje")
async def follow(request: Request, visitor: Watching) -> Response:
    """One thing through all services."""
    about = request.query_params.get("id", "").strip()[:100]
    return site().page(request, "console_timeline.html", visitor=visitor, services=SERVICES, about=about)
