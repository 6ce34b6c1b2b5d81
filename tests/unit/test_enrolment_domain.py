"""The rules of seats and lines hold for every line and every number of seats."""

import uuid
from collections import Counter
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from contracts.fields import OfferingRules
from services.enrolment import asking
from services.enrolment.asking import Ask, Had, Most, TooMany, TooOften
from services.enrolment.domain import Book, Change, Enrolment, Offering, Place, closed, fill, free_seats, seat_for

ARENAS = ("mo-i-rana", "bronnoysund", "sandnessjoen", "online")
NOW = datetime(2026, 9, 1, 12, tzinfo=UTC)

choices = st.lists(st.sampled_from(ARENAS), min_size=1, max_size=3, unique=True).map(tuple)
free = st.dictionaries(st.sampled_from(ARENAS), st.integers(0, 5))


def an_offering(*, starts_at: datetime = NOW + timedelta(days=9), cancelled: bool = False, **rules: Any) -> Offering:
    ends_at = starts_at + timedelta(hours=2)
    return Offering(
        uuid.uuid4(), uuid.uuid4(), "torgar", 1, starts_at, ends_at, cancelled, OfferingRules.model_validate(rules)
    )


def waiting(*wanted: str) -> Enrolment:
    new = Enrolment(uuid.uuid4(), uuid.uuid4(), uuid.uuid4(), "", wanted, None, "Kari", NOW)
    return new.unseated("queued")


def seated_later(wanted: tuple[str, ...]) -> Enrolment:
    """One who sits at the last of these, and stands in line for the others."""
    return waiting(*wanted).seated(wanted[-1])


# Whoever stands in line, some of them with a seat at a later choice.
lines = st.lists(st.one_of(choices.map(lambda c: waiting(*c)), choices.map(seated_later)), max_size=30).map(
    lambda line: [one for one in line if one.waiting_for]
)


def filled(line: list[Enrolment], free: dict[str, int]) -> list[Change]:
    return fill(line, free, an_offering(), NOW, uuid.uuid4)


def got(changes: list[Change]) -> dict[uuid.UUID, str]:
    return {one.after.id: str(one.after.place) for one in changes}


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


def test_the_first_in_line_who_would_sit_there_is_offered_the_seat() -> None:
    first, second = waiting("online"), waiting("mo-i-rana")
    [change] = filled([first, second], {"mo-i-rana": 1})
    assert (change.before, change.after.state, change.after.place) == (second, "offered", "mo-i-rana")
    assert change.after.expires_at == NOW + timedelta(hours=48)


def test_who_sits_at_a_later_choice_moves_and_waits_for_what_is_better_still() -> None:
    one = seated_later(("mo-i-rana", "bronnoysund", "online"))
    [change] = filled([one], {"bronnoysund": 1})
    assert (change.after.state, change.after.place, change.after.waiting_for) == (
        "associated",
        "bronnoysund",
        ("mo-i-rana",),
    )


@given(lines, free)
def test_no_more_are_seated_than_there_are_seats(line: list[Enrolment], free: dict[str, int]) -> None:
    seats = Counter(got(filled(line, free)).values())
    assert all(count <= free[arena] for arena, count in seats.items())


@given(lines, free)
def test_no_seat_is_left_free_that_somebody_waits_for(line: list[Enrolment], free: dict[str, int]) -> None:
    seats = got(filled(line, free))
    left = Counter(free)
    left.subtract(seats.values())
    for one in line:
        if one.id not in seats:
            assert all(left[arena] == 0 for arena in one.waiting_for)


@given(lines, free)
def test_nobody_is_passed_over(line: list[Enrolment], free: dict[str, int]) -> None:
    seats = got(filled(line, free))
    for number, one in enumerate(line):
        if one.id not in seats:
            behind = {seats.get(other.id) for other in line[number + 1 :]}
            assert behind.isdisjoint(one.waiting_for)


@given(lines, st.lists(choices, min_size=1, max_size=10), free)
def test_a_book_counts_what_its_steps_make(line: list[Enrolment], asks: list[Any], free: dict[str, int]) -> None:
    """However many ask and are offered seats, the book's numbers are those that counting gives."""
    offering = an_offering()
    book = Book(offering, {arena: Place(arena, free.get(arena, 0), 0, True, 0, free.get(arena, 0)) for arena in ARENAS})
    wanted = [Ask(uuid.uuid4(), offering.id, uuid.uuid4(), one) for one in asks]
    live = [
        one for one in asking.decide(wanted, {offering.id: book}, NOW, Had(), Most(5, 5)) if isinstance(one, Enrolment)
    ]
    for one in line:
        queued = replace(one.unseated("queued"), offering_id=offering.id)
        book.note(None, queued)
        live.append(queued)
    in_line = [one for one in live if one.waiting_for]
    for change in fill(in_line, book.free(), offering, NOW, uuid.uuid4):
        book.note(change.before, change.after)
        live = [change.after if one.id == change.after.id else one for one in live]
    for arena, place in book.places.items():
        assert place.taken == sum(one.place == arena for one in live)
        assert place.queued == sum(arena in one.waiting_for for one in live)
        assert place.taken <= place.capacity


def test_one_who_asks_again_and_again_in_one_batch_meets_the_limit() -> None:
    several = [an_offering() for _ in range(3)]
    books = {one.id: Book(one, {"online": Place("online", 5, 0, True, 0, 5)}) for one in several}
    learner = uuid.uuid4()
    asks = [Ask(uuid.uuid4(), one.id, learner, ("online",)) for one in several]
    decided = asking.decide(asks, books, NOW, Had(), Most(2, 5))
    assert [getattr(one, "state", one) for one in decided] == ["associated", "associated", TooMany(2)]


def test_one_who_began_as_many_as_one_may_in_an_hour_waits_until_the_first_of_these_is_an_hour_old() -> None:
    several = [an_offering() for _ in range(3)]
    books = {one.id: Book(one, {"online": Place("online", 5, 0, True, 0, 5)}) for one in several}
    learner, had = uuid.uuid4(), Had()
    had.begun[learner] = [NOW - timedelta(minutes=50), NOW - timedelta(minutes=20)]
    asks = [Ask(uuid.uuid4(), one.id, learner, ("online",)) for one in several]
    decided = asking.decide(asks, books, NOW, had, Most(9, 4))
    assert [getattr(one, "state", one) for one in decided] == ["associated", "associated", TooOften(4, 10 * 60 + 1)]


def test_a_seat_that_is_offered_and_taken_stays_where_it_is_wanted_no_more() -> None:
    """A place that holds more than is wanted shrinks by what is given back, and not when a seat there is accepted."""
    place = Place("online", capacity=2, taken=2, open=True, wanted=1)
    book = Book(an_offering(), {"online": place})
    offered = waiting("online").seated("online", "offered")
    book.note(offered, offered.seated("online"))
    assert (place.taken, place.capacity) == (2, 2)
    book.note(offered, offered.unseated("cancelled"))
    assert (place.taken, place.capacity) == (1, 1)
