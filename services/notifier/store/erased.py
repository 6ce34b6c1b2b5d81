"""SQL of forgetting a person: what is deleted, and what stays so that nobody comes back."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from kit.database import Connection
from services.notifier.store.outgoing import ABANDONED_S

REASON = "erased"  # why a notice is not sent: there is nobody to send it to
LATE_DAYS = 30  # so long after somebody was forgotten an event of theirs may still come: topics keep them for 14


async def stop_contacts(conn: Connection) -> None:
    """Wait for all who write contacts, and let nobody begin before the transaction ends: some milliseconds, rarely.

    Without it a contact that is being kept by another process, which has not seen that its learner is forgotten, would
    be there afterwards.
    """
    await conn.execute("LOCK TABLE contacts IN SHARE ROW EXCLUSIVE MODE")


async def add(conn: Connection, learner_id: UUID) -> bool:
    """Note that this learner is forgotten. False when it was noted before."""
    added = await conn.fetchval(
        "INSERT INTO erased (learner_id) VALUES ($1) ON CONFLICT DO NOTHING RETURNING true", learner_id
    )
    return bool(added)


async def login(conn: Connection, learner_id: UUID) -> str | None:
    """By which log-in this learner is known here; none when it is not known."""
    found: str | None = await conn.fetchval("SELECT login FROM contacts WHERE learner_id = $1", learner_id)
    return found


async def came_before(conn: Connection, learner_id: UUID, login: str) -> list[UUID]:
    """The learners of this log-in that are older than this one; ids are in the order of their time."""
    rows: list[Any] = await conn.fetch(
        "SELECT learner_id FROM contacts WHERE login = $2 AND learner_id < $1 ORDER BY learner_id DESC",
        learner_id,
        login,
    )
    return [row["learner_id"] for row in rows]


async def delete_contact(conn: Connection, learner_id: UUID) -> int:
    return _count(await conn.execute("DELETE FROM contacts WHERE learner_id = $1", learner_id))


async def delete_bounced(conn: Connection, learner_id: UUID) -> int:
    return _count(await conn.execute("DELETE FROM bounced_addresses WHERE learner_id = $1", learner_id))


async def delete_preferences(conn: Connection, people: Sequence[str]) -> int:
    return _count(await conn.execute("DELETE FROM preferences WHERE person = ANY($1::text[])", people))


async def delete_quiet_hours(conn: Connection, people: Sequence[str]) -> int:
    return _count(await conn.execute("DELETE FROM quiet_hours WHERE person = ANY($1::text[])", people))


async def delete_calendars(conn: Connection, people: Sequence[str]) -> int:
    return _count(await conn.execute("DELETE FROM calendars WHERE login = ANY($1::text[])", people))


async def empty_notices(conn: Connection, learner_id: UUID) -> int:
    """Of this learner's notices only ids, codes and times stay. One that is in a sender's hands is left to it."""
    done = await conn.execute(
        """
        UPDATE notices SET facts = '{}', sealed = NULL, place = NULL, place_in_line = NULL,
            updated_at = CASE WHEN state IN ('due', 'held', 'deferred') THEN app_now() ELSE updated_at END,
            reason = CASE WHEN state IN ('due', 'held', 'deferred') THEN $2 ELSE reason END,
            state = CASE WHEN state IN ('due', 'held', 'deferred') THEN 'suppressed' ELSE state END
        WHERE learner_id = $1
        """,
        learner_id,
        REASON,
    )
    return _count(done)


async def suppress_late(conn: Connection) -> int:
    """End the notices that were owed to people after they were forgotten: they would wait for an address for ever.

    So would one that was in a sender's hands when its process ended.
    """
    done = await conn.execute(
        """
        UPDATE notices SET state = 'suppressed', reason = $1, facts = '{}', sealed = NULL, place = NULL,
            place_in_line = NULL, updated_at = app_now()
        FROM erased
        WHERE erased.at > app_now() - make_interval(days => $2) AND notices.learner_id = erased.learner_id
          AND (notices.state IN ('due', 'held', 'deferred')
               OR notices.state = 'sending' AND notices.sending_since < app_now() - make_interval(secs => $3))
        """,
        REASON,
        LATE_DAYS,
        float(ABANDONED_S),
    )
    return _count(done)


async def since(conn: Connection, at: datetime) -> list[UUID]:
    """Who was forgotten since then."""
    rows: list[Any] = await conn.fetch("SELECT learner_id FROM erased WHERE at >= $1 ORDER BY learner_id", at)
    return [row["learner_id"] for row in rows]


def _count(done: str) -> int:
    return int(done.rsplit(" ", 1)[1])
