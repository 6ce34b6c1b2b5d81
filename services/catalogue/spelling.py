"""What a search means: words as people write them, names of places and providers, letters that are easily confused."""

import re
import unicodedata
from collections.abc import Iterable, Iterator
from functools import lru_cache
from string import ascii_lowercase

from contracts.arenas import ONLINE, place_name
from services.catalogue.store.search import Words

TOKEN = re.compile(r'(-?)"([^"]*)"?|(\S+)')
TYPED = re.compile(r"[\w.-]*\w[\w.-]*")
# What only PostgreSQL takes for operators, and what stands between words; migration 0011 has the same for the texts.
BETWEEN = re.compile(
    r"[!|&():*<>/\u00a0-\u00a9\u00ab\u00ac\u00ae-\u00b4\u00b6-\u00b9\u00bb-\u00bf\u00d7\u00f7\u2000-\u200a\u2012-\u2bff"
    r"\u3000-\u303f\U0001f000-\U0001faff]"
)
# What is not seen, such as a hyphen that may be there.
WITHIN = re.compile(r"[\u00ad\u200b-\u200f\u2060\ufe00-\ufe0f\ufeff]")
SIGNS = str.maketrans("«»“”„‟″‘’‚‹›\u2010\u2011", '"""""""\'\'\'\'\'--')
COURSE = {"kurs", "kurset", "kurser", "kursene", "kursa"}
A_COURSE = re.compile(r"(\w{3,}?)[es-]?kurs(?:et|er|ene|a)?", re.IGNORECASE)
OTHER_WORDS = {"konk", "kon", "dis", "disk", "rek"}  # konkurs, diskurs and rekurs are no courses
PREPOSITIONS = {"i", "på", "ved", "til", "hos", "fra", "in", "at"}
SHORTEST_NAME = 3  # letters
LETTERS = str.maketrans("æøåäöðđłŋß", "aoaaoddlns")
TWICE = re.compile(r"([a-z])\1+")
SHORTEST_WRONG = 7  # letters, of which one may be wrong: of fewer, too many words differ in one
LONGEST_WRONG = 40  # no word of ours is longer, and what 200 letters may be meant for takes 13 ms to go through
# How words begin in Bokmål and in Nynorsk, as `alike` has them, where that is more than a letter that may be wrong.
BOTH_WAYS = (
    ("hjem", "heim"),
    ("ledelse", "leing"),
    ("leder", "leiar"),
    ("regn", "rekn"),
    ("skol", "skul"),
    ("syk", "sjuk"),
    ("virksomhet", "verksemd"),
)


def words_of(q: str) -> Words:
    """What must be there, what must not, and what is being typed, of a search as people write it.

    `-word` and `-"a phrase"` leave out, `"a phrase"` keeps words together, `a or b` takes either. The last word may be
    half typed, when it is a plain one. Every course is a course: `kurs` beside other words says nothing, and of
    `sveisekurs` the beginning is looked for. Letters are put together (NFC), as they are in the texts.
    """
    parts: list[str] = []
    without: list[str] = []
    typed = ""
    either = False
    for minus, phrase, word in _tokens(q):
        typed = ""
        said = word or f'"{phrase}"'
        if minus or word.startswith("-"):
            without.append(said.lstrip("-"))
        elif word.lower() == "or" and parts:
            either = True
            continue
        elif either:
            parts[-1] += f" or {said}"
        else:
            parts.append(said)
            typed = _begun(word) if TYPED.fullmatch(word) else ""
        either = False
    return Words(tuple(parts[:-1] if typed else parts), tuple(one for one in without if one), typed)


def _tokens(q: str) -> list[tuple[str, str, str]]:
    text = WITHIN.sub("", unicodedata.normalize("NFC", q)).translate(SIGNS)
    tokens: list[tuple[str, str, str]] = TOKEN.findall(BETWEEN.sub(" ", text))
    if any(word.lower() == "or" for _, _, word in tokens):
        return tokens
    telling = [token for token in tokens if token[2].lower() not in COURSE]
    return telling if any(not minus and not word.startswith("-") for minus, _, word in telling) else tokens


def _begun(word: str) -> str:
    """What a word begins with that stands there to be gone on with; of the name of a course, what it is about."""
    found = A_COURSE.fullmatch(word)
    return (found[1] if found and found[1].lower() not in OTHER_WORDS else word).lower()


@lru_cache(maxsize=4_096)  # many search for the same
def alike(word: str) -> str:
    """The same for words that differ in what is easily written otherwise: å as aa or a, two letters for one, a case."""
    plain = word.lower().translate(LETTERS)
    if not plain.isascii():
        plain = "".join(one for one in unicodedata.normalize("NFD", plain) if not unicodedata.combining(one))
    return TWICE.sub(r"\1", plain.replace("oe", "o").replace("ae", "a"))


def otherwise(plain: str) -> list[str]:
    """The same word in the other written language, as far as we know it."""
    found = []
    for one, other in (pair for both in BOTH_WAYS for pair in (both, both[::-1])):
        if plain.startswith(one):
            found.append(other + plain[len(one) :])
    return found


def one_letter_off(plain: str) -> Iterator[str]:
    """What a word may be meant for in which a letter is missing, too many or another, or two have changed places; of a
    short one nothing, nor of what has a digit in it, as a code."""
    if not (SHORTEST_WRONG <= len(plain) <= LONGEST_WRONG and plain.isascii() and plain.isalpha()):
        return
    for at in range(len(plain) + 1):
        before, here, behind = plain[:at], plain[at : at + 1], plain[at + 1 :]
        for letter in ascii_lowercase:
            yield before + letter + here + behind
            if here:
                yield before + letter + behind
        if here:
            yield before + behind
            yield before + behind[:1] + here + behind[1:]


def named_in(q: str, names: Iterable[tuple[str, str]]) -> tuple[str, str] | None:
    """(whose name stands in a search, what else is asked for); none when nobody's does or there are signs in it.

    `names`: (what is named, a name that it has); the longest is found first.
    """
    text = WITHIN.sub("", unicodedata.normalize("NFC", q)).translate(SIGNS)
    words = text.split()
    if '"' in text or any(word.startswith("-") or word.lower() == "or" for word in words):
        return None
    said = [alike(word.strip(".,;:!?()")) for word in words]
    begin = _by_first_word(tuple(names))
    named = [
        (name, of, at)
        for at, word in enumerate(said)
        for name, of in begin.get(word, ())
        if said[at : at + len(name)] == name
    ]
    if not named:
        return None
    name, of, at = max(named, key=lambda one: len(one[0]))
    before, behind = words[:at], words[at + len(name) :]
    while before and before[-1].lower() in PREPOSITIONS:
        before.pop()
    return of, " ".join(one for one in before + behind if one.lower() not in COURSE)


@lru_cache(maxsize=16)
def _by_first_word(names: tuple[tuple[str, str], ...]) -> dict[str, list[tuple[list[str], str]]]:
    """The names as one would look for them, with whose they are, by their first word."""
    found: dict[str, list[tuple[list[str], str]]] = {}
    for of, name in names:
        words = [alike(word) for word in name.split()]
        if len("".join(words)) >= SHORTEST_NAME:
            found.setdefault(words[0], []).append((words, of))
    return found


def place_names(arenas: Iterable[str]) -> list[tuple[str, str]]:
    """(arena, a name that it has) in every language, and by its slug."""
    return [(one, name) for one in arenas for name in _names(one)]


@lru_cache(maxsize=1_000)
def _names(arena: str) -> list[str]:
    return sorted({place_name(arena, language) for language in ONLINE} | {arena.replace("-", " ")})
