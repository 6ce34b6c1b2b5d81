"""Who has a seat is reminded a week and a day before, by Oslo's clock: once, at the new time when it is moved, not when
there is nothing to come to."""

import asyncio
import uuid
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from contracts.catalogue import OfferingCancelled, OfferingChanged
from contracts.enrolment import EnrolmentFinished, EnrolmentRestated, LearnerEnrolled, LearnerQueued, LearnerWithdrew
from contracts.fields import Place, Session
from kit.calendars import OSLO
from kit.database import Connection
from services.notifier import events, reminders
from tests.delivery import Servers
from tests.integration.test_notifier_hours import at
from tests.notifying import Sink, World, mail_server, notifier

pytestmark = pytest.mark.anyio

MINUTE, HOUR, DAY = timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)
LONG_AGO = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.fixture
async def sink() -> AsyncIterator[Sink]:
    async with mail_server() as sink:
        yield sink


@pytest.fixture
async def world(servers: Servers, sink: Sink) -> AsyncIterator[World]:
    async with notifier(servers, sink) as world:
        yield world


async def planned(world: World, starts_at: datetime, version: int = 2, **how: Any) -> None:
    """The run begins then."""
    whole: dict[str, Any] = {
        "offering_id": world.offering,
        "course_id": world.course,
        "partner": "torgar",
        "key": "v27",
        "version": version,
        "starts_at": starts_at,
        "ends_at": starts_at + 2 * HOUR,
        "places": [Place(arena="mosjoen", capacity=20)],
    }
    await world.hear(events.courses, [OfferingChanged(**whole | how)])


async def seated(world: World, at: datetime = LONG_AGO) -> dict[str, Any]:
    """A learner who got a seat then."""
    about = world.about(uuid.uuid4())
    await world.contact_is_known(about["learner_id"], "kari@example.no")
    await world.hear(events.enrolments, [LearnerEnrolled(**about, place="mosjoen")], at=at)
    return about


async def look(world: World, at: datetime) -> list[int]:
    """What is owed when it is that late: the days of each reminder."""

    async def then(conn: Connection) -> None:
        offset = "extract(epoch FROM $1::timestamptz - now()) || ' seconds'"
        await conn.execute(f"SELECT set_config('kursnett.clock_offset', {offset}, true)", at)
        await reminders.turn(conn)

    await world.here.database.run(then, "worker")
    return await owed(world)


async def owed(world: World) -> list[int]:
    rows = await world.rows("SELECT facts ->> 'days' AS days FROM notices WHERE template = 'reminder' ORDER BY id")
    return [int(row["days"]) for row in rows]


# (when it begins, how many days before, when that is): the clock shows the same hour in Oslo, summer time or not.
DAYS_OF_OSLO = [
    (datetime(2049, 3, 31, 16, tzinfo=UTC), 7, datetime(2049, 3, 24, 17, tzinfo=UTC)),  # 18.00 before and after
    (datetime(2049, 3, 28, 16, tzinfo=UTC), 1, datetime(2049, 3, 27, 17, tzinfo=UTC)),  # a day of 23 hours between
    (datetime(2026, 10, 31, 17, tzinfo=UTC), 7, datetime(2026, 10, 24, 16, tzinfo=UTC)),
    (datetime(2049, 10, 31, 17, tzinfo=UTC), 1, datetime(2049, 10, 30, 16, tzinfo=UTC)),  # one of 25
    (
        datetime(2049, 3, 29, 0, 30, tzinfo=UTC),
        1,
        datetime(2049, 3, 28, 1, 30, tzinfo=UTC),
    ),  # 02.30 is not there: 03.30
    (datetime(2049, 11, 1, 1, 30, tzinfo=UTC), 1, datetime(2049, 10, 31, 1, 30, tzinfo=UTC)),  # 02.30 twice: the second
]


