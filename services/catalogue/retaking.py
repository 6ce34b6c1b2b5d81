"""After the database was restored: takes back from its own events what was published after the backup."""

from collections.abc import Sequence

from contracts.catalogue import (
    CourseRestated,
    CourseState,
    CourseWithdrawn,
    OfferingCancelled,
    OfferingConfirmed,
    OfferingRestated,
    OfferingState,
    PartnerState,
    PartnerSuspended,
)
from contracts.envelope import Envelope, Event
from contracts.registry import BY_TYPE
from contracts.topics import partner_courses
from kit import topics
from kit.database import Connection
from kit.restoring import Restated, Restored
from services.catalogue.store import courses, retaken

ABOUT_COURSE = {"course_id", "partner", "code", "version"}
ABOUT_OFFERING = {"offering_id", "course_id", "partner", "key", "version"}


async def take_back(conn: Connection, restored: Restored) -> Restated:
    """Each of our events has the whole state of what it speaks of: nothing that was told is lost.

    Partners and the other services have heard it and hold to it: it comes back under the same ids and versions.
    """
    await retaken.renumber(conn)
    taken: set[str] = set()
    offices: dict[str, bool] = {}  # whether each partner was told to have one, last
    for one, event in _in_order(restored.lost):
        if isinstance(event, PartnerState):
            state = "suspended" if isinstance(event, PartnerSuspended) else "active"
            known = event.model_dump(include={"partner", "name", "orgnr", "arenas", "contact", "version"})
            await retaken.partner(conn, **known, state=state, sealed=event.sealed)
            offices[event.partner] = event.sealed is not None
            await retaken.keys(conn, event.partner, [bytes.fromhex(digest) for digest in event.keys])
            done = True
        else:
            done = await _course(conn, event)
        if done:
            taken.add(one.id)
    # Beside a new broker partners' topics are gone; where they are, nothing is done.
    await topics.declare(restored.settings.kafka_bootstrap, [partner_courses(one) for one in await retaken.slugs(conn)])
    told = [f"{len(taken)} events were taken back: partners, courses and runs are as they were told last."]
    told += await _as_before(conn, restored)
    without = await retaken.without_office(conn, [slug for slug, is_told in offices.items() if is_told])
    told += [f"Give the mail address of {slug} again: partners mail {slug} ADDRESS" for slug in without]
    return Restated(told, frozenset(taken))


async def _as_before(conn: Connection, restored: Restored) -> list[str]:
    """What of partners was told to nobody stands in the database that was there before, and nowhere else; in words."""
    if restored.kept is not None:
        await retaken.take_offices(conn, restored.kept)
        changed = await retaken.take_states(conn, restored.kept)
        return [f"{changed} partners are held up, or go on, as in the database before."] if changed else []
    return [
        "Which partners were quarantined, or released from it, since the backup is not known. Look: partners list",
        *(
            f"Why {slug} was suspended is not known any more. Say it again: partners suspend {slug} --reason WHY"
            for slug in await retaken.unexplained(conn)
        ),
    ]


def _in_order(lost: Sequence[Envelope]) -> list[tuple[Envelope, Event]]:
    """Partners first, whose courses come after; of each thing in the order in which it was said."""
    known = [(one, BY_TYPE[one.type].model_validate(one.data)) for one in lost if one.type in BY_TYPE]
    return sorted(known, key=lambda pair: not isinstance(pair[1], PartnerState))


async def _course(conn: Connection, event: Event) -> bool:
    """False when it cannot be: its partner or course is not there, or another has its code or key by now."""
    match event:
        case CourseRestated() | OfferingRestated():
            return await _said_again(conn, event)
        case CourseState():
            content = event.model_dump(mode="json", exclude=ABOUT_COURSE)
            return await retaken.course(conn, event.course_id, event.partner, event.code, event.version, content)
        case CourseWithdrawn():
            return await retaken.withdrawn(conn, event.course_id, event.version)
        case OfferingState():
            content = event.model_dump(mode="json", exclude=ABOUT_OFFERING)
            return await retaken.offering(conn, event.offering_id, event.course_id, event.key, event.version, content)
        case OfferingConfirmed():
            return await retaken.confirmed(conn, event.offering_id, event.version, event.enrolled, event.minimum)
        case OfferingCancelled():
            return await retaken.cancelled(conn, event.offering_id, event.version)
        case _:
            return False


async def _said_again(conn: Connection, event: CourseRestated | OfferingRestated) -> bool:
    """Where the backup is older than the topic, what was said again is all that is known of it. Who is at its version
    already has it. To withdraw, to cancel and to confirm each raise the version, and leave the content as it was."""
    version = event.version
    if isinstance(event, CourseRestated):
        content = event.model_dump(mode="json", exclude={*ABOUT_COURSE, "withdrawn"})
        last = version - event.withdrawn
        await retaken.course(conn, event.course_id, event.partner, event.code, last, content)
        if event.withdrawn:
            await retaken.withdrawn(conn, event.course_id, version)
        return await courses.course(conn, event.course_id) is not None
    content = event.model_dump(mode="json", exclude={*ABOUT_OFFERING, "cancelled", "judged"})
    last = version - event.cancelled
    await retaken.offering(conn, event.offering_id, event.course_id, event.key, last, content)
    if event.cancelled:
        await retaken.cancelled(conn, event.offering_id, version)
    return await courses.offering(conn, event.offering_id) is not None
