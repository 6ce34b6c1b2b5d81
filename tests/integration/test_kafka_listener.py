"""The partners' listener with other settings: TLS as docs/operating.md names it, and an hour that is a second."""

import asyncio
import re
import ssl
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from aiokafka import AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaConnectionError, NodeNotReadyError

from contracts.topics import partner_courses
from deploy.local.kafka import PARTNERS, Kafka
from deploy.local.places import ROOT, Places
from deploy.local.ports import open_block
from deploy.local.processes import Supervisor
from kit import topics
from services.catalogue import logins
from services.catalogue.settings import CatalogueSettings
from tests import strangers, web
from tests.certificates import certificate
from tests.delivery import until
from tests.strangers import client

pytestmark = pytest.mark.anyio

SLUG = "nesna"
TOPIC = partner_courses(SLUG)
REAUTH = "listener.name.partners.connections.max.reauth.ms"


def documented() -> dict[str, str]:
    """The broker's settings in docs/operating.md."""
    section = (ROOT / "docs/operating.md").read_text(encoding="utf-8").partition("## Partners at Kafka\n")[2]
    block = re.search(r"```properties\n(.*?)```", section, re.DOTALL)
    assert block is not None
    return dict(line.split("=", 1) for line in block[1].splitlines())


class Changed(Kafka):
    """The local stack's broker, with some settings changed."""

    def __init__(self, places: Places, changes: dict[str, str]) -> None:
        super().__init__(places)
        self._changes = changes

    def settings(self) -> dict[str, str]:
        return super().settings() | self._changes


@asynccontextmanager
async def broker(home: Path, changes: dict[str, str]) -> AsyncIterator[CatalogueSettings]:
    """A broker with the topic of one partner; the settings of a catalogue that belongs to it."""
    places = Places(home, base_port=open_block())
    places.logs.mkdir(parents=True)
    supervisor = Supervisor([Changed(places, changes).program()], home, places.logs, lambda: None)
    running = asyncio.create_task(supervisor.run())

    async def ready() -> bool:
        if running.done():
            running.result()
        return supervisor.ready

    try:
        await until(ready, 90)
        settings = CatalogueSettings(
            **web.settings(kafka_bootstrap=places.address("kafka")).model_dump(),
            kafka_partners_bootstrap=places.address("kafka-partners"),
        )
        await topics.declare(settings.kafka_bootstrap, [TOPIC])
        yield settings
    finally:
        supervisor.stopping.set()
        await running


async def test_a_partner_elsewhere_logs_in_over_tls_and_only_so(tmp_path: Path) -> None:
    pem, trusting = certificate(tmp_path, "127.0.0.1")
    changes = documented()
    assert "listener.name.partners.ssl.keystore.location" in changes
    changes["listener.name.partners.ssl.keystore.location"] = str(pem)
    async with broker(tmp_path / "home", changes) as settings:
        made = await logins.give(settings, SLUG)
        assert made is not None
        assert made["security_protocol"] == "SASL_SSL"
        await strangers.write(client(made, ssl_context=trusting), TOPIC.name)
        for wrong in (
            client(made, ssl_context=ssl.create_default_context()),  # trusts the system's authorities alone
            client({**made, "security_protocol": "SASL_PLAINTEXT"}),
            client({**made, "password": "guessed"}, ssl_context=trusting),
        ):
            with pytest.raises(KafkaConnectionError):
                await strangers.write(wrong, TOPIC.name)
        await strangers.write(client(made, ssl_context=trusting), TOPIC.name)


async def test_who_is_connected_with_an_old_password_is_put_out_in_the_end(tmp_path: Path) -> None:
    assert PARTNERS[REAUTH] == "3600000"
    async with broker(tmp_path / "home", {REAUTH: "1000"}) as settings:
        told = settings.model_copy(update={"kafka_partners_security": "SASL_PLAINTEXT"})
        made = await logins.give(told, SLUG)
        assert made is not None
        async with AIOKafkaProducer(**client(made)) as producer:  # the control: who may log in anew does, and goes on
            began = time.monotonic()
            while time.monotonic() - began < 2.5:
                await producer.send_and_wait(TOPIC.name, b"{}")
        connected = AIOKafkaAdminClient(**client(made))
        await connected.start()
        try:
            await logins.give(told, SLUG)

            async def is_put_out() -> bool:
                try:
                    await connected.list_topics()
                except NodeNotReadyError:  # it cannot come back
                    return True
                except KafkaConnectionError:  # it was hung up on
                    return False
                return False

            await until(is_put_out)
        finally:
            await connected.close()
