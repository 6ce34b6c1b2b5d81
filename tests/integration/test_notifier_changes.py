"""What has changed about an offering is told to those who sit or wait there, as it was and as it is."""

import asyncio
import uuid
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any, Literal

import pytest
from icalendar import Calendar

from contracts.catalogue import OfferingChanged
from contracts.enrolment import (
    EnrolmentFinished,
    EnrolmentPending,
    EnrolmentRestated,
    LearnerEnrolled,
    LearnerGotNoSeat,
    LearnerQueued,
    LearnerWithdrew,
    SeatOffered,
)
from contracts.fields import Place, Session
from kit import sealing
from services.notifier import events
from services.notifier.store import changes
from tests.delivery import Servers, until
from tests.notifying import PUBLIC, START, Sink, World, mail_server, notifier

pytestmark = pytest.mark.anyio

HERE = [Place(arena="mosjoen", capacity=20)]


@pytest.fixture
async def sink() -> AsyncIterator[Sink]:
    async with mail_server() as sink:
        yield sink


@pytest.fixture
async def world(servers: Servers, sink: Sink) -> AsyncIterator[World]:
    async with notifier(servers, sink) as world:
        yield world


def changed(world: World, version: int, **how: Any) -> OfferingChanged:
    whole: dict[str, Any] = {
        "offering_id": world.offering,
        "course_id": world.course,
        "partner": "torgar",
        "key": "v27",
        "version": version,
        "starts_at": START,
        "ends_at": START + timedelta(hours=2),
        "places": HERE,
    }
    return OfferingChanged(**(whole | how))


async def known(world: World, name: str) -> dict[str, Any]:
    learner = uuid.uuid4()
    await world.contact_is_known(learner, f"{name}@example.no")
    return world.about(learner, uuid.uuid4())


async def owed(world: World) -> int:
    return len(await world.rows("SELECT FROM notices WHERE template = 'changed'"))


async def test_all_who_sit_or_wait_hear_how_it_was_and_how_it_is(world: World, sink: Sink) -> None:
    about = {name: await known(world, name) for name in ("seated", "offered", "queued", "asked", "gone")}
    expires_at = START - timedelta(days=1)
    sealed = sealing.seal(PUBLIC, {"accept": "a", "decline": "d"})
    offer: dict[str, Any] = {"offer_id": uuid.uuid4(), "place": "mosjoen", "on_lapse": "leave", "sealed": sealed}
    await world.hear(
        events.enrolments,
        [
            LearnerEnrolled(**about["seated"], place="mosjoen"),
            SeatOffered(**about["offered"], **offer, expires_at=expires_at),
            LearnerQueued(**about["queued"], places=["mosjoen"], place_in_line=1),
            EnrolmentPending(**about["asked"], places=["mosjoen"]),  # for hours that it is not held at any more
            LearnerEnrolled(**about["gone"], place="mosjoen"),
            LearnerWithdrew(**about["gone"], place="mosjoen"),
        ],
    )
    word = uuid.uuid4()
    async with world.sending():
        await world.all_are("sent", 6)
        later = changed(world, 2, starts_at=START + timedelta(hours=1), ends_at=START + timedelta(hours=3))
        await world.hear(events.courses, [later], word)
        await world.hear(events.courses, [later], word)
        await world.all_are("sent", 10)
    mails = {mail["To"].addresses[0].username: mail for mail in sink.mails if mail["Subject"] == "Endring i Ledelse"}
    assert sorted(mails) == ["asked", "offered", "queued", "seated"]
    for mail in mails.values():
        lines = mail.get_body(("plain",)).get_content().splitlines()
        assert lines[lines.index("Før:") + 1] == "- torsdag 14. januar 2049 kl. 18.00–20.00"
        assert lines[lines.index("Nå:") + 1] == "- torsdag 14. januar 2049 kl. 19.00–21.00"
    parts = {
        name: [
            Calendar.from_ical(part.get_content()) for part in mail.walk() if part.get_content_subtype() == "calendar"
        ]
        for name, mail in mails.items()
    }
    [entry] = parts.pop("seated")
    [event] = entry.walk("VEVENT")
    assert (str(entry["METHOD"]), event["SEQUENCE"], event.decoded("DTSTART").hour) == ("REQUEST", 1, 19)
    assert list(parts.values()) == [[], [], []]  # without a seat there is nothing to enter


