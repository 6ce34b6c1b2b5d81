"""The page of one enrolment of one's own: how it stands, what has happened, to answer an offer, to withdraw."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime
from uuid import UUID

from fastapi import APIRouter, Request
from starlette.responses import RedirectResponse, Response

from kit.database import Database
from kit.http import Db
from kit.pages.visitors import Visiting, form
from kit.passes import Visitor
from kit.problems import Problem
from services.enrolment import api, desk, refusals, sentences
from services.enrolment.acts import Cannot, Kind
from services.enrolment.desk import Desk, PacedVisitor, login
from services.enrolment.domain import LIVE, Enrolment
from services.enrolment.site import sent_text, site, to
from services.enrolment.store import pages, steps
from services.enrolment.store.courses import Run
from services.enrolment.store.steps import Step

router = APIRouter(prefix="/min-side/{enrolment_id:uuid}", include_in_schema=False)


@dataclass(frozen=True, slots=True)
class Seen:
    """One's own enrolment, its run, and what has happened to it, the last first."""

    one: Enrolment
    run: Run
    steps: list[Step]
    now: datetime


@router.get("")
async def show(enrolment_id: UUID, request: Request, visitor: Visiting, database: Db) -> Response:
    """How one's own enrolment stands; 404 for anybody else's."""
    return _page(request, visitor, await _look(database, visitor, enrolment_id))


@router.get("/tilstand")
async def part(enrolment_id: UUID, request: Request, visitor: Visiting, database: Db) -> Response:
    """How it stands, anew, for a page that is open."""
    return _page(request, visitor, await _look(database, visitor, enrolment_id), "state.html")


@router.get("/meld-av")
async def show_withdraw(enrolment_id: UUID, request: Request, visitor: Visiting, database: Db) -> Response:
    """What is given up, with a button that does it."""
    seen = await _look(database, visitor, enrolment_id)
    if seen.one.state not in LIVE:
        return _to(enrolment_id)
    return _page(request, visitor, seen, "leave.html")


@router.get("/godta")
@router.get("/avslaa")
async def back(enrolment_id: UUID, request: Request) -> Response:
    """Who had to log in before an answer was taken is led back here: the answer is given by a button."""
    return to(f"/min-side/{enrolment_id}", request)


@router.post("/meld-av")
async def withdraw(enrolment_id: UUID, request: Request, visitor: PacedVisitor, database: Db, desk_: Desk) -> Response:
    """Leave the seat or the line, if it is the one that was seen."""
    seen = sent_text(await form(request), "seen")

    def expect(here: Enrolment) -> None:
        if seen and here.state in LIVE and seen != standing(here):
            raise Problem("precondition-failed", "It has changed since you read it", 412, "Read it again.")

    answer = _Answer("withdraw", expect, done=("cancelled",), page="leave.html")
    return await _act(request, visitor, database, desk_, enrolment_id, answer)


@router.post("/godta")
async def accept(enrolment_id: UUID, request: Request, visitor: PacedVisitor, database: Db, desk_: Desk) -> Response:
    """Take the seat that is offered."""
    offer = sent_text(await form(request), "offer")
    answer = _Answer("accept", _of(offer), done=("associated",))
    return await _act(request, visitor, database, desk_, enrolment_id, answer)


@router.post("/avslaa")
async def decline(enrolment_id: UUID, request: Request, visitor: PacedVisitor, database: Db, desk_: Desk) -> Response:
    """Say no to the seat, and leave, or stand at the back of the line."""
    sent = await form(request)
    stay = sent_text(sent, "stay") == "yes"
    answer = _Answer("decline", _of(sent_text(sent, "offer")), done=("queued", "cancelled"), stay=stay)
    return await _act(request, visitor, database, desk_, enrolment_id, answer)


@dataclass(frozen=True, slots=True)
class _Answer:
    """`done`: the states in which a second click, or an old tab, finds that it is done already."""

    kind: Kind
    expect: Callable[[Enrolment], None]
    done: tuple[str, ...]
    page: str = "own.html"
    stay: bool = False


def standing(one: Enrolment) -> str:
    """What one gives up by leaving, for the form: a place further up in the same line is no other thing."""
    return f"{one.state} {one.place or ''}".strip()


def _of(offer: str) -> Callable[[Enrolment], None]:
    """An old page's button answers the offer that was on the page, and no later one."""

    def expect(here: Enrolment) -> None:
        if offer and offer != str(here.offer_id):
            raise refusals.cannot(Cannot("no_offer", here.state))

    return expect


async def _act(
    request: Request, visitor: Visitor, database: Database, desk_: Desk, enrolment_id: UUID, answer: _Answer
) -> Response:
    command = replace(api.own(answer.kind, enrolment_id, visitor.caller, None, answer.stay), expect=answer.expect)
    try:
        done = await desk_.submit(desk.Request(command, None))
        if answer.stay and desk.is_offered(done):  # else it looks as if the button did nothing
            seen = await _look(database, visitor, enrolment_id)
            head, said = sentences.offered_again(request)
            return _page(request, visitor, seen, answer.page, said, head=head)
    except Problem as refused:
        if refused.status not in (409, 412):
            raise
        if refused.extensions.get("state") not in answer.done:
            seen = await _look(database, visitor, enrolment_id)
            page = answer.page if seen.one.state in LIVE else "own.html"
            return _page(request, visitor, seen, page, sentences.refusal(request, refused), 409)
    return _to(enrolment_id)


def _to(enrolment_id: UUID) -> Response:
    return RedirectResponse(f"/min-side/{enrolment_id}", 303)


async def _look(database: Database, visitor: Visitor, enrolment_id: UUID) -> Seen:
    """Raises Problem (404) for an enrolment that is not the visitor's: nobody learns that there is one."""
    async with database.reading() as conn:
        found = await pages.own(conn, *login(visitor.caller), enrolment_id)
        if found is None:
            raise refusals.unknown_enrolment()
        return Seen(found.one, found.run, await steps.steps(conn, enrolment_id), found.now)


def _page(
    request: Request,
    visitor: Visitor,
    seen: Seen,
    name: str = "own.html",
    said: str = "",
    status: int = 200,
    head: str = "",
) -> Response:
    return site().page(
        request,
        name,
        status,
        visitor=visitor,
        one=seen.one,
        run=seen.run,
        steps=seen.steps,
        now=seen.now,
        seen=standing(seen.one),
        said=said,
        head=head,
    )
