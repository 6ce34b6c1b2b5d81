"""The stack of a fault run: real servers and our services as processes, and a link that can fail between each two."""

import asyncio
import contextlib
import json
import os
import random
import shutil
import signal
import sys
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Self

import httpx2
from joserfc import jwt
from joserfc.jwk import ECKey

from deploy import secrets
from deploy.local import leftovers
from deploy.local.asking import said
from deploy.local.composition import migrate, settings
from deploy.local.places import SERVICES, Places
from deploy.local.ports import free
from deploy.local.postgres import Postgres, noted
from deploy.local.service import command
from deploy.trouble import Trouble
from tests.faults.broker import PORTS_EACH, Brokers
from tests.faults.child import Child, Notes
from tests.faults.hooks import HookSink
from tests.faults.proxy import Link
from tests.faults.sinks import SmtpSink

OTHER_PORTS = 13  # what Places counts from its base
TOKEN_S = 8 * 3600  # longer than any run, so that no token ends under a fault
KEPT = ("postgres", "secrets", "logs", "state.json", "deliveries.jsonl", "calls.jsonl", "kafka-1", "kafka-2", "kafka-3")


class FaultStack:
    """PostgreSQL, one or three brokers, the three services, the issuer's keys and a mail server, in `home`.

    Every link is a Link: <service>-postgres, <service>-kafka-<n>, notifier-smtp, notifier-hooks, clients-<service>, and
    of three brokers kafka-<from>-<to>. Services and servers that die are started again, as a supervisor would.
    `unguarded` names the control whose guard is taken out of the services (see tests.faults.unguarded).

    async with FaultStack(home) as stack:
        stack.url("enrolment"), stack.dsn("enrolment"), stack.token("kari")
    """

    def __init__(self, home: Path, brokers: int = 1, unguarded: str = "") -> None:
        self.home = home.absolute()
        self.links: dict[str, Link] = {}
        self.services: dict[str, Child] = {}
        self.sink = SmtpSink(self.home)
        self.hooks = HookSink(self.home)
        self._count = brokers
        self._unguarded = unguarded
        self._key = ECKey.generate_key("P-256", {"use": "sig", "alg": "ES256"}, auto_kid=True)
        self._client_ports: dict[str, int] = {}
        self._environments: dict[str, dict[str, str]] = {}

    @property
    def logs(self) -> Path:
        return self._places.logs

    @property
    def brokers(self) -> list[Child]:
        return self._brokers.children

    @property
    def children(self) -> dict[str, Child]:
        """Every process, by its name."""
        return {child.name: child for child in (self.postgres, *self.brokers, *self.services.values())}

    @property
    def partner_kafka(self) -> str:
        """The brokers themselves, past every link."""
        return self._brokers.bootstrap("direct")

    def url(self, service: str) -> str:
        """The origin of a service as clients reach it: through their link."""
        return f"http://127.0.0.1:{self._client_ports[service]}"

    def dsn(self, database: str) -> str:
        """A database past every link, as the administrator."""
        return self._places.database("admin").rpartition("/")[0] + f"/{database}"

    def token(
        self,
        subject: str,
        role: str = "learner",
        partner: str | None = None,
        name: str | None = None,
        email: str | None = None,
        locale: str | None = None,
    ) -> str:
        """An access token that the services accept for the whole run."""
        claims = {
            "iss": self._issuer,
            "aud": "kursnett",
            "sub": subject,
            "exp": int(time.time()) + TOKEN_S,
            "kursnett_role": role,
            "kursnett_partner": partner,
            "name": name,
            "email": email,
            "locale": locale,
        }
        head = {"alg": "ES256", "kid": self._key.kid, "typ": "JWT"}
        return jwt.encode(head, {key: value for key, value in claims.items() if value is not None}, self._key)

    async def command(self, service: str, *arguments: str) -> str:
        """What a service's own command prints, such as `partners add`. Raises Trouble with its words when it fails."""
        return await command(self._places, service, *arguments, environment=self._environments[service])

    async def add_webhook(self, partner: str, events: Sequence[str]) -> None:
        """Let a partner be told of these events, or of all, at its path of our server."""
        asked = {"url": f"http://{self._hooks_at}/{partner}", "events": list(events) or ["*"]}
        url = f"http://127.0.0.1:{self._places.port('notifier')}/api/notifier/v1/partners/{partner}/webhooks"
        head = {"authorization": f"Bearer {self.token(partner, role='partner', partner=partner)}"}
        async with httpx2.AsyncClient(timeout=10, trust_env=False) as web:
            answer = await web.post(url, json=asked, headers=head)
        self.hooks.secrets[partner] = answer.raise_for_status().json()["secret"]

    async def is_back(self, target: str) -> bool:
        """Whether what a fault hit is whole again: the process is ready, and the brokers are in step."""
        child = self.children.get(target)
        ready = child is None or await child.is_ready()
        return ready and (not target.startswith("kafka-") or await self._brokers.in_sync())

    def watch(self, history: Notes) -> None:
        """Write each end and each start of a process to this history from now on."""
        for child in self.children.values():
            child.history = history

    def mend(self) -> None:
        """Undo every fault that lasts: links pass, processes run on, the mail server takes mail."""
        for link in self.links.values():
            link.mend()
        for child in self.children.values():
            child.thaw()
        self.sink.behaviour = "ok"
        self.hooks.behaviour = "ok"

    async def __aenter__(self) -> Self:
        task = asyncio.current_task()
        if task is not None:
            for number in (signal.SIGTERM, signal.SIGHUP):  # like Ctrl-C: out of the block, and everything is stopped
                asyncio.get_running_loop().add_signal_handler(number, task.cancel)
        try:
            await self._start()
        except BaseException:
            await self.stop()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    async def _start(self) -> None:
        leftovers.end(self.home)
        self._forget()
        base = free_run(OTHER_PORTS + self._count * PORTS_EACH)
        self._places = places = Places(self.home, base_port=base)
        places.logs.mkdir(parents=True)
        os.umask(0o022)  # another user, PostgreSQL's, must get through our folders
        secrets.make(places.secrets)
        await self.sink.start()
        await self.hooks.start()
        await self._serve_keys()
        self._brokers = Brokers(
            self.home, self.logs, self._count, range(base + OTHER_PORTS, base + OTHER_PORTS + 99), self.links
        )
        program = Postgres(places).program()
        await asyncio.gather(self._brokers.prepare(), program.prepare(lambda text: None))
        self.postgres = Child(
            "postgres",
            self.home,
            places.log("postgres"),
            [*program.argv, "-c", "track_commit_timestamp=on"],  # the checker orders claims by when they were committed
            program.ready,
            program.environment,
            program.user,
            program.stop_signal,
        )
        await asyncio.gather(*(server.start() for server in (self.postgres, *self.brokers)))
        for service in SERVICES:
            await self._compose(service)
        await asyncio.gather(*(self._start_service(service) for service in SERVICES))

    async def _compose(self, service: str) -> None:
        database = await self._link(f"{service}-postgres", self._places.port("postgres"))
        self._client_ports[service] = await self._link(f"clients-{service}", self._places.port(service))
        environment = {
            **settings(self._places, service),
            "KURSNETT_DATABASE_PORT": str(database),
            "KURSNETT_KAFKA_BOOTSTRAP": self._brokers.bootstrap(service),
            "KURSNETT_KAFKA_PARTNERS_BOOTSTRAP": "",  # these brokers ask nobody who he is
            "KURSNETT_ISSUER": self._issuer,
            "KURSNETT_ISSUER_KEYS_URL": f"{self._issuer}/jwks",
        }
        if service == "enrolment":  # a few hundred learners do what thousands would
            environment |= {"KURSNETT_MOST_LIVE_ENROLMENTS": "1000", "KURSNETT_REQUESTS_PER_MINUTE": "100000"}
            environment["KURSNETT_ENROLMENTS_PER_HOUR"] = "100000"
        if service == "notifier":
            environment["KURSNETT_SMTP_PORT"] = str(await self._link("notifier-smtp", self.sink.port))
            self._hooks_at = f"127.0.0.1:{await self._link('notifier-hooks', self.hooks.port)}"
            environment["KURSNETT_WEBHOOK_ALLOW"] = self._hooks_at
        way = ["tests.faults.unguarded", self._unguarded] if self._unguarded else []
        self.services[service] = Child(
            service,
            self.home,
            self._places.log(service),
            [sys.executable, "-m", *way, f"services.{service}", "serve"],
            partial(said, self._places.port(service), "/readyz", service=service, ready=True),
            environment,
        )
        self._environments[service] = environment

    async def _start_service(self, service: str) -> None:
        command = [sys.executable, "-m", f"services.{service}", "migrate"]
        await migrate(self._places, service, command, self._environments[service])
        await self.services[service].start()

    async def _link(self, name: str, port: int) -> int:
        link = self.links[name] = Link(name)
        return await link.open(port)

    async def _serve_keys(self) -> None:
        """The issuer: its public keys are all that a service ever asks it for."""
        body = json.dumps({"keys": [self._key.as_dict(private=False)]}).encode()
        head = f"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n"

        async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            with contextlib.suppress(OSError, asyncio.IncompleteReadError):
                await reader.readuntil(b"\r\n\r\n")
                writer.write(head.encode() + b"Connection: close\r\n\r\n" + body)
                await writer.drain()
            writer.close()

        self._keys = await asyncio.start_server(answer, "127.0.0.1", 0)
        self._issuer = f"http://127.0.0.1:{self._keys.sockets[0].getsockname()[1]}/kursnett"

    async def stop(self) -> None:
        """Stop everything in order and delete what the servers kept; logs and deliveries stay."""
        if hasattr(self, "postgres"):
            self.mend()
            await asyncio.gather(*(child.stop() for child in self.services.values()), return_exceptions=True)
            servers = (*self.brokers, self.postgres)
            await asyncio.gather(*(child.stop() for child in servers), return_exceptions=True)
        for link in self.links.values():
            await link.close()
        if hasattr(self, "_brokers"):
            await self._brokers.close()
        if hasattr(self, "_keys"):
            self._keys.close()
        if self.sink.port:
            await self.sink.stop()
        if self.hooks.port:
            await self.hooks.stop()
        leftovers.end(self.home)
        self._forget(("postgres", "secrets", "kafka-1", "kafka-2", "kafka-3"))

    def _forget(self, names: tuple[str, ...] = KEPT) -> None:
        """Delete what a run keeps, and nothing else: the folder may be any."""
        folder = noted(self.home)
        if folder is not None:  # its files may lie outside
            shutil.rmtree(folder, ignore_errors=True)
        (self.home / "postgres.path").unlink(missing_ok=True)
        for name in names:
            path = self.home / name
            if path.is_dir():
                shutil.rmtree(path, ignore_errors=True)
            else:
                path.unlink(missing_ok=True)


def free_run(count: int, first: int = 10000, last: int = 17000) -> int:
    """The first of so many free ports in a row; below those that other local stacks and the system itself take."""
    bases = list(range(first, last, count))
    for base in random.sample(bases, len(bases)):
        if all(free(port) for port in range(base, base + count)):
            return base
    raise Trouble("No run of free ports was found on this machine.", "Stop some servers and try again.")
