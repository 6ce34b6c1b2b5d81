"""An event happens once: said with its cause, published after it, heard once, whatever comes between."""

import asyncio
import json
import os
import signal
import sys
import uuid
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from typing import Any

import pytest
from aiokafka import AIOKafkaProducer

from contracts.envelope import Event, decode
from contracts.registry import BY_TYPE
from contracts.topics import Topic
from kit import effects, inbox, outbox, parking, switch, topics
from kit.consumer import Consumer
from kit.database import Connection, connect
from kit.listeners import Listeners, Received, Refused
from kit.relay import Relay
from kit.running import Running
from tests.delivery import Servers, listening, records, relaying, running, until

pytestmark = pytest.mark.anyio


class World:
    """A topic of its own, an event class on it, and a table of what the listener did."""

    def __init__(self, servers: Servers) -> None:
        word = uuid.uuid4().hex[:12]
        self.kafka = servers.kafka
        self.topic = f"probe{word}.things"
        self.parked_topic = f"probe{word}.parked"

        self.name = f"probe{word}"

        class ThingHappened(Event, topic=self.topic, aggregate="thing", key="thing"):
            thing: str
            number: int

        ThingHappened.spec = replace(ThingHappened.spec, type=f"no.kursnett.{self.name}.ThingHappened.v1")
        self.event = ThingHappened
        self.poison: set[int] = set()
        self.listeners = Listeners()
        self.listeners.on(ThingHappened)(self.listen)
        self.calls = 0
        self.here: Running
        self.conn: Connection

    async def listen(self, conn: Connection, received: Sequence[Received]) -> None:
        self.calls += 1
        for one in received:
            event: Any = one.event
            if event.number in self.poison:
                raise ValueError("poison")
            await conn.execute("INSERT INTO done (thing, number) VALUES ($1, $2)", event.thing, event.number)

    def consumer(self) -> Consumer:
        return Consumer("things", self.listeners, topics=(self.topic,))

    async def send(self, *values: tuple[str | None, bytes | None], headers: Any = None) -> None:
        producer = AIOKafkaProducer(bootstrap_servers=self.kafka)
        await producer.start()
        try:
            for key, value in values:
                await producer.send_and_wait(self.topic, value, key=key.encode() if key else None, headers=headers)
        finally:
            await producer.stop()

    def raw(self, thing: str, number: int, **more: Any) -> bytes:
        return json.dumps(
            {
                "specversion": "1.0",
                "id": str(uuid.uuid4()),
                "source": f"/{self.name}",
                "type": self.event.spec.type,
                "data": {"thing": thing, "number": number},
                **more,
            }
        ).encode()


@pytest.fixture
async def world(servers: Servers, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Any]:
    world = World(servers)
    await topics.declare(
        servers.kafka,
        [Topic(world.topic, world.name, "thing", (), partitions=3), Topic(world.parked_topic, world.name, "", ())],
    )
    settings = await servers.database()
    conn = await connect(settings, "test")
    await conn.execute("CREATE TABLE done (place serial, thing text, number int)")
    monkeypatch.setitem(BY_TYPE, world.event.spec.type, world.event)
    async with running(settings, world.name) as here:
        world.here, world.conn = here, conn
        yield world
    await conn.close()


async def done(world: Any) -> list[tuple[str, int]]:
    return [(r["thing"], r["number"]) for r in await world.conn.fetch("SELECT * FROM done ORDER BY place")]


async def has(world: Any, count: int) -> list[tuple[str, int]]:
    async def enough() -> Any:
        found = await done(world)
        return found if len(found) >= count else None

    return list(await until(enough))


async def open_rows(world: Any) -> list[dict[str, Any]]:
    return await parking.listing(world.conn)


async def test_an_event_said_in_a_transaction_is_heard_once(world: Any) -> None:
    async with relaying(world.here), listening(world.here, world.consumer()):
        await world.here.database.run(lambda c: outbox.add(c, world.event(thing="a", number=1)))
        assert await has(world, 1) == [("a", 1)]
    assert await world.conn.fetchval("SELECT count(*) FROM inbox") == 1


