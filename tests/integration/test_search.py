"""How courses are found: by words as people write them, by filters, in Norwegian order, on pages that hold still."""

import asyncio
import base64
import json
import string
import unicodedata
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import quote

import pytest

from services.catalogue.search import cursor
from services.catalogue.spelling import words_of
from services.catalogue.store.search import Words
from tests.delivery import Servers
from tests.integration.test_catalogue import BASE, World, world

pytestmark = pytest.mark.anyio


async def publish(here: World, code: str, title: str | dict[str, str], **more: Any) -> str:
    course = {"title": {"nb": title} if isinstance(title, str) else title, **more}
    answer = await here.put(code, course)
    assert answer.status_code in (200, 201), answer.text
    found: str = answer.json()["course_id"]
    return found


async def run(here: World, code: str, key: str, days: int, *arenas: str) -> None:
    starts_at = datetime.now(UTC) + timedelta(days=days)
    dates = {
        "starts_at": starts_at.isoformat(),
        "ends_at": (starts_at + timedelta(days=2)).isoformat(),
        "places": [{"arena": arena, "capacity": 10} for arena in arenas or ("online",)],
    }
    assert (await here.put(f"{code}/offerings/{key}", dates)).status_code == 201


async def codes(here: World, query: str) -> list[str]:
    answer = await here.asking.get(f"{BASE}/courses?{query}")
    assert answer.status_code == 200, answer.text
    return [one["code"] for one in answer.json()["items"]]


async def found(here: World, q: str) -> list[str]:
    return await codes(here, f"q={quote(q)}")


def test_a_search_is_read_as_people_write_it() -> None:
    assert words_of("trygg bruk") == Words(("trygg",), (), "bruk")
    assert words_of('"trygg bruk" -nett -"på kveld"') == Words(('"trygg bruk"',), ("nett", '"på kveld"'))
    assert words_of("sveising or lodding HELSE-1") == Words(("sveising or lodding",), (), "helse-1")
    assert words_of('fisk or "norsk kurs" or mat') == Words(('fisk or "norsk kurs" or mat',))
    assert words_of('fisk -båt or "norsk kurs"') == Words(('fisk or "norsk kurs"',), ("båt",))
    assert words_of("båt -") == Words(("båt",))
    assert words_of("' \\ c++") == Words(("'", "\\", "c++"))
    assert words_of("") == Words()
    apart = unicodedata.normalize("NFD", "på båt")  # as some programs copy it
    assert words_of(apart) == words_of("på båt") == Words(("på",), (), "båt")


async def test_words_are_found_in_each_of_their_forms_in_both_written_languages(servers: Servers) -> None:
    async with world(servers) as here:
        await publish(here, "A", "Kurset for sykepleiere")
        await publish(here, "B", {"nn": "Opplæring for sjukepleiarar i verksemder"})
        for q in ("kurs", "kurset", "kursene", "kursa", "KURS", "sykepleier", "sykepl", "kurs sykepleieren"):
            assert await found(here, q) == ["A"], q
        for q in ("sjukepleiar", "sjukepleiarane", "verksemd", "verksemdene", "opplæringa", "OPPLÆRING", "opplæ"):
            assert await found(here, q) == ["B"], q
        assert sorted(await found(here, "kurset or verksemd")) == ["A", "B"]
        assert sorted(await found(here, 'verksemd or "kurset for sykepleiere"')) == ["A", "B"]
        assert await found(here, "pleier") == [] == await found(here, "!!! \" '"), "not within a word; no words at all"


async def test_words_are_apart_whatever_sign_stands_between_them(servers: Servers) -> None:
    """Where letters are those of C, PostgreSQL takes each of these for one; and KI/AI for the name of a file."""
    signs = "«»“”„’‘–—…•·®©™°€†‹›¿×→★\u00a0\u2009\u202f/\\|+=;😀"
    async with world(servers) as here:
        for number, sign in enumerate(signs):
            await publish(here, f"S-{number}", f"Lodding{sign}fresing")
        wanted = [f"S-{number}" for number in range(len(signs))]
        for q in ("lodding", "fresing", "fresing lodding", "«lodding»", "„fresing“ –lodding"):
            assert sorted(await codes(here, f"limit=100&q={quote(q)}")) == sorted(wanted), q
        await publish(here, "SOFT", "Sam\u00adarbeid")
        for q in ("samarbeid", "sam\u00adarbeid", "samarbeidet"):
            assert await found(here, q) == ["SOFT"], q
        await publish(here, "DASH", "Truck T1–T4")
        await publish(here, "ONE", "Elæring")
        for q, code in {"T1-T4": "DASH", "truck t1\u2011t4 -lodding": "DASH", "e-læring": "ONE"}.items():
            assert await found(here, q) == [code], q
        assert await found(here, "”truck T1”") == ["DASH"], "a phrase in the quotation marks of a phone"
        assert await found(here, "«T1 truck»") == []


