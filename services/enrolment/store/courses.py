"""SQL of what courses are called, and of the runs that pages show under their course's name."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from contracts.catalogue import CourseState
from kit.database import Connection


@dataclass(frozen=True, slots=True)
class Run:
    """One run as a page names it. `title` is by language; both are empty until the catalogue has told of the course.

    `on_lapse` is what an offer that nobody answers does, unless the learner has chosen.
    """

    offering_id: UUID
    partner: str
    starts_at: datetime
    ends_at: datetime
    cancelled: bool
    on_lapse: str
    code: str
    title: Mapping[str, str]


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


async def runs(conn: Connection, offering_ids: Sequence[UUID]) -> dict[UUID, Run]:
    """These runs by id, those that there are."""
    rows = await conn.fetch(
        """
        SELECT o.id AS offering_id, o.partner, o.starts_at, o.ends_at, o.cancelled,
               coalesce(o.rules ->> 'on_lapse', 'leave') AS on_lapse,
               coalesce(c.code, '') AS code, coalesce(c.title, '{}') AS title
        FROM offerings o LEFT JOIN courses c ON c.id = o.course_id WHERE o.id = ANY ($1::uuid[])
        """,
        offering_ids,
    )
    return {row["offering_id"]: Run(**{**row, "title": json.loads(row["title"])}) for row in rows}
