"""How fast an event travels: relay and consumer beside a bare aiokafka loop on the same broker, in one run.

Run by `make bench`. Figures are printed and never asserted: they belong to the machine, the ratios to the code.
"""

import asyncio
import statistics
import sys
import tempfile
import time
import uuid
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import uvloop
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer

from contracts.envelope import Event, decode
from contracts.registry import BY_TYPE
from contracts.topics import Topic
from deploy.local.stack import Stack
from kit import logs, outbox, topics
from kit.consumer import Consumer
from kit.database import Connection, connect
from kit.listeners import Listeners, Received
from kit.service import spare_collector
from tests.bench.table import Table
from tests.delivery import Servers, listening, relaying, running, until

ROWS = 20_000
ROUNDS = 3
IDLE = 200
KEYS = 2_000


class Bench:
    """A topic and an event class of its own, and a listener that keeps one row an event."""

    def __init__(self, servers: Servers) -> None:
        self.servers = servers
        self.name = f"bench{uuid.uuid4().hex[:8]}"
        self.topic = f"{self.name}.things"

        class Measured(Event, topic=self.topic, aggregate="thing", key="thing"):
            thing: str
            number: int
            words: str = "x" * 60

        Measured.spec = replace(Measured.spec, type=f"no.kursnett.{self.name}.Measured.v1")
        self.event = Measured
        BY_TYPE[Measured.spec.type] = Measured
        self.listeners = Listeners()
        self.listeners.on(Measured)(self.keep)
        self.heard: dict[int, float] = {}
        self.count = 0

    async def keep(self, conn: Connection, received: Sequence[Received]) -> None:
        events: list[Any] = [one.event for one in received]
        await conn.execute("INSERT INTO done SELECT unnest($1::int[])", [event.number for event in events])
        now = time.perf_counter()
        for event in events:
            self.heard[event.number] = now
        self.count += len(events)

    async def fill(self, here: Any, first: int) -> None:
        for start in range(first, first + ROWS, 2_000):
            events = [self.event(thing=f"t{n % KEYS}", number=n) for n in range(start, start + 2_000)]
            await here.database.run(lambda c, events=events: outbox.add_all(c, events))

    async def bare(self) -> float:
        """Events a second of a producer loop with nothing around it: same broker, bytes and acks."""
        value = b"x" * 600
        producer = AIOKafkaProducer(
            bootstrap_servers=self.servers.kafka, acks="all", enable_idempotence=True, max_batch_size=256 * 1024
        )
        await producer.start()
        began = time.perf_counter()
        for start in range(0, ROWS, 2_000):
            await asyncio.gather(
                *[
                    await producer.send(self.topic + "-bare", value, key=b"t%d" % (n % KEYS))
                    for n in range(start, start + 2_000)
                ]
            )
        took = time.perf_counter() - began
        await producer.stop()
        return ROWS / took

    async def relayed(self, here: Any) -> float:
        began = time.perf_counter()
        async with relaying(here):
            async with here.database.reading("worker") as conn:
                await until(
                    lambda: conn.fetchval("SELECT NOT EXISTS (SELECT FROM outbox WHERE published_at IS NULL)"), 60
                )
            took = time.perf_counter() - began
        return ROWS / took

    async def consumed(self, here: Any) -> float:
        """Events a second from the first batch's effect to the last's: joining the group is not part of it."""
        before, self.heard = self.count, {}
        async with listening(here, Consumer("things", self.listeners, topics=(self.topic,))):
            await until(lambda: asyncio.sleep(0, self.count >= before + ROWS), 60)
        times = sorted(self.heard.values())
        first_batch = times.count(times[0])
        return (ROWS - first_batch) / (times[-1] - times[0])

    async def idle(self, here: Any) -> list[float]:
        """From commit to a consumer that does nothing, milliseconds, one at a time: what the relay is judged by."""
        took = []
        consumer = AIOKafkaConsumer(self.topic, bootstrap_servers=self.servers.kafka)
        await consumer.start()
        await consumer.seek_to_end()
        async with relaying(here):
            for n in range(IDLE + 20):
                await here.database.run(lambda c, n=n: outbox.add(c, self.event(thing=f"c{n}", number=n)))
                began = time.perf_counter()
                await consumer.getone()
                if n >= 20:  # the first ones find the relay starting
                    took.append((time.perf_counter() - began) * 1000)
                await asyncio.sleep(0.01)
        await consumer.stop()
        return took

    async def idle_to_listener(self, here: Any) -> list[float]:
        """From commit to a listener's effect, with inbox and positions, milliseconds, one at a time."""
        took = []
        async with relaying(here), listening(here, Consumer("things", self.listeners, topics=(self.topic,))):
            for n in range(-1, -IDLE - 20, -1):
                await here.database.run(lambda c, n=n: outbox.add(c, self.event(thing=f"i{n}", number=n)))
                began = time.perf_counter()
                await until(partial(self.has, n), 10)
                if n < -20:  # the first ones find the consumer joining
                    took.append((self.heard[n] - began) * 1000)
                await asyncio.sleep(0.01)
        return took

    async def bare_idle(self) -> list[float]:
        """From sending to a consumer that does nothing, milliseconds, one record at a time: the least there is here."""
        topic = self.topic + "-bare"
        producer = AIOKafkaProducer(bootstrap_servers=self.servers.kafka, acks="all", enable_idempotence=True)
        consumer = AIOKafkaConsumer(topic, bootstrap_servers=self.servers.kafka)
        await producer.start()
        await consumer.start()
        await consumer.seek_to_end()
        took = []
        for n in range(IDLE + 20):
            began = time.perf_counter()
            sending = asyncio.ensure_future(producer.send_and_wait(topic, b"x" * 600, key=b"t%d" % n))
            await consumer.getone()
            took.append((time.perf_counter() - began) * 1000)
            await sending
            await asyncio.sleep(0.01)
        await producer.stop()
        await consumer.stop()
        return took[20:]

    async def has(self, number: int) -> bool:
        return number in self.heard

    async def in_order(self) -> bool:
        consumer = AIOKafkaConsumer(self.topic, bootstrap_servers=self.servers.kafka, auto_offset_reset="earliest")
        await consumer.start()
        last: dict[str, int] = {}
        seen = 0
        while seen < ROWS * ROUNDS:
            for part in (await consumer.getmany(timeout_ms=1000)).values():
                for record in part:
                    envelope = decode(record.value, record.headers)
                    if envelope.seq != last.get(str(envelope.aggregate), 0) + 1:
                        return False
                    last[str(envelope.aggregate)] = envelope.seq
                    seen += 1
        await consumer.stop()
        return True


