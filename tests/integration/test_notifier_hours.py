"""What can wait waits: for the morning, for further changes, for a digest; and then it goes once."""

import asyncio
import json
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from contracts.catalogue import OfferingCancelled, OfferingConfirmed, OfferingScheduled
from contracts.enrolment import EnrolmentFinished, LearnerEnrolled, LearnerMoved, LearnerQueued, LearnerWithdrew
from contracts.fields import Session
from kit.auth import Caller
from kit.calendars import OSLO
from services.notifier import digests, events
from services.notifier.channels.channel import Later
from services.notifier.channels.failing import Failing
from services.notifier.sender import Sender
from services.notifier.tokens import Signer
from tests.delivery import Servers, running, until
from tests.integration.test_notifier_calendar import appointment, calendars
from tests.integration.test_notifier_changes import changed
from tests.integration.test_notifier_preferences import People, people
from tests.notifying import PRIVATE, START, World
from tests.web import ISSUER

pytestmark = pytest.mark.anyio

NIGHT = datetime(2049, 1, 6, 22, 30, tzinfo=OSLO).astimezone(UTC)
MORNING = datetime(2049, 1, 7, 7, tzinfo=OSLO).astimezone(UTC)
EIGHT = MORNING + timedelta(hours=1)
DAY = timedelta(days=1)
HOURS = {"quiet_hours": "21:00-07:00"}


@asynccontextmanager
async def at(world: World, moment: datetime) -> AsyncIterator[None]:
    """The same database, by whose clock it is then."""
    settings = world.settings.model_copy(update={"test_clock_offset": moment - datetime.now(UTC)})
    async with running(settings, "notifier") as here:
        before, world.here = world.here, here
        try:
            yield
        finally:
            world.here = before


async def reach(world: World, **states: int) -> None:
    async def done() -> bool:
        return await world.states() == states

    await until(done)


async def in_another_run(here: People, about: dict[str, Any]) -> dict[str, Any]:
    """The same learner gets a seat in another run of the course, of which version 1 is heard."""
    world, run = here.world, uuid.uuid4()
    new = changed(world, 1, offering_id=run).model_dump()
    await world.hear(events.courses, [OfferingScheduled(**new)])
    other = {**about, "enrolment_id": uuid.uuid4(), "offering_id": run}
    await world.hear(events.enrolments, [LearnerEnrolled(**other, place="mosjoen")])
    return other


async def gather(world: World) -> None:
    await world.here.database.run(digests.gather, "worker")


def moved(world: World, version: int, by: timedelta, event_start: datetime = START) -> Any:
    return changed(world, version, starts_at=event_start + by, ends_at=event_start + by + timedelta(hours=2))


async def test_what_can_wait_waits_for_the_morning_and_goes_once(servers: Servers) -> None:
    async with people(servers, **HOURS) as here:
        world, word = here.world, uuid.uuid4()
        async with at(world, NIGHT):
            about = await here.seated()
            async with world.sending():
                await reach(world, sent=1)  # a seat is told at night
                await world.hear(events.courses, [moved(world, 2, timedelta(hours=1))], word)
                await reach(world, sent=1, held=1)
                [row] = await world.rows("SELECT due_at, reason, sequence, attempts FROM notices WHERE state = 'held'")
                assert tuple(row) == (MORNING, "quiet_hours", None, 0)
                await world.rows("UPDATE notices SET due_at = app_now() WHERE state = 'held'")  # looked at too early
                await until(lambda: world.rows("SELECT FROM notices WHERE state = 'held' AND due_at > app_now()"))
                # What is newer is not held up by it.
                await world.hear(events.enrolments, [LearnerEnrolled(**about, place="online", from_queue=True)])
                await reach(world, sent=2, held=1)
        assert len(here.sink.mails) == 2
        async with at(world, MORNING), world.sending():
            await reach(world, sent=3)
            await world.hear(events.courses, [moved(world, 2, timedelta(hours=1))], word)
            await world.hear(events.courses, [moved(world, 2, timedelta(hours=1))])
            await here.seated("ola")
            await reach(world, sent=4)
        assert [mail["Subject"] for mail in here.sink.mails][2] == "Endring i Ledelse"
        assert "Sted: På nett" in here.sink.mails[2].get_body(("plain",)).get_content()
        rows = await world.rows("SELECT sequence FROM notices WHERE about = $1 ORDER BY sent_at", about["enrolment_id"])
        assert [row["sequence"] for row in rows] == [0, 2, 3]  # 1 is the change, for calendars that are read


