"""The rules of seats and lines, on plain values: no database, no clock of its own."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, time, timedelta
from typing import Literal
from uuid import UUID

from contracts.fields import OfferingRules
from services.enrolment import offers

SEATED = ("offered", "reserved", "associated")
LIVE = ("pending", "queued", *SEATED)
UNRANKED = 99  # who belongs to none of the groups that come first

By = Literal["learner", "line", "catalogue", "partner", "clock"]


@dataclass(frozen=True, slots=True)
class Offering:
    """One run of a course, as the catalogue last told it.

    `warned_for` and `judged_for` are the `decide_at` that has been warned of and judged. `tell_line_at` is when those
    in line are told how far up they have come, none while nobody has. `over_since` is the end by which people were put
    out who come back if the run goes on after all: nobody gets a seat until they have.
    """

    id: UUID
    course_id: UUID
    partner: str
    version: int
    starts_at: datetime
    ends_at: datetime
    cancelled: bool
    rules: OfferingRules = field(default_factory=OfferingRules)
    warned_for: datetime | None = None
    judged_for: datetime | None = None
    tell_line_at: datetime | None = None
    over_since: datetime | None = None

    def rank(self, group: str | None) -> int:
        """Where this group stands among those that come first in line; a lower rank is further in front."""
        groups = self.rules.priority_groups
        return groups.index(group) if group in groups else UNRANKED

    def keeps_in_line(self, one: "Enrolment") -> bool:
        """Whether who does not answer the offer that is open stands in line again: as they chose, else the rules.

        After the last offer that costs nobody a place, and lets them ask for the open seat as all others in line may:
        it may have ended in their sleep, and who is out of line comes in no more when enrolment has closed.
        """
        chosen = one.on_lapse or self.rules.on_lapse
        return chosen == "back_of_queue" or (one.expires_at is not None and self.open_to_all(one.expires_at))

    @property
    def closes_at(self) -> datetime:
        """From when on nobody gets a seat."""
        return self.rules.late_enrolment_until or self.starts_at

    @property
    def when(self) -> str:
        """From when to when, for a form: who has seen other hours has not asked for these."""
        return f"{self.starts_at.isoformat()}/{self.ends_at.isoformat()}"

    def open_to_all(self, now: datetime) -> bool:
        """Whether it is too late for offers: a free seat is whose who asks first."""
        return now >= offers.last(self.starts_at)


@dataclass(slots=True)
class Place:
    """Where an offering can be attended. `queued` counts those in line for it; `wanted` is the catalogue's capacity."""

    arena: str
    capacity: int
    taken: int
    open: bool
    queued: int = 0
    wanted: int = 0

    @property
    def free(self) -> int:
        return self.capacity - self.taken


@dataclass(frozen=True, slots=True)
class Enrolment:
    """One enrolment as it is kept. `place_in_line` is 1-based, none unless queued and asked for.

    `waiting_for` are the arenas it stands in line for: all choices while queued, those wanted more once it has a seat.
    `offer_id` and `expires_at` are of the offer that is open.
    """

    id: UUID
    offering_id: UUID
    learner_id: UUID
    state: str
    choices: tuple[str, ...]
    place: str | None
    name: str
    asked_at: datetime
    place_in_line: int | None = None
    queue_number: int = 0
    rank: int = UNRANKED
    group: str | None = None
    waiting_for: tuple[str, ...] = ()
    wait_for_earlier: bool = True
    on_lapse: str | None = None
    denied_because: str | None = None
    offer_id: UUID | None = None
    expires_at: datetime | None = None

    def seated(self, place: str, state: str = "associated") -> "Enrolment":
        """The same with a seat, in line for what it would rather have."""
        earlier = self.choices[: self.choices.index(place)] if self.wait_for_earlier else ()
        return replace(
            self, state=state, place=place, waiting_for=earlier, place_in_line=None, offer_id=None, expires_at=None
        )

    def unseated(self, state: str, **changed: object) -> "Enrolment":
        """The same without a seat: in line when `queued`, else out of it."""
        line = self.choices if state == "queued" else ()
        return replace(
            self,
            state=state,
            place=None,
            waiting_for=line,
            place_in_line=None,
            offer_id=None,
            expires_at=None,
            **changed,  # type: ignore[arg-type]
        )


@dataclass(frozen=True, slots=True)
class Standing:
    """One who waits for a seat, and the place in line that was last told; `queued`: and has none as yet."""

    id: UUID
    learner_id: UUID
    waiting_for: Sequence[str]
    queued: bool
    place_told: int | None
    place_told_at: datetime | None

    def told_on(self, today: date) -> bool:
        """Whether this one was told of a better place on that day."""
        return self.place_told_at is not None and day(self.place_told_at) == today


@dataclass(frozen=True, slots=True)
class Waiting:
    """One who waits for a seat, or for approval (`pending`)."""

    id: UUID
    learner_id: UUID
    pending: bool


@dataclass(frozen=True, slots=True)
class Change:
    """One step of one enrolment. `to_back`: it gets a new number and no rank, behind all that stand in line."""

    before: Enrolment
    after: Enrolment
    by: By
    why: str
    to_back: bool = False

    @property
    def moves_line(self) -> bool:
        """Whether others may stand further in front after it.

        Who is put at the back has left a seat, and that goes to somebody in line, or to nobody and the line is over.
        """
        return not set(self.before.waiting_for) <= set(self.after.waiting_for)


