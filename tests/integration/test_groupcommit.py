"""Requests that are committed together keep their order, their own outcomes and their own failures."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import pytest

from kit import groupcommit
from kit.database import DESK, Busy, Connection, Database, Unknown
from kit.groupcommit import GroupCommit, GroupRead
from tests.delivery import Servers, until

pytestmark = pytest.mark.anyio


class Till:
    """Writes down each number it is given; 666666 is poison to whole batches, -1 is refused by itself."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self.batches: list[list[int]] = []
        self.desk: GroupCommit[int, int] = GroupCommit(database, self.commit, "desk")

    async def commit(self, conn: Connection, numbers: Sequence[int]) -> list[int | Exception]:
        self.batches.append(list(numbers))
        if 666_666 in numbers:
            raise LookupError("poison")
        good = [number for number in numbers if number >= 0]
        await conn.execute("INSERT INTO taken (number) SELECT unnest($1::int[])", good)
        return [number * 10 if number >= 0 else ValueError("refused") for number in numbers]

    async def taken(self) -> list[int]:
        async with self.database.reading() as conn:
            return [row["number"] for row in await conn.fetch("SELECT number FROM taken ORDER BY place")]


@pytest.fixture
async def till(servers: Servers) -> AsyncIterator[Till]:
    database = Database(await servers.database(), pools={"web": 4, "together": 1, **DESK})
    await database.open()
    async with database.reading() as conn:
        await conn.execute("CREATE TABLE taken (place serial, number int)")
    yield Till(database)
    await database.close()


async def test_what_comes_while_a_batch_commits_shares_the_next(till: Till) -> None:
    results = await asyncio.gather(*(till.desk.submit(number) for number in range(1000)))
    assert results == [number * 10 for number in range(1000)]
    assert await till.taken() == list(range(1000))  # the order of arrival
    assert len(till.batches) == 2  # 512 and the rest


async def test_who_asks_while_others_are_answered_is_answered_by_what_is_there_since(till: Till) -> None:
    """A look that began before somebody asked may be old: whoever logs out in between must not be found by it."""
    looks: list[list[str]] = []
    began, told = asyncio.Event(), asyncio.Event()

    async def look(conn: Connection, asked: Sequence[str]) -> list[int]:
        looks.append(list(asked))
        count: int = await conn.fetchval("SELECT count(*) FROM taken")
        began.set()
        await told.wait()
        return [count] * len(asked)

    reading: GroupRead[str, int] = GroupRead(till.database, look)
    before = [asyncio.create_task(reading.submit(name)) for name in ("a", "b")]
    await began.wait()
    await till.desk.submit(1)
    after = asyncio.create_task(reading.submit("c"))
    await asyncio.sleep(0)  # it has asked, and waits
    told.set()
    assert [*await asyncio.gather(*before), await after] == [0, 0, 1]
    assert looks == [["a", "b"], ["c"]]


async def test_a_look_that_takes_too_long_ends_for_all_who_share_it(till: Till) -> None:
    """One by one, each would wait for the time of all those before it."""
    looks: list[list[str]] = []

    async def look(conn: Connection, asked: Sequence[str]) -> list[int]:
        looks.append(list(asked))
        await conn.execute("SET statement_timeout = '50ms'")
        await conn.execute("SELECT pg_sleep(5)")
        return [0] * len(asked)

    reading: GroupRead[str, int] = GroupRead(till.database, look)
    found = await asyncio.gather(*(reading.submit(name) for name in ("a", "b", "c")), return_exceptions=True)
    assert [type(one) for one in found] == [Busy] * 3
    assert looks == [["a", "b", "c"]]


async def test_where_nobody_waits_a_batch_gathers_after_the_one_before_it(till: Till) -> None:
    """Red control: without `gather_s`, as above, what comes one after the other is committed one by one."""
    desk: GroupCommit[int, int] = GroupCommit(till.database, till.commit, gather_s=0.5)
    assert await desk.submit(0) == 0  # alone, it does not wait
    first = asyncio.create_task(desk.submit(1))
    for _ in range(20):
        await asyncio.sleep(0.001)
    assert not first.done()
    assert await desk.submit(2) == 20
    assert await first == 10
    assert till.batches == [[0], [1, 2]]