class Killed(Sender):
    """One that dies with all in hand that it takes."""

    async def _send(self, *notice: Any) -> None:
        await asyncio.sleep(3600)


async def test_what_a_killed_sender_had_looked_at_waits_for_the_morning_too(servers: Servers) -> None:
    """Nothing of it was tried. Red control: while it is looked at after it was taken in hand, it goes in the night."""
    async with people(servers, **HOURS) as here:
        world = here.world
        await here.seated()
        async with world.sending():
            await reach(world, sent=1)
        async with at(world, NIGHT):
            await here.course_changes(2)
            world.here.stopping.clear()
            victim = asyncio.create_task(Killed(world.settings).run(world.here))
            await until(lambda: world.rows("SELECT FROM notices WHERE state NOT IN ('sent', 'due')"))
            victim.cancel()
            await asyncio.wait([victim])
            await world.rows("UPDATE notices SET sending_since = app_now() - interval '61 s' WHERE state = 'sending'")
            async with world.sending():
                await reach(world, sent=1, held=1)
        async with at(world, MORNING), world.sending():
            await reach(world, sent=2)
        assert await world.rows("SELECT FROM notices WHERE resends > 0") == []


async def test_who_chose_other_hours_or_none_has_those(servers: Servers) -> None:
    async with people(servers, **HOURS) as here:
        await here.put({"quiet_hours": None})
        await here.put({"quiet_hours": {"from": "22:00", "until": "23:15"}}, "ola")
        await here.put({"quiet_hours": {"from": "12:00", "until": "13:00"}}, "per")
        async with at(here.world, NIGHT), here.world.sending():
            for who in ("kari", "ola", "per"):
                await here.seated(who)
            await here.course_changes(2)
            await reach(here.world, sent=5, held=1)
            [row] = await here.world.rows("SELECT due_at FROM notices WHERE state = 'held'")
            assert row["due_at"] == NIGHT + timedelta(minutes=45)


async def test_what_is_near_is_told_at_night(servers: Servers) -> None:
    async with people(servers, **HOURS) as here:
        await here.put({"categories": {"changes": {"email": "weekly"}}})
        async with at(here.world, NIGHT), here.world.sending():
            await here.seated()
            near = MORNING + timedelta(hours=3)
            await here.world.hear(events.courses, [moved(here.world, 2, timedelta(0), near)])
            await reach(here.world, sent=2)


async def test_who_has_left_by_the_morning_is_not_told(servers: Servers) -> None:
    async with people(servers, **HOURS) as here:
        world = here.world
        async with at(world, NIGHT), world.sending():
            about = await here.seated()
            await here.course_changes(2)
            await reach(world, sent=1, held=1)
            await world.hear(events.enrolments, [LearnerWithdrew(**about, place="mosjoen")])
            await reach(world, sent=2, held=1)
        async with at(world, MORNING), world.sending():
            await reach(world, sent=2, suppressed=1)
        [row] = await world.rows("SELECT reason FROM notices WHERE state = 'suppressed'")
        assert row["reason"] == "no_longer_concerned"


