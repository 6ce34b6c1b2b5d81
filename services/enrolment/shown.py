"""What is shown of offerings and enrolments over HTTP, and the tag of each."""

from datetime import datetime
from uuid import UUID

from pydantic import BaseModel
from starlette.responses import Response

from contracts.fields import Period
from kit import tags
from services.enrolment import domain
from services.enrolment.domain import Enrolment

BASE = "/api/enrolment/v1"


class SeatsAt(BaseModel):
    arena: str
    capacity: int
    taken: int
    free: int
    queued: int


class OfferingSeats(BaseModel):
    """`groups` may be named by who asks; after `offers_end_at` a free seat is whose who asks first."""

    offering_id: UUID
    course_id: UUID
    partner: str
    starts_at: datetime
    ends_at: datetime
    cancelled: bool
    places: list[SeatsAt]
    groups: list[str] = []
    periods: list[Period] = []
    requires_approval: bool = False
    offers_end_at: datetime


class EnrolmentShown(BaseModel):
    """`place_in_line` is 1-based, only while queued; `expires_at` is the deadline of an offer, only while offered.

    `waiting_for` are the places it stands in line for; `reason` is the partner's, when it was denied.
    """

    enrolment_id: UUID
    offering_id: UUID
    state: str
    places: list[str]
    place: str | None
    place_in_line: int | None
    asked_at: datetime
    waiting_for: list[str] = []
    expires_at: datetime | None = None
    group: str | None = None
    reason: str | None = None


class EnrolmentList(BaseModel):
    items: list[EnrolmentShown]


def shown(enrolment: Enrolment) -> EnrolmentShown:
    return EnrolmentShown(
        enrolment_id=enrolment.id,
        offering_id=enrolment.offering_id,
        state=enrolment.state,
        places=list(enrolment.choices),
        place=enrolment.place,
        place_in_line=enrolment.place_in_line,
        asked_at=enrolment.asked_at,
        waiting_for=list(enrolment.waiting_for),
        expires_at=enrolment.expires_at,
        group=enrolment.group,
        reason=enrolment.denied_because,
    )


def tag_of(enrolment: Enrolment) -> str:
    return tags.tag(shown(enrolment).model_dump_json().encode())


def answer(enrolment: Enrolment, new: bool) -> Response:
    """The enrolment as the answer to a write; `new` names its address."""
    body = shown(enrolment).model_dump_json().encode()
    headers = {"etag": tags.tag(body)}
    if new:
        headers["location"] = f"{BASE}/enrolments/{enrolment.id}"
    return Response(body, 201 if new else 200, headers, "application/json")


def seats_at(place: domain.Place) -> SeatsAt:
    return SeatsAt(arena=place.arena, capacity=place.capacity, taken=place.taken, free=place.free, queued=place.queued)
