"""What every test shares: the one event loop library that the services run on."""

import os

import pytest

from tests.delivery import Servers
import structlog


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="session", autouse=True)
def plain_logs() -> None:
    """Short lines: structlog's own way of showing an exception takes seconds."""
    structlog.configure(processors=[structlog.processors.KeyValueRenderer(key_order=["event"])])


@pytest.fixture(scope="session")
def servers() -> Servers:
    """PostgreSQL and Kafka."""
    return Servers(admin=os.environ["TEST_ADMIN"], kafka=os.environ["TEST_KAFKA"])
