"""What the catalogue hears: partners on their topics, as over HTTP; from enrolment, how many take part in a run."""

from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

from contracts.enrolment import (
    EnrolmentDenied,
    EnrolmentEvent,
    EnrolmentFinished,
    EnrolmentPending,
    EnrolmentRestated,
    LearnerEnrolled,
    LearnerMoved,
    LearnerQueued,
    LearnerWithdrew,
    MinimumAtRisk,
    MinimumEvent,
    MinimumMissed,
    MinimumReached,
    OfferingFilled,
    OfferingReopened,
    SeatOfferDeclined,
    SeatOffered,
    SeatOfferLapsed,
    SeatsEvent,
)
from contracts.partner import CoursePublished, CourseRetracted, OfferingPublished, OfferingRetracted
from contracts.topics import PARTNER_COURSES
from kit import logs, tracing
from kit.consumer import Consumer
from kit.database import Connection
from kit.listeners import Listeners, Received, Refused
from services.catalogue import commands, retracting
from services.catalogue.domain import Rule
from services.catalogue.quarantine import Quarantine
from services.catalogue.store import retractions
from services.catalogue.store.courses import lock_course, lock_courses_of
from services.catalogue.store.intake import keep_seats, note_intake, said_at, said_since
from services.catalogue.store.partners import known

log = logs.get(__name__)

OVERTAKEN = "was said anew since, over HTTP or in a file; if this holds, send it again: run again, it stays refused"

listeners = Listeners(Quarantine())
judgements = Listeners()
enrolled = Listeners()


def partners() -> Consumer:
    """Follows every partner's topic, new ones too, by the pattern of their names."""
    return Consumer("partners", listeners, pattern=PARTNER_COURSES, foreign=True)


def enrolments() -> Consumer:
    """Follows what enrolment says of a run's seats and its minimum; all else that it says passes by."""
    return Consumer("enrolments", judgements, topics=("enrolment.enrolments",))


def learners() -> Consumer:
    """Counts who has a seat, waits or stands in line.

    A group of its own: no judgement waits for it, and where it is new it begins at the topic's beginning, while
    `enrolments` has passed all of that.
    """
    return Consumer("learners", enrolled, topics=("enrolment.enrolments",))


@listeners.on(CoursePublished, CourseRetracted, OfferingPublished, OfferingRetracted)
async def take(conn: Connection, received: Sequence[Received]) -> None:
    """Do what the partner says, in order. A broken rule refuses that one event, with the rule's words."""
    for one in received:
        partner = one.topic.split(".")[1]  # the topic says who speaks, never the body
        if await known(conn, partner) is None:
            raise Refused("unknown_partner", "source: no partner has this topic; see: partners list")
        with tracing.hearing(one.trail, one.envelope.type):
            code, key = _about(one)
            at = await said_at(conn, one.said_at_latest, one.record.written_ms)
            was_there = await lock_course(conn, partner, code)  # whoever is saying something of it now has said it then
            await _not_overtaken(conn, partner, code, key, one, at)
            try:
                await _take(conn, partner, one, at)
            except Rule as rule:
                raise Refused(rule.code, f"{rule.field}: {rule.text}") from None
            if was_there is None:  # who made it in the same moment could not be waited for, and is seen only now
                await _not_overtaken(conn, partner, code, key, one, at)
        await note_intake(conn, partner, "kafka", type(one.event).__name__, code, key, one.envelope.id)


def _about(one: Received) -> tuple[str, str | None]:
    """The course's code, and the run's key."""
    match one.event:
        case CoursePublished() | CourseRetracted() as event:
            return event.code, None
        case OfferingPublished() | OfferingRetracted() as event:
            return event.course_code, event.key
        case _:
            raise TypeError(type(one.event))


async def _not_overtaken(
    conn: Connection, partner: str, code: str, key: str | None, one: Received, at: datetime | None
) -> None:
    """Raises Refused when it lay unread or was kept back while its partner said otherwise: HTTP and files are open
    meanwhile.

    A course is retracted with its runs, so a newer word of one of them counts too, and to retract it is one about each:
    what waits of a run must not come back with a course that is offered anew. What ran just before it from the same
    topic does not count: that is older.
    """
    whole = isinstance(one.event, CourseRetracted)
    if at is not None and await said_since(conn, partner, code, key, at, whole):
        raise Refused("overtaken", f"{'key' if key else 'code'}: {OVERTAKEN}")


async def _take(conn: Connection, partner: str, one: Received, at: datetime | None) -> None:
    match one.event:
        case CoursePublished() as event:
            await commands.publish_course(conn, partner, event.code, event)
        case CourseRetracted() as event:
            await retracting.ask(conn, partner, event.code, None, "", event.confirmed, one.envelope.id)
        case OfferingPublished() as event:
            await commands.publish_offering(conn, partner, event.course_code, event.key, event, said_at=at)
        case OfferingRetracted() as event:
            code, key, event_id = event.course_code, event.key, one.envelope.id
            await retracting.ask(conn, partner, code, key, event.reason, event.confirmed, event_id)
        case _:
            raise TypeError(type(one.event))


@judgements.on(MinimumAtRisk, MinimumReached, MinimumMissed)
async def judge(conn: Connection, received: Sequence[Received]) -> None:
    """Confirm, cancel or mark each run as its rules say; a run that is not ours is passed over."""
    told = [(one, one.event) for one in received if isinstance(one.event, MinimumEvent)]
    courses = await lock_courses_of(conn, [event.offering_id for _, event in told])
    for one, event in told:
        with tracing.hearing(one.trail, one.envelope.type):
            course = courses.get(event.offering_id)
            if course is None:
                log.warning("offering_not_known", offering_id=event.offering_id, event_id=one.event_id)
            else:
                await commands.judge(conn, course, event)
                await _count(conn, one, event)


@judgements.on(OfferingFilled, OfferingReopened)
async def count_seats(conn: Connection, received: Sequence[Received]) -> None:
    """Keep how many seats of each run are taken, with the time at which enrolment said so."""
    for one in received:
        if isinstance(one.event, SeatsEvent):
            await _count(conn, one, one.event)


async def _count(conn: Connection, one: Received, event: SeatsEvent) -> None:
    if one.envelope.time is not None:  # ours always have one
        places = [place.model_dump() for place in event.seats]
        await keep_seats(conn, event.offering_id, places, one.envelope.time)


@enrolled.on(
    EnrolmentPending,
    LearnerEnrolled,
    LearnerQueued,
    LearnerMoved,
    SeatOffered,
    SeatOfferDeclined,
    SeatOfferLapsed,
    EnrolmentDenied,
    EnrolmentFinished,
    EnrolmentRestated,
    LearnerWithdrew,
)
async def count_people(conn: Connection, received: Sequence[Received]) -> None:
    """Keep which enrolments are not over, as the last word of each is."""
    last: dict[UUID, EnrolmentEvent] = {}
    for one in received:
        if isinstance(one.event, EnrolmentEvent):
            last[one.event.enrolment_id] = one.event
    live = [event for event in last.values() if not _is_over(event)]
    await retractions.join(conn, [event.enrolment_id for event in live], [event.offering_id for event in live])
    await retractions.leave(conn, [event.enrolment_id for event in last.values() if _is_over(event)])


def _is_over(event: EnrolmentEvent) -> bool:
    if isinstance(event, (SeatOfferDeclined, SeatOfferLapsed)):
        return not event.in_line
    if isinstance(event, EnrolmentRestated):
        return event.state in ("denied", "cancelled", "finished", "lost")
    return isinstance(event, (EnrolmentDenied, EnrolmentFinished, LearnerWithdrew))
