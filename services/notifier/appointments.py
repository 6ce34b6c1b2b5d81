"""The appointment in a mail (RFC 5546): what a calendar is asked to enter, change or cancel, one event per session."""

from collections.abc import Iterator, Sequence
from datetime import datetime
from email.headerregistry import Address
from functools import cache
from typing import TYPE_CHECKING
from uuid import UUID

from contracts.fields import Session
from services.notifier.channels.channel import Appointment, Letter
from services.notifier.kinds import KINDS
from services.notifier.letters import OSLO, chosen_title, one_line, place_name
from services.notifier.store.outgoing import Claimed

if TYPE_CHECKING:
    from icalendar import Calendar, Event, Timezone, vCalAddress

# icalendar is imported where it is used: 3 MB, which a service at rest does not need.

PRODUCT = "-//Kursnett//Kursnett//NO"
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


def appointment(notice: Claimed, letter: Letter, organizer: Address) -> Appointment:
    """What goes with this letter, for a notice with a sequence number. In a withdrawal it takes back all sessions."""
    method = KINDS[notice.template].method or "REQUEST"
    whole = calendar()
    whole.add("method", method)
    title, _ = chosen_title(notice.title, letter.language)
    for event in events(notice.about, title, notice.place, notice.meetings(), letter.language):
        event.add("dtstamp", notice.created_at)
        event.add("sequence", notice.sequence)
        event.add("status", "CANCELLED" if method == "CANCEL" else "CONFIRMED")
        event.add("organizer", _person(organizer.addr_spec, organizer.display_name))
        attendee = _person(letter.address, letter.name or letter.address)
        attendee.params["PARTSTAT"] = "ACCEPTED"
        event.add("attendee", attendee, encode=False)
        whole.add_component(event)
    return Appointment(method, whole.to_ical().decode())


def calendar() -> "Calendar":
    """An empty calendar that knows Oslo's time."""
    from icalendar import Calendar

    made = Calendar()
    made.add("prodid", PRODUCT)
    made.add("version", "2.0")
    made.add_component(_zone())
    return made


def events(
    enrolment_id: UUID, title: str, place: str | None, meetings: Sequence[Session], language: str
) -> Iterator["Event"]:
    """One for each meeting, known again by the enrolment and its number among them."""
    from icalendar import Event

    where = place_name(place, language)
    for number, meeting in enumerate(meetings, 1):
        event = Event()
        event.add("uid", f"{enrolment_id}-{number}@kursnett")
        event.add("summary", title)
        event.add("dtstart", _local(meeting.starts_at))
        if meeting.ends_at > meeting.starts_at:
            event.add("dtend", _local(meeting.ends_at))
        location = ", ".join(filter(None, (where, one_line(meeting.room or ""))))
        if location:
            event.add("location", location)
        yield event


def _local(at: datetime) -> datetime:
    return at.astimezone(OSLO)


def _person(address: str, name: str) -> "vCalAddress":
    from icalendar import vCalAddress

    person = vCalAddress(f"mailto:{address}")
    person.params["CN"] = name
    return person


@cache
def _zone() -> "Timezone":
    from icalendar import Timezone

    zone = Timezone.from_ical(ZONE)
    if not isinstance(zone, Timezone):
        raise TypeError("ZONE must be one VTIMEZONE")
    return zone
