"""What codes and numbers are called on the catalogue's pages, in the reader's language."""

import re
from collections.abc import Callable, Mapping
from datetime import datetime
from functools import cache, lru_cache
from pathlib import Path

from babel.dates import format_date

from kit.pages import languages
from kit.pages.languages import LOCALES, OSLO
from services.catalogue.domain import eqf

FOLDER = Path(__file__).parent / "pages"
NO_BREAK = "\u00a0"


@cache
def subjects(language: str) -> Mapping[str, str]:
    """Slug -> name of each subject that there is."""
    _ = languages.texts(FOLDER, language).gettext
    return {
        "bygg": _("Bygg og anlegg"),
        "havbruk": _("Havbruk"),
        "helse": _("Helse og omsorg"),
        "industri": _("Industri"),
        "ledelse": _("Ledelse"),
        "okonomi": _("Økonomi"),
        "pedagogikk": _("Pedagogikk"),
        "reiseliv": _("Reiseliv"),
        "sjofart": _("Sjøfart"),
        "sprak": _("Språk"),
        "teknologi": _("Teknologi"),
    }


def subject(slug: str, language: str) -> str:
    return subjects(language).get(slug) or slug.replace("-", " ").capitalize()


@cache
def levels(language: str) -> Mapping[str, str]:
    """Level of the Norwegian framework -> which education it is the level of."""
    _ = languages.texts(FOLDER, language).gettext
    return {
        "2": _("grunnskole"),
        "3": _("deler av videregående opplæring"),
        "4A": _("fag- og yrkesopplæring"),
        "4B": _("studieforberedende opplæring"),
        "5.1": _("fagskole, kortere utdanning"),
        "5.2": _("fagskole, lengre utdanning"),
        "6.1": _("høgskolekandidat"),
        "6.2": _("bachelor"),
        "7": _("master"),
        "8": _("ph.d."),
    }


def level(code: str, language: str) -> str:
    """`NKR 5.1, fagskole, kortere utdanning`."""
    name = levels(language).get(code)
    return f"NKR {code}, {name}" if name else f"NKR {code}"


def whole_level(code: str, language: str) -> str:
    """As `level`, with the European one."""
    return f"{level(code, language)} (EQF {eqf(code)})"


@cache
def tongues(language: str) -> Mapping[str, str]:
    """Language that a course is held in -> its name."""
    _ = languages.texts(FOLDER, language).gettext
    return {
        "nb": _("Bokmål"),
        "nn": _("Nynorsk"),
        "en": _("Engelsk"),
        "sma": _("Sørsamisk"),
        "sme": _("Nordsamisk"),
    }


def tongue(code: str, language: str) -> str:
    return tongues(language).get(code, code)


@cache
def modes(language: str) -> Mapping[str, str]:
    """Way of teaching -> what it means for who takes part."""
    _ = languages.texts(FOLDER, language).gettext
    return {
        "onsite": _("Du møter opp"),
        "online": _("På nett"),
        "hybrid": _("Du møter opp eller følger det på nett samtidig"),
        "blended": _("Du møter opp noen ganger, resten er på nett"),
    }


def mode(code: str, language: str) -> str:
    return modes(language).get(code, code)


def kroner(ore: int, language: str) -> str:
    """`Gratis`, `1 250 kr`, `1 250,50 kr`; `NOK 1,250.50` in English."""
    if not ore:
        return languages.texts(FOLDER, language).gettext("Gratis")
    whole, rest = divmod(ore, 100)
    if language == "en":
        return f"NOK{NO_BREAK}{whole:,}" + (f".{rest:02}" if rest else "")
    return f"{whole:,}".replace(",", NO_BREAK) + (f",{rest:02}" if rest else "") + f"{NO_BREAK}kr"


def points(studiepoeng: str, language: str) -> str:
    """`7,5`; `7.5` in English."""
    return studiepoeng if language == "en" else studiepoeng.replace(".", ",")


@lru_cache(maxsize=5_000)
def short_day(at: datetime, language: str) -> str:
    """`tirsdag 2. mars 2027`, in Oslo."""
    pattern = "EEEE d MMMM y" if language == "en" else "EEEE d. MMMM y"
    return format_date(at.astimezone(OSLO), pattern, locale=LOCALES[language])


def paragraphs(text: str, _: str = "") -> list[str]:
    """A text of several lines, cut where a line is empty."""
    return [part for part in re.split(r"\n\s*\n", text) if part.strip()]


FILTERS: Mapping[str, Callable[..., object]] = {
    "subject": subject,
    "level": level,
    "whole_level": whole_level,
    "tongue": tongue,
    "mode": mode,
    "kroner": kroner,
    "points": points,
    "weekday": short_day,
    "paragraphs": paragraphs,
}
