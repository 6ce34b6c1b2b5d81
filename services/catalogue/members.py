"""Reads the file of partners, and brings about what it says of those who have not joined or are not as it says."""

import difflib
import re
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from pydantic import TypeAdapter, ValidationError
from stdnum.no import orgnr as organisation

from contracts.arenas import NAMES, place_name
from contracts.fields import NOT_A_SLUG, Line
from contracts.topics import SERVICES
from kit.database import Connection
from services.catalogue import joining, logins, offices
from services.catalogue.offices import Office
from services.catalogue.settings import CatalogueSettings
from services.catalogue.store import Row, partners

NEEDED = ("name", "arenas")
FIELDS = ("name", "orgnr", "arenas", "contact")
KNOWN = (*FIELDS, "mail", "mail_language")
SLUG = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,38}[a-z0-9])?")

NO_OFFICE: dict[str, Any] = {"mail_digest": None, "mail_language": None}  # as of a partner that is not there yet

_LINE: TypeAdapter[str] = TypeAdapter(Line)
_HEADING = re.compile(r"\s*\[\s*[\"']?([^\]\"']*?)[\"']?\s*\]")
_KEY = re.compile(r"\s*[\"']?([A-Za-z0-9_.-]+)[\"']?\s*=")
_PLACE = re.compile(r" \(at line (\d+), column \d+\)$")


@dataclass(frozen=True, slots=True)
class Member:
    """A partner as the file says it. `arenas` are sorted."""

    slug: str
    name: str
    orgnr: str | None
    arenas: tuple[str, ...]
    office: Office | None = None
    contact: str | None = None  # whom learners may ask: an office's, never a person's own


class NotValid(Exception):
    """The file has mistakes, each told as `line N: …`; nothing of it may be done."""

    def __init__(self, mistakes: Sequence[tuple[int, str]]) -> None:
        self.mistakes = [f"line {line}: {words}" for line, words in sorted(mistakes)]
        super().__init__("; ".join(self.mistakes))


@dataclass(slots=True)
class Step:
    """What the file wants of one partner. `changes`: field -> (as it is, as the file says)."""

    slug: str
    outcome: Literal["added", "changed", "unchanged"]
    state: str  # a partner that is held up stays so: the file cannot say otherwise
    changes: dict[str, tuple[Any, Any]] = field(default_factory=dict)
    key: str | None = None
    kafka: dict[str, Any] | None = None


def wrong(slug: str, name: object, orgnr: object, arenas: object, contact: object) -> list[tuple[str, str]]:
    """(field, words) for all that cannot be so of a partner; the field of a slug is `slug`."""
    found = []
    if not SLUG.fullmatch(slug):
        found.append(("slug", NOT_A_SLUG))
    elif slug in SERVICES:
        found.append(("slug", "is the name of a service; choose another"))
    if not _is_line(name):
        found.append(("name", "must say what people call the provider: one line of at most 200 characters"))
    if contact is not None and not _is_line(contact):
        found.append(("contact", "must say whom learners may ask: one line of at most 200 characters"))
    is_number = isinstance(orgnr, str) and re.fullmatch(r"[0-9]{9}", orgnr) and organisation.is_valid(orgnr)
    if orgnr is not None and not is_number:
        found.append(("orgnr", 'must be nine digits in quotes whose last one is the right check digit, as "100000105"'))
    if not isinstance(arenas, Sequence) or isinstance(arenas, str) or not arenas:
        found.append(("arenas", 'must be a list of at least one arena, such as ["mosjoen", "online"]'))
        return found
    found += [
        ("arenas", f"has {one!r}: each {NOT_A_SLUG}")
        for one in arenas
        if not isinstance(one, str) or not SLUG.fullmatch(one)
    ]
    return found


def misspelt(slug: str, arenas: Sequence[str]) -> list[str]:
    """A sentence for each arena that is all but one that has a name. It may be a new one, and so is not wrong."""
    near = {one: difflib.get_close_matches(one, [*NAMES, "online"], 1, 0.8) for one in arenas}
    return [
        f"{slug} has {one}, which people will read as {place_name(one, 'nb')}: is {found[0]} meant?"
        for one, found in near.items()
        if found and found[0] != one
    ]


def _is_line(text: object) -> bool:
    try:
        _LINE.validate_python(text, strict=True)
    except ValidationError:
        return False
    return True


