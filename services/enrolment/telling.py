"""Which event tells of which step."""

from datetime import datetime
from typing import Any

from contracts.enrolment import (
    EnrolmentDenied,
    EnrolmentFinished,
    EnrolmentPending,
    EnrolmentRestated,
    LearnerAdvanced,
    LearnerEnrolled,
    LearnerGotNoSeat,
    LearnerMoved,
    LearnerQueued,
    LearnerWithdrew,
    SeatCount,
    SeatOfferDeclined,
    SeatOffered,
    SeatOfferLapsed,
)
from contracts.envelope import Event
from services.enrolment.domain import Book, Change, Enrolment, Offering, Standing, Waiting


def of_new(one: Enrolment, offering: Offering, now: datetime) -> Event:
    """What is said of an enrolment that is new, or that has been let in or has taken an open seat."""
    about = _about(one, offering)
    if one.state == "pending":
        return EnrolmentPending(**about, places=list(one.choices))
    if one.place is None:
        place, offers = one.place_in_line or 1, not offering.open_to_all(now)
        return LearnerQueued(**about, places=list(one.choices), place_in_line=place, offers=offers)
    return LearnerEnrolled(**about, place=one.place)


def of(change: Change, offering: Offering, now: datetime, sealed: str = "") -> Event:
    """What is said of one step; `sealed` holds the links of an offer."""
    before, after = change.before, change.after
    about = _about(after, offering)
    if change.why == "goes on":  # it is as the learner believes it to be: no mail
        return EnrolmentRestated.model_validate({**about, "state": after.state, "place": after.place})
    if after.state == "offered" and after.offer_id is not None and after.place is not None:
        return SeatOffered(
            **about,
            offer_id=after.offer_id,
            place=after.place,
            expires_at=_known(after.expires_at),
            on_lapse="back_of_queue" if offering.keeps_in_line(after) else "leave",
            sealed=sealed,
        )
    if change.why in ("declined", "lapsed") and before.offer_id is not None and before.place is not None:
        about |= {"offer_id": before.offer_id, "place": before.place, "in_line": after.state == "queued"}
        if change.why == "declined":  # in time, and so while there are offers
            return SeatOfferDeclined(**about)
        return SeatOfferLapsed(**about, offers=not offering.open_to_all(now))
    if after.state == "denied":
        return EnrolmentDenied(**about, reason=after.denied_because or "")
    if after.state == "finished" and after.place is not None:
        return EnrolmentFinished(**about, place=after.place)
    if after.state == "cancelled":
        return LearnerWithdrew(**about, place=before.place, reason=change.why)
    if before.state == "associated" and before.place is not None and after.place is not None:
        return LearnerMoved(**about, from_place=before.place, place=after.place)
    if before.state in ("offered", "queued") and after.place is not None:
        return LearnerEnrolled(**about, place=after.place, from_queue=True)
    return of_new(after, offering, now)


def advanced(one: Standing, place: int, offering: Offering) -> Event:
    """That this one has come up to that place in line, from the one that was last told."""
    return LearnerAdvanced(**_about(one, offering), place_in_line=place, before=one.place_told or place)


def in_vain(one: Waiting, offering: Offering) -> Event:
    """That enrolment has closed, and this one waits still."""
    return LearnerGotNoSeat(**_about(one, offering), waited_for="approval" if one.pending else "seat")


def seats(book: Book) -> dict[str, Any]:
    """What every event of an offering's seats says."""
    offering = book.offering
    return {
        "offering_id": offering.id,
        "course_id": offering.course_id,
        "partner": offering.partner,
        "seats": [
            SeatCount(arena=one.arena, capacity=one.capacity, taken=one.taken, queued=one.queued)
            for one in book.places.values()
        ],
    }


def _about(one: Enrolment | Standing | Waiting, offering: Offering) -> dict[str, Any]:
    return {
        "enrolment_id": one.id,
        "learner_id": one.learner_id,
        "offering_id": offering.id,
        "course_id": offering.course_id,
        "partner": offering.partner,
    }


def _known(at: datetime | None) -> datetime:
    if at is None:
        raise ValueError("an offer has an hour at which it ends")
    return at
