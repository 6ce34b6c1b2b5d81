"""Keeps the servers and services of a stack running: started in order, restarted when they die, stopped in order."""

import asyncio
import contextlib
import os
import signal
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from deploy.local.leftovers import MARK, end_family
from deploy.trouble import Trouble

LOG_BYTES = 10_000_000  # then the log's last half is kept as <name>.log.1 and the log starts anew
LOG_LOOK_SECONDS = 5.0
FIRST_BACK_OFF_SECONDS = 0.2
LONGEST_BACK_OFF_SECONDS = 10.0
SETTLED_SECONDS = 30.0  # having run so long, the next death starts the back-off anew
EARLY_DEATHS = 3  # a program that dies so often before it was ever ready will not come up by itself
LOOK_SECONDS = 0.1  # between two questions whether a program is ready
READY_SECONDS = 120.0  # a first start that takes longer has gone wrong, on a busy machine too; a death is seen at once

Say = Callable[[str], None]


async def nothing(say: Say) -> None:
    """For a program with nothing to prepare."""


@dataclass
class Program:
    """One process of the stack and what it takes to run it.

    `prepare` runs once, before the first start, and may return nothing or fill in `argv`; `ready` returns whether the
    process answers *and is the one we started*.
    """

    name: str
    ready: Callable[[], Awaitable[bool]]
    prepare: Callable[[Say], Awaitable[None]] = nothing
    argv: Sequence[str] = ()
    environment: Mapping[str, str] = field(default_factory=dict)
    after: Sequence[str] = ()  # programs that must be ready before this one is prepared
    user: tuple[int, int] | None = None  # uid and gid to run as
    stop_signal: signal.Signals = signal.SIGTERM
    stop_seconds: float = 10.0


@dataclass
class Known:
    """What is known of one program; the state file shows these."""

    state: str = "waiting"  # waiting, preparing, starting, ready, restarting, stopped, failed
    text: str = ""
    pid: int | None = None
    restarts: int = 0
    began: float = field(default_factory=time.time)
    ready_seconds: float | None = None


