"""How pages behave when people do what people do: press twice, go back, lose the network, keep two tabs open."""

import re

import pytest
from playwright.sync_api import APIResponse, Page, Route, expect

from tests.browser import axe
from tests.browser.browsing import NARROW, PHONE, People, log_in, sideways
from tests.browser.scene import Scene
from tests.browser.test_states import SHOTS

LIVE_MS = 10_000
HOSTILE = [
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "</script><script>alert(1)</script>",
    "</title><svg onload=alert(1)>",
    "javascript:alert(1)",
    "{{ 7 * 7 }}${7*7}<%= 7*7 %>",
    "'-alert(1)-'",
    "<a href=javascript:alert(1)>klikk</a>",
]


def fill(page: Page, scene: Scene, who: str, name: str = "Siri Eksempel") -> None:
    """Everything that the form of a course with one place asks for."""
    page.get_by_label("Navnet ditt").fill(name)
    page.get_by_label("E-postadresse").fill(f"{who}@example.org")


def enrolled(people: People, scene: Scene, title: str, seats: int = 3, who: str = "") -> tuple[Page, str, str]:
    """(the page of an enrolment just made, its person, the run)."""
    who = who or scene.somebody("siri")
    offering = scene.offering(title, seats)
    page = people.window(who, name="Siri Eksempel")
    page.goto(f"/delta/{offering}")
    fill(page, scene, who)
    page.get_by_role("button", name="Meld meg på").click()
    page.wait_for_url("**/min-side/*")
    return page, who, offering


@pytest.mark.parametrize("hostile", HOSTILE)
def test_what_a_partner_or_a_learner_writes_is_shown_and_never_run(people: People, scene: Scene, hostile: str) -> None:
    code = scene.course(
        hostile, summary={"nb": hostile}, description={"nb": hostile}, prerequisites={"nb": hostile}, funded_by=hostile
    )
    offering = scene.run(code, {"bronnoysund": 2}, requires_approval=True)
    who = scene.somebody("siri")
    scene.enrol(offering, who, hostile)
    course = scene.course_of(offering)
    hers, theirs = people.window(who), people.window("torgar")
    for page, address in [
        (hers, f"/kurs?q={code}"),
        (hers, course),
        (hers, f"/delta/{offering}"),
        (hers, "/min-side"),
        (hers, f"/min-side/{scene.own(who)[0]['enrolment_id']}"),
        (theirs, f"/deltakere/{offering}"),
        (theirs, f"/deltakere/{offering}/ark"),
        (theirs, "/partner"),
    ]:
        page.goto(address)
        page.wait_for_load_state()
        assert page.locator("[onerror], [onload], img[src=x], a[href^=javascript]").count() == 0, address
    hers.goto(course)
    expect(hers.get_by_role("heading", level=1)).to_have_text(hostile)
    assert hers.locator("script:not([src]):not([type='application/ld+json'])").count() == 0


def test_a_double_click_gives_one_enrolment(people: People, scene: Scene) -> None:
    who, offering = scene.somebody("siri"), scene.offering("Dobbeltklikk", 3)
    for javascript in (True, False):
        page = people.window(who, javascript=javascript)
        page.goto(f"/delta/{offering}")
        fill(page, scene, who)
        page.get_by_role("button", name="Meld meg på").dblclick(no_wait_after=True)
        page.wait_for_url(re.compile("/(min-side|delta)/"))
        expect(page.locator("main")).to_contain_text("Du har plass.")
        [seat] = [one["enrolment_id"] for one in scene.own(who) if one["state"] != "cancelled"]
        scene.withdraw(seat, who)


def test_a_form_whose_sending_was_stopped_may_be_sent_again_after_a_while(people: People, scene: Scene) -> None:
    who, offering = scene.somebody("siri"), scene.offering("Treg linje", 3)
    page = people.window(who)
    page.clock.install()
    page.goto(f"/delta/{offering}")
    fill(page, scene, who)
    # What would be sent is counted and goes nowhere, as on a line that was stopped.
    page.locator("main form").evaluate("""form => form.addEventListener("submit", event => {
        if (event.defaultPrevented) return;
        form.dataset.count = Number(form.dataset.count ?? 0) + 1;
        event.preventDefault();
    })""")
    for waited_ms, sends in ((0, "1"), (9_000, "1"), (2_000, "2")):
        page.clock.fast_forward(waited_ms)
        page.get_by_role("button", name="Meld meg på").click()
        expect(page.locator("main form")).to_have_attribute("data-count", sends)


