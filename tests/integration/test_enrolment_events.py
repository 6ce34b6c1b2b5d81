"""Enrolment hears the catalogue over a real Kafka, and what it says of it stays on the same trail."""

import uuid
from collections.abc import Awaitable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from aiokafka import AIOKafkaProducer

from contracts.catalogue import CourseChanged, CourseCreated, OfferingCancelled, OfferingChanged, OfferingScheduled
from contracts.envelope import Event, decode, encode, wrap
from contracts.fields import Place
from contracts.topics import owned_by
from kit import topics
from kit.database import connect
from services.enrolment import commands, events
from services.enrolment.domain import Enrolment
from services.enrolment.settings import EnrolmentSettings
from services.enrolment.store import seats
from tests.delivery import Servers, listening, running, until
from tests.seats import PUBLIC

pytestmark = pytest.mark.anyio


async def say(kafka: str, said: Sequence[Event], correlation_id: str, first: int = 1) -> None:
    """Put events on their topic as the catalogue's relay does."""
    producer = AIOKafkaProducer(bootstrap_servers=kafka)
    await producer.start()
    try:
        for seq, event in enumerate(said, start=first):
            envelope = wrap(
                event,
                id=uuid.uuid4(),
                source="/catalogue",
                time=datetime.now(UTC),
                epoch=1,
                seq=seq,
                correlationid=correlation_id,
            )
            key = str(envelope.partitionkey).encode()
            await producer.send_and_wait(event.spec.topic, encode(envelope), key=key)
    finally:
        await producer.stop()


async def test_an_offering_is_followed_from_its_scheduling_to_its_end(servers: Servers) -> None:
    await topics.declare(servers.kafka, owned_by("catalogue"))
    settings = EnrolmentSettings(**(await servers.database("enrolment")).model_dump() | {"contact_public_key": PUBLIC})
    about: dict[str, Any] = {"offering_id": uuid.uuid4(), "course_id": uuid.uuid4(), "partner": "torgar"}
    starts_at = datetime.now(UTC) + timedelta(days=9)
    times: dict[str, Any] = {"key": "h26", "starts_at": starts_at, "ends_at": starts_at + timedelta(hours=2)}
    offering_id = about["offering_id"]

    def state(kind: Any, version: int, seats: int) -> Event:
        made: Event = kind(**about, **times, version=version, places=[Place(arena="online", capacity=seats)])
        return made

    async with running(settings) as here, listening(here, events.courses(settings)):

        async def version(wanted: int) -> bool:
            async with here.database.reading() as conn:
                known = await seats.offering(conn, offering_id)
            return known is not None and known.version == wanted

        await say(servers.kafka, [state(OfferingScheduled, 1, 0)], "planning")
        await until(lambda: version(1))
        login = ("issuer", "kari")
        asking = commands.Enrol(offering_id, login, ("online",), "Kari")
        [made] = await here.database.run(lambda conn: commands.decide(conn, [asking], settings))
        assert isinstance(made, Enrolment)
        assert made.state == "queued"

        # Out of the line by one event and out of the seat by another, perhaps in the same batch.
        await say(servers.kafka, [state(OfferingChanged, 2, 1)], "more-seats", first=2)
        await say(servers.kafka, [OfferingCancelled(**about, version=3)], "the-end", first=3)
        await until(lambda: version(3))

        async with here.database.reading() as conn:
            rows = await conn.fetch("SELECT payload FROM outbox ORDER BY id")
        said = [decode(row["payload"], []) for row in rows][-2:]
        assert [(one.type, one.correlationid) for one in said] == [
            ("no.kursnett.enrolment.SeatOffered.v1", "more-seats"),
            ("no.kursnett.enrolment.LearnerWithdrew.v1", "the-end"),
        ]
        assert all(one.causationid for one in said)


async def test_a_partner_who_changes_much_at_once_keeps_few_offerings_locked_at_a_time(servers: Servers) -> None:
    await topics.declare(servers.kafka, owned_by("catalogue"))
    settings = EnrolmentSettings(**(await servers.database("enrolment")).model_dump() | {"contact_public_key": PUBLIC})
    conn = await connect(settings, "test")
    starts_at, course_id, count = datetime.now(UTC) + timedelta(days=9), uuid.uuid4(), 2 * events.LOCKED + 1
    said = [
        OfferingScheduled(
            offering_id=uuid.uuid4(),
            course_id=course_id,
            partner="torgar",
            key=f"h{number}",
            version=1,
            starts_at=starts_at,
            ends_at=starts_at + timedelta(hours=2),
            places=[Place(arena="online", capacity=1)],
        )
        for number in range(count)
    ]
    await say(servers.kafka, said, "a-file-of-courses")
    async with running(settings) as here, listening(here, events.courses(settings)):
        ids = [one.offering_id for one in said]
        known = "SELECT count(*) FROM offerings WHERE id = ANY ($1)"
        await until(lambda: _are(conn.fetchval(known, ids), count))
        together = "SELECT max(many) FROM (SELECT count(*) AS many FROM offerings GROUP BY xmin::text) AS each"
        assert await conn.fetchval(together) <= events.LOCKED
    await conn.close()


async def _are(found: Awaitable[int], wanted: int) -> bool:
    return await found == wanted


async def test_titles_are_heard_from_the_beginning_on_a_stack_that_has_passed_them(servers: Servers) -> None:
    await topics.declare(servers.kafka, owned_by("catalogue"))
    settings = EnrolmentSettings(**(await servers.database("enrolment")).model_dump() | {"contact_public_key": PUBLIC})
    about: dict[str, Any] = {"course_id": uuid.uuid4(), "partner": "torgar", "code": "BYG-1"}
    starts_at = datetime.now(UTC) + timedelta(days=9)
    run = OfferingScheduled(
        offering_id=uuid.uuid4(),
        course_id=about["course_id"],
        partner="torgar",
        key="h26",
        version=1,
        starts_at=starts_at,
        ends_at=starts_at + timedelta(hours=2),
        places=[Place(arena="online", capacity=1)],
    )

    async def titles() -> list[Any]:
        async with here.database.reading() as conn:
            return [tuple(row) for row in await conn.fetch("SELECT code, title->>'nb', version FROM courses")]

    async with running(settings) as here:

        async def the_run_is_known() -> bool:
            async with here.database.reading() as conn:
                return await seats.offering(conn, run.offering_id) is not None

        async with listening(here, events.courses(settings)):
            await say(servers.kafka, [CourseCreated(**about, version=1, title={"nb": "Sveis"}), run], "planning")
            await until(the_run_is_known)
        assert await titles() == []
        async with listening(here, events.titles()):
            await until(titles)
            assert await titles() == [("BYG-1", "Sveis", 1)]
            newer = [CourseChanged(**about, version=n, title={"nb": f"Sveising {n}"}) for n in (2, 4, 3)]
            await say(servers.kafka, newer, "renaming", first=3)

            async def renamed() -> bool:
                return await titles() == [("BYG-1", "Sveising 4", 4)]

            await until(renamed)
