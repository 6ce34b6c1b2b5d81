"""One local stack as a program sees it: start it, ask it, stop it. Tests and the command line both use this."""

import contextlib
import fcntl
import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import psutil

from deploy.local import leftovers, ports
from deploy.local.places import OFFSETS, OURS, SERVICES, Places
from deploy.local.postgres import noted
from deploy.trouble import Trouble

SERVERS = ("postgres", "kafka", "issuer", "mail")
EVERYTHING = (*SERVERS, *SERVICES, "gateway")
KEPT = (
    *("postgres", "kafka", "issuer", "gateway", "secrets", "logs", "restored"),
    *("state.json", "state.new", "lock", "demo", "demo.lock"),
)
RESETTING = "resetting"  # there while all of these are deleted
START_SECONDS = 300.0  # a first start fetches 75 MB
STOP_SECONDS = 60.0  # services 20 s, then the servers 20 s
ROOM_BYTES = 300_000_000  # a new stack's files with the demonstration data, twice over
FULL_BYTES = 20_000_000  # with less, PostgreSQL cannot add to its log and Kafka cannot open a segment

State = dict[str, Any]


class Stack:
    """The stack in one folder. `programs` says what runs in it; `SERVERS` leaves out our own services and the gateway.

    with Stack.somewhere(tmp_path, programs=("postgres", "kafka")) as stack:
        stack.places.address("kafka"), stack.places.database("admin")
    """

    def __init__(self, places: Places, programs: Sequence[str] = EVERYTHING) -> None:
        self.places = places
        self.programs = tuple(programs)
        self._lifeline: int | None = None
        self._process: subprocess.Popen[bytes] | None = None

    @classmethod
    def here(cls) -> Self:
        """The stack that the environment names; on the ports that it runs on, if it runs."""
        stack = cls(Places.from_environment())
        if stack.supervisor is not None and stack.state():
            stack.places = Places.from_record(stack.state()["places"])
        return stack

    @classmethod
    def somewhere(cls, home: Path, programs: Sequence[str] = SERVERS) -> Self:
        """A stack in `home` on ports that are free now: for a test beside other stacks."""
        base = ports.open_block()
        return cls(Places(home, base_port=base, gateway_port=base + max(OFFSETS.values()) + 1), programs)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
        self._delete_database()  # a stack of a `with` block is a test's

    @property
    def supervisor(self) -> int | None:
        """The process number of the supervisor that runs this stack now; None when none does."""
        if not self.places.lock.exists():
            return None
        with self.places.lock.open() as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)  # shared: two who look do not see each other
            except BlockingIOError:
                text = lock.read()
                return int(text) if text else -1
            return None

    def state(self) -> State:
        """What the supervisor wrote last: `phase`, `programs`, `places`; empty before the first start.

        Empty too when it is not whole, as a power cut may leave it: it is written anew with the next start.
        """
        try:
            state: Any = json.loads(self.places.state.read_text())
        except (FileNotFoundError, ValueError):
            return {}
        return state if isinstance(state, dict) else {}

    def start(
        self, detach: bool = False, watch: Callable[[State], None] = lambda state: None, seconds: float = START_SECONDS
    ) -> None:
        """Start the stack and return when all of it is ready. Without `detach` it ends when this process does.

        `watch` is called about ten times a second with the state, to show it. Raises Trouble.
        """
        if self.supervisor is None:
            self._launch(detach)
        give_up = time.monotonic() + seconds
        while True:
            state = self.state()
            watch(state)
            if state.get("phase") == "ready":
                return
            if state.get("phase") == "failed":
                raise Trouble(state["what"], state["mend"])
            if state.get("phase") == "stopped":
                raise Trouble("The stack was stopped while it started.", "Start it again: make up")
            if self.supervisor is None and not self._process_alive():
                raise Trouble("The stack's supervisor ended.", f"Its log is {self.places.log('supervisor')}.")
            if time.monotonic() > give_up:
                raise Trouble(f"The stack is not ready after {seconds:.0f} s.", "See: kursnett status, kursnett logs")
            time.sleep(0.1)

    def _launch(self, detach: bool) -> None:
        if (self.places.home / RESETTING).exists():  # it was killed: half of the data is of no use
            self.reset()
        self.places.logs.mkdir(parents=True, exist_ok=True)
        leftovers.end(self.places.home)
        ports.require_free(self.places, self.ports())
        free = shutil.disk_usage(self.places.home).free
        if free < ROOM_BYTES:
            raise Trouble(
                f"The disk of {self.places.home} has {free // 10**6} MB left; {ROOM_BYTES // 10**6} MB are needed.",
                "Make room, or set KURSNETT_HOME to a folder on another disk.",
            )
        self.places.state.unlink(missing_ok=True)
        command = [*OURS, "deploy.local", json.dumps(self.places.record()), ",".join(self.programs)]
        kept: tuple[int, ...] = ()
        if not detach:  # the supervisor stops when our end of this pipe closes, however we end
            end, self._lifeline = os.pipe()
            command.append(str(end))
            kept = (end,)
        with self.places.log("supervisor").open("wb") as log:
            self._process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, pass_fds=kept, start_new_session=True
            )
        for one in kept:
            os.close(one)

    def is_full(self) -> bool:
        """Whether the disk that the stack writes to has no room."""
        home = self.places.home
        return home.exists() and shutil.disk_usage(home).free < FULL_BYTES

    def explained(self, error: Exception) -> Exception:
        """The same error, or what lies behind it when the disk is full: then anything can be what fails."""
        if not self.is_full():
            return error
        return Trouble(
            f"The disk of {self.places.home} is full.",
            "Make room, or set KURSNETT_HOME to a folder on another disk. Then run the same command again.",
        )

    def _process_alive(self) -> bool:
        return self._process is not None and self._process.poll() is None

    @property
    def is_anothers(self) -> bool:
        """Whether somebody else has started it, or was the first of several to do so."""
        return self.supervisor not in (None, self._process.pid if self._process else None)

    def ports(self) -> list[str]:
        """The names of the ports that its programs listen on."""
        ours = list(self.programs)
        if "kafka" in ours:
            ours += ["kafka-controller", "kafka-partners"]
        if "mail" in ours:
            ours.append("smtp")
        return ours

    def stop(self, watch: Callable[[State], None] = lambda state: None) -> list[str]:
        """Stop the stack in order and end whatever is left of it; returns what had to be ended without a supervisor."""
        supervisor = self.supervisor
        if supervisor is not None and supervisor > 0:
            with contextlib.suppress(ProcessLookupError):
                os.kill(supervisor, signal.SIGTERM)
            give_up = time.monotonic() + STOP_SECONDS
            while self.supervisor is not None and time.monotonic() < give_up:
                watch(self.state())
                time.sleep(0.05)
            if self.supervisor is not None:
                leftovers.end_family(supervisor)
        if self._process is not None and self._process_alive():
            self._process.terminate()  # one that was not the first to start it may still wait for its turn
            self._process.wait(STOP_SECONDS)
        if self._lifeline is not None:
            os.close(self._lifeline)
            self._lifeline = None
        return leftovers.end(self.places.home)

    def reset(self) -> None:
        """Stop the stack and delete all that it keeps, and nothing else: KURSNETT_HOME may be any folder.

        Raises Trouble when some of it could not be deleted.
        """
        self.stop()
        begun = self.places.home / RESETTING
        with contextlib.suppress(OSError):  # no home, or a full disk: then it may be half, if we are killed
            begun.touch()
        kept = [self.places.home / name for name in KEPT]
        database = noted(self.places.home)
        self._delete_database()
        for path in kept:
            if path.is_dir():
                shutil.rmtree(path, ignore_errors=True)
            else:
                with contextlib.suppress(OSError):
                    path.unlink(missing_ok=True)
        left = {path: None for path in (database, *kept) if path is not None and os.path.lexists(path)}
        if left:
            raise Trouble(
                f"Not all could be deleted. Still there: {', '.join(map(str, left))}.",
                "Does it belong to another user? Then reset as that user, or as root.",
            )
        with contextlib.suppress(OSError):
            begun.unlink(missing_ok=True)
            self.places.home.rmdir()

    def _delete_database(self) -> None:
        """Its files may lie outside the stack's folder: see deploy.local.postgres. The note stays while they do."""
        folder = noted(self.places.home)
        if folder is not None:
            shutil.rmtree(folder, ignore_errors=True)
        if folder is None or not folder.exists():
            with contextlib.suppress(OSError):
                (self.places.home / "postgres.path").unlink(missing_ok=True)

    def pids(self, name: str) -> list[int]:
        """All processes of one program, with those that it started."""
        return leftovers.family(self.state().get("programs", {}).get(name, {}).get("pid"))

    def memory_bytes(self) -> int:
        """What all processes of the stack hold in memory together, its supervisor too.

        A page that several share, as PostgreSQL's processes do its buffers, counts once where the system tells (Linux).
        """
        total = 0
        for pid in {self.supervisor or 0, *(pid for name in self.programs for pid in self.pids(name))} - {0, -1}:
            with contextlib.suppress(psutil.Error):
                held = psutil.Process(pid).memory_full_info()
                total += getattr(held, "pss", held.rss)
        return total
