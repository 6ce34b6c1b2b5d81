"""The Kafka brokers of a fault run: one or three, each client with a listener of its own behind its own link."""

import asyncio
import base64
import contextlib
import subprocess
import uuid
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path

import psutil
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError

from deploy.local import jars
from deploy.local.kafka import LOGGING, ONE_BROKER, QUIET, java
from deploy.local.places import SERVICES
from deploy.trouble import Trouble
from tests.faults.child import Child
from tests.faults.proxy import Link, reset

JVM = ("-Xms64m", "-Xmx384m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1")
CLIENTS = (*SERVICES, "direct")
PORTS_EACH = len(CLIENTS) + 2  # a listener for each client, one for the other brokers, one for the controllers
THREE_BROKERS = {
    # A broker among others is fenced when its heartbeats stay away: three Javas on two cores may be slow for a second.
    "broker.session.timeout.ms": "2000",
    "offsets.topic.replication.factor": "3",
    "transaction.state.log.replication.factor": "3",
    "transaction.state.log.min.isr": "2",
    "share.coordinator.state.topic.replication.factor": "3",
    "share.coordinator.state.topic.min.isr": "2",
    "default.replication.factor": "3",
    "min.insync.replicas": "2",
    "num.partitions": "1",
}


class Brokers:
    """`count` brokers, each a controller too. `ports` are PORTS_EACH for each of them, free and next to each other.

    `links` gains <service>-kafka-<n> for each service and broker and, of three brokers, kafka-<from>-<to> for each
    pair: what one asks of the other, as a follower or as a member of the quorum.
    """

    def __init__(self, home: Path, logs: Path, count: int, ports: Sequence[int], links: dict[str, Link]) -> None:
        self.numbers = range(1, count + 1)
        self._home = home
        self._logs = logs
        self._links = links
        self._ports = {
            number: dict(zip((*CLIENTS, "internal", "controller"), ports[(number - 1) * PORTS_EACH :], strict=False))
            for number in self.numbers
        }
        self._advertised: dict[tuple[int, str], int] = {}
        self._voters: dict[tuple[int, int], int] = {}  # (who asks, whom) -> port
        self._doors: list[asyncio.Server] = []
        self.children: list[Child] = []

    def bootstrap(self, client: str) -> str:
        """Where this client makes its first contact: its own links, or the brokers themselves for `direct`."""
        return ",".join(f"127.0.0.1:{self._advertised[number, client]}" for number in self.numbers)

    async def prepare(self) -> None:
        """Open the links, write the settings, format the data folders."""
        for number in self.numbers:
            ports = self._ports[number]
            self._advertised[number, "direct"] = ports["direct"]
            for service in SERVICES:
                link = self._links[f"{service}-kafka-{number}"] = Link(f"{service}-kafka-{number}", kafka=True)
                self._advertised[number, service] = await link.open(ports[service])
            self._advertised[number, "internal"] = ports["internal"]
            for other in self.numbers:
                self._voters[other, number] = ports["controller"]
        if len(self.numbers) > 1:
            await self._link_brokers()
        class_path = await asyncio.to_thread(jars.class_path, "kafka")
        identity = "A" + base64.urlsafe_b64encode(uuid.uuid4().bytes).decode()[1:22]  # no "-" first: an option's sign
        command = [java(), *JVM, *QUIET, f"-Dlog4j2.configurationFile={LOGGING.as_uri()}", "-cp", class_path]
        await asyncio.gather(*(self._format(number, command, identity) for number in self.numbers))
        for number in self.numbers:
            self.children.append(
                Child(
                    f"kafka-{number}",
                    self._home,
                    self._logs / f"kafka-{number}.log",
                    [*command, "kafka.Kafka", str(self._settings_file(number))],
                    lambda number=number: self._answers(number),  # type: ignore[misc]
                    {"LC_ALL": "C.UTF-8"},
                )
            )

    async def close(self) -> None:
        for door in self._doors:
            door.close()

    async def _link_brokers(self) -> None:
        for one in self.numbers:
            for other in self.numbers:
                if one != other:
                    link = self._links[f"kafka-{one}-{other}"] = Link(f"kafka-{one}-{other}")
                    self._voters[one, other] = await link.open(self._ports[other]["controller"])
        for number in self.numbers:
            door = await asyncio.start_server(self._sorting(number), "127.0.0.1", 0, backlog=512)
            self._doors.append(door)
            self._advertised[number, "internal"] = door.sockets[0].getsockname()[1]

    def _sorting(self, number: int) -> Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]:
        """What takes connections for this broker's inner listener: the link depends on which broker calls."""
        itself = Link(f"kafka-{number}-{number}")

        async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            caller = self._caller(writer.get_extra_info("peername")[1])
            if caller is None:
                reset(writer)  # it has ended again
                return
            link = self._links.get(f"kafka-{caller}-{number}", itself)
            await link.carry(reader, writer, self._ports[number]["internal"])

        return accept

    def _caller(self, port: int) -> int | None:
        """Which broker calls from this port. One address serves all callers, so their sockets must tell them apart."""
        for number, child in zip(self.numbers, self.children, strict=True):
            if child.pid is None:
                continue
            with contextlib.suppress(psutil.Error):
                held = psutil.Process(child.pid).net_connections("tcp")
                if any(getattr(one.laddr, "port", 0) == port for one in held):
                    return number
        return None

    def _folder(self, number: int) -> Path:
        return self._home / f"kafka-{number}"

    def _settings_file(self, number: int) -> Path:
        return self._folder(number) / "server.properties"

    def _settings(self, number: int) -> Mapping[str, str]:
        ports = self._ports[number]
        names = (*CLIENTS, "internal")
        listeners = ",".join(f"{name.upper()}://127.0.0.1:{ports[name]}" for name in names)
        controller = f"CONTROLLER://127.0.0.1:{ports['controller']}"
        advertised = ",".join(f"{name.upper()}://127.0.0.1:{self._advertised[number, name]}" for name in names)
        protocols = ",".join(f"{name.upper()}:PLAINTEXT" for name in (*names, "controller"))
        voters = ",".join(f"{other}@127.0.0.1:{self._voters[number, other]}" for other in self.numbers)
        return {
            **ONE_BROKER,
            **(THREE_BROKERS if len(self.numbers) > 1 else {}),
            "node.id": str(number),
            "listeners": f"{listeners},{controller}",
            "advertised.listeners": advertised,
            "listener.security.protocol.map": protocols,
            "inter.broker.listener.name": "INTERNAL",
            "controller.listener.names": "CONTROLLER",
            "controller.quorum.voters": voters,
            "log.dirs": str(self._folder(number) / "data"),
        }

    async def _format(self, number: int, command: Sequence[str], identity: str) -> None:
        self._folder(number).mkdir(parents=True, exist_ok=True)
        settings = self._settings_file(number)
        settings.write_text("".join(f"{key}={value}\n" for key, value in self._settings(number).items()))
        tool = [*command, "kafka.tools.StorageTool", "format", "-t", identity, "-c", str(settings)]
        done = await asyncio.to_thread(subprocess.run, tool, capture_output=True, text=True)
        if done.returncode:
            words = (done.stderr + done.stdout).strip().splitlines() or ["nothing"]
            raise Trouble(f"Kafka could not format {self._folder(number)}; it said: {words[-1]}", "Is the disk full?")

    async def in_sync(self) -> bool:
        """Whether every copy of every partition is as far as its leader, as the brokers see it."""
        admin = AIOKafkaAdminClient(bootstrap_servers=self.bootstrap("direct"), request_timeout_ms=2000)
        try:
            async with asyncio.timeout(4):
                await admin.start()
                topics = await admin.describe_topics()
                partitions = [partition for topic in topics for partition in topic["partitions"]]
                return all(len(one["isr"]) == len(one["replicas"]) and one["leader"] > 0 for one in partitions)
        except (KafkaError, OSError, TimeoutError):
            return False
        finally:
            await admin.close()

    async def _answers(self, number: int) -> bool:
        """Whether this broker answers and knows as many brokers as there are."""
        port = self._ports[number]["direct"]
        try:  # asked first, because the client logs each refusal
            _, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.close()
        except OSError:
            return False
        admin = AIOKafkaAdminClient(bootstrap_servers=f"127.0.0.1:{port}", request_timeout_ms=2000)
        try:
            async with asyncio.timeout(4):
                await admin.start()
                known = await admin.describe_cluster()
                return len(known["brokers"]) == len(self.numbers)
        except (KafkaError, OSError, TimeoutError):
            return False
        finally:
            await admin.close()
