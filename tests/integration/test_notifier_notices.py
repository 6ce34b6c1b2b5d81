"""Each thing that happens to an enrolment or its course is told once, in its order, to those whom it concerns."""

import asyncio
import shutil
import uuid
from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from contracts.catalogue import Alternative, OfferingCancelled, OfferingConfirmed
from contracts.enrolment import (
    EnrolmentDenied,
    EnrolmentFinished,
    EnrolmentPending,
    EnrolmentRestated,
    LearnerEnrolled,
    LearnerGotNoSeat,
    LearnerMoved,
    LearnerQueued,
    LearnerWithdrew,
    SeatOfferDeclined,
    SeatOffered,
    SeatOfferLapsed,
)
from contracts.envelope import Event
from deploy.local.places import ROOT
from kit import audit, migrations, sealing
from kit.database import Connection, connect
from kit.listeners import Listeners
from services.notifier import events
from services.notifier.app import MIGRATIONS
from services.notifier.store import outgoing
from tests.delivery import Servers, until
from tests.notifying import PUBLIC, Sink, World, mail_server, notifier

pytestmark = pytest.mark.anyio

LATER = datetime(2099, 1, 1, tzinfo=UTC)
SEALED = sealing.seal(PUBLIC, {"accept": "a", "decline": "d"})
OFFER: dict[str, Any] = {"offer_id": uuid.uuid4(), "place": "mosjoen"}


@pytest.fixture
async def sink() -> AsyncIterator[Sink]:
    async with mail_server() as sink:
        yield sink


@pytest.fixture
async def world(servers: Servers, sink: Sink) -> AsyncIterator[World]:
    async with notifier(servers, sink) as world:
        yield world


async def known(world: World, *names: str, language: str = "nb") -> list[uuid.UUID]:
    """So many learners, each reached at a name of its own."""
    ids = [uuid.uuid4() for _ in names]
    for learner, name in zip(ids, names, strict=True):
        await world.contact_is_known(learner, f"{name}@example.no", language)
    return ids


def confirmed(world: World) -> OfferingConfirmed:
    return OfferingConfirmed(
        offering_id=world.offering, course_id=world.course, partner="torgar", version=2, enrolled=9, minimum=8
    )


async def told(world: World, template: str) -> list[uuid.UUID]:
    rows = await world.rows("SELECT learner_id FROM notices WHERE template = $1 ORDER BY id", template)
    return [row["learner_id"] for row in rows]


