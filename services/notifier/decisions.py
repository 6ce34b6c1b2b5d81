"""What becomes of a notice that is due: it goes now, waits for its hour, or is not sent. Pure: the time is given."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from typing import Any

from kit.calendars import OSLO
from services.notifier.kinds import TRANSACTIONAL

Hours = tuple[time, time]  # from and until on Oslo's clock; over midnight when the second is the earlier

LEAD = timedelta(hours=6)  # who hears of it so long before can still get there, or stay at home
BY_SMS_WITHIN = timedelta(hours=48)  # what begins later is news for a mail, but for the own seat
DIGEST_AT = time(8)  # after the usual quiet hours, before a working day
WEEKLY_ON = 0  # Monday
CHANGED = "changed"


@dataclass(frozen=True)
class Send:
    """It goes now."""


@dataclass(frozen=True)
class Hold:
    """It waits until then, an instant in UTC; `reason` is a code."""

    until: datetime
    reason: str


@dataclass(frozen=True)
class Suppress:
    """It is not sent; `reason` is a code."""

    reason: str


Decision = Send | Hold | Suppress


@dataclass(frozen=True)
class Due:
    """A notice whose time has come, with what its person has chosen.

    `concerned`: the enrolment is still one that such news is for. `soonest`: when the next thing begins that the notice
    is about, none when nothing does. `first`: it was not tried yet. `settles_at`: until then others may come that
    are told with it. `bounced`: its address is refused for good. `sounds`: it comes with a sound, as an SMS does; it
    was asked for, also about the own seat, and does not come at night for what can wait.
    """

    category: str
    cadence: str
    quiet: Hours | None
    concerned: bool = True
    soonest: datetime | None = None
    first: bool = True
    settles_at: datetime | None = None
    bounced: bool = False
    sounds: bool = False


def decide(due: Due, now: datetime) -> Decision:
    """What becomes of it. What was tried once is not held: nobody knows whether it has arrived. But what sounds wakes
    people the second time, too."""
    if due.bounced:
        return Suppress("bounced")
    if due.category in TRANSACTIONAL and not due.sounds:
        return Send()
    unwanted = refused(due.cadence, concerned=due.concerned)
    if unwanted is not None:
        return unwanted
    if due.sounds and due.category not in TRANSACTIONAL and not is_urgent(due.soonest, now, now, BY_SMS_WITHIN):
        return Suppress("not_urgent")
    if not due.first and not due.sounds:
        return Send()
    if due.settles_at is not None and now < due.settles_at:
        return Hold(due.settles_at, "settling")
    if due.cadence in ("daily", "weekly"):
        digest = Hold(awake(next_digest(now, due.cadence), due.quiet), "digest")
        if not is_urgent(due.soonest, now, digest.until):
            return digest
    wakes = awake(now, due.quiet)
    if wakes <= now or is_urgent(due.soonest, now, wakes):
        return Send()
    return Hold(wakes, "quiet_hours")


def refused(cadence: str, *, concerned: bool) -> Suppress | None:
    """Why what can be turned off is not told: by mail or, when it was held for one, in a digest."""
    if cadence == "off":
        return Suppress("preference")
    return None if concerned else Suppress("no_longer_concerned")


def is_urgent(soonest: datetime | None, now: datetime, until: datetime, lead: timedelta = LEAD) -> bool:
    """Whether what is to come would be too near, or over, by then."""
    return soonest is not None and now < soonest < until + lead


def awake(now: datetime, quiet: Hours | None) -> datetime:
    """Now, or the end of the quiet hours that it falls into, in UTC."""
    if quiet is None:
        return now
    start, end = quiet
    today = now.astimezone(OSLO).date()
    for day in (today - timedelta(days=1), today):
        begins = instant(day, start)
        ends = instant(day if start < end else day + timedelta(days=1), end)
        if begins <= now < ends:
            return ends
    return now


def next_digest(now: datetime, cadence: str) -> datetime:
    """When the next digest of this cadence goes, later than now, in UTC."""
    day = now.astimezone(OSLO).date()
    while True:
        at = instant(day, DIGEST_AT)
        if at > now and (cadence == "daily" or day.weekday() == WEEKLY_ON):
            return at
        day += timedelta(days=1)


def instant(day: date, clock: time) -> datetime:
    """The instant in UTC at which Oslo's clocks show this. A gap: as soon as it is over; twice: the second time."""
    at = datetime.combine(day, clock, OSLO)
    later = at.replace(fold=1).astimezone(UTC)
    earlier = at.astimezone(UTC)
    if later.astimezone(OSLO).replace(tzinfo=None, fold=0) == at.replace(tzinfo=None, fold=0):
        return max(earlier, later)
    return _after_gap(min(earlier, later), max(earlier, later))


def _after_gap(before: datetime, after: datetime) -> datetime:
    """The first instant after a change of the clocks between these two."""
    offset = before.astimezone(OSLO).utcoffset()
    while after - before > timedelta(seconds=1):
        middle = before + (after - before) / 2
        if middle.astimezone(OSLO).utcoffset() == offset:
            before = middle
        else:
            after = middle
    return after.replace(microsecond=0)


def soonest(template: str, facts: Mapping[str, Any], starts: Collection[datetime], now: datetime) -> datetime | None:
    """When the next thing begins that the notice is about: a meeting that has changed, else any of its meetings."""
    times = set(starts)
    if template == CHANGED:
        was, is_now = (_meetings(facts[name]) for name in ("was", "now"))
        times = {datetime.fromisoformat(start) for start, _, _ in was ^ is_now}
        if facts["closed"]:
            times |= {datetime.fromisoformat(start) for start, _, _ in is_now}
    return min((at for at in times if at > now), default=None)


def _meetings(run: Mapping[str, Any]) -> set[tuple[str, str, str | None]]:
    meetings = run["sessions"] or [run]
    return {(_utc(one["starts_at"]), _utc(one["ends_at"]), one.get("room")) for one in meetings}


def _utc(at: str) -> str:
    return datetime.fromisoformat(at).astimezone(UTC).isoformat()
