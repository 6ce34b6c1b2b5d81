"""SQL of what people look back on and wait for: an enrolment's steps, its changes live, a run's names, who asked."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from kit.database import Connection
from services.enrolment.domain import Enrolment
from services.enrolment.store import enrolments
from services.enrolment.store.erasures import NOBODY

_PUT_OUT = f"""
    {enrolments.COLUMNS}, last.from_state {enrolments.FROM}
    CROSS JOIN LATERAL (
        SELECT * FROM enrolment_changes c WHERE c.enrolment_id = e.id ORDER BY c.id DESC LIMIT 1
    ) AS last
    WHERE e.offering_id = $1 AND e.state IN ('finished', 'cancelled') AND e.learner_id <> $3
      AND last.by_whom = 'clock' AND last.why IN ('finished', 'over') AND last.changed_at >= $2
    ORDER BY e.queue_number LIMIT $4
"""  # noqa: S608 - constants alone


@dataclass(frozen=True, slots=True)
class Step:
    """One step of an enrolment. `place` is the seat after it, `from_place` the seat before."""

    changed_at: datetime
    from_state: str | None
    to_state: str
    from_place: str | None
    place: str | None
    by_whom: str
    why: str


@dataclass(frozen=True, slots=True)
class Seated:
    name: str
    place: str


async def steps(conn: Connection, enrolment_id: UUID) -> list[Step]:
    """What has happened to an enrolment, the last first."""
    rows = await conn.fetch(
        """
        SELECT changed_at, from_state, to_state, from_place, place, by_whom, why FROM enrolment_changes
        WHERE enrolment_id = $1 ORDER BY id DESC
        """,
        enrolment_id,
    )
    return [Step(**row) for row in rows]


async def marks(conn: Connection, logins: Sequence[tuple[str, str]]) -> dict[tuple[str, str], str]:
    """(issuer, subject) -> a mark that is another when one of their live enrolments, or its run, is not as it was.

    Where one stands in line is counted once for each line and not for each person: it changes whenever somebody in
    front comes or goes, also one who waits for other places.
    """
    rows = await conn.fetch(
        """
        WITH mine AS (
            SELECT l.issuer, l.subject, e.id, e.offering_id, e.state, e.place, e.queue_number, o.id AS offer_id,
                   run.version
            FROM unnest($1::text[], $2::text[]) AS asked (issuer, subject)
            JOIN learners l USING (issuer, subject)
            JOIN enrolments e ON e.learner_id = l.id AND e.state NOT IN ('denied', 'cancelled', 'finished')
            JOIN offerings run ON run.id = e.offering_id
            LEFT JOIN offers o ON o.enrolment_id = e.id AND o.ended_at IS NULL
        ), line AS (
            SELECT id, row_number() OVER (PARTITION BY offering_id ORDER BY rank, queue_number) AS number
            FROM enrolments
            WHERE waiting_for <> '{}' AND offering_id IN (SELECT offering_id FROM mine WHERE state = 'queued')
        )
        SELECT issuer, subject, md5(string_agg(
            concat_ws(' ', mine.id, version, state, place, queue_number, offer_id,
                      CASE WHEN state = 'queued' THEN line.number END), ',' ORDER BY mine.id)) AS mark
        FROM mine LEFT JOIN line USING (id) GROUP BY issuer, subject
        """,
        [issuer for issuer, _ in logins],
        [subject for _, subject in logins],
    )
    return {(row["issuer"], row["subject"]): row["mark"] for row in rows}


async def put_out(conn: Connection, offering_id: UUID, since: datetime, most: int) -> list[tuple[Enrolment, str]]:
    """At most so many whom the end of this run has put out since then, in the order of asking; and as what.

    Not who has been forgotten meanwhile: that is nobody's any more.
    """
    rows = await conn.fetch(_PUT_OUT, offering_id, since, NOBODY, most)
    return [(enrolments.enrolment(row), row["from_state"]) for row in rows]


async def seated(conn: Connection, offering_id: UUID) -> list[Seated]:
    """Everybody who has a seat, or had one to the end, by place and then in the order of asking."""
    rows = await conn.fetch(
        """
        SELECT e.name, e.place FROM enrolments e JOIN places p USING (offering_id)
        WHERE e.offering_id = $1 AND e.state IN ('associated', 'finished') AND p.arena = e.place
        ORDER BY p.number, p.arena, e.id
        """,
        offering_id,
    )
    return [Seated(**row) for row in rows]


async def asked_per(conn: Connection, first: datetime, step: timedelta) -> list[tuple[datetime, int]]:
    """How many asked in each step since `first`, as `kit.plots` wants it. Ids are in the order of their time."""
    rows = await conn.fetch(
        """
        SELECT date_bin($2, asked_at, $1) AS at, count(*) FROM enrolments
        WHERE id >= (SELECT uuidv7($1 - app_now())) AND asked_at >= $1 GROUP BY 1
        """,
        first,
        step,
    )
    return [(row["at"], row["count"]) for row in rows]
