"""A database put back from a backup speaks on where others listen, hears what it missed, and tells its losses."""

import asyncio
import uuid
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import asyncpg
import pytest
from aiokafka import AIOKafkaProducer
from pydantic import SecretStr

from contracts.enrolment import LearnerEnrolled, LearnerQueued
from contracts.envelope import Envelope, Event, decode
from contracts.notifier import NoticeSent
from contracts.topics import Topic, owned_by, partner_courses, partner_feed
from deploy.local.places import ROOT
from deploy.local.postgres import binaries
from kit import audit, outbox, republishing, restoring, rewinding, topics
from kit.auth import Caller
from kit.consumer import Consumer
from kit.database import Connection, Database, connect
from kit.listeners import Listeners, Received
from kit.operating import me
from kit.restoring import Outcome, Restate, Restored, nothing_to_restate
from kit.settings import Settings
from services.catalogue import events as catalogue_events
from services.catalogue import joining, retaking, retracting
from services.catalogue import restating as saying
from services.catalogue.offices import Sealed
from services.enrolment import restating
from services.enrolment.store import sessions
from services.enrolment.store.sessions import Member
from services.notifier import events, remembering
from services.notifier.settings import NotifierSettings
from services.notifier.store import webhooks
from tests import seats
from tests.delivery import Servers, listening, relaying, running, until
from tests.integration.corpus import COURSE, DATES
from tests.integration.test_catalogue import world as catalogue
from tests.notifying import PRIVATE, mail_server, notifier
from tests.notifying import World as Notifier

pytestmark = pytest.mark.anyio

TOPIC = "enrolment.enrolments"


async def backup(settings: Settings, file: Path) -> datetime:
    """A dump of this database, whoever uses it; returns an instant before it."""
    conn = await connect(settings, "operator")
    at: datetime = await conn.fetchval("SELECT clock_timestamp()")
    await conn.close()
    await _run("pg_dump", settings, "--format=custom", f"--file={file}", settings.database_name)
    return at


async def restored(settings: Settings, file: Path) -> Settings:
    """A new database beside that one, from the dump."""
    name = f"test_{uuid.uuid4().hex}"
    conn = await connect(settings, "operator")
    await conn.execute(f'CREATE DATABASE "{name}" TEMPLATE template0')
    await conn.close()
    await _run("pg_restore", settings, "--exit-on-error", f"--dbname={name}", str(file))
    return settings.model_copy(update={"database_name": name})


async def _run(program: str, settings: Settings, *arguments: str) -> None:
    address = [f"--host={settings.database_host}", f"--port={settings.database_port}", "--username=admin"]
    password = settings.database_password.get_secret_value()
    process = await asyncio.create_subprocess_exec(
        binaries() / "bin" / program,
        *address,
        *arguments,
        env={"PGPASSWORD": password, "LC_ALL": "C"},
        stderr=asyncio.subprocess.PIPE,
    )
    _, said = await process.communicate()
    assert process.returncode == 0, said


async def finished(
    settings: Settings,
    since: datetime,
    lost: Sequence[Envelope],
    restate: Restate = nothing_to_restate,
    *,
    heard: Sequence[str] = (),
    above: int = 1,
    kept: Connection | None = None,
    groups: Sequence[str] = (),
    name: str = "enrolment",
) -> Outcome:
    conn = await connect(settings, "operator")
    try:
        known = Restored(settings, since, lost, heard, kept)
        return await restoring.finish(conn, name, me(), known, above, restate, groups)
    finally:
        await conn.close()


async def looked(settings: Settings, since: datetime, before: Settings | None = None) -> Outcome:
    conn = await connect(settings, "operator")
    try:
        async with restoring.beside(settings, before.database_name if before else None) as kept:
            return await restoring.look(conn, "enrolment", settings, since, kept)
    finally:
        await conn.close()


async def rows(settings: Settings, query: str, *values: Any) -> list[Any]:
    conn = await connect(settings, "operator")
    try:
        return [tuple(row) for row in await conn.fetch(query, *values)]
    finally:
        await conn.close()


async def said(settings: Settings) -> list[Envelope]:
    """All events in this outbox; not the copies of what came on the broker's other topics and was no event."""
    query = "SELECT payload FROM outbox WHERE topic NOT LIKE '%.parked' ORDER BY id"
    return [decode(payload, []) for (payload,) in await rows(settings, query)]