def idle_for(scene: Scene, who: str, minutes: int) -> None:
    """As if this person had last opened a page so long ago."""
    past = "UPDATE sessions SET seen_at = app_now() - $1::int * interval '1 minute' WHERE subject = $2"
    scene.sql(past, minutes, who)


def used_just_now(scene: Scene, who: str) -> bool:
    found = scene.sql("SELECT seen_at > app_now() - interval '1 minute' AS used FROM sessions WHERE subject = $1", who)
    return bool(found[0]["used"])


def test_who_does_nothing_is_told_before_being_logged_out_and_goes_on_with_one_press(
    people: People, scene: Scene
) -> None:
    """In this tab; and another that lies open, and hears of it."""
    who, offering = scene.somebody("siri"), scene.offering("Lang tanke", 3)
    page = people.window(who)
    other = page.context.new_page()
    page.clock.install()  # of both
    for one in (other, page):
        one.goto(f"/delta/{offering}")
    page.get_by_label("E-postadresse").fill("siri@example.org")
    idle_for(scene, who, 26)
    page.clock.fast_forward(26 * 60_000)
    for one in (page, other):
        expect(one.get_by_role("dialog")).to_have_count(0)
    page.clock.fast_forward(65_000)
    told = page.get_by_role("dialog", name="Er du her ennå?")
    expect(told).to_have_accessible_description(re.compile("Om to minutter blir du logget ut"))
    expect(told.get_by_role("button", name="Fortsett")).to_be_focused()
    expect(other.get_by_role("dialog", name="Er du her ennå?")).to_be_visible()
    page.set_viewport_size(PHONE)
    page.screenshot(path=SHOTS / "snart-logget-ut-mobil.png")
    assert axe.faults(page) == []
    page.emulate_media(color_scheme="dark")
    assert axe.faults(page) == []
    page.screenshot(path=SHOTS / "snart-logget-ut-mork.png")
    assert not used_just_now(scene, who), "the control"
    page.keyboard.press("Enter")
    for one in (page, other):
        expect(one.get_by_role("dialog")).to_have_count(0)
    assert used_just_now(scene, who)
    expect(page.get_by_label("E-postadresse")).to_have_value("siri@example.org")


def test_who_is_logged_out_for_doing_nothing_is_told_so_with_a_way_back_in(people: People, scene: Scene) -> None:
    who, offering = scene.somebody("siri"), scene.offering("For lang tanke", 3)
    page = people.window(who)
    page.clock.install()
    page.goto(f"/delta/{offering}")
    idle_for(scene, who, 31)
    people.expected = 401
    page.clock.fast_forward(28 * 60_000)
    page.get_by_role("button", name="Fortsett").click()
    told = page.get_by_role("dialog", name="Du er logget ut")
    expect(told.get_by_role("link", name="Logg inn på nytt")).to_have_attribute(
        "href", f"/logg-inn?neste=/delta/{offering}"
    )
    expect(page.get_by_role("dialog")).to_have_count(1)


def timed_out(people: People, scene: Scene, who: str, title: str) -> Page:
    """A form of this person's that lies open, half filled in, after the session's time is over."""
    page = people.window(who)
    page.clock.install()
    page.goto(f"/delta/{scene.offering(title, 3)}")
    fill(page, scene, who)
    idle_for(scene, who, 31)
    page.clock.fast_forward(31 * 60_000)
    expect(page.get_by_role("dialog", name="Du er logget ut")).to_be_visible()
    return page


def hidden(page: Page) -> None:
    """Nothing of the page is seen or read aloud, whatever is typed in it."""
    for part in ("body > header", "main", "body > footer"):
        expect(page.locator(part)).to_be_hidden()
    expect(page.get_by_role("textbox")).to_have_count(0)


