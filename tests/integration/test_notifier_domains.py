"""A recipient domain that is slow, or tells us to wait, delays no mail to any other."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import aiosmtplib
import pytest

from services.notifier import domains
from services.notifier.channels.channel import Later
from services.notifier.channels.email import answer
from services.notifier.domains import Domains
from services.notifier.sender import Sender
from tests.delivery import Servers, until
from tests.notifying import Sink, World, mail_server, notifier

pytestmark = pytest.mark.anyio
SLOW, GOOD = "slow.example", "good.example"


@pytest.fixture
async def sink() -> AsyncIterator[Sink]:
    async with mail_server() as sink:
        yield sink


@pytest.fixture
async def world(servers: Servers, sink: Sink, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[World]:
    monkeypatch.setattr(domains, "PATIENCE_S", 0.3)
    async with notifier(servers, sink) as world:
        yield world


async def count(world: World, state: str, domain: str) -> int:
    rows = await world.rows(
        "SELECT FROM notices JOIN contacts USING (learner_id) WHERE state = $1 AND email LIKE '%@' || $2", state, domain
    )
    return len(rows)


@pytest.mark.parametrize("per_domain", [2, 4])
async def test_a_domain_that_never_answers_leaves_the_others_their_connections(
    world: World, sink: Sink, per_domain: int
) -> None:
    """Red control: with as many mails to one domain as there are connections, the others wait until it times out."""
    sink.domains[SLOW] = "silence"
    await world.learners(40, SLOW)
    await world.learners(10, GOOD)
    settings = world.settings.model_copy(update={"sender_per_domain": per_domain})
    async with world.sending(Sender(settings)):

        async def timed_out() -> bool:
            return await count(world, "deferred", SLOW) > 0

        async def good_are_sent() -> bool:
            return await count(world, "sent", GOOD) == 10

        if per_domain < settings.sender_connections:
            await until(good_are_sent)
            assert not await timed_out()
            assert len([one for one in sink.asked if one.endswith(SLOW)]) == per_domain
            aside = "SELECT FROM notices WHERE state = 'due' AND attempts = 0 AND due_at > app_now()"
            assert len(await world.rows(aside)) > 30
        else:
            await until(timed_out)
            assert await count(world, "sent", GOOD) == 0


async def test_a_domain_that_tells_us_to_wait_is_left_alone_as_a_whole(world: World, sink: Sink) -> None:
    """Red control: without the rest, each of its letters is tried at once."""
    sink.domains[SLOW] = "451 4.7.1 greylisted"
    await world.learners(30, SLOW)
    await world.learners(10, GOOD)
    sender = Sender(world.settings)
    async with world.sending(sender):

        async def good_are_sent() -> bool:
            return await count(world, "sent", GOOD) == 10

        await until(good_are_sent)
        asked = [one for one in sink.asked if one.endswith(SLOW)]
        assert len(asked) <= world.settings.sender_per_domain

        async def rests() -> bool:
            return await count(world, "sending", SLOW) == 0

        await until(rests)
        [row] = await world.rows(
            "SELECT count(DISTINCT due_at) AS times, max(attempts) AS tried FROM notices WHERE state = 'due'"
        )
        assert row["times"] > 15  # with jitter; few were tried
        assert row["tried"] == 0
        del sink.domains[SLOW]

        async def all_are_sent() -> bool:
            await world.rows("UPDATE notices SET due_at = app_now() WHERE due_at > app_now() + interval '1 s'")
            return await count(world, "sent", SLOW) == 30

        await until(all_are_sent, within_s=20)
    assert len(sink.seen) == len(set(sink.seen)) == 40
    assert sender._domains._known[SLOW].failures == 0  # its next rest is a short one


@pytest.mark.parametrize(("said", "rests"), [("452 4.2.2 full", False), ("451 4.7.1 greylisted", True)])
async def test_one_full_mailbox_is_not_its_domain(world: World, sink: Sink, said: str, rests: bool) -> None:
    sink.domains[SLOW] = said
    sender = Sender(world.settings)
    await world.learners(1, SLOW)
    async with world.sending(sender):
        await world.all_are("deferred", 1)
        assert (await sender._domains.enter(SLOW) > 0) == rests


@pytest.mark.parametrize(
    ("code", "text", "of_domain"),
    [
        (451, "4.7.1 greylisted", True),
        (450, "4.2.0 greylisted", True),
        (421, "4.7.28 too many", True),
        (451, "later", True),
        (450, "4.4.1 no answer from there", True),
        (452, "4.2.2 full", False),
        (450, "4.1.1 perhaps later", False),
        (450, "4.2.1 asleep", False),
    ],
)
def test_what_is_of_the_domain_and_what_of_one_mailbox(code: int, text: str, of_domain: bool) -> None:
    said = answer(aiosmtplib.SMTPRecipientsRefused([aiosmtplib.SMTPRecipientRefused(code, text, "a@b.no")]), None)
    assert isinstance(said, Later)
    assert said.of_domain == of_domain
    ours = answer(aiosmtplib.SMTPDataError(code, text), None)
    assert isinstance(ours, Later)
    assert not ours.of_domain


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [1000.0]
    monkeypatch.setattr("services.notifier.domains.monotonic", lambda: now[0])
    monkeypatch.setattr("services.notifier.domains.uniform", lambda low, high: 1.0)
    return now


async def test_rests_grow_to_a_minute_and_end_with_the_first_mail_that_is_taken(clock: list[float]) -> None:
    turns = Domains(3)
    rests = []
    for _ in range(7):
        turns.refused(SLOW)
        turns.refused(SLOW)  # of those that were under way: counts once
        rests.append(await turns.enter(SLOW) - 2.0)
        clock[0] += rests[-1]
    assert rests == [2, 4, 8, 16, 32, 60, 60]
    assert await turns.enter(GOOD) == 0
    turns.refused(SLOW)
    turns.taken(SLOW)
    assert await turns.enter(SLOW) == 0
    turns.refused(SLOW)
    assert await turns.enter(SLOW) == 4


async def test_who_waits_for_a_quick_domain_gets_the_next_turn_and_nobody_waits_for_a_slow_one(
    clock: list[float],
) -> None:
    turns = Domains(1)
    assert await turns.enter(SLOW) == 0
    waiting = asyncio.create_task(turns.enter(SLOW))
    await asyncio.sleep(0)
    turns.leave(SLOW)
    assert await waiting == 0
    clock[0] += domains.PATIENCE_S + 6
    async with asyncio.timeout(domains.PATIENCE_S / 2):  # at once
        assert await turns.enter(SLOW) == domains.PATIENCE_S + 6
        clock[0] += 100
        assert await turns.enter(SLOW) == 30


async def test_what_is_put_off_together_does_not_come_back_together(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("services.notifier.domains.monotonic", lambda: 1000.0)
    turns = Domains(1)
    turns.refused(SLOW)
    pauses = {await turns.enter(SLOW) for _ in range(50)}
    assert len(pauses) > 25
    assert max(pauses) <= 6
    assert max(pauses) - min(pauses) > 0.5


async def test_domains_are_forgotten_but_not_while_they_are_used(clock: list[float], monkeypatch: Any) -> None:
    monkeypatch.setattr(domains, "KNOWN", 3)
    turns = Domains(1)
    await turns.enter(SLOW)
    turns.refused("rests.example")
    for number in range(10):
        await turns.enter(f"{number}.example")
        turns.leave(f"{number}.example")
    assert len(turns._known) <= 3
    assert await turns.enter("rests.example") > 0
    turns.leave(SLOW)
