"""A process that listens: stuck, it ends with 70 and is started again; waiting for a good reason, it does not.

Asked to stop in the middle of a backlog, it ends in time, and nothing is lost or done twice.
"""

import asyncio
import json
import os
import signal
import socket
import sys
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import asyncpg
import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.errors import KafkaConnectionError

from contracts.envelope import Event
from contracts.registry import BY_TYPE
from contracts.topics import Topic
from deploy.local.processes import Program, Supervisor
from kit import consumer as watched
from kit import database, effects, switch, topics
from kit.consumer import Consumer
from kit.database import Connection, connect
from kit.listeners import Listeners, Received
from kit.running import Running
from kit.settings import Settings
from tests import listener
from tests.delivery import Servers, listening, running, until

pytestmark = pytest.mark.anyio

STUCK_S = 3.0  # instead of 60
WATCH_S = 1.0  # instead of 5; a question to the broker waits behind a fetch that waits for half a second


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        return int(taken.getsockname()[1])


@dataclass
class World:
    """A topic of its own, a table of what was heard, and every end that the watchdog made."""

    servers: Servers
    settings: Settings
    name: str
    ends: list[int] = field(default_factory=list)
    looks: int = 0

    @property
    def topic(self) -> str:
        return f"{self.name}.things"

    @property
    def event(self) -> type[Event]:
        return BY_TYPE[f"no.kursnett.{self.name}.ThingHappened.v1"]

    async def make_topic(self, partitions: int = 1) -> None:
        things = Topic(self.topic, self.name, "thing", (), partitions=partitions)
        await topics.declare(self.servers.kafka, [things, Topic(f"{self.name}.parked", self.name, "", ())])

    def consumer(self, listen: Callable[[Connection, Sequence[Received]], Awaitable[None]]) -> Consumer:
        listeners = Listeners()
        listeners.on(self.event)(listen)
        return Consumer("things", listeners, topics=(self.topic,))

    async def send(self, count: int) -> None:
        producer = AIOKafkaProducer(bootstrap_servers=self.servers.kafka)
        await producer.start()
        try:
            for number in range(count):
                whole = {
                    "specversion": "1.0",
                    "id": str(uuid.uuid4()),
                    "source": f"/{self.name}",
                    "type": self.event.spec.type,
                    "data": {"thing": f"t{number}", "number": number},
                }
                await producer.send(self.topic, json.dumps(whole).encode(), key=f"t{number}".encode())
        finally:
            await producer.stop()

    async def done(self) -> int:
        conn = await connect(self.settings, "test")
        try:
            return int(await conn.fetchval("SELECT count(*) FROM done"))
        finally:
            await conn.close()

    async def are_done(self, count: int, within_s: float = 30) -> None:
        async def so() -> bool:
            return await self.done() == count

        await until(so, within_s)

    async def watched_for(self, times: float) -> None:
        """Waits while the watchdog looks again and again, for so many times the limit."""
        end, looks = time.monotonic() + times * STUCK_S, self.looks

        async def over() -> bool:
            return time.monotonic() > end and self.looks > looks + 3

        await until(over, 60)

    def environment(self, folder: Path, **more: str) -> dict[str, str]:
        folder.mkdir(parents=True, exist_ok=True)
        return {
            "KURSNETT_DATABASE_HOST": self.settings.database_host,
            "KURSNETT_DATABASE_PORT": str(self.settings.database_port),
            "KURSNETT_DATABASE_NAME": self.settings.database_name,
            "KURSNETT_DATABASE_USER": self.settings.database_user,
            "KURSNETT_DATABASE_PASSWORD": self.settings.database_password.get_secret_value(),
            "KURSNETT_KAFKA_BOOTSTRAP": self.settings.kafka_bootstrap,
            "KURSNETT_HTTP_PORT": str(free_port()),
            "KURSNETT_ISSUER": "http://issuer.test",
            "KURSNETT_ISSUER_KEYS_URL": "http://issuer.test/jwks",
            "DUMMY_MIGRATIONS": str(folder),
            "LISTENER_TOPIC": self.topic,
            **more,
        }


