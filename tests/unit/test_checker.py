"""The checker of fault runs must be able to fail: evidence that is whole, and for each invariant some that is not."""

import ast
import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.faults import checker
from tests.faults.checker import CHECKS, check
from tests.faults.evidence import GROUPS, Evidence, Record, hears
from tests.faults.model import digest

COURSE, RUN, OTHER, THIRD = "c-1", "o-1", "c-2", "c-3"
NATIVE = {"title": {"nb": "Sveis"}}
DATES = {"starts_at": "2027-01-04T08:00:00Z", "places": [{"arena": "online", "capacity": 1}]}


class Run:
    """A whole small run, written by hand: two partners, one seat, two learners, one withdrawal, three mails."""

    def __init__(self) -> None:
        self.evidence = Evidence(history=[{"i": 0, "t": 0.0, "kind": "begin", "wall": 1_000_000.0}])
        self.seqs: dict[str, int] = {}
        self.at = 0

    def rows(self, table: str) -> list[dict[str, Any]]:
        return self.evidence.tables.setdefault(table, [])

    def note(self, kind: str, **fields: Any) -> dict[str, Any]:
        lines = self.evidence.history
        lines.append({"i": len(lines), "t": float(len(lines)), "kind": kind, **fields})
        return lines[-1]

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
        self.at += 10
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
        row["subject"] = str(data.get("enrolment_id") or data.get("notice_id") or key)
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

    def asks(self, number: str, learner: str, state: str, **more: Any) -> None:
        fields = {"f": "enrol", "id": number, "key": number, "who": f"client-{number}"}
        asked = {"learner": learner, "offering": RUN, "places": ["online"], "name": f"N {number}"}
        body = {"enrolment_id": f"e-{number}", "state": state}
        self.note("invoke", **fields, n=1, **asked)
        self.note("ok", **fields, n=1, status=201, body=body)
        self.note("invoke", **fields, n=2, **asked)
        self.note("ok", **fields, n=2, status=201, body=body)
        self.note("invoke", **fields, n=3, variant=1, other_name=f"N {number} other")
        self.note("fail", **fields, n=3, variant=1, status=422)
        self.rows("enrolment.learners").append({"id": f"l-{number}", "subject": learner})
        row = {"id": f"e-{number}", "offering_id": RUN, "learner_id": f"l-{number}", "choices": ["online"]}
        self.rows("enrolment.enrolments").append({**row, "name": f"N {number}", "state": state, "place": more["place"]})
        self.say("enrolment.contacts", "ContactGiven", f"contact/l-{number}", learner_id=f"l-{number}", sealed="…")
        self.rows("notifier.contacts").append({"learner_id": f"l-{number}", "email": "…", "epoch": 1, "seq": 1})
        if state == "associated":
            self.happens(number, "LearnerEnrolled", "enrolled", place="online")
            self.changes(number, None, "associated", "online", "learner")
        else:
            self.happens(number, "LearnerQueued", "queued", places=["online"], place_in_line=1)
            self.changes(number, None, "queued", None, "learner")

    def changes(self, number: str, was: str | None, now: str, place: str | None, by: str) -> None:
        row = {"enrolment_id": f"e-{number}", "offering_id": RUN, "learner_id": f"l-{number}", "committed_us": self.at}
        self.rows("enrolment.changes").append(
            {**row, "from_state": was, "to_state": now, "place": place, "by_whom": by}
        )

    def happens(self, number: str, kind: str, template: str, **more: Any) -> None:
        about = {"enrolment_id": f"e-{number}", "learner_id": f"l-{number}", "offering_id": RUN, **more}
        event_id = self.say("enrolment.enrolments", kind, f"learner/l-{number}", **about)
        name = f"m-{len(self.rows('notifier.notices'))}"
        row = {"id": name, "event_id": event_id, "learner_id": f"l-{number}", "template": template, "state": "sent"}
        self.rows("notifier.notices").append(
            {**row, "attempts": 1, "resends": 0, "message_id": f"<{name}>", "reason": None}
        )
        self.say("notifier.notices", "NoticeSent", f"notices/l-{number}", notice_id=name, learner_id=f"l-{number}")
        mail = {"recipient": f"kari-{number}@example.no", "message_id": f"<{name}>", "digest": "d", "outcome": "ok"}
        self.evidence.deliveries.append({"t": 50.0, **mail})


