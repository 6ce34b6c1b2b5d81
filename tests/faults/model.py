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
class Commit:
    """What one transaction did to one offering: what it heard of it, by version, and its steps as they were written."""

    at: int  # microseconds
    told: list[Said] = field(default_factory=list)
    steps: list[Row] = field(default_factory=list)


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

    @cached_property
    def story(self) -> dict[str, list[Commit]]:
        """Offering -> what enrolment did to it, in the order of commits that the database remembers."""
        heard = {
            row["event_id"]: row["committed_us"]
            for row in self.rows("enrolment.inbox")
            if row["consumer"] == "enrolment.courses"
        }
        found: dict[str, dict[int, Commit]] = defaultdict(dict)

        def commit(offering: str, at: int) -> Commit:
            return found[offering].setdefault(at, Commit(at))

        for one in self.once:
            if one.kind in ("OfferingScheduled", "OfferingChanged", "OfferingCancelled") and one.id in heard:
                commit(one.data["offering_id"], heard[one.id]).told.append(one)
        for row in sorted(self.rows("enrolment.changes"), key=lambda row: int(row.get("id", 0))):
            commit(row["offering_id"], row["committed_us"]).steps.append(row)
        for commits in found.values():
            for one_commit in commits.values():
                one_commit.told.sort(key=lambda said: int(said.data["version"]))
        return {offering: [commits[at] for at in sorted(commits)] for offering, commits in found.items()}


def catalogue(events: Iterable[Said]) -> dict[str, Row]:
    """Course or offering id -> the last that the catalogue said of it, and how many versions it said."""
    found: dict[str, Row] = {}
    for one in events:
        if service_of(one.record.topic) != "catalogue" or "version" not in one.data or one.kind.startswith("Partner"):
            continue
        name = str(one.data.get("offering_id") or one.data["course_id"])
        before = found.get(name, {"versions": [], "data": {}})
        gone = one.kind in ("OfferingCancelled", "CourseWithdrawn")
        data = before["data"] if gone or one.kind == "OfferingConfirmed" else one.data
        found[name] = {"versions": [*before["versions"], one.data["version"]], "data": data, "gone": gone}
    return found


def places(state: Mapping[str, Any]) -> dict[str, int]:
    """Arena -> capacity, as an offering's last state says."""
    return {place["arena"]: place["capacity"] for place in state["data"].get("places", [])}


STATES = {
    "EnrolmentPending": "pending",
    "EnrolmentDenied": "denied",
    "EnrolmentFinished": "finished",
    "EnrolmentRestated": "",  # the event says
    "LearnerEnrolled": "associated",
    "LearnerMoved": "associated",
    "LearnerQueued": "queued",
    "LearnerWithdrew": "cancelled",
    "SeatOffered": "offered",
    "SeatOfferDeclined": "",
    "SeatOfferLapsed": "",
}


def enrolments(events: Iterable[Said]) -> dict[str, Row]:
    """Enrolment id -> {"state", "place", "offering"} as its events leave it."""
    found: dict[str, Row] = {}
    for one in events:
        if one.kind not in STATES:
            continue
        state = STATES[one.kind] or one.data.get("state") or ("queued" if one.data["in_line"] else "cancelled")
        place = one.data["place"] if state in (*SEATED, "finished") else None
        found[one.data["enrolment_id"]] = {"state": state, "place": place, "offering": one.data["offering_id"]}
    return found


def waiting_for(state: str, place: str | None, row: Row) -> list[str]:
    """What an enrolment with this seat stands in line for, by what its row says was asked: best first."""
    if state == "queued":
        return list(row["choices"])
    if state in SEATED and place in row["choices"] and row["wait_for_earlier"]:
        return list(row["choices"][: row["choices"].index(place)])
    return []


TEMPLATES = {
    "EnrolmentPending": "pending",
    "EnrolmentDenied": "denied",
    "LearnerAdvanced": "advanced",
    "LearnerEnrolled": "enrolled",
    "LearnerGotNoSeat": "no_seat",
    "LearnerMoved": "moved",
    "LearnerQueued": "queued",
    "LearnerWithdrew": "withdrawn",
    "SeatOffered": "offered",
    "SeatOfferDeclined": "declined",
    "SeatOfferLapsed": "lapsed",
}


def notices(events: Iterable[Said]) -> dict[str, str]:
    """Event id -> the template of the one notice that is owed for it."""
    found = {}
    for one in events:
        if one.kind not in TEMPLATES:
            continue
        found[one.id] = TEMPLATES[one.kind]
        if one.data.get("from_queue") is True:
            found[one.id] = "seat_from_line"
        elif one.data.get("reason") == "offering_cancelled":
            found[one.id] = "offering_cancelled"
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


def seats(step: Row) -> Iterator[tuple[str, int]]:
    """(arena, +1 or -1) for each seat that a step takes or gives back; a seat that is kept is none."""
    was = step["from_place"] if step["from_state"] in SEATED else None
    now = step["place"] if step["to_state"] in SEATED else None
    if was == now:
        return
    if was is not None:
        yield was, -1
    if now is not None:
        yield now, 1
