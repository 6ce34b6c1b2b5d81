"""Judges seats: summed up in the order of commits, no claim ever took more than there were (V6)."""

from collections import Counter

from tests.faults import model
from tests.faults.model import LIVE, World
from tests.faults.verdict import Looked


def never_oversold(world: World) -> Looked:
    """V6: summed up in the order of commits, no claim ever took more seats than there were, and nobody has two."""
    found = Looked({"claims": 0, "releases": 0, "offerings": 0})
    most = 0
    for offering, steps in model.sums(world):
        found.seen["offerings"] += 1
        caps: dict[str, int] = {}
        taken: Counter[str] = Counter()
        for number, step in enumerate(steps):
            if "caps" in step:
                same = number and steps[number - 1].get("caps") is not None and steps[number - 1]["at"] == step["at"]
                new = step["caps"]
                # In one transaction a place may grow, be filled and shrink again: its claims had the larger of these.
                caps = {a: max(new.get(a, 0), caps.get(a, 0)) for a in {*new, *caps}} if same else new
                continue
            arena = step["arena"]
            taken[arena] += step["step"]
            found.seen["claims" if step["step"] > 0 else "releases"] += 1
            most = max(most, taken[arena])
            if taken[arena] < 0 or (step["step"] > 0 and taken[arena] > caps.get(arena, 0)):
                words = f"{offering} at {arena}: {taken[arena]} seats taken of {caps.get(arena, 0)}"
                found.wrong.append((words, [s for s in steps[: number + 1] if s.get("arena", arena) == arena][-8:]))
    live = Counter(
        (row["offering_id"], row["learner_id"]) for row in world.rows("enrolment.enrolments") if row["state"] in LIVE
    )
    for who, count in live.items():
        if count > 1:
            found.wrong.append((f"{who} has {count} live enrolments in one offering", []))
    found.also["at most taken at once"] = most
    return found
