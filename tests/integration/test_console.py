"""The operators' console: each act does what the command does and is written down with it; nobody else gets in."""

import re
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from html import escape
from typing import Any

import asyncpg
import pytest
from aiokafka import AIOKafkaProducer
from httpx2 import AsyncClient, Response

from contracts.topics import SERVICES, partner_courses
from deploy.local.places import ROOT
from kit import acts, http, parking, passes, plots, switch, topics
from kit.acts import Operator
from kit.auth import Caller
from kit.database import Connection, connect
from kit.operating import me
from kit.pages.site import HERE
from kit.parking import Record
from kit.passes import Visitor
from kit.running import Running, Shown
from services.catalogue import events, holding
from services.catalogue import operating as catalogue
from services.catalogue.app import ROUTERS
from services.catalogue.settings import CatalogueSettings
from services.catalogue.store import partners
from tests.delivery import Servers, listening, running, until
from tests.web import client

pytestmark = pytest.mark.anyio

PRIVATE, PUBLIC = passes.generate()
CSRF = "given-with-the-form"
DRIFT = Caller("i", "drift", role="operator", name="Drift Hansen")
ADA = Caller("i", "ada", role="operator", name="Ada Berg")
LEARNER = Caller("i", "kari", name="Kari")
PARTNER = Caller("i", "tor", partner="torgar")
HOSTILE = '{"name": "<script>alert(1)</script>", "to": "kari@example.no", "turned": "\u202eabc"}'
BASE = "/drift/catalogue"
LETTER = f"{BASE}/parkert/1"
WHY = {"reason": "feilen er rettet"}


@dataclass
class Desk:
    """An operator's browser in front of one catalogue."""

    here: Running
    asking: AsyncClient
    settings: CatalogueSettings
    partner: str

    async def get(self, address: str, caller: Caller | None = DRIFT) -> Response:
        return await self.asking.get(address, headers=self._headers(caller))

    async def post(
        self, address: str, fields: dict[str, str] | None = None, caller: Caller | None = DRIFT, csrf: str = CSRF
    ) -> Response:
        return await self.asking.post(address, data={"csrf": csrf, **(fields or {})}, headers=self._headers(caller))

    def _headers(self, caller: Caller | None) -> dict[str, str]:
        sent = {"accept": "text/html", "accept-language": "nb"}
        if caller is not None:
            sent["kursnett-pass"] = passes.sign(PRIVATE, Visitor(caller, CSRF))
        return sent

    async def acts(self) -> list[tuple[str, str, str]]:
        """What the list holds, oldest first: (act, about, reason)."""
        async with self.here.database.reading() as conn:
            return [(one["act"], one["about"], one["reason"]) for one in reversed(await acts.listing(conn))]

    async def state(self, number: int = 1) -> str:
        async with self.here.database.reading() as conn:
            return (await parking.states(conn, [number]))[number]

    async def of_partner(self) -> str:
        async with self.here.database.reading() as conn:
            row = await partners.known(conn, self.partner)
        assert row is not None
        return str(row["state"])

    async def paused(self) -> bool:
        async with self.here.database.reading() as conn:
            return (await switch.look(conn, "catalogue.partners")).paused

    async def whole(self) -> dict[str, Any]:
        """All that the database holds, as digests."""
        found = {}
        async with self.here.database.reading() as conn:
            for row in await conn.fetch("SELECT tablename FROM pg_tables WHERE schemaname = 'public'"):
                name = row["tablename"]
                found[name] = await conn.fetchval(
                    f"SELECT md5(coalesce(string_agg(t::text, chr(10) ORDER BY t::text), '')) FROM \"{name}\" AS t"
                )
        return found


