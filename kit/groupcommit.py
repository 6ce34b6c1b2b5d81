"""Commits the requests of one process together: while one batch commits, the next gathers. Order of arrival is kept."""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, TypeVar

from kit import logs
from kit.database import Busy, Connection, Database, Unknown, is_away

log = logs.get(__name__)

C = TypeVar("C")
R = TypeVar("R")

MOST = 512  # commands in one transaction: a lock is held some 20 ms for them
QUEUE = 4_096  # more than can be answered in about a second; who comes then is told at once to come again

Commit = Callable[[Connection, Sequence[C]], Awaitable[Sequence[R | Exception]]]


class GroupCommit(Generic[C, R]):
    """One lane of commands. `commit` decides a batch in one transaction and gives each command's result or its error.

    With one command waiting there is no added delay: it is a batch of one. `gather_s`: how long a batch gathers after
    the one before it, where nobody waits for the answers.
    """

    def __init__(self, database: Database, commit: Commit[C, R], purpose: str = "web", gather_s: float = 0.0) -> None:
        self._database = database
        self._commit = commit
        self._purpose = purpose
        self._gather_s = gather_s
        self._waiting: deque[tuple[C, asyncio.Future[R]]] = deque()
        self._task: asyncio.Task[None] | None = None

    async def submit(self, command: C) -> R:
        """The command's result, once its transaction is committed.

        Raises the error that `commit` gave for it; Busy when too many wait or the database is away; Unknown when the
        answer to COMMIT was lost: it was done whole or not at all, and its idempotency key tells.
        """
        if len(self._waiting) >= QUEUE:
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
                batch = [self._waiting.popleft() for _ in range(min(MOST, len(self._waiting)))]
                batch = [(command, future) for command, future in batch if not future.done()]  # who has hung up
                await self._decide(batch)
                if self._gather_s:
                    await asyncio.sleep(self._gather_s)
        finally:
            # Between the loop's last look and this line there is no await, so nobody can be left waiting unseen.
            self._task = None

    async def _decide(self, batch: Sequence[tuple[C, asyncio.Future[R]]]) -> None:
        try:
            results = await self._together([command for command, _ in batch])
        except Exception as error:
            if len(batch) == 1 or isinstance(error, Unknown) or is_away(error):
                results = [error] * len(batch)
            else:  # one of them is poison: it costs the others a transaction of their own, and itself the answer
                log.warning("batch_decided_one_by_one", count=len(batch), exc_info=error)
                for one in batch:
                    await self._decide([one])
                return
        for (_, future), result in zip(batch, results, strict=True):
            if future.done():
                continue
            if isinstance(result, Exception):
                future.set_exception(result)
            else:
                future.set_result(result)

    async def _together(self, commands: Sequence[C]) -> Sequence[R | Exception]:
        return await self._database.run(lambda conn: self._commit(conn, commands), self._purpose)


class GroupRead(GroupCommit[C, R]):
    """The same for what only reads: `commit` is given a connection without a transaction.

    It begins after each of its batch was asked, so that each is answered by what was committed before.
    """

    async def _together(self, commands: Sequence[C]) -> Sequence[R | Exception]:
        async with self._database.reading(self._purpose) as conn:
            return await self._commit(conn, commands)
