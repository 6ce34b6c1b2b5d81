"""What learners ask over HTTP of a seat they have or wait for: to see it, to answer, to leave. Asking is `rush.py`."""

from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Query, Response
from fastapi.responses import StreamingResponse
from pydantic import BaseModel, ConfigDict, Field

from kit import openapi, tags
from kit.auth import Caller, Signed
from kit.http import Db
from kit.idempotency import Repeatable
from kit.live import LastEventId
from kit.tags import IfMatch, IfNoneMatch
from services.enrolment import acts, asking, offers, refusals
from services.enrolment.commands import Act
from services.enrolment.desk import Desk, Paced, Request, login
from services.enrolment.domain import Enrolment
from services.enrolment.live import TheHub
from services.enrolment.shown import BASE, EnrolmentList, EnrolmentShown, OfferingSeats, seats_at, shown, tag_of
from services.enrolment.store import enrolments, seats
from services.enrolment.store.enrolments import Owner

MOST_LISTED = 100


router = APIRouter(prefix=BASE, tags=["enrolment"])


class Declining(BaseModel):
    """A learner says no to an offer."""

    model_config = ConfigDict(extra="forbid")

    stay: Annotated[bool, Field(strict=True, description="stand at the back of the line instead of leaving it")] = False


WITHDRAW = openapi.problems(404, 412, 429, kinds={409: ("not-withdrawable",)})
ANSWER = openapi.problems(404, 412, 429, kinds={409: ("no-offer", "offer-lapsed", "offering-closed")})
LIVE: dict[int | str, Any] = {
    200: {
        "description": "Each event's data is the offering's `places`; its id may be sent as Last-Event-ID to go on.",
        "content": {"text/event-stream": {"schema": {"type": "string"}}},
    },
    **openapi.problems(404),
}
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


@router.post("/enrolments/{enrolment_id}/withdraw", response_model=EnrolmentShown, responses=WITHDRAW)
async def withdraw(
    enrolment_id: UUID, caller: Paced, repeatable: Repeatable, desk: Desk, if_match: IfMatch = None
) -> Response:
    """Leave the seat or the line. The seat is offered to the first in line in the same moment."""
    return await desk.submit(Request(own("withdraw", enrolment_id, caller, if_match), repeatable))


@router.post("/enrolments/{enrolment_id}/accept", response_model=EnrolmentShown, responses=ANSWER)
async def accept(
    enrolment_id: UUID, caller: Paced, repeatable: Repeatable, desk: Desk, if_match: IfMatch = None
) -> Response:
    """Take the seat that is offered, before its deadline."""
    return await desk.submit(Request(own("accept", enrolment_id, caller, if_match), repeatable))


@router.post("/enrolments/{enrolment_id}/decline", response_model=EnrolmentShown, responses=ANSWER)
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
