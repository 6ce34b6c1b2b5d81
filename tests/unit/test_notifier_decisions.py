"""What becomes of a notice that is due: now, later or never, on both sides of every change of the clocks."""

import dataclasses
from datetime import UTC, date, datetime, time, timedelta
from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kit.calendars import OSLO
from services.notifier.changes import merged
from services.notifier.decisions import (
    LEAD,
    Due,
    Hold,
    Send,
    Suppress,
    awake,
    decide,
    instant,
    next_digest,
    soonest,
)
from services.notifier.kinds import TRANSACTIONAL, Category

NIGHT = (time(21), time(7))
NOON = (time(12), time(13))
moments = st.integers(0, 2 * 365 * 24 * 60).map(
    lambda minutes: datetime(2026, 1, 1, tzinfo=UTC) + timedelta(minutes=minutes)
)
clocks = st.times().map(lambda at: at.replace(second=0, microsecond=0))
hours = st.none() | st.tuples(clocks, clocks).filter(lambda pair: pair[0] != pair[1])
cadences = st.sampled_from(["at_once", "daily", "weekly", "off"])
dues = st.builds(
    Due,
    category=st.sampled_from(get_args(Category)),
    cadence=cadences,
    quiet=hours,
    concerned=st.booleans(),
    soonest=st.none() | moments,
    first=st.booleans(),
    settles_at=st.none(),
)


def oslo(text: str) -> datetime:
    """An instant by Oslo's clocks; `*` behind it is the second time that they show it."""
    return datetime.fromisoformat(text.rstrip("*")).replace(tzinfo=OSLO, fold=int(text.endswith("*"))).astimezone(UTC)


@given(dues, moments)
def test_what_became_of_the_own_seat_is_told_at_once_whatever_was_chosen(due: Due, now: datetime) -> None:
    if due.category in TRANSACTIONAL:
        assert decide(due, now) == Send()


@given(dues, moments)
def test_what_was_turned_off_is_never_sent_and_what_was_not_is_never_lost(due: Due, now: datetime) -> None:
    made = decide(due, now)
    if due.category not in TRANSACTIONAL and due.cadence == "off":
        assert made == Suppress("preference")
    elif due.category in TRANSACTIONAL or due.concerned:
        assert not isinstance(made, Suppress)


@given(dues, moments)
def test_what_is_held_goes_when_its_hour_has_come(due: Due, now: datetime) -> None:
    """Each hold ends later than now, within eight days; then it goes, and is not held again for the same reason."""
    made = decide(due, now)
    if not isinstance(made, Hold):
        return
    assert now < made.until < now + timedelta(days=8, hours=2)
    if made.reason == "quiet_hours":
        assert decide(dataclasses.replace(due, cadence="at_once"), made.until) == Send()
    else:  # a digest is a mail of its own, and is not disturbing either
        assert decide(dataclasses.replace(due, category="digest", cadence="at_once"), made.until) == Send()


@given(dues, moments, st.none() | st.integers(-60, 9 * 24 * 60))
def test_nobody_is_disturbed_by_what_can_wait(due: Due, now: datetime, minutes: int | None) -> None:
    if minutes is not None:
        due = dataclasses.replace(due, soonest=now + timedelta(minutes=minutes))
    if due.category in TRANSACTIONAL or not due.first or awake(now, due.quiet) == now:
        return
    near = due.soonest is not None and now < due.soonest < awake(now, due.quiet) + LEAD
    assert decide(due, now) != Send() or near


@given(moments, hours)
def test_quiet_hours_end_at_their_hour_and_not_within_other_quiet_ones(now: datetime, quiet: Any) -> None:
    until = awake(now, quiet)
    assert until >= now
    assert until - now <= timedelta(hours=25)
    assert awake(until, quiet) == until
    if until > now:
        assert until == instant(until.astimezone(OSLO).date(), quiet[1])


