"""Two who start the same stack at once: one of them runs it, and nothing that happens to the other stops it."""

import asyncio
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from deploy.commands import stack as commands
from deploy.local.places import Places
from deploy.local.stack import Stack
from deploy.trouble import Trouble


class Late(Stack):
    """Looks, sees that nobody runs the stack, and is not the first to start it."""

    looks = 0

    @property
    def supervisor(self) -> int | None:
        self.looks += 1
        return super().supervisor if self.looks > 2 else None


@pytest.mark.parametrize("what", [Trouble("the demonstration data is there already"), KeyboardInterrupt()])
def test_who_came_second_does_not_stop_what_the_first_has_started(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, what: BaseException
) -> None:
    def fails(places: Places) -> None:
        raise what

    monkeypatch.setattr(commands, "_demo", fails)
    monkeypatch.setattr("deploy.local.ports.require_free", lambda places, names: None)
    with Stack.somewhere(tmp_path / "home", programs=("mail",)) as first:
        runs = first.supervisor
        monkeypatch.setattr(Stack, "here", lambda: Late(first.places, first.programs))
        if isinstance(what, KeyboardInterrupt):
            assert commands.up() == 130
        else:
            with pytest.raises(Trouble, match="there already"):
                commands.up()
        assert first.supervisor == runs
        monkeypatch.setattr(commands, "_demo", lambda places: None)
        assert commands.up() == 0  # and does not wait for the end of what is not his
        assert first.supervisor == runs


def test_the_demonstration_data_is_put_in_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    loads: list[float] = []

    async def load(places: Places, say: Any) -> None:
        loads.append(time.monotonic())
        await asyncio.sleep(0.3)

    monkeypatch.setattr(commands.data, "load", load)
    both = [threading.Thread(target=commands._demo, args=(Places(tmp_path),)) for _ in range(2)]
    for one in both:
        one.start()
    for one in both:
        one.join()
    assert len(loads) == 1