async def is_sound(settings: Settings, service: str) -> None:
    found = await audit.look(settings, [audit.KIT, ROOT / "services" / service / "audit.sql"])
    assert [one for one in found if one.wrong] == []


class Learner:
    """One learner of whom enrolment speaks, and a reader that keeps where it heard them to have a seat."""

    def __init__(self, reader: Settings) -> None:
        self.id = uuid.uuid4()
        self.reader = reader
        self.heard: list[str] = []
        listeners = Listeners()

        @listeners.on(LearnerEnrolled)
        async def hear(conn: Connection, received: Sequence[Received]) -> None:
            told: list[Any] = [one.event for one in received]
            self.heard += [one.place for one in told if one.learner_id == self.id]

        self.consumer = f"r{uuid.uuid4().hex}"
        self.listeners = listeners

    @property
    def group(self) -> str:
        return f"enrolment.{self.consumer}"

    async def seated(self, settings: Settings, place: str) -> None:
        """Enrolment says so, and it is on the topic."""
        async with running(settings) as here:
            event = LearnerEnrolled(**self.about(), place=place)
            await here.database.run(lambda conn: outbox.add(conn, event), "worker")
            async with relaying(here):
                await until(lambda: is_published(settings))

    def about(self) -> dict[str, Any]:
        ids = ("enrolment_id", "offering_id", "course_id")
        return {"learner_id": self.id, "partner": "torgar", **{name: uuid.uuid4() for name in ids}}

    @asynccontextmanager
    async def listens(self, reader: Settings | None = None) -> AsyncIterator[None]:
        consumer = Consumer(self.consumer, self.listeners, topics=(TOPIC,))
        async with running(reader or self.reader) as here, listening(here, consumer):
            yield

    async def has_heard(self, *places: str) -> None:
        async def so() -> bool:
            return self.heard == list(places)

        await until(so)

    def of_mine(self, outcome: Outcome) -> list[str]:
        """Where the learner is lost to sit: all tests of a run share the topic."""
        return [one.data["place"] for one in outcome.lost if one.data.get("learner_id") == str(self.id)]


async def is_published(settings: Settings) -> bool:
    return await rows(settings, "SELECT count(*) FROM outbox WHERE published_at IS NULL") == [(0,)]


@pytest.fixture
async def learner(servers: Servers) -> Learner:
    await topics.declare(servers.kafka, owned_by("enrolment"))
    return Learner(await servers.database())


@pytest.mark.parametrize("is_raised", [True, False], ids=["raised", "as it was"])
async def test_what_a_restored_database_says_is_heard_when_its_epoch_was_raised(
    servers: Servers, learner: Learner, tmp_path: Path, is_raised: bool
) -> None:
    """The control: without it, the second number 2 is dropped as if it were the first."""
    first = await servers.database()
    async with learner.listens():
        await learner.seated(first, "before")
        since = await backup(first, tmp_path / "dump")
        await learner.seated(first, "lost")
        await learner.has_heard("before", "lost")

        second = await restored(first, tmp_path / "dump")
        found = await looked(second, since)
        assert learner.of_mine(found) == ["lost"]
        assert found.epoch >= 1
        if is_raised:
            assert (await finished(second, since, found.lost, above=found.epoch)).epoch == found.epoch + 1
        await learner.seated(second, "after")
        await learner.seated(second, "and later")
        # Numbers 2 and 3: the control's first is one that was heard.
        await learner.has_heard("before", "lost", *(["after"] if is_raised else []), "and later")


async def test_a_second_restore_of_one_backup_has_a_higher_epoch_again(
    servers: Servers, learner: Learner, tmp_path: Path
) -> None:
    first = await servers.database()
    await learner.seated(first, "before")
    since = await backup(first, tmp_path / "dump")

    second = await restored(first, tmp_path / "dump")
    once = await finished(second, since, [], above=(await looked(second, since)).epoch)
    await learner.seated(second, "lost")
    third = await restored(first, tmp_path / "dump")
    found = await looked(third, since)
    assert (found.epoch, learner.of_mine(found)) == (once.epoch, ["lost"])
    twice = await finished(third, since, found.lost, above=found.epoch)
    assert twice.epoch == once.epoch + 1

    # Nothing of the third is on a topic: the database that was there before knows of its epoch.
    fourth = await restored(first, tmp_path / "dump")
    assert (await looked(fourth, since)).epoch == once.epoch
    assert (await looked(fourth, since, before=third)).epoch == twice.epoch


