"""The search for one order of all operations finds it where there is one, and says so where there is none."""

import random
import time
from functools import partial

import pytest

from tests.faults import course
from tests.faults.course import Seats
from tests.faults.linear import Apply, Op, judge

SEATS = 3


class Clients:
    """A true history: clients whose operations overlap, each done at one moment between its call and its answer."""

    def __init__(self, seed: int, clients: int) -> None:
        self.dice = random.Random(seed)
        self.now = Seats(SEATS)
        self.ops: list[Op[Seats]] = []
        self.at = 0
        self.free = list(range(clients))
        self.under_way: list[tuple[int, int, str, str, bool]] = []  # client, call, what, who, lost
        self.done: list[tuple[int, int, str, Apply[Seats], bool, bool]] = []
        self.asked: dict[str, str] = {}

    def play(self, count: int) -> list[Op[Seats]]:
        while len(self.ops) < count:
            self.at += 1
            turn = self.dice.random()
            if self.free and turn < 0.4:
                self._call(self.free.pop(self.dice.randrange(len(self.free))))
            elif self.under_way and turn < 0.7:
                self._do(*self.under_way.pop(self.dice.randrange(len(self.under_way))))
            elif self.done:
                client, call, name, apply, reads, lost = self.done.pop(self.dice.randrange(len(self.done)))
                back = self.at + (40 if lost else 0)  # nobody was told; the database says until when it was done
                self.ops.append(Op(name, call, back + 0.5 * lost, apply, sure=not lost, reads=reads))
                self.free.append(client)
        # What was done and not answered when the history ends.
        self.ops += [Op(name, call, None, apply, sure=False) for _, call, name, apply, *_ in self.done]
        return self.ops

    def _call(self, client: int) -> None:
        who = f"{client}.{self.at // 60}"
        what = self.dice.choice(("enrol", "withdraw", "accept", "decline", "stay", "look", "count"))
        self.under_way.append((client, self.at, what, who, self.dice.random() < 0.02))

    def _do(self, client: int, call: int, what: str, who: str, lost: bool) -> None:
        """The effect, and the answer that it has at this moment."""
        now, apply = self.now, self._apply(what, who)
        after = apply(now)
        if after is None:
            what, apply, after = "look", self._look(who), now
        reads = what in ("look", "count")
        self.now = after
        self.done.append((client, call, f"{what} {who} {call}", apply, reads, lost and not reads))

    def _apply(self, what: str, who: str) -> Apply[Seats]:
        now = self.now
        match what:
            case "enrol":
                full = len(now.seated) >= now.capacity
                told = ("queued", len(now.line) + 1) if full else ("associated", None)
                return lambda state: course.enrol(who, told, frozenset(), state)
            case "withdraw":
                return lambda state: course.withdraw(who, state)
            case "accept":
                return lambda state: course.accept(who, state)
            case "decline" | "stay":
                return lambda state: course.decline(who, what == "stay", state)
            case "count":
                taken, queued = len(now.seated), len(now.line)
                return lambda state: course.count(taken, queued, state)
        return self._look(who)

    def _look(self, who: str) -> Apply[Seats]:
        told = self.now.shown(who)
        return lambda state: course.look(who, told, state)


def op(name: str, call: int, back: int | None, apply: Apply[Seats], **more: bool) -> Op[Seats]:
    return Op(name, call, back, apply, **more)


def enrols(who: str, state: str, at: int | None = None) -> Apply[Seats]:
    return lambda now: course.enrol(who, (state, at), frozenset(), now)


def leaves(who: str) -> Apply[Seats]:
    return lambda now: course.withdraw(who, now)


def counts(taken: int, queued: int) -> Apply[Seats]:
    return lambda now: course.count(taken, queued, now)


@pytest.mark.parametrize("seed", range(8))
def test_a_true_history_of_many_clients_is_found_true_within_seconds(seed: int) -> None:
    ops = Clients(seed, clients=8).play(1_000)
    began = time.monotonic()
    judged = judge(ops, Seats(SEATS))
    assert judged.ok, (judged.broken, judged.beside)
    assert time.monotonic() - began < 20


