"""How fast courses are found: 50,000 courses, 32 connections that ask again when they are answered, a mix of searches.

Run by `make bench`. Figures are printed and never asserted: they belong to the machine.
"""

import asyncio
import json
import multiprocessing
import random
import socket
import statistics
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from itertools import repeat
from pathlib import Path
from typing import Any
from urllib.parse import quote

import uvicorn
import uvloop

from deploy.local.stack import Stack
from kit import http, logs, migrations
from kit.database import Connection, connect
from kit.onewrite import OneWrite
from kit.service import spare_collector
from services.catalogue.app import LOG_FIELDS, MIGRATIONS, ROUTERS
from services.catalogue.search import BASE
from services.catalogue.settings import CatalogueSettings
from tests.bench.table import Table
from tests.delivery import Servers, running

COURSES = 50_000
CLIENTS = 32
SECONDS = 15.0
BUSY = -1.0  # the time of an answer that said: come again
ARENAS = ("mo-i-rana", "bronnoysund", "sandnessjoen", "mosjoen", "online")
SUBJECTS = ("helse", "ledelse", "teknologi", "pedagogikk", "sprak", "havbruk", "bygg", "okonomi", "industri")
FIRST = """
helse sjukepleie sveise ledelse regnskap data robot havbruk fiske lakse bygg tømrer elektro maskin skip sjømanns
turist reiselivs hotell kokke pedagogikk barnehage skole språk norsk engelsk økonomi lønns skatte miljø klima
energi vind vann kraft industri prosess kvalitets sikkerhets brann førstehjelp truck kran lærer veileder mentor
styre prosjekt salg marked digital sky ånds ærlighets øvings
"""
SECOND = """
kurs utdanning arbeid teknikk forståelse ledelse utvikling opplæring fag bruk metode planlegging drift
vedlikehold kontroll sikring behandling omsorg rådgivning forvaltning programmering analyse læring trening
praksis teori handel service transport produksjon
"""
BEFORE = (
    "Innføring i",
    "Videregående",
    "Grunnleggende",
    "Praktisk",
    "Ny i",
    "Sertifisering i",
    "Fordypning i",
    "Trygg",
)
EVERYDAY = """
du lærer å bruke metoder som virker i hverdagen og får øve sammen med andre fra bransjen kurset passer for deg
som arbeider eller skal begynne bedrift kommune sykehus skule fabrikk verft deltakere deltakarar gruppearbeid
samling samlinger eksamen vitnemål praktiske oppgaver erfaring krav opptak studiepoeng undervisning nett
"""


ROOTS, ENDINGS, WORDS = (text.split() for text in (FIRST, SECOND, EVERYDAY))


def subject_of(chance: random.Random) -> str:
    return chance.choice(ROOTS) + chance.choice(ENDINGS)


def course(chance: random.Random) -> dict[str, Any]:
    text = [*chance.choices(WORDS, k=60), *(subject_of(chance) for _ in range(8))]
    return {
        "title": {"nb": f"{chance.choice(BEFORE)} {subject_of(chance)}"},
        "summary": {"nb": " ".join([subject_of(chance), *chance.choices(WORDS, k=10)])},
        "description": {"nb": " ".join(text)},
        "subjects": chance.sample(SUBJECTS, chance.choice([1, 1, 2])),
        "language": chance.choice(["nb"] * 8 + ["nn", "en"]),
        "delivery_mode": "onsite",
        "level": chance.choice([None] * 5 + ["4A", "5.1", "5.2", "6.1", "7"]),
        "price_ore": 0,
    }


def offering(chance: random.Random, now: datetime) -> dict[str, Any]:
    starts_at = now + timedelta(days=chance.randint(-200, 400))
    places = [{"arena": one, "capacity": 20} for one in chance.sample(ARENAS, chance.choice([1, 1, 2]))]
    ends_at = starts_at + timedelta(days=chance.randint(1, 90))
    return {"starts_at": starts_at.isoformat(), "ends_at": ends_at.isoformat(), "places": places}


