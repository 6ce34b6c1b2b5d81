"""SQL of what other systems read: courses, their runs and their providers in lists by page number; what is new."""

from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

from kit.database import Connection
from services.catalogue.store import Row

# The text asked for stands in the title, code or description, just as it is written. Where there is no description, the
# summary is shown as one.
HOLDS = """
    position(lower($1::text) IN lower(
        courses.code || E'\\n' || texts_of(courses.content->'title') || E'\\n' || coalesce(
            nullif(btrim(texts_of(courses.content->'description'), E'\\n'), ''), texts_of(courses.content->'summary')
        )
    )) > 0
"""
COURSES = f"""
    WITH found AS (
        SELECT id, partner, code, content, title_order FROM courses
        WHERE NOT withdrawn AND ($1::text = '' OR {HOLDS})
          AND ($2::text IS NULL OR partner = $2) AND ($3::text IS NULL OR code = $3)
          AND ($4::text IS NULL OR language = $4) AND ($5::text[] IS NULL OR level = ANY($5))
          AND ($6::text IS NULL OR content->>'delivery_mode' = $6)
    )
    SELECT found.*, total FROM (SELECT count(*) AS total FROM found) AS counted
    LEFT JOIN (SELECT * FROM found ORDER BY title_order, id LIMIT $7 OFFSET $8) AS found ON true
    ORDER BY title_order, id
"""  # noqa: S608 - constants alone
RUN = """
    offerings.id, offerings.course_id, offerings.key, offerings.content, offerings.state, offerings.starts_at,
    offerings.version, offerings.changed_at,
    courses.partner, courses.code, courses.content AS course, courses.version AS course_version,
    courses.changed_at AS course_changed_at
"""
RUNS = f"""
    WITH found AS (
        SELECT {RUN} FROM offerings JOIN courses ON courses.id = offerings.course_id
        WHERE ($1::text = '' OR {HOLDS})
          AND ($2::uuid IS NULL OR offerings.course_id = $2) AND ($3::text IS NULL OR courses.partner = $3)
          AND ($4::text IS NULL OR courses.language = $4) AND ($5::text IS NULL OR offerings.state = $5)
          AND ($6::text IS NULL OR courses.content->>'delivery_mode' = $6)
          AND offerings.starts_at >= $7
          AND ($8::timestamptz IS NULL OR (offerings.content->>'ends_at')::timestamptz <= $8)
    )
    SELECT found.*, total FROM (SELECT count(*) AS total FROM found) AS counted
    LEFT JOIN (SELECT * FROM found ORDER BY starts_at, id LIMIT $9 OFFSET $10) AS found ON true
    ORDER BY starts_at, id
"""  # noqa: S608 - constants alone


async def now(conn: Connection) -> datetime:
    moment: datetime = await conn.fetchval("SELECT app_now()")
    return moment


async def courses(
    conn: Connection,
    q: str,
    partner: str | None,
    code: str | None,
    language: str | None,
    levels: list[str] | None,
    delivery_mode: str | None,
    limit: int,
    offset: int,
) -> tuple[list[Row], int]:
    """One page of the courses on offer, by title, and how many there are on all pages."""
    return _page(
        await conn.fetch(COURSES, q, partner, code, language, levels, delivery_mode, limit, offset),
    )


async def runs(
    conn: Connection,
    q: str,
    course_id: UUID | None,
    partner: str | None,
    language: str | None,
    state: str | None,
    delivery_mode: str | None,
    since: datetime,
    until: datetime | None,
    limit: int,
    offset: int,
) -> tuple[list[Row], int]:
    """One page of the runs that start at `since` or later and end by `until`, the soonest first, and how many."""
    values = (q, course_id, partner, language, state, delivery_mode, since, until, limit, offset)
    return _page(await conn.fetch(RUNS, *values))


async def run(conn: Connection, offering_id: UUID) -> Row | None:
    """A run with its course, be it cancelled."""
    return await conn.fetchrow(
        f"SELECT {RUN} FROM offerings JOIN courses ON courses.id = course_id WHERE offerings.id = $1",  # noqa: S608
        offering_id,
    )


async def providers(conn: Connection) -> list[Row]:
    """Every partner: there are tens of them."""
    return await conn.fetch("SELECT slug, name, orgnr FROM partners ORDER BY norwegian_order(name), slug")


