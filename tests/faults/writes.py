"""Judges what clients were told: what was answered is there once (V1, V11), and nothing else is (V2)."""

import json
from collections import Counter, defaultdict
from collections.abc import Iterator
from datetime import datetime

from tests.faults.evidence import Row
from tests.faults.model import World, digest
from tests.faults.verdict import Looked, outcomes

SAYS = {"associated": "LearnerEnrolled", "queued": "LearnerQueued", "pending": "EnrolmentPending"}
# An enrolment that is given up is spoken of by one of these: who leaves what has lapsed already changes nothing.
LEFT = {"LearnerWithdrew", "SeatOfferLapsed", "SeatOfferDeclined"}
ANSWERED = {"accept": ("accepted", "LearnerEnrolled"), "decline": ("declined", "SeatOfferDeclined")}
OF_AN_OFFER = ("accepted", "declined", "lapsed")
LASTING = ("associated", "finished", "cancelled")  # what an accepted seat may become


def no_lost_write(world: World) -> Looked:
    """V1: what was answered `ok` is there, with what had to be said of it; what is unknown is there at most once."""
    rows = {row["id"]: row for row in world.rows("enrolment.enrolments")}
    by_name = Counter(row["name"] for row in world.rows("enrolment.enrolments"))
    about = defaultdict(set)
    for row in world.rows("enrolment.outbox"):
        about[row["subject"]].add(json.loads(row["payload"])["type"].split(".")[-2] if not row["headers"] else "copy")
    found = Looked({"enrolled": 0, "withdrawn": 0, "published over HTTP": 0, "published over Kafka": 0})
    never = [lines for _, lines in world.of("enrol", "withdraw", *ANSWERED) if not outcomes(lines, "ok")]
    found.also["unknown"] = sum(1 for lines in never if outcomes(lines, "info"))
    for name, lines in world.of("enrol", "withdraw"):
        found.seen["enrolled" if lines[0]["f"] == "enrol" else "withdrawn"] += bool(outcomes(lines, "ok"))
        for told in outcomes(lines, "ok"):
            there = rows.get(told["body"]["enrolment_id"])
            kinds = about.get(told["body"]["enrolment_id"], set())
            if lines[0]["f"] == "enrol":
                wanted = SAYS[told["body"]["state"]]
                if there is None or there["offering_id"] != lines[0]["offering"]:
                    found.wrong.append((f"operation {name} was answered, and its enrolment is not there", lines))
                elif wanted not in kinds:
                    found.wrong.append((f"{wanted} was never said of {there['id']}", [*lines, there, sorted(kinds)]))
            else:
                if there is None or there["state"] != "cancelled" or not kinds & LEFT:
                    found.wrong.append((f"operation {name} withdrew, and it did not last", [*lines, there]))
        if by_name[lines[0].get("name")] > 1:
            found.wrong.append((f"operation {name} had its effect more than once", lines))
    _answered(world, rows, about, found)
    _published(world, found)
    _read_again(world, found)
    return found


def answers(world: World) -> Iterator[tuple[str, list[Row], str | None]]:
    """Each answer to an offer: operation, its lines, the enrolment; a link's token names the offer it came with."""
    by_token = {row[f]: row["enrolment_id"] for row in world.rows("enrolment.offers") for f in ANSWERED}
    for name, lines in world.of(*ANSWERED):
        first = lines[0]
        yield name, lines, first["enrolment"] if first["way"] == "http" else by_token.get(first["digest"])


def _answered(world: World, rows: dict[str, Row], about: dict[str, set[str]], found: Looked) -> None:
    """A seat that was accepted is the learner's until they leave it; who has declined does not have that one."""
    found.seen |= {"accepted": 0, "declined": 0, "answered by a link": 0}
    steps: dict[str, list[Row]] = defaultdict(list)
    for row in world.rows("enrolment.changes"):
        steps[row["enrolment_id"]].append(row)
    for name, lines, enrolment in answers(world):
        if not outcomes(lines, "ok"):
            continue
        why, event = ANSWERED[lines[0]["f"]]
        found.seen[why] += 1
        found.seen["answered by a link"] += lines[0]["way"] == "link"
        mine = steps[enrolment or ""]
        at = next((n for n, row in enumerate(mine) if row["why"] == why), None)
        if enrolment not in rows or at is None or event not in about[enrolment]:
            found.wrong.append((f"operation {name} was answered, and nothing was {why}", [*lines, *mine]))
        elif why == "accepted" and any(row["to_state"] not in LASTING for row in mine[at:]):
            found.wrong.append((f"operation {name} accepted a seat, and it did not last", [*lines, *mine]))


