"""SQL of sessions, and of the people who may do more than others."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta

import asyncpg

from kit.auth import Caller
from kit.database import Connection
from kit.passes import IDLE_S, NOTED_S, Visitor

IDLE = timedelta(seconds=IDLE_S)
LASTS = timedelta(hours=8)
NOTED = timedelta(seconds=NOTED_S)


@dataclass(frozen=True, slots=True)
class Member:
    """Somebody with a role, or who acts for a partner or an employer."""

    issuer: str
    subject: str
    role: str
    partner: str | None
    employer: str | None


async def begin(conn: Connection, digest: bytes, caller: Caller, csrf: str, said: Mapping[str, str]) -> None:
    await conn.execute(
        "INSERT INTO sessions (digest, issuer, subject, name, csrf, said) VALUES ($1, $2, $3, $4, $5, $6)",
        digest,
        caller.issuer,
        caller.subject,
        caller.name,
        csrf,
        json.dumps(said),
    )


async def visitors(conn: Connection, asked: Sequence[tuple[bytes, bool]], trusts: bool) -> list[Visitor | None]:
    """(digest, whether it is used): whose session it is, with the roles of this moment; none where there is none.

    `trusts`: whether what the issuer has said of roles counts for those of whom we know nothing.

    That it was used is noted. One that another process notes at this moment is left to it: two that note the same never
    wait for each other.
    """
    rows = await conn.fetch(
        """
        SELECT s.id, s.digest, s.issuer, s.subject, s.name, s.csrf, s.said,
               s.seen_at < app_now() - $4::interval AS note, m.role, m.partner, m.employer,
               extract(epoch FROM s.created_at + $3::interval)::bigint AS ends_at
        FROM sessions AS s LEFT JOIN members AS m USING (issuer, subject)
        WHERE s.digest = ANY ($1::bytea[])
          AND s.seen_at > app_now() - $2::interval AND s.created_at > app_now() - $3::interval
        """,
        [digest for digest, _ in asked],
        IDLE,
        LASTS,
        NOTED,
    )
    using = {digest for digest, is_used in asked if is_used}
    if used := [row["id"] for row in rows if row["note"] and row["digest"] in using]:
        await conn.execute(
            """
            UPDATE sessions SET seen_at = app_now()
            WHERE id IN (SELECT id FROM sessions WHERE id = ANY ($1::uuid[]) FOR UPDATE SKIP LOCKED)
            """,
            used,
        )
    found = {row["digest"]: _visitor(row, trusts) for row in rows}
    return [found.get(digest) for digest, _ in asked]


def _visitor(row: asyncpg.Record, trusts: bool) -> Visitor:
    said = json.loads(row["said"]) if trusts else {}
    if row["role"]:
        said = {name: row[name] for name in ("role", "partner", "employer")}
    return Visitor(Caller(row["issuer"], row["subject"], name=row["name"], **said), row["csrf"], row["ends_at"])


async def end(conn: Connection, digest: bytes) -> bool:
    """End one session. False when there was none."""
    return bool(await conn.execute("DELETE FROM sessions WHERE digest = $1", digest) == "DELETE 1")


async def end_of(conn: Connection, issuer: str, subject: str) -> int:
    """End all sessions of a person; how many."""
    done: str = await conn.execute("DELETE FROM sessions WHERE issuer = $1 AND subject = $2", issuer, subject)
    return int(done.split()[-1])


async def forget(conn: Connection) -> int:
    """Drop the sessions that are over; how many."""
    done: str = await conn.execute(
        "DELETE FROM sessions WHERE created_at < app_now() - $1::interval OR seen_at < app_now() - $2::interval",
        LASTS,
        IDLE,
    )
    return int(done.split()[-1])


async def end_all(conn: Connection) -> int:
    """End the sessions of everybody; how many."""
    done: str = await conn.execute("DELETE FROM sessions")
    return int(done.split()[-1])


async def members(conn: Connection) -> list[Member]:
    rows = await conn.fetch("SELECT issuer, subject, role, partner, employer FROM members ORDER BY issuer, subject")
    return [Member(**row) for row in rows]


async def keep_member(conn: Connection, one: Member) -> None:
    await conn.execute(
        """
        INSERT INTO members (issuer, subject, role, partner, employer) VALUES ($1, $2, $3, $4, $5)
        ON CONFLICT (issuer, subject) DO UPDATE
        SET role = excluded.role, partner = excluded.partner, employer = excluded.employer, since = app_now()
        """,
        one.issuer,
        one.subject,
        one.role,
        one.partner,
        one.employer,
    )


async def drop_member(conn: Connection, issuer: str, subject: str) -> bool:
    """False when there was none."""
    done = await conn.execute("DELETE FROM members WHERE issuer = $1 AND subject = $2", issuer, subject)
    return bool(done == "DELETE 1")


async def drop_others(conn: Connection, members: Sequence[Member]) -> int:
    """Drop the members who are not exactly as one of these; how many."""
    done: str = await conn.execute(
        """
        DELETE FROM members AS mine WHERE NOT EXISTS (
            SELECT FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::text[])
                AS one (issuer, subject, role, partner, employer)
            WHERE row(one.*) IS NOT DISTINCT FROM row(mine.issuer, mine.subject, mine.role, mine.partner, mine.employer)
        )
        """,
        *([getattr(one, name) for one in members] for name in ("issuer", "subject", "role", "partner", "employer")),
    )
    return int(done.split()[-1])
