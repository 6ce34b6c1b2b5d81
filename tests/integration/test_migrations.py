"""A database gets each migration once, and a changed or unknown one is refused with a sentence."""

import asyncio
import uuid
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from kit import migrations
from kit.database import connect
from kit.settings import Settings
from tests.delivery import Servers

pytestmark = pytest.mark.anyio


@pytest.fixture
async def empty(servers: Servers) -> Settings:
    name = f"test_{uuid.uuid4().hex}"
    admin = await asyncpg.connect(servers.admin)
    await admin.execute(f'CREATE DATABASE "{name}"')
    await admin.close()
    return servers.settings(name)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "demo" / "migrations"
    made.mkdir(parents=True)
    (made / "0001_first.sql").write_text("CREATE TABLE first (id int)")
    return made


async def test_four_replicas_migrate_at_once_and_each_file_runs_once(empty: Settings, folder: Path) -> None:
    async def replica() -> list[Any]:
        conn = await connect(empty, "migrate")
        try:
            return await migrations.migrate(conn, [migrations.KIT, folder])
        finally:
            await conn.close()

    applied = await asyncio.gather(*(replica() for _ in range(4)))
    assert sorted(len(one) for one in applied) == [0, 0, 0, len(migrations.read(migrations.KIT)) + 1]


async def test_an_edited_migration_is_refused_by_name(empty: Settings, folder: Path) -> None:
    conn = await connect(empty, "migrate")
    await migrations.migrate(conn, [folder])
    (folder / "0001_first.sql").write_text("CREATE TABLE first (id bigint)")
    with pytest.raises(migrations.MigrationError, match=r"0001_first.sql was changed"):
        await migrations.migrate(conn, [folder])
    await conn.close()


async def test_a_newer_database_is_refused(empty: Settings, folder: Path) -> None:
    conn = await connect(empty, "migrate")
    (folder / "0002_second.sql").write_text("CREATE TABLE second (id int)")
    await migrations.migrate(conn, [folder])
    (folder / "0002_second.sql").unlink()
    with pytest.raises(migrations.MigrationError, match="newer version"):
        await migrations.pending(conn, [folder])
    await conn.close()


async def test_a_failing_migration_leaves_nothing_behind(empty: Settings, folder: Path) -> None:
    conn = await connect(empty, "migrate")
    (folder / "0002_second.sql").write_text("CREATE TABLE second (id int); SELECT 1/0")
    with pytest.raises(migrations.MigrationError, match=r"0002_second\.sql was not applied \(DivisionByZeroError\)"):
        await migrations.migrate(conn, [folder])
    assert await conn.fetchval("SELECT to_regclass('second')") is None
    assert await conn.fetchval("SELECT to_regclass('first')") is not None
    await conn.close()


def test_a_gap_in_the_numbers_is_refused(folder: Path) -> None:
    (folder / "0003_third.sql").write_text("SELECT 1")
    with pytest.raises(migrations.MigrationError, match="without gaps"):
        migrations.read(folder)


async def test_who_looks_at_a_new_database_meets_nobody_who_looks_too(empty: Settings, folder: Path) -> None:
    conns = [await connect(empty, "migrate") for _ in range(20)]
    try:
        missing = await asyncio.gather(*(migrations.pending(conn, [migrations.KIT, folder]) for conn in conns))
        assert {len(one) for one in missing} == {len(migrations.read(migrations.KIT)) + 1}
    finally:
        for conn in conns:
            await conn.close()
