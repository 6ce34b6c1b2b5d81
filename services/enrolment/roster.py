"""The pages of a run for its partner: /deltakere/{offering}, with approvals, a sheet to sign and a file."""

import asyncio
import re
from collections.abc import Awaitable, Collection, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from typing import Annotated, cast
from uuid import UUID

from fastapi import APIRouter, Query, Request
from pydantic import ValidationError
from starlette.responses import RedirectResponse, Response

from contracts.arenas import place_name
from kit.auth import must_act_for
from kit.database import Connection, Database
from kit.http import Db, ThisService
from kit.pages import languages
from kit.pages.visitors import Visiting, form, visiting_plainly
from kit.partners import must_not_be_suspended
from kit.passes import Visitor
from kit.problems import Problem
from kit.running import Running
from kit.shortway import route_class
from services.enrolment import desk, domain, partners, refusals, sentences
from services.enrolment.acts import Kind
from services.enrolment.desk import Desk, PacedVisitor
from services.enrolment.domain import Enrolment
from services.enrolment.offers import OSLO
from services.enrolment.partners import Denying
from services.enrolment.site import group_name, sent_text, site, to
from services.enrolment.store import courses, enrolments, pages, steps
from services.enrolment.store.courses import Run

MOST_SHOWN = 50
AN_ID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
MOST_PENDING = 20  # the next come when these are decided
LAST_LETTERS = str.maketrans({"æ": "z1", "ø": "z2", "å": "z3"})

router = APIRouter(prefix="/deltakere", include_in_schema=False)  # pages for people, not an interface for programs


async def plainly(request: Request) -> Awaitable[Response] | None:
    """The list for whoever is logged in. Raises Problem as the whole way does: 401, 403 for others than its partner."""
    visitor = await visiting_plainly(request)
    if visitor is None:
        return None
    return show(UUID(request.path_params["offering_id"]), request, visitor, request.app.state.running)


listed = APIRouter(prefix="/deltakere", include_in_schema=False, route_class=route_class(plainly))


@dataclass(frozen=True, slots=True)
class Denial:
    """A denial that was not taken: for whom, the reason that was written, and what is wrong with it."""

    enrolment_id: UUID
    reason: str
    error: str


@dataclass(frozen=True, slots=True)
class Several:
    """What was sent for several at once and not taken: who was chosen, the reason, and what is wrong with it."""

    chosen: frozenset[UUID] = frozenset()
    reason: str = ""
    error: str = ""


NONE = Several()


@listed.get("/{offering_id:uuid}")
async def show(
    offering_id: UUID,
    request: Request,
    visitor: Visiting,
    running: ThisService,
    etter: Annotated[UUID | None, Query()] = None,
    avgjort: str = "",
    antall: int = 0,
) -> Response:
    """Who has a seat, waits for approval or stands in line, in the order of asking.

    After a decision `avgjort` is its kind, and `antall` how many it is about.
    """
    return await _page(request, visitor, running, offering_id, etter, decided=(avgjort, antall))


@router.get("/{offering_id:uuid}/ark")
async def sheet(offering_id: UUID, request: Request, visitor: Visiting, database: Db) -> Response:
    """A sheet to print and sign, a table for each place, by name."""
    async with database.reading() as conn:
        run = await _run(conn, offering_id, visitor)
        found = await steps.seated(conn, offering_id)
    by_place = {
        place: sorted((one.name for one in some), key=lambda name: name.casefold().translate(LAST_LETTERS))
        for place, some in groupby(found, key=lambda one: one.place)
    }
    return site().page(request, "sheet.html", visitor=visitor, run=run, by_place=by_place)


