"""A person's rights: what is kept of them, as a page and to take along, and to have it erased. /personvern."""

from typing import Annotated, cast
from uuid import UUID

from fastapi import APIRouter, Depends, Request
from pydantic import BaseModel, Field
from starlette.responses import RedirectResponse, Response

from kit import logs, openapi
from kit.auth import Signed
from kit.database import Connection, Database
from kit.http import Db, ThisService
from kit.idempotency import Answer, Repeatable, once
from kit.pages.site import login_address
from kit.pages.visitors import PerhapsVisitor, Visiting, acting
from kit.problems import Problem
from kit.running import Running
from services.enrolment import erasing, login
from services.enrolment.desk import Paced, at_pace
from services.enrolment.desk import login as login_of
from services.enrolment.erasing import Forgotten
from services.enrolment.personal import PLACE, Personal, personal
from services.enrolment.settings import EnrolmentSettings
from services.enrolment.shown import BASE
from services.enrolment.site import site
from services.enrolment.store import erasures
from services.enrolment.store import personal as store

log = logs.get(__name__)

api = APIRouter(prefix=BASE, tags=["privacy"])
router = APIRouter(prefix=PLACE, include_in_schema=False)


class Erasing(BaseModel):
    """What was done here at once. `request_id` is the number of the request, to ask about it by."""

    request_id: UUID
    withdrawn: Annotated[int, Field(description="how many seats and places in line were given up")]


async def the_settings(running: ThisService) -> EnrolmentSettings:
    return cast(EnrolmentSettings, running.settings)


Settings = Annotated[EnrolmentSettings, Depends(the_settings)]


@api.get("/me/data", response_model=Personal, responses=openapi.problems(401))
async def read_data(caller: Signed, database: Db, settings: Settings) -> Response:
    """All that enrolment keeps about whoever asks. What the notifier keeps is at its own `/me/data`."""
    return await _file(database, login_of(caller), settings)


@api.delete("/me", status_code=202, response_model=Erasing, responses=openapi.problems(401, 429))
async def erase_me(caller: Paced, database: Db, running: ThisService, asked: Repeatable) -> Response:
    """Forget whoever asks, in all services: seats go to the next in line, and no mail comes any more.

    Again without the same `Idempotency-Key`, there is nothing left, and it is asked of the other services once more.
    """
    done: list[Forgotten] = []

    async def work(conn: Connection) -> Response:
        async def effect() -> Answer:
            done[:] = [await erasing.forget_login(conn, login_of(caller), cast(EnrolmentSettings, running.settings))]
            return Answer(Erasing(request_id=done[0].request_id, withdrawn=done[0].withdrawn), 202)

        return await once(conn, asked and asked.nameless(), effect)

    answer = await database.run(work)
    for one in done:
        log.info("person_forgotten", count=one.withdrawn)
    return answer


@router.get("")
async def show(request: Request, visitor: PerhapsVisitor) -> Response:
    """What is kept of people, why, and for how long; for whoever is logged in, what they may do about it."""
    return site().page(request, "privacy.html", visitor=visitor, log_in=login_address(PLACE))


@router.get("/data.json")
async def file(visitor: Visiting, database: Db, settings: Settings) -> Response:
    """All that is kept here, as a file."""
    return await _file(database, login_of(visitor.caller), settings)


@router.get("/slett")
async def ask(request: Request, visitor: Visiting, database: Db) -> Response:
    """What is given up and what is deleted, with a button that does it."""
    who = login_of(visitor.caller)
    async with database.reading() as conn:
        learner_id = await erasures.learner(conn, *who)
        live = await store.live(conn, learner_id) if learner_id else 0
        has_role = await store.role(conn, *who) is not None
    return site().page(request, "erase.html", visitor=visitor, live=live, has_role=has_role)


@router.post("/slett")
async def erase(request: Request, visitor: PerhapsVisitor, database: Db, running: ThisService) -> Response:
    """Do it, and end all sessions. Who presses twice is logged in no more, and is told what that may mean."""
    if visitor is None:
        again = login_address(f"{PLACE}/slett")
        return site().page(request, "erased.html", 401, visitor=None, found=None, log_in=again)
    await acting(request, visitor)
    at_pace(visitor.caller, running)
    done = await _erase(database, login_of(visitor.caller), running)
    answer = RedirectResponse(f"{PLACE}/slettet/{done.request_id}", 303, login.FRESH)
    login.drop_key(answer)
    return answer


@router.get("/slettet/{request_id:uuid}")
async def show_erased(request_id: UUID, request: Request, visitor: PerhapsVisitor, database: Db) -> Response:
    """How a request stands, for whoever has its number: it says of nobody who they were."""
    async with database.reading() as conn:
        found = await erasures.one(conn, request_id)
    if found is None:
        raise Problem("not-found", "Not found", 404, "There is no such request.")
    return site().page(request, "erased.html", visitor=visitor, found=found)


async def _erase(database: Database, who: tuple[str, str], running: Running) -> Forgotten:
    settings = cast(EnrolmentSettings, running.settings)

    async def work(conn: Connection) -> Forgotten:
        return await erasing.forget_login(conn, who, settings)

    done = await database.run(work)
    log.info("person_forgotten", count=done.withdrawn)
    return done


async def _file(database: Database, who: tuple[str, str], settings: EnrolmentSettings) -> Response:
    async with database.reading() as conn:
        found = await personal(conn, who, settings.public_url)
    named = {"content-disposition": 'attachment; filename="kursnett-enrolment.json"', "cache-control": "no-store"}
    return Response(found.model_dump_json(indent=2), headers=named, media_type="application/json")
