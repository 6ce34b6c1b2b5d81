"""What learners ask over HTTP: which seats are free, a seat or a place in line, and to leave again."""

from typing import Annotated, cast
from uuid import UUID

from email_validator import EmailNotValidError, validate_email
from fastapi import APIRouter, Depends, Query, Response
from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from contracts.fields import Language, Line, Slug
from kit import openapi, sealing, tags
from kit.auth import Caller, Signed
from kit.groupcommit import GroupCommit
from kit.http import Db, ThisService
from kit.idempotency import Repeatable
from kit.tags import IfMatch, IfNoneMatch
from services.enrolment import commands, store
from services.enrolment.desk import Request
from services.enrolment.settings import EnrolmentSettings
from services.enrolment.shown import BASE, EnrolmentList, EnrolmentShown, OfferingSeats, seats_at, shown, tag_of

MOST_LISTED = 100


def the_desk(running: ThisService) -> GroupCommit[Request, Response]:
    if running.desk is None:
        raise RuntimeError("the service was built without its desk")
    return running.desk


Desk = Annotated[GroupCommit[Request, Response], Depends(the_desk)]

router = APIRouter(prefix=BASE, tags=["enrolment"])


def an_address(text: str) -> str:
    """A mail address in its usual form. DNS is not asked: it may be away, and the mail tells in the end."""
    try:
        return validate_email(text, check_deliverability=False).normalized
    except EmailNotValidError:
        raise ValueError("must be a mail address such as kari@example.no") from None


def each_once(places: list[str]) -> list[str]:
    if len(set(places)) < len(places):
        raise ValueError("must not name a place twice")
    return places


class Contact(BaseModel):
    """How to reach the learner. It is sealed for the notifier at once and not kept here."""

    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True)

    email: Annotated[str, Field(max_length=320), AfterValidator(an_address)]
    language: Language = "nb"


class Asking(BaseModel):
    """A learner asks for a seat."""

    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True)

    places: Annotated[
        list[Slug], Field(min_length=1, max_length=3, description="arenas, best first"), AfterValidator(each_once)
    ]
    name: Annotated[Line, Field(description="shown to the partner in the list of those who attend")]
    contact: Contact | None = None


def login(caller: Caller) -> tuple[str, str]:
    return caller.issuer, caller.subject


NOT_SENT = {"description": "It is as `If-None-Match` says."}


@router.get(
    "/offerings/{offering_id}",
    response_model=OfferingSeats,
    responses={304: NOT_SENT, **openapi.problems(404)},
)
async def read_offering(offering_id: UUID, database: Db, if_none_match: IfNoneMatch = None) -> Response:
    """The seats of an offering, for anybody."""
    async with database.reading() as conn:
        offering = await store.offering(conn, offering_id)
        places = await store.places(conn, offering_id)
    if offering is None:
        raise commands.unknown_offering()
    seats = OfferingSeats(
        offering_id=offering.id,
        course_id=offering.course_id,
        partner=offering.partner,
        starts_at=offering.starts_at,
        ends_at=offering.ends_at,
        cancelled=offering.cancelled,
        places=[seats_at(place) for place in places if place.open or place.taken],
    )
    return tags.unless_known(seats.model_dump_json().encode(), if_none_match, "no-cache")


@router.post(
    "/offerings/{offering_id}/enrolments",
    status_code=201,
    response_model=EnrolmentShown,
    responses=openapi.problems(404, 409),
)
async def enrol(
    offering_id: UUID, asking: Asking, caller: Signed, repeatable: Repeatable, running: ThisService, desk: Desk
) -> Response:
    """Ask for a seat: `associated` with a `place`, or `queued` with a `place_in_line`."""
    sealed = None
    if asking.contact is not None:  # sealed before the transaction: nobody waits for our arithmetic
        settings = cast(EnrolmentSettings, running.settings)
        sealed = sealing.seal(settings.contact_public_key, {**asking.contact.model_dump(), "name": asking.name})

    command = commands.Enrol(offering_id, login(caller), tuple(asking.places), asking.name, sealed)
    return await desk.submit(Request(command, repeatable))


@router.get(
    "/enrolments/{enrolment_id}",
    response_model=EnrolmentShown,
    responses={304: NOT_SENT, **openapi.problems(404)},
)
async def read_enrolment(
    enrolment_id: UUID, caller: Signed, database: Db, if_none_match: IfNoneMatch = None
) -> Response:
    """One enrolment of one's own."""
    async with database.reading() as conn:
        found = await store.own_enrolment(conn, enrolment_id, *login(caller))
    if found is None:
        raise commands.unknown_enrolment()
    return tags.unless_known(shown(found).model_dump_json().encode(), if_none_match, "private, no-cache")


@router.get("/me/enrolments")
async def read_own(
    caller: Signed,
    database: Db,
    response: Response,
    limit: Annotated[int, Query(ge=1, le=MOST_LISTED)] = MOST_LISTED,
    after: UUID | None = None,
) -> EnrolmentList:
    """One's own enrolments, newest first; `after` is the last id of the page before."""
    async with database.reading() as conn:
        found = await store.own_enrolments(conn, *login(caller), after, limit + 1)
    page = found[:limit]
    if len(found) > limit:
        response.headers["link"] = f'<{BASE}/me/enrolments?limit={limit}&after={page[-1].id}>; rel="next"'
    return EnrolmentList(items=[shown(one) for one in page])


@router.post(
    "/enrolments/{enrolment_id}/withdraw", response_model=EnrolmentShown, responses=openapi.problems(404, 409, 412)
)
async def withdraw(
    enrolment_id: UUID, caller: Signed, repeatable: Repeatable, desk: Desk, if_match: IfMatch = None
) -> Response:
    """Leave the seat or the line. The seat goes to the first in line in the same moment."""

    def expect(here: store.Enrolment) -> None:
        tags.must_match(if_match, tag_of(here))

    return await desk.submit(Request(commands.Withdraw(enrolment_id, login(caller), expect), repeatable))
