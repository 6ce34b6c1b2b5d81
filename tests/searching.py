"""Finding courses by plain SQL, slowly: what the catalogue's index in memory must answer, word for word."""

import json
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from uuid import UUID

from kit.database import Connection
from services.catalogue.domain import eqf
from services.catalogue.languages import in_language
from services.catalogue.store import Row

MANY = 1_000_000


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is looked for. None, or an empty list, is no condition.

    A run counts when it is to come, or starts at `since` or later when that is given. `words` must be there (each a
    word, a phrase in quotation marks, or several with `or`), `without` must not; `typed` begins a word that is there.
    """

    partner: str | None = None
    subject: str | None = None
    level: str | None = None
    language: str | None = None
    withdrawn: bool = False
    arena: str | None = None
    since: datetime | None = None
    free: bool = False
    words: list[str] = field(default_factory=list)
    without: list[str] = field(default_factory=list)
    typed: str = ""

    @property
    def told(self) -> tuple[object, ...]:
        """$1 to $11 of the statements below."""
        course = (self.partner, self.subject, self.level, self.language, self.withdrawn)
        return (*course, self.arena, self.since, self.words, self.without, self.typed, self.free)

    @property
    def by_words(self) -> bool:
        return bool(self.words or self.without or self.typed)


QUERY = "course_query($8, $9, $10)"
# An arena of a run that nobody has called full has free seats, while one may ask for them.
FREE_THERE = """
    NOT EXISTS (
        SELECT FROM seat_counts, jsonb_to_recordset(seat_counts.places) AS place (arena text, capacity int, taken int)
        WHERE seat_counts.offering_id = offerings.id AND place.arena = arena.arena AND place.capacity <= place.taken
    ) AND (
        coalesce(jsonb_array_length(offerings.content->'periods'), 0) = 0
        OR EXISTS (
            SELECT FROM jsonb_to_recordset(offerings.content->'periods')
                AS one (opens_at timestamptz, closes_at timestamptz)
            WHERE opens_at <= app_now() AND app_now() < closes_at
        )
    )
"""
FREE = f"""
    (NOT $11::boolean OR EXISTS (
        SELECT FROM unnest(offerings.arenas) AS arena WHERE ($6::text IS NULL OR arena = $6) AND {FREE_THERE}
    ))
"""
RUN = f"""
    offerings.state = 'scheduled' AND offerings.starts_at >= coalesce($7, app_now())
    AND ($6::text IS NULL OR offerings.arenas @> ARRAY[$6]) AND {FREE}
"""
FITS = """
    ($5::boolean OR NOT courses.withdrawn)
    AND ($1::text IS NULL OR courses.partner = $1) AND ($2::text IS NULL OR courses.subjects @> ARRAY[$2])
    AND ($3::text IS NULL OR courses.level = $3) AND ($4::text IS NULL OR courses.language = $4)
"""
# Asked of one course after the other, in the order of the page: to look at all runs first takes longer.
HAS_A_RUN = f"""
    (($6::text IS NULL AND $7::timestamptz IS NULL AND NOT $11::boolean)
     OR (SELECT true FROM offerings WHERE offerings.course_id = courses.id AND {RUN} LIMIT 1))
"""
ANYWHERE = f"((cardinality($8::text[]) + cardinality($9::text[]) = 0 AND $10 = '') OR courses.all_words @@ {QUERY})"
# With what was looked for left out of a text, where it stands elsewhere says nothing: then the whole text is asked too.
NOWHERE = f"(cardinality($9::text[]) = 0 OR courses.all_words @@ {QUERY})"
SHOWN = """
    courses.id, courses.partner, courses.code, courses.subjects, courses.level, courses.language, courses.title_order,
    courses.content->>'title' AS title, courses.content->>'summary' AS summary,
    courses.content->>'studiepoeng' AS studiepoeng, (courses.content->>'price_ore')::int AS price_ore