@asynccontextmanager
async def opened(servers: Servers, **changed: Any) -> AsyncIterator[Desk]:
    """A catalogue with one partner and one parked record that holds what a stranger would write."""
    known = (await servers.database("catalogue")).model_dump() | {"pass_public_key": PUBLIC} | changed
    settings = CatalogueSettings(**known)
    conn = await connect(settings, "migrate")
    partner = f"p-{uuid.uuid4().hex[:12]}"
    try:
        await conn.execute("INSERT INTO partners (slug, name, arenas) VALUES ($1, 'Sveiseskolen', '{online}')", partner)
        async with conn.transaction():
            record = Record(f"partners.{partner}.courses", 0, 7, b"kari", (("x", b"<b>"),), HOSTILE.encode())
            await parking.park(
                conn, "catalogue", "catalogue.partners", record,
                state="parked", reason="failed", detail="name <i>", event_id='"><img src=x>', type="<u>",
            )  # fmt: skip
    finally:
        await conn.close()
    async with running(settings, "catalogue") as here:
        here.shown = Shown(["partners", "enrolments"], links=holding.LINKS)
        async with client(http.build(here, ROUTERS)) as asking:
            yield Desk(here, asking, settings, partner)


@pytest.fixture
async def desk(servers: Servers) -> AsyncIterator[Desk]:
    async with opened(servers) as here:
        yield here


def address(desk: Desk, act: str) -> str:
    known = {
        "redrive": f"{LETTER}/redrive",
        "discard": f"{LETTER}/discard",
        "confirm": f"{LETTER}/confirm",
        "keep": f"{LETTER}/keep",
        "show": f"{LETTER}/show",
        "pause": f"{BASE}/lyttere/partners/pause",
        "resume": f"{BASE}/lyttere/partners/resume",
        "suspend": f"{BASE}/tilbydere/{desk.partner}/suspend",
        "quarantine": f"{BASE}/tilbydere/{desk.partner}/quarantine",
        "release": f"{BASE}/tilbydere/{desk.partner}/release",
    }
    return known[act]


ACTS = ("redrive", "discard", "confirm", "keep", "show", "pause", "resume", "suspend", "quarantine", "release")
WITH_REASON = ("discard", "show", "pause", "suspend", "quarantine")


async def test_each_act_is_done_and_leaves_one_line(desk: Desk) -> None:
    slug, why = desk.partner, WHY["reason"]

    async def done(act: str, caller: Caller = DRIFT) -> int:
        return (await desk.post(address(desk, act), WHY, caller)).status_code

    assert await done("pause") == 303
    assert await desk.paused()
    assert await done("resume") == 303
    assert not await desk.paused()
    assert [await done("suspend"), await desk.of_partner()] == [303, "suspended"]
    assert [await done("release"), await desk.of_partner()] == [303, "active"]
    assert [await done("quarantine"), await desk.of_partner()] == [303, "quarantined"]
    assert await done("show") == 200
    assert [await done("redrive"), await desk.state()] == [303, "redrive"]
    assert [await done("discard"), await desk.state()] == [303, "redrive"]
    assert [await done("keep"), await desk.state()] == [303, "redrive"]
    assert [await done("discard"), await desk.state()] == [303, "redrive"]
    assert [await done("confirm", ADA), await desk.state()] == [303, "discarded"]
    assert await desk.acts() == [
        ("consumer pause", "catalogue.partners", why),
        ("consumer resume", "catalogue.partners", ""),
        ("partners suspend", slug, why),
        ("partners release", slug, why),
        ("partners quarantine", slug, why),
        ("parked show", "1", why),
        ("parked redrive", "1", ""),
        ("parked discard ask", "1", why),
        ("parked keep", "1", ""),
        ("parked discard ask", "1", why),
        ("parked discard", "1", why),
    ]
    async with desk.here.database.reading() as conn:
        last, asked = (await acts.listing(conn))[:2]
        row = await parking.show(conn, 1)
    assert (last["way"], last["by"], last["name"]) == ("console", ADA.key, "Ada Berg")
    assert (asked["way"], asked["by"], asked["name"]) == ("console", DRIFT.key, "Drift Hansen")
    assert row is not None
    assert (row["closed_by"], row["closed_reason"]) == ("Drift Hansen, Ada Berg", why)


