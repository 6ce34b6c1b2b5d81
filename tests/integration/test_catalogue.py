"""The catalogue as a partner meets it: over HTTP and over Kafka, on a real PostgreSQL and a real broker."""

import asyncio
import json
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import pytest
from aiokafka import AIOKafkaProducer
from httpx2 import AsyncClient

from contracts.envelope import decode
from kit import http
from kit.database import Connection
from kit.running import Running
from services.catalogue import events
from services.catalogue import operating as catalogue
from services.catalogue.app import ROUTERS
from services.catalogue.domain import Rule
from services.catalogue.settings import CatalogueSettings
from services.catalogue.store import courses
from tests.delivery import Servers, listening, running, until
from tests.integration.corpus import COURSE, DATES
from tests.web import ISSUER, Issuer, held_to_its_word

pytestmark = pytest.mark.anyio

BASE = "/api/catalogue/v1"


@dataclass
class World:
    here: Running
    settings: CatalogueSettings
    asking: AsyncClient
    issuer: Issuer
    partner: str
    key: str

    @property
    def courses(self) -> str:
        return f"{BASE}/partners/{self.partner}/courses"

    async def put(self, path: str, body: Any, **headers: str) -> Any:
        known = {"authorization": f"Bearer {self.key}"} | {name.replace("_", "-"): it for name, it in headers.items()}
        return await self.asking.put(f"{self.courses}/{path}", json=body, headers=known)

    async def cancel(self, path: str) -> Any:
        address = f"{self.courses}/{path}/cancel"
        return await self.asking.post(address, headers={"authorization": f"Bearer {self.key}"})

    async def intake(self) -> list[dict[str, Any]]:
        address = f"{BASE}/partners/{self.partner}/intake"
        answer = await self.asking.get(address, headers={"authorization": f"Bearer {self.key}"})
        items: list[dict[str, Any]] = answer.json()["items"]
        return items

    async def said(self) -> list[tuple[str, Any]]:
        """What the catalogue has told the others, in order: (event, version)."""
        async with self.here.database.reading() as conn:
            rows = await conn.fetch("SELECT payload FROM outbox WHERE topic <> 'catalogue.parked' ORDER BY id")
        heard = [decode(row["payload"], []) for row in rows]
        return [(one.type.split(".")[-2], one.data["version"]) for one in heard]

    async def send(self, *said: tuple[str, dict[str, Any]], source: str = "", timestamp_ms: int | None = None) -> None:
        """Write to the partner's topic as a stranger's program would: plain JSON by a plain client."""
        producer = AIOKafkaProducer(bootstrap_servers=self.settings.kafka_bootstrap)
        await producer.start()
        try:
            for kind, data in said:
                code = data.get("code") or data.get("course_code")
                event = {
                    "specversion": "1.0",
                    "id": str(uuid.uuid4()),
                    "source": source or f"/partners/{self.partner}",
                    "type": f"no.kursnett.partner.{kind}.v1",
                    "subject": code,
                    "time": "2049-01-04T12:00:00Z",
                    "datacontenttype": "application/json",
                    "data": data,
                }
                key = str(code).encode()
                topic, value = f"partners.{self.partner}.courses", json.dumps(event).encode()
                await producer.send_and_wait(topic, value, key=key, timestamp_ms=timestamp_ms)
        finally:
            await producer.stop()


@asynccontextmanager
async def world(servers: Servers, **changed: Any) -> AsyncIterator[World]:
    known = (await servers.database("catalogue")).model_dump() | {"issuer": ISSUER, "trust_role_claims": True} | changed
    settings = CatalogueSettings(**known)
    partner = f"p-{uuid.uuid4().hex[:12]}"  # a topic of its own on the broker that all tests share
    made = await catalogue.add(settings, partner, "Sveiseskolen", None, ["online", "mosjoen"])
    async with running(settings, "catalogue") as here:
        app = http.build(here, ROUTERS)
        issuer = Issuer()
        issuer.serve(app.state.keys)
        async with held_to_its_word(app) as asking:
            yield World(here, settings, asking, issuer, partner, made["key"])


