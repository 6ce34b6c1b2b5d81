"""SQL of partners, their keys, and what came of what they sent."""

from kit.database import Connection
from services.catalogue.store import Row

# All that is told of a partner, each time: the topic keeps the newest word alone.
_TOLD = "slug, name, orgnr, arenas, contact, state, version, mail_sealed"
KNOWN = """
    slug, name, orgnr, arenas, contact, state, state_because, nullif(state_since, '-infinity') AS state_since
"""


async def add_partner(
    conn: Connection, slug: str, name: str, orgnr: str | None, arenas: list[str], contact: str | None
) -> bool:
    """False when there is one by this slug."""
    done = await conn.execute(
        """
        INSERT INTO partners (slug, name, orgnr, arenas, contact) VALUES ($1, $2, $3, $4, $5) ON CONFLICT DO NOTHING
        """,
        slug,
        name,
        orgnr,
        arenas,
        contact,
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


async def keys(conn: Connection, partner: str) -> list[bytes]:
    """The digests of the keys that work, oldest first."""
    rows = await conn.fetch("SELECT digest FROM partner_keys WHERE partner = $1 ORDER BY made_at, digest", partner)
    return [row["digest"] for row in rows]


async def keys_changed(conn: Connection, slug: str) -> Row:
    row = await conn.fetchrow(
        f"""
        UPDATE partners SET version = version + 1 WHERE slug = $1
        RETURNING {_TOLD}
        """,  # noqa: S608 - constants alone
        slug,
    )
    if row is None:
        raise LookupError("a partner that was there is gone")
    return row


async def keys_are_told(conn: Connection, slug: str) -> None:
    await conn.execute("UPDATE partners SET keys_told = true WHERE slug = $1 AND NOT keys_told", slug)


async def keys_untold(conn: Connection) -> list[str]:
    """Those who joined before their keys were told to the other services, who so do not know them."""
    rows = await conn.fetch("SELECT slug FROM partners WHERE NOT keys_told ORDER BY slug FOR NO KEY UPDATE")
    return [row["slug"] for row in rows]


async def known(conn: Connection, slug: str) -> Row | None:
    return await conn.fetchrow(f"SELECT {KNOWN} FROM partners WHERE slug = $1", slug)  # noqa: S608 - constants alone


async def lock(conn: Connection, slug: str) -> Row | None:
    """A partner and its row lock. Whoever takes something in from it refers to the row and does not wait: a command
    holds it until the broker has answered."""
    return await conn.fetchrow(
        "SELECT slug, name, orgnr, arenas, contact, state FROM partners WHERE slug = $1 FOR NO KEY UPDATE", slug
    )


async def lock_next(conn: Connection, after: str, most: int) -> list[str]:
    """The slugs of the next partners after this one, each locked as `lock` does."""
    rows = await conn.fetch(
        "SELECT slug FROM partners WHERE slug > $1 ORDER BY slug LIMIT $2 FOR NO KEY UPDATE", after, most
    )
    return [row["slug"] for row in rows]


async def told(conn: Connection, slug: str) -> Row:
    """All that is told of a partner."""
    row = await conn.fetchrow(f"SELECT {_TOLD} FROM partners WHERE slug = $1", slug)  # noqa: S608 - constants alone
    if row is None:
        raise LookupError("a partner that was there is gone")
    return row


async def change(
    conn: Connection, slug: str, name: str, orgnr: str | None, arenas: list[str], contact: str | None
) -> Row:
    row = await conn.fetchrow(
        f"""
        UPDATE partners SET name = $2, orgnr = $3, arenas = $4, contact = $5, version = version + 1 WHERE slug = $1
        RETURNING {_TOLD}
        """,  # noqa: S608 - constants alone
        slug,
        name,
        orgnr,
        arenas,
        contact,
    )
    if row is None:
        raise LookupError("a partner that was there is gone")
    return row


async def set_mail(conn: Connection, slug: str, mail: str | None, digest: bytes | None, language: str | None) -> Row:
    """Give a partner's office this address, sealed, or none."""
    row = await conn.fetchrow(
        f"""
        UPDATE partners SET mail_sealed = $2, mail_digest = $3, mail_language = $4, version = version + 1
        WHERE slug = $1
        RETURNING {_TOLD}
        """,  # noqa: S608 - constants alone
        slug,
        mail,
        digest,
        language,
    )
    if row is None:
        raise LookupError("a partner that was there is gone")
    return row


async def set_state(conn: Connection, slug: str, state: str, because: str) -> Row:
    row = await conn.fetchrow(
        f"""
        UPDATE partners SET state = $2, state_because = $3, version = version + (state <> $2)::int,
               state_since = CASE WHEN state = $2 THEN state_since ELSE app_now() END
        WHERE slug = $1
        RETURNING {_TOLD}
        """,  # noqa: S608 - constants alone
        slug,
        state,
        because,
    )
    if row is None:
        raise LookupError("a partner that was there is gone")
    return row


async def count_anew(conn: Connection, slug: str, topic: str) -> None:
    """What was refused so far counts no more, and neither does what lies kept and may be refused when it runs."""
    await conn.execute(
        """
        UPDATE partners SET counted_after = coalesce((SELECT max(id) FROM parked WHERE topic = $2), 0) WHERE slug = $1
        """,
        slug,
        topic,
    )


async def waiting(conn: Connection, topic: str) -> int:
    """How many records of a partner are kept to run later."""
    found: int = await conn.fetchval("SELECT count(*) FROM parked WHERE topic = $1 AND state = 'held'", topic)
    return found


async def held_up(conn: Connection) -> list[Row]:
    """The partners whose records wait."""
    return await conn.fetch("SELECT slug, state FROM partners WHERE state <> 'active'")


async def last_refused(conn: Connection, slug: str, topic: str, limit: int) -> list[bool]:
    """Of a partner's last records since it was let go on, oldest first, whether each was refused."""
    rows = await conn.fetch(
        """
        SELECT refused FROM (
            (SELECT at, false AS refused FROM intake
             WHERE partner = $1 AND way = 'kafka' AND at > (SELECT state_since FROM partners WHERE slug = $1)
             ORDER BY at DESC, id DESC LIMIT $3)
            UNION ALL
            (SELECT parked_at, true FROM parked
             WHERE topic = $2 AND state = 'refused' AND id > (SELECT counted_after FROM partners WHERE slug = $1)
             ORDER BY parked_at DESC, id DESC LIMIT $3)
        ) AS everything ORDER BY at DESC, refused LIMIT $3  -- a batch has one time: in doubt, what was taken counts
        """,
        slug,
        topic,
        limit,
    )
    return [row["refused"] for row in reversed(rows)]


async def partners(conn: Connection) -> list[Row]:
    """All of them, with how much each has published and when something last came from it."""
    return await conn.fetch(
        """
        SELECT slug, name, orgnr, arenas, contact, state, state_because, joined_at, mail_digest, mail_language,
               (SELECT count(*) FROM partner_keys k WHERE k.partner = slug) AS keys,
               (SELECT count(*) FROM courses c WHERE c.partner = slug AND NOT c.withdrawn) AS courses,
               (SELECT max(at) FROM intake i WHERE i.partner = slug) AS last_taken_at,
               nullif(state_since, '-infinity') AS state_since,
               (SELECT count(*) FROM parked p WHERE p.topic = 'partners.' || slug || '.courses' AND p.state = 'held')
                   AS waiting
        FROM partners ORDER BY slug
        """
    )
