"""Whether one order of all operations explains, by a sequential model, the answers that they got (Wing and Gong)."""

from collections.abc import Callable, Hashable, Iterable
from dataclasses import dataclass, field
from typing import Generic, TypeVar

S = TypeVar("S", bound=Hashable)

MOST_STEPS = 200_000  # for one answer, a second or two; what is not decided by then is called so, and is red

Apply = Callable[[S], S | None]  # the state after it, none when its answer cannot be given in this state


@dataclass(frozen=True)
class Op(Generic[S]):
    """One operation: called and answered at these places of one history, where every place is another.

    `apply` has the answer in it. An operation whose outcome nobody was told has `sure=False`: it takes effect before
    `back`, or never; with no `back`, whenever it likes.
    """

    name: str
    call: float
    back: float | None
    apply: Apply[S]
    sure: bool = True
    reads: bool = False  # it never changes the state


@dataclass
class Judged(Generic[S]):
    """`broken` is the answer that no order explains, with the operations that were under way; `steps` what it cost."""

    decided: bool = True
    broken: Op[S] | None = None
    beside: list[Op[S]] = field(default_factory=list)
    steps: int = 0
    most_states: int = 0

    @property
    def ok(self) -> bool:
        return self.decided and self.broken is None


Config = tuple[S, frozenset[str]]  # a state, and which of the operations under way are done in it


def judge(ops: Iterable[Op[S]], start: S, most_steps: int = MOST_STEPS) -> Judged[S]:
    """Walk through the history with every state that it may be in, and do an operation no sooner than it is needed.

    That is at an answer: what is under way may have been done before it, in any order. Where nothing is under way the
    states stand alone, so a long history costs no more than its busiest moments.
    """
    moments = sorted(
        [(op.call, "call", op) for op in ops] + [(op.back, "back", op) for op in ops if op.back is not None],
        key=lambda moment: moment[0],
    )
    found: Judged[S] = Judged()
    pending: dict[str, Op[S]] = {}
    configs: set[Config[S]] = {(start, frozenset())}
    for _, what, op in moments:
        if what == "call":
            pending[op.name] = op
            continue
        after = _done(op, pending, configs, found, most_steps)
        if after is not None and not op.sure:
            after |= configs  # or it was never done
        if after is None or not after:
            found.decided = after is not None
            found.broken, found.beside = op, [one for one in pending.values() if one is not op]
            return found
        del pending[op.name]
        configs = {(state, done - {op.name}) for state, done in after}
        found.most_states = max(found.most_states, len(configs))
    return found


def _done(
    op: Op[S], pending: dict[str, Op[S]], configs: set[Config[S]], found: Judged[S], most_steps: int
) -> set[Config[S]] | None:
    """All configurations in which `op` is done, reached by doing what is under way; none when that takes too long."""
    after: set[Config[S]] = set()
    todo = list(configs)
    seen = set(configs)
    last = found.steps + most_steps
    while todo:
        state, done = todo.pop()
        # A read that fits is done at once: it changes nothing, so no order is lost by that.
        done |= {
            one.name for one in pending.values() if one.reads and one.name not in done and one.apply(state) == state
        }
        if op.name in done:
            after.add((state, done))
            continue
        for one in pending.values():
            if one.reads or one.name in done:
                continue
            found.steps += 1
            new = one.apply(state)
            if new is None:
                continue
            config = (new, done | {one.name})
            if config not in seen:
                seen.add(config)
                todo.append(config)
        if found.steps > last:
            return None
    return after
