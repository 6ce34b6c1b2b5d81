"""What every test shares: the event loop library that the services run on, and the real servers of this run."""

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import structlog
from xdist.scheduler import LoadFileScheduling

from deploy.local.stack import Stack
from tests.delivery import Servers

JOURNEYS = Path(__file__).parent / "journeys"


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


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The journeys first: they are what takes longest in one process."""
    items.sort(key=lambda item: JOURNEYS not in item.path.parents)


class Together(LoadFileScheduling):  # type: ignore[misc]  # it has no types
    """A file runs in one process, and all journeys in one, as they share a stack.

    The marks that `--dist loadgroup` goes by are not seen with pytest 9.2.
    """

    def _split_scope(self, nodeid: str) -> str:
        file: str = super()._split_scope(nodeid)
        return JOURNEYS.name if f"/{JOURNEYS.name}/" in file else file


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Together | None:
    return Together(config, log) if config.getoption("dist") == "loadfile" else None
