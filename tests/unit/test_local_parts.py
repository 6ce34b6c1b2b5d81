"""The parts of the local stack that need no server: ports, archives, secrets, settings, the mail box."""

import errno
import fcntl
import hashlib
import io
import json
import os
import shutil
import socket
import stat
import sys
import threading
import time
from email.message import EmailMessage
from pathlib import Path
from types import SimpleNamespace

import pytest
from rich.console import Console
from starlette.testclient import TestClient

from deploy import secrets
from deploy.commands import stack as commands
from deploy.local import jars, ports
from deploy.local.display import Progress, next_steps
from deploy.local.kafka import escaped
from deploy.local.mail import Box, application
from deploy.local.places import Places, cache
from deploy.local.postgres import Postgres
from deploy.local.stack import Stack
from deploy.trouble import Trouble, refused
from kit import passes
from kit.auth import Caller
from kit.sealing import seal, unseal


def test_a_taken_port_is_told_with_its_owner_and_the_way_round_it(tmp_path: Path) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        places = Places(tmp_path, gateway_port=other.getsockname()[1])
        with pytest.raises(Trouble) as told:
            ports.require_free(places, ["gateway"])
    ours = f"(process {os.getpid()})"
    assert f"Port {places.gateway_port} (for gateway) is taken by " in told.value.what
    assert ours in told.value.what
    assert "KURSNETT_PORT=" in told.value.mend
    ports.require_free(places, ["gateway"])  # the control: free again


def test_a_port_that_another_has_on_ipv6_alone_is_taken(tmp_path: Path) -> None:
    with socket.socket(socket.AF_INET6) as other:
        other.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        other.bind(("::1", 0))
        other.listen()
        port = other.getsockname()[1]
        assert not ports.free(port)  # a browser that is sent to `localhost` would meet the other
    assert ports.free(port)


def test_the_way_round_a_taken_port_leads_to_a_free_one(tmp_path: Path) -> None:
    base = ports.open_block()
    with socket.socket() as one, socket.socket() as next_one:
        for number, listener in ((base, one), (base + 1, next_one)):
            listener.bind(("127.0.0.1", number))
            listener.listen()
        with pytest.raises(Trouble, match=rf"KURSNETT_PORT={base + 2} make up"):
            ports.require_free(Places(tmp_path, gateway_port=base), ["gateway"])


def test_a_full_disk_is_told_before_the_start_and_as_the_cause_of_whatever_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stack = Stack.somewhere(tmp_path / "home", programs=("mail",))
    trouble = Trouble("mail does not start.", "See its log.")
    assert stack.explained(trouble) is trouble  # the control: with room, it is what it says
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(total=10**9, used=0, free=10**7))
    with pytest.raises(Trouble, match="10 MB left"):
        stack.start()
    assert stack.supervisor is None
    assert "is full" in str(stack.explained(trouble))


def test_a_reset_takes_along_the_note_that_the_demo_data_is_there_and_nothing_of_others(tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    (home / "demo").touch()
    (home / "mine").touch()
    Stack(Places(home)).reset()
    assert [path.name for path in home.iterdir()] == ["mine"]


def test_what_to_do_next_begins_with_the_path_where_kursnett_is_not_on_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    places = Places(tmp_path, gateway_port=8099)
    folder = Path(sys.executable).parent
    monkeypatch.setenv("PATH", str(tmp_path))
    assert next_steps(places)["To have kursnett"] == f'PATH="{folder}:$PATH"'
    monkeypatch.setenv("PATH", str(folder))
    assert "To have kursnett" not in next_steps(places)
    assert next_steps(places)["Find a course"].split()[0] == "http://localhost:8099/"


@pytest.mark.parametrize(("phase", "lines"), [("starting", 1), ("ready", 0)])
def test_a_stack_that_runs_already_has_no_progress_to_tell(phase: str, lines: int) -> None:
    said = io.StringIO()
    with Progress(Console(file=said)) as progress:
        program = {"state": "ready", "text": "", "ready_seconds": 2.1}
        progress.show({"phase": phase, "began": time.time() - 3600, "programs": {"postgres": program}})
    assert len(said.getvalue().splitlines()) == lines


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (PermissionError(errno.EACCES, "Permission denied", "/x/lock"), "You may not use /x/lock."),
        (OSError(errno.EROFS, "Read-only file system", "/x/lock"), "/x/lock is on a disk that is read-only."),
        (OSError(errno.ENOSPC, "No space left on device"), "The disk is full"),
        (NotADirectoryError(errno.ENOTDIR, "Not a directory", "/x/logs"), "/x/logs is no folder, or lies in a file."),
        (FileExistsError(errno.EEXIST, "File exists", "/x/logs"), "/x/logs is no folder, or lies in a file."),
    ],
)
def test_what_the_system_refuses_is_said_with_its_mend(error: OSError, told: str) -> None:
    trouble = refused(error)
    assert trouble is not None
    assert told in trouble.what
    assert "KURSNETT_HOME" in trouble.mend
    assert refused(ConnectionResetError()) is None