def _read_again(world: World, found: Looked) -> None:
    """Who reads after an answer sees what was answered."""
    found.seen["reads"] = 0
    gone: dict[str, int] = {}
    for _, lines in world.of("withdraw"):
        for told in outcomes(lines, "ok"):
            gone.setdefault(told["body"]["enrolment_id"], told["i"])
    for name, lines in world.of("read"):
        for told in outcomes(lines, "ok"):
            found.seen["reads"] += 1
            for item in told["body"].get("items", [told["body"]]):
                left = gone.get(item["enrolment_id"])
                if left is not None and left < lines[0]["i"] and item["state"] != "cancelled":
                    found.wrong.append((f"read {name} does not show a withdrawal that was answered before", lines))
        if outcomes(lines, "fail"):
            found.wrong.append((f"read {name} did not find an enrolment that was answered before", lines))


def _published(world: World, found: Looked) -> None:
    known = {row["id"]: row for table in ("courses", "offerings") for row in world.rows(f"catalogue.{table}")}
    said = {
        (str(body["data"].get("offering_id") or body["data"].get("course_id")), body["data"].get("version"))
        for body in (json.loads(r["payload"]) for r in world.rows("catalogue.outbox") if not r["headers"])
    }
    for name, lines in world.of("partner_http"):
        for told in outcomes(lines, "ok"):
            found.seen["published over HTTP"] += 1
            thing = told["body"].get("offering_id") or told["body"].get("course_id")
            row = known.get(thing)
            if row is None or row["version"] < told["body"]["version"] or (thing, told["body"]["version"]) not in said:
                found.wrong.append((f"operation {name} was answered, and {thing} is not so", [*lines, row]))
    there = {(one.topic, one.partition, one.offset): digest(one.value) for one in world.theirs}
    for name, lines in world.of("partner"):
        for told in outcomes(lines, "ok"):
            found.seen["published over Kafka"] += 1
            if there.get((told["topic"], told["partition"], told["offset"])) != lines[0]["digest"]:
                found.wrong.append((f"record {name} was acked, and is not on its topic", lines))


# How one may ask, by the columns' names, and what it means to leave it out.
USUAL = {"group_name": None, "wait_for_earlier": True, "on_lapse": None}


def no_phantom(world: World) -> Looked:
    """V2: everything that is there was asked for, as it is there."""
    asked = {lines[0]["name"]: lines for _, lines in world.of("enrol")}
    left = {lines[0]["enrolment"] for _, lines in world.of("withdraw")}
    subjects = {row["id"]: row["subject"] for row in world.rows("enrolment.learners")}
    found = Looked({"enrolments": 0, "withdrawals": 0, "answers": 0, "courses": 0})
    for row in world.rows("enrolment.enrolments"):
        found.seen["enrolments"] += 1
        lines = asked.get(row["name"], [])
        first = lines[0] if lines else {}
        if (first.get("offering"), first.get("learner")) != (row["offering_id"], subjects.get(row["learner_id"])):
            found.wrong.append(("nobody asked for this enrolment", [row, *lines]))
        elif not outcomes(lines, "ok") and not outcomes(lines, "info"):
            found.wrong.append(("this was refused for certain, and is there all the same", [row, *lines]))
        elif list(row["choices"]) != first["places"]:
            found.wrong.append(("other places were asked for", [row, *lines]))
        elif any(row[name] != first.get(name, usual) for name, usual in USUAL.items()):
            found.wrong.append(("it was asked for in another way", [row, *lines]))
    could: Counter[tuple[str | None, str]] = Counter()
    for _, lines, enrolment in answers(world):
        could[enrolment, ANSWERED[lines[0]["f"]][0]] += bool(outcomes(lines, "ok") or outcomes(lines, "info"))
    said = Counter((row["enrolment_id"], row["why"]) for row in world.rows("enrolment.changes"))
    for (enrolment, why), count in said.items():
        if why in ("accepted", "declined"):
            found.seen["answers"] += count
            if count > could[enrolment, why]:
                found.wrong.append((f"{enrolment} was {why} {count} times, and not so often asked for", []))
    for row in world.rows("enrolment.changes"):
        if row["why"] == "withdrawn":
            found.seen["withdrawals"] += 1
            if row["enrolment_id"] not in left:
                found.wrong.append(("nobody withdrew from this enrolment", [row]))
    _unasked(world, found)
    codes = {(lines[0]["partner"], lines[0]["code"]) for _, lines in world.of("partner", "partner_http")}
    for row in world.rows("catalogue.courses"):
        found.seen["courses"] += 1
        if (row["partner"], row["code"]) not in codes:
            found.wrong.append(("no partner published this course", [row]))
    return found


