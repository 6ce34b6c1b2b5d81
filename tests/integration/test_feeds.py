"""What others subscribe to and search engines read: feeds, calendars, JSON-LD; and texts in the reader's language."""

import json
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import Any
from xml.etree import ElementTree
from zoneinfo import ZoneInfo

import pytest
from icalendar import Calendar

from services.catalogue import feeds, linked
from services.catalogue import operating as command
from services.catalogue.store import views
from tests.delivery import Servers
from tests.integration.test_catalogue import BASE, World, world

pytestmark = pytest.mark.anyio

ATOM = "{http://www.w3.org/2005/Atom}"
ODD = "Fisk & <b>sjømat</b> ]]> \"'” 😀 \u2028".rstrip()


async def publish(here: World, code: str, title: dict[str, str], **more: Any) -> str:
    answer = await here.put(code, {"title": title, **more})
    assert answer.status_code in (200, 201), answer.text
    found: str = answer.json()["course_id"]
    return found


def parts(calendar: bytes, kind: str) -> list[Any]:
    return Calendar.from_ical(calendar).walk(kind)


async def test_new_courses_are_fed_to_atom_readers_whatever_their_titles_hold(servers: Servers) -> None:
    async with world(servers) as here:
        empty = ElementTree.fromstring((await here.asking.get(f"{BASE}/courses/feed.atom")).content)
        assert empty.findall(f"{ATOM}entry") == []
        first = await publish(here, "A", {"nb": ODD}, summary={"nb": "Kort & godt"}, subjects=["havbruk"])
        ids = [first] + [await publish(here, f"B-{number}", {"nn": f"Kurs {number}"}) for number in range(50)]
        answer = await here.asking.get(f"{BASE}/courses/feed.atom")
        assert answer.headers["content-type"].startswith("application/atom+xml")
        feed = ElementTree.fromstring(answer.content)
        entries = feed.findall(f"{ATOM}entry")
        assert [one.findtext(f"{ATOM}id") for one in entries] == [f"urn:uuid:{one}" for one in reversed(ids[1:])]
        links = {link.get("rel"): link.get("href") for link in feed.findall(f"{ATOM}link")}
        assert links["self"] == feed.findtext(f"{ATOM}id") == "http://localhost:8080/api/catalogue/v1/courses/feed.atom"
        pages = [link.get("href") for link in feed.iter(f"{ATOM}link") if link.get("type") == "text/html"]
        assert pages == [
            "http://localhost:8080/kurs",
            *(f"http://localhost:8080/kurs/{one}" for one in reversed(ids[1:])),
        ]
        first_links = [next(one.iter(f"{ATOM}link")) for one in entries]
        assert {link.get("type") for link in first_links} == {"text/html"}, "what readers open"
        for program in ("", f"/{ids[-1]}"):
            assert f"http://localhost:8080{BASE}/courses{program}" in answer.text
        await here.put("C", {"title": {"nb": ODD}, "summary": {"nb": "Kort & godt"}})
        newest = ElementTree.fromstring((await here.asking.get(f"{BASE}/courses/feed.atom")).content)[5:]
        entry = next(one for one in newest if one.tag == f"{ATOM}entry")
        assert (entry.findtext(f"{ATOM}title"), entry.findtext(f"{ATOM}summary")) == (ODD, "Kort & godt")
        await here.put("D", {"title": {"en": "Welding"}, "summary": {"nb": "Vi sveiser."}})
        mixed = ElementTree.fromstring(
            (await here.asking.get(f"{BASE}/courses/feed.atom", headers={"accept-language": "en"})).content
        )
        entry_of_two = next(mixed.iter(f"{ATOM}entry"))
        language = "{http://www.w3.org/XML/1998/namespace}lang"
        summary = next(entry_of_two.iter(f"{ATOM}summary"))
        told = [one.get(language) for one in (mixed, mixed[1], entry_of_two, summary)]
        assert told == ["en", "nb", "en", "nb"], "each text says which language it is in"
        for name in ("updated", "published"):
            datetime.fromisoformat(entry.findtext(f"{ATOM}{name}") or "")
        assert entry.findtext(f"{ATOM}author/{ATOM}name") == "Sveiseskolen"


