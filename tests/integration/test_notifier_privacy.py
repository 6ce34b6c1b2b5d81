"""The notifier forgets a person and keeps forgetting them, whatever comes late, again or at the same moment."""

import asyncio
import uuid
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from uuid_utils.compat import uuid7

from contracts.enrolment import ContactGiven, EnrolmentDenied, ErasureRequested, LearnerEnrolled, LearnerQueued
from kit import parking, sealing
from kit.auth import Caller
from kit.database import Connection, connect
from kit.parking import Record
from services.notifier import bounces, erasing, events, remembering
from services.notifier.channels.channel import Never
from services.notifier.sender import Sender
from services.notifier.store import bounces as bounce_store
from services.notifier.store import calendars, erased, outgoing, preferences
from services.notifier.store.preferences import Choice, Quiet
from services.notifier.tokens import Link, Signer
from tests import personal
from tests.delivery import Servers, running, somebody_waits, until
from tests.integration.test_notifier_preferences import People, here
from tests.integration.test_restoring import backup, finished, publish, restored, rows
from tests.notifying import PRIVATE, PUBLIC, World, mail_server, notifier
from tests.web import ISSUER

pytestmark = pytest.mark.anyio

__all__ = ["here"]

KEY = Caller(ISSUER, "kari").key
ASKED = erasing.listeners(PRIVATE)


def asked(learner: uuid.UUID, login: str | None = KEY) -> ErasureRequested:
    sealed = sealing.seal(PUBLIC, {"login": login}) if login else None
    return ErasureRequested(learner_id=learner, request_id=uuid.uuid4(), sealed=sealed)


async def known(world: World, learner: uuid.UUID, address: str = "canary@example.no") -> None:
    await world.contact_is_known(learner, address, login=KEY, phone="+4791234567")


async def chosen(world: World, person: str = KEY) -> None:
    """Something of each kind that a person may choose."""

    async def work(conn: Connection) -> None:
        await preferences.keep(conn, person, [Choice("changes", "email", "daily"), Choice("seat", "sms", "at_once")])
        await preferences.keep(conn, person, [Choice("changes", "email", "off")])
        await preferences.keep_quiet(
            conn, person, Quiet(datetime.now(UTC).time(), (datetime.now(UTC) + timedelta(hours=1)).time())
        )
        await calendars.renew(conn, person, f"canary {person}".encode())

    await world.here.database.run(work)


async def left(world: World) -> list[str]:
    """The tables in which something of a person is kept, and is."""
    tables = ("contacts", "preferences", "quiet_hours", "calendars", "bounced_addresses", "refusals", "idempotency")
    return [table for table in tables if await world.rows(f"SELECT FROM {table}")]


async def test_each_column_is_told_and_erased_or_says_why_not(here: People) -> None:
    world = here.world
    learner = uuid.uuid4()
    await known(world, learner)
    await chosen(world)
    denied = EnrolmentDenied(**world.about(learner), reason="canary words")
    await world.hear(events.enrolments, [denied, LearnerEnrolled(**world.about(learner), place="mosjoen")])
    await world.hear(events.enrolments, [LearnerQueued(**world.about(learner), places=["mosjoen"], place_in_line=7)])

    async def more(conn: Connection) -> None:
        [digest] = bounces.digests(PRIVATE, "canary@example.no")
        await bounce_store.count(conn, digest)
        await bounce_store.add(conn, digest, learner, "5.1.1")
        await conn.execute("UPDATE contacts SET own_at = app_now()")
        await conn.execute("UPDATE notices SET sealed = 'canary sealed' WHERE template = 'enrolled'")

    await world.here.database.run(more)
    key = {"idempotency-key": "canary-key"}
    body = {"email": "canary@example.no", "language": "nn", "phone": "91234567"}
    kept = await here.asking.put(
        "/api/notifier/v1/me/preferences", json={"categories": {}}, headers=here.signed("kari") | key
    )
    assert kept.status_code == 200
    assert (
        await here.asking.put("/api/notifier/v1/me/contact", json=body, headers=here.signed("kari"))
    ).status_code == 200
    await chosen(world)
    told = await here.asking.get("/api/notifier/v1/me/data", headers=here.signed("kari"))
    assert (told.status_code, told.headers["cache-control"]) == (200, "no-store")
    async with world.here.database.reading() as conn:
        columns, before = await personal.columns(conn), await personal.values(conn)
        assert "canary" in await personal.everything(conn), "the control"
    assert personal.undecided("notifier", columns) == []
    names = personal.paths(told.json())
    wanted = {one.document for one in personal.lines("notifier")} - {"-"}
    assert wanted <= names, f"not in the document: {sorted(wanted - names)}"
    stranger = await here.asking.get("/api/notifier/v1/me/data", headers=here.signed("ola"))
    assert "canary" not in stranger.text
    assert stranger.json()["notices"] == []

    await world.hear(ASKED, [asked(learner)])
    async with world.here.database.reading() as conn:
        after, whole = await personal.values(conn), await personal.everything(conn)
    for place in columns:
        if personal.column_of("notifier", *place).forgotten in ("deleted", "emptied"):
            assert not before[place] & after[place], place
    assert ("canary" in whole, KEY in whole, "Kari" in whole) == (False, False, False)
    assert await left(world) == []
    *_, (kind, answer) = await world.told()
    assert (kind, answer["service"], answer["counts"]["contacts"], answer["counts"]["notices"]) == (
        "ErasureDone",
        "notifier",
        1,
        3,
    )


