"""backup and restore: the databases of every service as they are now, and as they were then."""

import asyncio
import json
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from types import FrameType
from typing import Annotated, Any

from cyclopts import Parameter
from rich.console import Console
from rich.prompt import Confirm

from deploy.local import backups, restoring
from deploy.local.backups import Backup
from deploy.local.display import Progress
from deploy.local.places import SERVICES
from deploy.local.restoring import Done
from deploy.local.stack import Stack
from deploy.trouble import Trouble

Flag = Annotated[bool, Parameter(negative="")]
Json = Annotated[bool, Parameter(name="--json", negative="")]
NEEDED = ("postgres", "kafka")
SHOWN = 50


def backup(folder: Path, /, *, as_json: Json = False) -> None:
    """Write all databases to a new folder while the stack runs and serves, with the secrets they are read by.

    Whoever has the folder can read everything: keep it as you keep the server. Kafka's log is not in it; Kafka carries
    what is said from one database to the next, and each database keeps what it has said for 14 days.

    Example: `kursnett backup /var/backups/kursnett/2026-11-27`

    Parameters
    ----------
    folder
        Where it is to be; it must not be there yet, or be empty.
    as_json
        Print the list of files, the instant and the version as JSON.
    """
    console = Console(highlight=False, soft_wrap=True, stderr=as_json)
    stack = Stack.here()
    if stack.supervisor is None:
        raise Trouble("The stack does not run.", "Start it: make up, or kursnett up --detach")
    if restoring.cut_off(stack.places):  # the databases are half of one day and half of another
        raise Trouble("A restore is under way.", "Wait until it is done, then run the same again.")
    made = backups.write(stack.places, folder.expanduser().absolute(), lambda text: console.print(text, markup=False))
    if as_json:
        print(json.dumps(_shown(made), indent=2))
        return
    size = sum(one["bytes"] for one in made.files.values())
    console.print(f"{made.folder} has all of {made.taken_at:%Y-%m-%d %H:%M:%S} UTC, {size / 1e6:.1f} MB.", markup=False)
    console.print("In it: the databases, and the services' secrets, so keep it as you keep the server.")
    console.print("Not in it: Kafka's log and its partners' log-ins, the passwords of the database server, all logs.")


def restore(
    folder: Path, /, *, only: str | None = None, yes: Flag = False, dry_run: Flag = False, as_json: Json = False
) -> None:
    """Put databases back as a backup has them, while the stack is stopped; what was there is kept under another name.

    What was said after the backup and cannot be known any more is listed. Nothing that was sent is sent again, as far
    as it can be known. Kafka, where it is there, stays as it is. With enrolment's database everybody is logged out.

    Example: `kursnett restore /var/backups/kursnett/2026-11-27 --dry-run`

    Parameters
    ----------
    folder
        What `kursnett backup` has made.
    only
        One service, whose database was lost; the others stay as they are and are told.
    yes
        Do not ask first.
    dry_run
        Look at the backup and say what would be done; change nothing.
    as_json
        Print what was done, and all that is lost, as JSON.
    """
    console = Console(highlight=False, soft_wrap=True, stderr=as_json)
    if only is not None and only not in SERVICES:
        raise Trouble(f"There is no service {only!r}.", f"Choose one of: {', '.join(SERVICES)}")
    services = (only,) if only else SERVICES
    read = backups.read(folder.expanduser().absolute())
    stack = Stack.here()
    if stack.supervisor is not None and not dry_run:
        raise Trouble("The stack is running.", "Stop it first: kursnett down")
    if not dry_run:
        take_back(stack, console)
    secrets = backups.differing(stack.places, read)
    if only and secrets:
        raise Trouble(
            f"The backup has other secrets than this stack ({', '.join(secrets)}), and the others need theirs.",
            "Restore all of it, without --only.",
        )
    console.print(
        f"{read.folder} is whole: {read.taken_at:%Y-%m-%d %H:%M:%S} UTC, version {read.version}.", markup=False
    )
    console.print(f"To be put back: {', '.join(services)}. What is there is kept under another name.")
    if secrets:
        console.print(f"Secrets to be put back: {', '.join(secrets)}.", markup=False)
    if dry_run:
        console.print("Nothing was changed.")
        return
    _agreed(stack, yes)
    done, aside = _restore(stack, read, services, secrets, console)
    if as_json:
        told = {"kept": done.kept, "services": done.services, "list": str(aside / "lost.json")}
        print(json.dumps({**_shown(read), **told}, indent=2))
        return
    _tell(console, done, aside)


