"""Runs a command of one service, such as `partners add`, with the running stack's own settings."""

import asyncio
import os
import sys
from collections.abc import Coroutine, Iterable, Mapping
from typing import Any, NoReturn, TypeVar

from deploy.local.composition import settings
from deploy.local.places import OURS, Places
from deploy.trouble import Trouble

T = TypeVar("T")
SECONDS = 60.0
TYPED = "KURSNETT_TYPED"  # as kit.commandline reads it, which takes long to load


async def command(
    places: Places | None,
    service: str,
    *arguments: str,
    environment: Mapping[str, str] | None = None,
    red: bool = False,
    seconds: float = SECONDS,
) -> str:
    """What the command prints. Raises Trouble with its words when it fails.

    `environment` is that of another stack; without `places` there is none, which is enough for `--help`.
    `red`: the command ends with 1, too, when what it prints is bad news.
    """
    process = await asyncio.create_subprocess_exec(
        *OURS,
        f"services.{service}",
        *arguments,
        env={**os.environ, **(environment or (settings(places, service) if places else {}))},
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        out, err = await asyncio.wait_for(process.communicate(), seconds)
    except TimeoutError:
        raise Trouble(f"{service} {arguments[0]} did not end within {seconds:.0f} s.", "See: kursnett status") from None
    finally:
        if process.returncode is None:
            process.kill()
            await process.communicate()  # to the end of its pipes: what is left open is told of when the loop is gone
    if process.returncode and not (red and process.returncode == 1 and out):
        words = (err.decode() or out.decode()).strip()
        raise Trouble(words or f"{service} {arguments[0]} failed.", "See: kursnett status")
    return out.decode()


async def together(steps: Iterable[Coroutine[Any, Any, T]]) -> list[T]:
    """What all of these give, when all have ended: none is still at work when one has failed."""
    ended = await asyncio.gather(*steps, return_exceptions=True)
    for one in ended:
        if isinstance(one, BaseException):
            raise one
    return [one for one in ended if not isinstance(one, BaseException)]


def become(places: Places, service: str, *arguments: str, typed: str) -> NoReturn:
    """Be the command from now on: it reads and prints, is interrupted and ends as if it had been `typed` itself."""
    sys.stdout.flush()
    os.execve(  # noqa: S606 - no shell is what we want
        OURS[0],
        [*OURS, f"services.{service}", *arguments],
        {**os.environ, **settings(places, service), TYPED: typed},
    )
