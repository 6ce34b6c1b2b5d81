"""What can be done with seats: enrol, withdraw, take in what the catalogue says, and the one path that fills a seat."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import groupby
from typing import Any
from uuid import UUID

import uuid_utils.compat as uuid

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
from kit import outbox, trail
from kit.database import Connection
from kit.problems import Problem, explain
from kit.trail import Trail
from services.enrolment import domain, store
from services.enrolment.domain import Ask, Book, Closed, Enrolled, InLine, NoSuchPlace, Offering, Place, Seat
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


@dataclass(frozen=True, slots=True)
class Enrol:
    """Give the learner the best free seat among `choices` (arenas, best first), or a place in line.

    `login` is (issuer, subject); `sealed` the contact for the notifier, if one was given.
    """

    offering_id: UUID
    login: tuple[str, str]
    choices: tuple[str, ...]
    name: str
    sealed: str | None = None
    trail: Trail = field(default_factory=trail.here)


@dataclass(frozen=True, slots=True)
class Withdraw:
    """Leave a seat or the line. `expect` raises when the enrolment, locked, is not what the learner has read."""

    enrolment_id: UUID
    login: tuple[str, str]
    expect: Callable[[Enrolment], None] = lambda here: None
    trail: Trail = field(default_factory=trail.here)


Command = Enrol | Withdraw
Said = list[tuple[Event, Trail]]  # in the order of saying


async def decide(conn: Connection, asked: Sequence[Command]) -> list[Enrolment | Problem]:
    """Decide commands in the order of their arrival, in the caller's transaction; what became of each.

    Enrol: 404 for an unknown offering, 409 when it is closed or the learner is enrolled here already, 422 naming a
    place it has not. Withdraw: 404 unless it is this login's own, 409 when it has ended in another way; a second time
    changes nothing. However many commands of one kind come in a row, they cost the same number of statements.
    """
    learners = await store.know_learners(conn, sorted({one.login for one in asked if isinstance(one, Enrol)}))
    leaving = [(one.enrolment_id, *one.login) for one in asked if isinstance(one, Withdraw)]
    own = await store.own_offerings(conn, leaving) if leaving else {}
    wanted = {one.offering_id for one in asked if isinstance(one, Enrol)} | set(own.values())
    offerings = await store.lock_offerings(conn, sorted(wanted))
    outcomes: list[Enrolment | Problem] = []
    said: Said = []
    for kind, run in groupby(asked, key=type):
        if kind is Enrol:
            outcomes += await _enrol(conn, [one for one in run if isinstance(one, Enrol)], offerings, learners, said)
        else:
            outcomes += await _withdraw(conn, [one for one in run if isinstance(one, Withdraw)], offerings, own, said)
    await outbox.add_all(conn, [event for event, _ in said], [path for _, path in said])
    return outcomes


async def _enrol(
    conn: Connection,
    asked: Sequence[Enrol],
    offerings: Mapping[UUID, Offering],
    learners: Mapping[tuple[str, str], UUID],
    said: Said,
) -> list[Enrolment | Problem]:
    known = sorted({one.offering_id for one in asked} & offerings.keys())
    now = await store.now(conn)
    places = await store.places_of(conn, known)
    lines = await store.lines(conn, known)
    live = await store.live_enrolments_of(conn, [(one.offering_id, learners[one.login]) for one in asked])
    books = {
        offering_id: Book(offerings[offering_id], places[offering_id], line=lines[offering_id]) for offering_id in known
    }
    for (offering_id, learner_id), enrolment_id in live.items():
        books[offering_id].live[learner_id] = enrolment_id
    asks = [
        Ask(uuid.uuid7(), one.offering_id, learners[one.login], one.choices)
        for one in asked
        if one.offering_id in books
    ]
    decisions = iter(zip(asks, domain.decide(asks, books, now), strict=True))
    outcomes: list[Enrolment | Problem] = []
    made: list[Enrolment] = []
    for one in asked:
        if one.offering_id not in books:
            outcomes.append(unknown_offering())
            continue
        ask, decision = next(decisions)
        if not isinstance(decision, Seat | InLine):
            outcomes.append(_refused(decision))
            continue
        enrolment = Enrolment(
            id=ask.enrolment_id,
            offering_id=ask.offering_id,
            learner_id=ask.learner_id,
            state="associated" if isinstance(decision, Seat) else "queued",
            choices=ask.choices,
            place=decision.place if isinstance(decision, Seat) else None,
            name=one.name,
            asked_at=now,
            place_in_line=decision.number if isinstance(decision, InLine) else None,
        )
        made.append(enrolment)
        outcomes.append(enrolment)
        if one.sealed is not None:
            said.append((ContactGiven(learner_id=ask.learner_id, sealed=one.sealed), one.trail))
        about = _about(offerings[ask.offering_id], ask.enrolment_id, ask.learner_id)
        if enrolment.place is not None:
            said.append((LearnerEnrolled(**about, place=enrolment.place), one.trail))
        else:
            line = LearnerQueued(**about, places=list(one.choices), place_in_line=enrolment.place_in_line or 1)
            said.append((line, one.trail))
    if made:
        await store.add_enrolments(conn, made)
        await store.take_seats(conn, Counter((one.offering_id, one.place) for one in made if one.place is not None))
    for offering_id in known:
        if domain.free_seats(places[offering_id]) and not any(books[offering_id].free.values()):
            said += [
                (event, asked[-1].trail) for event in await _turn(conn, offerings[offering_id], places[offering_id])
            ]
    return outcomes


async def _withdraw(
    conn: Connection,
    asked: Sequence[Withdraw],
    offerings: Mapping[UUID, Offering],
    own: Mapping[UUID, UUID],
    said: Said,
) -> list[Enrolment | Problem]:
    found = await store.enrolments(conn, [one.enrolment_id for one in asked])
    outcomes: list[Enrolment | Problem] = []
    left: list[Enrolment] = []
    for one in asked:
        here = found.get(one.enrolment_id)
        if here is None or own.get(one.enrolment_id) not in offerings:
            outcomes.append(unknown_enrolment())
            continue
        try:
            one.expect(here)
        except Problem as problem:
            outcomes.append(problem)
            continue
        if here.state == "cancelled":
            outcomes.append(here)
            continue
        if here.state not in domain.LIVE:
            words = f"The enrolment is {here.state}."
            outcomes.append(Problem("not-withdrawable", "There is nothing to withdraw", 409, words, state=here.state))
            continue
        left.append(here)
        about = _about(offerings[here.offering_id], here.id, here.learner_id)
        said.append((LearnerWithdrew(**about, place=here.place), one.trail))
        found[here.id] = replace(here, state="cancelled", place=None, place_in_line=None)
        outcomes.append(found[here.id])
    if not left:
        return outcomes
    given_up = Counter((one.offering_id, one.place) for one in left if one.place is not None)
    before = await store.places_of(conn, sorted({offering_id for offering_id, _ in given_up}))
    await store.cancel(conn, [one.id for one in left], "learner", "withdrawn")
    await store.free_seats(conn, given_up)
    for offering_id, places in before.items():
        events = await fill_seats(conn, offerings[offering_id], "a seat was given up")
        events += await _turn(conn, offerings[offering_id], places)
        said += [(event, asked[-1].trail) for event in events]
    return outcomes


def _refused(decision: Closed | NoSuchPlace | Enrolled) -> Problem:
    if isinstance(decision, Closed):
        words = "The offering was cancelled." if decision.reason == "cancelled" else "The offering has started."
        return Problem("offering-closed", "This offering is closed", 409, words, reason=decision.reason)
    if isinstance(decision, Enrolled):
        words = "You have a seat or stand in line here already."
        live = str(decision.enrolment_id)
        return Problem("already-enrolled", "You are already enrolled", 409, words, enrolment_id=live)
    errors = [
        {"field": f"places[{number}]", "detail": f"must be one of: {', '.join(decision.open)}"}
        for number in decision.numbers
    ]
    words = f"See errors: {', '.join(error['field'] for error in errors)}."
    return Problem("invalid", "The request is not valid", 422, words, errors=errors)


async def fill_seats(conn: Connection, offering: Offering, why: str) -> list[Event]:
    """Give every free seat to the first in line who would sit there; what to say of it, in that order.

    The one path for a seat that became free, whatever freed it, in the transaction that freed it and under the
    offering's lock: so at no commit is a seat free that somebody stands in line for. Closed offerings stay as they are.
    """
    if domain.closed(offering, await store.now(conn)) is not None:
        return []
    events: list[Event] = []
    while free := domain.free_seats((await store.places_of(conn, [offering.id]))[offering.id]):
        line = await store.first_in_line(conn, offering.id, list(free), sum(free.values()))
        if not line:
            break
        # The first of these always gets a seat, so each round leaves fewer; several choices may need a second round.
        seated = domain.fill(line, free)
        await store.seat_from_line(conn, [(waiting.enrolment_id, arena) for waiting, arena in seated], why)
        await store.take_seats(conn, Counter((offering.id, arena) for _, arena in seated))
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
    cancelled = replace(known, version=said.version, cancelled=True)
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
    had, has = (
        bool(domain.free_seats(places))
        for places in (before, (await store.places_of(conn, [offering.id]))[offering.id])
    )
    if had == has:
        return []
    after = await store.places(conn, offering.id)
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
