"""What the catalogue does when a partner speaks on its topic: the same commands as over HTTP."""

from collections.abc import Sequence

from contracts.partner import CoursePublished, CourseRetracted, OfferingPublished, OfferingRetracted
from contracts.topics import PARTNER_COURSES
from kit import tracing
from kit.consumer import Consumer
from kit.database import Connection
from kit.listeners import Listeners, Received, Refused
from services.catalogue import commands, store
from services.catalogue.domain import Rule

listeners = Listeners()


def partners() -> Consumer:
    """Follows every partner's topic, new ones too, by the pattern of their names."""
    return Consumer("partners", listeners, pattern=PARTNER_COURSES, foreign=True)


@listeners.on(CoursePublished, CourseRetracted, OfferingPublished, OfferingRetracted)
async def take(conn: Connection, received: Sequence[Received]) -> None:
    """Do what the partner says, in order. A broken rule refuses that one event, with the rule's words."""
    for one in received:
        partner = one.topic.split(".")[1]  # the topic says who speaks, never the body
        if await store.partner(conn, partner) is None:
            raise Refused("unknown_partner", "no partner has this topic; see: partners list")
        with tracing.hearing(one.trail, one.envelope.type):
            try:
                code = await _take(conn, partner, one)
            except Rule as rule:
                raise Refused(rule.code, f"{rule.field}: {rule.text}") from None
        await store.note_intake(conn, partner, "kafka", type(one.event).__name__, code)


async def _take(conn: Connection, partner: str, one: Received) -> str:
    match one.event:
        case CoursePublished() as event:
            await commands.publish_course(conn, partner, event.code, event)
            return event.code
        case CourseRetracted() as event:
            await commands.retract_course(conn, partner, event.code)
            return event.code
        case OfferingPublished() as event:
            await commands.publish_offering(conn, partner, event.course_code, event.key, event)
            return event.course_code
        case OfferingRetracted() as event:
            await commands.cancel_offering(conn, partner, event.course_code, event.key, event.reason)
            return event.course_code
        case _:
            raise TypeError(type(one.event))