def test_a_java_properties_file_keeps_every_letter_of_a_path() -> None:
    assert escaped(r"/hjem/bjørn\x/é😀") == r"/hjem/bj\u00f8rn\\x/\u00e9\ud83d\ude00"


def outside(home: Path) -> Postgres:
    postgres = Postgres(Places(home))
    postgres.user = (os.geteuid(), os.getegid())
    postgres._claim()
    return postgres


def test_a_database_outside_its_stack_is_found_again_and_never_met_by_a_new_stack(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    elsewhere = tmp_path / "var"
    elsewhere.mkdir()
    monkeypatch.setattr("deploy.local.postgres.OUTSIDE", elsewhere)
    monkeypatch.setattr("deploy.local.postgres.reachable", lambda path: False)
    home, other = tmp_path / "home", tmp_path / "other"
    for one in (home, other):
        one.mkdir()
        data = outside(one).data
        data.mkdir()
        assert outside(one).data == data
        assert data.exists()  # the control: as long as the note is there, the data is
    assert len(list(elsewhere.iterdir())) == 2

    shutil.rmtree(home)  # by hand, instead of `kursnett reset`
    home.mkdir()
    assert not outside(home).data.exists()
    assert outside(other).data.exists()

    shutil.rmtree(home)  # and never started again: the next stack of this machine clears it away
    outside(other)
    assert [path.name for path in elsewhere.iterdir()] == [outside(other).folder.name]


@pytest.mark.parametrize("value", ["", "80", "99999", "abc", "-1", "١٨٠٠٠"])
def test_a_wrong_port_is_refused_by_name(value: str) -> None:
    if not value:
        assert Places.from_environment({"KURSNETT_PORT": value}).gateway_port == 8080
        return
    with pytest.raises(Trouble, match="KURSNETT_PORT"):
        Places.from_environment({"KURSNETT_PORT": value})


def test_an_archive_with_another_hash_is_not_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KURSNETT_CACHE", str(tmp_path))
    jar = jars.Jar("org.example:thing:1", hashlib.sha256(b"right").hexdigest())
    monkeypatch.setattr(jars, "listed", lambda program: [jar])
    folder = tmp_path / "jars"
    folder.mkdir()
    (folder / jar.file).write_bytes(b"right")
    assert jars.class_path("kafka") == str(folder / jar.file)
    (folder / jar.file).write_bytes(b"wrong")
    with pytest.raises(Trouble, match=r"is not the org.example:thing:1"):
        jars.class_path("kafka")


def test_a_download_that_is_not_the_listed_one_never_gets_into_the_cache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KURSNETT_CACHE", str(tmp_path))
    good = jars.Jar("org.example:good:1", hashlib.sha256(b"good").hexdigest())
    bad = jars.Jar("org.example:bad:1", hashlib.sha256(b"bad").hexdigest())
    monkeypatch.setattr(jars, "listed", lambda program: [good, bad])

    def network(coordinate: str, staging: Path) -> Path:
        path = staging / coordinate.replace(":", "-")
        path.write_bytes(b"good" if "good" in coordinate else b"forged")
        return path

    monkeypatch.setattr(jars, "_download", network)
    with pytest.raises(Trouble, match=r"org.example:bad:1 is not what"):
        jars.class_path("kafka")
    assert [path.name for path in (tmp_path / "jars").iterdir()] == [good.file]  # and the whole one need not come again


def test_no_network_is_told_in_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def network(coordinate: str, staging: Path) -> Path:
        raise ConnectionError("Max retries exceeded with url …")

    monkeypatch.setenv("KURSNETT_CACHE", str(tmp_path))
    monkeypatch.setattr(jars, "_download", network)
    with pytest.raises(Trouble, match=r"could not be fetched.*run the same command again"):
        jars.class_path("kafka")


def test_every_archive_is_listed_once_with_its_hash() -> None:
    for program in jars.ENDPOINTS:
        listed = jars.listed(program)
        assert len({jar.file for jar in listed}) == len(listed) > 40
        assert all(len(jar.sha256) == 64 for jar in listed)
    assert "org.apache.kafka:kafka-clients:4.3.1" in {jar.coordinate for jar in jars.listed("kafka")}


def test_secrets_are_made_once_and_only_their_owner_reads_them(tmp_path: Path) -> None:
    assert len(secrets.make(tmp_path)) == 14
    before = {path: path.read_text() for path in tmp_path.glob("*/*")}
    assert secrets.make(tmp_path) == []
    assert {path: path.read_text() for path in tmp_path.glob("*/*")} == before
    assert {stat.S_IMODE(path.stat().st_mode) for path in before} == {0o400}
    public = (tmp_path / "enrolment" / "contact_public_key").read_text()
    private = (tmp_path / "notifier" / "contact_private_key").read_text()
    assert unseal(private, seal(public, {"email": "kari@example.org"})) == {"email": "kari@example.org"}
    assert "d" not in json.loads(public)["keys"][0]
    passwords = [text for path, text in before.items() if path.parent.name == "postgres"]
    assert len(set(passwords)) == 4
    visitor = passes.Visitor(Caller("https://issuer.example", "kari"), "token")
    signed = passes.sign((tmp_path / "enrolment" / "pass_private_key").read_text(), visitor)
    for service in secrets.SERVICES:
        public = (tmp_path / service / "pass_public_key").read_text()
        assert "d" not in json.loads(public)
        assert passes.read(public, signed) == visitor


def test_a_lost_public_key_comes_back_and_a_lost_private_one_takes_it_along(tmp_path: Path) -> None:
    secrets.make(tmp_path)
    public, private = tmp_path / "enrolment" / "contact_public_key", tmp_path / "notifier" / "contact_private_key"
    first = public.read_text()
    public.unlink()
    secrets.make(tmp_path)
    assert public.read_text() == first
    private.unlink()
    secrets.make(tmp_path)
    assert public.read_text() != first
    for service in ("catalogue", "enrolment"):
        written = (tmp_path / service / "contact_public_key").read_text()
        assert secrets.public_half(private.read_text()) == written


@pytest.mark.parametrize("lost", ["postgres/catalogue_password", "catalogue/database_password"])
def test_a_lost_copy_of_a_password_comes_back_as_it_was(tmp_path: Path, lost: str) -> None:
    """Red control: the server was given a new one, and let the service in no more."""
    secrets.make(tmp_path)
    first = (tmp_path / lost).read_text()
    (tmp_path / lost).unlink()
    assert secrets.make(tmp_path) == [lost]
    assert (tmp_path / lost).read_text() == first


DAMAGED = {
    "a key without a byte": ("notifier/contact_private_key", ""),
    "half a key": ("notifier/contact_private_key", '{"keys": [{"kty": "O'),
    "half a pass key": ("enrolment/pass_private_key", '{"kty'),
    "no key": ("notifier/contact_private_key", "[]"),
    "a pass key of another form": ("enrolment/pass_private_key", '"x"'),
    "a password without a letter": ("postgres/admin_password", " \n"),
    "a service's own copy of it": ("catalogue/database_password", ""),
    "no text": ("notifier/contact_private_key", "\udcff"),
}


@pytest.mark.parametrize("what", DAMAGED)
def test_a_damaged_secret_is_named_before_anything_starts(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], what: str
) -> None:
    """As after a power cut. Red control: a traceback in a log, or two minutes of a server that lets nobody in."""
    stack = Stack.somewhere(tmp_path / "home", programs=("mail",))
    secrets.make(stack.places.secrets)
    name, text = DAMAGED[what]
    path = stack.places.secrets / name
    path.chmod(0o600)
    path.write_text(text, errors="surrogateescape")
    try:
        with pytest.raises(Trouble) as told:
            stack.start()
    finally:
        stack.stop()
    assert told.value.what == f"The secret {path} is damaged."
    assert "kursnett reset" in told.value.mend
    assert secrets.main([str(stack.places.secrets)]) == 1
    assert capsys.readouterr().err.startswith(f"The secret {path} is damaged. Put it back")
    assert path.read_text(errors="surrogateescape") == text, "it is left as it was: maybe it can be mended"


