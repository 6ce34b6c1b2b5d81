"""The whole chain by its public interface: a partner's course, a learner's seat, one mail; on the real servers."""

import asyncio
import json
import os
import signal
from collections.abc import AsyncIterator
from typing import Any

import httpx2
import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.errors import KafkaConnectionError, TopicAuthorizationFailedError

from contracts.envelope import decode
from deploy.demo import story
from deploy.demo.data import bearer
from deploy.local.service import command
from deploy.local.stack import Stack
from tests import strangers
from tests.delivery import until
from tests.journeys.web import Web
from tests.strangers import client

pytestmark = pytest.mark.anyio


@pytest.fixture
async def web(stack: Stack) -> AsyncIterator[Web]:
    async with httpx2.AsyncClient(base_url=stack.places.gateway, timeout=20) as http:
        yield Web(stack.places, http)


async def send(web: Web, topic: str, key: str, value: bytes | None, headers: Any = None) -> None:
    producer = AIOKafkaProducer(bootstrap_servers=web.places.address("kafka"))
    await producer.start()
    try:
        await producer.send_and_wait(topic, value, key=key.encode(), headers=headers)
    finally:
        await producer.stop()


async def test_the_demonstrated_story_comes_true(stack: Stack) -> None:
    told: list[str] = []
    await story.play(stack.places, told.append)
    assert any("associated" in line for line in told)


async def test_a_course_put_over_http_becomes_a_seat_and_one_mail_within_two_seconds(web: Web) -> None:
    name = f"kari-{web.word}"
    offering = await web.offering(f"H-{web.word}", 1, "Sveising")
    answer = await web.enrol(offering, name)
    assert answer.status_code == 201
    assert answer.json()["state"] == "associated"
    assert answer.headers["location"].endswith(answer.json()["enrolment_id"])
    [mail] = await web.mails(name, 1, within_s=2)
    assert mail["Content-Language"] == "nb"
    assert {part.get_content_type() for part in mail.walk()} >= {"text/plain", "text/html"}
    assert "Sveising" in mail.get_body(("plain",)).get_content()


async def test_each_learner_is_written_to_in_his_own_language(web: Web) -> None:
    offering = await web.offering(f"L-{web.word}", 3)
    for language in ("nb", "nn", "en"):
        name = f"{language}-{web.word}"
        assert (await web.enrol(offering, name, language)).status_code == 201
        [mail] = await web.mails(name, 1)
        assert mail["Content-Language"] == language


async def test_withdrawing_offers_the_seat_to_the_first_in_line(web: Web) -> None:
    offering = await web.offering(f"W-{web.word}", 1)
    names = [f"{who}-{web.word}" for who in ("first", "second", "third")]
    made = [(await web.enrol(offering, name)).json() for name in names]
    assert [(one["state"], one["place_in_line"]) for one in made] == [
        ("associated", None),
        ("queued", 1),
        ("queued", 2),
    ]
    address = f"/api/enrolment/v1/enrolments/{made[0]['enrolment_id']}/withdraw"
    left = await web.http.post(address, headers=bearer(await web.token(names[0])))
    assert left.status_code == 200
    token = bearer(await web.token(names[1]))
    address = f"/api/enrolment/v1/enrolments/{made[1]['enrolment_id']}"
    offered = (await web.http.get(address, headers=token)).json()
    assert (offered["state"], offered["place"]) == ("offered", "bronnoysund")
    await web.mails(names[1], 2)  # in line, offered: an offer that is answered before its mail goes is not told of
    taken = await web.http.post(f"{address}/accept", headers=token)
    assert (taken.status_code, taken.json()["state"]) == (200, "associated")
    assert len(await web.mails(names[1], 3)) == 3
    assert len(await web.mails(names[0], 2)) == 2


