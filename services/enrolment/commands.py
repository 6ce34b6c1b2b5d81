"""What can be done with seats: enrol, withdraw, take in what the catalogue says, and the one path that fills a seat."""

from collections import Counter
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from contracts.catalogue import OfferingCancelled, OfferingState
from contracts.enrolment import (
    ContactGiven,
    LearnerEnrolled,
    LearnerQueued,
    LearnerWithdrew,
    OfferingFilled,
    OfferingReopened,
    SeatCount,
)
from contracts.envelope import Event
from kit import outbox
from kit.database import Connection
from kit.problems import Problem, explain
from services.enrolment import domain, store
from services.enrolment.domain import Offering, Place
from services.enrolment.store import Enrolment

explain(
    "already-enrolled",
    "You are already enrolled",
    "You have a seat or stand in line here already; `enrolment_id` names it. To choose other places, withdraw first.",
)
explain(
    "offering-closed",
    "This offering is closed",
    "It was cancelled or has started (`reason` says which): nobody can enrol any more.",
)
explain("not-withdrawable", "There is nothing to withdraw", "The enrolment has ended, and its `state` says how.")


def unknown_offering() -> Problem:
    return Problem("not-found", "Not found", 404, "There is no such offering.")


def unknown_enrolment() -> Problem:
    return Problem("not-found", "Not found", 404, "There is no such enrolment, or it is not yours.")


async def enrol(
    conn: Connection,
    offering_id: UUID,
    login: tuple[str, str],
    choices: Sequence[str],
    name: str,
    sealed: str | None = None,
) -> Enrolment:
    """Give the learner the best free seat among `choices` (arenas, best first), or a place in line.

    `login` is (issuer, subject); `sealed` the contact for the notifier, if one was given. Raises Problem: 404 for an
    unknown offering, 409 when it is closed or the learner is enrolled here already, 422 naming a place it has not.
    """
    learner_id = await store.know_learner(conn, *login)
    offering = await store.lock_offering(conn, offering_id)
    if offering is None:
        raise unknown_offering()
    places = await store.places(conn, offering_id)
    _must_be_open(offering, await store.now(conn))
    _must_have(places, choices)
    live = await store.live_enrolment(conn, offering_id, learner_id)
    if live is not None:
        words = "You have a seat or stand in line here already."
        raise Problem("already-enrolled", "You are already enrolled", 409, words, enrolment_id=str(live))

    place = domain.seat_for(choices, domain.free_seats(places))
    enrolment_id = await store.add_enrolment(conn, offering_id, learner_id, choices, place, name)
    if place is not None:
        await store.take_seats(conn, offering_id, {place: 1})
    made = await store.enrolment(conn, enrolment_id)
    if made is None:
        raise RuntimeError("an enrolment that was just made is not there")

    events: list[Event] = [] if sealed is None else [ContactGiven(learner_id=learner_id, sealed=sealed)]
    about = _about(offering, enrolment_id, learner_id)
    if place is not None:
        events.append(LearnerEnrolled(**about, place=place))
        events += await _turn(conn, offering, before=places)
    else:
        events.append(LearnerQueued(**about, places=list(choices), place_in_line=made.place_in_line or 1))
    await outbox.add_all(conn, events)
    return made


async def withdraw(
    conn: Connection,
    enrolment_id: UUID,
    login: tuple[str, str],
    expect: Callable[[Enrolment], None] = lambda here: None,
) -> Enrolment:
    """Leave a seat or the line; the seat goes to the first in line. A second time changes nothing.

    `expect` raises when the enrolment, locked, is not what the learner has read. Raises Problem: 404 unless it is this
    login's own, 409 when it has ended in another way.
    """
    own = await store.own_enrolment(conn, enrolment_id, *login)
    if own is None:
        raise unknown_enrolment()
    offering = await store.lock_offering(conn, own.offering_id)
    left = await store.enrolment(conn, enrolment_id)  # again: it may have got a seat while we waited for the lock
    if offering is None or left is None:
        raise unknown_enrolment()
    expect(left)
    if left.state == "cancelled":
        return left
    if left.state not in domain.LIVE:
        words = f"The enrolment is {left.state}."
        raise Problem("not-withdrawable", "There is nothing to withdraw", 409, words, state=left.state)

    places = await store.places(conn, offering.id)
    await store.cancel(conn, [left.id], "learner", "withdrawn")
    events: list[Event] = [LearnerWithdrew(**_about(offering, left.id, left.learner_id), place=left.place)]
    if left.place is not None:
        await store.free_seat(conn, offering.id, left.place)
        events += await fill_seats(conn, offering, "a seat was given up")
        events += await _turn(conn, offering, before=places)
    await outbox.add_all(conn, events)
    ended = await store.enrolment(conn, enrolment_id)
    return ended or left