async def test_a_feed_that_is_as_before_is_not_sent_again(servers: Servers) -> None:
    async with world(servers) as here:
        await publish(here, "A", {"nb": "Sveising"})
        known = {}
        for kind in ("atom", "json"):
            first = await here.asking.get(f"{BASE}/courses/feed.{kind}")
            known = {"if-none-match": first.headers["etag"]}
            assert (await here.asking.get(f"{BASE}/courses/feed.{kind}", headers=known)).status_code == 304
            assert first.headers["last-modified"].endswith("GMT")
        await publish(here, "B", {"nb": "Lodding"})
        assert (await here.asking.get(f"{BASE}/courses/feed.json", headers=known)).status_code == 200


async def test_the_time_of_a_feed_does_not_go_back_when_a_course_is_withdrawn(servers: Servers) -> None:
    async with world(servers) as here:
        await publish(here, "A", {"nb": "Sveising"})
        await publish(here, "B", {"nb": "Lodding"})
        later = "changed_at = changed_at + interval '1 hour' WHERE code = 'B'"
        async with here.here.database.reading() as conn:
            await conn.execute(f"UPDATE courses SET {later}")
        first = await here.asking.get(f"{BASE}/courses/feed.atom")
        async with here.here.database.reading() as conn:
            await conn.execute(f"UPDATE courses SET withdrawn = true, {later}")
        second = await here.asking.get(f"{BASE}/courses/feed.atom")
        times = [ElementTree.fromstring(one.content).findtext(f"{ATOM}updated") or "" for one in (first, second)]
        assert times[0] < times[1]
        told = [parsedate_to_datetime(one.headers["last-modified"]) for one in (first, second)]
        assert told[0] < told[1]


async def test_nor_does_it_when_the_oldest_is_withdrawn_or_all_are(servers: Servers) -> None:
    async with world(servers) as here:
        for code in ("A", "B"):
            await publish(here, code, {"nb": "Sveising"})
        times = []
        for code in ("", "A", "B"):  # of few courses, the oldest has changed last
            later = f"changed_at = changed_at + interval '1 hour', withdrawn = true WHERE code = '{code}'"
            async with here.here.database.reading() as conn:
                await conn.execute(f"UPDATE courses SET {later}")
            answer = await here.asking.get(f"{BASE}/courses/feed.atom")
            updated = ElementTree.fromstring(answer.content).findtext(f"{ATOM}updated") or ""
            times.append((updated, parsedate_to_datetime(answer.headers["last-modified"])))
        assert times[0] < times[1] <= times[2]


