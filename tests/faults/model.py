"""The reference: what the topics say must have come of it, worked out without any of the services' code."""

import hashlib
import json
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from tests.faults.evidence import Evidence, Record, Row

SEATED = ("associated", "offered", "reserved")
LIVE = ("pending", "queued", *SEATED)
TYPE = "no.kursnett."


def service_of(topic: str) -> str:
    return topic.partition(".")[0]


@dataclass(frozen=True)
class Said:
    """One event of ours on a topic. `kind` is the class's name, such as LearnerEnrolled."""

    record: Record
    id: str
    kind: str
    aggregate: str
    epoch: int
    seq: int
    data: Row


def said(record: Record) -> Said | None:
    """The record as an event of ours; none for anything else."""
    try:
        envelope = json.loads(record.value or b"")
        kind = str(envelope["type"]).removeprefix(TYPE).split(".")[1]
        return Said(
            record, envelope["id"], kind, envelope["aggregate"], envelope["epoch"], envelope["seq"], envelope["data"]
        )
    except (ValueError, KeyError, TypeError, IndexError):
        return None


@dataclass
class World:
    """The evidence with what every check looks up in it."""

    evidence: Evidence
    ops: dict[str, list[Row]] = field(init=False)

    def __post_init__(self) -> None:
        self.ops = defaultdict(list)
        for line in self.evidence.history:
            if line["kind"] in ("invoke", "ok", "fail", "info") and "id" in line:
                self.ops[str(line["id"])].append(line)

    def rows(self, table: str) -> list[Row]:
        return self.evidence.rows(table)

    def of(self, *kinds: str) -> Iterator[tuple[str, list[Row]]]:
        """The operations of these kinds: id -> lines."""
        return ((name, lines) for name, lines in self.ops.items() if lines[0]["f"] in kinds)

    @cached_property
    def events(self) -> list[Said]:
        """Every appearance of an event of ours, each partition in its order."""
        return [one for one in map(said, self.ours) if one is not None]

    @cached_property
    def firsts(self) -> dict[str, list[Said]]:
        """Aggregate -> its events as each was seen first, in the order of the topic."""
        seen: set[tuple[str, int, int]] = set()
        found: dict[str, list[Said]] = defaultdict(list)
        for one in self.events:
            name = f"{service_of(one.record.topic)}:{one.aggregate}"
            if (name, one.epoch, one.seq) not in seen:
                seen.add((name, one.epoch, one.seq))
                found[name].append(one)
        return found

    @cached_property
    def once(self) -> list[Said]:
        """Every event of ours once, each aggregate in its order."""
        return [one for events in self.firsts.values() for one in events]

    @cached_property
    def ours(self) -> list[Record]:
        return [one for one in self.evidence.records if not one.topic.startswith("partners.")]

    @cached_property
    def theirs(self) -> list[Record]:
        return [one for one in self.evidence.records if one.topic.startswith("partners.")]

    @cached_property
    def outbox(self) -> dict[tuple[str, str, int, int], Row]:
        """(service, aggregate, epoch, seq) -> row."""
        return {
            (service, row["aggregate"], row["epoch"], row["seq"]): row
            for service in ("catalogue", "enrolment", "notifier")
            for row in self.rows(f"{service}.outbox")
        }


def catalogue(events: Iterable[Said]) -> dict[str, Row]:
    """Course or offering id -> the last that the catalogue said of it, and how many versions it said."""
    found: dict[str, Row] = {}
    for one in events:
        if service_of(one.record.topic) != "catalogue" or "version" not in one.data or one.kind.startswith("Partner"):
            continue
        name = str(one.data.get("offering_id") or one.data["course_id"])
        before = found.get(name, {"versions": [], "data": {}})
        gone = one.kind in ("OfferingCancelled", "CourseWithdrawn")
        data = before["data"] if gone else one.data
        found[name] = {"versions": [*before["versions"], one.data["version"]], "data": data, "gone": gone}
    return found


def places(state: Mapping[str, Any]) -> dict[str, int]:
    """Arena -> capacity, as an offering's last state says."""
    return {place["arena"]: place["capacity"] for place in state["data"].get("places", [])}


def enrolments(events: Iterable[Said]) -> dict[str, Row]:
    """Enrolment id -> {"state", "place", "offering"} as its events leave it."""
    found: dict[str, Row] = {}
    for one in events:
        if one.kind not in ("LearnerEnrolled", "LearnerQueued", "LearnerWithdrew"):
            continue
        state = {"LearnerEnrolled": "associated", "LearnerQueued": "queued"}.get(one.kind, "cancelled")
        place = one.data["place"] if state == "associated" else None
        found[one.data["enrolment_id"]] = {"state": state, "place": place, "offering": one.data["offering_id"]}
    return found


