"""The page where a person reads their own notices, /varsler: newest first, marked as read, renewed when one comes."""

from collections.abc import Awaitable
from typing import Any
from uuid import UUID

from fastapi import APIRouter, Request
from fastapi.responses import StreamingResponse
from starlette.responses import RedirectResponse, Response

from kit.database import Connection
from kit.http import Db, ThisService
from kit.live import LastEventId, for_a_while
from kit.pages.visitors import Acting, Visiting, form, visiting_plainly
from kit.problems import Problem
from kit.running import Running
from kit.shortway import route_class
from services.notifier.feed import shown
from services.notifier.live import TheHub
from services.notifier.site import site
from services.notifier.store import feed as store

PLACE = "/varsler"
MOST_SHOWN = 20

router = APIRouter(prefix=PLACE, include_in_schema=False)  # pages for people, not an interface for programs


async def plainly(request: Request) -> Awaitable[Response] | None:
    """The newest, as a page or a part of it, of whoever is logged in. Raises Problem (401) as `Visiting` does."""
    visitor = await visiting_plainly(request)
    if visitor is None:
        return None
    show = read_letterbox if request.scope["path"] == PLACE else read_list
    return show(request, visitor, request.app.state.running)


listed = APIRouter(prefix=PLACE, include_in_schema=False, route_class=route_class(plainly))


@listed.get("")
async def read_letterbox(
    request: Request, visitor: Visiting, running: ThisService, before: str = "", gjort: str = ""
) -> Response:
    """One page of one's own notices; `before` is the last id of the page before, `gjort` what was just done."""
    listed = await _listed(running, visitor.caller.key, _id(before) if before else None)
    return site().page(request, "letterbox.html", visitor=visitor, before=before, done=gjort, **listed)


@listed.get("/liste")
async def read_list(request: Request, visitor: Visiting, running: ThisService) -> Response:
    """The newest notices alone, for a page that has heard of a change."""
    listed = await _listed(running, visitor.caller.key, None)
    return site().page(request, "notices.html", visitor=visitor, before="", **listed)


@router.get("/live")
async def follow(visitor: Visiting, hub: TheHub, last_event_id: LastEventId = None) -> Response:
    """As the feed's stream, for whoever is logged in; it ends now and then."""
    stream = for_a_while(await hub.listen(visitor.caller.key, last_event_id))
    return StreamingResponse(stream, media_type="text/event-stream", headers={"x-accel-buffering": "no"})


@router.post("/lest")
async def mark_read(request: Request, visitor: Acting, database: Db) -> Response:
    """Note that one notice, or all up to the newest that was shown, have been read. Safe to repeat."""
    sent = await form(request)
    before = str(sent.get("before") or "")
    back = f"{PLACE}?before={_id(before)}&" if before else f"{PLACE}?"
    who = visitor.caller.key

    async def work(conn: Connection) -> bool:
        if "newest" in sent:
            await store.read_all(conn, who, _id(sent["newest"]))
            return True
        return await store.read(conn, who, _id(sent.get("notice")))

    if not await database.run(work):
        raise _none_such()
    return RedirectResponse(f"{back}gjort={'alle' if 'newest' in sent else 'lest'}", 303)


async def _listed(running: Running, who: str, before: UUID | None) -> dict[str, Any]:
    found = await running.together(store.pages).submit((who, before, MOST_SHOWN + 1))
    if before is None and len(found) <= MOST_SHOWN:  # these are all that there are
        count = store.count(found)
    else:
        async with running.database.reading() as conn:
            count = (await store.counts(conn, [who])).get(who, store.Count())
    notices = [shown(one, running.settings.public_url) for one in found[:MOST_SHOWN]]
    older = notices[-1].id if len(found) > MOST_SHOWN else None
    return {"notices": notices, "unread": count.unread, "newest": count.newest, "older": older}


def _id(sent: object) -> UUID:
    try:
        return UUID(str(sent))
    except ValueError:
        raise _none_such() from None


def _none_such() -> Problem:
    return Problem("not-found", "Not found", 404, "You have no such notice.")