async def test_of_a_run_that_is_cancelled_meanwhile_nothing_else_is_told(servers: Servers) -> None:
    """The catalogue's word is there before enrolment has taken anybody's seat. Red control: whoever sits is told that
    it takes place."""
    async with people(servers, **HOURS) as here:
        world = here.world
        await here.put({"categories": {"changes": {"email": "daily"}}}, "ola")
        run: dict[str, Any] = {"offering_id": world.offering, "course_id": world.course, "partner": "torgar"}
        async with at(world, NIGHT), world.sending():
            await here.seated()
            await here.seated("ola")
            await here.course_changes(2)
            await world.hear(events.courses, [OfferingConfirmed(**run, version=3, enrolled=5, minimum=5)])
            await reach(world, sent=2, held=4)
            await world.hear(events.courses, [OfferingCancelled(**run, version=4)])
        async with at(world, EIGHT):
            await gather(world)
            async with world.sending():
                await reach(world, sent=2, suppressed=4)
                # What is of many runs is not of this one alone.
                times = {"starts_at": START.isoformat(), "ends_at": START.isoformat()}
                item = {"template": "confirmed", "place": "mosjoen", "facts": {}, "title": {"nb": "En annen"}, **times}
                await world.rows(
                    """
                    INSERT INTO notices (event_id, learner_id, offering_id, about, template, channel, facts)
                    SELECT 'made before', learner_id, offering_id, learner_id, 'digest', channel, $1
                    FROM notices WHERE state = 'suppressed' LIMIT 1
                    """,
                    json.dumps({"categories": ["changes"], "items": [item]}),
                )
                await reach(world, sent=3, suppressed=4)
        rows = await world.rows("SELECT DISTINCT reason FROM notices WHERE state = 'suppressed'")
        assert [row["reason"] for row in rows] == ["no_longer_concerned"]


async def settled(here: People) -> None:
    """Let the time be over in which further changes may come."""
    here.world.settings = here.world.settings.model_copy(update={"changes_settle_s": 0})
    await here.world.rows("UPDATE notices SET due_at = app_now() WHERE state = 'held'")


async def test_several_changes_are_one_letter_that_says_before_and_after(servers: Servers) -> None:
    async with people(servers, changes_settle_s=3600) as here:
        world = here.world
        async with world.sending():
            await here.seated()
            await reach(world, sent=1)
            await world.hear(events.courses, [moved(world, 2, timedelta(hours=1))])
            await reach(world, sent=1, held=1)
            await here.seated("ola")  # who came between the two hears of the second alone
            await world.hear(events.courses, [moved(world, 3, timedelta(hours=2))])
            await reach(world, sent=2, held=2, suppressed=1)
            rows = await world.rows("SELECT reason, due_at - created_at AS wait FROM notices WHERE state = 'held'")
            assert {row["reason"] for row in rows} == {"settling"}
            assert min(row["wait"] for row in rows) < timedelta(hours=1), "it waits from the first change on"
        await settled(here)
        async with world.sending():
            await reach(world, sent=4, suppressed=1)
        texts = {
            mail["To"].addresses[0].username: mail.get_body(("plain",)).get_content().splitlines()
            for mail in here.sink.mails[2:]
        }
        for who, before in (("kari", "18.00–20.00"), ("ola", "19.00–21.00")):
            lines = texts[who]
            assert lines[lines.index("Før:") + 1] == f"- torsdag 14. januar 2049 kl. {before}"
            assert lines[lines.index("Nå:") + 1] == "- torsdag 14. januar 2049 kl. 20.00–22.00"


async def test_a_change_that_is_taken_back_in_time_is_told_to_nobody(servers: Servers) -> None:
    async with people(servers, changes_settle_s=3600) as here:
        world = here.world
        async with world.sending():
            await here.seated()
            await reach(world, sent=1)
            await world.hear(events.courses, [moved(world, 2, timedelta(hours=1))])
            await reach(world, sent=1, held=1)
            await world.hear(events.courses, [moved(world, 3, timedelta(0))])
            await reach(world, sent=1, suppressed=2)
        rows = await world.rows("SELECT reason FROM notices WHERE state = 'suppressed' ORDER BY id")
        assert [row["reason"] for row in rows] == ["told_with_later", "changed_back"]


