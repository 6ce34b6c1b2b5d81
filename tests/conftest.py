"""What every test shares: the event loop library that the services run on, and the real servers of this run."""

import asyncio
from collections.abc import Iterator

import pytest
import structlog

from deploy.demo import data
from deploy.local.stack import EVERYTHING, Stack
from tests.delivery import Servers
from tests.journeys.web import HOOKS


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="session", autouse=True)
def plain_logs() -> None:
    """Short lines: structlog's own way of showing an exception takes seconds."""
    structlog.configure(processors=[structlog.processors.KeyValueRenderer(key_order=["event"])])


@pytest.fixture(scope="session")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Servers]:
    """PostgreSQL and Kafka, started for this run on free ports."""
    home = tmp_path_factory.mktemp("servers", numbered=False) / "home"
    with Stack.somewhere(home, programs=("postgres", "kafka")) as stack:
        here = Servers(admin=stack.places.database("admin"), kafka=stack.places.address("kafka"))
        asyncio.run(here.spare_the_disk())
        yield here
        stack.stop()
    stack.reset()


@pytest.fixture(autouse=True)
def dropped(request: pytest.FixtureRequest) -> Iterator[None]:
    """A test's databases go when it ends: thousands would have to be written to the disk, and deleted in the end.

    Those of a whole module are made before this begins, and stay.
    """
    servers = request.getfixturevalue("servers") if "servers" in request.fixturenames else None
    if not isinstance(servers, Servers):  # a module may have servers of its own
        yield
        return
    before = len(servers.made)
    yield
    if names := servers.made[before:]:
        asyncio.run(servers.drop(names))
        del servers.made[before:]


@pytest.fixture(scope="session")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """The whole product, started for this run on free ports, with the demonstration data.

    Webhooks may call the port `HOOKS` from its first, where a journey serves as a partner does.
    """
    home = tmp_path_factory.mktemp("stack", numbered=False) / "home"
    running = Stack.somewhere(home, programs=EVERYTHING)
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("KURSNETT_WEBHOOK_ALLOW", f"127.0.0.1:{running.places.base_port + HOOKS}")
        running.start()
    with running:
        asyncio.run(data.load(running.places, lambda text: None))
        yield running
        running.stop()
    running.reset()
