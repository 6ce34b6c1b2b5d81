"""A mail about a seat carries an appointment: one event per session, known again, with a number that grows."""

import uuid
from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from icalendar import Calendar, Timezone

from contracts.catalogue import OfferingChanged
from contracts.enrolment import LearnerEnrolled, LearnerMoved, LearnerQueued, LearnerWithdrew
from contracts.fields import Place, Session
from kit.calendars import ZONE
from services.notifier import events
from services.notifier.store import remembered
from tests.delivery import Servers
from tests.notifying import START, Sink, World, mail_server, notifier

pytestmark = pytest.mark.anyio

SUMMER = datetime(2099, 3, 30, 16, tzinfo=UTC)  # the week after Oslo's clocks go forward


@pytest.fixture
async def sink() -> AsyncIterator[Sink]:
    async with mail_server() as sink:
        yield sink


@pytest.fixture
async def world(servers: Servers, sink: Sink) -> AsyncIterator[World]:
    async with notifier(servers, sink) as world:
        yield world


def calendars(mail: Any) -> list[Any]:
    return [part for part in mail.walk() if part.get_content_type() == "text/calendar"]


def appointment(mail: Any) -> tuple[str, list[Any]]:
    """(method, events) of the one calendar part."""
    [part] = calendars(mail)
    whole = Calendar.from_ical(part.get_content())
    assert part.get_param("method") == str(whole["METHOD"])
    assert [str(zone["TZID"]) for zone in whole.walk("VTIMEZONE")] == ["Europe/Oslo"]
    return str(whole["METHOD"]), list(whole.walk("VEVENT"))


async def kari(world: World) -> tuple[uuid.UUID, dict[str, Any]]:
    learner = uuid.uuid4()
    await world.contact_is_known(learner, "kari@example.no")
    return learner, world.about(learner, uuid.uuid4())


async def with_sessions(world: World, version: int = 2, meetings: Sequence[Session] | None = None) -> None:
    if meetings is None:
        meetings = [
            Session(starts_at=START, ends_at=START + timedelta(hours=2), room="Møterom; 2. etasje, øst"),
            Session(starts_at=SUMMER, ends_at=SUMMER + timedelta(hours=2)),
        ]
    changed = OfferingChanged(
        offering_id=world.offering,
        course_id=world.course,
        partner="torgar",
        key="v27",
        version=version,
        starts_at=START,
        ends_at=SUMMER + timedelta(hours=2),
        sessions=list(meetings),
        places=[Place(arena="mosjoen", capacity=20)],
    )
    await world.hear(events.courses, [changed])


async def test_a_seat_is_entered_moved_and_taken_out_again(world: World, sink: Sink) -> None:
    await with_sessions(world)
    _, about = await kari(world)
    async with world.sending():
        for count, said in enumerate(
            (
                LearnerEnrolled(**about, place="online"),
                LearnerMoved(**about, from_place="online", place="mosjoen"),
                LearnerWithdrew(**about, place="mosjoen"),
            ),
            1,
        ):
            await world.hear(events.enrolments, [said])
            await world.all_are("sent", count)
    found = [appointment(mail) for mail in sink.mails]
    assert [method for method, _ in found] == ["REQUEST", "REQUEST", "CANCEL"]
    assert [[int(one["SEQUENCE"]) for one in meetings] for _, meetings in found] == [[0, 0], [1, 1], [2, 2]]
    uids = [[str(one["UID"]) for one in meetings] for _, meetings in found]
    assert uids[0] == uids[1] == uids[2]
    assert len(set(uids[0])) == 2
    first, second = found[1][1]
    assert str(first["LOCATION"]) == "Mosjøen, Møterom; 2. etasje, øst"
    assert (first["DTSTART"].dt, second["DTSTART"].dt) == (START, SUMMER)
    assert [one["DTSTART"].dt.strftime("%H:%M") for one in (first, second)] == ["18:00", "18:00"]
    assert str(first["DTSTART"].params["TZID"]) == "Europe/Oslo"
    assert str(first["ATTENDEE"]) == "mailto:kari@example.no"
    assert [str(one["STATUS"]) for one in found[2][1]] == ["CANCELLED", "CANCELLED"]


def entered(mails: Sequence[Any]) -> dict[str, datetime]:
    """What stands in the calendar of somebody who has these mails: UID -> when."""
    newest: dict[str, Any] = {}
    for mail in mails:
        for meeting in appointment(mail)[1] if calendars(mail) else []:
            uid = str(meeting["UID"])
            if uid not in newest or int(meeting["SEQUENCE"]) >= int(newest[uid]["SEQUENCE"]):
                newest[uid] = meeting
    return {uid: one["DTSTART"].dt for uid, one in newest.items() if str(one["STATUS"]) != "CANCELLED"}


def each_week(count: int) -> list[Session]:
    starts = [START + timedelta(weeks=week) for week in range(count)]
    return [Session(starts_at=start, ends_at=start + timedelta(hours=2)) for start in starts]


