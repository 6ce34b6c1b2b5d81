"""A partner's file over HTTP and on the command line: the same rules as everywhere, all of it or nothing."""

import asyncio
import json
import threading
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest

from services.catalogue import imports, sheet
from services.catalogue import operating as command
from services.catalogue.mending import in_words
from tests.delivery import Servers
from tests.integration.corpus import COURSE, DATES
from tests.integration.test_catalogue import BASE, World, world
from tests.integration.test_catalogue_sync import environment
from tests.typed import typed

pytestmark = pytest.mark.anyio

HEADER = "code;title_nb;summary_nb;subjects;studiepoeng;language;offering;starts_at;ends_at;arena;capacity"
GOOD = f"""{HEADER}
SV-1;Sveising for båtbyggere;;bygg;7,5;nb;V27;01.03.2049 09:00;05.03.2049 15:00;online;12
SV-1;;;;;;V27;;;mosjoen;8
SV-2;Lodding;;bygg;;;;;;;
"""


async def send(here: World, content: str, query: str = "", **headers: str) -> Any:
    known = {"authorization": f"Bearer {here.key}", "content-type": "text/csv"} | headers
    return await here.asking.post(
        f"{BASE}/partners/{here.partner}/import{query}", content=content.encode(), headers=known
    )


async def test_a_file_is_tried_and_then_taken_in_once(servers: Servers) -> None:
    async with world(servers) as here:
        tried = await send(here, GOOD, "?dry_run=true")
        assert (tried.status_code, tried.json()["created"], tried.json()["dry_run"]) == (200, 3, True)
        assert await here.said() == [("PartnerJoined", 1)]
        key = {"idempotency-key": "one"}
        taken, again = await send(here, GOOD, **key), await send(here, GOOD, **key)
        assert taken.json() == again.json()
        assert [(one["row"], one["code"], one["key"], one["outcome"]) for one in taken.json()["items"]] == [
            (2, "SV-1", None, "created"),
            (2, "SV-1", "V27", "created"),
            (4, "SV-2", None, "created"),
        ]
        assert [kind for kind, _ in (await here.said())[1:]] == ["CourseCreated", "CourseCreated", "OfferingScheduled"]
        same = (await send(here, GOOD)).json()
        assert (same["created"], same["changed"], same["unchanged"]) == (0, 0, 3)
        more = (await send(here, GOOD.replace("online;12", "online;20"))).json()
        assert (more["created"], more["changed"], more["unchanged"]) == (0, 1, 2)
        ways = {(one["way"], one["outcome"]) for one in await here.intake()}
        assert ways == {("csv", "taken")}


async def test_mistakes_are_told_by_row_and_column_and_nothing_is_taken(servers: Servers) -> None:
    async with world(servers) as here:
        for content, row, column, says in (
            (GOOD.replace("bygg;7,5", "bygging;7,5"), 2, "subjects", "is not a subject"),
            (GOOD.replace("mosjoen", "sandnessjoen"), 3, "arena", "is not an arena of this partner"),
            (GOOD.replace("online;12", "online;tolv"), 2, "capacity", "whole number"),
            (GOOD.replace("SV-2;Lodding", "SV-2;"), 4, "title_nb", ""),
            (  # two runs of a course that is refused: one mistake
                GOOD.replace("bygg;7,5", "bygging;7,5") + "SV-1;;;;;;H27;01.09.2049;02.09.2049;online;12\n",
                *(2, "subjects", "is not a subject"),
            ),
        ):
            answer = await send(here, content)
            assert (answer.status_code, answer.json()["type"].rpartition("/")[2]) == (422, "file-not-valid")
            [error] = answer.json()["errors"]
            assert (error["row"], error["column"]) == (row, column)
            assert says in error["detail"]
        assert await here.said() == [("PartnerJoined", 1)]
        assert (await send(here, GOOD, **{"content-type": "application/json"})).status_code == 415
        other = {"authorization": f"Bearer {here.issuer.token(sub='x', kursnett_partner='torgar')}"}
        assert (await send(here, GOOD, **other)).status_code == 403
        page = await here.asking.get("/problems/file-not-valid")
        assert page.status_code == 200


