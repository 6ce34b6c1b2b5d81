"""A whole small service as a process of its own, for tests of start, stop and memory: `python -m tests.dummy serve`."""

import asyncio
import os
from pathlib import Path

from fastapi import APIRouter

from kit.commandline import main
from kit.running import Running
from kit.service import Service
from kit.settings import Settings, read

router = APIRouter()
begun: list[float] = []


@router.get("/begun")
async def tell_begun() -> int:
    return len(begun)


@router.get("/slow/{seconds}")
async def slow(seconds: float) -> str:
    begun.append(seconds)
    await asyncio.sleep(seconds)
    return "done"


def tried(marks: Path) -> int:
    with marks.open("a") as file:
        file.write("x")
    return marks.stat().st_size


async def stumble(running: Running) -> None:
    """Fails three times, then works."""
    if tried(Path(os.environ["DUMMY_MARKS"])) <= 3:
        raise RuntimeError("kari.nordmann@example.no")
    await running.stopping.wait()


def build() -> Service:
    return Service(
        name="dummy",
        settings=read(Settings),
        migrations=Path(os.environ["DUMMY_MIGRATIONS"]),
        routers=[router],
        workers={"stumble": stumble} if "DUMMY_MARKS" in os.environ else {},
    )


if __name__ == "__main__":
    main("dummy", build)