async def test_a_record_is_discarded_by_two(desk: Desk) -> None:
    """Whoever asks for it cannot do it, by no way; another can, or says no; and the last word is with one of them."""
    for early in ("confirm", "keep"):
        answer = await desk.post(address(desk, early), WHY, ADA)
        assert (answer.status_code, "Ingen ber lenger om at" in answer.text) == (409, True)
    assert (await desk.post(address(desk, "discard"), WHY)).status_code == 303
    for caller, words, button in ((DRIFT, "Du har bedt om det", False), (ADA, "Drift Hansen ber om", True)):
        page = (await desk.get(LETTER, caller)).text
        assert (words in page, WHY["reason"] in page, address(desk, "confirm") in page) == (True, True, button)
    assert "Bedt forkastet" in (await desk.get(f"{BASE}/parkert", ADA)).text

    before = await desk.whole()
    own = await desk.post(address(desk, "confirm"), WHY)
    assert (own.status_code, "kan ikke gjøre det selv" in own.text) == (409, True)
    renamed = Caller(DRIFT.issuer, DRIFT.subject, role="operator", name="Another Name")
    assert (await desk.post(address(desk, "confirm"), WHY, renamed)).status_code == 409
    for caller in (DRIFT, ADA):
        again = await desk.post(address(desk, "discard"), WHY, caller)
        assert (again.status_code, "Noen har alt bedt om" in again.text) == (409, True)
    assert await desk.whole() == before

    assert (await desk.post(address(desk, "keep"), caller=ADA)).status_code == 303
    assert (await desk.post(address(desk, "confirm"), caller=ADA)).status_code == 409, "she said no"
    await desk.post(address(desk, "discard"), WHY)
    await desk.post(address(desk, "redrive"), caller=ADA)
    assert (await desk.post(address(desk, "confirm"), caller=ADA)).status_code == 409, "it runs again instead"
    assert await desk.state() == "redrive"
    nameless = Caller("i", "eva", role="operator")  # the issuer says no name
    await desk.post(address(desk, "discard"), WHY, nameless)
    page = (await desk.get(LETTER)).text
    assert ("En operatør ber om" in page, nameless.key in page) == (True, False)
    assert (await desk.post(address(desk, "confirm"))).status_code == 303
    assert await desk.state() == "discarded"


@pytest.mark.parametrize("act", ACTS)
async def test_what_cannot_be_written_down_is_not_done(desk: Desk, act: str) -> None:
    if act == "resume":
        await desk.post(address(desk, "pause"), WHY)
    if act == "release":
        await desk.post(address(desk, "suspend"), WHY)
    if act in ("confirm", "keep"):
        await desk.post(address(desk, "discard"), WHY, ADA)
    async with desk.here.database.reading() as conn:
        await conn.execute("ALTER TABLE operator_acts ADD CONSTRAINT full_up CHECK (false) NOT VALID")
    before = await desk.whole()
    answer = await desk.post(address(desk, act), WHY)
    assert answer.status_code == 500
    assert "kari@example.no" not in answer.text
    assert await desk.whole() == before


@pytest.mark.parametrize("act", ACTS)
async def test_only_an_operator_with_our_form_may_act(desk: Desk, act: str) -> None:
    if act in ("confirm", "keep"):
        await desk.post(address(desk, "discard"), WHY, ADA)
    before = await desk.whole()
    for caller, csrf, status in (
        (DRIFT, "forged", 403),
        (DRIFT, "", 403),
        (LEARNER, CSRF, 403),
        (PARTNER, CSRF, 403),
        (None, CSRF, 401),
    ):
        answer = await desk.post(address(desk, act), WHY, caller, csrf)
        assert (answer.status_code, act) == (status, act)
    assert await desk.whole() == before


@pytest.mark.parametrize("act", WITH_REASON)
async def test_without_a_reason_nothing_is_done_and_the_page_says_so(desk: Desk, act: str) -> None:
    before = await desk.whole()
    for empty in ({}, {"reason": ""}, {"reason": " \t\u200b\u202e "}):
        answer = await desk.post(address(desk, act), empty)
        assert answer.status_code == 422
        assert "Ingenting er gjort" in answer.text
        assert re.search(r"[Ss]kriv hvorfor", answer.text)
        assert 'aria-invalid="true"' in answer.text
    assert await desk.whole() == before


