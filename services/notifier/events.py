"""What the notifier hears: courses, partners and contacts it keeps, and what it owes a notice of."""

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import TypeVar, cast
from uuid import UUID

from pydantic import ValidationError

from contracts.catalogue import (
    CourseChanged,
    CourseCreated,
    CourseRestated,
    CourseState,
    OfferingCancelled,
    OfferingChanged,
    OfferingConfirmed,
    OfferingRestated,
    OfferingScheduled,
    OfferingState,
    PartnerChanged,
    PartnerJoined,
    PartnerState,
    PartnerSuspended,
)
from contracts.enrolment import ContactGiven, EnrolmentEvent, LearnerAdvanced
from contracts.envelope import explain
from kit import partners as kept_partners
from kit import tracing
from kit.consumer import Consumer
from kit.database import Connection
from kit.listeners import Listeners, Received, Refused
from kit.partners import Told
from kit.sealing import Unsealable, unseal
from kit.trail import here
from services.notifier import bounces, erasing, notices, offices
from services.notifier.changes import facts as changed_facts
from services.notifier.changes import merged
from services.notifier.sealed import Contact
from services.notifier.store import calendars, changes, known, outgoing, preferences

T = TypeVar("T")

courses = Listeners()
enrolments = Listeners()


def newest(states: Iterable[tuple[UUID | str, int, T]]) -> list[T]:
    """The state with the highest version of each id, the last of equals: one statement may write a row once."""
    kept: dict[UUID | str, tuple[int, T]] = {}
    for key, version, state in states:
        if key not in kept or version >= kept[key][0]:
            kept[key] = (version, state)
    return [state for _, state in kept.values()]


@courses.on(CourseCreated, CourseChanged, CourseRestated)
async def keep_courses(conn: Connection, received: Sequence[Received]) -> None:
    states = [cast(CourseState, one.event) for one in received]
    retitled = await known.keep_courses(conn, newest((one.course_id, one.version, one) for one in states))
    if retitled:  # no mail tells of it; a calendar shows it
        await calendars.raised(conn, courses=retitled)


@courses.on(OfferingScheduled, OfferingChanged, OfferingRestated)
async def keep_offerings(conn: Connection, received: Sequence[Received]) -> None:
    states = [cast(OfferingState, one.event) for one in received]
    latest = newest((state.offering_id, state.version, one) for state, one in zip(states, received, strict=True))
    before = await changes.runs(conn, [state.offering_id for state in states])
    await known.keep_offerings(conn, [cast(OfferingState, one.event) for one in latest])
    again = [one for one in states if isinstance(one, OfferingRestated)]
    if again:
        await known.keep_outcomes(conn, again)
    told = [change(before.get(cast(OfferingState, one.event).offering_id), one) for one in latest]
    owed = [one for one in told if one is not None]
    if owed:
        await calendars.raised(conn, [one.offering_id for one in owed])
        await changes.keep_entered(conn, owed)
        await changes.owe_changes(conn, owed, notices.CHANNEL, await with_untold(conn, owed))


async def with_untold(conn: Connection, owed: Sequence[changes.Change]) -> list[changes.Together]:
    """What those are told who have no letter of an earlier change yet: both in one; and that it is as it was before to
    those alone who have heard of it otherwise."""
    by_offering = {one.offering_id: one for one in owed}
    found = []
    for one in await changes.take_over(conn, list(by_offering)):
        later = by_offering[one.offering_id]
        both = merged(one.facts, later.facts, later.open_now, heard=one.heard) or (later.facts if one.heard else None)
        found.append(changes.Together(one.about, both, one.since))
    return found


def change(before: changes.Run | None, received: Received) -> changes.Change | None:
    """What this state of an offering is to tell; nothing when it is the first, an old one, or of a cancelled run.

    So nobody is told of what is said again, unless it is the first that is heard of a change."""
    after = cast(OfferingState, received.event)
    if before is None or before.cancelled or after.version <= before.version:
        return None
    if isinstance(after, OfferingRestated) and after.cancelled:  # enrolment says so to each
        return None
    facts = changed_facts(before, after)
    if facts is None:
        return None
    with tracing.hearing(received.trail, received.envelope.type):
        path = here()
    return changes.Change(
        after.offering_id,
        received.event_id,
        path.correlation_id,
        path.traceparent,
        received.envelope.time,
        facts,
        tuple(known.open_arenas(after)),
    )


@courses.on(OfferingCancelled)
async def cancel_offerings(conn: Connection, received: Sequence[Received]) -> None:
    cancelled = [cast(OfferingCancelled, one.event) for one in received]
    await known.cancel_offerings(conn, newest((one.offering_id, one.version, one) for one in cancelled))


