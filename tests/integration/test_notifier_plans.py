"""To take mails or calls in hand costs the same whatever is owed, and whatever PostgreSQL counted last."""

import json
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Any, cast

import pytest

from kit.database import Connection, connect
from services.notifier.store import deliveries, digests, feed, outgoing, pruning, texts
from tests.delivery import Servers
from tests.notifying import Sink, World, notifier

pytestmark = pytest.mark.anyio
OWED = 2_000
TAKEN = 10


class Watched:
    """A connection that runs a statement under EXPLAIN ANALYZE, and counts the rows that it looked at on its way."""

    def __init__(self, conn: Connection) -> None:
        self._conn = conn
        self.rows = 0.0
        self.whole = False  # whether it read notices from end to end

    async def fetch(self, sql: str, *values: Any) -> list[Any]:
        [row] = await self._conn.fetch(f"EXPLAIN (ANALYZE, FORMAT JSON) {sql}", *values)
        plan = json.loads(row[0])[0]["Plan"]
        self.rows += looked_at(plan)
        self.whole = self.whole or reads_all(plan)
        return []

    execute = fetchval = fetch


def looked_at(plan: dict[str, Any]) -> float:
    each = plan["Actual Rows"] + sum(count for name, count in plan.items() if name.startswith("Rows Removed"))
    return float(each * plan["Actual Loops"] + sum(looked_at(below) for below in plan.get("Plans", ())))


def reads_all(plan: dict[str, Any]) -> bool:
    this = plan["Node Type"] == "Seq Scan" and plan["Relation Name"] == "notices"
    return this or any(reads_all(below) for below in plan.get("Plans", ()))


@pytest.fixture
async def world(servers: Servers) -> AsyncIterator[World]:
    sink = Sink()
    sink.port = 1  # nothing is sent
    async with notifier(servers, sink) as world:
        yield world


async def owe(world: World, count: int) -> None:
    """So many notices that are due now, of as many enrolments that are known."""
    await world.rows(
        """
        WITH contact AS (
            INSERT INTO contacts (learner_id, email, name, language, epoch, seq)
            SELECT gen_random_uuid(), 'l' || n || '@example.no', 'Kari', 'nb', 1, n FROM generate_series(1, $2) AS n
            RETURNING learner_id
        ), seat AS (
            INSERT INTO enrolments (enrolment_id, learner_id, offering_id, state, epoch, seq)
            SELECT gen_random_uuid(), learner_id, $1, 'associated', 1, 1 FROM contact
            RETURNING enrolment_id, learner_id
        )
        INSERT INTO notices (event_id, learner_id, offering_id, about, template, channel, place)
        SELECT gen_random_uuid()::text, learner_id, $1, enrolment_id, 'enrolled', 'email', 'mosjoen' FROM seat
        """,
        world.offering,
        count,
    )


Question = Callable[[Connection, Sequence[outgoing.Claimed]], Awaitable[Any]]
QUESTIONS: dict[str, Question] = {
    "claim": lambda conn, taken: outgoing.claim(conn, TAKEN, "x.example", ""),
    "mark_sent": lambda conn, taken: outgoing.mark_sent(conn, taken),
    "put_back": lambda conn, taken: outgoing.put_back(conn, taken, [0.0] * len(taken)),
    "owe_texts": lambda conn, taken: texts.owe(conn, [one.about for one in taken]),
}


@pytest.mark.parametrize("question", QUESTIONS)
@pytest.mark.parametrize("counted", [None, 20, 2_000])
async def test_a_question_of_the_sender_reads_no_more_when_thousands_are_owed(
    world: World, question: str, counted: int | None
) -> None:
    """PostgreSQL counts while all is sent, or never has; a plan is made and kept; then there is a rush.

    Red control: with an index of the open notices of an enrolment, as there was, a claim of ten looks at 20,000 rows.
    """
    await owe(world, counted or OWED)
    conn = await connect(world.settings, "worker")
    if counted:
        await conn.execute("UPDATE notices SET state = 'sent', message_id = id::text")
        await conn.execute("ANALYZE")
    async with conn.transaction():
        taken = await outgoing.claim(conn, TAKEN, "x.example", "")
        await QUESTIONS[question](conn, taken)
    if counted:
        await owe(world, OWED)
    async with conn.transaction():
        taken = await outgoing.claim(conn, TAKEN, "x.example", "")
        watched = Watched(conn)
        await QUESTIONS[question](cast(Connection, watched), taken)
    await conn.close()
    assert watched.rows < 50 * TAKEN