async def test_the_time_of_a_feed_is_that_of_the_courses_in_it(
    servers: Servers, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(feeds, "NEWEST", 2)
    async with world(servers) as here:
        for code in ("A", "B", "C"):
            await publish(here, code, {"nb": "Sveising"})
        first = (await here.asking.get(f"{BASE}/courses/feed.atom")).headers["last-modified"]
        for code, changes in (("A", False), ("B", True)):
            async with here.here.database.reading() as conn:
                await conn.execute(
                    "UPDATE courses SET changed_at = changed_at + interval '1 hour' WHERE code = $1", code
                )
            told = (await here.asking.get(f"{BASE}/courses/feed.atom")).headers["last-modified"]
            assert (told != first) == changes, "what stands in no feed changes none"


async def test_a_partner_that_joins_while_a_feed_is_made_is_named_in_it(
    servers: Servers, monkeypatch: pytest.MonkeyPatch
) -> None:
    providers, newest = views.providers, views.newest
    async with world(servers) as here:
        joined = f"{here.partner}-b"

        async def first(conn: Any) -> Any:
            rows = await providers(conn)
            await joins()
            return rows

        async def second(conn: Any, limit: int) -> Any:
            rows = await newest(conn, limit)
            await joins()
            return rows

        async def joins() -> None:
            if joined not in [one["slug"] for one in await command.listed(here.settings)]:
                made = await command.add(here.settings, joined, "En ny", None, ["online"])
                theirs = World(here.here, here.settings, here.asking, here.issuer, joined, made["key"])
                await publish(theirs, "NY-1", {"nb": "Nytt"})

        monkeypatch.setattr(views, "providers", first)
        monkeypatch.setattr(views, "newest", second)
        for _ in range(2):
            assert (await here.asking.get(f"{BASE}/courses/feed.json")).status_code == 200


async def test_a_json_feed_says_the_same(servers: Servers) -> None:
    async with world(servers) as here:
        course_id = await publish(here, "A", {"nb": ODD, "nn": "Nynorsk"}, subjects=["havbruk"])
        answer = await here.asking.get(f"{BASE}/courses/feed.json", headers={"accept-language": "nn"})
        assert answer.headers["content-type"] == "application/feed+json"
        feed = answer.json()
        assert (feed["version"], feed["feed_url"][-9:]) == ("https://jsonfeed.org/version/1.1", "feed.json")
        (item,) = feed["items"]
        assert (item["id"], item["title"], item["language"]) == (f"urn:uuid:{course_id}", "Nynorsk", "nn")
        assert (item["content_text"], item["tags"]) == ("Nynorsk", ["havbruk"])
        assert (feed["home_page_url"], item["url"]) == (
            "http://localhost:8080/kurs",
            f"http://localhost:8080/kurs/{course_id}",
        )
        assert item["_kursnett"] == {"course": f"http://localhost:8080{BASE}/courses/{course_id}"}


async def test_a_run_is_a_calendar_with_one_event_for_each_session(servers: Servers) -> None:
    async with world(servers) as here:
        course_id = await publish(here, "A", {"nb": "Sveising, del 1; øving", "en": "Welding"})
        days = {
            "starts_at": "2049-03-27T10:00:00+01:00",
            "ends_at": "2049-03-29T12:00:00+02:00",
            "sessions": [  # the night between them is when summer time begins
                {"starts_at": "2049-03-27T10:00:00+01:00", "ends_at": "2049-03-27T12:00:00+01:00", "room": "Rom 2"},
                {"starts_at": "2049-03-29T10:00:00+02:00", "ends_at": "2049-03-29T12:00:00+02:00"},
            ],
            "places": [{"arena": "mosjoen", "capacity": 5}, {"arena": "online", "capacity": 5}],
        }
        offering_id = (await here.put("A/offerings/v", days)).json()["offering_id"]
        address = f"{BASE}/offerings/{offering_id}.ics"
        answer = await here.asking.get(address)
        assert answer.headers["content-type"] == "text/calendar; charset=utf-8"
        assert all(len(line) <= 75 for line in answer.content.split(b"\r\n"))
        assert [str(zone["tzid"]) for zone in parts(answer.content, "VTIMEZONE")] == ["Europe/Oslo"]
        first, second = parts(answer.content, "VEVENT")
        assert [str(one["uid"]) for one in (first, second)] == [f"{offering_id}-{n}@kursnett" for n in (1, 2)]
        assert str(first["summary"]) == "Sveising, del 1; øving"
        assert str(first["url"]) == f"http://localhost:8080/kurs/{course_id}", "where a person reads of it"
        assert (str(first["location"]), str(second["location"])) == ("Mosjøen / På nett, Rom 2", "Mosjøen / På nett")
        for one, day in ((first, 27), (second, 29)):
            assert one["dtstart"].dt == datetime(2049, 3, day, 10, tzinfo=ZoneInfo("Europe/Oslo"))
        assert (int(first["sequence"]), str(first["status"])) == (0, "CONFIRMED")
        known = {"if-none-match": answer.headers["etag"]}
        assert (await here.asking.get(address, headers=known)).status_code == 304
        await here.cancel("A/offerings/v")
        gone = parts((await here.asking.get(f"{address}?language=en")).content, "VEVENT")[0]
        told = (str(gone["status"]), int(gone["sequence"]), str(gone["summary"]), str(gone["uid"]))
        assert told == ("CANCELLED", 1, "Welding", str(first["uid"]))
        assert (await here.asking.get(f"{BASE}/offerings/{here.partner}.ics")).status_code == 422
        missing = await here.asking.get(f"{BASE}/offerings/01890000-0000-7000-8000-000000000000.ics")
        assert missing.status_code == 404


WHOLE = {
    "starts_at": "2049-06-01T09:00:00+02:00",
    "ends_at": "2049-06-02T15:00:00+02:00",
    "places": [{"arena": "online", "capacity": 5}],
}


async def test_a_run_without_sessions_is_one_event(servers: Servers) -> None:
    async with world(servers) as here:
        await publish(here, "A", {"nb": "Sveising"})
        offering_id = (await here.put("A/offerings/v", WHOLE)).json()["offering_id"]
        (event,) = parts((await here.asking.get(f"{BASE}/offerings/{offering_id}.ics")).content, "VEVENT")
        assert event["dtend"].dt == datetime(2049, 6, 2, 15, tzinfo=ZoneInfo("Europe/Oslo"))


async def test_a_run_whose_course_is_called_something_else_is_a_newer_version_of_its_event(servers: Servers) -> None:
    async with world(servers) as here:
        await publish(here, "A", {"nb": "Sveising"})
        address = f"{BASE}/offerings/{(await here.put('A/offerings/v', WHOLE)).json()['offering_id']}.ics"
        (before,) = parts((await here.asking.get(address)).content, "VEVENT")
        async with here.here.database.reading() as conn:  # its time is told in whole seconds
            await conn.execute("UPDATE offerings SET changed_at = changed_at - interval '1 hour'")
        await publish(here, "A", {"nb": "Lodding"})
        (after,) = parts((await here.asking.get(address)).content, "VEVENT")
        assert (str(after["summary"]), str(after["uid"])) == ("Lodding", str(before["uid"]))
        assert (int(before["sequence"]), int(after["sequence"])) == (0, 1)
        assert after["last-modified"].dt >= before["last-modified"].dt
        moved = WHOLE | {"ends_at": "2049-06-03T15:00:00+02:00"}
        await here.put("A/offerings/v", moved)
        (last,) = parts((await here.asking.get(address)).content, "VEVENT")
        assert int(last["sequence"]) == 2


async def test_a_meeting_over_the_hour_that_autumn_has_twice_ends_after_it_begins(servers: Servers) -> None:
    async with world(servers) as here:
        await publish(here, "A", {"nb": "Nattevakt"})
        night = {
            "starts_at": "2049-10-31T02:30:00+02:00",
            "ends_at": "2049-10-31T02:30:00+01:00",
            "places": [{"arena": "online", "capacity": 5}],
        }
        offering_id = (await here.put("A/offerings/v", night)).json()["offering_id"]
        answer = await here.asking.get(f"{BASE}/offerings/{offering_id}.ics")
        assert "DTSTART;TZID=Europe/Oslo:20491031T023000" in answer.text
        assert "DTEND:20491031T013000Z" in answer.text, "by its local time it would be over when it begins"


@pytest.mark.parametrize(
    ("hours", "sessions", "workload"),
    [(3, [], "PT3H"), (24 * 9, [], None), (24 * 9, [90, 60], "PT2H30M")],
    ids=["evening", "days", "meetings"],
)
def test_search_engines_are_told_the_hours_of_meetings_alone(
    hours: int, sessions: list[int], workload: str | None
) -> None:
    begin = datetime(2049, 1, 4, 17, tzinfo=UTC)

    def span(minutes: int) -> dict[str, str]:
        return {"starts_at": begin.isoformat(), "ends_at": (begin + timedelta(minutes=minutes)).isoformat()}

    assert linked.workload({**span(hours * 60), "sessions": [span(one) for one in sessions]}) == workload


async def test_search_engines_read_a_course_as_schema_org_has_it(servers: Servers) -> None:
    async with world(servers) as here:
        more = {"studiepoeng": "7.5", "level": "6.1", "price_ore": 50, "subjects": ["bygg"], "delivery_mode": "hybrid"}
        more["funded_by"] = "Nordland fylkeskommune"
        more["prerequisites"] = {"nb": "Sveisesertifikat."}
        course_id = await publish(here, "A", {"nb": "Sveising </script>", "nn": "Sveising"}, **more)
        now = datetime.now(UTC)
        for key, days in (("past", -9), ("soon", 9)):
            dates = {
                "starts_at": (now + timedelta(days=days)).isoformat(),
                "ends_at": (now + timedelta(days=days + 1)).isoformat(),
                "places": [{"arena": "mosjoen", "capacity": 5}, {"arena": "online", "capacity": 6}],
            }
            await here.put(f"A/offerings/{key}", dates)
        without = await publish(here, "B", {"nb": "Lodding"})
        answer = await here.asking.get(f"{BASE}/courses/{without}", headers={"accept": "application/ld+json"})
        assert "hasCourseInstance" not in answer.json(), "no list without anything in it"
        answer = await here.asking.get(f"{BASE}/courses/{course_id}", headers={"accept": "application/ld+json"})
        assert answer.headers["content-type"] == "application/ld+json"
        assert b"</" not in answer.content
        course = answer.json()
        assert (course["@context"], course["@type"]) == ("https://schema.org", "Course")
        assert (course["name"], course["courseCode"]) == ("Sveising </script>", "A")
        assert course["provider"]["name"] == "Sveiseskolen"
        assert course["offers"] == [{"@type": "Offer", "category": "Paid", "price": "0.50", "priceCurrency": "NOK"}]
        assert course["funder"] == {"@type": "Organization", "name": "Nordland fylkeskommune"}
        assert (course["educationalLevel"], course["numberOfCredits"]["value"]) == ("NKR 6.1, EQF 6", 7.5)
        (run,) = course["hasCourseInstance"]
        assert (run["@type"], run["courseMode"], run["maximumAttendeeCapacity"]) == ("CourseInstance", "blended", 11)
        assert (run["name"], "subEvent" in run) == (course["name"], False), "no list without anything in it"
        assert [place["@type"] for place in run["location"]] == ["Place", "VirtualLocation"]
        assert course["coursePrerequisites"] == "Sveisesertifikat."
        plain = await here.asking.get(f"{BASE}/courses/{course_id}", headers={"accept": "application/json"})
        assert plain.json()["prerequisites"] == {"nb": "Sveisesertifikat."}
        assert plain.json()["text"]["prerequisites"] == {"language": "nb", "text": "Sveisesertifikat."}
        assert plain.json()["funded_by"] == "Nordland fylkeskommune"
        assert (plain.json()["eqf"], plain.headers["content-type"]) == (6, "application/json")


async def test_texts_come_in_the_readers_language_or_the_next_best(servers: Servers) -> None:
    async with world(servers) as here:
        texts = {"summary": {"nb": "bokmål", "en": "english"}, "description": {"en": "english"}}
        address = f"{BASE}/courses/{await publish(here, 'A', {'nb': 'Tittel', 'sme': 'Namahus'}, **texts)}"
        for asked, accepted, title, summary, description in (
            ("", "", "nb", "nb", "en"),
            ("", "nn-NO, en;q=0.9", "nb", "nb", "en"),
            ("", "fr, de;q=0.9, en;q=0.4, nn;q=0.5", "nb", "nb", "en"),
            ("", "se", "sme", "nb", "en"),
            ("?language=en", "nn", "nb", "en", "en"),
            ("?language=sma", "", "nb", "nb", "en"),
            ("", "en;q=x, *;q=0.1", "nb", "nb", "en"),
        ):
            answer = await here.asking.get(f"{address}{asked}", headers={"accept-language": accepted})
            text = answer.json()["text"]
            told = [text[name]["language"] for name in ("title", "summary", "description")]
            assert told == [title, summary, description], (asked, accepted)
            named = ["se" if one == "sme" else one for one in told]  # in a header: as BCP 47 has it
            assert answer.headers["content-language"] == ", ".join(dict.fromkeys(named))
        whole = (await here.asking.get(address)).json()
        assert whole["title"] == {"nb": "Tittel", "sme": "Namahus"}, "all of them stand there as before"


async def test_a_language_is_called_to_others_what_they_call_it(servers: Servers) -> None:
    """Ours is `sme` for Northern Sámi; Atom, JSON Feed, schema.org, OOAPI and HTTP know it as `se`."""
    async with world(servers) as here:
        course_id = await publish(here, "A", {"sme": "Namahus"}, summary={"sme": "Oanehaččat"}, language="sme")
        for feed, words, times in (("atom", b'xml:lang="se"', 3), ("json", b'"language": "se"', 2)):
            answer = await here.asking.get(f"{BASE}/courses/feed.{feed}", headers={"accept-language": "se"})
            assert (answer.content.count(words), answer.content.count(b"sme")) == (times, 0)
        linked = {"accept": "application/ld+json"}
        course = (await here.asking.get(f"{BASE}/courses/{course_id}", headers=linked)).json()
        assert course["inLanguage"] == "se"
        exchanged = (await here.asking.get(f"/ooapi/v6/courses/{course_id}")).json()
        assert exchanged["teachingLanguages"] == [exchanged["name"][0]["language"]] == ["se"]


async def test_what_is_withdrawn_is_offered_to_no_search_engine(servers: Servers) -> None:
    async with world(servers) as here:
        course_id = await publish(here, "A", {"nb": "Sveising"})
        linked = {"accept": "application/ld+json"}
        address = f"{BASE}/courses/{course_id}"
        assert "offers" in (await here.asking.get(address, headers=linked)).json()
        signed = {"authorization": f"Bearer {here.key}"}
        assert (await here.asking.post(f"{here.courses}/A/withdraw", headers=signed)).status_code == 200
        assert "offers" not in (await here.asking.get(address, headers=linked)).json()


async def test_a_partner_sees_which_translations_are_missing(servers: Servers) -> None:
    async with world(servers) as here:
        await publish(here, "A", {"nb": "Sveising", "nn": "Sveising"}, summary={"nb": "kort"})
        await publish(here, "B", {"nb": "Lodding"})
        await publish(here, "C", {"nb": "Boring", "nn": "Boring"})
        address = f"{BASE}/partners/{here.partner}/missing-translations"
        signed = {"authorization": f"Bearer {here.key}"}
        items = (await here.asking.get(address, headers=signed)).json()["items"]
        told = [{name: value for name, value in item.items() if name != "course_id"} for item in items]
        assert told == [{"code": "A", "summary": ["nn"]}, {"code": "B", "title": ["nn"]}]
        english = (await here.asking.get(f"{address}?language=en&language=nb", headers=signed)).json()["items"]
        assert [(item["code"], item["title"]) for item in english] == [("A", ["en"]), ("B", ["en"]), ("C", ["en"])]
        assert json.dumps(english[0]["summary"]) == '["en"]'
        assert (await here.asking.get(address)).status_code == 401
