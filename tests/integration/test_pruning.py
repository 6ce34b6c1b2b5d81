"""What is old enough is deleted by the relay, and nothing that is still to be said, heard or decided."""

from datetime import timedelta

import pytest

from contracts.topics import KEPT_DAYS
from kit.database import connect
from tests.delivery import Servers, relaying, running, until

pytestmark = pytest.mark.anyio

DAY = timedelta(days=1)
SAID = """
INSERT INTO outbox (event_id, aggregate, epoch, seq, topic, payload, created_at, published_at)
SELECT gen_random_uuid(), $1, 1, 1, 'x.y', '{}', now() - $2::interval, CASE WHEN $3 THEN now() - $2::interval END
"""
HEARD = "INSERT INTO inbox (consumer, event_id, received_at) VALUES ('c', $1, now() - $2::interval)"
PARKED = """
INSERT INTO parked (consumer, topic, partition, "offset", headers, reason, detail, state, parked_at, closed_at,
                    closed_reason)
SELECT 'c', 't', 0, $1, '[]', 'failed', $2, $2, now() - $3::interval, now() - $4::interval,
       CASE WHEN $2 = 'discarded' THEN 'old' END
"""


async def test_what_is_old_goes_and_what_is_not_over_stays_however_old_it_is(servers: Servers) -> None:
    settings = await servers.database()
    conn = await connect(settings, "test")
    try:
        for name, age, published in (
            ("old", (KEPT_DAYS + 1) * DAY, True),
            ("young", (KEPT_DAYS - 1) * DAY, True),
        ):
            await conn.execute(SAID, name, age, published)
        await conn.execute(SAID, "unsaid", 400 * DAY, False)
        # To a topic that there is not: it is not said, and is kept for when it can be.
        for name, age in (("old", (2 * KEPT_DAYS + 1) * DAY), ("young", (2 * KEPT_DAYS - 1) * DAY)):
            await conn.execute(HEARD, name, age)
        old, young = (6 * KEPT_DAYS + 1) * DAY, (6 * KEPT_DAYS - 1) * DAY
        for number, (state, parked, closed) in enumerate(
            [
                ("refused", old, None),
                ("discarded", 2 * old, old),
                ("redriven", old, old),
                ("refused", young, None),
                ("discarded", 2 * old, young),
                ("parked", 9 * old, None),
                ("held", 9 * old, None),
                ("redrive", 9 * old, None),
            ]
        ):
            await conn.execute(PARKED, number, state, parked, closed)

        async def gone() -> bool:
            return bool(await conn.fetchval("SELECT count(*) FROM parked") == 5)

        async with running(settings) as here, relaying(here):
            await until(gone)
        said = await conn.fetch("SELECT aggregate FROM outbox ORDER BY 1")
        assert [row["aggregate"] for row in said] == ["unsaid", "young"]
        assert [row["event_id"] for row in await conn.fetch("SELECT event_id FROM inbox")] == ["young"]
        left = await conn.fetch('SELECT state FROM parked ORDER BY "offset"')
        assert [row["state"] for row in left] == ["refused", "discarded", "parked", "held", "redrive"]
    finally:
        await conn.close()


async def test_much_that_is_old_goes_at_once(servers: Servers, monkeypatch: pytest.MonkeyPatch) -> None:
    """Some rows a minute would never be done where more than that is said in a minute."""
    monkeypatch.setattr("kit.relay.PRUNE_ROWS", 10)
    settings = await servers.database()
    conn = await connect(settings, "test")
    for number in range(35):
        await conn.execute(HEARD, f"old-{number}", 90 * DAY)
        await conn.execute(SAID, f"old/{number}", 90 * DAY, True)

    async def gone() -> bool:
        return not await conn.fetchval("SELECT (SELECT count(*) FROM inbox) + (SELECT count(*) FROM outbox)")

    async with running(settings) as here, relaying(here):
        await until(gone)
    await conn.close()