@pytest.mark.parametrize(("starts_at", "days", "moment"), DAYS_OF_OSLO)
async def test_a_reminder_comes_at_the_same_hour_in_oslo(
    world: World, starts_at: datetime, days: int, moment: datetime
) -> None:
    await planned(world, starts_at)
    await seated(world)
    assert days not in await look(world, moment - MINUTE)
    assert days in await look(world, moment)


async def test_each_is_reminded_twice_however_often_and_by_however_many_it_is_looked(world: World) -> None:
    starts_at = datetime.now(UTC) + DAY - MINUTE
    await planned(world, starts_at)
    await seated(world)
    for _ in range(2):
        await asyncio.gather(
            *(look(world, starts_at - 7 * DAY) for _ in range(4))
        )  # replicas, and again after a restart
        assert await owed(world) == [7]
    for late in (HOUR, 3 * HOUR):
        await asyncio.gather(*(look(world, starts_at - DAY + late) for _ in range(4)))
        assert await owed(world) == [7, 1]


async def test_who_is_back_in_a_run_that_goes_on_is_reminded(world: World) -> None:
    starts_at = datetime.now(UTC) + 20 * DAY
    await planned(world, starts_at)
    about = await seated(world)
    await world.hear(events.enrolments, [EnrolmentFinished(**about, place="mosjoen")])
    assert await look(world, starts_at - 7 * DAY) == [], "the control: who has finished is not"
    await world.hear(events.enrolments, [EnrolmentRestated(**about, state="associated", place="mosjoen")])
    assert await look(world, starts_at - 7 * DAY) == [7]


async def test_what_is_long_past_or_known_anyway_is_not_reminded_of(world: World) -> None:
    starts_at = datetime.now(UTC) + 20 * DAY
    await planned(world, starts_at)
    await seated(world)
    queued = world.about(uuid.uuid4())
    await world.hear(events.enrolments, [LearnerQueued(**queued, places=["mosjoen"], place_in_line=1)], at=LONG_AGO)
    assert await look(world, starts_at - 5 * DAY) == []  # nobody looked for two days: it says nothing new
    await seated(world, starts_at - 6 * HOUR)
    assert await look(world, starts_at - 3 * HOUR) == [1]  # who got the seat today has a mail of today
    assert await look(world, starts_at + MINUTE) == [1]


async def test_a_course_that_begins_with_its_first_session_is_reminded_of_by_that(world: World) -> None:
    first = datetime.now(UTC) + 20 * DAY
    meetings = [Session(starts_at=first + n * DAY, ends_at=first + n * DAY + HOUR, room=None) for n in (3, 1)]
    await planned(world, first, sessions=meetings, ends_at=first + 4 * DAY)
    await seated(world)
    assert await look(world, first + DAY - 7 * DAY - 2 * MINUTE - HOUR) == []
    assert await look(world, first + DAY - 7 * DAY + HOUR) == [7]


async def test_a_partner_says_how_long_before_its_learners_are_reminded(world: World, sink: Sink) -> None:
    starts_at = datetime.now(UTC) + 30 * DAY
    await planned(world, starts_at, reminder_days=[14, 3])
    await seated(world)
    assert await look(world, starts_at - 14 * DAY - MINUTE) == []
    assert await look(world, starts_at - 14 * DAY + HOUR + MINUTE) == [14]  # an hour, should the clocks change
    await planned(world, starts_at, version=3, reminder_days=[3])
    assert await look(world, starts_at - 14 * DAY + 2 * HOUR) == [], "what has not gone is taken back"
    assert await look(world, starts_at - 7 * DAY + 2 * HOUR) == []
    assert await look(world, starts_at - 3 * DAY + HOUR + MINUTE) == [3]
    await planned(world, starts_at, version=4, reminder_days=[])
    assert await look(world, starts_at - DAY + 2 * HOUR) == []


