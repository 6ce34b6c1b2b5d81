"""How fast pages are, as people get them: by the gateway, those of a log-in with its session, the demonstration data.

Run by `make bench`. `tests.bench.search` has the catalogue's pages over 50,000 courses, without a gateway.
"""

import tempfile
from itertools import cycle, islice
from pathlib import Path

import httpx2
import uvloop

from deploy.demo.data import load
from deploy.local.stack import EVERYTHING, Stack
from tests.bench.table import Table
from tests.bench.web import Client
from tests.journeys.web import Web
from tests.visiting import Person

CONNECTIONS = 32
ROUNDS = 5  # in the first the services open their connections, and PostgreSQL plans
REQUESTS = 4_000  # of each page in a round: of a thousand, those that open the 32 connections alone are the slowest
LEARNERS = 16  # log in, each with a seat


def asking(address: str, cookie: str = "") -> bytes:
    own = f"Cookie: {cookie}\r\n" if cookie else ""
    can = "Accept: text/html\r\nAccept-Encoding: gzip\r\n"  # as every browser does: making them small costs, too
    return f"GET {address} HTTP/1.1\r\nHost: localhost\r\n{can}{own}\r\n".encode()


async def logged_in(web: httpx2.AsyncClient, gateway: str, name: str) -> str:
    """The cookie of somebody who has just logged in."""
    person = Person(web, gateway)
    await person.log_in(name)
    if person.session is None:
        raise RuntimeError(f"{name} could not log in: {person.text[:500]}")
    return f"__Host-kursnett={person.session}"


async def main(stack: Stack, folder: Path) -> None:
    places = stack.places
    await load(places, lambda words: None)
    async with httpx2.AsyncClient(base_url=places.gateway, timeout=20) as http:
        web = Web(places, http)
        offering = await web.offering("SIDE-1", LEARNERS, "Sider")
        found = (await http.get(f"/api/catalogue/v1/offerings/{offering}")).json()
        names = [f"side-{number}" for number in range(LEARNERS)]
        for name in names:
            await web.enrol(offering, name)
        learners = [await logged_in(http, places.gateway, name) for name in names]
        torgar, drift = [await logged_in(http, places.gateway, name) for name in ("torgar", "drift")]
    pages = {
        "/": [""],
        "/kurs": [""],
        f"/kurs/{found['course_id']}": [""],
        f"/delta/{offering}": learners,
        "/min-side": learners,
        "/varsler": learners,
        "/partner": [torgar],
        f"/deltakere/{offering}": [torgar],
        "/drift": [drift],
    }
    client = Client(places.gateway_port)
    table = Table("pages", f"{CONNECTIONS} connections, {REQUESTS} of each in a round, {ROUNDS} rounds", folder)
    rates: dict[str, list[float]] = {page: [] for page in pages}
    p99: dict[str, list[float]] = {page: [] for page in pages}
    together, together_p99 = [], []
    for _ in range(ROUNDS):
        for page, cookies in pages.items():
            requests = [asking(page, cookie) for cookie in islice(cycle(cookies), REQUESTS)]
            rates[page].append(await client.send(requests, CONNECTIONS))
            p99[page].append(client.at(0.99))
            if set(client.statuses) != {b"200"}:
                raise RuntimeError(f"{page}: not every answer was 200: {client.statuses}")
        turns = zip(*(islice(cycle(own), REQUESTS) for own in pages.values()), strict=True)
        mixed = [asking(page, cookie) for own in turns for page, cookie in zip(pages, own, strict=True)]
        together.append(await client.send(mixed, CONNECTIONS))
        together_p99.append(client.at(0.99))
    for page in pages:
        name = "/".join(page.split("/")[:2])
        name += "/…" if page.count("/") > 1 else ""
        table.add(f"{name}, answered", rates[page], "a second")
        table.add("  p99", p99[page], "ms", at_most=50)
    table.add("all of these in turn, answered", together, "a second")
    table.add("  p99", together_p99, "ms", at_most=50)
    table.draw()


if __name__ == "__main__":
    with tempfile.TemporaryDirectory(prefix="kursnett-bench-") as home:
        with Stack.somewhere(Path(home) / "home", programs=EVERYTHING) as here:
            uvloop.run(main(here, Path(home)))
        here.reset()
