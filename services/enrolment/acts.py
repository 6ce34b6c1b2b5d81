"""What can be done with an enrolment that is there: withdraw, accept, decline, approve, deny, let an offer lapse."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Literal
from uuid import UUID

from services.enrolment import offers
from services.enrolment.asking import seat_or_line
from services.enrolment.domain import LIVE, Book, By, Change, Enrolment, Offering, closed

Kind = Literal["withdraw", "accept", "decline", "approve", "deny"]


@dataclass(frozen=True, slots=True)
class Cannot:
    """Why not. `state` is what the enrolment is."""

    why: Literal["ended", "no_offer", "lapsed", "not_pending", "cancelled", "started"]
    state: str


Step = Change | Cannot | None  # none: it is so already, and nothing happens


def withdraw(here: Enrolment) -> Step:
    if here.state == "cancelled":
        return None
    if here.state not in LIVE:
        return Cannot("ended", here.state)
    return Change(here, here.unseated("cancelled"), "learner", "withdrawn")


def accept(here: Enrolment, offering: Offering, now: datetime) -> Step:
    """Take the seat; not of an offering that was cancelled, whose learners are told of it some at a time."""
    if here.state != "offered" or here.place is None or here.expires_at is None:
        return Cannot("no_offer", here.state)
    if offering.cancelled:
        return Cannot("cancelled", here.state)
    if now >= here.expires_at:
        return Cannot("lapsed", here.state)
    return Change(here, here.seated(here.place), "learner", "accepted")


def decline(here: Enrolment, offering: Offering, now: datetime, stay: bool) -> Step:
    """Say no to the seat; `stay`: and stand at the back of the line, so that all others there are asked first."""
    if here.state != "offered" or here.expires_at is None:
        return Cannot("no_offer", here.state)
    if offering.cancelled:
        return Cannot("cancelled", here.state)
    if now >= here.expires_at:
        return Cannot("lapsed", here.state)
    return Change(here, here.unseated("queued" if stay else "cancelled"), "learner", "declined", to_back=stay)


def lapse(here: Enrolment, offering: Offering) -> Change:
    """Nobody answered in time."""
    stay = offering.keeps_in_line(here)
    return Change(here, here.unseated("queued" if stay else "cancelled"), "clock", "lapsed", to_back=stay)


def shorten(here: Enrolment, offering: Offering, now: datetime, new_id: Callable[[], UUID]) -> Change:
    """The course begins earlier than it did, and no offer holds so long: it is made anew, as its links travel with it.

    When it is too late for any, its learner stands in line again where they stood: it was not they who were late.
    """
    last = offers.last(offering.starts_at)
    if now >= last:
        return Change(here, here.unseated("queued"), "catalogue", "begins too soon for offers")
    return Change(here, replace(here, offer_id=new_id(), expires_at=last), "catalogue", "begins earlier")


def approve(here: Enrolment, book: Book, now: datetime) -> Step:
    """Let one in who has waited for it: a seat, or the place in line that the time of asking gives."""
    if here.state in ("queued", "offered", "associated"):
        return None
    if here.state != "pending":
        return Cannot("not_pending", here.state)
    shut = closed(book.offering, now)
    if shut is not None:
        return Cannot(shut, here.state)
    return Change(here, seat_or_line(here, book), "partner", "approved")


def deny(here: Enrolment, reason: str) -> Step:
    if here.state == "denied":
        return None
    if here.state != "pending":
        return Cannot("not_pending", here.state)
    return Change(here, here.unseated("denied", denied_because=reason), "partner", "denied")


def end(here: Enrolment) -> Change:
    """The offering is over: who had a seat has finished, who still waited has waited in vain."""
    if here.state == "associated":
        return Change(here, replace(here, state="finished", waiting_for=()), "clock", "finished")
    return Change(here, here.unseated("cancelled"), "clock", "over")


def release(here: Enrolment) -> Change:
    """The offering was cancelled."""
    by: By = "catalogue"
    return Change(here, here.unseated("cancelled"), by, "offering_cancelled")


def come_back(here: Enrolment, was: str) -> Change:
    """The offering was over by what was known, and goes on: as they were before, with the same number in line.

    `was`: their state before the end. An offer has ended, and goes to the first in line anew.
    """
    if here.place is not None:
        after = here.seated(here.place)
    else:
        after = here.unseated("pending" if was == "pending" else "queued")
    return Change(here, after, "catalogue", "goes on")
