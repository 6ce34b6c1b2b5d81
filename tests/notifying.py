"""What tests of the notifier use: a mail server that says what it is told to, and a database where things happen."""

import asyncio
import json
import ssl
import uuid
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from email import message_from_bytes, policy
from typing import Any

from aiosmtpd.smtp import SMTP
from pydantic import SecretStr

from contracts.catalogue import CourseCreated, OfferingScheduled
from contracts.enrolment import ContactGiven, LearnerEnrolled
from contracts.envelope import Event, encode, wrap
from contracts.fields import Place
from kit import sealing
from kit.listeners import Listeners
from kit.parking import Record
from kit.running import Running
from services.notifier import events
from services.notifier.sender import Sender
from services.notifier.settings import NotifierSettings
from tests.delivery import Servers, running, until

PRIVATE, PUBLIC = sealing.generate()
START = datetime(2049, 1, 14, 17, tzinfo=UTC)


class Sink:
    """A mail server that says what it is told to: an answer per mail in turn, 250 when there is none left."""

    def __init__(self) -> None:
        self.mails: list[Any] = []
        self.seen: list[str] = []  # the Message-ID of every mail that came whole, taken or not
        self.raw: list[bytes] = []  # as it came over the wire
        self.rcpt: list[str] = []
        self.domains: dict[str, str] = {}  # recipient domain -> what it always says to RCPT; `silence` is nothing
        self.data: list[str] = []
        self.asked: list[str] = []  # each address of a RCPT, whatever was answered
        self.connections = 0
        self.port = 0
        self.tls: ssl.SSLContext | None = None  # with it STARTTLS is offered
        self.pipelining = False  # whether PIPELINING is offered; commands are read one by one all the same
        self.in_clear: list[str] = []  # each address that came without TLS

    async def handle_EHLO(self, server: Any, session: Any, envelope: Any, name: str, offers: list[str]) -> list[str]:
        session.host_name = name
        return [*offers[:-1], *(["250-PIPELINING"] if self.pipelining else []), offers[-1]]

    async def handle_RCPT(self, server: Any, session: Any, envelope: Any, address: str, options: Any) -> str:
        answer = self.rcpt.pop(0) if self.rcpt else self.domains.get(address.rpartition("@")[2], "250 OK")
        self.asked.append(address)
        over_tls = session.ssl or server.transport.get_extra_info("sslcontext")
        self.in_clear += [] if over_tls else [address]
        if answer == "silence":
            await asyncio.sleep(3600)
        if answer.startswith("250"):
            envelope.rcpt_tos.append(address)
        return answer

    async def handle_DATA(self, server: Any, session: Any, envelope: Any) -> str:
        self.raw.append(envelope.original_content)
        mail = message_from_bytes(envelope.content, policy=policy.default)
        self.seen.append(mail["Message-ID"])
        answer = self.data.pop(0) if self.data else "250 taken"
        if answer.startswith("250") or answer == "taken, then gone":
            self.mails.append(mail)
        if answer in ("gone", "taken, then gone"):
            server.transport.abort()
            return "451 unheard"
        if answer == "silence":
            await asyncio.sleep(3600)
        return answer

    def session(self) -> SMTP:
        self.connections += 1
        loop = asyncio.get_running_loop()
        return SMTP(self, enable_SMTPUTF8=True, hostname="sink", loop=loop, tls_context=self.tls)

    def recipients(self) -> list[str]:
        return [address.addr_spec for mail in self.mails for address in mail["To"].addresses]


