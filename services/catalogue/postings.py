"""Which courses a word stands in, and where: in the title or code, in the summary too, anywhere."""

from array import array
from bisect import bisect_left, insort
from collections.abc import Iterable, Mapping
from typing import NamedTuple

TITLE, BRIEF, ALL = 1, 2, 4  # where a word stands: added up


class Places(NamedTuple):
    """The courses that have it in the title or code, in the summary or those, anywhere. A course is a bit of each."""

    title: int
    brief: int
    all: int

    def both(self, other: "Places") -> "Places":
        return Places(self.title & other.title, self.brief & other.brief, self.all & other.all)

    def either(self, other: "Places") -> "Places":
        return Places(self.title | other.title, self.brief | other.brief, self.all | other.all)

    def none_of(self, courses: int) -> "Places":
        """Those of all `courses` that have it not."""
        return Places(courses & ~self.title, courses & ~self.brief, courses & ~self.all)


NOWHERE = Places(0, 0, 0)
EVERYWHERE = Places(-1, -1, -1)


class Postings:
    """A course is a small number here, `slot`. A word's entries are `slot * 8 + where`, in order, four bytes each."""

    def __init__(self) -> None:
        self._numbers: dict[str, int] = {}
        self._entries: list[array[int]] = []
        self._alphabet: list[str] = []  # all but those in _new, sorted
        self._new: list[str] = []
        self._of_slot: dict[int, array[int]] = {}  # the numbers of its words

    def put(self, slot: int, words: Mapping[str, int]) -> None:
        """These are the course's words, each with where it stands; the ones it had are gone."""
        for old in self._of_slot.pop(slot, ()):
            entries = self._entries[old]
            del entries[bisect_left(entries, slot * 8)]
        numbers = array("I")
        for word, where in words.items():
            number = self._numbers.get(word)
            if number is None:
                number = self._numbers[word] = len(self._entries)
                self._entries.append(array("I"))
                self._new.append(word)
            entries, entry = self._entries[number], slot * 8 + where
            if entries and entries[-1] > entry:
                insort(entries, entry)
            else:
                entries.append(entry)
            numbers.append(number)
        self._of_slot[slot] = numbers

    def word(self, word: str) -> Places:
        number = self._numbers.get(word)
        return NOWHERE if number is None else self._marked([self._entries[number]])

    def beginning(self, beginning: str) -> Places:
        """Of every word that begins so."""
        if self._new:
            self._alphabet += self._new
            self._alphabet.sort()
            self._new = []
        first = bisect_left(self._alphabet, beginning)
        last = first
        while last < len(self._alphabet) and self._alphabet[last].startswith(beginning):
            last += 1
        return self._marked([self._entries[self._numbers[word]] for word in self._alphabet[first:last]])

    def _marked(self, words: "Iterable[array[int]]") -> Places:
        size = len(self._of_slot) // 8 + 1
        title, brief, everywhere = bytearray(size), bytearray(size), bytearray(size)
        for entries in words:
            for entry in entries:
                place, bit = entry >> 6, 1 << (entry >> 3 & 7)
                everywhere[place] |= bit
                if entry & BRIEF:
                    brief[place] |= bit
                if entry & TITLE:
                    title[place] |= bit
        return Places(*(int.from_bytes(one, "little") for one in (title, brief, everywhere)))
