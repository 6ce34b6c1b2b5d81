"""Which notice an event about a learner asks for, and where it leaves the enrolment."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any, cast
from uuid import UUID

from contracts.enrolment import (
    EnrolmentDenied,
    EnrolmentEvent,
    EnrolmentFinished,
    EnrolmentPending,
    EnrolmentRestated,
    LearnerAdvanced,
    LearnerEnrolled,
    LearnerGotNoSeat,
    LearnerMoved,
    LearnerQueued,
    LearnerWithdrew,
    SeatOfferDeclined,
    SeatOffered,
    SeatOfferLapsed,
)
from kit.listeners import Received
from kit.trail import here
from services.notifier.kinds import ADVANCED
from services.notifier.store.known import Enrolment
from services.notifier.store.outgoing import NewNotice

CHANNEL = "email"  # the only way to people so far
CANCELLED = "offering_cancelled"  # the reason enrolment gives when a learner did not leave by own will
SEATED = "associated"
OVER = "over"  # waited to the end: cancelled to enrolment, but told of a move that was said before that end
LIVE = (SEATED, "offered", "queued")  # who is told of a change

EVENTS: tuple[type[EnrolmentEvent], ...] = (
    LearnerEnrolled,
    LearnerQueued,
    EnrolmentPending,
    EnrolmentDenied,
    SeatOffered,
    SeatOfferLapsed,
    SeatOfferDeclined,
    LearnerMoved,
    LearnerAdvanced,
    LearnerGotNoSeat,
    LearnerWithdrew,
    EnrolmentFinished,
    EnrolmentRestated,
)


def notice(received: Received) -> NewNotice | None:
    """The notice that an event asks for, on the trail that is being followed; none where nobody is told."""
    words: dict[str, Any]
    match received.event:
        case LearnerEnrolled() as event:
            words = {"template": "seat_from_line" if event.from_queue else "enrolled", "place": event.place}
        case LearnerQueued() as event:
            words = {"template": "queued", "place_in_line": event.place_in_line, "facts": {"offers": event.offers}}
        case EnrolmentPending():
            words = {"template": "pending"}
        case EnrolmentDenied() as event:
            words = {"template": "denied", "facts": {"denial": event.reason}}
        case SeatOffered() as event:
            words = {"template": "offered", "place": event.place, "facts": {"on_lapse": event.on_lapse}}
            words |= {"expires_at": event.expires_at, "sealed": event.sealed}
        case SeatOfferLapsed() as event:
            facts = {"in_line": event.in_line, "offers": event.offers}
            words = {"template": "lapsed", "place": event.place, "facts": facts}
        case SeatOfferDeclined() as event:
            words = {"template": "declined", "place": event.place, "facts": {"in_line": event.in_line}}
        case LearnerMoved() as event:
            words = {"template": "moved", "place": event.place, "facts": {"from_place": event.from_place}}
        case LearnerAdvanced() as event:
            words = {
                "template": ADVANCED,
                "place_in_line": event.place_in_line,
                "facts": {"place_before": event.before},
            }
        case LearnerGotNoSeat() as event:
            words = {"template": "no_seat", "facts": {"waited_for": event.waited_for}}
        case EnrolmentFinished() | EnrolmentRestated() | LearnerWithdrew(reason="over"):
            return None
        case LearnerWithdrew() as event:
            words = {"template": "offering_cancelled" if event.reason == CANCELLED else "withdrawn"}
            words["place"] = event.place
        case other:
            raise TypeError(f"no notice is known for {type(other).__name__}")
    return replace(_blank(received), **words)


def _blank(received: Received) -> NewNotice:
    event, path = cast(EnrolmentEvent, received.event), here()
    return NewNotice(
        event_id=received.event_id,
        learner_id=event.learner_id,
        offering_id=event.offering_id,
        about=event.enrolment_id,
        template="",
        channel=CHANNEL,
        place=None,
        place_in_line=None,
        correlation_id=path.correlation_id,
        traceparent=path.traceparent,
    )


def confirmation(received: Received, enrolment: Enrolment, confirmed_by: str) -> NewNotice:
    """The notice that this enrolment's course, which was confirmed by that event, will take place."""
    place = enrolment.place if enrolment.state == SEATED else None  # by it the letter knows who has a seat
    return replace(_blank(received), event_id=confirmed_by, template="confirmed", place=place)


def enrolments(received: Sequence[Received]) -> dict[UUID, Enrolment]:
    """Enrolment id -> where the last of these events leaves it."""
    found: dict[UUID, Enrolment] = {}
    for one in received:
        left = _enrolment(one)
        before = found.get(left.enrolment_id)
        same = before is not None and before.state == left.state
        found[left.enrolment_id] = replace(left, since=before.since) if before and same else left
    return found


def _enrolment(received: Received) -> Enrolment:
    event = cast(EnrolmentEvent, received.event)
    state, place = _state(event)
    return Enrolment(
        enrolment_id=event.enrolment_id,
        learner_id=event.learner_id,
        offering_id=event.offering_id,
        state=state,
        place=place,
        since=received.envelope.time,
        epoch=received.envelope.epoch or 0,
        seq=received.envelope.seq or 0,
    )


def _state(event: EnrolmentEvent) -> tuple[str, str | None]:
    """(state, place of the seat), by enrolment's own names."""
    match event:
        case LearnerEnrolled() | LearnerMoved():
            return SEATED, event.place
        case LearnerQueued() | LearnerAdvanced() | LearnerGotNoSeat(waited_for="seat"):
            return "queued", None
        case EnrolmentPending() | LearnerGotNoSeat(waited_for="approval"):
            return "pending", None
        case EnrolmentDenied():
            return "denied", None
        case SeatOffered():
            return "offered", event.place
        case SeatOfferLapsed() | SeatOfferDeclined():
            return ("queued" if event.in_line else "cancelled"), None
        case EnrolmentFinished():
            return "finished", event.place
        case LearnerWithdrew(reason="over"):
            return OVER, None
        case EnrolmentRestated():
            return ("cancelled" if event.state == "lost" else event.state), event.place
        case _:
            return "cancelled", None


def is_told(enrolment: Enrolment, confirmed_at: datetime) -> bool:
    """Whether "the course will take place" is for this enrolment: it had a seat or was in line when that was said."""
    return enrolment.state in LIVE and enrolment.since is not None and enrolment.since <= confirmed_at
