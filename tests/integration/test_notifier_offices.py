"""A partner's office is told once a day, by one mail, what has happened to its runs: at its hour, counts only, and not
when nothing has."""

import asyncio
import json
import re
import uuid
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime, time, timedelta
from typing import Any

import pytest
from httpx2 import AsyncClient

from contracts.catalogue import (
    Judged,
    OfferingCancelled,
    OfferingChanged,
    OfferingConfirmed,
    OfferingRestated,
    OfferingScheduled,
    PartnerChanged,
    PartnerJoined,
    PartnerSuspended,
)
from contracts.enrolment import (
    EnrolmentPending,
    LearnerEnrolled,
    LearnerMoved,
    LearnerQueued,
    LearnerWithdrew,
    MinimumAtRisk,
    MinimumMissed,
)
from contracts.envelope import Event
from contracts.topics import TOLD_TO_PARTNERS, TOPICS
from kit import http, outbox, sealing, topics
from kit.database import Connection
from services.notifier import events, offices, partners, preview, sender
from services.notifier.app import ROUTERS
from services.notifier.decisions import Hold, Send
from services.notifier.store import offices as store
from services.notifier.store import outgoing
from tests.delivery import Servers, listening, relaying, until
from tests.notifying import PRIVATE, PUBLIC, START, Sink, World, mail_server, notifier
from tests.web import held_to_its_word

pytestmark = pytest.mark.anyio

MINUTE, HOUR, DAY = timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)
SEVEN = datetime(2049, 1, 5, 6, tzinfo=UTC)  # 07.00 in Oslo
ADDRESS = "kari.kanari@torgar.example"
LISTENERS = events.partner_listeners(PRIVATE)


@pytest.fixture
async def sink() -> AsyncIterator[Sink]:
    async with mail_server() as sink:
        yield sink


@pytest.fixture
async def world(servers: Servers, sink: Sink) -> AsyncIterator[World]:
    async with notifier(servers, sink) as world:
        yield world


def state(kind: Any, version: int, mail: str | None, language: str = "nb", **changed: Any) -> Any:
    sealed = None if mail is None else sealing.seal(PUBLIC, {"email": mail, "language": language})
    whole = {"partner": "torgar", "name": "Torgar Næringshage", "arenas": ["online"], "version": version}
    return kind(**whole | {"sealed": sealed} | changed)


async def joined(world: World, mail: str | None = ADDRESS, **changed: Any) -> None:
    """The partner of the course has an office with this address, which was last told long ago."""
    await world.hear(LISTENERS, [state(PartnerJoined, 1, mail, **changed)])
    await world.rows("UPDATE partner_offices SET told_until = '2026-01-01'")


async def happens(world: World, *said: Event, at: datetime = SEVEN - HOUR) -> None:
    """Let these be heard by what tells partners, as said then."""
    await world.hear(partners.listeners, said, at=at)


def seated(world: World) -> LearnerEnrolled:
    return LearnerEnrolled(**world.about(uuid.uuid4()), place="mosjoen")


async def look(world: World, at: datetime, clock: time = time(7)) -> int:
    """How many mails are owed to offices once somebody has looked when it is that late."""

    async def then(conn: Connection) -> None:
        offset = "extract(epoch FROM $1::timestamptz - now()) || ' seconds'"
        await conn.execute(f"SELECT set_config('kursnett.clock_offset', {offset}, true)", at)
        await offices.turn(conn, clock)

    await world.here.database.run(then, "worker")
    return len(await world.rows("SELECT FROM notices WHERE template = 'partner_digest'"))


async def sent(world: World) -> None:
    """Let what is owed go now, though it is owed for a day to come."""
    await world.rows("UPDATE notices SET due_at = app_now() WHERE state = 'due'")
    async with world.sending():
        await world.no_more_open()


async def facts(world: World) -> list[dict[str, int]]:
    """The news of each run in the last mail."""
    [*_, last] = await world.rows("SELECT facts FROM notices WHERE template = 'partner_digest' ORDER BY id")
    return [one["news"] for one in json.loads(last["facts"])["told"]]


