"""Judges one course as its clients saw it: one order of all that they did explains every answer they got (V10)."""

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial

from tests.faults.evidence import Row
from tests.faults.linear import Apply, Judged, Op, judge
from tests.faults.model import World
from tests.faults.verdict import Looked
from tests.faults.writes import ANSWERED, answers

STEADY = "steady"  # the key of a run that its partner never changes: its seats are as many from beginning to end
US = 1_000_000
SEEN_S = 15.0  # a commit that PostgreSQL has dated may be seen so much later: a server that is frozen shows nothing
EFFECTS = {"withdraw": "withdrawn", **{f: why for f, (why, _) in ANSWERED.items()}}
ASKED_AGAIN, NO_OFFER = "already-enrolled", "no-offer"


@dataclass(frozen=True)
class Seats:
    """The sequential model: so many seats, who has which (enrolment, accepted or not), and the line in its order."""

    capacity: int
    seated: frozenset[tuple[str, bool]] = frozenset()
    line: tuple[str, ...] = ()

    def filled(self) -> "Seats":
        """Each free seat is offered to the first in line."""
        seated, line = self.seated, self.line
        while line and len(seated) < self.capacity:
            seated, line = seated | {(line[0], False)}, line[1:]
        return Seats(self.capacity, seated, line)

    def without(self, who: str, back: bool = False) -> "Seats":
        seated = self.seated - {(who, True), (who, False)}
        line = tuple(one for one in self.line if one != who)
        return Seats(self.capacity, seated, (*line, who) if back else line).filled()

    def shown(self, who: str) -> tuple[str, int | None]:
        """State and place in line, as the enrolment's page has them."""
        if (who, True) in self.seated:
            return "associated", None
        if (who, False) in self.seated:
            return "offered", None
        return ("queued", self.line.index(who) + 1) if who in self.line else ("cancelled", None)


Told = tuple[str, int | None] | None  # state and place in line of an answer; none: nobody was told


def enrol(who: str, told: Told, others: frozenset[str], now: Seats) -> Seats | None:
    """`others` are the learner's other enrolments here: nobody has two."""
    if any(now.shown(one)[0] != "cancelled" for one in (who, *others)):
        return None
    if len(now.seated) < now.capacity:
        after = Seats(now.capacity, now.seated | {(who, True)}, now.line)
    else:
        after = Seats(now.capacity, now.seated, (*now.line, who))
    return after if told in (None, after.shown(who)) else None


def is_there(mine: frozenset[str], now: Seats) -> Seats | None:
    """Who is enrolled is told so, and nobody else."""
    return now if any(now.shown(one)[0] != "cancelled" for one in mine) else None


def withdraw(who: str, now: Seats) -> Seats:
    return now.without(who)


def accept(who: str, now: Seats) -> Seats | None:
    return Seats(now.capacity, now.seated - {(who, False)} | {(who, True)}, now.line) if _is_offered(who, now) else None


def decline(who: str, stay: bool, now: Seats) -> Seats | None:
    return now.without(who, back=stay) if _is_offered(who, now) else None


def no_offer(who: str, now: Seats) -> Seats | None:
    return None if _is_offered(who, now) else now


def _is_offered(who: str, now: Seats) -> bool:
    return (who, False) in now.seated


def look(who: str, told: Told, now: Seats) -> Seats | None:
    return now if now.shown(who) == told else None


def count(taken: int, queued: int, now: Seats) -> Seats | None:
    return now if (len(now.seated), len(now.line)) == (taken, queued) else None


