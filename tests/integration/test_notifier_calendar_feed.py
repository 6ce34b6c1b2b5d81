"""A person's calendar at a secret address: what a calendar program reads there, and who can read it."""

import uuid
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from icalendar import Calendar

from contracts.catalogue import CourseChanged, OfferingCancelled, OfferingChanged
from contracts.enrolment import LearnerEnrolled, LearnerQueued, LearnerWithdrew
from contracts.fields import Place, Session
from services.notifier import events
from tests.calling import Calling, calling_notifier, listening_hooks
from tests.delivery import Servers
from tests.integration.test_notifier_feed import as_person, person
from tests.notifying import START, mail_server

pytestmark = pytest.mark.anyio

ADDRESS = "/api/notifier/v1/me/calendar"


@pytest.fixture
async def world(servers: Servers) -> AsyncIterator[Calling]:
    async with listening_hooks() as hooks, calling_notifier(servers, hooks) as world:
        await world.course_is_known()
        yield world


async def address(world: Calling, who: str) -> str:
    """A new address of this person's calendar, as far as our service is concerned."""
    made = await world.asking.post(ADDRESS, headers=as_person(world, who))
    assert made.status_code == 201, made.text
    url: str = made.json()["url"]
    assert made.json()["webcal"] == "webcal" + url[url.index(":") :]
    assert made.headers["cache-control"] == "no-store"
    assert url.startswith(world.settings.public_url)
    return url.removeprefix(world.settings.public_url)


async def read(world: Calling, path: str, **headers: str) -> list[Any]:
    answer = await world.asking.get(path, headers=headers)
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"].startswith("text/calendar")
    whole = Calendar.from_ical(answer.content)
    assert whole["METHOD"] == "PUBLISH"
    assert [str(zone["TZID"]) for zone in whole.walk("VTIMEZONE")] == ["Europe/Oslo"]
    return list(whole.walk("VEVENT"))


def moved(world: Calling, version: int, **how: Any) -> OfferingChanged:
    whole: dict[str, Any] = {
        "offering_id": world.offering,
        "course_id": world.course,
        "partner": "torgar",
        "key": "v27",
        "version": version,
        "starts_at": START,
        "ends_at": START + timedelta(days=8),
        "places": [Place(arena="mosjoen", capacity=20)],
    }
    return OfferingChanged(**whole | how)


async def test_a_calendar_has_ones_own_seats_and_nothing_else(world: Calling) -> None:
    kari, ola = await person(world, "kari", "en"), await person(world, "ola")
    mine, queued, his = world.about(kari), world.about(kari), world.about(ola)
    await world.hear(
        events.enrolments,
        [
            LearnerEnrolled(**mine, place="mosjoen"),
            LearnerQueued(**queued, places=["mosjoen"], place_in_line=1),
            LearnerEnrolled(**his, place="mosjoen"),
        ],
    )
    [event] = await read(world, await address(world, "kari"))
    assert str(event["UID"]) == f"{mine['enrolment_id']}-1@kursnett"
    assert str(event["SUMMARY"]) == "Leadership"
    assert str(event["LOCATION"]) == "Mosjøen"
    assert event.decoded("DTSTART") == START
    assert event["DTSTART"].params["TZID"] == "Europe/Oslo"
    assert await read(world, await address(world, "nobody")) == []


async def test_it_follows_the_course_and_is_known_again_by_the_mails_uid_and_version(world: Calling) -> None:
    kari = await person(world, "kari")
    mine = world.about(kari)
    await world.hear(events.enrolments, [LearnerEnrolled(**mine, place="mosjoen")])
    path = await address(world, "kari")
    [before] = await read(world, path)
    async with mail_server() as sink:
        world.settings = world.settings.model_copy(
            update={"smtp_port": sink.port, "smtp_tls": "none", "quiet_hours": "none", "changes_settle_s": 0}
        )
        async with world.sending():
            await world.all_are("sent", 1)
            meetings = [
                Session(starts_at=START + timedelta(days=n), ends_at=START + timedelta(days=n, hours=2), room="Rom 2")
                for n in (0, 7)
            ]
            await world.hear(events.courses, [moved(world, 2, sessions=meetings)])
            await world.all_are("sent", 2)
    [part] = [one for one in sink.mails[-1].walk() if one.get_content_subtype() == "calendar"]
    mailed = {(str(one["UID"]), one["SEQUENCE"]) for one in Calendar.from_ical(part.get_content()).walk("VEVENT")}
    after = await read(world, path)
    assert {(str(one["UID"]), one["SEQUENCE"]) for one in after} == mailed
    assert [one.decoded("DTSTART") for one in after] == [START, START + timedelta(days=7)]
    assert str(after[0]["UID"]) == str(before["UID"])
    assert after[0]["SEQUENCE"] > before["SEQUENCE"]
    assert str(after[0]["LOCATION"]) == "Mosjøen, Rom 2"


def numbers(events: Any) -> list[tuple[str, int, str]]:
    """(title, version, when it was written) of each event."""
    return [(str(one["SUMMARY"]), int(one["SEQUENCE"]), one["DTSTAMP"].to_ical().decode()) for one in events]