async def test_one_alone_is_a_batch_of_one_and_the_desk_sleeps_after_it(till: Till) -> None:
    for number in range(3):
        assert await till.desk.submit(number) == number * 10
    assert till.batches == [[0], [1], [2]]


async def test_one_that_is_refused_costs_only_itself(till: Till) -> None:
    results = await asyncio.gather(*(till.desk.submit(number) for number in (1, -1, 2)), return_exceptions=True)
    assert [type(result) for result in results] == [int, ValueError, int]
    assert len(till.batches) == 1


async def test_one_that_breaks_the_batch_costs_the_others_nothing_but_time(till: Till) -> None:
    results = await asyncio.gather(*(till.desk.submit(number) for number in (1, 666_666, 2)), return_exceptions=True)
    assert [type(result) for result in results] == [int, LookupError, int]
    assert await till.taken() == [1, 2]


async def test_a_lost_answer_to_commit_is_unknown_to_all_of_the_batch(
    till: Till, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def lost(*_: Any) -> Any:
        raise Unknown

    monkeypatch.setattr(till.database, "run", lost)
    results = await asyncio.gather(*(till.desk.submit(number) for number in (1, 2)), return_exceptions=True)
    assert [type(result) for result in results] == [Unknown, Unknown]


async def test_who_comes_when_too_many_wait_is_told_at_once(till: Till, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(groupcommit, "QUEUE", 5)
    results = await asyncio.gather(*(till.desk.submit(number) for number in range(8)), return_exceptions=True)
    assert [type(result) for result in results] == [int] * 5 + [Busy] * 3
    assert await till.desk.submit(9) == 90  # and nobody is left waiting afterwards


async def test_who_hangs_up_before_the_decision_has_nothing_done(till: Till) -> None:
    first = asyncio.create_task(till.desk.submit(1))
    second = asyncio.create_task(till.desk.submit(2))
    await asyncio.sleep(0)  # both are in the queue, nothing is decided
    second.cancel()
    assert await first == 10
    assert await till.taken() == [1]


async def test_nobody_is_left_waiting_however_they_come(till: Till) -> None:
    """A wake-up lost between the last look and the end of the drain would leave somebody waiting for ever."""

    async def client(number: int) -> int:
        total = 0
        for turn in range(20):
            await asyncio.sleep(0)
            total += await till.desk.submit(number * 100 + turn)
        return total

    async with asyncio.timeout(60):
        await asyncio.gather(*(client(number) for number in range(1, 11)))
    assert len(await till.taken()) == 200


class Shelf(Till):
    """Each number is written under the lock of its row of tens, as a seat is under that of its offering."""

    async def commit(self, conn: Connection, numbers: Sequence[int]) -> list[int | Exception]:
        self.batches.append(list(numbers))
        tens = sorted({number // 10 for number in numbers})
        await conn.fetch("SELECT FROM shelf WHERE ten = ANY ($1::int[]) ORDER BY ten FOR UPDATE", tens)
        await conn.execute("INSERT INTO taken (number) SELECT unnest($1::int[])", numbers)
        return list(numbers)


@asynccontextmanager
async def another_holds_the_tens(till: Till) -> AsyncIterator[None]:
    """The row of ten to nineteen is locked by somebody else."""
    async with till.database.reading() as conn:
        await conn.execute("CREATE TABLE shelf AS SELECT generate_series(0, 9) AS ten")
    async with till.database.reading() as other, other.transaction():
        await other.execute("SELECT FROM shelf WHERE ten = 1 FOR UPDATE")
        yield


async def test_who_waits_for_a_lock_that_another_holds_keeps_nobody_else_waiting(till: Till) -> None:
    shelf = Shelf(till.database)
    async with another_holds_the_tens(till):
        waiting = [asyncio.create_task(shelf.desk.submit(number)) for number in (10, 11, 12)]
        for number in range(20, 60):
            assert await shelf.desk.submit(number) == number
        assert not any(one.done() for one in waiting), "they have given up, and made room"
    assert await asyncio.gather(*waiting) == [10, 11, 12]
    assert [number for number in await till.taken() if number < 20] == [10, 11, 12]


async def test_who_waits_too_long_for_a_lock_is_told_to_come_again(till: Till) -> None:
    shelf = Shelf(till.database)
    async with another_holds_the_tens(till):
        told = await asyncio.gather(*(shelf.desk.submit(number) for number in (10, 20, 11)), return_exceptions=True)
        assert [type(one) for one in told] == [Busy, int, Busy]
    assert await till.taken() == [20]
    assert await shelf.desk.submit(12) == 12


class InTens(int):
    """A number that says which row it needs."""

    @property
    def lock(self) -> int:
        return self // 10


async def test_who_waits_for_one_lock_does_not_wait_for_another_too(till: Till) -> None:
    shelf = Shelf(till.database)
    async with another_holds_the_tens(till):
        async with till.database.reading() as third, third.transaction():
            await third.execute("SELECT FROM shelf WHERE ten = 3 FOR UPDATE")
            held, freed = [asyncio.create_task(shelf.desk.submit(InTens(number))) for number in (10, 30)]
            for number in (20, 21):  # the second comes when both have been put off
                assert await shelf.desk.submit(InTens(number)) == number
        assert await freed == 30
        assert not held.done(), "30 has had to wait till 10 had given up"
    assert await held == 10


WAIT_FOR_LOCKS = """
SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'
"""


async def test_others_go_on_while_as_many_as_may_wait_for_locks(till: Till) -> None:
    shelf = Shelf(till.database)

    async def all_wait() -> bool:
        async with till.database.reading() as conn:
            found = await conn.fetchval(WAIT_FOR_LOCKS)
            return bool(found == groupcommit.PATIENT)

    async with another_holds_the_tens(till), till.database.reading() as third, third.transaction():
        await third.execute("SELECT FROM shelf WHERE ten = 3 FOR UPDATE")
        late = [asyncio.create_task(shelf.desk.submit(InTens(number))) for number in (10, 30)]
        await until(all_wait, 5)
        assert await shelf.desk.submit(InTens(20)) == 20
        assert not any(one.done() for one in late), "it was answered when they were"
    assert await asyncio.gather(*late) == [10, 30]


class Freed(Shelf):
    """The tens come free when a third has been tried alone: whoever comes then could have them at once."""

    def __init__(self, database: Database) -> None:
        super().__init__(database)
        self.tried, self.free = asyncio.Event(), asyncio.Event()

    async def commit(self, conn: Connection, numbers: Sequence[int]) -> list[int | Exception]:
        if len(self.batches) == 3:
            self.tried.set()
            await self.free.wait()
        return await super().commit(conn, numbers)


async def test_who_came_first_to_a_lock_is_not_passed_by_who_came_after(till: Till) -> None:
    shelf = Freed(till.database)
    async with another_holds_the_tens(till):
        came = [asyncio.create_task(shelf.desk.submit(InTens(number))) for number in (10, 20, 11, 12, 21, 13)]
        await shelf.tried.wait()
        came += [asyncio.create_task(shelf.desk.submit(InTens(number))) for number in (14, 15)]
    shelf.free.set()
    await asyncio.gather(*came)
    assert [number for number in await till.taken() if number < 20] == [10, 11, 12, 13, 14, 15]


async def test_a_crowd_at_one_lock_is_tried_once_and_keeps_nobody_else_waiting(till: Till) -> None:
    """Each try takes the time that a lock is waited for, and all others wait for it."""
    shelf = Shelf(till.database)

    def tries() -> int:
        return sum(len(batch) == 1 and batch[0] < 20 for batch in shelf.batches)

    async with another_holds_the_tens(till):
        crowd = [asyncio.create_task(shelf.desk.submit(InTens(10 + n % 10))) for n in range(200)]
        await asyncio.sleep(0)  # they are in front
        assert await shelf.desk.submit(InTens(20)) == 20
        assert tries() == 1
        crowd += [asyncio.create_task(shelf.desk.submit(InTens(10))) for _ in range(200)]
        await asyncio.sleep(0)
        assert await shelf.desk.submit(InTens(30)) == 30
        assert tries() == 1, "who comes to it now waits behind them"
    assert len(await asyncio.gather(*crowd)) == 400
