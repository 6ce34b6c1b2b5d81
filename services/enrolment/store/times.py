"""SQL of offers and timers: what has its hour."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from kit.database import Connection


@dataclass(frozen=True, slots=True)
class NewOffer:
    """An offer as it is made: `accept` and `decline` are the digests of the two links."""

    id: UUID
    offering_id: UUID
    enrolment_id: UUID
    place: str
    expires_at: datetime
    accept: bytes
    decline: bytes


@dataclass(frozen=True, slots=True)
class Link:
    """The offer that a link belongs to, and which of its two acts the link is for."""

    offer_id: UUID
    enrolment_id: UUID
    offering_id: UUID
    place: str
    expires_at: datetime
    outcome: str | None
    accepts: bool


async def end_offers(conn: Connection, ended: Sequence[tuple[UUID, str]]) -> None:
    """(offer, outcome): these are over."""
    await conn.execute(
        """
        UPDATE offers SET ended_at = app_now(), outcome = over.outcome
        FROM unnest($1::uuid[], $2::text[]) AS over (id, outcome) WHERE offers.id = over.id
        """,
        [offer_id for offer_id, _ in ended],
        [outcome for _, outcome in ended],
    )


async def add_offers(conn: Connection, made: Sequence[NewOffer]) -> None:
    await conn.execute(
        """
        INSERT INTO offers (id, offering_id, enrolment_id, place, expires_at, accept_digest, decline_digest)
        SELECT *
        FROM unnest($1::uuid[], $2::uuid[], $3::uuid[], $4::text[], $5::timestamptz[], $6::bytea[], $7::bytea[])
        """,
        [one.id for one in made],
        [one.offering_id for one in made],
        [one.enrolment_id for one in made],
        [one.place for one in made],
        [one.expires_at for one in made],
        [one.accept for one in made],
        [one.decline for one in made],
    )


async def link(conn: Connection, digest: bytes) -> Link | None:
    """What the link with this digest is for."""
    row = await conn.fetchrow(
        """
        SELECT id AS offer_id, enrolment_id, offering_id, place, expires_at, outcome, accept_digest = $1 AS accepts
        FROM offers WHERE accept_digest = $1 OR decline_digest = $1
        """,
        digest,
    )
    return Link(**row) if row else None


async def add_timers(conn: Connection, due: Sequence[tuple[UUID, datetime]]) -> None:
    """(offering, when to look at it)."""
    await conn.execute(
        "INSERT INTO timers (offering_id, due_at) SELECT * FROM unnest($1::uuid[], $2::timestamptz[])",
        [offering_id for offering_id, _ in due],
        [due_at for _, due_at in due],
    )


async def take_timer(conn: Connection) -> UUID | None:
    """The offering whose hour has come first, with the timer taken for as long as the transaction lasts."""
    found: UUID | None = await conn.fetchval(
        """
        DELETE FROM timers WHERE id = (
            SELECT id FROM timers WHERE due_at <= app_now() ORDER BY due_at, id LIMIT 1 FOR UPDATE SKIP LOCKED
        ) RETURNING offering_id
        """
    )
    return found


async def put_off(conn: Connection, offering_id: UUID, seconds: float) -> None:
    """Look at this offering later: what has failed now must not stand in the way of the others.

    What another clock has in hand is left to it.
    """
    await conn.execute(
        """
        UPDATE timers SET due_at = app_now() + make_interval(secs => $2) WHERE id IN (
            SELECT id FROM timers WHERE offering_id = $1 AND due_at <= app_now() FOR UPDATE SKIP LOCKED
        )
        """,
        offering_id,
        seconds,
    )