async def test_a_room_and_a_closed_place_are_told_and_capacity_is_not(world: World, sink: Sink) -> None:
    await world.hear(events.enrolments, [LearnerEnrolled(**await known(world, "kari"), place="mosjoen")])
    more = [Place(arena="mosjoen", capacity=40), Place(arena="online", capacity=5)]
    await world.hear(events.courses, [changed(world, 2, places=more, minimum=9)])
    assert await owed(world) == 0
    meeting = Session(starts_at=START, ends_at=START + timedelta(hours=2), room="Rom 1")
    other = meeting.model_copy(update={"room": "Rom 2"})
    async with world.sending():
        await world.hear(events.courses, [changed(world, 3, places=more, sessions=[meeting])])
        await world.all_are("sent", 2)
        await world.hear(events.courses, [changed(world, 4, places=more, sessions=[other])])
        await world.all_are("sent", 3)
        await world.hear(events.courses, [changed(world, 5, places=HERE, sessions=[other])])
        await world.all_are("sent", 4)
    texts = [mail.get_body(("plain",)).get_content().replace("\r", "") for mail in sink.mails[1:]]
    assert "kl. 18.00–20.00, Rom 1\n\nNå:" in texts[1]
    assert "kl. 18.00–20.00, Rom 2" in texts[1]
    assert "Tar ikke flere påmeldinger: På nett" in texts[2]
    assert "Før:" not in texts[2]


async def test_an_old_state_and_several_at_once_tell_no_more_than_they_should(world: World) -> None:
    await world.hear(events.enrolments, [LearnerEnrolled(**await known(world, "kari"), place="mosjoen")])
    one, two = (changed(world, n, starts_at=START - timedelta(hours=n)) for n in (3, 4))
    await world.hear(events.courses, [one, two])  # heard together: told once, from the first to the last
    assert await owed(world) == 1
    await world.hear(events.courses, [one])
    assert await owed(world) == 1
    over = datetime.now(UTC) - timedelta(days=900)
    await world.hear(events.courses, [changed(world, 5, starts_at=over, ends_at=over + timedelta(hours=1))])
    assert await owed(world) == 1


async def test_a_change_locks_the_offering_until_it_is_told(world: World) -> None:
    """A seat heard of meanwhile waits: it is told of the change, or its first mail knows it already."""
    async with world.here.database.reading() as conn, conn.transaction():
        await changes.runs(conn, [world.offering])
        async with world.here.database.reading() as other:
            rows = await other.fetch("SELECT offering_id FROM offerings FOR SHARE SKIP LOCKED")
            assert rows == []


async def test_a_change_does_not_wait_for_a_seat_that_waits_for_it(world: World) -> None:
    """A batch of enrolments locks its seats and then their runs; a change its run and then the seats.

    Red control: waiting for the seat, the two end in a deadlock.
    """
    learner = uuid.uuid4()
    await world.contact_is_known(learner, "kari@example.no")
    await world.hear(events.enrolments, [LearnerEnrolled(**world.about(learner), place="mosjoen")])
    async with world.here.database.reading() as conn, conn.transaction():
        await conn.execute("SELECT FROM enrolments FOR UPDATE")
        async with asyncio.timeout(20):
            await world.hear(events.courses, [changed(world, 2, starts_at=START + timedelta(hours=1))])
    assert await owed(world) == 1


@pytest.mark.parametrize("then", ["moved again", "moved back"])
async def test_a_change_that_was_put_off_is_told_with_the_next(world: World, sink: Sink, then: str) -> None:
    """Red control: first a mail with a time that holds no more, and then one whose "before" nobody was told of."""
    await world.hear(events.enrolments, [LearnerEnrolled(**await known(world, "kari"), place="mosjoen")])
    hour = timedelta(hours=1)
    async with world.sending():
        await world.all_are("sent", 1)
        sink.rcpt = ["451 4.3.0 later"]
        await world.hear(events.courses, [changed(world, 2, starts_at=START + hour, ends_at=START + 3 * hour)])
        await until(lambda: world.rows("SELECT FROM notices WHERE state = 'deferred'"))
        by = 2 * hour if then == "moved again" else 0 * hour
        await world.hear(events.courses, [changed(world, 3, starts_at=START + by, ends_at=START + by + 2 * hour)])
        await world.hurry()
        await world.no_more_open()
    rows = await world.rows("SELECT reason FROM notices WHERE template = 'changed' ORDER BY id")
    back = then == "moved back"
    assert [row["reason"] for row in rows] == ["told_with_later", "changed_back" if back else None]
    texts = [mail.get_body(("plain",)).get_content().splitlines() for mail in sink.mails[1:]]
    assert len(texts) == (0 if back else 1)
    for lines in texts:
        assert lines[lines.index("Før:") + 1] == "- torsdag 14. januar 2049 kl. 18.00–20.00"
        assert lines[lines.index("Nå:") + 1] == "- torsdag 14. januar 2049 kl. 20.00–22.00"


