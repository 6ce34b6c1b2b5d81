"""Enrolment's pages as a person meets them, with a browser without JavaScript, on a real PostgreSQL."""

import asyncio
import csv
import io
import json
import re
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from html import unescape
from typing import Any

import pytest
from httpx2 import Response

from contracts.catalogue import CourseChanged, OfferingCancelled
from contracts.envelope import decode
from kit import live, passes, sealing
from kit.auth import Caller
from kit.passes import Visitor
from services.enrolment import offerings
from services.enrolment.live import Own
from services.enrolment.store import courses, steps
from tests.delivery import Servers, until
from tests.integration.test_enrolment_http import PRIVATE, World, world
from tests.visiting import Person
from tests.web import ISSUER

pytestmark = pytest.mark.anyio

SIGNS, BELIEVES = passes.generate()
FORM = {"name": "Kari Nordmann", "email": "kari@example.no", "language": "nb", "place1": "online"}


@dataclass
class Known(Person):
    """A browser whose requests the gateway has given a pass."""

    visitor: Visitor = field(default_factory=lambda: Visitor(Caller(ISSUER, "nobody"), "token"))

    async def ask(self, method: str, address: str, fields: dict[str, str] | None = None, **headers: str) -> Response:
        return await super().ask(method, address, fields, kursnett_pass=passes.sign(SIGNS, self.visitor), **headers)

    async def enrol(self, offering_id: uuid.UUID, **fields: str) -> Response:
        """Fill in the form of the page."""
        await self.go(f"/delta/{offering_id}")
        return await self.send(f"/delta/{offering_id}", **FORM | fields)

    @property
    def words(self) -> str:
        """What the page says, without its tags."""
        return " ".join(unescape(re.sub(r"<[^>]+>", " ", self.text)).split())

    @property
    def address(self) -> str:
        assert self.page is not None
        return self.page.url.raw_path.decode()

    @property
    def status(self) -> int:
        assert self.page is not None
        return self.page.status_code

    @property
    def hidden(self) -> dict[str, str]:
        """The hidden fields of the last page, by name."""
        return dict(re.findall(r'<input type="hidden" name="(\w+)" value="([^"]*)"', self.text))


def person(here: World, who: str, name: str | None = None, **roles: Any) -> Known:
    visitor = Visitor(Caller(ISSUER, who, name=name, **roles), f"token-of-{who}")
    return Known(here.asking, "http://demo.test", visitor=visitor)


@asynccontextmanager
async def open_pages(servers: Servers, **changed: Any) -> AsyncIterator[World]:
    async with world(servers, pass_public_key=BELIEVES, **changed) as here:
        yield here


async def named(here: World, offering_id: uuid.UUID, title: dict[str, str], version: int = 1) -> None:
    """The catalogue tells what the course of this run is called."""
    async with here.database.reading() as conn:
        course_id = await conn.fetchval("SELECT course_id FROM offerings WHERE id = $1", offering_id)
    said = CourseChanged(course_id=course_id, partner="torgar", code="BYG-1", version=version, title=title)
    await here.database.run(lambda conn: courses.keep(conn, [said]))


async def rows(here: World, statement: str, *values: Any) -> list[Any]:
    async with here.database.reading() as conn:
        return list(await conn.fetch(statement, *values))


def own(page: Known) -> str:
    """The address of the one enrolment that the last page is about."""
    found = re.search(r"/min-side/[0-9a-f-]{36}", page.address + page.text)
    assert found
    return found[0]


# To ask for a seat


async def test_the_form_has_the_fields_that_programs_were_promised(servers: Servers) -> None:
    async with open_pages(servers) as here:
        several: list[dict[str, Any]] = [{"online": 1}, {"online": 1, "a": 2}, {"online": 1, "a": 2, "b": 1, "c": 1}]
        for places in several:
            kari = person(here, "kari", "Kari Nordmann")
            await kari.go(f"/delta/{await here.offering(**places)}")
            for name in ("place1", "place2", "place3", "name", "email", "language", "csrf"):
                assert f'name="{name}"' in kari.text, name
            assert 'value="Kari Nordmann"' in kari.text
            assert kari.text.count("<h1") == 1
            for name in re.findall(r'<(?:select|input)[^>]* id="([^"]+)"', kari.text):
                assert f'for="{name}"' in kari.text, f"{name} has no label"


async def test_the_page_says_what_came_of_it(servers: Servers) -> None:
    async with open_pages(servers) as here:
        offering_id = await here.offering(online=1)
        kari = person(here, "kari")
        begun = await kari.go(f"/delta/{offering_id}")
        assert "én ledig plass" in kari.words
        sent = await kari.ask("POST", f"/delta/{offering_id}", FORM | {"csrf": kari.csrf})
        assert (begun.status_code, sent.status_code) == (200, 303)
        await kari.go(sent.headers["location"])
        assert "Du har plass. Sted: På nett." in kari.words
        for number, who in enumerate(("ola", "per", "anne", "siri"), 1):
            waiting = person(here, who)
            await waiting.enrol(offering_id)
            assert f"Du er nummer {number} i køen. Du venter på: På nett." in waiting.words
        await person(here, "ingrid").go(f"/delta/{offering_id}")
        asked = person(here, "eva")
        await asked.go(f"/delta/{offering_id}")
        assert "fullt, 4 står i kø" in asked.words
        await asked.enrol(await here.offering(online=1, rules={"requires_approval": True}))
        assert "Påmeldingen venter på godkjenning." in asked.words


