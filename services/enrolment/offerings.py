"""What becomes of an offering: as the catalogue tells it, and when its hours come."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import replace
from datetime import datetime, timedelta
from uuid import UUID

import uuid_utils.compat as uuid

from contracts.catalogue import OfferingCancelled, OfferingRestated, OfferingState
from contracts.enrolment import MinimumAtRisk, MinimumMissed, MinimumReached
from contracts.fields import OfferingRules
from kit import trail
from kit.database import Connection
from services.enrolment import acts, lines, offers, telling
from services.enrolment.domain import UNRANKED, Book, Offering, closed, free_seats
from services.enrolment.settings import EnrolmentSettings
from services.enrolment.store import enrolments, seats
from services.enrolment.store.steps import put_out
from services.enrolment.work import Work

WARNED = timedelta(days=7)  # before the decision
AT_ONCE = 1_000  # learners in one transaction: their offering is locked some 300 ms for them


async def keep(conn: Connection, state: OfferingState, settings: EnrolmentSettings) -> None:
    """Take in what the catalogue says of an offering, unless we know something newer; fills seats that came of it."""
    known = (await seats.lock(conn, [state.offering_id])).get(state.offering_id)
    if known is not None and known.version >= state.version:
        return
    before = await seats.places(conn, [state.offering_id])
    now = await seats.now(conn)
    again = state if isinstance(state, OfferingRestated) else None
    cancelled = again is not None and again.cancelled
    offering = Offering(
        id=state.offering_id,
        course_id=state.course_id,
        partner=state.partner,
        version=state.version,
        starts_at=state.starts_at,
        ends_at=state.ends_at,
        cancelled=cancelled,
        over_since=None if cancelled and now >= state.ends_at else _over_since(known, now),
        rules=OfferingRules.model_validate(state.model_dump(include=set(OfferingRules.model_fields))),
    )
    capacities = {place.arena: place.capacity for place in state.places}
    await seats.put_offering(conn, offering)
    await seats.put_places(conn, offering.id, capacities)
    await seats.close_other_places(conn, offering.id, list(capacities))
    if offering.cancelled:
        await look(conn, offering.id, settings)
        return
    if known is None and again is not None and again.judged is not None:  # who was here is not: it is not judged anew
        await seats.put_judgement(conn, _as_judged(offering, again.judged.decision))
    ranked_again = known is not None and known.rules.priority_groups != offering.rules.priority_groups
    if ranked_again:
        await enrolments.rank_again(conn, offering.id, offering.rules.priority_groups, UNRANKED)
    if known is not None and _judged_by(known) != _judged_by(offering):  # what was judged by other rules is judged anew
        await seats.put_judgement(conn, offering)
    work = await Work.on(conn, [offering.id], settings)
    if ranked_again:
        work.line_moved(offering.id)
    if known is not None:  # a new one has not become anything
        was_over = known.cancelled or now >= known.ends_at  # then nothing was said of its seats any more
        work.had_free[offering.id] = None if was_over else bool(free_seats(before[offering.id].values()))
    for at in _hours(offering):
        work.look_at(offering.id, at)
    await _take_back(work, work.books[offering.id])
    late = await enrolments.offered_past(conn, offering.id, offers.last(offering.starts_at))
    steps = [acts.shorten(one, offering, work.now, uuid.uuid7) for one in late]
    if offering.open_to_all(work.now):
        for step in steps:  # each sees those before it in line
            await work.change([await work.placed(step)], [trail.here()])
    else:
        await work.change(steps, [trail.here()] * len(steps))
    await work.fill(offering.id, trail.here())
    await work.close()


def _over_since(known: Offering | None, now: datetime) -> datetime | None:
    """By which end people may have been put out who come back if this run goes on; none: by none."""
    if known is None or known.cancelled:
        return None
    return known.over_since or (known.ends_at if now >= known.ends_at else None)


def _as_judged(known: Offering, decision: str) -> Offering:
    """The run, warned of or judged as the catalogue has it from us."""
    on = known.rules.decide_at
    return replace(known, warned_for=on, judged_for=None if decision == "at_risk" else on)


def _judged_by(offering: Offering) -> tuple[int | None, datetime | None]:
    return offering.rules.minimum, offering.rules.decide_at


def _hours(offering: Offering) -> Iterable[datetime]:
    """When something may have to be done without anybody asking."""
    decide_at = offering.rules.decide_at
    return [offering.closes_at, offering.ends_at, *([decide_at - WARNED, decide_at] if decide_at is not None else [])]


async def cancel(
    conn: Connection, said: OfferingCancelled, settings: EnrolmentSettings, said_at: datetime | None = None
) -> None:
    """Nobody gets a seat here any more; everybody who has one or stands in line is told, and no seat is filled.

    `said_at` is when the catalogue said so, where that is known. What was said before the end and is heard after it
    concerns them too whom the end has put out: they come back, and are told.
    """
    known = (await seats.lock(conn, [said.offering_id])).get(said.offering_id)
    if known is None or known.version >= said.version:
        return
    over_since = known.over_since
    if said_at is not None and said_at < known.ends_at <= await seats.now(conn):
        over_since = over_since or known.ends_at
    await seats.put_offering(conn, replace(known, version=said.version, cancelled=True, over_since=over_since))
    await look(conn, said.offering_id, settings)


async def look(conn: Connection, offering_id: UUID, settings: EnrolmentSettings) -> None:
    """Do what is due at this offering, by the database's clock; what is done already is not done again.

    At most so many learners at once, so that nobody waits for the lock for seconds; the rest is due at once, too.
    """
    work = await Work.on(conn, [offering_id], settings)
    book = work.books.get(offering_id)
    if book is None:
        return
    if not await _take_back(work, book):
        await work.close()
        return
    offering = book.offering
    if offering.cancelled or work.now >= offering.ends_at:
        step = acts.release if offering.cancelled else acts.end
        if not offering.cancelled:  # first: those whom this look lets go are among them
            await lines.tell_in_vain(work, book, AT_ONCE)
        some = await enrolments.live_in(conn, offering_id, AT_ONCE)
        await work.change([step(one) for one in some], [trail.here()] * len(some))
    else:
        some = await enrolments.lapsed(conn, offering_id, work.now, AT_ONCE)
        await work.change([acts.lapse(one, offering) for one in some], [trail.here()] * len(some))
        await work.fill(offering_id, trail.here())
        await _judge(work, book)
        if len(some) < AT_ONCE:
            await lines.tell(work, book, AT_ONCE)
            if closed(offering, work.now) is not None and not await lines.tell_in_vain(work, book, AT_ONCE):
                work.look_at(offering_id, work.now)
    if len(some) == AT_ONCE:
        work.look_at(offering_id, work.now)
    await work.close()


async def _take_back(work: Work, book: Book) -> bool:
    """Let those come back whom an end has put out that was none, so many at once; the rest is due at once, too.

    False while there may be a rest. Until then the books call seats free that are not, and nobody gets one.
    """
    offering, since = book.offering, book.offering.over_since
    if since is None or (work.now >= offering.ends_at and not offering.cancelled):
        return True
    some = await put_out(work.conn, offering.id, since, AT_ONCE)
    back = [acts.come_back(one, was) for one, was in some]
    room = Counter(one.after.place for one in back if one.after.place is not None)
    await seats.make_room(work.conn, offering.id, room)
    for arena, count in room.items():
        place = book.places[arena]
        place.capacity = max(place.capacity, place.taken + count)
    await work.change(back, [trail.here()] * len(back))
    if len(some) == AT_ONCE:
        work.look_at(offering.id, work.now)
        return False
    book.offering = replace(offering, over_since=None)
    await seats.put_offering(work.conn, book.offering)
    work.had_free[offering.id] = None
    return True


async def _judge(work: Work, book: Book) -> None:
    """Say whether there are learners enough, from seven days before it is decided on, and when it is."""
    offering, rules = book.offering, book.offering.rules
    if rules.minimum is None or rules.decide_at is None or offering.judged_for == rules.decide_at:
        return
    if work.now < rules.decide_at - WARNED:
        return
    enrolled = await enrolments.seated(work.conn, offering.id)
    said = {**telling.seats(book), "enrolled": enrolled, "minimum": rules.minimum, "decide_at": rules.decide_at}
    if work.now < rules.decide_at:
        if offering.warned_for == rules.decide_at:
            return
        if enrolled < rules.minimum:
            work.say(MinimumAtRisk(**said))
        await seats.put_judgement(work.conn, replace(offering, warned_for=rules.decide_at))
        return
    if enrolled < rules.minimum:
        work.say(MinimumMissed(**said, on_too_few=rules.on_too_few))
    else:
        work.say(MinimumReached(**said))
    await seats.put_judgement(work.conn, replace(offering, judged_for=rules.decide_at))