async def test_a_course_is_found_by_what_people_call_it(servers: Servers) -> None:
    async with world(servers) as here:
        await publish(here, "WELD", "Sveising TIG")
        await publish(here, "LEAD", "Ny som leder")
        await publish(here, "NORSK", "Norskkurs for innvandrere")
        await publish(here, "RUIN", "Konkurs og avvikling")
        for q, code in {
            "sveisekurs": "WELD",
            "Sveisekurset": "WELD",
            "kurs i sveising": "WELD",
            "lederkurs": "LEAD",
            "leder-kurs": "LEAD",
            "norsk kurs": "NORSK",
            "norsk-kurs": "NORSK",
            "kurs norskkurs": "NORSK",
            "konkurs": "RUIN",
        }.items():
            assert await found(here, q) == [code], q
        assert await found(here, "kurs -norskkurs") == [], "nothing else is asked for beside it"
        await publish(here, "KURS", "Kurs i kurs")
        assert await found(here, "kurs") == ["KURS"]
        assert await found(here, "kurs or leder") == ["LEAD", "KURS"]


async def test_what_nobody_has_written_so_is_found_as_it_is_spelt(servers: Servers) -> None:
    async with world(servers) as here:
        await publish(here, "MONEY", "Økonomi")
        await publish(here, "BOAT", "Båtførerprøven")
        await publish(here, "ROBOT", "Praktisk programmering")
        await publish(here, "SAMI", {"sme": "Davvisámegiella"})
        for q, code in {
            "okonomi": "MONEY",
            "oekonomi": "MONEY",
            "Okonomien": "MONEY",
            "baatforerproven": "BOAT",
            "batforerprøven": "BOAT",
            "praktisk programering": "ROBOT",
            "prakktisk": "ROBOT",
            "davvisamegiella": "SAMI",
        }.items():
            assert await found(here, q) == [code], q
        assert sorted(await found(here, "-okonomi")) == ["BOAT", "ROBOT", "SAMI"]
        await publish(here, "ODD", "Okonomi")
        assert await found(here, "okonomi") == ["ODD"], "what is written so goes before what may be meant"
        assert await found(here, "bat") == [], "of so few letters anything may be meant"


async def test_where_nothing_is_found_what_may_be_meant_is(servers: Servers) -> None:
    """A letter that is wrong, the other written language, a word that stands in the course's name in another way."""
    async with world(servers) as here:
        await publish(here, "AID", "Førstehjelp for alle")
        await publish(here, "BOAT", "Båtførerprøven")
        await publish(here, "WELD", "Sveisekurs")
        await publish(here, "SCHOOL", {"nn": "Leiing i skulen"})
        await publish(here, "CARE", "Sykepleiere i hjemmet")
        await publish(here, "HELSE-101", "Legemidler")
        for q, code in {
            "forsthjelp": "AID",
            "førsthjelp": "AID",
            "førstehjlep alle": "AID",
            "fførstehjelp": "AID",
            "batforer": "BOAT",
            "båtforer": "BOAT",
            "sveising": "WELD",
            "skole": "SCHOOL",
            "skolen": "SCHOOL",
            "ledelse": "SCHOOL",
            "sjukepleiar": "CARE",
            "heimen": "CARE",
            "legemidlr": "HELSE-101",
        }.items():
            assert await found(here, q) == [code], q
        assert await found(here, "helse-102") == await found(here, "helse-1012") == [], "another code is another course"
        assert await found(here, "alla") == [], "of so few letters anything may be meant"
        await publish(here, "TIG", "Sveising TIG")
        assert await found(here, "sveising") == ["TIG"], "what is written so goes before what may be meant"