async def fill(conn: Connection) -> None:
    """Courses and runs, made up the same way each time; the word indexes are made afterwards, which is quicker."""
    chance = random.Random(1)
    now = datetime.now(UTC).replace(microsecond=0)
    indexes = await conn.fetch("SELECT indexname, indexdef FROM pg_indexes WHERE indexdef LIKE '%USING gin%'")
    for index in indexes:
        await conn.execute(f"DROP INDEX {index['indexname']}")
    partners = [f"partner-{number}" for number in range(40)]
    await conn.executemany(
        "INSERT INTO partners (slug, name, arenas) VALUES ($1, $1, '{online}')", [(one,) for one in partners]
    )
    made = [
        (chance.choice(partners), f"{chance.choice(ROOTS)[:3].upper()}-{n}", course(chance)) for n in range(COURSES)
    ]
    await conn.execute("CREATE TEMP TABLE made (partner text, code text, content jsonb)")
    records = [(partner, code.translate(PLAIN), json.dumps(content)) for partner, code, content in made]
    await conn.copy_records_to_table("made", records=records)
    await conn.execute("INSERT INTO courses (partner, code, content) SELECT * FROM made")
    ids = [one["id"] for one in await conn.fetch("SELECT id FROM courses")]
    await conn.execute("CREATE TEMP TABLE runs (course_id uuid, key text, content jsonb)")
    runs = [
        (one, f"k{number}", json.dumps(offering(chance, now)))
        for one in ids
        for number in range(chance.choice([0, 1, 1, 2, 3]))
    ]
    await conn.copy_records_to_table("runs", records=runs)
    await conn.execute("INSERT INTO offerings (course_id, key, content) SELECT * FROM runs")
    for index in indexes:
        await conn.execute(index["indexdef"])
    await conn.execute("VACUUM ANALYZE")


PLAIN = str.maketrans("ÆØÅ", "EOA")


def searches(chance: random.Random, at: str = f"{BASE}/courses") -> Iterator[str]:
    """Addresses that people ask: words whole and half typed, some that most courses have, filters, orders, and more."""
    while True:
        word = chance.choice([subject_of(chance), chance.choice(ROOTS), chance.choice(WORDS), chance.choice(ENDINGS)])
        typed = word[: chance.randint(3, len(word))] if len(word) > 3 else word
        subject, arena = chance.choice(SUBJECTS), chance.choice(ARENAS)
        [query] = chance.choices(
            [
                f"q={quote(word)}",
                f"q={quote(typed)}",
                f"q={quote(f'{chance.choice(ROOTS)} {typed}')}",
                f"q={quote(f'{word} -{chance.choice(WORDS)}')}",
                f"q={quote(word)}&subject={subject}&arena={arena}",
                f"subject={subject}",
                f"arena={arena}&sort=start",
                f"subject={subject}&level=5.1&arena={arena}",
                "sort=start",
                "limit=20",
                f"q={quote(chance.choice(ROOTS)[:3].upper().translate(PLAIN))}-{chance.randint(0, COURSES)}",
            ],
            weights=[20, 20, 10, 2, 8, 10, 8, 7, 5, 5, 5],
        )
        yield f"{at}?{query}"


def serve(settings: CatalogueSettings, listening: socket.socket) -> None:
    """The catalogue's HTTP side, in a process of its own."""

    async def serving() -> None:
        logs.configure("catalogue", "warning", LOG_FIELDS)
        spare_collector()  # as every service does at its start
        async with running(settings, "catalogue") as here:
            config = uvicorn.Config(http.build(here, ROUTERS), http=OneWrite, log_config=None, access_log=False)
            await uvicorn.Server(config).serve([listening])

    uvloop.run(serving())


@contextmanager
def server(settings: CatalogueSettings) -> Iterator[int]:
    """A replica of the catalogue while it is asked; gives its port."""
    with socket.create_server(("127.0.0.1", 0), backlog=2048) as listening:
        process = multiprocessing.get_context("spawn").Process(target=serve, args=(settings, listening), daemon=True)
        process.start()
        try:
            yield listening.getsockname()[1]
        finally:
            process.terminate()
            process.join()


