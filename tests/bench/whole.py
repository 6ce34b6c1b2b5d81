"""How fast a whole crowd is enrolled over HTTP and mailed: the product as shipped, the mail server aside.

Run by `make bench` with some thousands; `python -m tests.bench.whole --learners 77000` asks for all of Helgeland.
"""

import argparse
import asyncio
import multiprocessing
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path

import asyncpg
import httpx2
import psutil
import uvloop

from deploy.demo.data import load
from deploy.local.issuer import Login, tokens
from deploy.local.stack import EVERYTHING, Stack
from tests.bench.notices import serve
from tests.bench.table import Table
from tests.bench.web import Client, asking
from tests.delivery import until
from tests.journeys.web import Web

LEARNERS = 6_000
COURSES = 20
CONNECTIONS = 128
ALL, WITHIN_S = 77_000, 60  # everybody on Helgeland, in a minute


def processor_s(stack: Stack) -> Mapping[str, float]:
    """Program -> seconds of processor time that it has taken by now."""
    used: dict[str, float] = {}
    for program in stack.programs:
        for pid in stack.pids(program):  # with those that it started: PostgreSQL has a process for each connection
            times = psutil.Process(pid).cpu_times()
            used[program] = used.get(program, 0.0) + times.user + times.system
    return used


async def main(stack: Stack, folder: Path, learners: int) -> None:
    places = stack.places
    await load(places, lambda words: None)
    async with httpx2.AsyncClient(base_url=places.gateway, timeout=20) as http:
        web = Web(places, http)
        offerings = [await web.offering(f"ALL-{n}", learners, f"Kurs {n}") for n in range(COURSES)]
    crowd = await tokens(places, [Login(f"all-{n}", "Alle") for n in range(learners)])
    requests = [asking(offerings[n % COURSES], token, "bronnoysund") for n, token in enumerate(crowd)]
    notifier = await asyncpg.connect(places.database("notifier"))
    before = await notifier.fetchval("SELECT count(*) FROM notices WHERE state = 'sent'")
    client = Client(places.port("enrolment"))
    table = Table("whole", f"{learners} learners in {COURSES} courses, {CONNECTIONS} connections", folder)
    used, began = processor_s(stack), time.perf_counter()

    async def all_sent() -> bool:
        await asyncio.sleep(0.2)  # counting is not to be what takes the time
        sent = await notifier.fetchval("SELECT count(*) FROM notices WHERE state = 'sent'")
        return bool(sent == before + learners)

    asked = await client.send(requests, CONNECTIONS)
    if set(client.statuses) != {b"201"}:
        raise RuntimeError(f"not every answer was 201: {client.statuses}")
    await until(all_sent, 60 + learners / 20)
    took = time.perf_counter() - began
    await notifier.close()
    table.add("answered", [asked], "a second")
    table.add("answered and mailed", [learners / took], "a second", at_least=ALL / WITHIN_S)
    table.add("the last mail after the last answer", [took - learners / asked], "s")
    after = processor_s(stack)
    for program in sorted(after, key=lambda name: used.get(name, 0.0) - after[name])[:6]:
        table.add(
            f"processor time of {program}", [(after[program] - used.get(program, 0)) / learners * 1000], "ms each"
        )
    table.draw()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--learners", type=int, default=LEARNERS, help=f"how many ask for a seat ({LEARNERS})")
    wanted = parser.parse_args().learners
    ours, theirs = multiprocessing.Pipe()
    with tempfile.TemporaryDirectory(prefix="kursnett-bench-") as home:
        with Stack.somewhere(Path(home) / "home", programs=[one for one in EVERYTHING if one != "mail"]) as here:
            sink = multiprocessing.get_context("spawn").Process(
                target=serve, args=(theirs, here.places.port("smtp")), daemon=True
            )
            sink.start()
            ours.recv()
            uvloop.run(main(here, Path(home), wanted))
            sink.terminate()
        here.reset()