async def test_each_event_is_one_mail_that_says_so(world: World, sink: Sink) -> None:
    names = (
        *("pending", "denied", "lapsed", "stays", "late", "declined", "moved", "offered", "finished", "restated"),
        *("waits", "asks"),
    )
    learners = dict(zip(names, await known(world, *names), strict=True))
    about = {name: world.about(learner) for name, learner in learners.items()}
    await world.hear(
        events.enrolments,
        [
            EnrolmentPending(**about["pending"], places=["mosjoen", "online"]),
            EnrolmentDenied(**about["denied"], reason="Kurset er for ansatte i kommunen."),
            SeatOfferLapsed(**about["lapsed"], **OFFER, in_line=False),
            SeatOfferLapsed(**about["stays"], **OFFER, in_line=True),
            SeatOfferLapsed(**about["late"], **OFFER, in_line=True, offers=False),
            SeatOfferDeclined(**about["declined"], **OFFER, in_line=False),
            LearnerMoved(**about["moved"], from_place="online", place="mosjoen"),
            SeatOffered(**about["offered"], **OFFER, expires_at=LATER, on_lapse="back_of_queue", sealed=SEALED),
            EnrolmentFinished(**about["finished"], place="mosjoen"),
            EnrolmentRestated(**about["restated"], state="associated", place="mosjoen"),
            LearnerGotNoSeat(**about["waits"], waited_for="seat"),
            LearnerGotNoSeat(**about["asks"], waited_for="approval"),
        ],
    )
    left = await world.rows("SELECT learner_id, state FROM enrolments WHERE state IN ('queued', 'pending')")
    states = {row["learner_id"]: row["state"] for row in left}
    assert (states[learners["waits"]], states[learners["asks"]]) == ("queued", "pending"), "they are what they were"
    async with world.sending():
        await world.all_are("sent", 10)
    mails = {mail["To"].addresses[0].username: mail for mail in sink.mails}
    assert len(sink.mails) == 10
    assert {name: mail["Subject"] for name, mail in mails.items()} == {
        "pending": "Du har søkt om plass på Ledelse",
        "denied": "Du fikk ikke plass på Ledelse",
        "lapsed": "Fristen for å svare er ute: Ledelse",
        "stays": "Fristen for å svare er ute: Ledelse",
        "late": "Fristen for å svare er ute: Ledelse",
        "declined": "Du har takket nei til plassen på Ledelse",
        "moved": "Plassen din på Ledelse er flyttet",
        "offered": "Du har fått tilbud om plass på Ledelse",
        "waits": "Det ble ingen plass på Ledelse",
        "asks": "Det ble ingen plass på Ledelse",
    }
    texts = {name: mail.get_body(("plain",)).get_content() for name, mail in mails.items()}
    assert "Arrangøren skriver: Kurset er for ansatte i kommunen." in texts["denied"]
    assert "Du står ikke lenger i kø" in texts["lapsed"]
    assert "står du i køen som før" in texts["waits"]
    assert "har dessverre ikke svart på søknaden din" in texts["asks"]
    assert "gjelder søknaden din som før" in texts["asks"]
    assert "Du står fortsatt i kø, men bakerst" in texts["stays"]
    assert "skriver vi til deg" in texts["stays"]
    assert "går til den som spør først" in texts["late"]
    assert texts["moved"].splitlines()[6:9] == ["Sted: Mosjøen", "", "Tidligere sted: På nett"]
    assert "du havner bakerst i køen" in texts["offered"]


async def test_the_words_about_one_enrolment_keep_their_order_through_all_its_states(world: World, sink: Sink) -> None:
    [learner] = await known(world, "kari")
    about = world.about(learner, uuid.uuid4())
    offered = SeatOffered(**about, **OFFER, expires_at=LATER, on_lapse="back_of_queue", sealed=SEALED)
    sink.data = ["451 later"]
    said: list[Event] = [
        LearnerQueued(**about, places=["mosjoen"], place_in_line=1),
        offered,
        SeatOfferLapsed(**about, **OFFER, in_line=True),
        offered,
        LearnerEnrolled(**about, place="online", from_queue=True),
        LearnerMoved(**about, from_place="online", place="mosjoen"),
        LearnerWithdrew(**about, place="mosjoen"),
    ]
    await world.hear(events.enrolments, said)
    async with world.sending():
        await until(lambda: world.rows("SELECT FROM notices WHERE state = 'deferred'"))
        await world.hurry()

        async def done() -> bool:  # an offer that was answered meanwhile is none
            return await world.states() == {"sent": len(said) - 2, "failed": 2}

        await until(done)
    assert [mail["Subject"] for mail in sink.mails] == [
        "Du står i kø for Ledelse",
        "Fristen for å svare er ute: Ledelse",
        "Plassen på Ledelse er din",
        "Plassen din på Ledelse er flyttet",
        "Du er meldt av Ledelse",
    ]
    [row] = await world.rows("SELECT state, place FROM enrolments")
    assert dict(row) == {"state": "cancelled", "place": None}