async def test_a_mail_says_who_holds_the_course_and_whom_to_ask_as_it_was_told_last(world: World, sink: Sink) -> None:
    async def said(name: str, contact: str | None, version: int) -> str:
        late = state(PartnerJoined, 1, None, name="Gamle Torgar", contact="gammel@torgar.example")
        await world.hear(LISTENERS, [state(PartnerChanged, version, None, name=name, contact=contact), late])
        await world.learners(1)
        async with world.sending():
            await world.no_more_open()
        return str(sink.mails[-1].get_body(("plain",)).get_content())

    assert "Spør Torgar: post@torgar.example" in await said("Torgar", "post@torgar.example", 2)
    assert "Arrangør: Torgar Næringshage\r\n" in await said("Torgar Næringshage", None, 3)


# 07.00 in Oslo on both sides of each change of the clocks, and the next: 23 and 25 hours later.
MORNINGS = [
    (datetime(2049, 3, 27, 6, tzinfo=UTC), datetime(2049, 3, 28, 5, tzinfo=UTC)),
    (datetime(2049, 3, 28, 5, tzinfo=UTC), datetime(2049, 3, 29, 5, tzinfo=UTC)),
    (datetime(2049, 10, 30, 5, tzinfo=UTC), datetime(2049, 10, 31, 6, tzinfo=UTC)),
    (datetime(2049, 10, 31, 6, tzinfo=UTC), datetime(2049, 11, 1, 6, tzinfo=UTC)),
]


@pytest.mark.parametrize(("morning", "next_morning"), MORNINGS)
async def test_the_mail_is_owed_at_seven_in_oslo_whatever_the_clocks_do(
    world: World, morning: datetime, next_morning: datetime
) -> None:
    await joined(world)
    await happens(world, seated(world), at=morning + MINUTE)
    assert await look(world, morning + 2 * MINUTE) == 0, "that is for the next day"
    await happens(world, seated(world), at=morning - HOUR)
    assert await look(world, morning - timedelta(seconds=1)) == 0
    assert await look(world, morning) == 1
    assert await facts(world) == [{"seated": 1}]
    await happens(world, seated(world), at=morning + MINUTE)
    assert await look(world, morning + 2 * MINUTE) == 1
    assert await look(world, next_morning - timedelta(seconds=1)) == 1
    assert await look(world, next_morning) == 2
    assert await facts(world) == [{"seated": 2}]


async def test_the_hour_is_the_one_that_is_set(world: World) -> None:
    await joined(world)
    await happens(world, seated(world))
    assert await look(world, SEVEN + 9 * HOUR + 29 * MINUTE, time(16, 30)) == 0
    assert await look(world, SEVEN + 9 * HOUR + 30 * MINUTE, time(16, 30)) == 1


async def test_there_is_one_mail_a_day_however_many_look_and_how_often(world: World) -> None:
    await joined(world)
    await happens(world, seated(world))
    for minutes in (0, 1, 120):
        await asyncio.gather(*(look(world, SEVEN + minutes * MINUTE) for _ in range(4)))
        assert await look(world, SEVEN + minutes * MINUTE) == 1
        await happens(world, seated(world))  # said before the hour and heard after it: it waits for the next day
    assert await look(world, SEVEN + 23 * HOUR + 59 * MINUTE) == 1
    await asyncio.gather(*(look(world, SEVEN + DAY) for _ in range(4)))
    assert await look(world, SEVEN + DAY) == 2
    assert await facts(world) == [{"seated": 3}]


async def test_an_office_that_another_has_in_hand_is_left_to_it(world: World) -> None:
    """Or news that comes between the two would be taken by the second, which owes no mail of its own."""
    await joined(world)
    await happens(world, seated(world))
    async with world.here.database.reading() as conn, conn.transaction():
        await conn.execute("SELECT FROM partner_offices FOR NO KEY UPDATE")
        assert await look(world, SEVEN) == 0
    assert await look(world, SEVEN) == 1


