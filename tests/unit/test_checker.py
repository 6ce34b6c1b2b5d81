"""The checker of fault runs must be able to fail: evidence that is whole, and for each invariant some that is not."""

import ast
import copy
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from kit.database import DESK, POOLS
from tests.faults import checker, evidence, rest
from tests.faults.checker import CHECKS, check
from tests.faults.evidence import GROUPS, Evidence, Record, hears
from tests.faults.model import digest, waiting_for

COURSE, RUN, OTHER, CALM = "c-1", "o-1", "c-2", "o-2"
NATIVE = {"title": {"nb": "Sveis"}}
SEATS = [{"arena": "nesna", "capacity": 1}, {"arena": "online", "capacity": 1}]
DATES = {"starts_at": "2027-01-04T08:00:00Z", "places": SEATS, "key": "1", "priority_groups": ["kommune"]}
STEADY = {**DATES, "places": SEATS[1:], "key": "steady", "priority_groups": []}
LEFT = ("LearnerWithdrew", "withdrawn", {"reason": "withdrawn"})
BY = dict.fromkeys(("asked", "withdrawn", "accepted", "declined"), "learner")
BY |= {"first in line": "line", "wanted more": "line", "lapsed": "clock"}
WALL = 1_000_000
US = 1_000_000


class Run:
    """A whole small run, written by hand: two partners, a run of two seats and one of one, and people at them."""

    def __init__(self) -> None:
        self.evidence = Evidence(history=[{"i": 0, "t": 0.0, "kind": "begin", "wall": float(WALL)}])
        self.seqs: dict[str, int] = {}
        self.at = WALL * US
        self.commit = 0

    def rows(self, table: str) -> list[dict[str, Any]]:
        return self.evidence.tables.setdefault(table, [])

    def note(self, kind: str, **fields: Any) -> dict[str, Any]:
        lines = self.evidence.history
        lines.append({"i": len(lines), "t": float(len(lines)), "kind": kind, **fields})
        return lines[-1]

    def tick(self) -> int:
        """The database's clock goes with the history's lines."""
        self.at = max(self.at + 10, (WALL + len(self.evidence.history)) * US)
        return self.at

    def put(self, topic: str, key: str, value: bytes | None, event_id: str | None, headers: Any = ()) -> Record:
        offset = sum(1 for one in self.evidence.records if one.topic == topic)
        record = Record(topic, 0, offset, key.encode(), value, tuple(headers))
        self.evidence.records.append(record)
        for group in GROUPS:
            if hears(group, topic) and event_id is not None:
                name = f"{topic.split('.')[1]}/{event_id}" if topic.startswith("partners.") else event_id
                row = {"consumer": group, "event_id": name, "committed_us": self.at}
                self.rows(f"{group.split('.')[0]}.inbox").append(row)
        return record

    def say(self, topic: str, kind: str, aggregate: str, **data: Any) -> str:
        self.tick()
        seq = self.seqs[aggregate] = self.seqs.get(aggregate, 0) + 1
        service = topic.split(".")[0]
        event_id, key = f"{service}-{self.at}", aggregate.partition("/")[2]
        envelope = {
            "id": event_id,
            "type": f"no.kursnett.{service}.{kind}.v1",
            "aggregate": aggregate,
            "epoch": 1,
            "seq": seq,
            "data": data,
        }
        payload = json.dumps(envelope).encode()
        row = {"event_id": event_id, "aggregate": aggregate, "epoch": 1, "seq": seq, "topic": topic}
        row |= {"key": key.encode(), "headers": None, "payload": payload, "published": True}
        row |= {"subject": str(data.get("enrolment_id") or data.get("notice_id") or key), "id": self.at}
        self.rows(f"{service}.outbox").append(row)
        self.put(topic, key, payload, event_id)
        return event_id

    def partner_says(self, number: str, what: str, data: dict[str, Any], good: bool = True) -> None:
        event = {"id": number, "type": f"no.kursnett.partner.{what}.v1", "data": data}
        value = json.dumps(event).encode() if good else b"not json"
        fields = {"f": "partner", "id": f"k-{number}", "n": 1, "partner": "fjord", "code": "B"}
        expect = "taken" if good else "refused"
        self.note("invoke", **fields, what=what, expect=expect, digest=digest(value))
        record = self.put("partners.fjord.courses", "B", value, number if good else None)
        self.note("ok", **fields, topic=record.topic, partition=0, offset=record.offset)
        if good:
            self.rows("catalogue.intake").append({"partner": "fjord", "way": "kafka", "what": what, "code": "B"})
            return
        parked = {"consumer": "catalogue.partners", "topic": record.topic, "partition": 0, "offset": record.offset}
        self.rows("catalogue.parked").append({**parked, "state": "refused", "reason": "not_json", "detail": ""})
        self.copy(value, record.offset)

    def noise(self, number: str, state: str) -> None:
        value = f"noise {number}".encode()
        fields = {"f": "noise", "id": f"n-{number}", "n": 1, "partner": "skrall", "code": "B"}
        self.note("invoke", **fields, what="nonsense", expect="noise", digest=digest(value))
        record = self.put("partners.skrall.courses", "B", value, None)
        self.note("ok", **fields, topic=record.topic, partition=0, offset=record.offset)
        parked = {"consumer": "catalogue.partners", "topic": record.topic, "partition": 0, "offset": record.offset}
        self.rows("catalogue.parked").append({**parked, "state": state, "reason": "not_json", "detail": ""})

    def copy(self, value: bytes, offset: int) -> None:
        """What was parked is said again on the topic of what is parked."""
        aggregate, topic = "copy/catalogue.parked", "catalogue.parked"
        seq = self.seqs[aggregate] = self.seqs.get(aggregate, 0) + 1
        row = {"event_id": "x", "aggregate": aggregate, "epoch": 1, "seq": seq, "topic": topic, "key": b"B"}
        row |= {"headers": json.dumps([["offset", "MA=="]]), "payload": value, "published": True, "subject": ""}
        self.rows("catalogue.outbox").append(row)
        self.put(topic, "B", value, None, [("offset", b"0")])

    def publishes(self, number: str, what: str, thing: str, answer: dict[str, Any]) -> None:
        fields = {
            "f": "partner_http",
            "id": number,
            "n": 1,
            "key": number,
            "partner": "nord",
            "code": "A",
            "what": what,
        }
        self.note("invoke", **fields)
        self.note("ok", **fields, status=201, body=answer)
        self.rows("catalogue.intake").append({"partner": "nord", "way": "http", "what": what, "code": "A"})

    def course(self, id: str, partner: str, code: str, **content: Any) -> None:
        row = {"id": id, "partner": partner, "code": code, "version": 1, "withdrawn": False}
        self.rows("catalogue.courses").append({**row, "content": json.dumps(content)})
        self.rows("notifier.courses").append({"course_id": id, "version": 1})
        data = {"course_id": id, "partner": partner, "code": code, "version": 1, **content}
        self.say("catalogue.courses", "CourseCreated", f"course/{id}", **data)

    def schedule(self, offering: str, content: dict[str, Any]) -> None:
        row = {"id": offering, "course_id": COURSE, "key": content["key"], "version": 1, "state": "scheduled"}
        row |= {"partner": "nord", "code": "A", "content": json.dumps(content)}
        self.rows("catalogue.offerings").append(row)
        data = {"offering_id": offering, "course_id": COURSE, "version": 1, **content}
        self.say("catalogue.courses", "OfferingScheduled", f"course/{COURSE}", **data)
        self.rows("enrolment.offerings").append({"id": offering, "version": 1, "cancelled": False})
        self.rows("notifier.offerings").append({"offering_id": offering, "version": 1, "cancelled": False})
        for place in content["places"]:
            cap = {"wanted_capacity": place["capacity"], "capacity": place["capacity"], "open": True}
            self.rows("enrolment.places").append({"offering_id": offering, "arena": place["arena"], **cap})

    def does(self, f: str, id: str, answer: dict[str, Any] | None, status: int = 200, **said: Any) -> None:
        """One call and its outcome: an answer, a refusal, or none that anybody saw."""
        keyed = {"key": id} if f in ("withdraw", "accept", "decline") and said.get("way") != "link" else {}
        known = {"f": f, "id": id, "n": 1, **keyed}
        self.note("invoke", **known, **said)
        if answer is None:
            self.note("info", **known, err="ReadTimeout")
        else:
            self.note("ok" if status < 300 else "fail", **known, status=status, **answer)

    def asks(self, number: str, state: str, *places: str, offering: str = RUN, **more: Any) -> None:
        fields = {"f": "enrol", "id": number, "key": number, "who": f"client-{number}"}
        asked: dict[str, Any] = {
            "learner": f"kari-{number}",
            "offering": offering,
            "places": list(places),
            "name": f"N {number}",
        }
        asked |= {"group_name": more.get("group"), "wait_for_earlier": True, "on_lapse": None}
        body = {"enrolment_id": f"e-{number}", "state": state, "place_in_line": more.get("place_in_line")}
        self.note("invoke", **fields, n=1, **asked)
        self.note("ok", **fields, n=1, status=201, body=body)
        self.note("invoke", **fields, n=2, **asked)
        self.note("ok", **fields, n=2, status=201, body=body)
        self.note("invoke", **fields, n=3, variant=1, other_name=f"N {number} other")
        self.note("fail", **fields, n=3, variant=1, status=422)
        self.rows("enrolment.learners").append({"id": f"l-{number}", "subject": f"kari-{number}"})
        row: dict[str, Any] = {
            "id": f"e-{number}",
            "offering_id": offering,
            "learner_id": f"l-{number}",
            "choices": list(places),
        }
        row |= {"name": f"N {number}", "state": None, "place": None, "wait_for_earlier": True, "on_lapse": None}
        self.rows("enrolment.enrolments").append({**row, "group_name": more.get("group"), "waiting_for": []})
        self.rows("notifier.enrolments").append({"enrolment_id": f"e-{number}"})
        self.say("enrolment.contacts", "ContactGiven", f"contact/l-{number}", learner_id=f"l-{number}", sealed="…")
        self.rows("notifier.contacts").append({"learner_id": f"l-{number}", "email": "…", "epoch": 1, "seq": 1})
        if state == "associated":
            self.step(number, state, places[0], "asked", ("LearnerEnrolled", "enrolled", {"place": places[0]}))
        else:
            told = {"places": list(places), "place_in_line": 1}
            self.step(number, state, None, "asked", ("LearnerQueued", "queued", told))

    def step(
        self, number: str, to: str, place: str | None, why: str, said: tuple[Any, ...], same: bool = False
    ) -> None:
        """One step of an enrolment, in a commit of its own unless `same`; `said` is (event, template, data)."""
        self.commit = self.commit if same else self.tick()
        row = pick(self.rows("enrolment.enrolments"), id=f"e-{number}")
        kind, template, data = said
        self.happens(number, kind, template, row["offering_id"], **data)
        about = {"enrolment_id": row["id"], "offering_id": row["offering_id"], "learner_id": row["learner_id"]}
        was = {"from_state": row["state"], "from_place": row["place"]}
        self.rows("enrolment.changes").append(
            {
                "id": len(self.rows("enrolment.changes")),
                **about,
                **was,
                "to_state": to,
                "place": place,
                "by_whom": BY[why],
            }
            | {"why": why, "committed_us": self.commit, "changed_us": self.commit}
        )
        row |= {"state": to, "place": place, "waiting_for": waiting_for(to, place, row)}
        pick(self.rows("notifier.enrolments"), enrolment_id=row["id"]).update({"state": to, "place": place})

    def offers(self, number: str, place: str, same: bool = True) -> dict[str, Any]:
        """The seat goes to this one, as the line has it; until an hour."""
        self.step(number, "offered", place, "first in line", ("SeatOffered", "offered", {"place": place}), same)
        name = f"f-{len(self.rows('enrolment.offers'))}"
        row: dict[str, Any] = {
            "id": name,
            "enrolment_id": f"e-{number}",
            "place": place,
            "outcome": None,
            "ended_us": None,
        }
        row |= {"accept": f"yes {name}", "decline": f"no {name}", "made_us": self.at, "expires_us": self.at + 60 * US}
        self.rows("enrolment.offers").append({**row, "offering_id": "", "read_us": self.at})
        return self.rows("enrolment.offers")[-1]

    def ends(self, offer: dict[str, Any], number: str, outcome: str, to: str = "cancelled") -> None:
        place = offer["place"] if to == "associated" else None
        said = {"place": offer["place"], "in_line": to == "queued"}
        kind = {"accepted": "LearnerEnrolled", "declined": "SeatOfferDeclined", "lapsed": "SeatOfferLapsed"}[outcome]
        said = {"place": place, "from_queue": True} if to == "associated" else said
        template = "seat_from_line" if to == "associated" else outcome
        self.step(number, to, place, outcome, (kind, template, said))
        offer |= {"outcome": outcome, "ended_us": max(self.commit, offer["expires_us"] * (outcome == "lapsed"))}

    def happens(self, number: str, kind: str, template: str, offering: str, **more: Any) -> None:
        about = {"enrolment_id": f"e-{number}", "learner_id": f"l-{number}", "offering_id": offering, **more}
        event_id = self.say("enrolment.enrolments", kind, f"learner/l-{number}", **about)
        name = f"m-{len(self.rows('notifier.notices'))}"
        row = {"id": name, "event_id": event_id, "learner_id": f"l-{number}", "template": template, "state": "sent"}
        self.rows("notifier.notices").append(
            {**row, "attempts": 1, "resends": 0, "message_id": f"<{name}>", "reason": None, "sealed": False}
        )
        self.say("notifier.notices", "NoticeSent", f"notices/l-{number}", notice_id=name, learner_id=f"l-{number}")
        mail = {"recipient": f"kari-{number}@example.no", "message_id": f"<{name}>", "digest": "d", "outcome": "ok"}
        self.evidence.deliveries.append({"t": 50.0, **mail})


