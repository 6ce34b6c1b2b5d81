"""The local stack's servers, started for real: side by side, after a kill, from the other wheel, as nobody."""

import asyncio
import json
import os
import signal
import smtplib
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from email.message import EmailMessage
from pathlib import Path

import asyncpg
import httpx2
import psutil
import pytest
from pydantic import SecretStr

from deploy.local import leftovers, ports
from deploy.local.inquiry import answers, report
from deploy.local.issuer import LOGINS, tokens
from deploy.local.kafka import Kafka
from deploy.local.places import OFFSETS, PORTS_SPANNED, Places
from deploy.local.stack import Stack
from deploy.trouble import Trouble
from kit.auth import Keys
from kit.settings import Settings


def until(fact: Callable[[], bool], seconds: float = 20.0) -> None:
    give_up = time.monotonic() + seconds
    while not fact():
        assert time.monotonic() < give_up, "it did not come true in time"
        time.sleep(0.05)


def query(address: str, sql: str) -> object:
    async def ask() -> object:
        connection = await asyncpg.connect(address, timeout=5)
        try:
            return await connection.fetchval(sql)
        finally:
            await connection.close()

    return asyncio.run(ask())


def test_two_stacks_run_side_by_side_and_each_knows_its_own_servers(tmp_path: Path) -> None:
    with Stack.somewhere(tmp_path / "a", programs=("postgres", "mail")) as one:
        with Stack.somewhere(tmp_path / "b", programs=("postgres", "mail")) as other:
            assert asyncio.run(answers(one.places, one.programs)) == {"postgres": True, "mail": True}
            # What answers at the other's ports is well, but not ours.
            swapped = Places(one.places.home, other.places.base_port, other.places.gateway_port)
            assert asyncio.run(answers(swapped, one.programs)) == {"postgres": False, "mail": False}
        assert asyncio.run(answers(one.places, one.programs)) == {"postgres": True, "mail": True}


def test_data_outlives_a_supervisor_that_was_killed_and_nothing_is_left(tmp_path: Path) -> None:
    stack = Stack.somewhere(tmp_path / "home", programs=("postgres",))
    stack.start()
    admin, postgres = stack.places.database("admin"), stack.pids("postgres")[0]
    query(admin, "CREATE TABLE kept AS SELECT 7 AS number")
    supervisor = stack.supervisor
    assert supervisor is not None
    os.kill(supervisor, signal.SIGKILL)
    until(lambda: stack.supervisor is None)
    assert psutil.pid_exists(postgres)  # the control: there is something to clear away
    stack.stop()
    assert leftovers.find(stack.places.home) == []

    stack.start()
    assert query(admin, "SELECT number FROM kept") == 7
    assert stack.pids("postgres")[0] != postgres
    stack.stop()
    assert leftovers.find(stack.places.home) == []
    stack.reset()
    assert not stack.places.home.exists()


def test_a_server_that_is_killed_comes_back(tmp_path: Path) -> None:
    with Stack.somewhere(tmp_path / "home", programs=("postgres",)) as stack:
        first = stack.pids("postgres")[0]
        os.kill(first, signal.SIGKILL)
        until(lambda: stack.pids("postgres")[:1] not in ([], [first]))
        until(lambda: asyncio.run(answers(stack.places, ["postgres"]))["postgres"])


def test_the_stack_stops_when_its_starter_is_killed(tmp_path: Path) -> None:
    home = tmp_path / "home"
    code = (
        "import sys, time, pathlib; from deploy.local.stack import Stack;"
        "Stack.somewhere(pathlib.Path(sys.argv[1]), ('mail',)).start(); print('up', flush=True); time.sleep(60)"
    )
    starter = subprocess.Popen([sys.executable, "-c", code, str(home)], stdout=subprocess.PIPE, text=True)
    assert starter.stdout is not None
    with starter.stdout as out:
        assert out.readline() == "up\n"
        starter.kill()
        starter.wait()
    until(lambda: Stack(Places(home)).supervisor is None)
    until(lambda: leftovers.find(home) == [])