async def test_a_partner_joins_once_and_its_key_is_kept_as_a_digest_only(servers: Servers) -> None:
    async with world(servers) as here:
        assert here.key.startswith(f"kn_{here.partner}_")
        assert len(here.key.removeprefix(f"kn_{here.partner}_")) == 43
        async with here.here.database.reading() as conn:
            kept = await conn.fetch("SELECT * FROM partner_keys")
        assert len(kept) == 1
        assert here.key not in str([dict(row) for row in kept])
        with pytest.raises(Rule, match="is a partner already"):
            await catalogue.add(here.settings, here.partner, "Sveiseskolen", None, ["online"])
        assert [one["slug"] for one in await catalogue.listed(here.settings)] == [here.partner]
        assert await here.said() == [("PartnerJoined", 1)]


async def test_a_course_and_its_offering_are_published_and_read(servers: Servers) -> None:
    async with world(servers) as here:
        course = await here.put("SV-1", COURSE)
        assert (course.status_code, course.headers["etag"]) == (201, '"1"')
        offering = await here.put("SV-1/offerings/v27", DATES)
        assert (offering.status_code, offering.headers["etag"]) == (201, '"1"')

        read = await here.asking.get(course.headers["location"])
        assert read.headers["etag"] == '"1"'
        assert (read.json()["code"], read.json()["studiepoeng"]) == ("SV-1", "7.5")
        assert [one["offering_id"] for one in read.json()["offerings"]] == [offering.json()["offering_id"]]
        one = (await here.asking.get(offering.headers["location"])).json()
        assert (one["key"], one["state"], one["course_id"]) == ("v27", "scheduled", course.json()["course_id"])
        assert one["starts_at"] == "2049-03-01T08:00:00Z"
        assert [(one["outcome"], one["way"]) for one in await here.intake()] == [("taken", "http")] * 2


async def test_saying_the_same_again_makes_no_version_and_no_event(servers: Servers) -> None:
    async with world(servers) as here:
        for status in (201, 200, 200):
            assert (await here.put("SV-1", COURSE)).status_code == status
            assert (await here.put("SV-1/offerings/v27", DATES)).status_code == status
        changed = await here.put("SV-1", COURSE | {"price_ore": 5000})
        assert (changed.status_code, changed.headers["etag"]) == (200, '"2"')
        moved = await here.put("SV-1/offerings/v27", DATES | {"places": [{"arena": "mosjoen", "capacity": 3}]})
        assert (moved.status_code, moved.headers["etag"]) == (200, '"2"')
        for _ in range(2):
            assert (await here.cancel("SV-1/offerings/v27")).json()["version"] == 3
        assert (await here.put("SV-1/offerings/v27", DATES)).status_code == 409
        assert await here.said() == [
            ("PartnerJoined", 1),
            ("CourseCreated", 1),
            ("OfferingScheduled", 1),
            ("CourseChanged", 2),
            ("OfferingChanged", 2),
            ("OfferingCancelled", 3),
        ]


async def test_a_course_of_before_one_could_say_all_that_one_can_comes_again_as_it_was(servers: Servers) -> None:
    async with world(servers) as here:
        await here.put("SV-1", COURSE)
        async with here.here.database.reading() as conn:
            await conn.execute("UPDATE courses SET content = content - 'funded_by' - 'prerequisites'")
        assert (await here.put("SV-1", COURSE)).headers["etag"] == '"1"'
        # The control: what is said now is a change.
        told = COURSE | {"funded_by": "NAV"}
        assert (await here.put("SV-1", told)).headers["etag"] == '"2"'
        assert (await here.put("SV-1", told | {"prerequisites": {"nb": "Fagbrev."}})).headers["etag"] == '"3"'
        said = [("PartnerJoined", 1), ("CourseCreated", 1), ("CourseChanged", 2), ("CourseChanged", 3)]
        assert await here.said() == said


async def test_many_writers_of_one_course_make_versions_without_gaps(servers: Servers) -> None:
    async with world(servers) as here:
        bodies = [COURSE | {"price_ore": 100 * number} for number in range(8)]
        answers = await asyncio.gather(*(here.put("SV-1", body) for body in bodies))
        assert sorted(one.status_code for one in answers) == [200] * 7 + [201]
        assert sorted(one.json()["version"] for one in answers) == list(range(1, 9))
        assert [version for _, version in (await here.said())[1:]] == list(range(1, 9))


async def test_a_stale_if_match_changes_nothing(servers: Servers) -> None:
    async with world(servers) as here:
        assert (await here.put("SV-1", COURSE, if_match='"1"')).status_code == 412
        await here.put("SV-1", COURSE)
        await here.put("SV-1/offerings/v27", DATES)
        later = COURSE | {"price_ore": 5000}
        assert (await here.put("SV-1", later, if_match='"1"')).status_code == 200
        stale = await here.put("SV-1", later | {"price_ore": 6000}, if_match='"1"')
        assert (stale.status_code, stale.headers["content-type"]) == (412, "application/problem+json")
        moved = DATES | {"ends_at": "2049-03-06T15:00:00+01:00"}
        assert (await here.put("SV-1/offerings/v27", moved, if_match='"7"')).status_code == 412
        assert len(await here.said()) == 4


