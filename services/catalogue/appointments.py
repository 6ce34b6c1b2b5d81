"""A run of a course as an iCalendar file (RFC 5545): one event for each session, for anybody's calendar."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from contracts.arenas import ONLINE, place_name
from kit import calendars


def calendar(
    offering_id: UUID,
    title: str,
    content: Mapping[str, Any],
    *,
    cancelled: bool,
    sequence: int,
    changed_at: datetime,
    language: str,
    address: str,
) -> bytes:
    """The sessions of a run, or the run itself when it has none; a calendar knows each again by its number."""
    from icalendar import Event  # 3 MB, which a service at rest does not need

    whole = calendars.calendar("PUBLISH")
    meetings: Sequence[Mapping[str, Any]] = content.get("sessions") or [content]
    places = [place_name(place["arena"], language if language in ONLINE else "nb") for place in content["places"]]
    for number, meeting in enumerate(meetings, 1):
        event = Event()
        event.add("uid", f"{offering_id}-{number}@kursnett")
        event.add("dtstamp", changed_at)
        event.add("last-modified", changed_at)
        event.add("sequence", sequence)
        event.add("status", "CANCELLED" if cancelled else "CONFIRMED")
        event.add("summary", title)
        event.add("dtstart", calendars.local(datetime.fromisoformat(meeting["starts_at"])))
        event.add("dtend", calendars.local(datetime.fromisoformat(meeting["ends_at"])))
        room = " ".join((meeting.get("room") or "").split())
        event.add("location", ", ".join(filter(None, (" / ".join(places), room))))
        event.add("url", address)
        whole.add_component(event)
    return bytes(whole.to_ical())
