"""A notice becomes one mail, whatever the mail server answers and whoever dies on the way."""

import asyncio
import functools
import json
import uuid
from collections import Counter
from collections.abc import AsyncIterator
from typing import Any

import asyncpg
import pytest

from contracts.catalogue import CourseCreated, OfferingCancelled
from contracts.enrolment import ContactGiven, LearnerEnrolled, LearnerQueued, LearnerWithdrew
from kit import sealing
from kit.database import Unknown, connect
from kit.listeners import Refused
from kit.timeline import timeline
from services.notifier import events
from services.notifier.channels.channel import Later, Never
from services.notifier.channels.failing import Failing
from services.notifier.sender import AHEAD, Sender, delay_s
from services.notifier.store import outgoing
from tests.delivery import Servers, until
from tests.notifying import PUBLIC, Sink, World, mail_server, notifier

pytestmark = pytest.mark.anyio


@pytest.fixture(params=[False, True], ids=["one-by-one", "together"])
async def sink(request: pytest.FixtureRequest) -> AsyncIterator[Sink]:
    async with mail_server() as sink:
        sink.pipelining = request.param
        yield sink


@pytest.fixture
async def world(servers: Servers, sink: Sink) -> AsyncIterator[World]:
    async with notifier(servers, sink) as world:
        yield world


async def test_each_notice_is_one_mail_to_its_learner(world: World, sink: Sink) -> None:
    await world.learners(30)
    async with world.sending():
        await world.all_are("sent", 30)
    assert sorted(sink.recipients()) == sorted(f"l{number}@example.no" for number in range(30))
    assert len({mail["Message-ID"] for mail in sink.mails}) == 30
    assert {mail["Subject"] for mail in sink.mails} == {"Du har fått plass på Ledelse"}
    assert sink.connections <= world.settings.sender_connections
    told = await world.told()
    assert Counter(kind for kind, _ in told) == {"NoticeSent": 30}
    assert "@" not in json.dumps([data for _, data in told])


async def test_each_event_has_its_words_in_the_learners_language(world: World, sink: Sink) -> None:
    one, two, three = uuid.uuid4(), uuid.uuid4(), uuid.uuid4()
    await world.contact_is_known(one, "one@example.no", "en")
    await world.contact_is_known(two, "two@example.no", "nn")
    await world.contact_is_known(three, "three@example.no", "sma")
    await world.hear(
        events.enrolments,
        [
            LearnerQueued(**world.about(one), places=["mosjoen"], place_in_line=4),
            LearnerEnrolled(**world.about(two), place="online", from_queue=True),
            LearnerWithdrew(**world.about(three), place="mosjoen", reason="offering_cancelled"),
        ],
    )
    cancelled = OfferingCancelled(offering_id=world.offering, course_id=world.course, partner="torgar", version=2)
    await world.hear(events.courses, [cancelled])
    async with world.sending():
        await world.all_are("sent", 3)
    subjects = {mail["To"].addresses[0].addr_spec: mail["Subject"] for mail in sink.mails}
    assert subjects == {
        "one@example.no": "You are in line for Leadership",
        "two@example.no": "Plassen på Ledelse er din",
        "three@example.no": "Ledelse er avlyst",
    }


async def test_an_event_heard_again_tells_nobody_twice(world: World, sink: Sink) -> None:
    learner, event_id = uuid.uuid4(), uuid.uuid4()
    enrolled = LearnerEnrolled(**world.about(learner), place="mosjoen")
    await world.contact_is_known(learner, "kari@example.no")
    async with world.sending():
        await world.hear(events.enrolments, [enrolled], event_id)
        await world.all_are("sent", 1)
        await world.hear(events.enrolments, [enrolled], event_id)
        await world.hear(events.enrolments, [LearnerWithdrew(**world.about(learner))])
        await world.all_are("sent", 2)
    assert len(sink.mails) == 2


