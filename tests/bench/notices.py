"""How fast people and partners are told: mails from the table to a server, webhooks to a hundred endpoints, some dead.

Run by `make bench`. The mail server and the endpoints are one process beside us, as plain as can be; it shares the
cores with what it measures.
"""

import asyncio
import multiprocessing
import tempfile
import time
from collections.abc import Sequence
from multiprocessing.connection import Connection as Pipe
from pathlib import Path
from typing import Any

import uvloop

from deploy.local.stack import Stack
from kit import logs, sealing
from kit.service import spare_collector
from services.notifier.channels.webhook import Webhook, new_secret
from services.notifier.deliveries import Deliverer
from services.notifier.guard import Guard
from services.notifier.sender import Sender
from tests.bench.table import Table
from tests.delivery import Servers, until
from tests.notifying import PUBLIC, Sink, World, notifier

ROUNDS = 3
MAILS = 4_000
ENDPOINTS = 100
DEAD = 10
CALLS = 40  # for each endpoint


class Smtp(asyncio.Protocol):
    """Says yes to everything, and lets commands come together, as most mail servers do (RFC 2920)."""

    def connection_made(self, transport: Any) -> None:
        self.transport, self.rest, self.in_data = transport, b"", False
        transport.write(b"220 bench\r\n")

    def data_received(self, data: bytes) -> None:
        self.rest += data
        answers = []
        while True:
            line, found, rest = self.rest.partition(b"\r\n.\r\n" if self.in_data else b"\r\n")
            if not found:
                break
            self.rest = rest
            starts_data = not self.in_data and line.upper() == b"DATA"
            if not self.in_data and line.upper().startswith(b"EHLO"):
                answers.append(b"250-bench\r\n250 PIPELINING\r\n")
            else:
                answers.append(b"354 go\r\n" if starts_data else b"250 ok\r\n")
            self.in_data = starts_data
        if answers:
            self.transport.write(b"".join(answers))


class Http(asyncio.Protocol):
    """Takes every POST whose body came with its head or after it."""

    def connection_made(self, transport: Any) -> None:
        self.transport, self.rest = transport, b""

    def data_received(self, data: bytes) -> None:
        self.rest += data
        while b"\r\n\r\n" in self.rest:
            head, _, rest = self.rest.partition(b"\r\n\r\n")
            length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
            if len(rest) < length:
                return
            self.rest = rest[length:]
            self.transport.write(b"HTTP/1.1 204 No Content\r\n\r\n")


class Dead(asyncio.Protocol):
    """Takes the connection and never answers."""


def serve(pipe: Pipe, smtp: int = 0) -> None:
    """Serve until killed; the ports go through the pipe. `smtp` is the mail server's port, any free one when 0."""

    async def work() -> None:
        loop = asyncio.get_running_loop()
        servers = [
            await loop.create_server(kind, "127.0.0.1", port, backlog=512)
            for kind, port in ((Smtp, smtp), (Http, 0), (Dead, 0))
        ]
        pipe.send([server.sockets[0].getsockname()[1] for server in servers])
        await asyncio.Event().wait()

    uvloop.run(work())


async def mails(world: World) -> float:
    """Mails a second, from the first claim to the last "sent" in the table."""
    async with world.here.database.reading() as conn:
        await conn.execute("TRUNCATE notices, contacts")
        await conn.execute(
            """
            WITH learner AS (
                INSERT INTO contacts (learner_id, email, name, language, epoch, seq)
                SELECT gen_random_uuid(), 'l' || n || '@example.no', 'Kari Åsnes ' || n,
                       (ARRAY['nb', 'nn', 'en'])[1 + n % 3], 1, n
                FROM generate_series(1, $2) AS n RETURNING learner_id
            )
            INSERT INTO notices (event_id, learner_id, offering_id, about, template, channel, place)
            SELECT gen_random_uuid()::text, learner_id, $1, gen_random_uuid(), 'enrolled', 'email', 'mosjoen'
            FROM learner
            """,
            world.offering,
            MAILS,
        )
    began = time.perf_counter()

    async def all_sent() -> bool:
        await asyncio.sleep(0.1)  # counting is not to be what takes the time
        [row] = await world.rows("SELECT count(*) AS open FROM notices WHERE state <> 'sent'")
        return bool(row["open"] == 0)

    async with world.sending(Sender(world.settings)):
        await until(all_sent, 120)
        return MAILS / (time.perf_counter() - began)


