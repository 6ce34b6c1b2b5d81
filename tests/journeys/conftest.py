"""The stack that all journeys share. It ends with the last of them: running idle, it would slow all other tests."""

from collections.abc import Iterator

import pytest

from deploy.local.stack import Stack
from tests.journeys.web import whole_stack


@pytest.fixture(scope="package")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    with whole_stack(tmp_path_factory.mktemp("stack", numbered=False) / "home") as running:
        yield running
