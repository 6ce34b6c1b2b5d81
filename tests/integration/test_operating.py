"""Operators' commands refuse in a sentence: unknown numbers, names and times, nothing named, no server."""

import asyncio
import getpass
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import cyclopts
import pytest

from kit import operating, parking, republishing
from kit.consumer import Consumer
from kit.database import connect
from kit.listeners import Listeners
from kit.parking import Record
from kit.service import Service
from kit.settings import Settings
from tests.delivery import Servers

STATES = ("parked", "held", "refused", "redrive", "redriven", "discarded")


@dataclass
class Desk:
    """One service's command line, in this process."""

    settings: Settings
    said: Callable[[], str]

    def ask(self, line: str, *more: str, settings: Settings | None = None) -> tuple[int, str]:
        """Its exit code and all that it said."""
        app = cyclopts.App()
        heard = [Consumer(name, Listeners(), topics=(f"probe.{name}",)) for name in ("one", "two")]
        service = Service("probe", settings or self.settings, Path(), consumers=heard)
        operating.add(app, lambda: service)
        republishing.add(app, lambda: service)
        try:
            app([*line.split(), *more], exit_on_error=False, print_error=False)
        except SystemExit as end:
            words = self.said()
            if isinstance(end.code, str):
                return 1, words + end.code
            return int(end.code or 0), words
        except cyclopts.CycloptsError as error:
            return 1, str(error)
        return 0, self.said()


async def records(settings: Settings) -> None:
    """Numbers 1 to 6, one in each state."""
    conn = await connect(settings, "test")
    async with conn.transaction():
        for number, state in enumerate(STATES):
            record = Record("probe.things", 0, number, f"key{number}".encode(), (), b"{")
            await parking.park(conn, "probe", "probe.one", record, state="parked", reason="not_json", detail="x")
            closed = "sent anew" if state == "discarded" else None
            await conn.execute(
                "UPDATE parked SET state = $1, closed_reason = $2 WHERE id = $3", state, closed, number + 1
            )
    await conn.close()


@pytest.fixture(scope="module")
def settings(servers: Servers) -> Settings:
    settings = asyncio.run(servers.database())
    asyncio.run(records(settings))
    return settings


@pytest.fixture
def desk(settings: Settings, capsys: pytest.CaptureFixture[str]) -> Desk:
    return Desk(settings, lambda: capsys.readouterr().out)


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("parked show 99", "99 does not exist. See: parked list --closed"),
        ("parked show x", 'Invalid value for NUMBER: unable to convert "x" into int.'),
        ("parked redrive", "Say which, by number. See: parked list"),
        ("parked redrive 99", "99 does not exist."),
        ("parked redrive 2", "2 waits behind another record with its key, and runs when that one is over."),
        ("parked redrive 4", "4 is about to run again."),
        ("parked redrive 5", "5 has run again and is over."),
        ("parked redrive 6", "6 was discarded and is over."),
        ("parked discard 1", 'Say why with --reason "…": a discarded record is gone for good.'),
        ("parked discard 1 --reason=", 'Say why with --reason "…": a discarded record is gone for good.'),
        ("parked discard 6 --reason=x", "6 was discarded and is over."),
        ("consumer pause nonsense", "probe has no consumer 'nonsense'. It has: one, two."),
        ("consumer resume nonsense", "probe has no consumer 'nonsense'. It has: one, two."),
        ("replay nonsense --from 2026-11-24T08:00:00Z", "probe has no consumer 'nonsense'. It has: one, two."),
        ("replay one --from 2026-11-24T08:00:00", "Say the time with its zone, like 2026-11-24T08:00:00Z or"),
        ("replay one --from yesterday", "'yesterday' is not a time. Say it like 2026-11-24T08:00:00Z or"),
        ("replay one --from 2126-11-24T08:00:00Z", "2126-11-24T08:00:00Z has not come yet."),
        ("replay one", 'Command "replay" parameter --from requires an argument.'),
        ("replay one --from 2020-11-24T08:00:00Z", "probe does not run, and only a running one reads again:"),
        ("republish", "Say since when with --since, or --state for all as it is now."),
        ("republish --state --since 2026-11-24T08:00:00Z", "Say since when with --since, or --state for all"),
        ("republish --state", "probe keeps no state that others copy: only the catalogue does. Use --since."),
        ("republish --since 24.11.2026", "'24.11.2026' is not a time."),
        ("republish --since 2126-11-24", "Say the time with its zone"),
    ],
)
def test_a_refusal_says_what_is_wrong_and_ends_with_1(desk: Desk, line: str, words: str) -> None:
    code, said = desk.ask(line)
    assert (code, said.strip()[: len(words)]) == (1, words)
    assert said.strip().count("\n") == 0


def test_what_can_be_done_is_done_although_another_cannot(desk: Desk, settings: Settings) -> None:
    asyncio.run(_again(settings, 1))
    code, said = desk.ask("parked redrive 1 99")
    assert (code, said.splitlines()) == (1, ["1 runs again within two seconds.", "99 does not exist."])


async def _again(settings: Settings, number: int) -> None:
    conn = await connect(settings, "test")
    await conn.execute("UPDATE parked SET state = 'parked' WHERE id = $1", number)
    await conn.close()


