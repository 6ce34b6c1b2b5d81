"""Courses and people in the states that pages show, brought about over HTTP as partners and learners do it."""

import json
import os
import re
import signal
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from functools import cached_property, partial
from typing import Any

import asyncpg
from aiokafka import AIOKafkaProducer
from anyio.from_thread import BlockingPortal

from contracts.topics import partner_courses
from deploy.demo.data import bearer
from deploy.local.stack import Stack
from tests.delivery import until
from tests.journeys.web import Web

CATALOGUE, ENROLMENT = "/api/catalogue/v1", "/api/enrolment/v1"
PARTNER = "torgar"


def in_days(days: float) -> str:
    return (datetime.now(UTC) + timedelta(days=days)).isoformat()


class Scene:
    """What tests of pages set up without looking at a page. Every name is new in each run."""

    def __init__(self, web: Web, portal: BlockingPortal, stack: Stack) -> None:
        self.web = web
        self._portal = portal
        self._stack = stack
        self._count = 0

    def somebody(self, called: str = "kari") -> str:
        """A log-in name that nobody has yet."""
        self._count += 1
        return f"{called}-{self.web.word}-{self._count}"

    def ask(self, method: str, address: str, who: str, body: Any = None, partner: str = "") -> Any:
        """What the interface for programs answers; fails the test when it refuses."""
        token = self._portal.call(self.web.token, who, partner)
        send = partial(self.web.http.request, method, address, json=body, headers=bearer(token))
        answer = self._portal.call(send)
        assert answer.is_success, f"{method} {address}: {answer.status_code} {answer.text}"
        return answer.json() if answer.content else None

    def course(self, title: str, **more: Any) -> str:
        """A course of Torgar; returns its code."""
        self._count += 1
        code = f"B-{self.web.word}-{self._count}".upper()
        self.publish(code, {"title": {"nb": title}, "subjects": ["industri"], **more})
        return code

    def publish(self, code: str, course: dict[str, Any]) -> str:
        """Returns the course's id."""
        answer = self.ask("PUT", f"{CATALOGUE}/partners/{PARTNER}/courses/{code}", PARTNER, course, PARTNER)
        return str(answer["course_id"])

    def run(self, code: str, places: dict[str, int], **rules: Any) -> str:
        """A run of a course in a month, which enrolment has heard of; returns its id."""
        body = {
            "starts_at": in_days(30),
            "ends_at": in_days(30.25),
            "places": [{"arena": arena, "capacity": seats} for arena, seats in places.items()],
            **rules,
        }
        address = f"{CATALOGUE}/partners/{PARTNER}/courses/{code}/offerings/1"
        offering = str(self.ask("PUT", address, PARTNER, body, PARTNER)["offering_id"])

        async def heard_of() -> bool:
            return (await self.web.http.get(f"{ENROLMENT}/offerings/{offering}")).status_code == 200

        self._portal.call(until, heard_of)
        return offering

    def offering(self, title: str, seats: int, **rules: Any) -> str:
        """A course and a run of it with so many seats in Brønnøysund; returns the run's id."""
        return self.run(self.course(title), {"bronnoysund": seats}, **rules)

    def course_of(self, offering: str) -> str:
        """The page of the course that this is a run of."""
        found = self.ask("GET", f"{CATALOGUE}/offerings/{offering}", PARTNER)
        return f"/kurs/{found['course_id']}"

    def enrol(self, offering: str, who: str, name: str) -> str:
        """Ask for a seat; returns the enrolment."""
        contact = {"email": f"{who}@example.org", "language": "nb"}
        body = {"places": ["bronnoysund"], "name": name, "contact": contact}
        return str(self.ask("POST", f"{ENROLMENT}/offerings/{offering}/enrolments", who, body)["enrolment_id"])

    def own(self, who: str) -> list[dict[str, Any]]:
        """A person's enrolments."""
        found: list[dict[str, Any]] = self.ask("GET", f"{ENROLMENT}/me/enrolments", who)["items"]
        return found

    def withdraw(self, enrolment: str, who: str) -> None:
        self.ask("POST", f"{ENROLMENT}/enrolments/{enrolment}/withdraw", who)

    def full(self, title: str) -> tuple[str, str, str]:
        """(offering, who has its only seat, their enrolment)."""
        offering, first = self.offering(title, 1), self.somebody("per")
        return offering, first, self.enrol(offering, first, "Per Prøve")

    def offered(self, title: str, who: str, name: str) -> tuple[str, str]:
        """(offering, enrolment) of somebody to whom the only seat of a course has just been offered."""
        offering, first, seat = self.full(title)
        waiting = self.enrol(offering, who, name)
        self.withdraw(seat, first)
        return offering, waiting

    def lapse(self, enrolment: str) -> None:
        """Let the time to answer an offer be over, as if it had been made so long ago."""
        self.sql("UPDATE offers SET expires_at = made_at WHERE enrolment_id = $1", uuid.UUID(enrolment))

    def sql(self, statement: str, *values: Any) -> list[Any]:
        """One statement in enrolment's database, for what only time brings about."""

        async def work() -> list[Any]:
            conn = await asyncpg.connect(self.web.places.database("enrolment"))
            try:
                return list(await conn.fetch(statement, *values))
            finally:
                await conn.close()

        return self._portal.call(work)

    @contextmanager
    def overloaded(self) -> Iterator[None]:
        """Whoever looks at enrolments waits for them, until the service gives up."""

        async def begin() -> asyncpg.Connection:
            conn = await asyncpg.connect(self.web.places.database("enrolment"))
            await conn.execute("BEGIN; LOCK TABLE enrolments")
            return conn

        held = self._portal.call(begin)
        try:
            yield
        finally:
            self._portal.call(held.close)

    @contextmanager
    def issuer_away(self) -> Iterator[None]:
        """The issuer is there and does not answer."""
        pids = self._stack.pids("issuer")
        assert pids
        for pid in pids:
            os.kill(pid, signal.SIGSTOP)
        try:
            yield
        finally:
            for pid in pids:
                os.kill(pid, signal.SIGCONT)

    def mail(self, who: str, count: int) -> Any:
        """The newest of a person's mails, once there are so many."""
        return self._portal.call(partial(self.web.mails, who, count, within_s=20))[-1]

    def links(self, who: str, count: int) -> tuple[str, str]:
        """(to accept, to decline), from the mail that offers a seat: the person's `count`th."""
        text = self.mail(who, count).get_body(("plain",)).get_content()
        accept, decline = [line for line in text.splitlines() if line.startswith(f"{self.web.places.gateway}/tilbud/")]
        return accept, decline

    # What several pages show, made once.

    @cached_property
    def siri(self) -> str:
        """The log-in name of Siri Eksempel, who has an enrolment in each state."""
        return self.somebody("siri")

    @cached_property
    def rich(self) -> str:
        """A run with all that a run can have."""
        code = self.course(
            "Lederutvikling for mellomledere i industri og havbruk",
            summary={"nb": "Fire samlinger om å lede folk som kan faget bedre enn deg."},
            description={"nb": "Du lærer å fordele arbeid.\n\nDu øver på vanskelige samtaler."},
            prerequisites={"nb": "Du har fagbrev og to års erfaring, eller du leder andre alt."},
            subjects=["ledelse", "havbruk"],
            studiepoeng="7.5",
            level="5.2",
            price_ore=450_000,
            funded_by="Kompetansepluss",
            delivery_mode="blended",
        )
        sessions = [
            {"starts_at": in_days(30 + n), "ends_at": in_days(30.1 + n), "room": f"Rom {n + 1}"} for n in range(3)
        ]
        return self.run(
            code,
            {"bronnoysund": 12, "mo-i-rana": 8, "online": 30},
            starts_at=sessions[0]["starts_at"],  # asked for again it would be later, and the meeting outside its run
            ends_at=in_days(34),
            sessions=sessions,
            minimum=5,
            decide_at=in_days(20),
        )

    @cached_property
    def busy(self) -> str:
        """A run with people in each state."""
        offering = self.offering("Truckførerkurs T1 og T2", 3)
        for name in ("Anne Prøve", "Bjørn Prøve", "Cecilie Prøve", "David Prøve", "Eva Prøve"):
            self.enrol(offering, self.somebody("deltaker"), name)
        return offering

    @cached_property
    def approving(self) -> tuple[str, str]:
        """(a run whose partner lets each in by hand, Siri's enrolment there, which waits)."""
        offering = self.offering("Kranførerkurs G4", 6, requires_approval=True)
        self.enrol(offering, self.somebody("deltaker"), "Anne Prøve")
        return offering, self.enrol(offering, self.siri, "Siri Eksempel")

    @cached_property
    def shut(self) -> str:
        """A run that one may ask for a seat of from next week on."""
        opens = [{"opens_at": in_days(7), "closes_at": in_days(20)}]
        return self.offering("Smoltproduksjon i resirkuleringsanlegg", 8, periods=opens)

    @cached_property
    def over(self) -> str:
        """A run that one might ask for a seat of until yesterday."""
        was = [{"opens_at": in_days(-7), "closes_at": in_days(-1)}]
        return self.offering("Notbøting for lærlinger", 8, periods=was)

    @cached_property
    def stopping(self) -> str:
        """Where the mails that tell of changed courses are stopped, from such a mail."""
        who, code = self.somebody("anne"), self.course("Arbeid ved sjø")
        self.enrol(self.run(code, {"bronnoysund": 4}), who, "Anne Prøve")
        self.mail(who, 1)
        self.run(code, {"bronnoysund": 4}, starts_at=in_days(31), ends_at=in_days(31.25))
        [address] = re.findall(r"<(https?:[^>]+)>", str(self.mail(who, 2)["List-Unsubscribe"]))
        return str(address)

    @cached_property
    def cancelled(self) -> str:
        code = self.course("Fallsikring i høyden")
        offering = self.run(code, {"bronnoysund": 8})
        self.enrol(offering, self.siri, "Siri Eksempel")
        self.ask(
            "POST",
            f"{CATALOGUE}/partners/{PARTNER}/courses/{code}/offerings/1/cancel",
            PARTNER,
            {"confirmed": True},
            PARTNER,
        )

        async def heard_of() -> bool:
            return bool((await self.web.http.get(f"{ENROLMENT}/offerings/{offering}")).json()["cancelled"])

        self._portal.call(until, heard_of)
        return offering

    @cached_property
    def withdrawn(self) -> str:
        """The page of a course that its partner has withdrawn."""
        code = self.course("Sveising for viderekomne")
        address = self.course_of(self.run(code, {"bronnoysund": 8}))
        self._say("CourseRetracted", code, {"code": code})

        async def gone() -> bool:
            shown = await self.web.http.get(f"{CATALOGUE}/courses/{address.rpartition('/')[2]}")
            return shown.status_code != 200 or bool(shown.json()["withdrawn"])

        self._portal.call(until, gone)
        return address

    @cached_property
    def refused(self) -> str:
        """The operators' list of what the catalogue could not use, with one thing in it."""
        self._send("nonsense", b"<script>alert(1)</script> is not JSON")

        async def told() -> bool:
            token = await self.web.token(PARTNER, PARTNER)
            address = f"{CATALOGUE}/partners/{PARTNER}/intake"
            items = (await self.web.http.get(address, headers=bearer(token))).json()["items"]
            return any(one["outcome"] == "refused" for one in items)

        self._portal.call(until, told)
        return "/drift/catalogue/parkert"

    @cached_property
    def undecided(self) -> str:
        """The partner's page, which asks what shall become of a run and a course that people are enrolled in."""
        code = self.course("Kuldeteknikk i fiskerihavner")
        self.enrol(self.run(code, {"bronnoysund": 8}), self.somebody("deltaker"), "Anne Prøve")

        async def counted() -> bool:  # else nobody would be known to lose a seat
            return (code, 1) in [(one["code"], one["people"]) for one in (await self._status())["offerings"]]

        self._portal.call(until, counted)
        reason = "Læreren er syk, og vi har ingen annen å sette inn."
        self._say("OfferingRetracted", code, {"course_code": code, "key": "1", "reason": reason})
        self._say("CourseRetracted", code, {"code": code})

        async def asked() -> bool:
            return [one["code"] for one in (await self._status())["retractions"]].count(code) == 2

        self._portal.call(until, asked)
        return "/partner"

    @cached_property
    def on_hold(self) -> str:
        """The partner's page, which asks whether a run with too few learners takes place."""
        offering = self.offering("Rognkjeks og annen rensefisk", 8, minimum=5, decide_at=in_days(1 / 86_400))  # soon

        async def judged() -> bool:
            found = (await self.web.http.get(f"{CATALOGUE}/offerings/{offering}")).json()
            return bool(found["judgement"]["decision"] == "too_few")

        self._portal.call(until, judged)
        return "/partner"

    async def _status(self) -> Any:
        token = await self.web.token(PARTNER, PARTNER)
        return (await self.web.http.get(f"{CATALOGUE}/partners/{PARTNER}/status", headers=bearer(token))).json()

    def _say(self, kind: str, code: str, data: dict[str, Any]) -> None:
        """An event of the partner, over Kafka."""
        about = {"id": str(uuid.uuid4()), "source": f"/partners/{PARTNER}", "type": f"no.kursnett.partner.{kind}.v1"}
        self._send(code, json.dumps({"specversion": "1.0", **about, "data": data}).encode())

    def _send(self, key: str, value: bytes) -> None:
        """One record on the partner's own topic."""

        async def send() -> None:
            async with AIOKafkaProducer(bootstrap_servers=self.web.places.address("kafka")) as producer:
                await producer.send_and_wait(partner_courses(PARTNER).name, value, key=key.encode())

        self._portal.call(send)

    @cached_property
    def enrolments(self) -> dict[str, str]:
        """State -> Siri's enrolment in it."""
        seat = self.enrol(self.rich, self.siri, "Siri Eksempel")
        queued = self.enrol(self.busy, self.siri, "Siri Eksempel")
        _, offered = self.offered("Sveising TIG, grunnkurs", self.siri, "Siri Eksempel")
        _, pending = self.approving
        denied = self.enrol(self.offering("Maskinførerkurs M2", 4, requires_approval=True), self.siri, "Siri Eksempel")
        reason = {"reason": "Kurset krever fagbrev."}
        self.ask("POST", f"{ENROLMENT}/enrolments/{denied}/deny", PARTNER, reason, PARTNER)
        left = self.enrol(self.offering("Regneark som virker", 9), self.siri, "Siri Eksempel")
        self.withdraw(left, self.siri)
        assert self.cancelled
        return {
            "associated": seat,
            "queued": queued,
            "offered": offered,
            "pending": pending,
            "denied": denied,
            "cancelled": left,
        }
