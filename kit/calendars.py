"""An empty iCalendar file (RFC 5545) that knows Oslo's time: what every calendar of ours begins with."""

from datetime import UTC, datetime
from functools import cache
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

if TYPE_CHECKING:
    from icalendar import Calendar, Timezone

# icalendar is imported where it is used: 3 MB, which a service at rest does not need.

OSLO = ZoneInfo("Europe/Oslo")
# Written out, since the library's own has no rule, only the dates of some years, and summer begins an hour late in it.
# A test compares it with the system's zone files.
ZONE = """BEGIN:VTIMEZONE
TZID:Europe/Oslo
BEGIN:DAYLIGHT
DTSTART:19960331T020000
RRULE:FREQ=YEARLY;BYMONTH=3;BYDAY=-1SU
TZNAME:CEST
TZOFFSETFROM:+0100
TZOFFSETTO:+0200
END:DAYLIGHT
BEGIN:STANDARD
DTSTART:19961027T030000
RRULE:FREQ=YEARLY;BYMONTH=10;BYDAY=-1SU
TZNAME:CET
TZOFFSETFROM:+0200
TZOFFSETTO:+0100
END:STANDARD
END:VTIMEZONE
"""


def local(at: datetime) -> datetime:
    """The time in Oslo; of the hour that autumn has twice, the second in UTC: by its local time it would be the first.

    RFC 5545, 3.3.5. A meeting over that hour would end before it begins.
    """
    there = at.astimezone(OSLO)
    return at.astimezone(UTC) if there.fold else there


def calendar(method: str) -> "Calendar":
    """A calendar without events. `method` is what its reader is to do with them: PUBLISH, REQUEST or CANCEL."""
    from icalendar import Calendar

    made = Calendar()
    made.add("prodid", "-//Kursnett//Kursnett//NO")
    made.add("version", "2.0")
    made.add("method", method)
    made.add_component(_zone())
    return made


@cache
def _zone() -> "Timezone":
    from icalendar import Timezone

    zone = Timezone.from_ical(ZONE)
    if not isinstance(zone, Timezone):
        raise TypeError("ZONE must be one VTIMEZONE")
    return zone
