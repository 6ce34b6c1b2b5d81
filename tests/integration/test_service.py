"""A service as a process: it says what it needs, starts, keeps its workers up, and leaves when it is asked to."""

import asyncio
import json
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import anyio
import asyncpg
import pytest
from httpx2 import AsyncClient, ConnectError, HTTPError

from kit.database import connect
from kit.settings import Settings
from tests.delivery import Servers, until

pytestmark = pytest.mark.anyio


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        return int(taken.getsockname()[1])


@dataclass
class Process:
    child: asyncio.subprocess.Process
    asking: AsyncClient
    said: list[dict[str, Any]]

    async def ready(self) -> dict[str, Any]:
        async def told() -> Any:
            try:
                answer = await self.asking.get("/readyz")
            except HTTPError:
                assert self.child.returncode is None, self.said
                return None
            return answer.json() if answer.status_code == 200 else None

        found: dict[str, Any] = await until(told)
        return found

    async def ended(self, within_s: float = 20) -> int:
        async with asyncio.timeout(within_s):
            return await self.child.wait()

    @property
    def rss_kb(self) -> int:
        status = Path(f"/proc/{self.child.pid}/status").read_text()
        return int(status.partition("VmRSS:")[2].split()[0])


@dataclass
class World:
    settings: Settings
    environment: dict[str, str]

    async def run(self, *arguments: str, **changes: str) -> tuple[int, str]:
        """One command to its end: its exit code and what it said to people."""
        child = await self._start(arguments, changes, asyncio.subprocess.STDOUT)
        out, _ = await child.communicate()
        return child.returncode or 0, out.decode()

    async def _start(self, arguments: Any, changes: dict[str, str], errors: int) -> asyncio.subprocess.Process:
        return await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "tests.dummy", *arguments),
            env=self.environment | changes,
            stdout=asyncio.subprocess.PIPE,
            stderr=errors,
        )

    @asynccontextmanager
    async def serving(self, **changes: str) -> AsyncIterator[Process]:
        port = free_port()
        child = await self._start(["serve"], {"KURSNETT_HTTP_PORT": str(port)} | changes, asyncio.subprocess.STDOUT)
        said: list[dict[str, Any]] = []

        async def listen() -> None:
            assert child.stdout is not None
            while line := await child.stdout.readline():
                said.append(json.loads(line))

        listening = asyncio.create_task(listen())
        async with AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=30) as asking:
            try:
                yield Process(child, asking, said)
            finally:
                if child.returncode is None:
                    child.kill()
                await child.wait()
                await listening


@pytest.fixture
async def world(servers: Servers, tmp_path: Path) -> World:
    settings = await servers.database()
    environment = {
        "PATH": os.environ["PATH"],
        "KURSNETT_DATABASE_HOST": settings.database_host,
        "KURSNETT_DATABASE_PORT": str(settings.database_port),
        "KURSNETT_DATABASE_NAME": settings.database_name,
        "KURSNETT_DATABASE_USER": settings.database_user,
        "KURSNETT_DATABASE_PASSWORD": settings.database_password.get_secret_value(),
        "KURSNETT_KAFKA_BOOTSTRAP": settings.kafka_bootstrap,
        "KURSNETT_ISSUER": "http://issuer.test",
        "KURSNETT_ISSUER_KEYS_URL": "http://issuer.test/jwks",
        "DUMMY_MIGRATIONS": str(tmp_path / "dummy" / "migrations"),
    }
    folder = tmp_path / "dummy" / "migrations"
    folder.mkdir(parents=True)
    return World(settings, environment)


async def test_a_service_is_ready_once_its_servers_answer(world: World) -> None:
    async with world.serving() as process:
        told = await process.ready()
        assert told == {
            "service": "dummy",
            "ready": True,
            "checks": {"database": "ok", "broker": "ok", "relay": "ok"},
        }
        assert (await process.asking.get("/healthz")).status_code == 200
        assert "server" not in (await process.asking.get("/healthz")).headers


async def test_a_service_at_rest_takes_under_90_mb(world: World) -> None:
    async with world.serving() as process:
        await process.ready()
        assert process.rss_kb < 90_000


async def test_every_line_it_says_is_json(world: World) -> None:
    async with world.serving(KURSNETT_LOG_LEVEL="debug") as process:
        await process.ready()
        process.child.send_signal(signal.SIGTERM)
        assert await process.ended() == 0
    assert [line["event"] for line in process.said if line["module"] == "kit.service"] == [
        "service_started",
        "service_stopped",
    ]
    assert {line["service"] for line in process.said} == {"dummy"}