async def main(servers: Servers, folder: Path) -> None:
    logs.configure("bench", "error")
    spare_collector()  # as every service does at its start
    bench = Bench(servers)
    owner = bench.name
    await topics.declare(
        servers.kafka,
        [Topic(name, owner, "thing", ()) for name in (bench.topic, bench.topic + "-bare", f"{owner}.parked")],
    )
    settings = await servers.database()
    conn = await connect(settings, "bench")
    await conn.execute("CREATE TABLE done (number int)")
    await conn.close()
    table = Table("delivery", f"{ROWS} events a round, {ROUNDS} rounds, medians", folder)
    bare, relay, consumer = [], [], []
    async with running(settings, bench.name) as here:
        for number in range(ROUNDS):
            await bench.fill(here, number * ROWS)
            bare.append(await bench.bare())
            relay.append(await bench.relayed(here))
            consumer.append(await bench.consumed(here))
        ordered = await bench.in_order()
        bare_idle = sorted(await bench.bare_idle())
        idle = sorted(await bench.idle(here))
        heard = sorted(await bench.idle_to_listener(here))
    table.add("bare producer loop", bare, "events/s")
    table.add("relay: lease, order and marks", relay, "events/s", at_least=40_000)
    table.add("  / bare", [r / b for r, b in zip(relay, bare, strict=True)])
    table.add("consumer: inbox, positions and a row each", consumer, "events/s", at_least=25_000)
    table.add("  / bare", [c / b for c, b in zip(consumer, bare, strict=True)])
    table.add("idle, bare send to consumer, p50", [statistics.median(bare_idle)], "ms")
    table.add("idle, bare send to consumer, p99", [bare_idle[int(len(bare_idle) * 0.99)]], "ms")
    table.add("idle, commit to consumer, p50", [statistics.median(idle)], "ms", at_most=3)
    table.add("idle, commit to consumer, p99", [idle[int(len(idle) * 0.99)]], "ms", at_most=10)
    table.add("idle, commit to a listener's effect, p50", [statistics.median(heard)], "ms")
    table.add("idle, commit to a listener's effect, p99", [heard[int(len(heard) * 0.99)]], "ms")
    table.draw()
    print(f"order per key over all rounds: {'unbroken' if ordered else 'BROKEN'}")


if __name__ == "__main__":
    with tempfile.TemporaryDirectory(prefix="kursnett-bench-") as home:
        with Stack.somewhere(Path(home) / "home", programs=("postgres", "kafka")) as stack:
            place = Servers(admin=stack.places.database("admin"), kafka=stack.places.address("kafka"))
            uvloop.run(main(place, Path(home)))
            stack.stop()
        stack.reset()
    sys.exit(0)