async def test_who_has_a_seat_or_is_in_line_is_told_once_that_the_course_takes_place(world: World, sink: Sink) -> None:
    names = ("seated", "moved", "queued", "gone", "offered", "pending")
    learners = dict(zip(names, await known(world, *names), strict=True))
    about = {name: world.about(learner) for name, learner in learners.items()}
    await world.hear(
        events.enrolments,
        [
            LearnerEnrolled(**about["seated"], place="mosjoen"),
            LearnerEnrolled(**about["moved"], place="online"),
            LearnerMoved(**about["moved"], from_place="online", place="mosjoen"),
            LearnerQueued(**about["queued"], places=["mosjoen"], place_in_line=1),
            LearnerEnrolled(**about["gone"], place="mosjoen"),
            LearnerWithdrew(**about["gone"], place="mosjoen"),
            SeatOffered(**about["offered"], **OFFER, expires_at=LATER, on_lapse="leave", sealed=SEALED),
            EnrolmentPending(**about["pending"], places=["mosjoen"]),
        ],
    )
    word = uuid.uuid4()
    await world.hear(events.courses, [confirmed(world)], word)
    await world.hear(events.courses, [confirmed(world)], word)
    concerned = ("moved", "offered", "queued", "seated")
    assert sorted(await told(world, "confirmed")) == sorted(learners[name] for name in concerned)
    async with world.sending():
        await world.all_are("sent", 12)
    mails = [mail for mail in sink.mails if mail["Subject"] == "Ledelse blir holdt"]
    texts = {mail["To"].addresses[0].username: mail.get_body(("plain",)).get_content() for mail in mails}
    assert sorted(texts) == sorted(concerned)
    for name in concerned:
        has_seat = name in ("moved", "seated")
        assert ("Sted: Mosjøen" in texts[name], "Vi gleder oss til å se deg." in texts[name]) == (has_seat, has_seat)
        assert ("Du har ikke plass ennå, men du står" in texts[name]) == (not has_seat)


async def test_a_seat_that_is_heard_of_late_is_told_too_and_one_taken_later_is_not(world: World) -> None:
    """The catalogue's word and the seats come on two topics. An enrolment's own time says which was first."""
    before, after, withdrawn, waits = await known(world, "before", "after", "withdrawn", "waits")
    now = datetime.now(UTC)
    await world.hear(events.courses, [confirmed(world)], at=now)
    early, left = world.about(before), world.about(withdrawn)
    await world.hear(events.enrolments, [LearnerEnrolled(**early, place="online")], at=now - timedelta(minutes=1))
    await world.hear(
        events.enrolments,
        [LearnerEnrolled(**left, place="online"), LearnerWithdrew(**left, place="online")],
        at=now - timedelta(minutes=1),
    )
    line = LearnerQueued(**world.about(waits), places=["online"], place_in_line=1)
    await world.hear(events.enrolments, [line], at=now - timedelta(minutes=1))
    late = LearnerEnrolled(**world.about(after), place="online")
    await world.hear(events.enrolments, [late], at=now + timedelta(minutes=1))
    moved = LearnerMoved(**early, from_place="online", place="mosjoen")
    await world.hear(events.enrolments, [moved], at=now + timedelta(minutes=2))
    assert sorted(await told(world, "confirmed")) == sorted([before, waits])
    places = await world.rows("SELECT place FROM notices WHERE template = 'confirmed' ORDER BY place")
    assert [row["place"] for row in places] == ["online", None]  # as it was then; the move is told by itself


@pytest.mark.parametrize("together", [True, False])
async def test_who_moves_keeps_the_age_of_the_seat(world: World, together: bool) -> None:
    """The move is younger than the word, and is heard before it."""
    [learner] = await known(world, "kari")
    about, now = world.about(learner), datetime.now(UTC)
    seat = world.records([LearnerEnrolled(**about, place="online")], at=now - timedelta(minutes=1))
    move = world.records([LearnerMoved(**about, from_place="online", place="mosjoen")], at=now + timedelta(minutes=1))
    for records in [[*seat, *move]] if together else [seat, move]:
        received = [events.enrolments.read(record) for record in records]
        await world.here.database.run(partial(events.enrolments.tell, received=received), "consumer")
    await world.hear(events.courses, [confirmed(world)], at=now)
    assert await told(world, "confirmed") == [learner]


async def confirmations_without_a_lock(conn: Connection, offerings: Sequence[uuid.UUID]) -> dict[Any, Any]:
    rows = await conn.fetch("SELECT * FROM offerings WHERE offering_id = ANY($1)", offerings)
    return {row["offering_id"]: (row["confirmed_by"], row["confirmed_at"]) for row in rows if row["confirmed_by"]}


