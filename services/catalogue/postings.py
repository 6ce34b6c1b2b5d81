"""Which courses a word stands in, and where: in the title or code, in the summary too, anywhere."""

from array import array
from bisect import bisect_left
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from pyroaring import AbstractBitMap, BitMap, FrozenBitMap

from services.catalogue.spelling import alike, one_letter_off, otherwise
from services.catalogue.tsquery import Word

# A set of courses, by their slots. Who is given one never changes it, nor writes `&=`, which would.
Bits = AbstractBitMap

NONE: Bits = FrozenBitMap()
WHERE = ("title", "brief", "all")
MOST_KEPT = 1_000  # words and beginnings, since a text changed: 25 KB each at most for 50,000 courses
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
    """For each word and each of `WHERE` the courses that have it; most words have one, and that stands by itself."""

    def __init__(self) -> None:
        self._numbers: dict[str, int] = {}  # of words, as they came; a number is never given again
        self._last = -1
        self._courses: list[dict[int, BitMap | int]] = [{} for _ in WHERE]
        self._of_slot: list[array[int]] = []  # the numbers of a course's words: those of the title, of the brief, all
        self._alphabet: list[str] = []  # all words in order, once somebody has asked for a beginning; or none
        self._in_order = array("I")  # their numbers
        self._alike: dict[str, tuple[str, ...]] = {}  # the words that are easily written so, and are not
        self._plain: list[str] = []  # its keys in order, as the alphabet
        self._kept: dict[Word, Places] = {}  # a beginning may be that of a thousand words

    def put(self, new: Mapping[int, Sequence[Sequence[str]]]) -> None:
        """The words of these slots, by `WHERE`, are so now. A slot that is new is the next one."""
        for slot, words in new.items():
            numbers = array("I")
            for here in words:
                numbers.append(len(here))
                numbers.extend(self._numbers[word] if word in self._numbers else self._new(word) for word in here)
            if slot == len(self._of_slot):
                self._of_slot.append(numbers)
            elif self._of_slot[slot] == numbers:
                continue  # its seats have changed, or a date: words seldom do
            else:
                for courses, number in self._words_of(slot):
                    there = courses[number]
                    if isinstance(there, BitMap) and len(there) > 1:
                        there.remove(slot)
                    else:
                        del courses[number]
                self._of_slot[slot] = numbers
            for courses, number in self._words_of(slot):
                there = courses.setdefault(number, slot)
                if isinstance(there, BitMap):
                    there.add(slot)
                elif there != slot:
                    courses[number] = BitMap((there, slot))
            self._kept.clear()
        if len(self._numbers) > 2 * len(self._courses[-1]) + SPARE_WORDS:
            self._forget_spare_words()

    def _new(self, word: str) -> int:
        self._last += 1
        self._numbers[word] = self._last
        self._alphabet = []
        plain = alike(word)
        if plain != word:
            self._alike[plain] = (*self._alike.get(plain, ()), word)
            self._plain = []
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
        self._alphabet, self._plain = [], []

    def _words_of(self, slot: int) -> Iterator[tuple[dict[int, BitMap | int], int]]:
        """(the courses by word, a number of a word that this one has there), of each of `WHERE`."""
        numbers, at = self._of_slot[slot], 0
        for courses in self._courses:
            end = at + 1 + numbers[at]
            yield from ((courses, number) for number in numbers[at + 1 : end])
            at = end

    def find(self, word: Word) -> Places:
        """Where the word is, or any that begins so; where no course has it, the words that it may be misspelt for."""
        found = self._kept.pop(word, None)
        if found is None:
            found = self._places(self._meant(word))
            if not found.all:
                found = self._places(self._misspelt(word))
            if len(self._kept) == MOST_KEPT:
                del self._kept[next(iter(self._kept))]
        self._kept[word] = found  # now the last to go
        return found

    def _places(self, numbers: Sequence[int]) -> Places:
        """Where any of these words is."""
        return Places(
            *(_together([one for one in map(courses.get, numbers) if one is not None]) for courses in self._courses)
        )

    def _meant(self, word: Word) -> Sequence[int]:
        """The words that it may be."""
        if not word.begins:
            return self._known((word.word,))
        if not self._alphabet:
            self._alphabet = sorted(self._numbers)
            self._in_order = array("I", map(self._numbers.__getitem__, self._alphabet))
        begin, end = (bisect_left(self._alphabet, one) for one in (word.word, word.word + LAST))
        return self._in_order[begin:end]

    def _misspelt(self, word: Word) -> Sequence[int]:
        """`okonomi` and `oekonomi` are økonomi, `programering` is programmering; too short, it may be anything.

        Where that is nowhere, the same in the other written language, and in a whole word one letter that is wrong;
        `sveising` is what a sveisekurs is about.
        """
        plain = alike(word.word)
        if len(plain) < SHORTEST_MISSPELT:
            return ()
        if found := self._spelt(plain, word.begins):
            return found
        meant = [plain, *otherwise(plain)]
        likely = [number for one in meant[1:] for number in self._spelt(one, word.begins)]
        if word.begins:
            if plain.endswith("ing"):
                likely += self._spelt(f"{plain[:-3]}ekurs", begins=True)
        elif not likely:
            likely += self._known([at for one in meant for off in one_letter_off(one) for at in self._written(off)])
        return list(dict.fromkeys(likely))

    def _spelt(self, plain: str, begins: bool) -> Sequence[int]:
        """The words that are written so in plain letters, or with `begins` begin so."""
        if not begins:
            return self._known(self._written(plain))
        if not self._plain:
            self._plain = sorted(self._alike)
        first, last = (bisect_left(self._plain, one) for one in (plain, plain + LAST))
        others = [word for one in self._plain[first:last] for word in self._alike[one]]
        return [*self._meant(Word(plain, begins=True)), *self._known(others)]

    def _written(self, plain: str) -> Sequence[str]:
        return (*self._alike.get(plain, ()), plain)

    def _known(self, words: Sequence[str]) -> Sequence[int]:
        return [self._numbers[word] for word in words if word in self._numbers]


def _together(found: Sequence[BitMap | int]) -> Bits:
    if not found:
        return NONE
    single = BitMap([one for one in found if isinstance(one, int)])
    return BitMap.union(single, *(one for one in found if isinstance(one, BitMap)))
