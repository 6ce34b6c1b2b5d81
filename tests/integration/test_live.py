"""Live seats over a real socket: who listens is told, who comes back goes on, and nobody costs a query of their own."""

import asyncio
import json
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import asyncpg
import pytest
from httpx2 import AsyncClient, Timeout

from kit import http, tracing
from kit import live as kit_live
from services.enrolment import live
from services.enrolment.app import ROUTERS
from services.enrolment.live import Hub
from tests.delivery import Servers, until
from tests.integration.test_enrolment_http import BASE, World, world
from tests.integration.test_enrolment_links import Listening
from tests.web import served

pytestmark = pytest.mark.anyio


class Stream:
    """One client's connection: the events that have come, each with its id."""

    def __init__(self, lines: AsyncIterator[str]) -> None:
        self._lines = lines

    async def next(self) -> tuple[str, list[dict[str, Any]]]:
        fields: dict[str, str] = {}
        async with asyncio.timeout(10):
            async for line in self._lines:
                name, _, value = line.partition(": ")
                fields[name] = value
                if not line and fields.get("event") == "seats":
                    return fields["id"], json.loads(fields["data"])
        raise AssertionError("the stream has ended")


@asynccontextmanager
async def listening(asking: AsyncClient, offering_id: Any, **headers: str) -> AsyncIterator[Stream]:
    known = {name.replace("_", "-"): value for name, value in headers.items()}
    async with asking.stream("GET", f"{BASE}/offerings/{offering_id}/live", headers=known) as answer:
        assert answer.status_code == 200
        assert answer.headers["content-type"].startswith("text/event-stream")
        assert answer.headers["x-accel-buffering"] == "no"
        yield Stream(answer.aiter_lines())


@asynccontextmanager
async def reached(here: World) -> AsyncIterator[tuple[AsyncClient, Hub]]:
    """The service behind a socket, as a browser reaches it, and its hub."""
    app = http.build(here.running, ROUTERS)
    app.state.hub = Hub(here.running)
    async with served(app) as address, AsyncClient(base_url=address, timeout=Timeout(10)) as asking:
        yield asking, app.state.hub
        here.running.stopping.set()


async def test_who_listens_is_told_of_a_change_and_goes_on_from_what_they_have_seen(servers: Servers) -> None:
    async with world(servers) as here, reached(here) as (asking, hub):
        offering_id = await here.offering(online=2)
        async with listening(asking, offering_id) as one:
            first, seats = await one.next()
            assert [(place["taken"], place["free"]) for place in seats] == [(0, 2)]
            await here.enrol(offering_id, "kari")
            second, seats = await one.next()
            assert [(place["taken"], place["free"]) for place in seats] == [(1, 1)]
            assert first != second
        async with listening(asking, offering_id, last_event_id=second) as known:
            await here.enrol(offering_id, "ola")
            third, seats = await known.next()
            assert [place["free"] for place in seats] == [0], "what was seen is not told again"
        async with listening(asking, offering_id, last_event_id=first) as old:
            assert (await old.next())[0] == third
        await until(lambda: asyncio.sleep(0, not hub._watched), 10)


