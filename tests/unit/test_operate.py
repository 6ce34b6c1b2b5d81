"""What operators may do to a service can be asked for by `kursnett`, which they have: no command is left behind."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import cyclopts
import pytest

from deploy import cli
from deploy.commands import operate
from kit import operating
from services.catalogue import __main__ as catalogue
from services.enrolment import __main__ as enrolment
from services.notifier import __main__ as notifier


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("nonsense", 'Unknown command "nonsense".'),
        ("timeline", 'Command "timeline" parameter --id requires an argument.'),
        ("token --as kari --role nobody", 'Invalid value "nobody" for --role.'),
        ("status --nonsense", "Unknown option: --nonsense."),
    ],
)
def test_a_line_that_is_no_command_is_refused_as_all_else_is(
    line: str, words: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["kursnett", *line.split()])
    monkeypatch.setattr("logging.disable", lambda: None)
    monkeypatch.setattr("signal.signal", lambda *_: None)
    with pytest.raises(SystemExit) as end:
        cli.main()
    said = capsys.readouterr().err
    assert end.value.code == 1
    assert said.startswith(f"kursnett: {words}"), said


@pytest.mark.parametrize(
    ("line", "usage", "option"),
    [
        ("partners add --help", "kursnett partners add --name STR --arena STR... [OPTIONS] SLUG", "--orgnr"),
        ("import -h", "kursnett import --partner STR [OPTIONS] FILE", "--dry-run"),
        ("replay --help", "kursnett replay SERVICE --from STR [OPTIONS] [ARGS...]", "--dry-run"),
        ("parked list notifier --help", "kursnett parked list SERVICE [OPTIONS]", "--closed"),
    ],
)
def test_how_a_services_command_is_used_is_told_whole_and_without_a_stack(
    line: str,
    usage: str,
    option: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> None:
    monkeypatch.setattr("sys.argv", ["kursnett", *line.split()])
    monkeypatch.setattr("logging.disable", lambda: None)
    monkeypatch.setattr("signal.signal", lambda *_: None)
    monkeypatch.setenv("KURSNETT_HOME", str(tmp_path / "none"))
    with pytest.raises(SystemExit) as end:
        cli.main()
    said = " ".join(capsys.readouterr().out.split())
    assert not end.value.code
    assert said.startswith(f"Usage: {usage}"), said
    assert option in said
    assert "python -m" not in said


GROUPS = [
    (operate.partners, catalogue.operators),
    (operate.people, enrolment.operators),
    (operate.mail, notifier.operators),
    (operate.parked, lambda app: operating.add(app, _never)),
    (operate.consumer, lambda app: operating.add(app, _never)),
]


def _never() -> Any:
    raise AssertionError("nothing is asked of a service here")


@pytest.mark.parametrize(("group", "operators"), GROUPS, ids=[group.name[0] for group, _ in GROUPS])
def test_each_verb_of_a_service_is_one_of_kursnett_too(
    group: cyclopts.App, operators: Callable[[cyclopts.App], None]
) -> None:
    own = cyclopts.App()
    operators(own)
    assert set(group) == set(own[group.name[0]])