async def test_what_is_over_is_refused_in_a_sentence(desk: Desk) -> None:
    await desk.post(address(desk, "redrive"))
    again = await desk.post(address(desk, "redrive"))
    assert (again.status_code, "alt satt til å kjøre" in again.text) == (409, True)
    await desk.post(address(desk, "discard"), WHY)
    await desk.post(address(desk, "confirm"), caller=ADA)
    for act in ("discard", "confirm", "keep"):
        again = await desk.post(address(desk, act), WHY)
        assert (again.status_code, "Brevet er avsluttet" in again.text) == (409, True)
    await desk.post(address(desk, "suspend"), WHY)
    again = await desk.post(address(desk, "quarantine"), WHY)
    assert (again.status_code, "Sveiseskolen er holdt tilbake fra før" in again.text) == (409, True)
    done = ["parked redrive", "parked discard ask", "parked discard", "partners suspend"]
    assert [act for act, _, _ in await desk.acts()] == done


async def pages(desk: Desk) -> dict[str, Response]:
    """Every page that can be reached from /drift by links and parts, and what is drawn there."""
    found: dict[str, Response] = {}
    todo = ["/drift", f"{BASE}/del", f"{BASE}/tidslinje/1", f"{BASE}/del/tidslinje/a/b", "/drift/tidslinje?id=x"]
    todo += [f"{BASE}/parkert/{number}" for number in ("2", "x", "-1", "9" * 30)]
    while todo:
        one = todo.pop()
        if one in found:
            continue
        found[one] = answer = await desk.get(one)
        links = re.findall(r'(?:href|data-part)="((?:/drift|\?)[^"#]*)', answer.text)
        for link in links:
            link = link.replace("&amp;", "&")
            link = f"{one.partition('?')[0]}{link}" if link[0] == "?" else link
            if link.startswith((BASE, "/drift/tidslinje")) and "sprak=" not in link:
                todo.append(link)
    return found


async def test_looking_changes_nothing(desk: Desk) -> None:
    await desk.post(address(desk, "show"), WHY)
    await desk.post(address(desk, "discard"), WHY, ADA)
    before = await desk.whole()
    seen = await pages(desk)
    assert {LETTER, f"{BASE}/parkert?alle=1", f"{BASE}/logg", f"{BASE}/tilbydere", f"{BASE}/del"} <= set(seen)
    assert {answer.status_code for answer in seen.values()} == {200, 404}
    assert await desk.whole() == before
    assert all(answer.headers["cache-control"] == "no-store" for answer in seen.values())
    for act in ACTS:
        assert (await desk.get(address(desk, act))).headers["location"] in (LETTER, BASE, f"{BASE}/tilbydere"), act
    assert await desk.whole() == before


async def test_nobody_else_sees_a_page(desk: Desk) -> None:
    for one in await pages(desk):
        for caller in (LEARNER, PARTNER):
            answer = await desk.get(one, caller)
            assert (answer.status_code, desk.partner in answer.text) == (403, False), one
        assert (await desk.get(one, None)).status_code == 303, one


async def test_what_a_stranger_wrote_is_shown_as_text_and_only_when_asked_for(desk: Desk) -> None:
    for one, answer in (await pages(desk)).items():
        assert not re.search(r"<(script>|img|b>|i>|u>)", answer.text), one
        assert "kari" not in answer.text, one
        assert "\u202e" not in answer.text, one
    assert escape("name <i>") in (await desk.get(LETTER)).text
    shown = (await desk.post(address(desk, "show"), WHY)).text
    assert not re.search(r"<(script>|img|b>|i>|u>)", shown)
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in shown
    assert "kari@example.no" in shown
    assert ("\u202e" in shown, "\\u202eabc" in shown) == (False, True)


async def test_a_long_record_is_cut(desk: Desk) -> None:
    async with desk.here.database.reading() as conn:
        await conn.execute("UPDATE parked SET value = convert_to(repeat('a', 200000) || 'END', 'UTF8') WHERE id = 1")
    shown = (await desk.post(address(desk, "show"), WHY)).text
    assert "aaaa …" in shown
    assert len(shown) < 20_000
    assert "4000 av 200003" in shown