async def test_a_request_under_way_is_finished_before_the_end(world: World) -> None:
    async with world.serving() as process:
        await process.ready()
        slow = asyncio.create_task(process.asking.get("/slow/2"))
        await until(lambda: begun(process))
        process.child.send_signal(signal.SIGTERM)
        process.child.send_signal(signal.SIGTERM)  # a second one does no harm
        await until(lambda: refuses(process))
        process.child.send_signal(signal.SIGINT)
        assert (await slow).json() == "done"
        assert await process.ended() == 0


async def begun(process: Process) -> bool:
    return bool((await process.asking.get("/begun")).json())


async def refuses(process: Process) -> bool:
    async with AsyncClient(base_url=process.asking.base_url) as another:
        try:
            await another.get("/healthz")
        except ConnectError:
            return True
    return False


async def test_a_request_that_does_not_end_is_cut_off_in_time(world: World) -> None:
    async with world.serving() as process:
        await process.ready()
        endless = asyncio.create_task(process.asking.get("/slow/600"))
        await until(lambda: begun(process))
        process.child.send_signal(signal.SIGTERM)
        assert await process.ended(20) == 0
        answer = await endless
        assert answer.status_code == 503
        assert answer.json()["type"].endswith("/problems/outcome-unknown")


async def test_a_worker_that_fails_is_told_counted_and_started_again(world: World, tmp_path: Path) -> None:
    marks = tmp_path / "marks"
    async with world.serving(DUMMY_MARKS=str(marks)) as process:
        await process.ready()
        await until(lambda: has(marks, 4))
        assert 'kursnett_worker_restarts_total{worker="stumble"} 3.0' in (await process.asking.get("/metrics")).text
    told = [line for line in process.said if line["event"] == "worker_failed"]
    assert len(told) == 3
    assert told[0]["error"] == "RuntimeError"
    assert told[0]["at"][-1].endswith(" stumble")
    assert "example.no" not in json.dumps(process.said)


async def has(marks: Path, count: int) -> bool:
    return await anyio.Path(marks).exists() and (await anyio.Path(marks).stat()).st_size >= count


async def test_a_database_that_was_not_migrated_is_refused_with_the_mend(world: World) -> None:
    (Path(world.environment["DUMMY_MIGRATIONS"]) / "0001_dummy.sql").write_text("CREATE TABLE dummy (a integer);")
    code, said = await world.run("serve")
    assert (code, said) == (1, "The database lacks 0001_dummy.sql. Run: python -m services.dummy migrate\n")
    code, _ = await world.run("migrate")
    assert code == 0
    async with world.serving() as process:
        await process.ready()


async def test_a_taken_port_is_said_in_a_sentence(world: World) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        code, said = await world.run("serve", KURSNETT_HTTP_PORT=str(port))
    assert code == 1
    assert said == (
        f"Cannot listen on 127.0.0.1:{port} (Address already in use): free it, or set KURSNETT_HTTP_PORT.\n"
    )


async def test_a_missing_setting_is_said_in_a_sentence(world: World) -> None:
    code, said = await world.run("serve", KURSNETT_KAFKA_BOOTSTRAP="")
    assert code == 1
    assert said.startswith("KURSNETT_KAFKA_BOOTSTRAP is missing (")
    assert said.count("\n") == 1


@pytest.mark.parametrize(
    ("command", "setting", "value", "words"),
    [
        (
            "serve",
            "PASSWORD",
            "wrong",
            "The database does not let dummy in: check KURSNETT_DATABASE_USER and the secret",
        ),
        ("serve", "USER", "nobody", "The database does not let nobody in: check KURSNETT_DATABASE_USER and the secret"),
        (
            "serve",
            "NAME",
            "katalogue",
            "dummy cannot have the database katalogue: there is none. Check KURSNETT_DATABA",
        ),
        ("migrate", "NAME", "kat", "dummy cannot have the database kat: there is none. Check KURSNETT_DATABASE_NAME; "),
    ],
)
async def test_what_no_waiting_mends_is_said_at_once(
    world: World, command: str, setting: str, value: str, words: str
) -> None:
    async with asyncio.timeout(30):  # half of what it waits for a server that is still starting
        code, said = await world.run(command, **{f"KURSNETT_DATABASE_{setting}": value})
    assert code == 1
    assert said.replace(world.settings.database_user, "dummy").startswith(words)
    assert said.count("\n") == 1