class Supervisor:
    """Runs programs until it is asked to stop. `changed` is called after each change of what is known."""

    def __init__(self, programs: Sequence[Program], home: Path, logs: Path, changed: Callable[[], None]) -> None:
        self.programs = {program.name: program for program in programs}
        self.known = {program.name: Known() for program in programs}
        self.stopping = asyncio.Event()
        self._home = home
        self._logs = logs
        self._changed = changed
        self._ready = {program.name: asyncio.Event() for program in programs}
        self._running: dict[str, asyncio.subprocess.Process] = {}

    @property
    def ready(self) -> bool:
        return all(known.state == "ready" for known in self.known.values())

    async def run(self) -> None:
        """Start everything, keep it running until `stopping` is set, then stop it. Raises Trouble if a start fails."""
        self._logs.mkdir(parents=True, exist_ok=True)
        keepers = [asyncio.create_task(self._keep(program)) for program in self.programs.values()]
        side = [asyncio.create_task(self.stopping.wait()), asyncio.create_task(self._bound_logs())]
        try:
            done, _ = await asyncio.wait([*keepers, *side], return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        finally:
            self.stopping.set()
            for task in (*keepers, *side):
                task.cancel()
            await asyncio.gather(*keepers, *side, return_exceptions=True)
            await self._stop_all()

    async def _keep(self, program: Program) -> None:
        for name in program.after:
            await self._ready[name].wait()
        self._tell(program, "preparing")
        await program.prepare(lambda text: self._tell(program, "preparing", text))
        deaths, back_off = 0, FIRST_BACK_OFF_SECONDS
        while True:
            started = time.monotonic()
            process = await self._start(program)
            try:
                await self._until_ready(program, process)
                await process.wait()
            finally:
                self._ready[program.name].clear()
                if process.returncode is not None:
                    self._running.pop(program.name, None)
            known = self.known[program.name]
            deaths += 1
            if known.ready_seconds is None and deaths >= EARLY_DEATHS:
                self._tell(program, "failed", f"ended with {process.returncode}")
                raise Trouble(
                    f"{program.name} does not start: it ended {deaths} times. "
                    f"Its last words: {self._last_words(program)}",
                    f"The whole log is in {self._logs / program.name}.log.",
                )
            if time.monotonic() - started > SETTLED_SECONDS:
                back_off = FIRST_BACK_OFF_SECONDS
            known.restarts += 1
            known.pid = None
            self._tell(program, "restarting", f"ended with {process.returncode}")
            await asyncio.sleep(back_off)
            back_off = min(2 * back_off, LONGEST_BACK_OFF_SECONDS)

    async def _start(self, program: Program) -> asyncio.subprocess.Process:
        uid, gid = program.user or (None, None)
        with (self._logs / f"{program.name}.log").open("ab") as log:
            process = await asyncio.create_subprocess_exec(
                *program.argv,
                env={**os.environ, **program.environment, MARK: str(self._home)},
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,  # a Ctrl-C in the terminal reaches us alone, and we stop them in order
                user=uid,
                group=gid,
                extra_groups=None if uid is None else [],
            )
        self._running[program.name] = process
        self.known[program.name].pid = process.pid
        self._tell(program, "starting")
        return process

    async def _until_ready(self, program: Program, process: asyncio.subprocess.Process) -> None:
        """Return when the program is ready or has ended. Raises Trouble when a first start takes too long."""
        known = self.known[program.name]
        give_up = time.monotonic() + READY_SECONDS
        while process.returncode is None:
            with contextlib.suppress(OSError, TimeoutError):
                if await program.ready() and process.returncode is None:
                    if known.ready_seconds is None:
                        known.ready_seconds = round(time.time() - known.began, 1)
                    self._ready[program.name].set()
                    self._tell(program, "ready")
                    return
            if known.ready_seconds is None and time.monotonic() > give_up:
                self._tell(program, "failed", "did not get ready")
                raise Trouble(
                    f"{program.name} is not ready after {READY_SECONDS:.0f} s. "
                    f"Its last words: {self._last_words(program)}",
                    f"The whole log is in {self._logs / program.name}.log.",
                )
            await asyncio.sleep(LOOK_SECONDS)

    async def _stop_all(self) -> None:
        """Stop what runs, the last started first; each gets its own time to end well."""
        order = list(self.programs.values())
        while order:
            # Programs that nothing left waits for may stop side by side.
            needed = {name for program in order for name in program.after}
            now = [program for program in order if program.name not in needed]
            await asyncio.gather(*(self._stop(program) for program in now))
            order = [program for program in order if program.name in needed]

    async def _stop(self, program: Program) -> None:
        process = self._running.get(program.name)
        if process is not None and process.returncode is None:
            self._tell(program, "stopping")
            with contextlib.suppress(ProcessLookupError):
                process.send_signal(program.stop_signal)
            try:
                await asyncio.wait_for(process.wait(), program.stop_seconds)
            except TimeoutError:
                end_family(process.pid)
                await process.wait()
        self.known[program.name].pid = None
        self._tell(program, "stopped")

    def _tell(self, program: Program, state: str, text: str = "") -> None:
        known = self.known[program.name]
        known.state, known.text = state, text
        self._changed()

    def _last_words(self, program: Program) -> str:
        path = self._logs / f"{program.name}.log"
        lines = path.read_text(errors="replace").splitlines() if path.exists() else []
        return " / ".join(line.strip() for line in lines[-3:] if line.strip()) or "none"

    async def _bound_logs(self) -> None:
        while True:
            for name in self.programs:
                with contextlib.suppress(OSError):  # a full disk has no room for what is kept; it ends nothing
                    bound(self._logs / f"{name}.log")
            await asyncio.sleep(LOG_LOOK_SECONDS)


def bound(log: Path, most_bytes: int = LOG_BYTES) -> None:
    """Cut a log that has grown past its limit; the program goes on writing to the same file, at its new end."""
    if not log.exists() or log.stat().st_size <= most_bytes:
        return
    with log.open("r+b") as file:
        file.seek(-most_bytes // 2, os.SEEK_END)
        log.with_name(f"{log.name}.1").write_bytes(file.read())
        file.truncate(0)
