"""A rush on one course: asked together it costs a fixed number of statements, and goes as asked one by one would."""

import asyncio
import json
import uuid
from collections import Counter
from collections.abc import Sequence
from typing import Any

import pytest
from starlette.responses import Response

from kit import tracing
from kit.database import Connection
from kit.groupcommit import MOST, GroupCommit
from kit.problems import Problem
from services.enrolment import commands
from services.enrolment.desk import Request, deciding
from services.enrolment.domain import Enrolment
from services.enrolment.store import seats
from tests.delivery import Servers
from tests.seats import World, withdrawing, world

pytestmark = pytest.mark.anyio

# Learners, offerings with their lock, the time, places, lines, who is enrolled; enrolments, seats; the outbox's two.
STATEMENTS_A_BATCH = 10
TURN = 2  # once in an offering's life: it became full
# The transaction's ends, and what asyncpg asks once on each connection about a type it has not met.
OTHERS = ("BEGIN", "COMMIT", "SELECT current_setting('jit')", "WITH RECURSIVE typeinfo_tree")


def desk(here: World) -> GroupCommit[commands.Command, Enrolment]:
    return GroupCommit(here.database, lambda conn, asked: commands.decide(conn, asked, here.settings))


async def test_a_rush_costs_a_fixed_number_of_statements(servers: Servers, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: Counter[str] = Counter()

    async def listen(conn: Any) -> None:
        conn.add_query_logger(lambda query: seen.update([" ".join(query.query.split())[:60]]))

    monkeypatch.setattr(tracing, "watch", listen)
    async with world(servers) as here:
        offering_id = await here.scheduled(online=600)
        together = desk(here)
        asks = [commands.Enrol(offering_id, ("issuer", f"learner-{n}"), ("online",), "Kari") for n in range(1_000)]
        seen.clear()
        made = await asyncio.gather(*(together.submit(ask) for ask in asks))
        assert Counter(one.state for one in made) == {"associated": 600, "queued": 400}
        assert [one.place_in_line for one in made[600:]] == list(range(1, 401))
        batches = -(-1_000 // MOST)
        written = sum(count for words, count in seen.items() if not words.startswith(OTHERS))
        assert written <= batches * STATEMENTS_A_BATCH + TURN, "\n".join(f"{n} {w}" for w, n in seen.items())


async def test_who_leaves_in_the_same_moment_leaves_before_who_asks(servers: Servers) -> None:
    """The line comes first, then those who ask: nobody is sent to the line for a seat that is given up beside them."""
    async with world(servers) as here:
        offering_id = await here.scheduled(online=2)
        first, second, third = [await here.enrol(offering_id, who) for who in ("kari", "ola", "per")]
        together = desk(here)
        outcomes = await asyncio.gather(
            together.submit(commands.Enrol(offering_id, ("issuer", "liv"), ("online",), "Liv")),
            together.submit(commands.Enrol(offering_id, ("issuer", "anne"), ("online",), "Anne")),
            together.submit(withdrawing(first.id, "kari")),  # its seat is offered to per, who stands in line
            together.submit(withdrawing(second.id, "ola")),  # and this one is liv's, who asked before anne
        )
        assert [one.state for one in outcomes] == ["associated", "queued", "cancelled", "cancelled"]
        assert (await here.now(third)).state == "offered"
        assert (await here.places(offering_id))["online"].taken == 2


async def test_who_is_passed_by_one_of_the_same_moment_is_told_the_place_they_have(servers: Servers) -> None:
    async with world(servers) as here:
        offering_id = await here.scheduled(online=1, mosjoen=1, rules={"priority_groups": ["helse"]})
        for place in ("online", "mosjoen"):
            await here.enrol(offering_id, f"at-{place}", place)
        asked = [("ola", "online", None), ("liv", "mosjoen", None), ("per", "online", "helse"), ("eva", "online", None)]
        asks = [commands.Enrol(offering_id, ("issuer", who), (place,), who, group=group) for who, place, group in asked]
        told = await here.decided(asks)
        assert [one.place_in_line for one in told] == [2, 1, 1, 3]
        assert [(await here.now(one)).place_in_line for one in told] == [2, 1, 1, 3], "what is so"
        said = [data["place_in_line"] for kind, data in await here.said() if kind == "LearnerQueued"]
        assert sorted(said) == [1, 1, 2, 3]


async def test_each_of_a_batch_gets_its_own_answer(servers: Servers) -> None:
    async with world(servers) as here:
        offering_id, other = await here.scheduled(online=1), await here.scheduled(online=5)
        together = desk(here)
        asks: list[commands.Command] = [
            commands.Enrol(offering_id, ("issuer", "kari"), ("online",), "Kari"),
            commands.Enrol(offering_id, ("issuer", "kari"), ("online",), "Kari"),
            commands.Enrol(offering_id, ("issuer", "ola"), ("nowhere",), "Ola"),
            commands.Enrol(uuid.uuid4(), ("issuer", "ola"), ("online",), "Ola"),
            commands.Enrol(other, ("issuer", "ola"), ("online",), "Ola"),
            withdrawing(uuid.uuid4(), "per"),
        ]
        outcomes = await asyncio.gather(*(together.submit(ask) for ask in asks), return_exceptions=True)
        told = [one.slug if isinstance(one, Problem) else getattr(one, "state", one) for one in outcomes]
        assert told == ["associated", "already-enrolled", "unknown-place", "not-found", "associated", "not-found"]


async def test_two_processes_sell_each_seat_once(servers: Servers) -> None:
    """Each process has a lane of its own; the offering's row lock stands between them."""
    async with world(servers) as here:
        offering_id = await here.scheduled(online=50)
        lanes = [desk(here), desk(here)]
        asks = [commands.Enrol(offering_id, ("issuer", f"learner-{n}"), ("online",), "Kari") for n in range(400)]
        made = await asyncio.gather(*(lanes[n % 2].submit(ask) for n, ask in enumerate(asks)))
        assert Counter(one.state for one in made) == {"associated": 50, "queued": 350}
        assert sorted(one.place_in_line for one in made if one.place_in_line) == list(range(1, 351))
        assert (await here.places(offering_id))["online"].taken == 50


async def test_who_asked_first_has_the_last_seat_although_another_process_had_the_offering(servers: Servers) -> None:
    """It comes free while those of the moment are tried one after the other."""
    async with world(servers) as here:
        offering_id = await here.scheduled(online=1)
        decide, batches, tried, free = deciding(here.settings), list[int](), asyncio.Event(), asyncio.Event()

        async def decided(conn: Connection, asked: Sequence[Request]) -> Sequence[Response | Exception]:
            batches.append(len(asked))
            if len(batches) == 3:
                tried.set()
                await free.wait()
            return await decide(conn, asked)

        together: GroupCommit[Request, Response] = GroupCommit(here.database, decided)
        async with here.database.reading() as conn, conn.transaction():
            await seats.lock(conn, [offering_id])
            asked = [commands.Enrol(offering_id, ("issuer", who), ("online",), who) for who in ("kari", "ola", "per")]
            answers = [asyncio.create_task(together.submit(Request(one, None))) for one in asked]
            await tried.wait()
        free.set()
        told = [json.loads(bytes(answer.body)) for answer in await asyncio.gather(*answers)]
        assert [one["state"] for one in told] == ["associated", "queued", "queued"]
        assert [one["place_in_line"] for one in told] == [None, 1, 2]
