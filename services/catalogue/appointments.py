"""A run of a course as an iCalendar file (RFC 5545): one event for each session, for anybody's calendar."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from functools import cache
from typing import TYPE_CHECKING, Any
from uuid import UUID
from zoneinfo import ZoneInfo

from contracts.arenas import ONLINE, place_name

if TYPE_CHECKING:
    from icalendar import Timezone

# icalendar is imported where it is used: 3 MB, which a service at rest does not need.

OSLO = ZoneInfo("Europe/Oslo")
PRODUCT = "-//Kursnett//Kursnett//NO"
# Written out, as in the notifier's mails: the library's own begins summer an hour late. No service imports another.
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


def calendar(
    offering_id: UUID,
    title: str,
    content: Mapping[str, Any],
    *,
    cancelled: bool,
    version: int,
    changed_at: datetime,
    language: str,
    address: str,
) -> bytes:
    """The sessions of a run, or the run itself when it has none; a calendar knows each again by its number."""
    from icalendar import Calendar, Event

    whole = Calendar()
    whole.add("prodid", PRODUCT)
    whole.add("version", "2.0")
    whole.add("method", "PUBLISH")
    whole.add_component(_zone())
    meetings: Sequence[Mapping[str, Any]] = content.get("sessions") or [content]
    places = [place_name(place["arena"], language if language in ONLINE else "nb") for place in content["places"]]
    for number, meeting in enumerate(meetings, 1):
        event = Event()
        event.add("uid", f"{offering_id}-{number}@kursnett")
        event.add("dtstamp", changed_at)
        event.add("last-modified", changed_at)
        event.add("sequence", version - 1)
        event.add("status", "CANCELLED" if cancelled else "CONFIRMED")
        event.add("summary", title)
        event.add("dtstart", datetime.fromisoformat(meeting["starts_at"]).astimezone(OSLO))
        event.add("dtend", datetime.fromisoformat(meeting["ends_at"]).astimezone(OSLO))
        room = " ".join((meeting.get("room") or "").split())
        event.add("location", ", ".join(filter(None, (" / ".join(places), room))))
        event.add("url", address)
        whole.add_component(event)
    return bytes(whole.to_ical())


@cache
def _zone() -> "Timezone":
    from icalendar import Timezone

    zone = Timezone.from_ical(ZONE)
    if not isinstance(zone, Timezone):
        raise TypeError("ZONE must be one VTIMEZONE")
    return zone