async def test_what_is_held_for_a_digest_is_one_mail_in_the_persons_language(servers: Servers) -> None:
    async with people(servers, **HOURS) as here:
        world = here.world
        await here.put({"categories": {"changes": {"email": "daily"}}})
        await here.put({"categories": {"changes": {"email": "daily"}}}, "ola")
        async with at(world, NIGHT), world.sending():
            gone = await in_another_run(here, await here.seated(language="nn"))
            await here.seated("ola")
            await reach(world, sent=3)
            await here.course_changes(2)
            later = START + timedelta(hours=1)
            await world.hear(events.courses, [changed(world, 2, offering_id=gone["offering_id"], starts_at=later)])
            await reach(world, sent=3, held=3)
            rows = await world.rows("SELECT DISTINCT reason, due_at FROM notices WHERE state = 'held'")
            assert [tuple(row) for row in rows] == [("digest", EIGHT)]
            await gather(world)
            assert (await world.states())["held"] == 3, "not before its hour"
            await world.hear(events.enrolments, [LearnerWithdrew(**gone, place="mosjoen")])
            await reach(world, sent=4, held=3)
        async with at(world, EIGHT):
            async with world.sending():
                await here.seated("per")
                await reach(world, sent=5, held=3)  # by itself nothing of it goes
            await here.put({"categories": {"changes": {"email": "off"}}}, "ola")
            for _ in range(2):
                await gather(world)
            assert await world.states() == {"sent": 5, "suppressed": 3, "due": 1}
            async with world.sending():
                await reach(world, sent=6, suppressed=3)
        rows = await world.rows("SELECT reason FROM notices WHERE state = 'suppressed'")
        assert sorted(row["reason"] for row in rows) == ["in_digest", "no_longer_concerned", "preference"]
        mail = here.sink.mails[-1]
        assert mail["Subject"] == "Nytt om kursa dine"
        text = mail.get_body(("plain",)).get_content()
        assert "Endring i Ledelse" in text
        assert "kl. 20.00–22.00" in text
        assert (await here.asking.post(here.stopping())).status_code == 200
        assert (await here.get()).json()["categories"]["changes"]["email"] == "off"


async def test_a_digest_of_changes_has_the_appointments_and_what_comes_after_has_higher_numbers(
    servers: Servers,
) -> None:
    """Red control: without them, who wants a digest has the old time in the calendar."""
    async with people(servers, **HOURS) as here:
        world = here.world
        await here.put({"categories": {"changes": {"email": "daily"}, "reminders": {"email": "daily"}}})
        await here.put({"categories": {"changes": {"email": "daily"}}}, "ola")
        later = START + timedelta(hours=1)
        weekly = [Session(starts_at=START + n * DAY, ends_at=START + n * DAY + timedelta(hours=2)) for n in (0, 7, 14)]
        async with at(world, NIGHT), world.sending():
            await world.hear(events.courses, [changed(world, 2, sessions=weekly, ends_at=START + 15 * DAY)])
            first = await here.seated()
            other = await in_another_run(here, first)
            in_line = world.about(uuid.uuid4(), uuid.uuid4())
            await world.contact_is_known(in_line["learner_id"], "ola@example.no", "nb", Caller(ISSUER, "ola").key)
            await world.hear(events.enrolments, [LearnerQueued(**in_line, places=["mosjoen"], place_in_line=1)])
            await reach(world, sent=3)
            await world.hear(
                events.courses,
                [
                    changed(world, 3, sessions=weekly[1:], starts_at=weekly[1].starts_at, ends_at=START + 15 * DAY),
                    changed(world, 2, offering_id=other["offering_id"], starts_at=later),
                ],
            )
            await reach(world, sent=3, held=3)
        async with at(world, EIGHT):
            await gather(world)
            async with world.sending():
                await reach(world, sent=5, suppressed=3)
                await world.hear(events.enrolments, [LearnerWithdrew(**other, place="mosjoen")])
                await reach(world, sent=6, suppressed=3)
        digest, cancel = [mail for mail in here.sink.mails if "kari" in mail["To"]][-2:]
        method, entered = appointment(digest)
        about = [first["enrolment_id"], other["enrolment_id"]]
        assert method == "REQUEST"
        assert [(str(one["UID"]), one["DTSTART"].dt, int(one["SEQUENCE"]), str(one["STATUS"])) for one in entered] == [
            (f"{about[0]}-1@kursnett", weekly[1].starts_at, 1, "CONFIRMED"),
            (f"{about[0]}-2@kursnett", weekly[2].starts_at, 1, "CONFIRMED"),
            (f"{about[0]}-3@kursnett", weekly[2].starts_at, 1, "CANCELLED"),
            (f"{about[1]}-1@kursnett", later, 1, "CONFIRMED"),
        ]
        assert {str(one["ATTENDEE"]) for one in entered} == {"mailto:kari@example.no"}
        assert "Før:" in digest.get_body(("plain",)).get_content()
        method, [gone] = appointment(cancel)
        assert (method, str(gone["UID"]), int(gone["SEQUENCE"])) == ("CANCEL", f"{about[1]}-1@kursnett", 2)
        [waits] = [
            mail for mail in here.sink.mails if "ola" in mail["To"] and mail["Subject"] == "Nytt om kursene dine"
        ]
        assert calendars(waits) == [], "who stands in line has no appointment"


