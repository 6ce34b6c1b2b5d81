"""Notices that have been over for long are deleted, and nothing is told twice for that, nor a calendar less."""

import asyncio
import uuid
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import pytest
from pydantic import ValidationError

from contracts.enrolment import LearnerEnrolled, LearnerWithdrew
from contracts.topics import KEPT_DAYS
from kit.database import Connection
from kit.inbox import hear
from services.notifier import events, pruning
from services.notifier.pruning import Pruning
from services.notifier.settings import NotifierSettings
from services.notifier.store import pruning as store
from tests.delivery import Servers, until
from tests.integration.test_notifier_calendar import appointment
from tests.integration.test_notifier_changes import changed
from tests.integration.test_notifier_hours import at
from tests.notifying import START, Sink, World, mail_server, notifier

pytestmark = pytest.mark.anyio

OVER = START + timedelta(days=1)
KEPT = timedelta(days=183)


@pytest.fixture
async def sink() -> AsyncIterator[Sink]:
    async with mail_server() as sink:
        yield sink


@pytest.fixture
async def world(servers: Servers, sink: Sink) -> AsyncIterator[World]:
    async with notifier(servers, sink) as world:
        yield world


async def prune(world: World, most: int = 2_000) -> int:
    return int(await world.here.database.run(lambda conn: store.prune(conn, KEPT.days, most), "worker"))


async def kept(world: World) -> list[str]:
    return [row["template"] for row in await world.rows("SELECT template FROM notices ORDER BY id")]


async def seat(world: World) -> dict[str, Any]:
    learner = uuid.uuid4()
    await world.contact_is_known(learner, f"{learner}@example.no")
    about = world.about(learner, uuid.uuid4())
    await world.hear(events.enrolments, [LearnerEnrolled(**about, place="mosjoen")])
    return about


async def test_what_is_over_goes_after_half_a_year_and_what_is_not_stays(world: World) -> None:
    async with world.sending():
        about = await seat(world)
        await world.all_are("sent", 1)
    open_one = await seat(world)  # owed, and never sent: as when no contact comes
    young = "UPDATE notices SET updated_at = app_now() - interval '182 days' WHERE state = 'sent'"
    old = "UPDATE notices SET updated_at = app_now() - interval '184 days'"
    to_come = "UPDATE offerings SET ends_at = app_now() + interval '1 hour'"
    over = "UPDATE offerings SET ends_at = app_now() - interval '1 hour'"
    async with at(world, OVER + KEPT + timedelta(days=1)):
        for change, count in ((young, 0), (to_come, 0), (old, 0), (over, 1)):
            await world.rows(change)
            assert await prune(world) == count, change
    assert about["enrolment_id"] != open_one["enrolment_id"]
    [left] = await world.rows("SELECT state, about FROM notices")
    assert (left["state"], left["about"]) == ("due", open_one["enrolment_id"])


async def test_a_calendar_is_told_newer_versions_though_the_older_are_forgotten(world: World, sink: Sink) -> None:
    async with world.sending():
        about = await seat(world)
        await world.all_are("sent", 1)
        await world.hear(events.courses, [changed(world, 2, starts_at=START + timedelta(hours=1))])
        await world.all_are("sent", 2)
    async with at(world, OVER + KEPT + timedelta(days=1)):
        assert await prune(world) == 2
        async with world.sending():
            await world.hear(events.enrolments, [LearnerWithdrew(**about, place="mosjoen")])
            await world.all_are("sent", 1)
    found = [appointment(mail) for mail in sink.mails]
    told = [(method, int(one["SEQUENCE"])) for method, meetings in found for one in meetings]
    assert told == [("REQUEST", 0), ("REQUEST", 1), ("CANCEL", 2)]


async def test_an_event_that_is_heard_again_when_its_notice_is_forgotten_tells_nothing(world: World) -> None:
    """Neither its id is known any more, nor its notice: the number of its aggregate is. And a setting that would let
    what is still on a topic be told again is refused. Red control: without the numbers it is new, and owed again."""
    learner = uuid.uuid4()
    await world.contact_is_known(learner, "kari@example.no")
    records = world.records([LearnerEnrolled(**world.about(learner), place="mosjoen")], uuid.uuid4())
    received = [events.enrolments.read(record) for record in records]

    async def listen(conn: Connection) -> list[int]:
        fresh = (await hear(conn, "notifier.enrolments", received)).fresh
        await events.enrolments.tell(conn, [received[place] for place in fresh])
        return fresh

    async def again() -> list[int]:
        return list(await world.here.database.run(listen, "consumer"))

    assert await again() == [0]
    async with world.sending():
        await world.all_are("sent", 1)
    async with at(world, OVER + KEPT + timedelta(days=1)):
        assert await prune(world) == 1
        await world.rows("DELETE FROM inbox")  # as the relay does after 28 days
        assert await again() == []
        assert await kept(world) == []
    least = NotifierSettings.model_fields["notices_kept_days"].metadata[0].ge
    assert least > 2 * KEPT_DAYS
    with pytest.raises(ValidationError, match="notices_kept_days"):
        NotifierSettings(**{**world.settings.model_dump(), "notices_kept_days": 2 * KEPT_DAYS})


async def test_several_prune_beside_each_other_some_at_a_time(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pruning, "MOST", 10)
    monkeypatch.setattr(pruning, "SOON_S", 0.0)
    await world.learners(45)
    await world.rows("UPDATE notices SET state = 'sent', message_id = id::text WHERE state = 'due'")
    async with at(world, OVER + KEPT + timedelta(days=1)):
        workers = [asyncio.create_task(Pruning(world.settings).run(world.here)) for _ in range(3)]

        async def gone() -> bool:
            return await kept(world) == []

        await until(gone)
        world.here.stopping.set()
        await asyncio.gather(*workers)