async def test_a_refused_record_from_kafka_is_seen_and_run_again(desk: Desk) -> None:
    await topics.declare(desk.settings.kafka_bootstrap, [partner_courses(desk.partner)])
    async with listening(desk.here, events.partners()):
        producer = AIOKafkaProducer(bootstrap_servers=desk.settings.kafka_bootstrap)
        await producer.start()
        try:
            await producer.send_and_wait(f"partners.{desk.partner}.courses", b"<script>nonsense", key=b"a")
        finally:
            await producer.stop()

        async def refused() -> bool:
            async with desk.here.database.reading() as conn:
                return bool(await conn.fetchval("SELECT count(*) FROM parked WHERE state = 'refused'"))

        await until(refused)
        listed = (await desk.get(f"{BASE}/parkert")).text
        assert "not_json" in listed
        number = int(re.findall(rf"{BASE}/parkert/(\d+)", listed)[-1])
        assert (await desk.post(f"{BASE}/parkert/{number}/redrive")).status_code == 303

        async def again() -> bool:
            return await desk.state(number) == "refused"  # it was, and is again: the code is the same

        await until(again)
        assert "ett avvist" in (await desk.get(f"{BASE}/del")).text

        async def caught_up() -> bool:  # a page waits 2 s for the broker, and then says that it is not known
            return "0 på vei inn" in (await desk.get(f"{BASE}/del")).text

        await until(caught_up)


async def test_a_broker_that_is_away_is_said_and_the_page_comes(servers: Servers) -> None:
    async with opened(servers, kafka_bootstrap="127.0.0.1:1") as desk:
        answer = await desk.get(BASE)
        assert answer.status_code == 200
        assert "Ukjent hvor mye som venter" in answer.text


async def test_the_list_of_acts_is_only_added_to(desk: Desk) -> None:
    await desk.post(address(desk, "pause"), WHY)
    async with desk.here.database.reading() as conn:
        for statement in (
            "UPDATE operator_acts SET reason = 'another'",
            "DELETE FROM operator_acts",
            "TRUNCATE operator_acts",
        ):
            with pytest.raises(asyncpg.InsufficientPrivilegeError, match="only added to"):
                await conn.execute(statement)
        with pytest.raises(RuntimeError, match="its own transaction"):
            await acts.add(conn, Operator("command", "root"), "x", ["y"])
    assert len(await desk.acts()) == 1


async def test_the_list_of_acts_is_leafed_through(desk: Desk) -> None:
    async def work(conn: Connection) -> None:
        await acts.add(conn, Operator("command", "root"), "replay", [f"nr-{number:03}" for number in range(120)])

    await desk.here.database.run(work)
    seen: list[str] = []
    next_page = f"{BASE}/logg"
    while next_page:
        text = (await desk.get(next_page)).text
        seen += re.findall(r"nr-\d{3}", text)
        older = re.search(r'href="(\?eldre_enn=\d+)"', text)
        next_page = f"{BASE}/logg{older[1]}" if older else ""
    assert seen == [f"nr-{number:03}" for number in reversed(range(120))]


async def test_the_command_line_writes_the_same_list(desk: Desk) -> None:
    await catalogue.add(desk.settings, f"{desk.partner}-2", "Den andre", None, ["online"])

    async def work(conn: Connection) -> None:
        await holding.suspend(conn, me(), desk.partner, "avtalen er ute")
        await holding.release(conn, me(), desk.partner)

    await desk.here.database.run(work)
    assert await desk.acts() == [
        ("partners add", f"{desk.partner}-2", ""),
        ("partners suspend", desk.partner, "avtalen er ute"),
        ("partners release", desk.partner, ""),
    ]
    assert "kommandolinjen" in (await desk.get(f"{BASE}/logg")).text


