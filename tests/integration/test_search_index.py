"""The courses in memory answer as plain SQL does, whatever is asked, and at once when something has changed."""

import asyncio
import json
import random
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import urlencode

import fastapi.routing
import pytest

from kit.database import Connection, connect
from services.catalogue import search as courses
from services.catalogue.languages import wanted as in_which
from services.catalogue.spelling import words_of
from services.catalogue.store import search
from tests import searching
from tests.bench.search import ARENAS, ENDINGS, ROOTS, SUBJECTS, WORDS, course, offering, subject_of
from tests.delivery import Servers, until
from tests.integration.test_catalogue import BASE, World, world

pytestmark = pytest.mark.anyio

MOST_PAGES = 5
PARTNERS = ("aa", "b-b", "bc")
LEVELS = ("4A", "5.1", "6.1")


@asynccontextmanager
async def beside(here: World) -> AsyncIterator[Connection]:
    """A connection of somebody else's."""
    conn = await connect(here.settings, "test")
    try:
        yield conn
    finally:
        await conn.close()


def a_course(chance: random.Random) -> str:
    content = course(chance)
    if chance.random() < 0.3:
        content["title"] = {
            chance.choice(["nn", "en", "sma"]): f'{subject_of(chance)} it\'s "så" <b>\\ {chance.random()}'
        }
    if chance.random() < 0.3:
        content["summary"]["nn"] = f"Åtte {subject_of(chance)}er på e-læring, helse-{chance.randint(1, 9)}"
    if chance.random() < 0.2:
        del content["summary"], content["level"]
    return json.dumps(content)


def periods(chance: random.Random, now: datetime) -> dict[str, Any]:
    """When one may ask for a seat: mostly at any time, else before, at or after this one, or at several."""
    opens = [now + timedelta(days=chance.choice([-9, -2, 3])) for _ in range(chance.choice([0, 0, 1, 2]))]
    days = timedelta(days=5)
    return {"periods": [{"opens_at": one.isoformat(), "closes_at": (one + days).isoformat()} for one in opens]}


async def make(conn: Connection, chance: random.Random, count: int) -> None:
    """So many courses more, with runs of all kinds."""
    now = datetime.now(UTC).replace(microsecond=0)
    for number in range(count):
        code = f"{chance.choice(ROOTS)[:3].upper().translate(str.maketrans('ÆØÅ', 'EOA'))}-{number}.{chance.random()}"
        new = await conn.fetchval(
            "INSERT INTO courses (partner, code, content, withdrawn) VALUES ($1, $2, $3, $4) RETURNING id",
            *(chance.choice(PARTNERS), code, a_course(chance), chance.random() < 0.1),
        )
        for key in range(chance.choice([0, 1, 1, 2, 3])):
            state = chance.choice(["scheduled"] * 5 + ["cancelled"])
            await conn.execute(
                "INSERT INTO offerings (course_id, key, content, state) VALUES ($1, $2, $3, $4)",
                *(new, str(key), json.dumps(offering(chance, now) | periods(chance, now)), state),
            )
    await count_seats(conn, chance, count)


async def count_seats(conn: Connection, chance: random.Random, count: int) -> None:
    for row in await conn.fetch("SELECT id FROM offerings ORDER BY random() LIMIT $1", count):
        places = [
            {"arena": arena, "capacity": 9, "taken": chance.choice([0, 9, 9])} for arena in chance.sample(ARENAS, 4)
        ]
        await conn.execute(
            """
            INSERT INTO seat_counts (offering_id, places, as_of) VALUES ($1, $2, now())
            ON CONFLICT (offering_id) DO UPDATE SET places = excluded.places
            """,
            *(row["id"], json.dumps(places)),
        )


