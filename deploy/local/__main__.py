"""The supervisor's process: `python -m deploy.local PLACES PROGRAMS [LIFELINE]`; started by deploy.local.stack."""

import asyncio
import contextlib
import fcntl
import json
import os
import signal
import sys
import threading
import time
import traceback
from dataclasses import asdict
from typing import IO, Any

from deploy import secrets
from deploy.local.composition import programs
from deploy.local.places import Places
from deploy.local.processes import Supervisor
from deploy.trouble import Trouble, refused

LOCK_SECONDS = 2.0  # who only looks whether we run has the lock for a moment


async def supervise(places: Places, names: list[str], lifeline: int | None) -> int:
    """Run the stack until SIGTERM, SIGINT or the end of whoever holds the lifeline; returns the exit code."""
    began = time.time()
    phase: dict[str, Any] = {"phase": "starting"}
    writing = threading.Lock()  # a program's preparation tells of its progress from a thread of its own

    def write() -> None:
        if phase["phase"] == "starting" and supervisor.ready:
            phase.update(phase="ready", seconds=round(time.time() - began, 1))
        known = {name: asdict(one) for name, one in supervisor.known.items()}
        state = {**phase, "supervisor": os.getpid(), "began": began, "places": places.record(), "programs": known}
        # A full disk must not end what runs: it goes on when there is room again.
        with writing, contextlib.suppress(OSError):
            draft = places.state.with_suffix(".new")
            draft.write_text(json.dumps(state))
            draft.replace(places.state)

    supervisor = Supervisor(programs(places, names), places.home, places.logs, write)
    loop = asyncio.get_running_loop()

    def stop() -> None:
        phase["phase"] = "stopping"
        supervisor.stopping.set()

    def lifeline_closed() -> None:
        if lifeline is not None:
            loop.remove_reader(lifeline)
        stop()

    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        loop.add_signal_handler(number, stop)
    if lifeline is not None:
        loop.add_reader(lifeline, lifeline_closed)
    write()
    try:
        secrets.make(places.secrets)
        await supervisor.run()
        phase["phase"] = "stopped"
    except secrets.Damaged as error:
        phase.update(phase="failed", what=str(error), mend=error.mend)
    except Trouble as trouble:
        phase.update(phase="failed", what=trouble.what, mend=trouble.mend)
    except OSError as error:
        known = refused(error) or Trouble(f"The stack failed: {error}.", "Look for the cause: kursnett doctor")
        phase.update(phase="failed", what=known.what, mend=known.mend)
    except Exception:  # whatever it was, the person who waits must be told, and the children were stopped
        traceback.print_exc()
        mend = f"Please report it, with {places.log('supervisor')}."
        phase.update(phase="failed", what="The supervisor met a fault of its own.", mend=mend)
    finally:
        write()
    return 0 if phase["phase"] == "stopped" else 1


def _locked(lock: IO[str]) -> bool:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def main(arguments: list[str]) -> int:
    places = Places.from_record(json.loads(arguments[0]))
    lifeline = int(arguments[2]) if len(arguments) > 2 else None
    with places.lock.open("a+") as lock:
        give_up = time.monotonic() + LOCK_SECONDS
        while not _locked(lock):
            if time.monotonic() > give_up:
                print("Another supervisor runs this stack already.", file=sys.stderr)
                return 1
            time.sleep(0.02)
        lock.truncate(0)
        lock.write(str(os.getpid()))
        lock.flush()
        os.umask(0o022)  # another user, PostgreSQL's, must get through our folders
        return asyncio.run(supervise(places, arguments[1].split(","), lifeline))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