async def test_what_was_said_and_never_published_is_found_in_the_database_before(
    servers: Servers, learner: Learner, tmp_path: Path
) -> None:
    first = await servers.database()
    since = await backup(first, tmp_path / "dump")
    conn = await connect(first, "operator")
    async with conn.transaction():
        await outbox.add(conn, LearnerEnrolled(**learner.about(), place="unpublished"))
    await conn.close()
    second = await restored(first, tmp_path / "dump")
    assert learner.of_mine(await looked(second, since)) == []
    assert learner.of_mine(await looked(second, since, before=first)) == ["unpublished"]


async def test_a_restored_listener_hears_again_what_it_missed_and_nothing_that_is_lost(
    servers: Servers, learner: Learner, tmp_path: Path
) -> None:
    first = await servers.database()
    async with learner.listens():
        await learner.seated(first, "before")
        await learner.has_heard("before")
        since = await backup(learner.reader, tmp_path / "dump")
        await learner.seated(first, "after")
        await learner.seated(first, "lost")
        await learner.has_heard("before", "after", "lost")
    [_, _, lost] = await said(first)
    reader = await restored(learner.reader, tmp_path / "dump")
    conn = await connect(reader, "operator")
    assert await restoring.pass_over(conn, [(learner.group, lost.id)]) == 1
    assert await restoring.heard_epoch(conn, "enrolment") >= 1  # other tests speak on the same topic
    assert await restoring.heard_epoch(conn, "catalogue") == 0
    await conn.close()
    learner.heard.clear()
    outcome = await finished(reader, since, [], groups=[learner.group])
    assert outcome.rewound[learner.group] >= 2
    async with learner.listens(reader):
        await learner.has_heard("after")
        await learner.seated(first, "new")
        await learner.has_heard("after", "new")


async def test_no_group_is_ever_put_forward(servers: Servers, learner: Learner) -> None:
    first = await servers.database()
    await learner.seated(first, "before")
    async with learner.listens():
        await learner.has_heard("before")
    await learner.seated(first, "later")
    between = datetime.now(UTC)
    await learner.seated(first, "latest")
    rewound = await rewinding.rewind(servers.kafka, [learner.group, "enrolment.never"], between)
    assert rewound == {learner.group: 0, "enrolment.never": 0}
    async with learner.listens():
        await learner.has_heard("before", "later", "latest")


async def test_who_was_told_after_the_backup_that_no_seat_came_is_not_told_again(
    servers: Servers, tmp_path: Path
) -> None:
    async with seats.world(servers) as world:
        offering = await world.scheduled(online=1, in_days=1, lasts_days=9)
        for who in ("kari", "ola"):
            await world.enrol(offering, who)
        since = await backup(world.settings, tmp_path / "dump")
        known = len(await said(world.settings))
        async with world.later(days=2) as then:
            await then.tick()
            lost = (await said(world.settings))[known:]
            assert [one.type.split(".")[-2] for one in lost] == ["LearnerGotNoSeat"]
            settings = (await restored(world.settings, tmp_path / "dump")).model_copy(
                update={"test_clock_offset": timedelta(days=2)}
            )
            await finished(settings, since, lost, restating.restating(then.settings))
    database = Database(settings, pools={"web": 4})
    await database.open()
    try:
        again = seats.World(database, then.settings)
        assert await again.tick() == 1
        assert "LearnerGotNoSeat" not in await again.kinds()
    finally:
        await database.close()


async def test_enrolment_says_anew_what_each_enrolment_is(servers: Servers, tmp_path: Path) -> None:
    async with seats.world(servers) as world:
        offering = await world.scheduled(online=1)
        kari = await world.enrol(offering, "kari")
        since = await backup(world.settings, tmp_path / "dump")
        known = len(await said(world.settings))
        await world.withdraw(kari, "kari")
        ola = await world.enrol(offering, "ola")
        lost = (await said(world.settings))[known:]
        settings = await restored(world.settings, tmp_path / "dump")
        told = await finished(settings, since, lost, restating.restating(world.settings))
    anew = (await said(settings))[known:]
    states = {one.subject: (one.data["state"], one.data["place"], one.epoch) for one in anew if "state" in one.data}
    assert states == {str(kari.id): ("associated", "online", 2), str(ola.id): ("lost", None, 2)}
    assert [(one.type.split(".")[-2], one.data["seats"][0]["taken"]) for one in anew if "seats" in one.data] == [
        ("OfferingFilled", 1)
    ]
    assert told.told[0] == "1 enrolments are lost, 1 are as they were at the backup: said to all."
    assert {one.id for one in told.lost} == {one.id for one in lost}
    assert await rows(settings, "SELECT act, about FROM operator_acts") == [("restored", "epoch 2")]
    conn = await connect(settings, "operator")
    await conn.execute("UPDATE outbox SET published_at = now()")
    await conn.close()
    await is_sound(settings, "enrolment")