async def test_a_notice_waits_for_its_contact_and_then_goes_at_once(world: World, sink: Sink) -> None:
    learner = uuid.uuid4()
    await world.hear(events.enrolments, [LearnerEnrolled(**world.about(learner), place="mosjoen")])
    await world.learners(1)
    async with world.sending():
        await until(lambda: world.rows("SELECT FROM notices WHERE state = 'sent'"))
        assert await world.states() == {"due": 1, "sent": 1}
        await world.contact_is_known(learner, "late@example.no")

        async def arrived() -> bool:
            return "late@example.no" in sink.recipients()

        await until(arrived, within_s=2)


async def test_the_words_about_one_enrolment_keep_their_order(world: World, sink: Sink) -> None:
    learner, enrolment = uuid.uuid4(), uuid.uuid4()
    sink.data = ["451 later"]
    await world.contact_is_known(learner, "kari@example.no")
    await world.hear(
        events.enrolments,
        [
            LearnerQueued(**world.about(learner, enrolment), places=["mosjoen"], place_in_line=1),
            LearnerEnrolled(**world.about(learner, enrolment), place="mosjoen", from_queue=True),
        ],
    )
    async with world.sending():
        await world.all_are("sent", 2)
    assert [mail["Subject"] for mail in sink.mails] == ["Du står i kø for Ledelse", "Plassen på Ledelse er din"]


@pytest.mark.parametrize("answer", ["451 busy", "gone"])
async def test_a_mail_that_was_not_taken_is_sent_again(world: World, sink: Sink, answer: str) -> None:
    sink.data = [answer] * 3
    await world.learners(2)
    async with world.sending():
        await until(lambda: world.rows("SELECT FROM notices WHERE state = 'deferred' AND due_at > app_now()"))

        async def all_sent() -> bool:
            await world.hurry()
            return (await world.states()) == {"sent": 2}

        await until(all_sent)
    assert len(sink.mails) == 2
    assert len(sink.seen) == 5
    assert len(set(sink.seen)) == 2  # a repeat has the Message-ID it had
    assert Counter(kind for kind, _ in await world.told()) == {"NoticeSent": 2}


async def test_a_mail_that_was_taken_without_a_word_comes_again_under_the_same_id(world: World, sink: Sink) -> None:
    """The declared window from the other side: no sender can tell this from a mail that was not taken."""
    sink.data = ["taken, then gone"]
    await world.learners(1)
    async with world.sending():
        await world.all_are("deferred", 1)
        await world.hurry()
        await world.all_are("sent", 1)
    assert len(sink.mails) == 2
    assert len({mail["Message-ID"] for mail in sink.mails}) == 1
    assert await world.rows("SELECT FROM notices WHERE resends = 1")


@pytest.mark.parametrize(
    ("rcpt", "data", "reason"),
    [(["550 no such user"], [], "refused_address"), ([], ["554 no"], "refused_message")],
)
async def test_a_final_no_is_told_and_not_asked_again(
    world: World, sink: Sink, rcpt: list[str], data: list[str], reason: str
) -> None:
    sink.rcpt, sink.data = list(rcpt), list(data)
    await world.learners(1)
    async with world.sending():
        await world.all_are("failed", 1)
        await world.learners(1)  # the connection is of use after a "no"
        await until(lambda: world.rows("SELECT FROM notices WHERE state = 'sent'"))
    [(kind, said), (other, _)] = await world.told()
    assert (kind, other) == ("NoticeFailed", "NoticeSent")
    assert said["reason"] == reason
    assert sink.connections == 1


async def test_a_mail_server_that_is_away_costs_nothing_but_time(world: World, sink: Sink) -> None:
    nobody = world.settings.model_copy(update={"smtp_port": 1})
    await world.learners(1)
    async with world.sending(Sender(nobody)):
        await world.all_are("deferred", 1)
    [row] = await world.rows("SELECT reason, attempts FROM notices")
    assert row["reason"] == "no_connection"
    await world.hurry()
    async with world.sending():
        await world.all_are("sent", 1)
    assert len(sink.mails) == 1
    assert await world.rows("SELECT FROM notices WHERE resends = 0 AND attempts = 2")  # it cannot have gone before


