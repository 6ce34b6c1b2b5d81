"""`republish --state`: the catalogue says all as it is now. Who lost it has it again; nobody else notices anything."""

import asyncio
import contextlib
import json
import uuid
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import cyclopts
import pytest

from contracts.catalogue import (
    CourseRestated,
    Judged,
    OfferingCancelled,
    OfferingChanged,
    OfferingConfirmed,
    OfferingRestated,
)
from contracts.enrolment import LearnerEnrolled, LearnerMoved
from contracts.fields import Place
from contracts.topics import owned_by
from kit import audit, republishing, topics
from kit.database import connect
from kit.operating import me
from kit.running import Running
from kit.service import Service
from services.catalogue import holding, restating, retracting
from services.catalogue.app import MIGRATIONS as CATALOGUE
from services.enrolment import events as enrolments
from services.enrolment import offerings
from services.enrolment.app import MIGRATIONS as ENROLMENT
from services.enrolment.settings import EnrolmentSettings
from services.enrolment.store import courses as named
from services.notifier import events, partners
from tests.calling import calling_notifier, listening_hooks
from tests.delivery import Servers, listening, relaying, running, until
from tests.integration.corpus import COURSE
from tests.integration.test_catalogue import World as Catalogue
from tests.integration.test_catalogue import world as catalogue
from tests.notifying import START, World, mail_server, notifier
from tests.seats import PUBLIC

pytestmark = pytest.mark.anyio

TABLES = {
    "partners": "SELECT * FROM partners ORDER BY slug",
    "keys": "SELECT * FROM partner_keys ORDER BY digest",
    "titles": "SELECT id, code, title FROM courses ORDER BY id",  # of a withdrawn one only its last words were told
    "runs": "SELECT * FROM offerings ORDER BY id",
    "places": "SELECT * FROM places ORDER BY offering_id, arena",
}


async def copy_of(there: Running, partner: str) -> dict[str, list[dict[str, Any]]]:
    """What enrolment has of the catalogue. Other tests speak on the same topics: of this partner alone."""
    async with there.database.reading() as conn:
        found = {name: [dict(row) for row in await conn.fetch(query)] for name, query in TABLES.items()}
    runs = [one for one in found["runs"] if one["partner"] == partner]
    of = {one["id"] for one in runs}
    courses = {one["course_id"] for one in runs}
    return {
        "partners": [one for one in found["partners"] if one["slug"] == partner],
        "keys": [one for one in found["keys"] if one["partner"] == partner],
        "titles": [one for one in found["titles"] if one["id"] in courses],
        "runs": runs,
        "places": [one for one in found["places"] if one["offering_id"] in of],
    }


async def state_of(here: Catalogue) -> dict[str, int]:
    conn = await connect(here.settings, "operator")
    try:
        counts = dict(await restating.STATE.count(conn))
        assert counts == await republishing.whole_state(conn, restating.STATE)
        return counts
    finally:
        await conn.close()


async def is_sound(running: Running, migrations: Any) -> None:
    found = await audit.look(running.settings, [audit.KIT, migrations.with_name("audit.sql")])
    assert [one for one in found if one.wrong] == []


async def sent(there: Running) -> None:
    async def all_sent() -> bool:
        async with there.database.reading() as conn:
            return not await conn.fetchval("SELECT count(*) FROM outbox WHERE published_at IS NULL")

    await until(all_sent)


async def judged_for(there: Running, run: UUID) -> Any:
    async with there.database.reading() as conn:
        return await conn.fetchval("SELECT judged_for FROM offerings WHERE id = $1", run)


