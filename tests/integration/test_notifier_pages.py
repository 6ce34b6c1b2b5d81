"""The pages where people read their notices and choose what to be told: theirs alone, as the interface does it."""

import asyncio
import json
import re
import uuid
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from html import unescape
from pathlib import Path
from typing import Any

import pytest
from httpx2 import AsyncClient, Response

from contracts.catalogue import CourseChanged, PartnerJoined
from contracts.enrolment import ContactGiven, LearnerEnrolled, LearnerWithdrew, SeatOffered
from deploy import texts
from kit import live, passes, sealing
from kit.auth import Caller
from kit.passes import Visitor
from services.notifier import events, letterbox
from services.notifier.app import ROUTERS
from services.notifier.site import site
from tests.calling import Calling, calling_notifier, listening_hooks
from tests.delivery import Servers
from tests.integration.test_notifier_feed import as_person, person, reached, told
from tests.integration.test_notifier_notices import cancelled
from tests.notifying import PRIVATE, PUBLIC
from tests.web import ISSUER

pytestmark = pytest.mark.anyio

PREFERENCES = "/api/notifier/v1/me/preferences"
PRIVATE_PASS, PUBLIC_PASS = passes.generate()
HOSTILE = '<script>alert("1")</script>&amp;'


@pytest.fixture
async def world(servers: Servers) -> AsyncIterator[Calling]:
    async with listening_hooks() as hooks:
        changed = {"pass_public_key": PUBLIC_PASS, "quiet_hours": "21:00-07:00"}
        async with calling_notifier(servers, hooks, **changed) as world:
            await world.course_is_known()
            yield world


@dataclass
class Browser:
    """Somebody who is logged in, with a pass of the gateway; without JavaScript, and it follows no redirect."""

    asking: AsyncClient
    who: str = "kari"
    language: str = "nb"
    partner: str | None = None
    cookie: str = ""
    text: str = ""

    def headers(self) -> dict[str, str]:
        caller = Caller(ISSUER, self.who, partner=self.partner)
        given = passes.sign(PRIVATE_PASS, Visitor(caller, f"form-of-{self.who}"))
        sent = {"accept": "text/html", "accept-language": self.language, "kursnett-pass": given}
        return sent | ({"cookie": self.cookie} if self.cookie else {})

    async def get(self, path: str = "/varsler") -> Response:
        answer = await self.asking.get(path, headers=self.headers())
        self.text = answer.text
        return answer

    async def send(self, path: str, **fields: str) -> Response:
        fields.setdefault("csrf", f"form-of-{self.who}")
        answer = await self.asking.post(path, data=fields, headers=self.headers())
        self.text = answer.text
        return answer

    async def choose(self, **changed: str) -> Response:
        """Fill in the form of choices as it is shown, but for what is `changed` (`_` for `-`), and send it."""
        await self.get("/varsler/valg")
        return await self.choose_on_this_page(**changed)

    async def choose_on_this_page(self, **changed: str) -> Response:
        form = self.text.partition('action="/varsler/valg">')[2].partition("</form>")[0]
        filled = dict(re.findall(r'<input [^>]*?name="(csrf|version|from|until)" value="([^"]*)"', form))
        filled |= dict(re.findall(r'<input [^>]*?name="(quiet)" value="(\w+)" checked', form))
        for name, options in re.findall(r'<select [^>]*?name="([^"]+)".*?>(.*?)</select>', form, re.S):
            filled[name] = re.findall(r'value="(\w+)" selected', options)[0]
        filled = {name: unescape(value) for name, value in filled.items()}
        return await self.send("/varsler/valg", **filled | {key.replace("_", "-"): to for key, to in changed.items()})


@pytest.fixture
def kari(world: Calling) -> Browser:
    return Browser(world.asking)


async def enrolled(world: Calling, learner: uuid.UUID, count: int = 1) -> None:
    for _ in range(count):
        await world.hear(events.enrolments, [LearnerEnrolled(**world.about(learner), place="mosjoen")])


async def preferences(world: Calling, who: str = "kari") -> Any:
    answer = await world.asking.get(PREFERENCES, headers=as_person(world, who))
    return answer.json()


def plain(text: str) -> str:
    """What a reader sees of a page."""
    return " ".join(unescape(re.sub(r"<[^>]+>", " ", text.partition("<main")[2])).split())


