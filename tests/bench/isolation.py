"""What the others feel of a partner that sends 1,000 bad records a minute: their p99 with it beside that without it.

Run by `make bench`; `--seconds 300 --rounds 1` is as long as the promise speaks of. Spells without and with the noise
take turns, because the machine's own is as large. Figures are printed and never asserted: they belong to the machine.
"""

import argparse
import asyncio
import contextlib
import json
import statistics
import sys
import tempfile
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import httpx2
import uvloop
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer

from deploy.local.places import Places
from deploy.local.service import command
from deploy.local.stack import EVERYTHING, Stack
from tests.bench.table import Table
from tests.delivery import until
from tests.strangers import client

SECONDS, ROUNDS = 20, 5
OTHERS = 3
A_SECOND = 8  # of each of the others, over HTTP and over Kafka each
BAD_A_MINUTE = 1_000
WARM_S = 5
BAD = (
    b'{"specversion": "1.0", "id": ',
    b"\xff\xfe",
    b"[" * 2_000,
    b'{"id": "1", "source": "/partners/other-0"}',
    b"{}",
)


def event(slug: str, code: str, title: str) -> bytes:
    about = {"specversion": "1.0", "id": str(uuid.uuid4()), "source": f"/partners/{slug}"}
    data = {"code": code, "title": {"nb": title}, "subjects": ["bygg"]}
    return json.dumps({**about, "type": "no.kursnett.partner.CoursePublished.v1", "data": data}).encode()


@dataclass
class Partner:
    """One with its key and its log-in at Kafka. `http_ms` and `kafka_ms` are this round's times."""

    slug: str
    key: str
    producer: AIOKafkaProducer
    http_ms: list[float] = field(default_factory=list)
    kafka_ms: list[float] = field(default_factory=list)
    sent: dict[str, float] = field(default_factory=dict)  # title -> when it was given to Kafka

    @property
    def topic(self) -> str:
        return f"partners.{self.slug}.courses"

    async def put(self, web: httpx2.AsyncClient, number: int) -> None:
        address = f"/api/catalogue/v1/partners/{self.slug}/courses/H-{number % 40}"
        began = time.perf_counter()
        body = {"title": {"nb": f"Kurs {uuid.uuid4()}"}, "subjects": ["bygg"]}
        answer = await web.put(address, json=body, headers={"authorization": f"Bearer {self.key}"})
        if answer.status_code not in (200, 201):
            raise RuntimeError(answer.text)
        self.http_ms.append((time.perf_counter() - began) * 1000)

    async def send(self, number: int) -> None:
        """Publish over Kafka; `follow` notes when the catalogue has said so to everybody."""
        code, title = f"K-{number % 40}", f"Kurs {uuid.uuid4()}"
        self.sent[title] = time.perf_counter()
        await self.producer.send_and_wait(self.topic, event(self.slug, code, title), key=code.encode())

    async def bad(self, number: int) -> None:
        await self.producer.send_and_wait(self.topic, BAD[number % len(BAD)], key=b"K-%d" % (number % 40))


async def joined(places: Places, slug: str) -> Partner:
    said = await command(places, "catalogue", "partners", "add", slug, "--name", slug, "--arena", "online", "--json")
    made = json.loads(said)
    producer = AIOKafkaProducer(**client(made["kafka"]), acks="all", enable_idempotence=True)
    await producer.start()
    return Partner(slug, made["key"], producer)