def _agreed(stack: Stack, yes: bool) -> None:
    """Raises Trouble unless somebody says yes."""
    if yes:
        return
    if not sys.stdin.isatty():
        raise Trouble("restore puts older data in the place of what is there, and there is nobody to ask.", "Add --yes")
    if not Confirm.ask(f"Put the stack in {stack.places.home} back to that instant?", default=False):
        raise Trouble("Nothing was changed.")


def _restore(
    stack: Stack, read: Backup, services: tuple[str, ...], secrets: Any, console: Console
) -> tuple[Done, Path]:
    stamp = datetime.now(UTC).strftime("%Y%m%d%H%M%S")
    aside = stack.places.home / "restored" / stamp
    servers = Stack(stack.places, NEEDED)
    try:
        with Progress(console) as progress:
            servers.start(watch=progress.show)
        if servers.is_anothers:  # while the question was being answered
            raise Trouble("The stack was started meanwhile. Nothing was changed.", "Stop it first: kursnett down")
        aside.mkdir(parents=True, mode=0o700)
        say = lambda text: console.print(text, markup=False)  # noqa: E731
        note = aside / "lost.json"
        note.touch(mode=0o600)
        with _interrupted_once():
            done = asyncio.run(restoring.restore(stack.places, read, services, stamp, note, say, secrets))
        (stack.places.home / "demo").touch()  # the databases are to stay as they are
    finally:
        if not servers.is_anothers:
            servers.stop()
    return done, aside


def take_back(stack: Stack, console: Console) -> None:
    """After a restore that was killed, put back what was there, before anything runs on half of it.

    Raises Trouble while something of this stack runs: a restore, or what one that was killed has left.
    """
    folders = restoring.cut_off(stack.places)
    if not folders:
        return
    under_way = Trouble("A restore is under way, or has just been cut off.", "Wait a moment, then run the same again.")
    if stack.supervisor is not None:
        raise under_way
    console.print("A restore was cut off before it was done. What was there before it is put back …")
    for folder in folders:
        restoring.take_back_secrets(stack.places, folder)
    servers = Stack(stack.places, ("postgres",))
    try:
        with Progress(console) as progress:
            servers.start(watch=progress.show)
        if servers.is_anothers:
            raise under_way
        for folder in folders:
            asyncio.run(restoring.take_back(stack.places, folder))
    finally:
        if not servers.is_anothers:
            servers.stop()


@contextmanager
def _interrupted_once() -> Iterator[None]:
    """The first Ctrl-C takes back what was begun; an impatient second would leave half of it."""
    before = {one: signal.getsignal(one) for one in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}

    def interrupt(number: int, frame: FrameType | None) -> None:
        for one in before:
            signal.signal(one, signal.SIG_IGN)
        handler = before[signal.Signals(number)]
        if callable(handler):
            handler(number, frame)
        raise KeyboardInterrupt

    for one, handler in before.items():
        if handler != signal.SIG_IGN:  # as nohup has it
            signal.signal(one, interrupt)
    try:
        yield
    finally:
        for one, handler in before.items():
            signal.signal(one, handler)


def _tell(console: Console, done: Done, aside: Path) -> None:
    for service, told in done.services.items():
        console.print(f"{service} is back, and speaks in epoch {told['epoch']}.")
        for line in told["told"]:
            console.print(f"    {line}", markup=False)
    lost: dict[str, list[str]] = {}
    for one in done.lost:
        lost.setdefault(one["subject"] or one["aggregate"], []).append(one["type"].split(".")[-2])
    if lost:
        console.print(f"Lost: {len(done.lost)} events said after the backup. All of them: {aside / 'lost.json'}")
    for about, types in list(lost.items())[:SHOWN]:
        console.print(f"    {about}  {', '.join(types)}", markup=False)
    if len(lost) > SHOWN:
        console.print(f"    … and {len(lost) - SHOWN} more in the list")
    for service, name in done.kept.items():
        console.print(f"What {service} had before is the database {name}.")
    if done.kept:
        console.print("Drop them when nobody asks for them any more: who is forgotten from now on is still in there.")
    console.print("Start the stack: kursnett up. Then: kursnett audit")


def _shown(one: Backup) -> dict[str, Any]:
    return {
        "folder": str(one.folder),
        "taken_at": one.taken_at.isoformat(),
        "version": one.version,
        "migrations": one.migrations,
        "files": one.files,
    }
