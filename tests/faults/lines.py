"""Judges lines: no seat is free that somebody stands in line for (V7), and each goes to the first of them (V8)."""

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime

from tests.faults import model
from tests.faults.evidence import Row
from tests.faults.model import SEATED, Commit, Said, World
from tests.faults.verdict import Looked

NONE_WITHIN_US = 12 * 3600 * 1_000_000  # of the start: a free seat is whose who asks first
LAST_OF_ALL = 99
BACK = ("declined", "lapsed")  # steps after which one who stays stands at the back


@dataclass
class Person:
    """One enrolment as its steps leave it. `number`: its place in the order of asking; `back`: it was put last."""

    row: Row
    number: int
    state: str = ""
    place: str | None = None
    back: bool = False

    @property
    def waiting(self) -> list[str]:
        return model.waiting_for(self.state, self.place, self.row)

    def rank(self, ranks: Mapping[str, int]) -> int:
        """Whom a group brings to the front, it does once: not when they have had their turn."""
        return LAST_OF_ALL if self.back else ranks.get(self.row["group_name"], LAST_OF_ALL)


@dataclass
class Offering:
    """One offering as what was heard of it and its steps leave it: not from what services count."""

    caps: dict[str, int] = field(default_factory=dict)
    groups: list[list[str]] = field(default_factory=list)  # as this commit heard them, usually one
    last_us: int = 0
    cancelled: bool = False
    people: dict[str, Person] = field(default_factory=dict)
    taken: Counter[str] = field(default_factory=Counter)
    waiting: Counter[str] = field(default_factory=Counter)
    _numbers: int = 0

    def hear(self, told: list[Said]) -> None:
        """What one transaction heard, by version: whose turn it was may be by any of the orders that it had."""
        states = [one.data for one in told if "places" in one.data]
        self.cancelled = self.cancelled or len(states) < len(told)
        if states:
            start = datetime.fromisoformat(states[-1]["starts_at"])
            self.caps = model.places({"data": states[-1]})
            self.last_us = round(start.timestamp() * 1_000_000) - NONE_WITHIN_US
            self.groups = [state.get("priority_groups", []) for state in states]

    def in_front(self, arena: str) -> set[str]:
        """Who is first in line for a seat here: one, or one by each of the orders of this commit."""
        there = self.people.items() if self.waiting[arena] > 0 else ()
        line = [(name, one) for name, one in there if arena in one.waiting]
        firsts = set()
        for groups in self.groups if line else ():
            ranks = {group: rank for rank, group in enumerate(groups)}
            firsts.add(min(line, key=lambda one: (one[1].rank(ranks), one[1].number))[0])
        return firsts

    def take(self, step: Row, row: Row) -> None:
        """One step of one enrolment."""
        one = self.people.get(step["enrolment_id"])
        if one is None or (step["to_state"] == "queued" and step["why"] in BACK):
            self._numbers += 1
            if one is None:
                one = self.people[step["enrolment_id"]] = Person(row, self._numbers)
            else:
                one.number, one.back = self._numbers, True
        self.waiting.subtract(one.waiting)
        for arena, seats in model.seats(step):
            self.taken[arena] += seats
        one.state, one.place = step["to_state"], step["place"]
        self.waiting.update(one.waiting)

    def why_first(self, who: str, firsts: set[str]) -> str:
        """By which of the two rules these were in front of one who was given the seat."""
        ranks = {group: rank for groups in self.groups[-1:] for rank, group in enumerate(groups)}
        mine = self.people[who].rank(ranks) if who in self.people else LAST_OF_ALL
        return "group" if any(self.people[one].rank(ranks) < mine for one in firsts) else "time of asking"

    def rows(self, *names: str) -> list[Row]:
        return [self.people[name].row for name in names if name in self.people]

    def idle(self) -> list[str]:
        """Where a seat is free that somebody stands in line for."""
        return [arena for arena, cap in self.caps.items() if cap > self.taken[arena] and self.waiting[arena] > 0]


def _walk(world: World) -> Iterator[tuple[str, Offering, Commit, Row | None]]:
    """(offering's id, the offering, commit, step or none): before each step, and with none when a commit is whole."""
    rows = {row["id"]: row for row in world.rows("enrolment.enrolments")}
    for name, commits in world.story.items():
        offering = Offering()
        for commit in commits:
            offering.groups = offering.groups[-1:]
            offering.hear(commit.told)
            for step in commit.steps:
                yield name, offering, commit, step
                if step["enrolment_id"] in rows:
                    offering.take(step, rows[step["enrolment_id"]])
            yield name, offering, commit, None


def no_idle_seat(world: World) -> Looked:
    """V7: at no commit is a seat free that somebody stands in line for, until 12 hours before the start."""
    found = Looked({"commits": 0, "with a line": 0, "offerings": len(world.story)}, also={"cancelled or too late": 0})
    for name, offering, commit, step in _walk(world):
        if step is not None:
            continue
        found.seen["commits"] += 1
        found.seen["with a line"] += any(count > 0 for count in offering.waiting.values())
        if offering.cancelled or commit.at >= offering.last_us:
            found.also["cancelled or too late"] += 1
            continue
        for arena in offering.idle():
            free, line = offering.caps[arena] - offering.taken[arena], offering.waiting[arena]
            words = f"{name} at {arena}: {free} seats are free, and {line} stand in line"
            found.wrong.append((words, [{"at": commit.at}, *commit.steps]))
    return found


def no_queue_jump(world: World) -> Looked:
    """V8: a seat that the line gave went to the first in it, and none went past it to somebody who asked."""
    found = Looked({"offered": 0, "moved": 0, "by group past earlier ones": 0, "given to who asked": 0})
    for name, offering, commit, step in _walk(world):
        if step is None or step["to_state"] not in SEATED:
            continue
        places = [arena for arena, seats in model.seats(step) if seats > 0]
        for arena in places:
            who = step["enrolment_id"]
            firsts = offering.in_front(arena)
            if step["by_whom"] == "line":
                found.seen["offered" if step["to_state"] == "offered" else "moved"] += 1
                line = [one for one in offering.people.values() if arena in one.waiting]
                first_asked = min(line, key=lambda one: one.number).row["id"] if line else None
                found.seen["by group past earlier ones"] += who in firsts and who != first_asked
                if who not in firsts:
                    others = f"{', '.join(sorted(firsts)) or 'nobody'}, by {offering.why_first(who, firsts)}"
                    words = f"{name} at {arena}: {who} was given the seat before {others} the first"
                    found.wrong.append((words, [step, *offering.rows(who, *firsts)]))
            else:
                found.seen["given to who asked"] += 1
                if firsts - {who} and commit.at < offering.last_us:
                    words = f"{name} at {arena}: {who} asked and was given a seat past those in line"
                    found.wrong.append((words, [step, *offering.rows(*firsts)]))
    return found