def letter(subject: str) -> bytes:
    message = EmailMessage()
    message["From"] = "Kursnett <kursnett@example.org>"
    message["To"] = "Kari Nordmann <kari@example.org>"
    message["Subject"] = subject
    message["Message-ID"] = f"<{len(subject)}@example.org>"
    message.set_content("Du har fått plass.\n")
    message.add_alternative('<html lang="nb"><p>Du har fått plass.</p></html>', subtype="html")
    return message.as_bytes()


def test_the_mail_page_speaks_mailpits_words() -> None:
    box = Box()
    for number in range(60):
        box.add("kursnett@example.org", ["kari@example.org"], letter(f"søknad-{number}"))
    web = TestClient(application(box))
    listed = web.get("/api/v1/messages", params={"limit": 2}).json()
    assert (listed["total"], [one["Subject"] for one in listed["messages"]]) == (60, ["søknad-59", "søknad-58"])
    newest = listed["messages"][0]
    assert newest["To"] == [{"Name": "Kari Nordmann", "Address": "kari@example.org"}]
    assert newest["From"]["Address"] == "kursnett@example.org"
    raw = web.get(f"/api/v1/message/{newest['ID']}/raw")
    assert b"Message-ID: <9@example.org>" in raw.content
    assert newest["MessageID"] == "9@example.org"
    shown = web.get(f"/api/v1/message/{newest['ID']}").json()
    assert shown["Text"].strip() == "Du har fått plass."
    assert 'lang="nb"' in shown["HTML"]
    assert "søknad-59" in web.get("/").text
    assert "Du har fått plass." in web.get(f"/view/{newest['ID']}").text
    assert web.get("/api/v1/message/99999999/raw").status_code == 404
    assert web.delete("/api/v1/messages").status_code == 200
    assert web.get("/api/v1/messages").json()["total"] == 0


