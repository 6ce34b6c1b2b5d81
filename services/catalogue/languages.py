"""Which language a text is shown in: the one that was asked for, or the next best that the partner has written."""

import unicodedata
from collections.abc import Mapping
from typing import Annotated, get_args

from fastapi import Header, Query
from pydantic import BaseModel

from contracts.fields import Language
from kit.pages.languages import liked, tag

# Whoever reads one of these reads the next best, too. What is missing is never translated by a machine.
NEXT_BEST: Mapping[str, tuple[str, ...]] = {
    "nb": ("nn", "en"),
    "nn": ("nb", "en"),
    "en": ("nb", "nn"),
    "sma": ("nb", "nn", "en"),
    "sme": ("nb", "nn", "en"),
}

MOST_LANGUAGES = 500  # letters of a header
AcceptLanguage = Annotated[
    str | None, Header(max_length=MOST_LANGUAGES, description="The languages one reads, best first.")
]
TextLanguage = Annotated[Language | None, Query(description="The language of `text`; goes before Accept-Language.")]


class Text(BaseModel):
    """A text, and the language that it is in."""

    language: str
    text: str


class Texts(BaseModel):
    """The texts in the language asked for; what is not written in it, in the next best."""

    title: Text
    summary: Text | None = None
    description: Text | None = None
    prerequisites: Text | None = None


def wanted(language: str | None, accepted: str | None) -> str:
    """The language to show: the one named, else the best of an Accept-Language that we have, else Bokmål."""
    if language is not None:
        return language
    return liked(accepted or "", get_args(Language))


def in_language(texts: Mapping[str, str] | None, language: str) -> Text | None:
    """The text in this language or the next best; none when there is none at all."""
    for one in (language, *NEXT_BEST[language], *(texts or ())):
        if texts and texts.get(one):
            return Text(language=one, text=texts[one])
    return None


def texts_in(content: Mapping[str, Mapping[str, str]], language: str) -> Texts:
    """A course's title and its other texts in this language or the next best of each."""
    title = in_language(content["title"], language)
    if title is None:
        raise LookupError("a course without a title")
    return Texts(
        title=title,
        summary=in_language(content.get("summary"), language),
        description=in_language(content.get("description"), language),
        prerequisites=in_language(content.get("prerequisites"), language),
    )


def languages_of(*shown: Texts) -> str:
    """The Content-Language of an answer that shows these."""
    used = (
        text.language for one in shown for text in (one.title, one.summary, one.description, one.prerequisites) if text
    )
    return ", ".join(dict.fromkeys(map(tag, used)))


_SCRIPTS = ("LATIN", "GREEK", "CYRILLIC")  # whose letters look like one another's


def mixes_scripts(text: str) -> bool:
    """Whether a word has letters of two alphabets that look alike: `Kurs` may have a Cyrillic letter in it."""
    for word in "".join(letter if letter.isalpha() else " " for letter in text).split():
        names = {unicodedata.name(letter, "").partition(" ")[0] for letter in word}
        if len(names.intersection(_SCRIPTS)) > 1:
            return True
    return False
