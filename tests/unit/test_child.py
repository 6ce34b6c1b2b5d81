"""What the fault suite does to a process, and that none outlives the suite."""

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest

from deploy.local.places import ROOT
from tests.faults.child import Child

pytestmark = pytest.mark.anyio

WITHIN_S = 20.0
# A process with a child of its own; it says when it runs, and ends on SIGTERM.
PROGRAM = "import subprocess, sys, time; subprocess.Popen(['sleep', '20']); print('up', flush=True); time.sleep(60)"
OWNER = """
import asyncio, sys
from pathlib import Path
from tests.faults.child import Child

async def ready():
    return True

async def main():
    child = Child("child", Path(sys.argv[1]), Path(sys.argv[1]) / "log", ["sleep", "60"], ready)
    await child.start()
    print(child.pid, flush=True)
    await asyncio.sleep(60)

asyncio.run(main())
"""


class Notes:
    def __init__(self) -> None:
        self.lines: list[dict[str, Any]] = []

    def add(self, kind: str, **fields: Any) -> None:
        self.lines.append({"kind": kind, **fields})


@asynccontextmanager
async def running(folder: Path) -> AsyncIterator[tuple[Child, Notes]]:
    log = folder / "log"

    async def ready() -> bool:
        return len(child.pids) == 2 and log.exists() and log.read_text().count("up") > child.exits

    child = Child("child", folder, log, [sys.executable, "-c", PROGRAM], ready)
    child.history = notes = Notes()
    await child.start()
    try:
        yield child, notes
    finally:
        await child.stop()


async def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + WITHIN_S
    while not condition():
        assert time.monotonic() < deadline
        await asyncio.sleep(0.02)


def lives(pid: int) -> bool:
    try:
        return bool(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


async def test_a_killed_process_is_started_again_and_its_children_are_gone(tmp_path: Path) -> None:
    async with running(tmp_path) as (child, notes):
        before = child.pids
        child.kill()
        await until(lambda: child.exits == 1)
        assert not any(map(lives, before))
        await child.start()  # waits until it is ready; nobody had to start it
        assert child.pid not in before
        told = [(line["kind"], line.get("status"), line.get("asked")) for line in notes.lines]
        assert told == [("start", None, None), ("exit", -signal.SIGKILL, "kill"), ("start", None, None)]


async def test_a_death_of_its_own_is_told_from_one_that_was_asked_for(tmp_path: Path) -> None:
    async with running(tmp_path) as (child, notes):
        assert child.pid is not None
        os.kill(child.pid, signal.SIGABRT)
        await until(lambda: child.exits == 1)
        child.terminate()  # it is down: nothing to end
        await child.start()
        child.terminate()
        await until(lambda: child.exits == 2)
        ends = [(line["status"], line["asked"]) for line in notes.lines if line["kind"] == "exit"]
        assert ends == [(-signal.SIGABRT, ""), (-signal.SIGTERM, "terminate")]


async def test_a_frozen_process_stands_still_with_its_children_and_goes_on(tmp_path: Path) -> None:
    async with running(tmp_path) as (child, _):
        child.freeze()
        await until(lambda: all(psutil.Process(pid).status() == psutil.STATUS_STOPPED for pid in child.pids))
        child.thaw()
        await until(lambda: all(psutil.Process(pid).status() != psutil.STATUS_STOPPED for pid in child.pids))
        assert child.exits == 0


async def test_a_stopped_process_stays_down_even_if_it_was_frozen(tmp_path: Path) -> None:
    async with running(tmp_path) as (child, _):
        child.freeze()
        await child.stop()
        assert child.pid is None
        await asyncio.sleep(0.5)
        assert child.pid is None
        await child.start()
        assert child.pid is not None


def test_no_process_outlives_a_suite_that_is_killed(tmp_path: Path) -> None:
    owner = subprocess.Popen([sys.executable, "-c", OWNER, str(tmp_path)], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert owner.stdout is not None
    pid = int(owner.stdout.readline())
    assert lives(pid)
    owner.kill()
    owner.wait()
    owner.stdout.close()
    deadline = time.monotonic() + WITHIN_S
    while lives(pid):
        assert time.monotonic() < deadline
        time.sleep(0.02)