async def test_that_the_last_meeting_is_dropped_comes_in_a_digest_too(servers: Servers) -> None:
    """Enrolment says meanwhile that the run is over. Red control: that ends what its digest was to tell."""
    async with people(servers, **HOURS) as here:
        world = here.world
        await here.put({"categories": {"changes": {"email": "daily"}}})
        hour = timedelta(hours=1)
        both = [Session(starts_at=NIGHT + n * DAY, ends_at=NIGHT + n * DAY + hour) for n in (-7, 7)]
        async with at(world, NIGHT), world.sending():
            whole = {"starts_at": both[0].starts_at, "ends_at": both[1].ends_at}
            await world.hear(events.courses, [changed(world, 2, sessions=both, **whole)])
            about = await here.seated()
            await reach(world, sent=1)
            whole["ends_at"] = both[0].ends_at
            await world.hear(events.courses, [changed(world, 3, sessions=both[:1], **whole)])
            await reach(world, sent=1, held=1)
            await world.hear(events.enrolments, [EnrolmentFinished(**about, place="mosjoen")])
        async with at(world, EIGHT):
            await gather(world)
            async with world.sending():
                await reach(world, sent=2, suppressed=1)
        _, entered = appointment(here.sink.mails[-1])
        assert [str(one["STATUS"]) for one in entered] == ["CONFIRMED", "CANCELLED"]


async def test_a_digest_reminds_of_a_course_once_and_of_none_that_has_begun(servers: Servers) -> None:
    """Two reminders wait together for Monday, or all of them for a notifier that stood still for days."""
    async with people(servers) as here:
        world = here.world
        await here.put({"categories": {"reminders": {"email": "weekly"}}})
        async with at(world, NIGHT):
            async with world.sending():
                mine = await here.seated()
                await reach(world, sent=1)
            other = await in_another_run(here, mine)
            async with world.sending():
                await reach(world, sent=2)
            for about, expires in ((mine, START), (mine, START), (other, NIGHT)):
                await world.rows(
                    """
                    INSERT INTO notices (event_id, learner_id, offering_id, about, template, channel, state, reason,
                                         facts, expires_at)
                    VALUES (gen_random_uuid()::text, $1, $2, $3, 'reminder', 'email', 'held', 'digest',
                            '{"days": 7}', $4)
                    """,
                    *(about[name] for name in ("learner_id", "offering_id", "enrolment_id")),
                    expires,
                )
            await gather(world)
        rows = await world.rows("SELECT reason FROM notices WHERE template = 'reminder' ORDER BY id")
        assert [row["reason"] for row in rows] == ["told_with_later", "in_digest", "no_longer_concerned"]
        [digest] = await world.rows("SELECT facts FROM notices WHERE template = 'digest'")
        assert len(json.loads(digest["facts"])["items"]) == 1


@pytest.mark.parametrize("also", ["nothing", "a reminder"])
async def test_what_is_turned_off_while_its_digest_waits_for_the_mail_server_is_not_sent(
    servers: Servers, also: str
) -> None:
    async with people(servers, **HOURS) as here:
        world = here.world
        await here.put({"categories": {"changes": {"email": "daily"}, "reminders": {"email": "daily"}}})
        async with at(world, NIGHT), world.sending():
            await here.seated()
            await reach(world, sent=1)
            await here.course_changes(2)
            await reach(world, sent=1, held=1)
        async with at(world, EIGHT):
            await gather(world)
            if also == "a reminder":  # beside it
                await world.rows("""
                    UPDATE notices SET facts = jsonb_build_object(
                        'categories', '["changes", "reminders"]'::jsonb,
                        'items', facts -> 'items'
                            || (facts -> 'items' -> 0 || '{"template": "reminder", "facts": {"days": 7}}'::jsonb
                                || '{"appointment": null}'::jsonb))
                    WHERE template = 'digest'
                """)
            async with world.sending(Sender(world.settings, {"email": Failing(Later("busy"))})):
                await reach(world, sent=1, suppressed=1, deferred=1)
            await here.put({"categories": {"changes": {"email": "off"}, "reminders": {"email": "daily"}}})
            await world.hurry()
            async with world.sending():
                await world.no_more_open()
        [digest] = await world.rows("SELECT state, reason FROM notices WHERE template = 'digest'")
        if also == "nothing":
            assert (digest["state"], digest["reason"], len(here.sink.mails)) == ("suppressed", "preference", 1)
            return
        assert (digest["state"], len(here.sink.mails)) == ("sent", 2)
        text = here.sink.mails[-1].get_body(("plain",)).get_content()
        assert ("Endring" in text, "Påminnelse" in text) == (False, True)
        link = Signer(PRIVATE).opened("unsubscribe", here.stopping().rpartition("/")[2])
        assert link.categories == ("reminders",)


