"""A partner's own key opens what is its own in every service, from the moment it is made until it is rotated out."""

import uuid
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Any

import pytest

from contracts.envelope import decode
from contracts.topics import owned_by
from kit import partners as kit_partners
from kit import topics
from kit.database import Connection
from kit.partners import Told, digest_of
from services.catalogue import joining
from services.catalogue import operating as catalogue
from services.catalogue.members import Member
from services.enrolment import events as enrolment_events
from services.notifier import events as notifier_events
from tests import calling
from tests.calling import Calling, calling_notifier, listening_hooks
from tests.delivery import Servers, listening, relaying, running, until
from tests.integration import test_catalogue, test_enrolment_http
from tests.integration.test_catalogue_partners import change
from tests.notifying import PRIVATE

pytestmark = pytest.mark.anyio


@dataclass
class World:
    """Three services with a database each, and one partner with its key."""

    catalogue: test_catalogue.World
    notifier: Calling
    enrolment: test_enrolment_http.World

    @property
    def slug(self) -> str:
        return self.catalogue.partner

    async def feed(self, key: str, on: bool | None = None, slug: str = "", **headers: str) -> Any:
        """Read whether the partner's feed is on, or turn it."""
        address = f"{calling.BASE}/{slug or self.slug}/feed"
        known = {"authorization": f"Bearer {key}"} | headers
        if on is None:
            return await self.notifier.asking.get(address, headers=known)
        return await self.notifier.asking.put(address, json={"on": on}, headers=known)

    async def roster(self, key: str, offering: uuid.UUID) -> Any:
        address = f"{test_enrolment_http.BASE}/offerings/{offering}/roster"
        return await self.enrolment.asking.get(address, headers={"authorization": f"Bearer {key}"})

    async def decide(self, key: str, act: str, enrolment: str, **headers: str) -> Any:
        address = f"{test_enrolment_http.BASE}/enrolments/{enrolment}/{act}"
        body = {"reason": "For ansatte."} if act == "deny" else None
        return await self.enrolment.asking.post(
            address, json=body, headers={"authorization": f"Bearer {key}"} | headers
        )

    async def pending(self, *people: str) -> tuple[uuid.UUID, list[str]]:
        """An offering of the partner's and those who wait for its approval."""
        offering = await self.enrolment.offering({"requires_approval": True}, online=5)
        async with self.enrolment.database.reading() as conn:
            await conn.execute("UPDATE offerings SET partner = $1 WHERE id = $2", self.slug, offering)
        made = [await self.enrolment.enrol(offering, who) for who in people]
        return offering, [one.json()["enrolment_id"] for one in made]

    async def codes(self, key: str, offering: uuid.UUID) -> list[int]:
        """What the key gets at each of the three: where a partner reads what is its own."""
        address = f"{test_catalogue.BASE}/partners/{self.slug}/status"
        status = await self.catalogue.asking.get(address, headers={"authorization": f"Bearer {key}"})
        return [one.status_code for one in (status, await self.feed(key), await self.roster(key, offering))]

    async def become(self, key: str, offering: uuid.UUID, code: int) -> None:
        async def done() -> bool:
            return await self.codes(key, offering) == [code] * 3

        await until(done)

    async def rotate(self, at_once: bool = False) -> str:
        made: str = await change(self.catalogue, lambda conn: joining.rotate_key(conn, self.slug, at_once))
        return made


@pytest.fixture
async def world(servers: Servers) -> AsyncIterator[World]:
    await topics.declare(servers.kafka, owned_by("catalogue"))
    async with (
        test_catalogue.world(servers) as first,
        listening_hooks() as hooks,
        calling_notifier(servers, hooks) as second,
        test_enrolment_http.world(servers) as third,
    ):
        yield World(first, second, third)


@asynccontextmanager
async def hearing(here: World) -> AsyncIterator[None]:
    """The catalogue says what it has to say, and both others listen."""
    async with AsyncExitStack() as stack:
        there = await stack.enter_async_context(running(here.enrolment.settings, "enrolment"))
        await stack.enter_async_context(relaying(here.catalogue.here))
        [told] = [one for one in notifier_events.consumers(PRIVATE) if one.name == "partners"]
        await stack.enter_async_context(listening(here.notifier.here, told))
        await stack.enter_async_context(listening(there, enrolment_events.partners()))
        yield


