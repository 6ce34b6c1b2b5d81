"""What enrolment hears: the catalogue's offerings."""

from collections.abc import Sequence

from contracts.catalogue import OfferingCancelled, OfferingChanged, OfferingScheduled, OfferingState
from kit import tracing
from kit.consumer import Consumer
from kit.database import Connection
from kit.listeners import Listeners, Received
from services.enrolment import offerings
from services.enrolment.settings import EnrolmentSettings
from services.enrolment.store import seats


def courses(settings: EnrolmentSettings) -> Consumer:
    """Keeps each offering as the catalogue tells it; seats that come of it are filled in the same transaction."""
    listeners = Listeners()

    @listeners.on(OfferingScheduled, OfferingChanged, OfferingCancelled)
    async def follow_offerings(conn: Connection, received: Sequence[Received]) -> None:
        told = [(one, one.event) for one in received if isinstance(one.event, (OfferingState, OfferingCancelled))]
        await seats.lock(conn, [event.offering_id for _, event in told])
        for one, event in told:
            with tracing.hearing(one.trail, one.envelope.type):
                if isinstance(event, OfferingCancelled):
                    await offerings.cancel(conn, event, settings)
                else:
                    await offerings.keep(conn, event, settings)

    return Consumer(name="courses", listeners=listeners, topics=("catalogue.courses",))
