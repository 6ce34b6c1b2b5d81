"""Each notice from what somebody does to the mail in the catcher, through the whole product; and a partner's webhook.

Enrolled, queued and the two answers to an offer are in `test_chain.py` and `test_offer.py`.
"""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, time, timedelta
from typing import Any
from uuid import UUID

import asyncpg
import httpx2
import pytest
from icalendar import Calendar

from deploy.demo.data import bearer
from deploy.local.stack import Stack
from kit.calendars import OSLO
from tests.calling import listening_hooks
from tests.delivery import until
from tests.journeys.web import HOOKS, Web

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(180)]

SOON = timedelta(seconds=20)  # enough to ask for a seat before the hour has come
LOOK_S = 60.0  # reminders are looked for each half minute


class Course:
    """A course of torgar's by HTTP, with its runs."""

    def __init__(self, web: Web, name: str) -> None:
        self.web = web
        self.title = f"Kurs i {name}"
        self.path = f"/api/catalogue/v1/partners/torgar/courses/N-{name}-{web.word}"

    async def asks(self, method: str, path: str, body: Any) -> Any:
        """What the partner does; the answer."""
        key = bearer(await self.web.token("torgar", "torgar"))
        answer = await self.web.http.request(method, path, json=body, headers=key)
        assert answer.status_code in (200, 201), answer.text
        return answer.json()

    async def run(self, starts_in: timedelta = timedelta(days=30), key: str = "1", **more: Any) -> str:
        """A run that begins then, or its new state, as soon as enrolment knows it; its id."""
        starts_at = datetime.now(UTC) + starts_in
        await self.asks("PUT", self.path, {"title": {"nb": self.title}})
        run = {
            "starts_at": starts_at.isoformat(),
            "ends_at": (starts_at + timedelta(hours=2)).isoformat(),
            "places": [{"arena": "bronnoysund", "capacity": 1}],
        }
        offering = str((await self.asks("PUT", f"{self.path}/offerings/{key}", run | more))["offering_id"])

        async def open_there() -> bool:
            return (await self.web.http.get(f"/api/enrolment/v1/offerings/{offering}")).status_code == 200

        await until(open_there)
        return offering


async def enrol(web: Web, offering: str, name: str, *places: str) -> str:
    """The enrolment of somebody who asks for one of these places, best first."""
    body = {
        "places": places or ["bronnoysund"],
        "name": name,
        "contact": {"email": f"{name}@example.org", "language": "nb"},
    }
    address = f"/api/enrolment/v1/offerings/{offering}/enrolments"
    answer = await web.http.post(address, json=body, headers=bearer(await web.token(name)))
    assert answer.status_code == 201, answer.text
    return str(answer.json()["enrolment_id"])


async def act(web: Web, enrolment: str, what: str, name: str, partner: str = "", **body: Any) -> None:
    address = f"/api/enrolment/v1/enrolments/{enrolment}/{what}"
    answer = await web.http.post(address, json=body or None, headers=bearer(await web.token(name, partner)))
    assert answer.status_code == 200, answer.text


async def subjects(web: Web, name: str, count: int, within_s: float = 20) -> list[str]:
    return [mail["Subject"] for mail in await web.mails(name, count, within_s)]


def text(mail: Any) -> str:
    return str(mail.get_body(("plain",)).get_content())


def appointment(mail: Any) -> tuple[str, int, str]:
    """(what the mail does to a calendar, which version of the appointment it has, the appointment's id)."""
    [part] = [part for part in mail.walk() if part.get_content_type() == "text/calendar"]
    calendar = Calendar.from_ical(part.get_content())
    [event] = calendar.walk("VEVENT")
    return str(calendar["METHOD"]), int(str(event["SEQUENCE"])), str(event["UID"])


@pytest.fixture
async def web(stack: Stack) -> AsyncIterator[Web]:
    async with httpx2.AsyncClient(base_url=stack.places.gateway, timeout=20) as http:
        yield Web(stack.places, http)


async def test_who_has_to_be_approved_hears_that_they_wait_and_what_came_of_it(web: Web) -> None:
    course = Course(web, "pending")
    offering = await course.run(requires_approval=True)
    kari, ola = f"kari-{web.word}", f"ola-{web.word}"
    for name in (kari, ola):
        enrolment = await enrol(web, offering, name)
        assert await subjects(web, name, 1) == [f"Du har søkt om plass på {course.title}"]
        if name == kari:
            await act(web, enrolment, "deny", "torgar", "torgar", reason="Kurset er for ansatte i kommunen.")
        else:
            await act(web, enrolment, "approve", "torgar", "torgar")
    denied, enrolled = (await web.mails(kari, 2))[1], (await web.mails(ola, 2))[1]
    assert denied["Subject"] == f"Du fikk ikke plass på {course.title}"
    assert "Kurset er for ansatte i kommunen." in text(denied)
    assert appointment(enrolled)[:2] == ("REQUEST", 0)


