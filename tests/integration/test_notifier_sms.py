"""What cannot wait goes by SMS too, to whoever asked for it: through a gateway's HTTP, once, and at a decent hour."""

import asyncio
import json
import uuid
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from pydantic import SecretStr

from contracts.enrolment import EnrolmentFinished, LearnerEnrolled, LearnerQueued, LearnerWithdrew, SeatOffered
from contracts.fields import Session
from kit import sealing
from kit.auth import Caller
from services.notifier import events, operating
from services.notifier.sender import Sender
from tests.calling import Hooks, listening_hooks, silence
from tests.delivery import Servers, until
from tests.integration.test_notifier_changes import changed
from tests.integration.test_notifier_hours import at, moved
from tests.integration.test_notifier_preferences import People, people
from tests.notifying import PUBLIC, START
from tests.web import ISSUER

pytestmark = pytest.mark.anyio

PHONE = "+4791234567"
ALL = ("seat", "offer", "changes", "reminders")
DAY_BEFORE = START - timedelta(hours=30)
NIGHT = datetime(2049, 1, 6, 23, tzinfo=UTC)
MORNING = datetime(2049, 1, 7, 6, tzinfo=UTC)
WRONG_NUMBER = b'{"code": "invalid_number"}'


class Texting(People):
    """People whose notifier has a gateway for SMS: a server that says what it is told to."""

    gateway: Hooks

    def texts(self) -> list[dict[str, Any]]:
        return [one.event for one in self.gateway.came]

    def says(self, *answers: Any) -> None:
        self.gateway.answers.setdefault("/sms", []).extend(answers)

    async def wants(self, *categories: str, who: str = "kari") -> None:
        chosen = {"categories": {category: {"sms": "at_once"} for category in categories}}
        assert (await self.put(chosen, who)).status_code == 200

    async def reached(self, who: str = "kari", phone: str | None = PHONE) -> dict[str, Any]:
        """Somebody with a phone, and an enrolment of theirs that nothing is told of yet."""
        about = self.world.about(uuid.uuid4(), uuid.uuid4())
        key = Caller(ISSUER, who).key
        await self.world.contact_is_known(about["learner_id"], f"{who}@example.no", "nb", key, phone)
        return about

    async def hear(self, event: Any, event_id: uuid.UUID | None = None) -> None:
        await self.world.hear(events.enrolments, [event], event_id)

    async def reach(self, by: str, *states: str) -> None:
        """Wait until what is owed this way has come to this, the oldest first."""
        found: list[str] = []

        async def there() -> bool:
            rows = await self.world.rows("SELECT state FROM notices WHERE channel = $1 ORDER BY id", by)
            found[:] = [row["state"] for row in rows]
            return found == list(states)

        try:
            await until(there)
        except AssertionError:
            raise AssertionError(f"{found} and not {list(states)}") from None

    async def reasons(self) -> list[tuple[str, str | None]]:
        rows = await self.world.rows("SELECT state, reason FROM notices WHERE channel = 'sms' ORDER BY id")
        return [(row["state"], row["reason"]) for row in rows]


@asynccontextmanager
async def texting(servers: Servers, **changed: Any) -> AsyncIterator[Texting]:
    async with listening_hooks() as gateway:
        known = {"sms_gateway_url": gateway.url("/sms"), "sms_gateway_token": SecretStr("a-token")} | changed
        async with people(servers, **known) as plain:
            here = Texting(plain.world, plain.sink, plain.asking, plain.issuer)
            here.gateway = gateway
            yield here


def offer(about: dict[str, Any], until: datetime) -> SeatOffered:
    sealed = sealing.seal(PUBLIC, {"accept": "abc", "decline": "def"})
    return SeatOffered(
        **about, offer_id=uuid.uuid4(), place="mosjoen", expires_at=until, on_lapse="leave", sealed=sealed
    )