async def test_a_repeated_request_has_one_effect(web: Web) -> None:
    name = f"twice-{web.word}"
    offering = await web.offering(f"I-{web.word}", 5)
    answers = [await web.enrol(offering, name, **{"Idempotency-Key": web.word}) for _ in range(3)]
    assert [a.status_code for a in answers] == [201, 201, 201]
    assert len({a.json()["enrolment_id"] for a in answers}) == 1
    assert len(await web.mails(name, 1)) == 1


async def test_a_killed_service_comes_back_and_loses_nothing(web: Web, stack: Stack) -> None:
    offering = await web.offering(f"K-{web.word}", 50)
    names = [f"kill{n}-{web.word}" for n in range(12)]
    for place, name in enumerate(names):
        if place == 4:
            for pid in stack.pids("notifier"):
                os.kill(pid, signal.SIGKILL)
        assert (await web.enrol(offering, name)).status_code == 201
    for name in names:
        found = await web.mails(name, 1, within_s=20)
        # One notice, whatever happened. A mail may come twice, under one Message-ID, if the kill fell in between the
        # server's answer and our note of it: the one window that the notifier's README declares.
        assert len({mail["Message-ID"] for mail in found}) == 1


BAD = {
    "not_json": (b"{", None),
    "not_utf8": (b"\xff\xfe{}", None),
    "empty": (None, None),
    "foreign_source": (b'{"specversion":"1.0","id":"1","source":"/partners/mosjoen","type":"x","data":{}}', None),
    "unknown_type": (b'{"specversion":"1.0","id":"2","source":"/partners/torgar","type":"x","data":{}}', None),
    "unknown_version": (
        b'{"specversion":"1.0","id":"3","source":"/partners/torgar",'
        b'"type":"no.kursnett.partner.CoursePublished.v9","data":{}}',
        [("reply_to", b"catalogue.courses"), ("content-type", b"text/xml")],
    ),
}


async def test_bad_messages_of_a_partner_get_a_reason_and_hold_nobody_up(web: Web) -> None:
    topic = "partners.torgar.courses"
    for value, headers in BAD.values():
        await send(web, topic, f"bad-{web.word}", value, headers)
    name = f"after-{web.word}"
    await web.offering(f"B-{web.word}", 1)
    event = {
        "specversion": "1.0",
        "id": web.word,
        "source": "/partners/torgar",
        "type": "no.kursnett.partner.CoursePublished.v1",
        "data": {"code": f"bad-{web.word}", "title": {"nb": name}},
    }
    await send(web, topic, f"bad-{web.word}", json.dumps(event).encode())

    async def found() -> Any:
        return (await web.http.get("/api/catalogue/v1/courses", params={"q": f"bad-{web.word}"})).json()["items"]

    await until(found)
    rows = json.loads(await command(web.places, "catalogue", "parked", "list", "--json"))
    mine = {row["reason"] for row in rows if row["key"] == f"bad-{web.word}"}
    assert mine == set(BAD)
    intake = await web.http.get(
        "/api/catalogue/v1/partners/torgar/intake", headers=bearer(await web.token("torgar", "torgar"))
    )
    assert {one["reason"] for one in intake.json()["items"] if one["outcome"] == "refused"} >= set(BAD)


async def test_a_problem_names_the_field(web: Web) -> None:
    key = await web.token("torgar", "torgar")
    address = f"/api/catalogue/v1/partners/torgar/courses/P-{web.word}"
    wrong = await web.http.put(address, json={"titel": {"nb": "x"}, "price_ore": "10"}, headers=bearer(key))
    assert wrong.status_code == 422
    assert wrong.headers["content-type"].startswith("application/problem+json")
    assert {e["field"] for e in wrong.json()["errors"]} == {"title", "titel", "price_ore"}
    strange = await web.http.put(address, json={"title": {"nb": "x"}, "subjects": ["magi"]}, headers=bearer(key))
    assert strange.status_code == 422
    assert "havbruk" in strange.json()["detail"]