async def test_a_place_or_a_provider_in_a_search_is_where_a_run_is_and_whose(servers: Servers) -> None:
    async with world(servers) as here:
        await publish(here, "NEAR", "Norsk for nye")
        await run(here, "NEAR", "a", 9, "mosjoen")
        await publish(here, "FAR", "Norsk for nye")
        await run(here, "FAR", "a", 9, "online")
        await publish(here, "GONE", "Norsk før")
        await run(here, "GONE", "a", -9, "mosjoen")
        await publish(here, "TOWN", "Mosjøens historie", summary={"nb": "Om byen Mosjøen, uten norsk."})
        for q, wanted in {
            "norsk mosjøen": ["TOWN", "NEAR"],
            "norskkurs i Mosjoen": ["NEAR"],
            "kurs i mosjøen": ["NEAR", "TOWN"],
            "mosjøen": ["TOWN", "NEAR"],
            "norsk på nett": ["FAR"],
            "norsk online": ["FAR"],
            '"norsk" mosjøen': ["TOWN"],
            "“norsk i mosjøen nå”": [],  # no more than in the quotation marks of a keyboard
            unicodedata.normalize("NFD", "norsk på mosjøen"): ["NEAR", "TOWN"],
            "norsk -mosjøen": ["NEAR", "FAR", "GONE"],
            "sveising mosjøen": [],
            "sveiseskolen": ["NEAR", "FAR", "GONE", "TOWN"],
            "norsk hos Sveisesskolen": ["NEAR", "FAR", "GONE", "TOWN"],
            "historie sveiseskolen": ["TOWN"],
            f"historie {here.partner.replace('-', ' ')}": ["TOWN"],
            "regning sveiseskolen": [],
        }.items():
            assert sorted(await found(here, q)) == sorted(wanted), q
        assert await codes(here, "q=mosj%C3%B8en&free=true&sort=start") == ["NEAR"]
        counts = (await here.asking.get(f"{BASE}/courses?q=norsk%20mosj%C3%B8en&facets=true&limit=1")).json()["facets"]
        assert counts["partner"] == [{"value": here.partner, "courses": 2}]


async def test_signs_of_any_kind_and_number_are_no_words(servers: Servers) -> None:
    """PostgreSQL reads some of them as operators, and has room for 32 of these beside each other."""
    async with world(servers) as here:
        await publish(here, "A", "Båt (med motor): a-b & c")
        for sign in string.punctuation:
            for q in (sign * 100, f"{sign}-" * 60, "a" + f"{sign}-" * 60, f"a or {sign}" + "-" * 100, f"--{sign}x"):
                answer = await here.asking.get(f"{BASE}/courses", params={"q": q})
                assert answer.status_code == 200, q
        for q in ("(båt)", "båt:", "!motor", "<c>", "motor & c", '"båt (med"', "a-b"):
            assert await found(here, q) == ["A"], q
        assert await found(here, "båt ---motor") == [] == await found(here, "---båt")


async def test_what_has_signs_alone_finds_nothing_and_what_is_blank_finds_all(servers: Servers) -> None:
    """Else it looks as if each course had them."""
    async with world(servers) as here:
        await publish(here, "A", "Båt (med motor)")
        for q in ("!!!", "(", "-", "-- -", "?", "…", "😀"):
            answer = await here.asking.get(f"{BASE}/courses", params={"q": q, "facets": "true", "sort": "title"})
            assert (answer.json()["items"], answer.json()["facets"]["language"]) == ([], []), q
        for q in ("", "  ", "\u00a0"):
            assert await found(here, q) == ["A"], q


async def test_a_title_goes_before_a_summary_and_a_summary_before_a_description(servers: Servers) -> None:
    async with world(servers) as here:
        await publish(here, "TEXT", "Andre ting", description={"nb": "Vi øver på sveisingen."})
        await publish(here, "BRIEF", "Noe annet", summary={"nb": "Litt sveising."})
        await publish(here, "TITLE", "Sveising på verft", description={"nb": "Og lodding."})
        await publish(here, "SVEISING-9", "Et kurs")
        assert await found(here, "sveising") == ["TITLE", "SVEISING-9", "BRIEF", "TEXT"]
        assert await found(here, "sveising lodding") == ["TITLE"], "one in the title, the other in the description"
        assert await found(here, "sveising -lodding") == ["SVEISING-9", "BRIEF", "TEXT"], "left out wherever it stands"
        assert await found(here, '"sveising på verft"') == ["TITLE"]
        assert await found(here, '"verft sveising"') == []


