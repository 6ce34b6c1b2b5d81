"""What can be done in the catalogue: publish courses and runs, judge a run, cancel some. Retracting is beside."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal
from uuid import UUID

from contracts.catalogue import (
    Alternative,
    CourseChanged,
    CourseCreated,
    OfferingCancelled,
    OfferingChanged,
    OfferingConfirmed,
    OfferingScheduled,
)
from contracts.enrolment import MinimumAtRisk, MinimumEvent, MinimumMissed, MinimumReached
from contracts.fields import OfferingRules
from contracts.partner import CourseText, OfferingDates
from kit import outbox
from kit.database import Connection
from services.catalogue import domain
from services.catalogue.domain import Rule
from services.catalogue.store import Row, courses, partners, retractions, views

# What the address and the envelope say is not part of the content.
ADDRESS = {"code", "course_code", "key", "seq"}

MOST_ALTERNATIVES = 5  # a mail's worth: more is not read
CONFIRMED = "confirmed"
TOO_FEW = "too_few"  # the reason of a run that its own rule has cancelled
DECISIONS: Mapping[type[MinimumEvent], str] = {
    MinimumAtRisk: "at_risk",
    MinimumReached: CONFIRMED,
    MinimumMissed: TOO_FEW,
}

# The versions of which one must be there, 0 of what is not; "*": any that there is; none: no condition.
Wanted = frozenset[int] | Literal["*"] | None
ONLY_NEW = frozenset({0})


@dataclass(frozen=True, slots=True)
class Published:
    """`created` or `changed`, or neither when nothing new was said."""

    id: UUID
    version: int
    created: bool = False
    changed: bool = False


async def publish_course(
    conn: Connection, partner: str, code: str, text: CourseText, if_version: Wanted = None
) -> Published:
    """Make or change a course. Saying the same again changes nothing but that a retraction of it is taken back.

    Raises Rule.
    """
    domain.known_subjects(text.subjects, await courses.subjects(conn))
    if await partners.known(conn, partner) is None:
        raise Rule("unknown_partner", "partner", f"{partner} is not a partner")
    content = _content(text)
    made = await courses.create_course(conn, partner, code, content)
    if made is not None:
        _expect(if_version, 0)
        await outbox.add(conn, CourseCreated(course_id=made, partner=partner, code=code, version=1, **content))
        return Published(made, 1, created=True)
    row = await courses.lock_course(conn, partner, code)
    if row is None:
        raise LookupError("a course that was there is gone")
    _expect(if_version, row["version"])
    await retractions.drop(conn, row["id"], None)  # the partner's newest word is that there is such a course
    # What was stored before one could say who pays, or what one must know, lacks it: that means that it was not said.
    if {"funded_by": None, "prerequisites": {}} | json.loads(row["content"]) == content and not row["withdrawn"]:
        return Published(row["id"], row["version"])
    version = await courses.change_course(conn, row["id"], content)
    await outbox.add(conn, CourseChanged(course_id=row["id"], partner=partner, code=code, version=version, **content))
    return Published(row["id"], version, changed=True)


async def publish_offering(
    conn: Connection,
    partner: str,
    code: str,
    key: str,
    dates: OfferingDates,
    if_version: Wanted = None,
    said_at: datetime | None = None,
) -> Published:
    """Schedule or change a run of a course. Saying the same again changes nothing but that a retraction is taken back.

    `said_at`: when it was, where that is not now. Raises Rule.
    """
    course = await locked(conn, partner, code)
    if course["withdrawn"]:
        raise Rule("course_withdrawn", "code", f"course {code} was withdrawn; publish it again first")
    owner = await partners.known(conn, partner)
    content = _content(dates)
    found = await courses.offering_of(conn, course["id"], key)
    # An arena that was taken from the partner keeps its runs: people have seats there, and their dates may change.
    kept = [place["arena"] for place in json.loads(found["content"])["places"]] if found else []
    domain.own_arenas([place.arena for place in dates.places], [*(owner["arenas"] if owner else []), *kept])
    meetings = [(one.starts_at, one.ends_at) for one in dates.sessions]
    if found is None:
        _expect(if_version, 0)
        domain.meets_within(dates.starts_at, dates.ends_at, meetings)
        domain.decided_ahead(dates.decide_at, dates.starts_at, said_at or await views.now(conn))
        offering_id = await courses.create_offering(conn, course["id"], key, content)
        await outbox.add(conn, OfferingScheduled(**_about(course, offering_id, key, 1), **content))
        return Published(offering_id, 1, created=True)
    _expect(if_version, found["version"])
    if found["state"] == "cancelled":
        raise Rule("offering_cancelled", "key", "this offering was cancelled; publish a new one under another key")
    await retractions.drop(conn, course["id"], found["id"])  # as with a course
    # What was stored before there were rules lacks them, which means that they are as they are when left out.
    before = OfferingRules().model_dump(mode="json") | json.loads(found["content"])
    if before == content:
        return Published(found["id"], found["version"])
    if found["is_over"] and not found["came_over"]:
        domain.takes_nobody(dates.late_enrolment_until or dates.starts_at, await views.now(conn))
    # Meetings of before they had to lie within may stay until these change.
    if any(before[name] != content[name] for name in ("starts_at", "ends_at", "sessions")):
        domain.meets_within(dates.starts_at, dates.ends_at, meetings)
    if not found["has_begun"]:
        domain.ends_ahead(dates.ends_at, said_at or await views.now(conn))
    if before["decide_at"] != content["decide_at"]:  # one that has passed since it was said is said again with the rest
        domain.decided_ahead(dates.decide_at, dates.starts_at, said_at or await views.now(conn))
    version = await courses.change_offering(conn, found["id"], content, "scheduled")
    another_day, another_minimum = (before[rule] != content[rule] for rule in ("decide_at", "minimum"))
    if another_day or (another_minimum and found["decision"] == "at_risk"):  # what was judged stays, as `judge` says
        await courses.forget_judgement(conn, found["id"])
    await outbox.add(conn, OfferingChanged(**_about(course, found["id"], key, version), **content))
    return Published(found["id"], version, changed=True)


async def judge(conn: Connection, course: Row, said: MinimumEvent) -> None:
    """Keep what enrolment found of a run's minimum; confirm the run, or cancel it when its rule says so.

    `course` is the run's, locked. What was found by a minimum or a day that the partner has changed since is passed
    over, as is what says no more than what is known of that day, and all of it when the run was cancelled meanwhile. A
    run that has begun is not cancelled, however late it is judged: its learners sit there. Nor is one that came here
    only after its day, as what lay unread: nobody could enrol in time, so its partner decides.
    """
    run = await courses.offering(conn, said.offering_id)
    if run is None or run["state"] == "cancelled":
        return
    rules = OfferingRules.model_validate_json(run["content"])
    decision = DECISIONS[type(said)]
    by_these_rules = (said.minimum, said.decide_at) == (rules.minimum, rules.decide_at)
    still_too_few = decision == run["decision"] == TOO_FEW and said.minimum != run["minimum"]
    if not by_these_rules or not (still_too_few or domain.says_more(decision, run["decision"] or "none")):
        return
    if isinstance(said, MinimumReached):
        await confirm_run(conn, course, run, said.enrolled, said.minimum)
        return
    await courses.judge(conn, run["id"], decision, said.enrolled, said.minimum)
    stays = run["has_begun"] or run["came_late"]
    if isinstance(said, MinimumMissed) and rules.on_too_few == "cancel" and not stays:
        await cancel_runs(conn, course, [run], TOO_FEW)


async def confirm_run(conn: Connection, course: Row, run: Row, enrolled: int, minimum: int) -> int:
    """Say that a run takes place; returns its new version. So many were `enrolled` when it was judged."""
    await courses.judge(conn, run["id"], CONFIRMED, enrolled, minimum)
    version = await courses.change_offering(conn, run["id"], json.loads(run["content"]), "scheduled")
    about = {"offering_id": run["id"], "course_id": course["id"], "partner": course["partner"], "version": version}
    await outbox.add(conn, OfferingConfirmed(**about, enrolled=enrolled, minimum=minimum))
    return version


async def cancel_runs(
    conn: Connection, course: Row, runs: Sequence[Row], reason: str, otherwise: str = ""
) -> dict[UUID, int]:
    """Cancel those of these runs of one course that are not; each names the same runs to take instead.

    Returns the new version of each that was cancelled. What a partner had asked of one waits no more, and its reason
    stands where `reason` is empty, and `otherwise` where that is empty, too.
    """
    versions = {
        run["id"]: await courses.change_offering(conn, run["id"], json.loads(run["content"]), "cancelled")
        for run in runs
        if run["state"] != "cancelled"
    }
    if not versions:
        return versions
    asked = await retractions.drop_runs(conn, list(versions))
    about = {"course_id": course["id"], "partner": course["partner"]}
    instead = await _alternatives(conn, course)  # asked now that all are cancelled, so that none is named for another
    await outbox.add_all(
        conn,
        [
            OfferingCancelled(
                offering_id=run,
                version=version,
                reason=reason or asked.get(run) or otherwise,
                alternatives=instead,
                **about,
            )
            for run, version in versions.items()
        ],
    )
    return versions


async def _alternatives(conn: Connection, course: Row) -> list[Alternative]:
    """At most five runs to take instead of one of this course."""
    subjects = json.loads(course["content"]).get("subjects", [])
    rows = await courses.instead(conn, course["id"], subjects, MOST_ALTERNATIVES)
    return [
        Alternative(
            offering_id=row["id"],
            course_id=row["course_id"],
            title=json.loads(row["title"]),
            starts_at=row["starts_at"],
            arenas=row["arenas"],
        )
        for row in rows
    ]


async def locked(conn: Connection, partner: str, code: str) -> Row:
    row = await courses.lock_course(conn, partner, code)
    if row is None:
        raise Rule("unknown_course", "code", f"{partner} has no course {code}; publish it first")
    return row


def _about(course: Row, offering_id: UUID, key: str, version: int) -> dict[str, Any]:
    return {
        "offering_id": offering_id,
        "course_id": course["id"],
        "partner": course["partner"],
        "key": key,
        "version": version,
    }


def _content(said: CourseText | OfferingDates) -> dict[str, Any]:
    return said.model_dump(mode="json", exclude=ADDRESS)


def _expect(wanted: Wanted, version: int) -> None:
    """Raises Rule when it is not what the caller has read; `version` is 0 while there is none."""
    if wanted is None or (bool(version) if wanted == "*" else version in wanted):
        return
    if wanted == ONLY_NEW:
        raise Rule("stale", "header if-none-match", f"is *, and there is one already: it is at version {version}")
    now = (
        f"it is at version {version}: read it again" if version else "there is none yet: leave If-Match out to make it"
    )
    raise Rule("stale", "header if-match", f"does not name the present version; {now}")