def whole() -> Evidence:
    """A run with nothing wrong in it, in which everything has happened that the checker wants to have seen."""
    run = Run()
    run.course(COURSE, "nord", "A", **NATIVE)
    run.publishes("p-1", "CoursePublished", COURSE, {"course_id": COURSE, "version": 1})
    run.schedule(RUN, DATES)
    run.schedule(CALM, STEADY)
    run.partner_says("1", "CoursePublished", {"code": "B", **NATIVE})
    run.partner_says("2", "CoursePublished", {"code": "B"}, good=False)
    run.course(OTHER, "fjord", "B", **NATIVE)
    run.noise("1", "refused")
    run.noise("2", "held")
    for slug, state in (("fjord", "active"), ("nord", "active"), ("skrall", "quarantined")):
        run.rows("catalogue.partners").append({"slug": slug, "state": state})
    line(run)
    steady(run)
    for place in run.rows("enrolment.places"):
        mine = [row for row in run.rows("enrolment.enrolments") if row["offering_id"] == place["offering_id"]]
        place["taken"] = sum(row["place"] == place["arena"] for row in mine)
        place["queued"] = sum(place["arena"] in row["waiting_for"] for row in mine)

    run.note("fault", id=1, f="kill", target="catalogue")
    run.note("heal", id=1, f="kill", target="catalogue")
    found = run.evidence
    held = {"pid": 1, "files": 30, "clients": 17, "threads": 5, "rss_kb": 90_000, "pools": {"web": 2}}
    for service in ("catalogue", "enrolment", "notifier"):
        found.before[service], found.after[service] = dict(held), dict(held)
    found.quiet = {"outbox": 1.0, "lag": 2.0, "sending": 0.5, "webhooks": 0.5}
    for event in found.tables["catalogue.outbox"]:
        said = json.loads(event["payload"]) if event["topic"] == "catalogue.courses" else {"data": {}}
        if said["data"].get("partner") == "nord":
            call = {"t": 50.0, "path": "nord", "event_id": said["id"], "signed": True, "data": said["data"]}
            found.calls += [{**call, "outcome": "500"}, {**call, "outcome": "ok"}]
    found.tables["notifier.webhook_deliveries"] = []
    found.audit = [{"service": "enrolment", "invariant": "V6", "words": "no seat twice", "looked": 9, "wrong": 0}]
    found.scanned = {"logs": 1000, "topics": 1000, "metrics": 1000, "reasons": 10}
    return found