@pytest.fixture
async def world(servers: Servers, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[World]:
    name = f"watch{uuid.uuid4().hex[:12]}"
    settings = await servers.database()
    conn = await connect(settings, "test")
    await conn.execute(listener.TABLE)
    await conn.close()
    kind = listener.event_of(f"{name}.things")
    yield World(servers, settings, name)
    del BY_TYPE[kind.spec.type]


@pytest.fixture
async def here(world: World, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Running]:
    """What a consumer in this process runs in, with a short limit; its end is noted and does not happen."""
    monkeypatch.setattr(watched, "STUCK_S", STUCK_S)
    monkeypatch.setattr(watched, "WATCH_S", WATCH_S)
    monkeypatch.setattr(watched, "SWITCH_S", 0.2)
    monkeypatch.setattr(os, "_exit", world.ends.append)
    look = Consumer._look_for_progress

    async def counted(self: Consumer) -> None:
        world.looks += 1
        await look(self)

    monkeypatch.setattr(Consumer, "_look_for_progress", counted)
    async with running(world.settings, world.name) as here:
        yield here


async def test_a_stuck_process_ends_with_70_and_its_supervisor_starts_it_again(world: World, tmp_path: Path) -> None:
    await world.make_topic()
    await world.send(3)
    hangs = tmp_path / "hangs"
    hangs.touch()
    environment = world.environment(
        tmp_path / "migrations", LISTENER_HANGS=str(hangs), LISTENER_STUCK_S=str(STUCK_S), LISTENER_WATCH_S=str(WATCH_S)
    )

    async def runs() -> bool:
        return True

    program = Program(
        "listener", ready=runs, argv=[sys.executable, "-m", "tests.listener", "serve"], environment=environment
    )
    ends: list[str] = []
    supervisor = Supervisor([program], tmp_path, tmp_path / "logs", lambda: None)
    known = supervisor.known["listener"]

    def note() -> None:
        if known.state == "restarting":
            ends.append(known.text)

    supervisor._changed = note
    keeping = asyncio.create_task(supervisor.run())
    try:

        async def ended() -> bool:
            return bool(ends)

        await until(ended, 60)
        assert await world.done() == 0
        hangs.unlink()
        await world.are_done(3, 60)
    finally:
        supervisor.stopping.set()
        await keeping
    assert set(ends) == {"ended with 70"}
    assert '"event":"consumer_stuck"' in (tmp_path / "logs" / "listener.log").read_text()


async def test_a_listener_that_never_returns_is_seen(world: World, here: Running) -> None:
    """The red control of all below: what is watched here in the same way is ended."""
    await world.make_topic()
    await world.send(1)
    let_go = asyncio.Event()

    async def hang(conn: Connection, received: Sequence[Received]) -> None:
        while not let_go.is_set():
            try:
                await let_go.wait()
            except asyncio.CancelledError:
                continue

    async with listening(here, world.consumer(hang)):

        async def ended() -> bool:
            return bool(world.ends)

        try:
            await until(ended, 30)
        finally:
            let_go.set()
    assert set(world.ends) == {70}


async def test_a_paused_consumer_is_left_alone(world: World, here: Running) -> None:
    await world.make_topic()
    await world.send(3)
    async with here.database.reading() as conn:
        await switch.pause(conn, f"{world.name}.things", "a test")
    async with listening(here, world.consumer(listener.write)):
        await world.watched_for(2)
        assert await world.done() == 0
        async with here.database.reading() as conn:
            await switch.resume(conn, f"{world.name}.things")
        await world.are_done(3)
    assert world.ends == []


@asynccontextmanager
async def without_database(world: World) -> AsyncIterator[None]:
    name = world.settings.database_name
    admin = await asyncpg.connect(world.servers.admin)
    try:
        await admin.execute(f'ALTER DATABASE "{name}" ALLOW_CONNECTIONS false')
        await admin.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = $1", name)
        yield
    finally:
        await admin.execute(f'ALTER DATABASE "{name}" ALLOW_CONNECTIONS true')
        await admin.close()


async def test_a_consumer_that_waits_for_its_database_is_left_alone(
    world: World, here: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database, "TRYING_S", 0.5)  # one try is much shorter than STUCK_S, as it is in earnest
    await world.make_topic()
    async with listening(here, world.consumer(listener.write)):
        await world.send(1)
        await world.are_done(1)
        async with without_database(world):
            await world.send(3)
            await world.watched_for(3)
        await world.are_done(4)
    assert world.ends == []


async def test_a_consumer_whose_topic_nobody_has_made_yet_is_left_alone(world: World, here: Running) -> None:
    async with listening(here, world.consumer(listener.write)):
        await asyncio.sleep(2 * STUCK_S)  # nothing tells that something will not happen
        assert world.ends == []
        await world.make_topic()
        await world.send(3)
        await world.are_done(3)
    assert world.ends == []


async def test_a_consumer_that_waits_for_its_topic_hears_that_it_is_to_stop(world: World, here: Running) -> None:
    async with listening(here, world.consumer(listener.write)):
        await asyncio.sleep(0.5)
        began = time.monotonic()
    assert time.monotonic() - began < 5


async def test_a_broker_that_is_away_is_waited_for_and_a_client_that_cannot_reach_it_is_not(
    world: World, here: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    await world.make_topic()
    away: list[str | None] = ["no broker answers"]

    async def answers() -> str | None:
        return away[0]

    async def unreachable(self: AIOKafkaConsumer, partitions: object) -> None:
        raise KafkaConnectionError

    monkeypatch.setattr(watched, "broker_answers", lambda bootstrap: answers)
    monkeypatch.setattr(AIOKafkaConsumer, "end_offsets", unreachable)
    async with listening(here, world.consumer(listener.write)):
        await world.watched_for(2)
        assert world.ends == []
        away[0] = None

        async def ended() -> bool:
            return bool(world.ends)

        await until(ended, 30)


async def test_a_replica_too_many_for_the_partitions_is_left_alone(world: World, here: Running) -> None:
    await world.make_topic()
    another = world.consumer(listener.write)
    async with (
        listening(here, world.consumer(listener.write)),
        running(world.settings, world.name) as there,
        listening(there, another),
    ):
        await world.send(3)
        await world.are_done(3)
        await world.watched_for(3)
    assert world.ends == []


async def test_a_batch_that_is_taken_apart_and_slow_is_progress(
    world: World, here: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(effects, "ONE_S", 1.0)
    await world.make_topic()
    await world.send(20)

    async def slowly(conn: Connection, received: Sequence[Received]) -> None:
        for one in received:
            await asyncio.sleep(0.3)
            await listener.write(conn, [one])

    async with listening(here, world.consumer(slowly)):
        await world.are_done(20, 60)
    assert world.ends == []


async def test_in_a_rush_what_comes_within_a_moment_is_one_batch(
    world: World, here: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watched, "GATHER_S", 3.0)
    sizes: list[int] = []

    async def counted(conn: Connection, received: Sequence[Received]) -> None:
        sizes.append(len(received))
        await listener.write(conn, received)

    await world.make_topic()
    await world.send(20)
    async with listening(here, world.consumer(counted)):
        await world.are_done(20)
        await world.send(1)
        await world.send(1)
        await world.are_done(22)
        for done in (23, 24):  # no rush: at once
            await world.send(1)
            await world.are_done(done)
    assert sizes == [20, 2, 1, 1]


async def test_a_backlog_that_is_cut_short_by_a_stop_is_finished_once(world: World, tmp_path: Path) -> None:
    count = 4000
    await world.make_topic(partitions=3)
    await world.send(count)

    async def serve(slow_s: str) -> asyncio.subprocess.Process:
        return await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "tests.listener", "serve"),
            env={"PATH": os.environ["PATH"], **world.environment(tmp_path / "migrations", LISTENER_SLOW_S=slow_s)},
            stdout=asyncio.subprocess.DEVNULL,
        )

    async def some() -> bool:
        return await world.done() > 0

    process = await serve("0.003")
    try:
        await until(some, 60)
        process.send_signal(signal.SIGTERM)  # the next batch has begun: it is a thousand records, some seconds
        began = time.monotonic()
        assert await asyncio.wait_for(process.wait(), 20) == 0
        assert time.monotonic() - began < 20
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert 0 < await world.done() < count
    process = await serve("0")
    try:
        await world.are_done(count, 60)
    finally:
        process.terminate()
        assert await asyncio.wait_for(process.wait(), 20) == 0
    conn = await connect(world.settings, "test")
    try:
        assert await conn.fetchval("SELECT count(DISTINCT number) FROM done") == count
    finally:
        await conn.close()
