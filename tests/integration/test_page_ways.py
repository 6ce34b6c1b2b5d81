"""Pages of a log-in: their short way answers as the whole way does, and how often each goes to the database."""

import asyncio
import gc
from collections.abc import Sequence
from typing import Any

import fastapi.routing
import pytest
from asyncpg import Connection
from jinja2.runtime import Context

from tests.delivery import Servers
from tests.matrix import OPENED, WHO, Here, Row, rows, told

pytestmark = pytest.mark.anyio

# Service -> page -> whose it is, and in how many statements it is told.
PAGES: dict[str, dict[str, tuple[str, int]]] = {
    "enrolment": {
        "/min-side": ("learner A", 1),
        "/min-side/kurs": ("learner A", 1),
        "/delta/{offering_id:uuid}": ("learner A", 2),
        "/deltakere/{offering_id:uuid}": ("partner A", 2),
    },
    "notifier": {"/varsler": ("learner A", 1), "/varsler/liste": ("learner A", 1)},
    "catalogue": {"/partner": ("partner A", 2), "/drift": ("operator", 0)},
}


def row(service: str, path: str, query: str = "") -> Row:
    [found] = [one for one in rows(service) if (one.method, one.path) == ("GET", path)]
    return Row("GET", path + query, found.told, found.object, "")


async def answers(here: Here, asked: Row, named: dict[str, str]) -> dict[str, tuple[str, str]]:
    """Who -> what is told, and the page."""
    found = {}
    for who in WHO:
        answer = await here.ask(asked, named, here.visit(who))
        found[who] = (told(answer), answer.text)
    return found


async def crowd(
    here: Here, asked: Row, named: dict[str, str], everybody: Sequence[str], alone: dict[str, tuple[str, str]]
) -> None:
    """All ask at the same time, and each is told what they are told alone."""
    together = await asyncio.gather(*(here.ask(asked, named, here.visit(who)) for who in everybody))
    for who, answer in zip(everybody, together, strict=True):
        assert (told(answer), answer.text) == alone[who], (asked.path, who)


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The statements that went to the database since it was cleared."""
    found: list[str] = []
    execute = Connection._do_execute  # type: ignore[attr-defined]

    async def noting(self: Any, query: str, *more: Any, **named: Any) -> Any:
        if "typeinfo_tree" not in query and "set_config('jit'" not in query:  # asyncpg's, of a connection's first time
            found.append(query)
        return await execute(self, query, *more, **named)

    monkeypatch.setattr(Connection, "_do_execute", noting)
    return found


@pytest.mark.parametrize("service", PAGES)
async def test_both_ways_answer_alike(servers: Servers, service: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """An address with a query goes the whole way."""
    whole_ways = 0
    solve: Any = vars(fastapi.routing)["solve_dependencies"]

    async def counting(**asked: Any) -> Any:
        nonlocal whole_ways
        whole_ways += 1
        return await solve(**asked)

    monkeypatch.setattr(fastapi.routing, "solve_dependencies", counting)
    async with OPENED[service](servers) as here:
        for path in PAGES[service]:
            named = await here.given(row(service, path))
            before = whole_ways
            short = await answers(here, row(service, path), named)
            assert whole_ways == before, "the short way was not taken"
            whole = await answers(here, row(service, path, "?sprak=nb"), named)
            assert whole_ways == before + len(WHO), "the control"
            for who in WHO:
                assert short[who] == whole[who], (path, who)
            assert {code for code, _ in short.values()} > {"login"}


@pytest.mark.parametrize("service", PAGES)
async def test_a_page_goes_to_the_database_no_more_than_so_often(
    servers: Servers, service: str, asked: list[str]
) -> None:
    async with OPENED[service](servers) as here:
        for path, (who, most) in PAGES[service].items():
            named = await here.given(row(service, path))
            await here.ask(row(service, path), named, here.visit(who))  # what is kept is kept then
            asked.clear()
            assert told(await here.ask(row(service, path), named, here.visit(who))) == "200"
            assert len(asked) == most, (path, asked)


@pytest.mark.parametrize("service", PAGES)
async def test_those_who_ask_at_the_same_time_share_a_look_and_each_sees_their_own(
    servers: Servers, service: str, asked: list[str]
) -> None:
    async with OPENED[service](servers) as here:
        for path, (visitor, most) in PAGES[service].items():
            named = await here.given(row(service, path))
            alone = await answers(here, row(service, path), named)
            asked.clear()
            await crowd(here, row(service, path), named, [visitor] * 10, alone)
            assert len(asked) <= 2 * most, (path, asked)  # who asks just behind the others is in the next look
            await crowd(here, row(service, path), named, [who for who in WHO for _ in range(3)], alone)


@pytest.mark.parametrize("service", PAGES)
async def test_a_page_leaves_nothing_behind_that_only_the_collector_finds(servers: Servers, service: str) -> None:
    """A macro in a page of its own, or one brought in with its context, holds all that the page was drawn from, and is
    held by it: some hundred such pages, and the collector stops the process for as long as some pages take."""

    def drawn() -> int:
        return sum(type(one) is Context for one in gc.get_objects())

    async with OPENED[service](servers) as here:
        for path, (who, _) in PAGES[service].items():
            named = await here.given(row(service, path))
            await here.ask(row(service, path), named, here.visit(who))  # what its parts share is read then, and stays
            gc.collect()
            gc.disable()
            try:
                before = drawn()
                for _ in range(3):
                    assert told(await here.ask(row(service, path), named, here.visit(who))) == "200"
                assert drawn() == before, path
            finally:
                gc.enable()