async def test_what_is_owed_is_not_sent_and_what_is_owed_later_ends(servers: Servers) -> None:
    async with mail_server() as sink, notifier(servers, sink) as world:
        learner, other = uuid.uuid4(), uuid.uuid4()
        await known(world, learner)
        await world.contact_is_known(other, "ola@example.no")
        seats = [LearnerEnrolled(**world.about(one), place="mosjoen") for one in (learner, other)]
        await world.hear(events.enrolments, seats)
        await world.hear(ASKED, [asked(learner)])
        await world.hear(events.enrolments, [LearnerEnrolled(**world.about(learner), place="mosjoen")])  # late
        async with world.sending():
            await until(lambda: sent(world))
        assert sink.recipients() == ["ola@example.no"]
        assert await world.states() == {"sent": 1, "suppressed": 1, "due": 1}
        assert await world.here.database.run(erased.suppress_late) == 1
        assert await world.states() == {"sent": 1, "suppressed": 2}
        found = await world.rows("SELECT DISTINCT reason FROM notices WHERE state = 'suppressed'")
        assert [row["reason"] for row in found] == ["erased"]
        assert await world.rows("SELECT FROM notices WHERE learner_id = $1 AND place IS NOT NULL", learner) == []


@pytest.mark.parametrize("status", ["5.1.1", "550"])
async def test_a_refusal_of_a_mail_that_was_under_way_leaves_no_digest_of_the_address(
    servers: Servers, status: str
) -> None:
    """Red control: what the mail server says after the person was forgotten is kept of an address that nobody has."""
    async with mail_server() as sink, notifier(servers, sink) as world:
        learner = uuid.uuid4()
        await known(world, learner)
        await world.hear(events.enrolments, [LearnerEnrolled(**world.about(learner), place="mosjoen")])
        [mail] = await world.here.database.run(lambda conn: outgoing.claim(conn, 5, "x.example", ""))
        await world.hear(ASKED, [asked(learner)])
        sender, no = Sender(world.settings), Never("refused_address", status)
        await world.here.database.run(lambda conn: sender._never(conn, mail, no))
        assert await world.states() == {"failed": 1}
        assert await left(world) == []


async def test_a_link_in_an_old_mail_brings_no_log_in_back(here: People) -> None:
    """Red control: one click, or a mail program's, and the log-in stands among the choices for ever."""
    learner = uuid.uuid4()
    await known(here.world, learner)
    expires = datetime.now(UTC) + timedelta(days=30)
    tokens = [Signer(PRIVATE).token("unsubscribe", Link(one, ("changes",), expires)) for one in (KEY, str(learner))]
    await here.world.hear(ASKED, [asked(learner)])
    for token in tokens:
        assert (await here.asking.post(f"/api/notifier/v1/unsubscribe/{token}")).status_code == 200
    assert await left(here.world) == []


