"""The link in a mail that stops such mails: a page that says what it does, and one click (RFC 8058). No log-in."""

import functools
from collections.abc import Mapping
from datetime import datetime, timedelta
from pathlib import Path

from fastapi import APIRouter, Request
from starlette.responses import Response

from kit.database import Connection
from kit.http import Db
from kit.pages import languages
from kit.pages import link as page
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
WORDS = Path(__file__).parent / "pages" / "unsubscribe.toml"

router = APIRouter(prefix=PLACE, include_in_schema=False)  # pages for people, and for their mail programs


@functools.lru_cache(maxsize=4)
def signer(settings: NotifierSettings) -> Signer:
    """One for a process."""
    return Signer(settings.contact_private_key.get_secret_value())


def address(settings: NotifierSettings, link: Link) -> str:
    """The address that stops mails of these categories for this person."""
    return f"{settings.public_url}{PLACE}/{signer(settings).token('unsubscribe', link)}"


def words() -> Mapping[str, Mapping[str, str]]:
    """Language -> name -> text."""
    return page.words(WORDS)


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
        return _page(request, 404, _spoken(request, None), "unknown")

    async def work(conn: Connection) -> tuple[datetime, str | None, bool]:
        person = await store.known_as(conn, link.person)
        if acts:  # a form that was opened before, and is kept at this moment, must not undo it unseen
            await store.lock(conn, person)
        now, language = await store.reader(conn, person)
        late = link.expires_at <= now
        if acts and not late:
            if purpose == "undo":
                await store.bring_back(conn, person, link.categories, CHANNEL)
            elif await store.is_reached(conn, person):  # nothing is kept of one who was forgotten
                await store.keep(conn, person, [Choice(one, CHANNEL, "off") for one in link.categories])
        return now, language, late

    now, known, late = await database.run(work)
    language = _spoken(request, known)
    if late:
        return _page(request, 410, language, "expired")
    said = words()[language]
    about = ", ".join(said[category] for category in link.categories)
    if not acts:
        return _page(request, 200, language, purpose, about, f"{purpose}_button", f"{PLACE}/{token}{_TAIL[purpose]}")
    if purpose == "undo":
        return _page(request, 200, language, "undone", about)
    back = signer(settings).token("undo", Link(link.person, link.categories, now + UNDO_LASTS))
    return _page(request, 200, language, "stopped", about, "stopped_button", f"{PLACE}/{back}/undo")


_TAIL: Mapping[Purpose, str] = {"unsubscribe": "", "undo": "/undo"}


def _spoken(request: Request, known: str | None) -> str:
    """The person's own language; of somebody we do not know, the first of the browser's that we speak."""
    if known is None or languages.QUERY in request.query_params:  # chosen on this page, by whoever reads it
        return languages.written(request)
    return known if known in LOCALES else "nb"


def _page(
    request: Request, status: int, language: str, kind: str, about: str = "", button: str = "", action: str = ""
) -> Response:
    said = words()[language]
    own = f"{kind}_partner_words" if about == said["partner"] else ""  # an office has no seat that it is told of
    lines = [said.get(own, said[f"{kind}_words"]).format(about=about)]
    ways = [] if button else [(said["onward"], "/varsler/valg")]
    pressed = said[button] if button else ""
    if action and languages.QUERY in request.query_params:  # chosen on this page: the next speaks it too
        action += f"?{languages.QUERY}={language}"
    return page.page(request, status, language, said[kind], lines, button=pressed, action=action, ways=ways)