class Course:
    """The operations on one steady run, as the history tells them; what nobody was told, the database tells."""

    def __init__(self, world: World, offering: str) -> None:
        self._offering = offering
        self._times = [float(line["t"]) for line in world.evidence.history]
        first = world.evidence.history[0]
        self._clock = float(first["t"]) - float(first.get("wall", 0.0))  # what must be added to a time of day
        self._steps: dict[tuple[str, str], list[int]] = defaultdict(list)  # (enrolment, why) -> commits
        for row in world.rows("enrolment.changes"):
            if row["offering_id"] == offering:
                self._steps[row["enrolment_id"], row["why"]].append(row["committed_us"])
        self._by_name: dict[str, str] = {}
        self._of: dict[str, set[str]] = defaultdict(set)  # learner -> enrolments here
        subjects = {row["id"]: row["subject"] for row in world.rows("enrolment.learners")}
        for row in world.rows("enrolment.enrolments"):
            if row["offering_id"] == offering:
                self._by_name[row["name"]] = row["id"]
                self._of[subjects.get(row["learner_id"], "")].add(row["id"])
        self.ops = [op for lines, who in self._operations(world) for op in self._read(lines, who)]

    def _operations(self, world: World) -> Iterator[tuple[list[Row], str | None]]:
        """Each operation here, with its enrolment."""
        for _, lines in world.of("enrol", "withdraw", "read", "seats"):
            if lines[0].get("offering") == self._offering or lines[0]["f"] == "read":
                yield lines, self._by_name.get(lines[0].get("name", "")) or lines[0].get("enrolment")
        mine = set(self._by_name.values())
        yield from ((lines, who) for _, lines, who in answers(world) if who in mine)

    def _read(self, lines: list[Row], who: str | None) -> Iterator[Op[Seats]]:
        """One operation for the answer that its key got, one for each refusal, one for what is unknown."""
        begun = {line["n"]: line for line in lines if line["kind"] == "invoke" and not line.get("variant")}
        ends = [line for line in lines if line["kind"] != "invoke" and not line.get("variant")]
        name, f = str(lines[0]["id"]), str(lines[0]["f"])
        first = next((line for line in ends if line["kind"] == "ok"), None)
        if first is not None:
            call = begun[first["n"]]["i"] if f in ("read", "seats") else min(line["i"] for line in begun.values())
            for number, (apply, reads) in enumerate(self._answered(f, lines[0], who, first)):
                yield Op(f"{name} {f}{number or ''}", call, first["i"], apply, reads=reads)
        for line in ends:
            refused = self._refused(line, lines[0], who) if line["kind"] == "fail" else None
            if refused is not None:
                yield Op(f"{name} {f} try {line['n']}", begun[line["n"]]["i"], line["i"], refused, reads=True)
        lost = [line for line in ends if line["kind"] == "info" or line.get("err") == "request-in-progress"]
        if first is None and lost and f not in ("read", "seats"):
            yield from self._unknown(name, f, lines[0], who, min(begun[line["n"]]["i"] for line in lost))

    def _answered(self, f: str, said: Row, who: str | None, line: Row) -> Iterator[tuple[Apply[Seats], bool]]:
        body = line["body"]
        if f == "seats":
            for place in body["places"]:
                yield partial(count, place["taken"], place["queued"]), True
        elif f == "read":
            for one in body.get("items", [body]):
                if one["offering_id"] == self._offering:
                    yield partial(look, one["enrolment_id"], (one["state"], one["place_in_line"])), True
        elif f == "enrol":
            told = (body["state"], body["place_in_line"])
            others = frozenset(self._of[said["learner"]] - {body["enrolment_id"]})
            yield partial(enrol, body["enrolment_id"], told, others), False
        elif who is not None:
            yield self._effect(f, said, who), False

    def _effect(self, f: str, said: Row, who: str) -> Apply[Seats]:
        if f == "enrol":
            return partial(enrol, who, None, frozenset(self._of[said["learner"]] - {who}))
        if f == "decline":
            return partial(decline, who, bool(said.get("stay")))
        return partial({"withdraw": withdraw, "accept": accept}[f], who)

    def _refused(self, line: Row, said: Row, who: str | None) -> Apply[Seats] | None:
        """A refusal that says something of the seats; a link that was used may be another offer's."""
        if line.get("err") == ASKED_AGAIN:
            return partial(is_there, frozenset(self._of[said["learner"]]))
        if line.get("err") == NO_OFFER and who is not None and said.get("way") == "http":
            return partial(no_offer, who)
        return None

    def _unknown(self, name: str, f: str, said: Row, who: str | None, call: int) -> Iterator[Op[Seats]]:
        """What the database knows nothing of has not been; what it knows of was done by some time after its commit."""
        commits = self._steps.get((who or "", EFFECTS.get(f, "asked")), [])
        ends = [bisect_left(self._times, at / US + self._clock + SEEN_S) for at in commits]
        back = max(ends, default=0)
        if who is not None and back > call:  # else all of these were somebody else's doing
            end = back - 0.5 if back < len(self._times) else None
            yield Op(f"{name} {f}", call, end, self._effect(f, said, who), sure=f == "enrol" and end is not None)


def linearizable(world: World) -> Looked:
    """V10: at each steady run, one order of all that clients did explains every answer they got."""
    found = Looked({"courses": 0, "operations": 0, "reads": 0})
    # How many answers are lost after their commit is chance: of 1,332 operations on a quick machine, none was.
    found.also |= {"unknown to their client": 0, "steps": 0, "most states at once": 0}
    for one in world.once:
        if one.kind != "OfferingScheduled" or one.data["key"] != STEADY:
            continue
        offering = one.data["offering_id"]
        ops = Course(world, offering).ops
        found.seen["courses"] += 1
        found.seen["operations"] += len(ops)
        found.seen["reads"] += sum(op.reads for op in ops)
        found.also["unknown to their client"] += sum(op.back is None or op.back % 1 > 0 for op in ops)
        judged: Judged[Seats] = judge(ops, Seats(sum(place["capacity"] for place in one.data["places"])))
        found.also["steps"] += judged.steps
        found.also["most states at once"] = max(found.also["most states at once"], judged.most_states)
        if judged.broken is None:
            continue
        words = f"{offering}: no order of what was under way explains {judged.broken.name}"
        if not judged.decided:
            words = f"{offering}: could not decide about {judged.broken.name} in time"
        names = [judged.broken.name, *(op.name for op in judged.beside)]
        found.wrong.append((words, [line for name in names for line in world.ops[name.split()[0]]]))
    return found