def line(run: Run) -> None:
    """Two seats, one that the groups come first for; both are given up, one learner moves, one offer lapses."""
    run.asks("1", "associated", "online")
    run.asks("3", "associated", "nesna")
    run.say("enrolment.enrolments", "OfferingFilled", f"offering/{RUN}", offering_id=RUN)
    run.asks("2", "queued", "online")
    run.asks("4", "queued", "nesna", "online", group="kommune")
    run.asks("5", "queued", "online")
    gone = {"enrolment_id": "e-1", "state": "cancelled"}
    run.does("withdraw", "w-1", {"body": gone}, enrolment="e-1", learner="kari-1", offering=RUN)
    run.step("1", "cancelled", None, "withdrawn", LEFT)
    yes = run.offers("4", "online")
    run.does(
        "read", "r-1", {"body": {"items": [{**gone, "offering_id": RUN, "place_in_line": None}]}}, learner="kari-1"
    )
    run.does("accept", "a-4", {"body": {}}, way="link", learner="kari-4", digest=yes["accept"])
    run.ends(yes, "4", "accepted", "associated")

    gone = {"enrolment_id": "e-3", "state": "cancelled"}
    run.does("withdraw", "w-3", {"body": gone}, enrolment="e-3", learner="kari-3", offering=RUN)
    run.step("3", "cancelled", None, "withdrawn", LEFT)
    moved = {"from_place": "online", "place": "nesna"}
    run.step("4", "associated", "nesna", "wanted more", ("LearnerMoved", "moved", moved), same=True)
    no = run.offers("2", "online")
    back = {"enrolment_id": "e-2", "state": "queued"}
    run.does("decline", "d-2", {"body": back}, way="http", stay=True, enrolment="e-2", learner="kari-2", offering=RUN)
    run.ends(no, "2", "declined", "queued")
    run.happens("2", "LearnerAdvanced", "advanced", RUN, place_in_line=1, before=2)  # no step: it stands where it stood
    silent = run.offers("5", "online")
    run.ends(silent, "5", "lapsed")
    again = run.offers("2", "online")
    mine = {"enrolment_id": "e-2", "state": "associated"}
    run.does("accept", "a-2", {"body": mine}, way="http", enrolment="e-2", learner="kari-2", offering=RUN)
    run.ends(again, "2", "accepted", "associated")


