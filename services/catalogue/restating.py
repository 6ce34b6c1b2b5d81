"""Says each partner, course and run as it is now, for who keeps a copy: `republish --state`. Nothing changes."""

import json
from collections.abc import Mapping
from typing import Any
from uuid import UUID

from contracts.catalogue import CourseRestated, Judged, OfferingRestated
from contracts.envelope import Event
from kit import outbox
from kit.database import Connection
from kit.state import State
from services.catalogue import joining
from services.catalogue.store import Row, courses, partners

PART = 50  # courses, or partners, in one transaction: some 100 ms in which nobody else changes them
BEFORE_ALL = UUID(int=0)


async def count(conn: Connection) -> Mapping[str, int]:
    """How many there are of each kind."""
    return dict(await courses.how_many(conn))


async def say(conn: Connection, after: str | UUID | None) -> tuple[Mapping[str, int], str | UUID | None]:
    """Say the next partners after this slug; after the last, the next courses after this id, with their runs."""
    if not isinstance(after, UUID):
        slugs = await partners.lock_next(conn, after or "", PART)
        for slug in slugs:
            await joining.say_again(conn, slug)
        return {"partners": len(slugs)}, slugs[-1] if slugs else BEFORE_ALL
    some = {row["id"]: row for row in await courses.lock_next(conn, after, PART)}
    runs = await courses.offerings_of(conn, list(some))
    said: list[Event] = [_course(one) for one in some.values()]  # first: a run comes after its course
    said += [_run(some[one["course_id"]], one) for one in runs]
    await outbox.add_all(conn, said)
    return {"courses": len(some), "runs": len(runs)}, max(some) if some else None


STATE = State(count, say)


def _course(row: Row) -> CourseRestated:
    about: dict[str, Any] = {name: row[name] for name in ("partner", "code", "version", "withdrawn")}
    return CourseRestated(course_id=row["id"], **about, **json.loads(row["content"]))


def _run(course: Row, row: Row) -> OfferingRestated:
    judged = Judged(decision=row["decision"], decided_at=row["decided_at"]) if row["decision"] else None
    return OfferingRestated(
        offering_id=row["id"],
        course_id=course["id"],
        partner=course["partner"],
        key=row["key"],
        version=row["version"],
        cancelled=row["state"] == "cancelled",
        judged=judged,
        **json.loads(row["content"]),
    )
