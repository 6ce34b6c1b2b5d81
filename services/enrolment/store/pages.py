"""SQL of what pages show: each statement is a way to the database and back, so what belongs together comes together."""

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import groupby
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


@dataclass(frozen=True, slots=True)
class Attended:
    """A run, how many of its enrolments are in which state, and some of them in the order of asking."""

    whole: Whole
    counts: Counter[str]
    enrolments: list[Enrolment]


Asked = tuple[UUID, tuple[str, str] | None]  # a run, and the issuer and subject of a login
Listed = tuple[str, str, UUID | None, int]

_OWN = f"""
    {enrolments.SHOWN_COLUMNS}, {courses.COLUMNS}, app_now() AS now
    {enrolments.FROM} JOIN learners l ON l.id = e.learner_id
    JOIN ({courses.FROM}) ON run.id = e.offering_id
"""
_ALL_OWN = f"""
    SELECT own.*, asked.number
    FROM unnest($1::text[], $2::text[], $3::uuid[], $4::int[]) WITH ORDINALITY
        AS asked (issuer, subject, before, most, number),
    LATERAL (
        {_OWN} WHERE l.issuer = asked.issuer AND l.subject = asked.subject
            AND (asked.before IS NULL OR e.id < asked.before)
        ORDER BY e.id DESC LIMIT asked.most
    ) AS own ORDER BY asked.number, own.id DESC
"""  # noqa: S608 - constants alone
_OWN_IN = f"""
    {enrolments.SHOWN_COLUMNS}, l.issuer, l.subject {enrolments.FROM} JOIN learners l ON l.id = e.learner_id
    JOIN unnest($1::uuid[], $2::text[], $3::text[]) AS asked (offering_id, issuer, subject)
        ON l.issuer = asked.issuer AND l.subject = asked.subject AND e.offering_id = asked.offering_id
    WHERE e.state NOT IN ('denied', 'cancelled', 'finished')
"""


def _runs(counts: str, counted: str) -> str:
    """Runs with their places, a row each. `counts`: what `counted` gives of how many enrolments are in which state."""
    return f"""
        SELECT {courses.COLUMNS}, run.course_id, run.version, run.rules, run.warned_for, run.judged_for,
               run.tell_line_at, run.over_since, app_now() AS now, {counts} AS counts,
               places.arena, places.capacity, places.taken, places.open, places.queued, places.wanted_capacity
        FROM {courses.FROM} LEFT JOIN places ON places.offering_id = run.id {counted}
        WHERE run.id = ANY ($1) ORDER BY run.id, places.number, places.arena
    """  # noqa: S608 - constants alone


_WHOLE = _runs("NULL", "")
_COUNTED = _runs(
    "counts",
    """LEFT JOIN (
        SELECT offering_id, jsonb_object_agg(state, many) AS counts FROM (
            SELECT offering_id, state, count(*) AS many FROM enrolments WHERE offering_id = ANY ($1)
            GROUP BY offering_id, state
        ) AS by_state GROUP BY offering_id
    ) AS counted ON counted.offering_id = run.id""",
)


def _own(row: asyncpg.Record) -> Own:
    return Own(enrolments.enrolment(row), courses.run(row), row["now"])


async def own(conn: Connection, issuer: str, subject: str, enrolment_id: UUID) -> Own | None:
    """The enrolment when it is this login's, else none: others need not learn that it exists."""
    row = await conn.fetchrow(
        f"{_OWN} WHERE l.issuer = $1 AND l.subject = $2 AND e.id = $3", issuer, subject, enrolment_id
    )
    return _own(row) if row else None


async def all_own(conn: Connection, asked: Sequence[Listed]) -> Sequence[list[Own]]:
    """For each (issuer, subject, before, most): the login's enrolments, newest first, older than `before`."""
    rows = await conn.fetch(_ALL_OWN, *map(list, zip(*asked, strict=True)))
    found: list[list[Own]] = [[] for _ in asked]
    for row in rows:
        found[row["number"] - 1].append(_own(row))
    return found


async def seen(conn: Connection, asked: Sequence[Asked]) -> Sequence[tuple[Whole | None, Enrolment | None]]:
    """For each (run, login or none), all of one moment: the run, and what the login has there; none for a strange run.

    For `Running.together`: when seats change, every open page of a run asks for them at once.
    """
    by_run = groupby(await conn.fetch(_WHOLE, list({run for run, _ in asked})), key=lambda row: row["run_id"])
    runs = {run: _of(list(rows)) for run, rows in by_run}
    own: dict[Asked, Enrolment] = {}
    if logins := [(run, *login) for run, login in asked if login is not None]:
        for row in await conn.fetch(_OWN_IN, *map(list, zip(*logins, strict=True))):
            own[row["offering_id"], (row["issuer"], row["subject"])] = enrolments.enrolment(row)
    return [(runs.get(run), own.get((run, login))) for run, login in asked]


async def attended(conn: Connection, asked: Sequence[tuple[UUID, UUID | None, int]]) -> Sequence[Attended | None]:
    """For each (run, after, most), as `enrolments.rosters` takes it; none where there is no such run."""
    runs = {}
    for run, each in groupby(
        await conn.fetch(_COUNTED, list({run for run, *_ in asked})), key=lambda row: row["run_id"]
    ):
        rows = list(each)
        runs[run] = _of(rows), Counter[str](json.loads(rows[0]["counts"] or "{}"))
    listed = await enrolments.rosters(conn, asked)
    return [Attended(*runs[run], some) if run in runs else None for (run, *_), some in zip(asked, listed, strict=True)]


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
