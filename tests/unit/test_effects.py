"""A batch that has to be taken record by record is slow, and being slow is not being stuck."""

import asyncio
from types import SimpleNamespace
from typing import Any
from unittest.mock import AsyncMock

import pytest

from kit.effects import Effects, Tally
from kit.listeners import Listeners
from kit.metrics import Metrics
from kit.parking import Record

pytestmark = pytest.mark.anyio


async def test_each_part_of_a_slow_batch_counts_as_progress() -> None:
    seen: list[float] = []

    async def run(work: Any, purpose: str) -> Tally:
        seen.append(effects.waited)
        effects.waited = 0.0
        if len(seen) in (1, 3):  # all three, and the last two together
            raise TimeoutError
        return Tally()

    database = SimpleNamespace(run=run)
    running: Any = SimpleNamespace(database=database, name="test", stopping=asyncio.Event(), metrics=Metrics())
    effects = Effects("test.things", running, Listeners(), foreign=False)
    effects.waited = 0.0
    records = [Record("test.things", 0, offset, None, (), b"{}") for offset in range(3)]
    assert await effects.take(records)
    assert len(seen) == 5
    assert seen[1] > 0.0, "the first record began, and the batch counts for nothing"
    assert seen[2] > 0.0, "the others began, and the first counts for nothing"
    assert seen[3] > 0.0, "the second began, and the two counted for nothing"
    assert seen[4] > 0.0, "the third began, and the second counts for nothing"


async def test_what_a_slow_database_took_last_is_where_the_next_batch_begins(monkeypatch: pytest.MonkeyPatch) -> None:
    """Four records at a time are all that it takes. Red control: each batch begins with all of it, and waits anew."""
    asked: list[list[int]] = []

    async def together(part: list[Record]) -> None:
        asked[-1].append(len(part))
        if len(part) > 4:
            raise TimeoutError

    effects = Effects("test.things", SimpleNamespace(stopping=asyncio.Event()), Listeners(), foreign=False)  # type: ignore[arg-type]
    monkeypatch.setattr(effects, "_together", together)
    for _ in range(2):
        asked.append([])
        assert await effects.take([Record("test.things", 0, offset, None, (), b"{}") for offset in range(64)])
        assert sum(size for size in asked[-1] if size <= 4) == 64
    assert asked[0][:5] == [64, 32, 16, 8, 4]
    assert max(asked[1]) == 8
    quick = AsyncMock()
    monkeypatch.setattr(effects, "_together", quick)
    for _ in range(2):
        assert await effects.take([Record("test.things", 0, offset, None, (), b"{}") for offset in range(64)])
    assert len(quick.await_args_list[-1].args[0]) == 64, "quick again, it takes as many as come"
