"""How a service reaches its PostgreSQL: a pool per purpose, time limits everywhere, whole transactions retried."""

import asyncio
import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, Any, TypeVar

import asyncpg
from asyncpg.pool import PoolConnectionProxy

from kit import tracing
from kit.settings import Settings

if TYPE_CHECKING:
    type_of_pool = asyncpg.Pool[asyncpg.Record]
    Connection = asyncpg.Connection[asyncpg.Record] | PoolConnectionProxy[asyncpg.Record]
else:
    type_of_pool = asyncpg.Pool
    Connection = asyncpg.Connection | PoolConnectionProxy

T = TypeVar("T")

# One purpose cannot starve another: a rush of web requests leaves the relay and the consumers their own connections.
POOLS: Mapping[str, int] = {"web": 8, "together": 4, "consumer": 3, "relay": 2, "worker": 2}
# Where requests are committed together: one transaction for all that can go on, beside those that wait for locks, of
# which kit.groupcommit has two.
DESK: Mapping[str, int] = {"desk": 3}

IDLE_S = 60.0  # a connection that nobody needs for so long is closed
ACQUIRE_S = 2.0  # a request that finds no free connection for so long is better told "busy" than left waiting
COMMAND_S = 5.0  # longer than the server's own limit, so that the server's clear error comes first
CLOSE_S = 2.0  # who was asked to stop has finished what is in hand by then
TRIES = 6
TRYING_S = 2.0  # a database restart takes about 2 s; a person waits that long, not longer

SERVER_SETTINGS = {
    "statement_timeout": "4s",
    "lock_timeout": "2s",
    "idle_in_transaction_session_timeout": "10s",  # a stopped process must not hold its row locks for ever
    "tcp_keepalives_idle": "10",
    "tcp_keepalives_interval": "5",
    "tcp_keepalives_count": "3",
    "random_page_cost": "1.1",  # memory and solid disks: else a new table, not yet counted, is read from end to end
    "jit": "off",  # short statements: compiling costs more than it saves
}

# What runs by itself, and what is looked up for many at once, asks the same few things for ever: with a plan of its own
# for each asking, taking eight notices in hand took 8 ms, and 3 with a kept one; and a page that is looked up with
# others took PostgreSQL 0.45 ms, and 0.15. Else what people ask is of many kinds, and PostgreSQL goes on choosing.
# Such a plan may be made while a table is all but empty, and is kept while a rush fills it: so a table is never read
# from end to end where there is an index to look in.
KEPT_PLANS = {"plan_cache_mode": "force_generic_plan", "enable_seqscan": "off"}
THE_SAME = ("together", "consumer", "relay", "worker")
# All who ask are behind the one that waits, so that it is soon told to wait beside them: see kit.groupcommit.
SOON = {"lock_timeout": "200ms"}
# The relay alone does not wait until its marks are on the disk: one that is lost with the server's memory means that an
# event is published again, which every listener knows how to take. Whatever an event or a mail rests on is waited for.
UNWAITED = {"synchronous_commit": "off"}

# The database cannot be reached or is not ready. Nothing about the work itself is wrong.
AWAY = (
    OSError,
    asyncpg.PostgresConnectionError,
    asyncpg.CannotConnectNowError,
    asyncpg.AdminShutdownError,
    asyncpg.CrashShutdownError,
    asyncpg.TooManyConnectionsError,
    asyncpg.IdleInTransactionSessionTimeoutError,
)
# It answers, and has no room for anybody's writing, or is another's copy for the moment. As when it is away, but for
# COMMIT: there the server has said no, and nothing was done.
UNWRITABLE = (asyncpg.DiskFullError, asyncpg.ReadOnlySQLTransactionError)
_DEAD = ("connection is closed", "connection was closed", "pool is clos", "released back to the pool")
# Two transactions were in each other's way, or a table has another column since its statement was prepared, as while a
# newer version migrates: the same work will go through the next time.
COLLIDED = (asyncpg.SerializationError, asyncpg.DeadlockDetectedError, asyncpg.InvalidCachedStatementError)


class Busy(Exception):
    """The database has no connection to give at the moment. Nothing was done: ask again in a second."""

    retry_after_s = 1


class Unknown(Exception):
    """The connection was lost while committing: the change was made whole or not at all: ask with the same key."""


# It has too much to do just now, or our limits ended a statement that waited for another's lock. Nothing was done.
BUSY = (Busy, asyncpg.QueryCanceledError, asyncpg.LockNotAvailableError)