@pytest.mark.parametrize("seed", range(4))
def test_one_seat_too_many_in_a_long_history_is_found(seed: int) -> None:
    ops = Clients(seed, clients=6).play(1_000)
    full = next(one for one in ops[500:] if one.name.startswith("count"))
    at = ops.index(full)
    ops[at] = op(full.name, int(full.call), int(full.back or 0), counts(SEATS + 1, 0), reads=True)
    assert judge(ops, Seats(SEATS)).broken == ops[at]


def test_one_seat_is_not_sold_to_two() -> None:
    one, other = op("a", 1, 3, enrols("a", "associated")), op("b", 2, 4, enrols("b", "associated"))
    assert judge([one, other], Seats(1)).broken is not None
    assert judge([one, other], Seats(2)).ok


def test_a_read_that_began_after_an_answer_shows_it() -> None:
    asks = op("a", 1, 4, enrols("a", "associated"))
    assert judge([asks, op("early", 2, 3, counts(0, 0), reads=True)], Seats(1)).ok
    stale = op("late", 5, 6, counts(0, 0), reads=True)
    assert judge([asks, stale], Seats(1)).broken == stale


def test_a_withdrawal_that_was_answered_frees_its_seat() -> None:
    ops = [op("a", 1, 2, enrols("a", "associated")), op("a leaves", 3, 4, leaves("a"))]
    assert judge([*ops, op("b", 5, 6, enrols("b", "associated"))], Seats(1)).ok
    lost = op("b", 5, 6, enrols("b", "queued", 1))
    assert judge([*ops, lost], Seats(1)).broken == lost


def test_what_nobody_was_told_of_was_done_at_any_time_or_never() -> None:
    asks = op("a", 1, 2, enrols("a", "associated"))
    unknown = op("a leaves", 3, None, leaves("a"), sure=False)
    still, gone = (op(f"sees {taken}", 7 - 2 * taken, 8 - 2 * taken, counts(taken, 0), reads=True) for taken in (1, 0))
    assert judge([asks, unknown, still], Seats(1)).ok
    assert judge([asks, unknown, still, gone], Seats(1)).ok
    back = op("sees 1 again", 9, 10, counts(1, 0), reads=True)
    assert judge([asks, unknown, still, gone, back], Seats(1)).broken == back


def test_what_has_been_unknown_for_long_enough_does_nothing_more() -> None:
    asks = op("a", 1, 2, enrols("a", "associated"))
    unknown = Op("a leaves", 3, 6.5, leaves("a"), sure=False)
    still = op("still there", 7, 8, counts(1, 0), reads=True)
    gone = op("gone", 9, 10, counts(0, 0), reads=True)
    assert judge([asks, unknown, still], Seats(1)).ok
    assert judge([asks, unknown, still, gone], Seats(1)).broken == gone


def test_what_was_done_while_nobody_else_was_answered_is_not_forgotten() -> None:
    asks = op("a", 1, 2, enrols("a", "associated"))
    unknown = Op("a leaves", 3, 6.5, leaves("a"), sure=False)
    for taken in (0, 1):
        assert judge([asks, unknown, op("later", 7, 8, counts(taken, 0), reads=True)], Seats(1)).ok


def test_who_declines_and_stays_goes_to_the_back_and_the_next_is_asked() -> None:
    state = Seats(1, frozenset({("a", False)}), ("b", "c"))
    after = course.decline("a", True, state)
    assert after == Seats(1, frozenset({("b", False)}), ("c", "a"))


def test_what_takes_too_long_to_decide_is_not_called_right() -> None:
    ops = [op(f"{n}", n, 100 + n, partial(course.enrol, f"{n}", None, frozenset())) for n in range(1, 12)]
    judged = judge(ops, Seats(1), most_steps=5_000)
    assert not judged.decided
    assert not judged.ok
