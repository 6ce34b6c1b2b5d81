"""A real browser before the whole product: the system's Chromium, and who visits with it."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest
from anyio.from_thread import BlockingPortal, start_blocking_portal
from playwright.sync_api import Browser, StorageState, sync_playwright

from deploy.local.stack import Stack
from tests.browser.browsing import People
from tests.browser.scene import Scene
from tests.journeys.web import Web, whole_stack

NAMES = ("chromium", "chromium-browser", "google-chrome")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker("browser")
            item.add_marker(pytest.mark.timeout(300))  # the first one starts the stack


@pytest.fixture(scope="session")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    with whole_stack(tmp_path_factory.mktemp("stack", numbered=False) / "home") as running:
        yield running


@pytest.fixture(scope="session")
def chromium() -> str:
    """The system's browser; none is fetched."""
    found = [path for name in NAMES if (path := shutil.which(name))]
    if not found:
        pytest.exit("There is no Chromium here: apt install chromium, or another package that brings it.", 1)
    return found[0]


@pytest.fixture(scope="session")
def portal() -> Iterator[BlockingPortal]:
    """Where what is async runs: Playwright keeps this thread's own loop busy."""
    with start_blocking_portal() as one:
        yield one


@pytest.fixture(scope="session")
def web(chromium: str, stack: Stack, portal: BlockingPortal) -> Iterator[Web]:
    """Partners, learners and the mail catcher, over HTTP. `chromium` first: without it nothing is started."""

    async def asking() -> httpx2.AsyncClient:
        return httpx2.AsyncClient(base_url=stack.places.gateway, timeout=20)

    http = portal.call(asking)
    yield Web(stack.places, http)
    portal.call(http.aclose)


@pytest.fixture(scope="session")
def chrome(chromium: str, stack: Stack) -> Iterator[Browser]:
    """One browser for the run; each test gets windows of its own in it."""
    sandbox = os.geteuid() != 0  # root has none
    with (
        sync_playwright() as playwright,
        playwright.chromium.launch(executable_path=chromium, chromium_sandbox=sandbox) as browser,
    ):
        yield browser


@pytest.fixture(scope="session")
def sessions() -> dict[str, StorageState]:
    """Who has logged in before, so that each logs in once."""
    return {}


@pytest.fixture
def people(chrome: Browser, stack: Stack, sessions: dict[str, StorageState]) -> Iterator[People]:
    """Gives out windows. Whatever a browser complained of, and whatever went to a stranger, fails the test."""
    made = People(chrome, stack.places, sessions)
    yield made
    made.leave()
    assert not made.troubles, "\n".join(made.troubles)


@pytest.fixture(scope="session")
def scene(web: Web, portal: BlockingPortal, stack: Stack) -> Scene:
    """Courses and people in every state that a page shows."""
    return Scene(web, portal, stack)
