"""SQL that takes partners, courses and runs back as they were told after the backup that was restored."""

import json
from collections.abc import Sequence
from typing import Any
from uuid import UUID

from kit.database import Connection
from services.catalogue.store import retractions

# Each table's trigger puts the number of this transaction there, whatever is said here.
_RENUMBER = (
    "UPDATE courses SET written_in = '0' WHERE written_in >= pg_current_xact_id()",
    "UPDATE offerings SET written_in = '0' WHERE written_in >= pg_current_xact_id()",
    "UPDATE seat_counts SET written_in = '0' WHERE written_in >= pg_current_xact_id()",
)


async def renumber(conn: Connection) -> None:
    """On another server the numbers of transactions begin anew: no row may come from one that is still to be."""
    for statement in _RENUMBER:
        await conn.execute(statement)


async def partner(
    conn: Connection,
    partner: str,
    name: str,
    orgnr: str | None,
    arenas: Sequence[str],
    contact: str | None,
    version: int,
    state: str,
    sealed: str | None,
) -> None:
    """How a mail address that was changed since is told from others was not said, and neither why one is suspended."""
    await conn.execute(
        """
        INSERT INTO partners AS old (slug, name, orgnr, arenas, version, state, keys_told, contact)
        VALUES ($1, $2, $3, $4, $5, $6, true, $8)
        ON CONFLICT (slug) DO UPDATE SET
            name = excluded.name, orgnr = excluded.orgnr, arenas = excluded.arenas, version = excluded.version,
            contact = excluded.contact,
            state = CASE WHEN old.state = 'quarantined' AND excluded.state = 'active' THEN old.state
                         ELSE excluded.state END,
            state_because = CASE WHEN old.state = excluded.state
                                   OR old.state = 'quarantined' AND excluded.state = 'active' THEN old.state_because
                                 ELSE '' END,
            mail_sealed = CASE WHEN old.mail_sealed = $7 THEN old.mail_sealed END,
            mail_digest = CASE WHEN old.mail_sealed = $7 THEN old.mail_digest END,
            mail_language = CASE WHEN old.mail_sealed = $7 THEN old.mail_language END
        """,
        partner,
        name,
        orgnr,
        list(arenas),
        version,
        state,
        sealed,
        contact,
    )


async def take_states(conn: Connection, before: Connection) -> int:
    """Let each partner be held up or go on, for the reason and since when it was in the database that was there before;
    how many were otherwise."""
    names = ("slug", "state", "state_because", "state_since", "counted_after")
    rows = await before.fetch("SELECT slug, state, state_because, state_since, counted_after FROM partners")
    done = await conn.execute(
        """
        UPDATE partners AS mine SET
            state = told.state, state_because = told.because, state_since = told.since, counted_after = told.counted
        FROM unnest($1::text[], $2::text[], $3::text[], $4::timestamptz[], $5::bigint[])
            AS told (slug, state, because, since, counted)
        WHERE mine.slug = told.slug AND (mine.state, mine.state_because, mine.state_since, mine.counted_after)
            IS DISTINCT FROM (told.state, told.because, told.since, told.counted)
        """,
        *([row[name] for row in rows] for name in names),
    )
    return int(done.rsplit(" ", 1)[1])


async def take_offices(conn: Connection, before: Connection) -> None:
    """Let each partner's office have its mail as in the database that was there before."""
    names = ("slug", "mail_sealed", "mail_digest", "mail_language")
    rows = await before.fetch("SELECT slug, mail_sealed, mail_digest, mail_language FROM partners")
    await conn.execute(
        """
        UPDATE partners AS mine SET
            mail_sealed = told.sealed, mail_digest = told.digest, mail_language = told.language
        FROM unnest($1::text[], $2::text[], $3::bytea[], $4::text[]) AS told (slug, sealed, digest, language)
        WHERE mine.slug = told.slug
        """,
        *([row[name] for row in rows] for name in names),
    )


async def unexplained(conn: Connection) -> list[str]:
    """Which partners are suspended for a reason that is not known here."""
    rows = await conn.fetch("SELECT slug FROM partners WHERE state = 'suspended' AND state_because = '' ORDER BY slug")
    return [row["slug"] for row in rows]


async def without_office(conn: Connection, partners: Sequence[str]) -> list[str]:
    """Which of these partners have no mail address."""
    rows = await conn.fetch(
        "SELECT slug FROM partners WHERE slug = ANY($1) AND mail_sealed IS NULL ORDER BY slug", partners
    )
    return [row["slug"] for row in rows]


