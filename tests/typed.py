"""Types the commands of a service as operators do: each in a process of its own, with its own environment and streams.

What the command line loads takes 2 s of a core. It is loaded once in each run, and each process is a copy of that one.
"""

import asyncio
import importlib
import multiprocessing
import os
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from contracts.topics import SERVICES

COPIES = multiprocessing.get_context("forkserver")
COPIES.set_forkserver_preload(
    [
        *(f"services.{service}.{module}" for service in SERVICES for module in ("__main__", "operating")),
        "kit.operating",
        "kit.recovering",
    ]
)


class Told(NamedTuple):
    """How a command ended, and what it said."""

    code: int | None
    out: str
    err: str


async def typed(service: str, *arguments: str, environment: Mapping[str, str], within_s: float = 60) -> Told:
    """`python -m services.<service> <arguments>`, with these variables beside our own. Raises TimeoutError."""
    with tempfile.TemporaryDirectory() as folder:
        streams = [str(Path(folder, name)) for name in ("out", "err")]
        process = COPIES.Process(target=_type, args=(service, arguments, {**os.environ, **environment}, *streams))
        await asyncio.to_thread(process.start)
        try:
            await asyncio.to_thread(process.join, within_s)
            if process.exitcode is None:
                raise TimeoutError(f"{service} {' '.join(arguments)}: not within {within_s:g} s")
        finally:
            process.kill()
            process.join()
        return Told(process.exitcode, *map(_read, streams))


def _read(stream: str) -> str:
    return Path(stream).read_text(encoding="utf-8")


def _type(service: str, arguments: tuple[str, ...], environment: dict[str, str], out: str, err: str) -> None:
    os.environ.clear()
    os.environ.update(environment)
    for number, path in ((1, out), (2, err)):
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT), number)
    sys.argv = [f"services.{service}", *arguments]
    program = importlib.import_module(f"services.{service}.__main__")
    program.main(service, program.build, program.operators)
