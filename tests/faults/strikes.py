"""How each kind of fault is done to a stack, and undone: one context manager for each, by its name in the schedule."""

import asyncio
import contextlib
import os
import random
import re
import signal
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Literal

import asyncpg
from aiokafka import AIOKafkaConsumer, OffsetAndMetadata
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError

from deploy.trouble import Trouble
from tests.faults.proxy import PRODUCE, Link, Spot
from tests.faults.recovery import ask
from tests.faults.schedule import Fault
from tests.faults.stack import FaultStack

ENDING_S = 30.0  # a service promises 20 s, a broker takes some 5
TRAP_S = 6.0  # so long a trap waits for something to come its way
SENT_S = 20.0  # … and one that no run may miss, behind another fault of its slot
BACK = 500  # offsets of each partition
AGAIN = 1000  # rows of an outbox
REPLAYED_S = 60
EMPTY_S = 20.0  # a group takes foreign offsets only when its members' sessions, 6 s, have run out
LOCKED = {  # what a stranger locks: a hot table of each database, and every outbox
    "catalogue": ("courses", "offerings", "outbox"),
    "enrolment": ("offerings", "places", "enrolments", "offers", "timers", "outbox"),
    "notifier": ("notices", "contacts", "outbox"),
}

_BACKEND = """
SELECT pid FROM pg_stat_activity WHERE datname = $1 AND usename = $1 AND application_name LIKE $1 || '/%'
ORDER BY state = 'active' DESC, md5(pid::text || $2) LIMIT 1
"""
_END = """
SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE pid = $1
"""
_LAST = """
SELECT min(created_at) FROM (SELECT created_at FROM outbox ORDER BY id DESC LIMIT $1) AS last
"""


@dataclass
class Strike:
    """One fault as it happens. `since`: from when recovery counts; `facts` go into the history."""

    stack: FaultStack
    fault: Fault
    since: float = 0.0
    facts: dict[str, Any] = field(default_factory=dict)

    @property
    def dice(self) -> random.Random:
        return random.Random(self.fault.seed)

    @property
    def service(self) -> str:
        return self.fault.target.partition("-")[0]

    @property
    def link(self) -> Link:
        return self.stack.links[self.fault.target]


How = Callable[[Strike], AbstractAsyncContextManager[None]]


@asynccontextmanager
async def kill(strike: Strike) -> AsyncIterator[None]:
    strike.stack.children[strike.fault.target].kill()
    yield


@asynccontextmanager
async def kill_sending(strike: Strike) -> AsyncIterator[None]:
    """kill -9 in the middle of a record on its way to a broker, which has only half of it."""
    child = strike.stack.services[strike.fault.target]
    links = _links(strike.stack, f"{strike.fault.target}-kafka")
    await _spring(strike, links, PRODUCE, "up", "request", at_once=child.kill, within_s=SENT_S)
    yield


@asynccontextmanager
async def terminate(strike: Strike) -> AsyncIterator[None]:
    """Ends in its own time, finishing what is in hand: recovery counts from when it is gone."""
    child = strike.stack.children[strike.fault.target]
    child.terminate()
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(child.gone(), ENDING_S)
    strike.since = time.monotonic()
    yield


@asynccontextmanager
async def freeze(strike: Strike) -> AsyncIterator[None]:
    child = strike.stack.children[strike.fault.target]
    child.freeze()
    try:
        yield
    finally:
        child.thaw()


@asynccontextmanager
async def isolate(strike: Strike) -> AsyncIterator[None]:
    """A broker that the others cannot follow any more, and that then dies: what only it has is gone."""
    number = strike.fault.target.removeprefix("kafka-")
    links = [link for name, link in strike.stack.links.items() if re.fullmatch(rf"kafka-\d-{number}", name)]
    for link in links:
        link.blackhole()
    try:
        yield
    finally:
        strike.since = time.monotonic()
        strike.stack.children[strike.fault.target].kill()
        for link in links:
            link.mend()


@asynccontextmanager
async def backend_kill(strike: Strike) -> AsyncIterator[None]:
    """kill -9 of one server process: PostgreSQL then ends all others too and replays its log."""
    pid = await ask(strike.stack, strike.service, _BACKEND, strike.service, str(strike.fault.seed))
    strike.facts["hit"] = pid in strike.stack.postgres.pids  # only ever one of ours
    strike.since = time.monotonic()
    if strike.facts["hit"]:
        os.kill(pid, signal.SIGKILL)
    yield