def code(body: bytes, status: int = 422) -> Any:
    async def say(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(f"HTTP/1.1 {status} So\r\ncontent-length: {len(body)}\r\n\r\n".encode() + body)
        await writer.drain()

    return say


async def test_who_asked_for_it_is_told_by_mail_and_by_sms_each_once(servers: Servers) -> None:
    async with texting(servers) as here, here.world.sending():
        about, word = await here.reached(), uuid.uuid4()
        await here.wants("seat")
        await here.hear(LearnerEnrolled(**about, place="mosjoen"), word)
        await here.reach("sms", "sent")
        await here.reach("email", "sent")
        [came] = here.gateway.came
        [row] = await here.world.rows("SELECT id FROM notices WHERE channel = 'sms'")
        assert came.headers["authorization"] == "Bearer a-token"
        assert came.headers["content-type"] == "application/json"
        assert came.headers["host"] == f"127.0.0.1:{here.gateway.port}"
        assert came.event == {
            "to": PHONE,
            "text": "Du har fått plass på Ledelse. Det begynner tor. 14. jan. kl. 18.00, Mosjøen. "
            "http://localhost:8080/min-side",
            "reference": str(row["id"]),
        }
        said = await here.world.told()
        assert sorted((kind, data["channel"]) for kind, data in said) == [
            ("NoticeSent", "email"),
            ("NoticeSent", "sms"),
        ]
        for _ in range(2):  # said again, and replayed
            await here.hear(LearnerEnrolled(**about, place="mosjoen"), word)
        await here.hear(LearnerQueued(**about, places=["mosjoen"], place_in_line=1))
        await here.reach("email", "sent", "sent")
        await here.reach("sms", "sent")  # a place in line can wait for a mail
        assert len(here.sink.mails) == 2
        shown = await here.asking.get("/api/notifier/v1/me/notices", headers=here.signed())
        assert [one["template"] for one in shown.json()["items"]] == ["queued", "enrolled"], "each once in the feed"
        calendar = await here.world.rows("SELECT sequence FROM notices WHERE channel = 'sms'")
        assert [one["sequence"] for one in calendar] == [None]


@pytest.mark.parametrize("lacks", ["choice", "phone", "gateway", "category"])
async def test_nobody_else_is_sent_any(servers: Servers, lacks: str) -> None:
    off = {"sms_gateway_url": ""} if lacks == "gateway" else {}
    async with texting(servers, **off) as here, here.world.sending():
        about = await here.reached(phone=None if lacks == "phone" else PHONE)
        if lacks != "choice":
            await here.wants(*(("offer",) if lacks == "category" else ALL))
        await here.hear(LearnerEnrolled(**about, place="mosjoen"))
        await here.reach("email", "sent")
        await here.reach("sms")
        assert here.texts() == []


async def test_choices_are_shown_and_kept_and_say_why_there_is_no_sms(servers: Servers) -> None:
    async with texting(servers) as here:
        assert "no phone number" in (await here.get()).json()["unavailable"]["sms"]
        await here.reached()
        first = (await here.get()).json()
        assert first["unavailable"] == {}
        assert first["categories"]["seat"] == {"email": "at_once", "inapp": "at_once", "sms": "off"}
        await here.wants("seat", "changes")
        then = (await here.get()).json()
        assert [name for name, each in then["categories"].items() if each["sms"] == "at_once"] == ["seat", "changes"]
        assert (await here.put(then)).json() == then, "what was read can be sent"
        rows = await here.world.rows("SELECT category, channel, cadence FROM preferences ORDER BY category")
        assert [tuple(row) for row in rows] == [("changes", "sms", "at_once"), ("seat", "sms", "at_once")]
    async with texting(servers, sms_gateway_url="") as here:
        await here.reached()
        assert "no gateway" in (await here.get()).json()["unavailable"]["sms"]


async def test_a_mail_server_that_is_away_holds_up_no_sms(servers: Servers) -> None:
    async with texting(servers) as here:
        here.sink.rcpt = ["451 4.2.1 not now"] * 5
        about = await here.reached()
        await here.wants(*ALL)
        async with here.world.sending():
            await here.hear(LearnerQueued(**about, places=["mosjoen"], place_in_line=1))
            await here.reach("email", "deferred")
        await here.hear(offer(about, datetime.now(UTC) + timedelta(days=2)))
        await here.world.hurry()
        async with here.world.sending():
            await here.reach("sms", "sent")
            await here.reach("email", "deferred", "due")
        here.sink.rcpt = []
        await here.world.hurry()
        async with here.world.sending():  # the same mails are taken in hand once more
            await here.reach("email", "sent", "sent")
        await here.reach("sms", "sent")
        [text] = here.texts()
        assert text["text"].startswith("Du har fått tilbud om plass på Ledelse. Svar innen ")


async def test_a_gateway_that_is_away_holds_up_no_mail_and_what_it_may_have_comes_again_as_the_same(
    servers: Servers, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("services.notifier.channels.sms.TOTAL_S", 0.5)
    async with texting(servers) as here:
        here.says(silence)
        about = await here.reached()
        await here.wants(*ALL)
        async with here.world.sending():
            await here.hear(LearnerEnrolled(**about, place="mosjoen"))
            await here.reach("sms", "deferred")
            await here.hear(LearnerEnrolled(**about, place="online", from_queue=True))
            await here.reach("email", "sent", "sent")
            assert (await here.reasons())[0] == ("deferred", "unanswered")
            await here.world.hurry()
            await here.reach("sms", "sent", "sent")
        first, again, other = here.texts()
        assert first == again, "by its reference the gateway knows it"
        assert other["reference"] != first["reference"]
        [row] = await here.world.rows("SELECT resends, attempts FROM notices WHERE channel = 'sms' ORDER BY id LIMIT 1")
        assert tuple(row) == (1, 2)


def head(status: int, trickles: bool = False, goes: bool = False) -> Any:
    """An answer of which the status comes and not the end: nothing more, a sign now and then, or no connection."""

    async def say(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(f"HTTP/1.1 {status} So\r\ncontent-length: 1000\r\n\r\n{{".encode())
        await writer.drain()
        gone = asyncio.ensure_future(reader.read())
        while trickles and not gone.done():
            writer.write(b" ")
            await asyncio.wait([gone], timeout=0.05)
        if not goes:
            await gone

    return say


@pytest.mark.parametrize("how", ["hangs", "trickles", "goes"])
@pytest.mark.parametrize(("status", "state"), [(202, "sent"), (400, "failed")])
async def test_an_answer_whose_body_does_not_end_counts_by_its_status(
    servers: Servers, monkeypatch: pytest.MonkeyPatch, how: str, status: int, state: str
) -> None:
    """Red control: what the gateway took is sent again and again, for five days, each time to the learner's phone."""
    monkeypatch.setattr("services.notifier.channels.sms.TOTAL_S", 1.0)
    monkeypatch.setattr("services.notifier.channels.sms.BODY_S", 1.5)
    async with texting(servers) as here:
        here.says(head(status, trickles=how == "trickles", goes=how == "goes"))
        about = await here.reached()
        await here.wants("seat")
        async with here.world.sending():
            await here.hear(LearnerEnrolled(**about, place="mosjoen"))
            await here.reach("sms", state)
        assert len(here.gateway.came) == 1


@pytest.mark.parametrize(
    ("answer", "state", "reason", "longer_s"),
    [
        ((429, {"retry-after": "1200"}), "deferred", "answer_429", 1190),
        ((503, {"retry-after": "1200"}), "deferred", "answer_503", 1190),
        ((500, {"retry-after": "1200"}), "deferred", "answer_500", 0),
        ((301, {"location": "http://127.0.0.1:9/"}), "deferred", "answer_301", 0),
        (401, "deferred", "answer_401", 0),
        (400, "failed", "answer_400", 0),
        (code(b'{"code": "too_dear"}'), "failed", "answer_422", 0),
        (code(WRONG_NUMBER), "failed", "refused_number", 0),
    ],
)
async def test_each_answer_has_its_state_and_its_cause(
    servers: Servers, answer: Any, state: str, reason: str, longer_s: int
) -> None:
    async with texting(servers) as here, here.world.sending():
        here.says(answer)
        about = await here.reached()
        await here.wants("seat")
        await here.hear(LearnerEnrolled(**about, place="mosjoen"))
        await here.reach("sms", state)
        [row] = await here.world.rows(
            "SELECT reason, extract(epoch FROM due_at - app_now()) AS wait_s FROM notices WHERE channel = 'sms'"
        )
        assert row["reason"] == reason
        if state == "deferred":
            assert (longer_s or -1) <= row["wait_s"] <= (longer_s + 11 if longer_s else 4)
        await here.reach("email", "sent")
        assert len(here.gateway.came) == 1


async def test_a_busy_gateway_is_left_alone_for_a_while(servers: Servers) -> None:
    async with texting(servers) as here:
        here.gateway.always["/sms"] = 429
        await here.reached()
        await here.wants("seat")
        for number in range(12):  # each of them another's
            about = await here.reached(phone=f"+47912345{number:02}")
            await here.hear(LearnerEnrolled(**about, place="mosjoen"))
        async with here.world.sending():
            await here.reach("email", *["sent"] * 12)

            async def looked_at() -> bool:
                rows = await here.world.rows(
                    "SELECT FROM notices WHERE channel = 'sms' AND (state = 'deferred' OR due_at > app_now())"
                )
                return len(rows) == 12

            await until(looked_at)
        assert 1 <= len(here.gateway.came) <= here.world.settings.sender_per_domain, "the others were not sent there"


async def test_a_wrong_number_is_told_once_and_sent_nothing_until_there_is_another(servers: Servers) -> None:
    async with texting(servers) as here, here.world.sending():
        here.says(code(WRONG_NUMBER))
        about = await here.reached()
        await here.wants("seat")
        for states in (["failed"], ["failed", "suppressed"]):
            await here.hear(LearnerEnrolled(**about, place="mosjoen"))
            await here.reach("sms", *states)
        assert (await here.reasons())[1] == ("suppressed", "bounced")
        await here.reach("email", "sent", "sent")  # the address is another thing
        bounced = [data for kind, data in await here.world.told() if kind == "AddressBounced"]
        assert bounced == [{"learner_id": str(about["learner_id"]), "reason": "invalid_number"}]
        assert len(here.texts()) == 1
        # The same number said again is still wrong; another is not; and an operator may try once more.
        await here.world.contact_is_known(
            about["learner_id"], "kari@example.no", "nb", Caller(ISSUER, "kari").key, PHONE
        )
        assert len(await here.world.rows("SELECT FROM bounced_addresses")) == 1
        work = operating.release
        settings = here.world.settings
        assert await here.world.here.database.run(lambda conn: work(conn, settings, about["learner_id"], True)) == (
            True,
            True,
        )
        await here.asking.put(
            "/api/notifier/v1/me/contact",
            json={"email": "kari@example.no", "language": "nb", "phone": "92345678"},
            headers=here.signed(),
        )
        await here.hear(LearnerEnrolled(**about, place="mosjoen"))
        await here.reach("sms", "failed", "suppressed", "sent")
        assert here.texts()[-1]["to"] == "+4792345678"


async def test_a_text_comes_in_the_morning_unless_it_cannot_wait_and_only_while_it_is_so(servers: Servers) -> None:
    async with texting(servers, quiet_hours="21:00-07:00") as here:
        await here.reached()
        await here.wants(*ALL)
        async with at(here.world, NIGHT):
            sitting, left, soon = [await here.reached() for _ in range(3)]
            async with here.world.sending():
                for about in (sitting, left):
                    await here.hear(LearnerEnrolled(**about, place="mosjoen"))
                await here.reach("email", "sent", "sent")  # a mail about the own seat wakes nobody
                await here.reach("sms", "held", "held")
                assert await here.reasons() == [("held", "quiet_hours")] * 2
                await here.hear(LearnerWithdrew(**left, place="mosjoen", reason="own wish"))
                await here.hear(offer(soon, NIGHT + timedelta(hours=8)))  # to be answered at 08:00
                await here.reach("sms", "held", "held", "sent")
                assert "tilbud" in here.texts()[0]["text"]
        async with at(here.world, MORNING), here.world.sending():
            await here.reach("sms", "sent", "suppressed", "sent")
            assert (await here.reasons())[1] == ("suppressed", "no_longer_concerned")
        assert len(here.texts()) == 2


async def test_a_text_that_the_gateway_put_off_in_the_evening_wakes_nobody_at_night(
    servers: Servers, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Red control: what was tried once goes as soon as it can, and a phone sounds at half past ten."""
    monkeypatch.setattr("services.notifier.channels.sms.TOTAL_S", 0.5)
    async with texting(servers, quiet_hours="21:00-07:00") as here:
        await here.reached()
        await here.wants("seat")
        here.says(silence, 503)
        async with at(here.world, MORNING - timedelta(hours=12)), here.world.sending():
            for count in (1, 2):
                await here.hear(LearnerEnrolled(**await here.reached(), place="mosjoen"))
                await here.reach("sms", *["deferred"] * count)
        async with at(here.world, NIGHT), here.world.sending():
            await here.world.hurry()
            await here.reach("sms", "held", "held")
        assert len(here.texts()) == 2
        async with at(here.world, MORNING), here.world.sending():
            await here.reach("sms", "sent", "sent")
        assert len(here.texts()) == 4
        rows = await here.world.rows("SELECT resends, attempts FROM notices WHERE channel = 'sms' ORDER BY id")
        assert [row["resends"] for row in rows] == [1, 0]
        assert all(row["resends"] < row["attempts"] for row in rows)


async def test_news_is_texted_within_two_days_of_it_and_what_is_later_is_for_the_mail(servers: Servers) -> None:
    async with texting(servers) as here:
        about = await here.reached()
        await here.wants("changes")
        async with here.world.sending():
            await here.hear(LearnerEnrolled(**about, place="mosjoen"))
            await here.world.hear(events.courses, [moved(here.world, 2, timedelta(hours=1))])
            await here.reach("sms", "suppressed")
            assert await here.reasons() == [("suppressed", "not_urgent")]
        async with at(here.world, DAY_BEFORE), here.world.sending():
            await here.world.hear(events.courses, [moved(here.world, 3, timedelta(hours=2))])
            await here.reach("sms", "suppressed", "sent")
            await here.reach("email", "sent", "sent", "sent")
        assert [one["text"] for one in here.texts()] == [
            "Endring i Ledelse. Nytt: tor. 14. jan. kl. 20.00. Se hva som er nytt: http://localhost:8080/min-side"
        ]


async def test_that_the_last_meeting_is_dropped_is_texted_though_the_run_is_over_by_that(servers: Servers) -> None:
    async with texting(servers) as here:
        about = await here.reached()
        await here.wants("changes")
        now, hour = START - timedelta(hours=30), timedelta(hours=1)
        both = [Session(starts_at=day, ends_at=day + hour) for day in (now - 24 * hour, START)]
        async with at(here.world, now):
            for version, meetings in ((2, both), (3, both[:1])):
                whole = {"starts_at": both[0].starts_at, "ends_at": meetings[-1].ends_at}
                await here.world.hear(events.courses, [changed(here.world, version, sessions=meetings, **whole)])
                if version == 2:
                    await here.hear(LearnerEnrolled(**about, place="mosjoen"))
            await here.hear(EnrolmentFinished(**about, place="mosjoen"))
            async with here.world.sending():
                await here.reach("email", "sent", "sent")
                await here.reach("sms", "sent")
        assert [one["text"] for one in here.texts()] == [
            "Endring i Ledelse. Se hva som er nytt: http://localhost:8080/min-side"
        ]


async def test_several_changes_are_one_text_and_of_what_is_as_it_was_there_is_none(servers: Servers) -> None:
    async with texting(servers, changes_settle_s=120) as here:
        about = await here.reached()
        await here.wants("changes")
        await here.hear(LearnerEnrolled(**about, place="mosjoen"))
        async with at(here.world, DAY_BEFORE), here.world.sending():
            await here.world.hear(events.courses, [moved(here.world, 2, timedelta(hours=1))])
            await here.reach("sms", "held")
            await here.world.hear(events.courses, [moved(here.world, 3, timedelta(hours=2))])
            await here.reach("sms", "suppressed", "held")
            assert await here.reasons() == [("suppressed", "told_with_later"), ("held", "settling")]
        async with at(here.world, DAY_BEFORE + timedelta(minutes=5)), here.world.sending():
            await here.reach("sms", "suppressed", "sent")
            assert "kl. 20.00" in here.texts()[0]["text"]
            await here.world.hear(events.courses, [moved(here.world, 4, timedelta(hours=3))])
            await here.reach("sms", "suppressed", "sent", "held")
            await here.world.hear(events.courses, [moved(here.world, 5, timedelta(hours=2))])
            await here.reach("sms", "suppressed", "sent", "suppressed")
        assert len(here.texts()) == 1


async def test_a_change_that_was_texted_is_taken_back_by_a_text_too(servers: Servers) -> None:
    """Its mail waits for a digest. Red control: whoever read the first text comes an hour late."""
    async with texting(servers) as here:
        about = await here.reached()
        await here.put({"categories": {"changes": {"email": "daily", "sms": "at_once"}}})
        await here.hear(LearnerEnrolled(**about, place="mosjoen"))
        async with at(here.world, DAY_BEFORE), here.world.sending():
            await here.world.hear(events.courses, [moved(here.world, 2, timedelta(hours=1))])
            await here.reach("sms", "sent")
            await here.reach("email", "sent", "held")
            await here.world.hear(events.courses, [moved(here.world, 3, timedelta(0))])
            await here.reach("sms", "sent", "sent")
            await here.reach("email", "sent", "suppressed", "held")
        assert ["kl. 19.00" in one["text"] for one in here.texts()] == [True, False]


async def test_a_text_that_was_put_off_gives_way_to_that_of_the_next_change(servers: Servers) -> None:
    """Its mail has gone. Red control: a phone sounds with a time that holds no more, and then with the right one."""
    async with texting(servers) as here:
        about = await here.reached()
        await here.wants("changes")
        await here.hear(LearnerEnrolled(**about, place="mosjoen"))
        async with at(here.world, DAY_BEFORE), here.world.sending():
            here.says(503)
            await here.world.hear(events.courses, [moved(here.world, 2, timedelta(hours=1))])
            await here.reach("sms", "deferred")
            await here.reach("email", "sent", "sent")
            await here.world.hear(events.courses, [moved(here.world, 3, timedelta(hours=2))])
            await here.reach("email", "sent", "sent", "sent")
            await here.world.hurry()
            await here.reach("sms", "suppressed", "sent")
        assert ["kl. 20.00" in one["text"] for one in here.texts()] == [False, True]


async def test_changes_are_texted_each_to_whom_no_mail_tells_of_them(servers: Servers) -> None:
    async with texting(servers, changes_settle_s=120) as here:
        about = await here.reached()
        await here.put({"categories": {"changes": {"email": "off", "sms": "at_once"}}})
        await here.hear(LearnerEnrolled(**about, place="mosjoen"))
        async with at(here.world, DAY_BEFORE), here.world.sending():
            await here.world.hear(events.courses, [moved(here.world, 2, timedelta(hours=1))])
            await here.reach("sms", "held")
            await here.reach("email", "sent", "suppressed")  # while it is due, the next change is told with it
            await here.world.hear(events.courses, [moved(here.world, 3, timedelta(0))])
            await here.reach("sms", "held", "held")
        async with at(here.world, DAY_BEFORE + timedelta(minutes=5)), here.world.sending():
            await here.reach("sms", "sent", "sent")
        assert [one["text"].partition(" Se hva")[0] for one in here.texts()] == [
            "Endring i Ledelse.",  # "kl. 19.00" is so no more
            "Endring i Ledelse. Nytt: tor. 14. jan. kl. 18.00.",
        ]
        assert len(here.sink.mails) == 1


async def test_what_is_owed_when_the_phone_or_the_gateway_goes_is_not_sent(servers: Servers) -> None:
    async with texting(servers, quiet_hours="21:00-07:00") as here:
        await here.reached()
        await here.wants("seat")
        async with at(here.world, NIGHT), here.world.sending():
            about = await here.reached()
            await here.hear(LearnerEnrolled(**about, place="mosjoen"))
            await here.reach("sms", "held")
        contact = {"email": "kari@example.no", "language": "nb"}
        await here.asking.put("/api/notifier/v1/me/contact", json=contact, headers=here.signed())
        async with at(here.world, MORNING), here.world.sending():
            await here.reach("sms", "suppressed")
            assert await here.reasons() == [("suppressed", "no_phone")]
        await here.world.rows("UPDATE contacts SET phone = $1", PHONE)
        await here.world.rows(
            "UPDATE notices SET state = 'due', reason = NULL, due_at = app_now() WHERE channel = 'sms'"
        )
        off = here.world.settings.model_copy(update={"sms_gateway_url": ""})
        async with here.world.sending(Sender(off)):
            await here.reach("sms", "suppressed")
            assert await here.reasons() == [("suppressed", "channel_off")]
        assert here.texts() == []


async def test_a_reminder_and_a_cancelled_course_are_texted(servers: Servers) -> None:
    async with texting(servers) as here:
        about = await here.reached()
        await here.wants("seat", "reminders")
        await here.hear(LearnerEnrolled(**about, place="mosjoen"))
        await here.world.rows(
            "UPDATE notices SET template = 'reminder', facts = '{\"days\": 1}', expires_at = $1", START
        )
        async with at(here.world, DAY_BEFORE), here.world.sending():
            await here.reach("sms", "sent")
            await here.hear(LearnerWithdrew(**about, place="mosjoen", reason="offering_cancelled"))
            await here.world.rows("UPDATE offerings SET cancelled = true")
            await here.reach("sms", "sent", "sent")
        assert [one["text"].partition(" http")[0] for one in here.texts()] == [
            "Husk Ledelse: tor. 14. jan. kl. 18.00, Mosjøen. Kan du ikke komme, så meld deg av:",
            "Ledelse, tor. 14. jan. kl. 18.00, er avlyst. Du trenger ikke å melde deg av. Les mer:",
        ]


async def test_the_number_is_in_the_contact_alone_and_in_nothing_that_is_said(servers: Servers, capfd: Any) -> None:
    canary = "+4799887766"
    async with texting(servers) as here, here.world.sending():
        here.says(503, code(WRONG_NUMBER))
        about = await here.reached(phone=canary)
        await here.wants("seat")
        await here.hear(LearnerEnrolled(**about, place="mosjoen"))
        await here.reach("sms", "deferred")
        await here.world.hurry()
        await here.reach("sms", "failed")
        tables = await here.world.rows("SELECT tablename FROM pg_tables WHERE schemaname = 'public'")
        has = [
            row["tablename"]
            for row in tables
            if await here.world.rows(
                f'SELECT FROM "{row["tablename"]}" AS one WHERE to_jsonb(one)::text ~ $1',
                f"99887766|{b'99887766'.hex()}",
            )
        ]
        assert has == ["contacts"]
        assert "99887766" not in json.dumps(await here.world.told())
    assert "99887766" not in "".join(capfd.readouterr())


async def test_two_senders_text_each_once(servers: Servers) -> None:
    async with texting(servers) as here:
        await here.reached()
        await here.wants("seat")
        for _ in range(20):
            await here.hear(LearnerEnrolled(**await here.reached(), place="mosjoen"))
        async with here.world.sending(*(Sender(here.world.settings) for _ in range(3))):
            await here.reach("sms", *["sent"] * 20)
            await here.reach("email", *["sent"] * 20)
        references: Sequence[str] = [one["reference"] for one in here.texts()]
        assert len(references) == len(set(references)) == 20
