"""Who has come further up in line is told so once, of the newest place, and not when it has stopped being so."""

import uuid
from datetime import timedelta
from typing import Any

import pytest

from contracts.enrolment import (
    LearnerAdvanced,
    LearnerEnrolled,
    LearnerGotNoSeat,
    LearnerQueued,
    LearnerWithdrew,
    SeatOffered,
    SeatOfferLapsed,
)
from contracts.envelope import Event
from kit import sealing
from kit.auth import Caller
from services.notifier import events
from tests.delivery import Servers
from tests.integration.test_notifier_hours import EIGHT, HOURS, MORNING, NIGHT, at, gather, reach
from tests.integration.test_notifier_preferences import People, people
from tests.notifying import PUBLIC
from tests.web import ISSUER

pytestmark = pytest.mark.anyio

SEALED = sealing.seal(PUBLIC, {"accept": "a", "decline": "b"})


async def queued(here: People, who: str = "kari") -> dict[str, Any]:
    """Somebody who stands in line as number 9."""
    about = here.world.about(uuid.uuid4(), uuid.uuid4())
    await here.world.contact_is_known(about["learner_id"], f"{who}@example.no", "nb", Caller(ISSUER, who).key)
    await here.world.hear(events.enrolments, [LearnerQueued(**about, places=["mosjoen"], place_in_line=9)])
    return about


async def up(
    here: People, about: dict[str, Any], before: int, place: int, event_id: uuid.UUID | None = None
) -> uuid.UUID:
    """They have come up to this place; the event's id."""
    event_id = event_id or uuid.uuid4()
    event = LearnerAdvanced(**about, place_in_line=place, before=before)
    await here.world.hear(events.enrolments, [event], event_id)
    return event_id


async def reasons(here: People) -> list[str]:
    rows = await here.world.rows("SELECT reason FROM notices WHERE template = 'advanced' ORDER BY id")
    return [row["reason"] for row in rows]


async def test_a_better_place_is_one_mail_and_one_notice(servers: Servers) -> None:
    async with people(servers) as here:
        about = await queued(here)
        since = await here.world.rows("SELECT state, since FROM enrolments")
        async with here.world.sending():
            word = await up(here, about, 9, 4)
            await reach(here.world, sent=2)
            await up(here, about, 9, 4, word)  # heard again
            await queued(here, "ola")
            await reach(here.world, sent=3)
        mail = here.sink.mails[1]
        assert mail["Subject"] == "Du er nå nummer 4 i køen for Ledelse"
        assert "fra nummer 9 til nummer 4" in mail.get_body(("plain",)).get_content()
        assert not [part for part in mail.walk() if part.get_content_type() == "text/calendar"]
        assert await here.world.rows("SELECT state, since FROM enrolments LIMIT 1") == since
        shown = (await here.asking.get("/api/notifier/v1/me/notices", headers=here.signed())).json()["items"]
        assert [(one["template"], one["category"]) for one in shown] == [("advanced", "reminders"), ("queued", "seat")]
        assert "nummer 4" in shown[0]["text"]
        assert (await here.asking.post(here.stopping(1))).status_code == 200
        await up(here, about, 4, 3)
        async with here.world.sending():
            await reach(here.world, sent=3, suppressed=1)
        assert await reasons(here) == [None, "preference"]


@pytest.mark.parametrize("end", ["offered", "enrolled", "withdrawn", "closed"])
async def test_who_stands_in_line_no_more_is_not_told(servers: Servers, end: str) -> None:
    async with people(servers, **HOURS) as here:
        async with at(here.world, NIGHT), here.world.sending():
            about = await queued(here)
            await up(here, about, 9, 4)
            await reach(here.world, sent=1, held=1)
            said: dict[str, Event] = {
                "offered": SeatOffered(
                    **about,
                    offer_id=uuid.uuid4(),
                    place="mosjoen",
                    expires_at=MORNING + timedelta(days=2),
                    on_lapse="leave",
                    sealed=SEALED,
                ),
                "enrolled": LearnerEnrolled(**about, place="mosjoen", from_queue=True),
                "withdrawn": LearnerWithdrew(**about),
                "closed": LearnerGotNoSeat(**about, waited_for="seat"),
            }
            await here.world.hear(events.enrolments, [said[end]])
            await reach(here.world, sent=2, held=1)  # that is told at night, and not held up
        async with at(here.world, MORNING), here.world.sending():
            await reach(here.world, sent=2, suppressed=1)
        assert await reasons(here) == ["no_longer_concerned"]


async def test_of_several_places_that_wait_the_newest_is_told(servers: Servers) -> None:
    async with people(servers, **HOURS) as here:
        async with at(here.world, NIGHT), here.world.sending():
            about = await queued(here)
            first = await up(here, about, 9, 6)
            await reach(here.world, sent=1, held=1)
            await up(here, about, 6, 4)
            await up(here, about, 9, 6, first)  # the older is heard again
            await reach(here.world, sent=1, held=1, suppressed=1)
        async with at(here.world, MORNING), here.world.sending():
            await reach(here.world, sent=2, suppressed=1)
        assert await reasons(here) == ["told_with_later", None]
        assert here.sink.mails[-1]["Subject"] == "Du er nå nummer 4 i køen for Ledelse"