@contextlib.asynccontextmanager
async def following(bootstrap: str, partners: Sequence[Partner]) -> AsyncIterator[None]:
    """Note for each course over Kafka how long it took until the catalogue had said it on its topic."""
    by_slug = {one.slug: one for one in partners}

    async def follow() -> None:
        async with AIOKafkaConsumer("catalogue.courses", bootstrap_servers=bootstrap, fetch_max_wait_ms=100) as reader:
            async for record in reader:
                data = json.loads(record.value or b"{}").get("data", {})
                mine = by_slug.get(data.get("partner", ""))
                began = mine.sent.pop(data["title"]["nb"], None) if mine is not None and "title" in data else None
                if mine is not None and began is not None:
                    mine.kafka_ms.append((time.perf_counter() - began) * 1000)

    task = asyncio.create_task(follow())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def at_rate(a_second: float, seconds: float, act: Callable[[int], Awaitable[None]]) -> None:
    """Begin one each so often, whether the one before has ended or not."""
    began, running = time.perf_counter(), set()
    for number in range(int(a_second * seconds)):
        await asyncio.sleep(max(0.0, began + number / a_second - time.perf_counter()))
        running.add(asyncio.ensure_future(act(number)))
    await asyncio.gather(*running)


async def spell(
    web: httpx2.AsyncClient, others: Sequence[Partner], noisy: Partner | None, seconds: float
) -> tuple[float, ...]:
    """(p99 over HTTP, p99 over Kafka) of the others in so many seconds, in ms."""
    for one in others:
        one.http_ms, one.kafka_ms = [], []
    work = [at_rate(A_SECOND, seconds, partial(one.put, web)) for one in others]
    work += [at_rate(A_SECOND, seconds, one.send) for one in others]
    if noisy is not None:
        work.append(at_rate(BAD_A_MINUTE / 60, seconds, noisy.bad))
    await asyncio.gather(*work)
    await until(lambda: asyncio.sleep(0, not any(one.sent for one in others)), 60)
    ways = ([ms for one in others for ms in one.http_ms], [ms for one in others for ms in one.kafka_ms])
    return tuple(statistics.quantiles(times, n=100)[98] for times in ways)


async def main(places: Places, folder: Path, seconds: float, rounds: int) -> None:
    others = [await joined(places, f"other-{n}") for n in range(OTHERS)]
    noisy = await joined(places, "noisy")
    title = f"{OTHERS} partners beside one of {BAD_A_MINUTE} bad records a minute, {rounds} rounds of {seconds:g} s"
    table = Table("isolation", title, folder)
    without: list[tuple[float, ...]] = []
    noise: list[tuple[float, ...]] = []
    async with (
        httpx2.AsyncClient(base_url=places.gateway, timeout=20) as web,
        following(places.address("kafka"), others),
    ):
        await spell(web, others, None, WARM_S)
        for number in range(rounds):
            for with_noise in (False, True) if number % 2 == 0 else (True, False):
                found = await spell(web, others, noisy if with_noise else None, seconds)
                (noise if with_noise else without).append(found)
        rows = json.loads(await command(places, "catalogue", "partners", "list", "--json"))
    states = {row["slug"]: (row["state"], row["waiting"]) for row in rows}
    for way, name in enumerate(("over HTTP", "over Kafka, until the catalogue has said it")):
        table.add(f"p99 {name}", [one[way] for one in without], "ms")
        table.add("  with the noise", [one[way] for one in noise], "ms")
        ratios = [loud[way] / calm[way] for calm, loud in zip(without, noise, strict=True)]
        table.add("  times as long, in the round's pair", ratios, "times", at_most=1.2)
    table.add("records of the noisy one that wait", [states["noisy"][1]])
    print(f"states: {', '.join(f'{slug} {state}' for slug, (state, _) in sorted(states.items()))}")
    table.draw()
    for one in (*others, noisy):
        await one.producer.stop()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="tests.bench.isolation", description=__doc__)
    parser.add_argument("--seconds", type=float, default=SECONDS, help="of each spell, without and with the noise")
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    given = parser.parse_args(sys.argv[1:])
    with tempfile.TemporaryDirectory(prefix="kursnett-bench-") as home:
        with Stack.somewhere(Path(home) / "home", programs=EVERYTHING) as stack:
            uvloop.run(main(stack.places, Path(home), given.seconds, given.rounds))
            stack.stop()
        stack.reset()
