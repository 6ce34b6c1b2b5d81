"""An enrolment database of its own, for tests of seats: the catalogue speaks, learners and partners ask."""

import uuid
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from contracts.catalogue import OfferingCancelled, OfferingChanged, OfferingScheduled, OfferingState
from contracts.envelope import decode
from contracts.fields import Place
from kit import sealing
from kit.database import Connection, Database
from kit.problems import Problem
from services.enrolment import commands, domain, offerings
from services.enrolment.acts import Kind
from services.enrolment.commands import Act, Command, Enrol
from services.enrolment.domain import Enrolment
from services.enrolment.settings import EnrolmentSettings
from services.enrolment.store import enrolments, seats, times
from tests.delivery import Servers

PRIVATE, PUBLIC = sealing.generate()


def withdrawing(enrolment_id: UUID, who: str) -> Act:
    return acting("withdraw", enrolment_id, who)


def acting(kind: Kind, enrolment_id: UUID, who: str = "", **how: Any) -> Act:
    """What a learner does, or nobody in particular when `who` is left out."""
    return Act(kind, enrolment_id, lambda owner: not who or owner.login == ("issuer", who), **how)


class World:
    """An enrolment database of its own, and learners who ask there."""

    def __init__(self, database: Database, settings: EnrolmentSettings) -> None:
        self.database = database
        self.settings = settings
        self.version = 0

    async def scheduled(
        self,
        *,
        offering_id: UUID | None = None,
        in_days: float = 9,
        rules: dict[str, Any] | None = None,
        lasts_days: float = 0.1,
        **places: int,
    ) -> UUID:
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
            ends_at=starts_at + timedelta(days=lasts_days),
            places=[Place(arena=name.replace("_", "-"), capacity=seats) for name, seats in places.items()],
            **(rules or {}),
        )
        await self.database.run(lambda conn: offerings.keep(conn, said, self.settings))
        return said.offering_id

    async def cancelled(self, offering_id: UUID, version: int = 99, at: datetime | None = None) -> None:
        """The catalogue's word that it is cancelled, said at that time, which is now unless it is named."""
        at = at or datetime.now(UTC) + self.settings.test_clock_offset
        said = OfferingCancelled(offering_id=offering_id, course_id=uuid.uuid4(), partner="torgar", version=version)
        await self.database.run(lambda conn: offerings.cancel(conn, said, self.settings, at))

    @asynccontextmanager
    async def later(self, **delta: float) -> AsyncIterator["World"]:
        """The same database so much later, by its own clock."""
        settings = self.settings.model_copy(update={"test_clock_offset": timedelta(**delta)})
        database = Database(settings, pools={"web": 4, "together": 2})
        await database.open()
        try:
            there = World(database, settings)
            there.version = self.version
            yield there
        finally:
            await database.close()

    async def tick(self) -> int:
        """Let the clock do what is due; how many offerings it looked at."""
        looked = 0
        while await self.database.run(self._next):
            looked += 1
        return looked

    async def _next(self, conn: Connection) -> bool:
        offering_id = await times.take_timer(conn)
        if offering_id is not None:
            await offerings.look(conn, offering_id, self.settings)
        return offering_id is not None

    async def enrol(self, offering_id: UUID, who: str, *choices: str, **how: Any) -> Enrolment:
        return await self.decide(Enrol(offering_id, ("issuer", who), choices or ("online",), who, **how))

    async def together(self, offering_id: UUID, numbers: range) -> list[Enrolment]:
        """Learners who ask in one transaction, for a seat online."""
        return await self.decided(
            [Enrol(offering_id, ("issuer", f"learner-{n}"), ("online",), "Kari") for n in numbers]
        )

    async def decided(self, asked: Sequence[Command]) -> list[Enrolment]:
        """What became of commands of one transaction, without those that were refused."""
        found = await self.database.run(lambda conn: commands.decide(conn, asked, self.settings))
        return [one for one in found if isinstance(one, Enrolment)]

    async def act(self, kind: Kind, enrolment: Enrolment, who: str = "", **how: Any) -> Enrolment:
        return await self.decide(acting(kind, enrolment.id, who, **how))

    async def withdraw(self, enrolment: Enrolment, who: str) -> Enrolment:
        return await self.act("withdraw", enrolment, who)

    async def decide(self, command: Command) -> Enrolment:
        return await self.database.run(lambda conn: self.one(conn, command))

    async def one(self, conn: Connection, command: Command) -> Enrolment:
        """What became of one command; raises its Problem."""
        [outcome] = await commands.decide(conn, [command], self.settings)
        if isinstance(outcome, Problem):
            raise outcome
        return outcome

    async def now(self, enrolment: Enrolment) -> Enrolment:
        async with self.database.reading() as conn:
            return (await enrolments.enrolments(conn, [enrolment.id]))[enrolment.id]

    async def stands(self, *several: Enrolment) -> list[tuple[str, str | None]]:
        """(state, place) of each, as it is now."""
        return [(one.state, one.place) for one in [await self.now(each) for each in several]]

    async def offering(self, offering_id: UUID) -> domain.Offering:
        async with self.database.reading() as conn:
            found = await seats.offering(conn, offering_id)
        assert found is not None
        return found

    async def places(self, offering_id: UUID) -> dict[str, domain.Place]:
        async with self.database.reading() as conn:
            return (await seats.places(conn, [offering_id]))[offering_id]

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
async def world(servers: Servers, **changed: Any) -> AsyncIterator[World]:
    """The world; settings that are to be otherwise are named."""
    settings = EnrolmentSettings(
        **(await servers.database("enrolment")).model_dump() | {"contact_public_key": PUBLIC} | changed
    )
    database = Database(settings, pools={"web": 16})
    await database.open()
    try:
        yield World(database, settings)
    finally:
        await database.close()