async def test_beside_a_new_broker_all_that_was_said_is_said_again(
    servers: Servers,
) -> None:
    settings = await servers.database()
    conn = await connect(settings, "operator")
    async with conn.transaction():
        await outbox.add(conn, LearnerEnrolled(**Learner(settings).about(), place="online"))
    await conn.execute("UPDATE outbox SET published_at = now()")
    await conn.close()
    await topics.declare(servers.kafka, owned_by("enrolment"))
    nothing = Topic(f"new{uuid.uuid4().hex}.things", "new", "thing", ())
    await topics.declare(servers.kafka, [nothing])
    assert await rewinding.is_empty(servers.kafka, [nothing.name, "never.made"])
    assert await rewinding.is_empty(servers.kafka, ["never.made"])
    waiting = "SELECT count(*) FROM outbox WHERE published_at IS NULL"
    await Learner(settings).seated(await servers.database(), "somewhere")  # the broker has something of enrolment's
    await finished(settings, datetime.now(UTC), [])
    assert await rows(settings, waiting) == [(0,)]
    await finished(settings, datetime.now(UTC), [], name="nobody")  # owns no topic, so that none of its has anything
    assert await rows(settings, waiting) == [(1,)]


COURSES = "SELECT id, partner, code, version, content, withdrawn FROM courses ORDER BY id"
RUNS = "SELECT id, course_id, key, version, content, state FROM offerings ORDER BY id"
PARTNERS = "SELECT slug, name, arenas, state, version FROM partners ORDER BY slug"


async def test_the_catalogue_takes_back_all_that_it_has_told(servers: Servers, tmp_path: Path) -> None:
    async with catalogue(servers) as here:
        assert (await here.put("SV-1", COURSE)).status_code == 201
        assert (await here.put("SV-1/offerings/v27", DATES)).status_code == 201
        since = await backup(here.settings, tmp_path / "dump")
        known = len(await said(here.settings))
        for title in ("To", "Tre"):
            assert (await here.put("SV-1", {**COURSE, "title": {"nb": title}})).status_code == 200
        assert (await here.cancel("SV-1/offerings/v27")).status_code == 200
        assert (await here.put("SV-1/offerings/h27", DATES)).status_code == 201
        assert (await here.put("SV-2", COURSE)).status_code == 201
        lost = sorted((await said(here.settings))[known:], key=lambda one: (one.aggregate or "", one.seq or 0))
        settings = await restored(here.settings, tmp_path / "dump")
        outcome = await finished(settings, since, lost, retaking.take_back)
        assert outcome.lost == []
        for query in (COURSES, RUNS, PARTNERS):
            assert await rows(settings, query) == await rows(here.settings, query)
        assert {one.id for one in await said(settings)} == {one.id for one in await said(here.settings)}
    await is_sound(settings, "catalogue")


async def test_what_was_said_again_is_taken_back_where_nothing_else_tells_of_it(
    servers: Servers, tmp_path: Path
) -> None:
    """A backup that is older than the topic: of what came between only `republish --state` tells any more."""
    async with catalogue(servers) as here:
        assert (await here.put("SV-0", COURSE)).status_code == 201
        since = await backup(here.settings, tmp_path / "dump")
        for code in ("SV-1", "SV-2"):
            assert (await here.put(code, COURSE)).status_code == 201
            for key in ("v27", "h27"):
                assert (await here.put(f"{code}/offerings/{key}", DATES)).status_code == 201
        assert (await here.cancel("SV-1/offerings/v27")).status_code == 200
        await here.here.database.run(lambda conn: retracting.cancel(conn, here.partner, "SV-2", None))
        known = len(await said(here.settings))
        conn = await connect(here.settings, "operator")
        await republishing.whole_state(conn, saying.STATE)
        await conn.close()
        lost = sorted((await said(here.settings))[known:], key=lambda one: (one.aggregate or "", one.seq or 0))
        settings = await restored(here.settings, tmp_path / "dump")
        outcome = await finished(settings, since, lost, retaking.take_back)
        assert outcome.lost == []
        for query in (COURSES, RUNS, PARTNERS):
            assert await rows(settings, query) == await rows(here.settings, query)
        again = await restored(here.settings, tmp_path / "dump")  # and all of it beside what it repeats
        lost = sorted((await said(here.settings))[2:], key=lambda one: (one.aggregate or "", one.seq or 0))
        assert (await finished(again, since, lost, retaking.take_back)).lost == []
        for query in (COURSES, RUNS, PARTNERS):
            assert await rows(again, query) == await rows(here.settings, query)
    await is_sound(settings, "catalogue")