async def test_a_course_that_is_moved_is_reminded_of_at_its_new_time(world: World) -> None:
    starts_at = datetime.now(UTC) + 20 * DAY
    await planned(world, starts_at)
    await seated(world)
    assert await look(world, starts_at - 7 * DAY + 2 * HOUR) == [7]  # owed and not sent when the run is moved
    await planned(world, starts_at + 14 * DAY, version=3)
    assert await look(world, starts_at - 7 * DAY + 3 * HOUR) == []
    assert await look(world, starts_at - DAY + 2 * HOUR) == []
    assert await look(world, starts_at + 7 * DAY + 2 * HOUR) == [7]
    assert await look(world, starts_at + 13 * DAY + 2 * HOUR) == [7, 1]


async def test_who_was_reminded_is_reminded_anew_of_a_course_that_is_put_off(world: World) -> None:
    """The last word of it was that it begins tomorrow. Red control: owed once for a run and a number of days."""
    starts_at = datetime.now(UTC) + 20 * DAY
    await planned(world, starts_at)
    await seated(world)
    for days in (7, 1):
        await look(world, starts_at - days * DAY + 2 * HOUR)
    await world.rows("UPDATE notices SET state = 'sent', message_id = id::text WHERE template = 'reminder'")
    assert await owed(world) == [7, 1]
    later = starts_at + 28 * DAY
    await planned(world, later, version=3)
    assert await look(world, later - 7 * DAY - 2 * HOUR) == [7, 1]
    for _ in range(2):
        await asyncio.gather(*(look(world, later - 7 * DAY + 2 * HOUR) for _ in range(4)))
        assert await owed(world) == [7, 1, 7]
    assert await look(world, later - DAY + 2 * HOUR) == [7, 1, 7, 1]


async def test_an_hour_earlier_or_later_is_no_reason_to_remind_twice(world: World) -> None:
    starts_at = datetime.now(UTC) + 20 * DAY
    await planned(world, starts_at)
    await seated(world)
    assert await look(world, starts_at - DAY + 2 * HOUR) == [1]
    await world.rows("UPDATE notices SET state = 'sent', message_id = 'm' WHERE template = 'reminder'")
    for version, hours in enumerate((-10, 9, 1, -2), 3):
        await planned(world, starts_at + hours * HOUR, version=version)
        assert await look(world, starts_at - DAY + 10 * HOUR) == [1], hours


async def test_a_first_session_that_is_moved_moves_its_reminder_though_the_run_begins_when_it_did(world: World) -> None:
    begins = datetime.now(UTC) + 20 * DAY
    first, later = begins + 2 * DAY, begins + 16 * DAY

    def meeting(at: datetime) -> dict[str, Any]:
        return {"sessions": [Session(starts_at=at, ends_at=at + HOUR, room=None)], "ends_at": begins + 30 * DAY}

    await planned(world, begins, **meeting(first))
    await seated(world)
    assert await look(world, first - 7 * DAY + 2 * HOUR) == [7]  # owed, and held for the morning
    await planned(world, begins, version=3, **meeting(later))
    assert await look(world, first - 7 * DAY + 3 * HOUR) == []
    assert await look(world, later - 7 * DAY + 2 * HOUR) == [7]


async def test_a_session_before_the_run_begins_is_reminded_of_once(world: World) -> None:
    begins = datetime.now(UTC) + 30 * DAY
    first = begins - 9 * DAY
    meeting = Session(starts_at=first, ends_at=first + HOUR, room=None)
    await planned(world, begins, sessions=[meeting])
    await seated(world)
    ids = []
    for minutes in (1, 2):
        assert await look(world, first - 7 * DAY + minutes * MINUTE) == [7]
        ids.append(await world.rows("SELECT id FROM notices WHERE template = 'reminder'"))
    assert ids[0] == ids[1]  # what is taken back at each look loses its place, its hour and its attempts


