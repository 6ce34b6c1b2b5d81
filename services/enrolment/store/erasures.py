"""SQL of forgetting a person: what is deleted, what stays without them, and who has answered."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from kit.database import Connection

NOBODY = UUID(int=0)  # whose past enrolments are after their learner was forgotten


@dataclass(frozen=True, slots=True)
class Erasure:
    """One request: since when, and which services have not answered yet (none: it is done)."""

    request_id: UUID
    learner_id: UUID
    asked_at: datetime
    by_whom: str
    waits_for: tuple[str, ...]
    counts: Mapping[str, Mapping[str, int]]
    done_at: datetime | None


_ERASURE = "SELECT request_id, learner_id, asked_at, by_whom, waits_for, counts, done_at FROM erasures"


def _erasure(row: Any) -> Erasure:
    return Erasure(**{**row, "waits_for": tuple(row["waits_for"]), "counts": json.loads(row["counts"])})


async def learner(conn: Connection, issuer: str, subject: str) -> UUID | None:
    """The id of this log-in; none when it has never asked for a seat."""
    found: UUID | None = await conn.fetchval(
        "SELECT id FROM learners WHERE issuer = $1 AND subject = $2", issuer, subject
    )
    return found


async def new_id(conn: Connection) -> UUID:
    """An id by the clock that all learners' ids are made by: the notifier compares their times."""
    made: UUID = await conn.fetchval("SELECT uuidv7()")
    return made


async def learner_of(conn: Connection, id_: UUID) -> UUID | None:
    """Whose this id is: a learner's own, one of an enrolment of theirs, or of one who was forgotten; none: unknown."""
    found: UUID | None = await conn.fetchval(
        """
        SELECT id FROM learners WHERE id = $1 AND id <> $2
        UNION ALL SELECT learner_id FROM enrolments WHERE id = $1 AND learner_id <> $2
        UNION ALL SELECT learner_id FROM erasures WHERE learner_id = $1
        LIMIT 1
        """,
        id_,
        NOBODY,
    )
    return found


async def offerings(conn: Connection, learner_id: UUID) -> set[UUID]:
    """Each offering in which this learner has, or had, an enrolment."""
    rows = await conn.fetch("SELECT DISTINCT offering_id FROM enrolments WHERE learner_id = $1", learner_id)
    return {row["offering_id"] for row in rows}


async def lock(conn: Connection, learner_id: UUID) -> tuple[str, str] | None:
    """The log-in of this learner, for whom nobody makes an enrolment until the transaction ends; none: unknown.

    Who asks for a seat as this learner waits for it in `enrolments.know_learners`, and then finds that there is none.
    """
    row = await conn.fetchrow("SELECT issuer, subject FROM learners WHERE id = $1 FOR UPDATE", learner_id)
    return (row["issuer"], row["subject"]) if row else None


async def anonymise(conn: Connection, learner_id: UUID) -> int:
    """Let this learner's enrolments be nobody's, without the name and whatever else was said of them; how many."""
    done: str = await conn.execute(
        """
        UPDATE enrolments SET learner_id = $2, name = '', group_name = NULL, on_lapse = NULL,
            denied_because = CASE WHEN denied_because IS NOT NULL THEN '' END
        WHERE learner_id = $1
        """,
        learner_id,
        NOBODY,
    )
    return int(done.split()[-1])


async def drop(conn: Connection, learner_id: UUID) -> None:
    """There is no such learner any more. Raises asyncpg.ForeignKeyViolationError while enrolments are theirs."""
    await conn.execute("DELETE FROM learners WHERE id = $1", learner_id)


async def add(conn: Connection, learner_id: UUID, by_whom: str, waits_for: Sequence[str], counts: str) -> UUID:
    """A new request; `counts` is the JSON of what was deleted here. Returns its id."""
    made: UUID = await conn.fetchval(
        """
        INSERT INTO erasures (learner_id, by_whom, waits_for, counts) VALUES ($1, $2, $3, $4::jsonb)
        RETURNING request_id
        """,
        learner_id,
        by_whom,
        waits_for,
        counts,
    )
    return made


async def answered(conn: Connection, request_id: UUID, service: str, counts: Mapping[str, int]) -> None:
    """Note what a service has deleted; with the last answer the request is done. One that is not known is no matter."""
    await conn.execute(
        """
        UPDATE erasures SET
            waits_for = array_remove(waits_for, $2), counts = counts || jsonb_build_object($2::text, $3::jsonb),
            done_at = CASE WHEN array_remove(waits_for, $2) = '{}' THEN coalesce(done_at, app_now()) END
        WHERE request_id = $1
        """,
        request_id,
        service,
        json.dumps(counts),
    )


async def one(conn: Connection, request_id: UUID) -> Erasure | None:
    row = await conn.fetchrow(f"{_ERASURE} WHERE request_id = $1", request_id)
    return _erasure(row) if row else None


async def listed(conn: Connection, most: int) -> list[Erasure]:
    """The requests, those first that are not done, then the newest."""
    rows = await conn.fetch(f"{_ERASURE} ORDER BY done_at IS NOT NULL, asked_at DESC, request_id DESC LIMIT $1", most)
    return [_erasure(row) for row in rows]


async def forgotten_since(conn: Connection, since: datetime) -> list[UUID]:
    """Whom this database has forgotten since then."""
    rows = await conn.fetch("SELECT DISTINCT learner_id FROM erasures WHERE asked_at >= $1", since)
    return [row["learner_id"] for row in rows]


async def beside(conn: Connection) -> list[str]:
    """The databases that a restore has left on this server: people are in them who have been forgotten since."""
    rows = await conn.fetch(
        "SELECT datname FROM pg_database WHERE datname ~ '^(enrolment|notifier)_(before|restoring)' ORDER BY datname"
    )
    return [row["datname"] for row in rows]