async def test_a_plot_counts_what_was_sent_in_each_minute(desk: Desk) -> None:
    async with desk.here.database.reading() as conn:
        await conn.execute(
            """
            INSERT INTO outbox (event_id, aggregate, epoch, seq, topic, payload, created_at, published_at)
            SELECT gen_random_uuid(), 'a', 1, n, 't', convert_to('{"type":"no.x.' || kind || '.v1"}', 'UTF8'),
                   at - interval '1 second', at
            FROM (VALUES (1, 'A', now()), (2, 'A', now() - interval '10 minutes'), (3, 'B', now()),
                         (4, 'A', now() - interval '2 hours')) AS given (n, kind, at)
            """
        )
        every = await plots.draw(conn, plots.OF_ALL[0])
        some = await plots.draw(conn, plots.Plot({"nb": "A"}, plots.MINUTES, plots.published("no.x.A.")))
    assert (every.total, some.total) == (3, 2)
    assert every.bars is not None
    assert len(every.bars) == 60
    assert every.bars[-1].count + every.bars[-2].count == 2  # the minute may have turned meanwhile
    assert every.bars[1].at - every.bars[0].at == timedelta(minutes=1)
    page = (await desk.get(BASE)).text
    assert "3 i alt" in page
    assert page.count("<rect") >= 2
    assert " style=" not in page


CALLED = {
    "nb": ("Kurskatalogen", "Påmeldingen", "Varslingen", "satte en lytter på pause"),
    "nn": ("Kurskatalogen", "Påmeldinga", "Varslinga", "sette ein lyttar på pause"),
    "en": ("The course catalogue", "Enrolment", "Notification", "paused a listener"),
}


@pytest.mark.parametrize("language", CALLED)
async def test_services_and_acts_have_plain_names_beside_those_of_the_command_line(
    servers: Servers, language: str
) -> None:
    *services, paused = CALLED[language]
    async with opened(servers) as desk:
        await desk.post(f"{BASE}/lyttere/partners/pause", WHY)
        home, mine, log = [
            (await desk.get(f"{address}?sprak={language}")).text for address in ("/drift", BASE, f"{BASE}/logg")
        ]
    for name, code in zip(services, SERVICES, strict=True):
        assert re.search(
            rf'<a class="ds-link target" href="/drift/{code}">{name}</a> <span class="quiet">{code}<', home
        )
    first = re.search("<h1.*</h1>", mine)
    assert first is not None
    assert services[0][:1].lower() + services[0][1:] in first[0]
    assert ">catalogue<" in first[0]
    assert re.search(rf"{paused}<br><code>consumer pause</code>", log)


PRESSED = {
    "nb": ("Sett «Tilbydernes kurs» på pause", "La «Ledige plasser» gå videre"),
    "nn": ("Set «Kursa til tilbydarane» på pause", "Lat «Ledige plassar» gå vidare"),
    "en": ("Pause “Courses sent in”", "Resume “Free seats”"),
}


@pytest.mark.parametrize("language", PRESSED)
async def test_the_buttons_of_a_consumer_call_it_by_its_plain_name(servers: Servers, language: str) -> None:
    pause, resume = PRESSED[language]
    async with opened(servers) as desk:
        await desk.post(f"{BASE}/lyttere/enrolments/pause", WHY)
        page = (await desk.get(f"{BASE}?sprak={language}")).text
    pressed = re.findall(r"<button[^>]*>([^<]*)</button>", page)
    assert {pause, resume} <= set(pressed)


async def test_who_holds_back_a_provider_presses_a_button_with_its_name(desk: Desk) -> None:
    """And reads it when something is wrong: the short one stands beside it, once."""
    page = (await desk.get(f"{BASE}/tilbydere")).text
    pressed = re.findall(r"<button[^>]*>([^<]*)</button>", page)
    assert {"Sett Sveiseskolen i karantene", "Steng for Sveiseskolen"} <= set(pressed)
    wrong = await desk.post(address(desk, "quarantine"))
    assert "Sveiseskolen: skriv hvorfor." in wrong.text
    await desk.post(address(desk, "suspend"), WHY)
    assert ">Åpne for Sveiseskolen</button>" in (await desk.get(f"{BASE}/tilbydere")).text