async def test_who_wants_sms_finds_them_in_the_catcher_beside_the_mail(web: Web) -> None:
    course = Course(web, "sms")
    offering, name = await course.run(), f"kari-{web.word}"
    key = bearer(await web.token(name))
    chosen = {"categories": {"seat": {"sms": "at_once"}}}
    answer = await web.http.put("/api/notifier/v1/me/preferences", json=chosen, headers=key)
    assert answer.status_code == 200, answer.text
    contact = {"email": f"{name}@example.org", "language": "nb", "phone": "912 34 567"}
    body = {"places": ["bronnoysund"], "name": name, "contact": contact}
    answer = await web.http.post(f"/api/enrolment/v1/offerings/{offering}/enrolments", json=body, headers=key)
    assert answer.status_code == 201, answer.text
    assert await subjects(web, name, 1) == [f"Du har fått plass på {course.title}"]

    async def texted() -> list[str]:
        listed = (await web.http.get(f"http://{web.places.address('mail')}/api/v1/messages")).json()["messages"]
        return [
            one["Subject"]
            for one in listed
            if one["To"][0]["Address"] == "+4791234567" and course.title in one["Subject"]
        ]

    [words] = await until(texted)
    assert words.startswith("SMS: ")
    assert f"{web.places.gateway}/min-side" in words


async def test_who_leaves_is_told_so_and_their_calendar_is_too(web: Web) -> None:
    course = Course(web, "withdrawn")
    name = f"kari-{web.word}"
    await act(web, await enrol(web, await course.run(), name), "withdraw", name)
    came, went = await web.mails(name, 2)
    assert went["Subject"] == f"Du er meldt av {course.title}"
    uid = appointment(came)[2]
    assert [appointment(mail) for mail in (came, went)] == [("REQUEST", 0, uid), ("CANCEL", 1, uid)]


async def test_who_moves_to_a_place_wanted_more_is_told_from_where_to_where(web: Web) -> None:
    course = Course(web, "moved")
    places = [{"arena": arena, "capacity": 1} for arena in ("bronnoysund", "online")]
    offering = await course.run(places=places)
    first, name = f"first-{web.word}", f"kari-{web.word}"
    enrolment = await enrol(web, offering, first)
    await enrol(web, offering, name, "bronnoysund", "online")
    await act(web, enrolment, "withdraw", first)
    came, moved = await web.mails(name, 2)
    assert moved["Subject"] == f"Plassen din på {course.title} er flyttet"
    assert "Sted: Brønnøysund" in text(moved)
    assert "Tidligere sted: På nett" in text(moved)
    assert appointment(moved) == ("REQUEST", 1, appointment(came)[2])


async def test_a_change_is_told_before_and_after_to_who_sits_and_who_waits(web: Web) -> None:
    course = Course(web, "changed")
    offering = await course.run()
    seated, waits = f"kari-{web.word}", f"ola-{web.word}"
    for name in (seated, waits):
        await enrol(web, offering, name)
        await web.mails(name, 1)
    await course.run(timedelta(days=31))
    for name in (seated, waits):
        mail = (await web.mails(name, 2))[1]
        assert mail["Subject"] == f"Endring i {course.title}"
        lines = text(mail).splitlines()
        before, after = (lines[lines.index(word) + 1] for word in ("Før:", "Nå:"))
        assert before.startswith("- ")
        assert before != after
    assert appointment((await web.mails(seated, 2))[1])[:2] == ("REQUEST", 1)


async def test_a_cancelled_run_is_told_with_another_to_take_instead(web: Web) -> None:
    course = Course(web, "cancelled")
    offering, name = await course.run(), f"kari-{web.word}"
    await course.run(timedelta(days=60), key="2")
    await enrol(web, offering, name)
    await web.mails(name, 1)
    await course.asks("POST", f"{course.path}/offerings/1/cancel", {"reason": "Læreren er syk.", "confirmed": True})
    mail = (await web.mails(name, 2))[1]
    assert mail["Subject"] == f"{course.title} er avlyst"
    assert "Arrangøren skriver: Læreren er syk." in text(mail)
    assert f"- {course.title}, " in text(mail)
    assert appointment(mail)[:2] == ("CANCEL", 1)


async def test_what_comes_of_itself_comes_at_its_hour(web: Web) -> None:
    """Each run is so near to its hour that a few seconds pass until then."""

    async def reminded(days: int) -> None:
        course, name = Course(web, f"reminder{days}"), f"remind{days}-{web.word}"
        await enrol(web, await course.run(timedelta(days=days) + SOON), name)
        assert (await subjects(web, name, 2, LOOK_S))[1] == f"Påminnelse om {course.title}"

    async def lapsed() -> None:
        course = Course(web, "lapsed")
        offering = await course.run(timedelta(hours=12) + SOON)  # the last hour of any offer
        first, name = f"gives-up-{web.word}", f"silent-{web.word}"
        enrolment = await enrol(web, offering, first)
        await enrol(web, offering, name)
        await act(web, enrolment, "withdraw", first)
        assert await subjects(web, name, 3, LOOK_S) == [
            f"Du står i kø for {course.title}",
            f"Du har fått tilbud om plass på {course.title}",
            f"Fristen for å svare er ute: {course.title}",
        ]

    async def confirmed() -> None:
        course, name = Course(web, "confirmed"), f"sure-{web.word}"
        decide_at = datetime.now(UTC) + SOON
        await enrol(web, await course.run(minimum=1, decide_at=decide_at.isoformat()), name)
        assert (await subjects(web, name, 2, LOOK_S))[1] == f"{course.title} blir holdt"

    await asyncio.gather(reminded(7), reminded(1), lapsed(), confirmed())


