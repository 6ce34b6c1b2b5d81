"""The catalogue's pages as a browser without JavaScript meets them: what is found, read, sent in and refused."""

import gzip
import html
import json
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from html.parser import HTMLParser
from typing import Any
from urllib.parse import urlencode
from uuid import UUID

import pytest

from kit import parking, passes, strangers
from kit.auth import Caller
from kit.pages import static
from kit.pages.visitors import HEADER
from kit.passes import Visitor
from services.catalogue import browse, details, joining, search
from services.catalogue import operating as catalogue
from services.catalogue.languages import MOST_LANGUAGES
from services.catalogue.mending import in_words
from services.catalogue.retracting import PeopleEnrolled
from services.catalogue.store import intake
from tests.delivery import Servers
from tests.integration.corpus import COURSE, TITLES
from tests.integration.test_catalogue import BASE, World, world
from tests.integration.test_catalogue_import import GOOD
from tests.integration.test_search import publish, run
from tests.web import ISSUER

pytestmark = pytest.mark.anyio

PRIVATE, PUBLIC = passes.generate()
CSRF = "the-token-of-this-session"
FIRST_VIEW_BYTES = 100 * 1024
LINKS = re.compile(r'href="/kurs/([0-9a-f-]{36})"')


@asynccontextmanager
async def pages(servers: Servers, **changed: Any) -> AsyncIterator[World]:
    async with world(servers, pass_public_key=PUBLIC, **changed) as here:
        yield here


def of(role: str = "learner", partner: str | None = None) -> dict[str, str]:
    """The header that the gateway adds for somebody who is logged in."""
    caller = Caller(ISSUER, "kari", role=role, partner=partner)  # type: ignore[arg-type]
    return {HEADER: passes.sign(PRIVATE, Visitor(caller, CSRF))}


async def look(here: World, address: str, language: str = "nb", **headers: str) -> Any:
    sent = {"accept": "text/html", "accept-language": language} | headers
    return await here.asking.get(address, headers=sent)


async def send(
    here: World,
    content: str | None,
    button: str,
    csrf: str = CSRF,
    query: str = "",
    headers: dict[str, str] | None = None,
) -> Any:
    """Send the form with a file, or with none."""
    files = {"fil": ("kurs.csv", content.encode(), "text/csv")} if content is not None else {"x": ("", b"")}
    sent = {"accept": "text/html"} | (of(partner=here.partner) if headers is None else headers)
    fields = {"csrf": csrf, "gjor": button}
    return await here.asking.post(f"/partner/fil{query}", data=fields, files=files, headers=sent)


def shown(page: Any) -> list[str]:
    """The ids of the courses that a page lists, in its order."""
    text = str(page.text)
    return LINKS.findall(text[text.find('id="treff"') :]) if 'id="treff"' in text else []


def words(page: Any) -> str:
    """What a reader sees."""
    return " ".join(html.unescape(re.sub(r"<[^>]+>", " ", re.sub(r"(?s)<script.*?</script>", "", page.text))).split())