async def test_a_copy_that_is_lost_is_made_anew_of_what_no_outbox_has_any_more(
    servers: Servers, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(restating, "PART", 2)
    known = (await servers.database("enrolment")).model_dump() | {"contact_public_key": PUBLIC}
    settings = EnrolmentSettings(**known)

    @asynccontextmanager
    async def hearing() -> AsyncIterator[None]:
        async with AsyncExitStack() as stack:
            await stack.enter_async_context(relaying(here.here))
            for consumer in (enrolments.partners(), enrolments.titles(), enrolments.courses(settings)):
                await stack.enter_async_context(listening(there, consumer))
            yield

    await topics.declare(servers.kafka, owned_by("catalogue"))
    async with catalogue(servers) as here, running(settings) as there:
        starts_at = datetime.now(UTC) + timedelta(days=20)
        decide_at = (datetime.now(UTC) + timedelta(days=1)).replace(microsecond=0)
        dates: dict[str, Any] = {
            "starts_at": starts_at.isoformat(),
            "ends_at": (starts_at + timedelta(days=1)).isoformat(),
            "places": [{"arena": "online", "capacity": 5}],
        }
        for code in ("A", "B", "C"):
            assert (await here.put(code, COURSE)).status_code == 201
            for key in ("one", "two"):
                assert (await here.put(f"{code}/offerings/{key}", dates)).status_code == 201
        more = [{"arena": "mosjoen", "capacity": 7}, {"arena": "online", "capacity": 9}]
        assert (await here.put("A/offerings/two", dates | {"places": more})).status_code == 200
        rules = {"minimum": 1, "decide_at": decide_at.isoformat(), "on_too_few": "cancel"}
        confirmed = UUID((await here.put("A/offerings/three", dates | rules)).json()["offering_id"])
        assert (await here.cancel("B/offerings/one")).status_code == 200
        await here.here.database.run(lambda conn: retracting.cancel(conn, here.partner, "C", None))
        async with here.here.database.reading() as conn:
            await conn.execute("INSERT INTO judgements VALUES ($1, 'confirmed', 3, 1)", confirmed)
        conn = await connect(here.settings, "operator")
        async with conn.transaction():
            await holding.suspend(conn, me(), here.partner, "it is due")
        await conn.close()

        async def all_told() -> bool:
            copy = await copy_of(there, here.partner)
            whole = [len(copy[name]) for name in TABLES] == [1, 1, 3, 7, 8]
            cancelled = [run for run in copy["runs"] if run["cancelled"]]
            return whole and len(cancelled) == 3 and copy["partners"][0]["state"] == "suspended"

        async with hearing():
            await until(all_told, within_s=60)
            await sent(here.here)
        before = await copy_of(there, here.partner)
        async with here.here.database.reading() as conn:
            await conn.execute("DELETE FROM outbox")  # as the relay does after 14 days
        async with there.database.reading() as conn:
            said = await conn.fetchval("SELECT count(*) FROM outbox")
            heard = await conn.fetchval("SELECT count(*) FROM inbox")

        assert await state_of(here) == {"partners": 1, "courses": 3, "runs": 7}
        async with hearing():
            await sent(here.here)

            async def all_heard() -> bool:
                async with there.database.reading() as conn:
                    again = await conn.fetchval("SELECT count(*) FROM inbox WHERE consumer LIKE '%.courses'")
                    return bool(again >= 2 * 7 + 3)

            await until(all_heard, within_s=60)
        assert await copy_of(there, here.partner) == before, "who has it passes it over"

        async with there.database.reading() as conn:
            await conn.execute("TRUNCATE offerings, courses, partners CASCADE")
            assert await conn.fetchval("SELECT count(*) FROM inbox") >= heard
        await state_of(here)
        async with hearing():
            await until(all_told, within_s=60)
            await sent(here.here)
        again = await copy_of(there, here.partner)
        assert await judged_for(there, confirmed) == decide_at
        for one in [*before["runs"], *again["runs"]]:
            if one["id"] == confirmed:  # it was not looked at before, in this test
                one |= {"judged_for": None, "warned_for": None}
        assert again == before

        await there.database.run(lambda conn: offerings.look(conn, confirmed, settings))
        async with there.database.reading() as conn:
            assert await conn.fetchval("SELECT count(*) FROM outbox") == said, "enrolment tells nobody of anything"
            assert (await named.runs(conn, [confirmed]))[confirmed].code == "A"
        await is_sound(there, ENROLMENT)
        await is_sound(here.here, CATALOGUE)


async def test_the_command_counts_says_and_writes_down_what_it_does(
    servers: Servers, capsys: pytest.CaptureFixture[str]
) -> None:
    async with catalogue(servers) as here:
        await here.put("A", COURSE)
        app = cyclopts.App()
        republishing.add(app, lambda: Service("catalogue", here.settings, Path(), state=restating.STATE))

        async def asked(line: str) -> str:
            with contextlib.suppress(SystemExit):
                await asyncio.to_thread(app, line, exit_on_error=False)
            return capsys.readouterr().out.splitlines()[-1]

        counts = {"partners": 1, "courses": 1, "runs": 0}
        before = len(await here.said())
        assert json.loads(await asked("republish --state --dry-run --json")) == {"dry_run": True, **counts}
        assert (await asked("republish --state --dry-run")).startswith("1 partners, 1 courses, 0 runs would be said")
        assert len(await here.said()) == before
        assert json.loads(await asked("republish --state --json")) == {"dry_run": False, **counts}
        assert (await here.said())[before:] == [("PartnerChanged", 1), ("CourseRestated", 1)]
        async with here.here.database.reading() as conn:
            done = await conn.fetch("SELECT act, about FROM operator_acts ORDER BY id DESC LIMIT 1")
        assert [tuple(row) for row in done] == [("republish", "state")]


async def test_a_change_that_was_missed_is_taken_in_and_a_cancelled_run_lets_go(servers: Servers) -> None:
    known = (await servers.database("enrolment")).model_dump() | {"contact_public_key": PUBLIC}
    settings = EnrolmentSettings(**known)
    async with running(settings) as there:
        run, course = uuid.uuid4(), uuid.uuid4()
        whole: dict[str, Any] = {
            "offering_id": run,
            "course_id": course,
            "partner": "torgar",
            "key": "v27",
            "starts_at": START,
            "ends_at": START + timedelta(hours=2),
        }
        for version, capacity, cancelled in ((1, 5, False), (2, 7, False), (2, 8, False), (3, 7, True), (3, 7, True)):
            places = [Place(arena="mosjoen", capacity=capacity)]
            said = OfferingRestated(**whole, version=version, places=places, cancelled=cancelled)
            await there.database.run(lambda conn, said=said: offerings.keep(conn, said, settings))
            async with there.database.reading() as conn:
                rows = await conn.fetch(
                    "SELECT version, cancelled, capacity FROM offerings JOIN places ON id = offering_id"
                )
            assert [tuple(row) for row in rows] == [(version, cancelled, 5 if version == 1 else 7)]


def restated(world: World, version: int, **how: Any) -> OfferingRestated:
    whole: dict[str, Any] = {
        "offering_id": world.offering,
        "course_id": world.course,
        "partner": "torgar",
        "key": "v27",
        "version": version,
        "starts_at": START,
        "ends_at": START + timedelta(hours=2),
        "places": [Place(arena="mosjoen", capacity=20)],
    }
    return OfferingRestated(**(whole | how))


def course(world: World, version: int = 1, **how: Any) -> CourseRestated:
    title = {"nb": "Ledelse", "en": "Leadership"}
    return CourseRestated(course_id=world.course, partner="torgar", code="L1", version=version, title=title, **how)


async def test_nobody_is_mailed_of_what_is_said_again(servers: Servers) -> None:
    async with mail_server() as sink, notifier(servers, sink) as world:
        learner, enrolment = uuid.uuid4(), uuid.uuid4()
        await world.contact_is_known(learner, "kari@example.no")
        seat = world.about(learner, enrolment)
        await world.hear(events.enrolments, [LearnerEnrolled(**seat, place="mosjoen")])
        about: dict[str, Any] = {"offering_id": world.offering, "course_id": world.course, "partner": "torgar"}
        await world.hear(events.courses, [OfferingConfirmed(**about, version=2, enrolled=5, minimum=5)])
        count = "SELECT template, count(*) FROM notices GROUP BY 1 ORDER BY 1"
        owed = [("confirmed", 1), ("enrolled", 1)]
        assert [tuple(row) for row in await world.rows(count)] == owed
        judged = Judged(decision="confirmed", decided_at=datetime.now(UTC))
        again = [course(world), restated(world, 2, judged=judged)]
        runs, titles = "SELECT * FROM offerings", "SELECT * FROM courses"
        before = await world.rows(runs), await world.rows(titles)
        await world.hear(events.courses, again)
        assert (await world.rows(runs), await world.rows(titles)) == before

        await world.rows("DELETE FROM offerings")
        await world.rows("DELETE FROM courses")
        await world.hear(events.courses, again)
        moved = LearnerMoved(**seat, place="mosjoen", from_place="online")  # is heard late: they sat there before
        await world.hear(events.enrolments, [moved], at=judged.decided_at - timedelta(minutes=1))
        [row] = await world.rows(runs)
        assert (row["version"], row["cancelled"], row["confirmed_at"]) == (2, False, judged.decided_at)
        owed = [("confirmed", 1), ("enrolled", 1), ("moved", 1)]
        assert [tuple(row) for row in await world.rows(count)] == owed, "it takes place: they had that mail"

        # A change that was never heard is news, and told as such; the same version after it is not.
        later = restated(world, 3, starts_at=START - timedelta(hours=1))
        await world.hear(events.courses, [later])
        await world.hear(events.courses, [later])
        assert [tuple(row) for row in await world.rows(count)] == [("changed", 1), *owed]
        reason = OfferingCancelled(**about, version=4, reason="Læreren er blitt syk.")
        await world.hear(events.courses, [reason])
        gone = restated(world, 4, starts_at=START - timedelta(hours=1), cancelled=True)
        await world.hear(events.courses, [gone])
        await world.hear(events.courses, [restated(world, 5, cancelled=True)])
        [row] = await world.rows(runs)
        assert (row["cancelled"], row["cancelled_because"]) == (True, "Læreren er blitt syk.")
        assert [tuple(row) for row in await world.rows(count)] == [("changed", 1), *owed]
        await world.rows("DELETE FROM offerings")
        await world.hear(events.courses, [gone])
        assert [row["cancelled"] for row in await world.rows(runs)] == [True]


async def test_no_webhook_feed_or_office_hears_of_what_is_said_again(servers: Servers) -> None:
    async with listening_hooks() as hooks, calling_notifier(servers, hooks) as world:
        made = await world.ask("POST", json={"url": hooks.url(), "events": ["*"]})
        assert made.status_code == 201
        await world.rows("INSERT INTO partner_feeds (partner) VALUES ('torgar')")
        await world.rows("INSERT INTO partner_offices (partner) VALUES ('torgar')")
        judged = Judged(decision="confirmed", decided_at=datetime.now(UTC))
        told = "SELECT (SELECT count(*) FROM webhook_deliveries) + (SELECT count(*) FROM outbox)"
        await world.happens(course(world, withdrawn=True), restated(world, 2, judged=judged, cancelled=True))
        assert await world.rows(told) == [(0,)]
        assert await world.rows("SELECT * FROM partner_news") == []
        body = restated(world, 2).model_dump(exclude={"cancelled", "judged"})
        await world.happens(OfferingChanged(**body))
        assert await world.rows(told) == [(2,)], "the control"
        assert CourseRestated not in partners.TELLS