@asynccontextmanager
async def backend_end(strike: Strike) -> AsyncIterator[None]:
    """pg_terminate_backend of one connection."""
    pid = await ask(strike.stack, strike.service, _BACKEND, strike.service, str(strike.fault.seed))
    strike.since = time.monotonic()
    strike.facts["hit"] = bool(pid and await ask(strike.stack, strike.service, _END, pid))
    yield


@asynccontextmanager
async def lock(strike: Strike) -> AsyncIterator[None]:
    """A stranger's session holds a table, or all its rows."""
    table = strike.dice.choice(LOCKED[strike.service])
    whole = strike.dice.random() < 0.5
    strike.facts["locked"] = f"{'table' if whole else 'rows of'} {table}"
    question = f"LOCK TABLE {table} IN ACCESS EXCLUSIVE MODE" if whole else f"SELECT FROM {table} FOR UPDATE"
    async with _session(strike, question):
        yield


@asynccontextmanager
async def transaction(strike: Strike) -> AsyncIterator[None]:
    """A stranger's transaction that stays open: it has a number and a snapshot, and does nothing."""
    async with _session(strike, "SELECT pg_current_xact_id(), (SELECT count(*) FROM outbox)"):
        yield


@asynccontextmanager
async def _session(strike: Strike, question: str) -> AsyncIterator[None]:
    connection = None
    strike.facts["hit"] = False
    try:
        with contextlib.suppress(OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError):
            connection = await asyncpg.connect(strike.stack.dsn(strike.service), timeout=3, command_timeout=10)
            await connection.execute("BEGIN ISOLATION LEVEL REPEATABLE READ")
            await connection.execute(question)
            strike.facts["hit"] = True
        yield
    finally:
        if connection is not None:
            connection.terminate()


@asynccontextmanager
async def cut(strike: Strike) -> AsyncIterator[None]:
    strike.link.cut()
    try:
        yield
    finally:
        strike.link.mend()


@asynccontextmanager
async def reset(strike: Strike) -> AsyncIterator[None]:
    strike.facts["hit"] = strike.link.connections > 0
    strike.link.reset()
    yield


def blackhole(*directions: Literal["up", "down"]) -> How:
    @asynccontextmanager
    async def strikes(strike: Strike) -> AsyncIterator[None]:
        strike.link.blackhole(*directions)
        try:
            yield
        finally:
            strike.link.mend()

    return strikes


@asynccontextmanager
async def delay(strike: Strike) -> AsyncIterator[None]:
    strike.link.delay(300)
    try:
        yield
    finally:
        strike.link.mend()


@asynccontextmanager
async def slices(strike: Strike) -> AsyncIterator[None]:
    strike.link.slice()
    try:
        yield
    finally:
        strike.link.mend()


@asynccontextmanager
async def some_bytes(strike: Strike) -> AsyncIterator[None]:
    """A cut after a few bytes, wherever that is."""
    direction: Literal["up", "down"] = strike.dice.choice(("up", "down"))
    await _spring(strike, [strike.link], strike.dice.randint(1, 4000), direction, "request")
    yield


def trapped(spot: Spot, lose: Literal["answer", "request"]) -> How:
    """A cut in the middle of one request: at the server but not answered, or half on its way."""

    @asynccontextmanager
    async def strikes(strike: Strike) -> AsyncIterator[None]:
        links = _links(strike.stack, strike.fault.target)
        await _spring(strike, links, spot, "up", lose, skip=strike.dice.randint(0, 5) if spot == b"COMMIT" else 0)
        yield

    return strikes


def _links(stack: FaultStack, name: str) -> list[Link]:
    """The link of this name, or those that it stands for."""
    return [link for one, link in stack.links.items() if one == name or one.startswith(f"{name}-")]


async def _spring(
    strike: Strike,
    links: list[Link],
    spot: Spot,
    direction: Literal["up", "down"],
    lose: Literal["answer", "request"],
    skip: int = 0,
    at_once: Callable[[], None] = lambda: None,
    within_s: float = TRAP_S,
) -> None:
    """Wait until the trap on one of these links is sprung, and take the others away."""
    traps = [(link, link.trap(spot, direction, lose, skip, at_once)) for link in links]
    waits = [asyncio.create_task(sprung.wait()) for _, sprung in traps]
    done, waiting = await asyncio.wait(waits, timeout=within_s, return_when=asyncio.FIRST_COMPLETED)
    strike.since = time.monotonic()
    strike.facts["hit"] = bool(done)
    for task in waiting:
        task.cancel()
    for link, sprung in traps:
        link.release(sprung)


