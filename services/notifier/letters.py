"""How a notice becomes words: template, language, dates and names, and what a title from outside may not do."""

import json
import secrets
import unicodedata
from collections.abc import Mapping, Sequence
from datetime import datetime
from functools import lru_cache
from pathlib import Path
from typing import Any, Protocol

from babel.dates import format_datetime
from jinja2 import FileSystemLoader, StrictUndefined
from jinja2.sandbox import SandboxedEnvironment
from markupsafe import escape

from contracts import arenas
from contracts.catalogue import Alternative
from kit.calendars import OSLO
from kit.pages.languages import tag
from services.notifier.channels.channel import Letter
from services.notifier.kinds import KINDS, PARTNER_DIGEST
from services.notifier.offers import Links
from services.notifier.store.outgoing import Claimed

MESSAGES = Path(__file__).parent / "messages"
TEMPLATES = tuple(template for template in KINDS if template != PARTNER_DIGEST)  # those to a learner, about a run

HOME = "/min-side"  # a person's own page, behind the log-in

# Which title a reader of each language gets; after these any there is.
TITLES: Mapping[str, tuple[str, ...]] = {"nb": ("nb", "nn", "en"), "nn": ("nn", "nb", "en"), "en": ("en", "nb", "nn")}
LOCALES = {"nb": "nb_NO", "nn": "nn_NO", "en": "en_GB"}
CLOCK = {"nb": "HH.mm", "nn": "HH.mm", "en": "HH:mm"}
DAY = {"nb": "EEEE d. MMMM y 'kl.'", "nn": "EEEE d. MMMM y 'kl.'", "en": "EEEE d MMMM y 'at'"}


class Told(Protocol):
    """What words are made of: of a notice, its learner, and the offering as it is known now."""

    @property
    def name(self) -> str | None: ...
    @property
    def language(self) -> str: ...
    @property
    def title(self) -> Mapping[str, str]: ...
    @property
    def starts_at(self) -> datetime: ...
    @property
    def ends_at(self) -> datetime: ...
    @property
    def place(self) -> str | None: ...
    @property
    def place_in_line(self) -> int | None: ...
    @property
    def expires_at(self) -> datetime | None: ...
    @property
    def alternatives(self) -> Sequence[Mapping[str, Any]]: ...
    @property
    def cancelled_because(self) -> str: ...
    @property
    def sessions(self) -> Sequence[Mapping[str, Any]]: ...
    @property
    def provider(self) -> str | None: ...
    @property
    def provider_contact(self) -> str | None: ...
    @property
    def facts(self) -> Mapping[str, Any]: ...


