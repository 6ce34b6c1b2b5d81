"""The rules of seats and lines, on plain values: no database, no clock."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
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
