"""The rules of seats and lines hold for every line and every number of seats."""

import uuid
from collections import Counter
from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from services.enrolment.domain import Offering, Place, Waiting, closed, fill, free_seats, seat_for

ARENAS = ("mo-i-rana", "bronnoysund", "sandnessjoen", "online")
NOW = datetime(2026, 9, 1, 12, tzinfo=UTC)

choices = st.lists(st.sampled_from(ARENAS), min_size=1, max_size=3, unique=True).map(tuple)
free = st.dictionaries(st.sampled_from(ARENAS), st.integers(0, 5))
lines = st.lists(choices, max_size=30).map(
    lambda all_choices: [Waiting(uuid.uuid4(), uuid.uuid4(), wanted) for wanted in all_choices]
)


def an_offering(*, starts_at: datetime = NOW + timedelta(days=9), cancelled: bool = False) -> Offering:
    return Offering(uuid.uuid4(), uuid.uuid4(), "torgar", 1, starts_at, starts_at + timedelta(hours=2), cancelled)


def test_the_seat_is_at_the_first_choice_that_has_one() -> None:
    assert seat_for(["mo-i-rana", "online"], {"mo-i-rana": 1, "online": 5}) == "mo-i-rana"
    assert seat_for(["mo-i-rana", "online"], {"mo-i-rana": 0, "online": 5}) == "online"
    assert seat_for(["mo-i-rana"], {"online": 5}) is None


def test_a_place_over_its_capacity_has_no_free_seat() -> None:
    assert free_seats([Place("mo-i-rana", 3, 3, True), Place("online", 9, 2, True)]) == {"online": 7}


def test_an_offering_closes_when_it_starts_or_is_cancelled() -> None:
    assert closed(an_offering(), NOW) is None
    assert closed(an_offering(starts_at=NOW), NOW) == "started"
    assert closed(an_offering(cancelled=True), NOW) == "cancelled"


def test_the_first_in_line_who_would_sit_there_gets_the_seat() -> None:
    first, second = (Waiting(uuid.uuid4(), uuid.uuid4(), (arena,)) for arena in ("online", "mo-i-rana"))
    assert fill([first, second], {"mo-i-rana": 1}) == [(second, "mo-i-rana")]


@given(lines, free)
def test_no_more_are_seated_than_there_are_seats(line: list[Waiting], free: dict[str, int]) -> None:
    got = Counter(arena for _, arena in fill(line, free))
    assert all(count <= free[arena] for arena, count in got.items())


@given(lines, free)
def test_no_seat_is_left_free_that_somebody_waits_for(line: list[Waiting], free: dict[str, int]) -> None:
    seated = fill(line, free)
    left = Counter(free)
    left.subtract(arena for _, arena in seated)
    got = {waiting.enrolment_id for waiting, _ in seated}
    for waiting in line:
        if waiting.enrolment_id not in got:
            assert all(left[arena] == 0 for arena in waiting.choices)


@given(lines, free)
def test_nobody_is_passed_over(line: list[Waiting], free: dict[str, int]) -> None:
    seated = {waiting.enrolment_id: arena for waiting, arena in fill(line, free)}
    for number, waiting in enumerate(line):
        if waiting.enrolment_id not in seated:
            behind = {seated.get(other.enrolment_id) for other in line[number + 1 :]}
            assert behind.isdisjoint(waiting.choices)