async def test_a_database_that_is_closed_to_us_is_said_at_once(world: World, servers: Servers) -> None:
    stranger = f"stranger_{world.settings.database_name}"
    admin = await asyncpg.connect(servers.admin)
    try:
        await admin.execute(f"CREATE ROLE \"{stranger}\" LOGIN PASSWORD 'known'")
        await admin.execute(f'REVOKE CONNECT ON DATABASE "{world.settings.database_name}" FROM PUBLIC')
        login = {"KURSNETT_DATABASE_USER": stranger, "KURSNETT_DATABASE_PASSWORD": "known"}
        async with asyncio.timeout(30):
            code, said = await world.run("serve", **login)
    finally:
        await admin.execute(f'DROP ROLE "{stranger}"')
        await admin.close()
    assert (code, said.partition(". ")[0]) == (
        1,
        f"{stranger} cannot have the database {world.settings.database_name}: it may not connect to it",
    )


async def test_it_waits_for_a_server_that_is_not_there_yet(world: World) -> None:
    port = free_port()
    waiting = asyncio.create_task(world.run("migrate", KURSNETT_DATABASE_PORT=str(port)))

    async def forward(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        up_reader, up_writer = await asyncio.open_connection(world.settings.database_host, world.settings.database_port)
        await asyncio.gather(_copied(reader, up_writer), _copied(up_reader, writer))

    async def tried() -> bool:
        """Somebody has come and gone away again without an answer."""
        return refused.is_set()

    refused = asyncio.Event()

    async def shut(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        refused.set()
        writer.close()

    async with await asyncio.start_server(shut, "127.0.0.1", port):
        await until(tried)
    async with await asyncio.start_server(forward, "127.0.0.1", port):
        code, said = await waiting
    assert code == 0, said


async def _copied(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while piece := await reader.read(65_536):
        writer.write(piece)
        await writer.drain()
    writer.close()


async def test_it_is_not_ready_without_a_broker(world: World) -> None:
    async with world.serving(KURSNETT_KAFKA_BOOTSTRAP=f"127.0.0.1:{free_port()}") as process:

        async def told() -> Any:
            try:
                return await process.asking.get("/readyz")
            except HTTPError:
                return None

        answer = await until(told)
        assert answer.status_code == 503
        assert answer.json()["checks"]["broker"] == "no broker answers"
        process.child.send_signal(signal.SIGTERM)
        assert await process.ended() == 0


async def test_a_migration_that_meets_a_lock_says_so_and_goes_the_next_time(world: World) -> None:
    folder = Path(world.environment["DUMMY_MIGRATIONS"])
    (folder / "0001_more.sql").write_text("ALTER TABLE parked ADD COLUMN more int")
    settings = world.settings
    other = await connect(settings, "test")
    async with other.transaction():
        await other.execute("SELECT FROM parked FOR SHARE")
        await other.execute("LOCK TABLE parked IN ACCESS SHARE MODE")
        code, words = await world.run("migrate")
    await other.close()
    assert (code, words.strip().splitlines()[-1]) == (
        1,
        "dummy: 0001_more.sql was not applied (LockNotAvailableError), and nothing of it is half done. "
        "Look at what the database says, then run this again.",
    )
    code, words = await world.run("migrate")
    assert code == 0, words


async def test_a_migration_whose_connection_is_lost_says_so(world: World) -> None:
    folder = Path(world.environment["DUMMY_MIGRATIONS"])
    (folder / "0001_slow.sql").write_text("SELECT pg_sleep(60)")
    migrating = asyncio.create_task(world.run("migrate"))
    other = await connect(world.settings, "test")
    cut = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query LIKE '%pg_sleep(60)' AND datname = $1"
    await until(lambda: other.fetchval(cut, world.settings.database_name))
    await other.close()
    code, words = await migrating
    assert code == 1
    assert "Traceback" not in words
    assert "0001_slow.sql was not applied" in words


async def test_it_ends_in_time_although_its_database_hangs(world: World) -> None:
    """Each pool in turn would wait for its connections to be closed."""
    async with world.serving() as process:
        await process.ready()
        other = await connect(world.settings, "test")
        rows = await other.fetch(
            "SELECT pid FROM pg_stat_activity WHERE datname = $1 AND pid <> pg_backend_pid()",
            world.settings.database_name,
        )
        try:
            for row in rows:
                os.kill(row["pid"], signal.SIGSTOP)
            process.child.send_signal(signal.SIGTERM)
            assert await process.ended(within_s=20) == 0
        finally:
            for row in rows:
                os.kill(row["pid"], signal.SIGCONT)
            await other.close()