def _unasked(world: World, found: Looked) -> None:
    """What is done to learners without their asking: each for the one reason that there is for it."""
    cancelled = {one.data["offering_id"] for one in world.once if one.kind == "OfferingCancelled"}
    ends: dict[str, list[float]] = defaultdict(list)
    for one in world.once:
        if one.kind in ("OfferingScheduled", "OfferingChanged") and "ends_at" in one.data:
            ends[one.data["offering_id"]].append(datetime.fromisoformat(one.data["ends_at"]).timestamp() * 1_000_000)
    for row in world.rows("enrolment.changes"):
        who, why, run = row["enrolment_id"], row["why"], row["offering_id"]
        if why == "offering_cancelled" and run not in cancelled:
            found.wrong.append((f"{who} was released, and its run was not cancelled", [row]))
        elif why in ("over", "finished") and not any(at <= row["changed_us"] for at in ends[run]):
            found.wrong.append((f"{who} was {why}, and its run was not", [row]))
        elif why in OF_AN_OFFER and row["from_state"] != "offered":
            found.wrong.append((f"{who} was {why}, and had no offer", [row]))
        elif why == "denied":  # no partner of these does
            found.wrong.append((f"{who} was denied, and nobody said no to it", [row]))


def idempotent(world: World) -> Looked:
    """V11: one key has one effect and one answer; another request under it is refused."""
    effects = Counter(row["name"] for row in world.rows("enrolment.enrolments"))
    found = Looked({"keys": 0, "repeats answered the same": 0, "other requests refused": 0})
    for name, lines in world.of("enrol", "withdraw", "accept", "decline", "partner_http"):
        if lines[0].get("key") is None:
            continue
        found.seen["keys"] += 1
        same = [line for line in lines if not line.get("variant")]
        first = next((line for line in same if line["kind"] == "ok"), None)
        if effects[lines[0].get("name")] > 1:
            found.wrong.append((f"key {lines[0]['key']} had {effects[lines[0]['name']]} effects", lines))
        if lines[0]["f"] == "enrol" and effects[lines[0].get("other_name")] and effects[lines[0]["name"]]:
            found.wrong.append((f"key {lines[0]['key']} had the effect of two requests", lines))
        if first is None:
            continue
        begun = {line["n"]: line["i"] for line in lines if line["kind"] == "invoke"}
        for line in lines:
            later = begun.get(line["n"], -1) > first["i"]
            if line.get("variant"):
                if line["kind"] == "ok" or (later and line["kind"] == "fail" and line["status"] != 422):
                    found.wrong.append((f"another request under the key of {name} was not refused", lines))
                found.seen["other requests refused"] += line["kind"] == "fail" and line["status"] == 422
            elif line["kind"] == "ok" and line is not first:
                found.seen["repeats answered the same"] += 1
                if (line["status"], line["body"]) != (first["status"], first["body"]):
                    found.wrong.append((f"key {line['key']} was answered in two ways", lines))
            elif line["kind"] == "fail" and later and line.get("err") != "request-in-progress":
                found.wrong.append((f"key {line['key']} was answered, and refused when it was repeated", lines))
    return found