async def test_a_change_that_may_have_been_told_is_not_told_with_the_next(world: World, sink: Sink) -> None:
    await world.hear(events.enrolments, [LearnerEnrolled(**await known(world, "kari"), place="mosjoen")])
    hour = timedelta(hours=1)
    async with world.sending():
        await world.all_are("sent", 1)
        sink.data = ["taken, then gone"]
        await world.hear(events.courses, [changed(world, 2, starts_at=START + hour, ends_at=START + 3 * hour)])
        await until(lambda: world.rows("SELECT FROM notices WHERE state = 'deferred'"))
        await world.hear(events.courses, [changed(world, 3, starts_at=START, ends_at=START + 2 * hour)])
        await world.hurry()
        await world.all_are("sent", 3)


def met(world: World, version: int, *days: int, room: str | None = None) -> OfferingChanged:
    """A run that meets on these days from now."""
    starts = [datetime.now(UTC).replace(microsecond=0) + timedelta(days=day) for day in days]
    meetings = [Session(starts_at=at, ends_at=at + timedelta(hours=2), room=room) for at in starts]
    whole = {"starts_at": meetings[0].starts_at, "ends_at": meetings[-1].ends_at}
    return changed(world, version, sessions=meetings, **whole)


@pytest.mark.parametrize("finished", ["later", "before it is heard", "before it is told"])
@pytest.mark.parametrize("pending", [False, True])
async def test_that_the_last_meeting_is_dropped_is_told_though_nothing_is_to_come(
    world: World, sink: Sink, finished: str, pending: bool
) -> None:
    """Red control: who sits there comes to a locked door, and what was to be told of the meeting is told no more."""
    about = await known(world, "kari")
    end = [EnrolmentFinished(**about, place="mosjoen")]  # enrolment's word that the run is over
    await world.hear(events.courses, [met(world, 2, -14, -7, 7)])
    await world.hear(events.enrolments, [LearnerEnrolled(**about, place="mosjoen")])
    async with world.sending():
        await world.all_are("sent", 1)
    if pending:
        await world.hear(events.courses, [met(world, 3, -14, -7, 8)])
    if finished == "before it is heard":
        await world.hear(events.enrolments, end)
    await world.hear(events.courses, [met(world, 4, -14, -7)])
    if finished == "before it is told":
        await world.hear(events.enrolments, end)
    async with world.sending():
        await world.no_more_open()
    assert await world.states() == {"sent": 2} | ({"suppressed": 1} if pending else {})
    mail = sink.mails[1]
    assert mail["Subject"] == "Endring i Ledelse"
    [part] = [part for part in mail.walk() if part.get_content_subtype() == "calendar"]
    entered = Calendar.from_ical(part.get_content()).walk("VEVENT")
    assert [str(one["STATUS"]) for one in entered] == ["CONFIRMED", "CONFIRMED", "CANCELLED"]
    await world.hear(events.courses, [met(world, 5, -14, -7, 7)])  # it was a slip: who was told of it is told that, too
    async with world.sending():
        await world.no_more_open()
    assert (await world.states())["sent"] == 3


@pytest.mark.parametrize("heard", ["in time", "after the end", "when all are back"])
async def test_a_move_that_was_said_before_the_end_is_told_once_whenever_it_is_heard(
    world: World, sink: Sink, heard: str
) -> None:
    """Enrolment, which hears of it late, too, has said that the run is over, and then that all sit there as before."""
    about = await known(world, "kari")
    back = EnrolmentRestated(**about, state="associated", place="mosjoen")
    words = [EnrolmentFinished(**about, place="mosjoen"), back, back]
    over_at = START if heard == "in time" else datetime.now(UTC) - timedelta(hours=1)
    old = {"starts_at": over_at - timedelta(days=9), "ends_at": over_at}
    await world.hear(events.courses, [changed(world, 2, **old)])
    await world.hear(events.enrolments, [LearnerEnrolled(**about, place="mosjoen")])
    moved = changed(world, 3, starts_at=START, ends_at=START + timedelta(hours=2))
    async with world.sending():
        await world.all_are("sent", 1)
        steps = {"in time": 0, "after the end": 1, "when all are back": 2}[heard]
        for said in words[:steps]:
            await world.hear(events.enrolments, [said])
        await world.hear(events.courses, [moved], at=datetime.now(UTC) - timedelta(hours=2))
        for said in words[steps:]:
            await world.hear(events.enrolments, [said])
        await world.all_are("sent", 2)
    assert sink.mails[1]["Subject"] == "Endring i Ledelse"
    [row] = await world.rows("SELECT state, place FROM enrolments")
    assert tuple(row) == ("associated", "mosjoen")


