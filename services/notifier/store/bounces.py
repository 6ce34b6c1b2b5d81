"""SQL of addresses that are not written to any more, known by a keyed digest, and of refusals on the way there."""

from collections.abc import Sequence
from typing import Any
from uuid import UUID

from kit.database import Connection

WITHIN_DAYS = 30


async def count(conn: Connection, address: bytes) -> int:
    """Note a refusal today; on how many days of the last 30 there was one. What is older is forgotten, whosever it is.

    Days are those of UTC: three of them are meant to be some time apart, and need not be anybody's own.
    """
    await conn.execute(
        "DELETE FROM refusals WHERE day <= (app_now() AT TIME ZONE 'UTC')::date - $1::integer", WITHIN_DAYS
    )
    await conn.execute(
        """
        INSERT INTO refusals (address, day) VALUES ($1, (app_now() AT TIME ZONE 'UTC')::date)
        ON CONFLICT (address, day) DO NOTHING
        """,
        address,
    )
    return int(await conn.fetchval("SELECT count(*) FROM refusals WHERE address = $1", address))


async def add(conn: Connection, address: bytes, learner_id: UUID, status: str) -> bool:
    """Write to this address no more. False when it is in the list already."""
    added = await conn.fetchval(
        """
        INSERT INTO bounced_addresses (address, learner_id, status) VALUES ($1, $2, $3)
        ON CONFLICT (address) DO NOTHING RETURNING true
        """,
        address,
        learner_id,
        status,
    )
    return bool(added)


async def among(conn: Connection, addresses: Sequence[bytes]) -> set[bytes]:
    """Those of these that are in the list."""
    rows = await conn.fetch("SELECT address FROM bounced_addresses WHERE address = ANY($1::bytea[])", addresses)
    return {row["address"] for row in rows}


async def forget_refusals(conn: Connection, addresses: Sequence[bytes]) -> None:
    """Forget on which days these were refused."""
    await conn.execute("DELETE FROM refusals WHERE address = ANY($1::bytea[])", addresses)


async def remove(conn: Connection, addresses: Sequence[bytes]) -> int:
    """Take these out of the list, and forget what was refused; how many there were."""
    await forget_refusals(conn, addresses)
    rows = await conn.fetch("DELETE FROM bounced_addresses WHERE address = ANY($1::bytea[]) RETURNING 1", addresses)
    return len(rows)


async def addresses(conn: Connection, learners: Sequence[UUID]) -> list[str]:
    """The addresses and numbers that those of these learners have now who have, or had, one in the list."""
    rows = await conn.fetch(
        """
        SELECT DISTINCT now.address FROM contacts JOIN bounced_addresses USING (learner_id)
        CROSS JOIN LATERAL unnest(ARRAY[email, phone]) AS now (address)
        WHERE learner_id = ANY($1::uuid[]) AND now.address IS NOT NULL
        """,
        learners,
    )
    return [row["address"] for row in rows]


async def leave(conn: Connection, learners: Sequence[UUID], addresses: Sequence[bytes]) -> None:
    """Take out what these learners had in the list, but for these addresses, which they have now."""
    await conn.execute(
        "DELETE FROM bounced_addresses WHERE learner_id = ANY($1::uuid[]) AND address <> ALL($2::bytea[])",
        learners,
        addresses,
    )


async def listed(conn: Connection) -> list[dict[str, Any]]:
    """The list, newest first; `suppressed`: how many notices were not sent for it since. No address in clear."""
    rows = await conn.fetch(
        """
        SELECT bounced.since, bounced.learner_id, bounced.status, encode(bounced.address, 'hex') AS address_digest,
               (SELECT count(*) FROM notices WHERE notices.learner_id = bounced.learner_id
                AND state = 'suppressed' AND reason = 'bounced' AND notices.updated_at >= bounced.since) AS suppressed
        FROM bounced_addresses AS bounced ORDER BY bounced.since DESC, bounced.address
        """
    )
    return [dict(row) for row in rows]


async def hold(conn: Connection, learner_id: UUID) -> None:
    """Let nobody forget this learner before the transaction ends."""
    await conn.execute("SELECT FROM contacts WHERE learner_id = $1 FOR KEY SHARE", learner_id)


async def reached(conn: Connection, learner_id: UUID) -> list[str]:
    """The address of this learner, and the number if they gave one; none when nothing is known of them."""
    row = await conn.fetchrow("SELECT email, phone FROM contacts WHERE learner_id = $1", learner_id)
    return [] if row is None else [one for one in row.values() if one is not None]