async def test_all_that_waited_for_a_week_is_gathered_together(servers: Servers) -> None:
    async with people(servers) as here:
        world = here.world
        await here.put({"categories": {"changes": {"email": "weekly"}}})
        async with at(world, NIGHT), world.sending():
            first = await here.seated()
            other = await in_another_run(here, first)
            await reach(world, sent=2)
            await here.course_changes(2)
            later = START + timedelta(hours=1)
            await world.hear(events.courses, [changed(world, 2, offering_id=other["offering_id"], starts_at=later)])
            await reach(world, sent=2, held=2)
            await here.course_changes(3)  # of the same run once more: both together
            await reach(world, sent=2, held=2, suppressed=1)
        monday = datetime(2049, 1, 11, 8, tzinfo=OSLO).astimezone(UTC)
        async with at(world, monday):
            await gather(world)
            async with world.sending():
                await reach(world, sent=3, suppressed=3)
        text = here.sink.mails[-1].get_body(("plain",)).get_content()
        assert text.count("Endring i Ledelse") == 2
        assert ("kl. 18.00–20.00" in text, "kl. 21.00–23.00" in text) == (True, True)


async def put_off(world: World) -> None:
    """What is owed is refused for now."""
    async with world.sending(Sender(world.settings, {"email": Failing(Later("busy"))})):
        await until(lambda: world.rows("SELECT FROM notices WHERE state = 'deferred'"))
    await world.hurry()


async def test_a_reminder_in_a_digest_that_was_put_off_is_not_sent_once_its_course_has_begun(servers: Servers) -> None:
    async with people(servers) as here:
        world = here.world
        await here.put({"categories": {"reminders": {"email": "weekly"}}})
        async with at(world, NIGHT):
            about = await here.seated()
            async with world.sending():
                await reach(world, sent=1)
            await world.rows(
                """
                INSERT INTO notices (event_id, learner_id, offering_id, about, template, channel, state, reason,
                                     facts, expires_at)
                VALUES ('r', $1, $2, $3, 'reminder', 'email', 'held', 'digest', '{"days": 7}', $4)
                """,
                *(about[name] for name in ("learner_id", "offering_id", "enrolment_id")),
                START,
            )
            await gather(world)
        async with at(world, START + timedelta(hours=1)), world.sending():
            await reach(world, sent=1, suppressed=2)
        [digest] = await world.rows("SELECT reason FROM notices WHERE template = 'digest'")
        assert digest["reason"] == "no_longer_concerned"


async def test_what_waited_names_the_place_to_which_its_learner_was_moved_meanwhile(servers: Servers) -> None:
    async with people(servers, **HOURS) as here:
        world = here.world
        run: dict[str, Any] = {"offering_id": world.offering, "course_id": world.course, "partner": "torgar"}
        async with at(world, NIGHT), world.sending():
            about = await here.seated()
            await world.hear(events.courses, [OfferingConfirmed(**run, version=3, enrolled=5, minimum=5)])
            await reach(world, sent=1, held=1)
            await world.hear(events.enrolments, [LearnerMoved(**about, from_place="mosjoen", place="online")])
            await reach(world, sent=2, held=1)
        async with at(world, MORNING), world.sending():
            await reach(world, sent=3)
        assert "Sted: På nett" in here.sink.mails[-1].get_body(("plain",)).get_content()


