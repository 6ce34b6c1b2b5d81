"""The page where a person sees their own courses: /min-side."""

from collections.abc import Awaitable
from datetime import datetime
from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Depends, Query, Request
from fastapi.responses import StreamingResponse
from starlette.responses import Response

from kit.http import ThisService
from kit.live import LastEventId, for_a_while
from kit.pages.visitors import Visiting, visiting_plainly
from kit.passes import Visitor
from kit.running import Running
from kit.shortway import route_class
from services.enrolment.desk import login
from services.enrolment.domain import LIVE
from services.enrolment.live import Own
from services.enrolment.site import site
from services.enrolment.store import pages

MOST_SHOWN = 50

PLACE = "/min-side"

router = APIRouter(prefix=PLACE, include_in_schema=False)  # pages for people, not an interface for programs


async def plainly(request: Request) -> Awaitable[Response] | None:
    """The list, as a page or a part of it, of whoever is logged in. Raises Problem (401) as `Visiting` does."""
    visitor = await visiting_plainly(request)
    if visitor is None:
        return None
    show = mine if request.scope["path"] == PLACE else part
    return show(request, visitor, request.app.state.running)


listed = APIRouter(prefix=PLACE, include_in_schema=False, route_class=route_class(plainly))
After = Annotated[UUID | None, Query()]


async def the_hub(request: Request, running: ThisService) -> Own:
    state = request.app.state
    if not hasattr(state, "own"):
        state.own = Own(running)
    hub: Own = state.own
    return hub


@listed.get("")
async def mine(request: Request, visitor: Visiting, running: ThisService, etter: After = None) -> Response:
    """One's own enrolments, newest first: what has to be answered, what lives, what is over."""
    return site().page(request, "mine.html", visitor=visitor, **await _mine(running, visitor, etter))


@listed.get("/kurs")
async def part(request: Request, visitor: Visiting, running: ThisService, etter: After = None) -> Response:
    """The list anew, for a page that is open."""
    return site().page(request, "list.html", visitor=visitor, **await _mine(running, visitor, etter))


@router.get("/live")
async def live(visitor: Visiting, hub: Annotated[Own, Depends(the_hub)], last_event_id: LastEventId = None) -> Response:
    """Says that something of one's own enrolments has changed, and nothing of what."""
    stream = for_a_while(await hub.listen(login(visitor.caller), last_event_id))
    return StreamingResponse(stream, media_type="text/event-stream", headers={"x-accel-buffering": "no"})


async def _mine(running: Running, visitor: Visitor, after: UUID | None) -> dict[str, Any]:
    found = await running.together(pages.all_own).submit((*login(visitor.caller), after, MOST_SHOWN + 1))
    shown = found[:MOST_SHOWN]
    return {
        "alive": sorted((each for each in shown if each.one.state in LIVE), key=_to_be_answered),
        "over": [each for each in shown if each.one.state not in LIVE],
        "after": after,
        "more": shown[-1].one.id if len(found) > MOST_SHOWN else None,
    }


def _to_be_answered(each: pages.Own) -> tuple[bool, datetime]:
    """An offer before all else, by its deadline."""
    return each.one.expires_at is None, each.one.expires_at or each.now