class World:
    """A notifier's database with one course, and the means to let things happen in it."""

    def __init__(self, here: Running, settings: NotifierSettings) -> None:
        self.here = here
        self.settings = settings
        self.course, self.offering = uuid.uuid4(), uuid.uuid4()
        self.seq = 0
        self.contacts = events.contact_listeners(PRIVATE)

    def records(self, said: Sequence[Event], event_id: uuid.UUID | None = None, at: datetime | None = None) -> Any:
        """These events as they lie on their topic."""
        records = []
        for event in said:
            self.seq += 1
            whole = wrap(
                event,
                id=event_id or uuid.uuid4(),
                source=f"/{event.spec.service}",
                time=at or datetime.now(UTC),
                epoch=1,
                seq=self.seq,
                correlationid="asked-1",
            )
            key = str(whole.partitionkey).encode()
            records.append(Record(event.spec.topic, 0, self.seq, key, (), encode(whole)))
        return records

    async def hear(
        self,
        listeners: Listeners,
        said: Sequence[Event],
        event_id: uuid.UUID | None = None,
        at: datetime | None = None,
    ) -> None:
        """What a consumer does with records, in one transaction."""
        received = [listeners.read(record) for record in self.records(said, event_id, at)]
        await self.here.database.run(lambda conn: listeners.tell(conn, received), "consumer")

    async def course_is_known(self) -> None:
        course = CourseCreated(
            course_id=self.course, partner="torgar", code="L1", version=1, title={"nb": "Ledelse", "en": "Leadership"}
        )
        offering = OfferingScheduled(
            offering_id=self.offering,
            course_id=self.course,
            partner="torgar",
            key="v27",
            version=1,
            starts_at=START,
            ends_at=START + timedelta(hours=2),
            places=[Place(arena="mosjoen", capacity=20)],
        )
        await self.hear(events.courses, [course, offering])

    async def contact_is_known(
        self, learner: uuid.UUID, email: str, language: str = "nb", login: str | None = None, phone: str | None = None
    ) -> None:
        letter = {"email": email, "name": "Kari Åsnes", "language": language, "login": login}
        sealed = sealing.seal(PUBLIC, letter | ({"phone": phone} if phone else {}))
        await self.hear(self.contacts, [ContactGiven(learner_id=learner, sealed=sealed)])

    def about(self, learner: uuid.UUID, enrolment: uuid.UUID | None = None) -> dict[str, Any]:
        return {
            "enrolment_id": enrolment or uuid.uuid4(),
            "learner_id": learner,
            "offering_id": self.offering,
            "course_id": self.course,
            "partner": "torgar",
        }

    async def learners(self, count: int, domain: str = "example.no") -> None:
        """So many learners with a contact get a seat."""
        ids = [uuid.uuid4() for _ in range(count)]
        for number, learner in enumerate(ids):
            await self.contact_is_known(learner, f"l{number}@{domain}")
        await self.hear(events.enrolments, [LearnerEnrolled(**self.about(one), place="mosjoen") for one in ids])

    async def rows(self, query: str, *values: Any) -> list[Any]:
        async with self.here.database.reading() as conn:
            return list(await conn.fetch(query, *values))

    async def states(self) -> dict[str, int]:
        return dict(Counter(row["state"] for row in await self.rows("SELECT state FROM notices")))

    async def told(self) -> list[tuple[str, dict[str, Any]]]:
        """(type, data) of every event in the outbox."""
        payloads = [json.loads(row["payload"]) for row in await self.rows("SELECT payload FROM outbox ORDER BY id")]
        assert all(one["correlationid"] == "asked-1" for one in payloads)
        return [(one["type"].split(".")[-2], one["data"]) for one in payloads]

    async def hurry(self) -> None:
        """Let no deferred notice wait."""
        await self.rows("UPDATE notices SET due_at = app_now() WHERE state = 'deferred'")

    async def all_are(self, state: str, count: int) -> None:
        async def done() -> bool:
            return (await self.states()) == {state: count}

        await until(done)

    async def no_more_open(self) -> None:
        """Wait until every notice has gone or never will."""

        async def done() -> bool:
            return not {"due", "held", "sending", "deferred"} & (await self.states()).keys()

        await until(done)

    @asynccontextmanager
    async def sending(self, *senders: Sender) -> AsyncIterator[None]:
        self.here.stopping.clear()
        tasks = [asyncio.create_task(one.run(self.here)) for one in senders or (Sender(self.settings),)]
        try:
            yield
        finally:
            self.here.stopping.set()
            await asyncio.gather(*tasks)


@asynccontextmanager
async def mail_server(tls: ssl.SSLContext | None = None) -> AsyncIterator[Sink]:
    """With `tls` it speaks nothing else, from the first byte."""
    sink = Sink()
    server = await asyncio.get_running_loop().create_server(sink.session, "127.0.0.1", 0, ssl=tls)
    sink.port = server.sockets[0].getsockname()[1]
    yield sink
    server.close()


@asynccontextmanager
async def notifier(servers: Servers, sink: Sink, **changed: Any) -> AsyncIterator[World]:
    """A new database with the notifier's tables and one course, and settings that send to the sink.

    Nobody sleeps in it, unless it is said by `changed`.
    """
    plain = await servers.database("notifier")
    settings = NotifierSettings(
        **plain.model_dump(exclude={"contact_private_key", *changed}),
        contact_private_key=SecretStr(PRIVATE),
        smtp_port=sink.port,
        smtp_timeout_s=5,
        **{"smtp_tls": "none", "quiet_hours": "none", "changes_settle_s": 0, **changed},
    )
    async with running(settings, "notifier") as here:
        world = World(here, settings)
        await world.course_is_known()
        yield world