@asynccontextmanager
async def answers(strike: Strike) -> AsyncIterator[None]:
    """The mail server, or the partners', says no, drops or is slow: for so long, and until somebody has felt it."""
    server: Any = {"sink": strike.stack.sink, "hooks": strike.stack.hooks}[strike.fault.target]
    server.felt.clear()
    server.behaviour = strike.fault.f
    try:
        yield
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(server.felt.wait(), TRAP_S)
        strike.facts["hit"] = server.felt.is_set()
    finally:
        server.behaviour = "ok"


@asynccontextmanager
async def rewind(strike: Strike) -> AsyncIterator[None]:
    """The offsets of a service's groups are set back while it is down: it reads again what it has read."""
    child = strike.stack.services[strike.fault.target]
    await child.stop()
    try:
        strike.facts["records"] = await _set_back(strike.stack.partner_kafka, f"{strike.fault.target}.")
        strike.facts["hit"] = strike.facts["records"] > 0
    finally:
        strike.since = time.monotonic()
        await child.start()
    yield


async def _set_back(bootstrap: str, prefix: str) -> int:
    """How many records the groups with this prefix will read again."""
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
    again = 0
    try:
        await admin.start()
        groups = [name for name, *_ in await admin.list_consumer_groups() if name.startswith(prefix)]
        for group in groups:
            kept = await admin.list_consumer_group_offsets(group)
            back = {place: max(0, kept[place].offset - BACK) for place in kept if kept[place].offset > 0}
            if not back:
                continue
            consumer = AIOKafkaConsumer(bootstrap_servers=bootstrap, group_id=group, enable_auto_commit=False)
            await consumer.start()
            try:
                consumer.assign(list(back))
                await _insist(consumer, {place: OffsetAndMetadata(offset, "") for place, offset in back.items()})
                again += sum(kept[place].offset - offset for place, offset in back.items())
            finally:
                await consumer.stop()
    except (KafkaError, OSError, TimeoutError):
        pass
    finally:
        await admin.close()
    return again


async def _insist(consumer: AIOKafkaConsumer, offsets: dict[Any, OffsetAndMetadata]) -> None:
    """Commit as soon as the group is empty. Raises TimeoutError."""
    async with asyncio.timeout(EMPTY_S):
        while True:
            try:
                await consumer.commit(offsets)
                return
            except KafkaError:
                await asyncio.sleep(0.3)


@asynccontextmanager
async def replay(strike: Strike) -> AsyncIterator[None]:
    """An operator lets every consumer of a service read the last minute again while it runs."""
    since = datetime.now(UTC) - timedelta(seconds=REPLAYED_S)
    strike.facts["hit"] = await _told(strike, "replay", "--from", since.isoformat())
    yield


@asynccontextmanager
async def republish(strike: Strike) -> AsyncIterator[None]:
    """An operator publishes the last rows of a service's outbox again."""
    since = await ask(strike.stack, strike.service, _LAST, AGAIN)
    strike.facts["hit"] = since is not None and await _told(strike, "republish", "--since", since.isoformat())
    yield


async def _told(strike: Strike, *arguments: str) -> bool:
    try:
        await strike.stack.command(strike.service, *arguments)
    except Trouble as trouble:
        strike.facts["trouble"] = str(trouble)[:200]
        return False
    return True


STRIKES: dict[str, How] = {
    "kill": kill,
    "kill-sending": kill_sending,
    "terminate": terminate,
    "freeze": freeze,
    "isolate": isolate,
    "backend-kill": backend_kill,
    "backend-end": backend_end,
    "lock": lock,
    "transaction": transaction,
    "cut": cut,
    "reset": reset,
    "blackhole": blackhole(),
    "blackhole-up": blackhole("up"),
    "blackhole-down": blackhole("down"),
    "delay": delay,
    "slice": slices,
    "bytes": some_bytes,
    "commit-answer": trapped(b"COMMIT", "answer"),
    "commit-request": trapped(b"COMMIT", "request"),
    "produce-answer": trapped(PRODUCE, "answer"),
    "produce-request": trapped(PRODUCE, "request"),
    "data-answer": trapped(b"\r\n.\r\n", "answer"),
    "data-request": trapped(b"\r\n.\r\n", "request"),
    **dict.fromkeys(("421", "450", "550", "drop_before_250", "slow"), answers),
    **dict.fromkeys(("hook_500", "hook_drop", "hook_slow"), answers),
    "rewind": rewind,
    "replay": replay,
    "republish": republish,
}
