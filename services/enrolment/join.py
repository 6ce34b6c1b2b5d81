"""The page where one asks for a seat: /delta/{offering}. What is done is what `rush.py` does."""

from collections.abc import Awaitable, Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, cast
from uuid import UUID

from fastapi import APIRouter, Request
from pydantic import ValidationError
from starlette.responses import RedirectResponse, Response

from kit import edge
from kit.database import BUSY, Busy
from kit.http import ThisService
from kit.pages import languages
from kit.pages.visitors import Visiting, form, not_ours, ours, visiting_plainly
from kit.passes import Visitor
from kit.problems import Problem
from kit.running import Running
from kit.shortway import route_class
from services.enrolment import asking, desk, domain, refusals, rush, sentences
from services.enrolment.asking import Closed
from services.enrolment.desk import Desk, login
from services.enrolment.domain import Enrolment, Offering, Place
from services.enrolment.settings import EnrolmentSettings
from services.enrolment.shown import EnrolmentShown
from services.enrolment.site import sent_text, site
from services.enrolment.store import pages
from services.enrolment.store.courses import Run

PLACES = ("place1", "place2", "place3")
FIELDS = (*PLACES, "name", "email", "phone", "language", "group", "wait_for_earlier", "on_lapse")

router = APIRouter(include_in_schema=False)  # pages for people, not an interface for programs


async def plainly(request: Request) -> Awaitable[Response] | None:
    """The form for whoever is logged in. Raises Problem (401) as `Visiting` does."""
    visitor = await visiting_plainly(request)
    if visitor is None:
        return None
    return show(UUID(request.path_params["offering_id"]), request, visitor, request.app.state.running)


shown = APIRouter(include_in_schema=False, route_class=route_class(plainly))


@dataclass(frozen=True, slots=True)
class Seen:
    """An offering as its visitor meets it; `own` is the enrolment they have here already."""

    offering: Offering
    run: Run
    places: list[Place]
    own: Enrolment | None
    now: datetime

    @property
    def closed(self) -> Closed | None:
        """Why nobody can ask now, and when the first can; none when somebody can."""
        over = domain.closed(self.offering, self.now)
        if over is not None:
            return Closed(over)
        if self.open_to_own:  # who asked in time
            return None
        return asking.shut(self.offering, self.now)

    @property
    def has_form(self) -> bool:
        """Whether there is a form to fill in: none for who has what they ask for already."""
        return self.own is None or self.open_to_own

    @property
    def open_to_own(self) -> bool:
        """Whether one who stands in line may take a seat: offers are over, and one is free."""
        return (
            self.own is not None
            and self.own.state == "queued"
            and self.offering.open_to_all(self.now)
            and any(place.free > 0 for place in self.places)
        )


@shown.get("/delta/{offering_id:uuid}")
async def show(offering_id: UUID, request: Request, visitor: Visiting, running: ThisService) -> Response:
    """The form; for one who is enrolled already, how that stands."""
    seen = await _look(running, offering_id, visitor)
    only = [place.arena for place in seen.places if place.open]
    language = languages.written(request)
    blank = dict.fromkeys(FIELDS, "") | {
        "place1": only[0] if len(only) == 1 else "",
        "name": visitor.caller.name or "",
        "language": language,
        "wait_for_earlier": "yes",
        "on_lapse": seen.offering.rules.on_lapse,
    }
    if seen.own is not None:
        asked = dict(zip(PLACES, seen.own.choices, strict=False))
        blank |= {"name": seen.own.name, "group": seen.own.group or "", **asked}
    return _page(request, visitor, seen, blank)


@router.get("/plasser/{offering_id:uuid}")
async def part(offering_id: UUID, request: Request, running: ThisService) -> Response:
    """The seats as they are, for anybody's page that is open."""
    return site().page(request, "seats.html", **await _seats(request, running, offering_id))


@router.get("/plasser/{offering_id:uuid}/delta")
async def part_to_ask(offering_id: UUID, request: Request, running: ThisService) -> Response:
    """The seats as they are, and the way to ask for one, which is called by what one would get."""
    seen = await _seats(request, running, offering_id)
    free = any(place.open and place.free > 0 for place in seen["places"])
    return site().page(request, "ask.html", **seen, offering_id=offering_id, free=free)


