"""What enrolment says: who got a seat, who stands in line, who left. People are random learner ids, never names."""

from uuid import UUID

from pydantic import BaseModel

from contracts.envelope import Event


class EnrolmentEvent(
    Event, topic="enrolment.enrolments", aggregate="learner", key="learner_id", subject="enrolment_id"
):
    enrolment_id: UUID
    learner_id: UUID
    offering_id: UUID
    course_id: UUID
    partner: str


class LearnerEnrolled(EnrolmentEvent):
    """A learner has a seat at `place`; `from_queue` when it came from the waiting list."""

    place: str
    from_queue: bool = False


class LearnerQueued(EnrolmentEvent):
    """Every place asked for was full: the learner stands in line. `place_in_line` is 1-based, when asked."""

    places: list[str]
    place_in_line: int


class LearnerWithdrew(EnrolmentEvent):
    """A learner left, or the offering was cancelled under it. `place` is the seat given up, none when queued."""

    place: str | None = None
    reason: str = "withdrawn"


class SeatCount(BaseModel):
    arena: str
    capacity: int
    taken: int
    queued: int


class SeatsEvent(Event, topic="enrolment.enrolments", aggregate="offering", key="offering_id"):
    offering_id: UUID
    course_id: UUID
    partner: str
    seats: list[SeatCount]


class OfferingFilled(SeatsEvent):
    """The last free seat of an offering is taken; who asks now stands in line."""


class OfferingReopened(SeatsEvent):
    """A full offering has a free seat and nobody in line."""


class ContactGiven(Event, topic="enrolment.contacts", aggregate="contact", key="learner_id"):
    """How to reach a learner: a JWE for the notifier's key. Nobody else can open it, and enrolment does not keep it."""

    learner_id: UUID
    sealed: str
