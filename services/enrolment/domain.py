"""The rules of seats and lines, on plain values: no database, no clock."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal
from uuid import UUID

LIVE = ("pending", "queued", "offered", "reserved", "associated")


@dataclass(frozen=True, slots=True)
class Offering:
    """One run of a course, as the catalogue last told it."""

    id: UUID
    course_id: UUID
    partner: str
    version: int
    starts_at: datetime
    ends_at: datetime
    cancelled: bool


@dataclass(frozen=True, slots=True)
class Place:
    """Where an offering can be attended. `queued` counts those in line who would sit here."""

    arena: str
    capacity: int
    taken: int
    open: bool
    queued: int = 0

    @property
    def free(self) -> int:
        return self.capacity - self.taken


@dataclass(frozen=True, slots=True)
class Waiting:
    """One who stands in line; `choices` are arenas, best first."""

    enrolment_id: UUID
    learner_id: UUID
    choices: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Ask:
    """A learner asks for a seat; `enrolment_id` is what it will be called if it comes to one."""

    enrolment_id: UUID
    offering_id: UUID
    learner_id: UUID
    choices: tuple[str, ...]


@dataclass(slots=True)
class Book:
    """One offering while requests are decided: its free seats, who is enrolled, how many wait with which choices."""

    offering: Offering
    places: Sequence[Place]
    live: dict[UUID, UUID] = field(default_factory=dict)  # learner -> enrolment
    line: Counter[tuple[str, ...]] = field(default_factory=Counter)
    free: dict[str, int] = field(init=False)

    def __post_init__(self) -> None:
        self.free = free_seats(self.places)


@dataclass(frozen=True, slots=True)
class Seat:
    place: str


@dataclass(frozen=True, slots=True)
class InLine:
    number: int  # 1-based: those in front would take a seat that this one would take, too


@dataclass(frozen=True, slots=True)
class Closed:
    reason: Literal["cancelled", "started"]


@dataclass(frozen=True, slots=True)
class NoSuchPlace:
    numbers: tuple[int, ...]  # which of the choices, from 0
    open: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Enrolled:
    enrolment_id: UUID


Decision = Seat | InLine | Closed | NoSuchPlace | Enrolled


def decide(asks: Iterable[Ask], books: Mapping[UUID, Book], now: datetime) -> list[Decision]:
    """What each gets, in the order of asking. The books are kept up on the way: the last seat goes once."""
    return [_decide(ask, books[ask.offering_id], now) for ask in asks]


def _decide(ask: Ask, book: Book, now: datetime) -> Decision:
    reason = closed(book.offering, now)
    if reason is not None:
        return Closed(reason)
    known = tuple(place.arena for place in book.places if place.open)
    unknown = tuple(number for number, arena in enumerate(ask.choices) if arena not in known)
    if unknown:
        return NoSuchPlace(unknown, known)
    if ask.learner_id in book.live:
        return Enrolled(book.live[ask.learner_id])
    book.live[ask.learner_id] = ask.enrolment_id
    place = seat_for(ask.choices, book.free)
    if place is not None:
        book.free[place] -= 1
        return Seat(place)
    in_front = sum(count for choices, count in book.line.items() if not set(choices).isdisjoint(ask.choices))
    book.line[ask.choices] += 1
    return InLine(in_front + 1)


def closed(offering: Offering, now: datetime) -> Literal["cancelled", "started"] | None:
    """Why nobody gets a seat any more, none while the offering is open."""
    if offering.cancelled:
        return "cancelled"
    if offering.starts_at <= now:
        return "started"
    return None


def free_seats(places: Iterable[Place]) -> dict[str, int]:
    """Arena -> free seats, only arenas that have some."""
    return {place.arena: place.free for place in places if place.free > 0}


def seat_for(choices: Sequence[str], free: Mapping[str, int]) -> str | None:
    """The best choice that has a free seat, none when all are full."""
    return next((arena for arena in choices if free.get(arena, 0) > 0), None)


def fill(line: Iterable[Waiting], free: Mapping[str, int]) -> list[tuple[Waiting, str]]:
    """Who of the line, first in front, gets which of the free seats.

    Once through the line is enough: seats only become fewer on the way, so nobody who was told no could have been
    told yes later.
    """
    left = dict(free)
    seated: list[tuple[Waiting, str]] = []
    for waiting in line:
        arena = seat_for(waiting.choices, left)
        if arena is not None:
            left[arena] -= 1
            seated.append((waiting, arena))
    return seated
