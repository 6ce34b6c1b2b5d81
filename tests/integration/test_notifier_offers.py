"""An offer becomes one mail with two links that act; nobody but its reader ever sees them, and never too late."""

import uuid
from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from aiokafka import AIOKafkaProducer

from contracts.enrolment import LearnerEnrolled, LearnerWithdrew, SeatOffered, SeatOfferLapsed
from contracts.topics import Topic
from kit import sealing, topics
from kit.consumer import Consumer
from kit.parking import Record
from services.notifier import events
from services.notifier.sender import Sender
from tests.delivery import Servers, listening, until
from tests.notifying import PUBLIC, Sink, World, mail_server, notifier

pytestmark = pytest.mark.anyio

BEFORE = (datetime(2099, 3, 28, 7, tzinfo=UTC), "Svar innen lørdag 28. mars 2099 kl. 08.00.")
AFTER = (datetime(2099, 3, 29, 6, tzinfo=UTC), "Svar innen søndag 29. mars 2099 kl. 08.00.")
LATER = datetime(2099, 1, 1, tzinfo=UTC)
COLUMNS = """
SELECT table_name, column_name FROM information_schema.columns WHERE table_schema = 'public' ORDER BY 1, 2
"""


@pytest.fixture
async def sink() -> AsyncIterator[Sink]:
    async with mail_server() as sink:
        yield sink


@pytest.fixture
async def world(servers: Servers, sink: Sink) -> AsyncIterator[World]:
    async with notifier(servers, sink) as world:
        yield world


def tokens() -> tuple[str, str]:
    return f"acc-{uuid.uuid4().hex}", f"dec-{uuid.uuid4().hex}"


def offer(world: World, learner: uuid.UUID, accept: str, decline: str, **changed: Any) -> SeatOffered:
    whole = {
        **world.about(learner),
        "offer_id": uuid.uuid4(),
        "place": "mosjoen",
        "expires_at": LATER,
        "on_lapse": "leave",
        "sealed": sealing.seal(PUBLIC, {"accept": accept, "decline": decline}),
    }
    return SeatOffered(**{**whole, **changed})


async def kept(world: World) -> str:
    """Every value of every column of every table, as text; bytes as what they spell."""
    found = []
    for row in await world.rows(COLUMNS):
        values = await world.rows(f'SELECT "{row["column_name"]}" AS value FROM "{row["table_name"]}"')
        found += [one["value"].decode() if isinstance(one["value"], bytes) else str(one["value"]) for one in values]
    return "\n".join(found)


def links(mail: Any) -> list[str]:
    return [line for line in mail.get_body(("plain",)).get_content().splitlines() if "/tilbud/" in line]


async def put(servers: Servers, topic: str, said: Sequence[Record]) -> None:
    producer = AIOKafkaProducer(bootstrap_servers=servers.kafka)
    await producer.start()
    try:
        for record in said:
            await producer.send_and_wait(topic, record.value, key=record.key)
    finally:
        await producer.stop()