@pytest.mark.parametrize("by", ["enrolment", "the person"])
async def test_of_an_address_that_was_given_up_before_no_refusal_is_left(here: People, by: str) -> None:
    world, learner = here.world, uuid.uuid4()
    await known(world, learner, "canary@example.no")
    [digest] = bounces.digests(PRIVATE, "canary@example.no")
    await world.here.database.run(lambda conn: bounce_store.count(conn, digest))
    if by == "enrolment":
        await known(world, learner, "kari@example.no")
    else:
        body = {"email": "kari@example.no", "language": "nn"}
        answer = await here.asking.put("/api/notifier/v1/me/contact", json=body, headers=here.signed("kari"))
        assert answer.status_code == 200
    await world.hear(ASKED, [asked(learner)])
    assert await left(world) == []


async def sent(world: World) -> bool:
    return (await world.states()).get("sent") == 1


async def test_a_contact_that_comes_late_is_not_kept(servers: Servers) -> None:
    """Replayed, republished, or from a topic that was behind: the erasure has another topic, and may come first."""
    async with mail_server() as sink, notifier(servers, sink) as world:
        learner = uuid.uuid4()
        await world.hear(ASKED, [asked(learner)])
        await known(world, learner)
        assert await left(world) == []
        await known(world, other := uuid.uuid4())
        assert [row["learner_id"] for row in await world.rows("SELECT learner_id FROM contacts")] == [other]


async def test_a_contact_that_is_being_kept_at_that_moment_goes_too(servers: Servers) -> None:
    """The control for the lock: the other transaction has looked, and seen nobody who was forgotten."""
    async with mail_server() as sink, notifier(servers, sink) as world:
        learner = uuid.uuid4()
        letter = sealing.seal(PUBLIC, {"email": "canary@example.no", "name": "Kari", "language": "nb", "login": KEY})
        received = [
            world.contacts.read(record) for record in world.records([ContactGiven(learner_id=learner, sealed=letter)])
        ]
        async with world.here.database.reading() as conn:
            async with conn.transaction():
                await world.contacts.tell(conn, received)
                forgetting = asyncio.create_task(world.hear(ASKED, [asked(learner)]))
                await until(lambda: somebody_waits(world.here.database))
            await forgetting
        assert await left(world) == []


async def test_what_is_parked_of_the_contact_is_emptied_and_has_no_effect(servers: Servers) -> None:
    async with mail_server() as sink, notifier(servers, sink) as world:
        learner, other = uuid.uuid4(), uuid.uuid4()

        async def park(conn: Connection) -> None:
            for offset, one in enumerate((learner, other)):
                record = Record("enrolment.contacts", 0, offset, str(one).encode(), (), b"canary")
                await parking.park(
                    conn, "notifier", "notifier.contacts", record, state="parked", reason="unsealable", detail="d",
                    event_id=f"e{offset}",
                )  # fmt: skip

        await world.here.database.run(park)
        await world.hear(ASKED, [asked(learner)])
        found = await world.rows("SELECT state, value FROM parked ORDER BY id")
        assert [tuple(row) for row in found] == [("discarded", None), ("parked", b"canary")]
        heard = await world.rows("SELECT event_id FROM inbox WHERE consumer = 'notifier.contacts'")
        assert [row["event_id"] for row in heard] == ["e0"], "it counts as heard"


async def test_asked_again_it_takes_nothing_from_one_who_has_come_back(servers: Servers) -> None:
    async with mail_server() as sink, notifier(servers, sink) as world:
        learner, again = uuid.uuid4(), uuid.uuid4()
        await known(world, learner)
        await world.hear(ASKED, [asked(learner)])
        await known(world, again)
        await chosen(world)
        await world.hear(ASKED, [asked(learner)])
        assert await left(world) == ["contacts", "preferences", "quiet_hours", "calendars"]
        assert [row["learner_id"] for row in await world.rows("SELECT learner_id FROM contacts")] == [again]


async def test_choices_of_one_whose_address_was_never_given_go_by_the_log_in(servers: Servers) -> None:
    async with mail_server() as sink, notifier(servers, sink) as world:
        await chosen(world)
        await chosen(world, "somebody else")
        await world.hear(ASKED, [asked(uuid.uuid4())])
        people = await world.rows("SELECT DISTINCT person FROM preferences")
        assert [row["person"] for row in people] == ["somebody else"]