def steady(run: Run) -> None:
    """One seat that two want; the first leaves and is not told that it has."""
    run.asks("6", "associated", "online", offering=CALM)
    run.asks("7", "queued", "online", offering=CALM, place_in_line=1)
    full = {"offering_id": CALM, "places": [{"arena": "online", "taken": 1, "queued": 1}]}
    run.does("seats", "s-1", {"body": full}, offering=CALM)
    mine: dict[str, Any] = {"way": "http", "enrolment": "e-7", "learner": "kari-7", "offering": CALM}
    run.does("accept", "a-6", {"err": "no-offer"}, 409, **mine)
    run.does("withdraw", "w-6", None, enrolment="e-6", learner="kari-6", offering=CALM)
    run.step("6", "cancelled", None, "withdrawn", LEFT)
    offer = run.offers("7", "online")
    seen = {"enrolment_id": "e-7", "state": "offered", "offering_id": CALM, "place_in_line": None}
    run.does("read", "r-7", {"body": seen}, learner="kari-7", offering=CALM, enrolment="e-7")
    run.does("accept", "a-7", {"body": {**seen, "state": "associated"}}, **mine)
    run.ends(offer, "7", "accepted", "associated")


def red(evidence: Evidence) -> dict[str, list[str]]:
    return {one.name.split()[0]: one.example for one in check(evidence) if not one.ok}


def test_a_run_with_nothing_wrong_is_green_in_every_line() -> None:
    verdicts = check(whole())
    assert {one.name: one.example for one in verdicts if not one.ok} == {}
    assert len(verdicts) == len(CHECKS)
    assert all(one.counts for one in verdicts)


def test_a_run_in_which_nothing_happened_proves_nothing() -> None:
    assert set(red(Evidence(history=[{"i": 0, "t": 0.0, "kind": "begin"}]))) == set(CHECKS)


Spoil = Callable[[Evidence], object]
BROKEN: list[tuple[str, str, Spoil, str]] = []


def breaks(invariant: str, words: str) -> Callable[[Spoil], Spoil]:
    def add(spoil: Spoil) -> Spoil:
        BROKEN.append((invariant, spoil.__name__, spoil, words))
        return spoil

    return add


def drop(rows: list[dict[str, Any]], **where: Any) -> None:
    kept = [row for row in rows if any(row.get(name) != value for name, value in where.items())]
    assert len(kept) < len(rows), f"there is no {where} to drop"
    rows[:] = kept


def pick(rows: list[dict[str, Any]], **where: Any) -> dict[str, Any]:
    return next(row for row in rows if all(row.get(name) == value for name, value in where.items()))


@breaks("V1", "operation 2 was answered, and its enrolment is not there")
def an_enrolment_that_was_answered_is_gone(run: Evidence) -> None:
    drop(run.tables["enrolment.enrolments"], id="e-2")


@breaks("V1", "operation w-1 withdrew, and it did not last")
def a_withdrawal_that_was_answered_is_undone(run: Evidence) -> None:
    pick(run.tables["enrolment.enrolments"], id="e-1")["state"] = "associated"


@breaks("V1", "record k-1 was acked, and is not on its topic")
def a_partners_record_that_was_acked_is_gone(run: Evidence) -> None:
    run.records[:] = [one for one in run.records if (one.topic, one.offset) != ("partners.fjord.courses", 0)]


@breaks("V1", "is not so")
def a_course_that_was_answered_is_at_an_older_version(run: Evidence) -> None:
    pick(run.tables["catalogue.courses"], id=COURSE)["version"] = 0


@breaks("V1", "does not show a withdrawal that was answered before")
def a_read_is_older_than_an_answer(run: Evidence) -> None:
    line = pick(run.history, f="read", kind="ok")
    line["body"]["items"][0]["state"] = "associated"


@breaks("V1", "did not find an enrolment that was answered before")
def a_read_does_not_find_what_is_there(run: Evidence) -> None:
    pick(run.history, f="read", kind="ok")["kind"] = "fail"


@breaks("V1", "operation a-4 was answered, and nothing was accepted")
def an_accept_that_was_answered_left_nothing(run: Evidence) -> None:
    drop(run.tables["enrolment.changes"], enrolment_id="e-4", why="accepted")


@breaks("V1", "operation a-2 accepted a seat, and it did not last")
def an_accepted_seat_is_offered_to_somebody_else(run: Evidence) -> None:
    last = run.tables["enrolment.changes"][-1]
    run.tables["enrolment.changes"].append({**last, "enrolment_id": "e-2", "to_state": "queued", "why": "lapsed"})


