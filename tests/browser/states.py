"""Every page in every state: how one gets there. What must be true of all pages is asked of each of these."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from urllib.parse import parse_qs, urlsplit

from playwright.sync_api import Page, expect

from tests.browser.browsing import log_in
from tests.browser.scene import Scene

Address = str | Callable[[Scene], str]
OTHER = "mosjoen"  # a partner that holds no course of the scene
NOTHING = "00000000-0000-0000-0000-000000000000"
FILE = "code;title_nb;subjects;offering;starts_at;ends_at;arena;capacity\n"
GOOD = FILE + "FIL-1;Kurs fra en fil;industri;V30;01.02.2030 18:00;01.02.2030 20:30;bronnoysund;12\n"
BAD = FILE + "FIL-2;;tull;V30;01.02.2030 18:00;i morgen;bronnoysund;mange\n"


@dataclass(frozen=True)
class State:
    """`who` looks: a log-in name, the scene's `siri`, or nobody. `arrive` goes there in a new window, each time."""

    name: str
    arrive: Callable[[Page, Scene], object]
    who: str = ""
    status: int = 200


def at(name: str, address: Address, who: str = "", status: int = 200) -> State:
    """A page that is there by its address."""

    def arrive(page: Page, scene: Scene) -> None:
        page.goto(address if isinstance(address, str) else address(scene))
        for part in page.locator("[data-load]").all():  # parts that other services give
            expect(part).not_to_contain_text(re.compile("Åpne tjenesten|Opne tenesta|Open the service"))

    return State(name, arrive, who, status)


def logged_out(page: Page, scene: Scene) -> None:
    page.goto("/logg-inn")
    log_in(page, scene.somebody(), "Kari Nordmann")
    page.wait_for_url("**/min-side")
    page.locator("form[action='/logg-ut'] button").click()
    page.wait_for_url("**/logg-ut")


def offered(page: Page, scene: Scene) -> tuple[str, str]:
    who = scene.somebody("ola")
    scene.offered("Sveising TIG", who, "Ola Hansen")
    accept, decline = scene.links(who, 2)
    page.goto(accept)
    return accept, decline


def send(page: Page) -> None:
    """Press the button of the page's own form, past what the browser itself would find wrong."""
    page.locator("main form[method=post]").first.evaluate("form => { form.noValidate = true; }")
    with page.expect_navigation():
        page.locator("main form[method=post] button[type=submit]").first.click()


def erased(page: Page, scene: Scene) -> None:
    """By somebody who is nobody's in the scene; the page is looked at when all have answered."""
    page.goto("/logg-inn")
    log_in(page, scene.somebody(), "Kari Nordmann")
    page.wait_for_url("**/min-side")
    page.goto("/personvern/slett")
    send(page)
    expect(page).to_have_url(re.compile("/personvern/slettet/"))


def lapsed(page: Page, scene: Scene) -> None:
    """The link of an offer whose time is over."""
    who = scene.somebody("ola")
    _, enrolment = scene.offered("Sveising MAG", who, "Ola Hansen")
    accept, _ = scene.links(who, 2)
    scene.lapse(enrolment)
    page.goto(accept)


def issuer_away(page: Page, scene: Scene) -> None:
    """Between the log-in and the way back."""
    page.goto("/logg-inn")
    [state] = parse_qs(urlsplit(page.url).query)["state"]
    with scene.issuer_away():
        page.goto(f"/logg-inn/svar?state={state}&code=x")


def overloaded(page: Page, scene: Scene) -> None:
    with scene.overloaded():
        page.goto("/min-side")


def logged_out_meanwhile(page: Page, scene: Scene) -> None:
    page.goto("/varsler/valg")
    page.context.clear_cookies(name="__Host-kursnett")
    send(page)


def form_of_another(page: Page, scene: Scene) -> None:
    page.goto("/varsler/valg")
    page.locator("main input[name=csrf]").evaluate_all("all => all.forEach(one => { one.value = 'x'; })")
    send(page)


def accepted(page: Page, scene: Scene) -> None:
    offered(page, scene)
    send(page)


def declined(page: Page, scene: Scene) -> None:
    _, decline = offered(page, scene)
    page.goto(decline)
    send(page)


def used(page: Page, scene: Scene) -> None:
    accepted(page, scene)
    page.goto(page.url)


def mistaken(page: Page, scene: Scene) -> None:
    page.goto(f"/delta/{scene.rich}")
    page.locator("#email").fill("ikke en adresse")
    send(page)


def upload(content: str, button: str) -> Callable[[Page, Scene], None]:
    def arrive(page: Page, scene: Scene) -> None:
        page.goto("/partner/fil")
        page.locator("input[type=file]").set_input_files(
            {"name": "kurs.csv", "mimeType": "text/csv", "buffer": content.encode()}
        )
        with page.expect_navigation():
            page.locator(f"button[value={button}]").click()

    return arrive