async def test_what_was_decided_of_a_retraction_after_the_backup_waits_no_more(
    servers: Servers, tmp_path: Path
) -> None:
    """The course was withdrawn, or course and run were published again; what nothing was said of waits as before."""
    async with catalogue(servers) as here:
        for code in ("SV-1", "SV-2", "SV-3"):
            assert (await here.put(code, COURSE)).status_code == 201
            assert (await here.put(f"{code}/offerings/v27", DATES)).status_code == 201
        conn = await connect(here.settings, "operator")
        await conn.execute("INSERT INTO retractions SELECT id, NULL, '', id::text FROM courses")
        await conn.execute("INSERT INTO retractions SELECT course_id, id, '', id::text FROM offerings")
        await conn.close()
        since = await backup(here.settings, tmp_path / "dump")
        known = len(await said(here.settings))
        await here.here.database.run(lambda conn: retracting.cancel(conn, here.partner, "SV-1", None))
        assert (await here.put("SV-2", {**COURSE, "title": {"nb": "To"}})).status_code == 200
        assert (
            await here.put("SV-2/offerings/v27", {**DATES, "places": [{"arena": "online", "capacity": 13}]})
        ).status_code == 200
        settings = await restored(here.settings, tmp_path / "dump")
        waits = "SELECT code, offering_id IS NULL FROM retractions JOIN courses ON id = course_id ORDER BY 1, 2"
        assert len(await rows(settings, waits)) == 6, "the control"
        lost = sorted((await said(here.settings))[known:], key=lambda one: (one.aggregate or "", one.seq or 0))
        assert (await finished(settings, since, lost, retaking.take_back)).lost == []
        assert await rows(settings, waits) == await rows(here.settings, waits) == [("SV-3", False), ("SV-3", True)]


HELD_UP = "SELECT slug, state, state_because, state_since, counted_after FROM partners ORDER BY name"


@pytest.mark.parametrize("is_kept", [True, False], ids=["with the database before", "alone"])
async def test_a_partner_is_held_up_as_it_was_before_the_restore(
    servers: Servers, tmp_path: Path, is_kept: bool
) -> None:
    """That one was quarantined, and why one was suspended, is told to nobody; and neither is it that one goes on."""
    async with catalogue(servers) as here:
        names = ("gone-wrong", "mended", "let-in", "ended")
        slugs = [f"p-{uuid.uuid4().hex[:12]}" for _ in names]
        for slug, name in zip(slugs, names, strict=True):
            joined = partial(joining.add_partner, slug=slug, name=name, orgnr=None, arenas=["online"])
            await here.here.database.run(joined)
        gone_wrong, mended, let_in, ended = slugs
        await here.here.database.run(lambda conn: joining.quarantine(conn, mended, "it sent nonsense"))
        await here.here.database.run(lambda conn: joining.suspend(conn, let_in, "no contract yet"))
        since = await backup(here.settings, tmp_path / "dump")
        known = len(await said(here.settings))
        await here.here.database.run(lambda conn: joining.quarantine(conn, gone_wrong, "20 of its last 50"))
        for slug in (mended, let_in):
            await here.here.database.run(partial(joining.release, slug=slug))
        await here.here.database.run(lambda conn: joining.suspend(conn, ended, "the contract has ended"))
        lost = sorted((await said(here.settings))[known:], key=lambda one: (one.aggregate or "", one.seq or 0))
        settings = await restored(here.settings, tmp_path / "dump")
        conn = await connect(here.settings, "operator")
        await conn.execute("UPDATE partners SET counted_after = 17 WHERE slug = $1", mended)
        outcome = await finished(settings, since, lost, retaking.take_back, kept=conn if is_kept else None)
        await conn.close()
        assert outcome.lost == []
        if is_kept:
            assert await rows(settings, HELD_UP) == await rows(here.settings, HELD_UP)
            assert outcome.told[1:] == ["4 partners are held up, or go on, as in the database before."]
            return
        was = {slug: (state, because) for slug, state, because, _, _ in await rows(settings, HELD_UP)}
        assert [was[slug] for slug in slugs] == [
            ("active", ""),
            ("quarantined", "it sent nonsense"),
            ("active", ""),
            ("suspended", ""),
        ]
        assert outcome.told[1:] == [
            "Which partners were quarantined, or released from it, since the backup is not known. Look: partners list",
            f"Why {ended} was suspended is not known any more. Say it again: partners suspend {ended} --reason WHY",
        ]