def test_all_that_becomes_of_notices_and_deliveries_has_words_in_a_timeline() -> None:
    """The states are those that the newest rule of the database lets in."""
    told = (HERE / "console_story_part.html").read_text("utf-8")
    rules = sorted((ROOT / "services" / "notifier" / "migrations").glob("*.sql"))
    for table, called in (("notices", "notice"), ("webhook_deliveries", "webhook")):
        found = [
            rule
            for path in rules
            for rule in re.findall(rf"CONSTRAINT {table}_state\s+CHECK \(state IN \((.*?)\)\)", path.read_text("utf-8"))
        ]
        states = re.findall(r"'([a-z]+)'", found[-1])
        assert len(states) >= 5
        assert [state for state in states if f'"{called} {state}": _(' not in told] == []


def test_every_act_that_is_written_down_has_words() -> None:
    """The control: acts are found in the code; one that is put together there, by what it can begin with."""
    pages = (HERE / "console_acts.html").read_text("utf-8")
    code = [path.read_text("utf-8") for part in ("kit", "services") for path in (ROOT / part).rglob("*.py")]
    found = {act for text in code for act in re.findall(r'\badd\(.*?, "([a-z][a-z -]+)", \[', text)}
    assert {"parked show", "partners suspend", "mail release", "people erase"} <= found
    assert {act for act in found if f'"{act}": _(' not in pages} == set()
    assert {act for text in code for act in re.findall(r'\badd\(.*?, f"([^"]+)", \[', text)} == {
        "partners {act}",
        "enrolments {one.kind}",  # approve or deny, as its two commands
    }
    put = {f"partners {act}" for text in code for act in re.findall(r'_note\(conn, who, "([a-z-]+)", ', text)}
    assert {"partners go-ahead", "partners call-off"} <= put
    assert {act for act in put if f'"{act}": _(' not in pages} == set()


def test_every_consumer_and_check_has_words() -> None:
    """The control: they are found in the code."""
    pages = (HERE / "console_words.html").read_text("utf-8")
    code = {path: path.read_text("utf-8") for part in ("kit", "services") for path in (ROOT / part).rglob("*.py")}
    found = {
        f"{path.relative_to(ROOT).parts[1]}.{name}"
        for path, text in code.items()
        for name in re.findall(r'\bConsumer\((?:name=)?"([a-z]+)"', text)
    }
    checks = {one for text in code.values() for one in re.findall(r'health\.(?:register|mention)\("(\w+)"', text)}
    assert {"catalogue.partners", "enrolment.titles", "notifier.webhooks"} <= found
    assert {"database", "broker", "relay", "search"} <= checks
    assert {one for one in found | checks if f'"{one}": _(' not in pages} == set()


async def test_consumers_and_reasons_have_plain_names_beside_the_technical_ones(desk: Desk) -> None:
    await desk.post(f"{BASE}/lyttere/partners/pause", WHY)
    mine, kept = [(await desk.get(f"{BASE}{more}")).text for more in ("", "/parkert")]
    assert re.search(r"<h3>Tilbydernes kurs<br><code>partners</code></h3>", mine)
    assert re.search(r"<dt>Tilbydernes kurs<br><code>partners</code></dt>", mine)
    assert re.search(r"<td>Tilbydernes kurs<br><code>catalogue.partners</code></td>", kept)
    assert re.search(r'<td>Uventet feil<br><span lang="en"><code>failed</code>: name &lt;i&gt;</span></td>', kept)
    letter = re.search(rf"{BASE}/parkert/\d+", kept)
    assert letter is not None
    shown = (await desk.get(letter[0])).text
    assert "<dd>Tilbydernes kurs (<code>catalogue.partners</code>)</dd>" in shown
    assert '<dd>Uventet feil. <span lang="en"><code>failed</code>: name &lt;i&gt;</span></dd>' in shown


async def test_what_is_wrong_with_a_service_is_said_in_plain_words_too(desk: Desk) -> None:
    async def away() -> str:
        return "is <gone>"

    for name in ("database", "consumer partners", "something new"):
        desk.here.health.register(name, away)
    page = (await desk.get(f"{BASE}/del")).text
    assert '<li>Databasen<br><span lang="en"><code>database</code>: is &lt;gone&gt;</span></li>' in page
    assert "<li>Tilbydernes kurs<br>" in page
    assert '<li><span lang="en"><code>something new</code>: is &lt;gone&gt;</span></li>' in page