def test_nothing_of_a_persons_page_is_left_on_the_screen_when_the_time_is_over(people: People, scene: Scene) -> None:
    """Machines are shared. Escape does not bring it back, nor does the printer."""
    page = timed_out(people, scene, scene.somebody("siri"), "Delt maskin")
    told = page.get_by_role("dialog", name="Du er logget ut")
    hidden(page)
    for _ in range(3):  # a browser lets the second one through
        page.keyboard.press("Escape")
        hidden(page)
        expect(told).to_be_visible()
    page.emulate_media(media="print")
    hidden(page)
    page.emulate_media(media="screen")
    page.clock.fast_forward(60_000)
    hidden(page)
    page.set_viewport_size(PHONE)
    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme=scheme)
        assert axe.faults(page) == []
        page.screenshot(path=SHOTS / f"logget-ut-{scheme}.png")


def test_what_was_typed_is_there_again_when_the_same_person_logs_in_again(people: People, scene: Scene) -> None:
    who = scene.somebody("siri")
    page = timed_out(people, scene, who, "Samme person")
    page.get_by_role("link", name="Logg inn på nytt").click()
    log_in(page, who)
    expect(page.get_by_label("E-postadresse")).to_have_value(f"{who}@example.org")
    expect(page.get_by_label("Navnet ditt")).to_have_value("Siri Eksempel")
    assert page.evaluate("sessionStorage.length") == 0
    page.get_by_role("button", name="Meld meg på").click()
    expect(page.locator("main")).to_contain_text("Du har plass.")


def test_another_person_who_logs_in_sees_nothing_of_the_first_ones(people: People, scene: Scene) -> None:
    who, other = scene.somebody("siri"), scene.somebody("per")
    page = timed_out(people, scene, who, "Annen person")
    page.get_by_role("link", name="Logg inn på nytt").click()
    log_in(page, other)
    expect(page.get_by_label("E-postadresse")).not_to_have_value(f"{who}@example.org")
    assert page.evaluate("sessionStorage.length") == 0


def test_a_tab_that_was_left_open_is_hidden_when_another_person_logs_in(people: People, scene: Scene) -> None:
    """However much time its own session had: the browser has another one now. Its own use does not give it back."""
    who, other = scene.somebody("siri"), scene.somebody("per")
    page = people.window(who)
    page.goto(f"/delta/{scene.offering('To personer', 3)}")
    fill(page, scene, who)
    theirs = page.context.new_page()
    theirs.goto("/logg-inn")
    log_in(theirs, other)
    theirs.wait_for_url("**/min-side")
    expect(page.get_by_role("dialog", name="Du er logget ut")).to_be_visible()
    hidden(page)
    theirs.reload()
    expect(theirs.get_by_role("heading", level=1)).to_be_visible()
    hidden(page)


def test_who_has_been_logged_in_for_long_is_told_at_what_hour_that_ends(people: People, scene: Scene) -> None:
    """However much is done."""
    who = scene.somebody("siri")
    page = people.window(who)
    scene.sql("UPDATE sessions SET created_at = app_now() - interval '7 hours 50 minutes' WHERE subject = $1", who)
    page.clock.install()
    page.goto("/min-side")
    page.clock.fast_forward(6 * 60_000)
    told = page.get_by_role("dialog", name="Du blir snart logget ut")
    expect(told).to_have_accessible_description(re.compile(r"^Kl\. \d\d\.\d\d har du vært innlogget i åtte timer"))
    page.keyboard.press("Escape")
    expect(page.get_by_role("dialog")).to_have_count(0)
    page.clock.fast_forward(5 * 60_000)
    expect(page.get_by_role("dialog", name="Du er logget ut")).to_be_visible()


def test_who_goes_back_after_withdrawing_is_told_so(people: People, scene: Scene) -> None:
    page, _, _ = enrolled(people, scene, "Tilbakeknappen")
    page.get_by_role("link", name="Meld meg av").click()
    page.get_by_role("button", name="Ja, meld meg av").click()
    expect(page.locator("main")).to_contain_text("Du er ikke påmeldt lenger.")
    page.go_back()
    again = page.get_by_role("button", name="Ja, meld meg av")
    if again.count():  # the browser shows what it kept
        again.click()
    expect(page.locator("main")).to_contain_text("Du er ikke påmeldt lenger.")