@pytest.mark.parametrize(
    ("now", "quiet", "until"),
    [
        ("2026-11-26T20:59", NIGHT, "2026-11-26T20:59"),
        ("2026-11-26T21:00", NIGHT, "2026-11-27T07:00"),
        ("2026-11-27T06:59", NIGHT, "2026-11-27T07:00"),
        ("2026-11-27T07:00", NIGHT, "2026-11-27T07:00"),
        ("2026-11-27T12:30", NOON, "2026-11-27T13:00"),
        ("2026-11-27T13:00", NOON, "2026-11-27T13:00"),
        # The short night of March and the long one of October.
        ("2027-03-27T23:00", NIGHT, "2027-03-28T07:00"),
        ("2026-10-24T23:00", NIGHT, "2026-10-25T07:00"),
        # Hours that the clocks leave out, or show twice: until the gap is over, and from the second time.
        ("2027-03-28T01:59", (time(1), time(2, 30)), "2027-03-28T03:00"),
        ("2027-03-28T03:00", (time(1), time(2, 30)), "2027-03-28T03:00"),
        ("2027-03-28T03:01", (time(2, 15), time(4)), "2027-03-28T04:00"),
        ("2026-10-25T02:15", (time(1), time(2, 30)), "2026-10-25T02:30*"),
        ("2026-10-25T02:15*", (time(1), time(2, 30)), "2026-10-25T02:30*"),
        ("2026-10-25T02:30", (time(1), time(2, 30)), "2026-10-25T02:30*"),
        ("2026-10-25T02:30*", (time(1), time(2, 30)), "2026-10-25T02:30*"),
    ],
)
def test_quiet_hours_are_those_of_oslos_clocks(now: str, quiet: Any, until: str) -> None:
    assert awake(oslo(now), quiet) == oslo(until)


def test_the_two_odd_nights_are_an_hour_shorter_and_longer() -> None:
    assert awake(oslo("2027-03-27T21:00"), NIGHT) - oslo("2027-03-27T21:00") == timedelta(hours=9)
    assert awake(oslo("2026-10-24T21:00"), NIGHT) - oslo("2026-10-24T21:00") == timedelta(hours=11)


@given(st.dates(date(2026, 1, 1), date(2028, 1, 1)), clocks)
def test_a_clock_time_is_one_instant_and_the_later_of_two(day: date, clock: time) -> None:
    at = instant(day, clock).astimezone(OSLO)
    naive = datetime.combine(day, clock)
    shown = at.replace(tzinfo=None, fold=0)
    assert shown == naive or (shown > naive and shown - naive <= timedelta(hours=1))
    assert at.replace(fold=1).astimezone(UTC) == at.astimezone(UTC)


@pytest.mark.parametrize(
    ("now", "cadence", "at"),
    [
        ("2026-11-26T07:59", "daily", "2026-11-26T08:00"),
        ("2026-11-26T08:00", "daily", "2026-11-27T08:00"),
        ("2026-11-26T12:00", "weekly", "2026-11-30T08:00"),
        ("2026-11-30T08:00", "weekly", "2026-12-07T08:00"),
        ("2027-03-27T23:00", "daily", "2027-03-28T08:00"),
        ("2026-10-24T23:00", "daily", "2026-10-25T08:00"),
    ],
)
def test_digests_go_at_eight_and_on_mondays(now: str, cadence: str, at: str) -> None:
    assert next_digest(oslo(now), cadence) == oslo(at)


def test_what_is_near_goes_at_night_and_past_the_digest() -> None:
    now, morning, eight = oslo("2026-11-26T22:00"), oslo("2026-11-27T07:00"), oslo("2026-11-27T08:00")
    minute = timedelta(minutes=1)
    for cadence, until in (("at_once", Hold(morning, "quiet_hours")), ("daily", Hold(eight, "digest"))):
        assert decide(Due("changes", cadence, NIGHT, soonest=morning + LEAD - minute), now) == Send()
        assert decide(Due("changes", cadence, NIGHT, soonest=until.until + LEAD), now) == until
    assert isinstance(decide(Due("changes", "at_once", NIGHT, soonest=now - timedelta(hours=1)), now), Hold), "is over"


