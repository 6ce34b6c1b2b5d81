"""Seats on a real PostgreSQL: exactly as many as there are, in the order of asking, whatever frees them."""

import asyncio
import uuid
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import asyncpg
import pytest

from contracts.catalogue import OfferingCancelled, OfferingChanged, OfferingScheduled, OfferingState
from contracts.envelope import decode
from contracts.fields import Place
from kit import migrations
from kit.database import Busy, Connection, Database, connect
from kit.problems import Problem
from services.enrolment import commands, domain, store
from services.enrolment.app import MIGRATIONS
from services.enrolment.store import Enrolment
from tests.delivery import Servers

pytestmark = pytest.mark.anyio

CLIENTS, SEATS = 200, 20
Enrol = Callable[[Connection, UUID, tuple[str, str]], Awaitable[Any]]


class World:
    """An enrolment database of its own, and learners who ask there."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self.version = 0

    async def scheduled(self, *, offering_id: UUID | None = None, in_days: float = 9, **places: int) -> UUID:
        """An offering as the catalogue tells it, with the next version; arenas are written with underscores."""
        self.version += 1
        starts_at = datetime.now(UTC) + timedelta(days=in_days)
        kind: type[OfferingState] = OfferingChanged if offering_id else OfferingScheduled
        said = kind(
            offering_id=offering_id or uuid.uuid4(),
            course_id=uuid.uuid4(),
            partner="torgar",
            key="h26",
            version=self.version,
            starts_at=starts_at,
            ends_at=starts_at + timedelta(hours=2),
            places=[Place(arena=name.replace("_", "-"), capacity=seats) for name, seats in places.items()],
        )
        await self.database.run(lambda conn: commands.keep_offering(conn, said))
        return said.offering_id

    async def enrol(self, offering_id: UUID, who: str, *choices: str, sealed: str | None = None) -> Enrolment:
        return await self.decide(commands.Enrol(offering_id, ("issuer", who), choices or ("online",), who, sealed))

    async def withdraw(self, enrolment: Enrolment, who: str) -> Enrolment:
        return await self.decide(commands.Withdraw(enrolment.id, ("issuer", who)))

    async def decide(self, command: commands.Command) -> Enrolment:
        return await self.database.run(lambda conn: one(conn, command))

    async def now(self, enrolment: Enrolment) -> Enrolment:
        async with self.database.reading() as conn:
            found = await store.enrolment(conn, enrolment.id)
        assert found is not None
        return found

    async def places(self, offering_id: UUID) -> dict[str, domain.Place]:
        async with self.database.reading() as conn:
            return {place.arena: place for place in await store.places(conn, offering_id)}

    async def said(self) -> list[tuple[str, dict[str, Any]]]:
        """Each event in the outbox as (its class's name, its data), in order."""
        async with self.database.reading() as conn:
            rows = await conn.fetch("SELECT payload FROM outbox ORDER BY id")
        envelopes = [decode(row["payload"], []) for row in rows]
        return [(envelope.type.split(".")[-2], envelope.data) for envelope in envelopes]

    async def kinds(self) -> list[str]:
        return [kind for kind, _ in await self.said()]

    async def states(self, offering_id: UUID) -> Counter[str]:
        async with self.database.reading() as conn:
            rows = await conn.fetch("SELECT state FROM enrolments WHERE offering_id = $1", offering_id)
        return Counter(row["state"] for row in rows)


@asynccontextmanager
async def world(servers: Servers) -> AsyncIterator[World]:
    settings = await servers.database()
    conn = await connect(settings, "migrate")
    try:
        await migrations.migrate(conn, [migrations.KIT, MIGRATIONS])
    finally:
        await conn.close()
    database = Database(settings, pools={"web": 16})
    await database.open()
    try:
        yield World(database)
    finally:
        await database.close()


async def rush(database: Database, offering_id: UUID, enrol: Enrol) -> Sequence[Any]:
    """All clients ask at once; who is told to ask again does, as any client would."""

    async def client(number: int) -> Any:
        while True:
            try:
                return await database.run(lambda conn: enrol(conn, offering_id, ("issuer", f"client-{number}")))
            except (Busy, asyncpg.LockNotAvailableError, asyncpg.QueryCanceledError):
                continue

    return await asyncio.gather(*(client(number) for number in range(CLIENTS)))


async def online(conn: Connection, offering_id: UUID, login: tuple[str, str]) -> Enrolment:
    return await one(conn, commands.Enrol(offering_id, login, ("online",), login[1]))


async def one(conn: Connection, command: commands.Command) -> Enrolment:
    """What became of one command; raises its Problem."""
    [outcome] = await commands.decide(conn, [command])
    if isinstance(outcome, Problem):
        raise outcome
    return outcome


async def without_guards(conn: Connection, offering_id: UUID, login: tuple[str, str]) -> str:
    """What one would write first: count, then insert, holding no lock."""
    learner_id = (await store.know_learners(conn, [login]))[login]
    free = domain.free_seats(await store.places(conn, offering_id))
    place = domain.seat_for(["online"], free)
    state = "associated" if place else "queued"
    now = await store.now(conn)
    made = Enrolment(uuid.uuid4(), offering_id, learner_id, state, ("online",), place, login[1], now, None)
    await store.add_enrolments(conn, [made])
    if place is not None:
        await store.take_seats(conn, {(offering_id, place): 1})
    return state


async def test_the_last_seat_goes_once(servers: Servers) -> None:
    async with world(servers) as here:
        offering_id = await here.scheduled(online=SEATS)
        made = await rush(here.database, offering_id, online)
        assert Counter(one.state for one in made) == {"associated": SEATS, "queued": CLIENTS - SEATS}
        assert sorted(one.place_in_line for one in made if one.state == "queued") == list(range(1, CLIENTS - SEATS + 1))
        assert (await here.places(offering_id))["online"].taken == SEATS
        kinds = Counter(await here.kinds())
        assert kinds == {"LearnerEnrolled": SEATS, "LearnerQueued": CLIENTS - SEATS, "OfferingFilled": 1}


async def test_without_lock_and_constraint_seats_are_oversold(servers: Servers) -> None:
    """The red control: the same rush, with both guards off."""
    async with world(servers) as here:
        offering_id = await here.scheduled(online=SEATS)
        async with here.database.reading() as conn:
            await conn.execute("ALTER TABLE places DROP CONSTRAINT offering_not_oversold")
        states = Counter(await rush(here.database, offering_id, without_guards))
        assert states["associated"] > SEATS


async def test_the_database_itself_refuses_to_oversell(servers: Servers) -> None:
    async with world(servers) as here:
        offering_id = await here.scheduled(online=1)
        await here.enrol(offering_id, "kari")
        with pytest.raises(asyncpg.CheckViolationError, match="offering_not_oversold"):
            await here.database.run(lambda conn: store.take_seats(conn, {(offering_id, "online"): 1}))


async def test_a_seat_given_up_goes_to_the_first_in_line(servers: Servers) -> None:
    async with world(servers) as here:
        offering_id = await here.scheduled(online=1)
        kari, ola, per = [await here.enrol(offering_id, who) for who in ("kari", "ola", "per")]
        assert (ola.place_in_line, per.place_in_line) == (1, 2)
        left = await here.withdraw(kari, "kari")
        assert (left.state, left.place) == ("cancelled", None)
        ola, per = await here.now(ola), await here.now(per)
        assert (ola.state, ola.place) == ("associated", "online")
        assert (per.state, per.place_in_line) == ("queued", 1)
        said = await here.said()
        assert [kind for kind, _ in said[-2:]] == ["LearnerWithdrew", "LearnerEnrolled"]
        assert said[-2][1]["place"] == "online"
        assert said[-1][1]["from_queue"] is True
        await here.withdraw(kari, "kari")
        assert len(await here.said()) == len(said), "to withdraw a second time says and changes nothing"


async def test_who_would_not_sit_there_is_not_in_the_way(servers: Servers) -> None:
    async with world(servers) as here:
        offering_id = await here.scheduled(online=1, mosjoen=1)
        seated = [await here.enrol(offering_id, "kari", "mosjoen"), await here.enrol(offering_id, "ola", "online")]
        first = await here.enrol(offering_id, "per", "online")
        second = await here.enrol(offering_id, "anne", "mosjoen", "online")
        third = await here.enrol(offering_id, "liv", "mosjoen")
        assert [one.place_in_line for one in (first, second, third)] == [1, 2, 2]
        await here.withdraw(seated[0], "kari")
        assert [(await here.now(one)).state for one in (first, second, third)] == ["queued", "associated", "queued"]
        await here.withdraw(seated[1], "ola")
        assert [(await here.now(one)).place for one in (first, second, third)] == ["online", "mosjoen", None]


async def test_more_seats_are_filled_from_the_line_over_all_places(servers: Servers) -> None:
    """Two in front want the same place: a second look down the line finds the one who wants the other."""
    async with world(servers) as here:
        offering_id = await here.scheduled(online=0, mosjoen=0)
        waiting = [
            await here.enrol(offering_id, who, place)
            for who, place in (("kari", "online"), ("ola", "online"), ("per", "online"), ("liv", "mosjoen"))
        ]
        await here.scheduled(offering_id=offering_id, online=1, mosjoen=2)
        assert [(await here.now(one)).place for one in waiting] == ["online", None, None, "mosjoen"]
        places = await here.places(offering_id)
        assert (places["online"].free, places["mosjoen"].free) == (0, 1)
        assert (await here.kinds())[-3:] == ["LearnerEnrolled", "LearnerEnrolled", "OfferingReopened"]


async def test_fewer_seats_than_taken_throws_nobody_out(servers: Servers) -> None:
    async with world(servers) as here:
        offering_id = await here.scheduled(online=3)
        seated = [await here.enrol(offering_id, who) for who in ("kari", "ola", "per")]
        waiting = await here.enrol(offering_id, "liv")
        await here.scheduled(offering_id=offering_id, online=1)
        assert (await here.places(offering_id))["online"].capacity == 3
        for one, who, capacity in zip(seated[:2], ("kari", "ola"), (2, 1), strict=True):
            await here.withdraw(one, who)
            assert (await here.places(offering_id))["online"].capacity == capacity
            assert (await here.now(waiting)).state == "queued"
        await here.withdraw(seated[2], "per")
        assert (await here.now(waiting)).state == "associated"
        assert (await here.places(offering_id))["online"].capacity == 1


async def test_a_place_taken_off_keeps_who_sits_there_and_takes_nobody_new(servers: Servers) -> None:
    async with world(servers) as here:
        offering_id = await here.scheduled(online=3, mosjoen=3)
        kari = await here.enrol(offering_id, "kari", "mosjoen")
        await here.scheduled(offering_id=offering_id, online=3)
        assert (await here.now(kari)).place == "mosjoen"
        with pytest.raises(Problem) as refused:
            await here.enrol(offering_id, "ola", "online", "mosjoen")
        assert refused.value.status == 422
        assert refused.value.extensions["errors"] == [{"field": "places[1]", "detail": "must be one of: online"}]


async def test_nobody_is_enrolled_twice(servers: Servers) -> None:
    async with world(servers) as here:
        offering_id = await here.scheduled(online=5)
        outcomes = await asyncio.gather(*(here.enrol(offering_id, "kari") for _ in range(8)), return_exceptions=True)
        refused = [one.slug for one in outcomes if isinstance(one, Problem)]
        assert refused == ["already-enrolled"] * 7
        [made] = [one for one in outcomes if isinstance(one, Enrolment)]
        await here.withdraw(made, "kari")
        assert (await here.enrol(offering_id, "kari")).state == "associated", "who left may come back"


async def test_an_offering_that_is_unknown_started_or_cancelled_takes_nobody(servers: Servers) -> None:
    async with world(servers) as here:
        started = await here.scheduled(in_days=-1, online=5)
        with pytest.raises(Problem) as refused:
            await here.enrol(started, "kari")
        assert (refused.value.status, refused.value.extensions["reason"]) == (409, "started")
        with pytest.raises(Problem) as refused:
            await here.enrol(uuid.uuid4(), "kari")
        assert refused.value.status == 404


async def test_a_seat_given_up_after_the_start_is_not_filled(servers: Servers) -> None:
    async with world(servers) as here:
        offering_id = await here.scheduled(online=1)
        kari, ola = [await here.enrol(offering_id, who) for who in ("kari", "ola")]
        await here.scheduled(offering_id=offering_id, in_days=-1, online=1)
        assert (await here.withdraw(kari, "kari")).state == "cancelled"
        assert (await here.now(ola)).state == "queued"


async def test_cancelling_an_offering_tells_everybody(servers: Servers) -> None:
    async with world(servers) as here:
        offering_id = await here.scheduled(online=1)
        for who in ("kari", "ola"):
            await here.enrol(offering_id, who)
        said = OfferingCancelled(offering_id=offering_id, course_id=uuid.uuid4(), partner="torgar", version=99)
        for _ in range(2):  # the second is not newer than what we know
            await here.database.run(lambda conn: commands.cancel_offering(conn, said))
        assert await here.states(offering_id) == {"cancelled": 2}
        assert (await here.places(offering_id))["online"].taken == 0
        told = [data for kind, data in await here.said() if kind == "LearnerWithdrew"]
        assert [(data["place"], data["reason"]) for data in told] == [
            ("online", "offering_cancelled"),
            (None, "offering_cancelled"),
        ]
        with pytest.raises(Problem) as refused:
            await here.enrol(offering_id, "per")
        assert refused.value.extensions["reason"] == "cancelled"


async def test_what_is_older_than_we_know_changes_nothing(servers: Servers) -> None:
    async with world(servers) as here:
        offering_id = await here.scheduled(online=1)
        await here.scheduled(offering_id=offering_id, online=7)
        here.version = 0
        await here.scheduled(offering_id=offering_id, online=3)
        assert (await here.places(offering_id))["online"].capacity == 7


async def test_the_contact_is_said_before_the_seat(servers: Servers) -> None:
    async with world(servers) as here:
        offering_id = await here.scheduled(online=1)
        made = await here.enrol(offering_id, "kari", sealed="a.sealed.letter")
        said = await here.said()
        assert [kind for kind, _ in said] == ["ContactGiven", "LearnerEnrolled", "OfferingFilled"]
        assert said[0][1] == {"learner_id": str(made.learner_id), "sealed": "a.sealed.letter"}


async def test_each_step_is_noted(servers: Servers) -> None:
    async with world(servers) as here:
        offering_id = await here.scheduled(online=1)
        kari, ola = [await here.enrol(offering_id, who) for who in ("kari", "ola")]
        await here.withdraw(kari, "kari")
        async with here.database.reading() as conn:
            rows = await conn.fetch(
                "SELECT from_state, to_state, place, by_whom FROM enrolment_changes WHERE enrolment_id = ANY ($1) "
                "ORDER BY id",
                [kari.id, ola.id],
            )
        assert [tuple(row) for row in rows] == [
            (None, "associated", "online", "learner"),
            (None, "queued", None, "learner"),
            ("associated", "cancelled", "online", "learner"),
            ("queued", "associated", "online", "line"),
        ]


async def test_in_a_crowd_of_comers_and_goers_no_seat_is_lost(servers: Servers) -> None:
    """Everybody asks, half leave at once: at the end all seats are taken, each by one who stayed."""
    async with world(servers) as here:
        offering_id = await here.scheduled(online=10, mosjoen=5)

        async def patiently(ask: Callable[[], Awaitable[Enrolment]]) -> Enrolment:
            while True:
                try:
                    return await ask()
                except (Busy, asyncpg.LockNotAvailableError):
                    continue

        async def visit(number: int) -> None:
            who, choices = f"visitor-{number}", [("online",), ("mosjoen",), ("mosjoen", "online")][number % 3]
            made = await patiently(lambda: here.enrol(offering_id, who, *choices))
            if number % 2:
                await patiently(lambda: here.withdraw(made, who))

        await asyncio.gather(*(visit(number) for number in range(60)))
        places = await here.places(offering_id)
        states = await here.states(offering_id)
        assert states == {"associated": 15, "queued": 15, "cancelled": 30}
        assert all(place.free == 0 for place in places.values())
