"""One process of a fault run: started again when it dies, as a supervisor would, and killed or stopped on request."""

import asyncio
import contextlib
import ctypes
import os
import signal
import sys
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import psutil

from deploy.local.leftovers import MARK, end_family, family
from deploy.local.places import ROOT

FIRST_BACK_OFF_S = 0.2
LONGEST_BACK_OFF_S = 5.0
SETTLED_S = 5.0  # having run so long, the next death starts the back-off anew
READY_S = 90.0
LOOK_S = 0.1
PR_SET_PDEATHSIG = 1


class Notes(Protocol):
    """Where what happened is written: a History."""

    def add(self, kind: str, **fields: Any) -> object: ...


class Child:
    """A process and its descendants. `ready` tells whether it answers and is ours."""

    def __init__(
        self,
        name: str,
        home: Path,
        log_path: Path,
        argv: Sequence[str],
        ready: Callable[[], Awaitable[bool]],
        environment: Mapping[str, str] | None = None,
        user: tuple[int, int] | None = None,
        stop_signal: signal.Signals = signal.SIGTERM,
        stop_s: float = 25.0,
    ) -> None:
        self.name = name
        self.log_path = log_path
        self.history: Notes | None = None
        self.exits = 0
        self._home = home
        self._argv = argv
        self._ready = ready
        self._environment = environment or {}
        self._user = user
        self._stop_signal = stop_signal
        self._stop_s = stop_s
        self._process: asyncio.subprocess.Process | None = None
        self._keeper: asyncio.Task[None] | None = None
        self._asked = ""  # what we did to it last: an exit without that is one of its own

    @property
    def pid(self) -> int | None:
        """Its process number; None while it is down."""
        process = self._process
        return None if process is None or process.returncode is not None else process.pid

    @property
    def pids(self) -> list[int]:
        """Its process number and those of all that it started."""
        return family(self.pid)

    async def start(self) -> None:
        """Start it, keep it running from now on, and return when it is ready. Raises TimeoutError."""
        if self._keeper is None:
            self._asked = ""
            self._keeper = asyncio.create_task(self._keep())
        try:
            async with asyncio.timeout(READY_S):
                while not await self.is_ready():
                    if self._keeper.done():
                        self._keeper.result()
                    await asyncio.sleep(LOOK_S)
        except TimeoutError:
            raise TimeoutError(f"{self.name} is not ready after {READY_S:.0f} s: see {self.log_path}") from None

    async def is_ready(self) -> bool:
        with contextlib.suppress(OSError, TimeoutError):
            return self.pid is not None and await self._ready()
        return False

    async def stop(self) -> None:
        """End it in order and keep it down; what does not end in its time is killed."""
        if self._keeper is None:
            return
        self._asked = "stop"
        self._keeper.cancel()
        await asyncio.gather(self._keeper, return_exceptions=True)
        self._keeper = None
        process = self._process
        if process is None or process.returncode is not None:
            return
        self.thaw()
        with contextlib.suppress(ProcessLookupError):
            process.send_signal(self._stop_signal)
        try:
            await asyncio.wait_for(process.wait(), self._stop_s)
        except TimeoutError:
            end_family(process.pid)
            await process.wait()
        self._tell(process)

    async def gone(self) -> None:
        """Return when the process that runs now has ended."""
        if self._process is not None:
            await self._process.wait()

    def kill(self) -> None:
        """kill -9, with all that it started."""
        self._signal(signal.SIGKILL, "kill")

    def terminate(self) -> None:
        """SIGTERM to the process itself: it ends in its own time."""
        if self.pid is not None:
            self._asked = "terminate"
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGTERM)

    def freeze(self) -> None:
        """SIGSTOP, with all that it started."""
        self._signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """SIGCONT, with all that it started."""
        self._signal(signal.SIGCONT)

    def _signal(self, number: signal.Signals, asked: str = "") -> None:
        if asked and self.pid is not None:
            self._asked = asked
        for pid in self.pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)

    async def _keep(self) -> None:
        back_off_s = FIRST_BACK_OFF_S
        while True:
            began = time.monotonic()
            self._process = process = await self._launch()
            if self.history is not None:
                self.history.add("start", who=self.name, pid=process.pid)
            await process.wait()
            self._tell(process)
            if time.monotonic() - began > SETTLED_S:
                back_off_s = FIRST_BACK_OFF_S
            await asyncio.sleep(back_off_s)
            back_off_s = min(2 * back_off_s, LONGEST_BACK_OFF_S)

    async def _launch(self) -> asyncio.subprocess.Process:
        uid, gid = self._user or (None, None)
        with self.log_path.open("ab") as log:
            return await asyncio.create_subprocess_exec(
                *self._argv,
                cwd=ROOT,
                env={**os.environ, **self._environment, MARK: str(self._home)},
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,  # a Ctrl-C in the terminal reaches us alone, and we stop them in order
                user=uid,
                group=gid,
                extra_groups=None if uid is None else [],
                preexec_fn=_die_with_parent if sys.platform == "linux" else None,
            )

    def _tell(self, process: asyncio.subprocess.Process) -> None:
        self.exits += 1
        asked, self._asked = self._asked, ""
        if self.history is not None:
            self.history.add("exit", who=self.name, pid=process.pid, status=process.returncode, asked=asked)

    def facts(self) -> dict[str, int]:
        """What it holds now: open files, threads, memory in bytes; empty while it is down."""
        with contextlib.suppress(psutil.Error):
            process = psutil.Process(self.pid) if self.pid is not None else None
            if process is not None:
                memory = process.memory_info().rss
                return {"files": process.num_fds(), "threads": process.num_threads(), "memory_bytes": memory}
        return {}


def _die_with_parent() -> None:
    """Have the kernel kill the new process when we are gone, however we went."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