async def test_the_address_of_an_office_is_taken_from_the_database_before(servers: Servers, tmp_path: Path) -> None:
    mail = "SELECT mail_sealed, mail_digest, mail_language FROM partners"
    async with catalogue(servers) as here:
        since = await backup(here.settings, tmp_path / "dump")
        known = len(await said(here.settings))
        office = Sealed("sealed", bytes(48), "nn")
        await here.here.database.run(lambda conn: joining.set_mail(conn, here.partner, office))
        settings = await restored(here.settings, tmp_path / "dump")
        conn = await connect(here.settings, "operator")
        lost = (await said(here.settings))[known:]
        outcome = await finished(settings, since, lost, retaking.take_back, kept=conn)
        await conn.close()
        assert await rows(settings, mail) == await rows(here.settings, mail) == [("sealed", bytes(48), "nn")]
        assert outcome.told[1:] == []


async def test_beside_a_new_broker_partners_have_their_topics_again(servers: Servers) -> None:
    slug = f"p-{uuid.uuid4().hex[:12]}"
    for service, statement, restate, topic in (
        (
            "catalogue",
            "INSERT INTO partners (slug, name, arenas) VALUES ($1, $1, '{online}')",
            retaking.take_back,
            partner_courses(slug),
        ),
        ("notifier", "INSERT INTO partner_feeds (partner) VALUES ($1)", remembering.remember, partner_feed(slug)),
    ):
        settings = await servers.database(service)
        conn = await connect(settings, "operator")
        await conn.execute(statement, slug)
        await conn.close()
        await finished(settings, datetime.now(UTC), [], restate)
        assert await topics.declare(servers.kafka, [topic]) == [], "it is there"


async def test_on_another_server_no_row_comes_from_a_transaction_that_is_still_to_be(servers: Servers) -> None:
    async with catalogue(servers) as here:
        assert (await here.put("SV-1", COURSE)).status_code == 201
        conn = await connect(here.settings, "operator")
        await conn.execute(
            """
            ALTER TABLE courses DISABLE TRIGGER course_notes_its_transaction;
            UPDATE courses SET written_in = '999999999999';
            ALTER TABLE courses ENABLE TRIGGER course_notes_its_transaction
            """
        )
        later = "SELECT count(*) FROM courses WHERE written_in > pg_current_xact_id()"
        assert await conn.fetchval(later) == 1
        await finished(here.settings, datetime.now(UTC), [], retaking.take_back)
        assert await conn.fetchval(later) == 0
        await conn.close()


async def test_what_a_partner_published_is_not_done_a_second_time_when_it_is_read_again(
    servers: Servers, tmp_path: Path
) -> None:
    async with catalogue(servers) as here:
        since = await backup(here.settings, tmp_path / "dump")
        known = len(await said(here.settings))
        titles = [{"nb": f"Sveising {number}"} for number in range(3)]
        async with listening(here.here, catalogue_events.partners()):
            await here.send(*(("CoursePublished", {**COURSE, "code": "SV-1", "title": one}) for one in titles))

            async def all_told() -> bool:
                return len(await said(here.settings)) == known + 3

            await until(all_told)
        lost = (await said(here.settings))[known:]
        settings = await restored(here.settings, tmp_path / "dump")
        outcome = await finished(settings, since, lost, retaking.take_back, groups=["catalogue.partners"])
        assert outcome.rewound["catalogue.partners"] >= 3
        async with running(settings, "catalogue") as again, listening(again, catalogue_events.partners()):
            await here.send(("CoursePublished", {**COURSE, "code": "SV-2"}))

            async def has_read() -> bool:
                return (await said(settings))[-1].data.get("code") == "SV-2"

            await until(has_read)
        assert [one.data["title"] for one in (await said(settings))[known:-1]] == titles