async def test_another_title_or_time_is_a_newer_version_though_no_mail_tells_of_it(world: Calling) -> None:
    """Programs that know the version keep what they have. Each mail after it has a higher one, but for the mail that
    tells of the last change, which has the same as the calendar. Red control: by mails alone all are version 0."""
    kari = await person(world, "kari")
    mine = world.about(kari)
    retitled: dict[str, Any] = {"course_id": world.course, "partner": "torgar", "code": "L1"}
    async with mail_server() as sink:
        changed = {"smtp_port": sink.port, "smtp_tls": "none", "quiet_hours": "none", "changes_settle_s": 0}
        world.settings = world.settings.model_copy(update=changed)
        async with world.sending():
            await world.hear(events.enrolments, [LearnerEnrolled(**mine, place="mosjoen")])
            await world.all_are("sent", 1)
        path = await address(world, "kari")
        seen = [numbers(await read(world, path))]
        for version, title in ((2, "Ledelse i praksis"), (3, "Ledelse i praksis"), (4, "Å lede andre")):
            await world.hear(events.courses, [CourseChanged(**retitled, version=version, title={"nb": title})])
            seen.append(numbers(await read(world, path)))
        assert [[one[:2] for one in each] for each in seen] == [
            [("Ledelse", 0)],
            [("Ledelse i praksis", 1)],
            [("Ledelse i praksis", 1)],
            [("Å lede andre", 2)],
        ]
        assert seen[1][0][2] >= seen[0][0][2]
        await world.hear(events.courses, [moved(world, 2)])
        before = numbers(await read(world, path))
        async with world.sending():
            await world.all_are("sent", 2)
            assert numbers(await read(world, path))[0][:2] == before[0][:2] == ("Å lede andre", 3)
            await world.hear(events.courses, [CourseChanged(**retitled, version=5, title={"nb": "Ledelse"})])
            await world.hear(events.enrolments, [LearnerWithdrew(**mine, place="mosjoen")])
            await world.all_are("sent", 3)
    mailed = []
    for mail in sink.mails:
        [part] = [one for one in mail.walk() if one.get_content_subtype() == "calendar"]
        [event] = Calendar.from_ical(part.get_content()).walk("VEVENT")
        mailed.append((str(event["SUMMARY"]), int(str(event["SEQUENCE"]))))
    assert mailed == [("Ledelse", 0), ("Å lede andre", 3), ("Ledelse", 5)]


@pytest.mark.parametrize("end", ["withdrawn", "cancelled"])
async def test_what_is_given_up_or_cancelled_is_there_no_more(world: Calling, end: str) -> None:
    mine = world.about(await person(world, "kari"))
    await world.hear(events.enrolments, [LearnerEnrolled(**mine, place="mosjoen")])
    path = await address(world, "kari")
    assert len(await read(world, path)) == 1
    if end == "withdrawn":
        await world.hear(events.enrolments, [LearnerWithdrew(**mine, place="mosjoen")])
    else:
        run: dict[str, Any] = {"offering_id": world.offering, "course_id": world.course, "partner": "torgar"}
        await world.hear(events.courses, [OfferingCancelled(**run, version=9)])
    assert await read(world, path) == []


async def test_a_new_address_ends_the_one_before_and_a_wrong_one_is_not_there(world: Calling) -> None:
    await person(world, "kari")
    known = await world.asking.get(ADDRESS, headers=as_person(world, "kari"))
    assert known.json() == {"made_at": None}
    first = await address(world, "kari")
    other = await address(world, "ola")
    second = await address(world, "kari")
    assert len({first, second, other}) == 3
    for path in (first, second.replace(".ics", "x.ics"), f"/api/notifier/v1/calendar/{uuid.uuid4()}.ics"):
        assert (await world.asking.get(path)).status_code == 404
    await read(world, second)
    assert (await world.asking.get(ADDRESS, headers=as_person(world, "kari"))).json()["made_at"] is not None
    assert (await world.asking.delete(ADDRESS, headers=as_person(world, "kari"))).status_code == 204
    assert (await world.asking.get(second)).status_code == 404
    await read(world, other)  # another's is another's
    for method in ("GET", "POST", "DELETE"):
        assert (await world.asking.request(method, ADDRESS)).status_code == 401


async def test_the_secret_is_neither_in_the_database_nor_in_the_log(
    world: Calling, capsys: pytest.CaptureFixture[str]
) -> None:
    path = await address(world, "kari")
    secret = path.rpartition("/")[2].removesuffix(".ics")
    await read(world, path)
    told = capsys.readouterr()
    assert "/calendar/{secret}.ics" in told.out + told.err  # the log tells of the request …
    assert secret not in told.out + told.err
    [row] = await world.rows("SELECT login, encode(secret_sha256, 'escape') AS kept FROM calendars")
    assert secret not in row["kept"]
    assert len(secret) >= 43


async def test_what_has_not_changed_is_not_sent_again(world: Calling) -> None:
    mine = world.about(await person(world, "kari"))
    await world.hear(
        events.enrolments, [LearnerEnrolled(**mine, place="mosjoen")], at=datetime(2026, 11, 1, tzinfo=UTC)
    )
    path = await address(world, "kari")
    tag = (await world.asking.get(path)).headers["etag"]
    assert (await world.asking.get(path, headers={"if-none-match": tag})).status_code == 304
    await world.hear(events.enrolments, [LearnerWithdrew(**mine, place="mosjoen")])
    assert (await world.asking.get(path, headers={"if-none-match": tag})).status_code == 200
