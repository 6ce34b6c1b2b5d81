"""What is no whole backup is refused in a sentence, before anything is touched."""

import asyncio
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from deploy.commands import audit, backup, stack
from deploy.local import backups, restoring
from deploy.local.backups import MANIFEST
from deploy.local.places import SERVICES, Places
from deploy.local.stack import Stack
from deploy.trouble import Trouble


@pytest.fixture
def whole(tmp_path: Path) -> Path:
    """A backup with something in each file, as `write` leaves it."""
    folder = tmp_path / "backup"
    folder.mkdir()
    names = [f"{service}.dump" for service in SERVICES] + ["secrets/notifier/contact_private_key"]
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(f"this is {name}")
    files = {name: {"bytes": len(f"this is {name}"), "sha256": backups._sha256(folder / name)} for name in names}
    told = {
        "kursnett_backup": 1,
        "taken_at": "2026-11-27T01:00:00+00:00",
        "version": "0.1.0",
        "migrations": {service: {"kit": 1, service: 1} for service in SERVICES},
        "files": files,
    }
    (folder / MANIFEST).write_text(json.dumps(told))
    return folder


def change(folder: Path, how: Callable[[Any], Any]) -> None:
    told = json.loads((folder / MANIFEST).read_text())
    how(told)
    (folder / MANIFEST).write_text(json.dumps(told))


def test_a_whole_one_is_read(whole: Path) -> None:
    read = backups.read(whole)
    assert (read.taken_at.isoformat(), read.secrets) == (
        "2026-11-27T01:00:00+00:00",
        ["notifier/contact_private_key"],
    )


WRONG: dict[str, tuple[Callable[[Path], Any], str]] = {
    "no folder": (shutil.rmtree, "There is no folder"),
    "not a backup": (lambda folder: (folder / MANIFEST).unlink(), "is no backup: it has no manifest.json"),
    "half a list": (lambda folder: (folder / MANIFEST).write_text('{"kursnett'), "manifest.json is damaged"),
    "another list": (lambda folder: (folder / MANIFEST).write_text("[]"), "manifest.json is damaged"),
    "a list without files": (lambda folder: change(folder, lambda told: told.pop("files")), "is damaged"),
    "files that are none": (lambda folder: change(folder, lambda told: told.update(files=[1])), "is damaged"),
    "no dump in the list": (lambda folder: change(folder, lambda told: told["files"].pop("notifier.dump")), "damaged"),
    "a dump cut short": (lambda folder: os.truncate(folder / "enrolment.dump", 3), "enrolment.dump is missing or not"),
    "a dump changed": (
        lambda folder: (folder / "enrolment.dump").write_text("that is enrolment.dump"),
        "enrolment.dump is missing or not",
    ),
    "a dump missing": (lambda folder: (folder / "catalogue.dump").unlink(), "catalogue.dump is missing or not"),
    "a secret changed": (
        lambda folder: (folder / "secrets/notifier/contact_private_key").write_text("x"),
        "contact_private_key is missing or not",
    ),
    "a file elsewhere": (
        lambda folder: change(folder, lambda told: told["files"].update({"../x": {"bytes": 0, "sha256": ""}})),
        "../x is missing or not",
    ),
    "a newer form": (
        lambda folder: change(folder, lambda told: told.update(kursnett_backup=2)),
        "was made by a newer version (0.1.0)",
    ),
    "newer tables": (
        lambda folder: change(folder, lambda told: told["migrations"]["enrolment"].update(enrolment=9999)),
        "its enrolment has migration 9999 of enrolment, and this version knows",
    ),
}