async def fill_seats(conn: Connection, offering: Offering, why: str) -> list[Event]:
    """Give every free seat to the first in line who would sit there; what to say of it, in that order.

    The one path for a seat that became free, whatever freed it, in the transaction that freed it and under the
    offering's lock: so at no commit is a seat free that somebody stands in line for. Closed offerings stay as they are.
    """
    if domain.closed(offering, await store.now(conn)) is not None:
        return []
    events: list[Event] = []
    while free := domain.free_seats(await store.places(conn, offering.id)):
        line = await store.first_in_line(conn, offering.id, list(free), sum(free.values()))
        if not line:
            break
        # The first of these always gets a seat, so each round leaves fewer; several choices may need a second round.
        seated = domain.fill(line, free)
        await store.seat_from_line(conn, [(waiting.enrolment_id, arena) for waiting, arena in seated], why)
        await store.take_seats(conn, offering.id, Counter(arena for _, arena in seated))
        events += [
            LearnerEnrolled(**_about(offering, waiting.enrolment_id, waiting.learner_id), place=arena, from_queue=True)
            for waiting, arena in seated
        ]
    return events


async def keep_offering(conn: Connection, state: OfferingState) -> None:
    """Take in what the catalogue says of an offering, unless we know something newer; fills seats that came of it."""
    known = await store.lock_offering(conn, state.offering_id)
    if known is not None and known.version >= state.version:
        return
    before = await store.places(conn, state.offering_id)
    offering = Offering(
        id=state.offering_id,
        course_id=state.course_id,
        partner=state.partner,
        version=state.version,
        starts_at=state.starts_at,
        ends_at=state.ends_at,
        cancelled=False,
    )
    capacities = {place.arena: place.capacity for place in state.places}
    await store.put_offering(conn, offering)
    await store.put_places(conn, offering.id, capacities)
    await store.close_other_places(conn, offering.id, list(capacities))
    events = await fill_seats(conn, offering, "the offering was changed")
    if known is not None and not known.cancelled:
        events += await _turn(conn, offering, before=before)
    await outbox.add_all(conn, events)


async def cancel_offering(conn: Connection, said: OfferingCancelled) -> None:
    """Everybody who has a seat or stands in line is cancelled and told; no seat is filled."""
    known = await store.lock_offering(conn, said.offering_id)
    if known is None or known.version >= said.version:
        return
    cancelled = Offering(
        id=known.id,
        course_id=known.course_id,
        partner=known.partner,
        version=said.version,
        starts_at=known.starts_at,
        ends_at=known.ends_at,
        cancelled=True,
    )
    await store.put_offering(conn, cancelled)
    everybody = await store.live_enrolments(conn, known.id)
    await store.cancel(conn, [one.id for one in everybody], "catalogue", "offering_cancelled")
    await store.free_all_seats(conn, known.id)
    await outbox.add_all(
        conn,
        [
            LearnerWithdrew(**_about(cancelled, one.id, one.learner_id), place=one.place, reason="offering_cancelled")
            for one in everybody
        ],
    )


async def _turn(conn: Connection, offering: Offering, before: Sequence[Place]) -> list[Event]:
    """Whether the offering has become full or has a seat again, compared with its places `before`."""
    after = await store.places(conn, offering.id)
    had, has = bool(domain.free_seats(before)), bool(domain.free_seats(after))
    if had == has:
        return []
    kind = OfferingReopened if has else OfferingFilled
    seats = [SeatCount(arena=p.arena, capacity=p.capacity, taken=p.taken, queued=p.queued) for p in after]
    return [kind(offering_id=offering.id, course_id=offering.course_id, partner=offering.partner, seats=seats)]


def _about(offering: Offering, enrolment_id: UUID, learner_id: UUID) -> dict[str, Any]:
    """What every event of an enrolment says."""
    return {
        "enrolment_id": enrolment_id,
        "learner_id": learner_id,
        "offering_id": offering.id,
        "course_id": offering.course_id,
        "partner": offering.partner,
    }


def _must_be_open(offering: Offering, now: datetime) -> None:
    reason = domain.closed(offering, now)
    if reason is not None:
        words = "The offering was cancelled." if reason == "cancelled" else "The offering has started."
        raise Problem("offering-closed", "This offering is closed", 409, words, reason=reason)


def _must_have(places: Sequence[Place], choices: Sequence[str]) -> None:
    known = [place.arena for place in places if place.open]
    errors = [
        {"field": f"places[{number}]", "detail": f"must be one of: {', '.join(known)}"}
        for number, arena in enumerate(choices)
        if arena not in known
    ]
    if errors:
        words = f"See errors: {', '.join(error['field'] for error in errors)}."
        raise Problem("invalid", "The request is not valid", 422, words, errors=errors)