@breaks("V2", "e-2 was declined 2 times, and not so often asked for")
def an_offer_is_declined_by_nobody(run: Evidence) -> None:
    rows = run.tables["enrolment.changes"]
    rows.append(dict(pick(rows, why="declined")))


def step_by_nobody(run: Evidence, why: str, **more: Any) -> None:
    """The learner of e-4, who has a seat in a run that goes on, is out of it."""
    last = run.tables["enrolment.changes"][-1]
    out = {"from_state": "associated", "from_place": "nesna", "to_state": "cancelled", "place": None, "why": why}
    run.tables["enrolment.changes"].append({**last, "offering_id": RUN, "enrolment_id": "e-4", **out, **more})


@breaks("V2", "e-4 was released, and its run was not cancelled")
def a_seat_is_taken_away_for_another_run_that_was_cancelled(run: Evidence) -> None:
    step_by_nobody(run, "offering_cancelled", by_whom="catalogue")


@breaks("V2", "e-4 was over, and its run was not")
def a_seat_ends_before_its_run(run: Evidence) -> None:
    step_by_nobody(run, "over", by_whom="clock")


@breaks("V2", "e-4 was finished, and its run was not")
def a_learner_finishes_before_the_run(run: Evidence) -> None:
    step_by_nobody(run, "finished", by_whom="clock", to_state="finished")


@breaks("V2", "e-4 was lapsed, and had no offer")
def a_seat_lapses_like_an_offer(run: Evidence) -> None:
    step_by_nobody(run, "lapsed", by_whom="clock")


@breaks("V2", "e-4 was denied, and nobody said no to it")
def a_seat_is_denied(run: Evidence) -> None:
    step_by_nobody(run, "denied", by_whom="partner", to_state="denied")


@breaks("V2", "it was asked for in another way")
def somebody_is_given_a_group(run: Evidence) -> None:
    run.tables["enrolment.enrolments"][0]["group_name"] = "kommune"


@breaks("V2", "nobody asked for this enrolment")
def an_enrolment_comes_from_nowhere(run: Evidence) -> None:
    rows = run.tables["enrolment.enrolments"]
    rows.append({**rows[0], "id": "e-9", "name": "N 9"})


@breaks("V2", "this was refused for certain, and is there all the same")
def a_refused_request_had_its_effect(run: Evidence) -> None:
    for line in run.history:
        if line.get("id") == "2" and line["kind"] == "ok":
            line |= {"kind": "fail", "status": 409}


@breaks("V3", "is marked as published and not on enrolment.enrolments")
def an_event_that_is_marked_is_not_on_its_topic(run: Evidence) -> None:
    run.records[:] = [one for one in run.records if b"LearnerQueued" not in (one.value or b"")]


@breaks("V3", "is passed over and not on enrolment.enrolments")
def an_event_is_left_out_by_the_relay(run: Evidence) -> None:
    run.records[:] = [one for one in run.records if b"LearnerQueued" not in (one.value or b"")]
    for row in run.tables["enrolment.outbox"]:
        row["published"] = b"LearnerQueued" not in row["payload"]


@breaks("V3", "is not published and not on enrolment.enrolments")
def the_last_event_is_not_published_yet(run: Evidence) -> None:
    last = run.tables["enrolment.outbox"][-1]
    last["published"] = False
    run.records[:] = [one for one in run.records if one.value != last["payload"]]


@breaks("V3", "is first seen out of order or with a gap")
def two_events_of_one_learner_are_swapped(run: Evidence) -> None:
    mine = [n for n, one in enumerate(run.records) if one.topic == "enrolment.enrolments" and one.key == b"l-2"]
    run.records[mine[0]], run.records[mine[1]] = run.records[mine[1]], run.records[mine[0]]


@breaks("V4", "enrolment.enrolments holds what nobody has said")
def an_empty_record_is_on_our_topic(run: Evidence) -> None:
    run.records.append(Record("enrolment.enrolments", 0, 99, None, b""))


@breaks("V4", "enrolment.enrolments holds what nobody has said")
def an_event_says_something_else_than_we_said(run: Evidence) -> None:
    number = next(n for n, one in enumerate(run.records) if b"LearnerQueued" in (one.value or b""))
    old = run.records[number]
    run.records[number] = Record(old.topic, 0, old.offset, old.key, (old.value or b"").replace(b"online", b"nesna"))


@breaks("V5", "2 times")
def an_event_is_heard_twice(run: Evidence) -> None:
    rows = run.tables["enrolment.inbox"]
    rows.append(dict(rows[0]))


@breaks("V5", "has never heard")
def an_event_is_never_heard(run: Evidence) -> None:
    run.tables["notifier.inbox"].pop()


@breaks("V5", "is more than the topics come to")
def a_partners_event_has_its_effect_twice(run: Evidence) -> None:
    rows = run.tables["catalogue.intake"]
    rows.append(dict(pick(rows, way="kafka")))


@breaks("V5", "the notice for")
def a_notice_is_owed_twice(run: Evidence) -> None:
    rows = run.tables["notifier.notices"]
    rows.append({**rows[0], "id": "m-9", "state": "due", "message_id": None})


@breaks("V5", "is not what the topics come to")
def a_place_counts_a_seat_too_many(run: Evidence) -> None:
    run.tables["enrolment.places"][0]["taken"] = 2


@breaks("V5", "the line of e-4")
def one_who_sits_at_the_first_choice_still_stands_in_line(run: Evidence) -> None:
    pick(run.tables["enrolment.enrolments"], id="e-4")["waiting_for"] = ["nesna"]


@breaks("V5", "notifier's enrolment e-2")
def the_notifier_knows_another_state(run: Evidence) -> None:
    pick(run.tables["notifier.enrolments"], enrolment_id="e-2")["state"] = "offered"


