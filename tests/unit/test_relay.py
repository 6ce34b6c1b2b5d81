"""What was sent after something that failed is sent again after it, and a producer that is thrown away is gone."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

import pytest

from kit import producer as producing
from kit.metrics import Metrics
from kit.relay import Relay
from tests.web import settings

pytestmark = pytest.mark.anyio


class Kafka:
    """A client that takes every batch and acks none until it is told to."""

    made: list["Kafka"]

    def __init__(self) -> None:
        self.sent: list[int] = []
        self.acks: list[asyncio.Future[Any]] = []
        self.closed: list[str] = []
        self.client = self._sender = self

    def create_batch(self) -> Any:
        return Batch()

    async def partitions_for(self, topic: str) -> set[int]:
        return {0}

    async def send_batch(self, batch: Any, topic: str, partition: int) -> asyncio.Future[Any]:
        self.sent += batch.numbers
        self.acks.append(asyncio.get_running_loop().create_future())
        return self.acks[-1]

    async def stop(self) -> None:
        await asyncio.Event().wait()  # as it does for a broker that is gone

    async def close(self) -> None:
        self.closed.append("closed")


class Batch:
    def __init__(self) -> None:
        self.numbers: list[int] = []

    def append(self, key: Any, value: bytes, timestamp: Any, headers: Any) -> object:
        self.numbers.append(int(value))
        return object()


class Outbox:
    """A database with nothing in it but the numbers that are not published."""

    def __init__(self) -> None:
        self.committed = asyncio.Event()
        self.rows: list[int] = []

    @contextlib.asynccontextmanager
    async def reading(self, purpose: str) -> AsyncIterator["Outbox"]:
        yield self

    async def fetch(self, statement: str, resting: Any, under_way: list[int], *_: int) -> list[dict[str, Any]]:
        row = {"aggregate": "thing/1", "topic": "things", "key": b"1", "headers": None}
        return [{**row, "id": n, "payload": str(n).encode()} for n in self.rows if n not in under_way]

    async def fetchval(self, statement: str, *_: Any) -> int:
        return 1

    async def fetchrow(self, statement: str, *_: Any) -> None:
        return None

    async def execute(self, statement: str, *values: Any) -> str:
        if "outbox" in statement and isinstance(values[0], list):
            self.rows = [n for n in self.rows if n not in values[0]]
        return "UPDATE 1"


@pytest.fixture
def clients(monkeypatch: pytest.MonkeyPatch) -> list[Kafka]:
    made: list[Kafka] = []

    async def start(self: Any) -> Any:
        if self._producer is None:
            made.append(Kafka())
            self._producer = made[-1]
        return self._producer

    monkeypatch.setattr(producing.Producer, "_open", start)
    monkeypatch.setattr(producing, "SEND_S", 0.05)
    monkeypatch.setattr(producing, "STOP_S", 0.05, raising=False)
    return made


async def test_what_was_sent_after_a_lost_batch_goes_again_after_it_and_not_after_what_comes_later(
    clients: list[Kafka],
) -> None:
    outbox: Any = Outbox()
    relay = Relay(outbox, settings(), Metrics())
    outbox.rows = [7]
    await relay._turn()
    clients[0].acks[0].set_result(None)
    outbox.rows = [8]
    await relay._turn()  # 8 is under way, and its ack never comes
    outbox.rows = [8, 9]
    await relay._turn()  # 9 is sent behind it, 8 is given up, and with it the client that has both
    outbox.rows = [8, 9, 10]
    while len(clients) < 2:
        await relay._turn()
    assert clients[0].sent == [7, 8, 9]
    assert clients[1].sent == [8, 9, 10]
    await relay._leave()


async def test_a_client_that_does_not_stop_is_hung_up_all_the_same(clients: list[Kafka]) -> None:
    outbox: Any = Outbox()
    relay = Relay(outbox, settings(), Metrics())
    outbox.rows = [1]
    await relay._turn()
    await relay._leave()
    assert clients[0].closed == ["closed", "closed"]  # its sender and its connections