async def calls(world: World, answering: int, dead: int, dead_ones: int) -> float:
    """Calls a second at the endpoints that answer, from the first claim to the last "delivered" in the table."""
    async with world.here.database.reading() as conn:
        await conn.execute("TRUNCATE webhooks, webhook_deliveries")
        await conn.execute(
            """
            WITH hook AS (
                INSERT INTO webhooks (partner, url, events, secret)
                SELECT 'torgar', 'http://127.0.0.1:' || CASE WHEN n <= $3 THEN $2::int ELSE $1::int END || '/' || n,
                       '{*}', $5
                FROM generate_series(1, $4::int) AS n RETURNING id
            )
            INSERT INTO webhook_deliveries (webhook_id, event_id, type, key, body)
            SELECT id, gen_random_uuid()::text, 'no.kursnett.enrolment.LearnerEnrolled.v1', n::text,
                   convert_to(repeat('x', 600), 'utf-8')
            FROM generate_series(1, $6::int) AS n, hook
            """,
            answering,
            dead,
            dead_ones,
            ENDPOINTS,
            sealing.seal(PUBLIC, {"secret": new_secret()}),
            CALLS,
        )
    wanted = (ENDPOINTS - dead_ones) * CALLS

    async def all_delivered() -> bool:
        await asyncio.sleep(0.1)
        [row] = await world.rows("SELECT count(*) AS done FROM webhook_deliveries WHERE state = 'delivered'")
        return bool(row["done"] == wanted)

    guard = Guard(allow=[("127.0.0.1", answering), ("127.0.0.1", dead)])
    world.here.stopping.clear()
    began = time.perf_counter()
    worker = asyncio.create_task(Deliverer(world.settings, Webhook(guard)).run(world.here))
    await until(all_delivered, 120)
    took = time.perf_counter() - began
    world.here.stopping.set()
    await worker
    return wanted / took


async def main(servers: Servers, folder: Path, ports: Sequence[int]) -> None:
    logs.configure("bench", "error")
    spare_collector()  # as every service does at its start
    smtp, answering, dead = ports
    sink = Sink()
    sink.port = smtp
    told, well, beside = [], [], []
    async with notifier(servers, sink) as world:
        table = Table("notices", f"{MAILS} mails, {CALLS} calls each of {ENDPOINTS} webhooks, {ROUNDS} rounds", folder)
        for _ in range(ROUNDS):
            told.append(await mails(world))
            well.append(await calls(world, answering, dead, 0))
            beside.append(await calls(world, answering, dead, DEAD))
    table.add("mails from the table, sent and noted", told, "a second", at_least=1_500)
    table.add(f"calls of {ENDPOINTS} webhooks that answer", well, "a second", at_least=500)
    table.add(f"calls of {ENDPOINTS - DEAD}, beside {DEAD} that never answer", beside, "a second", at_least=500)
    table.add("  / all answering", [b / w for b, w in zip(beside, well, strict=True)], at_least=0.9)
    table.draw()


if __name__ == "__main__":
    ours, theirs = multiprocessing.Pipe()
    beside_us = multiprocessing.get_context("spawn").Process(target=serve, args=(theirs,), daemon=True)
    beside_us.start()
    with tempfile.TemporaryDirectory(prefix="kursnett-bench-") as home:
        with Stack.somewhere(Path(home) / "home", programs=("postgres",)) as stack:
            place = Servers(admin=stack.places.database("admin"), kafka="127.0.0.1:1")
            uvloop.run(main(place, Path(home), ours.recv()))
            stack.stop()
        stack.reset()
    beside_us.terminate()
