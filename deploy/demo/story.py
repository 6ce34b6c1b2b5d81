"""The story of one seat: a partner's course on Kafka, two learners, one seat, and the mails they get."""

import asyncio
import json
import time
import uuid
from collections.abc import Awaitable, Callable
from typing import Any

import httpx2
from aiokafka import AIOKafkaProducer

from contracts.topics import partner_courses
from deploy.demo.data import bearer, browser, run_of, told, until_open
from deploy.local.issuer import Login, tokens
from deploy.local.places import Places
from deploy.local.service import command
from deploy.trouble import Trouble

PARTNER = "torgar"
WITHIN_S = 20.0


async def play(places: Places, say: Callable[[str], None]) -> None:
    """Play it against a running stack and tell each step. Raises Trouble at the first that fails."""
    await _can_publish(places)
    word = uuid.uuid4().hex[:6]
    code = f"DEMO-{word}"
    first, second = f"siri-{word}", f"per-{word}"
    async with browser(places.gateway) as web:
        one, two = await tokens(places, [Login(first, "Siri Demo"), Login(second, "Per Demo")])
        began = time.monotonic()
        await _publish(places, code)
        say(f"{PARTNER} wrote course {code} and a run of it, with one seat, to {partner_courses(PARTNER).name}")
        offering = await _until(lambda: _offering(web, code), "the course is not in the catalogue")
        say(f"the catalogue has it after {_ms(began)}: {places.gateway}/api/catalogue/v1/offerings/{offering}")
        await until_open(web, offering)
        say(f"enrolment has it after {_ms(began)}")

        enrolment = await _enrol(web, offering, one, first, "Siri Demo", "nb")
        say(f"Siri asked and is {enrolment['state']} at {enrolment['place']}")
        say(f"Siri's mail came after {await _mail(places, first)}")
        waiting = await _enrol(web, offering, two, second, "Per Demo", "nn")
        say(f"Per asked and is {waiting['state']}, number {waiting['place_in_line']} in line")
        say(f"Per's mail came after {await _mail(places, second)}")

        answer = await web.post(
            f"/api/enrolment/v1/enrolments/{enrolment['enrolment_id']}/withdraw", headers=bearer(one)
        )
        if answer.status_code != 200:
            raise Trouble(f"Siri could not withdraw: {told(answer)}", "See: kursnett logs enrolment")
        after = (await web.get(f"/api/enrolment/v1/enrolments/{waiting['enrolment_id']}", headers=bearer(two))).json()
        say(f"Siri withdrew, and Per is {after['state']} the seat at {after['place']} until {after['expires_at']}")
        say(f"Per's second mail, with the links to answer by, came after {await _mail(places, second, count=2)}")
        answer = await web.post(f"/api/enrolment/v1/enrolments/{waiting['enrolment_id']}/accept", headers=bearer(two))
        if answer.status_code != 200:
            raise Trouble(f"Per could not accept: {told(answer)}", "See: kursnett logs enrolment")
        say(f"Per accepted and is {answer.json()['state']}")
        say(f"Per's third mail came after {await _mail(places, second, count=3)}")
    say(f"all mails: http://localhost:{places.port('mail')}")


async def _can_publish(places: Places) -> None:
    """Raises Trouble without the partner, whose topic a client of Kafka would look for in silence, or while what it
    sends is kept."""
    rows = json.loads(await command(places, "catalogue", "partners", "list", "--json"))
    state = next((row["state"] for row in rows if row["slug"] == PARTNER), None)
    if state is None:
        raise Trouble(f"{PARTNER}, whose course it would be, is no partner here.", "Let it in: kursnett partners sync")
    if state != "active":
        mend = f"Let it go on: kursnett partners release {PARTNER}"
        raise Trouble(f"{PARTNER}, whose course it would be, is {state}.", mend)


async def _publish(places: Places, code: str) -> None:
    """Two CloudEvents with a plain Kafka client, as a partner's own program sends them; only the log-in is left out."""
    row = {"weeks": "6", "days": "2", "places": "bronnoysund:1"}
    events: list[tuple[str, dict[str, Any]]] = [
        ("CoursePublished", {"code": code, "title": {"nb": "Kurs fra demoen", "nn": "Kurs frå demoen"}}),
        ("OfferingPublished", {"course_code": code, "key": "1", **run_of(row)}),
    ]
    producer = AIOKafkaProducer(bootstrap_servers=places.address("kafka"))
    await producer.start()
    try:
        for name, data in events:
            event = {
                "specversion": "1.0",
                "id": str(uuid.uuid4()),
                "source": f"/partners/{PARTNER}",
                "type": f"no.kursnett.partner.{name}.v1",
                "subject": code,
                "data": data,
            }
            await producer.send_and_wait(partner_courses(PARTNER).name, json.dumps(event).encode(), key=code.encode())
    finally:
        await producer.stop()


async def _offering(web: httpx2.AsyncClient, code: str) -> str | None:
    found = (await web.get("/api/catalogue/v1/courses", params={"q": code})).json()["items"]
    if not found:
        return None
    course = (await web.get(f"/api/catalogue/v1/courses/{found[0]['course_id']}")).json()
    return str(course["offerings"][0]["offering_id"]) if course["offerings"] else None


async def _enrol(
    web: httpx2.AsyncClient, offering: str, token: str, username: str, name: str, language: str
) -> dict[str, Any]:
    body = {
        "places": ["bronnoysund"],
        "name": name,
        "contact": {"email": f"{username}@example.org", "language": language},
    }
    answer = await web.post(f"/api/enrolment/v1/offerings/{offering}/enrolments", json=body, headers=bearer(token))
    if answer.status_code != 201:
        raise Trouble(f"{name} could not be enrolled: {told(answer)}", "See: kursnett logs enrolment")
    found: dict[str, Any] = answer.json()
    return found


async def _mail(places: Places, username: str, count: int = 1) -> str:
    began = time.monotonic()

    async def come() -> bool:
        async with browser(f"http://127.0.0.1:{places.port('mail')}") as web:
            found = (await web.get("/api/v1/messages", params={"limit": 200})).json()["messages"]
        to = [one["Address"] for message in found for one in message["To"]]
        return to.count(f"{username}@example.org") >= count

    await _until(come, f"no mail to {username}@example.org")
    return _ms(began)


async def _until(look: Callable[[], Awaitable[Any]], otherwise: str) -> Any:
    deadline = time.monotonic() + WITHIN_S
    while True:
        found = await look()
        if found:
            return found
        if time.monotonic() > deadline:
            raise Trouble(f"After {WITHIN_S:.0f} s {otherwise}.", "See: kursnett status, kursnett logs")
        await asyncio.sleep(0.05)


def _ms(began: float) -> str:
    return f"{(time.monotonic() - began) * 1000:.0f} ms"
