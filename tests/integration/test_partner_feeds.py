"""A partner that would rather read a topic than serve a webhook: the same words, on its own feed, each said once."""

import asyncio
import json
import uuid
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any

import asyncpg
import pytest
from aiokafka.admin import AIOKafkaAdminClient

from contracts.enrolment import LearnerEnrolled, SeatOffered
from contracts.topics import TOLD_TO_PARTNERS, TOPICS, partner_feed
from kit import outbox, topics
from services.notifier import partner_feed as routes
from services.notifier import partners
from services.notifier.store import partner_feeds as store
from tests.calling import BASE, Calling, calling_notifier, listening_hooks
from tests.delivery import Servers, listening, records, relaying, somebody_waits, until

pytestmark = pytest.mark.anyio


@pytest.fixture
async def world(servers: Servers) -> AsyncIterator[Calling]:
    async with listening_hooks() as hooks, calling_notifier(servers, hooks) as world:
        yield world


def slug() -> str:
    return f"p-{uuid.uuid4().hex[:12]}"


async def turn(world: Calling, partner: str, on: Any = True, as_: str | None = None) -> Any:
    return await world.asking.put(f"{BASE}/{partner}/feed", json={"on": on}, headers=world.signed(as_ or partner))


async def on(world: Calling) -> str:
    """A partner whose feed is on."""
    partner = slug()
    answer = await turn(world, partner)
    assert answer.status_code == 200, answer.text
    return partner


async def rows(world: Calling, partner: str) -> list[Any]:
    return await world.rows("SELECT * FROM outbox WHERE topic = $1 ORDER BY id", partner_feed(partner).name)


async def all_said(world: Calling) -> None:
    async def none_waits() -> bool:
        return not await world.rows("SELECT FROM outbox WHERE published_at IS NULL")

    await until(none_waits)


def of(partner: str, world: Calling) -> dict[str, Any]:
    return world.about(uuid.uuid4()) | {"partner": partner}


async def test_what_happens_to_ones_courses_comes_on_ones_feed_and_on_nobody_elses(
    servers: Servers, world: Calling
) -> None:
    mine, other, without = await on(world), await on(world), slug()
    made = await world.asking.post(
        f"{BASE}/{mine}/webhooks", json={"url": world.hooks.url(), "events": ["*"]}, headers=world.signed(mine)
    )
    assert made.status_code == 201
    offered = SeatOffered(
        **of(mine, world),
        offer_id=uuid.uuid4(),
        place="mosjoen",
        expires_at=datetime(2099, 1, 1, tzinfo=UTC),
        on_lapse="leave",
        sealed="x.y.z",
    )
    await world.happens(*(world.created(1, partner=one) for one in (mine, other, without)))
    await world.happens(offered, LearnerEnrolled(**of(mine, world), place="mosjoen"))
    async with relaying(world.here), world.calling():
        await all_said(world)
        await world.all_delivered(3)
    came = await records(servers.kafka, partner_feed(mine).name, 3)
    assert [json.loads(one.value)["type"].split(".")[-2] for one in came] == [
        "CourseCreated",
        "SeatOffered",
        "LearnerEnrolled",
    ]
    assert {one.value for one in came} == {one.body for one in world.hooks.came}, "what a webhook says, to the byte"
    assert {one.key for one in came} == {str(world.course).encode()}
    assert {one.headers for one in came} == {(("content-type", b"application/cloudevents+json"),)}
    assert not any(b"x.y.z" in one.value or b"sealed" in one.value for one in came)
    [theirs] = await records(servers.kafka, partner_feed(other).name, 1)
    assert json.loads(theirs.value)["partner"] == other
    assert await rows(world, without) == []
    assert partner_feed(without).name not in await topics_of(servers)


async def topics_of(servers: Servers) -> list[str]:
    admin = AIOKafkaAdminClient(bootstrap_servers=servers.kafka)
    await admin.start()
    try:
        names: list[str] = await admin.list_topics()
        return names
    finally:
        await admin.close()


async def test_nothing_is_said_before_it_is_on_or_after_it_is_off(world: Calling) -> None:
    partner = slug()

    async def shown() -> dict[str, Any]:
        answer = await world.asking.get(f"{BASE}/{partner}/feed", headers=world.signed(partner))
        assert answer.status_code == 200
        found: dict[str, Any] = answer.json()
        return found

    async def happened(version: int) -> int:
        await world.happens(world.created(version, partner=partner))
        return len(await rows(world, partner))

    assert await shown() == {"on": False, "topic": f"partners.{partner}.feed", "since": None}
    assert await happened(1) == 0
    first = (await turn(world, partner)).json()
    assert first["on"] is True
    assert first["since"]
    assert await shown() == (await turn(world, partner)).json() == first
    assert await happened(2) == 1
    for _ in range(2):
        assert (await turn(world, partner, on=False)).json()["on"] is False
    assert await happened(3) == 1
    await turn(world, partner)
    assert await happened(4) == 2


