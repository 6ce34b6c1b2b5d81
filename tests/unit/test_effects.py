"""A batch that has to be taken record by record is slow, and being slow is not being stuck."""

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest

from kit.effects import Effects
from kit.listeners import Listeners
from kit.parking import Record

pytestmark = pytest.mark.anyio


async def test_each_record_of_a_slow_batch_counts_as_progress() -> None:
    seen: list[float] = []

    async def run(work: Any, purpose: str) -> None:
        if not seen:
            seen.append(0.0)
            raise TimeoutError
        seen.append(effects.waited)
        effects.waited = 0.0

    running: Any = SimpleNamespace(database=SimpleNamespace(run=run), name="test", stopping=asyncio.Event())
    effects = Effects("test.things", running, Listeners(), foreign=False)
    effects.waited = 0.0
    records = [Record("test.things", 0, offset, None, (), b"{}") for offset in range(3)]
    assert await effects.take(records)
    assert seen[1] == 0.0
    assert seen[2] > 0.0, "the second record began, and the first counts for nothing"
    assert seen[3] > 0.0