def test_what_is_too_near_for_the_digest_waits_for_the_morning() -> None:
    """Red control: who wants a digest, and is not to be disturbed, has it at night four days before."""
    night, morning = oslo("2026-11-26T22:00"), oslo("2026-11-27T07:00")  # Thursday
    for cadence, begins in (("weekly", oslo("2026-11-30T10:00")), ("daily", oslo("2026-11-27T13:59"))):
        due = Due("changes", cadence, NIGHT, soonest=begins)
        assert decide(due, night) == Hold(morning, "quiet_hours")
        assert decide(due, morning) == Send()


def test_a_letter_waits_for_further_changes_and_then_for_its_hour() -> None:
    now = oslo("2026-11-26T20:59")
    due = Due("changes", "at_once", NIGHT, settles_at=now + timedelta(minutes=2))
    assert decide(due, now) == Hold(now + timedelta(minutes=2), "settling")
    assert decide(due, now + timedelta(minutes=2)) == Hold(oslo("2026-11-27T07:00"), "quiet_hours")
    assert decide(dataclasses.replace(due, quiet=None), now + timedelta(minutes=2)) == Send()
    assert decide(dataclasses.replace(due, first=False), now) == Send()


def run(start: str, room: str | None = None, hours: int = 2) -> dict[str, Any]:
    at = datetime.fromisoformat(start)
    whole = {"starts_at": at.isoformat(), "ends_at": (at + timedelta(hours=hours)).isoformat()}
    return {**whole, "sessions": [{**whole, "room": room}] if room else []}


def test_the_nearest_is_a_meeting_that_has_changed_and_no_other() -> None:
    now = datetime(2026, 12, 1, tzinfo=UTC)
    first, second, moved = ("2026-12-02T17:00:00+00:00", "2026-12-09T17:00:00+00:00", "2026-12-10T17:00:00+00:00")
    was = {**run(first), "sessions": run(first, "1")["sessions"] + run(second, "1")["sessions"]}
    is_now = {**run(first), "sessions": run(first, "1")["sessions"] + run(moved, "1")["sessions"]}
    facts = {"was": was, "now": is_now, "closed": []}
    assert soonest("changed", facts, [now], now) == datetime.fromisoformat(second)
    assert soonest("changed", facts | {"closed": ["mosjoen"]}, [now], now) == datetime.fromisoformat(first)
    other_room = {"was": run(first, "1"), "now": run(first, "2"), "closed": []}
    assert soonest("changed", other_room, [now], now) == datetime.fromisoformat(first)
    assert soonest("changed", other_room, [now], now + timedelta(days=9)) is None
    begins = now + timedelta(days=2)
    assert soonest("confirmed", {}, [begins, begins + timedelta(days=7)], now) == begins
    assert soonest("reminder", {}, [now - timedelta(days=2), begins], now) == begins, "the next, though some are over"
    assert soonest("confirmed", {}, [now - timedelta(days=2)], now) is None


def test_two_changes_are_told_from_the_first_to_the_last() -> None:
    first, second, third = (run(f"2026-12-0{day}T17:00:00+00:00") for day in (2, 3, 4))
    one = {"was": first, "now": second, "closed": ["nesna"]}
    two = {"was": second, "now": third, "closed": ["online"]}
    assert merged(one, two, ["mosjoen"]) == {"was": first, "now": third, "closed": ["nesna", "online"]}
    assert merged(one, two, ["mosjoen", "nesna"]) == {"was": first, "now": third, "closed": ["online"]}
    back = {"was": second, "now": first, "closed": []}
    assert merged(one, back, ["nesna"]) is None
    assert merged(one, back, []) == {"was": first, "now": first, "closed": ["nesna"]}, (
        "a closed place is still to be told"
    )