async def test_an_offer_over_kafka_is_one_mail_whose_links_are_what_was_sealed(
    servers: Servers, world: World, sink: Sink, capsys: pytest.CaptureFixture[str]
) -> None:
    """On both sides of the night when Oslo's clocks go forward; and what is heard again tells nobody again."""
    topic = f"enrolment.{uuid.uuid4().hex}"
    await topics.declare(servers.kafka, [Topic(topic, "enrolment", "learner_id", (), partitions=1)])
    given, said = {}, []
    for number, (expires_at, _) in enumerate((BEFORE, AFTER)):
        learner, (accept, decline) = uuid.uuid4(), tokens()
        given[f"l{number}@example.no"] = (accept, decline)
        await world.contact_is_known(learner, f"l{number}@example.no")
        said += world.records([offer(world, learner, accept, decline, expires_at=expires_at)])
    secrets = [token for pair in given.values() for token in pair]

    async with listening(world.here, Consumer("enrolments", events.enrolments, topics=(topic,))):
        await put(servers, topic, said)
        await world.all_are("due", 2)
    lying = await kept(world)
    assert all(row["sealed"] in lying for row in await world.rows("SELECT sealed FROM notices"))  # all is looked at
    assert not [token for token in secrets if token in lying]
    async with world.sending():
        await world.all_are("sent", 2)

    marker = uuid.uuid4()
    await world.contact_is_known(marker, "marker@example.no")
    async with listening(world.here, Consumer("enrolments", events.enrolments, topics=(topic,))):
        await put(servers, topic, [*said, *world.records([LearnerWithdrew(**world.about(marker))])])
        await until(lambda: world.rows("SELECT FROM notices WHERE state = 'due'"))
    async with world.sending():
        await world.all_are("sent", 3)

    lying = await kept(world)
    told = capsys.readouterr()
    assert not [token for token in secrets if token in lying + told.out + told.err]
    assert not await world.rows("SELECT FROM notices WHERE sealed IS NOT NULL")
    assert sorted(sink.recipients()) == [*sorted(given), "marker@example.no"]
    for mail, (_, deadline) in zip(sorted(sink.mails, key=lambda one: str(one["To"])), (BEFORE, AFTER), strict=False):
        accept, decline = given[mail["To"].addresses[0].addr_spec]
        origin = world.settings.public_url
        wanted = [f"{origin}/tilbud/{accept}/godta", f"{origin}/tilbud/{decline}/avslaa"]
        assert links(mail) == wanted
        html = mail.get_body(("html",)).get_content()
        assert all(f'<a href="{link}"' in html for link in wanted)
        assert deadline in mail.get_body(("plain",)).get_content()
        assert deadline in html


@pytest.mark.parametrize(
    ("sealed", "reason"),
    [
        ("not a letter", "unsealable"),
        (sealing.seal(sealing.generate()[1], {"accept": "a", "decline": "b"}), "unsealable"),
        (sealing.seal(PUBLIC, {"accept": "a"}), "bad_tokens"),
        (sealing.seal(PUBLIC, {"accept": "a\r\nBcc: b", "decline": "b"}), "bad_tokens"),
    ],
)
async def test_an_offer_that_cannot_be_opened_fails_and_holds_nobody_back(
    world: World, sink: Sink, capsys: pytest.CaptureFixture[str], sealed: str, reason: str
) -> None:
    one, other = uuid.uuid4(), uuid.uuid4()
    accept, decline = tokens()
    bad = offer(world, one, accept, decline, sealed=sealed)
    await world.contact_is_known(one, "one@example.no")
    await world.contact_is_known(other, "other@example.no")
    lapsed = SeatOfferLapsed(
        **world.about(one, bad.enrolment_id), offer_id=bad.offer_id, place="mosjoen", in_line=False
    )
    await world.hear(events.enrolments, [bad, offer(world, other, accept, decline)])
    async with world.sending():

        async def done(sent: int) -> bool:
            return (await world.states()) == {"failed": 1, "sent": sent}

        await until(lambda: done(1))
        await world.hear(events.enrolments, [lapsed])
        await until(lambda: done(2))
    assert sorted(sink.recipients()) == ["one@example.no", "other@example.no"]
    [failed] = await world.rows("SELECT template, reason, sealed, attempts FROM notices WHERE state = 'failed'")
    assert dict(failed) == {"template": "offered", "reason": reason, "sealed": None, "attempts": 1}
    assert ("NoticeFailed", reason) in [(kind, data.get("reason")) for kind, data in await world.told()]
    assert sealed not in capsys.readouterr().out


async def test_an_offer_is_not_told_when_its_time_is_over(world: World, sink: Sink) -> None:
    """Its contact comes late. Red control: the same offer, with time left, is told."""
    late, timely = uuid.uuid4(), uuid.uuid4()
    accept, decline = tokens()
    over = offer(world, late, accept, decline, expires_at=datetime.now(UTC) - timedelta(seconds=1))
    lapsed = SeatOfferLapsed(
        **world.about(late, over.enrolment_id), offer_id=over.offer_id, place="mosjoen", in_line=True
    )
    await world.hear(events.enrolments, [over, lapsed, offer(world, timely, accept, decline)])
    await world.contact_is_known(late, "late@example.no")
    await world.contact_is_known(timely, "timely@example.no")
    async with world.sending():

        async def done() -> bool:
            return (await world.states()) == {"failed": 1, "sent": 2}

        await until(done)
    assert {mail["To"].addresses[0].addr_spec: mail["Subject"] for mail in sink.mails} == {
        "late@example.no": "Fristen for å svare er ute: Ledelse",
        "timely@example.no": "Du har fått tilbud om plass på Ledelse",
    }
    [failed] = await world.rows("SELECT template, reason, sealed FROM notices WHERE state = 'failed'")
    assert dict(failed) == {"template": "offered", "reason": "too_late", "sealed": None}


