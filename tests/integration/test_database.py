"""A connection that is lost while somebody works with it costs a try, and never the answer."""

import asyncio
from contextlib import AsyncExitStack
from typing import Any

import asyncpg
import pytest

from kit.database import POOLS, Database, Unknown
from tests.delivery import Servers, until

pytestmark = pytest.mark.anyio

OPEN = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND application_name LIKE '%/web'"
PID = "SELECT pg_backend_pid()"
HANG_UP = "SELECT pg_terminate_backend(pg_backend_pid())"


@pytest.fixture
async def database(servers: Servers) -> Any:
    found = Database(await servers.database(), pools={"web": 2})
    await found.open()
    yield found
    await found.close()


async def test_work_whose_connection_is_lost_is_done_on_another(database: Database) -> None:
    seen: list[int] = []

    async def work(conn: Any) -> int:
        pid: int = await conn.fetchval(PID)
        seen.append(pid)
        if len(seen) == 1:
            await conn.execute(HANG_UP)
        return pid

    assert await database.run(work) == seen[1] != seen[0]


async def test_work_on_a_connection_that_the_pool_has_back_already_is_done_on_another(database: Database) -> None:
    tries: list[int] = []

    async def work(conn: Any) -> int:
        tries.append(1)
        if len(tries) == 1:
            with pytest.raises(asyncpg.PostgresError):
                await conn.execute(HANG_UP)
        return int(await conn.fetchval(PID))

    assert await database.run(work)
    assert len(tries) == 2


async def test_a_connection_in_a_state_that_nobody_knows_is_not_given_to_the_next(database: Database) -> None:
    seen: list[int] = []

    async def work(conn: Any) -> int:
        pid: int = await conn.fetchval(PID)
        seen.append(pid)
        if len(seen) == 1:
            raise asyncpg.InternalClientError("cannot switch to state 11; another operation (2) is in progress")
        return pid

    await database.run(work)
    assert seen[1] != seen[0]


async def test_a_transaction_that_somebody_left_open_is_nobody_elses(database: Database) -> None:
    async with database.reading() as conn:
        await conn.execute("BEGIN")
    async with database.reading() as conn:
        assert not conn.is_in_transaction()


async def test_a_connection_that_was_lost_between_two_uses_is_not_given_out(database: Database) -> None:
    async with database.reading() as conn:
        pid = await conn.fetchval(PID)
    conn.terminate()
    async with database.reading() as conn:
        assert await conn.fetchval(PID) != pid


async def test_connections_that_nobody_needs_any_more_are_closed(
    servers: Servers, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("kit.database.IDLE_S", 0.2)
    database = Database(await servers.database(), pools={"web": 4})
    await database.open()

    async def here() -> int:
        async with database.reading() as conn:
            return int(await conn.fetchval(OPEN))

    async def alone() -> bool:
        return await here() == 1

    try:
        async with AsyncExitStack() as crowd:
            for _ in range(4):
                await crowd.enter_async_context(database.reading())
        assert await here() == 4
        await until(alone)  # it is asked over the one that is needed
    finally:
        await database.close()


async def test_work_that_is_cut_off_while_its_connection_is_lost_is_told_as_cut_off(database: Database) -> None:
    async def work(conn: Any) -> None:
        pid = await conn.fetchval(PID)
        async with database.reading() as other:
            await other.execute("SELECT pg_terminate_backend($1)", pid)
        await asyncio.sleep(0.2)
        raise asyncio.CancelledError

    with pytest.raises(asyncio.CancelledError):
        await database.run(work)


async def test_a_connection_lost_at_commit_is_unknown(database: Database) -> None:
    async def work(conn: Any) -> None:
        pid = await conn.fetchval(PID)
        async with database.reading() as other:
            await other.execute("SELECT pg_terminate_backend($1)", pid)
        await asyncio.sleep(0.2)

    with pytest.raises(Unknown):
        await database.run(work)


async def test_the_disk_is_waited_for_wherever_something_rests_on_it(servers: Servers) -> None:
    database = Database(await servers.database())
    await database.open()
    found = {}
    for purpose in POOLS:
        async with database.reading(purpose) as conn:
            found[purpose] = await conn.fetchval("SHOW synchronous_commit")
    await database.close()
    assert found == {"web": "on", "together": "on", "consumer": "on", "worker": "on", "relay": "off"}


async def test_connections_are_given_in_the_order_in_which_they_were_asked_for(servers: Servers) -> None:
    database = Database(await servers.database(), pools={"web": 1})
    await database.open()
    given: list[str] = []

    async def reads(who: str) -> None:
        async with database.reading():
            given.append(who)

    async def reads_again_and_again() -> None:  # never lets the others in between its release and its next asking
        for _ in range(3):
            async with database.reading():
                given.append("again")
                await asyncio.sleep(0)

    try:
        async with asyncio.TaskGroup() as group:
            for task in (reads_again_and_again(), reads("first"), reads("second")):
                group.create_task(task)
        assert given == ["again", "first", "second", "again", "again"]
    finally:
        await database.close()


async def test_who_gives_up_waiting_takes_nobodys_turn(servers: Servers) -> None:
    database = Database(await servers.database(), pools={"web": 1})
    await database.open()
    try:
        async with database.reading():
            waiting = asyncio.create_task(database.run(lambda conn: conn.fetchval(PID)))
            await asyncio.sleep(0)
            waiting.cancel()
            await asyncio.wait([waiting])
        assert await database.run(lambda conn: conn.fetchval(PID))
    finally:
        await database.close()


async def test_a_column_that_another_version_adds_meanwhile_costs_a_try(database: Database) -> None:
    """A service that is brought up to date migrates while the version before it still answers."""

    async def work(conn: Any) -> int:
        return len(dict(await conn.fetchrow("SELECT * FROM lease RIGHT JOIN (VALUES (1)) AS one (number) ON true")))

    before = await database.run(work)
    async with database.reading() as other:
        await other.execute("ALTER TABLE lease ADD COLUMN newer text")
    assert await database.run(work) == before + 1
