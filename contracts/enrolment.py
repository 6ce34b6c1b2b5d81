"""What enrolment says: who got a seat, who stands in line, who left. People are random learner ids, never names."""

from typing import Literal
from uuid import UUID

from pydantic import BaseModel

from contracts.envelope import Event
from contracts.fields import Instant


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
    """Every place asked for was full: the learner stands in line. `place_in_line` is 1-based, when asked.

    `offers`: a seat that comes free is offered in turn; else it is so late that it is whose who asks first.
    """

    places: list[str]
    place_in_line: int
    offers: bool = True


class EnrolmentPending(EnrolmentEvent):
    """A learner has asked, and the partner has to approve."""

    places: list[str]


class EnrolmentDenied(EnrolmentEvent):
    """The partner said no; `reason` is for the learner, in the partner's words."""

    reason: str


class SeatOffered(EnrolmentEvent):
    """A seat is kept for the first in line until `expires_at`, and for nobody else.

    `sealed` holds, for the notifier alone, the tokens of the links by which the learner answers without logging in:
    a JWE of `{"accept": …, "decline": …}`.
    """

    offer_id: UUID
    place: str
    expires_at: Instant
    on_lapse: Literal["leave", "back_of_queue"]
    sealed: str


class SeatOfferLapsed(EnrolmentEvent):
    """Nobody answered in time. `in_line`: the learner stands at the back of the line now, else has left it.

    `offers`: as of `LearnerQueued`.
    """

    offer_id: UUID
    place: str
    in_line: bool
    offers: bool = True


class SeatOfferDeclined(EnrolmentEvent):
    """The learner said no. `in_line`: and stands at the back of the line now, else has left it."""

    offer_id: UUID
    place: str
    in_line: bool


class LearnerMoved(EnrolmentEvent):
    """A seat came at a place the learner wants more: the learner sits at `place` now, no longer at `from_place`."""

    from_place: str
    place: str


class LearnerAdvanced(EnrolmentEvent):
    """One in line has come further up, to `place_in_line`; `before` is what was last said. At most once a day."""

    place_in_line: int
    before: int


class LearnerGotNoSeat(EnrolmentEvent):
    """Enrolment has closed, and a learner still waits: for a seat, or for approval. The enrolment stays what it was."""

    waited_for: Literal["seat", "approval"]


class EnrolmentFinished(EnrolmentEvent):
    """The offering has ended, and the learner had a seat to its end."""

    place: str


class LearnerWithdrew(EnrolmentEvent):
    """A learner left, or the offering was cancelled under it. `place` is the seat given up, none when queued."""

    place: str | None = None
    reason: str = "withdrawn"


class EnrolmentRestated(EnrolmentEvent):
    """What the enrolment is, whatever was said of it before: after a restore, or where a run that was over goes on.

    `state` is `lost` when it was made after the backup: there is no such enrolment any more. Learners are told nothing
    of it: of what was lost an operator has the list, and in a run that goes on all is as they believe it to be.
    """

    state: Literal["pending", "queued", "offered", "reserved", "associated", "denied", "cancelled", "finished", "lost"]
    place: str | None = None


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


class MinimumEvent(SeatsEvent):
    """How many have a seat, against how many the offering needs."""

    enrolled: int
    minimum: int
    decide_at: Instant


class MinimumAtRisk(MinimumEvent):
    """Within seven days it is decided whether the offering takes place, and too few have a seat as yet."""


class MinimumReached(MinimumEvent):
    """On the day of the decision enough learners have a seat."""


class MinimumMissed(MinimumEvent):
    """On the day of the decision too few learners have a seat. The catalogue does what the offering's rule says."""

    on_too_few: Literal["hold", "cancel"]


class ContactGiven(Event, topic="enrolment.contacts", aggregate="contact", key="learner_id"):
    """How to reach a learner: a JWE for the notifier's key. Nobody else can open it, and enrolment does not keep it."""

    learner_id: UUID
    sealed: str


class ErasureRequested(Event, topic="enrolment.erasures", aggregate="erasure", key="learner_id"):
    """A person is to be forgotten: each service deletes what it knows of this learner, and answers by the request.

    Said again, it asks for the same again. `sealed` tells the notifier alone by which log-in it knows the person: a JWE
    of `{"login": …}`; none when that is not known any more.
    """

    learner_id: UUID
    request_id: UUID
    sealed: str | None = None
