"""What the broker refuses costs its own aggregate some seconds, and nobody else anything."""

import asyncio
import uuid
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import pytest
from aiokafka.errors import MessageSizeTooLargeError

from contracts.topics import Topic
from kit import producer, standing, topics
from kit.database import Connection, connect
from kit.health import Health
from kit.producer import Flight
from kit.relay import Relay
from kit.running import Running
from tests.delivery import Servers, records, relaying, running, until

pytestmark = pytest.mark.anyio


@dataclass
class Place:
    """A topic of one partition that takes small records only, and a database whose outbox speaks there."""

    topic: str
    here: Running
    conn: Connection
    kafka: str

    async def say(self, aggregate: str, seq: int, payload: bytes = b"{}", topic: str = "") -> None:
        """Write a row as `outbox.add` does, with bytes of our own choice."""
        await self.conn.execute(
            "INSERT INTO outbox (event_id, aggregate, epoch, seq, topic, key, payload) "
            "VALUES ($1, $2, 1, $3, $4, $5, $6)",
            uuid.uuid4(),
            aggregate,
            seq,
            topic or self.topic,
            b"one key",
            payload,
        )

    async def unpublished(self) -> list[tuple[str, int]]:
        rows = await self.conn.fetch("SELECT aggregate, seq FROM outbox WHERE published_at IS NULL ORDER BY id")
        return [(row["aggregate"], row["seq"]) for row in rows]


@pytest.fixture
async def place(servers: Servers) -> AsyncIterator[Place]:
    name = f"relay{uuid.uuid4().hex[:8]}"
    topic = Topic(f"{name}.things", name, "thing", (), partitions=1, batch_bytes=2_000)
    await topics.declare(servers.kafka, [topic])
    settings = await servers.database()
    conn = await connect(settings, "test")
    async with running(settings, name) as here:
        yield Place(topic.name, here, conn, servers.kafka)
    await conn.close()


