"""What must be true of every page, in every state and language: nobody is shut out, and it stays within itself."""

import pytest
from playwright.sync_api import Page, Response, ViewportSize

from deploy.local.places import ROOT
from tests.browser import axe, keyboard
from tests.browser.browsing import DESK, LANGUAGES, NARROW, PHONE, People, Scheme, origin, sideways
from tests.browser.scene import Scene
from tests.browser.states import STATES, State

SHOTS = ROOT / ".kursnett" / "shots"
BY_NAME = {state.name: state for state in STATES}
PICTURES: tuple[tuple[str, ViewportSize, Scheme], ...] = (
    ("mork", DESK, "dark"),
    ("mobil", PHONE, "light"),
    ("lys", DESK, "light"),
)


def arrive(people: People, scene: Scene, state: State, language: str) -> Page:
    who, name = (scene.siri, "Siri Eksempel") if state.who == "siri" else (state.who, "")
    page = people.window(who, name=name, language=language)
    people.expected = state.status
    statuses: list[int] = []

    def answered(response: Response) -> None:
        if response.request.is_navigation_request():
            statuses.append(response.status)

    page.on("response", answered)
    state.arrive(page, scene)
    page.wait_for_load_state()
    assert statuses[-1] == state.status
    assert origin(page.url) == people.places.gateway
    return page


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("name", BY_NAME)
def test_nobody_is_shut_out(people: People, scene: Scene, name: str, language: str) -> None:
    page = arrive(people, scene, BY_NAME[name], language)
    if language == "nb":
        photograph(page, name)
        page.set_viewport_size(PHONE)  # one below the other, so that what comes later stands lower
        keyboard.go_round(page)
        page.set_viewport_size(DESK)
    wrong = [f"light: {fault}" for fault in axe.faults(page)]
    page.emulate_media(color_scheme="dark")
    wrong += [f"dark: {fault}" for fault in axe.faults(page)]
    page.set_viewport_size(NARROW)
    if wide := sideways(page):
        wrong.append(f"at {NARROW['width']} px: {wide}")
    if (count := page.locator("h1").count()) != 1:
        wrong.append(f"{count} first headings")
    if (spoken := page.locator("html").get_attribute("lang")) != language:
        wrong.append(f"says that it is in {spoken}")
    assert not wrong, "\n".join(wrong)


def test_what_the_gateway_says_itself_shuts_nobody_out(people: People) -> None:
    """In all languages at once: it knows none of its readers."""
    page = people.window(size=NARROW)
    page.goto("/kurss")
    assert [page.get_by_role("link", name=name).count() for name in ("Finn kurs", "Find a course")] == [2, 1]
    SHOTS.mkdir(parents=True, exist_ok=True)
    page.screenshot(path=SHOTS / "gateway.png")
    assert (axe.faults(page), sideways(page)) == ([], "")


def photograph(page: Page, name: str) -> None:
    """To be looked at by people: light, dark and on a phone."""
    SHOTS.mkdir(parents=True, exist_ok=True)
    for kind, size, scheme in PICTURES:
        page.set_viewport_size(size)
        page.emulate_media(color_scheme=scheme)
        page.screenshot(path=SHOTS / f"{name}-{kind}.png", full_page=True, animations="disabled")
    page.set_viewport_size(DESK)
