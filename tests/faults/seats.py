"""Judges seats: summed up in the order of commits, no claim ever took more than there were (V6)."""

from collections import Counter

from tests.faults import model
from tests.faults.evidence import Row
from tests.faults.model import LIVE, World
from tests.faults.verdict import Looked


def never_oversold(world: World) -> Looked:
    """V6: summed up in the order of commits, no claim ever took more seats than there were, and nobody has two."""
    found = Looked({"claims": 0, "releases": 0, "offerings": 0})
    most = 0
    for offering, commits in world.story.items():
        found.seen["offerings"] += 1
        caps: dict[str, int] = {}
        taken: Counter[str] = Counter()
        shown: list[tuple[str, Row]] = []
        for commit in commits:
            told = [model.places({"data": one.data}) for one in commit.told]
            for new in told:
                shown += [(arena, {"at": commit.at, "arena": arena, "seats": count}) for arena, count in new.items()]
            # In one transaction a place may grow, be filled and shrink again: its claims had the largest of these.
            wide = {arena: max(new.get(arena, 0) for new in told) for arena in {*caps}.union(*told)} if told else caps
            caps = told[-1] if told else caps
            for row in commit.steps:
                for arena, step in model.seats(row):
                    taken[arena] += step
                    shown.append((arena, {"at": commit.at, "arena": arena, "step": step, "change": row}))
                    found.seen["claims" if step > 0 else "releases"] += 1
                    most = max(most, taken[arena])
                    if taken[arena] < 0 or (step > 0 and taken[arena] > wide.get(arena, 0)):
                        words = f"{offering} at {arena}: {taken[arena]} seats taken of {wide.get(arena, 0)}"
                        found.wrong.append((words, [line for where, line in shown if where == arena][-8:]))
    live = Counter(
        (row["offering_id"], row["learner_id"]) for row in world.rows("enrolment.enrolments") if row["state"] in LIVE
    )
    for who, count in live.items():
        if count > 1:
            found.wrong.append((f"{who} has {count} live enrolments in one offering", []))
    found.also["at most taken at once"] = most
    return found
