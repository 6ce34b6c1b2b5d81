"""SQL of what a person sees and chooses of how they are reached, by log-in."""

from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

from kit.database import Connection


@dataclass(frozen=True)
class Reached:
    """How a person is reached, as they gave it last; `phone` is none when they gave none."""

    email: str
    phone: str | None
    language: str


async def reached(conn: Connection, login: str) -> Reached | None:
    """How this person is reached; none when they gave nothing."""
    row = await conn.fetchrow(
        "SELECT email, phone, language FROM contacts WHERE login = $1 ORDER BY updated_at DESC LIMIT 1", login
    )
    return None if row is None else Reached(**dict(row))


async def change(conn: Connection, login: str, wanted: Reached) -> tuple[Sequence[UUID], Sequence[str]]:
    """Write to this person there and so from now on, about everything, until they say otherwise: as whom we know them,
    and the addresses and numbers that are no more.

    What they said before, and is heard late or again, does not undo it (`known.keep_contacts`). The language counts as
    chosen when it is another than they were shown: it is sent along with whatever else is changed.
    """
    rows = await conn.fetch(
        """
        UPDATE contacts SET email = $2, phone = $3, language = $4, own_at = app_now(),
               language_chosen = language_chosen OR $4 <> (
                   SELECT shown.language FROM contacts AS shown WHERE shown.login = $1  -- as `reached` has it
                   ORDER BY shown.updated_at DESC LIMIT 1
               )
        WHERE login = $1
        RETURNING learner_id, nullif(old.email, new.email) AS email, nullif(old.phone, new.phone) AS phone
        """,
        login,
        wanted.email,
        wanted.phone,
        wanted.language,
    )
    former = [row[name] for row in rows for name in ("email", "phone") if row[name] is not None]
    return [row["learner_id"] for row in rows], former
