"""SQL of partners, their keys, and what came of what they sent."""

from datetime import datetime

from kit.database import Connection
from services.catalogue.store import Row


async def add_partner(conn: Connection, slug: str, name: str, orgnr: str | None, arenas: list[str]) -> bool:
    """False when there is one by this slug."""
    done = await conn.execute(
        "INSERT INTO partners (slug, name, orgnr, arenas) VALUES ($1, $2, $3, $4) ON CONFLICT DO NOTHING",
        slug,
        name,
        orgnr,
        arenas,
    )
    return bool(done == "INSERT 0 1")


async def add_key(conn: Connection, partner: str, digest: bytes) -> None:
    await conn.execute("INSERT INTO partner_keys (partner, digest) VALUES ($1, $2)", partner, digest)


async def drop_keys(conn: Connection, partner: str, keep: int) -> None:
    """All keys of a partner but the newest so many."""
    await conn.execute(
        """
        DELETE FROM partner_keys WHERE partner = $1 AND digest NOT IN (
            SELECT digest FROM partner_keys WHERE partner = $1 ORDER BY made_at DESC LIMIT $2
        )
        """,
        partner,
        keep,
    )


async def partner_of_key(conn: Connection, digest: bytes) -> str | None:
    found: str | None = await conn.fetchval("SELECT partner FROM partner_keys WHERE digest = $1", digest)
    return found


async def known(conn: Connection, slug: str) -> Row | None:
    return await conn.fetchrow(
        "SELECT slug, name, orgnr, arenas, state, state_because FROM partners WHERE slug = $1", slug
    )


async def lock(conn: Connection, slug: str) -> Row | None:
    return await conn.fetchrow("SELECT slug, name, orgnr, arenas, state FROM partners WHERE slug = $1 FOR UPDATE", slug)


async def change(conn: Connection, slug: str, name: str, orgnr: str | None, arenas: list[str]) -> Row:
    row = await conn.fetchrow(
        """
        UPDATE partners SET name = $2, orgnr = $3, arenas = $4, version = version + 1 WHERE slug = $1
        RETURNING slug, name, orgnr, arenas, version
        """,
        slug,
        name,
        orgnr,
        arenas,
    )
    if row is None:
        raise LookupError("a partner that was there is gone")
    return row


async def set_state(conn: Connection, slug: str, state: str, because: str) -> Row:
    row = await conn.fetchrow(
        """
        UPDATE partners SET state = $2, state_because = $3, version = version + (state <> $2)::int WHERE slug = $1
        RETURNING slug, name, orgnr, arenas, version
        """,
        slug,
        state,
        because,
    )
    if row is None:
        raise LookupError("a partner that was there is gone")
    return row


async def run_on(conn: Connection, topic: str, reason: str) -> int:
    """Let the records run that were kept back for this reason; how many there are."""
    done = await conn.execute(
        "UPDATE parked SET state = 'redrive', closed_by = 'release' "
        "WHERE topic = $1 AND state = 'refused' AND reason = $2",
        topic,
        reason,
    )
    return int(done.split()[1])


async def partners(conn: Connection) -> list[Row]:
    """All of them, with how much each has published and when something last came from it."""
    return await conn.fetch(
        """
        SELECT slug, name, orgnr, arenas, state, state_because, joined_at,
               (SELECT count(*) FROM partner_keys k WHERE k.partner = slug) AS keys,
               (SELECT count(*) FROM courses c WHERE c.partner = slug AND NOT c.withdrawn) AS courses,
               (SELECT max(at) FROM intake i WHERE i.partner = slug) AS last_taken_at
        FROM partners ORDER BY slug
        """
    )


async def note_intake(conn: Connection, partner: str, way: str, what: str, code: str) -> None:
    await conn.execute(
        "INSERT INTO intake (partner, way, what, code) VALUES ($1, $2, $3, $4)", partner, way, what, code
    )


async def intake(conn: Connection, partner: str, topic: str, before: datetime | None, limit: int) -> list[Row]:
    """What came from one partner and what became of it, newest first."""
    return await conn.fetch(
        """
        SELECT * FROM (
            SELECT at, 'taken' AS outcome, way, what, code, NULL AS reason, NULL AS detail
            FROM intake WHERE partner = $1
            UNION ALL
            SELECT parked_at, CASE WHEN state = 'refused' THEN 'refused' ELSE 'parked' END, 'kafka', type, NULL,
                   reason, detail
            FROM parked WHERE topic = $2 AND state <> 'redriven'
        ) AS everything
        WHERE $3::timestamptz IS NULL OR at < $3 ORDER BY at DESC LIMIT $4
        """,
        partner,
        topic,
        before,
        limit,
    )
