"""Until when a freed seat is kept for somebody: by day and night, around the start, when clocks are changed."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.enrolment import offers
from services.enrolment.offers import OSLO

SPRING, AUTUMN = "2027-03-28", "2027-10-31"  # at two o'clock it becomes three, at three it becomes two


def at(text: str) -> datetime:
    """A time on Oslo's clock; the later one where an hour comes twice."""
    return datetime.fromisoformat(text).replace(tzinfo=OSLO, fold=1).astimezone(UTC)


@pytest.mark.parametrize(
    ("made", "start", "hours", "ends"),
    [
        # By day: so many hours.
        ("2027-03-20 13:00", "2027-04-20 18:00", 48, "2027-03-22 13:00"),
        ("2027-03-20 08:00", "2027-04-20 18:00", 48, "2027-03-22 08:00"),
        ("2027-03-20 21:59", "2027-04-20 18:00", 48, "2027-03-22 21:59"),
        ("2027-03-20 13:00", "2027-04-20 18:00", 1, "2027-03-20 14:00"),
        # By night: counted from 8.
        ("2027-03-20 22:00", "2027-04-20 18:00", 48, "2027-03-23 08:00"),
        ("2027-03-20 23:59", "2027-04-20 18:00", 1, "2027-03-21 09:00"),
        ("2027-03-21 00:00", "2027-04-20 18:00", 1, "2027-03-21 09:00"),
        ("2027-03-21 07:59", "2027-04-20 18:00", 1, "2027-03-21 09:00"),
        # The nights in which clocks change. Hours are hours; 8 is 8 on the clock.
        (f"{SPRING} 00:30", "2027-04-20 18:00", 24, "2027-03-29 08:00"),
        ("2027-03-27 22:30", "2027-04-20 18:00", 24, "2027-03-29 08:00"),
        ("2027-03-27 12:00", "2027-04-20 18:00", 24, f"{SPRING} 13:00"),
        (f"{AUTUMN} 02:30", "2027-11-20 18:00", 24, "2027-11-01 08:00"),
        ("2027-10-30 22:30", "2027-11-20 18:00", 24, "2027-11-01 08:00"),
        ("2027-10-30 12:00", "2027-11-20 18:00", 24, f"{AUTUMN} 11:00"),
        # A new year, and a day that is there each fourth one.
        ("2027-12-31 23:59", "2028-02-01 18:00", 48, "2028-01-03 08:00"),
        ("2028-01-01 00:00", "2028-02-01 18:00", 48, "2028-01-03 08:00"),
        ("2028-02-28 22:30", "2028-04-01 18:00", 24, "2028-03-01 08:00"),
        # Never past 12 hours before the start, which are hours too.
        ("2027-04-18 18:01", "2027-04-20 18:00", 48, "2027-04-20 06:00"),
        ("2027-04-19 14:00", "2027-04-20 18:00", 48, "2027-04-20 06:00"),
        ("2027-03-26 12:00", f"{SPRING} 10:00", 48, "2027-03-27 21:00"),
        ("2027-10-29 12:00", f"{AUTUMN} 10:00", 48, "2027-10-30 23:00"),
        # The last day: two hours, from 8 when made at night.
        ("2027-04-19 17:59", "2027-04-20 18:00", 48, "2027-04-20 06:00"),
        ("2027-04-19 18:00", "2027-04-20 18:00", 48, "2027-04-19 20:00"),
        ("2027-04-19 20:30", "2027-04-20 18:00", 48, "2027-04-19 22:30"),
        ("2027-04-19 23:00", "2027-04-20 22:30", 48, "2027-04-20 10:00"),
        # A course tomorrow evening: it ends before its learner is awake, or soon after.
        ("2027-04-19 22:30", "2027-04-20 18:00", 48, "2027-04-20 06:00"),
        ("2027-04-20 05:59", "2027-04-20 18:00", 48, "2027-04-20 06:00"),
        # A course tomorrow morning, and too late for any.
        ("2027-04-19 20:30", "2027-04-20 09:00", 48, "2027-04-19 21:00"),
        ("2027-04-19 21:00", "2027-04-20 09:00", 48, None),
        ("2027-04-20 06:00", "2027-04-20 18:00", 48, None),
        ("2027-04-21 12:00", "2027-04-20 18:00", 48, None),
    ],
)
def test_offers_hold_for_hours_that_a_person_can_keep(made: str, start: str, hours: int, ends: str | None) -> None:
    assert offers.deadline(at(made), at(start), hours) == (at(ends) if ends else None)


instants = st.timedeltas(timedelta(0), timedelta(days=4 * 365)).map(
    lambda since: datetime(2026, 1, 1, tzinfo=UTC) + since
)


@given(instants, st.timedeltas(timedelta(0), timedelta(days=30)), st.integers(1, 336))
def test_no_offer_ends_in_the_past_or_later_than_one_may(now: datetime, until: timedelta, hours: int) -> None:
    ends = offers.deadline(now, now + until, hours)
    if ends is None:
        assert until <= offers.NONE_WITHIN
        return
    assert now < ends <= now + until - offers.NONE_WITHIN
    least = min(offers.LAST_DAY_HOURS, timedelta(hours=hours))
    assert ends - offers.awake(now) >= least or ends == offers.last(now + until), "so long, or to the last hour for any"
    assert 8 <= offers.awake(now).astimezone(OSLO).hour < 22