@breaks("V5", "has parked an event of ours")
def a_good_event_is_parked(run: Evidence) -> None:
    place = {"consumer": "enrolment.courses", "topic": "catalogue.courses", "partition": 0, "offset": 0}
    run.tables["enrolment.parked"] = [{**place, "state": "parked", "reason": "failed", "detail": ""}]


@breaks("V6", "o-1 at online: 2 seats taken of 1")
def a_seat_is_claimed_before_it_was_given_up(run: Evidence) -> None:
    rows = run.tables["enrolment.changes"]
    offered = pick(rows, enrolment_id="e-4", to_state="offered")
    offered["committed_us"] = pick(rows, enrolment_id="e-1", why="withdrawn")["committed_us"] - 1


@breaks("V6", "live enrolments in one offering")
def a_learner_has_two_seats(run: Evidence) -> None:
    rows = run.tables["enrolment.enrolments"]
    rows.append({**pick(rows, id="e-2"), "id": "e-9"})


@breaks("V7", "o-1 at online: 1 seats are free, and 3 stand in line")
def a_seat_that_was_given_up_stays_free_for_a_moment(run: Evidence) -> None:
    pick(run.tables["enrolment.changes"], enrolment_id="e-4", to_state="offered")["committed_us"] += 1


@breaks("V7", "1 seats are free")
def nobody_is_asked_after_an_offer_has_lapsed(run: Evidence) -> None:
    rows = run.tables["enrolment.changes"]
    lapsed = next(n for n, row in enumerate(rows) if row["why"] == "lapsed")
    rows[lapsed + 1]["committed_us"] += 1


@breaks("V8", "e-2 was given the seat before e-4, by group the first")
def the_groups_do_not_come_first(run: Evidence) -> None:
    rows = run.tables["enrolment.changes"]
    at = next(n for n, row in enumerate(rows) if row["to_state"] == "offered")
    rows[at] = {**rows[at], "enrolment_id": "e-2"}


@breaks("V8", "e-5 was given the seat before e-2, by time of asking the first")
def one_who_came_later_is_asked_before(run: Evidence) -> None:
    rows = run.tables["enrolment.changes"]
    at = next(n for n, row in enumerate(rows) if row["to_state"] == "offered" and row["enrolment_id"] == "e-2")
    rows[at] = {**rows[at], "enrolment_id": "e-5"}


@breaks("V8", "e-2 was given the seat before e-5")
def one_who_said_no_keeps_the_place_in_line(run: Evidence) -> None:
    rows = run.tables["enrolment.changes"]
    at = next(n for n, row in enumerate(rows) if row["to_state"] == "offered" and row["enrolment_id"] == "e-5")
    rows[at] = {**rows[at], "enrolment_id": "e-2"}


@breaks("V8", "e-4 asked and was given a seat past those in line")
def one_who_asks_goes_past_the_line(run: Evidence) -> None:
    rows = run.tables["enrolment.changes"]
    pick(rows, enrolment_id="e-4", to_state="offered")["by_whom"] = "learner"
    pick(run.tables["enrolment.enrolments"], id="e-4")["group_name"] = None


@breaks("V9", "an offer was accepted after its hour")
def an_offer_is_taken_too_late(run: Evidence) -> None:
    row = run.tables["enrolment.offers"][0]
    row["expires_us"] = row["ended_us"] - 1


@breaks("V9", "a-4 was asked for after the hour, and done")
def an_answer_came_too_late_and_was_yes(run: Evidence) -> None:
    row = run.tables["enrolment.offers"][0]
    row["expires_us"] = row["ended_us"] = pick(run.history, id="a-4")["t"] * US + WALL * US - 1


@breaks("V9", "an offer was open for 11 s without a fault after its hour")
def an_offer_outlives_its_hour(run: Evidence) -> None:
    pick(run.tables["enrolment.offers"], outcome="lapsed")["ended_us"] += 11 * US


@breaks("V9", "an offer lapsed before its hour")
def an_offer_is_taken_away_too_soon(run: Evidence) -> None:
    pick(run.tables["enrolment.offers"], outcome="lapsed")["ended_us"] -= 1


@breaks("V9", "e-2 is associated and has 1 open offers")
def somebody_has_a_seat_and_an_offer(run: Evidence) -> None:
    pick(run.tables["enrolment.offers"], enrolment_id="e-2", outcome="accepted")["ended_us"] = None


@breaks("V9", "e-5 was offered ['online'], and its offers are []")
def a_seat_is_kept_without_an_offer(run: Evidence) -> None:
    drop(run.tables["enrolment.offers"], enrolment_id="e-5")


@breaks("V9", "a-9 was called too late, and was not")
def an_answer_in_time_is_refused(run: Evidence) -> None:
    known = {"f": "accept", "id": "a-9", "n": 1}
    row = run.tables["enrolment.offers"][0]
    said = {"way": "link", "digest": row["accept"]}
    run.history += [
        {"i": 500, "t": (row["made_us"] - 2) / US - WALL, "kind": "invoke", **known, **said},
        {"i": 501, "t": (row["made_us"] - 1) / US - WALL, "kind": "fail", "status": 410, "err": "", **known},
    ]


@breaks("V10", "o-2: no order of what was under way explains s-1 seats")
def seats_are_shown_as_they_were_before(run: Evidence) -> None:
    pick(run.history, f="seats", kind="ok")["body"]["places"][0] |= {"queued": 0}


@breaks("V10", "o-2: no order of what was under way explains r-7 read")
def an_offer_is_shown_as_taken_before_anybody_took_it(run: Evidence) -> None:
    pick(run.history, id="r-7", kind="ok")["body"]["state"] = "associated"


@breaks("V10", "o-2: no order of what was under way explains 7 enrol")
def a_seat_is_sold_twice(run: Evidence) -> None:
    for line in run.history:
        if line.get("id") == "7" and line["kind"] == "ok":
            line["body"] = {"enrolment_id": "e-7", "state": "associated", "place_in_line": None}


