"""Finds and ends what a killed supervisor left behind: our own processes by their mark, never a stranger's."""

import contextlib
import signal
from pathlib import Path

import psutil

MARK = "KURSNETT_STACK"  # in the environment of every process of a stack, with the stack's folder as its value
GRACE_SECONDS = 15.0  # a database that is killed has to replay its log at the next start


def find(home: Path) -> list[psutil.Process]:
    """The processes that belong to the stack in `home`, without children of processes already listed."""
    ours = {}
    for process in psutil.process_iter():
        # One of another user, or one that ends while we look, is not ours to see.
        with contextlib.suppress(psutil.Error, OSError):
            if process.environ().get(MARK) == str(home):
                ours[process.pid] = process
    heads = []
    for process in ours.values():
        with contextlib.suppress(psutil.Error):
            if process.status() != psutil.STATUS_ZOMBIE and process.ppid() not in ours:
                heads.append(process)
    return heads


def end(home: Path) -> list[str]:
    """End what is left of the stack in `home`, asking first; returns the names of what was ended."""
    heads = find(home)
    named = []
    families = []
    for process in heads:
        with contextlib.suppress(psutil.Error):
            families += process.children(recursive=True)
            named.append(f"{process.name()} ({process.pid})")
            # psutil compares the start time first, so a reused process number is safe.
            # On SIGTERM PostgreSQL would wait for its clients.
            process.send_signal(signal.SIGINT if process.name() == "postgres" else signal.SIGTERM)
    _, alive = psutil.wait_procs([*heads, *families], GRACE_SECONDS)
    for process in alive:
        with contextlib.suppress(psutil.Error):
            process.kill()
    psutil.wait_procs(alive, GRACE_SECONDS)
    return named


def end_family(pid: int) -> None:
    """Kill a process that would not stop, and all that it started."""
    with contextlib.suppress(psutil.Error):
        process = psutil.Process(pid)
        for one in [*process.children(recursive=True), process]:
            with contextlib.suppress(psutil.Error):
                one.kill()


def lives(pid: int, name: str) -> bool:
    """Whether a process of this number and name runs; one that has ended and was not yet reaped does not."""
    with contextlib.suppress(psutil.Error):
        process = psutil.Process(pid)
        return bool(process.name() == name and process.status() != psutil.STATUS_ZOMBIE)
    return False


def family(pid: int | None) -> list[int]:
    """A process and all that it started, as process numbers; empty when it is gone."""
    if pid is None:
        return []
    with contextlib.suppress(psutil.Error):
        return [pid, *(child.pid for child in psutil.Process(pid).children(recursive=True))]
    return []