def whole() -> Evidence:
    """A run with nothing wrong in it, in which everything has happened that the checker wants to have seen."""
    run = Run()
    run.course(COURSE, "nord", "A", **NATIVE)
    run.publishes("p-1", "CoursePublished", COURSE, {"course_id": COURSE, "version": 1})
    row = {"id": RUN, "course_id": COURSE, "key": "1", "version": 1, "state": "scheduled", "partner": "nord"}
    run.rows("catalogue.offerings").append({**row, "code": "A", "content": json.dumps(DATES)})
    data = {"offering_id": RUN, "course_id": COURSE, "version": 1, **DATES}
    run.say("catalogue.courses", "OfferingScheduled", f"course/{COURSE}", **data)
    run.rows("enrolment.offerings").append({"id": RUN, "version": 1, "cancelled": False})
    run.rows("notifier.offerings").append({"offering_id": RUN, "version": 1, "cancelled": False})
    run.partner_says("1", "CoursePublished", {"code": "B", **NATIVE})
    run.partner_says("2", "CoursePublished", {"code": "B"}, good=False)
    run.course(OTHER, "fjord", "B", **NATIVE)

    run.asks("1", "kari-1", "associated", place="online")
    run.say("enrolment.enrolments", "OfferingFilled", f"offering/{RUN}", offering_id=RUN)
    run.asks("2", "kari-2", "queued", place=None)
    withdraw = {"f": "withdraw", "id": "w-1", "key": "w-1", "n": 1}
    run.note("invoke", **withdraw, enrolment="e-1", learner="kari-1")
    run.note("ok", **withdraw, status=200, body={"enrolment_id": "e-1", "state": "cancelled"})
    read = {"f": "read", "id": "r-1", "n": 1}
    run.note("invoke", **read, learner="kari-1", enrolment="e-1")
    run.note("ok", **read, status=200, body={"items": [{"enrolment_id": "e-1", "state": "cancelled"}]})
    run.happens("1", "LearnerWithdrew", "withdrawn", place="online", reason="withdrawn")
    run.changes("1", "associated", "cancelled", "online", "learner")
    run.happens("2", "LearnerEnrolled", "seat_from_line", place="online", from_queue=True)
    run.changes("2", "queued", "associated", "online", "line")
    first, second = run.rows("enrolment.enrolments")
    first |= {"state": "cancelled", "place": None}
    second |= {"state": "associated", "place": "online"}
    place = {"offering_id": RUN, "arena": "online", "wanted_capacity": 1, "capacity": 1, "taken": 1, "open": True}
    run.rows("enrolment.places").append(place)

    run.note("fault", id=1, f="kill", target="catalogue")
    run.note("heal", id=1, f="kill", target="catalogue")
    found = run.evidence
    held = {"pid": 1, "files": 30, "clients": 17, "threads": 5, "rss_kb": 90_000, "pools": {"web": 2}}
    for service in ("catalogue", "enrolment", "notifier"):
        found.before[service], found.after[service] = dict(held), dict(held)
    found.quiet = {"outbox": 1.0, "lag": 2.0, "sending": 0.5}
    found.audit = [{"service": "enrolment", "invariant": "V6", "words": "no seat twice", "looked": 9, "wrong": 0}]
    found.scanned = {"logs": 1000, "topics": 1000, "metrics": 1000, "reasons": 10}
    return found


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
    line["body"] = {"items": [{"enrolment_id": "e-1", "state": "associated"}]}


@breaks("V1", "did not find an enrolment that was answered before")
def a_read_does_not_find_what_is_there(run: Evidence) -> None:
    pick(run.history, f="read", kind="ok")["kind"] = "fail"


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