async def test_the_form_asks_as_the_interface_does(servers: Servers) -> None:
    """One command for both: the order of places, the group, what a lapse does, and the contact, sealed."""
    async with open_pages(servers) as here:
        offering_id = await here.offering(online=1, mosjoen=0, rules={"priority_groups": ["ansatte"]})
        kari = person(here, "kari")
        await kari.enrol(
            offering_id,
            place1="mosjoen",
            place2="online",
            email="Kari.Nordmann@example.no",
            phone="912 34 567",
            language="nn",
            group="ansatte",
            wait_for_earlier="no",
            on_lapse="back_of_queue",
        )
        [kept] = await rows(here, "SELECT * FROM enrolments")
        assert (kept["choices"], kept["place"], kept["waiting_for"]) == (["mosjoen", "online"], "online", [])
        assert (kept["group_name"], kept["on_lapse"], kept["name"]) == ("ansatte", "back_of_queue", "Kari Nordmann")
        said = [decode(row["payload"], []) for row in await rows(here, "SELECT payload FROM outbox")]
        [contact] = [one.data for one in said if "ContactGiven." in one.type]
        assert sealing.unseal(PRIVATE, contact["sealed"]) == {
            "email": "Kari.Nordmann@example.no",
            "phone": "+4791234567",
            "language": "nn",
            "name": "Kari Nordmann",
            "login": kari.visitor.caller.key,
        }
        waiting = person(here, "ola")  # who leaves the question out waits, as at the interface
        await waiting.enrol(offering_id, place1="mosjoen", place2="")
        await waiting.enrol(await here.offering(online=1, mosjoen=0), place1="mosjoen", place2="online")
        assert "Du står også i kø for Mosjøen" in waiting.words


@pytest.mark.parametrize(
    ("fields", "wrong"),
    [
        ({"place1": ""}, "place1"),
        ({"place1": "", "place2": "online"}, "place1"),
        ({"place1": "sandnessjoen"}, "place1"),
        ({"place2": "online"}, "place2"),
        ({"place2": "mosjoen", "place3": "mosjoen"}, "place3"),
        ({"place3": "../etc"}, "place3"),
        ({"name": ""}, "name"),
        ({"name": "Kari\u202eNordmann"}, "name"),
        ({"name": "K" * 201}, "name"),
        ({"email": ""}, "email"),
        ({"email": "kari at example.no"}, "email"),
        ({"email": "kari@example.no\nBcc: all@example.no"}, "email"),
        ({"phone": "12345678"}, "phone"),
        ({"phone": "kari@example.no"}, "phone"),
        ({"language": "de"}, "language"),
        ({"group": "okjent"}, "group"),
        ({"on_lapse": "never"}, "on_lapse"),
    ],
)
async def test_a_wrong_field_is_marked_and_what_was_typed_is_kept(
    servers: Servers, fields: dict[str, str], wrong: str
) -> None:
    async with open_pages(servers) as here:
        offering_id = await here.offering(online=1, mosjoen=1, a=1, rules={"priority_groups": ["ansatte"]})
        kari = person(here, "kari")
        typed = {"name": "Kåre <Ås>", "email": "kaare@example.no", "language": "nn", "place1": "online"} | fields
        await kari.enrol(offering_id, **typed)
        assert kari.status == 422
        assert kari.page is not None
        assert kari.page.headers["content-type"].startswith("text/html")
        summary = kari.text[kari.text.index("ds-error-summary") : kari.text.index("<h1")]
        assert re.findall(r'href="#(\w+)"', summary) == [wrong]
        assert f'id="{wrong}-wrong"' in kari.text
        assert re.search(rf'id="{wrong}"[^>]*aria-invalid="true" aria-describedby="{wrong}-wrong"', kari.text)
        assert "autofocus" in summary
        if wrong not in ("name", "email"):
            assert 'value="Kåre &lt;Ås&gt;"' in kari.text
            assert 'value="kaare@example.no"' in kari.text
        if wrong != "language":
            assert '<option value="nn" lang="nn" selected>' in kari.text
        assert not await rows(here, "SELECT 1 FROM enrolments")


async def test_who_cannot_enrol_is_told_why_and_when(servers: Servers) -> None:
    async with open_pages(servers, most_live_enrolments=1) as here:
        now = datetime.now(UTC)
        soon = {"opens_at": (now + timedelta(days=1)).isoformat(), "closes_at": (now + timedelta(days=2)).isoformat()}
        then = {"opens_at": (now - timedelta(days=2)).isoformat(), "closes_at": (now - timedelta(days=1)).isoformat()}
        open_now = {"opens_at": then["opens_at"], "closes_at": soon["closes_at"]}
        for rules, told in (
            ({"periods": [soon]}, "Påmeldingen åpner"),
            ({"periods": [then]}, "Påmeldingsfristen er ute."),
            ({"late_enrolment_until": then["closes_at"]}, "Kurset har begynt"),
        ):
            kari = person(here, "kari")
            offering_id = await here.offering(online=1, rules=rules)
            await kari.go(f"/delta/{offering_id}")
            assert told in kari.words
            assert 'name="place1"' not in kari.text, "a form that cannot be sent"
            await kari.send(f"/delta/{offering_id}", **FORM)
            assert (kari.status, told in kari.words) == (409, True)

        offering_id = await here.offering(online=1, rules={"periods": [open_now | {"group": "ansatte-i-vekst"}]})
        kari = person(here, "kari")
        await kari.enrol(offering_id)
        assert (kari.status, "bare åpen for: Ansatte i vekst." in kari.words) == (409, True)
        assert 'value="Kari Nordmann"' in kari.text
        await kari.send(f"/delta/{offering_id}", **FORM | {"group": "ansatte-i-vekst"})
        assert "Du har plass." in kari.words

        await kari.enrol(await here.offering(online=1))
        assert (kari.status, "så mange som én person kan ha" in kari.words) == (409, True)
        offering_id = await here.offering(online=1)
        said = OfferingCancelled(offering_id=offering_id, course_id=uuid.uuid4(), partner="torgar", version=9)
        await here.database.run(lambda conn: offerings.cancel(conn, said, here.settings))
        await kari.enrol(offering_id)
        assert (kari.status, "Kurset er avlyst" in kari.words) == (409, True)
        nothing = uuid.uuid4()
        for address in (f"/delta/{nothing}", "/delta/x", f"/plasser/{nothing}", f"/plasser/{nothing}/delta"):
            await kari.go(address)
            assert (kari.status, "Siden finnes ikke" in kari.words) == (404, True)


