"""What every test shares: the one event loop library that the services run on."""

import pytest
import structlog


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="session", autouse=True)
def plain_logs() -> None:
    """Short lines: structlog's own way of showing an exception takes seconds."""
    structlog.configure(processors=[structlog.processors.KeyValueRenderer(key_order=["event"])])
