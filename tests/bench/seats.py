"""How fast seats are given: our desk beside pgbench, which does the least that a row lock can do, in one run.

Run by `make bench`. Figures are printed and never asserted: they belong to the machine, the ratios to the code.
"""

import asyncio
import os
import re
import subprocess
import tempfile
import time
import uuid
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from unittest import mock

import uvloop

from deploy.local.postgres import binaries
from deploy.local.stack import Stack
from kit import groupcommit, migrations
from kit.database import Database, connect
from kit.groupcommit import GroupCommit
from kit.service import spare_collector
from services.enrolment import commands, offerings
from services.enrolment.app import MIGRATIONS
from services.enrolment.domain import Offering
from services.enrolment.settings import EnrolmentSettings
from services.enrolment.store import enrolments, seats
from tests.bench.table import Table
from tests.delivery import Servers
from tests.seats import PUBLIC

ROUNDS = 5
ASKS = 8_000
APART = 1_000  # where each has a transaction of its own
CLIENTS = 256
COURSES = 500
LINE = 10_000
MORE = 500
PGBENCH_S = 3

# What anybody would write by hand: lock the course, add the enrolment, take the seat, say so.
PREPARE = """
CREATE TABLE bench_course (id int PRIMARY KEY, taken int NOT NULL, capacity int NOT NULL);
CREATE TABLE bench_enrolment (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, course int NOT NULL, learner uuid NOT NULL
);
CREATE TABLE bench_outbox (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, payload bytea NOT NULL);
INSERT INTO bench_course VALUES (1, 0, 2000000000);
"""
ROW_LOCK = """
BEGIN;
SELECT taken, capacity FROM bench_course WHERE id = 1 FOR UPDATE;
INSERT INTO bench_enrolment (course, learner) VALUES (1, gen_random_uuid());
UPDATE bench_course SET taken = taken + 1 WHERE id = 1;
INSERT INTO bench_outbox (payload) VALUES (decode(repeat('78', 250), 'hex'));
COMMIT;
"""


class Bench:
    """An enrolment database of its own."""

    def __init__(self, settings: EnrolmentSettings, folder: Path) -> None:
        self.settings = settings
        self.script = folder / "row-lock.sql"
        self.script.write_text(ROW_LOCK)
        self.database = Database(settings)

    async def offering(self, capacity: int) -> uuid.UUID:
        starts_at = datetime.now(UTC) + timedelta(days=9)
        offering = Offering(uuid.uuid4(), uuid.uuid4(), "torgar", 1, starts_at, starts_at + timedelta(hours=2), False)
        async with self.database.reading() as conn:
            await seats.put_offering(conn, offering)
            await seats.put_places(conn, offering.id, {"online": capacity})
        return offering.id

    def row_lock(self, clients: int) -> float:
        """Transactions a second of pgbench on one row."""
        s = self.settings
        told = subprocess.run(
            [
                str(binaries() / "bin" / "pgbench"),
                *("-n", "-M", "prepared", "-f", str(self.script), "-c", str(clients), "-j", "1", "-T", str(PGBENCH_S)),
                *("-h", s.database_host, "-p", str(s.database_port), "-U", s.database_user, s.database_name),
            ],
            env={**os.environ, "PGPASSWORD": s.database_password.get_secret_value()},
            capture_output=True,
            text=True,
            check=True,
        )
        found = re.search(r"tps = ([0-9.]+)", told.stdout)
        if found is None:
            raise RuntimeError(told.stdout + told.stderr)
        return float(found[1])

    async def asked(self, which: Callable[[int], uuid.UUID], asks: int = ASKS, clients: int = CLIENTS) -> float:
        """Enrolments a second, by so many who each ask again when they are answered; half get a seat."""
        desk: GroupCommit[commands.Command, object] = GroupCommit(
            self.database, lambda conn, asked: commands.decide(conn, asked, self.settings)
        )
        turn = iter(range(asks))

        async def client() -> None:
            for number in turn:
                who = ("bench", str(uuid.uuid4()))
                await desk.submit(commands.Enrol(which(number), who, ("online",), "Kari Nordmann"))

        began = time.perf_counter()
        await asyncio.gather(*(client() for _ in range(clients)))
        return asks / (time.perf_counter() - began)


