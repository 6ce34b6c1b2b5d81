"""The same request twice: one effect, one answer, whatever is under way meanwhile."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import pytest
from fastapi import APIRouter
from httpx2 import AsyncClient
from pydantic import BaseModel
from starlette.responses import Response

from kit import http, idempotency
from kit.database import Connection, Database
from kit.http import Db
from kit.idempotency import Answer, Repeatable
from kit.problems import Problem
from kit.running import Running
from tests import web
from tests.delivery import Servers, running, until
from tests.web import Issuer

pytestmark = pytest.mark.anyio


class Wish(BaseModel):
    size: int = 1


@dataclass
class World:
    asking: AsyncClient
    here: Running
    token: Callable[[str], dict[str, str]]
    hold: asyncio.Event  # an effect waits until it is set
    inside: asyncio.Event  # set when an effect has begun

    async def ask(self, key: str | None = "k", who: str = "kari", path: str = "/cars/1", **wish: Any) -> Any:
        headers = self.token(who) | ({"idempotency-key": key} if key is not None else {})
        return await self.asking.post(path, json=wish, headers=headers)

    async def effects(self) -> int:
        async with self.here.database.reading() as conn:
            return int(await conn.fetchval("SELECT count(*) FROM cars"))


def routes(hold: asyncio.Event, inside: asyncio.Event) -> APIRouter:
    router = APIRouter()

    async def build(conn: Connection, car: int, wish: Wish) -> Answer:
        inside.set()
        await hold.wait()
        if wish.size > 10:
            raise Problem("conflict", "Conflict", 409, "No car is so large.")
        number = await conn.fetchval("INSERT INTO cars (car) VALUES ($1) RETURNING number", car)
        return Answer({"number": number, "size": wish.size}, 201, {"location": f"/cars/{car}/{number}"})

    def in_one(
        db: Database, asked: idempotency.Asked | None, effect: Callable[[Connection], Awaitable[Answer]]
    ) -> Awaitable[Response]:
        return db.run(lambda conn: idempotency.once(conn, asked, lambda: effect(conn)))

    @router.post("/cars/{car}")
    async def make(car: int, wish: Wish, db: Db, asked: Repeatable) -> Response:
        return await in_one(db, asked, lambda conn: build(conn, car, wish))

    @router.post("/unguarded/{car}")
    async def make_unguarded(car: int, wish: Wish, db: Db) -> Response:
        return await in_one(db, None, lambda conn: build(conn, car, wish))

    @router.delete("/cars/{car}")
    async def scrap(car: int, db: Db, asked: Repeatable) -> Response:
        async def effect(conn: Connection) -> Answer:
            await conn.execute("DELETE FROM cars WHERE car = $1", car)
            return Answer(None, 204)

        return await in_one(db, asked, effect)

    return router


@pytest.fixture
async def world(servers: Servers) -> AsyncIterator[World]:
    hold, inside, issuer = asyncio.Event(), asyncio.Event(), Issuer()
    hold.set()
    settings = (await servers.database()).model_copy(update={"issuer": web.ISSUER})
    async with running(settings, "demo") as here:
        async with here.database.reading() as conn:
            await conn.execute("CREATE TABLE cars (number integer GENERATED ALWAYS AS IDENTITY, car integer)")
        app = http.build(here, [routes(hold, inside)])
        issuer.serve(app.state.keys)
        async with web.client(app) as asking:
            yield World(asking, here, lambda who: {"authorization": f"Bearer {issuer.token(sub=who)}"}, hold, inside)


def slug(answer: Any) -> str:
    return str(answer.json()["type"]).rpartition("/")[2]


async def test_a_repeated_request_gets_the_first_answer_and_no_second_effect(world: World) -> None:
    first, second = await world.ask(size=2), await world.ask(size=2)
    assert first.status_code == second.status_code == 201
    assert first.content == second.content
    assert first.headers["location"] == second.headers["location"]
    assert first.headers["content-type"] == second.headers["content-type"] == "application/json"
    assert "idempotency-replayed" not in first.headers
    assert second.headers["idempotency-replayed"] == "true"
    assert await world.effects() == 1


async def test_twenty_at_once_have_one_effect(world: World) -> None:
    answers = await asyncio.gather(*(world.ask() for _ in range(20)))
    assert await world.effects() == 1
    assert {answer.status_code for answer in answers} <= {201, 409}
    fresh = [answer for answer in answers if answer.status_code == 201 and "idempotency-replayed" not in answer.headers]
    assert len(fresh) == 1
    assert {slug(answer) for answer in answers if answer.status_code == 409} <= {"request-in-progress"}
    assert {answer.content for answer in answers if answer.status_code == 201} == {fresh[0].content}


async def test_twenty_at_once_without_the_guard_have_twenty_effects(world: World) -> None:
    await asyncio.gather(*(world.ask(path="/unguarded/1") for _ in range(20)))
    assert await world.effects() == 20


async def test_without_a_key_each_request_counts(world: World) -> None:
    await world.ask(None)
    await world.ask(None)
    assert await world.effects() == 2


async def test_while_the_first_is_under_way_the_second_is_told_at_once(world: World) -> None:
    world.hold.clear()
    first = asyncio.create_task(world.ask())
    async with asyncio.timeout(5):
        await world.inside.wait()
        answer = await world.ask()  # would wait for the first, if it waited at all
        assert answer.status_code == 409
        assert slug(answer) == "request-in-progress"
        assert answer.headers["retry-after"] == "1"
        other = asyncio.create_task(world.ask("other"))
        world.hold.set()
        assert (await other).status_code == 201
    assert (await first).status_code == 201
    assert (await world.ask()).headers["idempotency-replayed"] == "true"


@pytest.mark.parametrize("change", [{"size": 3}, {"path": "/cars/2"}])
async def test_the_same_key_for_another_request_is_refused(world: World, change: dict[str, Any]) -> None:
    await world.ask(size=2)
    answer = await world.ask(**({"size": 2} | change))
    assert answer.status_code == 422
    assert slug(answer) == "idempotency-key-reused"
    assert await world.effects() == 1


async def test_a_key_belongs_to_its_caller_and_route(world: World) -> None:
    await world.ask()
    assert (await world.ask(who="ola")).status_code == 201
    headers = world.token("kari") | {"idempotency-key": "k"}
    assert (await world.asking.delete("/cars/1", headers=headers)).status_code == 204
    again = await world.asking.delete("/cars/1", headers=headers)
    assert (again.status_code, again.content, again.headers["idempotency-replayed"]) == (204, b"", "true")


async def test_a_refused_request_keeps_nothing_and_its_key_may_be_used_again(world: World) -> None:
    assert (await world.ask(size=11)).status_code == 409
    assert (await world.ask(size=11)).status_code == 409
    assert (await world.ask(size=10)).status_code == 201
    assert await world.effects() == 1


@pytest.mark.parametrize("key", ["", " ", "a b", "x" * 256, "blå", "a\tb"])
async def test_a_key_that_will_not_do_is_refused(world: World, key: str) -> None:
    headers = {**world.token("kari"), "idempotency-key": key}
    raw = {name.encode(): value.encode("latin-1") for name, value in headers.items()}
    answer = await world.asking.post("/cars/1", json={}, headers=raw)
    assert answer.status_code == 400
    assert slug(answer) == "idempotency-key-invalid"
    assert await world.effects() == 0


async def test_an_answer_is_forgotten_after_a_day(world: World) -> None:
    await world.ask("old")
    await world.ask("young")
    async with world.here.database.reading() as conn:
        await conn.execute("UPDATE idempotency SET created_at = created_at - interval '25 hours' WHERE key = 'old'")

    async def left() -> bool:
        async with world.here.database.reading() as conn:
            return [row["key"] for row in await conn.fetch("SELECT key FROM idempotency")] == ["young"]

    worker = asyncio.create_task(idempotency.forget(world.here))
    await until(left)
    world.here.stopping.set()
    await worker


async def test_the_effect_and_its_answer_are_kept_together_or_not_at_all(world: World) -> None:
    """A crash after the effect and before the commit leaves neither."""
    asked = idempotency.Asked("c", "POST /x", "k", b"h")

    async def effect(conn: Connection) -> Answer:
        await conn.execute("INSERT INTO cars (car) VALUES (1)")
        return Answer({})

    async def crash(conn: Connection) -> None:
        await idempotency.once(conn, asked, lambda: effect(conn))
        raise RuntimeError("the process is gone")

    with pytest.raises(RuntimeError):
        await world.here.database.run(crash)
    async with world.here.database.reading() as conn:
        assert await conn.fetchval("SELECT count(*) FROM idempotency") == 0
    assert await world.effects() == 0