async def change(conn: Connection, chance: random.Random) -> None:
    """Something of everything that can happen."""
    for row in await conn.fetch("SELECT id FROM courses ORDER BY random() LIMIT $1", chance.choice([3, 40])):
        await conn.execute(
            "UPDATE courses SET content = $2, withdrawn = false WHERE id = $1", row["id"], a_course(chance)
        )
    await conn.execute(
        "UPDATE courses SET withdrawn = true WHERE id IN (SELECT id FROM courses ORDER BY random() LIMIT 4)"
    )
    await conn.execute(
        "UPDATE offerings SET state = 'cancelled' WHERE id IN (SELECT id FROM offerings ORDER BY random() LIMIT 4)"
    )
    await conn.execute(
        """
        UPDATE offerings SET content = other.content FROM (SELECT content FROM offerings LIMIT 1) AS other
        WHERE id IN (SELECT id FROM offerings ORDER BY random() LIMIT 9)
        """
    )
    await count_seats(conn, chance, 9)
    await make(conn, chance, 5)


def a_question(chance: random.Random) -> dict[str, Any]:
    word = chance.choice([subject_of(chance), chance.choice(ROOTS), chance.choice(WORDS), chance.choice(ENDINGS)])
    typed = word[: chance.randint(1, len(word))]
    other = chance.choice(WORDS)
    q = chance.choice(
        [
            *("", word, typed, f"{other} {typed}", f"{word} -{other}", f"{word} or {other} {typed}", f"-{word}"),
            *(f'"{other} {chance.choice(WORDS)}"', f'"{other} {chance.choice(WORDS)}" -"{word} {other}"', "e-læring"),
            *("helse-3", f"{chance.choice(ROOTS)[:3]}-{chance.randint(0, 99)}", "og", "' \\ <b> !", f"it's or {typed}"),
            *(f'-"{chance.choice(WORDS)} {other}" {typed}', "HEL", "b", "0"),
        ]
    )
    now = datetime.now(UTC)
    some = {
        "q": q,
        "partner": chance.choice((*PARTNERS, "nobody")),
        "subject": chance.choice(SUBJECTS),
        "arena": chance.choice((*ARENAS, "nowhere")),
        "level": chance.choice(LEVELS),
        "language": chance.choice(("nb", "nn", "en")),
        "withdrawn": "true",
        "free": "true",
        "starts_after": (now + timedelta(days=chance.randint(-300, 400))).isoformat(),
    }
    asked = {"q": q} | {name: value for name, value in some.items() if chance.random() < 0.2}
    return asked | {"sort": chance.choice(["title", "start", "relevance"]), "limit": chance.choice([1, 7, 20])}


async def asked_of(here: World, question: dict[str, Any], language: str) -> tuple[list[Any], dict[str, Any]]:
    """The first pages, as `Link` leads from one to the next, and the counts."""
    address = f"{BASE}/courses?{urlencode(question | {'facets': 'true'})}"
    pages: list[Any] = []
    facets: dict[str, Any] = {}
    while address and len(pages) < MOST_PAGES:
        answer = await here.asking.get(address, headers={"accept-language": language})
        assert answer.status_code == 200, answer.text
        pages.append(answer.json()["items"])
        facets = answer.json()["facets"]
        address = answer.headers.get("link", "").partition(">")[0].removeprefix("<")
    return pages, facets


async def compare(here: World, conn: Connection, chance: random.Random, questions: int) -> int:
    """Ask both ways; how many courses were found in all."""
    count = 0
    for _ in range(questions):
        question, language = a_question(chance), chance.choice(["nb", "nn, en", "sma"])
        words = words_of(question["q"])
        told = {name: question.get(name) for name in ("partner", "subject", "level", "language", "arena")}
        since = question.get("starts_after")
        wanted = searching.Wanted(
            **told,
            withdrawn="withdrawn" in question,
            since=datetime.fromisoformat(since) if since else None,
            free="free" in question,
            words=list(words.words),
            without=list(words.without),
            typed=words.typed,
        )
        sort = "title" if question["sort"] == "relevance" and not words else question["sort"]
        pages, facets = await searching.answer(conn, wanted, sort, in_which(None, language), question["limit"])
        assert await asked_of(here, question, language) == (pages[:MOST_PAGES], facets), question
        count += sum(map(len, pages))
    return count


