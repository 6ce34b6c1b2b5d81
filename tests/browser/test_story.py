"""The whole story on a phone, in Norwegian, with the keyboard alone: once with JavaScript and once without."""

import re

import pytest
from playwright.sync_api import Page, expect

from tests.browser.browsing import PHONE, People
from tests.browser.keyboard import press, tab_to, write
from tests.browser.scene import Scene

LIVE_MS = 10_000


def find(page: Page, words: str) -> None:
    """From the front page to a course's own."""
    page.goto("/")
    write(page, page.get_by_role("searchbox", name="Hva vil du lære?"), words)
    page.keyboard.press("Enter")
    page.wait_for_url("**/kurs?**")
    press(page, page.get_by_role("link", name=words))
    page.wait_for_url(re.compile(r"/kurs/[0-9a-f-]{36}"))
    expect(page.get_by_role("heading", level=1)).to_have_text(words)


def ask(page: Page, button: str, who: str, name: str) -> None:
    """From a course's page, through the log-in, to the page that says what came of it."""
    press(page, page.get_by_role("link", name=button))
    page.wait_for_url("**/authorize**")
    write(page, page.get_by_label("Name"), who)
    press(page, page.get_by_role("button", name="Log in", exact=True))
    page.wait_for_url("**/delta/**")
    choose(page)
    write(page, page.get_by_label("Navnet ditt"), name)
    write(page, page.get_by_label("E-postadresse"), f"{who}@example.org")
    press(page, page.get_by_role("button", name="Meld meg på"), "Space")
    page.wait_for_url("**/min-side/**")


def choose(page: Page) -> None:
    """Brønnøysund first, by its first letters."""
    where = page.get_by_label("Hvor vil du helst delta?")
    tab_to(page, where)
    page.keyboard.type("Brø")
    expect(where).to_have_value("bronnoysund")


def leave(page: Page) -> None:
    """From the page of one's own enrolment."""
    press(page, page.get_by_role("link", name="Meld meg av"))
    page.wait_for_url("**/meld-av")
    press(page, page.get_by_role("button", name="Ja, meld meg av"))
    page.wait_for_url(re.compile(r"/min-side/[0-9a-f-]{36}$"))
    expect(page.locator("main")).to_contain_text("Du er ikke påmeldt lenger.")


def show(page: Page, words: str, javascript: bool) -> None:
    """The words come by themselves where there is JavaScript, and by loading the page where there is none."""
    if not javascript:
        page.reload()
    expect(page.locator("main")).to_contain_text(words, timeout=LIVE_MS)


@pytest.mark.parametrize("javascript", [True, False], ids=["with-javascript", "without-javascript"])
def test_from_the_front_page_to_a_seat_and_back_by_keyboard(people: People, scene: Scene, javascript: bool) -> None:
    title = f"Båtførerprøven {scene.somebody('kurs')}"
    scene.run(scene.course(title), {"bronnoysund": 1, "mo-i-rana": 4})
    siri, per = scene.somebody("siri"), scene.somebody("per")

    hers = people.window(size=PHONE, javascript=javascript)
    find(hers, title)
    ask(hers, "Meld deg på", siri, "Siri Eksempel")
    expect(hers.locator("main")).to_contain_text("Du har plass. Sted: Brønnøysund.")
    assert "plass" in scene.mail(siri, 1)["Subject"]

    his = people.window(size=PHONE, javascript=javascript)
    find(his, title)
    ask(his, "Meld deg på", per, "Per Prøve")
    expect(his.locator("main")).to_contain_text("Du er nummer 1 i køen.")
    assert "kø" in scene.mail(per, 1)["Subject"]

    leave(hers)
    show(his, "Du har fått tilbud om plass.", javascript)

    accept, _ = scene.links(per, 2)
    his.goto(accept)
    press(his, his.get_by_role("button", name="Ja, jeg tar plassen"))
    expect(his.get_by_role("heading", level=1)).to_have_text("Plassen er din")
    press(his, his.get_by_role("link", name="Min side"))
    press(his, his.get_by_role("link", name=title).first)
    expect(his.locator("main")).to_contain_text("Du har plass. Sted: Brønnøysund.")
    leave(his)
    assert [one["state"] for one in scene.own(per)] == ["cancelled"]
