"""SQL of what a person sees and chooses of how they are reached, by log-in."""

from kit.database import Connection


async def reached(conn: Connection, login: str) -> tuple[str, str] | None:
    """(address, language) that this person gave last; none when they gave none."""
    row = await conn.fetchrow(
        "SELECT email, language FROM contacts WHERE login = $1 ORDER BY updated_at DESC LIMIT 1", login
    )
    return None if row is None else (row["email"], row["language"])


async def speak(conn: Connection, login: str, language: str) -> bool:
    """Write to this person in this language from now on, until they give another. False when nothing is known of them.

    When each contact was given stays as it is: which of two is the newest is not changed by its language.
    """
    done = await conn.fetch("UPDATE contacts SET language = $2 WHERE login = $1 RETURNING learner_id", login, language)
    return bool(done)