@pytest.mark.parametrize("source", ["embedded", "pixeltable"])
def test_either_wheel_gives_the_same_postgresql(source: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KURSNETT_POSTGRES", source)
    with Stack.somewhere(tmp_path / "home", programs=("postgres",)) as stack:
        admin = stack.places.database("admin")
        binary = psutil.Process(stack.pids("postgres")[0]).exe()
        assert source in binary or source in Path(binary).resolve().parts or "binaries" in binary
        assert str(query(admin, "SHOW server_version")).startswith("18.")
        assert (
            query(admin, "SELECT datlocprovider::text || datlocale FROM pg_database WHERE datname = 'catalogue'")
            == "bC.UTF-8"
        )
        assert query(admin, "SHOW fsync") == "on"
        if os.geteuid() == 0:
            assert psutil.Process(stack.pids("postgres")[0]).username() == "nobody"
    Stack(stack.places).reset()


def test_no_service_gets_into_anothers_database(tmp_path: Path) -> None:
    with Stack.somewhere(tmp_path / "home", programs=("postgres",)) as stack:
        own = stack.places.database("catalogue")
        assert query(own, "SELECT current_user") == "catalogue"
        for other in ("enrolment", "notifier", "postgres"):
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                query(own.removesuffix("catalogue") + other, "SELECT 1")
        with pytest.raises(asyncpg.InvalidPasswordError):
            query(own.replace(stack.places.secret("postgres/catalogue_password"), "wrong"), "SELECT 1")


def test_kafka_is_the_one_that_was_formatted_here(tmp_path: Path) -> None:
    with Stack.somewhere(tmp_path / "home", programs=("kafka",)) as stack:
        kafka = Kafka(stack.places)
        assert asyncio.run(kafka.identified())
        assert asyncio.run(report(stack))["partner_kafka"] == stack.places.address("kafka-partners")
        assert not ports.free(stack.places.port("kafka-partners"))
        (kafka.folder / "cluster.id").write_text("somebody-elses-id-xx")
        assert not asyncio.run(kafka.identified())


def test_a_stack_in_a_folder_with_letters_and_spaces_keeps_its_data(tmp_path: Path) -> None:
    home = tmp_path / "en mappe på æøå"
    names = ("postgres", "kafka")
    with Stack.somewhere(home, programs=names) as stack:
        identity = Kafka(stack.places).cluster_id
        assert (home / "kafka" / "data" / "meta.properties").exists()  # and not in a folder of a mangled name
        stack.stop()
        stack.start()
        assert Kafka(stack.places).cluster_id == identity
        assert asyncio.run(answers(stack.places, names)) == {"postgres": True, "kafka": True}
    assert [path.name for path in tmp_path.iterdir()] == [home.name]


def test_up_on_a_taken_port_says_so_and_leaves_nothing_behind(tmp_path: Path) -> None:
    base = ports.open_block()
    home = tmp_path / "home"
    environment = {
        **os.environ,
        "KURSNETT_HOME": str(home),
        "KURSNETT_BASE_PORT": str(base),
        "KURSNETT_PORT": str(base + PORTS_SPANNED),
    }
    with socket.socket() as other:
        other.bind(("127.0.0.1", base + OFFSETS["enrolment"]))
        other.listen()
        told = subprocess.run(
            [sys.executable, "-m", "deploy.cli", "up"], env=environment, capture_output=True, text=True, timeout=60
        )
    assert told.returncode == 1
    assert f"Port {base + OFFSETS['enrolment']} (for enrolment) is taken by {psutil.Process().name()}" in told.stderr
    assert "KURSNETT_BASE_PORT=" in told.stderr
    assert leftovers.find(home) == []


def test_a_token_says_what_was_asked_and_a_service_believes_it(tmp_path: Path) -> None:
    with Stack.somewhere(tmp_path / "home", programs=("issuer",)) as stack:
        learner, partner, operator = asyncio.run(tokens(stack.places, list(LOGINS.values())))
        settings = Settings(
            database_name="x",
            database_user="x",
            database_password=SecretStr("x"),
            kafka_bootstrap="127.0.0.1:1",
            issuer=stack.places.issuer,
            issuer_keys_url=f"{stack.places.issuer}/jwks",
            trust_role_claims=True,
        )

        async def callers() -> list[tuple[str, str, str | None]]:
            keys = Keys(settings)
            told = [await keys.caller(token) for token in (learner, partner, operator)]
            return [(one.subject, one.role, one.partner) for one in told]

        assert asyncio.run(callers()) == [
            ("kari", "learner", None),
            ("torgar", "learner", "torgar"),
            ("drift", "operator", None),
        ]
        form = httpx2.get(
            f"{stack.places.issuer}/authorize",
            params={
                "response_type": "code",
                "client_id": "web",
                "redirect_uri": "http://localhost/x",
                "scope": "openid",
            },
        )
        assert "Development log-in" in form.text


def test_a_mail_is_caught_and_shown(tmp_path: Path) -> None:
    with Stack.somewhere(tmp_path / "home", programs=("mail",)) as stack:
        message = EmailMessage()
        message["From"], message["To"], message["Subject"] = "a@example.org", "kari@example.org", "Plass på kurset"
        message.set_content("Hei\n.\n")
        with smtplib.SMTP("127.0.0.1", stack.places.port("smtp")) as smtp:
            smtp.send_message(message)
        caught = httpx2.get(f"http://{stack.places.address('mail')}/api/v1/messages").json()["messages"]
        assert [(one["Subject"], one["To"][0]["Address"]) for one in caught] == [
            ("Plass på kurset", "kari@example.org")
        ]
        told = asyncio.run(report(stack))
        assert told["ready"]
        assert json.dumps(told)  # all of it can be said as JSON
        with pytest.raises(Trouble, match="smtp"):
            Stack(Places(tmp_path / "second", stack.places.base_port), programs=("mail",)).start()