"""
NEXT = f"""
    LEFT JOIN LATERAL (
        SELECT min(offerings.starts_at) AS starts_at, array_agg(DISTINCT arena ORDER BY arena) AS arenas
        FROM offerings, unnest(offerings.arenas) AS arena WHERE offerings.course_id = page.id AND {RUN}
    ) AS run ON true
"""
BY_TITLE = f"""
    SELECT page.*, run.* FROM (
        SELECT {SHOWN} FROM courses WHERE {FITS} AND {HAS_A_RUN} AND {ANYWHERE}
        AND ($12::text IS NULL OR (courses.title_order, courses.id) > ($12, $13::uuid))
        ORDER BY courses.title_order, courses.id LIMIT $14
    ) AS page {NEXT} ORDER BY page.title_order, page.id
"""
BY_START = f"""
    SELECT page.*, run.arenas FROM (
        SELECT {SHOWN}, offerings.starts_at FROM offerings JOIN courses ON courses.id = offerings.course_id
        WHERE {RUN} AND {FITS} AND {ANYWHERE}
        AND ($12::timestamptz IS NULL OR (offerings.starts_at, offerings.course_id) > ($12, $13::uuid))
        AND offerings.id = (
            SELECT offerings.id FROM offerings WHERE offerings.course_id = courses.id AND {RUN}
            ORDER BY offerings.starts_at, offerings.id LIMIT 1
        )
        ORDER BY offerings.starts_at, offerings.course_id LIMIT $14
    ) AS page {NEXT} ORDER BY page.starts_at, page.id
"""
# Where the words were found: in the title or code, then in the summary too, then anywhere. Alike: as they came.
PLACES = (
    f"courses.title_words @@ {QUERY} AND {NOWHERE}",
    f"courses.brief_words @@ {QUERY} AND NOT holds(courses.title_words, {QUERY}) AND {NOWHERE}",
    f"courses.all_words @@ {QUERY} AND NOT holds(courses.brief_words, {QUERY})",
)
BY_WORDS = tuple(
    f"""
    SELECT page.*, run.* FROM (
        SELECT {SHOWN} FROM courses WHERE {FITS} AND {HAS_A_RUN} AND {place}
        AND ($12::uuid IS NULL OR courses.id > $12)
        ORDER BY courses.id LIMIT $13
    ) AS page {NEXT} ORDER BY page.id
    """
    for place in PLACES
)

# Each kind is counted under all the other conditions, so that a reader sees what another choice would give.
COUNTS = f"""
    WITH found AS MATERIALIZED (
        SELECT id, partner, subjects, level, language,
               ($1::text IS NULL OR partner = $1) AS partner_fits,
               ($2::text IS NULL OR subjects @> ARRAY[$2]) AS subject_fits,
               ($3::text IS NULL OR level = $3) AS level_fits,
               ($4::text IS NULL OR language = $4) AS language_fits,
               {HAS_A_RUN} AND (
                   NOT $12::boolean OR (SELECT true FROM offerings WHERE course_id = courses.id AND {RUN} LIMIT 1)
               ) AS run_fits
        FROM courses WHERE ($5::boolean OR NOT withdrawn) AND {ANYWHERE}
    )
    SELECT 'partner' AS kind, partner AS value, count(*) AS courses FROM found
    WHERE subject_fits AND level_fits AND language_fits AND run_fits GROUP BY partner
    UNION ALL
    SELECT 'subject', subject, count(*) FROM found, unnest(subjects) AS subject
    WHERE partner_fits AND level_fits AND language_fits AND run_fits GROUP BY subject
    UNION ALL
    SELECT 'level', level, count(*) FROM found
    WHERE level IS NOT NULL AND partner_fits AND subject_fits AND language_fits AND run_fits GROUP BY level
    UNION ALL
    SELECT 'language', language, count(*) FROM found
    WHERE partner_fits AND subject_fits AND level_fits AND run_fits GROUP BY language
    UNION ALL
    SELECT 'arena', arena, count(DISTINCT found.id)
    FROM found JOIN offerings ON course_id = found.id, unnest(arenas) AS arena
    WHERE partner_fits AND subject_fits AND level_fits AND language_fits AND (NOT $11::boolean OR {FREE_THERE})
      AND state = 'scheduled' AND starts_at >= coalesce($7, app_now()) GROUP BY arena
    ORDER BY kind, courses DESC, value
