"""SQL behind finding courses: what has changed since the last look, courses as they are found, places of words."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

from kit.database import Connection
from services.catalogue.store import Row


@dataclass(frozen=True, slots=True)
class Words:
    """What is searched for: `words` must be there (each a word, a phrase in quotation marks, or several with `or`),
    `without` must not; `typed` begins a word that is there."""

    words: tuple[str, ...] = ()
    without: tuple[str, ...] = ()
    typed: str = ""

    def __bool__(self) -> bool:
        return bool(self.words or self.without or self.typed)


# What a snapshot did not see and this statement does. Numbers of transactions that are yet to come stand in rows of a
# database that was brought here from another: they say nothing.
NEW = """
    written_in >= pg_snapshot_xmin($1::text::pg_snapshot)
    AND written_in < pg_snapshot_xmax(pg_current_snapshot())
    AND NOT pg_visible_in_snapshot(written_in, $1::text::pg_snapshot)
"""
LOOK = f"""
    SELECT pg_current_snapshot()::text AS seen, app_now() AS now, (SELECT number FROM epoch) AS epoch,
        ARRAY(
            SELECT id FROM courses WHERE {NEW}
            UNION SELECT course_id FROM offerings WHERE {NEW}
            UNION SELECT course_id FROM offerings WHERE id IN (SELECT offering_id FROM seat_counts WHERE {NEW})
        ) AS changed,
        ARRAY(
            SELECT course_query(words, without, typed)::text
            FROM jsonb_to_recordset($2) AS asked (place int, words text[], without text[], typed text) ORDER BY place
        ) AS queries
"""  # noqa: S608 - constants alone, here and below
SHOWN = """
    SELECT id, partner, code, subjects, level, language, withdrawn, title_order,
        content->>'title' AS title, content->>'summary' AS summary, content->>'studiepoeng' AS studiepoeng,
        coalesce((content->>'price_ore')::int, 0) AS price_ore, tsvector_to_array(title_words) AS title_words,
        tsvector_to_array(brief_words) AS brief_words, tsvector_to_array(all_words) AS all_words
    FROM courses
"""


async def look(conn: Connection, seen: str | None, asked: Sequence[Words]) -> Row:
    """(seen, now, epoch, changed, queries): the present snapshot, the ids of the courses that have changed since the
    one given, and each of `asked` as a tsquery, none where nothing can be found by it."""
    queries = [
        {"place": place, "words": one.words, "without": one.without, "typed": one.typed}
        for place, one in enumerate(asked)
    ]
    row = await conn.fetchrow(LOOK, seen, json.dumps(queries))
    if row is None:
        raise LookupError("a statement without FROM gives one row")
    return row


async def courses_after(conn: Connection, last: UUID, limit: int) -> list[Row]:
    """Courses as they are found, by id."""
    return await conn.fetch(f"{SHOWN} WHERE id > $1 ORDER BY id LIMIT $2", last, limit)


async def these_courses(conn: Connection, ids: Sequence[UUID]) -> list[Row]:
    return await conn.fetch(f"{SHOWN} WHERE id = ANY($1)", ids)


async def runs_of(conn: Connection, ids: Sequence[UUID]) -> list[Row]:
    """(course_id, starts_at, arenas, seats, periods) of the runs of these courses that are not cancelled; `seats` are
    the arenas that have some and are not known to be full."""
    return await conn.fetch(
        """
        SELECT course_id, starts_at, arenas, ARRAY(
            SELECT arena FROM jsonb_to_recordset(content->'places') AS mine (arena text, capacity int)
            WHERE capacity > 0 AND NOT EXISTS (
                SELECT FROM jsonb_to_recordset(places) AS place (arena text, capacity int, taken int)
                WHERE place.arena = mine.arena AND least(mine.capacity, place.capacity) <= place.taken
            )
        ) AS seats, content->>'periods' AS periods
        FROM offerings LEFT JOIN seat_counts ON offering_id = offerings.id
        WHERE course_id = ANY($1) AND state = 'scheduled'
        """,
        ids,
    )


async def where(conn: Connection, ids: Sequence[UUID], query: str) -> list[Row]:
    """(id, title, brief, all): in which texts of these courses the query holds."""
    return await conn.fetch(
        """
        SELECT id, title_words @@ query AS title, brief_words @@ query AS brief, all_words @@ query AS all
        FROM courses, CAST($2::text AS tsquery) AS query WHERE id = ANY($1)
        """,
        ids,
        query,
    )