async def test_a_key_works_everywhere_until_it_is_rotated_out_and_is_nowhere_in_clear(
    world: World, capfd: pytest.CaptureFixture[str]
) -> None:
    first = world.catalogue.key
    offering, [kari, ola] = await world.pending("kari", "ola")
    assert (await world.feed(first)).status_code == 401, "nobody has told of it yet"
    async with hearing(world):
        await world.become(first, offering, 200)
        made = await world.feed(first, on=True)
        assert (made.status_code, made.json()["on"]) == (200, True)
        let_in = await world.decide(first, "approve", kari)
        assert (let_in.status_code, let_in.json()["state"]) == (200, "associated")
        second = await world.rotate()
        await world.become(second, offering, 200)
        assert await world.codes(first, offering) == [200] * 3, "the one before it works until the next"
        third = await world.rotate()
        await world.become(first, offering, 401)
        assert await world.codes(second, offering) == [200] * 3
        last = await world.rotate(at_once=True)
        await world.become(last, offering, 200)
        for key in (second, third):
            await world.become(key, offering, 401)
        denied = await world.decide(third, "deny", ola)
        assert (denied.status_code, denied.json()["detail"]) == (401, "This partner key is not valid, or no longer.")
        assert 'error="invalid_token"' in denied.headers["www-authenticate"]
        assert (await world.decide(last, "deny", ola)).json()["state"] == "denied"
    logged = "".join(capfd.readouterr())
    assert "partner_key_refused" in logged
    async with world.catalogue.here.database.reading() as conn:
        said = b"".join(row["payload"] for row in await conn.fetch("SELECT payload FROM outbox")).decode()
    for key in (first, second, third, last):
        assert key not in logged + said
        assert key[-32:] not in logged + said, "nor the secret part alone"
        assert digest_of(key).hex() not in logged
        assert digest_of(key).hex() in said


async def test_a_key_opens_nothing_of_anothers(world: World) -> None:
    other = f"p-{uuid.uuid4().hex[:12]}"
    theirs = (await catalogue.add(world.catalogue.settings, other, "En annen", None, ["online"]))["key"]
    offering, [kari] = await world.pending("kari")
    async with hearing(world):
        await world.become(world.catalogue.key, offering, 200)
        await world.become(theirs, offering, 403)
        for answer in (
            await world.feed(theirs),
            await world.feed(theirs, on=True),
            await world.roster(theirs, offering),
        ):
            assert (answer.status_code, answer.json()["type"].rpartition("/")[2]) == (403, "not-this-partner")
        # As by a token: whether there is such an enrolment is told to nobody else.
        assert (await world.decide(theirs, "approve", kari)).status_code == 404
        assert (await world.feed(theirs, slug=other)).status_code == 200
        for made_up in (f"kn_{world.slug}_{'x' * 43}", "kn_", f"{world.catalogue.key}x"):
            assert await world.codes(made_up, offering) == [401] * 3
            assert (await world.decide(made_up, "approve", kari)).status_code == 401


