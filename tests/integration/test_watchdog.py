"""Health is progress: a consumer that never comes to listen is told of, and one that waits with reason is not ended."""

import asyncio
import time

import pytest

from kit import database, switch
from kit.running import Running
from kit.service import _kept_up
from tests import listener
from tests.delivery import listening, until
from tests.integration.test_listening import STUCK_S, World, free_port, without_database
from tests.integration.test_listening import here as here  # fixtures
from tests.integration.test_listening import world as world

pytestmark = pytest.mark.anyio


async def test_a_paused_consumer_is_left_alone_while_its_database_is_away(
    world: World, here: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database, "ACQUIRE_S", 0.2)
    await world.make_topic()
    await world.send(3)
    async with here.database.reading() as conn:
        await switch.pause(conn, f"{world.name}.things", "a test")
    async with listening(here, world.consumer(listener.write)):
        await world.watched_for(0.1)
        async with without_database(world):
            await world.watched_for(2)
        assert world.ends == []
        async with here.database.reading() as conn:
            await switch.resume(conn, f"{world.name}.things")
        await world.are_done(3)


async def test_a_consumer_that_fails_at_each_start_is_not_healthy(world: World, here: Running) -> None:
    """It is started again every few seconds, and each time it has only just begun."""
    here.settings = here.settings.model_copy(update={"kafka_bootstrap": f"127.0.0.1:{free_port()}"})
    consumer = world.consumer(listener.write)
    keeping = asyncio.create_task(_kept_up("consumer things", consumer.run, here))
    began = time.monotonic()

    async def restarted() -> bool:
        restarts = here.metrics.worker_restarts.labels("consumer things")._value.get()
        return restarts >= 2 and time.monotonic() - began > STUCK_S

    try:
        await until(restarted)
        ready, told = await here.health.ready()
        assert not ready
        assert "no progress" in told["checks"]["consumer things"]
    finally:
        here.stopping.set()
        await keeping
