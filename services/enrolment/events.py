"""What enrolment hears: the catalogue's offerings."""

from collections.abc import Sequence

from contracts.catalogue import OfferingCancelled, OfferingChanged, OfferingScheduled, OfferingState
from kit import tracing
from kit.consumer import Consumer
from kit.database import Connection
from kit.listeners import Listeners, Received
from services.enrolment import commands, store

listeners = Listeners()


@listeners.on(OfferingScheduled, OfferingChanged, OfferingCancelled)
async def follow_offerings(conn: Connection, received: Sequence[Received]) -> None:
    """Keep each offering as the catalogue tells it; seats that come of it are filled in the same transaction."""
    told = [(one, one.event) for one in received if isinstance(one.event, (OfferingState, OfferingCancelled))]
    await store.lock_offerings(conn, [event.offering_id for _, event in told])
    for one, event in told:
        with tracing.hearing(one.trail, one.envelope.type):
            if isinstance(event, OfferingCancelled):
                await commands.cancel_offering(conn, event)
            else:
                await commands.keep_offering(conn, event)


def courses() -> Consumer:
    return Consumer(name="courses", listeners=listeners, topics=("catalogue.courses",))
