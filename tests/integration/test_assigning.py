"""Nobody sets by a body what is not asked of them: each column of each table, put into each body that is taken."""

import copy
import json
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from contracts.topics import SERVICES
from tests.delivery import Servers
from tests.matrix import OPENED, WHO, Here, Row, rows, told

pytestmark = pytest.mark.anyio

MARK = "assigned-by-a-stranger"


async def columns(here: Here) -> set[str]:
    async with here.running.database.reading() as conn:
        found = await conn.fetch("SELECT column_name FROM information_schema.columns WHERE table_schema = 'public'")
    return {row["column_name"] for row in found}


async def marked(here: Here) -> list[str]:
    """The tables that hold the mark."""
    async with here.running.database.reading() as conn:
        tables = await conn.fetch("SELECT tablename FROM pg_tables WHERE schemaname = 'public'")
        names = [row["tablename"] for row in tables]
        query = "SELECT EXISTS (SELECT FROM {} AS t WHERE t::text LIKE $1)"
        return [name for name in names if await conn.fetchval(query.format(name), f"%{MARK}%")]


def asked(here: Here, row: Row) -> set[str]:
    """The fields that the route's document says, at any depth."""
    document = here.app.openapi()
    schemas = document["components"]["schemas"]
    found: set[str] = set()
    pending = [document["paths"][row.path][row.method.lower()].get("requestBody", {})]
    seen: set[str] = set()
    while pending:
        part = pending.pop()
        if isinstance(part, list):
            pending += part
        elif isinstance(part, dict):
            found |= set(part.get("properties", {}))
            pending += part.values()
            ref = part.get("$ref", "").rpartition("/")[2] if isinstance(part.get("$ref"), str) else ""
            if ref and ref not in seen:
                seen.add(ref)
                pending.append(schemas[ref])
    return found


def with_more(body: Any, name: str) -> Iterator[Any]:
    """The body with one more field, at each place where there are fields."""
    places = list(_places(body))
    for number in range(len(places)):
        changed = copy.deepcopy(body)
        list(_places(changed))[number][name] = MARK
        yield changed


def _places(part: Any) -> Iterator[dict[str, Any]]:
    if isinstance(part, dict):
        yield part
        for one in part.values():
            yield from _places(one)
    elif isinstance(part, list):
        for one in part:
            yield from _places(one)


@pytest.mark.parametrize("service", SERVICES)
async def test_a_column_in_a_body_is_refused_or_does_nothing(servers: Servers, service: str) -> None:
    async with OPENED[service](servers) as here:
        wrong, refused = [], 0
        for row in rows(service):
            body = json.loads(row.body) if row.body else {}
            if row.of_people or row.method not in ("POST", "PUT") or not isinstance(body, dict):
                continue
            who = next(one for one, code in zip(WHO, row.told, strict=True) if code.startswith("2"))
            fields = asked(here, row)
            if not fields:  # it takes no body: all at once do nothing
                all_of_them = replace(row, body=json.dumps(dict.fromkeys(sorted(await columns(here)), MARK)))
                answer = await here.ask(all_of_them, await here.given(row), here.bearer(who))
                if told(answer) not in (row.told[WHO.index(who)], "422"):
                    wrong.append(f"{row.method} {row.path}, which takes no body: {told(answer)}")
                continue
            named = await here.given(row)
            for name in sorted(await columns(here) - fields):
                for changed in with_more(body, name):
                    answer = await here.ask(replace(row, body=json.dumps(changed)), named, here.bearer(who))
                    refused += answer.status_code == 422
                    if answer.status_code != 422 or name not in answer.text:
                        wrong.append(f"{row.method} {row.path} takes {name}: {answer.status_code}")
        assert not wrong, "\n".join(wrong)
        assert await marked(here) == []
        assert refused > 50, "the control: there are bodies, and columns that they have not"