def environment(origin: str = "") -> SandboxedEnvironment:
    """Templates that can read what they are given and nothing else; a name that is missing is an error.

    `origin` is the gateway's, where people see their enrolments; without it no letter leads there.
    """
    made = SandboxedEnvironment(
        loader=FileSystemLoader(MESSAGES),
        autoescape=lambda name: bool(name and name.endswith(".html")),
        undefined=StrictUndefined,
        auto_reload=False,  # it would look at every file for every letter
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    made.globals["home"] = f"{origin}{HOME}" if origin else ""
    made.globals["courses"] = f"{origin}/kurs" if origin else ""
    return made


def letter(
    templates: SandboxedEnvironment, notice: Claimed, links: Links | None = None, unsubscribe: str | None = None
) -> Letter:
    """The notice in its learner's language; sma and sme have no words yet and get nb. Raises jinja2.TemplateError.

    `links` are those of an offer; the template of an offer fails without them. `unsubscribe` is where such mails are
    stopped, if they may be.
    """
    said = words(notice, links, unsubscribe)
    own = {name: said[name] for name in ("name", "unsubscribe", "links") if said[name] is not None}
    mould = json.dumps(said | {name: _STANDING_IN[name] for name in own})
    subject, text, html = _moulded(templates, notice.template, mould)
    for name, value in own.items():
        pairs = [(name, value)] if isinstance(value, str) else [("accept", value.accept), ("decline", value.decline)]
        for part, word in pairs:
            subject, text = subject.replace(_MARKS[part], word), text.replace(_MARKS[part], word)
            html = html.replace(_MARKS[part], escape(word))
    return Letter(
        message_id=notice.message_id,
        written_at=notice.created_at,
        address=notice.email,
        name=said["name"],
        language=said["language"],
        subject=subject,
        text=text,
        unsubscribe=unsubscribe,
        html=html,
    )


def shown(templates: SandboxedEnvironment, template: str, notice: Told) -> tuple[str, str, str]:
    """(language, subject, text) for a learner who is logged in: neither "do not answer this mail" nor an offer's links,
    which act for whoever has them. Raises jinja2.TemplateError."""
    said = words(notice)
    name = said["name"]
    mould = json.dumps(said | {"shown": True, "name": name and _MARKS["name"]})
    subject, text = _moulded_text(templates, template, mould)
    if name:
        subject, text = subject.replace(_MARKS["name"], name), text.replace(_MARKS["name"], name)
    return said["language"], subject, text


# Signs that no template and nobody outside can know, and that stand as they are in text and HTML alike.
_MARKS = {part: f"mark{secrets.token_hex(12)}" for part in ("name", "unsubscribe", "accept", "decline")}
_STANDING_IN: Mapping[str, Any] = {
    "name": _MARKS["name"],
    "unsubscribe": _MARKS["unsubscribe"],
    "links": {"accept": _MARKS["accept"], "decline": _MARKS["decline"]},
}


@lru_cache(maxsize=256)  # a rush is for few courses: what all who are told the same read is written once
def _moulded(templates: SandboxedEnvironment, template: str, mould: str) -> tuple[str, str, str]:
    """(subject, text, HTML) of these words, with marks for what is one learner's own."""
    said = json.loads(mould)
    subject, text = written(templates, template, said)
    return subject, text, templates.get_template(f"{template}.{said['language']}.html").render(said, subject=subject)


@lru_cache(maxsize=256)
def _moulded_text(templates: SandboxedEnvironment, template: str, mould: str) -> tuple[str, str]:
    return written(templates, template, json.loads(mould))


def written(templates: SandboxedEnvironment, template: str, said: Mapping[str, Any]) -> tuple[str, str]:
    """(subject, text) of a template with these words in it. Raises jinja2.TemplateError."""
    subject, _, text = templates.get_template(f"{template}.{said['language']}.txt").render(said).partition("\n")
    return one_line(subject), text.lstrip("\n")


def words(notice: Told, links: Links | None = None, unsubscribe: str | None = None) -> dict[str, Any]:
    """What a template may speak of, each value as the reader of this language would say it."""
    language = known_language(notice.language)
    title, title_language = chosen_title(notice.title, language)
    starts_at, ends_at, room = _met(notice)
    place = place_name(notice.place, language)
    return {
        "language": language,
        "name": one_line(notice.name) if notice.name else None,
        "title": title,
        "title_language": title_language,
        "when": spelled(starts_at, ends_at, language),
        "meetings": _each(notice.sessions, language) if len(notice.sessions) > 1 else [],
        "place": f"{place}, {room}" if place and room else place,
        "place_in_line": notice.place_in_line,
        "provider": one_line(notice.provider) if notice.provider else None,
        "provider_contact": one_line(notice.provider_contact) if notice.provider_contact else None,
        "links": links,
        "unsubscribe": unsubscribe,
        "answer_by": moment(notice.expires_at, language) if notice.expires_at else None,
        "because": one_line(notice.cancelled_because),
        "alternatives": [_alternative(Alternative.model_validate(one), language) for one in notice.alternatives],
        **(change(notice.facts, language) if "now" in notice.facts else {}),
        **{name: _fact(name, value, language) for name, value in notice.facts.items()},
    }


def _met(notice: Told) -> tuple[datetime, datetime, str]:
    """(from, to, room) of the one meeting there is; of several, or of none that is known, the run's own times."""
    if len(notice.sessions) != 1:
        return notice.starts_at, notice.ends_at, ""
    [one] = notice.sessions
    return datetime.fromisoformat(one["starts_at"]), datetime.fromisoformat(one["ends_at"]), one_line(one["room"] or "")


def known_language(language: str) -> str:
    """The language of the words: nb for one that has none yet."""
    return language if language in LOCALES else "nb"


def _fact(name: str, value: Any, language: str) -> Any:
    """What one template alone needs, as it may be shown: a place by its name, another's words on one line."""
    if name == "from_place":
        return place_name(value, language)
    return one_line(value) if isinstance(value, str) else value


def change(facts: Mapping[str, Any], language: str) -> dict[str, Any]:
    """How it was and how it is now, line by line; only what is not the same in both."""
    was, now = facts["was"], facts["now"]
    moved = (was["starts_at"], was["ends_at"]) != (now["starts_at"], now["ends_at"])
    met_otherwise = was["sessions"] != now["sessions"]
    closed = ", ".join(filter(None, (place_name(arena, language) for arena in facts["closed"])))
    if not (moved or met_otherwise):
        return {"before": [], "after": [], "closed_places": closed}
    lines = [_meetings(run, moved or not run["sessions"], met_otherwise, language) for run in (was, now)]
    return {"before": lines[0], "after": lines[1], "closed_places": closed}


def _meetings(run: Mapping[str, Any], whole: bool, each: bool, language: str) -> list[str]:
    return (_each([{**run, "room": ""}], language) if whole else []) + (
        _each(run["sessions"], language) if each else []
    )


def _each(meetings: Sequence[Mapping[str, Any]], language: str) -> list[str]:
    """A line for each: when, and in which room."""
    lines = []
    for one in meetings:
        starts_at, ends_at = (datetime.fromisoformat(one[end]) for end in ("starts_at", "ends_at"))
        room = one_line(one["room"] or "")
        lines.append(", ".join(filter(None, (spelled(starts_at, ends_at, language), room))))
    return lines


def _alternative(other: Alternative, language: str) -> dict[str, Any]:
    title, title_language = chosen_title(other.title, language)
    places = ", ".join(filter(None, (place_name(arena, language) for arena in other.arenas)))
    starts = moment(other.starts_at, language)
    course_id = str(other.course_id)
    return {
        "course_id": course_id,
        "title": title,
        "title_language": title_language,
        "starts": starts,
        "places": places,
    }


def chosen_title(titles: Mapping[str, str], language: str) -> tuple[str, str]:
    """(title, its language as HTML names it): the reader's own, else the nearest, else the first there is."""
    for wanted in (*TITLES[language], *sorted(titles)):
        if titles.get(wanted):
            return one_line(titles[wanted]), tag(wanted)
    return "", language


@lru_cache(maxsize=1024)
def one_line(text: str) -> str:
    """The text on one line, without control characters or invisible ones that turn its direction."""
    if text.isprintable():  # none of these is
        return " ".join(text.split())
    visible = "".join(" " if unicodedata.category(c) in {"Cc", "Cs", "Zl", "Zp"} else c for c in text)
    return " ".join("".join(c for c in visible if c not in _TURNING).split())


_TURNING = frozenset("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069\ufeff")


@lru_cache(maxsize=1024)  # everybody on a course is told the same times, and spelling one takes as long as a template
def spelled(starts_at: datetime, ends_at: datetime, language: str) -> str:
    """From and to as people in Oslo's time zone say it, e.g. `torsdag 3. desember 2026 kl. 18.00–20.30`."""
    start, end = starts_at.astimezone(OSLO), ends_at.astimezone(OSLO)
    if start.date() == end.date():
        return f"{moment(start, language)}–{format_datetime(end, CLOCK[language], locale=LOCALES[language])}"
    return f"{moment(start, language)} – {moment(end, language)}"


@lru_cache(maxsize=1024)
def moment(at: datetime, language: str) -> str:
    """Date and time in Oslo's time zone, e.g. `torsdag 3. desember 2026 kl. 18.00`."""
    return format_datetime(at.astimezone(OSLO), f"{DAY[language]} {CLOCK[language]}", locale=LOCALES[language])


def place_name(place: str | None, language: str) -> str | None:
    """A place as people call it."""
    return None if place is None else one_line(arenas.place_name(place, language))