async def test_each_arena_that_is_not_the_partners_is_a_mistake_of_its_own_row(servers: Servers) -> None:
    async with world(servers) as here:
        for content, rows in (
            (GOOD.replace("mosjoen", "online-nord"), [3]),  # the name of row 2 is a part of it
            (GOOD.replace("online;", "nesna;").replace("mosjoen", "nesna-sor"), [2, 3]),
        ):
            errors = (await send(here, content)).json()["errors"]
            assert [(one["row"], one["column"]) for one in errors] == [(row, "arena") for row in rows]


async def test_mistakes_are_told_in_the_order_of_the_rows(servers: Servers) -> None:
    """A file is read course by course; who mends it goes down the rows."""
    async with world(servers) as here:
        rows = ["SV-2;To;;magi;;;;;;;", "SV-1;En;;magi;;;;;;;", "SV-2;;;;;;V;01.03.2049;02.03.2049;oslo;1"]
        answer = (await send(here, "\n".join([HEADER, *rows]))).json()
        assert [(one["row"], one["column"]) for one in answer["errors"]] == [(2, "subjects"), (3, "subjects")]
        answer = (await send(here, "\n".join([HEADER, rows[2].replace("SV-2;", "SV-9;T"), *rows[:2]]))).json()
        assert [one["row"] for one in answer["errors"]] == [2, 3, 4]
        assert "the first is in row 2" in answer["detail"]