def test_without_a_network_nothing_is_sent_and_a_sentence_says_so(people: People, scene: Scene) -> None:
    who, offering = scene.somebody("siri"), scene.offering("Uten nett", 3)
    page = people.window(who, size=PHONE)
    page.goto(f"/delta/{offering}")
    fill(page, scene, who)
    page.context.set_offline(True)
    page.get_by_role("button", name="Meld meg på").click()
    expect(page.get_by_role("alert")).to_have_text("Du er uten nett. Ingenting er sendt. Prøv igjen når du er på nett.")
    expect(page.get_by_label("E-postadresse")).to_have_value(f"{who}@example.org")
    page.context.set_offline(False)
    page.get_by_role("button", name="Meld meg på").click()
    expect(page.locator("main")).to_contain_text("Du har plass.")


def test_two_tabs_end_in_one_enrolment_and_a_plain_sentence(people: People, scene: Scene) -> None:
    who, offering = scene.somebody("siri"), scene.offering("To faner", 3)
    first = people.window(who)
    second = first.context.new_page()
    for page in (first, second):
        page.goto(f"/delta/{offering}")
        fill(page, scene, who)
    first.get_by_role("button", name="Meld meg på").click()
    expect(first.locator("main")).to_contain_text("Du har plass.")
    second.get_by_role("button", name="Meld meg på").click()
    expect(second.locator("main")).to_contain_text("Du er allerede påmeldt")
    assert len(scene.own(who)) == 1


def test_an_offer_that_was_answered_in_one_tab_is_not_answered_otherwise_in_another(
    people: People, scene: Scene
) -> None:
    who = scene.somebody("siri")
    _, enrolment = scene.offered("To svar", who, "Siri Eksempel")
    first = people.window(who)
    second = people.window(who, javascript=False)  # does not hear of what happens
    for page in (first, second):
        page.goto(f"/min-side/{enrolment}")
    first.get_by_role("button", name="Ja, jeg tar plassen").click()
    expect(first.locator("main")).to_contain_text("Du har plass.")
    second.get_by_role("button", name="Nei, ta meg ut av køen").click()
    expect(second.locator("main")).to_contain_text("Ingenting er endret")
    assert scene.own(who)[0]["state"] == "associated"


def test_the_focus_stays_where_it_is_when_the_page_changes_by_itself(people: People, scene: Scene) -> None:
    offering, first, seat = scene.full("Fokus")
    who = scene.somebody("siri")
    enrolment = scene.enrol(offering, who, "Siri Eksempel")
    own, listed = people.window(who), people.window(who)
    own.goto(f"/min-side/{enrolment}")
    listed.goto("/min-side")
    kept = listed.get_by_role("link", name="Fokus").first
    kept.focus()
    own.get_by_role("link", name="Meld meg av").focus()  # one says no to an offer instead, so this link goes
    scene.withdraw(seat, first)
    for page in (own, listed):
        expect(page.locator("main")).to_contain_text("Du har fått tilbud om plass.", timeout=LIVE_MS)
    expect(kept).to_be_focused()
    expect(own.locator("[data-part]")).to_be_focused()
    own.keyboard.press("Tab")
    expect(own.get_by_role("button", name="Ja, jeg tar plassen")).to_be_focused()


def test_a_notice_that_is_being_read_stays_open_and_in_focus_when_another_comes(people: People, scene: Scene) -> None:
    who = scene.somebody("siri")
    scene.enrol(scene.offering("Første varsel", 3), who, "Siri Eksempel")
    scene.mail(who, 1)
    page = people.window(who)
    page.goto("/varsler")
    summary = page.locator("main details summary").filter(has_text="Første varsel")
    summary.focus()
    page.keyboard.press("Enter")
    scene.enrol(scene.offering("Neste varsel", 3), who, "Siri Eksempel")
    expect(page.locator("main")).to_contain_text("Neste varsel", timeout=LIVE_MS)
    expect(page.locator("main details[open]")).to_contain_text("Første varsel")
    expect(summary).to_be_focused()