TEMPLATES = {
    ("LearnerEnrolled", False): "enrolled",
    ("LearnerEnrolled", True): "seat_from_line",
    ("LearnerQueued", False): "queued",
    ("LearnerWithdrew", False): "withdrawn",
    ("LearnerWithdrew", True): "offering_cancelled",
}


def notices(events: Iterable[Said]) -> dict[str, str]:
    """Event id -> the template of the one notice that is owed for it."""
    found = {}
    for one in events:
        other = one.data.get("from_queue") is True or one.data.get("reason") == "offering_cancelled"
        template = TEMPLATES.get((one.kind, other))
        if template is not None:
            found[one.id] = template
    return found


@dataclass
class Offered:
    """One partner over Kafka, as its own topic tells: courses and runs with content and version, and what was taken."""

    courses: dict[str, Row] = field(default_factory=dict)
    runs: dict[tuple[str, str], Row] = field(default_factory=dict)
    taken: list[tuple[str, str]] = field(default_factory=list)  # (what, code), one for each event that was taken
    refused: set[str] = field(default_factory=set)

    def take(self, event_id: str, what: str, data: Row) -> None:
        """One event that was heard for the first time; a broken rule refuses it."""
        code = data.get("code") or data.get("course_code", "")
        run = (code, str(data.get("key")))
        if what != "CoursePublished" and code not in self.courses:
            self.refused.add(event_id)
        elif what == "CoursePublished":
            self._put(self.courses, code, {k: v for k, v in data.items() if k not in ("code", "seq")})
            self.taken.append((what, code))
        elif what == "OfferingPublished" and not self.runs.get(run, {}).get("gone"):
            self._put(self.runs, run, {k: v for k, v in data.items() if k not in ("course_code", "key", "seq")})
            self.taken.append((what, code))
        elif what == "OfferingRetracted" and run in self.runs:
            known = self.runs[run]
            if not known["gone"]:
                self.runs[run] = {**known, "gone": True, "version": known["version"] + 1}
            self.taken.append((what, code))
        else:
            self.refused.add(event_id)

    def _put(self, table: dict[Any, Row], name: Any, content: Row) -> None:
        known = table.get(name)
        if known is None:
            table[name] = {"version": 1, "content": content, "gone": False}
        elif known["content"] != content:
            table[name] = {"version": known["version"] + 1, "content": content, "gone": False}


def digest(value: bytes | None) -> str:
    return hashlib.sha256(value or b"").hexdigest()


def offered(records: Iterable[Record], malformed: set[str]) -> dict[str, Offered]:
    """Partner -> what its topic comes to; `malformed` holds the digests of values that must be refused as they are."""
    heard: set[str] = set()
    found: dict[str, Offered] = defaultdict(Offered)
    for record in records:
        partner = record.topic.split(".")[1]
        try:
            event = json.loads(record.value or b"")
            name, what, data = f"{partner}/{event['id']}", event["type"].split(".")[-2], event["data"]
        except (ValueError, KeyError, TypeError, IndexError):
            continue
        if digest(record.value) in malformed or name in heard:
            continue
        heard.add(name)
        found[partner].take(event["id"], what, data)
    return found


def sums(world: World) -> Iterator[tuple[str, list[Row]]]:
    """For each offering, its steps in the order of commits: {"at", "caps"} or {"at", "arena", "step"}.

    A step of capacity comes before the claims of the same transaction, which may have been made because of it; these
    come in the order in which they were written.
    """
    heard = {
        row["event_id"]: row["committed_us"]
        for row in world.rows("enrolment.inbox")
        if row["consumer"] == "enrolment.courses"
    }
    steps: dict[str, list[Row]] = defaultdict(list)
    for one in world.once:
        if one.kind in ("OfferingScheduled", "OfferingChanged", "OfferingCancelled") and one.id in heard:
            caps = {place["arena"]: place["capacity"] for place in one.data.get("places", [])}
            steps[one.data["offering_id"]].append({"at": heard[one.id], "version": one.data["version"], "caps": caps})
    for row in world.rows("enrolment.changes"):
        was, now = row["from_state"] in SEATED, row["to_state"] in SEATED
        if was != now:
            step = {"at": row["committed_us"], "arena": row["place"], "step": 1 if now else -1, "change": row}
            steps[row["offering_id"]].append(step)
    for offering, found in steps.items():
        yield (
            offering,
            sorted(found, key=lambda s: (s["at"], "step" in s, s.get("version", 0), s.get("change", {}).get("id", 0))),
        )