async def test_who_sends_many_files_at_once_is_told_to_wait_and_nobody_else_is(
    servers: Servers, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each keeps a connection for as long as it takes, and there are eight for all who ask for anything."""
    held, go_on, threads = asyncio.Event(), asyncio.Event(), set[bool]()
    bring_in, reading = imports.bring_in, sheet.read

    async def slowly(conn: Any, partner: str, *more: Any) -> Any:
        held.set()
        await go_on.wait()
        return await bring_in(conn, partner, *more)

    def noting(*asked: Any) -> Any:
        threads.add(threading.current_thread() is threading.main_thread())
        return reading(*asked)

    monkeypatch.setattr(imports, "bring_in", slowly)
    monkeypatch.setattr(sheet, "read", noting)
    async with world(servers) as here:
        first = asyncio.create_task(send(here, GOOD))
        await asyncio.wait_for(held.wait(), 20)
        others = [asyncio.create_task(send(here, GOOD.replace("SV-", f"{n}-"))) for n in range(10)]
        try:
            async with asyncio.timeout(20):
                answers = [await other for other in others]
            assert {(one.status_code, one.headers["retry-after"]) for one in answers} == {(429, "10")}
            assert "Another file of yours is being taken in" in answers[0].json()["detail"]
            assert (await here.asking.get(f"{BASE}/courses")).status_code == 200
            sub = await command.add(here.settings, f"{here.partner}-b", "En annen", None, ["online", "mosjoen"])
            theirs = World(here.here, here.settings, here.asking, here.issuer, sub["slug"], sub["key"])
            held.clear()
            second = asyncio.create_task(send(theirs, GOOD))
            await asyncio.wait_for(held.wait(), 20)
        finally:
            go_on.set()
        assert [(await one).status_code for one in (first, second)] == [200, 200]
        assert (await send(here, GOOD)).status_code == 200
    assert threads == {False}, "while a file is read others are answered"


async def test_so_many_files_are_taken_in_at_once(servers: Servers) -> None:
    async with world(servers) as here, AsyncExitStack() as stack:
        for number in range(imports.MOST_AT_ONCE):
            stack.enter_context(imports.taking(here.here, f"p{number}"))
        answer = await send(here, GOOD)
        assert (answer.status_code, answer.json()["detail"][:16]) == (429, "Files of others ")


async def test_what_a_file_has_no_column_for_stays_as_it_was(servers: Servers) -> None:
    """A provider's program has said more than a file can; the office then changes the number of seats by a file."""
    meeting = {"starts_at": "2049-03-02T08:00:00Z", "ends_at": "2049-03-02T14:00:00Z", "room": "Verkstedet"}
    rules = {"minimum": 5, "decide_at": "2049-02-15T11:00:00Z", "reminder_days": [3], "priority_groups": ["ansatte"]}
    more = {
        "title": {"nb": "Sveising", "en": "Welding", "sma": "Sveisedh"},
        "description": {"nb": "Vi sveiser i fem dager."},
        "summary": {"nb": "Kort om sveising"},
        "level": "5.1",
        "price_ore": 120000,
        "funded_by": "Nordland fylkeskommune",
    }
    dates = {**DATES, **rules, "sessions": [meeting]}
    async with world(servers) as here:
        course = (await here.put("SV-1", COURSE | more)).headers["location"]
        run = (await here.put("SV-1/offerings/V27", dates)).headers["location"]
        row = "SV-1;Sveising for alle;;bygg;7,5;nb;V27;01.03.2049 09:00;05.03.2049 15:00;online;{}\n"
        answer = await send(here, f"{HEADER}\n{row.format(20)}")
        assert (answer.status_code, answer.json()["changed"]) == (200, 2), answer.text

        kept = (await here.asking.get(course)).json()
        assert kept["title"] == {"nb": "Sveising for alle", "en": "Welding", "sma": "Sveisedh"}
        assert kept["summary"] == {}, "its cell is empty"
        for name in ("description", "level", "price_ore", "funded_by"):
            assert kept[name] == more[name], name
        runs = (await here.asking.get(run)).json()
        assert runs["places"] == [{"arena": "online", "capacity": 20}]
        assert [runs[name] for name in rules] == list(rules.values())
        assert runs["sessions"] == [meeting]

        few = await send(here, f"{HEADER}\n{row.format(4)}")
        [wrong] = few.json()["errors"]
        assert (few.status_code, wrong["row"], wrong["column"]) == (422, 2, "offering")
        assert wrong["detail"].startswith("its minimum must not be more than all places have together: a file cannot")
        assert in_words(wrong["detail"], "nb").language == "nb", "the page says it in plain words"

        moved = await send(here, f"{HEADER}\n{row.format(20).replace('05.03', '06.03')}")
        assert moved.json()["changed"] == 1
        runs = (await here.asking.get(run)).json()
        assert (runs["minimum"], runs["sessions"]) == (5, []), "what met on other days is not known of these"


async def test_what_was_taken_before_a_rule_is_a_mistake_of_the_row_that_keeps_it(servers: Servers) -> None:
    async with world(servers) as here:
        await here.put("SV-2", COURSE | {"description": {"nb": "Ring oss"}})
        async with here.here.database.reading() as conn:
            before = "replace(content::text, 'Ring oss', '15108695088')::jsonb"
            await conn.execute(f"UPDATE courses SET content = {before} WHERE code = 'SV-2'")
        answer = await send(here, GOOD)
        [wrong] = answer.json()["errors"]
        assert (answer.status_code, wrong["row"], wrong["column"]) == (422, 4, "code")
        assert wrong["detail"].startswith(
            "its description must not hold a national identity number: take it out: a file"
        )


async def test_a_run_that_was_cancelled_is_a_mistake_of_its_row(servers: Servers) -> None:
    async with world(servers) as here:
        assert (await send(here, GOOD)).status_code == 200
        await here.cancel("SV-1/offerings/V27")
        answer = await send(here, GOOD.replace("Lodding", "Lodding og mer"))
        assert [(one["row"], one["column"]) for one in answer.json()["errors"]] == [(2, "offering")]
        assert (await here.put("SV-2", COURSE)).json()["version"] == 2, "the rest of the file was not taken"


async def test_an_operator_takes_in_a_file(servers: Servers, tmp_path: Path) -> None:
    async with world(servers) as here:
        tried = await command.brought_in(here.settings, here.partner, GOOD.encode(), True)
        taken = await command.brought_in(here.settings, here.partner, GOOD.encode(), False)
        assert (tried.created, taken.created) == (3, 3)
        kinds = [kind for kind, _ in await here.said()]
        assert json.dumps(kinds).count("CourseCreated") == 2


async def test_a_file_forges_no_line_in_an_operators_terminal(servers: Servers, tmp_path: Path) -> None:
    async with world(servers) as here:
        file = tmp_path / "courses.csv"
        file.write_text('code;title_nb;"\x1b[2J\r1 created, \u202e0 changed"\nSV-1;Lodding;x\n')
        arguments = ("import", str(file), "--partner", here.partner)
        code, _, err = await typed("catalogue", *arguments, environment=environment(here))
    assert (code, "is not a column" in err) == (1, True)
    assert not {"\x1b", "\r", "\u202e"} & set(err)
    assert len(err.splitlines()) == 2