async def slugs(conn: Connection) -> list[str]:
    return [row["slug"] for row in await conn.fetch("SELECT slug FROM partners ORDER BY slug")]


async def keys(conn: Connection, partner: str, digests: Sequence[bytes]) -> None:
    """The keys that work, oldest first."""
    await conn.execute("DELETE FROM partner_keys WHERE partner = $1 AND digest <> ALL ($2::bytea[])", partner, digests)
    await conn.execute(
        """
        INSERT INTO partner_keys (partner, digest, made_at)
        SELECT $1, digest, app_now() - interval '1 second' * (cardinality($2::bytea[]) - place)
        FROM unnest($2::bytea[]) WITH ORDINALITY AS new (digest, place)
        ON CONFLICT DO NOTHING
        """,
        partner,
        digests,
    )


async def course(
    conn: Connection, course_id: UUID, partner: str, code: str, version: int, content: dict[str, Any]
) -> bool:
    """Its partner's newest word is that there is such a course: no retraction waits any more."""
    done = _is_one(
        await conn.execute(
            """
            INSERT INTO courses AS old (id, partner, code, version, content)
            SELECT $1, $2::text, $3::text, $4, $5
            WHERE EXISTS (SELECT FROM partners WHERE slug = $2)
              AND NOT EXISTS (SELECT FROM courses WHERE partner = $2 AND code = $3 AND id <> $1)
            ON CONFLICT (id) DO UPDATE SET
                version = excluded.version, content = excluded.content, withdrawn = false, changed_at = app_now()
            WHERE old.version < excluded.version
            """,
            course_id,
            partner,
            code,
            version,
            json.dumps(content),
        )
    )
    if done:
        await retractions.drop(conn, course_id, None)
    return done


async def withdrawn(conn: Connection, course_id: UUID, version: int) -> bool:
    """What its partner had asked of it, or of its runs, waits no more."""
    await retractions.drop_all(conn, course_id)
    return _is_one(
        await conn.execute(
            """
            UPDATE courses SET withdrawn = true, version = $2, changed_at = app_now() WHERE id = $1 AND version < $2
            """,
            course_id,
            version,
        )
    )


async def offering(
    conn: Connection, offering_id: UUID, course_id: UUID, key: str, version: int, content: dict[str, Any]
) -> bool:
    """As with a course."""
    done = _is_one(
        await conn.execute(
            """
            INSERT INTO offerings AS old (id, course_id, key, version, content)
            SELECT $1, $2, $3::text, $4, $5
            WHERE EXISTS (SELECT FROM courses WHERE id = $2)
              AND NOT EXISTS (SELECT FROM offerings WHERE course_id = $2 AND key = $3 AND id <> $1)
            ON CONFLICT (id) DO UPDATE SET
                version = excluded.version, content = excluded.content, changed_at = app_now()
            WHERE old.version < excluded.version
            """,
            offering_id,
            course_id,
            key,
            version,
            json.dumps(content),
        )
    )
    if done:
        await retractions.drop(conn, course_id, offering_id)
    return done


async def confirmed(conn: Connection, offering_id: UUID, version: int, enrolled: int, minimum: int) -> bool:
    done = await conn.fetchval(
        """
        WITH run AS (
            UPDATE offerings SET version = $2, changed_at = app_now() WHERE id = $1 AND version < $2 RETURNING id
        )
        INSERT INTO judgements (offering_id, decision, enrolled, minimum) SELECT id, 'confirmed', $3, $4 FROM run
        ON CONFLICT (offering_id) DO UPDATE SET
            decision = excluded.decision, enrolled = excluded.enrolled, minimum = excluded.minimum
        RETURNING offering_id
        """,
        offering_id,
        version,
        enrolled,
        minimum,
    )
    return done is not None


async def cancelled(conn: Connection, offering_id: UUID, version: int) -> bool:
    """What its partner had asked of it waits no more."""
    await retractions.drop_runs(conn, [offering_id])
    return _is_one(
        await conn.execute(
            """
            UPDATE offerings SET state = 'cancelled', version = $2, changed_at = app_now()
            WHERE id = $1 AND version < $2
            """,
            offering_id,
            version,
        )
    )


def _is_one(done: str) -> bool:
    return done.rsplit(" ", 1)[1] == "1"
