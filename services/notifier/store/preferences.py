"""SQL of what people have chosen to be told, and when they are not to be disturbed."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, time
from uuid import UUID

from kit.database import Connection
from services.notifier.store import columns

LONGEST_ID = 36


@dataclass(frozen=True)
class Choice:
    """How often a person wants one category by one channel; only what is not the usual is kept."""

    category: str
    channel: str
    cadence: str


@dataclass(frozen=True)
class Quiet:
    """From when to when a person is not to be disturbed, in Oslo's time; both none: never quiet."""

    quiet_from: time | None
    quiet_until: time | None


async def lock(conn: Connection, person: str) -> None:
    """Let nobody else change this person's choices before the transaction ends; there may be no row yet to lock."""
    await conn.execute("SELECT pg_advisory_xact_lock(hashtextextended('preferences ' || $1::text, 0))", person)


async def reader(conn: Connection, person: str) -> tuple[datetime, str | None]:
    """(now, the person's language); no language when there is no contact of theirs."""
    [row] = await conn.fetch(
        """
        SELECT app_now() AS now,
               (SELECT language FROM contacts WHERE login = $1 ORDER BY updated_at DESC LIMIT 1) AS by_log_in,
               (SELECT language FROM contacts WHERE learner_id = $2) AS by_learner
        """,
        person,
        _learner(person),
    )
    return row["now"], row["by_log_in"] or row["by_learner"]


def _learner(person: str) -> UUID | None:
    """The learner's id that stands for a person of whom no log-in is known; a digest of a log-in may look like one."""
    return UUID(person) if len(person) == LONGEST_ID else None


async def known_as(conn: Connection, person: str) -> str:
    """By what the choices of a link's person are found: by the log-in, where one was heard of since it was made."""
    known: str | None = await conn.fetchval("SELECT login FROM contacts WHERE learner_id = $1", _learner(person))
    return known or person


async def is_reached(conn: Connection, person: str) -> bool:
    """Whether there is a contact of this person, who is not forgotten before the transaction ends."""
    held = "SELECT FROM contacts WHERE login = $1 OR learner_id = $2 FOR KEY SHARE"
    return bool(await conn.fetch(held, person, _learner(person)))


async def choices(conn: Connection, person: str) -> list[Choice]:
    """What this person has chosen."""
    rows = await conn.fetch("SELECT category, channel, cadence FROM preferences WHERE person = $1", person)
    return [Choice(**dict(row)) for row in rows]


async def quiet(conn: Connection, person: str) -> Quiet | None:
    """When this person is not to be disturbed; none when nothing was said of it."""
    row = await conn.fetchrow("SELECT quiet_from, quiet_until FROM quiet_hours WHERE person = $1", person)
    return None if row is None else Quiet(**dict(row))


async def forget(conn: Connection, person: str) -> None:
    """Let all be as usual again for this person."""
    await conn.execute("DELETE FROM preferences WHERE person = $1", person)


async def keep(conn: Connection, person: str, chosen: Sequence[Choice]) -> None:
    """Keep these choices, beside any for other categories and channels."""
    await conn.execute(
        """
        INSERT INTO preferences AS old (person, category, channel, cadence)
        SELECT $1, * FROM unnest($2::text[], $3::text[], $4::text[])
        ON CONFLICT (person, category, channel) DO UPDATE SET
            cadence = excluded.cadence, updated_at = app_now(),
            cadence_before = CASE WHEN excluded.cadence <> 'off' THEN NULL
                                  WHEN old.cadence = 'off' THEN old.cadence_before ELSE old.cadence END
        """,
        person,
        *columns(chosen, "category channel cadence"),
    )


async def bring_back(conn: Connection, person: str, categories: Sequence[str], channel: str) -> None:
    """Let these be as they were before they were turned off; what is on already stays as it is."""
    await conn.execute(
        """
        UPDATE preferences SET cadence = coalesce(cadence_before, 'at_once'), cadence_before = NULL,
            updated_at = app_now()
        WHERE person = $1 AND category = ANY($2) AND channel = $3 AND cadence = 'off'
        """,
        person,
        categories,
        channel,
    )


async def keep_quiet(conn: Connection, person: str, hours: Quiet | None) -> None:
    """Keep when this person is not to be disturbed; none: as the settings say."""
    if hours is None:
        await conn.execute("DELETE FROM quiet_hours WHERE person = $1", person)
        return
    await conn.execute(
        """
        INSERT INTO quiet_hours (person, quiet_from, quiet_until) VALUES ($1, $2, $3)
        ON CONFLICT (person) DO UPDATE SET quiet_from = excluded.quiet_from, quiet_until = excluded.quiet_until
        """,
        person,
        hours.quiet_from,
        hours.quiet_until,
    )


async def follow_log_in(conn: Connection, learners: Sequence[UUID], logins: Sequence[str | None]) -> None:
    """Move choices that were made by a link before the log-in was known to the log-in; its own choices stay."""
    await conn.execute(
        """
        UPDATE preferences AS made SET person = new.login
        FROM unnest($1::uuid[], $2::text[]) AS new (learner_id, login)
        WHERE made.person = new.learner_id::text AND new.login IS NOT NULL AND NOT EXISTS (
            SELECT FROM preferences AS own
            WHERE own.person = new.login AND own.category = made.category AND own.channel = made.channel
        )
        """,
        learners,
        logins,
    )