async def test_a_notice_that_was_sent_is_not_sent_again_and_one_that_was_owed_is(
    servers: Servers, tmp_path: Path
) -> None:
    enrolled, waited = (uuid.uuid4(), uuid.uuid4()), (uuid.uuid4(), uuid.uuid4())
    async with mail_server() as sink, notifier(servers, sink) as world:
        sent, owed, due = (uuid.uuid4() for _ in range(3))
        for number, one in enumerate((enrolled[0], waited[0])):
            await world.contact_is_known(one, f"l{number}@example.no")
        seat = LearnerEnrolled(**world.about(*enrolled), place="mosjoen")
        line = LearnerQueued(**world.about(*waited), places=["mosjoen"], place_in_line=1)
        before = LearnerQueued(**world.about(enrolled[0], uuid.uuid4()), places=["mosjoen"], place_in_line=2)
        await world.hear(events.enrolments, [before], event_id=due)
        since = await backup(world.settings, tmp_path / "dump")
        await world.hear(events.enrolments, [seat], event_id=sent)
        await publish(servers, world, seat, sent)
        async with world.sending():
            await world.all_are("sent", 2)
        lost = await said(world.settings)
        assert [one.causationid for one in lost] == [str(due), str(sent)]
        assert all(NoticeSent.model_validate(one.data) for one in lost)

        settings = await restored(world.settings, tmp_path / "dump")
        outcome = await finished(settings, since, lost, remembering.remember, heard=[TOPIC])
        assert outcome.told[0] == "2 notices had their answer after the backup, and are not sent again."
        async with running(settings, "notifier") as here:
            again = Notifier(here, settings)  # type: ignore[arg-type]
            again.course, again.offering = world.course, world.offering
            await again.hear(events.enrolments, [seat], event_id=sent)
            await again.hear(events.enrolments, [line], event_id=owed)
            async with again.sending():
                await again.no_more_open()
            assert await again.states() == {"suppressed": 2, "sent": 1}
            reasons = await again.rows("SELECT DISTINCT reason FROM notices WHERE state = 'suppressed'")
            assert [row["reason"] for row in reasons] == ["sent_before"]
            # Known by its event alone: there are no words to show.
            await again.rows("UPDATE contacts SET login = 'l'")
            assert [row["template"] for row in await again.rows("SELECT template FROM seen")] == ["queued"]
    assert sorted(sink.recipients()) == ["l0@example.no", "l0@example.no", "l1@example.no"]


async def publish(servers: Servers, world: Notifier, event: Event, event_id: uuid.UUID) -> None:
    [record] = world.records([event], event_id)
    await topics.declare(servers.kafka, owned_by("enrolment"))
    producer = AIOKafkaProducer(bootstrap_servers=servers.kafka)
    await producer.start()
    await producer.send_and_wait(event.spec.topic, record.value, key=record.key)
    await producer.stop()


async def test_what_webhooks_have_taken_is_known_from_the_database_before(servers: Servers, tmp_path: Path) -> None:
    known = (await servers.database("notifier")).model_dump()
    first = NotifierSettings(**known, contact_private_key=SecretStr(PRIVATE))
    webhook = uuid.uuid4()
    owe = "INSERT INTO webhook_deliveries (webhook_id, event_id, type, key, body) VALUES ($1, $2, 't', 'k', 'b')"
    taken = """
        UPDATE webhook_deliveries SET state = 'delivered', attempts = 1, status_code = 204, delivered_at = now(),
            updated_at = now()
    """
    conn = await connect(first, "operator")
    await conn.execute(
        "INSERT INTO webhooks (id, partner, url, events, secret) VALUES ($1, 'p', 'u', '{*}', 's')", webhook
    )
    await conn.execute(owe, webhook, "was owed")
    since = await backup(first, tmp_path / "dump")
    await conn.execute(owe, webhook, "came after")
    await conn.execute(taken)
    await conn.execute(owe, webhook, "is owed")
    settings = await restored(first, tmp_path / "dump")
    outcome = await finished(settings, since, [], remembering.remember, kept=conn)
    await conn.close()
    assert outcome.told[-1] == "3 deliveries to webhooks were taken over from the database before."
    states = await rows(settings, "SELECT event_id, state, body FROM webhook_deliveries ORDER BY id")
    assert states == [("was owed", "delivered", b"b"), ("came after", "delivered", b"b"), ("is owed", "pending", b"b")]


