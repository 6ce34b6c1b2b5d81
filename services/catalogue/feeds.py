"""What others subscribe to: new courses as Atom and as JSON Feed, a run's sessions as a calendar; and missing words."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import format_datetime
from typing import Annotated, Any, get_args
from uuid import UUID
from xml.etree import ElementTree

from fastapi import APIRouter, Query, Response
from pydantic import BaseModel

from contracts.fields import Language
from kit import openapi, tags
from kit.database import Database
from kit.http import Db, ThisService
from kit.pages.languages import tag
from kit.partners import Partner
from kit.problems import Problem
from kit.running import Running
from kit.tags import IfNoneMatch
from services.catalogue import appointments
from services.catalogue.api import BASE
from services.catalogue.kept import CACHING
from services.catalogue.languages import AcceptLanguage, TextLanguage, Texts, languages_of, texts_in, wanted
from services.catalogue.search import NOT_SENT
from services.catalogue.store import Row, views

NEWEST = 50
TITLE = "Kursnett: nye kurs"
NO_COURSE_YET = datetime(2000, 1, 1, tzinfo=UTC)
ATOM = "http://www.w3.org/2005/Atom"

router = APIRouter(prefix=BASE, tags=["catalogue"])


@dataclass(frozen=True, slots=True)
class Entry:
    """A course in a feed. `page` is for people, `address` for programs."""

    course_id: UUID
    page: str
    address: str
    provider: str
    subjects: list[str]
    texts: Texts
    made_at: datetime
    changed_at: datetime


@dataclass(frozen=True, slots=True)
class Feed:
    """`updated` never goes back, whatever is withdrawn: by it a reader sees that there is something to read."""

    entries: list[Entry]
    updated: datetime
    language: str


async def newest(database: Database, running: Running, language: str) -> Feed:
    """The newest courses, each with its texts in this language or the next best."""
    async with database.reading() as conn:
        changed_at = await views.newest_changed_at(conn, NEWEST)  # before them: what changes meanwhile is told later
        rows = await views.newest(conn, NEWEST)
        names = {row["slug"]: row["name"] for row in await views.providers(conn)}  # behind them: a new one is known
    found = []
    for row in rows:
        content = json.loads(row["content"])
        page = f"{running.settings.public_url}/kurs/{row['id']}"
        address = f"{running.settings.public_url}{BASE}/courses/{row['id']}"
        texts = texts_in(content, language)
        made = (row["made_at"], max(row["made_at"], row["changed_at"]))
        found.append(Entry(row["id"], page, address, names[row["partner"]], content.get("subjects", []), texts, *made))
    changed = [one.changed_at for one in found]
    return Feed(found, max([*changed, changed_at or NO_COURSE_YET]), language)


def written(at: datetime) -> str:
    return at.astimezone(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")


def atom(of: Feed, origin: str) -> bytes:
    """RFC 4287. The library escapes; what may not stand in XML is refused when a course comes in."""
    ElementTree.register_namespace("", ATOM)
    base = f"{origin}{BASE}"
    feed = ElementTree.Element(f"{{{ATOM}}}feed", {"xml:lang": tag(of.language)})

    def add(parent: ElementTree.Element, name: str, text: str | None = None, **attributes: str) -> ElementTree.Element:
        made = ElementTree.SubElement(parent, f"{{{ATOM}}}{name}", attributes)
        made.text = text
        return made

    add(feed, "id", f"{base}/courses/feed.atom")
    add(feed, "title", TITLE).set("xml:lang", "nb")
    add(feed, "updated", written(of.updated))
    add(feed, "link", rel="self", type="application/atom+xml", href=f"{base}/courses/feed.atom")
    add(feed, "link", rel="alternate", type="text/html", href=f"{origin}/kurs")
    add(feed, "link", rel="alternate", type="application/json", href=f"{base}/courses")
    for one in of.entries:
        entry = add(feed, "entry")
        entry.set("xml:lang", tag(one.texts.title.language))
        add(entry, "id", f"urn:uuid:{one.course_id}")
        add(entry, "title", one.texts.title.text)
        add(entry, "updated", written(one.changed_at))
        add(entry, "published", written(one.made_at))
        add(add(entry, "author"), "name", one.provider)
        add(entry, "link", rel="alternate", type="text/html", href=one.page)
        add(entry, "link", rel="alternate", type="application/json", href=one.address)
        for subject in one.subjects:
            add(entry, "category", term=subject)
        if one.texts.summary:
            add(entry, "summary", one.texts.summary.text).set("xml:lang", tag(one.texts.summary.language))
    return bytes(ElementTree.tostring(feed, encoding="utf-8", xml_declaration=True))


def json_feed(of: Feed, origin: str) -> bytes:
    """JSON Feed 1.1, and in `_kursnett` of each course where programs read it."""
    items = [
        {
            "id": f"urn:uuid:{one.course_id}",
            "url": one.page,
            "title": one.texts.title.text,
            "content_text": (one.texts.summary or one.texts.title).text,
            "date_published": written(one.made_at),
            "date_modified": written(one.changed_at),
            "authors": [{"name": one.provider}],
            "tags": one.subjects,
            "language": tag(one.texts.title.language),
            "_kursnett": {"course": one.address},
        }
        for one in of.entries
    ]
    feed = {
        "version": "https://jsonfeed.org/version/1.1",
        "title": TITLE,
        "home_page_url": f"{origin}/kurs",
        "feed_url": f"{origin}{BASE}/courses/feed.json",
        "language": tag(of.language),
        "items": items,
    }
    return json.dumps(feed, ensure_ascii=False).encode()


def kind(media_type: str) -> dict[str, Any]:
    """What an address tells that answers with this alone."""
    content = {media_type: {"schema": {"type": "object" if media_type.endswith("json") else "string"}}}
    return {"response_class": Response, "responses": {200: {"content": content}, **NOT_SENT}}


def fed(body: bytes, of: Feed, known: str | None, media_type: str) -> Response:
    response = tags.unless_known(body, known, CACHING, media_type)
    response.headers["last-modified"] = format_datetime(of.updated.astimezone(UTC), usegmt=True)
    response.headers["vary"] = "accept-language"
    return response


@router.get("/courses/feed.atom", **kind("application/atom+xml"))
async def read_atom(
    database: Db, running: ThisService, accept_language: AcceptLanguage = None, if_none_match: IfNoneMatch = None
) -> Response:
    """The 50 newest courses, for feed readers."""
    found = await newest(database, running, wanted(None, accept_language))
    body = atom(found, running.settings.public_url)
    return fed(body, found, if_none_match, "application/atom+xml")


@router.get("/courses/feed.json", **kind("application/feed+json"))
async def read_json_feed(
    database: Db, running: ThisService, accept_language: AcceptLanguage = None, if_none_match: IfNoneMatch = None
) -> Response:
    """The 50 newest courses as JSON Feed 1.1."""
    found = await newest(database, running, wanted(None, accept_language))
    body = json_feed(found, running.settings.public_url)
    return fed(body, found, if_none_match, "application/feed+json")


CALENDAR = kind("text/calendar")


@router.get(
    "/offerings/{offering_id}.ics",
    response_class=Response,
    responses={**CALENDAR["responses"], **openapi.problems(404)},
)
async def read_calendar(
    offering_id: UUID,
    database: Db,
    running: ThisService,
    language: TextLanguage = None,
    accept_language: AcceptLanguage = None,
    if_none_match: IfNoneMatch = None,
) -> Response:
    """The sessions of a run for a calendar; a cancelled run says so."""
    async with database.reading() as conn:
        row = await views.run(conn, offering_id)
    if row is None:
        raise Problem("not-found", "Not found", 404, "There is no such offering.")
    shown_in = wanted(language, accept_language)
    texts = texts_in(json.loads(row["course"]), shown_in)
    body = appointments.calendar(
        row["id"],
        texts.title.text,
        json.loads(row["content"]),
        cancelled=row["state"] == "cancelled",
        sequence=row["version"] + row["course_version"] - 2,  # its title is the course's; both begin with 1
        changed_at=max(row["changed_at"], row["course_changed_at"]),
        language=shown_in,
        address=f"{running.settings.public_url}/kurs/{row['course_id']}",
    )
    response = tags.unless_known(body, if_none_match, CACHING, "text/calendar; charset=utf-8")
    response.headers["vary"] = "accept-language"
    response.headers["content-language"] = languages_of(Texts(title=texts.title))
    return response


TEXTS = ("title", "summary", "description", "prerequisites")


def lacking(row: Row, languages: Sequence[str]) -> dict[str, list[str]]:
    """Text of a course -> in which of these languages it is not, though it is in some language."""
    by_text = {name: json.loads(row[name] or "{}") for name in TEXTS}
    return {name: [one for one in languages if not by.get(one)] for name, by in by_text.items() if any(by.values())}


class Missing(BaseModel):
    """A course whose readers in some language get another. `title` lacks these languages, and so on."""

    course_id: UUID
    code: str
    title: list[Language] = []
    summary: list[Language] = []
    description: list[Language] = []
    prerequisites: list[Language] = []


class MissingTranslations(BaseModel):
    items: list[Missing]


Languages = Annotated[
    list[Language], Query(description="that there should be; left out: each that one of the courses has a title in")
]


@router.get(
    "/partners/{partner}/missing-translations",
    response_model=MissingTranslations,
    response_model_exclude_defaults=True,
    responses=openapi.problems(403),
)
async def read_missing(partner: Partner, database: Db, language: Languages = []) -> dict[str, Any]:  # noqa: B006
    """Which of the partner's courses lack a text that they have in another language, and in which."""
    async with database.reading() as conn:
        rows = await views.texts(conn, partner)
    used = {one for row in rows for one in json.loads(row["title"])}
    looked_for = [one for one in get_args(Language) if one in (language or used)]
    found = [{"course_id": row["id"], "code": row["code"], **lacking(row, looked_for)} for row in rows]
    return {"items": [one for one in found if any(one.get(name) for name in TEXTS)]}
