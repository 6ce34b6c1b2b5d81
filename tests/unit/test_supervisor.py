"""The supervisor of the local stack, over tiny child processes: restart, order, leftovers, bounded logs."""

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import psutil
import pytest

from deploy.local import leftovers, processes
from deploy.local.processes import Program, Supervisor, bound
from deploy.trouble import Trouble

pytestmark = pytest.mark.anyio

SLEEPER = "import time; time.sleep(60)"
STUBBORN = (
    "import pathlib, signal, sys, time; signal.signal(signal.SIGTERM, signal.SIG_IGN);"
    "pathlib.Path(sys.argv[1]).touch(); time.sleep(60)"
)


async def yes() -> bool:
    return True


def child(name: str, code: str, *arguments: str, ready: Callable[[], Awaitable[bool]] = yes, **more: object) -> Program:
    program = Program(name, ready=ready, argv=[sys.executable, "-c", code, *arguments])
    for field, value in more.items():
        setattr(program, field, value)
    return program


async def until(fact: Callable[[], bool], seconds: float = 15.0) -> None:
    give_up = time.monotonic() + seconds
    while not fact():
        assert time.monotonic() < give_up, "it did not come true in time"
        await asyncio.sleep(0.02)


class Run:
    """A supervisor running beside the test; stops with the block."""

    def __init__(self, home: Path, *programs: Program) -> None:
        self.states: list[tuple[str, str]] = []
        self._last: dict[str, str] = {}
        self.supervisor = Supervisor(programs, home, home / "logs", self._note)

    def _note(self) -> None:
        for name, known in self.supervisor.known.items():
            if self._last.get(name) != known.state:
                self._last[name] = known.state
                self.states.append((name, known.state))

    def pid(self, name: str) -> int | None:
        return self.supervisor.known[name].pid

    async def __aenter__(self) -> "Run":
        self.task = asyncio.create_task(self.supervisor.run())
        return self

    async def __aexit__(self, *error: object) -> None:
        self.supervisor.stopping.set()
        await self.task


async def test_a_program_that_dies_is_started_again_and_later_each_time(tmp_path: Path) -> None:
    async with Run(tmp_path, child("one", SLEEPER)) as run:
        pauses = []
        for _ in range(3):
            await until(lambda: run.supervisor.ready)
            pid = run.pid("one")
            assert pid is not None
            os.kill(pid, signal.SIGKILL)
            died = time.monotonic()
            await until(lambda pid=pid: run.pid("one") not in (None, pid))  # type: ignore[misc]
            pauses.append(time.monotonic() - died)
        assert pauses[0] < pauses[2]
        assert run.supervisor.known["one"].restarts == 3


async def test_a_program_waits_for_those_it_needs_and_stops_before_them(tmp_path: Path) -> None:
    open_door = asyncio.Event()

    async def when_open() -> bool:
        return open_door.is_set()

    first = child("first", SLEEPER, ready=when_open)
    async with Run(tmp_path, first, child("second", SLEEPER, after=("first",))) as run:
        await until(lambda: run.pid("first") is not None)
        assert run.pid("second") is None
        open_door.set()
        await until(lambda: run.supervisor.ready)
    stops = [name for name, state in run.states if state == "stopped"]
    assert stops == ["second", "first"]


async def test_a_program_that_ignores_the_signal_is_killed_with_all_it_started(tmp_path: Path) -> None:
    touched = tmp_path / "touched"
    family = f"import subprocess, sys; subprocess.Popen([sys.executable, '-c', {SLEEPER!r}]);" + STUBBORN
    async with Run(tmp_path, child("stubborn", family, str(touched), stop_seconds=0.2)) as run:
        await until(touched.exists)
        pids = leftovers.family(run.pid("stubborn"))
        assert len(pids) == 2
    await until(lambda: not any(psutil.pid_exists(pid) for pid in pids))


async def test_a_program_that_never_comes_up_ends_the_start_with_its_last_words(tmp_path: Path) -> None:
    async def no() -> bool:
        return False

    broken = child("broken", "raise SystemExit('there is no such setting')", ready=no)
    with pytest.raises(Trouble, match=r"broken does not start.*there is no such setting"):
        await Supervisor([broken], tmp_path, tmp_path / "logs", lambda: None).run()


def test_what_a_killed_supervisor_left_is_ended_and_a_stranger_is_not(tmp_path: Path) -> None:
    ours = subprocess.Popen([sys.executable, "-c", SLEEPER], env={**os.environ, leftovers.MARK: str(tmp_path)})
    stranger = subprocess.Popen([sys.executable, "-c", SLEEPER], env={**os.environ, leftovers.MARK: f"{tmp_path}2"})
    try:
        assert [one.pid for one in leftovers.find(tmp_path)] == [ours.pid]
        ended = leftovers.end(tmp_path)
        assert [str(ours.pid) in name for name in ended] == [True]
        assert not psutil.pid_exists(ours.pid)
        assert stranger.poll() is None
    finally:
        for process in (ours, stranger):
            process.kill()
            process.wait()


def test_a_log_never_grows_past_its_bound_and_its_writer_goes_on(tmp_path: Path) -> None:
    log = tmp_path / "one.log"
    with log.open("ab", buffering=0) as writer:
        writer.write(b"old " * 100 + b"new " * 100)
        bound(log, most_bytes=500)
        writer.write(b"next")
    assert log.read_bytes() == b"next"
    assert (tmp_path / "one.log.1").read_bytes().endswith(b"new ")
    assert (tmp_path / "one.log.1").stat().st_size == 250


def test_a_dead_process_that_nobody_reaped_does_not_live() -> None:
    child = subprocess.Popen([sys.executable, "-c", SLEEPER])
    name = psutil.Process(child.pid).name()
    assert leftovers.lives(child.pid, name)
    assert not leftovers.lives(child.pid, "postgres")
    child.kill()
    while psutil.Process(child.pid).status() != psutil.STATUS_ZOMBIE:
        time.sleep(0.01)
    assert not leftovers.lives(child.pid, name)
    child.wait()
    assert not leftovers.lives(child.pid, name)


async def test_a_log_that_cannot_be_cut_ends_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a full disk, where the cut has no room for what it keeps."""
    monkeypatch.setattr(processes, "LOG_LOOK_SECONDS", 0.05)
    looks: list[Path] = []
    cut = processes.bound

    def bound(log: Path) -> None:
        looks.append(log)
        cut(log, 10)

    monkeypatch.setattr(processes, "bound", bound)
    (tmp_path / "logs" / "one.log.1").mkdir(parents=True)
    async with Run(tmp_path, child("one", f"print('x' * 100, flush=True); {SLEEPER}")) as run:
        await until(lambda: run.supervisor.ready)
        await until(lambda: (tmp_path / "logs" / "one.log").stat().st_size > 10)
        seen = len(looks)
        await until(lambda: len(looks) > seen + 1)  # it looks again after one that failed
        assert not run.task.done()
