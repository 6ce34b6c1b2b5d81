"""A consumer asks every address of the brokers that it is given."""

from types import SimpleNamespace
from typing import Any

import pytest

from kit import consumer as listening
from kit.consumer import Consumer
from kit.health import Health
from kit.listeners import Listeners
from tests.web import settings

pytestmark = pytest.mark.anyio


class Asked(Exception):
    """The client was made, and what follows is not what is tested."""


async def test_each_address_of_several_brokers_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[Any] = []

    def client(addresses: Any, **_: Any) -> None:
        given.append(addresses)
        raise Asked

    monkeypatch.setattr(listening, "KafkaBroker", client)
    running: Any = SimpleNamespace(
        name="test", settings=settings(kafka_bootstrap="one.test:9092,two.test:9092"), health=Health("test")
    )
    with pytest.raises(Asked):
        await Consumer("things", Listeners(), topics=("test.things",)).run(running)
    assert given == [
        ["one.test:9092", "two.test:9092"]
    ]  # one text with a comma would be one strange host to FastStream