@dataclass(slots=True)
class Book:
    """One offering while requests are decided, kept up on the way.

    `live` has the enrolments of learners who ask; `line` counts those in line by rank and what they wait for.
    """

    offering: Offering
    places: dict[str, Place]
    live: dict[UUID, Enrolment] = field(default_factory=dict)  # learner -> enrolment
    line: Counter[tuple[int, tuple[str, ...]]] = field(default_factory=Counter)

    def free(self) -> dict[str, int]:
        return free_seats(self.places.values())

    def wanted(self) -> list[str]:
        """Arenas with a free seat that somebody stands in line for."""
        return [place.arena for place in self.places.values() if place.free > 0 and place.queued]

    def note(self, before: Enrolment | None, after: Enrolment) -> None:
        """One step has been taken: seats and lines are as they are after it."""
        for arena, seated, waiting in steps(before, after):
            place = self.places[arena]
            place.taken += seated
            place.queued += waiting
            if seated < 0 and not (after.state in SEATED and after.place == arena):  # what was offered and is taken
                place.capacity = max(place.wanted, place.taken)

    def in_front(self, rank: int, choices: Sequence[str]) -> int:
        """How many stand in front of one who comes now: those of no later rank who would take a seat it would take."""
        return in_front(self.line, rank, choices)


def in_front(line: Mapping[tuple[int, tuple[str, ...]], int], rank: int, choices: Sequence[str]) -> int:
    """How many of a line are of no later rank and would take a seat that these choices would."""
    return sum(
        count for (other, waiting), count in line.items() if other <= rank and not set(waiting).isdisjoint(choices)
    )


def steps(before: Enrolment | None, after: Enrolment) -> Iterator[tuple[str, int, int]]:
    """(arena, how many more sit there, how many more stand in line for it) for each arena that a step touches."""
    if before is not None:
        if before.state in SEATED and before.place is not None:
            yield before.place, -1, 0
        for arena in before.waiting_for:
            yield arena, 0, -1
    if after.state in SEATED and after.place is not None:
        yield after.place, 1, 0
    for arena in after.waiting_for:
        yield arena, 0, 1


def closed(offering: Offering, now: datetime) -> Literal["cancelled", "started"] | None:
    """Why nobody gets a seat any more, none while seats are given out."""
    if offering.cancelled:
        return "cancelled"
    if offering.over_since is not None or offering.closes_at <= now:
        return "started"
    return None


def free_seats(places: Iterable[Place]) -> dict[str, int]:
    """Arena -> free seats, only arenas that have some."""
    return {place.arena: place.free for place in places if place.free > 0}


def seat_for(choices: Sequence[str], free: Mapping[str, int]) -> str | None:
    """The best choice that has a free seat, none when all are full."""
    return next((arena for arena in choices if free.get(arena, 0) > 0), None)


def fill(
    line: Iterable[Enrolment], free: Mapping[str, int], offering: Offering, now: datetime, new_id: Callable[[], UUID]
) -> list[Change]:
    """Who of the line, first in front, gets which of the free seats: offered it, or moved there from another place.

    Once through the line is enough: these seats only become fewer on the way, so nobody who was told no could have been
    told yes later. A seat that somebody leaves by moving is not among them: fill again.
    """
    left = dict(free)
    changes: list[Change] = []
    for one in line:
        arena = seat_for(one.waiting_for, left)
        if arena is None:
            continue
        left[arena] -= 1
        if one.state == "associated":
            changes.append(Change(one, one.seated(arena), "line", "a seat came at a place wanted more"))
            continue
        expires_at = offers.deadline(now, offering.starts_at, offering.rules.offer_hours)
        if expires_at is None:
            raise ValueError("too late for offers: nobody's turn comes any more")
        offered = replace(one.seated(arena, "offered"), offer_id=new_id(), expires_at=expires_at)
        changes.append(Change(one, offered, "line", "first in line for a free seat"))
    return changes


def better_places(line: Iterable[Standing]) -> list[tuple[Standing, int]]:
    """Who in this line, first in front, stands at a better place than they were told, or was told none; and at which.

    Places are counted as they are shown: 1, and those further up who would take a seat that this one would take. A line
    has few different wishes, however long it is, so it is counted by these.
    """
    front: Counter[frozenset[str]] = Counter()
    found = []
    for one in line:
        wanted = frozenset(one.waiting_for)
        if one.queued:
            place = 1 + sum(count for others, count in front.items() if not wanted.isdisjoint(others))
            if one.place_told is None or place < one.place_told:
                found.append((one, place))
        front[wanted] += 1
    return found


def day(at: datetime) -> date:
    """The day in Oslo."""
    return at.astimezone(offers.OSLO).date()


def next_hour(now: datetime, clock: time) -> datetime:
    """When it is that late in Oslo next, later than now, in UTC."""
    today = day(now)
    at = datetime.combine(today, clock, offers.OSLO).astimezone(UTC)
    return at if at > now else datetime.combine(today + timedelta(days=1), clock, offers.OSLO).astimezone(UTC)