@pytest.mark.parametrize("locked", [True, False], ids=["locked", "control"])
@pytest.mark.parametrize("seat_first", [True, False], ids=["seat-first", "word-first"])
async def test_a_seat_and_the_word_that_are_heard_at_the_same_time_do_not_miss_each_other(
    world: World, monkeypatch: pytest.MonkeyPatch, seat_first: bool, locked: bool
) -> None:
    """Both transactions are open at once. Red control: without the lock on the offering the learner is not told."""
    if not locked:
        monkeypatch.setattr("services.notifier.store.known.confirmations", confirmations_without_a_lock)
    [learner] = await known(world, "kari")
    seat = world.records([LearnerEnrolled(**world.about(learner), place="mosjoen")])
    word = world.records([confirmed(world)])
    pair: list[tuple[Listeners, Any]] = [(events.enrolments, seat), (events.courses, word)]
    (first, one), (second, other) = pair if seat_first else pair[::-1]
    conn = await connect(world.settings, "consumer")
    try:
        transaction = conn.transaction()
        await transaction.start()
        await first.tell(conn, [first.read(record) for record in one])
        meanwhile = asyncio.create_task(
            world.here.database.run(
                lambda conn: second.tell(conn, [second.read(record) for record in other]), "consumer"
            )
        )

        async def waits_or_is_done() -> bool:
            waiting = await world.rows(
                "SELECT FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = $1",
                world.settings.database_name,
            )
            return bool(waiting) or meanwhile.done()

        await until(waits_or_is_done)
        await transaction.commit()
        await meanwhile
    finally:
        await conn.close()
    assert await told(world, "confirmed") == ([learner] if locked else [])


async def test_ten_thousand_seats_are_told_in_one_statement(world: World) -> None:
    await world.rows(
        "INSERT INTO enrolments SELECT gen_random_uuid(), gen_random_uuid(), $1, 'associated', 'online', app_now(), 1,"
        " 1 FROM generate_series(1, 10000)",
        world.offering,
    )
    await world.hear(events.courses, [confirmed(world)], at=datetime.now(UTC) + timedelta(seconds=5))
    assert len(await told(world, "confirmed")) == 10_000


async def test_an_older_state_of_an_enrolment_does_not_replace_a_newer(world: World) -> None:
    [learner] = await known(world, "kari")
    about = world.about(learner, uuid.uuid4())
    world.seq = 100
    await world.hear(events.enrolments, [LearnerWithdrew(**about)])
    world.seq = 50
    await world.hear(events.enrolments, [LearnerEnrolled(**about, place="mosjoen")])
    [row] = await world.rows("SELECT state, seq FROM enrolments")
    assert dict(row) == {"state": "cancelled", "seq": 101}


def cancelled(world: World) -> OfferingCancelled:
    other = Alternative(
        offering_id=uuid.uuid4(),
        course_id=world.course,
        title={"nb": "Ledelse på nett", "en": "Leadership online"},
        starts_at=datetime(2049, 3, 28, 16, tzinfo=UTC),
        arenas=["online", "mosjoen"],
    )
    return OfferingCancelled(
        offering_id=world.offering,
        course_id=world.course,
        partner="torgar",
        version=2,
        reason="too_few",
        alternatives=[other],
    )