class Elements(HTMLParser):
    """What a browser makes of a page: its elements, and the addresses they lead to."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.names: list[str] = []
        self.attributes: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.names.append(tag)
        self.attributes += [name for name, _ in attrs]


def elements(page: Any) -> tuple[list[str], set[str]]:
    """What a page is built of: the same for every text that is shown as a text."""
    found = Elements(page.text)
    return found.names, set(found.attributes)


async def fill(here: World) -> None:
    await publish(here, "SOON", "Sveising snart", subjects=["helse"], level="5.1")
    await run(here, "SOON", "a", 5, "online")
    await run(here, "SOON", "b", 50, "mosjoen")
    await publish(here, "LATE", "Sveising senere", subjects=["bygg", "helse"], language="en")
    await run(here, "LATE", "a", 30, "mosjoen")
    await publish(here, "FULL", "Fullt kurs", description={"nb": "Litt sveising."})
    await run(here, "FULL", "a", 20, "online")
    await publish(here, "PAST", "Var i fjor")
    await run(here, "PAST", "a", -5, "mosjoen")
    await publish(here, "GONE", "Trukket kurs")
    async with here.here.database.reading() as conn:
        await conn.execute("UPDATE courses SET withdrawn = true WHERE code = 'GONE'")
        full = await conn.fetchval(
            "SELECT o.id FROM offerings o JOIN courses c ON c.id = course_id WHERE code = 'FULL'"
        )
        await count(conn, full, taken=10, queued=3)


async def count(conn: Any, offering: UUID, taken: int, queued: int = 0, arena: str = "online") -> None:
    places = [{"arena": arena, "capacity": 10, "taken": taken, "queued": queued}]
    await intake.keep_seats(conn, offering, places, datetime.now(UTC))


async def test_a_search_on_the_page_finds_what_the_same_search_of_the_api_finds(servers: Servers) -> None:
    async with pages(servers) as here:
        await fill(here)
        day = (datetime.now(UTC) + timedelta(days=25)).date().isoformat()
        for query, found in (
            ("", 4),
            ("q=sveising", 3),
            ("q=sveis&sort=title", 3),
            ("q=sveising+-litt", 2),
            ("subject=helse", 2),
            ("subject=helse&sort=start", 2),
            ("arena=mosjoen", 2),
            ("level=5.1", 1),
            ("language=en", 1),
            (f"partner={here.partner}", 4),
            ("partner=torgar", 0),
            (f"starts_after={day}", 2),
            ("free=true", 2),
            ("withdrawn=true", 5),
            ("sort=start", 3),
            ("q=finnesikke", 0),
        ):
            answer = await here.asking.get(f"{BASE}/courses?{query}")
            ids = [one["course_id"] for one in answer.json()["items"]]
            page = await look(here, f"/kurs?{query}")
            assert (page.status_code, shown(page), len(ids)) == (200, ids, found), query
            told = f"{found} kurs" if found else "Ingen kurs passer"
            assert re.search(rf'id="antall"[^>]*>{told}', page.text), query


async def test_a_form_that_is_sent_with_empty_fields_asks_for_nothing(servers: Servers) -> None:
    async with pages(servers) as here:
        await fill(here)
        whole = shown(await look(here, "/kurs"))
        page = await look(here, "/kurs?q=&arena=&subject=&sort=&level=&language=&partner=&starts_after=&sprak=nn")
        assert shown(page) == whole
        assert '<html lang="nn">' in page.text
        assert len(whole) == 4


async def test_choices_tell_how_many_courses_each_would_give(servers: Servers) -> None:
    async with pages(servers) as here:
        await fill(here)
        page = await look(here, "/kurs?subject=helse&q=%22%3E%3Cb%3E")
        assert '<option value="helse" selected>' in page.text, "what is chosen stands there, be there none"
        page = await look(here, "/kurs?subject=helse")
        assert re.search(r'<option value="helse" selected>Helse og omsorg \(2\)', page.text)
        assert re.search(r'<option value="bygg">Bygg og anlegg \(1\)', page.text)
        assert re.search(rf'<option value="{here.partner}">Sveiseskolen \(2\)', page.text)
        assert '<option value="havbruk"' not in page.text


async def test_pages_follow_each_other_and_hold_every_course_once(servers: Servers) -> None:
    async with pages(servers) as here:
        for number in range(7):
            await publish(here, f"C-{number}", f"Kurs & mer {number}", subjects=["helse"])
        seen: list[str] = []
        page = await look(here, "/kurs?subject=helse&limit=3&q=kurs")
        while True:
            seen += shown(page)
            further = re.search(r'rel="next" href="([^"]+)"', page.text)
            if further is None:
                break
            page = await look(here, html.unescape(further[1]))
        assert len(seen) == len(set(seen)) == 7
        assert 'href="/kurs?subject=helse&amp;limit=3&amp;q=kurs"' in page.text, "the way back to the first page"


async def test_what_cannot_be_looked_for_is_told_in_words(servers: Servers) -> None:
    async with pages(servers) as here:
        await fill(here)
        for query, told in (
            ("starts_after=i+morgen", "Datoen kan ikke brukes"),
            (f"q={'x' * 201}", "Søket er for langt"),
            ("level=99", "et valg som ikke finnes"),
            ("limit=1000", "et valg som ikke finnes"),
            ("after=oppdiktet", "viser ikke til en side"),
        ):
            page = await look(here, f"/kurs?{query}")
            assert (page.status_code, shown(page)) == (422, []), query
            assert told in words(page)
        page = await look(here, "/kurs?starts_after=i+morgen&subject=helse")
        assert '<option value="helse" selected>' in page.text, "what was chosen beside it is kept"


async def test_the_front_page_leads_to_what_is_free_and_to_each_place(servers: Servers) -> None:
    async with pages(servers) as here:
        assert "ingen av de neste kursene" in words(await look(here, "/"))
        await fill(here)
        page = await look(here, "/")
        titles = re.findall(r'href="/kurs/[0-9a-f-]{36}"[^>]*>([^<]+)<', page.text)
        assert titles == ["Sveising snart", "Sveising senere"], "the soonest first; not the full one"
        assert re.search(r'href="/kurs\?arena=mosjoen">Mosjøen <span[^>]*>\(2 kurs\)', page.text)
        for feed in ("atom", "json"):
            assert f'href="{BASE}/courses/feed.{feed}"' in page.text


async def test_pages_for_everybody_know_nobody_and_are_asked_for_each_time(servers: Servers) -> None:
    async with pages(servers) as here:
        course = await publish(here, "A", "Sveising")
        for address in ("/", "/kurs", f"/kurs/{course}"):
            plain = await look(here, address)
            known = await look(here, address, **of("operator", here.partner))
            assert plain.text == known.text, "a page that may be kept for others must not know who asks"
            assert plain.headers["cache-control"] == "public, no-cache"
            again = await look(here, address, **{"if-none-match": plain.headers["etag"]})
            assert (again.status_code, again.content) == (304, b"")
            assert "cookie" in again.headers["vary"]
            assert (await look(here, address, "en")).headers["etag"] != plain.headers["etag"]


async def test_a_page_that_was_kept_is_made_anew_when_its_course_or_its_seats_change(servers: Servers) -> None:
    async with pages(servers) as here:
        course = await publish(here, "A", "Før")
        await run(here, "A", "a", 5)
        for address in ("/", "/kurs", f"/kurs/{course}"):
            assert "Før" in (await look(here, address)).text
            small = [await look(here, address, **{"accept-encoding": "gzip"}) for _ in range(3)][-1]
            assert ("Før" in small.text, small.headers["content-encoding"]) == (True, "gzip")
        await publish(here, "A", "Etter")
        for address in ("/", "/kurs", f"/kurs/{course}"):
            assert "Etter" in (await look(here, address, **{"accept-encoding": "gzip"})).text, address
        async with here.here.database.reading() as conn:
            await count(conn, await conn.fetchval("SELECT id FROM offerings"), taken=10)
        assert "Fullt" in words(await look(here, f"/kurs/{course}"))
        assert "Etter" not in (await look(here, "/")).text, "nothing is free"


async def test_an_answer_that_nobody_has_asked_for_since_a_change_is_made_once(
    servers: Servers, monkeypatch: pytest.MonkeyPatch
) -> None:
    makes: list[str] = []

    def counting(module: Any, name: str) -> None:
        make = getattr(module, name)

        async def counted(*asked: Any) -> Any:
            makes.append(name)
            return await make(*asked)

        monkeypatch.setattr(module, name, counted)

    for module, name in ((search, "_listed"), (browse, "_courses"), (details, "_course")):
        counting(module, name)
    async with pages(servers) as here:
        course = await publish(here, "A", "Sveising")
        for address, name in (
            (f"{BASE}/courses?q=sveising", "_listed"),
            (f'{BASE}/courses?q="sveising%20snart"', "_listed"),
            ("/kurs?q=sveising", "_courses"),
            (f"/kurs/{course}", "_course"),
        ):
            assert await publish(here, "A", f"Sveising {name}") == course
            makes.clear()
            for _ in range(3):
                assert (await look(here, address)).status_code == 200
            assert makes == [name], address


async def test_a_course_is_told_whole(servers: Servers) -> None:
    async with pages(servers) as here:
        start = datetime.now(UTC).replace(hour=9, minute=0, second=0, microsecond=0) + timedelta(days=40)
        course = await publish(
            here,
            "SV-1",
            "Sveising",
            level="5.1",
            studiepoeng="7.5",
            price_ore=125_050,
            funded_by="Fylket",
            delivery_mode="blended",
            subjects=["bygg"],
            description={"nb": "Først dette.\n\nSå det."},
            prerequisites={"nb": "Du må ha fagbrev."},
        )
        dates = {
            "starts_at": start.isoformat(),
            "ends_at": (start + timedelta(days=1, hours=3)).isoformat(),
            "sessions": [
                {
                    "starts_at": start.isoformat(),
                    "ends_at": (start + timedelta(hours=3)).isoformat(),
                    "room": "Verkstedet",
                }
            ],
            "places": [{"arena": "online", "capacity": 10}, {"arena": "mosjoen", "capacity": 5}],
        }
        offering = (await here.put("SV-1/offerings/a", dates)).json()["offering_id"]
        page = await look(here, f"/kurs/{course}")
        read = words(page)
        for part in ("Sveising", "7,5", "NKR 5.1", "EQF 5", "1\u00a0250,50\u00a0kr", "Fylket", "Sveiseskolen", "SV-1"):
            assert part.replace("\u00a0", " ") in read, part
        for part in (
            "Bygg og anlegg",
            "resten er på nett",
            "Verkstedet",
            "1 samling",
            "ikke meldt fullt noe sted",
            "Mosjøen",
        ):
            assert part in read, part
        assert f'href="/delta/{offering}"' in page.text
        assert f'data-live="/api/enrolment/v1/offerings/{offering}/live"' in page.text
        assert f'data-part="/plasser/{offering}/delta"' in page.text, "which enrolment answers"
        assert "Først dette." in page.text
        assert read.index("Forkunnskaper Du må ha fagbrev.") < read.index("Datoer og påmelding"), "before one asks"
        assert page.text.count("<h1") == 1
        [data] = re.findall(r'<script type="application/ld\+json">(.*?)</script>', page.text)
        linked = await here.asking.get(f"{BASE}/courses/{course}", headers={"accept": "application/ld+json"})
        assert json.loads(data) == linked.json()
        assert json.loads(data)["url"].endswith(f"/kurs/{course}"), "where a reader who has found it is led"
        assert "Enrol" in words(await look(here, f"/kurs/{course}", "en"))
        assert "to alfabeter" not in read
        await publish(here, "SV-1", "Sv\u0435ising")
        assert "to alfabeter" in words(await look(here, f"/kurs/{course}"))


async def test_the_state_of_a_run_is_told_in_words_with_the_age_of_what_is_known(servers: Servers) -> None:
    async with pages(servers) as here:
        course = await publish(here, "A", "Kurs")
        address = f"/kurs/{course}"
        assert "Ingen ny dato er satt" in words(await look(here, address))
        await run(here, "A", "a", 5)
        async with here.here.database.reading() as conn:
            offering = await conn.fetchval("SELECT id FROM offerings")
        assert "Ledige plasser" in words(await look(here, address))
        for taken, queued, told in (
            (4, 0, "Ledige plasser"),
            (10, 0, "Du kan stille deg i kø"),
            (10, 3, "3 står i kø"),
        ):
            async with here.here.database.reading() as conn:
                await count(conn, offering, taken, queued)
            read = words(await look(here, address))
            assert told in read, read
            assert "slik de var" in read, "how fresh the number is"
        assert "Still deg i kø" in words(await look(here, address))
        await here.cancel("A/offerings/a")
        page = await look(here, address)
        assert "Avlyst" in words(page)
        assert f"/delta/{offering}" not in page.text


async def test_seats_that_have_come_are_those_in_lines_first(servers: Servers) -> None:
    """Enrolment offers them to who stands in line, and says nothing when none is left: the run was and stays full."""
    async with pages(servers) as here:
        course = await publish(here, "A", "Kurs")
        await run(here, "A", "a", 5)
        async with here.here.database.reading() as conn:
            [row] = await conn.fetch("SELECT id, content FROM offerings")
            await count(conn, row["id"], taken=10)
        dates = {name: json.loads(row["content"])[name] for name in ("starts_at", "ends_at")}
        for capacity in (20, 0, 26):  # nobody has said that it is open again, or how many are in line now
            await here.put("A/offerings/a", dates | {"places": [{"arena": "online", "capacity": capacity}]})
            page = words(await look(here, f"/kurs/{course}"))
            assert "Still deg i kø" in page, page
            own = words(await look(here, "/partner", **of(partner=here.partner)))
            assert f"0 av {capacity} ledige" in own, own


async def test_a_run_without_seats_is_full_though_nobody_has_said_so(servers: Servers) -> None:
    async with pages(servers) as here:
        course = await publish(here, "A", "Kurs")
        await run(here, "A", "a", 5)
        async with here.here.database.reading() as conn:
            content = json.loads(await conn.fetchval("SELECT content FROM offerings"))
        dates = {name: content[name] for name in ("starts_at", "ends_at")}
        await here.put("A/offerings/a", dates | {"places": [{"arena": "online", "capacity": 0}]})
        page = words(await look(here, f"/kurs/{course}"))
        assert "Ledige plasser" not in page
        assert "Still deg i kø" in page
        assert course not in (await look(here, "/")).text, "it stands among what has free seats"


async def test_one_can_ask_for_a_seat_of_what_has_begun_only_when_its_rules_say_so(servers: Servers) -> None:
    async with pages(servers) as here:
        course = await publish(here, "A", "Kurs")
        now = datetime.now(UTC)
        dates = {
            "starts_at": (now - timedelta(days=1)).isoformat(),
            "ends_at": (now + timedelta(days=9)).isoformat(),
            "places": [{"arena": "online", "capacity": 10}],
        }
        offering = (await here.put("A/offerings/a", dates)).json()["offering_id"]
        page = await look(here, f"/kurs/{course}")
        assert "Har startet" in words(page)
        assert f"/delta/{offering}" not in page.text
        late = {"late_enrolment_until": (now + timedelta(days=2)).isoformat()}
        assert (await here.put("A/offerings/a", dates | late)).status_code == 200
        page = await look(here, f"/kurs/{course}")
        assert "likevel melde deg på" in words(page)
        assert f"/delta/{offering}" in page.text


async def test_a_strange_text_is_a_text_in_every_place_where_it_is_shown(servers: Servers) -> None:
    async with pages(servers) as here:
        plain: list[tuple[list[str], set[str]]] = []
        for text in ("Et helt vanlig navn", *TITLES.values()):
            course = await publish(
                here,
                "A",
                {"nb": text, "en": text},
                summary={"nb": text},
                description={"nb": text},
                prerequisites={"nb": text},
                funded_by=text,
            )
            starts_at = datetime.now(UTC) + timedelta(days=5)
            times = {"starts_at": starts_at.isoformat(), "ends_at": (starts_at + timedelta(hours=1)).isoformat()}
            dates = {**times, "sessions": [{**times, "room": text}], "places": [{"arena": "online", "capacity": 5}]}
            assert (await here.put("A/offerings/a", dates)).status_code in (200, 201)
            async with here.here.database.reading() as conn:
                kept = await conn.fetchval("SELECT content->'title'->>'nb' FROM courses")
                await conn.execute("UPDATE partners SET name = $1, state_because = $1, state = 'suspended'", kept)
            here.here.kept.clear()  # a new name is shown within a minute; here at once
            built = []
            for address in (
                "/",
                "/kurs",
                f"/kurs/{course}",
                "/partner",
                f"/partner?tilbyder={here.partner}",
                "/partner/fil",
            ):
                page = await look(here, address, **of("operator", here.partner))
                assert page.status_code == 200, address
                assert kept in html.unescape(page.text), (address, text)
                built.append(elements(page))
            page = await look(here, "/kurs?" + urlencode({"q": text, "partner": "ingen"}))
            assert html.escape(text) in page.text.replace("&#39;", "&#x27;").replace("&#34;", "&quot;")
            names, attributes = elements(page)  # how many choices there are depends on what was found
            built.append((sorted(set(names)), attributes))
            async with here.here.database.reading() as conn:
                await conn.execute("UPDATE partners SET state = 'active'")
            plain = plain or built
            assert built == plain, f"{text} has made an element or an attribute"


async def test_a_text_in_another_language_than_the_readers_says_so(servers: Servers) -> None:
    async with pages(servers) as here:
        course = await publish(
            here,
            "A",
            {"nn": "Opplæring i sveis", "sma": "Åarjelsaemien kuvsje"},
            summary={"en": "Welding for beginners"},
            description={"nb": "Om sveising", "en": "About welding"},
        )
        for address in ("/kurs", f"/kurs/{course}"):
            page = await look(here, address)
            assert re.search(r'lang="nn"[^>]*>Opplæring i sveis', page.text), address
            assert re.search(r'lang="en"[^>]*>Welding for beginners', page.text), address
        page = await look(here, f"/kurs/{course}", "nn")
        assert re.search(r'<h1 class="[^"]*" data-size="lg">Opplæring i sveis', page.text), (
            "the reader's own is not marked"
        )
        assert re.search(r'lang="nb">\s*<p[^>]*>Om sveising', page.text)
        page = await look(here, f"/kurs/{course}?sprak=sma")
        assert re.search(r'lang="sma"[^>]*>Åarjelsaemien', page.text)
        assert '<html lang="nb">' in page.text


async def test_an_address_that_leads_nowhere_is_a_page_that_leads_on(servers: Servers) -> None:
    async with pages(servers) as here:
        course = await publish(here, "A", "Kurs")
        for address in (f"/kurs/{UUID(int=7)}", "/kurs/ikke-et-kurs", "/kurs/%3Cscript%3E"):
            page = await look(here, address, "nn")
            assert (page.status_code, page.headers["content-type"]) == (404, "text/html; charset=utf-8"), address
            assert 'href="/kurs"' in page.text
            assert page.headers["cache-control"] == "no-store"
        assert (await look(here, f"/kurs/{course}", "x" * (MOST_LANGUAGES + 1))).status_code == 200


async def test_a_providers_page_is_for_the_provider_and_for_operators(servers: Servers) -> None:
    async with pages(servers) as here:
        own = of(partner=here.partner)
        for path in ("/partner", "/partner/mottak", "/partner/fil"):
            nobody = await look(here, path)
            assert (nobody.status_code, nobody.headers["location"]) == (303, f"/logg-inn?neste={path}")
            assert (await look(here, path, **of())).status_code == 403
            assert (await look(here, path, **of(partner="torgar"))).status_code == 404, "it is not let in here"
            assert (await look(here, f"{path}?tilbyder={here.partner}", **of(partner="torgar"))).status_code == 403
            page = await look(here, path, **own)
            assert (page.status_code, page.headers["cache-control"]) == (200, "no-store")
            assert "Sveiseskolen" in page.text
            operator = await look(here, f"{path}?tilbyder={here.partner}", **of("operator"))
            assert "Sveiseskolen" in operator.text
            assert f"/partner/fil?tilbyder={here.partner}" in operator.text, "an operator's links keep to the provider"
            assert (await look(here, f"{path}?tilbyder=finnes-ikke", **of("operator"))).status_code == 404
            assert (await look(here, f"{path}?tilbyder=';--", **of("operator"))).status_code == 404
        chosen = await look(here, "/partner", **of("operator"))
        assert f'href="/partner?tilbyder={here.partner}"' in chosen.text
        forged = {HEADER: of(partner=here.partner)[HEADER][:-4] + "AAAA"}
        assert (await look(here, "/partner", **forged)).status_code == 303


async def test_a_provider_sees_its_courses_their_state_and_what_readers_miss(servers: Servers) -> None:
    async with pages(servers) as here:
        await fill(here)
        await publish(here, "EN", {"nb": "To språk", "en": "Two languages"}, summary={"nb": "Kort"})
        page = await look(here, "/partner", **of(partner=here.partner))
        read = words(page)
        assert "Sammendraget mangler på: Engelsk" in read
        assert "Tittelen mangler på: Engelsk" in read
        assert "Trukket" in read
        assert "online: 0 av 10 ledige" in read.lower().replace("på nett", "online")
        async with here.here.database.reading() as conn:
            ids = [str(row["id"]) for row in await conn.fetch("SELECT id FROM offerings WHERE starts_at > app_now()")]
        assert sorted(re.findall(r'href="/deltakere/([0-9a-f-]+)"', page.text)) == sorted(ids)
        assert "HTTP 11 (11) 0 (0) 0 (0)" in read, "what was taken in a week, and in a day"


async def test_a_providers_courses_are_kept_for_it_alone_and_drawn_anew_when_they_change(servers: Servers) -> None:
    async with pages(servers) as here:
        await publish(here, "A", {"nb": "Før", "en": "Before"})
        await run(here, "A", "a", 5, "online")
        other = f"{here.partner}-to"
        await catalogue.add(here.settings, other, "Den andre", None, ["online"])
        own = of(partner=here.partner)
        for _ in range(2):
            assert "Før" in (await look(here, "/partner", **own)).text
            assert "Before" in (await look(here, "/partner", "en", **own)).text
            assert "Dere har ingen kurs her ennå" in (await look(here, "/partner", **of(partner=other))).text
            assert "Før" in (await look(here, f"/partner?tilbyder={here.partner}", **of("operator"))).text
            assert "Før" not in (await look(here, "/partner?etter=A", **own)).text
        await publish(here, "A", "Etter")
        assert "Etter" in (await look(here, "/partner", **own)).text
        async with here.here.database.reading() as conn:
            await count(conn, await conn.fetchval("SELECT id FROM offerings"), taken=7)
        assert "3 av 10 ledige" in words(await look(here, "/partner", **own))


async def test_a_long_list_of_a_providers_courses_goes_on(servers: Servers) -> None:
    async with pages(servers) as here:
        rows = "\n".join(f"K-{number:03};Kurs {number}" for number in range(120))
        assert (await send(here, f"code;title_nb\n{rows}\n", "lagre")).status_code == 303
        page = await look(here, "/partner", **of(partner=here.partner))
        seen: list[str] = []
        while True:
            seen += re.findall(r'<span class="quiet">(K-\d+)</span>', page.text)
            further = re.search(r'rel="next" href="([^"]+)"', page.text)
            if further is None:
                break
            page = await look(here, html.unescape(further[1]).partition("#")[0], **of(partner=here.partner))
        assert seen == [f"K-{number:03}" for number in range(120)]


async def test_what_was_refused_is_told_in_plain_words_with_the_rule_behind_it(servers: Servers) -> None:
    async with pages(servers) as here:
        await here.put("SV-1", COURSE)
        topic = f"partners.{here.partner}.courses"
        said = (
            ("refused", "unknown_subject", "subjects: magi is not a subject; choose of bygg, helse"),
            ("refused", "invalid", "title.nb: must be a text"),
            ("held", "quarantined", "waits until its sender is let go on"),
            ("held", strangers.IN_HAND, strangers.DETAILS[strangers.IN_HAND]),
            ("refused", "invalid", "title.nb: must be at most 200 characters (and 1 more)"),
        )
        async with here.here.database.reading() as conn, conn.transaction():
            for number, (state, reason, detail) in enumerate(said):
                record = parking.Record(topic, 0, number, b"SV-9", (), b"{}")
                kind = "no.kursnett.partner.CoursePublished.v1"
                await parking.park(
                    conn,
                    "catalogue",
                    "catalogue.partners",
                    record,
                    state=state,
                    reason=reason,
                    detail=detail,
                    event_id=f"{here.partner}/<b>{number}",
                    type=kind,
                )
        own = of(partner=here.partner)
        for path in ("/partner", "/partner/mottak"):
            read = words(await look(here, path, **own))
            assert "magi er ikke et fagområde. Velg blant bygg, helse." in read, path
            assert "Et felt er galt eller mangler" in read
            assert "title.nb: must be a text" in read, "for whoever mends the program"
        whole = await look(here, "/partner/mottak", **own)
        assert "<b>0" not in whole.text
        assert "Meldingen venter til driften slipper dere fram igjen." in words(whole)
        assert "Meldingen venter på noe annet fra dere" in words(whole)
        assert "Meldingen kunne ikke brukes" not in words(whole), "nobody is to send again what waits"
        assert "Teksten er for lang. Bruk høyst 200 tegn." in words(whole), "also where there is more"
        for which, count in (("taken", 1), ("refused", 3), ("parked", 2), ("tull", 6)):
            page = await look(here, f"/partner/mottak?vis={which}", **own)
            assert page.text.count("<tr>") - 1 == count, which
        assert "is not a subject. Choose one of" in words(await look(here, "/partner/mottak", "en", **own))
        assert (await look(here, "/partner/mottak?fra=tull", **own)).status_code == 422


async def test_a_provider_that_is_held_up_is_told_why_and_what_to_do(servers: Servers) -> None:
    async with pages(servers) as here:
        own = of(partner=here.partner)
        assert "Dere kan publisere kurs" in words(await look(here, "/partner", **own))
        async with here.here.database.reading() as conn, conn.transaction():
            await joining.quarantine(conn, here.partner, "20 of its last 50 records were refused")
        read = words(await look(here, "/partner", **own))
        assert "Meldingene deres venter" in read
        assert here.settings.contact_email in read
        assert "ble avvist. Rett programmet" in read
        async with here.here.database.reading() as conn, conn.transaction():
            await joining.release(conn, here.partner)
            await joining.quarantine(conn, here.partner, "Kursene ble sendt fra en test.")
        read = words(await look(here, "/partner", **own))
        assert "Meldingene deres venter" in read
        assert "Begrunnelse: Kursene ble sendt fra en test." in read
        assert "avvist. Rett programmet" not in read, "nothing was refused: an operator has decided so"
        async with here.here.database.reading() as conn, conn.transaction():
            await joining.suspend(conn, here.partner, "Avtalen er gått ut.")
        read = words(await look(here, "/partner", **own))
        assert "Begrunnelse: Avtalen er gått ut." in read
        refused = await send(here, GOOD, "lagre")
        assert refused.status_code == 403
        assert "Dere kan ikke publisere nå" in words(refused)
        assert (await here.asking.get(f"{BASE}/courses")).json()["items"] == []


async def test_a_file_is_tried_without_a_trace_and_then_taken_in(servers: Servers) -> None:
    async with pages(servers) as here:
        tried = await send(here, GOOD, "prov")
        assert tried.status_code == 200
        assert "Ingenting er lagret ennå. Nye: 3. Endret: 0. Uendret: 0." in words(tried)
        assert await here.said() == [("PartnerJoined", 1)], "a trial has left something behind"
        assert await here.intake() == []
        kept = await send(here, GOOD, "lagre")
        assert kept.status_code == 303
        assert "Nye: 3. Endret: 0. Uendret: 0." in words(
            await look(here, kept.headers["location"], **of(partner=here.partner))
        )
        again = await send(here, GOOD, "lagre")
        assert again.headers["location"] == "/partner/fil?nye=0&endret=0&like=3", "pressed twice, it changes nothing"
        assert {(one["way"], one["outcome"]) for one in await here.intake()} == {("csv", "taken")}
        more, query = GOOD.replace("online;12", "online;20"), f"?tilbyder={here.partner}"
        changed = await send(here, more, "lagre", query=query, headers=of("operator"))
        assert changed.headers["location"].startswith(f"/partner/fil?tilbyder={here.partner}&nye=0&endret=1")
        assert (await send(here, GOOD, "prov", query=query, headers=of("operator"))).status_code == 200
        async with here.here.database.reading() as conn:
            acts = await conn.fetch("SELECT act, about FROM operator_acts WHERE way = 'console'")
        assert [tuple(row) for row in acts] == [("import", here.partner)], "what an operator has kept is written down"


async def test_a_file_cancels_a_run_and_says_so_before_and_after(servers: Servers) -> None:
    async with pages(servers) as here:
        await send(here, GOOD, "lagre")
        ending = "code;title_nb;offering;starts_at;ends_at;arena;capacity;retracted\nSV-1;Sveising;V27;;;;;flom\n"
        tried = await send(here, ending, "prov")
        assert "Avlyst eller trukket: 1. Velg filen en gang til" in words(tried)
        assert "avlyses eller trekkes" in words(tried)
        kept = await send(here, ending, "lagre")
        page = await look(here, kept.headers["location"], **of(partner=here.partner))
        assert "Avlyst eller trukket: 1." in words(page)
        assert [kind for kind, _ in await here.said()][-1] == "OfferingCancelled"
    for people in (1, 2):
        said = in_words(str(PeopleEnrolled(people)), "nb")
        assert (
            said.text == f"Påmeldte: {people}. Skriv ja i kolonnen confirmed for å avlyse likevel. Da får de beskjed."
        )


async def test_a_mistake_in_a_file_is_told_by_row_and_column_and_how_to_mend_it(servers: Servers) -> None:
    async with pages(servers) as here:
        for content, row, column, told in (
            (GOOD.replace("bygg;7,5", "<b>;7,5"), 2, "subjects", "Bruk bare små bokstaver"),
            (GOOD.replace("bygg;7,5", "bygging;7,5"), 2, "subjects", "bygging er ikke et fagområde"),
            (GOOD.replace("mosjoen", "sandnessjoen"), 3, "arena", "sandnessjoen er ikke et av stedene deres"),
            (GOOD.replace("online;12", "online;tolv"), 2, "capacity", "Skriv et helt tall"),
            (GOOD.replace("05.03.2049", "31.02.2049"), 2, "ends_at", "finnes ikke"),
            (GOOD.replace("05.03.2049", "01.02.2049"), 2, "ends_at", "Slutten må være etter starten"),
            (GOOD.replace("Lodding", "=1+1"), 4, "title_nb", "kan ikke begynne med"),
            (GOOD.replace("studiepoeng", "studiepoen"), 1, "studiepoen", "Mener du studiepoeng"),
        ):
            for button in ("prov", "lagre"):
                page = await send(here, content, button)
                assert page.status_code == 422, told
                found = re.search(
                    rf'<tr><th scope="row">{row}</th><td><code>{column}</code></td><td>(.*?)</td>', page.text
                )
                assert found, (row, column, words(page))
                assert told in found[1]
                assert "Ingenting er lagret" in words(page)
        assert await here.said() == [("PartnerJoined", 1)]
        for nothing in (None, "", "  \n"):
            page = await send(here, nothing, "lagre")
            assert (page.status_code, "Velg en fil" in words(page)) == (422, True)
        large = await send(here, "x" * 300_000, "lagre")
        assert (large.status_code, "Filen er for stor" in words(large)) == (413, True)
        english = of(partner=here.partner) | {"accept-language": "en"}
        page = await send(here, GOOD.replace("online;12", "online;tolv"), "prov", headers=english)
        assert "Write a whole number." in words(page)


async def test_a_file_from_a_form_that_we_did_not_give_is_not_taken(servers: Servers) -> None:
    async with pages(servers) as here:
        for csrf in ("", "forged"):
            refused = await send(here, GOOD, "lagre", csrf=csrf)
            assert refused.status_code == 403
            assert "Ingenting er gjort" in words(refused)
        assert await here.said() == [("PartnerJoined", 1)]
        assert (await send(here, GOOD, "lagre")).status_code == 303, "the control: our own form does it"
        assert (await send(here, GOOD, "lagre", headers={})).status_code == 401
        assert (await send(here, GOOD, "lagre", headers=of(partner="torgar"))).status_code == 404


async def test_a_first_view_is_light(servers: Servers) -> None:
    async with pages(servers) as here:
        long = "Et ganske langt navn på et kurs som handler om mange ting på en gang"
        for number in range(30):
            await publish(here, f"C-{number}", f"{long} {number}", summary={"nb": f"{number} {long} " * 6})
            await run(here, f"C-{number}", "a", 5 + number, "online", "mosjoen")
        course = await publish(here, "C-1", long, description={"nb": " ".join(f"{n} {long}" for n in range(90))})
        shared = sum(len(file.small) for file in static.files().values() if file.small)
        for address in ("/", "/kurs", f"/kurs/{course}"):
            page = await look(here, address)
            assert shared + len(gzip.compress(page.content)) <= FIRST_VIEW_BYTES, address
