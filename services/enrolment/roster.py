"""The pages of a run for its partner: /deltakere/{offering}, with approvals, a sheet to sign and a file."""

from collections.abc import Awaitable
from dataclasses import dataclass
from itertools import groupby
from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Query, Request
from pydantic import ValidationError
from starlette.responses import RedirectResponse, Response

from kit.auth import must_act_for
from kit.database import Connection, Database
from kit.http import Db
from kit.pages.visitors import Visiting, form, visiting_plainly
from kit.partners import must_not_be_suspended
from kit.passes import Visitor
from kit.problems import Problem
from kit.shortway import route_class
from services.enrolment import desk, partners, refusals, sentences
from services.enrolment.acts import Kind
from services.enrolment.desk import Desk, PacedVisitor
from services.enrolment.domain import Enrolment
from services.enrolment.partners import Attending, Denying
from services.enrolment.site import sent_text, site, to
from services.enrolment.store import courses, enrolments, pages, steps
from services.enrolment.store.courses import Run

MOST_SHOWN = 50
MOST_PENDING = 20  # the next come when these are decided
LAST_LETTERS = str.maketrans({"æ": "z1", "ø": "z2", "å": "z3"})

router = APIRouter(prefix="/deltakere", include_in_schema=False)  # pages for people, not an interface for programs


async def plainly(request: Request) -> Awaitable[Response] | None:
    """The list for whoever is logged in. Raises Problem as the whole way does: 401, 403 for others than its partner."""
    visitor = await visiting_plainly(request)
    if visitor is None:
        return None
    return show(UUID(request.path_params["offering_id"]), request, visitor, request.app.state.running.database)


listed = APIRouter(prefix="/deltakere", include_in_schema=False, route_class=route_class(plainly))


@dataclass(frozen=True, slots=True)
class Denial:
    """A denial that was not taken: for whom, the reason that was written, and what is wrong with it."""

    enrolment_id: UUID
    reason: str
    error: str


@listed.get("/{offering_id:uuid}")
async def show(
    offering_id: UUID,
    request: Request,
    visitor: Visiting,
    database: Db,
    etter: Annotated[UUID | None, Query()] = None,
) -> Response:
    """Who has a seat, waits for approval or stands in line, in the order of asking."""
    return await _page(request, visitor, database, offering_id, etter)


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
async def file(offering_id: UUID, visitor: Visiting, database: Db) -> Response:
    """The whole list for a spreadsheet."""
    rows: list[Attending] = []
    async with database.reading() as conn:
        await _run(conn, offering_id, visitor)
        after: UUID | None = None
        while page := await enrolments.roster(conn, offering_id, after, partners.MOST_LISTED):
            rows += [partners.attending(one) for one in page]
            after = page[-1].id
    return partners.file(offering_id, rows)


@router.post("/{offering_id:uuid}/{enrolment_id:uuid}/godkjenn")
async def approve(
    offering_id: UUID, enrolment_id: UUID, request: Request, visitor: PacedVisitor, database: Db, desk_: Desk
) -> Response:
    """Let one in who waits for it."""
    return await _decide(request, visitor, database, desk_, offering_id, enrolment_id, "approve")


@router.post("/{offering_id:uuid}/{enrolment_id:uuid}/avslaa")
async def deny(
    offering_id: UUID, enrolment_id: UUID, request: Request, visitor: PacedVisitor, database: Db, desk_: Desk
) -> Response:
    """Turn one away, with a reason that is shown to them."""
    reason = sent_text(await form(request), "reason")
    try:
        reason = Denying(reason=reason).reason
    except ValidationError as error:
        wrong = sentences.fields(request, {}, error)["reason"]
        denial = Denial(enrolment_id, reason, wrong)
        return await _page(request, visitor, database, offering_id, status=422, denial=denial)
    return await _decide(request, visitor, database, desk_, offering_id, enrolment_id, "deny", reason)


@router.get("/{offering_id:uuid}/{enrolment_id:uuid}/godkjenn")
@router.get("/{offering_id:uuid}/{enrolment_id:uuid}/avslaa")
async def back(offering_id: UUID, request: Request) -> Response:
    """Who had to log in before a decision was taken is led back here."""
    return to(f"/deltakere/{offering_id}", request)


async def _decide(
    request: Request,
    visitor: Visitor,
    database: Database,
    desk_: Desk,
    offering_id: UUID,
    enrolment_id: UUID,
    kind: Kind,
    reason: str = "",
) -> Response:
    async with database.reading() as conn:
        run = await _run(conn, offering_id, visitor)
    if visitor.caller.role != "operator":
        await must_not_be_suspended(database, run.partner)
    command = partners.partners_own(kind, enrolment_id, visitor.caller, None, reason)
    try:
        await desk_.submit(desk.Request(command, None))
    except Problem as refused:
        if refused.status != 409:
            raise
        said = sentences.refusal(request, refused)
        return await _page(request, visitor, database, offering_id, said=said, status=409)
    return RedirectResponse(f"/deltakere/{offering_id}", 303)


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
    database: Database,
    offering_id: UUID,
    after: UUID | None = None,
    *,
    said: str = "",
    status: int = 200,
    denial: Denial | None = None,
) -> Response:
    async with database.reading() as conn:
        whole = await pages.whole(conn, offering_id)
        if whole is None:
            raise refusals.unknown_offering()
        must_act_for(visitor.caller, whole.run.partner)
        counts = await steps.counts(conn, offering_id)
        waiting = await enrolments.pending(conn, offering_id, MOST_PENDING) if counts["pending"] else []
        found = await enrolments.roster(conn, offering_id, after, MOST_SHOWN + 1)
    rows: list[Enrolment] = found[:MOST_SHOWN]
    return site().page(
        request,
        "roster.html",
        status,
        visitor=visitor,
        run=whole.run,
        places=[place for place in whole.places if place.open or place.taken],
        counts=counts,
        waiting=waiting,
        rows=rows,
        after=after,
        more=rows[-1].id if len(found) > MOST_SHOWN else None,
        said=said,
        denial=denial,
    )
