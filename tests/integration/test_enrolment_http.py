"""Enrolment as a learner meets it: over HTTP, on a real PostgreSQL, with a token."""

import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from httpx2 import AsyncClient
from pydantic import SecretStr

from contracts.catalogue import OfferingScheduled
from contracts.envelope import decode
from contracts.fields import Place
from kit import http, sealing
from kit.auth import Caller
from kit.database import Database
from kit.groupcommit import GroupCommit
from kit.health import Health
from kit.metrics import Metrics
from kit.running import Running
from services.enrolment import desk, login, offerings
from services.enrolment.app import ROUTERS
from services.enrolment.live import Hub
from services.enrolment.settings import EnrolmentSettings
from tests.delivery import Servers
from tests.web import ISSUER, Issuer, held_to_its_word

pytestmark = pytest.mark.anyio

BASE = "/api/enrolment/v1"
PRIVATE, PUBLIC = sealing.generate()
ADDRESS = "Kari.Nordmann+kurs@example.no"
PHONE = "912 34 567"


@dataclass
class World:
    database: Database
    settings: EnrolmentSettings
    asking: AsyncClient
    issuer: Issuer
    running: Running

    def partner(self, slug: str) -> dict[str, str]:
        token = self.issuer.token(sub=f"of-{slug}", kursnett_partner=slug)
        return {"authorization": f"Bearer {token}"}

    def hub(self) -> Hub:
        return Hub(self.running)

    def signed(self, who: str, key: str | None = None) -> dict[str, str]:
        token = self.issuer.token(sub=who)
        return {"authorization": f"Bearer {token}"} | ({"idempotency-key": key} if key else {})

    async def offering(self, rules: dict[str, Any] | None = None, **places: int) -> UUID:
        starts_at = datetime.now(UTC) + timedelta(days=9)
        said = OfferingScheduled(
            offering_id=uuid.uuid4(),
            course_id=uuid.uuid4(),
            partner="torgar",
            key="h26",
            version=1,
            starts_at=starts_at,
            ends_at=starts_at + timedelta(hours=2),
            places=[Place(arena=arena, capacity=seats) for arena, seats in places.items()],
            **(rules or {}),
        )
        await self.database.run(lambda conn: offerings.keep(conn, said, self.settings))
        return said.offering_id

    async def enrol(self, offering_id: UUID, who: str, key: str | None = None, **body: Any) -> Any:
        known = {"places": ["online"], "name": "Kari Nordmann"} | body
        return await self.asking.post(
            f"{BASE}/offerings/{offering_id}/enrolments", json=known, headers=self.signed(who, key)
        )


@asynccontextmanager
async def world(servers: Servers, **changed: Any) -> AsyncIterator[World]:
    known = (
        (await servers.database("enrolment")).model_dump()
        | {"issuer": ISSUER, "contact_public_key": PUBLIC, "trust_role_claims": True}
        | changed
    )
    settings = EnrolmentSettings(**known)
    database = Database(settings, pools={"web": 4, "together": 2})
    await database.open()
    running = Running("enrolment", settings, database, Metrics(), Health("enrolment"))
    running.desk = GroupCommit(database, desk.deciding(settings))
    running.session = login.visitor_of
    app = http.build(running, ROUTERS)
    issuer = Issuer()
    issuer.serve(app.state.keys)
    try:
        async with held_to_its_word(app) as asking:
            yield World(database, settings, asking, issuer, running)
    finally:
        await database.close()


async def test_a_learner_gets_a_seat_and_the_next_a_place_in_line(servers: Servers) -> None:
    async with world(servers) as here:
        offering_id = await here.offering(online=1)
        first, second = [await here.enrol(offering_id, who) for who in ("kari", "ola")]
        assert (first.status_code, second.status_code) == (201, 201)
        assert first.json()["state"] == "associated"
        assert (first.json()["place"], first.json()["place_in_line"]) == ("online", None)
        assert (second.json()["state"], second.json()["place"], second.json()["place_in_line"]) == ("queued", None, 1)
        assert first.headers["location"] == f"{BASE}/enrolments/{first.json()['enrolment_id']}"

        withdrawn = await here.asking.post(f"{first.headers['location']}/withdraw", headers=here.signed("kari"))
        assert (withdrawn.status_code, withdrawn.json()["state"]) == (200, "cancelled")
        moved = await here.asking.get(second.headers["location"], headers=here.signed("ola"))
        assert (moved.json()["state"], moved.json()["place"]) == ("offered", "online")


