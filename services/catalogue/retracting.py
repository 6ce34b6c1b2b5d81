"""Runs and courses are retracted: at once when nobody is enrolled, else when their partner has confirmed it."""

import json
from typing import Any

from contracts.catalogue import CourseWithdrawn
from kit import outbox
from kit.database import Connection
from services.catalogue import commands, domain
from services.catalogue.commands import Published
from services.catalogue.domain import Rule
from services.catalogue.store import Row, courses, retractions

MOST_WAITING = 500
WITHDRAWN = "course_withdrawn"  # the reason that its runs are cancelled for, where nobody has said another


class PeopleEnrolled(Rule):
    """So many have a seat, wait for approval or stand in line, and nobody has confirmed that they shall lose it."""

    def __init__(self, people: int) -> None:
        who = (
            "1 person has a seat, waits for approval or stands"
            if people == 1
            else f"{people} people have a seat, wait for approval or stand"
        )
        super().__init__(
            "people_enrolled", "confirmed", f"{who} in line: send it again with confirmed true, and they are told"
        )
        self.people = people


async def cancel(
    conn: Connection, partner: str, code: str, key: str | None, reason: str = "", confirmed: bool = False
) -> Published:
    """Cancel a run; with no `key` offer a course no more, and cancel its runs. Doing so twice changes nothing.

    Those of a course that are over stay as they are: they took place. A run with a reason of its own keeps that.

    Raises PeopleEnrolled when anybody would lose a seat or a place by it and it is not confirmed, Rule when there is
    none, or the run is over. Who enrolled a moment ago may not be known here yet: they are told as everybody is when a
    run is cancelled.
    """
    course, run = await find(conn, partner, code, key)
    if _is_gone(course, run):
        return _as_it_is(course, run)
    if run is not None:
        domain.has_not_ended(run["is_over"])
    people = await retractions.people(conn, course["id"], run["id"] if run else None)
    if people and not confirmed:
        raise PeopleEnrolled(people)
    if run is not None:
        versions = await commands.cancel_runs(conn, course, [run], reason)
        return Published(run["id"], versions[run["id"]], changed=True)
    await commands.cancel_runs(conn, course, await courses.not_over(conn, course["id"]), "", reason or WITHDRAWN)
    await retractions.drop_all(conn, course["id"])
    version = await courses.withdraw_course(conn, course["id"])
    await outbox.add(conn, CourseWithdrawn(course_id=course["id"], partner=partner, version=version))
    return Published(course["id"], version, changed=True)


async def ask(
    conn: Connection, partner: str, code: str, key: str | None, reason: str, confirmed: bool, event_id: str
) -> None:
    """As `cancel`, for who cannot be answered: what is not confirmed is kept as asked for, until it is decided.

    `event_id` is the sender's own. Raises Rule when there is no such run or course. A run that is over stays as it is:
    a program that keeps what is to come alone retracts it, and is not to be held up for what it was refused.
    """
    try:
        await cancel(conn, partner, code, key, reason, confirmed)
    except PeopleEnrolled:
        course, run = await find(conn, partner, code, key)
        await retractions.ask(conn, course["id"], run["id"] if run else None, reason, event_id)
    except Rule as rule:
        if rule.code != "offering_over":
            raise


async def confirm(conn: Connection, partner: str, code: str, key: str | None) -> tuple[Published, int]:
    """Cancel what waits, and how many are told, as far as is known. Raises Rule when nothing waits."""
    course, run = await find(conn, partner, code, key)
    offering_id = run["id"] if run else None
    if run is not None and run["state"] != "cancelled":
        domain.has_not_ended(run["is_over"])
    if not await retractions.waits(conn, course["id"], offering_id):
        raise Rule("nothing_waits", "key", "nothing of it waits: it is cancelled, was taken back or not retracted")
    people = await retractions.people(conn, course["id"], offering_id)
    return await cancel(conn, partner, code, key, confirmed=True), people


async def keep(conn: Connection, partner: str, code: str, key: str | None) -> Published:
    """Take a retraction back; where none waits, nothing changes. Raises Rule when it has been carried out."""
    course, run = await find(conn, partner, code, key)
    if _is_gone(course, run):
        if course["withdrawn"]:
            raise Rule("course_withdrawn", "code", f"course {code} was withdrawn; publish it again")
        raise Rule("offering_cancelled", "key", "this offering was cancelled; publish a new one under another key")
    await retractions.drop(conn, course["id"], run["id"] if run else None)
    return _as_it_is(course, run)


async def waiting(conn: Connection, partner: str | None) -> list[dict[str, Any]]:
    """What waits for a decision, of one partner or of all, with how many are enrolled as far as is known."""
    rows = await retractions.waiting(conn, partner, MOST_WAITING)
    return [dict(row) | {"title": json.loads(row["title"])} for row in rows]


async def find(conn: Connection, partner: str, code: str, key: str | None) -> tuple[Row, Row | None]:
    """The course, locked, and its run of this key, none for the course itself. Raises Rule when there is none."""
    course = await commands.locked(conn, partner, code)
    if key is None:
        return course, None
    run = await courses.offering_of(conn, course["id"], key)
    if run is None:
        raise Rule("unknown_offering", "key", f"course {code} has no offering {key}")
    return course, run


def _is_gone(course: Row, run: Row | None) -> bool:
    return bool(course["withdrawn"] if run is None else run["state"] == "cancelled")


def _as_it_is(course: Row, run: Row | None) -> Published:
    it = run or course
    return Published(it["id"], it["version"])
