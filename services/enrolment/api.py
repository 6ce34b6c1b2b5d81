"""What learners ask over HTTP: which seats are free, a seat or a place in line, and to leave again."""

from typing import Annotated, Any, Literal, cast
from uuid import UUID

from email_validator import EmailNotValidError, validate_email
from fastapi import APIRouter, Header, Query, Response
from fastapi.responses import StreamingResponse
from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from contracts.fields import Language, Line, Slug
from kit import openapi, sealing, tags
from kit.auth import Caller, Signed
from kit.http import Db, ThisService
from kit.idempotency import Repeatable
from kit.tags import IfMatch, IfNoneMatch
from services.enrolment import acts, asking, commands, offers, refusals
from services.enrolment.commands import Act
from services.enrolment.desk import Desk, Paced, Request, login
from services.enrolment.domain import Enrolment
from services.enrolment.live import TheHub
from services.enrolment.settings import EnrolmentSettings
from services.enrolment.shown import BASE, EnrolmentList, EnrolmentShown, OfferingSeats, seats_at, shown, tag_of
from services.enrolment.store import enrolments, seats
from services.enrolment.store.enrolments import Owner

MOST_LISTED = 100


router = APIRouter(prefix=BASE, tags=["enrolment"])


def an_address(text: str) -> str:
    """A mail address in its usual form. DNS is not asked: it may be away, and the mail tells in the end."""
    try:
        return validate_email(text, check_deliverability=False).normalized
    except EmailNotValidError:
        raise ValueError("must be a mail address such as kari@example.no") from None


class Contact(BaseModel):
    """How to reach the learner. It is sealed for the notifier at once and not kept here."""

    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True)

    email: Annotated[str, Field(max_length=320), AfterValidator(an_address)]
    language: Language = "nb"


class Asking(BaseModel):
    """A learner asks for a seat."""

    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True)

    places: Annotated[
        list[Slug],
        Field(min_length=1, max_length=3, description="arenas, best first", json_schema_extra={"uniqueItems": True}),
    ]
    name: Annotated[Line, Field(description="shown to the partner in the list of those who attend")]
    contact: Contact | None = None
    group: Annotated[Slug | None, Field(description="one of the offering's groups, if one belongs to it")] = None
    wait_for_earlier: Annotated[
        bool,
        Field(strict=True, description="seated at a later choice, stand in line for the earlier ones"),
    ] = True
    on_lapse: Annotated[
        Literal["leave", "back_of_queue"] | None,
        Field(description="what an offer that the learner does not answer does; none: what the offering says"),
    ] = None


class Declining(BaseModel):
    """A learner says no to an offer."""

    model_config = ConfigDict(extra="forbid")

    stay: Annotated[bool, Field(strict=True, description="stand at the back of the line instead of leaving it")] = False


ACT = openapi.problems(404, 409, 412, 429)
LIVE: dict[int | str, Any] = {
    200: {
        "description": "Each event's data is the offering's `places`; its id may be sent as Last-Event-ID to go on.",
        "content": {"text/event-stream": {"schema": {"type": "string"}}},
    },
    **openapi.problems(404),
}
LastEventId = Annotated[str | None, Header(description="The id of the last event that was seen.")]
NOT_SENT = {"description": "It is as `If-None-Match` says."}


@router.get(
    "/offerings/{offering_id}",
    response_model=OfferingSeats,
    responses={304: NOT_SENT, **openapi.problems(404)},
)
async def read_offering(offering_id: UUID, database: Db, if_none_match: IfNoneMatch = None) -> Response:
    """The seats of an offering, for anybody."""
    async with database.reading() as conn:
        offering = await seats.offering(conn, offering_id)
        places = (await seats.places(conn, [offering_id]))[offering_id].values()
    if offering is None:
        raise refusals.unknown_offering()
    shown_seats = OfferingSeats(
        offering_id=offering.id,
        course_id=offering.course_id,
        partner=offering.partner,
        starts_at=offering.starts_at,
        ends_at=offering.ends_at,
        cancelled=offering.cancelled,
        places=[seats_at(place) for place in places if place.open or place.taken],
        groups=list(asking.groups_of(offering)),
        periods=offering.rules.periods,
        requires_approval=offering.rules.requires_approval,
        offers_end_at=offers.last(offering.starts_at),
    )
    return tags.unless_known(shown_seats.model_dump_json().encode(), if_none_match, "no-cache")


