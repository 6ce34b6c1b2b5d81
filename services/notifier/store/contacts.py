"""SQL of what a person sees and chooses of how they are reached, by log-in."""

from collections.abc import Sequence
from uuid import UUID

from kit.database import Connection


async def reached(conn: Connection, login: str) -> tuple[str, str] | None:
    """(address, language) that this person gave last; none when they gave none."""
    row = await conn.fetchrow(
        "SELECT email, language FROM contacts WHERE login = $1 ORDER BY updated_at DESC LIMIT 1", login
    )
    return None if row is None else (row["email"], row["language"])


async def change(conn: Connection, login: str, email: str, language: str) -> Sequence[UUID]:
    """Write to this person there and so from now on, about everything, until they say otherwise: as whom we know them.

    What they said before, and is heard late or again, does not undo it (`known.keep_contacts`).
    """
    rows = await conn.fetch(
        """
        UPDATE contacts SET email = $2, language = $3, own_at = app_now() WHERE login = $1 RETURNING learner_id
        """,
        login,
        email,
        language,
    )
    return [row["learner_id"] for row in rows]
