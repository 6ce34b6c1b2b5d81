"""The appointment in a mail (RFC 5546): what a calendar is asked to enter, change or cancel, one event per session."""

import re
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from email.headerregistry import Address
from functools import lru_cache
from typing import TYPE_CHECKING
from uuid import UUID

from contracts.fields import Session
from kit import calendars
from services.notifier.channels.channel import Appointment, Letter
from services.notifier.kinds import KINDS, Method
from services.notifier.letters import chosen_title, one_line, place_name
from services.notifier.store.outgoing import Claimed

if TYPE_CHECKING:
    from icalendar import Event, vCalAddress

# icalendar is imported where it is used: 3 MB, which a service at rest does not need.


def appointment(notice: Claimed, letter: Letter, organizer: Address) -> Appointment:
    """What goes with this letter, for a notice with a sequence number. In a withdrawal it takes back all sessions.

    A session that is dropped is taken back in a request, too: one mail has one part for calendars.
    """
    method = KINDS[notice.template].method or "REQUEST"
    title, _ = chosen_title(notice.title, letter.language)
    meetings, dropped = tuple(notice.meetings()), tuple(notice.dropped())
    by = organizer.addr_spec, organizer.display_name
    parts = list(_mould(method, title, notice.place, meetings, dropped, letter.language, *by))
    own = {
        _UID: f"\r\nUID:{notice.about}",
        _ATTENDEE: f"\r\n{_attendee(letter.address, letter.name or letter.address)}",
        _DTSTAMP: f"\r\nDTSTAMP:{notice.created_at.astimezone(UTC):%Y%m%dT%H%M%SZ}",
        _SEQUENCE: f"\r\nSEQUENCE:{notice.sequence}",
    }
    parts[1::2] = [own[nobodys] for nobodys in parts[1::2]]
    return Appointment(method, "".join(parts))


_PLAIN = re.compile(r"[\w .'-]+")  # what a name between quotes may have, as it is
_MAILTO = re.compile(r"[!-~]+")
_FOLD = 74  # octets, and a space before them from the second line on

# As long as any other id, so that a long line stays folded where it is.
_NO_ENROLMENT = UUID(int=0)
# The beginnings of lines that are nobody's in the mould.
_UID, _ATTENDEE = f"\r\nUID:{_NO_ENROLMENT}", "\r\nATTENDEE:mailto:nobody"
_DTSTAMP, _SEQUENCE = "\r\nDTSTAMP:19700101T000000Z", "\r\nSEQUENCE:0"
_NOBODYS = re.compile(f"({'|'.join((_UID, _ATTENDEE, _DTSTAMP, _SEQUENCE))})")


@lru_cache(maxsize=128)  # a rush is for few courses, and the library takes a millisecond for one calendar
def _mould(
    method: Method,
    title: str,
    place: str | None,
    meetings: Sequence[Session],
    dropped: Sequence[Session],
    language: str,
    address: str,
    name: str,
) -> Sequence[str]:
    """The calendar of one run with nobody's id, address, time of writing and number in it: each second part is one.

    Each of these begins a line, and no title can: the library escapes its line breaks.
    """
    from icalendar import vCalAddress

    whole = calendars.calendar(method)
    for number, event in enumerate(events(_NO_ENROLMENT, title, place, (*meetings, *dropped), language)):
        event.add("dtstamp", datetime(1970, 1, 1, tzinfo=UTC))
        event.add("sequence", 0)
        event.add("status", "CANCELLED" if method == "CANCEL" or number >= len(meetings) else "CONFIRMED")
        event.add("organizer", _person(address, name))
        event.add("attendee", vCalAddress("mailto:nobody"), encode=False)
        whole.add_component(event)
    return tuple(_NOBODYS.split(str(whole.to_ical(), "utf-8")))


def _attendee(address: str, name: str) -> str:
    """The line that names the learner. By hand where there is nothing to escape: a twentieth of what it takes else."""
    if _PLAIN.fullmatch(name) and _MAILTO.fullmatch(address):
        return folded(f'ATTENDEE;CN="{name}";PARTSTAT=ACCEPTED:mailto:{address}')
    from icalendar.parser import Contentline

    attendee = _person(address, name)
    attendee.params["PARTSTAT"] = "ACCEPTED"
    return str(Contentline.from_parts("ATTENDEE", attendee.params, attendee, sorted=True).to_ical(), "utf-8")


def folded(line: str) -> str:
    """A line of RFC 5545 as it may stand: none has more than 75 octets, and each character is whole."""
    octets, parts, start = line.encode(), [], 0
    while len(octets) - start > _FOLD:
        end = start + _FOLD
        while octets[end] & 0xC0 == 0x80:  # within a character
            end -= 1
        parts.append(octets[start:end])
        start = end
    return b"\r\n ".join([*parts, octets[start:]]).decode()


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
        event.add("dtstart", calendars.local(meeting.starts_at))
        if meeting.ends_at > meeting.starts_at:
            event.add("dtend", calendars.local(meeting.ends_at))
        location = ", ".join(filter(None, (where, one_line(meeting.room or ""))))
        if location:
            event.add("location", location)
        yield event


def _person(address: str, name: str) -> "vCalAddress":
    from icalendar import vCalAddress

    person = vCalAddress(f"mailto:{address}")
    person.params["CN"] = name
    return person