@pytest.mark.parametrize("again", [True, False])
async def test_one_whom_enrolment_has_lost_with_its_database_is_forgotten_by_the_log_in(
    servers: Servers, again: bool
) -> None:
    """They came after the backup, so that enrolment knows them as somebody new, or not at all; the address is here."""
    async with mail_server() as sink, notifier(servers, sink) as world:
        lost, learner, later, other = (uuid7() for _ in range(4))
        await known(world, lost)
        await world.hear(events.enrolments, [EnrolmentDenied(**world.about(lost), reason="canary words")])
        if again:
            await known(world, learner, "canary.two@example.no")
        await world.contact_is_known(other, "ola@example.no", login="ola")
        await chosen(world)
        await world.hear(ASKED, [asked(learner)])
        found = await world.rows("SELECT learner_id, email FROM contacts")
        assert [tuple(row) for row in found] == [(other, "ola@example.no")]
        assert await world.rows("SELECT FROM notices WHERE facts::text LIKE '%canary%'") == []
        *_, (_, answer) = await world.told()
        assert answer["counts"]["contacts"] == 1 + again
        await known(world, lost)
        await known(world, later)
        await world.hear(ASKED, [asked(learner)])
        kept = {row["learner_id"] for row in await world.rows("SELECT learner_id FROM contacts")}
        assert kept == {other, later}, "what comes late of them is not kept, and who has come back stays"


@pytest.mark.parametrize("sealed", [None, "no letter of ours"])
async def test_without_the_log_in_it_goes_by_what_is_known(servers: Servers, sealed: str | None) -> None:
    async with mail_server() as sink, notifier(servers, sink) as world:
        learner = uuid.uuid4()
        await known(world, learner)
        await chosen(world)
        await world.hear(ASKED, [ErasureRequested(learner_id=learner, request_id=uuid.uuid4(), sealed=sealed)])
        assert await left(world) == []


async def test_a_backup_from_before_brings_nobody_back(servers: Servers, tmp_path: Any) -> None:
    """By the database that was there before; without one an operator is told what is to be done."""
    async with mail_server() as sink, notifier(servers, sink) as world:
        learner = uuid.uuid4()
        await known(world, learner)
        await chosen(world)
        since = await backup(world.settings, tmp_path / "dump")
        await world.hear(ASKED, [asked(learner)])
        settings = await restored(world.settings, tmp_path / "dump")
        kept = await connect(world.settings, "operator")
        outcome = await finished(settings, since, [], remembering.remember, kept=kept, name="notifier")
        await kept.close()
        assert outcome.told[1] == "1 people had been forgotten since the backup, and are forgotten again."
        assert await rows(settings, "SELECT email FROM contacts") == []
        assert await rows(settings, "SELECT person FROM preferences") == []
        alone = await restored(world.settings, tmp_path / "dump")
        outcome = await finished(alone, since, [], remembering.remember, name="notifier")
        assert "people erasures" in outcome.told[1]


@pytest.mark.parametrize("is_kept", [True, False], ids=["with the database before", "alone"])
async def test_who_never_gave_an_address_does_not_come_back_with_a_backup(
    servers: Servers, tmp_path: Any, is_kept: bool
) -> None:
    """What they chose is kept by their log-in, which only what was said of them tells."""
    async with mail_server() as sink, notifier(servers, sink) as world:
        gone = asked(uuid.uuid4())
        await chosen(world)
        since = await backup(world.settings, tmp_path / "dump")
        await world.hear(ASKED, [gone], event_id=(said_as := uuid.uuid4()))
        await publish(servers, world, gone, said_as)
        settings = await restored(world.settings, tmp_path / "dump")
        kept = await connect(world.settings, "operator") if is_kept else None
        heard = [ErasureRequested.spec.topic]
        await finished(settings, since, [], remembering.remember, kept=kept, name="notifier", heard=heard)
        if kept:
            await kept.close()
        async with running(settings, "notifier") as here:
            again = World(here, settings)  # type: ignore[arg-type]
            again.course, again.offering = world.course, world.offering
            await again.hear(ASKED, [gone], event_id=said_as)
            assert await left(again) == []