def test_the_mail_box_keeps_the_newest_and_even_what_is_no_mail() -> None:
    box = Box(kept=3)
    for raw in (b"", b"\xff\xfe\x00 no mail", b"Subject: =?utf-8?b?broken\r\n\r\n", b"To: a@b.no, c@d.no\r\n\r\nx"):
        box.add("a@example.org", ["b@example.org"], raw)
    assert len(box) == 3
    web = TestClient(application(box))
    for mail in web.get("/api/v1/messages").json()["messages"]:
        assert web.get(f"/api/v1/message/{mail['ID']}").status_code == 200
        assert web.get(f"/view/{mail['ID']}").status_code == 200


@pytest.mark.parametrize("written", ["", "{", "[]"])
def test_a_state_that_a_power_cut_has_left_half_is_as_none(tmp_path: Path, written: str) -> None:
    stack = Stack(Places(tmp_path))
    stack.places.state.write_text(written)
    assert stack.state() == {}


def test_who_looks_whether_a_stack_runs_is_not_taken_for_its_supervisor(tmp_path: Path) -> None:
    stack = Stack(Places(tmp_path))
    stack.places.lock.write_text("1")  # of a supervisor that is gone
    looks: set[int | None] = set()

    def look() -> None:
        for _ in range(3000):
            looks.add(stack.supervisor)

    others = [threading.Thread(target=look) for _ in range(3)]
    for one in others:
        one.start()
    for one in others:
        one.join()
    assert looks == {None}


def test_a_supervisor_waits_for_who_looks_whether_it_runs(tmp_path: Path) -> None:
    stack = Stack.somewhere(tmp_path / "home", programs=("mail",))
    stack.places.home.mkdir()
    with stack.places.lock.open("a+") as looking:
        fcntl.flock(looking, fcntl.LOCK_SH)
        release = threading.Timer(0.8, lambda: fcntl.flock(looking, fcntl.LOCK_UN))
        release.start()
        with stack:
            assert stack.supervisor is not None
        release.join()


def test_a_gateway_among_the_servers_ports_is_refused() -> None:
    Places.from_environment({"KURSNETT_PORT": "18007"})
    with pytest.raises(Trouble, match="KURSNETT_PORT is 18001, which is kafka's"):
        Places.from_environment({"KURSNETT_PORT": "18001"})
    with pytest.raises(Trouble, match="KURSNETT_PORT is 8080, which is notifier's"):
        Places.from_environment({"KURSNETT_BASE_PORT": "8068"})


def test_a_folder_that_kafka_or_java_would_take_for_two_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(Trouble, match="holds a comma"):
        Places.from_environment({"KURSNETT_HOME": str(tmp_path / "a,b")})
    monkeypatch.setenv("KURSNETT_CACHE", str(tmp_path / "a:b"))
    with pytest.raises(Trouble, match="holds a colon"):
        cache()


def test_the_status_of_a_stack_in_its_first_moment_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("KURSNETT_HOME", str(tmp_path))
    with Places(tmp_path).lock.open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        assert commands.status() == 1
        assert commands.status(as_json=True) == 0


@pytest.mark.parametrize("lost", ["admin", "catalogue"])
def test_the_status_is_told_where_a_password_is_lost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], lost: str
) -> None:
    monkeypatch.setenv("KURSNETT_HOME", str(tmp_path))
    secrets.make(tmp_path / "secrets")
    (tmp_path / "secrets" / "postgres" / f"{lost}_password").unlink()
    assert commands.status(as_json=True) == 0
    told = json.loads(capsys.readouterr().out)["postgres"]
    assert set(told) == {"catalogue", "enrolment", "notifier", "admin"} - {lost}