async def newest(conn: Connection, limit: int) -> list[Row]:
    """The courses that came last. An id tells when its course came: the first 48 bits are milliseconds (UUIDv7)."""
    return await conn.fetch(
        """
        SELECT id, partner, code, version, content, changed_at, uuid_extract_timestamp(id) AS made_at
        FROM courses WHERE NOT withdrawn ORDER BY id DESC LIMIT $1
        """,
        limit,
    )


async def newest_changed_at(conn: Connection, limit: int) -> datetime | None:
    """When any of these has changed, or one that stood among them was withdrawn; none when there was never one.

    While there are fewer than the limit, each that is withdrawn stood among them, also the oldest.
    """
    found: datetime | None = await conn.fetchval(
        """
        SELECT max(changed_at) FROM courses WHERE id >= coalesce(
            (SELECT id FROM courses WHERE NOT withdrawn ORDER BY id DESC LIMIT 1 OFFSET $1::int - 1),
            '00000000-0000-0000-0000-000000000000'
        )
        """,
        limit,
    )
    return found


async def texts(conn: Connection, partner: str) -> list[Row]:
    """The texts of one partner's courses on offer, by code."""
    return await conn.fetch(
        """
        SELECT id, code, content->>'title' AS title, content->>'summary' AS summary,
               content->>'description' AS description, content->>'prerequisites' AS prerequisites
        FROM courses WHERE partner = $1 AND NOT withdrawn ORDER BY code
        """,
        partner,
    )


async def own(conn: Connection, partner: str, after: str, limit: int) -> list[Row]:
    """One page of a partner's courses by code, those behind `after`, also what is no longer on offer.

    With each the languages that one of the partner's courses on offer has a title in, on whichever page.
    """
    return await conn.fetch(
        """
        SELECT id, code, withdrawn, content->>'title' AS title, content->>'summary' AS summary,
               content->>'description' AS description, content->>'prerequisites' AS prerequisites,
               ARRAY(
                   SELECT DISTINCT jsonb_object_keys(content->'title') FROM courses
                   WHERE partner = $1 AND NOT withdrawn
               ) AS languages
        FROM courses WHERE partner = $1 AND code > $2 ORDER BY code LIMIT $3
        """,
        partner,
        after,
        limit,
    )


async def runs_of(conn: Connection, course_ids: Sequence[UUID]) -> list[Row]:
    """The runs of these courses that are not over, the soonest first, as `courses.offerings` has them.

    With what is known of their seats, as `intake.seats` has it, and the time.
    """
    return await conn.fetch(
        """
        SELECT id, course_id, key, version, content, state, decision, enrolled, minimum, decided_at, places, as_of,
               app_now() AS now
        FROM offerings LEFT JOIN judgements ON judgements.offering_id = id
        LEFT JOIN seat_counts ON seat_counts.offering_id = id
        WHERE course_id = ANY($1) AND (content->>'ends_at')::timestamptz > app_now() ORDER BY starts_at, id
        """,
        course_ids,
    )


async def on_hold(conn: Connection, partner: str | None, limit: int) -> list[Row]:
    """The runs of one partner or of all that had too few on their day and have not begun, the soonest first.

    With how many people are there. What was retracted besides is asked of as that.
    """
    return await conn.fetch(
        """
        SELECT partner, course_id, code, courses.content->>'title' AS title, offerings.id AS offering_id, key,
               offerings.starts_at, enrolled, minimum,
               (SELECT count(*) FROM live_enrolments AS live WHERE live.offering_id = offerings.id) AS people
        FROM judgements JOIN offerings ON offerings.id = offering_id JOIN courses ON courses.id = course_id
        WHERE ($1::text IS NULL OR partner = $1)
          AND decision = 'too_few' AND state = 'scheduled' AND starts_at > app_now()
          AND NOT EXISTS (SELECT FROM retractions WHERE retractions.offering_id = offerings.id)
        ORDER BY starts_at, offerings.id LIMIT $2
        """,
        partner,
        limit,
    )


def _page(rows: list[Row]) -> tuple[list[Row], int]:
    total: int = rows[0]["total"]
    return [row for row in rows if row["id"] is not None], total
