"""Which courses a word stands in, and where: in the title or code, in the summary too, anywhere."""

from array import array
from bisect import bisect_left, insort
from collections import deque
from collections.abc import Mapping, Sequence
from itertools import chain, repeat
from typing import NamedTuple

from services.catalogue.spelling import alike
from services.catalogue.tsquery import Word

Bits = int  # a set of courses: bit n is the course in slot n

WHERE = ("title", "brief", "all")
MOST_KEPT = 1_000  # words and beginnings that stand in many courses: 20 KB each for 50,000
MANY = 500  # courses
FREQUENT = 1_000  # courses: to mark so many for each beginning of such a word anew takes longer than all the rest
BULK = 20  # courses at once: to look all kept words over for each would take longer than to find them anew
SHORTEST_MISSPELT = 4  # letters
SPARE_WORDS = 10_000  # that no course has any more, before they are forgotten


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
        return Places(courses & ~self.title, courses & ~self.brief, courses & ~self.all)


NOWHERE = Places(0, 0, 0)
EVERYWHERE = Places(-1, -1, -1)


class Postings:
    """For each word and each of `WHERE` the slots of its courses in order, four bytes each.

    What many courses have is kept as bits too, once it was asked for, and changed with them.
    """

    def __init__(self) -> None:
        self._numbers: dict[str, int] = {}  # of words, as they came; a number is never given again
        self._last = -1
        self._slots: list[dict[int, array[int]]] = [{} for _ in WHERE]
        self._of_slot: list[array[int]] = []  # the numbers of a course's words: those of the title, of the brief, all
        self._alphabet: list[str] | None = None  # all words in order, once somebody has asked for a beginning
        self._alike: dict[str, tuple[str, ...]] = {}  # the words that are easily written so, and are not
        self._kept: dict[Word, Places] = {}

    def put(self, new: Mapping[int, Sequence[Sequence[str]]]) -> None:
        """The words of these slots, by `WHERE`, are so now. A slot that is new is the next one."""
        for slot, words in new.items():
            if slot < len(self._of_slot):
                self._take_out(slot)
            else:
                self._of_slot.append(array("I"))
            numbers = self._of_slot[slot] = array("I")
            for slots, here in zip(self._slots, words, strict=True):
                numbers.append(len(here))
                for word in here:
                    number = self._numbers.get(word)
                    if number is None:
                        number = self._new(word)
                    numbers.append(number)
                    of_word = slots.get(number)
                    if of_word is None:
                        slots[number] = array("I", (slot,))
                    elif of_word[-1] < slot:
                        of_word.append(slot)
                    else:
                        insort(of_word, slot)
        if len(self._numbers) > 2 * len(self._slots[-1]) + SPARE_WORDS:
            self._forget_spare_words()
        if len(new) > BULK:
            self._kept.clear()
        else:
            self._change_kept(new)

    def _new(self, word: str) -> int:
        self._last += 1
        self._numbers[word] = self._last
        self._alphabet = None
        plain = alike(word)
        if plain != word:
            self._alike[plain] = (*self._alike.get(plain, ()), word)
        return self._last

    def _forget_spare_words(self) -> None:
        there = [slots.keys() for slots in self._slots]
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
        for slots in self._slots:
            end = at + 1 + numbers[at]
            for number in numbers[at + 1 : end]:
                of_word = slots[number]
                del of_word[bisect_left(of_word, slot)]
                if not of_word:
                    del slots[number]
            at = end

    def _change_kept(self, new: Mapping[int, Sequence[Sequence[str]]]) -> None:
        for slot, words in new.items():
            bit, here = 1 << slot, [sorted(one) for one in words]
            for word, places in self._kept.items():
                told = zip(places, here, strict=True)
                self._kept[word] = Places(*(bits | bit if _has(there, word) else bits & ~bit for bits, there in told))

    def find(self, word: Word) -> Places:
        """Where the word is, or any that begins so; where no course has it, the words that it may be misspelt for."""
        found = self._kept.pop(word, None)
        if found is None:
            meant = self._meant(word)
            if not any(number in self._slots[-1] for number in meant.values()):
                return self._places(self._misspelt(word.word), word)
            found = self._places(meant, word)
            if found.all.bit_count() < MANY:
                return found
        self._kept[word] = found  # now the last to go
        if len(self._kept) > MOST_KEPT:
            del self._kept[next(iter(self._kept))]
        return found

    def _places(self, meant: Mapping[str, int], asked: Word) -> Places:
        """Where any of these is. Another that is frequent is looked for by itself, and so kept."""
        often = {one for one, number in meant.items() if len(self._slots[-1].get(number, ())) >= FREQUENT}
        often.discard("" if asked.begins else asked.word)
        rest = [number for one, number in meant.items() if one not in often]
        found = Places(*(self._marked(slots, rest) for slots in self._slots)) if rest else NOWHERE
        for one in often:
            found = found.either(self.find(Word(one)))
        return found

    def _misspelt(self, word: str) -> dict[str, int]:
        """`okonomi` and `oekonomi` are økonomi, `programering` is programmering; too short, it may be anything."""
        plain = alike(word)
        if len(plain) < SHORTEST_MISSPELT:
            return {}
        return {one: self._numbers[one] for one in (*self._alike.get(plain, ()), plain) if one in self._numbers}

    def _meant(self, word: Word) -> dict[str, int]:
        """The words that it may be, and their numbers."""
        if not word.begins:
            return {word.word: self._numbers[word.word]} if word.word in self._numbers else {}
        if self._alphabet is None:
            self._alphabet = sorted(self._numbers)
        found = {}
        for at in range(bisect_left(self._alphabet, word.word), len(self._alphabet)):
            if not self._alphabet[at].startswith(word.word):
                break
            found[self._alphabet[at]] = self._numbers[self._alphabet[at]]
        return found

    def _marked(self, slots: Mapping[int, "array[int]"], numbers: Sequence[int]) -> Bits:
        of_words = [slots[number] for number in numbers if number in slots]
        count = len(self._of_slot)
        if sum(map(len, of_words)) < MANY:
            bits = bytearray(count // 8 + 1)
            for of_word in of_words:
                for slot in of_word:
                    bits[slot >> 3] |= 1 << (slot & 7)
            return int.from_bytes(bits, "little")
        digits = bytearray(b"0") * count
        here = chain.from_iterable(of_words)
        deque(map(digits.__setitem__, here, repeat(ord("1"))), maxlen=0)  # a third of a loop's time
        digits.reverse()
        return int(digits, 2)


def _has(words: Sequence[str], word: Word) -> bool:
    """Whether these sorted words hold it, or one that begins so."""
    at = bisect_left(words, word.word)
    return at < len(words) and (words[at].startswith(word.word) if word.begins else words[at] == word.word)
