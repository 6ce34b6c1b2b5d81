"""Judges offers: answered within their hour, over soon after it, and never two for one person or one seat (V9)."""

import math
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence

from tests.faults.evidence import Row
from tests.faults.model import World
from tests.faults.verdict import Looked, outcomes
from tests.faults.writes import ANSWERED, answers

ENROLMENT = ("postgres", "enrolment", "enrolment-postgres")
LATE_S = 10.0  # of time without a fault: the clock looks each second, and a machine under strain is slow to do it


def within_their_hour(world: World) -> Looked:
    """V9: no offer was taken after its hour or outlived it, none was refused within it, and nobody had two at once."""
    found = Looked({"offers": 0, "accepted": 0, "lapsed": 0, "accepts answered": 0})
    found.also["answers too late"] = 0
    rows = world.rows("enrolment.offers")
    made: dict[str, list[Row]] = defaultdict(list)
    late = [0.0]
    clock = Clock(world)
    for row in rows:
        made[row["enrolment_id"]].append(row)
        found.seen["offers"] += 1
        outcome, hour, ended = row["outcome"], row["expires_us"], row["ended_us"] or row["read_us"]
        if outcome in ("accepted", "lapsed"):
            found.seen[outcome] += 1
        if outcome in ("accepted", "declined") and ended > hour:
            found.wrong.append((f"an offer was {outcome} after its hour", [row]))
        if outcome == "lapsed" and ended < hour:
            found.wrong.append(("an offer lapsed before its hour", [row]))
        late.append(clock.well_s(hour, ended))
        if late[-1] > LATE_S:
            words = f"an offer was open for {late[-1]:.0f} s without a fault after its hour"
            found.wrong.append((words, [row]))
    found.also["s open past its hour at most, without a fault"] = round(max(late), 1)
    _one_each(world, made, found)
    _answered(world, made, clock, found)
    return found


def _one_each(world: World, made: dict[str, list[Row]], found: Looked) -> None:
    """Each offer is a step of its enrolment, which has one at a time; that one seat has one is V6's sum."""
    steps: dict[str, list[str]] = defaultdict(list)
    for step in world.rows("enrolment.changes"):
        if step["to_state"] == "offered":
            steps[step["enrolment_id"]].append(step["place"])
    for name in {**made, **steps}:
        places = [row["place"] for row in made.get(name, [])]
        if Counter(places) != Counter(steps.get(name, [])):
            found.wrong.append((f"{name} was offered {steps.get(name, [])}, and its offers are {places}", made[name]))
    still = Counter(row["enrolment_id"] for row in world.rows("enrolment.offers") if row["ended_us"] is None)
    for row in world.rows("enrolment.enrolments"):
        if still[row["id"]] != (row["state"] == "offered"):
            found.wrong.append(
                (f"{row['id']} is {row['state']} and has {still[row['id']]} open offers", made[row["id"]])
            )


def _answered(world: World, made: dict[str, list[Row]], clock: "Clock", found: Looked) -> None:
    """By the clients' clock, which is the database's: who was told yes asked in time, who was told no came too late."""
    by_token = {row[f]: row for row in world.rows("enrolment.offers") for f in ("accept", "decline")}
    for name, lines, enrolment in answers(world):
        mine = made.get(enrolment or "", [])
        if lines[0]["way"] == "link":
            mine = [row for row in [by_token.get(lines[0]["digest"])] if row is not None]
        if outcomes(lines, "ok"):
            found.seen["accepts answered"] += lines[0]["f"] == "accept"
            done = [row["expires_us"] for row in mine if row["outcome"] == ANSWERED[lines[0]["f"]][0]]
            if not any(clock.us(lines[0]["t"]) <= hour for hour in done):
                found.wrong.append((f"{name} was asked for after the hour, and done", [*lines, *mine]))
        for line in outcomes(lines, "fail"):
            if line.get("err") == "offer-lapsed" or line["status"] == 410:
                found.also["answers too late"] += 1
                ends = [min(row["expires_us"], row["ended_us"] or row["read_us"]) for row in mine]
                if not any(end < clock.us(line["t"]) for end in ends):
                    found.wrong.append((f"{name} was called too late, and was not", [*lines, *mine]))


class Clock:
    """Translates between the history's seconds and the database's microseconds, and knows when `servers` were struck.

    For so long they count as struck `after_s` they were whole again, too.
    """

    def __init__(self, world: World, servers: Sequence[str] = ENROLMENT, after_s: float = 0.0) -> None:
        history = world.evidence.history
        first = history[0] if history else {}
        self._offset = float(first.get("wall", 0.0)) - float(first.get("t", 0.0))
        heals = {line["id"]: float(line["t"]) + after_s for line in outcomes(history, "heal")}
        self._struck = sorted(
            (float(line["t"]), heals.get(line["id"], math.inf))
            for line in outcomes(history, "fault")
            if _strikes(str(line.get("target", "")), str(line["f"]), servers)
        )

    def us(self, t: float) -> int:
        return round((t + self._offset) * 1_000_000)

    def well_s(self, since_us: int, until_us: int) -> float:
        """How long of this time the servers were not under a fault, or coming back from one."""
        at, until = since_us / 1_000_000 - self._offset, until_us / 1_000_000 - self._offset
        return sum(max(0.0, end - begin) for begin, end in self._gaps(at, until))

    def _gaps(self, at: float, until: float) -> Iterator[tuple[float, float]]:
        for begin, end in self._struck:
            if begin < until and end > at:
                yield at, min(begin, until)
                at = end
        yield at, until


def _strikes(target: str, f: str, servers: Sequence[str]) -> bool:
    """Whether a fault can hit one of these or the way to it: a server process that is killed ends all others.

    Brokers are numbered: `kafka` and `catalogue-kafka` stand for each of them.
    """
    return target.rstrip("0123456789").rstrip("-") in servers or f == "backend-kill"