@pytest.mark.parametrize("state", ["pending", "queued"])
@pytest.mark.parametrize("steps", [1, 2, 3])
async def test_a_move_said_before_the_end_is_told_to_who_waited_whenever_it_is_heard(
    world: World, sink: Sink, state: Literal["pending", "queued"], steps: int
) -> None:
    """Enrolment, which heard of it late, too, has told them that they got no seat, and then that they wait again."""
    about = await known(world, "kari")
    asked = {
        "pending": EnrolmentPending(**about, places=["mosjoen"]),
        "queued": LearnerQueued(**about, places=["mosjoen"], place_in_line=1),
    }
    waited_for: Literal["approval", "seat"] = "approval" if state == "pending" else "seat"
    back = EnrolmentRestated(**about, state=state)
    words = [LearnerGotNoSeat(**about, waited_for=waited_for), LearnerWithdrew(**about, reason="over"), back]
    over_at = datetime.now(UTC) - timedelta(hours=1)
    await world.hear(events.courses, [changed(world, 2, starts_at=over_at - timedelta(hours=2), ends_at=over_at)])
    await world.hear(events.enrolments, [asked[state]])
    moved = changed(world, 3, starts_at=START, ends_at=START + timedelta(hours=2))
    async with world.sending():
        await world.all_are("sent", 1)
        for said in words[:steps]:
            await world.hear(events.enrolments, [said])
        await world.hear(events.courses, [moved], at=datetime.now(UTC) - timedelta(hours=2))
        for said in words[steps:]:
            await world.hear(events.enrolments, [said])
        await world.no_more_open()
    subjects = ["Det ble ingen plass på Ledelse", "Endring i Ledelse"]
    assert [mail["Subject"] for mail in sink.mails[1:]] == subjects
    mail = sink.mails[2]
    assert not [part for part in mail.walk() if part.get_content_subtype() == "calendar"], "there is no seat"
    [row] = await world.rows("SELECT state, place FROM enrolments")
    assert tuple(row) == (state, None)


async def test_who_waited_to_the_end_is_told_of_nothing_said_after_it(world: World, sink: Sink) -> None:
    about = await known(world, "kari")
    await world.hear(events.courses, [met(world, 2, -14, -7)])
    await world.hear(events.enrolments, [LearnerQueued(**about, places=["mosjoen"], place_in_line=1)])
    await world.hear(events.enrolments, [LearnerWithdrew(**about, reason="over")])
    await world.hear(events.courses, [met(world, 3, 14, 21)])
    assert await owed(world) == 0


async def test_a_change_of_what_is_over_when_it_would_go_is_told_to_nobody(world: World, sink: Sink) -> None:
    about = await known(world, "kari")
    await world.hear(events.courses, [met(world, 2, -14, 7)])
    await world.hear(events.enrolments, [LearnerEnrolled(**about, place="mosjoen")])
    async with world.sending():
        await world.all_are("sent", 1)
    await world.hear(events.courses, [met(world, 3, -14, 7, room="2")])
    await world.hear(events.enrolments, [EnrolmentFinished(**about, place="mosjoen")])
    ended = datetime.now(UTC) - timedelta(days=1)  # as it is eight days later
    await world.rows("UPDATE offerings SET ends_at = $1", ended)
    was = "jsonb_set(facts, '{was,ends_at}', to_jsonb($1::timestamptz))"
    await world.rows(f"UPDATE notices SET facts = {was} WHERE template = 'changed'", ended)
    async with world.sending():
        await world.no_more_open()
    rows = await world.rows("SELECT state, reason FROM notices WHERE template = 'changed'")
    assert [tuple(row) for row in rows] == [("suppressed", "no_longer_concerned")]
    await world.hear(events.courses, [met(world, 4, -14, -7)])  # put right afterwards
    await world.hear(events.courses, [met(world, 5, 14, 21)])  # the next term, by the same key
    assert await owed(world) == 1
