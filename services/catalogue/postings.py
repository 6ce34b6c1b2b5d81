"""Which courses a word stands in, and where: in the title or code, in the summary too, anywhere."""

from array import array
from bisect import bisect_left
from collections.abc import Collection, Mapping, Sequence
from typing import NamedTuple

from pyroaring import AbstractBitMap, BitMap, FrozenBitMap

from services.catalogue.spelling import alike
from services.catalogue.tsquery import Word

# A set of courses, by their slots. Who is given one never changes it, nor writes `&=`, which would.
Bits = AbstractBitMap

NONE: Bits = FrozenBitMap()
WHERE = ("title", "brief", "all")
SHORTEST_MISSPELT = 4  # letters
SPARE_WORDS = 10_000  # that no course has any more, before they are forgotten
LAST = "\U0010ffff"  # behind any other letter


class Places(NamedTuple):
    """The courses that have it in the title or code, in the summary or those, anywhere."""

    title: Bits
    brief: Bits
    all: Bits

    def both(self, other: "Places") -> "Places":
        return Places(self.title & other.title, self.brief & other.brief, self.all & other.all)

    def either(self, other: "Places") -> "Places":
        return Places(self.title | other.title, self.brief | other.brief, self.all | other.all)

    def none_of(self, courses: Bits) -> "Places":
        """Those of all `courses` that have it not."""
        return Places(courses - self.title, courses - self.brief, courses - self.all)


NOWHERE = Places(NONE, NONE, NONE)


class Postings:
    """For each word and each of `WHERE` the courses that have it."""

    def __init__(self) -> None:
        self._numbers: dict[str, int] = {}  # of words, as they came; a number is never given again
        self._last = -1
        self._courses: list[dict[int, BitMap]] = [{} for _ in WHERE]
        self._of_slot: list[array[int]] = []  # the numbers of a course's words: those of the title, of the brief, all
        self._alphabet: list[str] | None = None  # all words in order, once somebody has asked for a beginning
        self._alike: dict[str, tuple[str, ...]] = {}  # the words that are easily written so, and are not

    def put(self, new: Mapping[int, Sequence[Sequence[str]]]) -> None:
        """The words of these slots, by `WHERE`, are so now. A slot that is new is the next one."""
        for slot, words in new.items():
            if slot < len(self._of_slot):
                self._take_out(slot)
            else:
                self._of_slot.append(array("I"))
            numbers = self._of_slot[slot] = array("I")
            for courses, here in zip(self._courses, words, strict=True):
                numbers.append(len(here))
                for word in here:
                    number = self._numbers.get(word)
                    if number is None:
                        number = self._new(word)
                    numbers.append(number)
                    of_word = courses.get(number)
                    if of_word is None:
                        courses[number] = BitMap((slot,))
                    else:
                        of_word.add(slot)
        if len(self._numbers) > 2 * len(self._courses[-1]) + SPARE_WORDS:
            self._forget_spare_words()

    def _new(self, word: str) -> int:
        self._last += 1
        self._numbers[word] = self._last
        self._alphabet = None
        plain = alike(word)
        if plain != word:
            self._alike[plain] = (*self._alike.get(plain, ()), word)
        return self._last

    def _forget_spare_words(self) -> None:
        there = [courses.keys() for courses in self._courses]
        kept = {word: one for word, one in self._numbers.items() if any(one in numbers for numbers in there)}
        for word in self._numbers.keys() - kept.keys():
            plain = alike(word)
            others = tuple(one for one in self._alike.pop(plain, ()) if one != word)
            if others:
                self._alike[plain] = others
        self._numbers = kept
        self._alphabet = None

    def _take_out(self, slot: int) -> None:
        numbers, at = self._of_slot[slot], 0
        for courses in self._courses:
            end = at + 1 + numbers[at]
            for number in numbers[at + 1 : end]:
                of_word = courses[number]
                of_word.remove(slot)
                if not of_word:
                    del courses[number]
            at = end

    def find(self, word: Word) -> Places:
        """Where the word is, or any that begins so; where no course has it, the words that it may be misspelt for."""
        found = self._places(self._meant(word))
        return found if found.all else self._places(self._misspelt(word.word))

    def _places(self, words: Collection[str]) -> Places:
        """Where any of these is."""
        numbers = [self._numbers[word] for word in words if word in self._numbers]
        found = ([courses[number] for number in numbers if number in courses] for courses in self._courses)
        return Places(*(BitMap.union(*some) if some else NONE for some in found))

    def _meant(self, word: Word) -> Collection[str]:
        """The words that it may be."""
        if not word.begins:
            return (word.word,)
        if self._alphabet is None:
            self._alphabet = sorted(self._numbers)
        begin, end = (bisect_left(self._alphabet, one) for one in (word.word, word.word + LAST))
        return self._alphabet[begin:end]

    def _misspelt(self, word: str) -> Collection[str]:
        """`okonomi` and `oekonomi` are økonomi, `programering` is programmering; too short, it may be anything."""
        plain = alike(word)
        return (*self._alike.get(plain, ()), plain) if len(plain) >= SHORTEST_MISSPELT else ()