async def test_a_mail_server_that_never_answers_holds_nobody_else_back(world: World, sink: Sink) -> None:
    slow = world.settings.model_copy(update={"smtp_timeout_s": 1})
    sink.data = ["silence"]
    await world.learners(5)
    async with world.sending(Sender(slow)):
        await until(lambda: world.rows("SELECT FROM notices WHERE state = 'deferred' AND reason = 'unanswered'"))
        assert await world.states() == {"deferred": 1, "sent": 4}


async def killed_while_sending(world: World, sink: Sink, instance: str = "") -> str:
    """The Message-ID of a mail that the server took and nobody noted, because the sender died just then."""
    sink.data = ["silence"]
    await world.learners(1)
    world.here.stopping.clear()
    named = world.settings.model_copy(update={"instance": instance})
    victim = asyncio.create_task(Sender(named).run(world.here))

    async def under_way() -> bool:
        return len(sink.seen) == 1

    await until(under_way)
    [claimed] = await world.rows("SELECT state, message_id FROM notices")
    assert claimed["state"] == "sending"
    assert claimed["message_id"] == sink.seen[0]
    for task in asyncio.all_tasks():
        if "Sender" in str(task.get_coro()):
            task.cancel()
    await asyncio.gather(victim, return_exceptions=True)
    return str(claimed["message_id"])


async def test_a_sender_killed_while_sending_costs_a_repeat_with_the_same_message_id(
    world: World, sink: Sink, capsys: pytest.CaptureFixture[str]
) -> None:
    """The declared window: the server took the mail, and nobody noted it."""
    message_id = await killed_while_sending(world, sink)
    async with world.sending():
        await world.learners(1)
        await until(lambda: world.rows("SELECT FROM notices WHERE state = 'sent'"))
        assert await world.states() == {"sending": 1, "sent": 1}  # for 60 s it may still be alive
        assert "mail_may_come_twice" not in capsys.readouterr().out
        await world.rows("UPDATE notices SET sending_since = app_now() - interval '61 s' WHERE state = 'sending'")
        await world.all_are("sent", 2)
    assert sorted(Counter(sink.seen).values()) == [1, 2]
    assert sink.seen.count(message_id) == 2
    assert Counter(kind for kind, _ in await world.told()) == {"NoticeSent": 2}
    assert capsys.readouterr().out.count("mail_may_come_twice") == 1


async def test_a_sender_with_a_lasting_name_takes_its_own_back_at_once(
    world: World, sink: Sink, capsys: pytest.CaptureFixture[str]
) -> None:
    """Red control: the sender without a name in the test above, and the other replica here, leave it for 60 s."""
    message_id = await killed_while_sending(world, sink, "one")
    another = Sender(world.settings.model_copy(update={"instance": "two"}))
    async with world.sending(another):
        await world.learners(1)
        await until(lambda: world.rows("SELECT FROM notices WHERE state = 'sent'"))
        assert await world.states() == {"sending": 1, "sent": 1}  # it is not this one's to take
    again = Sender(world.settings.model_copy(update={"instance": "one"}))
    async with world.sending(again):
        await world.all_are("sent", 2)
    assert sink.seen.count(message_id) == 2
    assert len(sink.seen) == 3
    assert capsys.readouterr().out.count("mail_may_come_twice") == 1


async def test_what_an_earlier_run_still_notes_is_not_sent_again(world: World) -> None:
    await world.learners(1)
    [notice] = await world.here.database.run(lambda conn: outgoing.claim(conn, 5, "x.example", "one"))
    assert await world.here.database.run(lambda conn: outgoing.take_back(conn, "two")) == 0
    assert await world.here.database.run(lambda conn: outgoing.take_back(conn, "one", [notice.id])) == 0  # in hand
    assert await world.here.database.run(lambda conn: outgoing.take_back(conn, "one")) == 1
    assert await world.here.database.run(lambda conn: outgoing.mark_sent(conn, [notice]))
    assert await world.here.database.run(lambda conn: outgoing.claim(conn, 5, "x.example", "one")) == []


