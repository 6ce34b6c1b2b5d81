"""Which fault happens when: a pure function of profile and seed, so that a run can be done again."""

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import cycle, pairwise

SERVICES = ("catalogue", "enrolment", "notifier")
OVERLAPPING = 0.2  # of the slots hold two faults at once


@dataclass(frozen=True)
class Profile:
    """How many faults, on how many brokers, and how long the longest may last, in seconds."""

    faults: int
    brokers: int
    longest_s: float


PROFILES = {
    "smoke": Profile(faults=41, brokers=1, longest_s=20),
    "standard": Profile(faults=250, brokers=3, longest_s=60),
    "thousand": Profile(faults=1000, brokers=3, longest_s=60),
}


@dataclass(frozen=True)
class Fault:
    """One fault. Faults of one slot run together, each `after_s` after the slot's beginning; slots follow each other.

    `f` is its kind and `target` what it hits, by the name that FaultStack gives it (of a trap on a service's Kafka
    links, all of them: `enrolment-kafka`). It lasts `lasts_s`, 0 for what is done in a moment. `seed` is for what it
    draws when it happens.
    """

    number: int
    slot: int
    after_s: float
    family: str
    f: str
    target: str
    lasts_s: float
    seed: int


@dataclass(frozen=True)
class Sort:
    """One row of what may happen; `weight` is its share in a hundred."""

    weight: float
    family: str
    f: str
    targets: tuple[str, ...]
    lasts_s: float = 0.0
    needs_s: float = 0.0  # only in profiles whose faults may last so long


def sorts(brokers: int) -> list[Sort]:
    """All that can happen to a stack with so many brokers."""
    numbers = range(1, brokers + 1)
    servers = tuple(f"kafka-{number}" for number in numbers)
    databases = tuple(f"{service}-postgres" for service in SERVICES)
    speakers = tuple(f"{service}-kafka" for service in SERVICES)
    between = tuple(f"kafka-{one}-{other}" for one in numbers for other in numbers if one != other)
    links = (
        *databases,
        *(f"{service}-kafka-{number}" for service in SERVICES for number in numbers),
        *between,
        "notifier-smtp",
        "notifier-hooks",
        "clients-enrolment",
        "clients-catalogue",
    )
    found = [
        Sort(10, "service", "kill", SERVICES),
        Sort(4, "service", "kill-sending", SERVICES),
        Sort(7, "service", "terminate", SERVICES),
        Sort(6, "service", "freeze", SERVICES, 1),
        Sort(5, "service", "freeze", SERVICES, 10),
        Sort(3, "service", "freeze", SERVICES, 40, needs_s=40),
        Sort(5, "broker", "kill", servers),
        Sort(1, "broker", "terminate", servers),
        Sort(3, "broker", "freeze", servers, 6),
        Sort(1, "broker", "freeze", servers, 20, needs_s=40),
        Sort(5, "database", "kill", ("postgres",)),
        Sort(2, "database", "freeze", ("postgres",), 5),
        Sort(1, "database", "freeze", ("postgres",), 10, needs_s=40),
        Sort(3, "database", "backend-kill", databases),
        Sort(3, "database", "backend-end", databases),
        Sort(4, "database", "lock", databases, 5),
        Sort(1, "database", "transaction", databases, 20),
        Sort(1, "database", "transaction", databases, 60, needs_s=60),
        Sort(3, "network", "cut", links, 3),
        Sort(2, "network", "reset", links),
        Sort(2, "network", "blackhole", links, 4),
        Sort(1, "network", "blackhole", links, 30, needs_s=40),
        Sort(1, "network", "blackhole-up", links, 4),
        Sort(1, "network", "blackhole-down", links, 4),
        Sort(1, "network", "delay", links, 4),
        Sort(1, "network", "slice", links, 3),
        Sort(1, "network", "bytes", links),
        Sort(2, "network", "commit-answer", databases),
        Sort(1, "network", "commit-request", databases),
        Sort(2, "network", "produce-answer", speakers),
        Sort(1, "network", "produce-request", speakers),
        Sort(2, "network", "data-answer", ("notifier-smtp",)),
        Sort(1, "network", "data-request", ("notifier-smtp",)),
        *(Sort(1, "mail", f, ("sink",), 3) for f in ("421", "450", "550", "drop_before_250", "slow")),
        *(Sort(1, "webhook", f, ("hooks",), 3) for f in ("hook_500", "hook_drop", "hook_slow")),
        Sort(2, "repeat", "rewind", SERVICES),
        Sort(2, "repeat", "replay", SERVICES),
        Sort(2, "repeat", "republish", SERVICES),
    ]
    if brokers > 1:
        found.append(Sort(3, "broker", "isolate", servers, 3))
    return found


def schedule(profile: str, seed: int, brokers: int | None = None) -> list[Fault]:
    """The faults of a run, in their order. Each sort that the profile allows comes at least once, then by weight.

    `brokers` overrides the profile's number. Every service is killed at least once.
    """
    chosen = PROFILES[profile]
    dice = random.Random(f"{profile} {seed}")
    allowed = [one for one in sorts(brokers or chosen.brokers) if one.needs_s <= chosen.longest_s]
    targets = {one: _round(one.targets, dice) for one in allowed}
    killed = next(one for one in allowed if (one.family, one.f) == ("service", "kill"))
    drawn = [*allowed, *[killed] * (len(SERVICES) - 1)]
    drawn += dice.choices(allowed, [one.weight for one in allowed], k=max(0, chosen.faults - len(drawn)))
    dice.shuffle(drawn)
    hits = [(one, next(targets[one])) for one in drawn[: chosen.faults]]
    return list(_placed(hits, dice))


def _round(targets: Sequence[str], dice: random.Random) -> Iterator[str]:
    """The targets in a random order, again and again: none is left out while others are hit twice."""
    return cycle(dice.sample(targets, len(targets)))


def _placed(hits: Sequence[tuple[Sort, str]], dice: random.Random) -> Iterator[Fault]:
    """Each hit in its slot. Two share one where they hit different things in different ways."""
    slots = round(len(hits) / (1 + OVERLAPPING))
    together = len(hits) - slots
    fit = [place for place, (one, other) in enumerate(pairwise(hits)) if _may_overlap(one, other)]
    dice.shuffle(fit)
    second: set[int] = set()  # places that share the slot of the one before
    for place in fit:
        if len(second) < together and not {place, place + 1, place + 2} & second:
            second.add(place + 1)
    slot = -1
    for place, (sort, target) in enumerate(hits):
        slot += place not in second
        after_s = round(dice.uniform(0.2, 2.0), 2) if place in second else 0.0
        yield Fault(place + 1, slot, after_s, sort.family, sort.f, target, sort.lasts_s, dice.getrandbits(32))


def _may_overlap(one: tuple[Sort, str], other: tuple[Sort, str]) -> bool:
    apart = one[1] != other[1] and (one[0].family, one[0].f) != (other[0].family, other[0].f)
    return apart and "repeat" not in (one[0].family, other[0].family)
