"""How fast seats are given over HTTP: the product as shipped, with log-in, keys, logs and delivery, beside pgbench.

Run by `make bench`. The client shares the cores with everything that it measures.
"""

import asyncio
import json
import re
import tempfile
import time
import uuid
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import cast

import asyncpg
import uvloop

from deploy.local.issuer import Login, tokens
from deploy.local.stack import EVERYTHING, Stack
from services.enrolment.settings import EnrolmentSettings
from tests.bench.seats import PREPARE, Bench
from tests.bench.table import Table
from tests.delivery import Servers
from tests.seats import PUBLIC

ROUNDS = 5  # each learner asks in two runs a round, and may have ten seats
ASKS = 4_000
LISTENERS = 2_000  # open pages that show the seats of one course
AT_A_TIME = 100  # of them open their page at once
BODY = json.dumps(
    {"places": ["online"], "name": "Kari Nordmann", "contact": {"email": "kari@example.no", "language": "nb"}}
)
_LENGTH = re.compile(rb"content-length: (\d+)", re.IGNORECASE)


class Client:
    """Sends ready requests over so many connections, each when its last is answered."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.ms: list[float] = []
        self.statuses: dict[bytes, int] = {}

    async def send(self, requests: Sequence[bytes], connections: int) -> float:
        """Answers a second. The times of each stand in `ms`."""
        self.ms, self.statuses = [], {}
        waiting = iter(requests)
        loop = asyncio.get_running_loop()
        began = time.perf_counter()
        lines = [_Line(self, waiting, loop.create_future()) for _ in range(connections)]
        for line in lines:
            await loop.create_connection(lambda line=line: line, "127.0.0.1", self.port)  # type: ignore[misc]
        await asyncio.gather(*(line.ended for line in lines))
        return len(requests) / (time.perf_counter() - began)

    def at(self, part: float) -> float:
        return sorted(self.ms)[min(len(self.ms) - 1, int(len(self.ms) * part))]


class _Line(asyncio.Protocol):
    """One connection. Streams would take as much of the cores for an answer as the gateway does."""

    def __init__(self, client: Client, waiting: Iterator[bytes], ended: asyncio.Future[None]) -> None:
        self.client = client
        self.waiting = waiting
        self.ended = ended
        self.answer = bytearray()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        self._next()

    def data_received(self, data: bytes) -> None:
        self.answer += data
        if _is_whole(self.answer):
            self.client.ms.append((time.perf_counter() - self.began) * 1000)
            status = bytes(self.answer[9:12])
            self.client.statuses[status] = self.client.statuses.get(status, 0) + 1
            self._next()

    def connection_lost(self, error: Exception | None) -> None:
        if not self.ended.done():
            self.ended.set_exception(error or ConnectionError("closed before its answer was whole"))

    def _next(self) -> None:
        self.answer.clear()
        request = next(self.waiting, None)
        if request is None:
            self.ended.set_result(None)
            self.transport.close()
            return
        self.began = time.perf_counter()
        self.transport.write(request)


def _is_whole(answer: bytearray) -> bool:
    """Whether this is an answer to its end, as one request's answer is all that comes over a connection at a time."""
    head = answer.find(b"\r\n\r\n")
    if head < 0:
        return False
    if found := _LENGTH.search(answer, 0, head):
        return len(answer) == head + 4 + int(found[1])
    # In chunks, as what the gateway makes smaller on its way; or without a body.
    return answer.endswith(b"\r\n0\r\n\r\n") if b"chunked" in answer[:head].lower() else True


def asking(offering: uuid.UUID | str, token: str, arena: str = "online") -> bytes:
    body = BODY.replace("online", arena)
    return (
        f"POST /api/enrolment/v1/offerings/{offering}/enrolments HTTP/1.1\r\nHost: enrolment\r\n"
        f"Authorization: Bearer {token}\r\nIdempotency-Key: {uuid.uuid4()}\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(body)}\r\n\r\n{body}"
    ).encode()