def is_away(error: BaseException) -> bool:
    """Whether the database was out of reach, or cannot be written to, rather than the work being wrong."""
    # The last: asyncpg has lost count of its own protocol.
    if isinstance(error, (Busy, *AWAY, *UNWRITABLE, asyncpg.InternalClientError)):
        return True
    # asyncpg reports a connection that died under it as an interface error with these words.
    return isinstance(error, asyncpg.InterfaceError) and any(words in str(error) for words in _DEAD)


class Database:
    """The pools of one service, opened at start and closed at the end."""

    def __init__(self, settings: Settings, pools: Mapping[str, int] = POOLS) -> None:
        self._settings = settings
        self._sizes = pools
        self._pools: dict[str, _Pool] = {}
        self.committed = asyncio.Event()  # set after each commit of ours: the relay looks at once, not at its next poll

    async def open(self) -> None:
        for purpose, size in self._sizes.items():
            made = await asyncpg.create_pool(
                **arguments(self._settings, purpose),
                min_size=1,
                max_size=size,
                init=tracing.watch,
                max_inactive_connection_lifetime=IDLE_S,
                reset=_keep,  # we change no session state, so the usual round trip on release buys nothing
            )
            self._pools[purpose] = _Pool(made, purpose, size)

    async def close(self) -> None:
        await asyncio.gather(*(pool.close() for pool in self._pools.values()))
        self._pools.clear()

    @asynccontextmanager
    async def reading(self, purpose: str = "web") -> AsyncIterator[Connection]:
        """A connection without a transaction, for single statements. Raises Busy when none is free within 2 s."""
        pool = self._pools[purpose]
        connection = await pool.take()
        try:
            yield connection
        except BaseException as error:
            if isinstance(error, asyncpg.InternalClientError):  # nobody knows what it is in the middle of
                _throw_away(connection)  # it would fail the next one, too
            await pool.give_back(connection)
            raise
        await pool.lay_by(connection)

    async def run(self, work: Callable[[Connection], Awaitable[T]], purpose: str = "web") -> T:
        """Do `work` in one transaction and return what it returned.

        The whole transaction is tried again, at most 6 times in 2 s, when the connection was lost before COMMIT or
        two transactions collided: `work` must do nothing outside its connection. Raises Busy when the database stays
        away, Unknown when the answer to COMMIT was lost, and whatever `work` raises, with nothing done.
        """
        deadline = time.monotonic() + TRYING_S
        for attempt in range(1, TRIES + 1):
            try:
                result = await self._once(work, purpose)
            except Unknown:
                raise
            except TimeoutError as error:  # a statement took longer than COMMAND_S: trying again would take as long
                raise Busy("the database is too slow at the moment") from error
            except Exception as error:
                if not (isinstance(error, COLLIDED) or is_away(error)):
                    raise
                pause = min(0.05 * 2 ** (attempt - 1), 0.5) * random.uniform(0.5, 1.5)  # noqa: S311 - jitter, no secret
                if attempt == TRIES or time.monotonic() + pause > deadline:
                    raise Busy(f"gave up after {attempt} tries: {type(error).__name__}") from error
                await asyncio.sleep(pause)
            else:
                self.committed.set()
                return result
        raise AssertionError("unreachable")

    async def _once(self, work: Callable[[Connection], Awaitable[T]], purpose: str) -> T:
        async with self.reading(purpose) as connection:
            transaction = connection.transaction()
            await transaction.start()
            try:
                result = await work(connection)
            except BaseException:
                await _roll_back(connection, transaction)
                raise
            try:
                await transaction.commit()
            except asyncpg.PostgresError as error:
                if isinstance(error, AWAY):
                    raise Unknown from error
                raise  # the server said no: nothing was done
            except (
                OSError,
                asyncpg.InterfaceError,
                asyncpg.InternalClientError,
            ) as error:  # time-outs too
                raise Unknown from error
            return result