async def test_an_event_outside_a_transaction_is_refused(world: Any) -> None:
    with pytest.raises(RuntimeError, match="inside the transaction"):
        await outbox.add(world.conn, world.event(thing="a", number=1))


async def test_a_transaction_that_fails_says_nothing(world: Any) -> None:
    async def fails(conn: Connection) -> None:
        await outbox.add(conn, world.event(thing="a", number=1))
        raise LookupError

    with pytest.raises(LookupError):
        await world.here.database.run(fails)
    assert await world.conn.fetchval("SELECT count(*) FROM outbox") == 0


async def test_numbers_have_no_gap_and_come_in_order_from_many_writers(world: Any) -> None:
    async def one(number: int) -> None:
        things = ("a", "b") if number % 2 else ("b", "a")  # both orders: a deadlock would be retried
        await world.here.database.run(
            lambda c: outbox.add_all(c, [world.event(thing=t, number=number) for t in things])
        )

    async with relaying(world.here):
        await asyncio.gather(*(one(n) for n in range(60)))
        found = await records(world.kafka, world.topic, 120)
    for thing in ("a", "b"):
        seqs = [e.seq for e in (decode(r.value, r.headers) for r in found) if e.data["thing"] == thing]
        assert seqs == list(range(1, 61))


class Killed(BaseException):
    """As a kill would: nothing after this line happens."""


async def killed(*_: Any) -> None:
    raise Killed


