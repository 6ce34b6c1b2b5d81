"""What becomes of a batch of records: its events' effects in one transaction, or in halves down to what will not do."""

import asyncio
import random
import time
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import TypeVar

import asyncpg

from kit import inbox, logs, parking, strangers, switch
from kit.database import COLLIDED, Connection, Unknown, is_away
from kit.listeners import Listeners, Received, Refused
from kit.parking import Record
from kit.running import Running

T = TypeVar("T")

log = logs.get(__name__)

ATTEMPTS = 3
BACKOFF_S = (0.1, 0.5)  # between attempts at one record, with jitter
ONE_S = 10.0  # how long a transaction may take; far below the poll interval, so that it never costs a rebalance
WHOLE = 1_000_000  # records: more than any batch has
TRANSIENT_S = 60.0  # how long locks and time-outs are waited out before a record counts as failed
WINDOW = 100  # of so many records of our own topics …
MOST_PARKED = 50  # … so many may be parked before the consumer stops: a bad deploy must not park everything
# What is let go waits for nobody: behind one whose lock is held for long there may be those of others.
IMPATIENTLY = "SET LOCAL lock_timeout = '100ms'"

TRANSIENT = (asyncpg.LockNotAvailableError, asyncpg.QueryCanceledError, Unknown, *COLLIDED)


@dataclass(slots=True)
class Tally:
    """What one transaction has come to, in records. It is counted and told once, when it is committed."""

    done: int = 0
    repeat: int = 0
    held: int = 0
    gaps: int = 0
    parked: list[tuple[Record, str]] = field(default_factory=list)  # each with its reason