async def test_a_code_is_found_whole_by_its_beginning_and_by_its_parts(servers: Servers) -> None:
    async with world(servers) as here:
        await publish(here, "HELSE-101.b", "Et kurs")
        await publish(here, "HEL-2", "Et annet")
        for q in ("HELSE-101.b", "helse-10", "helse-101.B", "helse", "101"):
            assert await found(here, q) == ["HELSE-101.b"], q


async def test_titles_stand_in_norwegian_order(servers: Servers) -> None:
    titles = [
        *("1. hjelp", "Alt om båt", "«Data» for alle", "École og språk", "Ellers", "Zoologi", "Ærlige svar"),
        *("Ökologi", "Øvelse", "Ålreit", "Åpning", "Aasen og nynorsk"),
    ]
    async with world(servers) as here:
        for number, title in enumerate(reversed(titles)):
            await publish(here, f"C-{number}", title)
        answer = await here.asking.get(f"{BASE}/courses")
        assert [one["title"]["nb"] for one in answer.json()["items"]] == titles
        async with here.here.database.reading() as conn:
            naive = await conn.fetch(
                "SELECT content->'title'->>'nb' AS title FROM courses ORDER BY lower(content->>'title')"
            )
        assert [row["title"] for row in naive] != titles, "the database's own order would do"


async def test_filters_are_about_one_run_that_is_to_come(servers: Servers) -> None:
    async with world(servers) as here:
        await publish(here, "SOON", "Snart", subjects=["helse"], level="5.1")
        await run(here, "SOON", "a", 5, "online")
        await run(here, "SOON", "b", 50, "mosjoen")
        await publish(here, "LATE", "Senere", subjects=["bygg", "helse"], language="en")
        await run(here, "LATE", "a", 30, "mosjoen")
        await publish(here, "PAST", "Var")
        await run(here, "PAST", "a", -5, "mosjoen")
        await publish(here, "OFF", "Avlyst")
        await run(here, "OFF", "a", 5, "mosjoen")
        await here.cancel("OFF/offerings/a")
        day = (datetime.now(UTC) + timedelta(days=40)).date().isoformat()
        assert await codes(here, "") == ["OFF", "LATE", "SOON", "PAST"]
        assert await codes(here, "subject=helse&sort=start") == ["SOON", "LATE"]
        assert await codes(here, "arena=mosjoen") == ["LATE", "SOON"], "what is past or cancelled is no run to go to"
        assert await codes(here, "arena=mosjoen&sort=start") == ["LATE", "SOON"]
        assert await codes(here, "sort=start") == ["SOON", "LATE"], "each once, by its first run"
        assert await codes(here, f"arena=mosjoen&starts_after={day}") == ["SOON"]
        assert await codes(here, f"arena=online&starts_after={day}") == [], (
            "never the arena of one and the day of another"
        )
        assert await codes(here, "starts_after=2020-01-01&sort=start") == ["PAST", "SOON", "LATE"], (
            "asked for what began"
        )
        assert await codes(here, f"arena=mosjoen&starts_after={day}T00:00:00+01:00") == ["SOON"], "+ as people write it"
        assert await codes(here, f"arena=mosjoen&starts_after={day}T00:00:00%2B01:00") == ["SOON"]
        assert await codes(here, "level=5.1") == ["SOON"]
        assert await codes(here, "language=en") == ["LATE"]
        one = (await here.asking.get(f"{BASE}/courses?level=5.1")).json()["items"][0]
        assert (one["eqf"], one["arenas"], one["subjects"]) == (5, ["mosjoen", "online"], ["helse"])