async def test_two_clicks_and_two_tabs_end_in_one_enrolment_and_a_plain_sentence(servers: Servers) -> None:
    async with open_pages(servers) as here:
        offering_id = await here.offering(online=2, mosjoen=2)
        tabs = [person(here, "kari") for _ in range(3)]
        for tab in tabs:
            await tab.go(f"/delta/{offering_id}")
        await asyncio.gather(*(tab.send(f"/delta/{offering_id}", **FORM) for tab in tabs))
        assert len(await rows(here, "SELECT 1 FROM enrolments")) == 1
        for tab in tabs:
            assert (tab.status, "Du har plass. Sted: På nett." in tab.words) == (200, True)
        again = tabs[0]  # the back button, and then another choice
        other = FORM | {"csrf": "token-of-kari", "place1": "mosjoen"}
        led = await again.ask("POST", f"/delta/{offering_id}", other)
        assert (led.status_code, led.headers.get("location")) == (303, f"/delta/{offering_id}"), (
            "it can be loaded again"
        )
        await again.go(led.headers["location"])
        assert (again.status, "Du er allerede påmeldt" in again.words) == (200, True)
        assert "Du har plass. Sted: På nett." in again.words
        assert 'href="/min-side"' in again.text
        await again.go(f"/delta/{offering_id}")
        assert ("Du er allerede påmeldt" in again.words, 'name="place1"' in again.text) == (True, False)


async def test_an_open_seat_goes_to_one_in_line_who_asks_first(servers: Servers) -> None:
    async with open_pages(servers) as here:
        offering_id = await here.offering(online=1)
        kari, ola = person(here, "kari"), person(here, "ola")
        for one in (kari, ola):
            await one.enrol(offering_id)
        async with here.database.reading() as conn:  # so late that nothing is offered any more
            await conn.execute("UPDATE offerings SET starts_at = app_now() + interval '2 hours'")
        await kari.go(f"{own(kari)}/meld-av")
        await kari.send(kari.address, seen="associated online")
        await ola.go(f"/delta/{offering_id}")
        assert "Du står i kø, og nå er det en ledig plass." in ola.words
        await ola.send(f"/delta/{offering_id}", **FORM)
        assert "Du har plass." in ola.words
        assert "Du fikk en ledig plass. Sted: På nett." in ola.words


async def test_only_our_own_forms_do_anything_and_only_for_who_is_logged_in(servers: Servers) -> None:
    async with open_pages(servers) as here:
        offering_id = await here.offering(online=1, rules={"requires_approval": True})
        kari, tor = person(here, "kari"), person(here, "tor", partner="torgar")
        await kari.enrol(offering_id)
        mine, [one] = own(kari), await rows(here, "SELECT id FROM enrolments")
        forms: tuple[tuple[Known, str, dict[str, str]], ...] = (
            (kari, f"/delta/{offering_id}", FORM),
            (kari, f"{mine}/meld-av", {}),
            (kari, f"{mine}/godta", {}),
            (kari, f"{mine}/avslaa", {}),
            (tor, f"/deltakere/{offering_id}/{one['id']}/godkjenn", {}),
            (tor, f"/deltakere/{offering_id}/{one['id']}/avslaa", {"reason": "Nei"}),
        )
        stranger = Person(here.asking, "http://demo.test")
        for who, address, fields in forms:
            for forged in ({}, {"csrf": "forged"}, {"csrf": "token-of-somebody"}):
                answer = await who.ask("POST", address, {**fields, **forged})
                assert (answer.status_code, "kan ikke brukes lenger" in answer.text) == (403, True), address
            answer = await stranger.ask("POST", address, {**fields, "csrf": who.visitor.csrf})
            assert answer.status_code == 401, address
            assert "/logg-inn?neste=" in answer.text
        assert [row["state"] for row in await rows(here, "SELECT state FROM enrolments")] == ["pending"]
        for address in (f"/delta/{offering_id}", "/min-side", mine, f"{mine}/meld-av", f"/deltakere/{offering_id}"):
            led = await stranger.ask("GET", address)
            assert (led.status_code, led.headers["location"]) == (303, f"/logg-inn?neste={address}")
        for address in (f"{mine}/godta", f"{mine}/avslaa"):  # where the log-in leads back to
            assert (await kari.ask("GET", address)).headers["location"] == mine


async def test_a_page_says_in_words_that_somebody_began_as_many_as_one_may_in_an_hour(servers: Servers) -> None:
    async with open_pages(servers, enrolments_per_hour=1) as here:
        assert (await here.enrol(await here.offering(online=5), "kari")).status_code == 201
        kari, other = person(here, "kari"), await here.offering(online=5)
        await kari.go(f"/delta/{other}")
        answer = await kari.ask("POST", f"/delta/{other}", FORM | {"csrf": kari.csrf})
        assert (answer.status_code, "Du har meldt deg på 1 ganger den siste timen" in answer.text) == (429, True)
        assert int(answer.headers["retry-after"]) > 60
        assert f'value="{FORM["name"]}"' in answer.text, "what was typed is there again"


