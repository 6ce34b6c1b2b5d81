"""A person goes the whole chain, reads what is kept of them, is forgotten, and is nowhere any more."""

import asyncio
import json
from collections.abc import AsyncIterator

import asyncpg
import httpx2
import pytest
from aiokafka import AIOKafkaConsumer

from contracts.topics import SERVICES, TOPICS
from deploy.demo.data import bearer
from deploy.local.stack import Stack
from tests import personal
from tests.delivery import until
from tests.journeys.web import Web
from tests.visiting import Person

pytestmark = pytest.mark.anyio


@pytest.fixture
async def web(stack: Stack) -> AsyncIterator[Web]:
    async with httpx2.AsyncClient(base_url=stack.places.gateway, timeout=20) as http:
        yield Web(stack.places, http)


async def everything(stack: Stack) -> dict[str, str]:
    """Service -> all that stands in its database."""
    found = {}
    for service in SERVICES:
        conn = await asyncpg.connect(stack.places.database(service))
        try:
            found[service] = await personal.everything(conn)
        finally:
            await conn.close()
    return found


async def on_topics(stack: Stack) -> bytes:
    """All that stands on any topic of the services, with its keys and headers."""
    consumer = AIOKafkaConsumer(
        *(topic.name for topic in TOPICS),
        bootstrap_servers=stack.places.address("kafka"),
        auto_offset_reset="earliest",
    )
    await consumer.start()
    values: list[bytes] = []
    try:
        ends = await consumer.end_offsets(list(consumer.assignment()))
        while any([await consumer.position(place) < end for place, end in ends.items()]):
            for part in (await consumer.getmany(timeout_ms=200)).values():
                for one in part:
                    values += [one.key or b"", one.value or b"", *(value or b"" for _, value in one.headers)]
    finally:
        await consumer.stop()
    return b"\n".join(values)


async def test_whoever_is_forgotten_is_in_no_database_topic_or_log(web: Web, stack: Stack) -> None:
    canary, phone = f"canary{web.word}", "+4799887766"
    offering = await web.offering(f"P-{web.word}", 1)
    body = {
        "places": ["bronnoysund"],
        "name": f"Kari {canary}",
        "contact": {"email": f"{canary}@example.org", "language": "nb", "phone": phone},
    }
    address = f"/api/enrolment/v1/offerings/{offering}/enrolments"
    signed = bearer(await web.token(canary)) | {"Idempotency-Key": canary}
    assert (await web.http.post(address, json=body, headers=signed)).status_code == 201
    waiting = (await web.enrol(offering, f"next-{web.word}")).json()
    await web.mails(canary, 1)
    person = Person(web.http, stack.places.gateway)
    await person.log_in(canary)
    await person.go("/varsler/valg")
    await person.send("/varsler/valg/kalender")
    calendar = person.text
    assert ".ics" in calendar
    for file, part in (("/personvern/data.json", "enrolments"), ("/varsler/data.json", "contacts")):
        told = (await person.go(file)).json()
        assert canary in json.dumps(told[part]), file
    before = await everything(stack)
    assert {service for service in SERVICES if canary in before[service]} == {"enrolment", "notifier"}, "the control"
    assert phone in before["notifier"]

    await person.go("/personvern/slett")
    await person.send("/personvern/slett")
    assert person.session is None
    receipt = str(person.page.url) if person.page else ""
    assert "/personvern/slettet/" in receipt

    async def done() -> bool:
        await person.go(receipt)
        return "Opplysningene dine er slettet" in person.text

    await until(done)
    after = await everything(stack)
    for word in (canary, phone, phone.removeprefix("+47")):
        assert {service for service in SERVICES if word in after[service]} == set()
        assert word.encode() not in await on_topics(stack)
        for log in stack.places.logs.glob("*.log"):
            if log.name.startswith(SERVICES):
                assert word not in await asyncio.to_thread(log.read_text), log.name
    offered = await web.http.get(
        f"/api/enrolment/v1/enrolments/{waiting['enrolment_id']}",
        headers=bearer(await web.token(f"next-{web.word}")),
    )
    assert offered.json()["state"] == "offered"
    assert len(await web.mails(f"next-{web.word}", 2)) == 2, "who was next was told"
    roster = await web.http.get(
        f"/api/enrolment/v1/offerings/{offering}/roster", headers=bearer(await web.token("torgar", "torgar"))
    )
    assert canary not in roster.text
    again = await web.http.get("/api/enrolment/v1/me/data", headers=bearer(await web.token(canary)))
    assert again.json()["learner_id"] is None
