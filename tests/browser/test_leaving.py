"""What is left of somebody on a screen that others come to: nothing, and for themselves all that they had typed."""

import re

from playwright.sync_api import expect

from tests.browser.browsing import People, log_in
from tests.browser.scene import Scene
from tests.browser.test_manners import fill, hidden, timed_out

OVER = "Du er logget ut – Kursnett Helgeland"


def test_the_name_of_a_page_is_not_left_on_its_tab_when_the_time_is_over(people: People, scene: Scene) -> None:
    page = timed_out(people, scene, scene.somebody("siri"), "Fortrolig kurs")
    assert "Fortrolig" in page.locator("h1").inner_text(), "the control"
    expect(page).to_have_title(OVER)


def test_the_name_of_a_page_comes_back_with_the_page(people: People, scene: Scene) -> None:
    """When the same person goes on in another tab before the session has ended."""
    page = people.window(scene.somebody("siri"))
    page.clock.install()
    page.goto("/varsler/valg")
    named = page.title()
    page.clock.fast_forward(31 * 60_000)
    expect(page).to_have_title(OVER)
    page.context.new_page().goto("/min-side")
    expect(page.get_by_role("heading", level=1)).to_be_visible()
    expect(page).to_have_title(named)


def test_who_logs_out_leaves_nothing_in_their_other_tabs(people: People, scene: Scene) -> None:
    who = scene.somebody("siri")
    page = people.window()
    page.goto("/logg-inn")
    log_in(page, who)
    page.wait_for_url("**/min-side")
    other = page.context.new_page()
    other.goto(f"/delta/{scene.offering('Glemt fane', 3)}")
    fill(other, scene, who)
    page.get_by_role("button", name="Logg ut").click()
    page.wait_for_url("**/logg-ut")
    told = other.get_by_role("dialog", name="Du er logget ut")
    expect(told).to_be_visible()
    expect(told).to_have_accessible_description(re.compile("logget ut"))
    expect(other).to_have_title(OVER)
    hidden(other)


def test_who_has_all_deleted_leaves_nothing_in_their_other_tabs(people: People, scene: Scene) -> None:
    who = scene.somebody("siri")
    page = people.window()
    page.goto("/logg-inn?neste=/personvern/slett")
    log_in(page, who)
    page.wait_for_url("**/personvern/slett")
    other = page.context.new_page()
    other.goto("/varsler/valg")
    page.locator("main form[method=post] button[type=submit]").click()
    page.wait_for_url("**/personvern/slettet/*")
    expect(other.get_by_role("dialog", name="Du er logget ut")).to_be_visible()
    hidden(other)


def test_the_words_of_a_search_are_there_again_after_the_log_in(people: People, scene: Scene) -> None:
    """Those that were sent, with what was found, and those that were not sent yet."""
    enrolment, typed = scene.enrolments["queued"], "01a22385-b12e"
    page = people.window()
    page.clock.install()
    page.goto(f"/logg-inn?neste=/drift/tidslinje?id={enrolment}")
    log_in(page, "drift")
    asked = page.locator("main input[name=id]")
    expect(asked).to_have_value(enrolment)
    asked.fill(typed)
    page.clock.fast_forward(31 * 60_000)
    page.get_by_role("link", name="Logg inn på nytt").click()
    log_in(page, "drift")
    page.wait_for_url(f"**/drift/tidslinje?id={enrolment}")
    expect(asked).to_have_value(typed)
