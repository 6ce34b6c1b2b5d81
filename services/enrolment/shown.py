"""What is shown of offerings and enrolments over HTTP, and the tag of each."""

from datetime import datetime
from uuid import UUID

from pydantic import BaseModel

from kit import tags
from kit.idempotency import Answer
from services.enrolment import domain, store

BASE = "/api/enrolment/v1"


class SeatsAt(BaseModel):
    arena: str
    capacity: int
    taken: int
    free: int
    queued: int


class OfferingSeats(BaseModel):
    offering_id: UUID
    course_id: UUID
    partner: str
    starts_at: datetime
    ends_at: datetime
    cancelled: bool
    places: list[SeatsAt]


class EnrolmentShown(BaseModel):
    """`place_in_line` is 1-based, only while queued."""

    enrolment_id: UUID
    offering_id: UUID
    state: str
    places: list[str]
    place: str | None
    place_in_line: int | None
    asked_at: datetime


class EnrolmentList(BaseModel):
    items: list[EnrolmentShown]


def shown(enrolment: store.Enrolment) -> EnrolmentShown:
    return EnrolmentShown(
        enrolment_id=enrolment.id,
        offering_id=enrolment.offering_id,
        state=enrolment.state,
        places=list(enrolment.choices),
        place=enrolment.place,
        place_in_line=enrolment.place_in_line,
        asked_at=enrolment.asked_at,
    )


def tag_of(enrolment: store.Enrolment) -> str:
    return tags.tag(shown(enrolment).model_dump_json().encode())


def answer(enrolment: store.Enrolment, new: bool) -> Answer:
    """The enrolment as the answer to a write; `new` names its address."""
    headers = {"etag": tag_of(enrolment)}
    if new:
        headers["location"] = f"{BASE}/enrolments/{enrolment.id}"
    return Answer(shown(enrolment), 201 if new else 200, headers)


def seats_at(place: domain.Place) -> SeatsAt:
    return SeatsAt(arena=place.arena, capacity=place.capacity, taken=place.taken, free=place.free, queued=place.queued)
