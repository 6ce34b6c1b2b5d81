"""up, status, logs, down and reset: the local stack's life, from a terminal."""

import asyncio
import fcntl
import json
import signal
import sys
import time
from typing import Annotated

from cyclopts import Parameter
from rich.console import Console
from rich.prompt import Confirm
from rich.table import Table

from deploy.commands.backup import take_back
from deploy.demo import data
from deploy.local.display import Progress, summary
from deploy.local.inquiry import report
from deploy.local.places import Places
from deploy.local.stack import EVERYTHING, Stack
from deploy.trouble import Trouble

console = Console(highlight=False)
Flag = Annotated[bool, Parameter(negative="")]
TAIL_LINES = 40
FOLLOW_SECONDS = 0.3
WATCH_SECONDS = 0.5


def up(*, detach: Flag = False, no_demo: Flag = False) -> int:
    """Start everything on this machine and show where to go; Ctrl-C stops it all.

    Data of an earlier start is used again. Where something is in the way, it says what, and nothing stays running.

    Examples: `kursnett up`, `kursnett up --detach`, `KURSNETT_PORT=8090 KURSNETT_BASE_PORT=19000 kursnett up`

    Parameters
    ----------
    detach
        Return when all is ready and leave it running; `kursnett down` stops it.
    no_demo
        Leave the databases as they are: do not add the demonstration partners, courses and people.
    """
    stack = Stack.here()
    try:
        take_back(stack, console)
        with Progress(console) as progress:
            stack.start(detach=detach, watch=progress.show)
        _require_all(stack)
        if not no_demo:
            _demo(stack.places)
    except KeyboardInterrupt:
        if not stack.is_anothers:
            _stop(stack, "Stopped before it was ready.")
        return 130
    except Exception as error:
        told = stack.explained(error)
        if not stack.is_anothers:
            stack.stop()
        raise told from None
    console.print(summary(stack.places, stack.state().get("seconds")))
    if stack.is_anothers:
        console.print("It was running already. Stop it with: kursnett down")
        return 0
    if detach:
        console.print("It runs in the background. Stop it with: kursnett down")
        return 0
    console.print("Ctrl-C stops it all.")
    try:
        _watch(stack)
    except KeyboardInterrupt:
        _stop(stack, "Stopped.")
        return 0
    state = stack.state()
    stack.stop()
    if state.get("phase") == "failed":
        raise stack.explained(Trouble(state["what"], state["mend"]))
    if state.get("phase") != "stopped":
        killed = Trouble(
            "The stack's supervisor was killed.", "What was left of the stack was ended. Start again: make up"
        )
        raise stack.explained(killed)
    console.print("It was stopped from elsewhere.")
    return 0


def _require_all(stack: Stack) -> None:
    """Raises Trouble when another has started a part of it only, as a restore does."""
    programs = stack.state().get("programs", {})
    if not programs.keys() >= set(stack.programs):
        raise Trouble(
            f"Only {' and '.join(programs)} runs here, as for a restore; the stack is not started.",
            "Wait until it is done, then run the same again. See: kursnett status",
        )


def _watch(stack: Stack) -> None:
    """Return when the stack has stopped; until then, tell of programs that die and return, and of a full disk."""
    well: dict[str, bool] = {}
    full = False  # on a full disk the supervisor cannot write what it knows
    while stack.supervisor is not None:
        state = stack.state()
        for name, known in state.get("programs", {}).items() if state.get("phase") == "ready" else ():
            is_well = known["state"] == "ready"
            if is_well != well.setdefault(name, True):
                well[name] = is_well
                console.print(f"{name} is back." if is_well else f"{name} ended; it is started again.", markup=False)
        if stack.is_full() != full:
            full = not full
            told = "is full: make room, and it goes on." if full else "has room again."
            console.print(f"The disk of {stack.places.home} {told}", markup=False, soft_wrap=True)
        time.sleep(WATCH_SECONDS)