async def test_a_cancelled_course_names_others_in_the_readers_language(world: World, sink: Sink) -> None:
    """Enrolment's word comes first, on its own topic; the mail waits for the catalogue's."""
    [norwegian] = await known(world, "nb")
    [english] = await known(world, "en", language="en")
    [elsewhere] = await known(world, "marker")
    await world.hear(
        events.enrolments,
        [
            LearnerWithdrew(**world.about(norwegian), place="mosjoen", reason="offering_cancelled"),
            LearnerWithdrew(**world.about(english), reason="offering_cancelled"),
            LearnerWithdrew(**world.about(elsewhere)),
        ],
    )
    async with world.sending():
        await until(lambda: world.rows("SELECT FROM notices WHERE state = 'sent'"))
        assert await world.states() == {"due": 2, "sent": 1}
        await world.hear(events.courses, [cancelled(world)])
        await world.all_are("sent", 3)
    texts = {
        mail["To"].addresses[0].username: mail.get_body(("plain",)).get_content().splitlines() for mail in sink.mails
    }
    assert "- Ledelse på nett, søndag 28. mars 2049 kl. 18.00, På nett, Mosjøen" in texts["nb"]
    assert "- Leadership online, Sunday 28 March 2049 at 18:00, Online, Mosjøen" in texts["en"]
    assert "For få hadde meldt seg på." in texts["nb"]
    assert "Too few had enrolled." in texts["en"]


async def test_a_cancelled_course_is_told_without_others_when_the_catalogue_is_silent_for_long(
    world: World, sink: Sink
) -> None:
    [learner] = await known(world, "kari")
    await world.hear(events.enrolments, [LearnerWithdrew(**world.about(learner), reason="offering_cancelled")])
    await world.rows("UPDATE notices SET created_at = app_now() - make_interval(secs => $1)", outgoing.PATIENCE_S + 1.0)
    async with world.sending():
        await world.all_are("sent", 1)
    assert [mail["Subject"] for mail in sink.mails] == ["Ledelse er avlyst"]


async def test_operators_find_nothing_wrong_with_any_notice(world: World) -> None:
    """`audit` knows on which topic each notice's event was heard."""
    [learner] = await known(world, "kari")
    heard, word = uuid.uuid4(), uuid.uuid4()
    await world.hear(events.enrolments, [LearnerEnrolled(**world.about(learner), place="mosjoen")], heard)
    await world.hear(events.courses, [confirmed(world)], word)
    await world.rows(
        "INSERT INTO inbox (consumer, event_id) VALUES ('notifier.enrolments', $1), ('notifier.courses', $2)",
        str(heard),
        str(word),
    )
    [rule] = [
        one
        for one in await audit.look(world.settings, [ROOT / "services/notifier/audit.sql"])
        if "for an event that was heard" in one.words
    ]
    assert (rule.looked, rule.wrong) == (2, 0)
    await world.rows("UPDATE inbox SET consumer = 'notifier.enrolments'")
    found = await audit.look(world.settings, [ROOT / "services/notifier/audit.sql"])
    assert [one.wrong for one in found if one.words == rule.words] == [1]


async def test_who_had_a_seat_before_seats_were_kept_is_known_from_the_last_notice(
    servers: Servers, tmp_path: Path
) -> None:
    old = tmp_path / "notifier" / "migrations"
    old.mkdir(parents=True)
    for path in sorted(MIGRATIONS.glob("*.sql"))[:3]:
        shutil.copy(path, old)
    settings = await servers.database()
    seated, gone, queued = uuid.uuid4(), uuid.uuid4(), uuid.uuid4()
    conn = await connect(settings, "migrate")
    try:
        await migrations.migrate(conn, [migrations.KIT, old])
        for number, (about, template) in enumerate(
            [
                (seated, "queued"),
                (seated, "seat_from_line"),
                (gone, "enrolled"),
                (gone, "withdrawn"),
                (queued, "queued"),
            ]
        ):
            await conn.execute(
                "INSERT INTO notices (event_id, learner_id, offering_id, about, template, channel, place)"
                " VALUES ($1, $2, $2, $2, $3, 'email', 'mosjoen')",
                str(number),
                about,
                template,
            )
        await migrations.migrate(conn, [migrations.KIT, MIGRATIONS])
        rows = await conn.fetch("SELECT enrolment_id, state, place FROM enrolments")
    finally:
        await conn.close()
    assert {row["enrolment_id"]: (row["state"], row["place"]) for row in rows} == {
        seated: ("associated", "mosjoen"),
        gone: ("cancelled", None),
        queued: ("queued", None),
    }
