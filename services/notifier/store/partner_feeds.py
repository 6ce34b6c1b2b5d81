"""SQL of partners' feeds: which partners read a topic of their own, and what was said there."""

from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

from kit.database import Connection


async def reading(conn: Connection, partners: Sequence[str]) -> set[str]:
    """Those of these partners whose feed is on; theirs are locked, so that one at a time says what comes there."""
    rows = await conn.fetch(
        "SELECT partner FROM partner_feeds WHERE partner = ANY($1) ORDER BY partner FOR UPDATE", partners
    )
    return {row["partner"] for row in rows}


async def said(conn: Connection, topics: Sequence[str], event_ids: Sequence[UUID]) -> set[tuple[str, UUID]]:
    """(topic, event id) of those of these events that were said on one of these feeds."""
    rows = await conn.fetch(
        """
        SELECT topic, event_id FROM outbox
        WHERE topic LIKE 'partners.%' AND topic = ANY($1) AND event_id = ANY($2)
        """,
        topics,
        event_ids,
    )
    return {(row["topic"], row["event_id"]) for row in rows}


async def since(conn: Connection, partner: str) -> datetime | None:
    """When this partner's feed was turned on; none when it is off."""
    at: datetime | None = await conn.fetchval("SELECT since FROM partner_feeds WHERE partner = $1", partner)
    return at


async def turn_on(conn: Connection, partner: str) -> None:
    """Say from now on. What is on stays as it is."""
    await conn.execute("INSERT INTO partner_feeds (partner) VALUES ($1) ON CONFLICT DO NOTHING", partner)


async def turn_off(conn: Connection, partner: str) -> None:
    """Say nothing more. What was said already still comes."""
    await conn.execute("DELETE FROM partner_feeds WHERE partner = $1", partner)
