"""The words of an SMS: short, in its learner's language, with a link to the page where the rest stands."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from babel.dates import format_datetime
from jinja2.sandbox import SandboxedEnvironment

from kit.calendars import OSLO
from services.notifier import letters
from services.notifier.channels.channel import Letter
from services.notifier.channels.sms import MOST_PARTS, parts
from services.notifier.store.outgoing import Claimed

SHORT = {"nb": "EEE d. MMM 'kl.' HH.mm", "nn": "EEE d. MMM 'kl.' HH.mm", "en": "EEE d MMM 'at' HH:mm"}
TYPED = ("title", "place", "room", "closed")  # by others
LENGTHS = (80, 40, 20, 10)  # of each of these: the first with which the whole is not too long
# Signs that every phone has in seven bits, for those that would make each other sign take sixteen.
_PLAIN = str.maketrans(dict(zip("–—’‘«»“”\u00a0\u202f…", [*'--\'\'""""  ', "..."], strict=True)))


def letter(templates: SandboxedEnvironment, notice: Claimed, origin: str) -> Letter:
    """The notice as an SMS to its learner's phone; `origin` is the gateway's. Raises jinja2.TemplateError."""
    said = _words(notice)
    said["link"] = f"{origin}{letters.HOME}"
    name = f"{notice.template}.{said['language']}.sms"
    template, text = templates.get_template(name), ""
    for most in LENGTHS:
        short = {word: _shortened(said[word], most) for word in TYPED}
        text = letters.one_line(template.render(said | short).translate(_PLAIN))
        if parts(text) <= MOST_PARTS:
            break
    return Letter(
        message_id=notice.message_id,
        written_at=notice.created_at,
        address=notice.address,
        name=None,
        language=said["language"],
        subject="",
        text=text,
        html="",
    )


def _words(notice: Claimed) -> dict[str, Any]:
    """What the template of an SMS may speak of."""
    language = letters.known_language(notice.language)
    now = _only_new(notice) if "now" in notice.facts else None
    return {
        "language": language,
        "title": letters.chosen_title(notice.title, language)[0],
        "starts": _moment(min(notice.starts()), language),
        "answer_by": _moment(notice.expires_at, language) if notice.expires_at else None,
        "place": letters.place_name(notice.place, language),
        "now": _moment(datetime.fromisoformat(now["starts_at"]), language) if now else None,
        "room": letters.one_line(now.get("room") or "") if now else "",
        "closed": ", ".join(letters.place_name(one, language) or "" for one in notice.facts.get("closed", [])),
    }


def _only_new(notice: Claimed) -> Mapping[str, Any] | None:
    """The one meeting that is otherwise than it was; none when there are more: they do not fit. Nor is it told when it
    has changed again since: the text may have waited for the morning."""
    was, now = ((run["sessions"] or [run]) for run in (notice.facts["was"], notice.facts["now"]))
    known = [_met(one) for one in was]
    so = [_met(one) for one in notice.sessions] or [(notice.starts_at, notice.ends_at, "")]
    new: list[Mapping[str, Any]] = [one for one in now if _met(one) not in known]
    return new[0] if len(new) == 1 and _met(new[0]) in so else None


def _met(one: Mapping[str, Any]) -> tuple[datetime, datetime, str]:
    return datetime.fromisoformat(one["starts_at"]), datetime.fromisoformat(one["ends_at"]), one.get("room") or ""


def _moment(at: datetime, language: str) -> str:
    return format_datetime(at.astimezone(OSLO), SHORT[language], locale=letters.LOCALES[language])


def _shortened(value: str | None, most: int) -> str | None:
    """Not longer than that; with three dots where something is left out."""
    return value if value is None or len(value) <= most else f"{value[: most - 3].rstrip()}..."