async def test_what_is_known_to_be_full_has_no_free_seat(servers: Servers) -> None:
    async with world(servers) as here:
        for code in ("FULL", "HALF", "UNKNOWN"):
            await publish(here, code, code)
            await run(here, code, "a", 5, "online", "mosjoen")
        await publish(here, "NONE", "uten kjøring")
        seats = {"FULL": (10, 10), "HALF": (10, 9)}
        async with here.here.database.reading() as conn:
            for code, (online, mosjoen) in seats.items():
                places = [
                    {"arena": "online", "capacity": 10, "taken": online, "queued": 3},
                    {"arena": "mosjoen", "capacity": 10, "taken": mosjoen, "queued": 0},
                ]
                await conn.execute(
                    """
                    INSERT INTO seat_counts (offering_id, places, as_of) SELECT offerings.id, $2, now()
                    FROM offerings JOIN courses ON courses.id = course_id WHERE code = $1
                    """,
                    code,
                    json.dumps(places),
                )
        assert await codes(here, "free=true") == ["HALF", "UNKNOWN"]
        assert await codes(here, "free=true&arena=mosjoen&sort=start") == ["HALF", "UNKNOWN"]
        assert await codes(here, "free=true&arena=online") == ["UNKNOWN"]
        assert await codes(here, "free=false") == ["FULL", "HALF", "UNKNOWN", "NONE"]
        counts = (await here.asking.get(f"{BASE}/courses?free=true&facets=true")).json()["facets"]["arena"]
        assert counts == [{"value": "mosjoen", "courses": 2}, {"value": "online", "courses": 1}]


async def test_a_place_without_seats_has_none_free_though_nobody_has_called_it_full(servers: Servers) -> None:
    async with world(servers) as here:
        await publish(here, "A", "Kurs")
        now = datetime.now(UTC)
        dates = {"starts_at": (now + timedelta(days=5)).isoformat(), "ends_at": (now + timedelta(days=6)).isoformat()}
        places = [{"arena": "online", "capacity": 0}, {"arena": "mosjoen", "capacity": 4}]
        await here.put("A/offerings/a", dates | {"places": places})
        assert await codes(here, "free=true&arena=mosjoen") == ["A"]
        assert await codes(here, "free=true&arena=online") == []
        await here.put("A/offerings/a", dates | {"places": places[:1]})
        assert await codes(here, "free=true") == []
        assert await codes(here, "arena=online") == ["A"]


async def test_each_kind_is_counted_under_the_other_conditions(servers: Servers) -> None:
    async with world(servers) as here:
        await publish(here, "A", "Sveising", subjects=["bygg"], level="7")
        await run(here, "A", "a", 5, "online", "mosjoen")
        await publish(here, "B", "Sveising og helse", subjects=["bygg", "helse"], language="en")
        await run(here, "B", "a", 5, "online")
        await publish(here, "C", "Regnskap", subjects=["okonomi"])
        answer = (await here.asking.get(f"{BASE}/courses?q=sveising&subject=helse&facets=true")).json()
        assert [one["code"] for one in answer["items"]] == ["B"]
        counts = {kind: {one["value"]: one["courses"] for one in them} for kind, them in answer["facets"].items()}
        assert counts == {
            "subject": {"bygg": 2, "helse": 1},
            "arena": {"online": 1},
            "level": {},
            "partner": {here.partner: 1},
            "language": {"en": 1},
        }
        counts = (await here.asking.get(f"{BASE}/courses?arena=mosjoen&facets=true")).json()["facets"]
        assert counts["arena"] == [{"value": "online", "courses": 2}, {"value": "mosjoen", "courses": 1}]
        assert counts["subject"] == [{"value": "bygg", "courses": 1}]

        await publish(here, "D", "Regnskap to", subjects=["okonomi"])
        await run(here, "D", "a", 7, "online")
        for order, hits in (("title", ["C", "D"]), ("start", ["D"])):  # by start, what has none to come is left out
            address = f"{BASE}/courses?sort={order}&facets=true"
            counts = (await here.asking.get(address)).json()["facets"]
            assert await codes(here, f"sort={order}&subject=okonomi") == hits
            assert {"value": "okonomi", "courses": len(hits)} in counts["subject"]
            assert counts["partner"] == [{"value": here.partner, "courses": len(await codes(here, f"sort={order}"))}]


