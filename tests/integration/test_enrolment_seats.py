"""Seats on a real PostgreSQL: exactly as many as there are, in the order of asking, whatever frees them."""

import asyncio
import uuid
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from typing import Any
from uuid import UUID

import asyncpg
import pytest

from kit.database import Busy, Connection
from kit.problems import Problem
from services.enrolment import commands, domain
from services.enrolment.domain import Enrolment
from services.enrolment.store import enrolments, seats
from tests.delivery import Servers
from tests.seats import World, world

pytestmark = pytest.mark.anyio

CLIENTS, SEATS = 200, 20
Enrol = Callable[[World, Connection, UUID, tuple[str, str]], Awaitable[Any]]


async def rush(here: World, offering_id: UUID, enrol: Enrol) -> Sequence[Any]:
    """All clients ask at once; who is told to ask again does, as any client would."""

    async def client(number: int) -> Any:
        who = ("issuer", f"client-{number}")
        while True:
            try:
                return await here.database.run(lambda conn: enrol(here, conn, offering_id, who))
            except (Busy, asyncpg.LockNotAvailableError, asyncpg.QueryCanceledError):
                continue

    return await asyncio.gather(*(client(number) for number in range(CLIENTS)))


async def online(here: World, conn: Connection, offering_id: UUID, login: tuple[str, str]) -> Enrolment:
    return await here.one(conn, commands.Enrol(offering_id, login, ("online",), login[1]))


async def without_guards(here: World, conn: Connection, offering_id: UUID, login: tuple[str, str]) -> str:
    """What one would write first: count, then insert, holding no lock."""
    learner_id = (await enrolments.know_learners(conn, [login]))[login]
    free = domain.free_seats((await seats.places(conn, [offering_id]))[offering_id].values())
    place = domain.seat_for(["online"], free)
    new = Enrolment(uuid.uuid4(), offering_id, learner_id, "", ("online",), None, login[1], await seats.now(conn))
    made = new.seated(place) if place else new.unseated("queued")
    await enrolments.add(conn, [made])
    await seats.count(conn, {(offering_id, "online"): (1, 0) if place else (0, 1)})
    return made.state


async def test_the_last_seat_goes_once(servers: Servers) -> None:
    async with world(servers) as here:
        offering_id = await here.scheduled(online=SEATS)
        made = await rush(here, offering_id, online)
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
        states = Counter(await rush(here, offering_id, without_guards))
        assert states["associated"] > SEATS


async def test_the_database_itself_refuses_to_oversell(servers: Servers) -> None:
    async with world(servers) as here:
        offering_id = await here.scheduled(online=1)
        await here.enrol(offering_id, "kari")
        with pytest.raises(asyncpg.CheckViolationError, match="offering_not_oversold"):
            await here.database.run(lambda conn: seats.count(conn, {(offering_id, "online"): (1, 0)}))


async def test_a_seat_given_up_is_offered_to_the_first_in_line(servers: Servers) -> None:
    async with world(servers) as here:
        offering_id = await here.scheduled(online=1)
        kari, ola, per = [await here.enrol(offering_id, who) for who in ("kari", "ola", "per")]
        assert (ola.place_in_line, per.place_in_line) == (1, 2)
        left = await here.withdraw(kari, "kari")
        assert (left.state, left.place) == ("cancelled", None)
        ola, per = await here.now(ola), await here.now(per)
        assert (ola.state, ola.place) == ("offered", "online")
        assert (per.state, per.place_in_line) == ("queued", 1)
        said = await here.said()
        assert [kind for kind, _ in said[-2:]] == ["LearnerWithdrew", "SeatOffered"]
        assert said[-2][1]["place"] == "online"
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
        assert [(await here.now(one)).state for one in (first, second, third)] == ["queued", "offered", "queued"]
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
        assert (await here.kinds())[-3:] == ["SeatOffered", "SeatOffered", "OfferingReopened"]


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
        assert (await here.now(waiting)).state == "offered"
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
        for _ in range(2):  # the second is not newer than what we know
            await here.cancelled(offering_id)
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
                "SELECT from_state, from_place, to_state, place, by_whom FROM enrolment_changes "
                "WHERE enrolment_id = ANY ($1) ORDER BY id",
                [kari.id, ola.id],
            )
        assert [tuple(row) for row in rows] == [
            (None, None, "associated", "online", "learner"),
            (None, None, "queued", None, "learner"),
            ("associated", "online", "cancelled", None, "learner"),
            ("queued", None, "offered", "online", "line"),
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
        assert states["associated"] + states["offered"] == 15
        assert (states["queued"], states["cancelled"]) == (15, 30)
        assert all(place.free == 0 for place in places.values())