async def test_an_event_survives_a_relay_killed_between_ack_and_mark(
    world: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    await world.here.database.run(lambda c: outbox.add(c, world.event(thing="a", number=1)))
    first = Relay(world.here.database, world.here.settings, world.here.metrics)
    monkeypatch.setattr(first, "_mark", killed)
    await first._turn()
    with pytest.raises(Killed):
        await first._settled()
    await first._producer.drop()
    async with relaying(world.here), listening(world.here, world.consumer()):
        found = await records(world.kafka, world.topic, 2)  # once from each relay
        assert await has(world, 1) == [("a", 1)]
        await until(lambda: world.conn.fetchval("SELECT bool_and(published_at IS NOT NULL) FROM outbox"))
    assert found[0].value == found[1].value
    assert await done(world) == [("a", 1)]


async def test_marking_before_the_ack_would_lose_it(world: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The red control of the test above: with the two steps the other way round, a kill loses the event."""
    await world.here.database.run(lambda c: outbox.add(c, world.event(thing="a", number=1)))
    first = Relay(world.here.database, world.here.settings, world.here.metrics)
    monkeypatch.setattr(first._producer, "send", killed)
    async with world.here.database.reading("relay") as conn:
        assert await first._holds(conn)
        ids = [r["id"] for r in await conn.fetch("SELECT id FROM outbox")]
    await first._mark(ids)
    with pytest.raises(Killed):
        await first._producer.send([])
    async with relaying(world.here):
        await world.here.database.run(lambda c: outbox.add(c, world.event(thing="b", number=2)))
        [found] = await records(world.kafka, world.topic, 1)
    assert decode(found.value, found.headers).data["thing"] == "b"


CHILD = """
import asyncio, json, sys
from kit.database import Database
from kit.metrics import Metrics
from kit.relay import Relay
from kit.running import Running
from tests.delivery import Servers

async def main():
    settings = Servers(**json.loads(sys.argv[1])).settings(sys.argv[2])
    database = Database(settings)
    await database.open()
    await Relay(database, settings, Metrics()).run(asyncio.Event())

asyncio.run(main())
"""


async def test_a_second_relay_takes_over_from_a_stopped_one(world: Any, servers: Servers) -> None:
    place = json.dumps({"admin": servers.admin, "kafka": servers.kafka})
    child = await asyncio.create_subprocess_exec(
        sys.executable, "-c", CHILD, place, world.here.settings.database_name, stdout=asyncio.subprocess.DEVNULL
    )
    try:
        await until(lambda: world.conn.fetchval("SELECT count(*) FROM lease"))
        os.kill(child.pid, signal.SIGSTOP)
        await world.here.database.run(lambda c: outbox.add(c, world.event(thing="a", number=1)))
        async with relaying(world.here):
            await until(lambda: world.conn.fetchval("SELECT published_at IS NOT NULL FROM outbox"), within_s=10)
            os.kill(child.pid, signal.SIGCONT)
            await world.here.database.run(lambda c: outbox.add(c, world.event(thing="a", number=2)))
            found = await records(world.kafka, world.topic, 2)
        assert [decode(r.value, r.headers).seq for r in found[:2]] == [1, 2]
    finally:
        child.kill()
        await child.wait()


async def test_a_poison_record_costs_only_itself(world: Any) -> None:
    world.poison.add(2)
    async with relaying(world.here), listening(world.here, world.consumer()):
        things = [world.event(thing=f"t{n}", number=n) for n in range(1, 6)]
        await world.here.database.run(lambda c: outbox.add_all(c, things))
        assert {n for _, n in await has(world, 4)} == {1, 3, 4, 5}
        [row] = await until(lambda: open_rows(world))
    assert (row["state"], row["reason"], row["key"]) == ("parked", "failed", "t2")


async def test_a_parked_key_is_held_back_and_runs_on_after_redrive(world: Any) -> None:
    world.poison.add(1)
    async with relaying(world.here), listening(world.here, world.consumer()):
        await world.here.database.run(lambda c: outbox.add(c, world.event(thing="a", number=1)))
        [head] = await until(lambda: open_rows(world))
        more = [world.event(thing=t, number=n) for t, n in (("a", 2), ("b", 9), ("a", 3))]
        await world.here.database.run(lambda c: outbox.add_all(c, more))
        assert await has(world, 1) == [("b", 9)]

        async def three() -> Any:
            return [r["state"] for r in await open_rows(world)] == ["parked", "held", "held"]

        await until(three)
        world.poison.clear()
        assert await parking.redrive(world.conn, [head["id"]], "test") == [head["id"]]
        assert await has(world, 4) == [("b", 9), ("a", 1), ("a", 2), ("a", 3)]
        assert await open_rows(world) == []


async def test_what_waits_behind_a_discarded_record_runs_on(world: Any) -> None:
    world.poison.add(1)
    async with relaying(world.here), listening(world.here, world.consumer()):
        both = [world.event(thing="a", number=n) for n in (1, 2)]
        await world.here.database.run(lambda c: outbox.add_all(c, both))
        rows = await until(lambda: open_rows(world))
        with pytest.raises(ValueError, match="say why"):
            await parking.discard(world.conn, [rows[0]["id"]], "test", " ")
        await parking.discard(world.conn, [rows[0]["id"]], "test", "a test's poison")
        assert await has(world, 1) == [("a", 2)]


BAD = {
    "not_json": b"{",
    "not_utf8": b'{"id": "\xff"}',
    "empty": None,
    "invalid": b'{"id": "1"}',
    "foreign_source": b'{"specversion": "1.0", "id": "1", "source": "/other", "type": "x", "data": {}}',
}


async def test_bad_bytes_are_parked_with_a_reason_and_others_run_on(world: Any) -> None:
    headers = [("reply_to", world.parked_topic.encode()), ("content-type", b"application/json"), ("x", b"\xff\xfe")]
    await world.send(*((f"bad{i}", value) for i, value in enumerate(BAD.values())), headers=headers)
    version = world.raw("v", 1, type=world.event.spec.type.replace(".v1", ".v7"))
    strange = world.raw("s", 1, type="no.kursnett.catalogue.SomethingNew.v1")
    await world.send(("v", version), ("s", strange), ("good", world.raw("good", 7)), headers=headers)
    async with relaying(world.here), listening(world.here, world.consumer()):
        assert await has(world, 1) == [("good", 7)]

        async def all_parked() -> Any:
            rows = await open_rows(world)
            return rows if len(rows) == len(BAD) + 1 else None

        rows = await until(all_parked)
        assert sorted(r["reason"] for r in rows) == sorted([*BAD, "unknown_version"])
        copies = await records(world.kafka, world.parked_topic, len(rows))
    # A copy of each, and nothing that FastStream wrote because a header asked for it.
    assert sorted(dict(c.headers)["reason"].decode() for c in copies) == sorted(r["reason"] for r in rows)


async def test_a_strangers_malformed_record_does_not_cost_the_others_their_batch(world: Any) -> None:
    good = [("a", world.raw("a", n)) for n in range(3)]
    await world.send(good[0], ("a", b"{"), *good[1:])
    async with listening(world.here, Consumer("things", world.listeners, topics=(world.topic,), foreign=True)):
        assert await has(world, 3) == [("a", 0), ("a", 1), ("a", 2)]
        [row] = await until(lambda: open_rows(world))
    assert row["state"] == "refused"
    assert world.calls == 3, "each was told once: the batch was not taken apart"


async def test_a_record_that_fails_costs_a_large_batch_some_transactions_and_no_more(world: Any) -> None:
    """Each call is a transaction. Red control: taken apart record by record, as many as there are records."""
    world.poison.add(150)
    await world.send(*((f"k{n}", world.raw(f"k{n}", n)) for n in range(300)))
    async with listening(world.here, world.consumer()):
        done = await has(world, 299)
        [row] = await until(lambda: open_rows(world))
    assert sorted(number for _, number in done) == [n for n in range(300) if n != 150]
    assert row["reason"] == "failed"
    assert world.calls < 100


async def test_a_record_sent_twice_has_one_effect(world: Any) -> None:
    value = world.raw("a", 1)
    await world.send(("a", value), ("a", value), ("a", world.raw("a", 2)))
    async with listening(world.here, world.consumer()):
        assert await has(world, 2) == [("a", 1), ("a", 2)]


async def test_a_record_that_comes_again_among_new_ones_has_no_second_effect(world: Any) -> None:
    """Once all that came was new, the next is taken to be. A repeat undoes that, and costs the others nothing."""

    def numbered(thing: str, seq: int) -> tuple[str, bytes]:
        return thing, world.raw(thing, seq, aggregate=f"thing/{thing}", epoch=1, seq=seq)

    a, b, c, second = numbered("a", 1), numbered("b", 1), numbered("c", 1), numbered("a", 2)
    async with listening(world.here, world.consumer()):
        await world.send(a)
        await has(world, 1)
        await world.send(b, a, c)
        await has(world, 3)
        await world.send(c, a, second)
        assert sorted(await has(world, 4)) == [("a", 1), ("a", 2), ("b", 1), ("c", 1)]
    assert await open_rows(world) == []


async def test_without_being_ready_for_it_then_the_repeat_would_be_parked(
    world: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The red control of the test above."""
    monkeypatch.setattr(inbox, "ONCE", "another")
    value = world.raw("a", 1)
    async with listening(world.here, world.consumer()):
        await world.send(("a", value))
        await has(world, 1)
        await world.send(("a", value))
        [parked] = await until(lambda: open_rows(world))
        assert parked["reason"] == "failed"


async def test_without_the_inbox_it_would_have_two(world: Any) -> None:
    """The red control of the test above: without the inbox's key the repeat has its effect again."""
    await world.conn.execute("ALTER TABLE inbox DROP CONSTRAINT inbox_has_each_event_once")
    value = world.raw("a", 1)
    async with listening(world.here, world.consumer()):
        await world.send(("a", value))
        await has(world, 1)
        await world.send(("a", value))
        assert await has(world, 2) == [("a", 1), ("a", 1)]


async def test_an_older_number_has_no_effect(world: Any) -> None:
    numbered = {"aggregate": "thing/a", "epoch": 1}
    await world.send(
        ("a", world.raw("a", 1, **numbered, seq=1)),
        ("a", world.raw("a", 2, **numbered, seq=2)),
        ("a", world.raw("a", 99, **numbered, seq=1)),
        ("a", world.raw("a", 3, **numbered, seq=3)),
        ("a", world.raw("a", 4, aggregate="thing/a", epoch=2, seq=1)),
    )
    async with listening(world.here, world.consumer()):
        assert await has(world, 4) == [("a", 1), ("a", 2), ("a", 3), ("a", 4)]


async def test_a_paused_consumer_waits_and_a_resumed_one_goes_on(world: Any) -> None:
    await switch.pause(world.conn, f"{world.name}.things", "a test")
    async with listening(world.here, world.consumer()) as consumer:
        await world.send(("a", world.raw("a", 1)))
        await until(lambda: asyncio.sleep(0, consumer._effects.paused))
        ready, told = await world.here.health.ready()
        assert ready, "a service that is started again with it would never be, and nobody could resume it"
        assert told["attention"] == {"consumer things": "paused: a test"}
        assert await done(world) == []
        await switch.resume(world.conn, f"{world.name}.things")
        assert await has(world, 1) == [("a", 1)]

        async def no_more() -> bool:
            return "attention" not in (await world.here.health.ready())[1]

        await until(no_more)


async def test_when_most_is_parked_the_consumer_stops(world: Any) -> None:
    world.poison.update(range(200))
    await world.send(*((f"k{n}", world.raw(f"k{n}", n)) for n in range(60)))
    world.listeners._by_event = {world.event: _fails_at_once}
    async with listening(world.here, world.consumer()):
        reason = await until(lambda: world.conn.fetchval("SELECT reason FROM consumer_switch WHERE paused"))
        assert "parked" in reason
        assert await world.conn.fetchval("SELECT count(*) FROM parked") == 50


# What refuses at COMMIT, when all that the consumer does is done: the first so many rows.
AT_COMMIT = """
CREATE SEQUENCE tried;
CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF nextval('tried') <= {times} THEN RAISE EXCEPTION USING ERRCODE = '{code}'; END IF;
    RETURN NULL;
END $$;
CREATE CONSTRAINT TRIGGER refused AFTER INSERT ON done DEFERRABLE INITIALLY DEFERRED
    FOR EACH ROW EXECUTE FUNCTION refuse();
"""


def counted(world: Any) -> dict[str, float]:
    [metric] = world.here.metrics.consumer_events.collect()
    return {one.labels["outcome"]: one.value for one in metric.samples if one.name.endswith("_total") and one.value}


async def test_what_fails_at_commit_counts_as_parked_alone_and_the_consumer_stops(
    world: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Red control: each try counts as done, so that half of the last hundred is never parked."""
    monkeypatch.setattr(effects, "BACKOFF_S", (0.0, 0.0))
    await world.conn.execute(AT_COMMIT.format(times=1000, code="P0001"))
    await world.send(*((f"k{n}", world.raw(f"k{n}", n)) for n in range(60)))
    async with listening(world.here, world.consumer()):
        reason = await until(lambda: world.conn.fetchval("SELECT reason FROM consumer_switch WHERE paused"), 60)
        assert "parked" in reason
        assert await world.conn.fetchval("SELECT count(*) FROM parked") == 50
    assert counted(world) == {"parked": 50}


async def test_what_is_tried_again_is_counted_once(world: Any) -> None:
    await world.conn.execute(AT_COMMIT.format(times=2, code="40001"))
    await world.send(("k", world.raw("k", 1)))
    async with listening(world.here, world.consumer()):
        await has(world, 1)
    assert counted(world) == {"done": 1}


async def test_what_waits_in_a_batch_that_is_taken_apart_is_counted_once(world: Any) -> None:
    await world.send(("k", b"{"))
    async with listening(world.here, world.consumer()):
        await until(lambda: world.conn.fetchval("SELECT count(*) FROM parked"))
    await world.send(("k", world.raw("k", 1)), ("other", b"{"))
    async with listening(world.here, world.consumer()):
        await until(lambda: world.conn.fetchval("SELECT count(*) = 3 FROM parked"))
    assert counted(world) == {"parked": 2, "held": 1}


async def _fails_at_once(conn: Connection, received: Sequence[Received]) -> None:
    raise Refused("never", "a test")
