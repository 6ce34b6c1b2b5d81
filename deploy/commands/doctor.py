"""doctor: looks at everything that has ever kept a local stack from starting, and says what mends it."""

import json
import os
import platform
import shutil
import stat
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from typing import Annotated

import psutil
from cyclopts import Parameter
from rich.console import Console

from deploy import install
from deploy.local import jars, kafka, leftovers, ports, postgres
from deploy.local.places import cache
from deploy.local.stack import Stack
from deploy.trouble import Trouble

DISK_BYTES = 2_000_000_000  # the stack's data after a day of use, and room for PostgreSQL's log
MEMORY_BYTES = 1_500_000_000  # all the programs together
SHOWN = 5


@dataclass(frozen=True)
class Finding:
    """Something that is not as it must be, and what mends it."""

    what: str
    mend: str


def doctor(*, as_json: Annotated[bool, Parameter(name="--json", negative="")] = False) -> int:
    """Look for what keeps the stack from running, and say what mends it; exits with 1 when it has found something.

    Example: `kursnett doctor`

    Parameters
    ----------
    as_json
        Print the findings as a JSON list of `what` and `mend`.
    """
    stack = Stack.here()
    looked = {look.__name__.strip("_"): list(look(stack)) for look in LOOKS}
    findings = [finding for found in looked.values() for finding in found]
    if as_json:
        print(json.dumps([asdict(finding) for finding in findings], indent=2))
    else:
        console = Console(highlight=False)
        for name, found in looked.items():
            console.print(f"[red]✗[/] {name}" if found else f"[green]✓[/] {name}")
            for finding in found:
                console.print(f"    {finding.what}\n    → {finding.mend}", markup=False, soft_wrap=True)
    return 1 if findings else 0


def _python(stack: Stack) -> Iterator[Finding]:
    if tuple(sys.version_info) < install.OLDEST:
        yield Finding(f"Python {platform.python_version()} is too old.", "make install PYTHON=python3.13")


def _packages(stack: Stack) -> Iterator[Finding]:
    kind = "dev" if install.is_done("dev") else "stack"  # to run it takes fewer than to change it
    locked: dict[str, set[str]] = {}  # more than one version where they differ by system or Python
    optional = set()
    for key, entry in install.chosen(install.LOCK.read_text(), kind).items():
        name, _, wanted = key.partition("==")
        locked.setdefault(name, set()).add(wanted)
        if " ; " in entry.partition("\n")[0]:
            optional.add(name)
    wrong = []
    for name, versions in locked.items():
        try:
            found = version(name)
        except PackageNotFoundError:
            if name in optional:
                continue
            found = "missing"
        if found not in versions:
            wrong.append(f"{name} {found} (locked: {', '.join(sorted(versions))})")
    if wrong:
        told = ", ".join(wrong[:SHOWN]) + (f" and {len(wrong) - SHOWN} more" if len(wrong) > SHOWN else "")
        yield Finding(f"Packages differ from the lock: {told}.", "rm -rf .venv && make install")


def _servers(stack: Stack) -> Iterator[Finding]:
    for find in (postgres.binaries, kafka.java):
        try:
            find()
        except Trouble as trouble:
            yield Finding(trouble.what, trouble.mend)


def _jars(stack: Stack) -> Iterator[Finding]:
    folder = cache() / "jars"
    for program in jars.ENDPOINTS:
        listed = jars.listed(program)
        missing = jars.missing(listed, folder)  # no finding: they are fetched when they are needed
        try:
            jars.check([jar for jar in listed if jar not in missing], folder)
        except Trouble as trouble:
            yield Finding(trouble.what, trouble.mend)


def _ports(stack: Stack) -> Iterator[Finding]:
    if stack.supervisor is None and not leftovers.find(stack.places.home):
        try:
            ports.require_free(stack.places, stack.ports())
        except Trouble as trouble:
            yield Finding(trouble.what, trouble.mend)


def _disk(stack: Stack) -> Iterator[Finding]:
    for path in (stack.places.home, cache()):
        there = next(folder for folder in (path, *path.parents) if folder.exists())
        free = shutil.disk_usage(there).free
        if free < DISK_BYTES:
            yield Finding(
                f"There are {free / 1e9:.1f} GB left on the disk of {path}; {DISK_BYTES / 1e9:.0f} GB are needed.",
                "Make room, or point KURSNETT_HOME and KURSNETT_CACHE to another disk.",
            )
        if not os.access(there, os.W_OK):
            yield Finding(
                f"You may not write in {there}.", "Change its owner, or set KURSNETT_HOME and KURSNETT_CACHE."
            )


def _memory(stack: Stack) -> Iterator[Finding]:
    free = psutil.virtual_memory().available
    if stack.supervisor is None and free < MEMORY_BYTES:
        yield Finding(
            f"There is {free / 1e9:.1f} GB of memory free; the stack takes up to {MEMORY_BYTES / 1e9:.1f} GB.",
            "Close some programs first.",
        )


def _leftovers(stack: Stack) -> Iterator[Finding]:
    if stack.supervisor is None:
        left = leftovers.find(stack.places.home)
        if left:
            told = ", ".join(f"{process.name()} ({process.pid})" for process in left)
            yield Finding(f"An earlier stack left processes behind: {told}.", "kursnett down")


def _state(stack: Stack) -> Iterator[Finding]:
    state = stack.state()
    phase = state.get("phase")
    if stack.supervisor is None and phase in ("starting", "ready", "stopping"):
        yield Finding("The last stack did not end in order.", "kursnett down; the next start repairs its data")
    if stack.supervisor is not None:
        for name, known in state.get("programs", {}).items():
            if known["state"] != "ready":
                yield Finding(f"{name} is {known['state']} {known['text']}".rstrip() + ".", f"kursnett logs {name}")
            elif known["restarts"]:
                times = "once" if known["restarts"] == 1 else f"{known['restarts']} times"
                yield Finding(f"{name} died and was started again {times}.", f"kursnett logs {name}")


def _secrets(stack: Stack) -> Iterator[Finding]:
    for path in sorted(stack.places.secrets.glob("*/*")) if stack.places.secrets.exists() else ():
        if path.stat().st_mode & (stat.S_IRWXO | stat.S_IWGRP):
            yield Finding(f"Others may read or change {path}.", f"chmod 0400 {path}")


LOOKS = (_python, _packages, _servers, _jars, _ports, _disk, _memory, _leftovers, _state, _secrets)
