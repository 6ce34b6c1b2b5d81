"""Compares what each database holds with what the topics come to: an effect too many or too few is seen (V5)."""

import json
from collections import Counter
from typing import Any

from tests.faults import model
from tests.faults.changes import told_of_changes
from tests.faults.evidence import Row
from tests.faults.model import SEATED, World, digest
from tests.faults.verdict import Looked, outcomes


def compare(world: World, found: Looked) -> None:
    """Add to `found` every difference between the model and the databases."""
    for part in (_catalogue, _seats, _enrolments, _notices, _contacts, _partners, _intake):
        part(world, found)


def _same(found: Looked, what: str, wanted: dict[Any, Any], is_so: dict[Any, Any]) -> None:
    """Each key of either, compared as JSON text."""
    found.seen["states compared"] += len(wanted)
    for key in {**wanted, **is_so}:
        if _text(wanted.get(key)) != _text(is_so.get(key)):
            lines = [{"by the topics": wanted.get(key)}, {"in the database": is_so.get(key)}]
            found.wrong.append((f"{what} {key} is {_other(wanted.get(key), is_so.get(key))} the topics come to", lines))


def _other(wanted: Any, is_so: Any) -> str:
    """Of counts, in which way: what is less may still come, and what is more has been done twice."""
    if isinstance(wanted or is_so, int):
        return "more than" if (is_so or 0) > (wanted or 0) else "less than"
    return "not what"


def _text(value: Any) -> str:
    return json.dumps(value, sort_keys=True, default=str)


def _catalogue(world: World, found: Looked) -> None:
    said = model.catalogue(world.once)
    for name, one in said.items():
        if one["versions"] != list(range(1, len(one["versions"]) + 1)):
            found.wrong.append((f"the versions of {name} are not 1, 2, 3, …", [one["versions"]]))
    runs = {name: one for name, one in said.items() if "offering_id" in one["data"]}
    courses = {name: one for name, one in said.items() if name not in runs}

    def of_the_catalogue(row: Row, gone: bool) -> Row:
        return {"version": row["version"], "gone": gone, **json.loads(row["content"])}

    rows = {r["id"]: of_the_catalogue(r, r["state"] == "cancelled") for r in world.rows("catalogue.offerings")}
    rows |= {r["id"]: of_the_catalogue(r, r["withdrawn"]) for r in world.rows("catalogue.courses")}
    wanted = {
        name: {
            k: v for k, v in {**one["data"], "version": one["versions"][-1], "gone": one["gone"]}.items() if k in row
        }
        for name, one in said.items()
        if (row := rows.get(name, one["data"]))
    }
    _same(found, "the catalogue's", wanted, rows)
    known = {name: {"version": one["versions"][-1], "cancelled": one["gone"]} for name, one in runs.items()}
    for service, key in (("enrolment", "id"), ("notifier", "offering_id")):
        found_rows = world.rows(f"{service}.offerings")
        so = {r[key]: {"version": r["version"], "cancelled": r["cancelled"]} for r in found_rows}
        _same(found, f"{service}'s offering", known, so)
    so = {r["course_id"]: r["version"] for r in world.rows("notifier.courses")}
    _same(found, "notifier's course", {name: one["versions"][-1] for name, one in courses.items()}, so)


def _seats(world: World, found: Looked) -> None:
    taken = Counter((r["offering_id"], r["place"]) for r in world.rows("enrolment.enrolments") if r["state"] in SEATED)
    waiting = Counter((r["offering_id"], arena) for r in world.rows("enrolment.enrolments") for arena in _line(r))
    caps = {n: model.places(o) for n, o in model.catalogue(world.once).items() if "offering_id" in o["data"]}
    wanted, so = {}, {}
    for row in world.rows("enrolment.places"):
        key = (row["offering_id"], row["arena"])
        cap = caps.get(row["offering_id"], {}).get(row["arena"], 0)
        named = row["arena"] in caps.get(row["offering_id"], {})
        wanted[key] = [cap, named, taken[key], max(cap, taken[key]), waiting[key]]
        so[key] = [row["wanted_capacity"], row["open"], row["taken"], row["capacity"], row["queued"]]
    _same(found, "the place", wanted, so)
    for aggregate, events in world.firsts.items():
        kinds = [one.kind for one in events if one.kind in ("OfferingFilled", "OfferingReopened")]
        if kinds != [("OfferingFilled", "OfferingReopened")[n % 2] for n in range(len(kinds))]:
            found.wrong.append((f"{aggregate} was not filled and reopened by turns", kinds))


def _line(row: Row) -> list[str]:
    return model.waiting_for(row["state"], row["place"], row)


def _enrolments(world: World, found: Looked) -> None:
    rows = world.rows("enrolment.enrolments")
    told = model.enrolments(world.once)
    so = {row["id"]: {"state": row["state"], "place": row["place"], "offering": row["offering_id"]} for row in rows}
    _same(found, "the enrolment", told, so)
    _same(found, "the line of", {r["id"]: _line(r) for r in rows}, {r["id"]: list(r["waiting_for"]) for r in rows})
    kept = {"over": "cancelled"}  # the notifier tells apart who waited to the end
    heard = {
        r["enrolment_id"]: [kept.get(r["state"], r["state"]), r["place"]] for r in world.rows("notifier.enrolments")
    }
    _same(found, "notifier's enrolment", {name: [one["state"], one["place"]] for name, one in told.items()}, heard)


