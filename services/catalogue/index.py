"""The courses in memory, as sets of small numbers: which fit, in which order, how many of each kind."""

from bisect import bisect_left, bisect_right, insort
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import islice
from math import inf
from typing import Any

from pyroaring import BitMap

from services.catalogue.course import Course, Run, read, runs_by_course
from services.catalogue.postings import NONE, NOWHERE, Bits, Places, Postings
from services.catalogue.store import Row
from services.catalogue.tsquery import Join, Near, Not, Tree, Word, asks_for_places

Entry = tuple[Any, str, int]  # a place in an order: what it goes by, the course's id, its slot
Place = tuple[Any, str]  # the same without the slot
Kind = tuple[str | None, bool]  # of runs: an arena or none for any, whether with a free seat

MANY = 50  # entries at once: sorting all is quicker than to bring in each
FEW = 350  # so many are put in order by themselves; for more, the order of all is walked along
MOST_DAYS = 20  # that somebody has asked for runs from, since the last change; 100 KB each for 50,000 courses


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is looked for beside words. None is no condition.

    A run counts when it is to come, or starts at `since` or later when that is given; what is asked of a run must be so
    of one and the same.
    """

    partner: str | None = None
    subject: str | None = None
    level: str | None = None
    language: str | None = None
    withdrawn: bool = False
    arena: str | None = None
    since: datetime | None = None
    free: bool = False


class Index:
    """A course keeps its slot; slots are numbered as courses come. `version` counts what may change an answer."""

    def __init__(self, now: datetime) -> None:
        self.now = now
        self.version = 0
        self._courses: list[Course] = []
        self._slot_of: dict[str, int] = {}
        self._words = Postings()
        self._all = BitMap()
        self._offered = BitMap()
        self._kinds: dict[str, dict[str, BitMap]] = {"partner": {}, "subject": {}, "level": {}, "language": {}}
        self._to_come: dict[Kind, BitMap] = {}  # the courses that have such a run to come
        self._title_of: list[Entry] = []  # of each slot, as it stands in the order
        self._id_of: list[Entry] = []
        self._by_title: list[Entry] = []
        self._by_id: list[Entry] = []
        self._by_start: list[Entry] = []  # one for each run
        self._by_turn: list[Entry] = []  # one for each time, still to come, that a run opens or closes
        self._tangled = False  # whether the four have to be sorted before they are used
        self._from: dict[datetime, dict[Kind, BitMap]] = {}  # as _to_come, of runs from then on

    # How it is kept as the database is

    def put(self, rows: Sequence[Row], runs: Sequence[Row]) -> None:
        """These courses are so now, be they new or changed; `runs` are all runs of each."""
        theirs = runs_by_course(runs, self.now)
        titles: list[Entry] = []
        ids: list[Entry] = []
        starts: list[Entry] = []
        turns: list[Entry] = []
        words: dict[int, Sequence[Sequence[str]]] = {}
        for row in rows:
            course = read(row, theirs.get(row["id"], ()))
            slot = self._slot_of.get(course.id, len(self._courses))
            title: Entry = (course.title_order, course.id, slot)
            if slot == len(self._courses):
                self._slot_of[course.id] = slot
                self._courses.append(course)
                self._all.add(slot)
                ids.append(("", course.id, slot))
                self._id_of.append(ids[-1])
                self._title_of.append(title)
            else:
                self._take_out(slot)
                self._courses[slot] = course
                self._title_of[slot] = title
            titles.append(title)
            starts += [(run.starts_at, course.id, slot) for run in course.runs]
            turns += [(moment, course.id, slot) for moment in course.turns if moment > self.now]
            if not course.withdrawn:
                self._offered.add(slot)
            for kind, values in course.kinds.items():
                for value in values:
                    self._kinds[kind].setdefault(value, BitMap()).add(slot)
            self._look_for_runs(slot)
            words[slot] = (row["title_words"], row["brief_words"], row["all_words"])
        orders = (self._by_title, titles), (self._by_id, ids), (self._by_start, starts), (self._by_turn, turns)
        for order, new in orders:
            if len(new) > MANY:
                order += new
                self._tangled = True
            else:
                for one in new:
                    insort(order, one)
        self._words.put(words)
        self._changed()

    def pass_to(self, now: datetime) -> None:
        """It is so late now: what has begun is not to come any more, and where its period has ended, nobody may ask for
        a seat. A clock that was put back is waited for."""
        if now <= self.now:
            return
        self._untangle()
        first, last = (bisect_left(self._by_start, (moment,)) for moment in (self.now, now))
        turned = bisect_right(self._by_turn, now, key=_moment)
        self.now = now
        for _, _, slot in self._by_turn[:turned]:
            self._courses[slot] = self._courses[slot].at(now)
        for slot in {slot for _, _, slot in self._by_start[first:last] + self._by_turn[:turned]}:
            self._forget_runs(slot)
            self._look_for_runs(slot)
        del self._by_turn[:turned]
        if first < last or turned:
            self._changed()

    def _take_out(self, slot: int) -> None:
        """Forget all of a course but its slot, its place by id, and its words, which are put anew."""
        self._untangle()
        course = self._courses[slot]
        self._offered.discard(slot)
        for kind, values in course.kinds.items():
            for value in values:
                self._kinds[kind][value].discard(slot)
        self._forget_runs(slot)
        _cut_out(self._by_title, self._title_of[slot])
        for run in course.runs:
            _cut_out(self._by_start, (run.starts_at, course.id, slot))
        for moment in course.turns:
            if moment > self.now:
                _cut_out(self._by_turn, (moment, course.id, slot))

    def _forget_runs(self, slot: int) -> None:
        for courses in self._to_come.values():
            courses.discard(slot)

    def _look_for_runs(self, slot: int) -> None:
        for kind in {kind for run in self._courses[slot].runs if run.starts_at >= self.now for kind in kinds_of(run)}:
            self._to_come.setdefault(kind, BitMap()).add(slot)

    def _untangle(self) -> None:
        if self._tangled:
            for order in (self._by_title, self._by_id, self._by_start, self._by_turn):
                order.sort()
            self._tangled = False

    def _changed(self) -> None:
        self.version += 1
        self._from.clear()

    # Which courses fit

    def places(self, tree: Tree, *, loosely: bool = False) -> Places:
        """Where the words are; `loosely`, also where they may be, for all that can be told without their places.

        Raises LookupError when they are at certain places from each other and not looked for loosely.
        """
        match tree:
            case Word():
                return self._words.find(tree)
            case Join(how, parts):
                found = self.places(parts[0], loosely=loosely)
                for part in parts[1:]:
                    other = self.places(part, loosely=loosely)
                    found = found.both(other) if how == "&" else found.either(other)
                return found
            case Not(part):
                if loosely and asks_for_places(part):
                    return NOWHERE.none_of(self._all)
                return self.places(part, loosely=loosely).none_of(self._all)
            case Near(parts):
                if not loosely:
                    raise LookupError("PostgreSQL alone knows the places of words")
                return self.places(Join("&", parts), loosely=True)

    def ids(self, bits: Bits) -> list[str]:
        return [self._courses[slot].id for slot in bits]

    def told(self, rows: Sequence[Row]) -> Places:
        """What the database told of words at their places, by `store.search.where`."""
        slots = [(self._slot_of.get(str(row["id"])), row) for row in rows]
        return Places(*(BitMap(s for s, row in slots if s is not None and row[name]) for name in Places._fields))

    def fitting(self, wanted: Wanted, but: str = "") -> Bits:
        """The courses that fit, whatever their words; `but` names a kind whose condition is left out."""
        found: Bits = self._all if wanted.withdrawn else self._offered
        for kind, of_kind in self._kinds.items():
            value = getattr(wanted, kind)
            if value is not None and kind != but:
                found = found & of_kind.get(value, NONE)
        if but != "arena" and (wanted.arena is not None or wanted.since is not None or wanted.free):
            found = found & self._with_a_run(wanted.since).get((wanted.arena, wanted.free), NONE)
        return found

    def count(self, wanted: Wanted, by_words: Bits, with_a_run: bool) -> int:
        """How many there are; `with_a_run`, of those alone that `by_start` puts in order."""
        found = self.fitting(wanted) & by_words
        if with_a_run:
            found = found & self._with_a_run(wanted.since).get((wanted.arena, wanted.free), NONE)
        return len(found)

    def counts(self, wanted: Wanted, by_words: Bits, with_a_run: bool) -> dict[str, list[dict[str, Any]]]:
        """How many there are of each kind under all the other conditions, most first: {kind: [{value, courses}]}.

        `with_a_run` as in `count`.
        """
        runs = self._with_a_run(wanted.since)
        at = {arena: bits for (arena, free), bits in runs.items() if arena is not None and free == wanted.free}
        if with_a_run:
            by_words = by_words & runs.get((None, wanted.free), NONE)
        found: dict[str, list[dict[str, Any]]] = {}
        for kind, of_kind in (self._kinds | {"arena": at}).items():
            others = self.fitting(wanted, but=kind) & by_words
            counted = {value: others.intersection_cardinality(bits) for value, bits in of_kind.items()}
            some = sorted((-count, value) for value, count in counted.items() if count)
            found[kind] = [{"value": value, "courses": -count} for count, value in some]
        return found

    @property
    def arenas(self) -> list[str]:
        """Where there is a run to come."""
        return [arena for arena, free in self._to_come if arena is not None and not free]

    def attended_at(self, arena: str, wanted: Wanted) -> Bits:
        """The courses that have a run there, to come or from `wanted.since` on, with a free seat if that is wanted."""
        return self._with_a_run(wanted.since).get((arena, wanted.free), NONE)

    def offered_by(self, partner: str) -> Bits:
        return self._kinds["partner"].get(partner, NONE)

    @property
    def everywhere(self) -> Places:
        """Where no words are looked for."""
        return Places(self._all, self._all, self._all)

    def _with_a_run(self, since: datetime | None) -> Mapping[Kind, BitMap]:
        """As `_to_come`, of runs from then on."""
        if since is None:
            return self._to_come
        found = self._from.get(since)
        if found is None:
            if len(self._from) >= MOST_DAYS:
                del self._from[next(iter(self._from))]  # the oldest
            found = self._from[since] = self._work_out(since)
        return found

    def _work_out(self, since: datetime) -> dict[Kind, BitMap]:
        found: dict[Kind, list[int]] = {}
        for slot, course in enumerate(self._courses):
            for kind in {kind for run in course.runs if run.starts_at >= since for kind in kinds_of(run)}:
                found.setdefault(kind, []).append(slot)
        return {kind: BitMap(slots) for kind, slots in found.items()}

    # In which order

    def by_title(self, bits: Bits, after: Place | None) -> Iterator[Entry]:
        """In Norwegian order of their titles."""
        self._untangle()
        return _along(self._by_title, bits, after, self._title_of.__getitem__)

    def by_id(self, bits: Bits, after: Place | None) -> Iterator[Entry]:
        """As they came; `after` has an empty text and the id."""
        self._untangle()
        return _along(self._by_id, bits, after, self._id_of.__getitem__)

    def by_start(self, bits: Bits, after: Place | None, wanted: Wanted) -> Iterator[Entry]:
        """By the first run that fits. A course that has none is left out."""
        since = wanted.since or self.now

        def first(slot: int) -> Entry | None:
            fits = next(self._courses[slot].fitting(since, wanted.arena, wanted.free), None)
            return fits and (fits.starts_at, self._courses[slot].id, slot)

        self._untangle()
        begin = (since, "")  # what lies before is no first run of any
        return _along(self._by_start, bits, max(after, begin) if after else begin, first)

    def partner(self, slot: int) -> str:
        """Whose course it is."""
        return self._courses[slot].kinds["partner"][0]

    def json(self, slot: int, language: str, wanted: Wanted) -> str:
        """A course as it stands in a list, with its runs that fit."""
        return self._courses[slot].json(language, wanted.since or self.now, wanted.arena, wanted.free)


def kinds_of(run: Run) -> Iterator[Kind]:
    """What can be asked of where it is and whether it has a free seat."""
    yield None, False
    yield from ((arena, False) for arena in run.arenas)
    if run.free:
        yield None, True
        yield from ((arena, True) for arena in run.free)


def _along(
    order: list[Entry], bits: Bits, after: Place | None, entry_of: Callable[[int], Entry | None]
) -> Iterator[Entry]:
    """Those of `bits` in this order, behind `after`; `entry_of` tells which entry of a slot is its own, if any."""
    if len(bits) < FEW:
        entries = sorted(filter(None, map(entry_of, bits)))
        yield from entries[_behind(entries, after) :]
        return
    last = None
    for entry in islice(order, _behind(order, after), None):
        # Two runs of a course may start at once: equal entries, one after the other.
        if entry[2] in bits and entry != last and entry_of(entry[2]) == entry:
            last = entry
            yield entry


def _behind(order: list[Entry], after: Place | None) -> int:
    return bisect_left(order, (*after, inf)) if after else 0


def _moment(entry: Entry) -> datetime:
    at: datetime = entry[0]
    return at


def _cut_out(order: list[Entry], entry: Entry) -> None:
    del order[bisect_left(order, entry)]