async def test_what_was_taken_back_has_its_place_in_a_timeline(world: World) -> None:
    """Red control: it was in hand since the beginning of time, which stands beside no other time."""
    await world.learners(1)
    [notice] = await world.here.database.run(lambda conn: outgoing.claim(conn, 5, "x.example", "one"))
    await world.here.database.run(lambda conn: outgoing.mark_sent(conn, [notice]))
    await world.learners(1)
    [notice] = await world.here.database.run(lambda conn: outgoing.claim(conn, 5, "x.example", "one"))
    assert await world.here.database.run(lambda conn: outgoing.take_back(conn, "one")) == 1
    async with world.here.database.reading() as conn:
        rows = await timeline(conn, ["asked-1"], outgoing.timeline)
    assert [row["what"] for row in rows] == ["notice sent", "notice sending"]


@pytest.mark.parametrize("name", ["one", ""])
async def test_what_was_taken_in_hand_without_knowing_is_taken_back_at_once(
    world: World, sink: Sink, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """A COMMIT whose answer is lost. Red control: the sender without a name leaves them in `sending` for 60 s."""
    at_once = world.settings.sender_connections * AHEAD
    run, lost = world.here.database.run, list[outgoing.Claimed]()

    async def losing(work: Any, purpose: str = "web") -> Any:
        done = await run(work, purpose)
        if purpose == "worker" and isinstance(done, list) and done and not lost:
            lost.extend(done)
            raise Unknown
        return done

    monkeypatch.setattr(world.here.database, "run", losing)
    await world.learners(at_once + 2)
    async with world.sending(Sender(world.settings.model_copy(update={"instance": name}))):
        if name:
            await world.all_are("sent", at_once + 2)
        else:
            await until(lambda: world.rows("SELECT FROM notices HAVING count(*) FILTER (WHERE state = 'sent') = 2"))
            assert await world.states() == {"sending": at_once, "sent": 2}
    assert len(lost) == at_once
    assert len(sink.seen) == len(set(sink.seen)) == (at_once + 2 if name else 2)


async def test_a_letter_whose_turn_does_not_come_is_put_back_for_another(
    world: World, sink: Sink, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A mail server that keeps one connection waiting holds up the letter on it, and none that waits behind it."""
    monkeypatch.setattr("services.notifier.sender.TURN_S", 0.2)
    sink.data = ["silence"]
    await world.learners(3)
    async with world.sending(Sender(world.settings.model_copy(update={"sender_connections": 1}))):
        put_back = "SELECT FROM notices WHERE state = 'due' AND attempts = 0 AND resends = 0 AND message_id IS NOT NULL"
        await until(lambda: _count(world, put_back, 2))
        async with world.sending():
            await until(lambda: _count(world, "SELECT FROM notices WHERE state = 'sent' AND attempts = 1", 2))
            assert await world.states() == {"sending": 1, "sent": 2}


async def _count(world: World, sql: str, wanted: int) -> bool:
    return len(await world.rows(sql)) == wanted


async def test_a_strangers_lock_costs_time_and_no_second_mail(
    world: World, sink: Sink, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The mail is taken, and its row is locked when that is to be noted, for longer than a statement waits."""
    run, stranger, locked = world.here.database.run, await connect(world.settings, "operator"), list[str]()

    async def watched(work: Any, purpose: str = "web") -> Any:
        if sink.seen and not locked:
            locked.append("held")
            await stranger.execute("BEGIN; LOCK TABLE notices IN ACCESS EXCLUSIVE MODE")
        try:
            return await run(work, purpose)
        except asyncpg.LockNotAvailableError:
            if "met" not in locked:  # two may meet it at the same moment, and it is let go once
                locked.append("met")
                await stranger.execute("ROLLBACK")
            raise

    monkeypatch.setattr(world.here.database, "run", watched)
    await world.learners(1)
    async with world.sending():
        await until(lambda: asyncio.sleep(0, "met" in locked), within_s=30)  # till then our own look would wait, too
        await until(lambda: world.rows("SELECT FROM notices WHERE state = 'sent'"), within_s=30)
    await stranger.close()
    assert "met" in locked
    assert len(sink.seen) == 1
    assert "mail_may_come_twice" not in capsys.readouterr().out


async def test_a_domain_with_letters_of_its_own_is_written_to(world: World, sink: Sink) -> None:
    about = world.about(uuid.uuid4())
    await world.contact_is_known(about["learner_id"], "kari@blåbær.no")
    await world.hear(events.enrolments, [LearnerEnrolled(**about, place="mosjoen")])
    async with world.sending():
        await world.all_are("sent", 1)
    assert sink.asked == ["kari@xn--blbr-roah.no"]


async def test_two_senders_send_each_mail_once(world: World, sink: Sink) -> None:
    await world.learners(60)
    async with world.sending(Sender(world.settings), Sender(world.settings), Sender(world.settings)):
        await world.all_are("sent", 60)
    assert len(sink.seen) == len(set(sink.seen)) == 60


async def test_a_late_sender_does_not_undo_what_another_noted(world: World) -> None:
    await world.learners(1)
    [first] = await world.here.database.run(lambda conn: outgoing.claim(conn, 5, "x.example", ""))
    assert await world.here.database.run(lambda conn: outgoing.claim(conn, 5, "x.example", "")) == []
    await world.rows("UPDATE notices SET sending_since = app_now() - interval '61 s'")
    [second] = await world.here.database.run(lambda conn: outgoing.claim(conn, 5, "other.example", ""))
    assert second.message_id == first.message_id
    assert not await world.here.database.run(lambda conn: outgoing.mark_failed(conn, first, "late"))
    assert await world.here.database.run(lambda conn: outgoing.mark_sent(conn, [second]))


async def test_what_may_have_gone_is_still_known_to_when_its_turn_did_not_come(world: World) -> None:
    """Red control: put back as any other, it goes a second time and nobody has said that it might."""
    await world.learners(1)
    run = world.here.database.run
    [lost] = await run(lambda conn: outgoing.claim(conn, 5, "x.example", ""))
    assert not lost.may_have_gone
    await world.rows("UPDATE notices SET sending_since = app_now() - interval '61 s'")
    for _ in range(2):  # its domain is slow, perhaps for long
        [again] = await run(lambda conn: outgoing.claim(conn, 5, "x.example", ""))
        assert (again.may_have_gone, again.attempt) == (True, 2)
        await run(functools.partial(outgoing.put_back, notices=[again], pauses_s=[0.0]))
        assert [row["resends"] for row in await world.rows("SELECT resends FROM notices")] == [0]
    [last] = await run(lambda conn: outgoing.claim(conn, 5, "x.example", ""))
    assert last.may_have_gone
    assert [row["resends"] for row in await world.rows("SELECT resends FROM notices")] == [1]


async def test_each_answer_of_a_channel_has_its_state(world: World) -> None:
    await world.learners(1)
    async with world.sending(Sender(world.settings, {"email": Failing(Later("busy"))})):
        await world.all_are("deferred", 1)
    await world.hurry()
    async with world.sending(Sender(world.settings, {"email": Failing(Never("no_thanks"))})):
        await world.all_are("failed", 1)
    [(kind, said)] = await world.told()
    assert (kind, said["reason"]) == ("NoticeFailed", "no_thanks")


async def test_a_notice_that_nobody_can_decide_about_holds_up_no_other(world: World, sink: Sink) -> None:
    """Red control: an error there ends the sender, and the next one takes the same in hand first."""
    await world.learners(2)
    await world.rows("UPDATE notices SET template = 'changed' WHERE id = (SELECT id FROM notices ORDER BY id LIMIT 1)")
    async with world.sending():

        async def other_sent() -> bool:
            return (await world.states()) == {"deferred": 1, "sent": 1}

        await until(other_sent)
    [row] = await world.rows("SELECT reason FROM notices WHERE state = 'deferred'")
    assert row["reason"] == "not_written"


async def test_a_notice_that_was_tried_for_too_long_is_given_up_and_told(world: World) -> None:
    """Not one that was owed long ago: many servers put off the first try of everybody. Nor one that nobody tried for
    days, as the notifier stood still. Red controls: by the time when it was owed, or by that of the first try."""
    away = Sender(world.settings, {"email": Failing(Later("busy"))})
    await world.learners(1)
    await world.rows("UPDATE notices SET created_at = app_now() - interval '30 days'")
    async with world.sending(away):
        await world.all_are("deferred", 1)
    hours = world.settings.give_up_hours
    await world.rows(
        """
        UPDATE notices SET tried_since = app_now() - make_interval(hours => $1) - interval '1 hour',
            due_at = app_now() - interval '2 hours'
        """,
        hours,
    )
    async with world.sending(away):

        async def tried_again() -> bool:
            return bool(await world.rows("SELECT FROM notices WHERE attempts > 1"))

        await until(tried_again)
        await world.all_are("deferred", 1)
    await world.rows(
        "UPDATE notices SET tried_since = app_now() - make_interval(hours => $1) - interval '1 hour'", hours
    )
    await world.hurry()
    async with world.sending(away):
        await world.all_are("failed", 1)
    assert [data["reason"] for _, data in await world.told()] == ["gave_up"]


async def test_an_older_course_or_contact_does_not_replace_a_newer(world: World, sink: Sink) -> None:
    learner = uuid.uuid4()
    course = CourseCreated(course_id=world.course, partner="torgar", code="L1", version=3, title={"nb": "Ny"})
    older = course.model_copy(update={"version": 2, "title": {"nb": "Gammel"}})
    await world.hear(events.courses, [course, older])
    await world.hear(events.courses, [older])
    world.seq = 100
    await world.contact_is_known(learner, "new@example.no")
    world.seq = 50
    await world.contact_is_known(learner, "old@example.no")
    await world.hear(events.enrolments, [LearnerEnrolled(**world.about(learner), place="mosjoen")])
    async with world.sending():
        await world.all_are("sent", 1)
    assert sink.recipients() == ["new@example.no"]
    assert sink.mails[0]["Subject"].endswith("Ny")


@pytest.mark.parametrize(
    ("letter", "reason"),
    [
        ({"email": "a@b.no, c@d.no", "name": "A"}, "bad_contact"),
        ({"email": "a@b.no\r\nBcc: c@d.no", "name": "A"}, "bad_contact"),
        ({"email": "a@b.no", "name": "A\r\nBcc: c@d.no"}, "bad_contact"),
        ({"email": "a@b.no", "phone": "b.no"}, "bad_contact"),
        ({"name": "A"}, "bad_contact"),
        (None, "unsealable"),
    ],
)
async def test_a_contact_that_will_not_do_is_refused_without_a_word_of_it(
    world: World, letter: dict[str, Any] | None, reason: str
) -> None:
    sealed = "not a letter" if letter is None else sealing.seal(PUBLIC, letter)
    with pytest.raises(Refused) as refused:
        await world.hear(world.contacts, [ContactGiven(learner_id=uuid.uuid4(), sealed=sealed)])
    assert refused.value.reason == reason
    assert "b.no" not in str(refused.value)
    assert "Bcc" not in str(refused.value)


def test_each_wait_is_longer_than_the_last_until_a_quarter_of_an_hour() -> None:
    assert 1 <= delay_s(1) <= 3
    assert 8 <= delay_s(4) <= 24
    assert 450 <= delay_s(1000) <= 1350
    assert len({delay_s(3) for _ in range(20)}) > 1