async def offering(url: str, capacity: int) -> uuid.UUID:
    """A run that enrolment knows of, as if the catalogue had said it."""
    made, now = uuid.uuid4(), datetime.now(UTC)
    conn = await asyncpg.connect(url)
    try:
        await conn.execute(
            """
            WITH made AS (
                INSERT INTO offerings (id, course_id, partner, version, starts_at, ends_at)
                VALUES ($1, $1, 'x', 1, $2, $3) RETURNING id
            )
            INSERT INTO places (offering_id, arena, number, wanted_capacity, capacity)
            SELECT id, 'online', 1, $4, $4 FROM made
            """,
            made,
            now + timedelta(days=30),
            now + timedelta(days=31),
            capacity,
        )
    finally:
        await conn.close()
    return made


async def told(client: Client, offering: uuid.UUID, ask: bytes) -> list[float]:
    """Milliseconds from one who asks for a seat to each of so many who look at the course being told of it."""
    page = f"GET /api/enrolment/v1/offerings/{offering}/live HTTP/1.1\r\nHost: enrolment\r\n\r\n".encode()
    seats = b"event: seats"

    async def opened() -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        reader, writer = await asyncio.open_connection("127.0.0.1", client.port)
        writer.write(page)
        await reader.readuntil(seats)
        return reader, writer

    async def hear(reader: asyncio.StreamReader) -> float:
        await reader.readuntil(seats)
        return (time.perf_counter() - began) * 1000

    pages: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []
    while len(pages) < LISTENERS:
        pages += await asyncio.gather(*(opened() for _ in range(AT_A_TIME)))
    began = time.perf_counter()
    heard = [asyncio.create_task(hear(reader)) for reader, _ in pages]
    await client.send([ask], 1)
    ms = await asyncio.gather(*heard)
    for _, writer in pages:
        writer.close()
    return sorted(ms)


async def main(stack: Stack, folder: Path) -> None:
    places = stack.places
    plain = await Servers(admin=places.database("admin"), kafka="127.0.0.1:1").database()
    bench = Bench(EnrolmentSettings(**plain.model_dump() | {"contact_public_key": PUBLIC}), folder)
    await bench.database.open()
    async with bench.database.reading() as conn:
        await conn.execute(PREPARE)
    url = places.database("enrolment")
    given = await tokens(places, [Login(f"bench-{n}", "Bench") for n in range(ASKS)])
    client = Client(places.port("enrolment"))
    table = Table("web", f"{ASKS} enrolments a round over HTTP, {ROUNDS} rounds alternated, medians", folder)
    best, hot, p99, alone = [], [], [], []
    first, last = [], []
    for _ in range(ROUNDS):
        best.append(max([await asyncio.to_thread(bench.row_lock, clients) for clients in (1, 16, 64)]))
        course = await offering(url, ASKS // 2)
        hot.append(await client.send([asking(course, token) for token in given], 256))
        if set(client.statuses) != {b"201"}:
            raise RuntimeError(f"not every answer was 201: {client.statuses}")
        course = await offering(url, ASKS)
        await client.send([asking(course, token) for token in given[:200]], 1)
        alone.append(client.at(0.5))
        await client.send([asking(course, token) for token in given[200:2_200]], 64)
        p99.append(client.at(0.99))
        course = await offering(url, ASKS)
        ms = await told(client, course, asking(course, given[-1]))
        first.append(ms[0])
        last.append(ms[-1])
    await bench.database.close()
    table.add("pgbench row lock, best of 1/16/64", best, "a second")
    table.add("hot course over HTTP, 256 connections", hot, "a second")
    table.add("  / best row lock", [h / b for h, b in zip(hot, best, strict=True)], at_least=4)
    table.add("one client alone, p50", alone, "ms")
    table.add("64 connections, p99", p99, "ms")
    table.add("  / p50 of one alone", [p / a for p, a in zip(p99, alone, strict=True)], at_most=10)
    table.add(f"one asks, {LISTENERS} look on: the first is told after", first, "ms")
    table.add("  the last", last, "ms")
    table.draw()


if __name__ == "__main__":
    with tempfile.TemporaryDirectory(prefix="kursnett-bench-") as home:
        with Stack.somewhere(Path(home) / "home", programs=EVERYTHING) as here:
            uvloop.run(main(here, Path(home)))
        here.reset()