async def test_an_enrolment_is_its_learners_own(servers: Servers) -> None:
    async with world(servers) as here:
        made = await here.enrol(await here.offering(online=1), "kari")
        at = made.headers["location"]
        assert (await here.asking.get(at, headers=here.signed("kari"))).json() == made.json()
        for answer in (
            await here.asking.get(at, headers=here.signed("ola")),
            await here.asking.post(f"{at}/withdraw", headers=here.signed("ola")),
            await here.asking.get(f"{BASE}/enrolments/{uuid.uuid4()}", headers=here.signed("kari")),
        ):
            assert (answer.status_code, answer.json()["type"].rpartition("/")[2]) == (404, "not-found")
        assert (await here.asking.get(at)).status_code == 401
        assert (await here.asking.get(f"{BASE}/me/enrolments", headers=here.signed("ola"))).json() == {"items": []}


async def test_an_act_on_what_has_changed_since_it_was_read_is_refused(servers: Servers) -> None:
    async with world(servers) as here:
        offering_id = await here.offering(online=1)
        first, second = [await here.enrol(offering_id, who) for who in ("kari", "ola")]
        at = second.headers["location"]
        read = await here.asking.get(at, headers=here.signed("ola"))
        assert read.headers["etag"] == second.headers["etag"]
        known = here.signed("ola") | {"if-none-match": read.headers["etag"]}
        assert (await here.asking.get(at, headers=known)).status_code == 304

        await here.asking.post(f"{first.headers['location']}/withdraw", headers=here.signed("kari"))
        assert (await here.asking.get(at, headers=known)).status_code == 200
        # Ola wanted to leave the line, and does not know that the seat is his by now.
        stale = here.signed("ola") | {"if-match": read.headers["etag"]}
        refused = await here.asking.post(f"{at}/withdraw", headers=stale)
        assert (refused.status_code, refused.json()["errors"][0]["field"]) == (412, "header if-match")
        moved = await here.asking.get(at, headers=here.signed("ola"))
        assert moved.json()["state"] == "offered"
        fresh = here.signed("ola") | {"if-match": moved.headers["etag"]}
        left = await here.asking.post(f"{at}/withdraw", headers=fresh)
        assert (left.status_code, left.json()["state"]) == (200, "cancelled")
        assert (await here.asking.post(f"{at}/withdraw", headers=here.signed("ola"))).status_code == 200


async def test_ones_own_enrolments_come_newest_first_in_pages(servers: Servers) -> None:
    async with world(servers) as here:
        made = [(await here.enrol(await here.offering(online=1), "kari")).json() for _ in range(3)]
        page = await here.asking.get(f"{BASE}/me/enrolments?limit=2", headers=here.signed("kari"))
        assert page.json()["items"] == [made[2], made[1]]
        address, _, relation = page.headers["link"].partition("; ")
        assert relation == 'rel="next"'
        last = await here.asking.get(address.strip("<>"), headers=here.signed("kari"))
        assert last.json()["items"] == [made[0]]
        assert "link" not in last.headers