def denied_without_reason(page: Page, scene: Scene) -> None:
    page.goto(f"/deltakere/{scene.approving[0]}")
    page.locator("main details summary").first.click()
    page.locator("main details form").first.evaluate("form => { form.noValidate = true; }")
    with page.expect_navigation():
        page.locator("main details form button").first.click()


def unfolded(page: Page, scene: Scene) -> None:
    assert scene.enrolments
    page.goto("/varsler")
    page.locator("main details summary").first.click()


def wrong_hours(page: Page, scene: Scene) -> None:
    page.goto("/varsler/valg")
    page.locator("#quiet-own").check()
    page.locator("#from").fill("08:00")
    page.locator("#until").fill("08:00")
    send(page)


def calendar(page: Page, scene: Scene) -> None:
    page.goto("/varsler/valg")
    with page.expect_navigation():
        page.locator("form[action='/varsler/valg/kalender'] button").click()


def letter(page: Page, scene: Scene) -> None:
    page.goto(scene.refused)
    with page.expect_navigation():
        page.locator("main table a").first.click()


def letter_asked_about(page: Page, scene: Scene) -> None:
    """One that an operator wants discarded; whoever comes later in the run finds it so, and asks no second time."""
    letter(page, scene)
    if page.locator("#discard").count():
        page.locator("#discard").fill("Partneren har sendt det på nytt.")
        with page.expect_navigation():
            page.locator("form[action$='/discard'] button").click()


def letter_kept(page: Page, scene: Scene) -> None:
    letter_asked_about(page, scene)
    with page.expect_navigation():
        page.locator("form[action$='/keep'] button").click()


def letter_without_reason(page: Page, scene: Scene) -> None:
    letter(page, scene)
    send(page)


def stopping(page: Page, scene: Scene) -> None:
    """Its person reads Bokmål: in another language when that is chosen on the page."""
    page.goto(f"{scene.stopping}?sprak={page.evaluate('navigator.language')[:2]}")


def stopped(page: Page, scene: Scene) -> None:
    stopping(page, scene)
    send(page)


def undone(page: Page, scene: Scene) -> None:
    stopped(page, scene)
    send(page)


def partner_without_reason(page: Page, scene: Scene) -> None:
    page.goto("/drift/catalogue/tilbydere")
    page.locator("main details summary").first.click()
    page.locator("main details form").first.evaluate("form => { form.noValidate = true; }")
    with page.expect_navigation():
        page.locator("main details form button").first.click()


def partner_held_up(page: Page, scene: Scene) -> None:
    """One of which the scene has no course; whoever comes later in the run finds it so."""
    page.goto("/drift/catalogue/tilbydere")
    reason = page.locator(f"#quarantine-{OTHER}")
    if reason.count():
        page.locator(f"#hold-{OTHER} summary").click()
        reason.fill("Filene deres er gale.")
        with page.expect_navigation():
            page.locator(f"#hold-{OTHER} form[action$='/quarantine'] button").click()


def all_states(address: str) -> Address:
    """An address that shows something of Siri's once she has an enrolment in each state."""
    return lambda scene: address if scene.enrolments else ""


def own(state: str, path: str = "") -> Address:
    return lambda scene: f"/min-side/{scene.enrolments[state]}{path}"