@courses.on(OfferingConfirmed)
async def confirm_offerings(conn: Connection, received: Sequence[Received]) -> None:
    said = []
    for one in received:
        event = cast(OfferingConfirmed, one.event)
        with tracing.hearing(one.trail, one.envelope.type):
            path = here()
        at = one.envelope.time
        word = known.Confirmation(
            event.offering_id, event.version, one.event_id, at, path.correlation_id, path.traceparent
        )
        said.append((event.offering_id, event.version, word))
    confirmed = newest(said)
    await known.confirm_offerings(conn, confirmed)
    await outgoing.owe_confirmations(conn, confirmed, notices.CHANNEL)


def partner_listeners(private_key: str) -> Listeners:
    """The listener that keeps partners, with the key that opens where their offices are."""
    partners = Listeners()

    @partners.on(PartnerJoined, PartnerChanged, PartnerSuspended)
    async def keep_partners(conn: Connection, received: Sequence[Received]) -> None:
        """Keep whose key is whose, who is suspended, whom learners ask, and where each office is written to."""
        states = [cast(PartnerState, one.event) for one in received]
        told = [Told(one.partner, isinstance(one, PartnerSuspended), one.version, one.keys) for one in states]
        await kept_partners.keep(conn, told)
        await known.keep_providers(conn, newest((one.partner, one.version, one) for one in states))
        await offices.keep(conn, states, private_key)

    return partners


@enrolments.on(*notices.EVENTS)
async def owe_notices(conn: Connection, received: Sequence[Received]) -> None:
    owed = []
    for one in received:
        with tracing.hearing(one.trail, one.envelope.type):
            owed.append(notices.notice(one))
    left = notices.enrolments(received)
    await known.keep_enrolments(conn, list(left.values()))
    live = [one for one in left.values() if one.state in notices.LIVE]
    owed += await confirmations(conn, received, live) if live else []
    await outgoing.add_notices(conn, [one for one in owed if one is not None])
    advanced = [one.event_id for one in received if isinstance(one.event, LearnerAdvanced)]
    if advanced:
        await changes.leave_older(conn, advanced)


async def confirmations(
    conn: Connection, received: Sequence[Received], live: Sequence[known.Enrolment]
) -> list[outgoing.NewNotice]:
    """What is owed to those whose seat is heard of after the word, on another topic, that their course takes place.

    The offerings of all who are concerned by a change are locked: it is told to them, or their first mail knows it.
    """
    confirmed = await known.confirmations(conn, sorted({one.offering_id for one in live}))
    causes = {cast(EnrolmentEvent, one.event).enrolment_id: one for one in received}
    owed = []
    for one in live:
        event_id, at = confirmed.get(one.offering_id, ("", None))
        if at is not None and notices.is_told(one, at):
            cause = causes[one.enrolment_id]
            with tracing.hearing(cause.trail, cause.envelope.type):
                owed.append(notices.confirmation(cause, one, event_id))
    return owed


def opened(received: Received, private_key: str) -> known.Contact:
    """The contact in a sealed letter. Raises Refused, without a word of what is in it."""
    event = cast(ContactGiven, received.event)
    try:
        contact = Contact.model_validate(unseal(private_key, event.sealed))
    except Unsealable as error:
        raise Refused("unsealable", f"sealed: {error}") from None
    except ValidationError as error:
        raise Refused("bad_contact", explain(error)[1]) from None
    return known.Contact(
        learner_id=event.learner_id,
        email=contact.email,
        name=contact.name,
        language=contact.language,
        login=contact.login,
        epoch=received.envelope.epoch or 0,
        seq=received.envelope.seq or 0,
        said_at=received.envelope.time,
        phone=contact.phone,
    )


def contact_listeners(private_key: str) -> Listeners:
    """The listener that opens contacts, with the key that it needs."""
    contacts = Listeners()

    @contacts.on(ContactGiven)
    async def keep_contacts(conn: Connection, received: Sequence[Received]) -> None:
        for given in rounds([opened(one, private_key) for one in received]):
            learners = [one.learner_id for one in given]
            former = await known.keep_contacts(conn, given)
            await bounces.leave(conn, learners, former, private_key)  # who gives another address is written to again
            await preferences.follow_log_in(conn, learners, [one.login for one in given])

    return contacts


def rounds(letters: Iterable[known.Contact]) -> list[list[known.Contact]]:
    """These in their order, each learner once in each round: between two of them the person may have said otherwise."""
    found: list[list[known.Contact]] = []
    came: Counter[UUID] = Counter()
    for one in letters:
        if came[one.learner_id] == len(found):
            found.append([])
        found[came[one.learner_id]].append(one)
        came[one.learner_id] += 1
    return found


def consumers(private_key: str) -> list[Consumer]:
    """One for each topic: a rush of enrolments does not delay courses."""
    return [
        Consumer("courses", courses, topics=("catalogue.courses",)),
        Consumer("partners", partner_listeners(private_key), topics=("catalogue.partners",)),
        Consumer("enrolments", enrolments, topics=("enrolment.enrolments",)),
        Consumer("contacts", contact_listeners(private_key), topics=("enrolment.contacts",)),
        erasing.consumer(private_key),
    ]