@router.get("/{offering_id:uuid}.csv")
async def file(offering_id: UUID, request: Request, visitor: Visiting, database: Db) -> Response:
    """The whole list for a spreadsheet, in words."""
    _, language, states = site().text(request), languages.spoken(request), sentences.states(request)
    rows: list[Sequence[str]] = []
    async with database.reading() as conn:
        run = await _run(conn, offering_id, visitor)
        after: UUID | None = None
        while page := await enrolments.roster(conn, offering_id, after, partners.MOST_LISTED):
            for one in page:
                state, asked_at = states.get(one.state, one.state), one.asked_at.astimezone(OSLO)
                place = place_name(one.place, language) if one.place else ""
                choices = ", ".join(place_name(arena, language) for arena in one.choices)
                group = group_name(one.group) if one.group else ""
                name = one.name or _("Navnet er slettet")
                rows.append((name, state, place, choices, group, f"{asked_at:%Y-%m-%d %H:%M}"))
            after = page[-1].id
    columns = [_("Navn"), _("Tilstand"), _("Sted"), _("Valg"), _("Gruppe"), _("Meldte seg på")]
    return partners.spreadsheet(f"deltakere-{domain.day(run.starts_at)}", columns, rows)


@router.post("/{offering_id:uuid}/{enrolment_id:uuid}/godkjenn")
async def approve(
    offering_id: UUID, enrolment_id: UUID, request: Request, visitor: PacedVisitor, running: ThisService, desk_: Desk
) -> Response:
    """Let one in who waits for it."""
    return await _decide(request, visitor, running, desk_, offering_id, enrolment_id, "approve")


@router.post("/{offering_id:uuid}/{enrolment_id:uuid}/avslaa")
async def deny(
    offering_id: UUID, enrolment_id: UUID, request: Request, visitor: PacedVisitor, running: ThisService, desk_: Desk
) -> Response:
    """Turn one away, with a reason that is shown to them."""
    reason = sent_text(await form(request), "reason")
    try:
        reason = Denying(reason=reason).reason
    except ValidationError as error:
        wrong = sentences.fields(request, {}, error)["reason"]
        denial = Denial(enrolment_id, reason, wrong)
        return await _page(request, visitor, running, offering_id, status=422, denial=denial)
    return await _decide(request, visitor, running, desk_, offering_id, enrolment_id, "deny", reason)


@router.post("/{offering_id:uuid}/flere")
async def decide_several(
    offering_id: UUID, request: Request, visitor: PacedVisitor, running: ThisService, desk_: Desk
) -> Response:
    """Let in all who were shown, or those who were chosen; or turn these away, all with the same reason."""
    _, sent = site().text(request), await form(request)
    what = sent_text(sent, "what")
    named = sent_text(sent, "shown").split() if what == "alle" else [str(one) for one in sent.getlist("who")]
    chosen = await _in_line(running.database, offering_id, {UUID(one) for one in named if AN_ID.fullmatch(one)})
    several = Several(frozenset(chosen), sent_text(sent, "reason"))
    if not chosen or what not in ("alle", "godkjenn", "avslaa"):
        said = _("Kryss av for dem det gjelder.")
        return await _page(request, visitor, running, offering_id, said=said, status=422, several=several)
    if what == "avslaa":
        try:
            several = replace(several, reason=Denying(reason=several.reason).reason)
        except ValidationError as wrong:
            several = replace(several, error=sentences.fields(request, {}, wrong)["reason"])
            return await _page(request, visitor, running, offering_id, status=422, several=several)
    elif several.reason.strip():  # Enter in that field presses the first button of the form
        said = _("Du har skrevet en begrunnelse for avslag. Send avslaget, eller tøm feltet.")
        return await _page(request, visitor, running, offering_id, said=said, status=422, several=several)
    await _must_decide(running.database, offering_id, visitor)
    kind: Kind = "deny" if what == "avslaa" else "approve"
    of_each = [partners.partners_own(kind, one, visitor.caller, None, several.reason) for one in chosen]
    commands = [replace(one, lock=offering_id) for one in of_each]  # in this order, also where another holds the lock
    answers = await asyncio.gather(
        *(desk_.submit(desk.Request(command, None)) for command in commands), return_exceptions=True
    )
    refused = [one for one in answers if isinstance(one, BaseException)]
    for error in refused:
        if not isinstance(error, Problem) or error.status != 409:
            raise error
    if refused:
        said = sentences.refusal(request, cast(Problem, refused[0]))
        head = _("Noen ble ikke endret") if len(refused) < len(answers) else ""
        return await _page(request, visitor, running, offering_id, said=said, head=head, status=409)
    return _decided(offering_id, kind, len(chosen))