async def by_the_clock_of(web: Web, service: str, offset: timedelta) -> None:
    """From now on that service's database tells a time that is so much later."""
    admin = await asyncpg.connect(web.places.database("admin"))
    try:
        seconds = offset.total_seconds()
        await admin.execute(f"ALTER DATABASE {service} SET kursnett.clock_offset = '{seconds} seconds'")
        await admin.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = $1", service)
    finally:
        await admin.close()


async def test_who_has_come_further_up_in_line_is_told_in_the_morning(web: Web) -> None:
    course = Course(web, "line")
    offering = await course.run()
    seated, first, name = (f"{who}-{web.word}" for who in ("seated", "first", "kari"))
    await enrol(web, offering, seated)
    leaving = await enrol(web, offering, first)
    await enrol(web, offering, name)
    await act(web, leaving, "withdraw", first)
    assert await subjects(web, name, 1) == [f"Du står i kø for {course.title}"]
    now = datetime.now(OSLO)
    morning = datetime.combine(now.date() + timedelta(days=now.hour >= 7), time(7), OSLO)
    try:
        await by_the_clock_of(web, "enrolment", morning - now + timedelta(seconds=1))
        mail = (await web.mails(name, 2, LOOK_S))[1]
    finally:
        await by_the_clock_of(web, "enrolment", timedelta(0))
    assert mail["Subject"] == f"Du er nå nummer 1 i køen for {course.title}"
    assert "fra nummer 2 til nummer 1" in text(mail)


async def test_a_partners_office_is_told_in_the_morning_what_has_happened_and_what_waits(web: Web) -> None:
    course, name = Course(web, "office"), f"kari-{web.word}"
    offering = await course.run(requires_approval=True)
    await enrol(web, offering, name)
    conn = await asyncpg.connect(web.places.database("notifier"))
    try:
        heard = "SELECT FROM partner_news JOIN enrolments USING (offering_id) WHERE offering_id = $1"
        await until(lambda: conn.fetch(heard, UUID(offering)))
    finally:
        await conn.close()
    now = datetime.now(OSLO)
    morning = datetime.combine(now.date() + timedelta(days=now.hour >= 7), time(7), OSLO)
    try:
        await by_the_clock_of(web, "notifier", morning - now + timedelta(seconds=61))
        [mail] = await web.mails("kurs", 1, LOOK_S, "torgar.example")
    finally:
        await by_the_clock_of(web, "notifier", timedelta(0))
    assert (mail["Subject"], mail["List-Unsubscribe-Post"]) == ("Nytt på kursene deres", "List-Unsubscribe=One-Click")
    lines = text(mail).replace("\r", "").splitlines()
    assert lines[0] == "Hei Torgar Næringshage,"
    mine = lines.index(f"{web.places.gateway}/deltakere/{offering}")
    assert lines[mine - 1] == "Venter på godkjenning: 1"
    assert lines[mine - 3] == course.title
    assert f"{web.places.gateway}/partner" in lines
    assert name not in mail.as_string()


async def test_a_partner_hears_of_its_course_by_signed_posts(web: Web) -> None:
    hooks_of = "/api/notifier/v1/partners/torgar/webhooks"
    course, name = Course(web, "webhook"), f"kari-{web.word}"
    async with listening_hooks(web.places.base_port + HOOKS) as hooks:
        made = await course.asks("POST", hooks_of, {"url": hooks.url(), "events": ["*"]})
        try:
            offering = await course.run()
            enrolment = await enrol(web, offering, name)

            async def mine() -> list[str] | None:
                kinds = [one.kind for one in hooks.came if offering in one.body.decode()]
                return kinds if {"OfferingScheduled", "LearnerEnrolled", "OfferingFilled"} <= set(kinds) else None

            kinds = await until(mine)
            assert len(kinds) == len(set(kinds)), "each once"
            [event] = [one for one in hooks.came if one.kind == "LearnerEnrolled" and enrolment in one.body.decode()]
            assert event.verified(made["secret"])["data"]["place"] == "bronnoysund"
            assert name.encode() not in b"".join(one.body for one in hooks.came)
        finally:
            key = bearer(await web.token("torgar", "torgar"))
            assert (await web.http.delete(f"{hooks_of}/{made['id']}", headers=key)).status_code in (200, 204)