"""


async def answer(
    conn: Connection, wanted: Wanted, sort: str, language: str, limit: int
) -> tuple[list[list[dict[str, Any]]], dict[str, list[dict[str, Any]]]]:
    """The courses on their pages, and how many there are of each kind."""
    if sort == "title":
        rows = await by_title(conn, wanted, None, MANY)
    elif sort == "start":
        rows = await by_start(conn, wanted, None, MANY)
    else:
        rows = [row for place in range(len(PLACES)) for row in await by_words(conn, wanted, place, None, MANY)]
    items = [found(row, language) for row in rows]
    pages = [items[begin : begin + limit] for begin in range(0, len(items), limit)] or [[]]
    counted = sorted(await counts(conn, wanted, sort == "start"), key=lambda row: (-row["courses"], row["value"]))
    kinds = ("subject", "arena", "level", "partner", "language")
    return pages, {
        kind: [{"value": row["value"], "courses": row["courses"]} for row in counted if row["kind"] == kind]
        for kind in kinds
    }


async def by_title(conn: Connection, wanted: Wanted, after: tuple[str, UUID] | None, limit: int) -> list[Row]:
    """Courses in Norwegian order of their titles; `after` is the order and id of the last one seen."""
    return await _planned(conn, BY_TITLE, *wanted.told, *(after or (None, None)), limit)


async def by_start(conn: Connection, wanted: Wanted, after: tuple[datetime, UUID] | None, limit: int) -> list[Row]:
    """Courses that have a run, by the start of the first that fits."""
    return await _planned(conn, BY_START, *wanted.told, *(after or (None, None)), limit)


async def by_words(conn: Connection, wanted: Wanted, place: int, after: UUID | None, limit: int) -> list[Row]:
    """Courses where the words are in that one of `PLACES` and none before it, in the order they came."""
    return await _planned(conn, BY_WORDS[place], *wanted.told, after, limit)


async def counts(conn: Connection, wanted: Wanted, with_a_run: bool) -> list[Row]:
    """(kind, value, courses): how many there are of each partner, subject, level, language and arena, most first.

    `with_a_run`: of those alone that have a run that fits.
    """
    return await _planned(conn, COUNTS, *wanted.told, with_a_run)


async def _planned(conn: Connection, statement: str, *values: object) -> list[Row]:
    """Ask with a plan for these very values: what is quick for a rare word takes a hundred times as long for `kurs`.

    A statement that PostgreSQL remembers gets one plan for all after a while; one without a name is planned each time.
    """
    prepared = await conn.prepare(statement, name="")
    return await prepared.fetch(*values)


def found(row: Row, shown_in: str) -> dict[str, Any]:
    """One course of a list as JSON."""
    title = json.loads(row["title"])
    heading = in_language(title, shown_in)
    summary = in_language(json.loads(row["summary"] or "{}"), shown_in)
    return {
        "course_id": str(row["id"]),
        "partner": row["partner"],
        "code": row["code"],
        "title": title,
        "text": {"title": heading and heading.model_dump(), "summary": summary and summary.model_dump()},
        "subjects": row["subjects"],
        "level": row["level"],
        "eqf": eqf(row["level"]),
        "language": row["language"],
        "studiepoeng": row["studiepoeng"],
        "price_ore": row["price_ore"] or 0,
        "starts_at": row["starts_at"] and row["starts_at"].isoformat().replace("+00:00", "Z"),
        "arenas": row["arenas"] or [],
    }
