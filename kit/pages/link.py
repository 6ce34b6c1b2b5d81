"""What a link in a mail opens: a small page that says what the link does, with one button that does it. No log-in."""

import tomllib
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path

from fastapi import Request
from starlette.responses import Response

from kit.pages.site import Site


@cache
def words(path: Path) -> Mapping[str, Mapping[str, str]]:
    """Language -> name -> text, from a TOML file."""
    found: Mapping[str, Mapping[str, str]] = tomllib.loads(path.read_text("utf-8"))
    return found


@cache
def _site() -> Site:
    return Site()


def page(
    request: Request,
    status: int,
    language: str,
    title: str,
    lines: Sequence[str],
    *,
    button: str = "",
    action: str = "",
    act: str = "",
    stay: str = "",
    ways: Sequence[tuple[str, str]] = (),
) -> Response:
    """The page; its button, if it has one, posts `act` to `action`, or to the page's own address; a second posts `stay`
    as well, and is called so.

    `ways` lead on: what each is called, and its address.
    """
    return _site().page(
        request,
        "link.html",
        status,
        language=language,
        headers={"referrer-policy": "no-referrer"},  # its address acts for whoever has it, and is told to nobody
        title=title,
        lines=lines,
        button=button,
        action=action,
        act=act,
        stay=stay,
        ways=ways,
    )
