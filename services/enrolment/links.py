"""The links in a mail about an offer: they show what they do, and do it when the button is pressed. No log-in."""

from collections.abc import Mapping
from pathlib import Path

from fastapi import APIRouter, Request
from markupsafe import Markup
from starlette.responses import Response

from contracts.arenas import place_name
from kit.database import Database
from kit.http import Db
from kit.pages import languages
from kit.pages import link as page
from kit.pages.visitors import form
from kit.problems import Problem
from services.enrolment import desk as desks
from services.enrolment import refusals
from services.enrolment.commands import Act
from services.enrolment.desk import Desk
from services.enrolment.domain import Enrolment
from services.enrolment.site import titled
from services.enrolment.store import courses, seats, times
from services.enrolment.store.enrolments import Owner
from services.enrolment.store.times import Link
from services.enrolment.work import digest

router = APIRouter(prefix="/tilbud", include_in_schema=False)  # pages for people, not an interface for programs

WORDS = Path(__file__).parent / "pages" / "offer.toml"
LONGEST = 64  # a token of ours has 32 characters
VERBS = ("godta", "avslaa")


def words() -> Mapping[str, Mapping[str, str]]:
    """Language -> name -> text."""
    return page.words(WORDS)


@router.get("/{token}/{verb}")
async def show(token: str, verb: str, request: Request, database: Db) -> Response:
    """What the link does, with a button that does it: programs that look at mails open links, and press nothing."""
    language = languages.written(request)
    link, problem = await _valid(database, token, verb)
    if link is None or problem is not None:
        return await _told(request, database, language, problem or refusals.bad_link(), link)
    said = words()[language]
    lines = [
        *await _course(database, link, language),
        said["place"].format(place=place_name(link.place, language)),
        said["until"].format(until=languages.moment(link.expires_at, language)),
    ]
    buttons = {"button": said[f"{verb}_button"], "act": verb}
    if not link.accepts:
        lines.append(said["avslaa_line"])
        buttons["stay"] = said["stay_button"]
    return _page(request, 200, language, said[verb], lines, **buttons)


@router.get("/{cut:path}")
async def cut_off(cut: str, request: Request, database: Db) -> Response:
    """A mail program may break a link in two, or take along what stands behind it."""
    return await _told(request, database, languages.written(request), refusals.bad_link(), None)


@router.post("/{token}/{verb}")
async def act(token: str, verb: str, request: Request, database: Db, desk: Desk) -> Response:
    """Do it, once. Who says no leaves the line, unless the form says that they `stay` at its end."""
    language = languages.written(request)
    link, problem = await _valid(database, token, verb)
    if link is None or problem is not None:
        return await _told(request, database, language, problem or refusals.bad_link(), link)
    offer_id = link.offer_id

    def may(_: Owner) -> bool:
        return True  # who has the link may

    def expect(here: Enrolment) -> None:
        if here.offer_id != offer_id:
            raise refusals.used_link(None)

    stay = not link.accepts and (await form(request)).get("stay") == "1"
    command = Act("accept" if link.accepts else "decline", link.enrolment_id, may, expect, stay)
    try:
        answer = await desk.submit(desks.Request(command, None))
    except Problem as refused:
        link, problem = await _valid(database, token, verb)  # it may have been pressed twice, in the same moment
        return await _told(request, database, language, problem or refused, link)
    done = "accepted" if link.accepts else "declined"
    how = done
    if stay:
        how = "again" if desks.is_offered(answer) else "stayed"
    lines = [*await _course(database, link, language), words()[language][f"{how}_words"]]
    return _page(request, 200, language, words()[language][done], lines)


async def _course(database: Database, link: Link, language: str) -> list[str]:
    """What the offer is of, and when: who stands in several lines has several such mails."""
    async with database.reading() as conn:
        run = (await courses.runs(conn, [link.offering_id])).get(link.offering_id)
    if run is None:
        return []
    title, tongue = titled(run, language)
    named = Markup('<strong lang="{}">{}</strong>').format(languages.tag(tongue or language), title)
    return [named, words()[language]["starts"].format(starts=languages.moment(run.starts_at, language))]


async def _valid(database: Database, token: str, verb: str) -> tuple[Link | None, Problem | None]:
    """(the link when it is for this act, why it does nothing any more: none while its offer is open)."""
    if len(token) > LONGEST or verb not in VERBS:  # a full stop of the mail's sentence is taken along, say
        return None, refusals.bad_link()
    async with database.reading() as conn:
        link = await times.link(conn, digest(token))
        now = await seats.now(conn)
    if link is None or link.accepts is not (verb == "godta"):
        return None, refusals.bad_link()
    if link.outcome == "lapsed" or (link.outcome is None and link.expires_at <= now):  # the clock comes by at once
        return link, refusals.lapsed_link()
    return link, refusals.used_link(link.outcome) if link.outcome is not None else None


_KINDS = {"link-used": "used", "offer-lapsed": "lapsed", "no-offer": "used", "link-not-valid": "unknown"}


async def _told(request: Request, database: Database, language: str, problem: Problem, link: Link | None) -> Response:
    """A page for people, in their language; what a program asked for that takes no pages is the problem itself.

    Of which course is said where that is known: one may have had more offers. So is what one has answered.
    """
    accepts = request.headers.get("accept", "")
    if "json" in accepts and "text/html" not in accepts:
        raise problem
    kind = _KINDS.get(problem.slug, "closed")
    said = words()[language]
    about = await _course(database, link, language) if link is not None else []
    title = said.get(f"{kind}_{problem.extensions.get('outcome')}", said[kind])
    return _page(request, problem.status, language, title, [*about, said[f"{kind}_words"]])


def _page(request: Request, status: int, language: str, title: str, lines: list[str], **buttons: str) -> Response:
    """With buttons, called as `page.page` has them, or with ways on where there is nothing to press."""
    said = words()[language]
    ways = [] if buttons else [(said["own"], "/min-side"), (said["find"], "/kurs")]
    return page.page(request, status, language, title, lines, ways=ways, **buttons)
