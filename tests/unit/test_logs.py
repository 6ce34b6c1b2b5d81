import ast
import errno
import importlib
import io
import json
import logging
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
import structlog

from contracts.topics import SERVICES
from kit import logs, trail
from kit.logs import LEVELS

ROOT = Path(__file__).parents[2]
CANARY = "kari.nordmann@example.no"
HOSTILE = ['a\r\n{"level":"info"}', "\x1b[31mred", "line\u2028separator", "next\x85line", "nul\x00", "\ud800"]


class Said:
    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self.capsys = capsys

    def text(self) -> str:
        return self.capsys.readouterr().out

    def one(self) -> dict[str, Any]:
        lines = self.text().splitlines()
        assert len(lines) == 1
        told: dict[str, Any] = json.loads(lines[0])
        return told


@pytest.fixture
def said(capsys: pytest.CaptureFixture[str]) -> Iterator[Said]:
    root = logging.getLogger()
    before, structured = (root.handlers[:], root.level), structlog.get_config()
    logs.configure("demo", "info", also={"thing_id"})
    yield Said(capsys)
    root.handlers[:], root.level = before[0], before[1]
    structlog.configure(**structured)


def test_a_line_is_json_with_the_ids_of_the_trail(said: Said) -> None:
    parent = "00-" + "a" * 32 + "-" + "b" * 16 + "-01"
    with trail.following(trail.trail("request-1", "event-1", parent)):
        logs.get("kit.demo").info("a thing was kept", thing_id=UUID(int=7), count=3)
    told = said.one()
    assert told["service"] == "demo"
    assert told["correlation_id"] == "request-1"
    assert told["causation_id"] == "event-1"
    assert told["trace_id"] == "a" * 32
    assert told["thing_id"] == "00000000-0000-0000-0000-000000000007"
    assert told["count"] == 3
    assert told["event"] == "a thing was kept"


def test_a_field_that_is_not_allowed_is_dropped_and_named(said: Said) -> None:
    logs.get("kit.demo").info("asked", email=CANARY, name="Kari", count=1, route={"nested": CANARY})
    told = said.one()
    assert told["dropped"] == ["email", "name", "route"]
    assert told["count"] == 1
    assert CANARY not in json.dumps(told)


@pytest.mark.parametrize("service", SERVICES)
def test_a_services_own_fields_arrive_and_others_are_dropped(service: str, said: Said) -> None:
    own = importlib.import_module(f"services.{service}.app").LOG_FIELDS
    logs.configure(service, "info", own)
    logs.get("services").info("told", **dict.fromkeys(own, "id-1"), thing_id="id-2", email=CANARY)
    told = said.one()
    assert {name: told.get(name) for name in own} == dict.fromkeys(own, "id-1")
    assert told["dropped"] == ["email", "thing_id"]
    assert CANARY not in json.dumps(told)


def unheard(text: str, allowed: frozenset[str]) -> list[str]:
    """The fields that a module's log lines give and the log would drop."""
    return [
        f"{node.lineno}: {keyword.arg}"
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.Call) and ast.unparse(node.func) in {f"log.{level}" for level in (*LEVELS, "exception")}
        for keyword in node.keywords
        if keyword.arg is not None and keyword.arg not in allowed | {"exc_info"}
    ]


@pytest.mark.parametrize("folder", ["kit", *(f"services/{service}" for service in SERVICES)])
def test_no_line_gives_a_field_that_the_log_drops(folder: str) -> None:
    own = frozenset[str]()
    if folder != "kit":
        own = importlib.import_module(f"{folder.replace('/', '.')}.app").LOG_FIELDS
    for path in (ROOT / folder).rglob("*.py"):
        assert unheard(path.read_text("utf-8"), logs.FIELDS | own) == [], path.relative_to(ROOT)


def test_a_field_that_would_be_dropped_is_found() -> None:
    assert unheard('log.info("a", count=1, name="Kari")\nlog.exception("b", at=1)', logs.FIELDS) == ["1: name"]


