"""What PostgreSQL makes of a search, read from its text: which words must be there, and how they hang together."""

import re
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

TOKEN = re.compile(r"\s*(?:'(?P<word>(?:[^'\\]|''|\\.)*)'(?P<mark>:\*)?|(?P<near><(?:-|\d+)>)|(?P<sign>[!&|()]))")
ESCAPED = re.compile(r"''|\\(.)")


@dataclass(frozen=True, slots=True)
class Word:
    """A word as it is kept, or with `begins` any word that begins so."""

    word: str
    begins: bool = False


@dataclass(frozen=True, slots=True)
class Join:
    """All of the parts, or any of them."""

    how: Literal["&", "|"]
    parts: tuple["Tree", ...]


@dataclass(frozen=True, slots=True)
class Not:
    part: "Tree"


@dataclass(frozen=True, slots=True)
class Near:
    """Parts at certain places from each other, which PostgreSQL alone knows."""

    parts: tuple["Tree", ...]


Tree = Word | Join | Not | Near


class _Reader:
    def __init__(self, text: str) -> None:
        self.text = text
        self.at = 0  # behind the last token that was taken
        self.next: re.Match[str] | None = TOKEN.match(text)

    def sign(self, sign: str) -> bool:
        """Take this sign, if it is next."""
        if self.next is None or sign != ("<>" if self.next["near"] else self.next["sign"]):
            return False
        self.take()
        return True

    def take(self) -> re.Match[str]:
        token = self.next
        if token is None:
            raise ValueError(f"not a query: {self.text[self.at :]!r}")
        self.at = token.end()
        self.next = TOKEN.match(self.text, self.at)
        return token

    def joined(self, how: Literal["&", "|"]) -> Tree:
        parts = [self.joined("&") if how == "|" else self.near()]
        while self.sign(how):
            parts.append(self.joined("&") if how == "|" else self.near())
        return parts[0] if len(parts) == 1 else Join(how, tuple(parts))

    def near(self) -> Tree:
        parts = [self.one()]
        while self.sign("<>"):
            parts.append(self.one())
        return parts[0] if len(parts) == 1 else Near(tuple(parts))

    def one(self) -> Tree:
        if self.sign("!"):
            return Not(self.one())
        if self.sign("("):
            inner = self.joined("|")
            if not self.sign(")"):
                raise ValueError(f"not closed: {self.text[self.at :]!r}")
            return inner
        token = self.take()
        if token["word"] is None:
            raise ValueError(f"not a word: {token[0]!r}")
        return Word(ESCAPED.sub(lambda found: found[1] or "'", token["word"]), token["mark"] is not None)


@lru_cache(maxsize=2_000)  # people search for the same again and again
def read(text: str) -> Tree:
    """The tree of a tsquery as PostgreSQL writes it. Raises ValueError for anything else."""
    reader = _Reader(text)
    tree = reader.joined("|")
    if text[reader.at :].strip():
        raise ValueError(f"not read: {text[reader.at :]!r}")
    return tree


def asks_for_places(tree: Tree) -> bool:
    match tree:
        case Near():
            return True
        case Join():
            return any(asks_for_places(part) for part in tree.parts)
        case Not():
            return asks_for_places(tree.part)
        case Word():
            return False
