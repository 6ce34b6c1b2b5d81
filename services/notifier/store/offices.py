"""SQL of partners' offices: where each is written to, what has happened to its runs, and what is to be told now."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, time, timedelta
from typing import Any
from uuid import UUID

from kit.database import Connection
from services.notifier.store import columns

MINUTE = timedelta(minutes=1)  # as exactly as is kept when something happened
SETTLE_S = 60  # after a stop all that was said before the hour comes at once: the mail waits until no more of it comes


@dataclass(frozen=True)
class News:
    """So many of one kind that have happened in a run."""

    partner: str
    offering_id: UUID
    kind: str
    said_at: datetime | None
    count: int = 1


@dataclass(frozen=True)
class Heard:
    """So many of one kind that have happened in a run, the last of them in that minute."""

    count: int
    minute: datetime


@dataclass(frozen=True)
class Due:
    """An office whose hour has come, locked."""

    partner: str
    office_id: UUID
    at: datetime


@dataclass(frozen=True)
class Run:
    """A run, how many stand in line and wait for its partner's answer now, and what has happened: kind -> how many.

    `decided`: it is known whether it takes place, by no word that another day of decision has undone; or it is to be
    decided on a later day, or has begun.
    """

    offering_id: UUID
    title: dict[str, str]
    starts_at: datetime
    ends_at: datetime
    in_line: int
    pending: int
    decided: bool
    news: dict[str, int]


async def versions(conn: Connection, partners: Sequence[str]) -> dict[str, int]:
    """Partner -> the newest version that was heard."""
    rows = await conn.fetch("SELECT slug, version FROM partners WHERE slug = ANY($1)", partners)
    return {row["slug"]: row["version"] for row in rows}


async def keep(conn: Connection, partner: str, email: str, name: str, language: str) -> None:
    """Write to this partner there from now on. At another address it is another office, which has stopped nothing yet;
    what is owed to the one before goes to it."""
    before = await conn.fetchrow(
        """
        SELECT office_id, email FROM partner_offices JOIN contacts ON learner_id = office_id
        WHERE partner = $1 FOR UPDATE OF partner_offices
        """,
        partner,
    )
    if before is None:
        await conn.execute("DELETE FROM partner_news WHERE partner = $1", partner)
    if before is not None and before["email"] == email:
        await conn.execute(
            "UPDATE contacts SET name = $2, language = $3 WHERE learner_id = $1", before["office_id"], name, language
        )
        return
    office_id = await conn.fetchval(
        """
        INSERT INTO partner_offices (partner) VALUES ($1)
        ON CONFLICT (partner) DO UPDATE SET office_id = excluded.office_id
        RETURNING office_id
        """,
        partner,
    )
    await conn.execute(
        "INSERT INTO contacts (learner_id, email, name, language, epoch, seq) VALUES ($1, $2, $3, $4, 0, 0)",
        office_id,
        email,
        name,
        language,
    )
    if before is not None:
        await conn.execute(
            """
            UPDATE notices SET learner_id = $2, about = $2
            WHERE about = $1 AND state NOT IN ('sent', 'failed', 'suppressed')
            """,
            before["office_id"],
            office_id,
        )
        await _forget(conn, before["office_id"])


async def remove(conn: Connection, partner: str) -> None:
    """Write to this partner nowhere, and forget what it was to be told."""
    office_id = await conn.fetchval("DELETE FROM partner_offices WHERE partner = $1 RETURNING office_id", partner)
    if office_id is None:
        return
    await conn.execute("DELETE FROM partner_news WHERE partner = $1", partner)
    await conn.execute(
        "DELETE FROM notices WHERE about = $1 AND state NOT IN ('sent', 'failed', 'suppressed')", office_id
    )
    await _forget(conn, office_id)


async def _forget(conn: Connection, office_id: UUID) -> None:
    await conn.execute("DELETE FROM contacts WHERE learner_id = $1", office_id)
    await conn.execute("DELETE FROM preferences WHERE person = $1::uuid::text", office_id)


async def listening(conn: Connection, partners: Sequence[str]) -> set[str]:
    """Of these, the partners that have an office with an address."""
    rows = await conn.fetch("SELECT partner FROM partner_offices WHERE partner = ANY($1)", partners)
    return {row["partner"] for row in rows}


async def note(conn: Connection, news: Sequence[News]) -> None:
    """Count what has happened, one row for each partner, minute, run and kind; in one order, as others do so too."""
    await conn.execute(
        """
        INSERT INTO partner_news AS old (partner, minute, offering_id, kind, count, heard_at)
        SELECT partner, date_trunc('minute', coalesce(said_at, app_now())), offering_id, kind, sum(count), app_now()
        FROM unnest($1::text[], $2::uuid[], $3::text[], $4::timestamptz[], $5::int[])
            AS new (partner, offering_id, kind, said_at, count)
        GROUP BY 1, 2, 3, 4 ORDER BY 1, 2, 3, 4
        ON CONFLICT (partner, minute, offering_id, kind) DO UPDATE SET
            count = old.count + excluded.count, heard_at = excluded.heard_at
        """,
        *columns(news, "partner offering_id kind said_at count"),
    )


async def due(conn: Connection, clock: time, most: int) -> list[Due]:
    """So many offices at most that have news of before the last time it was that late in Oslo, and no mail since then.

    The hour is reckoned on Oslo's clock, so that a day may have 23 or 25 hours. Each is locked until its mail is owed;
    one that another has locked is left to it.
    """
    rows = await conn.fetch(
        """
        WITH hour AS (
            SELECT (date_trunc('day', app_now() AT TIME ZONE 'Europe/Oslo' - $1::time::interval) + $1::time::interval)
                AT TIME ZONE 'Europe/Oslo' AS at
        )
        SELECT office.partner, office.office_id, hour.at FROM partner_offices AS office CROSS JOIN hour
        WHERE office.told_until < hour.at
          AND EXISTS (
              SELECT FROM partner_news AS news
              JOIN offerings USING (offering_id) JOIN courses USING (course_id)
              WHERE news.partner = office.partner AND news.minute < hour.at
          )
          AND NOT EXISTS (
              SELECT FROM partner_news AS news WHERE news.partner = office.partner AND news.minute < hour.at
                AND news.heard_at > app_now() - make_interval(secs => $2)
          )
        LIMIT $3
        FOR NO KEY UPDATE OF office SKIP LOCKED
        """,
        clock,
        float(SETTLE_S),
        most,
    )
    return [Due(**dict(row)) for row in rows]


async def taken(conn: Connection, one: Due) -> dict[UUID, dict[str, Heard]]:
    """Run -> kind -> how many and when, of what happened before the hour; it is told with this transaction, and gone.

    News of a run that is not known yet stays until it is.
    """
    rows = await conn.fetch(
        """
        WITH told AS (
            DELETE FROM partner_news AS news USING offerings AS run, courses AS course
            WHERE news.partner = $1 AND news.minute < $2
              AND run.offering_id = news.offering_id AND course.course_id = run.course_id
            RETURNING news.offering_id, news.kind, news.count, news.minute
        )
        SELECT offering_id, kind, sum(count)::int AS count, max(minute) AS minute FROM told GROUP BY 1, 2
        """,
        one.partner,
        one.at,
    )
    found: dict[UUID, dict[str, Heard]] = {}
    for row in rows:
        found.setdefault(row["offering_id"], {})[row["kind"]] = Heard(row["count"], row["minute"])
    return found


async def runs(conn: Connection, partner: str, news: Mapping[UUID, Mapping[str, Heard]]) -> list[Run]:
    """The runs that there is news of, and those of the partner that are not over where somebody waits for its answer;
    the soonest first."""
    rows = await conn.fetch(
        """
        SELECT run.offering_id, course.title, run.starts_at, run.ends_at, line.count::int AS in_line,
               asked.count::int AS pending, run.cancelled OR run.starts_at <= app_now() AS over, run.confirmed_at,
               run.takes_place, run.decide_at
        FROM offerings AS run JOIN courses AS course USING (course_id)
        CROSS JOIN LATERAL (
            SELECT count(*) FROM enrolments WHERE offering_id = run.offering_id AND state = 'queued'
        ) AS line
        CROSS JOIN LATERAL (
            SELECT count(*) FROM enrolments WHERE offering_id = run.offering_id AND state = 'pending'
        ) AS asked
        WHERE run.offering_id = ANY($1)
           OR (course.partner = $2 AND NOT run.cancelled AND run.ends_at > app_now() AND asked.count > 0)
        ORDER BY run.starts_at, run.offering_id
        """,
        list(news),
        partner,
    )
    return [_run(row, news.get(row["offering_id"], {})) for row in rows]


def _run(row: Any, heard: Mapping[str, Heard]) -> Run:
    """That it takes place is kept with a run while its day is the same (`known.keep_offerings`): the catalogue passes
    over what is found by another minimum. On another day, what was said last counts; a later word is among the news."""
    known = {"title": json.loads(row["title"]), "news": {kind: one.count for kind, one in heard.items()}}
    confirmed_at = [row["confirmed_at"]] if row["confirmed_at"] else []
    confirmed_at += [heard["confirmed"].minute] if "confirmed" in heard else []
    held_at = heard["on_hold"].minute if "on_hold" in heard else datetime.min.replace(tzinfo=UTC)
    later = row["decide_at"] is not None and row["decide_at"] >= held_at + MINUTE  # the catalogue has forgotten it, too
    decided = row["over"] or row["takes_place"] or later or any(at >= held_at for at in confirmed_at)
    said = {name: row[name] for name in ("offering_id", "starts_at", "ends_at", "in_line", "pending")}
    return Run(**said, **known, decided=decided)


async def owe(conn: Connection, one: Due, template: str, channel: str, first: UUID, facts: Mapping[str, Any]) -> None:
    """Owe this office its mail, once for the hour. A notice is about a run: `first` is one of those it tells of."""
    await conn.execute(
        """
        INSERT INTO notices (event_id, learner_id, offering_id, about, template, channel, facts)
        VALUES ($1, $2, $3, $2, $4, $5, $6)
        ON CONFLICT ON CONSTRAINT notices_once DO NOTHING
        """,
        f"{template}-{one.partner}-{one.at.isoformat()}",
        one.office_id,
        first,
        template,
        channel,
        json.dumps(facts),
    )
    await conn.execute("UPDATE partner_offices SET told_until = $2 WHERE partner = $1", one.partner, one.at)
