"""The partners' listener with the settings for TLS that docs/operating.md names, and a certificate of this test."""

import asyncio
import re
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from aiokafka.errors import KafkaConnectionError

from contracts.topics import partner_courses
from deploy.local.kafka import Kafka
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


def documented() -> dict[str, str]:
    """The broker's settings in docs/operating.md."""
    section = (ROOT / "docs/operating.md").read_text(encoding="utf-8").partition("## Partners at Kafka\n")[2]
    block = re.search(r"```properties\n(.*?)```", section, re.DOTALL)
    assert block is not None
    return dict(line.split("=", 1) for line in block[1].splitlines())


class WithTls(Kafka):
    """The local stack's broker, with a partners' listener as for partners elsewhere."""

    def __init__(self, places: Places, pem: Path) -> None:
        super().__init__(places)
        self._pem = pem

    def settings(self) -> dict[str, str]:
        return {**super().settings(), **documented(), "listener.name.partners.ssl.keystore.location": str(self._pem)}


@asynccontextmanager
async def broker(home: Path, pem: Path) -> AsyncIterator[Places]:
    places = Places(home, base_port=open_block())
    places.logs.mkdir(parents=True)
    supervisor = Supervisor([WithTls(places, pem).program()], home, places.logs, lambda: None)
    running = asyncio.create_task(supervisor.run())

    async def ready() -> bool:
        if running.done():
            running.result()
        return supervisor.ready

    try:
        await until(ready, 90)
        yield places
    finally:
        supervisor.stopping.set()
        await running


async def test_a_partner_elsewhere_logs_in_over_tls_and_only_so(tmp_path: Path) -> None:
    pem, trusting = certificate(tmp_path, "127.0.0.1")
    assert documented().keys() >= {"listener.name.partners.ssl.keystore.location"}
    async with broker(tmp_path / "home", pem) as places:
        settings = CatalogueSettings(
            **web.settings(kafka_bootstrap=places.address("kafka")).model_dump(),
            kafka_partners_bootstrap=places.address("kafka-partners"),
        )
        await topics.declare(settings.kafka_bootstrap, [TOPIC])
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