async def test_a_partner_writes_its_own_courses_only(web: Web) -> None:
    body = {"title": {"nb": "x"}}
    address = f"/api/catalogue/v1/partners/mosjoen/courses/X-{web.word}"
    assert (await web.http.put(address, json=body)).status_code == 401
    other = bearer(await web.token("torgar", "torgar"))
    assert (await web.http.put(address, json=body, headers=other)).status_code == 403
    learner = bearer(await web.token("kari"))
    assert (await web.http.put(address, json=body, headers=learner)).status_code == 403


async def test_a_new_partner_joins_a_running_stack_and_logs_in_at_kafka(web: Web) -> None:
    slug = f"ny-{web.word}"
    made = json.loads(
        await command(web.places, "catalogue", "partners", "add", slug, "--name", "Ny", "--arena", "online", "--json")
    )
    body = {"title": {"nb": "Fra en ny partner"}}
    address = f"/api/catalogue/v1/partners/{slug}/courses/A"
    assert (await web.http.put(address, json=body, headers=bearer(made["key"]))).status_code == 201
    elsewhere = f"/api/catalogue/v1/partners/torgar/courses/A-{web.word}"
    assert (await web.http.put(elsewhere, json=body, headers=bearer(made["key"]))).status_code == 403
    event = {
        "specversion": "1.0",
        "id": "1",
        "source": f"/partners/{slug}",
        "type": "no.kursnett.partner.CoursePublished.v1",
        "data": {"code": f"KAFKA-{web.word}", "title": {"nb": "x"}},
    }
    assert made["kafka"]["bootstrap"] == web.places.address("kafka-partners")
    with pytest.raises(TopicAuthorizationFailedError):
        await strangers.write(client(made["kafka"]), "partners.torgar.courses", json.dumps(event).encode())
    await strangers.write(client(made["kafka"]), f"partners.{slug}.courses", json.dumps(event).encode())

    async def found() -> Any:
        return (await web.http.get("/api/catalogue/v1/courses", params={"q": f"KAFKA-{web.word}"})).json()["items"]

    assert (await until(found, 30))[0]["partner"] == slug
    await strangers.read(client(made["kafka"]), "catalogue.courses", f"{slug}.site")
    rotated = json.loads(await command(web.places, "catalogue", "partners", "rotate-key", slug, "--json"))
    with pytest.raises(KafkaConnectionError):
        await strangers.read(client(made["kafka"]), "catalogue.courses")
    await strangers.read(client(rotated["kafka"]), "catalogue.courses")
    for log in web.places.logs.glob("*.log"):
        text = await asyncio.to_thread(log.read_text)
        assert made["kafka"]["password"] not in text, log.name


async def test_no_name_or_address_is_on_a_topic_or_in_a_log(web: Web, stack: Stack) -> None:
    name = f"canary{web.word}"
    offering = await web.offering(f"C-{web.word}", 1)
    assert (await web.enrol(offering, name)).status_code == 201
    await web.mails(name, 1)
    consumer = AIOKafkaConsumer(
        "catalogue.courses",
        "enrolment.enrolments",
        "enrolment.contacts",
        "notifier.notices",
        bootstrap_servers=web.places.address("kafka"),
        auto_offset_reset="earliest",
    )
    await consumer.start()
    values: list[bytes] = []
    try:
        ours = ""

        async def sent() -> bool:
            nonlocal ours
            for part in (await consumer.getmany(timeout_ms=500)).values():
                for record in part:
                    values.append(record.value)
                    envelope = decode(record.value, record.headers)
                    if envelope.data.get("offering_id") == offering and "LearnerEnrolled" in envelope.type:
                        ours = envelope.data["learner_id"]
            return any(b"NoticeSent" in v and ours.encode() in v for v in values) if ours else False

        await until(sent)
    finally:
        await consumer.stop()
    assert not [v for v in values if name.encode() in v]
    for log in stack.places.logs.glob("*.log"):
        if log.name.startswith(("catalogue", "enrolment", "notifier")):
            assert name not in await asyncio.to_thread(log.read_text), log.name