@pytest.mark.parametrize("leaves", [False, True])
async def test_a_place_in_a_digest_is_told_while_it_is_so(servers: Servers, leaves: bool) -> None:
    async with people(servers, **HOURS) as here:
        await here.put({"categories": {"reminders": {"email": "daily"}}})
        async with at(here.world, NIGHT), here.world.sending():
            about = await queued(here)
            await up(here, about, 9, 6)
            await up(here, about, 6, 4)
            await reach(here.world, sent=1, held=1, suppressed=1)
            if leaves:
                await here.world.hear(events.enrolments, [LearnerEnrolled(**about, place="mosjoen", from_queue=True)])
                await reach(here.world, sent=2, held=1, suppressed=1)
        async with at(here.world, EIGHT):
            await gather(here.world)
            async with here.world.sending():
                await reach(here.world, sent=2, suppressed=2)
        assert await reasons(here) == ["told_with_later", "no_longer_concerned" if leaves else "in_digest"]
        if not leaves:
            text = here.sink.mails[-1].get_body(("plain",)).get_content()
            assert text.count("i køen") == 1
            assert "Du er nå nummer 4 i køen for Ledelse" in text


async def test_a_place_that_may_have_been_told_is_not_told_twice(servers: Servers) -> None:
    """Each other template is: `test_a_mail_that_was_taken_without_a_word_comes_again_under_the_same_id`."""
    async with people(servers) as here:
        about = await queued(here)
        async with here.world.sending():
            await reach(here.world, sent=1)
            here.sink.data = ["taken, then gone"]
            await up(here, about, 9, 4)
            await reach(here.world, sent=1, deferred=1)
            await here.world.hurry()
            await reach(here.world, sent=1, suppressed=1)
        assert await reasons(here) == ["may_have_gone"]
        assert len(here.sink.mails) == 2
        assert [tuple(row) for row in await here.world.rows("SELECT DISTINCT resends FROM notices")] == [(0,)]


async def test_who_comes_into_line_so_late_that_nothing_is_offered_is_told_so(servers: Servers) -> None:
    async with people(servers) as here:
        about = here.world.about(uuid.uuid4(), uuid.uuid4())
        async with here.world.sending():
            for number, language in enumerate(("nb", "nn", "en"), 1):
                await here.world.contact_is_known(
                    about["learner_id"], "kari@example.no", language, Caller(ISSUER, "kari").key
                )
                word = LearnerQueued(**about, places=["mosjoen"], place_in_line=1, offers=False)
                await here.world.hear(events.enrolments, [word])
                await reach(here.world, sent=number)
        for mail, told in zip(here.sink.mails, ("spør først", "spør først", "asks first"), strict=True):
            for kind in ("plain", "html"):
                text = mail.get_body((kind,)).get_content()
                assert told in text
                assert not any(word in text for word in ("tilbyr vi deg", "will offer you", "fullt", "full just now"))


async def test_who_waited_in_vain_to_the_end_of_a_course_is_not_thanked_for_leaving(servers: Servers) -> None:
    async with people(servers) as here:
        async with here.world.sending():
            about = await queued(here)
            await here.world.hear(events.enrolments, [LearnerWithdrew(**about, reason="over")])
            left = await queued(here, "ola")
            await here.world.hear(events.enrolments, [LearnerWithdrew(**left)])
            await reach(here.world, sent=3)
        rows = await here.world.rows("SELECT template, about FROM notices ORDER BY id")
        assert [(row["template"], row["about"]) for row in rows] == [
            ("queued", about["enrolment_id"]),
            ("queued", left["enrolment_id"]),
            ("withdrawn", left["enrolment_id"]),
        ]
        states = await here.world.rows("SELECT enrolment_id, state FROM enrolments")
        assert {row["enrolment_id"]: row["state"] for row in states} == {
            about["enrolment_id"]: "over",
            left["enrolment_id"]: "cancelled",
        }


@pytest.mark.parametrize("by", ["mail", "digest", "a digest that was put off"])
async def test_a_place_that_was_lost_to_the_back_of_the_line_is_not_told(servers: Servers, by: str) -> None:
    """Red control: who let an offer lapse in the night is told in the morning that they are number 2."""
    async with people(servers, **HOURS) as here:
        if by != "mail":
            await here.put({"categories": {"reminders": {"email": "daily"}}})
        async with at(here.world, NIGHT), here.world.sending():
            about = await queued(here)
            await up(here, about, 9, 2)
            await reach(here.world, sent=1, held=1)
        offer: dict[str, Any] = {"offer_id": uuid.uuid4(), "place": "mosjoen"}
        expires_at = EIGHT + timedelta(days=2)
        said = [
            SeatOffered(**about, **offer, expires_at=expires_at, on_lapse="back_of_queue", sealed=SEALED),
            SeatOfferLapsed(**about, **offer, in_line=True),
        ]
        if by == "a digest that was put off":
            async with at(here.world, EIGHT):
                await gather(here.world)
        await here.world.hear(events.enrolments, said)
        async with at(here.world, EIGHT):
            await gather(here.world)
            async with here.world.sending():
                await here.world.no_more_open()
        assert [mail["Subject"] for mail in here.sink.mails[1:]] == ["Fristen for å svare er ute: Ledelse"]


async def test_a_place_that_was_put_off_gives_way_to_the_next(servers: Servers) -> None:
    async with people(servers) as here:
        about = await queued(here)
        async with here.world.sending():
            await reach(here.world, sent=1)
            here.sink.rcpt = ["451 4.3.0 later"]
            await up(here, about, 9, 4)
            await reach(here.world, sent=1, deferred=1)
            await up(here, about, 4, 3)
            await here.world.hurry()
            await reach(here.world, sent=2, suppressed=1)
        assert await reasons(here) == ["told_with_later", None]