async def test_one_reads_ones_own_notices_and_nobody_elses(world: Calling, kari: Browser) -> None:
    await enrolled(world, await person(world, "kari"))
    await enrolled(world, await person(world, "ola", "en"))
    page = await kari.get()
    assert page.status_code == 200
    assert page.headers["cache-control"] == "no-store"
    assert "Du har fått plass på Ledelse" in kari.text
    assert "Hei Kari" in kari.text
    assert "torsdag 14. januar 2049 kl. 18.00" in kari.text
    assert "Ola" not in kari.text
    assert "Leadership" not in kari.text
    assert "Du har ett ulest varsel." in plain(kari.text)
    assert '<span class="ds-tag" data-color="info" data-variant="outline">Ulest</span>' in kari.text
    nobody = Browser(world.asking, "nobody")
    await nobody.get()
    assert "Du har ingen varsler her." in nobody.text


@pytest.mark.parametrize("path", ["/varsler", "/varsler/liste", "/varsler/valg"])
async def test_who_is_not_logged_in_is_led_to_the_log_in(world: Calling, path: str) -> None:
    refused = await world.asking.get(path, headers={"accept": "text/html"})
    assert refused.status_code == 303
    assert refused.headers["location"] == f"/logg-inn?neste={path}"
    by_token = await world.asking.get(path, headers=as_person(world, "kari") | {"accept": "text/html"})
    assert by_token.status_code == 303, "a page knows a session, and no token"


async def test_the_stream_is_for_who_is_logged_in(world: Calling) -> None:
    assert (await world.asking.get("/varsler/live", headers={"accept": "text/event-stream"})).status_code == 401


FORMS = [
    "/varsler/lest",
    "/varsler/valg",
    "/varsler/valg/sprak",
    "/varsler/valg/kalender",
    "/varsler/valg/kalender/slutt",
]


@pytest.mark.parametrize("path", FORMS)
async def test_a_form_from_elsewhere_does_nothing(world: Calling, kari: Browser, path: str) -> None:
    learner = await person(world, "kari")
    await enrolled(world, learner)
    await kari.send("/varsler/valg/kalender")
    [notice] = await world.rows("SELECT id FROM notices")
    before = [
        await world.rows(f"SELECT * FROM {table}") for table in ("notices", "contacts", "calendars", "preferences")
    ]
    fields = {"notice": str(notice["id"]), "language": "en", "quiet": "never", "reminders-email": "off"}
    for forged in ("form-of-ola", ""):
        refused = await kari.send(path, csrf=forged, **fields)
        assert refused.status_code == 403
        assert "Skjemaet kan ikke brukes lenger" in refused.text
    assert (await world.asking.post(path, data=fields, headers={"accept": "text/html"})).status_code == 401
    after = [
        await world.rows(f"SELECT * FROM {table}") for table in ("notices", "contacts", "calendars", "preferences")
    ]
    assert after == before


async def test_the_texts_of_others_are_words_and_nothing_else(world: Calling, kari: Browser) -> None:
    sealed = sealing.seal(
        PUBLIC, {"email": "kari@example.no", "name": HOSTILE, "language": "nb", "login": Caller(ISSUER, "kari").key}
    )
    learner = uuid.uuid4()
    await world.hear(world.contacts, [ContactGiven(learner_id=learner, sealed=sealed)])
    await enrolled(world, learner)
    course: dict[str, Any] = {"course_id": world.course, "partner": "torgar", "code": "L1", "version": 2}
    await world.hear(events.courses, [CourseChanged(**course, title={"nb": HOSTILE})])
    await kari.get()
    assert "alert" in kari.text
    assert "<script>a" not in kari.text
    assert "&lt;script&gt;alert(&#34;1&#34;)&lt;/script&gt;&amp;amp;" in kari.text
    refused = await kari.choose(quiet="own", **{"from": f'"><script>{HOSTILE}'})
    assert refused.status_code == 422
    assert "<script>a" not in kari.text
    assert "&#34;&gt;&lt;script&gt;" in kari.text, "what was typed is there to be mended"