@pytest.mark.parametrize("order", ["q=kurs", "sort=title", "sort=start", "q=kurs&sort=title"])
async def test_pages_hold_still_while_courses_come(servers: Servers, order: str) -> None:
    async with world(servers) as here:
        before = []
        for number in range(9):
            code = f"K-{number}"
            text = [f"Kurs {number}", f"Annet {number}"][number % 2]
            await publish(here, code, text, summary={"nb": "et kurs"})
            await run(here, code, "a", 10 + number // 2)
            before.append(code)
        seen, address = [], f"{BASE}/courses?{order}&limit=2"
        while address:
            answer = await here.asking.get(address)
            seen += [one["code"] for one in answer.json()["items"]]
            address = answer.headers.get("link", "").partition(">")[0].removeprefix("<")
            new = f"NY-{len(seen)}"
            await publish(here, new, f"Aha, kurs {new}")  # before what was seen, by title
            await run(here, new, "a", 1)
        assert sorted(set(seen) & set(before)) == before, "none is passed over"
        assert len(seen) == len(set(seen)), "none comes twice"


async def test_behind_a_long_title_in_any_script_there_is_a_next_page(servers: Servers) -> None:
    """Who reads the whole list must not be stopped by one partner's title."""
    async with world(servers) as here:
        for code, letter in (("A", "ї"), ("B", "語"), ("C", "𐐨")):
            await publish(here, code, letter * 200)
        await publish(here, "D", "\U0010fffd" + "1")  # behind all others
        page, seen = f"{BASE}/courses?limit=1", ""
        while page:
            answer = await here.asking.get(page)
            assert answer.status_code == 200, answer.text
            seen += "".join(one["code"] for one in answer.json()["items"])
            page = answer.links.get("next", {}).get("url", "")
        assert seen == "ABCD"


async def test_a_cursor_of_another_list_is_refused(servers: Servers) -> None:
    async with world(servers) as here:
        id_ = "01890000-0000-7000-8000-000000000000"
        half = base64.urlsafe_b64encode(json.dumps(["title", "\ud800", id_]).encode()).decode().rstrip("=")
        for after in (
            *(
                "x",
                "",
                "%C3%A5",
                "W10",
                "bnVsbA",
                cursor("title", "a", "b"),
                cursor("start", "a", id_),
                cursor("title"),
            ),
            *(
                cursor("relevance", "3", id_),
                cursor("title", "\0", id_),
                half,
                cursor("start", ""),
            ),
            *(cursor("start", "0001-01-01T00:00:00+01:00", id_), cursor("start", "2049-01-01", id_)),
        ):
            for order in ("q=kurs", "sort=title", "sort=start"):
                answer = await here.asking.get(f"{BASE}/courses?{order}&after={after}")
                told = (answer.status_code, [one["field"] for one in answer.json().get("errors", [])])
                if told != (200, []):
                    assert told == (400, ["query after"]), (after, order, answer.text)
                else:
                    assert answer.json() == {"items": []}


async def test_what_has_not_changed_is_not_sent_again(servers: Servers) -> None:
    async with world(servers) as here:
        await publish(here, "A", {"nb": "Sveising", "nn": "Sveising på nynorsk"})
        first = await here.asking.get(f"{BASE}/courses")
        same = await here.asking.get(f"{BASE}/courses", headers={"if-none-match": first.headers["etag"]})
        assert (same.status_code, same.content) == (304, b"")
        nynorsk = {"accept-language": "nn-NO, en;q=0.5", "if-none-match": first.headers["etag"]}
        other = await here.asking.get(f"{BASE}/courses", headers=nynorsk)
        assert other.json()["items"][0]["text"]["title"] == {"language": "nn", "text": "Sveising på nynorsk"}
        assert other.headers["vary"] == "accept-language"
        await publish(here, "A", "Lodding")
        newer = await here.asking.get(f"{BASE}/courses", headers={"if-none-match": first.headers["etag"]})
        assert newer.status_code == 200


async def test_what_was_withdrawn_is_shown_to_who_asks_for_it(servers: Servers) -> None:
    async with world(servers) as here:
        await publish(here, "A", "Sveising")
        async with here.here.database.reading() as conn:
            await conn.execute("UPDATE courses SET withdrawn = true")
        assert await found(here, "sveising") == [] == await codes(here, "")
        assert await codes(here, "q=sveising&withdrawn=true") == ["A"] == await codes(here, "withdrawn=true")


async def test_many_ask_at_once(servers: Servers) -> None:
    async with world(servers) as here:
        await publish(here, "A", "Sveising")
        queries = ("q=sveising", "sort=start", "q=sv&facets=true", "subject=helse", "q=zz")
        answers = await asyncio.gather(*(here.asking.get(f"{BASE}/courses?{q}") for q in queries * 8))
        assert {answer.status_code for answer in answers} == {200}