def test_a_course_tells_of_its_seats_by_itself(people: People, scene: Scene) -> None:
    """And the way to ask for one is called by what one would get; whoever is on it with the keyboard stays there."""
    offering, per = scene.offering("Siste plass", 1), scene.somebody("per")
    page = people.window()
    page.goto(scene.course_of(offering))
    seats, ask = page.locator("main .seats"), page.locator(f"main a[href='/delta/{offering}']")
    expect(seats).to_contain_text("én ledig plass")
    expect(ask).to_have_text("Meld deg på")
    ask.focus()
    seat = scene.enrol(offering, per, "Per Prøve")
    expect(seats).to_contain_text("fullt", timeout=LIVE_MS)
    expect(ask).to_have_text("Still deg i kø")
    expect(ask).to_be_focused()
    scene.withdraw(seat, per)
    expect(ask).to_have_text("Meld deg på", timeout=LIVE_MS)
    expect(ask).to_be_focused()


def test_the_button_of_an_open_form_says_what_it_would_bring(people: People, scene: Scene) -> None:
    offering, per = scene.offering("Knappen", 1), scene.somebody("per")
    page = people.window(scene.somebody("siri"))
    page.goto(f"/delta/{offering}")
    ask = page.locator("main form button[type=submit]")
    expect(ask).to_have_text("Meld meg på")
    ask.focus()
    seat = scene.enrol(offering, per, "Per Prøve")
    expect(ask).to_have_text("Still meg i kø", timeout=LIVE_MS)
    expect(ask).to_be_focused()
    scene.withdraw(seat, per)
    expect(ask).to_have_text("Meld meg på", timeout=LIVE_MS)


def test_a_long_word_of_a_heading_is_parted_as_its_language_parts_words_on_a_phone_alone(
    people: People, scene: Scene
) -> None:
    """Where it is parted, the browser's own dictionary says; it has to know the language."""
    code = scene.course("Vedlikeholdsplanlegging")
    page = people.window(language="en")
    page.goto(scene.course_of(scene.run(code, {"online": 1})))
    heading = page.get_by_role("heading", level=1)
    expect(heading).to_have_attribute("lang", "nb")
    expect(heading).to_have_css("hyphens", "manual")
    page.set_viewport_size(NARROW)
    expect(heading).to_have_css("hyphens", "auto")


def test_a_seat_that_goes_before_the_page_can_hear_of_it_is_gone_on_it(people: People, scene: Scene) -> None:
    """Between the making of a page and the opening of its stream somebody else may be faster."""
    offering, siri, per = scene.offering("Kappløp", 1), scene.somebody("siri"), scene.somebody("per")
    page = people.window(siri)
    taken: list[str] = []

    def faster(route: Route) -> None:
        if not taken:
            taken.append(scene.enrol(offering, per, "Per Prøve"))
        route.continue_()

    page.route("**/offerings/*/live", faster)
    page.goto(f"/delta/{offering}")
    expect(page.locator("main [data-live]")).to_contain_text("fullt", timeout=LIVE_MS)
    assert taken


def test_the_answer_to_an_older_question_does_not_undo_a_newer_one(people: People, scene: Scene) -> None:
    """One that was asked for while there was a seat, and comes after the one that says that there is none."""
    offering = scene.offering("Sent svar", 2)
    page = people.window(scene.somebody("siri"))
    late: list[tuple[Route, APIResponse]] = []

    def keep(route: Route) -> None:
        answer = route.fetch()
        if "én ledig plass" in answer.text():
            late.append((route, answer))
        else:
            route.fulfill(response=answer)

    page.route("**/plasser/*", keep)
    page.goto(f"/delta/{offering}")
    part = page.locator("main [data-live]")
    expect(part).to_contain_text("2 ledige plasser")
    scene.enrol(offering, scene.somebody("per"), "Per Prøve")
    while not late:
        page.wait_for_timeout(50)
    scene.enrol(offering, scene.somebody("ada"), "Ada Prøve")
    expect(part).to_contain_text("fullt", timeout=LIVE_MS)
    with page.expect_event("requestfinished"):
        for route, answer in late:
            route.fulfill(response=answer)
    page.evaluate("() => new Promise((done) => setTimeout(done))")  # what the page does with it, it has done by then
    expect(part).to_contain_text("fullt")