@pytest.mark.parametrize("what", WRONG)
def test_what_is_not_whole_or_not_known_is_refused(
    whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    spoil, words = WRONG[what]
    spoil(whole)
    monkeypatch.setenv("KURSNETT_HOME", str(tmp_path / "home"))
    with pytest.raises(Trouble) as refused:
        backup.restore(whole, yes=True)
    assert words in refused.value.what
    assert refused.value.mend
    assert not (tmp_path / "home").exists(), "nothing was touched"


def test_commands_that_cannot_be_say_so(whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KURSNETT_HOME", str(tmp_path / "home"))
    with pytest.raises(Trouble, match=r"The stack does not run\. Start it"):
        backup.backup(tmp_path / "new")
    with pytest.raises(Trouble, match="There is no service 'nobody'"):
        backup.restore(whole, only="nobody", yes=True)
    with pytest.raises(Trouble, match="other secrets than this stack"):
        backup.restore(whole, only="enrolment", yes=True)
    with pytest.raises(Trouble, match=r"nobody to ask\. Add --yes"):
        backup.restore(whole)
    backup.restore(whole, dry_run=True)
    assert not (tmp_path / "home").exists()
    monkeypatch.setattr(Stack, "supervisor", 1)
    with pytest.raises(Trouble, match=r"The stack is running\. Stop it first: kursnett down"):
        backup.restore(whole, yes=True)


@pytest.mark.parametrize("there", ["a file", "a full folder"])
def test_nothing_that_is_there_is_written_over(tmp_path: Path, there: str) -> None:
    folder = tmp_path / "backup"
    if there == "a file":
        folder.write_text("mine")
    else:
        folder.mkdir()
        (folder / "mine").touch()
    with pytest.raises(Trouble, match="is there already and not empty"):
        backups.write(Places(tmp_path / "home"), folder, lambda text: None)


def test_a_backup_that_cannot_be_finished_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fill(places: Places, draft: Path, say: backups.Say) -> None:
        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (10, hard))  # the nearest to a full disk that one process can have
        try:
            backups._private(draft / "enrolment.dump", b"x" * 100)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))

    monkeypatch.setattr(backups, "_fill", fill)
    with pytest.raises(Trouble, match="could not be written: File too large"):
        backups.write(Places(tmp_path / "home"), tmp_path / "backup", lambda text: None)
    assert list(tmp_path.iterdir()) == []


WRITING = """
import sys, time
from pathlib import Path
from deploy import cli
from deploy.local import backups
from deploy.local.stack import Stack

def fill(places, draft, say):
    (draft / "secrets").mkdir()
    (draft / "secrets" / "key").write_text("secret")
    print("writing", flush=True)
    go_on = Path(sys.argv[2]).with_name("go on")
    while not go_on.exists():
        time.sleep(0.05)

def read(folder):
    print("whole", flush=True)
    sys.exit(0)

Stack.supervisor = 1
backups._fill, backups.read = fill, read
cli.main()
"""


@contextmanager
def writing(tmp_path: Path, name: str, ignored: bool = False) -> Iterator[subprocess.Popen[str]]:
    """A backup that is being written, of a terminal's or, as with nohup, of nobody's."""
    process = subprocess.Popen(
        [sys.executable, "-c", WRITING, "backup", str(tmp_path / "backups" / name)],
        env={**os.environ, "KURSNETT_HOME": str(tmp_path / "home")},
        stdout=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_IGN if ignored else signal.SIG_DFL),
    )
    with process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "writing\n"
            yield process
        finally:
            process.kill()


def there(tmp_path: Path) -> list[str]:
    return sorted(path.name for path in (tmp_path / "backups").iterdir())


def test_a_backup_whose_terminal_is_lost_leaves_nothing(tmp_path: Path) -> None:
    with writing(tmp_path, "one") as backup:
        backup.send_signal(signal.SIGHUP)
        assert backup.wait(20) == 130
    assert there(tmp_path) == []


def test_a_backup_that_needs_no_terminal_goes_on(tmp_path: Path) -> None:
    with writing(tmp_path, "one", ignored=True) as backup:
        backup.send_signal(signal.SIGHUP)
        (tmp_path / "backups" / "go on").touch()
        assert backup.wait(20) == 0
    assert there(tmp_path) == ["go on", "one"]


def test_what_a_killed_backup_has_left_goes_with_the_next_and_what_is_being_written_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[str] = []
    monkeypatch.setattr(backups, "_fill", lambda *_: None)
    monkeypatch.setattr(backups, "read", lambda folder: folder)
    for name in (".mine.17.new", ".mine.new"):
        (tmp_path / "backups" / name).mkdir(parents=True)
        (tmp_path / "backups" / name / "work").touch()
    with writing(tmp_path, "killed") as killed, writing(tmp_path, "alive") as alive:
        killed.kill()
        killed.wait(20)
        backups.write(Places(tmp_path / "home"), tmp_path / "backups" / "next", told.append)
        assert there(tmp_path) == [f".alive.{alive.pid}.new", ".mine.17.new", ".mine.new", "next"]
    draft = tmp_path / "backups" / f".killed.{killed.pid}.new"
    assert told == [f"Removed {draft}, which a backup that was cut off had left."]


def test_secrets_are_put_back_and_those_that_were_there_go_aside(whole: Path, tmp_path: Path) -> None:
    places = Places(tmp_path / "home")
    read = backups.read(whole)
    (places.secrets / "notifier").mkdir(parents=True)
    (places.secrets / "notifier" / "contact_private_key").write_text("mine")
    differing = backups.differing(places, read)
    assert differing == ["notifier/contact_private_key"]
    backups.bring_secrets(places, read, differing, tmp_path / "aside")
    kept = places.secrets / "notifier" / "contact_private_key"
    assert (kept.read_text(), oct(kept.stat().st_mode & 0o777)) == (
        "this is secrets/notifier/contact_private_key",
        "0o400",
    )
    assert (tmp_path / "aside/notifier/contact_private_key").read_text() == "mine"
    assert backups.differing(places, read) == []


