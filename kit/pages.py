"""What a link in a mail opens: a small page that says what the link does, with one button that does it. No log-in."""

import base64
import hashlib
import tomllib
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path

from fastapi import Request
from jinja2 import Environment, FileSystemLoader, StrictUndefined, Template
from starlette.responses import HTMLResponse, Response

LANGUAGES = ("nb", "nn", "en")
STYLE = (
    "body{font:1.125rem/1.6 system-ui,sans-serif;margin:0;color:#1e2b3c;background:#fff}"
    "main{max-width:36rem;margin:0 auto;padding:2rem 1rem}h1{font-size:1.75rem;line-height:1.2}"
    "button{font:inherit;padding:.75rem 1.5rem;border:0;border-radius:.25rem;background:#0b4f6c;color:#fff;"
    "min-height:44px;cursor:pointer}button:focus-visible{outline:3px solid #1e2b3c;outline-offset:3px}"
    "@media(prefers-color-scheme:dark){body{color:#f2f4f7;background:#12181f}button{background:#8fd3f4;color:#12181f}"
    "button:focus-visible{outline-color:#fff}}"
)
_HASH = base64.b64encode(hashlib.sha256(STYLE.encode()).digest()).decode()
POLICY = f"default-src 'none'; style-src 'sha256-{_HASH}'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"


@cache
def words(path: Path) -> Mapping[str, Mapping[str, str]]:
    """Language -> name -> text, from a TOML file."""
    found: Mapping[str, Mapping[str, str]] = tomllib.loads(path.read_text("utf-8"))
    return found


@cache
def _template() -> Template:
    here = FileSystemLoader(Path(__file__).parent)
    return Environment(loader=here, autoescape=True, undefined=StrictUndefined, trim_blocks=True).get_template(
        "page.html"
    )


def spoken(request: Request) -> str:
    """The first of the reader's languages that we speak; Norwegian when there is none."""
    for part in request.headers.get("accept-language", "").lower().split(","):
        tongue = part.split(";")[0].strip().split("-")[0]
        if tongue in LANGUAGES:
            return tongue
        if tongue == "no":
            return "nb"
    return "nb"


def page(
    status: int, language: str, title: str, lines: Sequence[str], *, button: str = "", action: str = "", act: str = ""
) -> Response:
    """The page; its button, if it has one, posts `act` to `action`, or to the page's own address."""
    text = _template().render(
        language=language, title=title, lines=lines, button=button, action=action, act=act, style=STYLE
    )
    return HTMLResponse(text, status, {"content-security-policy": POLICY, "vary": "accept, accept-language"})