def test_to_open_what_a_card_folds_leaves_the_cards_beside_it_as_they_are(people: People, scene: Scene) -> None:
    page = people.window("drift")
    page.goto("/drift/catalogue/tilbydere")
    cards = page.locator(".cards > li")
    # The control: there are two in a row.
    rows = cards.evaluate_all("all => all.map(one => one.getBoundingClientRect().top)")
    assert rows[0] == rows[1]
    heights = "all => all.map(one => one.getBoundingClientRect().height)"
    before = cards.evaluate_all(heights)
    cards.first.locator("summary").click()
    page.wait_for_function("before => document.querySelector('.cards > li').offsetHeight > before + 100", arg=before[0])
    assert cards.evaluate_all(heights)[1:] == before[1:]


def test_a_name_of_one_long_word_stays_within_a_narrow_screen(people: People, scene: Scene) -> None:
    """As Norwegian makes them: of a course, and of somebody."""
    who, title, name = scene.somebody("siri"), "Arbeidsmiljøopplæringskoordinatorkurs", "Kari " + "Nordmannshaugen" * 4
    offering = scene.offering(title, 3, requires_approval=True)
    enrolment = scene.enrol(offering, who, name)
    scene.mail(who, 1)
    hers, theirs = people.window(who, size=NARROW), people.window("torgar", size=NARROW)
    wide = {}
    for page, address in [
        (hers, scene.course_of(offering)),
        (hers, f"/delta/{offering}"),
        (hers, "/min-side"),
        (hers, f"/min-side/{enrolment}"),
        (hers, "/varsler"),
        (theirs, f"/deltakere/{offering}"),
    ]:
        page.goto(address)
        expect(page.locator("main")).to_contain_text(title)
        wide[address] = sideways(page)
    assert {address: why for address, why in wide.items() if why} == {}


def test_the_sheet_to_sign_is_printed_without_the_menus(people: People, scene: Scene) -> None:
    page = people.window("torgar")
    page.goto(f"/deltakere/{scene.busy}/ark")
    expect(page.get_by_role("button", name="Skriv ut")).to_be_visible()
    head = page.locator(".sheet .onpaper")
    expect(head).to_be_hidden()
    page.emulate_media(media="print")
    for gone in ("header", "footer", ".actions", "h1"):
        expect(page.locator(gone).first).to_be_hidden()
    expect(page.get_by_role("table")).to_be_visible()
    expect(page.get_by_role("rowheader", name="Anne Prøve")).to_be_visible()
    for told in ("Truckførerkurs T1 og T2", "Brønnøysund, 3 deltakere", "kl."):
        expect(head).to_contain_text(told)


def test_the_list_of_those_who_attend_is_printed_without_what_one_can_press(people: People, scene: Scene) -> None:
    page = people.window("torgar")
    page.goto(f"/deltakere/{scene.approving[0]}")
    pressed = page.locator("main :is(button, input, summary)").filter(visible=True)
    expect(pressed).not_to_have_count(0)
    page.emulate_media(media="print")
    expect(pressed).to_have_count(0)
    expect(page.get_by_role("rowheader", name="Anne Prøve")).to_be_visible()


def test_a_long_sheet_is_printed_with_its_head_on_every_page(people: People, scene: Scene) -> None:
    """Kept as a file, to be looked at: a page for each twenty or so, and each page says what was signed."""
    offering = scene.offering("Fagbrev i drift", 45)
    for number in range(45):
        scene.enrol(offering, scene.somebody("deltaker"), f"Prøve Nordmann {number}")
    page = people.window("torgar")
    page.goto(f"/deltakere/{offering}/ark")
    expect(page.get_by_role("rowheader")).to_have_count(45)
    SHOTS.mkdir(parents=True, exist_ok=True)
    printed = page.pdf(path=SHOTS / "deltakere-ark.pdf", prefer_css_page_size=True)
    assert printed.count(b"/Type /Page\n") == 3
    assert b"/MediaBox [0 0 594" in printed or b"/MediaBox [0 0 595" in printed, "A4"
    head = page.locator(".sheet thead")
    page.emulate_media(media="print")
    assert head.evaluate("one => getComputedStyle(one).display") == "table-header-group", "which stands on each page"