async def test_what_is_found_in_memory_is_what_plain_sql_finds_before_and_after_changes(servers: Servers) -> None:
    chance = random.Random(7)
    async with world(servers) as here, beside(here) as conn:
        await conn.executemany(
            "INSERT INTO partners (slug, name, arenas) VALUES ($1, $1, '{online}')", [(one,) for one in PARTNERS]
        )
        await make(conn, chance, 900)  # more than FEW, so that an order is walked along, too
        here.asking.event_hooks = {}  # what the document says is held elsewhere, and takes longer than the search
        found = 0
        for _ in range(4):
            found += await compare(here, conn, chance, 25)
            async with conn.transaction():
                await change(conn, chance)
        assert found > 1_000, "most questions found nothing"


async def two_courses(here: World) -> None:
    for code, title in (("A", "Sveising"), ("B", "Lodding")):
        assert (await here.put(code, {"title": {"nb": title}})).status_code == 201
    assert await found(here) == ["B", "A"]


async def found(here: World, query: str = "") -> list[str]:
    return [one["code"] for one in (await here.asking.get(f"{BASE}/courses?{query}")).json()["items"]]


async def test_who_begins_first_and_commits_last_is_found_then(servers: Servers) -> None:
    async with world(servers) as here, beside(here) as slow, beside(here) as quick:
        await two_courses(here)
        transaction = slow.transaction()
        await transaction.start()
        await slow.execute("UPDATE courses SET withdrawn = true WHERE code = 'A'")
        await quick.execute("UPDATE courses SET withdrawn = true WHERE code = 'B'")
        assert await found(here) == ["A"]
        await transaction.commit()
        assert await found(here) == []


async def test_without_its_look_a_change_would_not_be_seen(servers: Servers, monkeypatch: pytest.MonkeyPatch) -> None:
    """The red control: what is told to have changed is passed over."""
    look = search.look

    async def blind(*asked: Any) -> dict[str, Any]:
        return {**await look(*asked), "changed": []}

    async with world(servers) as here, beside(here) as conn:
        await two_courses(here)
        with monkeypatch.context() as patch:
            patch.setattr(search, "look", blind)
            await conn.execute("UPDATE courses SET withdrawn = true WHERE code = 'A'")
            assert await found(here) == ["B", "A"]


async def test_many_who_ask_while_it_changes_see_what_was_committed_before(servers: Servers) -> None:
    async with world(servers) as here, beside(here) as conn:
        await two_courses(here)

        async def ask() -> None:
            for _ in range(20):
                before = await conn_version()
                seen = (await here.asking.get(f"{BASE}/courses?q=nummer")).json()["items"]
                assert int(seen[0]["title"]["nb"].split()[1]) >= before

        async def conn_version() -> int:
            return committed[-1]

        async def write() -> None:
            for number in range(1, 60):
                await conn.execute(
                    "UPDATE courses SET content = jsonb_build_object('title', $1::jsonb) WHERE code = 'A'",
                    json.dumps({"nb": f"Nummer {number}"}),
                )
                committed.append(number)

        committed: list[int] = [0]
        await conn.execute("""UPDATE courses SET content = '{"title": {"nb": "Nummer 0"}}' WHERE code = 'A'""")
        await asyncio.gather(write(), *(ask() for _ in range(8)))


async def test_a_run_that_has_begun_is_not_to_come(servers: Servers) -> None:
    async with world(servers) as here, beside(here) as conn:
        await two_courses(here)
        starts_at = datetime.now(UTC) + timedelta(seconds=1.5)
        content = {"starts_at": starts_at.isoformat(), "places": [{"arena": "online", "capacity": 1}]}
        await conn.execute(
            "INSERT INTO offerings (course_id, key, content) SELECT id, 'k', $1 FROM courses WHERE code = 'A'",
            json.dumps(content),
        )
        assert await found(here, "arena=online") == ["A"]

        async def begun() -> bool:
            return await found(here, "arena=online") == [] == await found(here, "sort=start")

        await until(begun)
        assert datetime.now(UTC) >= starts_at


