"""The checks of pages see what they are there to see: a page with a known fault is found."""

from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Page, Route, StorageState

from deploy.local.stack import Stack
from kit.pages.site import POLICY
from tests.browser import axe, keyboard
from tests.browser.browsing import NARROW, People, sideways

HEAD = '<!doctype html><html lang="nb"><meta charset="utf-8"><title>Feil</title><main><h1>Feil</h1>'


@pytest.fixture
def faulty(chrome: Browser, stack: Stack, sessions: dict[str, StorageState]) -> Iterator[People]:
    """As `people`, for windows that must complain."""
    made = People(chrome, stack.places, sessions)
    yield made
    made.leave()


def show(people: People, body: str) -> Page:
    """A page of our own origin, with the policy that our pages have."""
    page = people.window()

    def fulfil(route: Route) -> None:
        route.fulfill(body=HEAD + body, content_type="text/html", headers={"content-security-policy": POLICY})

    page.route("**/feil", fulfil)
    page.goto("/feil")
    return page


def heard(page: Page, people: People, words: str, within_ms: int = 5_000) -> bool:
    for _ in range(within_ms // 50):
        if any(words in trouble for trouble in people.troubles):
            return True
        page.wait_for_timeout(50)  # the browser tells by itself, and only while it is waited for
    return False


def test_a_page_that_is_well_is_let_through(people: People) -> None:
    page = show(people, '<p>Godt</p><a href="/kurs">Finn kurs</a>')
    assert axe.faults(page) == []
    page.set_viewport_size(NARROW)
    assert sideways(page) == ""
    keyboard.tab_to(page, page.get_by_role("link"))


@pytest.mark.parametrize(
    ("body", "rule"),
    [
        ('<img src="data:image/gif;base64,R0lGODlhAQABAAAAACw=">', "image-alt"),
        ("<input>", "label"),
        ('<p><font color="#cccccc">Nesten borte</font></p>', "color-contrast"),
    ],
)
def test_axe_sees_a_known_fault(faulty: People, body: str, rule: str) -> None:
    assert any(fault.startswith(rule) for fault in axe.faults(show(faulty, body)))


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ("<script>1</script>", "Content Security Policy"),
        ('<p style="color: red">Rød</p>', "Content Security Policy"),
        ("<img alt='' src=x onerror='alert(1)'>", "Content Security Policy"),
        ('<script src="/felles/x/not-there.js"></script>', "404 for http"),
        ('<a href="http://127.0.0.1:9/">Bort</a>', "a stranger is asked"),
    ],
)
def test_what_a_browser_complains_of_is_heard(faulty: People, body: str, words: str) -> None:
    page = show(faulty, body)
    if page.get_by_role("link").count():
        page.get_by_role("link").click(no_wait_after=True)
    assert heard(page, faulty, words), faulty.troubles


def test_a_page_that_is_too_wide_is_seen(faulty: People) -> None:
    page = show(faulty, '<table width="500"><tr><td>Bred</td></tr></table>')
    page.set_viewport_size(NARROW)
    assert "500 wide" in sideways(page) or "table" in sideways(page)


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ('<a href="/a">Først</a><p><a href="/b" tabindex="1">Sist</a></p>', "comes before"),
        ('<a href="/a">Her</a><div inert></div><a href="/b" hidden>Borte</a>', "do not lead there"),
    ],
)
def test_a_keyboard_that_leads_astray_is_seen(faulty: People, body: str, words: str) -> None:
    page = show(faulty, body)
    with pytest.raises(AssertionError, match=words):
        keyboard.tab_to(page, page.get_by_text("Først") if "Først" in body else page.locator("h1"))


def test_a_focus_that_nobody_sees_is_seen(faulty: People) -> None:
    page = show(faulty, '<a href="/a">Her</a>')
    page.evaluate("document.querySelector('a').attributeStyleMap.set('outline-style', 'none')")
    with pytest.raises(AssertionError, match="does not show that it has the focus"):
        keyboard.tab_to(page, page.get_by_role("link"))