@breaks("V11", "key 1 was answered in two ways")
def a_repeat_gets_another_answer(run: Evidence) -> None:
    next(one for one in run.history if one["kind"] == "ok" and one.get("n") == 2)["body"] = {
        "enrolment_id": "e-1",
        "state": "queued",
    }


@breaks("V11", "another request under the key of 1 was not refused")
def another_request_under_a_key_is_done(run: Evidence) -> None:
    line = next(one for one in run.history if one.get("variant") and one["kind"] == "fail")
    line |= {"kind": "ok", "status": 201, "body": {"enrolment_id": "e-9", "state": "queued"}}


@breaks("V11", "key 1 had 2 effects")
def a_key_has_two_effects(run: Evidence) -> None:
    rows = run.tables["enrolment.enrolments"]
    rows.append({**rows[0], "id": "e-9"})


@breaks("V12", "sent again, though nothing was wrong when it was taken")
def a_mail_goes_out_twice_for_no_reason(run: Evidence) -> None:
    run.deliveries.append({**run.deliveries[0], "t": 51.0})
    run.tables["notifier.notices"][0]["resends"] = 1


@breaks("V12", "taken more often than the service says")
def a_mail_goes_out_twice_and_the_service_knows_of_one(run: Evidence) -> None:
    run.deliveries.append({**run.deliveries[0], "t": 51.0})


@breaks("V12", "the links of an offer are kept after its mail is done with")
def the_tokens_of_a_mail_stay(run: Evidence) -> None:
    run.tables["notifier.notices"][0]["sealed"] = True


@breaks("V12", "not sent as to a bad address, though the mail server has called none bad")
def a_good_address_is_given_up(run: Evidence) -> None:
    run.tables["notifier.notices"][0] |= {"state": "suppressed", "reason": "bounced"}


@breaks("V12", "this notice is called sent, and no mail of it was taken")
def a_mail_never_came(run: Evidence) -> None:
    run.deliveries.pop(0)


@breaks("V12", "a mail went to somebody else")
def a_mail_goes_to_another_learner(run: Evidence) -> None:
    run.deliveries[0]["recipient"] = "kari-2@example.no"


@breaks("V13", "this event was never taken at its partner's webhook")
def a_partner_is_not_told(run: Evidence) -> None:
    run.calls.pop()


@breaks("V13", "this event is called delivered, and was never taken")
def a_refusal_is_taken_for_a_yes(run: Evidence) -> None:
    event_id = run.calls.pop()["event_id"]
    run.tables["notifier.webhook_deliveries"] = [
        {"partner": "nord", "event_id": event_id, "state": "delivered", "later": False}
    ]


@breaks("V13", "the signature of a call is not good")
def a_call_is_not_signed(run: Evidence) -> None:
    run.calls[0]["signed"] = False


@breaks("V13", "a partner was told other words than were said")
def a_call_says_something_else(run: Evidence) -> None:
    run.calls[0]["data"] = {"partner": "nord"}


@breaks("V13", "nord was told what is not for it")
def a_partner_is_told_of_another(run: Evidence) -> None:
    run.calls.append({**run.calls[0], "event_id": "fjords"})


@breaks("V14", "outbox was not at rest")
def the_outbox_is_never_emptied(run: Evidence) -> None:
    run.quiet["outbox"] = None


@breaks("V15", "skrall is active, and 1 of its records were refused")
def who_sends_nonsense_is_not_kept_out(run: Evidence) -> None:
    pick(run.tables["catalogue.partners"], slug="skrall")["state"] = "active"


@breaks("V15", "fjord is quarantined")
def another_partner_is_kept_out_with_it(run: Evidence) -> None:
    pick(run.tables["catalogue.partners"], slug="fjord")["state"] = "quarantined"


@breaks("V15", "a record of partners.fjord.courses is held")
def what_another_partner_sent_waits_with_it(run: Evidence) -> None:
    pick(run.tables["catalogue.parked"], topic="partners.fjord.courses")["state"] = "held"


@breaks("V15", "waited 6 s without a fault until it was taken")
def what_another_partner_sent_is_taken_late(run: Evidence) -> None:
    pick(run.tables["catalogue.inbox"], event_id="fjord/1")["committed_us"] += 7 * US


@breaks("V15", "p-1 was answered 429")
def another_partner_is_turned_away_over_http(run: Evidence) -> None:
    line = next(line for line in run.history if line.get("id") == "p-1" and line["kind"] == "ok")
    line |= {"kind": "fail", "status": 429}


@breaks("V16", "enrolment holds 300 files, and had 30")
def a_service_leaks_files(run: Evidence) -> None:
    run.after["enrolment"]["files"] = 300


@breaks("V17", "a person's data lies where all can read it")
def a_name_is_in_a_log(run: Evidence) -> None:
    run.leaks.append("enrolment.log: …Kari…")


@breaks("audit", "enrolment: no seat twice: 3 are not so")
def the_operators_command_finds_something(run: Evidence) -> None:
    run.audit[0]["wrong"] = 3


@pytest.mark.parametrize(("invariant", "name", "spoil", "words"), BROKEN, ids=[one[1] for one in BROKEN])
def test_what_is_broken_is_red_with_the_lines_that_show_it(invariant: str, name: str, spoil: Spoil, words: str) -> None:
    run = copy.deepcopy(whole())
    spoil(run)
    found = red(run)
    assert invariant in found, f"{invariant} is green although {name.replace('_', ' ')}"
    assert any(words in line for line in found[invariant]), found[invariant]


def test_every_invariant_has_a_breach_that_it_finds() -> None:
    assert {invariant for invariant, *_ in BROKEN} == set(CHECKS)


def twice(run: Evidence) -> None:
    run.deliveries.append({**run.deliveries[0], "t": 51.0})
    run.tables["notifier.notices"][0]["resends"] = 1