class Effects:
    """The writing side of one consumer. `foreign`: strangers speak here, so what is malformed holds nobody back."""

    def __init__(self, group: str, running: Running, listeners: Listeners, foreign: bool) -> None:
        self._group = group
        self._running = running
        self._listeners = listeners
        self._foreign = foreign
        self._outcomes: deque[bool] = deque(maxlen=WINDOW)  # True: parked
        self._may_repeat = True  # what comes: at the start, and while what came last had been heard before
        self._most = WHOLE  # records in one transaction
        self.paused = ""  # why no record is to be begun; empty: none is held up
        self.waited = float("-inf")  # when it last waited for the database or ended a record: no reason to restart
        self.waiting_for_database = False

    async def take(self, records: Sequence[Record]) -> bool:
        """Give every record its effect or park it. False when the process is stopping or was paused meanwhile."""
        at = 0
        while at < len(records):
            part = records[at : at + self._most]
            try:
                await self._together(part)
                at += len(part)
                if len(part) == self._most:
                    self._most = min(2 * self._most, WHOLE)
            except asyncio.CancelledError:
                raise
            except Exception as error:
                self.waited = time.monotonic()  # slow is not stuck: a restart would begin the whole batch again
                if self._is_to_stop:
                    return False
                if len(part) > 1:
                    log.info("batch_taken_apart", consumer=self._group, count=len(part), error=type(error).__name__)
                    # Half as many, so that a bad record costs the others some twenty transactions. And a slow database
                    # need not refuse as many again and again: it is remembered what it took last.
                    self._most = len(part) // 2
                elif await self._one(part[0]):
                    at += 1
                else:
                    return False
            self.waited = time.monotonic()
            if at < len(records) and self._is_to_stop:
                return False
        return True

    @property
    def _is_to_stop(self) -> bool:
        return bool(self.paused) or self._running.stopping.is_set()

    async def _one(self, record: Record) -> bool:
        """One record, tried at most 3 times, then parked. False when it is to wait: stopping, or paused."""
        attempt, began = 0, time.monotonic()
        while True:
            try:
                await self._together([record])
                return True
            except Refused as error:
                return await self._park(record, error.reason, error.detail)
            except Exception as error:
                if is_away(error) and not isinstance(error, TimeoutError):
                    if not await self._wait_for_database(error) or self.paused:
                        return False
                    continue
                if isinstance(error, TRANSIENT) and time.monotonic() - began < TRANSIENT_S:
                    self.waited = time.monotonic()
                    if not await self._running.pause(0.2) or self.paused:
                        return False
                    continue
                attempt += 1
                place = {"topic": record.topic, "partition": record.partition, "offset": record.offset}
                log.warning("record_failed", consumer=self._group, attempt=attempt, exc_info=error, **place)
                if attempt == ATTEMPTS:
                    return await self._park(record, "failed", f"{type(error).__name__} after {ATTEMPTS} attempts")
                self._running.metrics.consumer_retries.labels(self._group).inc()
                if not await self._running.pause(BACKOFF_S[attempt - 1] * random.uniform(0.5, 1.5)):  # noqa: S311
                    return False

    async def _together(self, records: Sequence[Record]) -> None:
        """Their effects in one transaction: twice at most, as a repeat among what was thought to be new undoes all."""

        async def work(conn: Connection) -> Tally:
            tally = Tally()
            await self._effects(conn, records, tally)
            return tally

        async with asyncio.timeout(ONE_S):
            try:
                tally = await self._running.database.run(work, "consumer")
            except asyncpg.UniqueViolationError as error:
                if error.constraint_name != inbox.ONCE:
                    raise
                self._may_repeat = True
                tally = await self._running.database.run(work, "consumer")
        self._count(tally)

    def _count(self, tally: Tally) -> None:
        self._outcomes.extend([False] * tally.done)
        count = self._running.metrics.consumer_events
        for name in ("done", "repeat", "held"):
            count.labels(self._group, name).inc(getattr(tally, name))
        count.labels(self._group, "parked").inc(len(tally.parked))
        for record, reason in tally.parked:
            place = {"topic": record.topic, "partition": record.partition, "offset": record.offset}
            log.warning("record_parked", consumer=self._group, reason=reason, **place)
        if tally.gaps:
            log.warning("numbers_missing", consumer=self._group, count=tally.gaps)

    async def _effects(self, conn: Connection, records: Sequence[Record], tally: Tally) -> None:
        """The whole batch in the caller's transaction: held keys, inbox, listeners. Raises Refused for a bad record.

        What a stranger sends wrong is refused here at once, so that it does not cost the others their batch.
        """
        if self._foreign:
            await self._of_strangers(conn, records, tally)
            return
        received: list[Received] = []
        refused: list[tuple[Record, Refused]] = []
        for record in records:
            try:
                received.append(self._listeners.read(record))
            except Refused as reason:
                refused.append((record, reason))
        if not refused and await self._hear(conn, received, tally):
            return
        held = await parking.held_keys(conn, self._group, records)
        for record in records:
            if record.held_by(held):
                await self._hold(conn, record)
                tally.held += 1
        for record, error in refused:
            if not record.held_by(held):
                raise error
        waits_for_none = [one for one in received if not one.record.held_by(held)]
        await self._hear(conn, waits_for_none, tally, whatever_is_held=True)

    async def _of_strangers(self, conn: Connection, records: Sequence[Record], tally: Tally) -> None:
        async def refuse(conn: Connection, record: Record, error: Refused) -> bool:
            tally.parked.append((record, error.reason))
            return await self._keep(conn, record, "refused", error.reason, error.detail)

        listeners, settings = self._listeners, self._running.settings
        found = await strangers.effects(conn, self._group, listeners, listeners.gate, settings, records, refuse)
        tally.done, tally.repeat, tally.held = found.done, found.repeat, len(found.waiting)

    async def _hear(
        self, conn: Connection, received: Sequence[Received], tally: Tally, whatever_is_held: bool = False
    ) -> bool:
        """Note the events as heard and tell the listeners. False, and nothing is done, when a key is held back."""
        if not received:
            return True
        all_new = not (whatever_is_held or self._may_repeat)
        heard = await inbox.hear(conn, self._group, received, whatever_is_held, all_new)
        if heard.held:
            return False
        self._may_repeat = len(heard.fresh) < len(received)
        if heard.reused:
            raise Refused(*strangers.REUSED)
        fresh = [received[place] for place in heard.fresh]
        await self._listeners.tell(conn, fresh)
        tally.done, tally.repeat, tally.gaps = len(fresh), len(received) - len(fresh), heard.gaps
        return True

    async def _hold(self, conn: Connection, record: Record) -> None:
        event_id, kind = self._named(record)
        detail = "waits behind a parked record with the same key"
        waiting = parking.Waiting(record, event_id, kind, parking.HELD, detail)
        await parking.hold(conn, self._group, [waiting])

    async def _park(self, record: Record, reason: str, detail: str) -> bool:
        """Park one record; waits for the database as long as it takes. False when the process is stopping."""
        state = "refused" if self._foreign and reason != "failed" else "parked"

        async def keep(conn: Connection) -> bool:
            return await self._keep(conn, record, state, reason, detail)

        new = await self._patiently(keep)
        if new is None:
            return False
        self._count(Tally(parked=[(record, reason)]))
        if state == "parked" and new:  # what was parked before and is read again says nothing of this deploy
            self._outcomes.append(True)
            if sum(self._outcomes) >= MOST_PARKED:
                self._outcomes.clear()
                await self._stop(f"{MOST_PARKED} of the last {WINDOW} records were parked")
        return True

    async def _stop(self, reason: str) -> None:
        self.paused = reason
        await self._patiently(lambda conn: switch.pause(conn, self._group, reason))
        self.paused = reason  # while it was not written, the switch said something else
        log.error("consumer_paused", consumer=self._group, because=reason)

    async def _patiently(self, work: Callable[[Connection], Awaitable[T]]) -> T | None:
        """What the work gives, however long the database is away; none when the process is stopping."""
        while True:
            try:
                return await self._running.database.run(work, "consumer")
            except Exception as error:
                if not await self._wait_for_database(error):
                    return None

    async def _keep(self, conn: Connection, record: Record, state: str, reason: str, detail: str) -> bool:
        event_id, kind = self._named(record)
        return await parking.park(
            conn,
            self._running.name,
            self._group,
            record,
            state=state,
            reason=reason,
            detail=detail,
            event_id=event_id,
            type=kind,
        )

    def _named(self, record: Record) -> tuple[str | None, str | None]:
        try:
            received = self._listeners.read(record)
        except Refused as error:
            return error.event_id, error.type
        return received.event_id, received.envelope.type

    async def redrive(self, within_s: float) -> bool:
        """Run what operators have let go, and what nothing holds back any more, each in a transaction of its own.

        True when there may be more after so many seconds: whoever calls sees to the switch meanwhile.
        """
        failed: list[int] = []
        ends = time.monotonic() + within_s
        while not self._running.stopping.is_set() and not self.paused:
            if time.monotonic() > ends:
                return True
            found: list[int] = []

            async def again(conn: Connection, found: list[int] = found) -> Tally:
                tally = Tally()
                gate = self._listeners.gate
                closed = await gate.closed(conn) if gate else []
                released = await parking.next_released(conn, self._group, failed, closed)
                if released is None:
                    return tally
                parked_id, said_at_latest, record = released
                if gate and record.topic in await gate.closed(conn):
                    return tally  # it was kept after the first look, for just that
                found.append(parked_id)
                await conn.execute(IMPATIENTLY)
                try:
                    async with conn.transaction():
                        one = replace(self._listeners.read(record), said_at_latest=said_at_latest)
                        await self._hear(conn, [one], tally, whatever_is_held=True)
                except asyncpg.LockNotAvailableError:  # the next look tries it again
                    failed.append(parked_id)
                except Exception as error:
                    if is_away(error) or isinstance(error, TRANSIENT):
                        raise
                    reason = error.reason if isinstance(error, Refused) else "failed"
                    detail = error.detail if isinstance(error, Refused) else f"{type(error).__name__} when run again"
                    state = "refused" if self._foreign and isinstance(error, Refused) else "parked"
                    failed.append(parked_id)
                    await parking.park_again(conn, parked_id, state, reason, detail)
                else:
                    await parking.close(conn, parked_id)
                return tally

            try:
                self._count(await self._running.database.run(again, "consumer"))
            except Exception as error:
                if not found:
                    raise
                failed.extend(found)  # whatever held it up: it is tried again the next time, and the others run now
                log.info("redrive_put_off", consumer=self._group, error=type(error).__name__)
                continue
            if not found:
                break
        return False

    async def _wait_for_database(self, error: Exception) -> bool:
        if not self.waiting_for_database:
            log.warning("waiting_for_database", consumer=self._group, error=type(error).__name__)
        self.waiting_for_database = True
        try:
            return await self._running.pause(0.5)
        finally:
            self.waiting_for_database = False
            self.waited = time.monotonic()
