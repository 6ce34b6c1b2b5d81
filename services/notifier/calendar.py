"""A person's calendar at a secret address, to which calendar programs subscribe; a new address ends the one before."""

import hashlib
import secrets
from datetime import datetime
from typing import Annotated, Any
from urllib.parse import urlsplit

from fastapi import APIRouter, Path, Response
from pydantic import BaseModel

from kit import calendars, openapi, tags
from kit.auth import Signed
from kit.database import Connection
from kit.http import Db, ThisService
from kit.problems import Problem
from kit.tags import IfNoneMatch
from services.notifier import appointments
from services.notifier.letters import chosen_title, known_language
from services.notifier.store import calendars as store

BASE = "/api/notifier/v1"
MEDIA_TYPE = "text/calendar"
SECRET_BYTES = 32
LONGEST = 100  # a secret of ours has 43 characters

router = APIRouter(prefix=BASE, tags=["calendar"])

FILE: dict[int | str, Any] = {
    200: {"description": "An iCalendar file (RFC 5545).", "content": {MEDIA_TYPE: {"schema": {"type": "string"}}}},
    304: {"description": "You have it."},
    **openapi.problems(404),
}


class CalendarKnown(BaseModel):
    """Whether there is an address, and since when. What it is was shown when it was made."""

    made_at: datetime | None


class CalendarMade(CalendarKnown):
    """The address, shown this once: whoever has it can read the calendar. `webcal` is the same, to be subscribed to."""

    url: str
    webcal: str


def digest(secret: str) -> bytes:
    """A secret has 256 random bits, so that a plain digest cannot be guessed back."""
    return hashlib.sha256(secret.encode()).digest()


def new_secret() -> str:
    """The secret of a new address."""
    return secrets.token_urlsafe(SECRET_BYTES)


def addresses(public_url: str, secret: str) -> tuple[str, str]:
    """(https, webcal) where the calendar with this secret is."""
    url = f"{public_url}{BASE}/calendar/{secret}.ics"
    return url, urlsplit(url)._replace(scheme="webcal").geturl()


@router.get("/me/calendar", responses=openapi.problems(401))
async def read_calendar_address(caller: Signed, database: Db) -> CalendarKnown:
    """Whether one's calendar has an address."""
    async with database.reading() as conn:
        return CalendarKnown(made_at=await store.made_at(conn, caller.key))


@router.post("/me/calendar", status_code=201, responses=openapi.problems(401))
async def renew_calendar_address(
    caller: Signed, database: Db, running: ThisService, response: Response
) -> CalendarMade:
    """Make a new address for one's calendar. The one before it is no more; so is this one when it is asked again."""
    secret = new_secret()

    async def work(conn: Connection) -> datetime:
        return await store.renew(conn, caller.key, digest(secret))

    made = await database.run(work)
    url, webcal = addresses(running.settings.public_url, secret)
    response.headers["cache-control"] = "no-store"
    return CalendarMade(made_at=made, url=url, webcal=webcal)


@router.delete("/me/calendar", status_code=204, responses=openapi.problems(401))
async def revoke_calendar_address(caller: Signed, database: Db) -> Response:
    """Let nobody read one's calendar by an address any more."""

    async def work(conn: Connection) -> None:
        await store.revoke(conn, caller.key)

    await database.run(work)
    return Response(status_code=204)


@router.get("/calendar/{secret}.ics", response_class=Response, responses=FILE)
async def read_calendar(
    secret: Annotated[str, Path(max_length=LONGEST)], database: Db, if_none_match: IfNoneMatch = None
) -> Response:
    """The sessions of the courses in which its person has a seat. No log-in: the address is the key."""
    async with database.reading() as conn:
        login = await store.owner(conn, digest(secret))
        seats = [] if login is None else await store.seats(conn, login)
    if login is None:
        raise Problem("not-found", "Not found", 404, "There is no calendar at this address, or no longer.")
    answer = tags.unless_known(calendar(seats), if_none_match, "private, no-cache", MEDIA_TYPE)
    answer.headers["x-robots-tag"] = "noindex"
    return answer


def calendar(seats: list[store.Seat]) -> bytes:
    """One event for each session, with the UID that it has in the mails."""
    whole = calendars.calendar("PUBLISH")
    whole.add("x-wr-calname", "Kursnett")
    for seat in seats:
        language = known_language(seat.language)
        title, _ = chosen_title(seat.title, language)
        for event in appointments.events(seat.enrolment_id, title, seat.place, seat.meetings(), language):
            event.add("dtstamp", seat.changed_at)
            event.add("sequence", seat.sequence)
            event.add("status", "CONFIRMED")
            whole.add_component(event)
    return bytes(whole.to_ical())
