"""The partners of a fault run: what they open next, and that they go on when nobody takes what they say."""

import asyncio
import random
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.faults.clients import Caller
from tests.faults.history import History
from tests.faults.partners import NONE_WITHIN, SORTS, STEADY, Partner

ENOUGH = 20

pytestmark = pytest.mark.anyio


class Lonely(Partner):
    """Says everything into the void, and stops when it has tried often enough."""

    rate = 10_000.0

    def __init__(self, folder: Path) -> None:
        history, dice = History(folder / "history.jsonl"), random.Random(1)
        caller = Caller(history, dice)
        super().__init__(history, dice, str, slug="fjord", key="", kafka="", url="", caller=caller)
        self.stopping = asyncio.Event()
        self.said: list[tuple[str, str, str]] = []
        self.heard = True
        self.unheard = 0

    async def publish(self, what: str, code: str, run: str, data: dict[str, Any], sure: bool = False) -> None:
        self.said.append((what, code, run))
        if not self.heard:
            self.unheard += 1
            if self.unheard == ENOUGH:
                self.stopping.set()
            raise TimeoutError

    async def repeat(self) -> None:
        return None

    async def mistype(self, code: str, run: str) -> None:
        return None


async def test_a_partner_goes_on_when_a_service_stays_away(tmp_path: Path) -> None:
    partner = Lonely(tmp_path)
    await partner.prepare()
    partner.heard = False
    begun = len(partner.said)
    await asyncio.wait_for(partner.live(partner.stopping), 20)
    assert len(partner.said) >= begun + ENOUGH


async def test_a_run_that_starts_soon_is_followed_by_another_and_a_steady_one_is_never_changed(tmp_path: Path) -> None:
    partner = Lonely(tmp_path)
    await partner.prepare()
    soon = next(f"FJORD-{n}" for n, sort in enumerate(SORTS) if sort.life == "soon")
    steady = {f"FJORD-{n}" for n, sort in enumerate(SORTS) if sort.life == STEADY}
    left = partner._runs[soon].start - NONE_WITHIN - datetime.now(UTC)
    assert timedelta(seconds=20) < left < timedelta(seconds=91)
    partner._runs[soon].start -= timedelta(seconds=120)
    begun = len(partner.said)
    for _ in range(50):
        await partner._change()
    assert partner.said[begun] == ("OfferingPublished", soon, "2")
    assert not steady & {code for _, code, _ in partner.said[begun:]}
