"""The hours of an offer: until when a freed seat is kept for the first in line."""

from datetime import UTC, datetime, time, timedelta
from zoneinfo import ZoneInfo

OSLO = ZoneInfo("Europe/Oslo")
NONE_WITHIN = timedelta(hours=12)  # of the start: a mail would not be read in time, so a seat is whose who asks first
LAST_DAY = timedelta(hours=24)
LAST_DAY_HOURS = timedelta(hours=2)
NIGHT = (time(22), time(8))  # Oslo time: nobody has to answer while asleep


def last(starts_at: datetime) -> datetime:
    """When the last offer ends, and the seats that are free are open to all."""
    return starts_at - NONE_WITHIN


def deadline(now: datetime, starts_at: datetime, hours: int) -> datetime | None:
    """Until when an offer made now holds, in UTC; none when it is too late for offers.

    `hours` long, but 2 in the last 24 before the start; counted from 08:00 in Oslo when made between 22 and 8; never
    past 12 hours before the start. Hours are hours, also over a change of the clock.
    """
    if now >= last(starts_at):
        return None
    length = LAST_DAY_HOURS if starts_at - now <= LAST_DAY else timedelta(hours=hours)
    return min(awake(now) + length, last(starts_at))


def awake(now: datetime) -> datetime:
    """Now, or 08:00 in Oslo when it is night there."""
    local = now.astimezone(OSLO)
    if NIGHT[1] <= local.time() < NIGHT[0]:
        return now
    day = local.date() if local.time() < NIGHT[1] else local.date() + timedelta(days=1)
    return datetime.combine(day, NIGHT[1], OSLO).astimezone(UTC)
