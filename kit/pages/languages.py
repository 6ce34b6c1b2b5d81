"""The languages of pages: which one a reader gets, the texts in it, and how it writes dates and numbers."""

import io
import re
from collections.abc import Collection, Mapping
from datetime import date, datetime
from functools import cache, lru_cache
from pathlib import Path
from zoneinfo import ZoneInfo

from babel.dates import format_date, format_datetime
from babel.messages.mofile import write_mo
from babel.messages.pofile import read_po
from babel.support import NullTranslations, Translations
from fastapi import Request

HERE = Path(__file__).parent
OSLO = ZoneInfo("Europe/Oslo")
NAMES = {"nb": "Bokmål", "nn": "Nynorsk", "en": "English"}
LANGUAGES = tuple(NAMES)
ALIASES = {"no": "nb", "se": "sme"}  # what browsers call Norwegian, and Northern Sámi
SOURCE = "nb"  # the language that the templates are written in
# Southern Sámi: the texts that a human has translated, by and by; the others are shown in Bokmål, and marked so.
SLOT = "sma"
COOKIE = "__Host-sprak"
QUERY = "sprak"
SPOKEN = "kursnett.spoken"  # in a request's scope
LOCALES = {"nb": "nb_NO", "nn": "nn_NO", "en": "en_GB", "sma": "nb_NO"}
_MOMENTS = {"en": "EEEE d MMMM y 'at' HH:mm"}
_NORWEGIAN = "EEEE d. MMMM y 'kl.' HH.mm"
_DAYS = {"en": "d MMMM y"}
_WEIGHT = re.compile(r"0(\.\d{0,3})?|1(\.0{0,3})?")  # RFC 9110, 12.4.2
MOST_WRITTEN = 2_000  # dates that need not be written anew, which takes as long as fifty other words


def spoken(request: Request) -> str:
    """What the reader has chosen, else what the browser likes best of those that we speak, else Bokmål."""
    if SPOKEN not in request.scope:  # a page asks several times
        request.scope[SPOKEN] = _spoken(request)
    return str(request.scope[SPOKEN])


def _spoken(request: Request) -> str:
    for chosen in (request.query_params.get(QUERY), request.cookies.get(COOKIE)):
        if chosen in NAMES or chosen == SLOT:
            return str(chosen)
    return liked(request.headers.get("accept-language", ""), NAMES)


def liked(accepted: str, of: Collection[str]) -> str:
    """The best of an Accept-Language that is one of these, of two that weigh the same the first. Bokmål if none is."""
    best, best_weight = SOURCE, 0.0
    for part in accepted.lower().split(","):
        named, _, parameters = part.partition(";")
        primary = named.strip().partition("-")[0]
        tongue, weight = ALIASES.get(primary, primary), _weight(parameters)
        if tongue in of and weight > best_weight:
            best, best_weight = tongue, weight
    return best


def _weight(parameters: str) -> float:
    """Of `q=0.5`: 0.5. Nothing said is 1; what is no weight is none, as if the language were not named."""
    name, _, value = parameters.replace(" ", "").partition("=")
    found = _WEIGHT.fullmatch(value)
    return 1.0 if name != "q" else float(found[0]) if found else 0.0


def written(request: Request) -> str:
    """As `spoken`, for texts that stand whole in each language: never the slot."""
    language = spoken(request)
    return language if language in NAMES else SOURCE


@cache
def texts(folder: Path, language: str) -> NullTranslations:
    """The texts of a folder with pages, and behind them those that all pages share. The source needs no file."""
    found = _texts(HERE, language)
    if folder != HERE and found is not None:
        found = _texts(folder, language) or NullTranslations()
        found.add_fallback(_texts(HERE, language) or NullTranslations())
    return found or NullTranslations()


def _texts(folder: Path, language: str) -> NullTranslations | None:
    path = folder / "locale" / f"{language}.po"
    if not path.is_file():
        return None if language == SLOT else NullTranslations()
    with path.open("rb") as file:
        catalogue = read_po(file, locale=LOCALES[language], abort_invalid=True)
    compiled = io.BytesIO()
    write_mo(compiled, catalogue)
    compiled.seek(0)
    return Translations(compiled)


@lru_cache(MOST_WRITTEN)
def moment(at: datetime, language: str) -> str:
    """`torsdag 26. november 2026 kl. 14.48`, on Oslo's clock."""
    return format_datetime(at.astimezone(OSLO), _MOMENTS.get(language, _NORWEGIAN), locale=LOCALES[language])


@lru_cache(MOST_WRITTEN)
def day(at: datetime | date, language: str) -> str:
    """`26. november 2026`, in Oslo."""
    local = at.astimezone(OSLO) if isinstance(at, datetime) else at
    return format_date(local, _DAYS.get(language, "d. MMMM y"), locale=LOCALES[language])


@lru_cache(MOST_WRITTEN)
def clock(at: datetime, language: str) -> str:
    """`14.48`, in Oslo."""
    return format_datetime(at.astimezone(OSLO), "HH:mm" if language == "en" else "HH.mm", locale=LOCALES[language])


def tag(language: str) -> str:
    """As HTML, HTTP and feeds name it (BCP 47): a language that has a code of two letters is not known by its three."""
    return "se" if language == "sme" else language


def lang(language: str, _: str) -> str:
    """As a `lang` attribute wants it: a filter of every page."""
    return tag(language)


def pick(by_language: Mapping[str, str], language: str) -> tuple[str, str]:
    """(text, its language): the reader's own, else the nearest that there is; ("", language) when there is none."""
    for one in (language, "nb", "nn", "en", *by_language):
        if by_language.get(one):
            return by_language[one], one
    return "", language