async def asked(ports: Sequence[int], addresses: Iterator[str], seconds: float, clients: int) -> list[float]:
    """How long each answer took, in ms. The clients are spread evenly over the ports."""
    times: list[float] = []
    end = time.perf_counter() + seconds

    async def client(number: int) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", ports[number % len(ports)])
        while time.perf_counter() < end:
            address = next(addresses)
            began = time.perf_counter()
            writer.write(f"GET {address} HTTP/1.1\r\nhost: x\r\n\r\n".encode())
            head = await reader.readuntil(b"\r\n\r\n")
            length = int(head.lower().partition(b"content-length:")[2].partition(b"\r\n")[0])
            await reader.readexactly(length)
            if head.startswith(b"HTTP/1.1 503"):
                times.append(BUSY)
                await asyncio.sleep(1)  # as it was told to
                continue
            if not head.startswith(b"HTTP/1.1 200"):
                raise RuntimeError(f"{address}: {head.decode()}")
            times.append((time.perf_counter() - began) * 1000)
        writer.close()

    await asyncio.gather(*(client(number) for number in range(clients)))
    return times


def tell(table: Table, name: str, times: list[float], seconds: float, **wanted: float) -> None:
    answered = [one for one in times if one != BUSY]
    cuts = statistics.quantiles(answered, n=100)
    table.add(f"{name}, answered", [len(answered) / seconds], "a second")
    table.add("  told to come again", [len(times) - len(answered)], "")
    table.add("  p50", [cuts[49]], "ms")
    table.add("  p99", [cuts[98]], "ms", **wanted)


def courses_read(chance: random.Random, ids: list[str]) -> Iterator[str]:
    """What people read: some courses over and over, and now and then any."""
    while True:
        yield f"/kurs/{chance.choice(ids[:50] if chance.random() < 0.8 else ids)}"


async def main(servers: Servers, folder: Path) -> None:
    settings = CatalogueSettings(**(await servers.database()).model_dump())
    conn = await connect(settings, "bench")
    await migrations.migrate(conn, [migrations.KIT, MIGRATIONS])
    await fill(conn)
    ids = [str(row["id"]) for row in await conn.fetch("SELECT id FROM courses LIMIT 5000")]
    await conn.close()
    table = Table("search", f"{COURSES} courses, searches for {SECONDS:.0f} s", folder)
    with server(settings) as one:
        # Waits until the courses are in memory.
        first = await asked([one], searches(random.Random(2)), 0.1, 1)
        table.add("the first answer after a start", [first[0] / 1000], "s")
        await asked([one], searches(random.Random(2)), 5, 4)  # what is kept in memory is there
        times = await asked([one], searches(random.Random(3)), SECONDS, CLIENTS)
        tell(table, f"{CLIENTS} at a time", times, SECONDS, at_most=30)
        with server(settings) as other:
            await asked([other], searches(random.Random(2)), 5, 4)
            times = await asked([one, other], searches(random.Random(8)), SECONDS, CLIENTS)
            tell(table, f"{CLIENTS} at a time, two replicas", times, SECONDS, at_most=30)
        tell(table, "one at a time", await asked([one], searches(random.Random(4)), 5, 1), 5)
        counts = (f"{address}&facets=true" for address in searches(random.Random(5)))
        tell(table, "with counts, one at a time", await asked([one], counts, 5, 1), 5)
        for name, page in (
            ("the front page", repeat("/")),
            ("pages of searches", searches(random.Random(6), "/kurs")),
            ("pages of courses", courses_read(random.Random(7), ids)),
        ):
            times = await asked([one], page, 5, CLIENTS)
            tell(table, f"{name}, {CLIENTS} at a time", times, 5, at_most=50)
    table.draw()


if __name__ == "__main__":
    with tempfile.TemporaryDirectory(prefix="kursnett-bench-") as home:
        with Stack.somewhere(Path(home) / "home", programs=("postgres",)) as stack:
            uvloop.run(main(Servers(admin=stack.places.database("admin"), kafka="127.0.0.1:1"), Path(home)))
            stack.stop()
        stack.reset()