def _notices(world: World, found: Looked) -> None:
    rows = world.rows("notifier.notices")
    found.seen["notices"] += len(rows)
    so: dict[str, Any] = {}
    for row in rows:  # a second notice for one event makes its text another
        if row["template"] == "changed":  # one event, many who are told
            continue
        so[row["event_id"]] = f"{so[row['event_id']]} {row['template']}" if row["event_id"] in so else row["template"]
    _same(found, "the notice for", dict(model.notices(world.once)), so)
    told_of_changes(world, found)
    told = Counter(
        (one.data["notice_id"], one.kind) for one in world.once if one.kind in ("NoticeSent", "NoticeFailed")
    )
    wanted = {(r["id"], f"Notice{r['state'].capitalize()}"): 1 for r in rows if r["state"] in ("sent", "failed")}
    _same(found, "what was told of the notice", wanted, dict(told))


def _contacts(world: World, found: Looked) -> None:
    newest: dict[str, tuple[int, int]] = {}
    for one in world.once:
        if one.kind == "ContactGiven":
            learner = one.data["learner_id"]
            newest[learner] = max(newest.get(learner, (0, 0)), (one.epoch, one.seq))
    so = {row["learner_id"]: (row["epoch"], row["seq"]) for row in world.rows("notifier.contacts")}
    _same(found, "the contact of", newest, so)


def _partners(world: World, found: Looked) -> None:
    """What partners said over Kafka alone: content and versions as their topics tell, and what had to be refused."""
    malformed = {lines[0]["digest"] for _, lines in world.of("partner") if lines[0]["expect"] == "refused"}
    noise = {lines[0]["digest"] for _, lines in world.of("noise")}  # what of it came after the quarantine is kept
    malformed |= noise
    told = model.offered(world.theirs, malformed)
    wanted: dict[Any, Any] = {}
    for partner, one in told.items():
        wanted |= {(partner, code): course for code, course in one.courses.items()}
        wanted |= {(partner, *run): state for run, state in one.runs.items()}
    so: dict[Any, Any] = {}
    for row in world.rows("catalogue.courses"):
        if row["partner"] in told:
            so[row["partner"], row["code"]] = _like(row, row["withdrawn"], wanted.get((row["partner"], row["code"])))
    for row in world.rows("catalogue.offerings"):
        if row["partner"] in told:
            key = (row["partner"], row["code"], row["key"])
            so[key] = _like(row, row["state"] == "cancelled", wanted.get(key))
    _same(found, "by the partner's own topic", wanted, so)

    kept = {(r["topic"], r["partition"], r["offset"]): r for r in world.rows("catalogue.parked")}
    for record in world.theirs:
        parked = kept.get((record.topic, record.partition, record.offset))
        name = _id(record.value)
        refuse = digest(record.value) in malformed or name in told[record.topic.split(".")[1]].refused
        found.seen["refused"] += refuse
        states = ("refused", "held") if digest(record.value) in noise else ("refused",)
        if refuse != (parked is not None) or (parked is not None and parked["state"] not in states):
            words = "this had to be refused, and was not" if refuse else "this was refused, and need not have been"
            found.wrong.append((words, [vars(record), parked]))
    counted: Counter[Any] = Counter()
    for partner, one in told.items():
        counted.update((partner, what, code) for what, code in one.taken)
    taken = Counter((r["partner"], r["what"], r["code"]) for r in world.rows("catalogue.intake") if r["way"] == "kafka")
    _same(found, "what was taken in over Kafka", dict(counted), dict(taken))


def _like(row: Row, gone: bool, wanted: Row | None) -> Row:
    """A row in the model's form; of its content, what the partner said."""
    content = json.loads(row["content"])
    said = (wanted or {}).get("content", content)
    return {"version": row["version"], "content": {k: v for k, v in content.items() if k in said}, "gone": gone}


def _id(value: bytes | None) -> str | None:
    try:
        return str(json.loads(value or b"")["id"])
    except (ValueError, KeyError, TypeError):
        return None


def _intake(world: World, found: Looked) -> None:
    """What came over HTTP was taken in once for each key that was answered, and at most once for each other."""
    sure: Counter[Any] = Counter()
    perhaps: Counter[Any] = Counter()
    for _, lines in world.of("partner_http"):
        key = (lines[0]["partner"], lines[0]["what"], lines[0]["code"])
        sure[key] += bool(outcomes(lines, "ok"))
        perhaps[key] += bool(outcomes(lines, "ok") or outcomes(lines, "info"))
    taken = Counter((r["partner"], r["what"], r["code"]) for r in world.rows("catalogue.intake") if r["way"] == "http")
    for key in {**perhaps, **taken}:
        if not sure[key] <= taken[key] <= perhaps[key]:
            words = f"{key} was taken in {taken[key]} times over HTTP, answered {sure[key]}, unknown {perhaps[key]}"
            found.wrong.append((words, []))