async def test_an_event_heard_again_is_not_said_again(world: Calling) -> None:
    partner, event_id = await on(world), uuid.uuid4()
    for _ in range(2):
        await world.happens(world.created(partner=partner), event_id=event_id)
    assert [row["event_id"] for row in await rows(world, partner)] == [event_id]


async def test_two_who_say_the_same_at_once_say_it_once(world: Calling) -> None:
    """The second waits for the first, and sees then what that has said."""
    partner, event_id = await on(world), uuid.uuid4()
    event = world.created(partner=partner)
    received = [partners.listeners.read(record) for record in world.records([event], event_id)]

    async with world.here.database.reading() as conn, conn.transaction():
        await partners.listeners.tell(conn, received)
        second = asyncio.create_task(world.happens(event, event_id=event_id))
        await until(lambda: somebody_waits(world.here.database))
    await second
    assert [row["event_id"] for row in await rows(world, partner)] == [event_id]


async def test_without_its_guards_an_event_heard_again_is_said_again(
    world: Calling, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def nothing(*_: Any) -> set[Any]:
        return set()

    monkeypatch.setattr(store, "said", nothing)
    partner, event_id = await on(world), uuid.uuid4()
    await world.happens(world.created(partner=partner), event_id=event_id)
    with pytest.raises(asyncpg.UniqueViolationError):
        await world.happens(world.created(partner=partner), event_id=event_id)
    await world.rows("DROP INDEX outbox_says_once_on_a_feed")
    await world.happens(world.created(partner=partner), event_id=event_id)
    assert [row["event_id"] for row in await rows(world, partner)] == [event_id] * 2


async def test_an_event_that_is_replayed_or_republished_comes_once_and_in_order(
    servers: Servers, world: Calling
) -> None:
    partner, course = await on(world), uuid.uuid4()
    await topics.declare(servers.kafka, [one for one in TOPICS if one.name in TOLD_TO_PARTNERS])
    said = [world.created(version, course, partner) for version in range(1, 21)]

    async def told(count: int) -> None:
        async def enough() -> bool:
            return len(await rows(world, partner)) >= count

        await until(enough)
        await all_said(world)

    async with relaying(world.here), listening(world.here, partners.consumer()):
        await world.here.database.run(lambda conn: outbox.add_all(conn, said))
        await told(20)
        await world.rows(
            "UPDATE outbox SET published_at = NULL WHERE topic = 'catalogue.courses'"
        )  # as `republish` does
        await all_said(world)
        last = world.created(21, course, partner)
        await world.here.database.run(lambda conn: outbox.add(conn, last))
        await told(21)
        came = await records(servers.kafka, partner_feed(partner).name, 21)
        assert [json.loads(one.value)["data"]["version"] for one in came] == list(range(1, 22))
        # The notifier's own `republish` writes the same events again, by which a reader knows them.
        await world.rows("UPDATE outbox SET published_at = NULL WHERE topic = $1", partner_feed(partner).name)
        await all_said(world)
    again = await records(servers.kafka, partner_feed(partner).name, 42)
    assert [one.value for one in again] == [one.value for one in came] * 2


async def test_a_feed_is_turned_by_its_own_partner(world: Calling) -> None:
    partner = slug()
    assert (await turn(world, partner, as_="torgar")).status_code == 403
    assert (await world.asking.get(f"{BASE}/{partner}/feed", headers=world.signed("torgar"))).status_code == 403
    for body in ({}, {"on": "yes"}, {"on": True, "topic": "catalogue.parked"}):
        answer = await world.asking.put(f"{BASE}/{partner}/feed", json=body, headers=world.signed(partner))
        assert answer.status_code == 422
    assert await world.rows("SELECT FROM partner_feeds") == []


async def test_without_kafka_it_stays_off_and_says_so(servers: Servers, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(routes, "MAKING_S", 1.0)
    async with listening_hooks() as hooks, calling_notifier(servers, hooks, kafka_bootstrap="127.0.0.1:1") as world:
        answer = await turn(world, "torgar")
        assert (answer.status_code, answer.json()["title"]) == (503, "Busy at the moment")
        assert answer.headers["retry-after"] == "5"
        assert await world.rows("SELECT FROM partner_feeds") == []
        assert (await turn(world, "torgar", on=False)).status_code == 200