async def test_a_seat_is_free_while_one_may_ask_for_it(servers: Servers) -> None:
    async with world(servers) as here, beside(here) as conn:
        await two_courses(here)
        now = datetime.now(UTC)
        turn = now + timedelta(seconds=1.5)  # A opens then, and B closes
        run = {"places": [{"arena": "online", "capacity": 1}], "starts_at": (now + timedelta(days=9)).isoformat()}
        for code, opens_at, closes_at in (("A", turn, now + timedelta(days=1)), ("B", now, turn)):
            period = {"opens_at": opens_at.isoformat(), "closes_at": closes_at.isoformat()}
            await conn.execute(
                "INSERT INTO offerings (course_id, key, content) SELECT id, 'k', $1 FROM courses WHERE code = $2",
                *(json.dumps(run | {"periods": [period]}), code),
            )

        async def turned() -> bool:
            asked_at, seen, answered_at = datetime.now(UTC), await found(here, "free=true"), datetime.now(UTC)
            assert seen == ["A"] if asked_at > turn else seen == ["B"] or answered_at >= turn
            return seen == ["A"] == await found(here, "free=true&arena=online&sort=start")

        await until(turned)
        assert datetime.now(UTC) >= turn
        assert sorted(await found(here, "arena=online")) == ["A", "B"], "they take place all the same"
        await conn.execute("UPDATE offerings SET content = content || '{\"periods\": []}'")
        assert sorted(await found(here, "free=true")) == ["A", "B"], "said anew, it is open at any time"


async def test_a_database_that_was_put_back_is_read_anew(servers: Servers) -> None:
    async with world(servers) as here, beside(here) as conn:
        await two_courses(here)
        await conn.execute("ALTER TABLE courses DISABLE TRIGGER USER")
        await conn.execute("UPDATE courses SET withdrawn = true WHERE code = 'A'")
        assert await found(here) == ["B", "A"], "nothing tells of it"
        await conn.execute("UPDATE epoch SET number = number + 1")
        assert await found(here) == ["B"]


KEPT = ("etag", "link", "vary", "cache-control", "content-type")
ASKED: Sequence[str] = (
    *("", "q=sveising&facets=true", "q=&limit=1", "free=true&withdrawn=1&sort=start", "starts_after=2049-01-01"),
    *(
        "limit=0",
        "limit=x",
        "sort=best",
        "partner=",
        "what=1",
        "q=a&q=b",
        "starts_after=1",
        f"q={'x' * 201}",
        "free=maybe",
    ),
    *("level=5.1&language=nb", "after=x", "arena=Mo", "q=%ff", "q=a+b%20c"),
)


@pytest.mark.parametrize("query", ASKED)
async def test_both_ways_answer_alike(servers: Servers, monkeypatch: pytest.MonkeyPatch, query: str) -> None:
    async def solve(**_: Any) -> None:
        raise RuntimeError("the whole way")

    async with world(servers) as here:
        await two_courses(here)
        short = await here.asking.get(f"{BASE}/courses?{query}", headers={"accept-language": "nn"})
        with monkeypatch.context() as patch:
            patch.setattr(courses, "MOST_LANGUAGES", 1)
            whole = await here.asking.get(f"{BASE}/courses?{query}", headers={"accept-language": "nn"})
        told = [{**one.json(), "request_id": ""} for one in (short, whole)]
        assert (short.status_code, told[0]) == (whole.status_code, told[1])
        assert [short.headers.get(name) for name in KEPT] == [whole.headers.get(name) for name in KEPT]
        monkeypatch.setattr(fastapi.routing, "solve_dependencies", solve)
        if short.status_code == 200 and query != "q=a&q=b":
            assert (await here.asking.get(f"{BASE}/courses?{query}")).status_code == 200
