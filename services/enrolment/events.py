"""What enrolment hears: the catalogue's offerings, what its courses are called, its partners; who is forgotten."""

from collections.abc import Sequence
from typing import cast
from uuid import UUID

from contracts.catalogue import (
    CourseChanged,
    CourseCreated,
    CourseRestated,
    CourseState,
    OfferingCancelled,
    OfferingChanged,
    OfferingRestated,
    OfferingScheduled,
    OfferingState,
    PartnerChanged,
    PartnerJoined,
    PartnerState,
    PartnerSuspended,
)
from contracts.notifier import ErasureDone
from kit import partners as kept_partners
from kit import tracing
from kit.consumer import Consumer
from kit.database import Connection
from kit.listeners import Listeners, Received
from kit.partners import Told
from services.enrolment import offerings
from services.enrolment.settings import EnrolmentSettings
from services.enrolment.store import courses as named
from services.enrolment.store import erasures as asked
from services.enrolment.store import seats

LOCKED = 100  # offerings in one transaction, some 300 ms: who asks for a seat waits for its lock 2 s at most


def courses(settings: EnrolmentSettings) -> Consumer:
    """Keeps each offering as the catalogue tells it; seats that come of it are filled in the same transaction."""
    listeners = Listeners()

    @listeners.on(OfferingScheduled, OfferingChanged, OfferingCancelled, OfferingRestated)
    async def follow_offerings(conn: Connection, received: Sequence[Received]) -> None:
        told = [(one, one.event) for one in received if isinstance(one.event, (OfferingState, OfferingCancelled))]
        await seats.lock(conn, [event.offering_id for _, event in told])
        for one, event in told:
            with tracing.hearing(one.trail, one.envelope.type):
                if isinstance(event, OfferingCancelled):
                    await offerings.cancel(conn, event, settings, one.envelope.time)
                else:
                    await offerings.keep(conn, event, settings)

    return Consumer(name="courses", listeners=listeners, topics=("catalogue.courses",), batch=LOCKED)


def titles() -> Consumer:
    """Keeps what courses are called, for the pages.

    A group of its own: no seat waits for it, and where it is new it begins at the topic's beginning, while `courses`
    has passed all of that.
    """
    listeners = Listeners()

    @listeners.on(CourseCreated, CourseChanged, CourseRestated)
    async def keep_titles(conn: Connection, received: Sequence[Received]) -> None:
        newest: dict[UUID, CourseState] = {}  # one statement may write a row once
        for one in received:
            event = cast(CourseState, one.event)
            known = newest.get(event.course_id)
            if known is None or event.version > known.version:
                newest[event.course_id] = event
        await named.keep(conn, list(newest.values()))

    return Consumer(name="titles", listeners=listeners, topics=("catalogue.courses",))


def partners() -> Consumer:
    """Keeps whose key is whose, and who is suspended."""
    listeners = Listeners()

    @listeners.on(PartnerJoined, PartnerChanged, PartnerSuspended)
    async def keep_partners(conn: Connection, received: Sequence[Received]) -> None:
        states = [cast(PartnerState, one.event) for one in received]
        told = [Told(one.partner, isinstance(one, PartnerSuspended), one.version, one.keys) for one in states]
        await kept_partners.keep(conn, told)

    return Consumer(name="partners", listeners=listeners, topics=("catalogue.partners",))


def erasures() -> Consumer:
    """Notes which service has forgotten whom."""
    listeners = Listeners()

    @listeners.on(ErasureDone)
    async def note_answers(conn: Connection, received: Sequence[Received]) -> None:
        for one in (cast(ErasureDone, each.event) for each in received):
            await asked.answered(conn, one.request_id, one.service, one.counts)

    return Consumer(name="erasures", listeners=listeners, topics=("notifier.erasures",))