def test_an_exception_is_told_by_type_and_place_and_never_in_its_own_words(said: Said) -> None:
    def refuse(address: str) -> None:
        try:
            raise KeyError(address)
        except KeyError as error:
            raise ValueError(f"bad address {address}") from error

    try:
        refuse(CANARY)
    except ValueError:
        logs.get("kit.demo").exception("it failed")
    told = said.one()
    assert told["level"] == "error"
    assert told["error"] == "ValueError"
    assert told["because"] == ["KeyError"]
    assert told["at"][-1].endswith(" refuse")
    assert CANARY not in json.dumps(told)
    assert "/" not in "".join(told["at"])


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_text_stays_one_line(said: Said, text: str) -> None:
    logs.get("kit.demo").info("asked", reason=text)
    written = said.text()
    assert written.count("\n") == 1
    assert written.isascii()
    assert "\x1b" not in written
    assert json.loads(written)["reason"] == text


def test_libraries_lines_come_in_the_same_form(said: Said) -> None:
    logging.getLogger("uvicorn.error").info("Listening on %s:%d", "127.0.0.1", 8000)
    assert said.one()["event"] == "Listening on 127.0.0.1:8000"


def test_a_librarys_line_shows_no_value_that_a_person_typed(said: Said) -> None:
    logging.getLogger("aiokafka").error("could not send %s to %s", {"email": CANARY}, "topic-1")
    assert said.one()["event"] == "could not send … to topic-1"
    try:
        raise ValueError(CANARY)
    except ValueError as error:
        logging.getLogger("faststream").error(f"ValueError: {error}", exc_info=error)  # noqa: G004  as FastStream does
    told = said.one()
    assert told["error"] == "ValueError"
    assert CANARY not in json.dumps(told)


def test_heartbeats_of_libraries_are_not_told(said: Said) -> None:
    logging.getLogger("aiokafka.consumer").info("Heartbeat")
    assert said.text() == ""


def test_a_library_that_repeats_itself_is_heard_once_and_then_counted(
    said: Said, monkeypatch: pytest.MonkeyPatch
) -> None:
    for _ in range(50):
        logging.getLogger("aiokafka.cluster").error("Topic %s not found", "a.b")
    assert said.one()["event"] == "Topic a.b not found"
    logging.getLogger("aiokafka.cluster").error("Topic %s not found", "a.c")
    assert said.one()["event"] == "Topic a.c not found"
    monkeypatch.setattr(logs, "REPEAT_S", 0.0)
    logging.getLogger("aiokafka.cluster").error("Topic %s not found", "a.b")
    assert said.one()["count"] == 50
    for number in range(1000):
        logging.getLogger("aiokafka.cluster").error("Topic %s not found", number)
    assert len(logging.getLogger().handlers[0]._told) <= logs.REPEATS_KNOWN + 1  # type: ignore[attr-defined]


def test_a_hostile_id_from_outside_does_not_become_the_trail() -> None:
    made = trail.trail('x" onload="', None, "00-" + "0" * 32 + "-" + "b" * 16 + "-01")
    assert len(made.correlation_id) == 36
    assert made.traceparent is None


def test_the_trail_ends_where_it_should() -> None:
    with trail.following(trail.trail("outer")):
        with trail.following(trail.trail("inner")):
            assert trail.here().correlation_id == "inner"
        assert trail.here().correlation_id == "outer"
    assert trail.current() is None


class FullDisk(io.StringIO):
    def flush(self) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")


def test_a_line_that_finds_no_room_on_the_disk_ends_nothing(said: Said, monkeypatch: pytest.MonkeyPatch) -> None:
    full = FullDisk()
    monkeypatch.setattr(sys, "stdout", full)
    with pytest.raises(OSError, match="No space"):
        full.flush()  # the control
    logs.get("kit.demo").info("a thing was kept")
    logging.getLogger("aiokafka").error("a library's word")  # told within the library's own tasks
    assert "a library's word" in full.getvalue()