def read(content: bytes) -> list[Member]:
    """The partners in a TOML file, a table each, by slug. Raises NotValid with every mistake in it."""
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise NotValid([(line, "is not UTF-8: save the file as UTF-8")]) from None
    try:
        tables = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        place = _PLACE.search(str(error))
        line = int(place[1]) if place else len(text.splitlines()) or 1
        raise NotValid([(line, f"is not TOML: {_PLACE.sub('', str(error))}")]) from None
    if not tables:
        raise NotValid([(1, 'is all there is: a partner is a table, such as [nesna] with name = "…"')])
    lines = _lines(text)
    mistakes: list[tuple[int, str]] = []
    for slug, table in tables.items():
        at = lines.get((slug, ""), 1)
        if not isinstance(table, dict):
            where = lines.get(("", slug), at)
            mistakes.append((where, f"{slug} stands before any partner: begin with its slug in brackets, as [nesna]"))
            continue
        mistakes += [(lines.get((slug, name), at), f"{slug}: {_strange(name)}") for name in table if name not in KNOWN]
        missing = [name for name in NEEDED if name not in table]
        mistakes += [(at, f"{slug}: {name} is missing") for name in missing]
        told = wrong(slug, *(table.get(name) for name in FIELDS))
        told += offices.wrong(table.get("mail"), table.get("mail_language"))
        mistakes += [
            (lines.get((slug, name), at), f"{slug}: {words}" if name == "slug" else f"{slug}: {name} {words}")
            for name, words in told
            if name not in missing
        ]
    if mistakes:
        raise NotValid(mistakes)
    return [
        Member(
            slug,
            _LINE.validate_python(one["name"]),
            one.get("orgnr"),
            tuple(sorted(set(one["arenas"]))),
            offices.office(one.get("mail"), one.get("mail_language")),
            _LINE.validate_python(one["contact"]) if "contact" in one else None,
        )
        for slug, one in sorted(tables.items())
    ]


def _strange(name: str) -> str:
    near = difflib.get_close_matches(name.lower(), KNOWN, 1)
    return f"{name} is not known; " + (f"is {near[0]} meant?" if near else f"there are {', '.join(KNOWN)}")


def _lines(text: str) -> dict[tuple[str, str], int]:
    """(slug, field) -> the line where it stands; the field of a heading is empty."""
    found: dict[tuple[str, str], int] = {}
    slug = ""
    for number, line in enumerate(text.splitlines(), 1):
        if heading := _HEADING.match(line):
            slug = heading[1]
            found.setdefault((slug, ""), number)
        elif key := _KEY.match(line):
            found.setdefault((slug, key[1]), number)
    return found


def steps(members: Sequence[Member], known: Sequence[Row]) -> tuple[list[Step], list[str]]:
    """What has to be done for each, and the slugs of those who have joined and are not in the file."""
    there = {row["slug"]: row for row in known}
    found = []
    for one in members:
        row = there.pop(one.slug, None)
        if row is None:
            new = {name: (None, _plain(getattr(one, name))) for name in FIELDS if getattr(one, name) is not None}
            new |= offices.changes(one.office, NO_OFFICE)
            found.append(Step(one.slug, "added", "active", new))
            continue
        now = {name: row[name] for name in FIELDS} | {"arenas": tuple(sorted(row["arenas"]))}
        changes = {
            name: (_plain(now[name]), _plain(getattr(one, name))) for name in FIELDS if now[name] != getattr(one, name)
        }
        changes |= offices.changes(one.office, row)
        found.append(Step(one.slug, "changed" if changes else "unchanged", row["state"], changes))
    return found, sorted(there)


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


async def compare(conn: Connection, members: Sequence[Member]) -> tuple[list[Step], list[str]]:
    """As `steps`, with those who have joined as the database knows them."""
    return steps(members, await partners.partners(conn))


async def bring_about(
    conn: Connection, settings: CatalogueSettings, members: Sequence[Member], todo: Sequence[Step]
) -> None:
    """Do what the steps say; each who is added gets its key and its log-in, in the step. Nobody is taken out.

    The topics of those who are added must be there. Raises Rule when somebody else was quicker, and AccessError.
    """
    wanted = {one.slug: one for one in members}
    for step in todo:
        one = wanted[step.slug]
        if step.outcome == "added":
            step.key = await joining.add_partner(conn, one.slug, one.name, one.orgnr, list(one.arenas), one.contact)
            step.kafka = await logins.give(settings, one.slug)
        elif step.outcome == "changed":
            await joining.change_partner(conn, one.slug, one.name, one.orgnr, list(one.arenas), one.contact)
        if step.changes.keys() & {"mail", "mail_language"}:
            office = offices.sealed(settings.contact_public_key, one.office) if one.office else None
            await joining.set_mail(conn, one.slug, office)
