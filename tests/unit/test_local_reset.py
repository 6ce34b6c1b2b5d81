"""Who is impatient while the data is deleted has none of it left, and not half."""

import os
import shutil
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest

from deploy.local.places import Places
from deploy.local.postgres import Postgres
from deploy.local.stack import Stack
from deploy.trouble import Trouble


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_an_interrupt_while_the_data_is_deleted_leaves_no_half_of_it(tmp_path: Path, number: signal.Signals) -> None:
    home = tmp_path / "home"
    for one in range(6_000):
        path = home / ("postgres", "kafka")[one % 2] / str(one % 50) / str(one)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    (home / "demo").touch()
    resetting = subprocess.Popen(
        [sys.executable, "-m", "deploy.cli", "reset", "--yes"],
        env={**os.environ, "KURSNETT_HOME": str(home)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    deadline = time.monotonic() + 30
    while (home / "postgres" / "0").exists():
        assert time.monotonic() < deadline
    resetting.send_signal(number)
    resetting.wait(30)
    assert not home.exists()


def test_a_start_finishes_a_reset_that_was_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """New databases beside the old topics, or half of the secrets, would be a stack that nobody can explain."""
    home = tmp_path / "home"
    for name in ("postgres", "kafka", "secrets"):
        (home / name).mkdir(parents=True)
    with monkeypatch.context() as killed:
        killed.setattr(shutil, "rmtree", lambda path, **_: os.kill(os.getpid(), signal.SIGKILL))
        if not (child := os.fork()):
            Stack(Places(home)).reset()
            os._exit(0)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
    assert (home / "kafka").exists(), "the control"

    def far_enough(*_: object) -> None:
        assert sorted(path.name for path in home.iterdir()) == ["logs"]
        raise Trouble("far enough", "")

    monkeypatch.setattr("deploy.local.ports.require_free", far_enough)
    with pytest.raises(Trouble, match="far enough"):
        Stack(Places(home)).start()


@pytest.mark.parametrize("told", ["", "postgres", "elsewhere/postgres"])
def test_a_note_of_where_the_database_lies_that_is_not_whole_costs_nobody_else_anything(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, told: str
) -> None:
    """A full disk leaves an empty one: where one stands is then not where the database lies."""
    here, home = tmp_path / "here", tmp_path / "home"
    precious = (here / "README.md", here / "postgres" / "name", here / "elsewhere" / "postgres" / "name")
    for path in (*precious, home / "postgres" / "data" / "PG_VERSION"):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    monkeypatch.chdir(here)
    monkeypatch.setattr("deploy.local.postgres.reachable", lambda path: True)
    (home / "postgres.path").write_text(told)
    assert Postgres(Places(home)).folder == home / "postgres"
    (home / "postgres.path").write_text(told)
    Stack(Places(home)).reset()
    assert [path for path in precious if not path.exists()] == []
    assert not home.exists()


def test_a_stack_whose_folder_was_moved_has_its_database_with_it(tmp_path: Path) -> None:
    """As our own advice is for a full disk: another folder, on another disk."""
    old, new = tmp_path / "old", tmp_path / "new"
    old.mkdir()
    first = Postgres(Places(old))
    first.user = None
    (first.folder / "data").mkdir(parents=True)
    old.rename(new)
    moved = Postgres(Places(new))
    moved.user = None
    assert moved.data.is_dir()
    old.mkdir()
    again = Postgres(Places(old))
    again.user = None
    (again.folder / "data").mkdir(parents=True)
    Stack(Places(new)).reset()
    assert again.data.is_dir(), "of another stack"
    assert not new.exists()


def test_what_could_not_be_deleted_is_named_and_the_note_of_it_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As PostgreSQL's files, which belong to another user when root has started the stack."""
    home, outside, real = tmp_path / "home", tmp_path / "kursnett-x", shutil.rmtree
    monkeypatch.setattr("deploy.local.postgres.OUTSIDE", tmp_path)
    for folder in (outside, home / "kafka", home / "secrets"):
        folder.mkdir(parents=True)
    (home / "postgres.path").write_text(str(outside))
    (home / "demo").touch()
    another = {outside, home / "kafka"}
    monkeypatch.setattr(shutil, "rmtree", lambda path, **how: None if path in another else real(path, **how))
    stack = Stack(Places(home))
    with pytest.raises(Trouble) as told:
        stack.reset()
    assert f"Still there: {outside}, {home / 'kafka'}." in told.value.what
    assert {path.name for path in home.iterdir()} == {"kafka", "postgres.path", "resetting"}

    another.clear()
    stack.reset()
    assert [path for path in (outside, home) if path.exists()] == [], "the control: once it can be, all of it is"


def test_the_admins_password_can_at_no_moment_be_read_by_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(*arguments: object, **how: object) -> None:
        raise KeyboardInterrupt

    postgres = Postgres(Places(tmp_path))
    postgres.user, postgres.install = None, tmp_path
    (tmp_path / "secrets" / "postgres").mkdir(parents=True)
    (tmp_path / "secrets" / "postgres" / "admin_password").write_text("x")
    postgres.folder.mkdir(parents=True)
    monkeypatch.setattr(Path, "chmod", killed)  # whatever comes after the file was made
    monkeypatch.setattr(subprocess, "run", killed)
    for _ in range(2):  # and again, beside what that one has left
        with pytest.raises(KeyboardInterrupt):
            postgres._make()
        assert stat.S_IMODE((postgres.folder / "password").stat().st_mode) == 0o600