def test_nothing_to_do_is_no_failure(desk: Desk) -> None:
    assert desk.ask("republish --since 2026-11-24T08:00:00+01:00") == (0, "0 events are published again.\n")
    line = "republish --since 2026-11-24T08:00:00+01:00 --dry-run --json"
    assert desk.ask(line) == (0, '{"dry_run": true, "events": 0}\n')
    assert desk.ask("timeline nobody") == (0, "nothing here has this id\n")
    assert desk.ask("timeline nobody --json") == (0, "[]\n")
    code, said = desk.ask("replay --from 2026-11-24T08:00:00Z --dry-run")
    assert (code, said) == (0, "probe.one would read 0 records again.\nprobe.two would read 0 records again.\n")


def test_all_consumers_are_paused_and_resumed_when_none_is_named(desk: Desk) -> None:
    assert desk.ask("consumer pause", "--reason", "a test")[0] == 0
    told = desk.ask("consumer status")[1].splitlines()
    assert [line.partition("  changed_at")[0] for line in told] == [
        "consumer=probe.one  paused=True  reason=a test",
        "consumer=probe.two  paused=True  reason=a test",
    ]
    assert desk.ask("consumer resume one") == (0, "probe.one goes on.\n")
    told = desk.ask("consumer status")[1].splitlines()
    assert ["paused=True" in line for line in told] == [False, True]
    assert desk.ask("consumer resume")[0] == 0


def test_a_server_that_is_away_is_said_in_a_sentence(desk: Desk, settings: Settings) -> None:
    nobody = settings.model_copy(update={"database_port": 1})
    words = "The database does not answer: start it, then run this again."
    assert desk.ask("parked list", settings=nobody) == (1, words)
    no_broker = settings.model_copy(update={"kafka_bootstrap": "127.0.0.1:1"})
    words = "The broker does not answer: start it, then run this again."
    assert desk.ask("replay --from 2026-11-24T08:00:00Z --dry-run", settings=no_broker) == (1, words)
    code, said = desk.ask("consumer status", settings=no_broker)  # its own part is told all the same
    assert (code, said.count("paused=False")) == (0, 2)


def test_a_database_without_tables_says_what_is_missing(desk: Desk, servers: Servers) -> None:
    words = (
        "The database lacks what this version needs. To bring it up to date, start the stack anew: kursnett down, "
        "kursnett up; in containers, run this service's migrate."
    )
    assert desk.ask("parked list", settings=servers.settings("postgres")) == (1, words)


def test_what_is_sent_again_in_parts_is_not_said_to_be_undone(
    desk: Desk, servers: Servers, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = asyncio.run(servers.database())

    async def said(statement: str) -> list[int]:
        conn = await connect(settings, "test")
        rows = await conn.fetch(statement)
        await conn.close()
        return [row[0] for row in rows]

    again = "SELECT id FROM outbox WHERE published_at IS NULL ORDER BY id"
    asyncio.run(records(settings))
    asyncio.run(said("UPDATE outbox SET published_at = app_now()"))
    asyncio.run(said("ALTER TABLE outbox ADD CHECK (id <> 2 OR published_at IS NOT NULL)"))
    monkeypatch.setattr(republishing, "_REPUBLISH", republishing._REPUBLISH.replace("LIMIT 5000", "LIMIT 1"))
    code, told = desk.ask("republish --since 2026-11-24T08:00:00Z", settings=settings)
    assert asyncio.run(said(again)) == [1], "the control: a part of it is done"
    words = "The database says CheckViolationError; a part may be done. Run this again: nobody is told twice by it."
    assert (code, told) == (1, words)
    code, told = desk.ask("republish --since 2026-11-24T08:00:00Z --dry-run", settings=settings)
    assert (code, told) == (0, "5 events would be published again.\n")


def test_what_was_done_is_written_down_and_what_was_refused_is_not(desk: Desk, servers: Servers) -> None:
    settings = asyncio.run(servers.database())
    asyncio.run(records(settings))
    for line in (
        "parked redrive 1 99 --by kari",
        "parked discard 3 6 --reason anew",
        "parked discard 3 --reason again",
        "consumer pause one --reason testing",
        "consumer resume",
        "replay --from 2026-11-24T08:00:00Z --dry-run",
        "republish --since 2026-11-24T08:00:00Z",
        "parked show 1",
    ):
        desk.ask(line, settings=settings)
    code, told = desk.ask("acts --json", settings=settings)
    rows = json.loads(told)
    assert [(row["act"], row["about"], row["reason"]) for row in reversed(rows)] == [
        ("parked redrive", "1", ""),
        ("parked discard", "3", "anew"),
        ("consumer pause", "probe.one", "testing"),
        ("consumer resume", "probe.one", ""),
        ("consumer resume", "probe.two", ""),
        ("republish", "outbox", "since 2026-11-24T08:00:00+00:00"),
    ]
    assert {(row["way"], row["by"]) for row in rows} == {("command", getpass.getuser())}
    assert [row["name"] for row in rows if row["name"]] == ["kari"]
    assert code == 0