@router.post("/delta/{offering_id:uuid}")
async def enrol(offering_id: UUID, request: Request, visitor: Visiting, running: ThisService, desk_: Desk) -> Response:
    """Ask for a seat, and be led to the page that says what came of it; or see the form again, and why.

    Whatever the reason, what was typed is there again.
    """
    sent = await form(request)
    values = {name: sent_text(sent, name).strip() for name in FIELDS}
    chosen = {name: values[name] for name in PLACES if values[name]}
    refused: Problem | ValidationError
    try:
        if not await ours(request, visitor):  # from another log-in than the one that there is now
            raise not_ours()
        desk.at_pace(visitor.caller, running)
        body = _asking(values, list(chosen.values()))
        command = rush.command_of(offering_id, body, visitor.caller, cast(EnrolmentSettings, running.settings))
        answer = await desk_.submit(desk.Request(replace(command, seen=sent_text(sent, "seen")), None))
        made = EnrolmentShown.model_validate_json(bytes(answer.body))
        return RedirectResponse(f"/min-side/{made.enrolment_id}", 303)
    except ValidationError as error:
        refused = error
    except Problem as problem:
        refused = problem
    except BUSY:
        refused = edge.busy(Busy.retry_after_s)
    if isinstance(refused, Problem) and refused.status == 404:
        raise refused
    seen = await _look(running, offering_id, visitor)
    already = isinstance(refused, Problem) and refused.slug == "already-enrolled"
    if already and not seen.open_to_own:  # a second click, or another tab
        return RedirectResponse(f"/delta/{offering_id}", 303)
    if isinstance(refused, Problem) and refused.status in (403, 429, 503) and not seen.has_form:
        raise refused
    errors = sentences.full(request) if already else sentences.fields(request, chosen, refused)
    values["wait_for_earlier"] = values["wait_for_earlier"] or "yes"
    values["on_lapse"] = values["on_lapse"] or seen.offering.rules.on_lapse
    if not isinstance(refused, Problem):
        return _page(request, visitor, seen, values, errors, status=422)
    said = "" if errors else sentences.refusal(request, refused)
    return _page(request, visitor, seen, values, errors, said, refused.status, refused.headers)


def _asking(values: Mapping[str, str], places: list[str]) -> rush.Asking:
    """The form as the interface would be sent it. Raises ValidationError."""
    return rush.Asking.model_validate(
        {
            "places": places if values["place1"] else [],
            "name": values["name"],
            "contact": {
                "email": values["email"],
                "language": values["language"],
                "phone": values["phone"] or None,
            },
            "group": values["group"] or None,
            "wait_for_earlier": values["wait_for_earlier"] != "no",
            "on_lapse": values["on_lapse"] or None,
        }
    )


async def _look(running: Running, offering_id: UUID, visitor: Visitor) -> Seen:
    """Raises Problem (404) for an unknown offering."""
    found, own = await running.together(pages.seen).submit((offering_id, login(visitor.caller)))
    if found is None:
        raise refusals.unknown_offering()
    return Seen(found.offering, found.run, _shown(found.places), own, found.now)


async def _seats(request: Request, running: Running, offering_id: UUID) -> dict[str, Any]:
    """The places, why nobody gets a seat there any more (`over`), and why nobody can ask for one now (`shut`).

    Raises Problem (404) for an unknown offering.
    """
    found, _ = await running.together(pages.seen).submit((offering_id, None))
    if found is None:
        raise refusals.unknown_offering()
    why = asking.shut(found.offering, found.now)
    return {
        "places": _shown(found.places),
        "over": _over(request, found.offering, found.now),
        "shut": sentences.closed(request, why) if why is not None else "",
    }


def _over(request: Request, offering: Offering, now: datetime) -> str:
    """Why no seat is given out any more, empty while some are."""
    why = domain.closed(offering, now)
    return sentences.closed(request, Closed(why)) if why is not None else ""


def _shown(places: Iterable[Place]) -> list[Place]:
    return [place for place in places if place.open or place.taken]


def _page(
    request: Request,
    visitor: Visitor,
    seen: Seen,
    values: Mapping[str, str],
    errors: Mapping[str, str] | None = None,
    said: str = "",
    status: int = 200,
    headers: Mapping[str, str] | None = None,
) -> Response:
    shut = seen.closed
    if not seen.has_form:
        return site().page(
            request, "already.html", visitor=visitor, run=seen.run, one=seen.own, now=seen.now, shut=shut
        )
    context: dict[str, Any] = {
        "run": seen.run,
        "places": seen.places,
        "choices": [place.arena for place in seen.places if place.open],
        "groups": asking.groups_of(seen.offering),
        "only_for": _only_for(seen),
        "approval": seen.offering.rules.requires_approval,
        "open_to_all": seen.offering.open_to_all(seen.now),
        "in_line": seen.own is not None,
        "shut": sentences.closed(request, shut) if shut else "",
        "over": _over(request, seen.offering, seen.now),
        "seen": seen.offering.when,
        "values": values,
        "errors": errors or {},
        "said": "" if shut else said,
    }
    return site().page(request, "join.html", status, visitor=visitor, headers=headers, **context)


def _only_for(seen: Seen) -> list[str]:
    """The groups for whom it is open, when it is not open for everybody."""
    if seen.open_to_own:
        return []
    why = asking.not_open(seen.offering.rules.periods, None, seen.now)
    return list(why.groups) if why is not None else []
