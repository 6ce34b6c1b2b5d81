"""What tests of the kit use: a fresh database, fresh topics, and a small service that speaks and listens there."""

import asyncio
import time
import uuid
from collections.abc import Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import asyncpg
from aiokafka import AIOKafkaConsumer
from pydantic import SecretStr

from contracts.topics import Topic
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
    """The real servers of this test run; `admin` is the address of a role that may make databases."""

    admin: str
    kafka: str

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

    async def database(self) -> Settings:
        """The settings of a new database that has the kit's tables."""
        name = f"test_{uuid.uuid4().hex}"
        admin = await asyncpg.connect(self.admin)
        try:
            await admin.execute(f'CREATE DATABASE "{name}"')
        finally:
            await admin.close()
        settings = self.settings(name)
        conn = await connect(settings, "migrate")
        try:
            await migrations.migrate(conn, [migrations.KIT])
        finally:
            await conn.close()
        return settings


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