def _demo(places: Places) -> None:
    """Load the demonstration data once; a note tells that it is there, so that a later start need not ask."""
    note = places.home / "demo"
    with (places.home / "demo.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # another who starts the same stack may be at it
        if not note.exists():
            asyncio.run(data.load(places, lambda text: console.print(f"demo: {text}", markup=False)))
            note.touch()


def _stop(stack: Stack, words: str) -> None:
    _be_deaf()  # an impatient second Ctrl-C would leave half of it running
    console.print("Stopping …")
    stack.stop()
    console.print(words)


def _be_deaf() -> None:
    """From now on nobody interrupts this command: what it has begun is done in seconds."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)


def status(*, as_json: Annotated[bool, Parameter(name="--json", negative="")] = False) -> int:
    """Show every program of the stack, and whether it answers; exits with 1 when one does not.

    Example: `kursnett status --json`, for a program that wants the addresses

    Parameters
    ----------
    as_json
        Print one JSON object: `ready`, every address, the databases' URLs with their passwords, process numbers; exits
        with 0.
    """
    stack = Stack.here()
    told = asyncio.run(report(stack))
    if as_json:
        print(json.dumps(told, indent=2))
        return 0
    if stack.supervisor is None:
        raise Trouble("The stack does not run.", "Start it: make up")
    programs = stack.state().get("programs", {})  # none in its first moment
    well = told["programs"]
    table = Table(box=None, header_style="bold")
    for heading in ("program", "state", "answers", "address", "process", "restarts"):
        table.add_column(heading)
    for name, known in programs.items():
        pid, restarts = str(known["pid"] or ""), str(known["restarts"] or "")
        table.add_row(
            name, known["state"], "yes" if well.get(name) else "no", stack.places.address(name), pid, restarts
        )
    console.print(table)
    console.print(f"memory: {stack.memory_bytes() / 1e6:.0f} MB")
    for name, words in told["attention"].items():
        console.print(f"! {name}: {words}", markup=False, soft_wrap=True)
    return 0 if told["ready"] else 1


def logs(service: str | None = None, /, *, follow: Flag = False) -> None:
    """Show the last 40 lines of each program's log, or of one program's.

    Examples: `kursnett logs`, `kursnett logs enrolment --follow`

    Parameters
    ----------
    service
        Whose log: postgres, kafka, issuer, mail, catalogue, enrolment, notifier, gateway or supervisor.
    follow
        Go on showing new lines until Ctrl-C.
    """
    known = (*EVERYTHING, "supervisor")
    if service is not None and service not in known:
        raise Trouble(f"There is no log of {service!r}.", f"Choose one of: {', '.join(known)}.")
    places = Stack.here().places
    names = [service] if service else [name for name in known if places.log(name).exists()]
    if not names or not any(places.log(name).exists() for name in names):
        raise Trouble(f"There is no log in {places.logs} yet.", "Start the stack first: make up")
    seen = {name: _show_tail(places, name, prefix=service is None) for name in names}
    while follow:
        for name in names:
            seen[name] = _show_new(places, name, seen[name], prefix=service is None)
        time.sleep(FOLLOW_SECONDS)


def _show_tail(places: Places, name: str, prefix: bool) -> int:
    path = places.log(name)
    if not path.exists():
        return 0
    content = path.read_bytes()
    _print(name, content.decode(errors="replace").splitlines()[-TAIL_LINES:], prefix)
    return len(content)


def _show_new(places: Places, name: str, seen: int, prefix: bool) -> int:
    path = places.log(name)
    size = path.stat().st_size if path.exists() else 0
    if size < seen:  # it was cut
        seen = 0
    if size > seen:
        with path.open("rb") as file:
            file.seek(seen)
            whole, _, _ = file.read().rpartition(b"\n")
        _print(name, whole.decode(errors="replace").splitlines(), prefix)
        seen += len(whole) + 1 if whole else 0
    return seen


def _print(name: str, lines: list[str], prefix: bool) -> None:
    for line in lines:
        print(f"{name:<10} {line}" if prefix else line)
    sys.stdout.flush()


def down() -> None:
    """Stop the stack, wherever it was started, and end whatever a killed one left behind. Data stays.

    Example: `kursnett down`
    """
    stack = Stack.here()
    ran = stack.supervisor is not None
    ended = stack.stop()
    if ended:
        console.print(f"Ended what an earlier stack had left: {', '.join(ended)}", soft_wrap=True)
    console.print("Stopped." if ran or ended else "Nothing was running.")


def reset(*, yes: Flag = False) -> None:
    """Stop the stack and delete all its data: databases, topics, keys, logs. What was downloaded stays.

    Example: `kursnett reset --yes`

    Parameters
    ----------
    yes
        Do not ask first.
    """
    stack = Stack.here()
    if not yes:
        if not sys.stdin.isatty():
            raise Trouble("reset deletes all data and there is nobody to ask.", "Say so: kursnett reset --yes")
        if not Confirm.ask(f"Delete all data of the stack in {stack.places.home}?", default=False):
            raise Trouble("Nothing was deleted.")
    _be_deaf()  # half of the data would be a stack that fits nothing it has kept
    stack.reset()
    console.print(f"The data in {stack.places.home} is gone. What was fetched stays in the cache.")