async def test_pages_and_the_interface_have_one_pace(servers: Servers) -> None:
    async with open_pages(servers, requests_per_minute=2) as here:
        offering_id = await here.offering(online=5)
        kari = person(here, "kari")
        await kari.go(f"/delta/{offering_id}")
        codes = []
        answer: Response | None = None
        for _ in range(3):  # a minute may end on the way
            codes.append((await here.enrol(offering_id, "kari")).status_code)
            answer = await kari.ask("POST", f"/delta/{offering_id}", FORM | {"csrf": kari.csrf})
            codes.append(answer.status_code)
        assert codes[:2] == [201, 303]
        assert 429 in codes[2:4]
        assert answer is not None
        assert (answer.status_code, "Det gikk litt fort" in answer.text) == (429, True)
        assert int(answer.headers["retry-after"]) >= 1
        ola = person(here, "ola")
        await ola.enrol(offering_id)
        assert ola.status == 200, "others are not in it"


# One's own


async def offered(here: World, **rules: Any) -> tuple[uuid.UUID, Known, Known]:
    """An offering whose one seat kari has left, so that it is offered to ola, who has the page open."""
    offering_id = await here.offering(online=1, rules=rules)
    kari, ola = person(here, "kari"), person(here, "ola")
    for one in (kari, ola):
        await one.enrol(offering_id)
    await kari.go(f"{own(kari)}/meld-av")
    await kari.send(kari.address, **kari.hidden)
    assert "Du er ikke påmeldt lenger." in kari.words
    await ola.go(own(ola))
    return offering_id, kari, ola


async def test_ones_own_courses_are_shown_and_nobody_elses(servers: Servers) -> None:
    async with open_pages(servers) as here:
        _, kari, ola = await offered(here)
        mine = own(kari)
        await here.enrol(await here.offering(mosjoen=1), "kari", places=["mosjoen"])
        await kari.go("/min-side")
        assert "Du har plass. Sted: Mosjøen." in kari.words
        assert kari.text.index("Du har plass.") < kari.text.index("Tidligere") < kari.text.index(mine)
        for address in (mine, f"{mine}/meld-av", f"{mine}/tilstand", f"/min-side/{uuid.uuid4()}", "/min-side/x"):
            assert (await ola.ask("GET", address)).status_code == 404, address
        await ola.go("/min-side")
        assert mine not in ola.text
        for verb in ("meld-av", "godta", "avslaa"):
            answer = await kari.ask("POST", f"{own(ola)}/{verb}", {"csrf": kari.csrf})
            assert answer.status_code == 404, verb
        await ola.go(own(ola))
        assert "Du har fått tilbud om plass." in ola.words
        assert "no-store" in (await ola.ask("GET", "/min-side")).headers["cache-control"]


async def test_what_has_to_be_answered_comes_first(servers: Servers) -> None:
    """An offer has a deadline, and was asked for before all that came later."""
    async with open_pages(servers) as here:
        _, _, ola = await offered(here)
        await here.enrol(await here.offering(online=1), "ola")
        await here.enrol(await here.offering(online=1), "ola")
        await ola.go("/min-side")
        assert re.findall(r"Du har (plass|fått tilbud om plass)\.", ola.words) == [
            "fått tilbud om plass",
            "plass",
            "plass",
        ]


