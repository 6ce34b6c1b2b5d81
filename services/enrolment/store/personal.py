"""SQL of all that is kept here about one person, as they get it themselves. Each column is in `personal.txt`."""

import json
from typing import Any
from uuid import UUID

from kit.database import Connection


async def enrolments(conn: Connection, learner_id: UUID) -> list[dict[str, Any]]:
    """All of this learner's, the oldest first, each with its course and run, its offers and what has happened to it."""
    rows = await conn.fetch(
        """
        SELECT e.id AS enrolment_id, e.offering_id, run.partner, course.code AS course_code,
               course.title AS course_title, run.starts_at, run.ends_at, e.state, e.place, e.choices, e.name,
               e.asked_at, e.group_name AS "group", e.waiting_for, e.wait_for_earlier, e.on_lapse, e.queue_number,
               e.rank, e.put_back, e.place_told, e.place_told_at, e.no_seat_told_at,
               e.denied_because,
               (SELECT coalesce(jsonb_agg(jsonb_build_object(
                   'offer_id', o.id, 'place', o.place, 'made_at', o.made_at, 'expires_at', o.expires_at,
                   'ended_at', o.ended_at, 'outcome', o.outcome) ORDER BY o.made_at), '[]')
                FROM offers o WHERE o.enrolment_id = e.id) AS offers,
               (SELECT coalesce(jsonb_agg(jsonb_build_object(
                   'changed_at', c.changed_at, 'from_state', c.from_state, 'to_state', c.to_state,
                   'from_place', c.from_place, 'place', c.place, 'by_whom', c.by_whom, 'why', c.why)
                   ORDER BY c.id), '[]')
                FROM enrolment_changes c WHERE c.enrolment_id = e.id) AS changes
        FROM enrolments e JOIN offerings run ON run.id = e.offering_id
        LEFT JOIN courses course ON course.id = run.course_id
        WHERE e.learner_id = $1 ORDER BY e.id
        """,
        learner_id,
    )
    return [_read(row, "course_title", "offers", "changes") for row in rows]


async def sessions(conn: Connection, issuer: str, subject: str) -> list[dict[str, Any]]:
    """Where this person is logged in: no key, and nothing that one could act by."""
    rows = await conn.fetch(
        """
        SELECT name, said, created_at, seen_at FROM sessions
        WHERE issuer = $1 AND subject = $2 ORDER BY created_at
        """,
        issuer,
        subject,
    )
    return [_read(row, "said") for row in rows]


async def role(conn: Connection, issuer: str, subject: str) -> dict[str, Any] | None:
    """What an operator has let this person do beside what everybody may."""
    row = await conn.fetchrow(
        "SELECT role, partner, employer, since FROM members WHERE issuer = $1 AND subject = $2", issuer, subject
    )
    return dict(row) if row else None


async def live(conn: Connection, learner_id: UUID) -> int:
    """How many seats and places in line this learner has."""
    found: int = await conn.fetchval(
        """
        SELECT count(*) FROM enrolments
        WHERE learner_id = $1 AND state NOT IN ('denied', 'cancelled', 'finished')
        """,
        learner_id,
    )
    return found


def _read(row: Any, *spelled: str) -> dict[str, Any]:
    """The row with these columns read as JSON; one that is none is none."""
    return {**row, **{name: json.loads(row[name]) for name in spelled if row[name] is not None}}