@pytest.mark.parametrize("leaves", [False, True])
async def test_a_digest_that_was_put_off_names_what_holds_when_it_goes(servers: Servers, leaves: bool) -> None:
    """Red control: what was so when it was gathered. A mail server was away meanwhile."""
    async with people(servers, **HOURS) as here:
        world = here.world
        await here.put({"categories": {"changes": {"email": "daily"}}})
        run: dict[str, Any] = {"offering_id": world.offering, "course_id": world.course, "partner": "torgar"}
        async with at(world, NIGHT), world.sending():
            about = await here.seated()
            await world.hear(events.courses, [OfferingConfirmed(**run, version=2, enrolled=5, minimum=5)])
            await reach(world, sent=1, held=1)
        async with at(world, EIGHT):
            await gather(world)
            await put_off(world)
            await world.hear(events.courses, [moved(world, 3, timedelta(hours=1))])
            moves = LearnerMoved(**about, from_place="mosjoen", place="online")
            leave = LearnerWithdrew(**about, place="mosjoen")
            await world.hear(events.enrolments, [leave if leaves else moves])
            async with world.sending():
                await reach(
                    world, sent=2 if leaves else 3, suppressed=3 if leaves else 1, **{} if leaves else {"held": 1}
                )
        if not leaves:
            [digest] = [mail for mail in here.sink.mails if mail["Subject"] == "Nytt om kursene dine"]
            text = digest.get_body(("plain",)).get_content()
            assert ("kl. 19.00–21.00" in text, "kl. 18.00" in text, "Sted: På nett" in text) == (True, False, True)


async def test_a_change_in_a_digest_that_was_put_off_goes_from_what_was_told_to_what_holds(servers: Servers) -> None:
    async with people(servers, **HOURS) as here:
        world = here.world
        await here.put({"categories": {"changes": {"email": "daily"}}})
        async with at(world, NIGHT), world.sending():
            await here.seated()
            await reach(world, sent=1)
            await world.hear(events.courses, [moved(world, 2, timedelta(hours=1))])
            await reach(world, sent=1, held=1)
        async with at(world, EIGHT):
            await gather(world)
            await put_off(world)
            await world.hear(events.courses, [moved(world, 3, timedelta(hours=2))])
            async with world.sending():
                await reach(world, sent=2, suppressed=1, held=1)
        digest = here.sink.mails[-1]
        lines = digest.get_body(("plain",)).get_content().splitlines()
        assert lines[lines.index("Før:") + 1] == "- torsdag 14. januar 2049 kl. 18.00–20.00"
        assert lines[lines.index("Nå:") + 1] == "- torsdag 14. januar 2049 kl. 20.00–22.00"
        _, [entered] = appointment(digest)
        assert (entered["DTSTART"].dt, int(entered["SEQUENCE"])) == (START + timedelta(hours=2), 2)


async def test_a_change_that_somebody_has_read_of_is_taken_back_aloud(servers: Servers) -> None:
    """In the feed it stands while its mail waits for the morning. Red control: they are left with the wrong time."""
    async with people(servers, **HOURS) as here:
        world = here.world
        async with at(world, NIGHT), world.sending():
            await here.seated()
            await here.seated("ola")
            await reach(world, sent=2)
            await world.hear(events.courses, [moved(world, 2, timedelta(hours=1))])
            await reach(world, sent=2, held=2)
            [changed, _] = (await here.asking.get("/api/notifier/v1/me/notices", headers=here.signed())).json()["items"]
            await here.asking.post(f"/api/notifier/v1/me/notices/{changed['id']}/read", headers=here.signed())
            await world.hear(events.courses, [moved(world, 3, timedelta(0))])
            await reach(world, sent=2, held=1, suppressed=3)
        async with at(world, MORNING), world.sending():
            await reach(world, sent=3, suppressed=3)
        lines = here.sink.mails[-1].get_body(("plain",)).get_content().splitlines()
        assert here.sink.recipients()[-1] == "kari@example.no"
        assert lines[lines.index("Før:") + 1] == "- torsdag 14. januar 2049 kl. 19.00–21.00"
        assert lines[lines.index("Nå:") + 1] == "- torsdag 14. januar 2049 kl. 18.00–20.00"