async def test_many_courses_come_in_pages(servers: Servers, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("services.enrolment.mine.MOST_SHOWN", 2)
    async with open_pages(servers) as here:
        for _ in range(3):
            await here.enrol(await here.offering(online=1), "kari")
        kari = person(here, "kari")
        seen = []
        await kari.go("/min-side")
        while True:
            seen += re.findall(r'id="to-([0-9a-f-]+)"', kari.text)
            older = re.search(r'id="older" href="([^"]+)"', kari.text)
            if not older:
                break
            await kari.go(older[1])
        assert len(seen) == len(set(seen)) == 3
        assert "Vis de nyeste" in kari.words


async def test_an_offer_is_accepted_on_the_page_once_however_often_it_is_clicked(servers: Servers) -> None:
    async with open_pages(servers) as here:
        _, _, ola = await offered(here)
        assert re.search(
            r"Svar innen \w+ \d+\. \w+ \d{4} kl\. \d\d\.\d\d\. Det er omtrent \d+ timer igjen\.", ola.words
        )
        assert "du går ut av køen" in ola.words
        form, at = ola.hidden, own(ola)
        both = await asyncio.gather(*(ola.ask("POST", f"{at}/godta", form) for _ in range(2)))
        assert [one.headers.get("location") for one in both] == [at, at]
        await ola.go(at)
        assert "Du har plass. Sted: På nett." in ola.words
        assert "Du tok plassen." in ola.words
        await ola.send(f"{at}/avslaa", **form)  # the other button, in an old tab
        assert (ola.status, "Det er ikke noe tilbud å svare på lenger." in ola.words) == (409, True)
        assert "Du har plass." in ola.words


@pytest.mark.parametrize(("stay", "told"), [("yes", "Du er nummer 1 i køen."), ("", "Du er ikke påmeldt lenger.")])
async def test_an_offer_is_declined_for_good_or_for_now(servers: Servers, stay: str, told: str) -> None:
    async with open_pages(servers) as here:
        offering_id, _, ola = await offered(here)
        await person(here, "per").enrol(offering_id)
        at, form = own(ola), ola.hidden | {"stay": stay}
        for _ in range(2):
            await ola.send(f"{at}/avslaa", **form)
            assert (ola.status, told in ola.words) == (200, True)
        states = [row["state"] for row in await rows(here, "SELECT state FROM enrolments ORDER BY id")]
        assert states == ["cancelled", "queued" if stay else "cancelled", "offered"]


async def test_who_would_stand_at_the_back_of_a_line_of_nobody_is_told_why_the_offer_is_there_again(
    servers: Servers,
) -> None:
    """It looked as if the button did nothing."""
    async with open_pages(servers) as here:
        _, _, ola = await offered(here)
        before = ola.hidden["offer"]
        await ola.send(f"{own(ola)}/avslaa", **ola.hidden | {"stay": "yes"})
        assert "Du har fått tilbudet på nytt Ingen andre venter på plassen." in ola.words
        assert "Ingenting er endret" not in ola.words
        assert (ola.status, "Ja, jeg tar plassen" in ola.words, ola.hidden["offer"] != before) == (200, True, True)


async def test_an_offer_that_has_lapsed_ends_in_a_sentence(servers: Servers) -> None:
    async with open_pages(servers) as here:
        _, _, ola = await offered(here)
        at, form = own(ola), ola.hidden
        async with here.database.reading() as conn:
            await conn.execute("UPDATE offers SET expires_at = app_now() - interval '1 second'")
        await ola.send(f"{at}/godta", **form)
        assert (ola.status, "Fristen for å svare er ute." in ola.words) == (409, True)
        assert "Ja, jeg tar plassen" not in ola.words
        await ola.go("/min-side")
        assert "Fristen for å svare på tilbudet er ute." in ola.words
        assert "Ja, jeg tar plassen" not in ola.words


async def test_an_old_page_answers_no_later_offer(servers: Servers) -> None:
    async with open_pages(servers) as here:
        _, _, ola = await offered(here, on_lapse="back_of_queue")
        at, form = own(ola), ola.hidden
        await ola.send(f"{at}/avslaa", **form | {"stay": "yes"})  # nobody else stands there: it is offered again
        await ola.go(at)
        assert "Du har fått tilbud om plass." in ola.words
        assert ola.hidden["offer"] != form["offer"]
        await ola.send(f"{at}/godta", **form)
        assert (ola.status, "Det er ikke noe tilbud å svare på lenger." in ola.words) == (409, True)
        assert "Ja, jeg tar plassen" in ola.words
        await ola.send(f"{at}/godta", **ola.hidden)
        assert "Du har plass." in ola.words


async def test_one_withdraws_from_what_was_seen_and_is_asked_again_when_it_has_changed(servers: Servers) -> None:
    async with open_pages(servers) as here:
        offering_id = await here.offering(online=1)
        kari, ola = person(here, "kari"), person(here, "ola")
        for one in (kari, ola):
            await one.enrol(offering_id)
        at = own(ola)
        await ola.go(f"{at}/meld-av")
        assert "Vil du melde deg av?" in ola.words
        old = ola.hidden
        await kari.go(f"{own(kari)}/meld-av")
        await kari.send(kari.address, **kari.hidden)
        await ola.send(f"{at}/meld-av", **old)  # it was the line, and by now it is a seat
        assert (ola.status, "Det har skjedd noe siden du åpnet siden." in ola.words) == (409, True)
        assert "Du har fått tilbud om plass." in ola.words
        form = ola.hidden
        for _ in range(2):
            await ola.send(f"{at}/meld-av", **form)
            assert (ola.status, ola.address, "Du meldte deg av." in ola.words) == (200, at, True)
        await ola.go(f"{at}/meld-av")  # the back button
        assert (ola.status, ola.address) == (200, at)
        async with here.database.reading() as conn:
            await conn.execute(
                "UPDATE enrolments SET state = 'finished', place = 'online' WHERE id = $1", uuid.UUID(at[-36:])
            )
        await ola.send(f"{at}/meld-av", **form)
        assert (ola.status, "Påmeldingen er over" in ola.words) == (409, True)


async def test_nobody_is_told_to_enrol_again_while_the_time_of_enrolment_lets_nobody(servers: Servers) -> None:
    """Red control: the same pages while it is open."""
    async with open_pages(servers) as here:
        offering_id = await here.offering(online=1)
        seated, waiting, left = (person(here, who) for who in ("kari", "ola", "per"))
        for one in (seated, waiting, left):
            await one.enrol(offering_id)
        at_seat, at_line, at_none = (own(one) for one in (seated, waiting, left))
        await left.go(f"{at_none}/meld-av")
        await left.send(left.address, **left.hidden)

        async def read() -> tuple[str, str, bool]:
            await seated.go(f"{at_seat}/meld-av")
            await waiting.go(f"{at_line}/meld-av")
            await left.go(at_none)
            return seated.words, waiting.words, 'id="again"' in left.text

        seat, line, can_ask = await read()
        assert "Plassen går straks til andre. Vil du ha den tilbake, må du melde deg på igjen." in seat
        assert "Melder du deg på igjen senere, kommer du bakerst i køen." in line
        assert can_ask

        now = datetime.now(UTC)
        for opens, closes, told in (
            (-2, -1, "Påmeldingsfristen er ute, så du kan ikke melde deg på igjen."),
            (1, 2, "og før det kan du ikke melde deg på igjen."),
        ):
            period = {"opens_at": now + timedelta(days=opens), "closes_at": now + timedelta(days=closes)}
            periods = json.dumps([{name: at.isoformat() for name, at in period.items()}])
            await rows(
                here,
                "UPDATE offerings SET rules = jsonb_set(rules, '{periods}', $2::jsonb) WHERE id = $1",
                offering_id,
                periods,
            )
            seat, line, can_ask = await read()
            assert "Plassen går straks til andre." in seat
            for words in (seat, line):
                assert told in words
                assert "Vil du ha den tilbake" not in words
                assert "på igjen senere" not in words
            assert not can_ask


async def test_what_has_happened_is_told_in_words(servers: Servers) -> None:
    async with open_pages(servers) as here:
        _, _, ola = await offered(here)
        await ola.send(f"{own(ola)}/godta", **ola.hidden)
        await ola.send(f"{own(ola)}/meld-av", seen="associated online")
        told = re.findall(r"</time><br>\s*(.*?)\s*</li>", ola.text, re.S)
        assert told == [
            "Du meldte deg av.",
            "Du tok plassen. Sted: På nett.",
            "Du fikk tilbud om plass. Sted: På nett.",
            "Du meldte deg på og kom i kø.",
        ]


# What courses are called


async def test_a_course_is_called_by_its_title_in_the_readers_language(servers: Servers) -> None:
    async with open_pages(servers) as here:
        offering_id = await here.offering(online=1)
        kari = person(here, "kari")
        await kari.go(f"/delta/{offering_id}")
        assert re.search(r"<h1[^>]*>\s*Kurs\s*</h1>", kari.text), "the page works before the catalogue has told of it"
        await named(here, offering_id, {"nb": "Sveising <trinn 1>", "nn": "Sveising trinn éin"}, 3)
        await named(here, offering_id, {"nb": "En eldre tittel"}, 2)
        await kari.go(f"/delta/{offering_id}")
        assert re.search(r"<h1[^>]*>\s*Sveising &lt;trinn 1&gt;\s*</h1>", kari.text)
        await kari.enrol(offering_id)
        for language, shown in (
            ("nb", "Sveising &lt;trinn 1&gt;"),
            ("nn", "Sveising trinn éin"),
            ("en", '<span lang="nb">Sveising &lt;trinn 1&gt;</span>'),
        ):
            kari.language = language
            for address in ("/min-side", own(kari), f"{own(kari)}/meld-av", f"/delta/{offering_id}"):
                await kari.go(address)
                assert shown in kari.text, (language, address)


@pytest.mark.parametrize("language", ["nb", "nn", "en", "sma"])
async def test_every_page_is_there_in_every_language(servers: Servers, language: str) -> None:
    async with open_pages(servers) as here:
        offering_id, kari, ola = await offered(here)
        await person(here, "per").enrol(offering_id)
        asked = await here.offering(online=1, mosjoen=0, rules={"requires_approval": True, "priority_groups": ["a-b"]})
        await person(here, "per").enrol(asked)
        for who, address in (
            (kari, own(kari)),
            (ola, own(ola)),
            (ola, f"{own(ola)}/meld-av"),
            (ola, f"{own(ola)}/tilstand"),
            (ola, "/min-side"),
            (person(here, "per"), "/min-side"),
            (person(here, "per"), f"/delta/{asked}"),
            (person(here, "eva"), f"/delta/{asked}"),
            (person(here, "eva"), f"/plasser/{offering_id}"),
            (person(here, "eva"), f"/plasser/{offering_id}/delta"),
            (person(here, "eva"), "/min-side"),
            (person(here, "tor", partner="torgar"), f"/deltakere/{asked}"),
            (person(here, "tor", partner="torgar"), f"/deltakere/{asked}/ark"),
        ):
            answer = await who.go(f"{address}?sprak={language}")
            assert answer.status_code == 200, address
            assert answer.headers["content-language"] == {"sma": "nb"}.get(language, language), "what its words are in"
            assert "%(" not in answer.text
            assert not re.search(r"\bon\w+=\"|style=\"|<script>", answer.text), "the policy lets none of it through"


async def test_a_page_that_leads_on_keeps_the_language_that_was_chosen(servers: Servers) -> None:
    """The page that says why nothing was done stands at its form's address, and so do its links to other languages."""
    async with open_pages(servers) as here:
        kari, torgar = person(here, "kari"), person(here, "tor", partner="torgar")
        offering_id = await here.offering(online=1)
        await person(here, "ola").enrol(offering_id)
        await kari.enrol(offering_id)
        mine, roster = own(kari), f"/deltakere/{offering_id}"
        await kari.send(f"{mine}/godta")
        assert (kari.status, f'href="{mine}/godta?sprak=en"' in kari.text) == (409, True)
        for who, address, leads in (
            (kari, f"{mine}/godta?sprak=en", f"{mine}?sprak=en"),
            (kari, f"{mine}/avslaa", mine),
            (torgar, f"{roster}{mine.removeprefix('/min-side')}/godkjenn?sprak=en", f"{roster}?sprak=en"),
        ):
            answer = await who.ask("GET", address)
            assert (answer.status_code, answer.headers["location"]) == (303, leads)


# Live


async def test_the_way_to_ask_is_called_by_what_one_would_get(servers: Servers) -> None:
    async with open_pages(servers) as here:
        offering_id = await here.offering(online=1, mosjoen=0)
        anybody = person(here, "eva")

        async def called() -> str:
            await anybody.go(f"/plasser/{offering_id}/delta")
            assert f'href="/delta/{offering_id}"' in anybody.text
            [name] = re.findall(r"<a [^>]*>([^<]+)</a>", anybody.text)
            return str(name)

        assert await called() == "Meld deg på"
        per = person(here, "per")
        await per.enrol(offering_id)
        assert await called() == "Still deg i kø", "the last seat has gone"
        await per.go(f"{own(per)}/meld-av")
        await per.send(f"{own(per)}/meld-av")
        assert await called() == "Meld deg på", "and is there again"
        await here.database.run(lambda conn: conn.execute("UPDATE places SET open = false"))
        await anybody.go(f"/plasser/{offering_id}/delta")
        assert "<a " not in anybody.text, "nobody can ask where no place is open"


async def test_the_button_of_the_form_is_called_by_what_one_would_get(servers: Servers) -> None:
    """As the way to the form is; the part that is fetched anew says it too, for the button of an open page."""
    async with open_pages(servers) as here:
        offering_id = await here.offering(online=1, mosjoen=0)
        eva, per = person(here, "eva"), person(here, "per")

        async def called() -> tuple[str, str]:
            await eva.go(f"/delta/{offering_id}")
            [button] = re.findall(r'<button [^>]*id="ask"[^>]*>([^<]+)</button>', eva.text)
            await eva.go(f"/plasser/{offering_id}")
            [anew] = re.findall(r'<p hidden data-calls="ask">([^<]+)</p>', eva.text)
            return button, anew

        assert await called() == ("Meld meg på", "Meld meg på")
        await per.enrol(offering_id)
        assert await called() == ("Still meg i kø", "Still meg i kø")
        await per.go(f"{own(per)}/meld-av")
        await per.send(f"{own(per)}/meld-av")
        assert await called() == ("Meld meg på", "Meld meg på")


async def test_ones_own_page_is_told_of_each_change_by_one_query_for_all(servers: Servers) -> None:
    async with open_pages(servers) as here:
        offering_id, _, ola = await offered(here)
        hub = Own(here.running)
        looks: list[int] = []
        look = hub.look

        async def counting(keys: Any) -> Any:
            looks.append(len(keys))
            return await look(keys)

        hub.look = counting  # type: ignore[method-assign]
        heard: dict[str, list[bytes]] = {}

        async def listen(who: str) -> None:
            heard[who] = []
            async for event in await hub.listen((ISSUER, who), None):
                if b"event: own" in event:
                    heard[who].append(event)

        people = ["ola", "per", *(f"nobody-{n}" for n in range(2_000))]
        await person(here, "per").enrol(offering_id)
        tasks = [asyncio.create_task(listen(who)) for who in people]
        await until(lambda: asyncio.sleep(0.01, len(heard) == len(people) and all(heard.values())), within_s=30)
        assert len(looks) < 20, "who come together are seen together: after a restart every browser comes back at once"
        looks.clear()
        await ola.send(f"{own(ola)}/godta", **ola.hidden)
        await until(lambda: asyncio.sleep(0.01, len(heard["ola"]) == 2))
        assert set(looks) == {len(people)}, "one look for all"
        assert all(len(events) == 1 for who, events in heard.items() if who.startswith("nobody")), "others hear nothing"
        assert b"ola" not in heard["ola"][1]
        here.running.stopping.set()
        await asyncio.wait_for(asyncio.gather(*tasks), 10)


async def test_ones_own_stream_does_not_outlive_a_session_for_long(
    servers: Servers, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with open_pages(servers) as here:
        await offered(here)
        monkeypatch.setattr(live, "WHILE_S", 0.0)
        answer = await asyncio.wait_for(person(here, "ola").ask("GET", "/min-side/live"), 10)
        assert (answer.status_code, answer.headers["content-type"].partition(";")[0]) == (200, "text/event-stream")


async def test_who_stands_in_line_is_told_when_somebody_in_front_leaves(servers: Servers) -> None:
    async with open_pages(servers) as here:
        offering_id = await here.offering(online=1)
        waiting = [person(here, who) for who in ("kari", "ola", "per", "anne")]
        for one in waiting:
            await one.enrol(offering_id)

        async def marks() -> dict[str, str]:
            async with here.database.reading() as conn:
                found = await steps.marks(conn, [(ISSUER, who) for who in ("kari", "ola", "per", "anne", "nobody")])
            return {who: mark for (_, who), mark in found.items()}

        before = await marks()
        assert before.keys() == {"kari", "ola", "per", "anne"}
        await waiting[2].send(f"{own(waiting[2])}/meld-av", seen="queued")
        after = await marks()
        assert {who for who in before if after.get(who) != before[who]} == {"per", "anne"}


# The partner's pages


async def test_a_roster_is_its_partners_and_operators(servers: Servers) -> None:
    async with open_pages(servers) as here:
        offering_id = await here.offering(online=1)
        kari = person(here, "kari")
        await kari.enrol(offering_id)
        [one] = await rows(here, "SELECT id FROM enrolments")
        tor, drift = person(here, "tor", partner="torgar"), person(here, "drift", role="operator")
        other = person(here, "mo", partner="mosjoen")
        for path in ("", "/ark", ".csv"):
            for who, status in ((tor, 200), (drift, 200), (other, 403), (kari, 403)):
                answer = await who.ask("GET", f"/deltakere/{offering_id}{path}")
                assert (answer.status_code, "Kari Nordmann" in answer.text) == (status, status == 200)
            assert (await tor.ask("GET", f"/deltakere/{uuid.uuid4()}{path}")).status_code == 404
        for verb in ("godkjenn", "avslaa"):
            for who in (other, kari):
                address = f"/deltakere/{offering_id}/{one['id']}/{verb}"
                answer = await who.ask("POST", address, {"csrf": who.visitor.csrf, "reason": "Nei"})
                assert answer.status_code == 403


async def test_a_partner_does_nothing_with_anothers_enrolment_through_its_own_run(servers: Servers) -> None:
    async with open_pages(servers) as here:
        asked = await here.offering(online=1, rules={"requires_approval": True})
        await person(here, "kari").enrol(asked)
        [one] = await rows(here, "SELECT id FROM enrolments")
        mine = await here.offering(online=1)
        async with here.database.reading() as conn:
            await conn.execute("UPDATE offerings SET partner = 'mosjoen' WHERE id = $1", mine)
        other = person(here, "mo", partner="mosjoen")
        for verb in ("godkjenn", "avslaa"):
            fields = {"csrf": other.visitor.csrf, "reason": "Nei"}
            assert (await other.ask("POST", f"/deltakere/{mine}/{one['id']}/{verb}", fields)).status_code == 404
        assert [row["state"] for row in await rows(here, "SELECT state FROM enrolments")] == ["pending"]


@pytest.mark.parametrize("field", ["csrf", "name"])
async def test_half_a_character_in_a_form_is_told_and_no_fault_of_ours(servers: Servers, field: str) -> None:
    """A form may say that it comes in UTF-7, in which half a character can be written."""
    async with open_pages(servers) as here:
        kari, offering_id = person(here, "kari"), await here.offering(online=1)
        sent = FORM | {"csrf": kari.visitor.csrf} | {field: "\ud800"}
        parts = [f'--x\r\ncontent-disposition: form-data; name="{name}"\r\n\r\n' for name in sent]
        texts = [text.encode("utf-7", "surrogatepass") for text in sent.values()]
        body = b"".join(part.encode() + text + b"\r\n" for part, text in zip(parts, texts, strict=True)) + b"--x--\r\n"
        headers = {
            "content-type": "multipart/form-data; boundary=x; charset=utf-7",
            "kursnett-pass": passes.sign(SIGNS, kari.visitor),
            "accept": "text/html",
        }
        answer = await here.asking.post(f"/delta/{offering_id}", content=body, headers=headers)
        assert answer.status_code == 400
        assert not await rows(here, "SELECT id FROM enrolments")


async def test_a_partner_lets_in_and_turns_away_on_the_page(servers: Servers) -> None:
    async with open_pages(servers) as here:
        offering_id = await here.offering(online=2, rules={"requires_approval": True})
        kari, ola = person(here, "kari"), person(here, "ola")
        for one, name in ((kari, "Kari <b>"), (ola, "Ola")):
            await one.enrol(offering_id, name=name)
        tor = person(here, "tor", partner="torgar")
        at = f"/deltakere/{offering_id}"
        await tor.go(at)
        assert "Kari &lt;b&gt;" in tor.text
        yes, no = (f"{at}/{own(one)[-36:]}" for one in (kari, ola))
        for _ in range(2):
            await tor.send(f"{yes}/godkjenn")
            assert (tor.status, tor.address) == (200, f"{at}?avgjort=approve&antall=1")
        await tor.send(f"{no}/avslaa", reason=" ")
        assert (tor.status, "Skriv en begrunnelse" in tor.words) == (422, True)
        await tor.send(f"{no}/avslaa", reason="N" * 201)
        assert (tor.status, "N" * 201 in tor.text, 'aria-invalid="true"' in tor.text) == (422, True, True)
        for _ in range(2):
            await tor.send(f"{no}/avslaa", reason="For ansatte.")
            assert (tor.status, tor.address) == (200, f"{at}?avgjort=deny&antall=1")
        await tor.send(f"{no}/godkjenn")
        assert (tor.status, "Påmeldingen er allerede avgjort." in tor.words) == (409, True)
        for one, told in ((kari, "Du har plass."), (ola, "Begrunnelse: For ansatte.")):
            await one.go(own(one))
            assert told in one.words


async def test_a_partner_that_is_suspended_lets_nobody_in_and_turns_nobody_away_on_the_page(servers: Servers) -> None:
    async with open_pages(servers) as here:
        offering_id = await here.offering(online=1, rules={"requires_approval": True})
        await person(here, "kari").enrol(offering_id)
        [one] = await rows(here, "SELECT id FROM enrolments")
        async with here.database.reading() as conn:
            await conn.execute("INSERT INTO partners (slug, state, version) VALUES ('torgar', 'suspended', 1)")
        tor, drift = person(here, "tor", partner="torgar"), person(here, "drift", role="operator")
        for verb in ("godkjenn", "avslaa"):
            fields = {"csrf": tor.visitor.csrf, "reason": "Nei"}
            assert (await tor.ask("POST", f"/deltakere/{offering_id}/{one['id']}/{verb}", fields)).status_code == 403
        assert [row["state"] for row in await rows(here, "SELECT state FROM enrolments")] == ["pending"]
        assert (await tor.ask("GET", f"/deltakere/{offering_id}")).status_code == 200
        assert await rows(here, "SELECT FROM operator_acts") == []
        for _ in range(2):  # what is so already is no act
            sent = {"csrf": drift.visitor.csrf}
            answer = await drift.ask("POST", f"/deltakere/{offering_id}/{one['id']}/godkjenn", sent)
            assert answer.status_code == 303
        [act] = await rows(here, "SELECT way, by, act, about FROM operator_acts")
        assert act == ("console", drift.visitor.caller.key, "enrolments approve", str(one["id"]))


async def test_a_roster_comes_in_pages_whole_as_a_file_and_by_place_and_name_as_a_sheet(
    servers: Servers, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("services.enrolment.roster.MOST_SHOWN", 2)
    monkeypatch.setattr("services.enrolment.partners.MOST_LISTED", 2)
    async with open_pages(servers) as here:
        offering_id = await here.offering(online=3, mosjoen=2)
        names = ["Åse", "=cmd|Ola", "Anne", "Øyvind", "Siri"]
        for number, name in enumerate(names):
            place = "mosjoen" if name == "Anne" else "online"
            await person(here, f"p{number}").enrol(offering_id, name=name, place1=place)
        tor = person(here, "tor", partner="torgar")
        seen: list[str] = []
        await tor.go(f"/deltakere/{offering_id}")
        assert "Har plass 4" in tor.words
        assert "Står i kø 1" in tor.words
        while True:
            seen += re.findall(r'<th scope="row" class="called">([^<]+)</th>\s*<td><span', tor.text)
            following = re.search(r'href="([^"]+)">Vis de neste', tor.text)
            if not following:
                break
            await tor.go(following[1])
        assert seen == names
        file = await tor.ask("GET", f"/deltakere/{offering_id}.csv")
        assert file.headers["content-type"].startswith("text/csv")
        assert "no-store" in file.headers["cache-control"]
        read = list(csv.DictReader(io.StringIO(file.content.decode("utf-8-sig")), delimiter=";"))
        assert [row["Navn"] for row in read] == ["Åse", "'=cmd|Ola", "Anne", "Øyvind", "Siri"]
        await tor.go(f"/deltakere/{offering_id}/ark")
        assert re.findall(r'<th scope="row">([^<]+)</th>', tor.text) == ["=cmd|Ola", "Øyvind", "Åse", "Anne"]
        assert "data-print" in tor.text
        assert "Underskrift" in tor.words