@router.post(
    "/offerings/{offering_id}/enrolments",
    status_code=201,
    response_model=EnrolmentShown,
    responses=openapi.problems(404, 409, 429),
)
async def enrol(
    offering_id: UUID, body: Asking, caller: Paced, repeatable: Repeatable, running: ThisService, desk: Desk
) -> Response:
    """Ask for a seat: `associated` with a `place`, `queued` with a `place_in_line`, or `pending` till approved."""
    if len(set(body.places)) < len(body.places):
        raise refusals.place_twice()
    sealed = None
    if body.contact is not None:  # sealed before the transaction: nobody waits for our arithmetic
        settings = cast(EnrolmentSettings, running.settings)
        sealed = sealing.seal(settings.contact_public_key, {**body.contact.model_dump(), "name": body.name})

    command = commands.Enrol(
        offering_id,
        login(caller),
        tuple(body.places),
        body.name,
        sealed,
        body.group,
        body.wait_for_earlier,
        body.on_lapse,
    )
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
        found = await enrolments.own_enrolment(conn, enrolment_id, *login(caller))
    if found is None:
        raise refusals.unknown_enrolment()
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
        found = await enrolments.own_enrolments(conn, *login(caller), after, limit + 1)
    page = found[:limit]
    if len(found) > limit:
        response.headers["link"] = f'<{BASE}/me/enrolments?limit={limit}&after={page[-1].id}>; rel="next"'
    return EnrolmentList(items=[shown(one) for one in page])


def own(kind: acts.Kind, enrolment_id: UUID, caller: Caller, if_match: str | None, stay: bool = False) -> Act:
    """What a learner does with an enrolment of their own; 412 when it is not as they have read it."""

    def may(owner: Owner) -> bool:
        return owner.login == login(caller)

    def expect(here: Enrolment) -> None:
        tags.must_match(if_match, tag_of(here))

    return Act(kind, enrolment_id, may, expect, stay)


@router.post("/enrolments/{enrolment_id}/withdraw", response_model=EnrolmentShown, responses=ACT)
async def withdraw(
    enrolment_id: UUID, caller: Paced, repeatable: Repeatable, desk: Desk, if_match: IfMatch = None
) -> Response:
    """Leave the seat or the line. The seat is offered to the first in line in the same moment."""
    return await desk.submit(Request(own("withdraw", enrolment_id, caller, if_match), repeatable))


@router.post("/enrolments/{enrolment_id}/accept", response_model=EnrolmentShown, responses=ACT)
async def accept(
    enrolment_id: UUID, caller: Paced, repeatable: Repeatable, desk: Desk, if_match: IfMatch = None
) -> Response:
    """Take the seat that is offered, before its deadline."""
    return await desk.submit(Request(own("accept", enrolment_id, caller, if_match), repeatable))


@router.post("/enrolments/{enrolment_id}/decline", response_model=EnrolmentShown, responses=ACT)
async def decline(
    enrolment_id: UUID,
    caller: Paced,
    repeatable: Repeatable,
    desk: Desk,
    body: Declining | None = None,
    if_match: IfMatch = None,
) -> Response:
    """Say no to the seat that is offered, and leave; or stand at the back of the line with `{"stay": true}`."""
    stay = body is not None and body.stay
    return await desk.submit(Request(own("decline", enrolment_id, caller, if_match, stay), repeatable))


@router.get("/offerings/{offering_id}/live", response_class=StreamingResponse, responses=LIVE)
async def live(offering_id: UUID, hub: TheHub, last_event_id: LastEventId = None) -> Response:
    """The seats of an offering, told again each time they change, as server-sent events named `seats`."""
    stream = await hub.listen(offering_id, last_event_id)
    return StreamingResponse(stream, media_type="text/event-stream", headers={"x-accel-buffering": "no"})
