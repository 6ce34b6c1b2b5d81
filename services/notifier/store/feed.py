"""SQL of what a person sees of their own notices, by the log-in of their enrolment; none of what they turned off."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from kit.database import Connection
from services.notifier.kinds import KINDS


@dataclass(frozen=True)
class Shown:
    """A notice with all that its words need. `about` is the enrolment."""

    id: UUID
    template: str
    about: UUID
    offering_id: UUID
    created_at: datetime
    read_at: datetime | None
    place: str | None
    place_in_line: int | None
    facts: dict[str, Any]
    expires_at: datetime | None
    name: str | None
    language: str
    title: dict[str, str]
    starts_at: datetime
    ends_at: datetime
    alternatives: list[dict[str, Any]]
    cancelled_because: str
    sessions: list[dict[str, Any]]
    provider: str | None
    provider_contact: str | None


@dataclass(frozen=True)
class Count:
    """How many notices a person has, how many of them unread, and the newest."""

    total: int = 0
    unread: int = 0
    newest: UUID | None = None


_CATEGORIES = ", ".join(f"('{template}', '{kind.category}')" for template, kind in KINDS.items())
# None of what its person has turned off here.
_WANTED = f"""
    NOT EXISTS (
        SELECT FROM preferences AS chosen
        JOIN (VALUES {_CATEGORIES}) AS kind (template, category) ON kind.category = chosen.category
        WHERE chosen.person = seen.login AND chosen.channel = 'inapp' AND chosen.cadence = 'off'
          AND kind.template = seen.template
    )
"""


async def pages(conn: Connection, asked: Sequence[tuple[str, UUID | None, int]]) -> Sequence[list[Shown]]:
    """For each (login, before, limit): a person's notices, newest first; `before` is the last id of the page before."""
    rows = await conn.fetch(
        f"""
        SELECT page.*, asked.number
        FROM unnest($1::text[], $2::uuid[], $3::int[]) WITH ORDINALITY AS asked (login, before, most, number),
        LATERAL (
            SELECT seen.id, seen.template, seen.about, offering_id, seen.created_at, seen.read_at, seen.place,
                   seen.place_in_line, seen.facts, seen.expires_at, seen.name, seen.language, seen.title,
                   seen.starts_at, seen.ends_at, seen.alternatives, seen.cancelled_because,
                   coalesce(run.sessions, '[]') AS sessions, provider.name AS provider,
                   provider.contact AS provider_contact
            FROM seen JOIN offerings AS run USING (offering_id) JOIN courses AS course USING (course_id)
            LEFT JOIN providers AS provider USING (partner)  -- may be heard of later
            WHERE seen.login = asked.login AND {_WANTED} AND (asked.before IS NULL OR seen.id < asked.before)
            ORDER BY seen.id DESC LIMIT asked.most
        ) AS page ORDER BY asked.number, page.id DESC
        """,  # noqa: S608 - constants alone
        *map(list, zip(*asked, strict=True)),
    )
    spelled = ("title", "facts", "alternatives", "sessions")
    found: list[list[Shown]] = [[] for _ in asked]
    for row in rows:
        one = {**dict(row), **{name: json.loads(row[name]) for name in spelled}}
        found[one.pop("number") - 1].append(Shown(**one))
    return found


async def read(conn: Connection, login: str, notice_id: UUID) -> bool:
    """Note that its person has read it; the first time counts. False when they have no such notice."""
    found = await conn.fetchval(
        """
        UPDATE notices SET read_at = coalesce(notices.read_at, app_now())
        FROM seen WHERE seen.id = notices.id AND seen.login = $1 AND notices.id = $2
        RETURNING true
        """,
        login,
        notice_id,
    )
    return bool(found)


async def read_all(conn: Connection, login: str, newest: UUID) -> None:
    """Note that a person has read all that they are shown up to this notice; what came later was not seen yet."""
    await conn.execute(
        f"""
        UPDATE notices SET read_at = app_now()
        FROM seen WHERE seen.id = notices.id AND seen.login = $1 AND {_WANTED} AND notices.id <= $2
          AND notices.read_at IS NULL
        """,  # noqa: S608 - constants alone
        login,
        newest,
    )


def count(every: Sequence[Shown]) -> Count:
    """Of all notices of one person, newest first, what `counts` gives."""
    unread = sum(one.read_at is None for one in every)
    return Count(len(every), unread, every[0].id if every else None)


async def counts(conn: Connection, logins: Sequence[str]) -> dict[str, Count]:
    """Log-in -> what they have, of these who have any."""
    rows = await conn.fetch(
        f"""
        SELECT login, count(*) AS total, count(*) FILTER (WHERE read_at IS NULL) AS unread,
               (array_agg(id ORDER BY id DESC))[1] AS newest
        FROM seen WHERE login = ANY($1) AND {_WANTED}
        GROUP BY login
        """,  # noqa: S608 - constants alone
        logins,
    )
    return {row["login"]: Count(row["total"], row["unread"], row["newest"]) for row in rows}
