"""SQL of what courses are called, and of the runs that pages show under their course's name."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

import asyncpg

from contracts.catalogue import CourseState
from contracts.fields import Period
from kit.database import Connection
from services.enrolment import asking, offers


@dataclass(frozen=True, slots=True)
class Run:
    """One run as a page names it. `title` is by language; both are empty until the catalogue has told of the course.

    `on_lapse` is what an offer that nobody answers does, unless the learner has chosen. From `closes_at` no seat is
    given out: the start, or later when the partner says so. At `closed_places` none is: the partner names them no more.
    `periods` say who may ask for one when; none: everybody, always.
    """

    offering_id: UUID
    partner: str
    starts_at: datetime
    ends_at: datetime
    cancelled: bool
    on_lapse: str
    closes_at: datetime
    code: str
    title: Mapping[str, str]
    closed_places: Sequence[str] = ()
    periods: Sequence[Period] = ()

    @property
    def offers_end_at(self) -> datetime:
        """From when a free seat is whose who asks first."""
        return offers.last(self.starts_at)

    def not_open(self, group: str | None, now: datetime) -> asking.Closed | None:
        """Why one of this group who has left could not ask anew at this hour, none when they could."""
        if self.cancelled or self.closes_at <= now:
            return asking.Closed("cancelled" if self.cancelled else "started")
        return asking.not_open(self.periods, group, now)


async def keep(conn: Connection, courses: Sequence[CourseState]) -> None:
    """Keep each course's newest version; one row per course at most."""
    await conn.execute(
        """
        INSERT INTO courses AS old (id, code, title, version)
        SELECT * FROM unnest($1::uuid[], $2::text[], $3::jsonb[], $4::bigint[])
        ON CONFLICT (id) DO UPDATE SET code = excluded.code, title = excluded.title, version = excluded.version
        WHERE excluded.version > old.version
        """,
        [one.course_id for one in courses],
        [one.code for one in courses],
        [json.dumps(one.title) for one in courses],
        [one.version for one in courses],
    )


# The columns of a run, called as none of what else a statement may have.
COLUMNS = """
    run.id AS run_id, run.partner AS run_partner, run.starts_at AS run_starts_at, run.ends_at AS run_ends_at,
    run.cancelled AS run_cancelled, coalesce(run.rules ->> 'on_lapse', 'leave') AS run_on_lapse,
    coalesce((run.rules ->> 'late_enrolment_until')::timestamptz, run.starts_at) AS run_closes_at,
    coalesce(course.code, '') AS run_code, coalesce(course.title, '{}') AS run_title,
    ARRAY(SELECT arena FROM places AS at WHERE at.offering_id = run.id AND NOT at.open) AS run_closed_places,
    coalesce(run.rules -> 'periods', '[]') AS run_periods
"""
FROM = "offerings AS run LEFT JOIN courses AS course ON course.id = run.course_id"
_RUNS = f"SELECT {COLUMNS} FROM {FROM} WHERE run.id = ANY ($1::uuid[])"  # noqa: S608 - constants alone


def run(row: asyncpg.Record) -> Run:
    """The run in a row that has these columns."""
    return Run(
        row["run_id"],
        row["run_partner"],
        row["run_starts_at"],
        row["run_ends_at"],
        row["run_cancelled"],
        row["run_on_lapse"],
        row["run_closes_at"],
        row["run_code"],
        json.loads(row["run_title"]),
        tuple(row["run_closed_places"]),
        tuple(Period.model_validate(one) for one in json.loads(row["run_periods"])),
    )


async def runs(conn: Connection, offering_ids: Sequence[UUID]) -> dict[UUID, Run]:
    """These runs by id, those that there are."""
    rows = await conn.fetch(_RUNS, offering_ids)
    return {row["run_id"]: run(row) for row in rows}