@pytest.mark.parametrize("end", ["withdrawn", "cancelled"])
@pytest.mark.parametrize("after", ["before it is owed", "before it is sent"])
async def test_nobody_is_reminded_of_what_they_gave_up_or_of_what_is_cancelled(
    world: World, sink: Sink, end: str, after: str
) -> None:
    starts_at = datetime.now(UTC) + 7 * DAY - 3 * HOUR
    await planned(world, starts_at)
    about = await seated(world)
    if after == "before it is sent":
        assert await look(world, datetime.now(UTC)) == [7]
    if end == "withdrawn":
        await world.hear(events.enrolments, [LearnerWithdrew(**about, place="mosjoen")])
    else:
        run: dict[str, Any] = {"offering_id": world.offering, "course_id": world.course, "partner": "torgar"}
        await world.hear(events.courses, [OfferingCancelled(**run, version=9)])
    async with world.sending():  # the sender itself looks again, whether or not anybody has taken it back
        await world.no_more_open()
    assert not [mail for mail in sink.mails if "Påminnelse" in mail["Subject"]]
    assert await look(world, datetime.now(UTC)) == ([7] if after == "before it is sent" else [])


async def test_what_is_wrong_by_now_is_taken_back_before_it_goes(world: World) -> None:
    starts_at = datetime.now(UTC) + 7 * DAY - 3 * HOUR
    await planned(world, starts_at)
    about = await seated(world)
    assert await look(world, datetime.now(UTC)) == [7]
    await world.hear(events.enrolments, [LearnerWithdrew(**about, place="mosjoen")])
    assert await look(world, datetime.now(UTC)) == []


async def test_a_meeting_that_is_near_is_reminded_of_at_night_though_the_run_began_long_ago(
    servers: Servers, sink: Sink
) -> None:
    """Red control: with the run's own beginning, which is over, it would wait for the morning after."""
    now = datetime.now(OSLO)
    quiet = f"{now - HOUR:%H:%M}-{now + 20 * HOUR:%H:%M}"  # it begins three hours after them, at whatever hour we look
    async with notifier(servers, sink, quiet_hours=quiet) as world:
        first = datetime.now(UTC) + DAY - HOUR
        meeting = Session(starts_at=first, ends_at=first + HOUR, room="Rom 7")
        await planned(world, first - 9 * DAY, sessions=[meeting], ends_at=first + 2 * HOUR)
        await seated(world)
        assert await look(world, datetime.now(UTC)) == [1]
        async with world.sending():
            await world.no_more_open()
        assert "Rom 7" in sink.mails[-1].get_body(("plain",)).get_content()


async def test_a_reminder_says_when_and_where_in_a_mail(world: World, sink: Sink) -> None:
    starts_at = datetime.now(UTC) + 7 * DAY - 3 * HOUR
    await planned(world, starts_at)
    await seated(world)
    await look(world, datetime.now(UTC))
    async with world.sending():
        await world.all_are("sent", 2)
    mail = sink.mails[1]
    assert mail["Subject"] == "Påminnelse om Ledelse"
    text = mail.get_body(("plain",)).get_content()
    assert "om omtrent en uke" in text
    assert "Sted: Mosjøen" in text
    assert mail.get_content_type() == "multipart/alternative"


async def test_nobody_is_reminded_of_what_has_begun_since_it_was_moved_forward(world: World, sink: Sink) -> None:
    """Red control: it was to begin later when the reminder was owed, and a mail server was away meanwhile."""
    now = datetime.now(UTC)
    await planned(world, now + DAY - HOUR)
    await seated(world)
    assert await look(world, now) == [1]
    await planned(world, now - MINUTE, version=3)
    async with world.sending():
        await world.no_more_open()
    assert not [mail for mail in sink.mails if "Påminnelse" in mail["Subject"]]


async def test_a_reminder_that_was_put_off_says_how_long_it_is_by_then(world: World, sink: Sink) -> None:
    starts_at = datetime.now(UTC) + 7 * DAY - 3 * HOUR
    await planned(world, starts_at)
    await seated(world)
    assert await look(world, datetime.now(UTC)) == [7]
    async with at(world, starts_at - 2 * DAY - HOUR), world.sending():
        await world.all_are("sent", 2)
    assert "om omtrent 2 dager" in sink.mails[1].get_body(("plain",)).get_content()