@pytest.mark.parametrize("counted", [None, 20, 2_000])
async def test_a_look_for_digests_reads_no_more_when_thousands_are_owed(world: World, counted: int | None) -> None:
    """It looks each second. Red control: without an index of its own it reads all that is owed."""
    await owe(world, counted or OWED)
    conn = await connect(world.settings, "worker")
    if counted:
        await conn.execute("UPDATE notices SET state = 'sent', message_id = id::text")
        await conn.execute("ANALYZE")
    async with conn.transaction():
        await digests.held(conn, TAKEN)
    if counted:
        await owe(world, OWED)
    for held, most in ((0, TAKEN), (TAKEN, 50 * TAKEN), (OWED, 50 * TAKEN)):
        await conn.execute(
            "UPDATE notices SET state = 'held', reason = 'digest' WHERE id IN (SELECT id FROM notices LIMIT $1)", held
        )
        watched = Watched(conn)
        async with conn.transaction():
            await digests.held(cast(Connection, watched), TAKEN)
        assert watched.rows < most
    await conn.close()


async def test_a_look_at_one_thing_reads_little_of_all_that_was_ever_sent(world: World) -> None:
    """An operator's timeline by request, event or enrolment, a person's own page, the hub that tells them of a new one,
    and what is looked for to be deleted. Red control: without its index, or with a cast, each reads all of it."""
    await world.contact_is_known(uuid.uuid4(), "kari@example.no", login="kari")
    await owe(world, 10 * OWED)
    conn = await connect(world.settings, "worker")
    await conn.execute(
        """
        UPDATE notices SET state = 'sent', message_id = id::text, correlation_id = 'request-' || id,
            learner_id = CASE WHEN id IN (SELECT id FROM notices LIMIT 3)
                              THEN (SELECT learner_id FROM contacts WHERE login = 'kari') ELSE learner_id END
        """
    )
    await conn.execute("ANALYZE")
    [one] = await conn.fetch("SELECT event_id, about, correlation_id FROM notices LIMIT 1")
    ids = [str(value) for value in one]
    assert {row["subject"] for row in await outgoing.timeline(conn, ids[:1])} == {ids[1]}
    assert len(await outgoing.timeline(conn, ids)) == 1
    [found, none] = await feed.pages(conn, [("kari", None, 21), ("ola", None, 21)])
    assert (len(found), none) == (3, [])
    looks: dict[str, Question] = {
        "timeline": lambda conn, _: outgoing.timeline(conn, [*ids, "no-such-request"]),
        "page": lambda conn, _: feed.pages(conn, [("kari", None, 21), ("ola", None, 21)]),
        "hub": lambda conn, _: feed.counts(conn, ["kari", "ola"]),
        "prune": lambda conn, _: pruning.prune(conn, 183, 2_000),
    }
    for name, look in looks.items():
        watched = Watched(conn)
        await look(cast(Connection, watched), [])
        assert watched.rows < 200, name
        assert not watched.whole, name
    await conn.close()


async def owe_calls(conn: Connection, count: int) -> None:
    """So many calls of each webhook that are due now."""
    await conn.execute(
        """
        INSERT INTO webhook_deliveries (webhook_id, event_id, type, key, body)
        SELECT id, gen_random_uuid()::text, 'a type', gen_random_uuid()::text, ''
        FROM webhooks, generate_series(1, $1::int) AS n
        """,
        count,
    )


@pytest.mark.parametrize("counted", [None, 2, 200])
async def test_a_claim_of_calls_reads_no_more_when_thousands_are_owed(world: World, counted: int | None) -> None:
    """Red control: with both indexes of the open ones, as they were, a claim of ten looks at 20,000 rows or more."""
    conn = await connect(world.settings, "worker")
    await conn.execute(
        """
        INSERT INTO webhooks (partner, url, events, secret)
        SELECT 'torgar', 'https://example.no/' || n, '{*}', '' FROM generate_series(1, 10) AS n
        """
    )
    await owe_calls(conn, counted or OWED // 10)
    if counted:
        await conn.execute("UPDATE webhook_deliveries SET state = 'delivered'")
        await conn.execute("ANALYZE")
    async with conn.transaction():
        await deliveries.claim(conn, TAKEN)
    if counted:
        await owe_calls(conn, OWED // 10)
    watched = Watched(conn)
    async with conn.transaction():
        await deliveries.claim(cast(Connection, watched), TAKEN)
    await conn.close()
    assert watched.rows < 50 * TAKEN
