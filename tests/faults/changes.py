"""Judges who was told that a run has changed: those whose seat or place in line the notifier knew of then (part of V5).

The change is heard on one topic and seats on another, so only the order in which the notifier's transactions were
committed tells who that was. What was under way at that moment may be on either side.
"""

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass

from tests.faults.evidence import Row
from tests.faults.model import STATES, Said, World
from tests.faults.verdict import Looked

UNDER_WAY_US = 60_000_000  # a frozen transaction may be committed so long after it looked
CONCERNED = ("associated", "offered", "queued")


@dataclass
class Life:
    """While an enrolment was concerned by changes of its run, as the notifier heard it; `to` is none while it is."""

    enrolment: str
    since: int
    to: int | None = None


def told_of_changes(world: World, found: Looked) -> None:
    """Each change reached all who were concerned, nobody else, and each once."""
    heard = {(row["consumer"], row["event_id"]): int(row["committed_us"]) for row in world.rows("notifier.inbox")}
    lives = _lives(world, heard)
    told: dict[str, list[str]] = defaultdict(list)
    for row in world.rows("notifier.notices"):
        if row["template"] == "changed":
            told[row["event_id"]].append(row["about"])
    found.also["told of a change"] = sum(map(len, told.values()))
    for batch in _batches(world, heard):
        here = {one.id: told.pop(one.id, []) for one in batch.told_by}
        mine = lives[batch.run]
        at = batch.at
        may = {one.enrolment for one in mine if one.since <= at and (one.to is None or one.to >= at - UNDER_WAY_US)}
        must = {one.enrolment for one in mine if one.since <= at - UNDER_WAY_US and (one.to is None or one.to > at)}
        reached = {one for abouts in here.values() for one in abouts}
        for words, wrong in (
            ("was not told of a change", must - reached if batch.must_tell else set()),
            ("was told of a change that is none of theirs", reached - may),
            (
                "was told of a change twice",
                {one for abouts in here.values() for one in abouts if abouts.count(one) > 1},
            ),
        ):
            found.wrong += [
                (f"{one} {words}", [vars(event.record) for event in batch.told_by]) for one in sorted(wrong)
            ]
    found.wrong += [
        (f"{event_id} changed nothing, and people were told of it", abouts) for event_id, abouts in told.items()
    ]


@dataclass
class Batch:
    """States of one run that were heard in one transaction, the oldest first: told one by one or only the newest.

    Which of the two depends on what stood between them. `told_by` may have told; with `must_tell` one of them had to.
    """

    run: str
    at: int
    told_by: list[Said]
    must_tell: bool


def _batches(world: World, heard: dict[tuple[str, str], int]) -> Iterator[Batch]:
    runs: dict[str, dict[int, list[Said]]] = defaultdict(lambda: defaultdict(list))
    for one in world.once:
        at = heard.get(("notifier.courses", one.id))
        if at is not None and one.kind in ("OfferingScheduled", "OfferingChanged", "OfferingCancelled"):
            runs[one.data["offering_id"]][at].append(one)
    for run, batches in runs.items():
        known: Row | None = None
        for at, batch in sorted(batches.items()):
            states = sorted(batch, key=lambda one: int(one.data["version"]))
            ends = any(one.kind == "OfferingCancelled" for one in states)
            states = [one for one in states if one.kind != "OfferingCancelled"]
            before = [known] if known is not None else []
            told_by = []
            for one in states:
                if any(_is_other(earlier, one.data) for earlier in before):
                    told_by.append(one)
                before.append(one.data)
            if told_by:
                must = known is not None and not ends and _is_other(known, states[-1].data)
                yield Batch(run, at, told_by, must)
            if ends:
                break  # nothing of a cancelled run is a change
            known = before[-1]


def _is_other(before: Row, after: Row) -> bool:
    closed = _open(before) - _open(after)
    return bool(closed) or any(before.get(name) != after.get(name) for name in ("starts_at", "ends_at", "sessions"))


def _open(run: Row) -> set[str]:
    return {place["arena"] for place in run["places"] if place["capacity"]}


def _lives(world: World, heard: dict[tuple[str, str], int]) -> dict[str, list[Life]]:
    """Offering -> while each of its enrolments was concerned."""
    found: dict[str, list[Life]] = defaultdict(list)
    open_ones: dict[str, Life] = {}
    for one in world.once:  # each learner's in their order
        at = heard.get(("notifier.enrolments", one.id))
        if at is None or one.kind not in STATES:
            continue
        state = STATES[one.kind] or ("queued" if one.data["in_line"] else "cancelled")
        name = one.data["enrolment_id"]
        if state in CONCERNED and name not in open_ones:
            open_ones[name] = Life(name, at)
            found[one.data["offering_id"]].append(open_ones[name])
        elif state not in CONCERNED and name in open_ones:
            open_ones.pop(name).to = at
    return found