@pytest.fixture(autouse=True)
def short_rest(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(producer, "REST_S", 1.5)  # longer than the relay's own pauses, as in earnest


async def test_a_record_that_the_broker_refuses_costs_only_its_own_aggregate(place: Place) -> None:
    await place.say("thing/a", 1)
    await place.say("thing/big", 1, b"x" * 3_000)
    await place.say("thing/big", 2)
    await place.say("thing/b", 1)

    async def only_big() -> bool:
        return await place.unpublished() == [("thing/big", 1), ("thing/big", 2)]

    async with relaying(place.here):
        await until(only_big)
        await place.say("thing/c", 1)
        await until(only_big)
        assert len(await records(place.kafka, place.topic, 3)) >= 3


async def test_an_operator_sees_what_the_broker_refuses_until_it_is_over(place: Place) -> None:
    """In /readyz, which stays ready, in the numbers, and on the console: all else goes on, so nobody else would say."""
    place.here.health = Health("relay")
    await place.say("thing/big", 1, b"x" * 3_000)
    await place.say("thing/big", 2)
    stuck = place.here.metrics.relay_stuck

    async def told() -> str | None:
        is_ready, body = await place.here.health.ready()
        assert is_ready
        words: str | None = body.get("attention", {}).get("relay")
        return words if stuck._value.get() else None

    async with relaying(place.here) as relay:
        place.here.health.mention("relay", relay.refused)
        words = await until(told)
        assert words.startswith("the broker does not take what is next of 1 in the outbox; the longest for ")
        assert words.endswith(" s: thing/big (MessageSizeTooLargeError)")
        assert (await standing.look(place.here)).attention == {"relay": words}
        await place.conn.execute("UPDATE outbox SET payload = '{}' WHERE seq = 1")  # as if the topic took larger ones

        async def over() -> bool:
            return await relay.refused() is None and not stuck._value.get() and not await place.unpublished()

        await until(over)


async def test_a_missing_topic_stops_its_own_events_only_and_they_go_when_it_is_made(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(producer, "TOPIC_S", 0.5)
    missing = Topic(f"{place.topic}-later", "test", "thing", (), partitions=1)
    for number in range(3):
        await place.say(f"thing/{number}", 1, topic=missing.name)
    await place.say("thing/a", 1)

    async def one_left() -> bool:
        return [aggregate for aggregate, _ in await place.unpublished()] == ["thing/0", "thing/1", "thing/2"]

    async with relaying(place.here):
        await until(one_left)
        await topics.declare(place.kafka, [missing])
        await until(lambda: _none(place))
        assert len(await records(place.kafka, missing.name, 3)) == 3


async def test_who_publishes_beside_a_missing_topic_does_not_wait_for_it(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is asked for again in every turn here, and the broker takes ten seconds to say that it is not there."""
    monkeypatch.setattr(producer, "TOPIC_S", 0.5)
    monkeypatch.setattr(producer, "REST_S", 0.0)
    await place.say("thing/a", 1, topic=f"{place.topic}-never")
    await place.say("thing/b", 1)

    async def one_left() -> bool:
        return [aggregate for aggregate, _ in await place.unpublished()] == ["thing/a"]

    async with relaying(place.here):
        await until(one_left)
        monkeypatch.setattr(producer, "TOPIC_S", 60.0)
        for seq in range(2, 12):
            await place.say("thing/b", seq)
            await until(one_left, 4)


async def test_many_turns_under_way_keep_every_aggregate_in_its_order(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With turns of 7 rows, one aggregate's numbers lie in many turns that are under way beside each other."""
    monkeypatch.setattr("kit.relay.BATCH", 7)
    for seq in range(1, 101):
        for aggregate in ("thing/a", "thing/b"):
            await place.say(aggregate, seq, f"{aggregate} {seq}".encode())
    async with relaying(place.here):
        await until(lambda: _none(place))
        found: list[Any] = [record.value.decode().split() for record in await records(place.kafka, place.topic, 200)]
    for aggregate in ("thing/a", "thing/b"):
        assert [int(seq) for name, seq in found if name == aggregate] == list(range(1, 101))


async def test_a_row_does_not_overtake_one_that_was_under_way_when_the_producer_was_given_up(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Listeners pass over what is older than what they have heard: the one that was overtaken would have no effect."""
    monkeypatch.setattr(producer, "SEND_S", 0.2)
    relay = Relay(place.here.database, place.here.settings, place.here.metrics)
    first = await relay._producer._open()
    stop = first.stop

    async def unsent(*_: Any, **__: Any) -> asyncio.Future[Any]:
        return asyncio.get_running_loop().create_future()  # as one that waits for a broker that is away

    async def slowly() -> None:  # as it does then
        await asyncio.sleep(1)
        await stop()

    async def turned() -> bool:
        await relay._turn()
        return await _none(place)

    monkeypatch.setattr(first, "send_batch", unsent)
    monkeypatch.setattr(first, "stop", slowly)
    await place.say("thing/a", 1, b"1")
    await relay._turn()
    await until(lambda: asyncio.sleep(0, relay._producer.is_gone))
    await place.say("thing/a", 2, b"2")
    await until(turned)
    await relay._leave()
    assert [record.value for record in await records(place.kafka, place.topic, 2)] == [b"1", b"2"]


async def test_an_aggregate_that_rests_since_its_rows_were_read_is_not_sent(place: Place) -> None:
    sending = producer.Producer(place.kafka, place.here.metrics)
    rows = [_row(place, 1, "thing/a"), _row(place, 2, "thing/b")]
    sending.rest("thing/a", "a test")
    flights = await sending.send(rows)
    assert [row["id"] for flight in flights for row in flight.rows] == [2]
    assert await sending.settle(flights) == [2]
    await sending.drop()


async def test_what_the_broker_has_of_an_aggregate_counts_as_sent_only_when_it_has_all_of_it(place: Place) -> None:
    """Else the row that it refused would come after one that was said later."""
    sending = producer.Producer(place.kafka, place.here.metrics)
    client = await sending._open()
    refused, taken = (asyncio.get_running_loop().create_future() for _ in range(2))
    refused.set_exception(MessageSizeTooLargeError("a test"))
    taken.set_result(None)
    flights = [
        Flight([_row(place, 1, "thing/a")], refused, client),
        Flight([_row(place, 2, "thing/a"), _row(place, 3, "thing/b")], taken, client),
    ]
    assert await sending.settle(flights) == [3]
    assert sending.resting() == ["thing/a"]


def _row(place: Place, number: int, aggregate: str) -> dict[str, Any]:
    return {
        "id": number,
        "aggregate": aggregate,
        "topic": place.topic,
        "key": b"one key",
        "headers": None,
        "payload": b"{}",
    }


async def test_a_relay_that_has_lost_its_lease_while_it_sent_stands_by_at_once(place: Place) -> None:
    await place.say("thing/a", 1)
    relay = Relay(place.here.database, place.here.settings, place.here.metrics)
    await relay._turn()
    await place.conn.execute("UPDATE lease SET holder = 'another', term = term + 1")
    await relay._settled()
    assert await place.unpublished() == []  # it is on the topic, whoever sent it
    await place.say("thing/a", 2)
    await relay._turn()
    assert await place.unpublished() == [("thing/a", 2)]
    assert not relay._under_way
    await relay._leave()


async def test_large_rows_are_read_some_at_a_time(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kit.relay.BATCH_BYTES", 1_000)
    for seq in range(1, 8):
        await place.say("thing/a", seq, b"x" * 600)
    relay = Relay(place.here.database, place.here.settings, place.here.metrics)
    assert await relay._turn() == 2  # the second row begins under the limit
    await relay._leave()
    assert len(await place.unpublished()) == 5
    async with relaying(place.here):
        await until(lambda: _none(place))


async def _none(place: Place) -> bool:
    return not await place.unpublished()


@pytest.mark.parametrize("before", [0, 1])
async def test_what_comes_behind_a_refused_record_that_is_under_way_does_not_overtake_it(
    place: Place, before: int
) -> None:
    """The broker refuses what is out of order by the numbers of its sender, and knows none before the first it took."""
    relay = Relay(place.here.database, place.here.settings, place.here.metrics)
    for seq in range(before):
        await place.say("thing/first", seq, b"first")
        await relay._turn()
        await relay._settled()
    await place.say("thing/big", 1, b"x" * 3_000)
    await relay._turn()
    await place.say("thing/big", 2, b"2")
    await relay._turn()
    await relay._leave()
    await place.say("thing/b", 1, b"b")
    after = Relay(place.here.database, place.here.settings, place.here.metrics)

    async def only_big() -> bool:
        await after._turn()
        return await place.unpublished() == [("thing/big", 1), ("thing/big", 2)]

    await until(only_big)
    await after._leave()
    found = [record.value for record in await records(place.kafka, place.topic, 1 + before)]
    assert found == [b"first"] * before + [b"b"]


async def test_one_who_has_lost_the_lease_tells_of_no_backlog(place: Place) -> None:
    """It would tell of the last that it saw for ever, and the holder tells of what there is."""
    relay = Relay(place.here.database, place.here.settings, place.here.metrics)
    await relay._turn()
    await place.say("thing/a", 1, topic="nobody.made")
    relay._renewed = 0
    await relay._turn()
    backlog = place.here.metrics.outbox_backlog
    assert backlog._value.get() == 1
    await place.conn.execute("UPDATE lease SET holder = 'another', term = term + 1, expires_at = now() + '1 hour'")
    relay._renewed = 0
    await relay._turn()
    assert (backlog._value.get(), place.here.metrics.outbox_age_s._value.get()) == (0, 0)
    await relay._leave()