async def test_what_must_be_new_changes_nothing_that_is_there(servers: Servers) -> None:
    async with world(servers) as here:
        for path, body in (("SV-1", COURSE), ("SV-1/offerings/v27", DATES)):
            twice = [await here.put(path, body, if_none_match="*") for _ in range(2)]
            assert [one.status_code for one in twice] == [201, 412]
            assert twice[1].json()["errors"][0]["field"] == "header if-none-match"
        both = [here.put("SV-2", COURSE | {"price_ore": 100 * n}, if_none_match="*") for n in (1, 2)]
        assert sorted(one.status_code for one in await asyncio.gather(*both)) == [201, 412]
        assert (await here.put("SV-1", COURSE, if_none_match='"1"')).status_code == 422
        assert (await here.put("SV-1", COURSE, if_match='"7", "1"')).status_code == 200
        assert len(await here.said()) == 4


async def two_writers_of_one_version(here: World) -> list[int]:
    await here.put("SV-1", COURSE)
    bodies = [COURSE | {"price_ore": 100 * number} for number in (1, 2)]
    answers = await asyncio.gather(*(here.put("SV-1", body, if_match='"1"') for body in bodies))
    return sorted(one.status_code for one in answers)


async def test_of_two_writers_with_one_etag_one_is_told_that_it_is_stale(servers: Servers) -> None:
    async with world(servers) as here:
        assert await two_writers_of_one_version(here) == [200, 412]


