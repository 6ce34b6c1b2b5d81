"""Pages of a log-in: their short way answers as the whole way does, and how often each goes to the database."""

from typing import Any

import fastapi.routing
import pytest
from asyncpg import Connection

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
    servers: Servers, service: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []
    execute = Connection._do_execute  # type: ignore[attr-defined]

    async def noting(self: Any, query: str, *more: Any, **named: Any) -> Any:
        asked.append(query)
        return await execute(self, query, *more, **named)

    async with OPENED[service](servers) as here:
        for path, (who, most) in PAGES[service].items():
            named = await here.given(row(service, path))
            await here.ask(row(service, path), named, here.visit(who))  # what is kept is kept then
            with monkeypatch.context() as patched:
                patched.setattr(Connection, "_do_execute", noting)
                asked.clear()
                assert told(await here.ask(row(service, path), named, here.visit(who))) == "200"
            assert len(asked) == most, (path, asked)
