"""The link in a mail that stops such mails: a page that says what it does, and one click (RFC 8058). No log-in."""

import base64
import functools
import hashlib
import tomllib
from collections.abc import Mapping
from datetime import datetime, timedelta
from functools import cache
from pathlib import Path

from fastapi import APIRouter, Request
from jinja2 import Environment, FileSystemLoader, StrictUndefined, Template
from starlette.responses import HTMLResponse, Response

from kit.database import Connection
from kit.http import Db
from services.notifier.letters import LOCALES
from services.notifier.settings import NotifierSettings
from services.notifier.store import preferences as store
from services.notifier.store.preferences import Choice
from services.notifier.tokens import Invalid, Link, Purpose, Signer
from services.notifier.webhooks import BASE, Settings

PLACE = BASE + "/unsubscribe"
LASTS = timedelta(days=365)  # a mail is found again after a long time, and must not be a way of no return
UNDO_LASTS = timedelta(days=1)
CHANNEL = "email"
PAGES = Path(__file__).parent / "pages"

router = APIRouter(prefix=PLACE, include_in_schema=False)  # pages for people, and for their mail programs

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


@functools.lru_cache(maxsize=4)
def signer(settings: NotifierSettings) -> Signer:
    """One for a process."""
    return Signer(settings.contact_private_key.get_secret_value())


def address(settings: NotifierSettings, link: Link) -> str:
    """The address that stops mails of these categories for this person."""
    return f"{settings.public_url}{PLACE}/{signer(settings).token('unsubscribe', link)}"


@cache
def words() -> Mapping[str, Mapping[str, str]]:
    """Language -> name -> text."""
    found: Mapping[str, Mapping[str, str]] = tomllib.loads((PAGES / "unsubscribe.toml").read_text("utf-8"))
    return found


@cache
def _template() -> Template:
    pages = Environment(loader=FileSystemLoader(PAGES), autoescape=True, undefined=StrictUndefined, trim_blocks=True)
    return pages.get_template("unsubscribe.html")


@router.get("/{token}")
async def show_stop(token: str, request: Request, database: Db, settings: Settings) -> Response:
    """What the link does, with a button that does it: programs that look at mails open links, and press nothing."""
    return await _answer(request, database, settings, "unsubscribe", token, acts=False)


@router.post("/{token}")
async def stop(token: str, request: Request, database: Db, settings: Settings) -> Response:
    """Stop such mails. The same answer each time, to a person's button and to a mail program's one click.

    What comes in the body does not matter: who has the link may, and nothing that a browser adds by itself counts, so
    there is nothing that another site could borrow.
    """
    return await _answer(request, database, settings, "unsubscribe", token, acts=True)


@router.get("/{token}/undo")
async def show_undo(token: str, request: Request, database: Db, settings: Settings) -> Response:
    """A page that was opened anew, by itself: it asks before it acts."""
    return await _answer(request, database, settings, "undo", token, acts=False)


@router.post("/{token}/undo")
async def undo(token: str, request: Request, database: Db, settings: Settings) -> Response:
    """Bring back what was stopped, as it was chosen before."""
    return await _answer(request, database, settings, "undo", token, acts=True)


async def _answer(
    request: Request, database: Db, settings: NotifierSettings, purpose: Purpose, token: str, *, acts: bool
) -> Response:
    try:
        link = signer(settings).opened(purpose, token)
    except Invalid:
        return _page(404, _spoken(request, None), "unknown")

    async def work(conn: Connection) -> tuple[datetime, str | None, bool]:
        now, language = await store.reader(conn, link.person)
        late = link.expires_at <= now
        if acts and not late:
            if purpose == "unsubscribe":
                await store.keep(conn, link.person, [Choice(one, CHANNEL, "off") for one in link.categories])
            else:
                await store.bring_back(conn, link.person, link.categories, CHANNEL)
        return now, language, late

    now, known, late = await database.run(work)
    language = _spoken(request, known)
    if late:
        return _page(410, language, "expired")
    said = words()[language]
    about = ", ".join(said[category] for category in link.categories)
    if not acts:
        return _page(200, language, purpose, about, f"{purpose}_button", f"{PLACE}/{token}{_TAIL[purpose]}")
    if purpose == "undo":
        return _page(200, language, "undone", about)
    back = signer(settings).token("undo", Link(link.person, link.categories, now + UNDO_LASTS))
    return _page(200, language, "stopped", about, "stopped_button", f"{PLACE}/{back}/undo")


_TAIL: Mapping[Purpose, str] = {"unsubscribe": "", "undo": "/undo"}


def _spoken(request: Request, known: str | None) -> str:
    """The person's own language; of somebody we do not know, the first of the browser's that we speak."""
    if known is not None:
        return known if known in LOCALES else "nb"
    for part in request.headers.get("accept-language", "").lower().split(","):
        tongue = part.split(";")[0].strip().split("-")[0]
        if tongue in LOCALES:
            return tongue
        if tongue == "no":
            return "nb"
    return "nb"


def _page(status: int, language: str, kind: str, about: str = "", button: str = "", action: str = "") -> Response:
    said = words()[language]
    text = _template().render(
        language=language,
        title=said[kind],
        line=said[f"{kind}_words"].format(about=about),
        button=said[button] if button else "",
        action=action,
        style=STYLE,
    )
    return HTMLResponse(text, status, {"content-security-policy": POLICY, "vary": "accept-language"})
