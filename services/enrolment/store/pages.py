"""SQL of what pages show: each statement is a way to the database and back, so what belongs together comes together."""

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

import asyncpg

from contracts.fields import OfferingRules
from kit.database import Connection
from services.enrolment.domain import Enrolment, Offering, Place
from services.enrolment.store import courses, enrolments
from services.enrolment.store.courses import Run


@dataclass(frozen=True, slots=True)
class Own:
    """An enrolment of one's own and its run, at this time."""

    one: Enrolment
    run: Run
    now: datetime


@dataclass(frozen=True, slots=True)
class Whole:
    """A run with its places, in the partner's order, at this time."""

    offering: Offering
    run: Run
    places: list[Place]
    now: datetime


_OWN = f"""
    {enrolments.SHOWN_COLUMNS}, {courses.COLUMNS}, app_now() AS now
    {enrolments.FROM} JOIN learners l ON l.id = e.learner_id
    JOIN ({courses.FROM}) ON run.id = e.offering_id
    WHERE l.issuer = $1 AND l.subject = $2
"""


def _run(counts: str) -> str:
    """A run with its places, a row each. `counts`: how many of its enrolments are in which state."""
    return f"""
        SELECT {courses.COLUMNS}, run.course_id, run.version, run.rules, run.warned_for, run.judged_for,
               run.tell_line_at, run.over_since, app_now() AS now, {counts} AS counts,
               places.arena, places.capacity, places.taken, places.open, places.queued, places.wanted_capacity
        FROM {courses.FROM} LEFT JOIN places ON places.offering_id = run.id
        WHERE run.id = $1 ORDER BY places.number, places.arena
    """  # noqa: S608 - constants alone


_WHOLE = _run("NULL")
_COUNTED = _run("""(
    SELECT jsonb_object_agg(state, many)
    FROM (SELECT state, count(*) AS many FROM enrolments WHERE offering_id = $1 GROUP BY state) AS by_state
)""")


def _own(row: asyncpg.Record) -> Own:
    return Own(enrolments.enrolment(row), courses.run(row), row["now"])


async def own(conn: Connection, issuer: str, subject: str, enrolment_id: UUID) -> Own | None:
    """The enrolment when it is this login's, else none: others need not learn that it exists."""
    row = await conn.fetchrow(f"{_OWN} AND e.id = $3", issuer, subject, enrolment_id)
    return _own(row) if row else None


async def all_own(conn: Connection, issuer: str, subject: str, before: UUID | None, most: int) -> list[Own]:
    """This login's enrolments, newest first, older than `before`."""
    rows = await conn.fetch(
        f"{_OWN} AND ($3::uuid IS NULL OR e.id < $3) ORDER BY e.id DESC LIMIT $4", issuer, subject, before, most
    )
    return [_own(row) for row in rows]


async def whole(conn: Connection, offering_id: UUID) -> Whole | None:
    """None when there is no such run."""
    rows = await conn.fetch(_WHOLE, offering_id)
    return _of(rows) if rows else None


async def counted(conn: Connection, offering_id: UUID) -> tuple[Whole, Counter[str]] | None:
    """The same with how many of its enrolments are in which state."""
    rows = await conn.fetch(_COUNTED, offering_id)
    return (_of(rows), Counter(json.loads(rows[0]["counts"] or "{}"))) if rows else None


def _of(rows: Sequence[asyncpg.Record]) -> Whole:
    one = rows[0]
    offering = Offering(
        one["run_id"],
        one["course_id"],
        one["run_partner"],
        one["version"],
        one["run_starts_at"],
        one["run_ends_at"],
        one["run_cancelled"],
        OfferingRules.model_validate_json(one["rules"]),
        one["warned_for"],
        one["judged_for"],
        one["tell_line_at"],
        one["over_since"],
    )
    named = ("arena", "capacity", "taken", "open", "queued", "wanted_capacity")
    places = [Place(*(row[name] for name in named)) for row in rows if row["arena"] is not None]
    return Whole(offering, courses.run(one), places, one["now"])
