"""What tests of the kit use: a fresh database, fresh topics, and a small service that speaks and listens there."""

import asyncio
import time
import uuid
from collections.abc import Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import asyncpg
from aiokafka import AIOKafkaConsumer
from pydantic import SecretStr

from contracts.topics import Topic
from deploy.local.places import ROOT
from kit import migrations
from kit.consumer import Consumer
from kit.database import Database, connect
from kit.health import Health
from kit.metrics import Metrics
from kit.relay import Relay
from kit.running import Running
from kit.settings import Settings

SAID = Topic("enrolment.enrolments", "enrolment", "learner_id", ("test",))


@dataclass(frozen=True)
class Servers:
    """The real servers of this test run; `admin` is the address of a role that may make databases.

    `made`: the databases that tests have made, the newest at the end.
    """

    admin: str
    kafka: str
    made: list[str] = field(default_factory=list)

    def settings(self, database: str, instance: str = "") -> Settings:
        login, _, place = self.admin.partition("://")[2].rpartition("@")
        host, _, port = place.partition("/")[0].partition(":")
        return Settings(
            instance=instance,
            database_host=host,
            database_port=int(port),
            database_name=database,
            database_user=login.partition(":")[0],
            database_password=SecretStr(login.partition(":")[2]),
            kafka_bootstrap=self.kafka,
            issuer="http://localhost/test",
            issuer_keys_url="http://localhost/test/jwks",
        )

    async def database(self, service: str = "") -> Settings:
        """The settings of a new database that has the kit's tables, and those of a service.

        A copy of one that is migrated once in each run: a test that makes its own waits for every file anew.
        """
        name, template = f"test_{uuid.uuid4().hex}", f"template_{service or 'kit'}"
        admin = await asyncpg.connect(self.admin)
        try:
            # One at a time: a template must have no guests, not even a second test that wants to make it.
            await admin.execute("SELECT pg_advisory_lock(1)")
            if not await admin.fetchval("SELECT count(*) FROM pg_database WHERE datname = $1", template):
                await admin.execute(f'CREATE DATABASE "{template}_draft"')
                await self._migrate(f"{template}_draft", service)
                await admin.execute(f'ALTER DATABASE "{template}_draft" RENAME TO "{template}"')
            # Without its pages in the log: nobody's data is here, and a disk is slower than all else in a test.
            await admin.execute(f'CREATE DATABASE "{name}" TEMPLATE "{template}" STRATEGY file_copy')
        finally:
            await admin.close()
        self.made.append(name)
        return self.settings(name)

    async def spare_the_disk(self) -> None:
        """Wait for no disk: no test cuts the power. Those that kill whole stacks have stacks of their own."""
        admin = await asyncpg.connect(self.admin)
        try:
            await admin.execute("ALTER SYSTEM SET fsync = off")
            await admin.execute("SELECT pg_reload_conf()")
        finally:
            await admin.close()

    async def drop(self, names: Sequence[str]) -> None:
        """Delete these databases, whoever is still connected to them."""
        admin = await asyncpg.connect(self.admin)
        try:
            for name in names:
                await admin.execute(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')
        finally:
            await admin.close()

    async def _migrate(self, name: str, service: str) -> None:
        folders = [migrations.KIT, *([ROOT / "services" / service / "migrations"] if service else [])]
        conn = await connect(self.settings(name), "migrate")
        try:
            await migrations.migrate(conn, folders)
        finally:
            await conn.close()


@asynccontextmanager
async def running(settings: Settings, name: str = "enrolment") -> Any:
    database = Database(settings)
    await database.open()
    here = Running(name=name, settings=settings, database=database, metrics=Metrics(), health=Health(name))
    try:
        yield here
    finally:
        here.stopping.set()
        await database.close()


@asynccontextmanager
async def relaying(here: Running) -> Any:
    relay = Relay(here.database, here.settings, here.metrics)
    stopping = asyncio.Event()
    task = asyncio.create_task(relay.run(stopping))
    try:
        yield relay
    finally:
        stopping.set()
        await task


@asynccontextmanager
async def listening(here: Running, consumer: Consumer) -> Any:
    here.stopping.clear()
    task = asyncio.create_task(consumer.run(here))
    try:
        yield consumer
    finally:
        here.stopping.set()
        await task
        here.stopping.clear()


async def until(condition: Callable[[], Awaitable[Any]], within_s: float = 20.0) -> Any:
    """What the condition gives once it is true. Fails when it is not within the deadline."""
    deadline = time.monotonic() + within_s
    while True:
        found = await condition()
        if found:
            return found
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {within_s:g} s; last seen: {found!r}")
        await asyncio.sleep(0.02)


async def somebody_waits(database: Database) -> bool:
    """Whether a lock is waited for in this database."""
    query = "SELECT FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
    async with database.reading() as conn:
        return bool(await conn.fetch(query))


async def records(kafka: str, topic: str, count: int, within_s: float = 20.0) -> list[Any]:
    """The first `count` records of a topic, from its beginning, in the order of each partition."""
    consumer = AIOKafkaConsumer(topic, bootstrap_servers=kafka, auto_offset_reset="earliest")
    await consumer.start()
    found: list[Any] = []
    try:
        async with asyncio.timeout(within_s):
            while len(found) < count:
                for part in (await consumer.getmany(timeout_ms=200)).values():
                    found.extend(part)
    finally:
        await consumer.stop()
    return found
