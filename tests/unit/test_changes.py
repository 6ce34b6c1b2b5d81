"""The judge of who was told that a run has changed must be able to fail."""

import json
from typing import Any

import pytest

from tests.faults.changes import UNDER_WAY_US, told_of_changes
from tests.faults.evidence import Evidence, Record
from tests.faults.model import World
from tests.faults.verdict import Looked

RUN = {"offering_id": "o", "starts_at": "2027-01-04T08:00:00Z", "ends_at": "2027-01-04T10:00:00Z", "sessions": []}
PLACES = [{"arena": "nesna", "capacity": 2}, {"arena": "online", "capacity": 2}]
LATER = {**RUN, "starts_at": "2027-01-05T08:00:00Z", "places": PLACES}
LONG = 10 * UNDER_WAY_US


class Heard:
    """What the notifier heard, and when; `told`: (event, enrolment) of its notices."""

    def __init__(self) -> None:
        self.evidence = Evidence()
        self.seqs: dict[str, int] = {}

    def event(self, topic: str, kind: str, aggregate: str, at: int, **data: Any) -> str:
        seq = self.seqs[aggregate] = self.seqs.get(aggregate, 0) + 1
        event_id = f"{aggregate}-{seq}"
        service, consumer = topic.split(".")
        envelope = {"id": event_id, "type": f"no.kursnett.{service}.{kind}.v1", "aggregate": aggregate, "data": data}
        value = json.dumps({**envelope, "epoch": 1, "seq": seq}).encode()
        self.evidence.records.append(Record(topic, 0, len(self.evidence.records), b"k", value))
        row = {"consumer": f"notifier.{consumer}", "event_id": event_id, "committed_us": at}
        self.evidence.tables.setdefault("notifier.inbox", []).append(row)
        return event_id

    def run(self, kind: str, at: int, version: int, **data: Any) -> str:
        return self.event("catalogue.courses", kind, "course/c", at, version=version, **{"offering_id": "o", **data})

    def seat(self, kind: str, at: int, who: str) -> str:
        data = {"offering_id": "o", "enrolment_id": who, "place": "nesna"}
        return self.event("enrolment.enrolments", kind, f"learner/{who}", at, **data)

    def wrong(self, *told: tuple[str, str]) -> list[str]:
        rows = [{"template": "changed", "event_id": event, "about": about} for event, about in told]
        self.evidence.tables["notifier.notices"] = rows
        found = Looked({})
        told_of_changes(World(self.evidence), found)
        return [words for words, _ in found.wrong]


@pytest.fixture
def heard() -> Heard:
    """A run, one with a seat, one who has left long ago, one who has asked just now."""
    heard = Heard()
    heard.run("OfferingScheduled", 1, 1, **RUN, places=PLACES)
    heard.seat("LearnerEnrolled", 2, "kari")
    heard.seat("LearnerQueued", 3, "ola")
    heard.seat("LearnerWithdrew", 4, "ola")
    heard.seat("LearnerQueued", LONG - 1, "siri")
    return heard


def test_each_who_is_concerned_is_told_once(heard: Heard) -> None:
    moved = heard.run("OfferingChanged", LONG, 2, **LATER)
    assert heard.wrong((moved, "kari")) == []
    assert heard.wrong((moved, "kari"), (moved, "siri")) == []  # her queuing may have been committed as he looked
    assert heard.wrong() == ["kari was not told of a change"]
    assert heard.wrong((moved, "kari"), (moved, "ola")) == ["ola was told of a change that is none of theirs"]
    assert heard.wrong((moved, "kari"), (moved, "kari")) == ["kari was told of a change twice"]


def test_a_place_that_closes_is_a_change_and_more_seats_are_none(heard: Heard) -> None:
    more = heard.run("OfferingChanged", LONG, 2, **RUN, places=[*PLACES[:1], {"arena": "online", "capacity": 9}])
    assert heard.wrong() == []
    assert heard.wrong((more, "kari")) == [f"{more} changed nothing, and people were told of it"]
    heard.run("OfferingChanged", LONG + 1, 3, **RUN, places=PLACES[:1])
    assert heard.wrong() == ["kari was not told of a change"]


def test_changes_that_are_heard_at_once_are_told_by_one_of_them_at_least(heard: Heard) -> None:
    first = heard.run("OfferingChanged", LONG, 2, **LATER)
    newest = heard.run("OfferingChanged", LONG, 3, **LATER | {"places": PLACES[:1]})
    assert heard.wrong((first, "kari")) == []
    assert heard.wrong((newest, "kari")) == []
    assert heard.wrong((first, "kari"), (newest, "kari")) == []
    assert heard.wrong() == ["kari was not told of a change"]
    assert heard.wrong((first, "kari"), (first, "kari")) == ["kari was told of a change twice"]


def test_a_change_that_was_taken_back_before_it_was_heard_need_not_be_told(heard: Heard) -> None:
    heard.run("OfferingChanged", LONG, 2, **LATER)
    heard.run("OfferingChanged", LONG, 3, **RUN, places=PLACES)
    assert heard.wrong() == []


def test_what_is_cancelled_changes_no_more(heard: Heard) -> None:
    heard.run("OfferingCancelled", LONG, 2)
    heard.run("OfferingChanged", LONG + 1, 3, **LATER)
    assert heard.wrong() == []