@pytest.mark.parametrize("by", ["a mail", "a digest"])
async def test_a_change_that_another_mail_has_told_is_taken_back_aloud(servers: Servers, by: str) -> None:
    """Each mail says when the course is, and a calendar enters that. Red control: they are left with the wrong time."""
    async with people(servers, **HOURS) as here:
        world = here.world
        async with at(world, NIGHT), world.sending():
            about = await here.seated()
            await here.seated("ola")
            await reach(world, sent=2)
            if by == "a digest":
                now = {"email": "weekly"}
                await here.put({"categories": {"changes": now, "reminders": now}, "quiet_hours": None})
            await world.hear(events.courses, [moved(world, 2, timedelta(hours=1))])
            await reach(world, sent=2, held=2)
            if by == "a mail":
                await world.hear(events.enrolments, [LearnerMoved(**about, from_place="mosjoen", place="online")])
                await reach(world, sent=3, held=2)
            else:
                await world.rows(
                    """
                    INSERT INTO notices (event_id, learner_id, offering_id, about, template, channel, place, facts)
                    SELECT 'days', learner_id, offering_id, about, 'reminder', channel, place, '{"days": 7}'
                    FROM notices WHERE about = $1 LIMIT 1
                    """,
                    about["enrolment_id"],
                )
                await reach(world, sent=2, held=3)
                await world.rows("UPDATE notices SET due_at = app_now() WHERE template = 'reminder'")
                await gather(world)
                await reach(world, sent=3, held=2, suppressed=1)
                await here.put({"categories": {}})
            await world.hear(events.courses, [moved(world, 3, timedelta(0))])
            await until(lambda: world.rows("SELECT FROM notices WHERE reason = 'changed_back'"))
        async with at(world, MORNING), world.sending():
            await world.no_more_open()
        assert here.sink.recipients()[3:] == ["kari@example.no"]
        lines = here.sink.mails[-1].get_body(("plain",)).get_content().splitlines()
        assert lines[lines.index("Før:") + 1] == "- torsdag 14. januar 2049 kl. 19.00–21.00"
        assert lines[lines.index("Nå:") + 1] == "- torsdag 14. januar 2049 kl. 18.00–20.00"
        [entered] = appointment(here.sink.mails[-1])[1]
        assert entered["DTSTART"].dt == START


@pytest.mark.parametrize("chosen", ["at_once", "daily", "off, then daily"])
async def test_a_meeting_that_another_mail_has_entered_leaves_the_calendar(servers: Servers, chosen: str) -> None:
    """Red control: of two changes that are told as one, or in a digest, only what was before the first counts."""
    async with people(servers, **HOURS) as here:
        world = here.world
        first, _, last = chosen.rpartition(", then ")
        each = [Session(starts_at=START + n * DAY, ends_at=START + n * DAY + timedelta(hours=2)) for n in range(4)]

        async def meets(version: int, count: int) -> None:
            new = changed(world, version, sessions=each[:count], ends_at=each[-1].ends_at + version * DAY)
            await world.hear(events.courses, [new])

        await here.put({"categories": {"changes": {"email": first or last}}})
        async with at(world, NIGHT), world.sending():
            await meets(2, 3)
            about = await here.seated()
            await reach(world, sent=1)
            if first:
                await meets(3, 2)
                await reach(world, sent=1, suppressed=1)
                await here.put({"categories": {"changes": {"email": last}}})
            else:
                await meets(3, 4)
                await reach(world, sent=1, held=1)
                await world.hear(events.enrolments, [LearnerMoved(**about, from_place="mosjoen", place="online")])
                await reach(world, sent=2, held=1)
            await meets(4, 1)
            await until(lambda: world.rows("SELECT FROM notices WHERE state = 'held' AND facts ->> 'closed' = '[]'"))
            await until(lambda: world.rows("SELECT FROM notices WHERE state = 'suppressed'"))
        async with at(world, EIGHT):
            await gather(world)
            async with world.sending():
                await world.no_more_open()
        _, entered = appointment(here.sink.mails[-1])
        gone = ["CANCELLED"] * (2 if first else 3)
        assert [str(one["STATUS"]) for one in entered] == ["CONFIRMED", *gone]