@pytest.mark.parametrize("target", ["notifier", "notifier-smtp", "notifier-postgres", "postgres"])
def test_a_second_mail_is_explained_by_a_fault_in_its_moment_and_a_line_of_the_log(target: str) -> None:
    run = whole()
    twice(run)
    event_id = run.tables["notifier.notices"][0]["event_id"]
    told = {"time": "1970-01-12T13:47:31+00:00", "event": "mail_may_come_twice", "causation_id": event_id}
    run.notifier_log.append(told)
    run.history += [
        {"i": 900, "t": 49.0, "kind": "fault", "id": 9, "f": "kill", "target": target},
        {"i": 901, "t": 52.0, "kind": "heal", "id": 9, "target": target},
    ]
    assert "V12" not in red(run)
    run.notifier_log.clear()
    assert "no line of our log tells of it" in red(run)["V12"][0]
    run.notifier_log.append(told)
    run.history[-2]["t"], run.history[-1]["t"] = 150.0, 160.0
    assert "nothing was wrong when it was taken" in red(run)["V12"][0]


def later(run: Evidence, *steps: tuple[int, str, str | None, str]) -> None:
    """More steps at the end: (commit, enrolment, from place, to state), all of them online."""
    rows = run.tables["enrolment.changes"]
    for commit, number, was, now in steps:
        row = {"id": len(rows), "enrolment_id": f"e-{number}", "offering_id": RUN, "learner_id": f"l-{number}"}
        row |= {"from_state": "associated" if was else "queued", "from_place": was, "to_state": now, "by_whom": "line"}
        row |= {"why": "", "place": "online" if now == "associated" else None, "committed_us": commit}
        rows.append(row)


def test_a_seat_may_be_claimed_and_taken_back_by_one_transaction_that_made_the_place_larger() -> None:
    run = whole()
    wider = {**DATES, "places": [SEATS[0], {"arena": "online", "capacity": 2}]}
    hand = Run()
    hand.evidence, hand.seqs = run, {f"course/{COURSE}": 3}
    for version, dates in ((2, wider), (3, DATES)):
        data = {"offering_id": RUN, "course_id": COURSE, "version": version, **dates}
        hand.say("catalogue.courses", "OfferingChanged", f"course/{COURSE}", **data)
    for row in [one for one in run.tables["enrolment.inbox"] if one["consumer"] == "enrolment.courses"][-2:]:
        row["committed_us"] = hand.at
    later(run, (hand.at, "8", None, "associated"))
    assert not [one for one in check(run, only=["V6"]) if not one.ok]
    later(run, (hand.at, "9", None, "associated"))
    assert [one for one in check(run, only=["V6"]) if not one.ok]


def test_a_seat_may_be_claimed_and_given_up_again_by_one_transaction() -> None:
    run = whole()
    at = run.tables["enrolment.changes"][-1]["committed_us"] + 10
    later(run, (at, "2", "online", "cancelled"))
    later(run, (at + 10, "5", None, "associated"), (at + 10, "5", "online", "cancelled"))
    assert not [one.example for one in check(run, only=["V6"]) if not one.ok]


def test_a_line_ends_twelve_hours_before_the_start() -> None:
    run = whole()
    for record in run.records:
        if b"OfferingScheduled" in (record.value or b""):
            object.__setattr__(record, "value", (record.value or b"").replace(b"2027-01-04T08", b"1970-01-12T08"))
    pick(run.tables["enrolment.changes"], enrolment_id="e-4", to_state="offered")["committed_us"] += 1
    assert not red(run).keys() & {"V7", "V8"}


def test_a_fault_of_enrolment_explains_that_an_offer_is_over_late() -> None:
    run = whole()
    lapsed = pick(run.tables["enrolment.offers"], outcome="lapsed")
    lapsed["ended_us"] += 15 * US
    assert "V9" in red(run)
    hour = lapsed["expires_us"] / US - WALL
    run.history += [
        {"i": 900, "t": hour + 1, "kind": "fault", "id": 9, "f": "freeze", "target": "enrolment"},
        {"i": 901, "t": hour + 8, "kind": "heal", "id": 9, "target": "enrolment"},
    ]
    assert "V9" not in red(run)


def test_a_fault_of_the_catalogue_explains_that_a_partners_event_is_taken_late() -> None:
    run = whole()
    row = pick(run.tables["catalogue.inbox"], event_id="fjord/1")
    row["committed_us"] += 7 * US
    assert "V15" in red(run)
    at = row["committed_us"] / US - WALL
    run.history += [
        {"i": 900, "t": at - 6, "kind": "fault", "id": 9, "f": "kill", "target": "kafka-1"},
        {"i": 901, "t": at - 5, "kind": "heal", "id": 9, "target": "kafka-1"},
    ]
    assert "V15" not in red(run)


def test_connections_are_counted_in_every_pool_that_a_service_has() -> None:
    pools = {**POOLS, **DESK}
    assert pools == rest.POOLS, "judged by other sizes than a service has"
    counted = re.search(r"/\(([a-z|]+)\)\$", evidence.CONNECTIONS)
    assert counted
    assert set(counted[1].split("|")) == pools.keys()


def test_the_checker_knows_no_code_of_the_services() -> None:
    folder = Path(checker.__file__).parent
    names = ("checker", "verdict", "evidence", "model", "states", "writes", "events", "seats", "mails", "rest")
    for name in (*names, "lines", "offers", "course", "linear", "isolation"):
        for node in ast.walk(ast.parse((folder / f"{name}.py").read_text())):
            found = [one.name for one in node.names] if isinstance(node, ast.Import) else []
            found += [str(node.module)] if isinstance(node, ast.ImportFrom) else []
            assert not {one.split(".")[0] for one in found} & {"kit", "services", "deploy", "contracts"}, name