async def _in_line(database: Database, offering_id: UUID, chosen: Collection[UUID]) -> list[UUID]:
    """These in the order in which they asked: the first are decided first, and get what is free.

    By the database's numbers, not by ids, which are made by the clocks of processes. Those who wait no more come last.
    """
    async with database.reading() as conn:
        waiting = await enrolments.pending(conn, offering_id, MOST_PENDING)
    place = {one.id: number for number, one in enumerate(waiting)}
    return sorted(chosen, key=lambda one: (place.get(one, MOST_PENDING), one))[:MOST_PENDING]


@router.get("/{offering_id:uuid}/flere")
async def back_from_several(offering_id: UUID, request: Request) -> Response:
    """Who had to log in before a decision was taken is led back here."""
    return to(f"/deltakere/{offering_id}", request)


@router.get("/{offering_id:uuid}/{enrolment_id:uuid}/godkjenn")
@router.get("/{offering_id:uuid}/{enrolment_id:uuid}/avslaa")
async def back(offering_id: UUID, request: Request) -> Response:
    """Who had to log in before a decision was taken is led back here."""
    return to(f"/deltakere/{offering_id}", request)


async def _decide(
    request: Request,
    visitor: Visitor,
    running: Running,
    desk_: Desk,
    offering_id: UUID,
    enrolment_id: UUID,
    kind: Kind,
    reason: str = "",
) -> Response:
    await _must_decide(running.database, offering_id, visitor)
    command = partners.partners_own(kind, enrolment_id, visitor.caller, None, reason)
    try:
        await desk_.submit(desk.Request(command, None))
    except Problem as refused:
        if refused.status != 409:
            raise
        said = sentences.refusal(request, refused)
        return await _page(request, visitor, running, offering_id, said=said, status=409)
    return _decided(offering_id, kind, 1)


def _decided(offering_id: UUID, kind: Kind, count: int) -> Response:
    return RedirectResponse(f"/deltakere/{offering_id}?avgjort={kind}&antall={count}", 303)


async def _must_decide(database: Database, offering_id: UUID, visitor: Visitor) -> None:
    """Raises Problem (403) for another's run, and for a partner that is suspended; 404 when there is no such run."""
    async with database.reading() as conn:
        run = await _run(conn, offering_id, visitor)
    if visitor.caller.role != "operator":
        await must_not_be_suspended(database, run.partner)


async def _run(conn: Connection, offering_id: UUID, visitor: Visitor) -> Run:
    """Raises Problem: 404 when there is no such run, 403 when it is another partner's."""
    run = (await courses.runs(conn, [offering_id])).get(offering_id)
    if run is None:
        raise refusals.unknown_offering()
    must_act_for(visitor.caller, run.partner)
    return run


async def _page(
    request: Request,
    visitor: Visitor,
    running: Running,
    offering_id: UUID,
    after: UUID | None = None,
    *,
    said: str = "",
    status: int = 200,
    head: str = "",
    denial: Denial | None = None,
    several: Several = NONE,
    decided: tuple[str, int] = ("", 0),
) -> Response:
    found = await running.together(pages.attended).submit((offering_id, after, MOST_SHOWN + 1))
    if found is None:
        raise refusals.unknown_offering()
    must_act_for(visitor.caller, found.whole.run.partner)
    waiting: list[Enrolment] = []
    if found.counts["pending"]:
        async with running.database.reading() as conn:
            waiting = await enrolments.pending(conn, offering_id, MOST_PENDING)
    rows = found.enrolments[:MOST_SHOWN]
    return site().page(
        request,
        "roster.html",
        status,
        visitor=visitor,
        run=found.whole.run,
        places=[place for place in found.whole.places if place.open or place.taken],
        counts=found.counts,
        waiting=waiting,
        rows=rows,
        after=after,
        more=rows[-1].id if len(found.enrolments) > MOST_SHOWN else None,
        said=said,
        head=head,
        denial=denial,
        several=several,
        decided=decided,
    )