async def test_who_is_suspended_reads_and_changes_nothing_whatever_else_becomes_new(world: World) -> None:
    key, people = world.catalogue.key, world.notifier.signed(world.slug)["authorization"].removeprefix("Bearer ")
    offering, [kari] = await world.pending("kari")

    async def becomes(code: int) -> None:
        async def done() -> bool:
            turned = await world.feed(key, on=True)
            decided = await world.decide(key, "approve", str(uuid.uuid4()))
            return (turned.status_code, decided.status_code) == (code, 404 if code == 200 else code)

        await until(done)

    async with hearing(world):
        await becomes(200)
        await change(world.catalogue, lambda conn: joining.suspend(conn, world.slug, "avtalen er ute"))
        await becomes(403)
        # Its new name and key are told as of one that is suspended.
        await change(world.catalogue, lambda conn: joining.change_partner(conn, world.slug, "Ny", None, ["online"]))
        new = await world.rotate()
        await world.become(new, offering, 200)
        for credential in (key, new, people):
            turned = await world.feed(credential, on=False)
            assert (turned.status_code, turned.json()["type"].rpartition("/")[2]) == (403, "partner-suspended")
        token = world.enrolment.partner(world.slug)["authorization"].removeprefix("Bearer ")
        for credential in (key, new, token):
            refused = await world.decide(credential, "approve", kari)
            assert (refused.status_code, refused.json()["type"].rpartition("/")[2]) == (403, "partner-suspended")
        operator = world.enrolment.issuer.token(sub="drift", kursnett_role="operator")
        assert (await world.decide(operator, "approve", kari)).json()["state"] == "associated"
        # Who has been shut out for good must not hear on for ever because nobody may turn it off.
        there = world.notifier.signed(sub="drift", kursnett_partner=None, kursnett_role="operator")
        turned = await world.feed(there["authorization"].removeprefix("Bearer "), on=False)
        assert (turned.status_code, turned.json().get("on")) == (200, False)
        await change(world.catalogue, lambda conn: joining.release(conn, world.slug))
        await becomes(200)


async def test_a_request_sent_again_by_key_or_by_token_has_one_effect(world: World) -> None:
    key, named = world.catalogue.key, {"idempotency-key": "one"}
    offering, [kari] = await world.pending("kari")
    async with hearing(world):
        await world.become(key, offering, 200)
    token = world.enrolment.partner(world.slug)["authorization"].removeprefix("Bearer ")
    decided = [await world.decide(each, "approve", kari, **named) for each in (key, token)]
    assert [one.headers.get("idempotency-replayed") for one in decided] == [None, "true"]
    people = world.notifier.signed(world.slug)["authorization"].removeprefix("Bearer ")
    turned = [await world.feed(each, on=True, **named) for each in (key, people)]
    assert [one.headers.get("idempotency-replayed") for one in turned] == [None, "true"]
    assert len({one.content for one in turned}) == 1


async def test_what_is_said_again_brings_no_old_key_back(world: World) -> None:
    async def hear(*told: Told) -> None:
        await world.notifier.here.database.run(lambda conn: kit_partners.keep(conn, told), "consumer")

    async def works(key: str) -> bool:
        return bool((await world.feed(f"kn_{key}")).status_code == 200)

    first, second = Told(world.slug, False, 1, [digest_of("kn_old").hex()]), Told(world.slug, True, 2, [])
    third = Told(world.slug, False, 3, [digest_of("kn_new").hex()])
    await hear(first)
    assert await works("old")
    await hear(third, second, first)  # in one batch, the newest first
    assert (await works("old"), await works("new")) == (False, True)
    for again in (first, second):
        await hear(again)
        assert (await works("old"), await works("new")) == (False, True)
    assert (await world.feed("kn_new", on=True)).status_code == 200, "nor the suspension that has ended"


async def test_the_keys_of_those_who_joined_before_are_told_once_by_the_next_sync(world: World) -> None:
    settings, slug = world.catalogue.settings, world.slug

    async def before(conn: Connection) -> None:  # as a release without this left it
        await conn.execute("UPDATE partners SET keys_told = false")
        await conn.execute("DELETE FROM outbox")

    async def said() -> list[Any]:
        async with world.catalogue.here.database.reading() as conn:
            rows = await conn.fetch("SELECT payload FROM outbox ORDER BY id")
        return [decode(row["payload"], []).data for row in rows]

    await change(world.catalogue, before)
    wanted = [Member(slug, "Sveiseskolen", None, ("mosjoen", "online"))]
    await catalogue.synced(settings, wanted, True)
    assert await said() == [], "a dry run says nothing"
    for _ in range(2):
        await catalogue.synced(settings, wanted, False)
        [told] = await said()
        assert (told["partner"], told["version"]) == (slug, 2)
        assert told["keys"] == [digest_of(world.catalogue.key).hex()]
    offering, _ = await world.pending()
    async with hearing(world):
        await world.become(world.catalogue.key, offering, 200)