async def test_without_its_hour_more_than_one_is_owed(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """The red control of the one before: who forgets for which hour was told tells again."""
    real = store.owe

    async def forgetful(conn: Connection, *told: Any) -> None:
        await real(conn, *told)
        await conn.execute("UPDATE partner_offices SET told_until = '2026-01-01'")
        await conn.execute("UPDATE notices SET event_id = id::text WHERE template = 'partner_digest'")

    monkeypatch.setattr(store, "owe", forgetful)
    await joined(world)
    for count in (1, 2):
        await happens(world, seated(world))
        assert await look(world, SEVEN) == count


async def test_after_a_stop_all_that_came_since_is_told_once_and_when_all_of_it_is_heard(world: World) -> None:
    await joined(world)
    for days in range(5):
        await happens(world, seated(world), at=SEVEN - days * DAY - HOUR)
    await world.rows("UPDATE partner_news SET heard_at = $1", SEVEN + 3 * HOUR)  # started again at 10, behind
    assert await look(world, SEVEN + 3 * HOUR + 59 * timedelta(seconds=1)) == 0
    assert await look(world, SEVEN + 3 * HOUR + 61 * timedelta(seconds=1)) == 1
    assert await facts(world) == [{"seated": 5}]
    assert await look(world, SEVEN + DAY) == 1


async def test_what_goes_on_after_the_hour_holds_no_mail_back(world: World) -> None:
    await joined(world)
    await happens(world, seated(world))
    await happens(world, seated(world), at=SEVEN + MINUTE)
    await world.rows("UPDATE partner_news SET heard_at = $1 WHERE minute > $2", SEVEN + 2 * MINUTE, SEVEN)
    assert await look(world, SEVEN + 2 * MINUTE) == 1
    assert await facts(world) == [{"seated": 1}]


async def test_nothing_new_is_no_mail_and_neither_is_what_came_to_nothing(world: World) -> None:
    await joined(world)
    assert await look(world, SEVEN) == 0
    withdrew = [
        LearnerWithdrew(**world.about(uuid.uuid4()), place="mosjoen", reason="offering_cancelled"),
        LearnerWithdrew(**world.about(uuid.uuid4()), reason="over"),  # who stood in line to the end of the run
    ]
    asked = EnrolmentPending(**world.about(uuid.uuid4()), places=["mosjoen"])  # approved or denied since then
    await happens(world, *withdrew, asked)
    assert await look(world, SEVEN) == 0


async def test_who_has_no_address_gets_no_mail_and_who_gets_one_hears_of_what_comes(world: World) -> None:
    await joined(world, None)
    await happens(world, seated(world))
    assert await look(world, SEVEN) == 0
    assert await world.rows("SELECT FROM partner_news") == [], "nothing is kept for nobody"
    await world.hear(LISTENERS, [state(PartnerChanged, 2, ADDRESS)])
    await world.rows("UPDATE partner_offices SET told_until = '2026-01-01'")
    other = LearnerEnrolled(**world.about(uuid.uuid4()) | {"partner": "mosjoen"}, place="mosjoen")
    await happens(world, seated(world), other, seated(world))
    assert {row["partner"] for row in await world.rows("SELECT partner FROM partner_news")} == {"torgar"}
    assert await look(world, SEVEN) == 1
    assert await facts(world) == [{"seated": 2}]


async def test_a_suspended_partner_is_told_too(world: World) -> None:
    await joined(world)
    await world.hear(LISTENERS, [state(PartnerSuspended, 2, ADDRESS)])
    await happens(world, seated(world))
    assert await look(world, SEVEN) == 1


async def test_no_quiet_hours_hold_it_until_the_next_is_there_too(world: World) -> None:
    settings = world.settings.model_copy(update={"quiet_hours": "21:00-07:00"})
    night = datetime(2049, 1, 5, 23, tzinfo=UTC)
    mine, others = (replace(preview.notice(one, "nb"), now=night) for one in ("partner_digest", "confirmed"))
    assert isinstance(sender.decision(others, settings), Hold)
    assert sender.decision(mine, settings) == Send()


async def test_news_of_a_run_that_is_not_known_yet_waits_for_it(world: World) -> None:
    await joined(world)
    unknown = LearnerEnrolled(**world.about(uuid.uuid4()) | {"offering_id": uuid.uuid4()}, place="mosjoen")
    await happens(world, unknown)
    assert await look(world, SEVEN) == 0
    await world.rows("UPDATE partner_news SET offering_id = $1", world.offering)
    assert await look(world, SEVEN + MINUTE) == 1


async def test_the_mail_counts_and_names_nobody(world: World, sink: Sink) -> None:
    await joined(world, language="nn")
    learners = [world.about(uuid.uuid4()) for _ in range(6)]
    run: dict[str, Any] = {"offering_id": world.offering, "course_id": world.course, "partner": "torgar"}
    said: list[Event] = [
        *(LearnerEnrolled(**one, place="mosjoen") for one in learners[:3]),
        LearnerQueued(**learners[3], places=["mosjoen"], place_in_line=1),
        EnrolmentPending(**learners[4], places=["mosjoen"]),
        EnrolmentPending(**learners[5], places=["mosjoen"]),
        LearnerWithdrew(**learners[0], place="mosjoen"),
    ]
    for one in learners:
        await world.contact_is_known(one["learner_id"], "ola.ukjent@example.no")
    await world.hear(events.enrolments, said)
    await world.rows("DELETE FROM notices")  # the learners' own mails
    seats: dict[str, Any] = {"seats": [], "enrolled": 2, "minimum": 5, "decide_at": SEVEN}
    judged: list[Event] = [
        MinimumAtRisk(**run, **seats),
        MinimumMissed(**run, **seats, on_too_few="hold"),
        OfferingConfirmed(**run, version=2, enrolled=5, minimum=5),
        OfferingCancelled(**run, version=3),
    ]
    await happens(world, *said, *judged)
    assert await look(world, SEVEN) == 1
    await sent(world)
    [mail] = sink.mails
    assert sink.recipients() == [ADDRESS]
    assert mail["Subject"] == "Nytt på kursa dykkar"
    assert mail["List-Unsubscribe-Post"] == "List-Unsubscribe=One-Click"
    text = mail.get_body(("plain",)).get_content().replace("\r", "")
    lines = (  # counts since the mail before, and how many stand and wait now
        "Hei Torgar Næringshage,",
        "Fekk plass: 3",
        "Melde seg av: 1",
        "Står i kø no: 1",
        "Ventar på godkjenning no: 2",
        "Kurset er avlyst.",
        f"{world.settings.public_url}/deltakere/{world.offering}",
        f"{world.settings.public_url}/partner",
    )
    for line in lines:
        assert line in text.splitlines(), line
    everything = sink.raw[0].decode() + text + mail.get_body(("html",)).get_content()
    for somebody in ("ola.ukjent", "Kari", *(str(one["learner_id"]) for one in learners)):
        assert somebody not in everything.replace(ADDRESS, "")


async def test_who_sits_elsewhere_now_is_told_of_too(world: World, sink: Sink) -> None:
    """The lists of both places are others then. Red control: the office reads yesterday's, and nothing says why not."""
    await joined(world)
    moves = [LearnerMoved(**world.about(uuid.uuid4()), from_place="online", place="mosjoen") for _ in range(2)]
    await happens(world, *moves)
    assert await look(world, SEVEN) == 1
    assert await facts(world) == [{"moved": 2}]
    await sent(world)
    assert "Byttet sted: 2" in sink.mails[0].get_body(("plain",)).get_content().splitlines()


@pytest.mark.parametrize("decided", [None, "cancelled", "confirmed"])
async def test_what_was_decided_before_the_hour_waits_for_nobody(world: World, sink: Sink, decided: str | None) -> None:
    """Red control: whoever cancelled yesterday is told this morning that it waits for their answer."""
    await joined(world)
    run: dict[str, Any] = {"offering_id": world.offering, "course_id": world.course, "partner": "torgar"}
    seats: dict[str, Any] = {"seats": [], "enrolled": 2, "minimum": 5, "decide_at": SEVEN}
    said: list[Event] = [MinimumMissed(**run, **seats, on_too_few="hold")]
    if decided == "cancelled":
        said.append(OfferingCancelled(**run, version=3))
    elif decided == "confirmed":
        said.append(OfferingConfirmed(**run, version=3, enrolled=5, minimum=5))
    await happens(world, *said)
    await world.hear(events.courses, said[1:])
    assert await look(world, SEVEN) == 1
    await sent(world)
    text = sink.mails[0].get_body(("plain",)).get_content()
    assert ("Dette venter på svar fra dere" in text) == (decided is None)


def dated(world: World, version: int, decide_at: datetime, minimum: int) -> dict[str, Any]:
    """What the catalogue says of the run."""
    run = {"offering_id": world.offering, "course_id": world.course, "partner": "torgar", "key": "v27"}
    when = {"starts_at": START, "ends_at": START + 2 * HOUR, "decide_at": decide_at, "minimum": minimum}
    return run | when | {"version": version, "places": [{"arena": "mosjoen", "capacity": 20}]}


FIRST, OTHER = SEVEN - 3 * HOUR, SEVEN - 2 * HOUR


@pytest.mark.parametrize("heard", ["told", "restated"])
@pytest.mark.parametrize(
    ("days", "again", "asked"),
    [([FIRST], False, False), ([OTHER], False, True), ([OTHER, FIRST], False, True), ([OTHER], True, False)],
)
async def test_what_was_confirmed_before_it_was_too_few_is_to_be_decided_when_its_day_is_another(
    world: World, sink: Sink, heard: str, days: list[datetime], again: bool, asked: bool
) -> None:
    """The partner asks for more than there were enough of. On the same day the catalogue keeps to its word, on another
    it has none. Red controls: an office is asked for what it cannot answer; none is asked, as it takes place."""
    await joined(world)
    run: dict[str, Any] = {"offering_id": world.offering, "course_id": world.course, "partner": "torgar"}

    async def confirmed(version: int, at: datetime) -> None:
        for listeners in (partners.listeners, events.courses):
            word = OfferingConfirmed(**run, version=version, enrolled=5, minimum=5)
            await world.hear(listeners, [word], at=at)

    await world.hear(events.courses, [OfferingChanged(**dated(world, 2, FIRST, 5))])
    if heard == "told":
        await confirmed(3, FIRST)
    else:
        judged = Judged(decision="confirmed", decided_at=FIRST)
        await world.hear(events.courses, [OfferingRestated(**dated(world, 3, FIRST, 5), judged=judged)])
    for version, day in enumerate(days, 4):
        await world.hear(events.courses, [OfferingChanged(**dated(world, version, day, 8))])
    too_few = MinimumMissed(**run, seats=[], enrolled=5, decide_at=days[-1], minimum=8, on_too_few="hold")
    await happens(world, too_few, at=OTHER)
    if again:  # with the old minimum
        await world.hear(events.courses, [OfferingChanged(**dated(world, 6, days[-1], 5))])
        await confirmed(7, SEVEN - HOUR)
        [row] = await world.rows("SELECT takes_place, version FROM offerings")
        assert (row["takes_place"], row["version"]) == (True, 7)
    assert await look(world, SEVEN) == 1
    await sent(world)
    text = sink.mails[0].get_body(("plain",)).get_content()
    assert ("Dette venter på svar fra dere" in text) == asked


def made(at: datetime) -> uuid.UUID:
    """An id of the catalogue's (UUIDv7) from then."""
    millis = int(at.timestamp() * 1000)
    return uuid.UUID(int=(millis << 80) | (7 << 76) | (2 << 62) | uuid.uuid4().int & (1 << 62) - 1)


@pytest.mark.parametrize("then", ["late", "in time", "not judged", "called off", "goes ahead"])
async def test_of_a_run_that_is_new_after_its_day_its_office_is_asked_whatever_its_rule(
    world: World, sink: Sink, then: str
) -> None:
    """As a record that lay unread: nobody could enrol, and the catalogue holds it. It takes an answer once enrolment
    has judged it. Red controls: it is on `/partner`, and no mail says so; one asks while nothing can be answered yet.
    """
    await joined(world)
    day, now = SEVEN - DAY, SEVEN - 2 * HOUR
    world.offering = made(day - HOUR if then == "in time" else now)
    run: dict[str, Any] = {"offering_id": world.offering, "course_id": world.course, "partner": "torgar"}
    new = OfferingScheduled(**dated(world, 1, day, 8) | {"on_too_few": "cancel"})
    await world.hear(events.courses, [new], at=now)
    await happens(world, new, seated(world), at=now)
    if then != "not judged":
        too_few = MinimumMissed(**run, seats=[], enrolled=0, decide_at=day, minimum=8, on_too_few="cancel")
        await happens(world, too_few, at=now)
    answers: dict[str, Event] = {
        "called off": OfferingCancelled(**run, version=2, reason="too_few"),
        "goes ahead": OfferingConfirmed(**run, version=2, enrolled=0, minimum=8),
    }
    if then in answers:
        await happens(world, answers[then], at=SEVEN - HOUR)
        await world.hear(events.courses, [answers[then]], at=SEVEN - HOUR)
    assert await look(world, SEVEN) == 1
    await sent(world)
    text = sink.mails[0].get_body(("plain",)).get_content()
    assert ("Dette venter på svar fra dere" in text) == (then == "late")


@pytest.mark.parametrize("then", ["nothing", "another day", "no minimum"])
async def test_of_a_run_whose_day_is_put_off_or_that_needs_no_minimum_any_more_nothing_is_asked(
    world: World, sink: Sink, then: str
) -> None:
    """The catalogue has forgotten what was found then, and refuses each answer. Red control: it is asked for one."""
    await joined(world)
    run: dict[str, Any] = {"offering_id": world.offering, "course_id": world.course, "partner": "torgar"}
    await world.hear(events.courses, [OfferingChanged(**dated(world, 2, FIRST, 8))])
    too_few = MinimumMissed(**run, seats=[], enrolled=5, decide_at=FIRST, minimum=8, on_too_few="hold")
    await happens(world, too_few, at=FIRST + timedelta(seconds=1))
    if then == "another day":
        await world.hear(events.courses, [OfferingChanged(**dated(world, 3, SEVEN + DAY, 8))])
    if then == "no minimum":
        free = {**dated(world, 3, SEVEN, 8), "decide_at": None, "minimum": None}
        await world.hear(events.courses, [OfferingChanged(**free)])
        await happens(world, seated(world), at=SEVEN - HOUR)  # there is other news
    assert await look(world, SEVEN) == 1
    await sent(world)
    text = sink.mails[0].get_body(("plain",)).get_content()
    assert ("Dette venter på svar fra dere" in text) == (then == "nothing")


async def test_of_a_run_that_has_begun_an_office_hears_that_it_had_too_few_and_is_asked_for_nothing(
    world: World, sink: Sink
) -> None:
    """It is judged late, as after an outage: the catalogue refuses each answer. Red control: it is asked for one."""
    await joined(world)
    run: dict[str, Any] = {"offering_id": world.offering, "course_id": world.course, "partner": "torgar"}
    too_few = MinimumMissed(**run, seats=[], enrolled=5, minimum=8, decide_at=SEVEN, on_too_few="hold")
    await happens(world, too_few, at=START + HOUR)
    assert await look(world, START + 13 * HOUR) == 1  # 07.00 in Oslo
    await sent(world)
    text = sink.mails[0].get_body(("plain",)).get_content()
    assert "For få hadde plass" in text
    assert "Dette venter på svar fra dere" not in text


async def test_at_another_address_it_is_another_office_and_without_one_none(world: World, sink: Sink) -> None:
    await joined(world)
    await happens(world, seated(world))
    assert await look(world, SEVEN) == 1
    [first] = await world.rows("SELECT office_id FROM partner_offices")
    await world.rows("INSERT INTO preferences VALUES ($1::uuid::text, 'partner', 'email', 'off')", first["office_id"])
    await world.hear(LISTENERS, [state(PartnerChanged, 2, ADDRESS, "en", name="Torgar")])
    assert await world.rows("SELECT name, language FROM contacts") == [("Torgar", "en")]
    assert await world.rows("SELECT FROM preferences"), "a new name is no reason to write again"
    await world.hear(LISTENERS, [state(PartnerChanged, 3, "ola@torgar.example")])
    assert await world.rows("SELECT FROM preferences") == [], "it has stopped nothing"
    await sent(world)
    assert sink.recipients() == ["ola@torgar.example"], "what was owed goes there"

    await happens(world, seated(world), at=SEVEN + HOUR)
    assert await look(world, SEVEN + DAY) == 2
    await happens(world, seated(world), at=SEVEN + DAY + HOUR)
    await world.hear(LISTENERS, [state(PartnerChanged, 4, None)])
    for table in ("partner_offices", "partner_news", "contacts", "preferences"):
        assert await world.rows(f"SELECT FROM {table}") == [], table
    assert await world.states() == {"sent": 1}
    await world.hear(LISTENERS, [state(PartnerChanged, 2, ADDRESS)])  # an old word, heard again
    assert await world.rows("SELECT FROM contacts") == []


@pytest.mark.parametrize("to", ["ola@torgar.example", None])
async def test_what_is_in_hand_when_the_address_changes_goes_to_the_new_one_or_nowhere(
    world: World, sink: Sink, to: str | None
) -> None:
    """Where the mail server does not take it. Red control: put off, it is owed for ever to an office that is gone."""
    await joined(world)
    await happens(world, seated(world))
    assert await look(world, SEVEN) == 1
    await world.rows("UPDATE notices SET due_at = app_now(), created_at = app_now()")
    [mine] = await world.here.database.run(lambda conn: outgoing.claim(conn, 9, "x.example", ""))
    await world.hear(LISTENERS, [state(PartnerChanged, 2, to)])
    await world.here.database.run(lambda conn: outgoing.defer(conn, mine, "answer_451", 0.0, 48))
    await sent(world)
    assert sink.recipients() == ([to] if to else [])
    assert await world.states() == ({"sent": 1} if to else {})


async def test_an_address_that_cannot_be_opened_costs_the_partner_nothing_else(
    world: World, capfd: pytest.CaptureFixture[str]
) -> None:
    await joined(world)
    digest = "0" * 64
    _, elsewhere = sealing.generate()
    wrong = [
        sealing.seal(elsewhere, {"email": "a@b.example", "language": "nb"}),
        sealing.seal(PUBLIC, {"email": "kanari@", "language": "nb"}),
        "kanari@torgar.example",
    ]
    for version, sealed in enumerate(wrong, 2):
        await world.hear(LISTENERS, [state(PartnerChanged, version, None, sealed=sealed, keys=[digest])])
    assert await world.rows("SELECT encode(digest, 'hex') FROM partner_keys") == [(digest,)]
    assert await world.rows("SELECT email FROM contacts") == [(ADDRESS,)]
    logged = "".join(capfd.readouterr())
    assert logged.count("partner_mail_not_opened") == 3
    assert "kanari" not in logged


async def test_one_click_stops_the_mails_and_the_page_speaks_to_an_office(world: World, sink: Sink) -> None:
    await joined(world)
    await happens(world, seated(world))
    assert await look(world, SEVEN) == 1
    await sent(world)
    found = re.search(rb"\r\nList-Unsubscribe: <http://localhost:8080(/[!-;=?-~]+)>\r\n", sink.raw[0])
    assert found
    path = found[1].decode()
    async with held_to_its_word(http.build(world.here, ROUTERS)) as asking:
        await stopped(asking, path)
        await happens(world, seated(world), at=SEVEN + HOUR)
        assert await look(world, SEVEN + DAY) == 2
        await sent(world)
        assert await world.states() == {"sent": 1, "suppressed": 1}
    assert len(sink.mails) == 1


async def stopped(asking: AsyncClient, path: str) -> None:
    shown = await asking.get(path)
    assert "Alt står fortsatt på sidene for tilbydere" in shown.text
    assert "plassen din" not in shown.text
    done = await asking.post(path, data={"List-Unsubscribe": "One-Click"})
    assert done.status_code == 200
    assert "Du får ikke flere slike e-poster" in done.text


async def test_what_is_heard_again_is_counted_once_and_owes_no_other_mail(servers: Servers, world: World) -> None:
    partner = f"p-{uuid.uuid4().hex[:12]}"  # a name of its own on the broker that all tests share
    await joined(world, partner=partner)
    await topics.declare(servers.kafka, [one for one in TOPICS if one.name in TOLD_TO_PARTNERS])
    said = [LearnerEnrolled(**world.about(uuid.uuid4()) | {"partner": partner}, place="mosjoen") for _ in range(20)]

    async def counted() -> int:
        [row] = await world.rows("SELECT coalesce(sum(count), 0)::int AS count FROM partner_news")
        return int(row["count"])

    async def published() -> bool:
        return not await world.rows("SELECT FROM outbox WHERE published_at IS NULL")

    async def heard(count: int) -> None:
        async def enough() -> bool:
            return await counted() >= count

        await until(enough)

    tomorrow = datetime.now(UTC) + DAY
    async with relaying(world.here), listening(world.here, partners.consumer()):
        await world.here.database.run(lambda conn: outbox.add_all(conn, said))
        await heard(20)
        await world.rows("UPDATE outbox SET published_at = NULL")  # as `republish` does
        await until(published)
        last = LearnerEnrolled(**world.about(uuid.uuid4()) | {"partner": partner}, place="mosjoen")
        await world.here.database.run(lambda conn: outbox.add(conn, last))
        await heard(21)
        assert await counted() == 21
        assert await look(world, tomorrow) == 1
        await world.rows("UPDATE outbox SET published_at = NULL")
        await until(published)
        last = LearnerEnrolled(**world.about(uuid.uuid4()) | {"partner": partner}, place="mosjoen")
        await world.here.database.run(lambda conn: outbox.add(conn, last))
        await heard(1)
        assert await counted() == 1, "the day that was told is not told again"
    assert await facts(world) == [{"seated": 21}]
