"""The appointment in a mail (RFC 5546): what a calendar is asked to enter, change or cancel, one event per session."""

from collections.abc import Iterator, Sequence
from datetime import datetime
from email.headerregistry import Address
from typing import TYPE_CHECKING
from uuid import UUID

from contracts.fields import Session
from kit import calendars
from kit.calendars import OSLO
from services.notifier.channels.channel import Appointment, Letter
from services.notifier.kinds import KINDS
from services.notifier.letters import chosen_title, one_line, place_name
from services.notifier.store.outgoing import Claimed

if TYPE_CHECKING:
    from icalendar import Event, vCalAddress

# icalendar is imported where it is used: 3 MB, which a service at rest does not need.


def appointment(notice: Claimed, letter: Letter, organizer: Address) -> Appointment:
    """What goes with this letter, for a notice with a sequence number. In a withdrawal it takes back all sessions."""
    method = KINDS[notice.template].method or "REQUEST"
    whole = calendars.calendar(method)
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
