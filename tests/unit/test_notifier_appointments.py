"""The line that names a learner in an appointment, by hand or by the library, is read as the same name."""

import pytest
from icalendar import Event

from services.notifier.appointments import _attendee, folded

NAMES = (
    "Kari Åsnes",
    "kari@example.no",
    "Ole-Johan D'Arc jr.",
    "Å" * 100,
    "Ola " * 40 + "Nordmann",
    "Kari; Ola, Per: nei",
    'Kari "Kaja" ^Nes\\n',
    "🧑‍🏫 Bronnøysund č ŧ ž ïj",
)
ADDRESS = "kari.med.et.ganske.langt.navn@en.ganske.lang.underavdeling.av.et.domene.example.no"


@pytest.mark.parametrize("name", NAMES)
def test_the_attendee_is_read_as_it_was_written(name: str) -> None:
    line = _attendee(ADDRESS, name)
    assert max(len(one.encode()) for one in line.split("\r\n")) <= 75
    event = Event.from_ical(f"BEGIN:VEVENT\r\n{line}\r\nEND:VEVENT\r\n")
    attendee = event["ATTENDEE"]
    assert str(attendee) == f"mailto:{ADDRESS}"
    assert attendee.params["CN"] == name
    assert attendee.params["PARTSTAT"] == "ACCEPTED"


@pytest.mark.parametrize("length", range(70, 80))
def test_a_line_is_folded_between_characters_and_not_before_it_must(length: int) -> None:
    """Red control: folded by octets, half of an å stands on each line."""
    for sign in "aå€🧑":
        line = sign * length
        parts = folded(line).encode().split(b"\r\n ")
        assert b"".join(parts).decode() == line
        assert all(len(part) <= 74 and part.decode() for part in parts)
        assert len(parts) == -(-len(line.encode()) // (74 // len(sign.encode()) * len(sign.encode())))