SHARED = [
    State("logget-ut", logged_out),
    State("innlogging-borte", issuer_away, status=503),
    State("logget-ut-imens", logged_out_meanwhile, "tom", 401),
    State("skjema-fra-for", form_of_another, "tom", 403),
    State("travelt", overloaded, "tom", 503),
    at("ikke-logget-inn", "/logg-inn/svar?state=x", status=400),
    State("lenke-tilbud", offered),
    State("lenke-godtatt", accepted),
    State("lenke-avslatt", declined),
    State("lenke-brukt", used, status=410),
    State("lenke-for-sent", lapsed, status=410),
    at("lenke-ukjent", "/tilbud/x/godta", status=404),
    at("finnes-ikke", f"/kurs/{NOTHING}/nei", status=404),
]
CATALOGUE = [
    at("forside", "/"),
    at("kurs", "/kurs"),
    at("kurs-treff", "/kurs?q=ledelse&arena=bronnoysund"),
    at("kurs-flere-valg", "/kurs?language=nb"),
    at("kurs-ingen", "/kurs?q=xyzzy"),
    at("kurs-galt", "/kurs?starts_after=tull", status=422),
    at("kurset", lambda scene: scene.course_of(scene.rich)),
    at("kurset-fullt", lambda scene: scene.course_of(scene.busy)),
    at("kurset-stengt", lambda scene: scene.course_of(scene.shut)),
    at("kurset-over", lambda scene: scene.course_of(scene.over)),
    at("kurset-avlyst", lambda scene: scene.course_of(scene.cancelled)),
    at("kurset-trukket", lambda scene: scene.withdrawn),
    at("kurset-finnes-ikke", f"/kurs/{NOTHING}", status=404),
    at("tilbyder", "/partner", "torgar"),
    at("tilbyder-avgjor", lambda scene: scene.undecided, "torgar"),
    at("tilbyder-for-fa", lambda scene: scene.on_hold, "torgar"),
    at("tilbyder-avgjort", "/partner?avgjort=avlyst&antall=3", "torgar"),
    at("tilbyder-gar", "/partner?avgjort=gar", "torgar"),
    at("tilbyder-begynt", "/partner?avgjort=begynt", "torgar"),
    at("tilbyder-mottak", lambda scene: "/partner/mottak" if scene.refused else "", "torgar"),
    at("tilbyder-avvist", lambda scene: "/partner/mottak?vis=refused" if scene.refused else "", "torgar"),
    at("tilbyder-fil", "/partner/fil", "torgar"),
    State("tilbyder-fil-feil", upload(BAD, "lagre"), "torgar", 422),
    State("tilbyder-fil-prov", upload(GOOD, "prov"), "torgar"),
    State("tilbyder-fil-lagret", upload(GOOD, "lagre"), "torgar"),
    at("tilbyder-velg", "/partner", "drift"),
    at("tilbyder-ikke-for-deg", "/partner", "kari", 403),
]
ENROLMENT = [
    at("delta", lambda scene: f"/delta/{scene.rich}", "tom"),
    State("delta-feil", mistaken, "tom", 422),
    at("delta-fullt", lambda scene: f"/delta/{scene.busy}", "tom"),
    at("delta-stengt", lambda scene: f"/delta/{scene.shut}", "tom"),
    at("delta-over", lambda scene: f"/delta/{scene.over}", "tom"),
    at("delta-alt-pameldt", lambda scene: f"/delta/{scene.rich if scene.enrolments else ''}", "siri"),
    at("delta-avlyst", lambda scene: f"/delta/{scene.cancelled}", "tom"),
    at("delta-finnes-ikke", f"/delta/{NOTHING}", "tom", 404),
    at("min-side-tom", "/min-side", "tom"),
    at("min-side", all_states("/min-side"), "siri"),
    *(
        at(f"min-side-{name}", own(state), "siri")
        for name, state in {
            "plass": "associated",
            "ko": "queued",
            "tilbud": "offered",
            "venter": "pending",
            "ikke-godkjent": "denied",
            "avmeldt": "cancelled",
        }.items()
    ),
    at("min-side-meld-av", own("associated", "/meld-av"), "siri"),
    at("personvern", "/personvern"),
    at("personvern-innlogget", "/personvern", "siri"),
    at("personvern-slett", "/personvern/slett", "siri"),
    State("personvern-slettet", erased),
    at("deltakere", lambda scene: f"/deltakere/{scene.busy}", "torgar"),
    at("deltakere-avgjort", lambda scene: f"/deltakere/{scene.busy}?avgjort=approve&antall=2", "torgar"),
    at("deltakere-ingen", lambda scene: f"/deltakere/{scene.offering('Nytt kurs', 4)}", "torgar"),
    at("deltakere-venter", lambda scene: f"/deltakere/{scene.approving[0]}", "torgar"),
    State("deltakere-feil", denied_without_reason, "torgar", 422),
    at("deltakere-ark", lambda scene: f"/deltakere/{scene.busy}/ark", "torgar"),
    at("deltakere-ikke-for-deg", lambda scene: f"/deltakere/{scene.busy}", "kari", 403),
]
NOTIFIER = [
    at("varsler-tom", "/varsler", "tom"),
    at("varsler", all_states("/varsler"), "siri"),
    State("varsler-apnet", unfolded, "siri"),
    at("varsler-valg", "/varsler/valg", "siri"),
    State("varsler-valg-feil", wrong_hours, "siri", 422),
    State("varsler-kalender", calendar, "siri"),
    State("avmelding", stopping),
    State("avmelding-gjort", stopped),
    State("avmelding-angret", undone),
    at("avmelding-ukjent", "/api/notifier/v1/unsubscribe/x", status=404),
]
CONSOLE = [
    at("drift", "/drift", "drift"),
    at("drift-enrolment", "/drift/enrolment", "drift"),
    at("drift-parkert", lambda scene: scene.refused, "drift"),
    State("drift-brev", letter_kept, "drift"),
    State("drift-brev-bedt-forkastet", letter_asked_about, "drift"),
    State("drift-brev-uten-grunn", letter_without_reason, "drift", 422),
    at("drift-parkert-tomt", "/drift/notifier/parkert", "drift"),
    at("drift-tilbydere", "/drift/catalogue/tilbydere", "drift"),
    State("drift-tilbydere-uten-grunn", partner_without_reason, "drift", 422),
    State("drift-tilbydere-karantene", partner_held_up, "drift"),
    at("drift-logg", "/drift/enrolment/logg", "drift"),
    at("drift-tidslinje", lambda scene: f"/drift/tidslinje?id={scene.enrolments['queued']}", "drift"),
    at("drift-tidslinje-en", lambda scene: f"/drift/enrolment/tidslinje/{scene.enrolments['queued']}", "drift"),
    at("drift-ikke-for-deg", "/drift/enrolment", "kari", 403),
]
STATES = [*SHARED, *CATALOGUE, *ENROLMENT, *NOTIFIER, *CONSOLE]