async def cascade(bench: Bench, table: Table) -> None:
    """A line of 10,000, and 500 seats more: how long until they are offered; and what asking for one's place costs."""
    course = await bench.offering(0)
    await bench.asked(lambda _: course, asks=LINE)
    async with bench.database.reading() as conn:
        last = (await enrolments.roster(conn, course, None, LINE))[-1]
        times = []
        found = last
        for _ in range(50):
            began = time.perf_counter()
            found = (await enrolments.enrolments(conn, [last.id]))[last.id]
            times.append((time.perf_counter() - began) * 1000)
        assert found.place_in_line == LINE
        await seats.put_places(conn, course, {"online": MORE})
    table.add(f"the last of {LINE} asks for their place in line", times, "ms", at_most=5)
    began = time.perf_counter()
    await bench.database.run(lambda conn: offerings.look(conn, course, bench.settings), "worker")
    table.add(f"{MORE} seats more, offered down a line of {LINE}", [time.perf_counter() - began], "s", at_most=5)


async def main(servers: Servers, folder: Path) -> None:
    settings = EnrolmentSettings(**(await servers.database()).model_dump() | {"contact_public_key": PUBLIC})
    conn = await connect(settings, "bench")
    await migrations.migrate(conn, [migrations.KIT, MIGRATIONS])
    await conn.execute(PREPARE)
    await conn.close()
    bench = Bench(settings, folder)
    await bench.database.open()
    spare_collector()
    table = Table("seats", f"{ASKS} enrolments a round, {ROUNDS} rounds alternated, medians", folder)
    best, hot, each, spread, alone, one = [], [], [], [], [], []
    for _ in range(ROUNDS):
        rates = {clients: await asyncio.to_thread(bench.row_lock, clients) for clients in (1, 16, 64)}
        best.append(max(rates.values()))
        one.append(rates[1])
        course = await bench.offering(ASKS // 2)
        hot.append(await bench.asked(lambda _, course=course: course))  # type: ignore[misc]
        course = await bench.offering(APART // 2)
        with mock.patch.object(groupcommit, "MOST", 1):  # what our desk would be without committing together
            each.append(await bench.asked(lambda _, course=course: course, asks=APART))  # type: ignore[misc]
        courses = [await bench.offering(ASKS // COURSES // 2) for _ in range(COURSES)]
        spread.append(await bench.asked(lambda n, courses=courses: courses[n % COURSES]))  # type: ignore[misc]
        course = await bench.offering(ASKS)
        alone.append(await bench.asked(lambda _, course=course: course, asks=400, clients=1))  # type: ignore[misc]
    await cascade(bench, table)
    await bench.database.close()

    def ratios(ours: list[float], theirs: list[float]) -> list[float]:
        return [a / b for a, b in zip(ours, theirs, strict=True)]

    table.add("pgbench row lock, best of 1/16/64", best, "a second")
    table.add("hot course, desk, 256 clients", hot, "a second")
    table.add("  / best row lock", ratios(hot, best), at_least=15)
    table.add("  one transaction for each", each, "a second")
    table.add("  together / each for itself", ratios(hot, each), "")
    table.add("spread over 500 courses", spread, "a second")
    table.add("  hot / spread", ratios(hot, spread), at_least=0.9)
    table.add("one client alone", alone, "a second")
    table.add("  its time / pgbench's with one client", ratios(one, alone), at_most=1.5)
    table.draw()


if __name__ == "__main__":
    with tempfile.TemporaryDirectory(prefix="kursnett-bench-") as home:
        with Stack.somewhere(Path(home) / "home", programs=("postgres",)) as stack:
            place = Servers(admin=stack.places.database("admin"), kafka="127.0.0.1:1")
            uvloop.run(main(place, Path(home)))
            stack.stop()
        stack.reset()
