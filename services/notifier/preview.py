"""Every mail and SMS in every language as a page to look at, with examples of what it tells (`make messages`)."""

import html
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from email import message_from_bytes, policy
from pathlib import Path
from typing import Any
from uuid import UUID

from services.notifier import appointments, digests, letters, offices, texts
from services.notifier.channels import mime
from services.notifier.channels.channel import Letter
from services.notifier.channels.sms import parts
from services.notifier.digests import DIGEST
from services.notifier.kinds import CATEGORY_OF, PARTNER_DIGEST, SMS, TEXTED, TRANSACTIONAL, with_method
from services.notifier.offers import Links
from services.notifier.settings import sender
from services.notifier.store.outgoing import Claimed

FOLDER = Path(".kursnett/messages")
FROM = sender("Kursnett Helgeland <ikke-svar@kursnett.example>")
TITLE = {"nb": "Ledelse i praksis", "nn": "Leiing i praksis", "en": "Leadership in practice"}
START = datetime(2027, 1, 14, 17, tzinfo=UTC)
TWO_HOURS = timedelta(hours=2)
WEEK = timedelta(days=7)


def _meeting(start: datetime, room: str) -> dict[str, Any]:
    return {"starts_at": start.isoformat(), "ends_at": (start + TWO_HOURS).isoformat(), "room": room}


SESSIONS = [_meeting(START, "Rom 2"), _meeting(START + WEEK, "Rom 2")]
BEFORE = {**_meeting(START, ""), "sessions": [_meeting(START, "Rom 1"), _meeting(START + WEEK, "Rom 2")]}
NOW = {**_meeting(START, ""), "sessions": SESSIONS}
FACTS: Mapping[str, Any] = {  # one for all: each template takes what it needs
    "denial": "Kurset er for ansatte i Vefsn kommune.",
    "on_lapse": "back_of_queue",
    "in_line": True,
    "waited_for": "seat",
    "from_place": "mo-i-rana",
    "was": BEFORE,
    "now": NOW,
    "closed": ["sandnessjoen"],
    "days": 7,
    "place_before": 5,
}
DIGEST_FACTS: Mapping[str, Any] = {
    "items": [
        {
            "template": template,
            "place": None if template == "advanced" else "mosjoen",
            "place_in_line": 3 if template == "advanced" else None,
            "facts": facts,
            "title": TITLE,
            "starts_at": START.isoformat(),
            "ends_at": (START + TWO_HOURS).isoformat(),
        }
        for template, facts in (("changed", FACTS), ("confirmed", {}), ("advanced", {"place_before": 5}))
    ]
}
RUN = {
    "offering_id": str(UUID(int=2)),
    "title": TITLE,
    "starts_at": START.isoformat(),
    "ends_at": (START + TWO_HOURS).isoformat(),
    "in_line": 2,
    "pending": 4,
    "news": {"seated": 12, "queued": 2, "asked": 4, "withdrew": 1, "moved": 2, "at_risk": 1},
}
PARTNER_FACTS: Mapping[str, Any] = {
    "told": [RUN, {**RUN, "in_line": 0, "pending": 0, "news": {"confirmed": 1}}],
    "waiting": [RUN, {**RUN, "pending": 0, "news": {"on_hold": 1}}],
}
OF_MANY = {DIGEST: DIGEST_FACTS, PARTNER_DIGEST: PARTNER_FACTS}
ALTERNATIVE = {
    "offering_id": str(UUID(int=2)),
    "course_id": str(UUID(int=3)),
    "title": {"nb": "Ledelse på nett", "nn": "Leiing på nett", "en": "Leadership online"},
    "starts_at": (START + 2 * WEEK).isoformat(),
    "arenas": ["online", "mosjoen"],
}
LINKS = Links(
    accept="https://kurs.example/tilbud/eksempel/godta", decline="https://kurs.example/tilbud/eksempel/avslaa"
)
ORIGIN = "https://kurs.example"
STOP = "https://kurs.example/api/notifier/v1/unsubscribe/eksempel"

STYLE = "body{font:1rem/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem}" + (
    "iframe{width:100%;height:40rem;border:1px solid #888}pre{white-space:pre-wrap;background:#eee;padding:1rem}"
    "td,th{padding:.25rem .75rem;text-align:left}"
)