@pytest.mark.parametrize("was_there", [True, False])
def test_of_a_secret_that_cannot_be_put_back_nothing_is_there(whole: Path, tmp_path: Path, was_there: bool) -> None:
    """Half of one, as a full disk or a kill leaves it, would be read as all of it."""
    places, aside = Places(tmp_path / "home"), tmp_path / "aside"
    key = places.secrets / "notifier" / "contact_private_key"
    key.parent.mkdir(parents=True)
    if was_there:
        key.write_text("mine")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10, hard))
    try:
        with pytest.raises(OSError, match="File too large"):
            backups.bring_secrets(places, backups.read(whole), ["notifier/contact_private_key"], aside)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    backups.take_back_secrets(places, ["notifier/contact_private_key"], aside)
    assert [path.read_text() for path in key.parent.iterdir()] == ["mine"] * was_there


@pytest.mark.anyio
async def test_each_step_of_a_restore_and_the_audit_after_it_have_the_same_patience(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (restoring, audit):
        monkeypatch.setattr(module, "SECONDS", 0.01)
    others = asyncio.all_tasks()
    with pytest.raises(Trouble, match="epoch did not end within 0 s"):
        await restoring._heard(Places(tmp_path), "catalogue")
    assert asyncio.all_tasks() == others, "no command goes on by itself"
    with pytest.raises(Trouble, match="audit did not end within 0 s"):
        await audit.look(Places(tmp_path))
    assert asyncio.all_tasks() == others, "no command goes on by itself"


@pytest.mark.parametrize("was_there", [True, False])
def test_the_secrets_are_those_that_were_there_when_a_restore_fails(
    whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, was_there: bool
) -> None:
    """With another's keys what lies sealed in the databases that stayed would never be opened again."""
    key = tmp_path / "home" / "secrets" / "notifier" / "contact_private_key"
    key.parent.mkdir(parents=True)
    if was_there:
        key.write_text("mine")
    monkeypatch.setenv("KURSNETT_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(Stack, "start", lambda *args, **more: None)
    monkeypatch.setattr(Stack, "stop", lambda *args: [])
    seen: list[str] = []

    async def fails(*_: Any) -> None:
        seen.append(key.read_text())
        raise Trouble("enrolment: it does not load.")

    async def none(*_: Any) -> str:
        return ""

    monkeypatch.setattr(restoring, "_there", none)
    monkeypatch.setattr(restoring, "_is_there", none)
    monkeypatch.setattr(restoring, "_draft", fails)
    monkeypatch.setattr(restoring, "_drop_draft", none)
    with pytest.raises(Trouble, match="it does not load"):
        backup.restore(whole, yes=True)
    assert seen == ["this is secrets/notifier/contact_private_key"]
    assert key.read_text() == ("mine" if was_there else seen[0]), "where there was none nothing lies sealed for it"


ROOM = "The disk is full. Make room (df -h), then run the same command again."


def test_a_disk_without_room_for_another_database_is_no_fault_of_ours(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Full:
        async def execute(self, statement: str) -> None:
            if statement.startswith("CREATE DATABASE"):
                raise asyncpg.DiskFullError("could not extend file")

    @asynccontextmanager
    async def full(places: Places) -> AsyncIterator[Full]:
        yield Full()

    monkeypatch.setattr(restoring, "_admin", full)
    with pytest.raises(Trouble) as caught:
        asyncio.run(restoring._draft(Places(tmp_path), "enrolment"))
    assert str(caught.value) == ROOM


def test_a_disk_that_fills_while_a_database_is_loaded_is_not_mended_by_another_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where a backup is written can be chosen; where a database lies cannot."""
    ended = subprocess.CompletedProcess([], 1, "", "pg_restore: error: could not extend file: No space left on device")
    monkeypatch.setattr(backups, "binaries", lambda: tmp_path)
    monkeypatch.setattr(Places, "secret", lambda *_: "")
    monkeypatch.setattr(subprocess, "run", lambda *_, **more: ended)
    with pytest.raises(Trouble) as caught:
        backups.load(Places(tmp_path), "enrolment", tmp_path / "enrolment.dump", "enrolment_restoring")
    assert str(caught.value) == ROOM
    with pytest.raises(Trouble, match="or name a folder on another disk"):
        backups.dump(Places(tmp_path), "enrolment", tmp_path / "enrolment.dump")


IMPATIENT = """
import asyncio, sys
from pathlib import Path
from deploy import cli
from deploy.local import backups, restoring
from deploy.local.stack import Stack

Stack.start = lambda *args, **more: None
Stack.stop = lambda *args: []
backups.load = lambda *args: None
tell = lambda text: print(text, flush=True)

async def nothing(*_, **more):
    return "whole"

async def rename(places, names):
    if any(now.endswith("_restoring") for now, _ in names):
        return tell("in place")
    tell("going back")
    await asyncio.sleep(1)
    tell("gone back")

async def forever(*_, **more):
    await asyncio.sleep(60)

async def is_there(*_):
    return True

restoring._draft = restoring._there = restoring._drop_draft = nothing
restoring._is_there = is_there
restoring._rename, restoring.command = rename, forever
cli.main()
"""


def test_who_is_impatient_while_a_restore_is_taken_back_has_what_was_there(whole: Path, tmp_path: Path) -> None:
    """A database that does not know of its epoch must never run: it would say numbers again that others have heard."""
    key = tmp_path / "home" / "secrets" / "notifier" / "contact_private_key"
    key.parent.mkdir(parents=True)
    key.write_text("mine")
    restore = subprocess.Popen(
        [sys.executable, "-c", IMPATIENT, "restore", str(whole), "--yes"],
        env={**os.environ, "KURSNETT_HOME": str(tmp_path / "home")},
        stdout=subprocess.PIPE,
        text=True,
    )
    assert restore.stdout is not None
    told = []
    for line in restore.stdout:
        told.append(line.strip())
        if told[-1] in ("in place", "going back"):
            restore.send_signal(signal.SIGINT)
    assert told[-1] == "gone back", told
    assert restore.wait(30) == 130
    assert key.read_text() == "mine"


@pytest.mark.parametrize("command", ["up", "restore"])
def test_after_a_restore_that_was_killed_what_was_there_is_put_back_first(
    whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    """What it had put in place does not know of its epoch, and must not run."""
    folder = tmp_path / "home" / "restored" / "20260301070000"
    folder.mkdir(parents=True)
    restoring._begin(folder, {"services": ["enrolment"], "before": {"enrolment": "was"}, "secrets": []})
    done: list[Any] = []

    async def is_there(*_: Any) -> bool:
        return True

    async def rename(_: Places, names: Any) -> None:
        done.append(names)

    async def drop(_: Places, service: str) -> None:
        assert service == "enrolment"

    def start(here: Stack, **_: Any) -> None:
        done.append(here.programs)
        if len(done) == 3:
            raise Trouble("That was enough.")

    monkeypatch.setenv("KURSNETT_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(Stack, "start", start)
    monkeypatch.setattr(Stack, "stop", lambda *args: [])
    monkeypatch.setattr(restoring, "_is_there", is_there)
    monkeypatch.setattr(restoring, "_rename", rename)
    monkeypatch.setattr(restoring, "_drop_draft", drop)
    with pytest.raises(Trouble, match="That was enough"):
        stack.up(no_demo=True) if command == "up" else backup.restore(whole, yes=True)
    assert done[:2] == [("postgres",), [("enrolment", "enrolment_restoring"), ("was", "enrolment")]]
    assert restoring.cut_off(Places(tmp_path / "home")) == []


class Asked(Stack):
    """A stack that stood still when the question was asked."""

    @property
    def supervisor(self) -> int | None:
        return None


@pytest.mark.parametrize("what", ["restore", "what was cut off"])
def test_a_stack_that_was_started_meanwhile_is_neither_restored_nor_stopped(
    whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    with Stack.somewhere(tmp_path / "home", programs=("mail",)) as other:
        runs, noted = other.supervisor, other.places.home / "restored" / "1"
        if what == "what was cut off":
            noted.mkdir(parents=True)
            restoring._begin(noted, {"services": ["enrolment"], "before": {"enrolment": "was"}, "secrets": []})
        before = sorted(path for path in other.places.home.rglob("*") if "logs" not in path.parts)
        monkeypatch.setattr(Stack, "here", lambda: Asked(other.places))
        with pytest.raises(Trouble, match="under way" if what == "what was cut off" else "was started meanwhile"):
            backup.restore(whole, yes=True)
        assert other.supervisor == runs
        assert sorted(path for path in other.places.home.rglob("*") if "logs" not in path.parts) == before


def test_no_backup_is_made_while_a_restore_is_under_way(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with Stack.somewhere(tmp_path / "home", programs=("mail",)) as other:
        monkeypatch.setattr(Stack, "here", lambda: other)
        noted = other.places.home / "restored" / "1"
        noted.mkdir(parents=True)
        restoring._begin(noted, {"services": ["enrolment"], "before": {}, "secrets": []})
        with pytest.raises(Trouble, match="A restore is under way"):
            backup.backup(tmp_path / "backup")
        assert not (tmp_path / "backup").exists()
