"""What tests of webhooks use: an HTTP server that answers as it is told, and a notifier whose partner calls it."""

import asyncio
import json
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from httpx2 import AsyncClient
from pydantic import SecretStr
from standardwebhooks import Webhook as Verifier

from contracts.catalogue import CourseCreated
from contracts.enrolment import LearnerEnrolled
from contracts.envelope import Event
from kit import http
from services.notifier import partners, webhooks
from services.notifier.app import ROUTERS
from services.notifier.channels.webhook import Webhook
from services.notifier.deliveries import Deliverer
from services.notifier.guard import Guard
from services.notifier.settings import NotifierSettings
from tests.delivery import Servers, running, until
from tests.notifying import PRIVATE, World
from tests.web import ISSUER, Issuer, held_to_its_word

BASE = "/api/notifier/v1/partners"
Talk = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
Answer = int | tuple[int, dict[str, str]] | Talk


@dataclass
class Came:
    """One request as it came."""

    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def event(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.body)
        return found

    @property
    def kind(self) -> str:
        return str(self.event["type"]).split(".")[-2]

    def verified(self, secret: str) -> Any:
        return Verifier(secret).verify(self.body, self.headers)


@dataclass
class Hooks:
    """A server of partners: what came, and what it answers at each path, in turn; 200 when there is nothing left."""

    port: int = 0
    came: list[Came] = field(default_factory=list)
    connections: int = 0
    answers: dict[str, list[Answer]] = field(default_factory=dict)
    always: dict[str, Answer] = field(default_factory=dict)
    most_at_once: dict[str, int] = field(default_factory=dict)
    under_way: dict[str, int] = field(default_factory=dict)

    def url(self, path: str = "/hook") -> str:
        return f"http://127.0.0.1:{self.port}{path}"

    def at(self, path: str) -> list[Came]:
        return [one for one in self.came if one.path == path]

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode()
            first, *lines = head.split("\r\n")
            headers = {name.lower(): value.strip() for name, _, value in (one.partition(":") for one in lines if one)}
            body = await reader.readexactly(int(headers["content-length"]))
            path = first.split(" ")[1]
            self.came.append(Came(path, headers, body))
            self.under_way[path] = self.under_way.get(path, 0) + 1
            self.most_at_once[path] = max(self.most_at_once.get(path, 0), self.under_way[path])
            try:
                in_turn = self.answers.get(path)
                await _say(in_turn.pop(0) if in_turn else self.always.get(path, 200), reader, writer)
            finally:
                self.under_way[path] -= 1
        except (OSError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()


async def _say(answer: Answer, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    if callable(answer):
        await answer(reader, writer)
        return
    status, headers = answer if isinstance(answer, tuple) else (answer, {})
    lines = [f"HTTP/1.1 {status} So", "content-length: 2", *(f"{name}: {value}" for name, value in headers.items())]
    writer.write("\r\n".join([*lines, "", "ok"]).encode())
    await writer.drain()


async def silence(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Say nothing until the caller hangs up."""
    await reader.read()


@asynccontextmanager
async def listening_hooks(port: int = 0, **options: Any) -> AsyncIterator[Hooks]:
    hooks = Hooks()
    server = await asyncio.start_server(hooks.serve, "127.0.0.1", port, **options)
    hooks.port = server.sockets[0].getsockname()[1]
    yield hooks
    server.close()


class Calling(World):
    """A notifier's database and its HTTP side, and the partner `torgar` with addresses on the server of hooks."""

    asking: AsyncClient
    issuer: Issuer
    hooks: Hooks
    app: http.Application

    def signed(self, partner: str = "torgar", **claims: Any) -> dict[str, str]:
        return {"authorization": f"Bearer {self.issuer.token(**({'kursnett_partner': partner} | claims))}"}

    async def ask(self, method: str, path: str = "", json: Any = None, **headers: str) -> Any:
        return await self.asking.request(
            method, f"{BASE}/torgar/webhooks{path}", json=json, headers=self.signed() | headers
        )

    async def webhook(self, path: str = "/hook", events: Sequence[str] = ("*",)) -> dict[str, Any]:
        """A webhook at this path of the hooks: its id and secret."""
        made = await self.ask("POST", json={"url": self.hooks.url(path), "events": list(events)})
        assert made.status_code == 201, made.text
        found: dict[str, Any] = made.json()
        return found

    async def happens(self, *said: Event, event_id: uuid.UUID | None = None) -> None:
        """Let these be heard by what tells partners."""
        await self.hear(partners.listeners, said, event_id)

    def created(self, version: int = 1, course: uuid.UUID | None = None, partner: str = "torgar") -> CourseCreated:
        title = {"nb": "Ledelse på Åsen"}
        return CourseCreated(course_id=course or self.course, partner=partner, code="L1", version=version, title=title)

    def enrolled(self) -> LearnerEnrolled:
        return LearnerEnrolled(**self.about(uuid.uuid4()), place="mosjoen")

    async def log(self, webhook_id: str) -> list[dict[str, Any]]:
        answer = await self.ask("GET", f"/{webhook_id}/deliveries")
        assert answer.status_code == 200, answer.text
        items: list[dict[str, Any]] = answer.json()["items"]
        return items

    async def count(self, state: str) -> int:
        [row] = await self.rows("SELECT count(*) FROM webhook_deliveries WHERE state = $1", state)
        return int(row["count"])

    async def all_delivered(self, count: int, within_s: float = 30.0) -> None:
        async def done() -> bool:
            [row] = await self.rows("SELECT count(*) FROM webhook_deliveries")
            return bool(row["count"] == count == await self.count("delivered"))

        await until(done, within_s)

    async def hurry_webhooks(self) -> None:
        """Let nothing that was put off wait, and no webhook rest."""
        await self.rows("UPDATE webhooks SET rests_until = '-infinity'")
        await self.rows("UPDATE webhook_deliveries SET due_at = app_now() WHERE state = 'deferred'")

    def deliverer(self, guard: Guard | None = None, **options: Any) -> Deliverer:
        return Deliverer(self.settings, Webhook(guard or webhooks.guard_of(self.settings), **options))

    @asynccontextmanager
    async def calling(self, *deliverers: Deliverer) -> AsyncIterator[None]:
        self.here.stopping.clear()
        tasks = [asyncio.create_task(one.run(self.here)) for one in deliverers or (self.deliverer(),)]
        try:
            yield
        finally:
            self.here.stopping.set()
            await asyncio.gather(*tasks)


@asynccontextmanager
async def calling_notifier(servers: Servers, hooks: Hooks, **changed: Any) -> AsyncIterator[Calling]:
    plain = await servers.database("notifier")
    settings = NotifierSettings(
        **plain.model_dump(exclude={"issuer", "trust_role_claims", *changed}),
        issuer=ISSUER,
        trust_role_claims=True,
        contact_private_key=SecretStr(PRIVATE),
        **{"webhook_allow": f"127.0.0.1:{hooks.port}", **changed},
    )
    async with running(settings, "notifier") as here:
        world = Calling(here, settings)
        world.hooks = hooks
        world.app = http.build(here, ROUTERS)
        world.issuer = Issuer()
        world.issuer.serve(world.app.state.keys)
        async with held_to_its_word(world.app) as asking:
            world.asking = asking
            yield world