async def test_the_seats_of_an_offering_are_shown_to_anybody_and_sent_once(servers: Servers) -> None:
    async with world(servers) as here:
        offering_id = await here.offering(online=1, mosjoen=4)
        for who in ("kari", "ola"):
            await here.enrol(offering_id, who)
        first = await here.asking.get(f"{BASE}/offerings/{offering_id}")
        assert first.json()["offering_id"] == str(offering_id)
        assert first.json()["places"] == [
            {"arena": "online", "capacity": 1, "taken": 1, "free": 0, "queued": 1},
            {"arena": "mosjoen", "capacity": 4, "taken": 0, "free": 4, "queued": 0},
        ]
        known = {"if-none-match": first.headers["etag"]}
        again = await here.asking.get(f"{BASE}/offerings/{offering_id}", headers=known)
        assert (again.status_code, again.content) == (304, b"")
        await here.enrol(offering_id, "per", places=["mosjoen"])
        assert (await here.asking.get(f"{BASE}/offerings/{offering_id}", headers=known)).status_code == 200


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"places": []}, "places"),
        ({"places": ["online", "online"]}, "places"),
        ({"places": ["a", "b", "c", "d"]}, "places"),
        ({"places": ["online", "sandnessjoen"]}, "places[1]"),
        ({"places": "online"}, "places"),
        ({"name": ""}, "name"),
        ({"name": "Kari\u202eNordmann"}, "name"),
        ({"contact": {"email": "kari at example.no"}}, "contact.email"),
        ({"contact": {"email": "kari@example.no\nBcc: all@example.no"}}, "contact.email"),
        ({"contact": {"email": "kari@example.no", "language": "de"}}, "contact.language"),
        ({"contact": {"email": "kari@example.no", "phone": "12345678"}}, "contact.phone"),
        ({"contact": {"email": "kari@example.no", "phone": ""}}, "contact.phone"),
        ({"contact": {"email": "kari@example.no", "phone": 91234567}}, "contact.phone"),
        ({"contakt": {}}, "contakt"),
    ],
)
async def test_a_wrong_field_is_named(servers: Servers, body: dict[str, Any], field: str) -> None:
    async with world(servers) as here:
        answer = await here.enrol(await here.offering(online=1), "kari", **body)
        assert answer.status_code == 422
        assert answer.headers["content-type"] == "application/problem+json"
        assert [error["field"] for error in answer.json()["errors"]] == [field]


async def test_who_is_enrolled_is_told_so(servers: Servers) -> None:
    async with world(servers) as here:
        offering_id = await here.offering(online=2)
        made = await here.enrol(offering_id, "kari")
        again = await here.enrol(offering_id, "kari")
        assert again.status_code == 409
        assert again.json()["enrolment_id"] == made.json()["enrolment_id"]
        assert (await here.enrol(uuid.uuid4(), "kari")).status_code == 404


async def test_a_request_sent_twice_has_one_effect(servers: Servers) -> None:
    async with world(servers) as here:
        offering_id = await here.offering(online=2)
        first = await here.enrol(offering_id, "kari", key="one")
        again = await here.enrol(offering_id, "kari", key="one")
        assert (again.status_code, again.json()) == (201, first.json())
        assert again.headers["location"] == first.headers["location"]
        assert (await here.enrol(offering_id, "kari", key="one", places=["mosjoen"])).status_code == 422
        seats = (await here.asking.get(f"{BASE}/offerings/{offering_id}")).json()["places"]
        assert [place["taken"] for place in seats] == [1]


async def test_an_address_is_sealed_for_the_notifier_and_kept_nowhere(servers: Servers) -> None:
    async with world(servers) as here:
        contact = {"email": ADDRESS, "language": "nn", "phone": PHONE}
        made = await here.enrol(await here.offering(online=1), "kari", key="one", contact=contact)
        assert made.status_code == 201
        async with here.database.reading() as conn:
            payloads = [row["payload"] for row in await conn.fetch("SELECT payload FROM outbox ORDER BY id")]
            tables = await conn.fetch("SELECT tablename FROM pg_tables WHERE schemaname = 'public'")
            kept = [await conn.fetch(f'SELECT t::text AS whole FROM "{row["tablename"]}" t') for row in tables]
        contact_given = decode(payloads[0], [])
        assert contact_given.type == "no.kursnett.enrolment.ContactGiven.v1"
        letter = sealing.unseal(PRIVATE, contact_given.data["sealed"])
        assert letter == {
            **contact,
            "phone": "+4791234567",
            "name": "Kari Nordmann",
            "login": Caller(ISSUER, "kari").key,
        }
        numbers = ("91234567", "912 34 567")
        traces = (ADDRESS, "nordmann+kurs", *numbers, *(one.encode().hex() for one in (ADDRESS, *numbers)))
        everything = "\n".join(row["whole"] for rows in kept for row in rows).lower() + made.text.lower()
        assert "kari nordmann" in everything, "the search sees what is kept"
        assert not any(trace.lower() in everything for trace in traces)


def test_a_key_that_cannot_seal_is_refused_at_start() -> None:
    with pytest.raises(ValueError, match="JWK set"):
        EnrolmentSettings(
            database_password=SecretStr("x"),
            kafka_bootstrap="127.0.0.1:1",
            issuer=ISSUER,
            issuer_keys_url=f"{ISSUER}/jwks",
            contact_public_key="{}",
        )