class _Pool:
    """The connections for one purpose: each is given to whoever has waited longest.

    asyncpg gives one that comes back to whoever asks next, before those who wait: with 32 at a time the slowest in a
    hundred waited four times as long as all did on average. And its way back takes as long as a short statement, so
    those that come back in order lie here, and go there when they have lain for a minute: it closes them.
    """

    def __init__(self, pool: type_of_pool, purpose: str, size: int) -> None:
        self._pool = pool
        self._purpose = purpose
        self._turn = asyncio.Semaphore(size)
        self._lying: list[Any] = []  # the one that came back last is at the end, and is the next to go
        self._unneeded = 0  # so many have lain here all the time since the last look
        self._looking = asyncio.create_task(self._look())

    async def take(self) -> Any:
        """A connection, in the order in which they were asked for. Raises Busy when none is free within 2 s."""
        try:
            if self._lying and not self._turn.locked():
                return await self._next()
            async with asyncio.timeout(ACQUIRE_S):
                return await self._next()
        except (TimeoutError, asyncpg.PostgresError, *AWAY) as error:  # whatever it says: nothing was asked of it yet
            raise Busy(f"no {self._purpose} connection: {type(error).__name__}") from error

    async def _next(self) -> Any:
        await self._turn.acquire()
        try:
            while self._lying:
                connection = self._lying.pop()
                self._unneeded = min(self._unneeded, len(self._lying))
                if not _is_lost(connection):
                    return connection
                await self._back(connection)
            return await self._pool.acquire()
        except BaseException:
            self._turn.release()
            raise

    async def lay_by(self, connection: Any) -> None:
        """Keep one that nothing went wrong with for the next."""
        if _is_lost(connection) or connection.is_in_transaction():
            await self.give_back(connection)
        else:
            self._lying.append(connection)
            self._turn.release()

    async def give_back(self, connection: Any) -> None:
        """Return one of which it is not known in what state it is."""
        try:
            await self._back(connection)
        finally:
            self._turn.release()

    async def _back(self, connection: Any) -> None:
        """To asyncpg; one that does not answer is thrown away, so that its slot is never lost."""
        try:
            await self._pool.release(connection, timeout=ACQUIRE_S)
        except Exception:
            _throw_away(connection)

    async def _look(self) -> None:
        while True:
            self._unneeded = len(self._lying)
            await asyncio.sleep(IDLE_S)
            unneeded, self._lying = self._lying[: self._unneeded], self._lying[self._unneeded :]
            for connection in unneeded:
                await self._back(connection)

    async def close(self) -> None:
        """Within some seconds, whatever its connections wait for."""
        self._looking.cancel()
        try:
            async with asyncio.timeout(CLOSE_S):
                while self._lying:
                    await self._back(self._lying.pop())
                await self._pool.close()
        except TimeoutError:
            self._pool.terminate()


async def _roll_back(connection: Connection, transaction: Any) -> None:
    try:
        await transaction.rollback()
    except Exception:  # the first error is the one to tell; a connection in this state is of no use to anyone
        _throw_away(connection)


def _throw_away(connection: Any) -> None:
    with suppress(asyncpg.InterfaceError):  # it was lost, and the pool has its slot back already
        connection.terminate()


def _is_lost(connection: Any) -> bool:
    try:
        return bool(connection.is_closed())
    except asyncpg.InterfaceError:  # the pool has its slot back already
        return True


async def _keep(connection: Connection) -> None:
    return None


def arguments(settings: Settings, purpose: str) -> dict[str, Any]:
    """What asyncpg needs to connect for one purpose; the application name shows it in pg_stat_activity."""
    server_settings = {**SERVER_SETTINGS, "application_name": f"{settings.database_user}/{purpose}"}
    if purpose in THE_SAME:
        server_settings |= KEPT_PLANS
    if purpose == "desk":
        server_settings |= SOON
    if purpose == "relay":
        server_settings |= UNWAITED
    if settings.test_clock_offset:
        server_settings["kursnett.clock_offset"] = f"{settings.test_clock_offset.total_seconds()} seconds"
    return {
        "host": settings.database_host,
        "port": settings.database_port,
        "database": settings.database_name,
        "user": settings.database_user,
        "password": settings.database_password.get_secret_value(),
        "timeout": ACQUIRE_S,
        "command_timeout": COMMAND_S,
        "server_settings": server_settings,
    }


async def connect(settings: Settings, purpose: str) -> Connection:
    """One connection outside the pools, without statement limits: for migrations and operators' commands."""
    wanted = arguments(settings, purpose)
    for limit in ("statement_timeout", "lock_timeout", "idle_in_transaction_session_timeout"):
        wanted["server_settings"].pop(limit)
    connection: Connection = await asyncpg.connect(**{**wanted, "command_timeout": 600})
    return connection
