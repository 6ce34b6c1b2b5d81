"""Judges isolation (V15): what one partner's program does wrong keeps out that partner, and costs no other anything."""

import json
from collections import Counter

from tests.faults.evidence import Row
from tests.faults.model import World
from tests.faults.offers import Clock
from tests.faults.verdict import Looked, outcomes

LATE_S = 5.0  # of time in which neither the catalogue nor its servers were under a fault, or coming back from one
COMING_BACK_S = 10.0  # a consumer that was thrown out of its group is let in again
SERVERS = ("postgres", "catalogue", "catalogue-postgres", "kafka", "catalogue-kafka")
LOCKED_OUT = (403, 429)


def isolated(world: World) -> Looked:
    """V15: who sends nonsense is quarantined, nobody else is, and what the others send is taken at once."""
    noise = [lines for _, lines in world.of("noise")]
    noisy = {lines[0]["partner"] for lines in noise}
    states = {row["slug"]: row["state"] for row in world.rows("catalogue.partners")}
    acked = sum(bool(outcomes(lines, "ok")) for lines in noise)
    found = Looked({"bad records": acked, "partners beside": len(states.keys() - noisy), "taken of them": 0, "kept": 0})
    parked = world.rows("catalogue.parked")
    refused = Counter(row["topic"].split(".")[1] for row in parked if row["state"] == "refused")
    for slug, state in states.items():
        if state != ("quarantined" if slug in noisy else "active"):
            words = f"{slug} is {state}, and {refused[slug]} of its records were refused"
            found.wrong.append((words, [{"partner": slug, "state": state}]))
    # A process that is stopped in a transaction has some course locked, and nobody but its partner waits for that.
    locked = {row["topic"] for row in parked if row["reason"] == "in_hand"}
    for row in parked:
        if row["topic"].split(".")[1] in noisy:
            found.seen["kept"] += row["state"] == "held"
        elif row["topic"].startswith("partners.") and row["state"] != "refused" and row["topic"] not in locked:
            found.wrong.append((f"a record of {row['topic']} is {row['state']} ({row['reason']})", [row]))
    for name, lines in world.of("partner_http"):
        for line in outcomes(lines, "fail"):
            if line.get("status") in LOCKED_OUT:
                found.wrong.append((f"{name} was answered {line['status']}", lines))
    _at_once(world, found)
    return found


def _at_once(world: World, found: Looked) -> None:
    """From the broker's ack of each event to the commit of its effect."""
    clock = Clock(world, SERVERS, COMING_BACK_S)
    heard = {
        row["event_id"]: row["committed_us"]
        for row in world.rows("catalogue.inbox")
        if row["consumer"] == "catalogue.partners"
    }
    ids = {(one.topic, one.partition, one.offset): _event_id(one.topic, one.value) for one in world.theirs}
    acked: dict[str, tuple[int, list[Row]]] = {}
    for _, lines in world.of("partner"):
        for line in outcomes(lines, "ok") if lines[0]["expect"] == "taken" else ():
            event = ids.get((line["topic"], line["partition"], line["offset"]))
            if event is not None and event in heard and event not in acked:
                acked[event] = clock.us(line["t"]), lines
    late = [0.0]
    for event, (at, lines) in acked.items():
        found.seen["taken of them"] += 1
        late.append(clock.well_s(at, heard[event]))
        if late[-1] > LATE_S:
            found.wrong.append((f"{event} waited {late[-1]:.0f} s without a fault until it was taken", lines))
    found.also["s until it was, at most, without a fault"] = round(max(late), 1)


def _event_id(topic: str, value: bytes | None) -> str | None:
    try:
        return f"{topic.split('.')[1]}/{json.loads(value or b'')['id']}"
    except (ValueError, KeyError, TypeError):
        return None