async def test_where_a_notice_leads_can_be_pressed(world: Calling, kari: Browser) -> None:
    """The courses to take instead of a cancelled one, as in its mail; and whom to ask."""
    learner = await person(world, "kari")
    partner = PartnerJoined(partner="torgar", name="Torgar", contact="75 00 00 00", arenas=["online"], version=1)
    await world.hear(events.partner_listeners(PRIVATE), [partner])
    await world.hear(
        events.enrolments, [LearnerWithdrew(**world.about(learner), place="mosjoen", reason="offering_cancelled")]
    )
    await world.hear(events.courses, [cancelled(world)])
    await kari.get()
    address = f"{world.settings.public_url}/kurs/{world.course}"
    assert f'<a class="ds-link" href="{address}">{address}</a>' in kari.text
    assert '<a class="ds-link" href="tel:+4775000000">75 00 00 00</a>' in kari.text


async def test_read_is_noted_once_for_ones_own_and_told(world: Calling, kari: Browser) -> None:
    await enrolled(world, await person(world, "kari"), 2)
    await enrolled(world, await person(world, "ola"))
    await kari.get()
    ids = re.findall(r'name="notice" value="([^"]+)"', kari.text)
    assert len(ids) == 2
    for _ in range(2):  # a double click
        done = await kari.send("/varsler/lest", notice=ids[0], before="")
        assert (done.status_code, done.headers["location"]) == (303, "/varsler?gjort=lest")
    await kari.get("/varsler?gjort=lest")
    assert "Varselet er merket som lest." in kari.text
    assert "Du har ett ulest varsel." in plain(kari.text)
    assert re.findall(r'name="notice" value="([^"]+)"', kari.text) == ids[1:]
    ola = Browser(world.asking, "ola")
    for wrong in (ids[1], str(uuid.uuid4()), "x", ""):
        assert (await ola.send("/varsler/lest", notice=wrong)).status_code == 404
    await kari.get()
    assert "Du har ett ulest varsel." in plain(kari.text)


async def test_all_are_read_that_were_shown_and_none_that_came_since(world: Calling, kari: Browser) -> None:
    learner = await person(world, "kari")
    await enrolled(world, await person(world, "ola"))
    await enrolled(world, learner, 3)
    await kari.get()
    assert "Du har 3 uleste varsler." in plain(kari.text)
    newest = re.findall(r'name="newest" value="([^"]+)"', kari.text)[0]
    await enrolled(world, learner)
    done = await kari.send("/varsler/lest", newest=newest)
    assert done.headers["location"] == "/varsler?gjort=alle"
    await kari.get(done.headers["location"])
    assert "Varslene er merket som lest." in kari.text
    assert "Du har ett ulest varsel." in plain(kari.text)
    assert (await kari.send("/varsler/lest", newest="x")).status_code == 404
    await kari.send("/varsler/lest", newest=str(uuid.UUID(int=2**128 - 1)))
    await kari.get()
    assert "Du har lest alt." in kari.text
    assert "Merk alle" not in kari.text
    ola = Browser(world.asking, "ola")
    await ola.get()
    assert "Du har ett ulest varsel." in plain(ola.text), "another's stay as they are"


