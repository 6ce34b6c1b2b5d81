"""What operators read in a terminal: what a stranger wrote stays in its own row and does nothing to the terminal."""

import json

import pytest

from deploy.commands import operate
from deploy.local.places import Places
from kit import operating, parking

FORGED = "torgar\nid=9  consumer=notifier.mail  state=parked\x1b[2J\u202e\x9b1A"


def test_a_key_forges_no_row_and_gives_the_terminal_no_order(capsys: pytest.CaptureFixture[str]) -> None:
    key = parking._text(FORGED.encode() + b"\xff")
    operating.shown([{"id": 8, "key": key, "detail": "Åse – \N{SNOWMAN}"}], False, "nothing is parked")
    printed = capsys.readouterr().out
    assert printed.endswith("\n")
    assert printed[:-1].isprintable(), printed
    assert r"key=torgar\nid=9" in printed
    assert r"\x1b[2J\u202e\x9b1A\xff" in printed
    assert "detail=Åse – \N{SNOWMAN}" in printed, "what can be read stays as it is"

    operating.shown([{"id": 8, "key": key}], True, "nothing is parked")
    assert json.loads(capsys.readouterr().out) == [{"id": 8, "key": key}], "for programs it is what it was"


def test_nor_does_an_events_type_in_the_story_of_all_services(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    async def told(places: Places, id: str) -> list[dict[str, str]]:
        return [{"at": "2026-11-27", "service": "catalogue", "what": "refused", "type": FORGED}]

    monkeypatch.setattr(operate, "_running", lambda: None)
    monkeypatch.setattr(operate, "_timeline", told)
    operate.timeline("x")
    printed = capsys.readouterr().out
    assert printed[:-1].isprintable(), printed
