"""Commits the requests of one process together: while one batch commits, the next gathers. Order of arrival is kept."""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, TypeVar

import asyncpg

from kit import logs
from kit.database import Busy, Connection, Database, Unknown, is_away

log = logs.get(__name__)

C = TypeVar("C")
R = TypeVar("R")

MOST = 512  # commands in one transaction: a lock is held some 20 ms for them
QUEUE = 4_096  # more than can be answered in about a second; who comes then is told at once to come again

AT_ONCE, PATIENTLY = "10ms", "2s"  # how long a lock is waited for among others, and beside them
PATIENT = 2  # connections that wait so, however many locks are held; kit.database.DESK has them, and one for the lane

Commit = Callable[[Connection, Sequence[C]], Awaitable[Sequence[R | Exception]]]


class GroupCommit(Generic[C, R]):
    """One lane of commands. `commit` decides a batch in one transaction and gives each command's result or its error.

    With one command waiting there is no added delay: it is a batch of one. `gather_s`: how long a batch gathers after
    the one before it, where nobody waits for the answers.

    A command that needs a lock which somebody else holds leaves the lane: it waits for it beside the others, together
    with those that come to the same lock after it. Which lock that is, a command says as its `lock`; one that does not
    know it is tried by itself.
    """

    def __init__(self, database: Database, commit: Commit[C, R], purpose: str = "web", gather_s: float = 0.0) -> None:
        self._database = database
        self._commit = commit
        self._purpose = purpose
        self._gather_s = gather_s
        self._waiting: deque[tuple[C, asyncio.Future[R]]] = deque()
        self._task: asyncio.Task[None] | None = None
        self._locked: dict[object, deque[tuple[C, asyncio.Future[R]]]] = {}  # lock -> who waits for it, in their order
        self._patient: set[asyncio.Task[None]] = set()
        self._connections = asyncio.Semaphore(PATIENT)

    async def submit(self, command: C) -> R:
        """The command's result, once its transaction is committed.

        Raises the error that `commit` gave for it; Busy when too many wait, a lock stays held or the database is away;
        Unknown when the answer to COMMIT was lost: it was done whole or not at all, and its idempotency key tells.
        """
        if len(self._waiting) + sum(map(len, self._locked.values())) >= QUEUE:
            raise Busy("too many requests wait")
        # No await from here to the queue: in one process, order of arrival is order of decision.
        future: asyncio.Future[R] = asyncio.get_running_loop().create_future()
        self._waiting.append((command, future))
        if self._task is None:
            self._task = asyncio.create_task(self._drain())
        return await future

    async def _drain(self) -> None:
        await asyncio.sleep(0)  # what came in this same turn of the loop shares the first transaction
        try:
            while self._waiting:
                batch = self._not_behind(_next(self._waiting))
                if batch:
                    for late in await self._decide(batch, AT_ONCE if self._locked else None):
                        self._wait(late)
                if self._gather_s:
                    await asyncio.sleep(self._gather_s)
        finally:
            # Between the loop's last look and this line there is no await, so nobody can be left waiting unseen.
            self._task = None

    def _not_behind(self, batch: list[tuple[C, asyncio.Future[R]]]) -> list[tuple[C, asyncio.Future[R]]]:
        """Those who may go on. Who comes to a lock that others wait for waits behind them: it may be free by now."""
        may: list[tuple[C, asyncio.Future[R]]] = []
        for one in batch:
            queue = self._locked.get(lock) if (lock := _lock(one[0])) is not None else None
            (may if queue is None else queue).append(one)
        return may

    def _wait(self, late: tuple[C, asyncio.Future[R]]) -> None:
        """Behind those who wait for its lock; who waits for one is not to wait for another too."""
        lock = _lock(late[0])
        if lock not in self._locked:
            self._locked[lock] = deque()
            task = asyncio.create_task(self._wait_for(lock))
            self._patient.add(task)
            task.add_done_callback(self._patient.discard)
        self._locked[lock].append(late)

    async def _wait_for(self, lock: object) -> None:
        queue = self._locked[lock]
        try:
            while queue:
                async with self._connections:
                    late = await self._decide(_next(queue), PATIENTLY)
                for _, future in late:
                    if not future.done():
                        future.set_exception(Busy("a lock stays held"))
        finally:
            del self._locked[lock]  # as above: no await since the last look

    async def _decide(
        self, batch: Sequence[tuple[C, asyncio.Future[R]]], lock_timeout: str | None
    ) -> Sequence[tuple[C, asyncio.Future[R]]]:
        """Decide these and answer them; returns those that could not have their locks in time, which are not answered.

        `lock_timeout`: as PostgreSQL takes it; none: as long as the connection waits by itself.
        """
        try:
            results = await self._together([command for command, _ in batch], lock_timeout)
        except Exception as error:
            if len(batch) == 1 and isinstance(error, asyncpg.LockNotAvailableError):
                return batch
            if len(batch) == 1 or isinstance(error, Unknown) or is_away(error):
                results = [error] * len(batch)
            else:  # one of them is poison: it costs the others a transaction of their own, and itself the answer
                log.warning("batch_decided_one_by_one", count=len(batch), exc_info=error)
                return await self._one_by_one(batch, patiently=lock_timeout == PATIENTLY)
        for (_, future), result in zip(batch, results, strict=True):
            if future.done():
                continue
            if isinstance(result, Exception):
                future.set_exception(result)
            else:
                future.set_result(result)
        return []

    async def _one_by_one(
        self, batch: Sequence[tuple[C, asyncio.Future[R]]], patiently: bool
    ) -> Sequence[tuple[C, asyncio.Future[R]]]:
        """As `_decide`. In the lane, a lock that one has not had in time is not tried for those behind it: they would
        pass it if it came free meanwhile, and all others wait for each try. Who has waited patiently is tried anyway.
        """
        late: list[tuple[C, asyncio.Future[R]]] = []
        held: set[object] = set()
        for one in batch:
            lock = _lock(one[0])
            if lock in held or await self._decide([one], AT_ONCE):
                late.append(one)
                if lock is not None and not patiently:
                    held.add(lock)
        return late

    async def _together(self, commands: Sequence[C], lock_timeout: str | None) -> Sequence[R | Exception]:
        async def work(conn: Connection) -> Sequence[R | Exception]:
            if lock_timeout is not None:
                await conn.execute("SELECT set_config('lock_timeout', $1, true)", lock_timeout)
            return await self._commit(conn, commands)

        return await self._database.run(work, self._purpose)


def _lock(command: object) -> object:
    """Which lock a command needs, where it says so: whoever needs the same one is decided after it."""
    return getattr(command, "lock", None)


def _next(waiting: deque[tuple[C, asyncio.Future[R]]]) -> list[tuple[C, asyncio.Future[R]]]:
    """Those whose turn it is, without who has hung up."""
    batch = [waiting.popleft() for _ in range(min(MOST, len(waiting)))]
    return [(command, future) for command, future in batch if not future.done()]


class GroupRead(GroupCommit[C, R]):
    """The same for what only reads: `commit` is given a connection without a transaction.

    It begins after each of its batch was asked, so that each is answered by what was committed before.
    """

    def __init__(self, database: Database, look: Commit[C, R]) -> None:
        super().__init__(database, look, "together")

    async def _together(self, commands: Sequence[C], lock_timeout: str | None) -> Sequence[R | Exception]:
        try:
            async with self._database.reading(self._purpose) as conn:
                return await self._commit(conn, commands)
        except (TimeoutError, asyncpg.QueryCanceledError) as error:  # for all: one by one each would take as long
            raise Busy("the database is too slow at the moment") from error