@breaks("V5", "enrolment.courses has heard catalogue-10 2 times")
def an_event_is_heard_twice(run: Evidence) -> None:
    rows = run.tables["enrolment.inbox"]
    rows.append(dict(rows[0]))


@breaks("V5", "has never heard")
def an_event_is_never_heard(run: Evidence) -> None:
    run.tables["notifier.inbox"].pop()


@breaks("V5", "what was taken in over Kafka")
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


@breaks("V5", "has parked an event of ours")
def a_good_event_is_parked(run: Evidence) -> None:
    place = {"consumer": "enrolment.courses", "topic": "catalogue.courses", "partition": 0, "offset": 0}
    run.tables["enrolment.parked"] = [{**place, "state": "parked", "reason": "failed", "detail": ""}]


@breaks("V6", "o-1 at online: 2 seats taken of 1")
def a_seat_is_claimed_before_it_was_given_up(run: Evidence) -> None:
    rows = run.tables["enrolment.changes"]
    pick(rows, enrolment_id="e-2", to_state="associated")["committed_us"] = (
        pick(rows, enrolment_id="e-1", to_state="cancelled")["committed_us"] - 1
    )


@breaks("V6", "live enrolments in one offering")
def a_learner_has_two_seats(run: Evidence) -> None:
    rows = run.tables["enrolment.enrolments"]
    rows.append({**pick(rows, id="e-2"), "id": "e-9"})


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


@breaks("V12", "this notice is called sent, and no mail of it was taken")
def a_mail_never_came(run: Evidence) -> None:
    run.deliveries.pop(0)


@breaks("V12", "a mail went to somebody else")
def a_mail_goes_to_another_learner(run: Evidence) -> None:
    run.deliveries[0]["recipient"] = "kari-2@example.no"


@breaks("V14", "outbox was not at rest")
def the_outbox_is_never_emptied(run: Evidence) -> None:
    run.quiet["outbox"] = None


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


def test_a_seat_may_be_claimed_and_taken_back_by_one_transaction_that_made_the_place_larger() -> None:
    run = whole()
    wider = {**DATES, "places": [{"arena": "online", "capacity": 2}]}
    hand = Run()
    hand.evidence, hand.seqs, hand.at = run, {f"course/{COURSE}": 2}, 5000
    for version, dates in ((2, wider), (3, DATES)):
        data = {"offering_id": RUN, "course_id": COURSE, "version": version, **dates}
        hand.say("catalogue.courses", "OfferingChanged", f"course/{COURSE}", **data)
    for row in run.tables["enrolment.inbox"]:
        row["committed_us"] = min(row["committed_us"], 5010)
    hand.at = 5010
    hand.changes("3", "queued", "associated", "online", "line")
    assert not [one for one in check(run, only=["V6"]) if not one.ok]
    hand.changes("4", "queued", "associated", "online", "line")
    assert [one for one in check(run, only=["V6"]) if not one.ok]


def test_a_seat_may_be_claimed_and_given_up_again_by_one_transaction() -> None:
    run = whole()
    hand = Run()
    hand.evidence, hand.at = run, 5000
    hand.changes("2", "associated", "cancelled", "online", "catalogue")
    hand.at = 6000
    hand.changes("5", "queued", "associated", "online", "line")
    hand.changes("5", "associated", "cancelled", "online", "catalogue")
    for number, row in enumerate(run.tables["enrolment.changes"]):
        row["id"] = number
    assert not [one.example for one in check(run, only=["V6"]) if not one.ok]


def test_the_checker_knows_no_code_of_the_services() -> None:
    folder = Path(checker.__file__).parent
    for name in ("checker", "verdict", "evidence", "model", "states", "writes", "events", "seats", "mails", "rest"):
        for node in ast.walk(ast.parse((folder / f"{name}.py").read_text())):
            names = [one.name for one in node.names] if isinstance(node, ast.Import) else []
            names += [str(node.module)] if isinstance(node, ast.ImportFrom) else []
            assert not {one.split(".")[0] for one in names} & {"kit", "services", "deploy", "contracts"}, name