async def test_an_offer_that_the_server_put_off_is_not_told_later_than_its_time(world: World, sink: Sink) -> None:
    sink.data = ["451 later"]
    learner = uuid.uuid4()
    await world.contact_is_known(learner, "kari@example.no")
    await world.hear(events.enrolments, [offer(world, learner, *tokens())])
    async with world.sending():
        await world.all_are("deferred", 1)
    assert await world.rows("SELECT FROM notices WHERE sealed IS NOT NULL")  # it may be written again
    await world.rows("UPDATE notices SET expires_at = app_now()")
    await world.hurry()
    async with world.sending():
        await world.all_are("failed", 1)
    assert sink.mails == []
    assert await world.rows("SELECT FROM notices WHERE reason = 'too_late' AND attempts = 2")


@pytest.mark.parametrize("answered", [True, False])
async def test_an_offer_that_was_answered_on_the_page_is_not_told_when_its_mail_was_put_off(
    world: World, sink: Sink, answered: bool
) -> None:
    """Red control: one that was not answered is."""
    sink.data = ["451 later"]
    learner = uuid.uuid4()
    await world.contact_is_known(learner, "kari@example.no")
    made = offer(world, learner, *tokens())
    await world.hear(events.enrolments, [made])
    async with world.sending():
        await world.all_are("deferred", 1)
        if answered:
            yes = LearnerEnrolled(**world.about(learner, made.enrolment_id), place="mosjoen", from_queue=True)
            await world.hear(events.enrolments, [yes])
        await world.hurry()
        told = {"offered": ("failed", "too_late"), "seat_from_line": ("sent", None)}

        async def done() -> bool:
            rows = await world.rows("SELECT template, state, reason FROM notices")
            became = {row["template"]: (row["state"], row["reason"]) for row in rows}
            return became == (told if answered else {"offered": ("sent", None)})

        await until(done)
    assert len(sink.mails) == 1


async def test_an_offer_that_gave_way_to_another_is_not_told_when_its_mail_was_put_off(
    world: World, sink: Sink
) -> None:
    """Its links act no more: the learner hears of the one that is open, and of no other."""
    sink.data = ["451 later"]
    learner, (accept, decline) = uuid.uuid4(), tokens()
    await world.contact_is_known(learner, "kari@example.no")
    first = offer(world, learner, *tokens())
    await world.hear(events.enrolments, [first])
    async with world.sending():
        await world.all_are("deferred", 1)
        second = offer(world, learner, accept, decline, enrolment_id=first.enrolment_id)
        await world.hear(events.enrolments, [second])
        await world.hurry()
        await world.no_more_open()
    assert await world.states() == {"failed": 1, "sent": 1}
    [mail] = sink.mails
    assert [accept in link or decline in link for link in links(mail)] == [True, True]
    assert await world.rows("SELECT FROM notices WHERE state = 'failed' AND reason = 'too_late' AND sealed IS NULL")


async def test_an_offer_that_the_server_put_off_goes_again_with_its_links(world: World, sink: Sink) -> None:
    sink.data = ["451 later"]
    learner, (accept, decline) = uuid.uuid4(), tokens()
    await world.contact_is_known(learner, "kari@example.no", "en")
    await world.hear(events.enrolments, [offer(world, learner, accept, decline)])
    elsewhere = world.settings.model_copy(update={"public_url": "https://kurs.example"})
    async with world.sending(Sender(elsewhere)):
        await world.all_are("deferred", 1)
        await world.hurry()
        await world.all_are("sent", 1)
    [mail] = sink.mails
    assert links(mail) == [
        f"https://kurs.example/tilbud/{accept}/godta",
        f"https://kurs.example/tilbud/{decline}/avslaa",
    ]
    assert not await world.rows("SELECT FROM notices WHERE sealed IS NOT NULL")
