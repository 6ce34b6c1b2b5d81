"""SQL of people's calendars: the address of each, kept as a digest only, and what stands in one."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from contracts.fields import Session
from kit.database import Connection

MOST = 500  # runs in one calendar, the newest
KEPT_DAYS = 365  # how long a run stays there when it is over


@dataclass(frozen=True)
class Seat:
    """A seat that is to stand in a calendar. `sequence` is the version of its appointment: of the last mail with it, or
    of what has changed since and no mail has said."""

    enrolment_id: UUID
    place: str | None
    title: dict[str, str]
    language: str
    starts_at: datetime
    ends_at: datetime
    sessions: list[dict[str, Any]]
    sequence: int
    changed_at: datetime

    def meetings(self) -> list[Session]:
        """When people meet: each session, or the offering as a whole when it has none."""
        sessions = [Session.model_validate(one) for one in self.sessions]
        return sessions or [Session(starts_at=self.starts_at, ends_at=self.ends_at)]


async def renew(conn: Connection, login: str, secret_sha256: bytes) -> datetime:
    """Give a person this address; the one before it ends. Returns the time."""
    made: datetime = await conn.fetchval(
        """
        INSERT INTO calendars (login, secret_sha256) VALUES ($1, $2)
        ON CONFLICT (login) DO UPDATE SET secret_sha256 = excluded.secret_sha256, created_at = app_now()
        RETURNING created_at
        """,
        login,
        secret_sha256,
    )
    return made


async def made_at(conn: Connection, login: str) -> datetime | None:
    """Since when a person's address has been there; none when there is none."""
    found: datetime | None = await conn.fetchval("SELECT created_at FROM calendars WHERE login = $1", login)
    return found


async def revoke(conn: Connection, login: str) -> None:
    """End a person's address, if there is one."""
    await conn.execute("DELETE FROM calendars WHERE login = $1", login)


async def owner(conn: Connection, secret_sha256: bytes) -> str | None:
    """Whose address this is."""
    found: str | None = await conn.fetchval("SELECT login FROM calendars WHERE secret_sha256 = $1", secret_sha256)
    return found


async def seats(conn: Connection, login: str) -> list[Seat]:
    """The seats of this log-in in runs that take place, in the order in which they begin."""
    rows = await conn.fetch(
        """
        SELECT * FROM (
            SELECT seat.enrolment_id, seat.place, course.title, contact.language, offering.starts_at, offering.ends_at,
                   coalesce(offering.sessions, '[]') AS sessions, greatest(0, said.last, seat.sequence) AS sequence,
                   coalesce(greatest(said.at, seat.sequence_at), seat.since, contact.updated_at) AS changed_at
            FROM contacts AS contact
            JOIN enrolments AS seat USING (learner_id)
            JOIN offerings AS offering USING (offering_id)
            JOIN courses AS course USING (course_id)
            CROSS JOIN LATERAL (
                SELECT max(sequence) AS last, max(created_at) AS at FROM notices
                WHERE notices.about = seat.enrolment_id AND notices.sequence IS NOT NULL
            ) AS said
            WHERE contact.login = $1 AND seat.state IN ('associated', 'finished') AND NOT offering.cancelled
              AND offering.ends_at > app_now() - make_interval(days => $2)
            ORDER BY offering.starts_at DESC LIMIT $3
        ) AS newest ORDER BY starts_at, enrolment_id
        """,
        login,
        KEPT_DAYS,
        MOST,
    )
    return [Seat(**{**dict(row), **{name: json.loads(row[name]) for name in ("title", "sessions")}}) for row in rows]


async def raised(conn: Connection, offerings: Sequence[UUID] = (), courses: Sequence[UUID] = ()) -> None:
    """Note of all who have a seat in these runs, or in runs of these courses, that their calendars have something old.

    The number is the one that calendars which are read have from now on. A mail about a change has it too, or a higher
    one; any other mail a higher one. A seat that another has locked is left out, since that one may wait for the run,
    which is locked here: what it says of the seat is told by a mail with a higher number.
    """
    await conn.execute(
        """
        UPDATE enrolments AS seat SET sequence_at = app_now(), sequence = 1 + greatest(
            0, seat.sequence, (SELECT max(sequence) FROM notices AS said WHERE said.about = seat.enrolment_id)
        )
        FROM (
            SELECT enrolment_id FROM enrolments JOIN offerings AS run USING (offering_id)
            WHERE (run.offering_id = ANY($1) OR run.course_id = ANY($2))
              AND enrolments.state IN ('associated', 'finished')
              AND NOT run.cancelled AND run.ends_at > app_now() - make_interval(days => $3)
            FOR UPDATE OF enrolments SKIP LOCKED
        ) AS shown
        WHERE seat.enrolment_id = shown.enrolment_id
        """,
        offerings,
        courses,
        KEPT_DAYS,
    )
