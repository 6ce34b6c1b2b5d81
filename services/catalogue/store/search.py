"""SQL of finding courses."""

from uuid import UUID

from kit.database import Connection
from services.catalogue.store import Row


async def search(conn: Connection, q: str, partner: str | None, after: UUID | None, limit: int) -> list[Row]:
    """Courses in the order they came, whose code or a title holds the words."""
    return await conn.fetch(
        """
        SELECT id, partner, code, content FROM courses
        WHERE NOT withdrawn
          AND ($1 = '' OR position(lower($1) in lower(code)) > 0
               OR EXISTS (SELECT FROM jsonb_each_text(content->'title') WHERE position(lower($1) in lower(value)) > 0))
          AND ($2::text IS NULL OR partner = $2) AND ($3::uuid IS NULL OR id > $3)
        ORDER BY id LIMIT $4
        """,
        q,
        partner,
        after,
        limit,
    )