def notice(template: str, language: str) -> Claimed:
    """An example of a notice, with all that any template asks for."""
    written = START - 6 * WEEK
    return Claimed(
        id=UUID(int=1),
        event_id="example",
        learner_id=UUID(int=4),
        about=UUID(int=5),
        template=template,
        channel="email",
        place="mosjoen",
        place_in_line=3,
        facts=dict(OF_MANY.get(template, FACTS)),
        expires_at=written + timedelta(days=2),
        late=False,
        sealed=None,
        attempt=1,
        message_id="<example@kursnett.example>",
        correlation_id=None,
        traceparent=None,
        created_at=written,
        sending_since=written,
        may_have_gone=False,
        email="kari@example.no",
        name="Kari Åsnes",
        language=language,
        title=TITLE,
        starts_at=START,
        ends_at=START + TWO_HOURS,
        alternatives=[ALTERNATIVE],
        cancelled_because="Læreren er blitt syk.",
        sessions=SESSIONS,
        sequence=1 if template in (*with_method("REQUEST"), *with_method("CANCEL")) else None,
        provider="Torgar Næringshage",
        provider_contact="post@torgar.example",
    )


def page(letter: Letter, template: str, text_message: str | None = None) -> str:
    """One mail as a page: its headers, and each of its parts as it comes out of the bytes that would be sent.

    Below it the SMS that goes beside it, if one does.
    """
    mail = message_from_bytes(mime.mail(letter, str(FROM)), policy=policy.default)
    headers = "".join(f"<tr><th>{html.escape(name)}<td>{html.escape(str(value))}" for name, value in mail.items())
    shown_parts = []
    for part in mail.iter_parts():
        content = part.get_content()
        text = content.decode() if isinstance(content, bytes) else content
        shown = f"<pre>{html.escape(text)}</pre>"
        if part.get_content_type() == "text/html":
            shown = f'<iframe title="HTML" sandbox srcdoc="{html.escape(text)}"></iframe>'
        shown_parts.append(f"<h2>{html.escape(part.get_content_type())}</h2>{shown}")
    if text_message is not None:
        shown_parts.append(f"<h2>SMS ({parts(text_message)})</h2><pre>{html.escape(text_message)}</pre>")
    back = '<p><a href="index.html">All messages</a></p>'
    return _whole(
        f"{template} ({letter.language})", f"{back}<table>{headers}</table>{''.join(shown_parts)}", letter.language
    )


def write(folder: Path) -> Path:
    """Write a page for each template and language, and an index that links them; returns the index."""
    templates = letters.environment(ORIGIN)
    folder.mkdir(parents=True, exist_ok=True)
    rows = []
    for template, category in {**CATEGORY_OF, DIGEST: "several"}.items():
        stop = None if category in TRANSACTIONAL else STOP
        links = LINKS if template == "offered" else None
        cells = []
        for language in letters.LOCALES:
            one = notice(template, language)
            if template == DIGEST:
                letter = digests.letter(templates, one, stop, FROM)
            elif template == PARTNER_DIGEST:
                letter = offices.letter(templates, one, ORIGIN, stop)
            else:
                letter = letters.letter(templates, one, links, stop)
            if one.sequence is not None:
                letter = replace(letter, appointment=appointments.appointment(one, letter, FROM))
            name = f"{template}.{language}.html"
            text_message = None
            if template in TEXTED:
                by_sms = replace(one, channel=SMS, phone="+4791234567")
                text_message = texts.letter(templates, by_sms, ORIGIN).text
            (folder / name).write_text(page(letter, template, text_message), "utf-8")
            cells.append(f'<td lang="{language}"><a href="{name}">{html.escape(letter.subject)}</a>')
        rows.append(f"<tr><th>{template}<td>{category}{''.join(cells)}")
    heads = "".join(f"<th>{name}" for name in ("template", "category", *letters.LOCALES))
    index = folder / "index.html"
    index.write_text(_whole("Messages", f"<table><tr>{heads}{''.join(rows)}</table>", "en"), "utf-8")
    return index


def _whole(title: str, body: str, language: str) -> str:
    title = html.escape(title)
    return (
        f'<!doctype html><html lang="{language}"><meta charset="utf-8"><title>{title}</title><style>{STYLE}</style>'
        f"<h1>{title}</h1>{body}</html>\n"
    )