async def test_without_the_row_lock_one_writer_undoes_the_other(
    servers: Servers, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The red control of the test before."""
    both_have_read = asyncio.Barrier(2)

    async def read_without_lock(conn: Connection, partner: str, code: str) -> Any:
        row = await conn.fetchrow("SELECT * FROM courses WHERE partner = $1 AND code = $2", partner, code)
        await both_have_read.wait()
        return row

    async with world(servers) as here:
        monkeypatch.setattr(courses, "lock_course", read_without_lock)
        assert await two_writers_of_one_version(here) == [200, 200]


async def test_a_rule_that_is_broken_is_told_with_its_field(servers: Servers) -> None:
    async with world(servers) as here:
        assert (await here.put("SV-1/offerings/v27", DATES)).status_code == 404
        await here.put("SV-1", COURSE)
        for path, body, field in (
            ("SV-2", COURSE | {"studiepoeg": "7.5"}, "studiepoeg"),
            ("SV-2", COURSE | {"subjects": ["magi"]}, "subjects"),
            ("SV-1/offerings/v27", DATES | {"places": [{"arena": "oslo", "capacity": 1}]}, "places"),
            ("SV-1/offerings/v27", DATES | {"places": [{"arena": "online", "capacity": -1}]}, "places[0].capacity"),
        ):
            answer = await here.put(path, body)
            assert (answer.status_code, answer.headers["content-type"]) == (422, "application/problem+json")
            assert [error["field"] for error in answer.json()["errors"]] == [field]
        assert await here.said() == [("PartnerJoined", 1), ("CourseCreated", 1)]


async def test_a_partner_writes_its_own_courses_only(servers: Servers) -> None:
    async with world(servers) as here:
        other = await catalogue.add(here.settings, f"{here.partner}-b", "En annen", None, ["online"])
        address = f"{here.courses}/SV-1"

        async def status(token: str | None) -> int:
            headers = {"authorization": f"Bearer {token}"} if token else {}
            answer = await here.asking.put(address, json=COURSE, headers=headers)
            return int(answer.status_code)

        assert await status(None) == 401
        assert await status(here.key[:-1]) == 401
        assert await status(other["key"]) == 403
        assert await status(here.issuer.token(kursnett_partner=other["slug"])) == 403
        assert await status(here.issuer.token()) == 403
        assert await status(here.issuer.token(kursnett_partner=here.partner)) == 201
        assert await status(here.issuer.token(kursnett_role="operator")) == 200
        assert await status(here.key) == 200


async def test_a_repeated_write_gets_its_first_answer(servers: Servers) -> None:
    async with world(servers) as here:
        first = await here.put("SV-1", COURSE, idempotency_key="one")
        again = await here.put("SV-1", COURSE, idempotency_key="one")
        assert (first.status_code, again.status_code) == (201, 201)
        assert (again.json(), again.headers["etag"]) == (first.json(), '"1"')
        assert (await here.put("SV-1", COURSE | {"price_ore": 1}, idempotency_key="one")).status_code == 422
        assert len(await here.intake()) == 1


async def test_courses_are_found_by_title_or_code_page_by_page(servers: Servers) -> None:
    async with world(servers) as here:
        for number in range(5):
            await here.put(f"SV-{number}", COURSE)
        await here.put("REG-1", {"title": {"nb": "Regnskap"}})
        address, found = f"{BASE}/courses?q=SVEISING&partner={here.partner}&limit=2", []
        while address:
            answer = await here.asking.get(address)
            found += [one["code"] for one in answer.json()["items"]]
            address = answer.headers.get("link", "").partition(">")[0].removeprefix("<")
        assert found == [f"SV-{number}" for number in range(5)]
        by_code = (await here.asking.get(f"{BASE}/courses?q=reg-1")).json()["items"]
        assert [one["code"] for one in by_code] == ["REG-1"]
        assert (await here.asking.get(f"{BASE}/courses?partner=nobody")).json() == {"items": []}


async def test_a_partner_says_the_same_over_kafka(servers: Servers) -> None:
    async with world(servers) as here, listening(here.here, events.partners()):
        offering = {"course_code": "SV-1", "key": "v27", **DATES}
        await here.send(
            ("CoursePublished", {"code": "SV-1", **COURSE}),
            ("OfferingPublished", offering),
            ("OfferingPublished", offering),
            ("CoursePublished", {"code": "SV-1", **COURSE, "price_ore": 5000}),
            ("CourseRetracted", {"code": "SV-1"}),
            ("OfferingPublished", offering | {"key": "h27"}),
        )

        async def all_six() -> bool:
            return len(await here.intake()) == 6

        await until(all_six, within_s=40)
        assert [(one["outcome"], one["reason"]) for one in await here.intake()].count(("taken", None)) == 5
        assert [one["reason"] for one in await here.intake() if one["outcome"] == "refused"] == ["course_withdrawn"]
        async with here.here.database.reading() as conn:
            rows = await conn.fetch("SELECT payload FROM outbox WHERE topic = 'catalogue.courses' ORDER BY id")
        kinds = [decode(row["payload"], []).type.split(".")[-2] for row in rows]
        assert kinds == ["CourseCreated", "OfferingScheduled", "CourseChanged", "OfferingCancelled", "CourseWithdrawn"]
        assert (await here.put("SV-1/offerings/h27", DATES)).status_code == 409
        assert (await here.put("SV-1", COURSE)).status_code == 200
        assert (await here.put("SV-1/offerings/h27", DATES)).status_code == 201


async def test_what_breaks_a_rule_over_kafka_costs_only_itself_and_is_told(servers: Servers) -> None:
    async with world(servers) as here, listening(here.here, events.partners()):
        await here.send(
            ("CoursePublished", {"code": "SV-1", **COURSE, "subjects": ["magi"]}),
            ("CoursePublished", {"code": "SV-1", "title": {}}),
            ("OfferingPublished", {"course_code": "SV-9", "key": "v27", **DATES}),
            ("CourseRenamed", {"code": "SV-1"}),
        )
        await here.send(("CoursePublished", {"code": "SV-1", **COURSE}), source="/partners/somebody-else")
        await here.send(("CoursePublished", {"code": "SV-1", **COURSE}))

        async def all_six() -> bool:
            return len(await here.intake()) == 6

        await until(all_six, within_s=40)
        told = [(one["outcome"], one["reason"]) for one in await here.intake()]
        assert told.count(("taken", None)) == 1
        refused = {reason for outcome, reason in told if outcome == "refused"}
        assert {"unknown_subject", "unknown_course", "unknown_type", "foreign_source"} < refused
        (detail,) = (one["detail"] for one in await here.intake() if one["reason"] == "unknown_type")
        assert "no.kursnett.partner.CoursePublished.v1, " in detail, "whole, to be copied from there"
        assert all(one["detail"] for one in await here.intake() if one["outcome"] == "refused")
        listed = (await here.asking.get(f"{BASE}/courses")).json()["items"]
        assert [one["code"] for one in listed] == ["SV-1"]