@pytest.mark.parametrize("told", ["of each change", "of none"])
async def test_a_meeting_that_is_dropped_leaves_the_calendar(world: World, sink: Sink, told: str) -> None:
    """Red control: with the meetings that there are now alone, people come to those that were."""
    await with_sessions(world, 2, each_week(4))
    learner, about = await kari(world)
    if told == "of none":
        await world.rows("INSERT INTO preferences VALUES ($1::uuid::text, 'changes', 'email', 'off')", learner)
    async with world.sending():
        await world.hear(events.enrolments, [LearnerEnrolled(**about, place="mosjoen")])
        await world.no_more_open()
        assert len(entered(sink.mails)) == 4
        for version, count in enumerate((2, 3, 0), 3):
            await with_sessions(world, version, each_week(count)[1:])
            await world.no_more_open()
            if told == "of each change":
                starts = [one.starts_at for one in each_week(count)[1:]]
                assert list(entered(sink.mails).values()) == (starts or [START])
        await world.hear(events.enrolments, [LearnerWithdrew(**about, place="mosjoen")])
        await world.no_more_open()
    assert entered(sink.mails) == {}
    method, meetings = appointment(sink.mails[-1])
    assert (method, len({str(one["UID"]) for one in meetings})) == ("CANCEL", len(meetings))


async def test_a_meeting_that_is_dropped_before_a_withdrawal_is_mailed_leaves_the_calendar(
    world: World, sink: Sink
) -> None:
    """Who has left is told of no change: the mail about their leaving alone can take it out."""
    await with_sessions(world, 2, each_week(4))
    _, about = await kari(world)
    async with world.sending():
        await world.hear(events.enrolments, [LearnerEnrolled(**about, place="mosjoen")])
        await world.no_more_open()
    await world.hear(events.enrolments, [LearnerWithdrew(**about, place="mosjoen")])
    for version, count in enumerate((3, 2, 3, 1), 3):
        await with_sessions(world, version, each_week(count))
    async with world.sending():
        await world.no_more_open()
    assert entered(sink.mails) == {}


async def test_a_meeting_that_is_dropped_after_a_restore_leaves_the_calendar(world: World, sink: Sink) -> None:
    """What was sent before the restore has no words here. Red control: it stands for what the run had before."""
    await with_sessions(world, 2, each_week(4))
    learner, about = await kari(world)
    async with world.sending():
        await world.hear(events.enrolments, [LearnerEnrolled(**about, place="mosjoen")])
        await world.no_more_open()
        told: dict[str, Any] = {"template": "changed", "channel": "email", "about": about["enrolment_id"]}
        before = remembered.Sent(
            **told,
            notice_id=uuid.uuid4(),
            learner_id=learner,
            event_id="before",
            offering_id=world.offering,
            at=datetime.now(UTC),
        )
        await world.here.database.run(lambda conn: remembered.keep(conn, [before]))
        await with_sessions(world, 3, each_week(2))
        await world.no_more_open()
        assert list(entered(sink.mails).values()) == [one.starts_at for one in each_week(2)]
        await with_sessions(world, 4, each_week(3))
        await world.no_more_open()
    assert list(entered(sink.mails).values()) == [one.starts_at for one in each_week(3)]


async def test_without_sessions_the_offering_is_one_appointment(world: World, sink: Sink) -> None:
    _, about = await kari(world)
    await world.hear(events.enrolments, [LearnerEnrolled(**about, place="mosjoen")])
    async with world.sending():
        await world.all_are("sent", 1)
    _, [meeting] = appointment(sink.mails[0])
    assert (meeting["DTSTART"].dt, meeting["DTEND"].dt) == (START, START + timedelta(hours=2))
    kinds = [part.get_content_type() for part in sink.mails[0].walk()]
    assert kinds == ["multipart/alternative", "text/plain", "text/html", "text/calendar"]


async def test_who_never_had_a_seat_has_nothing_to_take_out(world: World, sink: Sink) -> None:
    _, about = await kari(world)
    await world.hear(events.enrolments, [LearnerQueued(**about, places=["mosjoen"], place_in_line=1)])
    await world.hear(events.enrolments, [LearnerWithdrew(**about)])
    async with world.sending():
        await world.all_are("sent", 2)
    assert [calendars(mail) for mail in sink.mails] == [[], []]


async def test_a_mail_that_is_sent_again_has_the_same_number(world: World, sink: Sink) -> None:
    _, about = await kari(world)
    sink.data = ["taken, then gone"]
    await world.hear(events.enrolments, [LearnerEnrolled(**about, place="mosjoen")])
    async with world.sending():
        await world.all_are("deferred", 1)
        await world.hurry()
        await world.all_are("sent", 1)
    assert [int(one["SEQUENCE"]) for mail in sink.mails for one in appointment(mail)[1]] == [0, 0]


async def test_lines_of_the_appointment_are_folded_and_end_as_they_must(world: World, sink: Sink) -> None:
    _, about = await kari(world)
    await world.hear(events.enrolments, [LearnerEnrolled(**about, place="mosjoen")])
    async with world.sending():
        await world.all_are("sent", 1)
    [part] = calendars(sink.mails[0])
    raw = part.get_payload(decode=True)
    assert raw.endswith(b"END:VCALENDAR\r\n")
    assert all(len(line) <= 75 for line in raw.split(b"\r\n"))
    assert b"\n" not in raw.replace(b"\r\n", b"")


def test_the_zone_that_is_written_out_is_oslos() -> None:
    written = Timezone.from_ical(ZONE)
    assert isinstance(written, Timezone)
    zone = written.to_tz()
    oslo = ZoneInfo("Europe/Oslo")
    at = datetime(2026, 1, 1, 12)  # noqa: DTZ001 - both zones are asked about the same wall clock
    while at.year < 2036:
        assert at.replace(tzinfo=zone).utcoffset() == at.replace(tzinfo=oslo).utcoffset(), at
        at += timedelta(days=1)
