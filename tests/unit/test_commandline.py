"""How a command of a service runs and ends: by our own code, with what it is sent, and in words for a person."""

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from deploy.local.places import ROOT
from deploy.local.stack import Stack

KURSNETT = str(Path(sys.executable).with_name("kursnett"))
PACKAGES = ("contracts", "deploy", "kit", "services")
# `kursnett` on a stack that is said to run.
HANDED = """
import sys
from pathlib import Path
from deploy.commands import operate
from deploy.local.places import Places
operate._running = lambda: Places(Path(sys.argv[1]))
operate._pass_on("catalogue", "partners list", "--json")
"""
SERVICE = """
import sys
print(sys.argv[1:], flush=True)
print("got", sys.stdin.readline().strip(), flush=True)
sys.exit(sys.stdin.readline().strip())
"""
TALKS = """
from kit.commandline import main
main("none", None, lambda app: app.command(lambda: print("one"), name="talk"))
"""
SETTINGS = {
    "KURSNETT_DATABASE_HOST": "127.0.0.1",
    "KURSNETT_DATABASE_NAME": "none",
    "KURSNETT_DATABASE_USER": "none",
    "KURSNETT_DATABASE_PASSWORD": "none",
    "KURSNETT_KAFKA_BOOTSTRAP": "127.0.0.1:1",
    "KURSNETT_ISSUER": "http://localhost/",
    "KURSNETT_ISSUER_KEYS_URL": "http://localhost/jwks",
}
CATALOGUE = (sys.executable, "-m", "services.catalogue")


@pytest.fixture
def elsewhere(tmp_path: Path) -> Path:
    """A folder with modules that are called like ours, and one like Python's own."""
    for name in (*PACKAGES, "json"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text("raise SystemExit('this is not ours')")
    return tmp_path


def test_a_command_is_our_own_wherever_one_stands(elsewhere: Path) -> None:
    ran = subprocess.run(
        [KURSNETT, "partners", "list", "--help"], cwd=elsewhere, capture_output=True, text=True, timeout=60
    )
    assert (ran.returncode, ran.stderr) == (0, "")
    assert ran.stdout.startswith("Usage: kursnett partners list")


def test_a_stack_is_our_own_wherever_one_stands(elsewhere: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(elsewhere)
    with Stack.somewhere(elsewhere / "home", programs=("mail",)) as stack:
        assert stack.state()["phase"] == "ready"


def test_a_service_is_handed_what_is_sent_and_is_heard_as_it_speaks(tmp_path: Path) -> None:
    stub = tmp_path / "services" / "catalogue"
    stub.mkdir(parents=True)
    for package in (stub.parent, stub):
        (package / "__init__.py").touch()
    (stub / "__main__.py").write_text(SERVICE)
    path = os.pathsep.join([str(tmp_path), str(ROOT)])
    with subprocess.Popen(
        [sys.executable, "-c", HANDED, str(tmp_path)],
        env={**os.environ, "PYTHONPATH": path},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as program:
        assert program.stdin is not None
        assert program.stdout is not None
        assert program.stdout.readline() == "['partners', 'list', '--json']\n"
        program.stdin.write("a file\n")
        program.stdin.flush()
        assert program.stdout.readline() == "got a file\n"  # while it still runs
        assert program.communicate("3 words were wrong\n", timeout=20) == ("", "3 words were wrong\n")
        assert program.returncode == 1


def run(*arguments: str, stdout: int = subprocess.PIPE, **environment: str) -> tuple[int, str]:
    """A command of the catalogue's: its exit code and what it says beside what it prints."""
    ran = subprocess.run(
        [*CATALOGUE, *arguments],
        env={**os.environ, **SETTINGS, **environment},
        stdout=stdout,
        stderr=subprocess.PIPE,
        text=True,
        timeout=60,
    )
    return ran.returncode, ran.stderr


def test_a_refusal_is_said_by_the_name_that_was_typed() -> None:
    said = "Give an address, or --remove.\n"
    assert run("partners", "mail", "nesna") == (1, said)
    assert run("partners", "mail", "nesna", KURSNETT_TYPED="kursnett partners mail") == (1, f"kursnett: {said}")
    code, unknown = run("partners", "mail", "nesna", "--nonsense", KURSNETT_TYPED="kursnett partners mail")
    assert code == 1
    assert unknown.endswith(" See: kursnett partners mail --help\n")
    assert unknown.startswith("kursnett: ")


def test_ctrl_c_ends_what_waits_in_a_word() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:  # takes a connection, and never answers
        environment = {**os.environ, **SETTINGS, "KURSNETT_DATABASE_PORT": str(silent.getsockname()[1])}
        with subprocess.Popen(
            [*CATALOGUE, "partners", "list"], env=environment, stderr=subprocess.PIPE, text=True
        ) as program:
            assert program.stderr is not None
            silent.settimeout(60)
            there, _ = silent.accept()
            with there:
                program.send_signal(signal.SIGINT)
                assert program.wait(20) == 130
            assert program.stderr.read() == "Stopped before its end.\n"


def test_who_reads_no_further_ends_it_without_a_word() -> None:
    reading, writing = os.pipe()
    os.close(reading)
    try:
        ran = subprocess.run([sys.executable, "-c", TALKS, "talk"], stdout=writing, stderr=subprocess.PIPE, timeout=60)
        assert (ran.returncode, ran.stderr) == (0, b"")
    finally:
        os.close(writing)


@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_what_cannot_be_printed_is_told_in_a_sentence(unbuffered: str) -> None:
    with Path("/dev/full").open("wb") as full:
        code, said = run("partners", "list", "--help", stdout=full.fileno(), PYTHONUNBUFFERED=unbuffered)
    assert (code, said) == (1, "It cannot go on: No space left on device.\n")


def test_a_broker_that_is_away_is_told_once() -> None:
    impatient = "from kit import topics; topics.WAITING_S = 0; import runpy; runpy.run_module(*{!r})"
    impatient = impatient.format(("services.catalogue", {}, "__main__"))
    command = [sys.executable, "-c", impatient, *("partners", "add", "nesna", "--name", "Nesna", "--arena", "online")]
    ran = subprocess.run(command, env={**os.environ, **SETTINGS}, capture_output=True, text=True, timeout=60)
    again = "start it, then run this again"
    said = f"nesna was not added: no Kafka broker answers at 127.0.0.1:1: {again}.\n"
    assert (ran.returncode, ran.stderr) == (1, said)


def test_a_fault_of_ours_is_told_in_a_sentence_and_whole_to_who_looks_for_it() -> None:
    def talked(**more: str) -> tuple[int, str]:
        command = [sys.executable, "-c", TALKS.replace('print("one")', "[].pop()"), "talk"]
        ran = subprocess.run(command, env={**os.environ, **more}, capture_output=True, text=True, timeout=60)
        return ran.returncode, ran.stderr

    code, said = talked()
    assert (code, said.count("\n")) == (1, 1), said[-500:]
    assert said.startswith("It met a fault of its own (IndexError: ")
    assert "Traceback" in talked(KURSNETT_LOG_LEVEL="debug")[1]