async def test_nobody_looks_when_nobody_listens(servers: Servers, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: Counter[str] = Counter()

    async def listen(conn: Any) -> None:
        conn.add_query_logger(lambda query: seen.update(["places" if "FROM places" in query.query else "other"]))

    monkeypatch.setattr(tracing, "watch", listen)
    async with world(servers) as here, reached(here) as (asking, hub):
        offering_id = await here.offering(online=2)
        async with listening(asking, offering_id) as one:
            await one.next()
            before = seen["places"]
            await until(lambda: asyncio.sleep(0.01, seen["places"] >= before + 3))
        await until(lambda: asyncio.sleep(0, not hub._watched and hub._looking is not None and hub._looking.done()), 10)
        before = seen["places"]
        await asyncio.sleep(4 * live.LOOK_S)  # nothing happens: there is no condition to wait for
        assert seen["places"] == before


async def test_two_thousand_who_listen_cost_one_query_for_each_look(
    servers: Servers, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: Counter[str] = Counter()
    looks = 0

    async def listen(conn: Any) -> None:
        conn.add_query_logger(lambda query: seen.update(["places" if "FROM places" in query.query else "other"]))

    look = live._look

    async def counted(*how: Any) -> Any:
        nonlocal looks
        looks += 1
        return await look(*how)

    monkeypatch.setattr(tracing, "watch", listen)
    monkeypatch.setattr(live, "_look", counted)
    async with world(servers) as here:
        several = [await here.offering(online=2) for _ in range(20)]
        hub = here.hub()
        seen.clear()
        many = [Listening(hub, several[n % len(several)]) for n in range(2_000)]
        await until(lambda: asyncio.sleep(0.01, all(one.events for one in many)))
        assert seen["places"] <= looks <= len(several) + 8, "who comes at the same time shares the first look, too"
        seen.clear()
        looks = 0
        await here.enrol(several[0], "kari")
        asked = seen["places"]  # by the request itself
        told = many[:: len(several)]
        await until(lambda: asyncio.sleep(0.01, all(len(one.events) == 2 for one in told)))
        await until(lambda: asyncio.sleep(0.01, looks >= 4))
        assert seen["places"] - asked <= looks + 1
        assert all(len(one.events) == 1 for n, one in enumerate(many) if n % len(several)), "nothing changed for them"
        for one in many:
            one.task.cancel()
        await asyncio.gather(*(one.task for one in many), return_exceptions=True)
        assert not hub._watched


async def test_who_begins_late_does_not_take_the_place_of_who_came_after(servers: Servers) -> None:
    async with world(servers) as here:
        offering_id = await here.offering(online=2)
        hub = here.hub()
        first, late = [await hub.listen(offering_id, None) for _ in range(2)]
        await anext(first)
        await first.aclose()  # type: ignore[attr-defined]  # a generator, told of as what it gives
        after = Listening(hub, offering_id)
        await until(lambda: asyncio.sleep(0, bool(after.events)))
        await anext(late)
        await here.enrol(offering_id, "kari")
        await until(lambda: asyncio.sleep(0.01, len(after.events) == 2), 5)
        await late.aclose()  # type: ignore[attr-defined]
        await hub.listen(offering_id, None)  # and never begun: the client has gone already
        after.task.cancel()
        await asyncio.gather(after.task, return_exceptions=True)
        assert not hub._watched


async def test_those_who_listen_are_told_again_after_a_look_that_failed(
    servers: Servers, monkeypatch: pytest.MonkeyPatch
) -> None:
    look = live._look
    failures = 0

    async def failing(*how: Any) -> Any:
        nonlocal failures
        if failures < 2:
            failures += 1
            raise asyncpg.QueryCanceledError("canceling statement due to statement timeout")
        return await look(*how)

    async with world(servers) as here:
        offering_id = await here.offering(online=2)
        one = Listening(here.hub(), offering_id)
        await until(lambda: asyncio.sleep(0, bool(one.events)))
        monkeypatch.setattr(live, "_look", failing)
        await here.enrol(offering_id, "kari")
        await until(lambda: asyncio.sleep(0.01, len(one.events) == 2), 5)
        assert failures == 2
        one.task.cancel()


async def test_when_all_come_back_at_once_no_more_are_let_in_than_there_is_room_for(
    servers: Servers, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each had asked before the first of them was counted."""
    monkeypatch.setattr(kit_live, "MOST", 3)
    async with world(servers) as here, reached(here) as (_, hub):
        offering_id = await here.offering(online=2)
        streams = await asyncio.gather(*(hub.listen(offering_id, None) for _ in range(9)))
        begun = [[await anext(stream), await anext(stream, b"")] for stream in streams]
        assert sum(bool(event) for _, event in begun) == 3
        assert all(b"retry" in first for first, _ in begun)  # the others come again after a while
        for stream in streams:
            await stream.aclose()