async def test_pages_follow_each_other(world: Calling, kari: Browser, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(letterbox, "MOST_SHOWN", 2)
    await enrolled(world, await person(world, "kari"), 5)
    seen: list[str] = []
    path = "/varsler"
    while path:
        await kari.get(path)
        assert ('data-part="/varsler/liste"' in kari.text) == (path == "/varsler"), "only the newest are renewed"
        assert "Du har 5 uleste varsler." in plain(kari.text), "on all pages together"
        seen += re.findall(r'<details class="ds-details" id="v-([^"]+)"', kari.text)
        path = unescape("".join(re.findall(r'id="eldre" href="([^"]+)"', kari.text)))
        assert len(seen) <= 5
    assert seen == sorted(set(seen), reverse=True)
    assert len(seen) == 5
    before = re.findall(r'name="before" value="([^"]+)"', kari.text)[0]
    back = await kari.send("/varsler/lest", notice=seen[-1], before=before)
    assert back.headers["location"] == f"/varsler?before={before}&gjort=lest", "one stays where one was"
    assert (await kari.get("/varsler?before=x")).status_code == 404
    assert (await kari.send("/varsler/lest", notice=seen[-1], before="//evil.example")).status_code == 404


async def test_an_offer_leads_to_where_it_is_answered(world: Calling, kari: Browser) -> None:
    learner = await person(world, "kari")
    offer: dict[str, Any] = {"offer_id": uuid.uuid4(), "place": "mosjoen", "on_lapse": "leave"}
    offer |= {"expires_at": datetime.now(UTC) + timedelta(days=1)}
    offer |= {"sealed": sealing.seal(PUBLIC, {"accept": "SECRETYES", "decline": "SECRETNO"})}
    await world.hear(events.enrolments, [SeatOffered(**world.about(learner), **offer)])
    await kari.get()
    assert 'href="/min-side">Se tilbudet på Min side' in kari.text
    assert "SECRET" not in kari.text


async def test_each_day_of_a_course_is_told_here_too(world: Calling, kari: Browser) -> None:
    await enrolled(world, await person(world, "kari"))
    days = [f"2049-01-{day}T17:00:00Z" for day in (14, 21)]
    await world.rows(
        "UPDATE offerings SET sessions = $1",
        json.dumps([{"starts_at": day, "ends_at": day.replace("17:", "19:"), "room": "Rom 2"} for day in days]),
    )
    await kari.get()
    assert "- torsdag 14. januar 2049 kl. 18.00–20.00, Rom 2" in kari.text
    assert "- torsdag 21. januar 2049 kl. 18.00–20.00, Rom 2" in kari.text


async def test_the_part_is_the_list_alone(world: Calling, kari: Browser) -> None:
    await enrolled(world, await person(world, "kari"))
    await kari.get("/varsler/liste")
    assert "<html" not in kari.text
    assert "Du har fått plass på Ledelse" in kari.text
    assert 'value="form-of-kari"' in kari.text


async def test_who_looks_hears_of_a_new_notice_and_is_asked_to_come_again(
    world: Calling, kari: Browser, monkeypatch: pytest.MonkeyPatch
) -> None:
    learner = await person(world, "kari")
    async with reached(world) as asking, asyncio.timeout(20):
        sent = kari.headers() | {"accept": "text/event-stream"}
        async with asking.stream("GET", "/varsler/live", headers=sent) as answer:
            assert answer.headers["content-type"].startswith("text/event-stream")
            stream = told(answer.aiter_lines())
            assert (await anext(stream))[1] == 0
            await enrolled(world, learner)
            assert (await anext(stream))[1] == 1
        monkeypatch.setattr(live, "WHILE_S", 0.0)
        async with asking.stream("GET", "/varsler/live", headers=sent) as answer:
            assert [line async for line in answer.aiter_lines()], "it ends by itself"


async def test_what_is_chosen_here_is_what_the_interface_shows(world: Calling, kari: Browser) -> None:
    first = await preferences(world)
    done = await kari.choose(
        changes_email="daily", reminders_email="off", reminders_inapp="off", quiet="own", until="6.30"
    )
    assert (done.status_code, done.headers["location"]) == (303, "/varsler/valg?gjort=lagret")
    kept = await preferences(world)
    usual = {"email": "at_once", "inapp": "at_once", "sms": "off"}
    assert kept["categories"] == first["categories"] | {
        "changes": {**usual, "email": "daily"},
        "reminders": {**usual, "email": "off", "inapp": "off"},
    }
    assert kept["quiet_hours"] == {"from": "21:00", "until": "06:30"}
    await kari.get(done.headers["location"])
    assert "Valgene er lagret. Du har stille tid fra 21:00 til 06:30." in plain(kari.text)
    assert (await preferences(world, "ola")) == first
    await kari.choose(quiet="never")
    assert (await preferences(world))["quiet_hours"] is None
    assert (await preferences(world))["categories"] == kept["categories"]
    await kari.get("/varsler/valg?gjort=lagret")
    assert "Du har ikke stille tid." in kari.text
    await kari.choose(quiet="usual", changes_email="at_once", reminders_email="at_once", reminders_inapp="at_once")
    assert await preferences(world) == first
    assert await world.rows("SELECT FROM preferences") == await world.rows("SELECT FROM quiet_hours") == []


async def test_what_is_chosen_over_the_interface_is_what_is_shown_here(world: Calling, kari: Browser) -> None:
    body = {"categories": {"reminders": {"email": "weekly"}}, "quiet_hours": {"from": "23:15", "until": "05:45"}}
    await world.asking.put(PREFERENCES, json=body, headers=as_person(world, "kari"))
    before = await preferences(world)
    await kari.choose()
    assert await preferences(world) == before, "a form that is sent back as it was changes nothing"
    assert 'name="from" value="23:15"' in (await kari.get("/varsler/valg")).text


async def test_what_is_turned_off_in_the_feed_is_not_on_the_page(world: Calling, kari: Browser) -> None:
    await enrolled(world, await person(world, "kari"))
    await world.rows("UPDATE notices SET template = 'reminder', facts = '{\"days\": 1}'")
    assert "v-" in "".join(re.findall('id="v-', (await kari.get()).text))
    await kari.choose(reminders_inapp="off")
    assert 'id="v-' not in (await kari.get()).text


async def test_a_seat_is_always_told_whatever_a_form_says(world: Calling, kari: Browser) -> None:
    await kari.get("/varsler/valg")
    assert "Det kan ikke slås av" in kari.text
    assert "seat-email" not in kari.text
    done = await kari.choose(seat_email="off", offer_inapp="off", reminders_email="weekly")
    assert done.status_code == 303
    [row] = await world.rows("SELECT category FROM preferences")
    assert row["category"] == "reminders"


async def test_what_no_notice_to_a_person_is_of_is_not_asked_for_and_stays_as_it_was_said(world: Calling) -> None:
    """Neither who acts for a partner: its messages go to its office."""
    body = {"categories": {"partner": {"email": "off"}, "news": {"email": "weekly"}}}
    await world.asking.put(PREFERENCES, json=body, headers=as_person(world, "kari"))
    before = await preferences(world)
    kari = Browser(world.asking, partner="torgar")
    page = (await kari.get("/varsler/valg")).text
    assert re.findall(r'<select[^>]* name="([a-z]+)-email"', page) == ["changes", "reminders"]
    await kari.choose(partner_email="daily", news_email="daily")
    assert await preferences(world) == before


@pytest.mark.parametrize(
    ("changed", "field", "words"),
    [
        ({"quiet": "own", "from": "25:00"}, "from", "Skriv et klokkeslett"),
        ({"quiet": "own", "until": ""}, "until", "Skriv et klokkeslett"),
        ({"quiet": "own", "until": "21:00"}, "until", "må være forskjellige"),
        ({"quiet": "", "from": "x"}, "from", "Skriv et klokkeslett"),
        ({"reminders-email": "monthly"}, "reminders-email", "Velg et av alternativene"),
        ({"reminders-inapp": "daily"}, "reminders-inapp", "Velg et av alternativene"),
    ],
)
async def test_what_cannot_be_chosen_is_told_at_its_field(
    world: Calling, kari: Browser, changed: dict[str, str], field: str, words: str
) -> None:
    refused = await kari.choose(**changed, changes_email="weekly")
    assert refused.status_code == 422
    assert f'aria-invalid="true" aria-describedby="{field}-error"' in kari.text
    assert re.search(f'id="{field}-error">[^<]*{words}', kari.text)
    assert f'<a class="ds-link" href="#{field}">' in kari.text
    assert '<option value="weekly" selected>' in kari.text, "what was right stays filled in"
    assert await world.rows("SELECT FROM preferences") == []


async def test_two_tabs_a_double_click_and_a_page_that_is_sent_again(world: Calling, kari: Browser) -> None:
    other = Browser(world.asking)
    await kari.get("/varsler/valg")
    await other.choose(reminders_email="off")
    late = await kari.choose_on_this_page(changes_email="daily")
    assert late.status_code == 409
    assert "ble endret et annet sted" in kari.text
    assert (await preferences(world))["categories"]["changes"]["email"] == "at_once"
    assert (await kari.choose_on_this_page()).status_code == 303, "the page that says so can be sent"
    assert (await preferences(world))["categories"]["changes"]["email"] == "daily"
    await kari.get("/varsler/valg")
    page = kari.text
    for _ in range(2):
        kari.text = page
        assert (await kari.choose_on_this_page(reminders_email="off")).status_code == 303


async def test_the_address_and_the_language_of_letters_are_chosen_here(world: Calling, kari: Browser) -> None:
    await enrolled(world, await person(world, "kari"))
    await person(world, "ola")
    await kari.get("/varsler/valg")
    assert (
        'name="email" type="email" autocomplete="email" required maxlength="320" value="kari@example.no"' in kari.text
    )
    done = await kari.send("/varsler/valg/sprak", email=" kari@example.com ", language="en")
    assert (done.status_code, done.headers["location"]) == (303, "/varsler/valg?gjort=sprak")
    await kari.get("/varsler/valg?gjort=sprak")
    assert "Fra nå av skriver vi til kari@example.com" in kari.text
    assert "You have a seat on Leadership" in (await kari.get()).text
    assert 'class="words" lang="en"' in kari.text
    kept = [tuple(row) for row in await world.rows("SELECT email, language FROM contacts ORDER BY email")]
    assert kept == [("kari@example.com", "en"), ("ola@example.no", "nb")]
    for field, typed, words in (("email", "kari", "Skriv en e-postadresse"), ("language", "xx", "Velg et av språkene")):
        form = {"email": "kari@example.org", "language": "nn"} | {field: typed}
        assert (await kari.send("/varsler/valg/sprak", **form)).status_code == 422
        assert re.search(f'id="{field}-error">[^<]*{words}', kari.text)
        assert f'<a class="ds-link" href="#{field}">' in kari.text
        assert "selected>Nynorsk" in kari.text if field == "email" else 'value="kari@example.org"' in kari.text
    assert [tuple(row) for row in await world.rows("SELECT email, language FROM contacts ORDER BY email")] == kept
    nobody = Browser(world.asking, "nobody")
    assert "Vi har ingen adresse til deg." in (await nobody.get("/varsler/valg")).text
    form = {"email": "nobody@example.no", "language": "en"}
    assert (await nobody.send("/varsler/valg/sprak", **form)).status_code == 404


async def test_a_calendar_address_is_shown_once_to_its_own_person(world: Calling, kari: Browser) -> None:
    await enrolled(world, await person(world, "kari"))
    assert "Du har ingen slik adresse nå." in (await kari.get("/varsler/valg")).text
    made = await kari.send("/varsler/valg/kalender")
    assert (made.status_code, made.headers["location"]) == (303, "/varsler/valg?gjort=kalender#kalender")
    said = made.headers["set-cookie"].lower()
    assert all(part in said for part in ("httponly", "secure", "samesite=lax", "path=/"))
    kari.cookie = made.headers["set-cookie"].partition(";")[0]
    await kari.get("/varsler/valg?gjort=kalender")
    [url] = re.findall(r'readonly value="([^"]+)"', kari.text)
    assert "ikke gi den til andre" in kari.text
    assert f'href="webcal{url[url.index(":") :]}"' in kari.text
    path = url.removeprefix(world.settings.public_url)
    assert "BEGIN:VEVENT" in (await world.asking.get(path)).text
    ola = Browser(world.asking, "ola", cookie=kari.cookie)
    assert "readonly" not in (await ola.get("/varsler/valg")).text, (
        "a cookie that was left behind shows another nothing"
    )
    again = await kari.send("/varsler/valg/kalender")
    assert (await world.asking.get(path)).status_code == 404
    assert "vises ikke lenger" in (await kari.get("/varsler/valg?gjort=kalender")).text
    kari.cookie = again.headers["set-cookie"].partition(";")[0]
    assert "readonly" in (await kari.get("/varsler/valg")).text
    for _ in range(2):
        ended = await kari.send("/varsler/valg/kalender/slutt")
        assert ended.headers["location"] == "/varsler/valg?gjort=sluttet#kalender"
    assert "readonly" not in (await kari.get("/varsler/valg?gjort=sluttet")).text
    assert "kan ikke leses fra noen adresse lenger" in kari.text
    assert await world.rows("SELECT FROM calendars") == []


@pytest.mark.parametrize(
    ("language", "title", "choices"),
    [
        ("nb", "Varsler", "Hva du får beskjed om"),
        ("nn", "Varsel", "Kva du får beskjed om"),
        ("en", "Messages", "What you are told about"),
        ("sma", "Varsler", "Hva du får beskjed om"),
    ],
)
async def test_each_language_is_whole(world: Calling, language: str, title: str, choices: str) -> None:
    learner = await person(world, "kari", language)
    await enrolled(world, learner, 2)
    reader = Browser(world.asking)
    assert (
        f'<h1 class="ds-heading" data-size="lg">{title}</h1>' in (await reader.get(f"/varsler?sprak={language}")).text
    )
    page = await reader.get(f"/varsler/valg?sprak={language}")
    assert f'<h1 class="ds-heading" data-size="lg">{choices}</h1>' in page.text
    said = {"sma": "nb"}.get(language, language)  # what its words are in
    assert (page.status_code, page.headers["content-language"]) == (200, said)


def test_every_text_is_translated() -> None:
    folder = Path(site().folder).relative_to(texts.ROOT).as_posix()
    assert [one for one in texts.missing() if one.startswith(folder)] == []


def test_every_page_is_behind_the_log_in() -> None:
    """A page's route asks who is there; a form's, whether it is ours."""
    paths = {}
    for router in ROUTERS:
        for route in router.routes:
            if str(getattr(route, "path", "")).startswith("/varsler"):
                asked = {one.call.__name__ for one in _dependencies(route.dependant)}  # type: ignore[attr-defined]
                paths[route.path, *route.methods] = asked  # type: ignore[attr-defined]
    assert len(paths) == 10
    for (_, method), asked in paths.items():
        assert ("visiting" if method == "GET" else "acting") in asked


def _dependencies(dependant: Any) -> Any:
    for one in dependant.dependencies:
        yield one
        yield from _dependencies(one)


@pytest.fixture
async def texting(servers: Servers) -> AsyncIterator[Calling]:
    """A notifier with a gateway for SMS, to which nothing is sent here."""
    async with listening_hooks() as hooks:
        changed = {"pass_public_key": PUBLIC_PASS, "sms_gateway_url": "https://sms.example/send"}
        async with calling_notifier(servers, hooks, **changed) as world:
            await world.course_is_known()
            yield world


async def test_sms_are_chosen_where_there_are_some_and_else_a_sentence_says_why_not(
    world: Calling, texting: Calling
) -> None:
    nowhere = Browser(world.asking)
    await enrolled(world, await person(world, "kari"))
    assert "Vi sender ikke SMS herfra." in plain((await nowhere.get("/varsler/valg")).text)
    assert "-sms" not in nowhere.text
    kari = Browser(texting.asking)
    await enrolled(texting, await person(texting, "kari"))
    assert "Vil du ha SMS, så oppgi mobilnummeret ditt" in plain((await kari.get("/varsler/valg")).text)
    assert "-sms" not in kari.text
    form = {"email": "kari@example.no", "language": "nb", "phone": " 912 34 567 "}
    assert (await kari.send("/varsler/valg/sprak", **form)).status_code == 303
    await kari.get("/varsler/valg")
    assert 'name="phone" type="tel" autocomplete="tel" maxlength="32" value="+4791234567"' in kari.text
    assert re.findall(r'<select [^>]*name="(\w+)-sms"', kari.text) == ["seat", "offer", "changes", "reminders"]
    assert "På SMS kommer det som haster" in plain(kari.text)
    for name in ("seat", "offer", "changes", "reminders"):
        assert re.search(rf'name="{name}-sms">\s*<option value="off" selected>', kari.text), "nobody gets any unasked"
    assert (await kari.choose(offer_sms="at_once", changes_sms="at_once", changes_email="daily")).status_code == 303
    chosen = (await preferences(texting))["categories"]
    assert chosen["offer"] == {"email": "at_once", "inapp": "at_once", "sms": "at_once"}
    assert chosen["changes"] == {"email": "daily", "inapp": "at_once", "sms": "at_once"}
    assert (chosen["seat"]["sms"], chosen["reminders"]["sms"]) == ("off", "off")
    refused = await kari.choose(seat_sms="daily")
    assert refused.status_code == 422
    assert re.search(r'id="seat-sms-error">[^<]*Velg et av alternativene', kari.text)
    # Without a number the choice is not on the page, and stays what it was.
    assert (await kari.send("/varsler/valg/sprak", **(form | {"phone": ""}))).status_code == 303
    assert (await kari.choose(reminders_email="off")).status_code == 303
    assert (await preferences(texting))["categories"]["offer"]["sms"] == "at_once"
    assert (await kari.send("/varsler/valg/sprak", **(form | {"phone": "12345678"}))).status_code == 422
    assert re.search(r'id="phone-error">[^<]*Skriv et telefonnummer', kari.text)
    assert 'value="12345678" aria-describedby="phone-error phone-hint" aria-invalid="true"' in kari.text
    assert '<a class="ds-link" href="#phone">' in kari.text
