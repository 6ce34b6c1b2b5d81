"""SQL of all that is kept here about one person, as they get it themselves. Each column is in `personal.txt`."""

import json
from datetime import datetime
from typing import Any

from kit.database import Connection


async def made_at(conn: Connection) -> datetime:
    found: datetime = await conn.fetchval("SELECT app_now()")
    return found


async def contacts(conn: Connection, login: str) -> list[dict[str, Any]]:
    """How this person is reached; more than one when they are known as several learners."""
    return await _rows(
        conn,
        """
        SELECT c.learner_id, c.email, c.phone, c.name, c.language, c.language_chosen, c.said_at, c.own_at,
               c.updated_at, bounced.status AS refused_because, bounced.since AS refused_since
        FROM contacts c LEFT JOIN LATERAL (
            SELECT status, since FROM bounced_addresses b WHERE b.learner_id = c.learner_id ORDER BY since DESC LIMIT 1
        ) AS bounced ON true
        WHERE c.login = $1 ORDER BY c.learner_id
        """,
        login,
    )


async def preferences(conn: Connection, login: str) -> list[dict[str, Any]]:
    return await _rows(
        conn,
        """
        SELECT category, channel, cadence, cadence_before, updated_at FROM preferences
        WHERE person = $1 ORDER BY category, channel
        """,
        login,
    )


async def quiet_hours(conn: Connection, login: str) -> dict[str, Any] | None:
    """From when to when, in Oslo; both none: never. No row: as the settings say."""
    return await _row(conn, "SELECT quiet_from, quiet_until FROM quiet_hours WHERE person = $1", login)


async def calendar(conn: Connection, login: str) -> dict[str, Any] | None:
    """Since when the calendar has an address; never which."""
    return await _row(conn, "SELECT created_at FROM calendars WHERE login = $1", login)


async def notices(conn: Connection, login: str) -> list[dict[str, Any]]:
    """Each notice, the oldest first: what it was about and what became of it."""
    rows = await _rows(
        conn,
        """
        SELECT n.id, n.template, n.channel, n.offering_id, n.about AS enrolment_id, n.place, n.place_in_line, n.facts,
               n.state, n.reason, n.due_at, n.created_at, n.sent_at, n.failed_at, n.read_at, n.expires_at, n.attempts,
               n.resends, n.sequence, n.message_id
        FROM notices n JOIN contacts c USING (learner_id) WHERE c.login = $1 ORDER BY n.id
        """,
        login,
    )
    return [{**row, "facts": json.loads(row["facts"])} for row in rows]


async def enrolments(conn: Connection, login: str) -> list[dict[str, Any]]:
    """Where this person's enrolments have come to, as far as was heard."""
    return await _rows(
        conn,
        """
        SELECT e.enrolment_id, e.offering_id, e.state, e.place, e.since
        FROM enrolments e JOIN contacts c USING (learner_id) WHERE c.login = $1 ORDER BY e.enrolment_id
        """,
        login,
    )


async def _rows(conn: Connection, query: str, login: str) -> list[dict[str, Any]]:
    return [dict(row) for row in await conn.fetch(query, login)]


async def _row(conn: Connection, query: str, login: str) -> dict[str, Any] | None:
    row = await conn.fetchrow(query, login)
    return dict(row) if row else None