HOOKS = "SELECT url, state, reason, secret, old_secret FROM webhooks ORDER BY url"


@pytest.mark.parametrize("is_kept", [True, False], ids=["with the database before", "alone"])
async def test_a_webhook_that_was_deleted_or_has_a_new_secret_is_not_what_it_was(
    servers: Servers, tmp_path: Path, is_kept: bool
) -> None:
    known = (await servers.database("notifier")).model_dump()
    first = NotifierSettings(**known, contact_private_key=SecretStr(PRIVATE))
    conn = await connect(first, "operator")
    for name in ("deleted", "forgotten", "off", "rotated", "same"):
        await conn.execute(
            "INSERT INTO webhooks (partner, url, events, secret) VALUES ('p', $1::text, '{*}', $1 || ' secret')", name
        )
    [(at,)] = await rows(first, "SELECT id FROM webhooks WHERE url = 'deleted'")
    [(rotated,)] = await rows(first, "SELECT id FROM webhooks WHERE url = 'rotated'")
    since = await backup(first, tmp_path / "dump")
    before = await rows(first, HOOKS)
    assert await webhooks.delete(conn, "p", at)
    await webhooks.rotate(conn, "p", rotated, "new secret")
    await conn.execute("DELETE FROM webhooks WHERE url = 'forgotten'")
    await conn.execute("UPDATE webhooks SET state = 'off', reason = 'gone' WHERE url = 'off'")
    settings = await restored(first, tmp_path / "dump")
    outcome = await finished(settings, since, [], remembering.remember, kept=conn if is_kept else None)
    await conn.close()
    if not is_kept:
        assert await rows(settings, HOOKS) == before, "the control"
        assert "Tell partners to look at theirs." in outcome.told[-2]
        return
    assert outcome.told[-2] == "4 webhooks are on, off or deleted, and sign, as in the database before."
    assert await rows(settings, HOOKS) == [
        ("deleted", "deleted", None, "", None),
        ("forgotten", "deleted", None, "", None),
        ("off", "off", "gone", "off secret", None),
        ("rotated", "on", None, "new secret", "rotated secret"),
        ("same", "on", None, "same secret", None),
    ]


@pytest.mark.parametrize("is_kept", [True, False], ids=["with the database before", "alone"])
async def test_nobody_is_let_back_in_who_was_logged_out_or_has_lost_a_role(
    servers: Servers, tmp_path: Path, is_kept: bool
) -> None:
    names = "SELECT subject FROM members ORDER BY subject"
    async with seats.world(servers) as world:
        conn = await connect(world.settings, "operator")
        for subject in ("mallory", "demoted", "tor"):
            await sessions.keep_member(conn, Member("issuer", subject, "operator", None, None))
            caller = Caller("issuer", subject)
            await sessions.begin(conn, subject.encode(), caller, "csrf", {})
        since = await backup(world.settings, tmp_path / "dump")
        await sessions.end_of(conn, "issuer", "mallory")
        assert await sessions.drop_member(conn, "issuer", "mallory")
        await sessions.keep_member(conn, Member("issuer", "demoted", "learner", "torgar", None))
        await sessions.keep_member(conn, Member("issuer", "new", "operator", None, None))
        settings = await restored(world.settings, tmp_path / "dump")
        restate = restating.restating(world.settings)
        outcome = await finished(settings, since, [], restate, kept=conn if is_kept else None)
        await conn.close()
    assert await rows(settings, "SELECT subject FROM sessions") == []
    assert outcome.told[2] == "Nobody is logged in any more: 3 sessions of the backup are over."
    if is_kept:
        assert await rows(settings, names) == [("tor",)]
        assert outcome.told[3].startswith("2 people had roles at the backup that were taken away or changed since")
    else:
        assert await rows(settings, names) == [("demoted",), ("mallory",), ("tor",)], "the control"
        assert "Look at each: people list" in outcome.told[3]


async def test_a_service_that_runs_is_not_told_that_it_was_restored(servers: Servers) -> None:
    settings = await servers.database("enrolment")
    conn = await connect(settings, "operator")
    assert not await restoring.runs(conn)
    other = await asyncpg.connect(
        servers.admin.rpartition("/")[0] + f"/{settings.database_name}",
        server_settings={"application_name": "enrolment/consumer"},
    )
    assert await restoring.runs(conn)
    await other.close()
    await conn.close()
