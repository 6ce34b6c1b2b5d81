"""What one who asks for a seat gets: a seat, a place in line, a wait for approval, or a reason why not."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Literal
from uuid import UUID

from contracts.fields import Period
from services.enrolment.domain import Book, Enrolment, Offering, closed, in_front, seat_for


@dataclass(frozen=True, slots=True)
class Ask:
    """A learner asks; `enrolment_id` is what it will be called if it comes to one."""

    enrolment_id: UUID
    offering_id: UUID
    learner_id: UUID
    choices: tuple[str, ...]
    name: str = ""
    group: str | None = None
    wait_for_earlier: bool = True
    on_lapse: str | None = None
    seen: str = ""  # the hours that were seen, as `Offering.when`; empty: whichever they are


@dataclass(frozen=True, slots=True)
class Closed:
    reason: Literal["cancelled", "started", "not_yet_open", "over", "other_group"]
    opens_at: datetime | None = None
    groups: tuple[str, ...] = ()  # for whom it is open now


@dataclass(frozen=True, slots=True)
class Wrong:
    """A field that cannot be so; `numbers` which of the choices, from 0."""

    field: Literal["places", "group"]
    known: tuple[str, ...]
    numbers: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Already:
    enrolment_id: UUID


@dataclass(frozen=True, slots=True)
class TooMany:
    most: int


@dataclass(frozen=True, slots=True)
class TooOften:
    most: int
    wait_s: int


@dataclass(frozen=True, slots=True)
class Moved:
    """It is held at other hours than those that were seen."""


Refused = Closed | Wrong | Already | TooMany | TooOften | Moved
HOUR = timedelta(hours=1)


@dataclass(frozen=True, slots=True)
class Most:
    """How many enrolments one learner may have that live, and begin within an hour."""

    live: int
    an_hour: int


@dataclass(frozen=True, slots=True)
class Had:
    """What learners have anywhere: how many enrolments that live, and when they began those of the last hour."""

    live: Counter[UUID] = field(default_factory=Counter)
    begun: defaultdict[UUID, list[datetime]] = field(default_factory=lambda: defaultdict(list))


def decide(
    asks: Iterable[Ask], books: Mapping[UUID, Book], now: datetime, had: Had, most: Most
) -> list[Enrolment | Refused]:
    """What each gets, in the order of asking. The books are kept up on the way: the last seat goes once.

    Who is passed by one of a better group who asks after them is told the place that they have then. What learners had
    is kept up too; nobody has more than `most`. An enrolment that was there before is one who stood in line and takes a
    seat that is open to all, where they ask now: that begins none.
    """
    decisions = [_decide(ask, books[ask.offering_id], now, had, most) for ask in asks]
    _see_who_passes(decisions)
    return decisions


def _see_who_passes(decisions: list[Enrolment | Refused]) -> None:
    """Put those who queue behind the ones of better groups who ask after them in this same moment."""
    behind: defaultdict[UUID, Counter[tuple[int, tuple[str, ...]]]] = defaultdict(Counter)
    for number, one in reversed(list(enumerate(decisions))):
        if isinstance(one, Enrolment) and one.place_in_line is not None:
            line = behind[one.offering_id]
            passed_by = in_front(line, one.rank - 1, one.choices)
            if passed_by:
                decisions[number] = replace(one, place_in_line=one.place_in_line + passed_by)
            line[one.rank, one.waiting_for] += 1


def _decide(ask: Ask, book: Book, now: datetime, had: Had, most: Most) -> Enrolment | Refused:
    offering = book.offering
    here = book.live.get(ask.learner_id)
    # Whoever has asked in time, and is not of this very moment: those have no number yet, and are not kept.
    in_line = here is not None and here.state == "queued" and here.queue_number > 0 and offering.open_to_all(now)
    reason = closed(offering, now)
    refused = Closed(reason) if reason is not None else _wrong(ask, book)
    if refused is None and not in_line:
        refused = not_open(offering.rules.periods, ask.group, now)
    if refused is not None:
        return refused
    if ask.seen and ask.seen != offering.when:
        return Moved()
    if here is not None:
        place = seat_for(ask.choices, book.free()) if in_line else None
        if place is None:
            return Already(here.id)
        return _keep(book, here, replace(here, choices=ask.choices, name=ask.name).seated(place))
    if had.live[ask.learner_id] >= most.live:
        return TooMany(most.live)
    begun = had.begun[ask.learner_id]
    if len(begun) >= most.an_hour:
        wait = sorted(begun)[-most.an_hour] + HOUR - now
        return TooOften(most.an_hour, int(wait.total_seconds()) + 1)
    had.live[ask.learner_id] += 1
    begun.append(now)
    new = Enrolment(
        id=ask.enrolment_id,
        offering_id=ask.offering_id,
        learner_id=ask.learner_id,
        state="pending",
        choices=ask.choices,
        place=None,
        name=ask.name,
        asked_at=now,
        rank=offering.rank(ask.group),
        group=ask.group,
        wait_for_earlier=ask.wait_for_earlier,
        on_lapse=ask.on_lapse,
    )
    return _keep(book, None, new if offering.rules.requires_approval else seat_or_line(new, book))


def seat_or_line(one: Enrolment, book: Book) -> Enrolment:
    """The best free seat, else a place behind those who have come before."""
    place = seat_for(one.choices, book.free())
    if place is not None:
        return one.seated(place)
    return replace(one.unseated("queued"), place_in_line=book.in_front(one.rank, one.choices) + 1)


def _keep(book: Book, before: Enrolment | None, after: Enrolment) -> Enrolment:
    book.note(before, after)
    book.live[after.learner_id] = after
    if before is not None:
        book.line[before.rank, before.waiting_for] -= 1
    if after.waiting_for:
        book.line[after.rank, after.waiting_for] += 1
    return after


def not_open(periods: Sequence[Period], group: str | None, now: datetime) -> Closed | None:
    """Why one of this group cannot ask at this hour, none when they can."""
    if not periods or any(_open(period, now) and period.group in (None, group) for period in periods):
        return None
    groups = tuple(period.group for period in periods if period.group is not None and _open(period, now))
    own = [period.opens_at for period in periods if period.group in (None, group) and period.opens_at > now]
    if own:
        return Closed("not_yet_open", min(own), groups)
    if groups:
        return Closed("other_group", groups=groups)
    later = [period.opens_at for period in periods if period.opens_at > now]  # for others; and it is not over
    return Closed("not_yet_open", min(later)) if later else Closed("over")


def shut(offering: Offering, now: datetime) -> Closed | None:
    """Why nobody can ask now, of whichever group, and when the first can; none when somebody can."""
    why = [not_open(offering.rules.periods, group, now) for group in (None, *groups_of(offering))]
    found = [one for one in why if one is not None]
    if len(found) < len(why):
        return None
    return min(found, key=lambda one: one.opens_at or datetime.max.replace(tzinfo=UTC))


def _open(period: Period, now: datetime) -> bool:
    return period.opens_at <= now < period.closes_at


def _wrong(ask: Ask, book: Book) -> Wrong | None:
    known = tuple(place.arena for place in book.places.values() if place.open)
    unknown = tuple(number for number, arena in enumerate(ask.choices) if arena not in known)
    if unknown:
        return Wrong("places", known, unknown)
    groups = groups_of(book.offering)
    return Wrong("group", groups) if ask.group is not None and ask.group not in groups else None


def groups_of(offering: Offering) -> tuple[str, ...]:
    """The groups that this offering knows, in the partner's order."""
    rules = offering.rules
    named = [*rules.priority_groups, *(period.group for period in rules.periods if period.group is not None)]
    return tuple(dict.fromkeys(named))
