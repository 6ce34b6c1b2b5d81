"""A backup of live databases is put back whole, or what was there stays."""

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from deploy.local import backups, restoring
from deploy.local.backups import MANIFEST, Backup
from deploy.local.places import SERVICES, Places
from deploy.local.restoring import Done
from deploy.local.service import command
from deploy.local.stack import Stack
from deploy.trouble import Trouble

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(240)]  # a score of commands, each a process of its own

MARK = "INSERT INTO outbox_sequence VALUES ('mark/1', 1, 1)"
MARKED = "SELECT count(*) FROM outbox_sequence WHERE aggregate = 'mark/1'"
NAMES = "SELECT datname FROM pg_database WHERE NOT datistemplate ORDER BY datname"
# The database as it was before the kit's last migration.
LAST = 6
OLDER = f"""
    DELETE FROM migrations WHERE folder = 'kit' AND number = {LAST};
    ALTER TABLE parked DROP COLUMN said_at_latest;
    DROP FUNCTION said_at_latest;
"""


@dataclass
class Servers:
    """PostgreSQL and Kafka of a stack whose services stand still, each with its tables."""

    places: Places
    folder: Path

    async def ask(self, service: str, query: str) -> list[Any]:
        conn = await asyncpg.connect(self.places.database(service))
        try:
            return [row[0] for row in await conn.fetch(query)]
        finally:
            await conn.close()

    async def tell(self, service: str, statements: str) -> None:
        conn = await asyncpg.connect(self.places.database(service))
        await conn.execute(statements)
        await conn.close()

    async def backup(self) -> Backup:
        return await asyncio.to_thread(backups.write, self.places, self.folder, lambda text: None)

    async def restore(self, backup: Backup, stamp: str) -> Done:
        note = self.places.home / "restored" / stamp / "lost.json"
        note.parent.mkdir(parents=True)
        return await restoring.restore(self.places, backup, SERVICES, stamp, note, lambda text: None)


@pytest.fixture
async def servers(tmp_path: Path) -> AsyncIterator[Servers]:
    with Stack.somewhere(tmp_path / "home", programs=("postgres", "kafka")) as stack:
        await asyncio.gather(*(command(stack.places, service, "migrate") for service in SERVICES))
        yield Servers(stack.places, tmp_path / "backup")


async def test_databases_are_put_back_or_all_stays(servers: Servers, monkeypatch: pytest.MonkeyPatch) -> None:
    await servers.tell("enrolment", OLDER)
    backup = await servers.backup()
    assert backup.migrations["enrolment"]["kit"] == LAST - 1
    await servers.tell("enrolment", MARK)
    names = await servers.ask("admin", NAMES)

    # Nothing of a dump that does not load, though it is what was written.
    sound = backup.dump("notifier").read_bytes()
    spoil(backup, "notifier.dump", sound[: len(sound) // 2])
    with pytest.raises(Trouble, match="notifier: "):
        await servers.restore(backups.read(servers.folder), "1")
    spoil(backup, "notifier.dump", sound)
    assert await servers.ask("enrolment", MARKED) == [1]

    async def fails(places: Places, service: str, *arguments: str, **how: Any) -> str:
        if (service, arguments[0]) == ("notifier", "restored"):
            raise Trouble("The broker does not answer.")
        return "1" if arguments[0] == "epoch" else '{"lost": []}'

    # All were loaded, and one of them does not know from where to speak on.
    with monkeypatch.context() as broken:
        broken.setattr(restoring, "command", fails)
        with pytest.raises(Trouble, match="The broker does not answer"):
            await servers.restore(backup, "2")
    assert await servers.ask("enrolment", MARKED) == [1]
    assert await servers.ask("enrolment", "SELECT number FROM epoch") == [1]
    assert await servers.ask("admin", NAMES) == names

    # The same, and it is killed before it can take anything back.
    async def killed(*_: Any) -> None:
        """Nothing is done any more."""

    with monkeypatch.context() as broken:
        broken.setattr(restoring, "command", fails)
        broken.setattr(restoring, "take_back", killed)
        with pytest.raises(Trouble, match="The broker does not answer"):
            await servers.restore(backup, "2-killed")
    assert await servers.ask("enrolment", MARKED) == [0]
    [folder] = restoring.cut_off(servers.places)
    await restoring.take_back(servers.places, folder)
    assert await servers.ask("enrolment", MARKED) == [1]
    assert await servers.ask("admin", NAMES) == names
    assert restoring.cut_off(servers.places) == []

    await servers.tell("admin", "DROP DATABASE catalogue")
    with pytest.raises(Trouble, match="The databases do not answer"):
        await asyncio.to_thread(backups.write, servers.places, servers.folder.with_name("other"), lambda text: None)
    assert not servers.folder.with_name("other").exists()
    done = await servers.restore(backup, "3")
    assert done.lost == []
    assert done.kept == {"enrolment": "enrolment_before_3", "notifier": "notifier_before_3"}
    assert set(await servers.ask("admin", NAMES)) == {*names, *done.kept.values()}
    for service in SERVICES:
        assert await servers.ask(service, "SELECT number FROM epoch") == [2]
        assert await servers.ask(service, "SELECT max(number) FROM migrations WHERE folder = 'kit'") == [LAST]
    assert await servers.ask("enrolment", MARKED) == [0]
    before = servers.places.database("enrolment").rpartition("/")[0] + "/enrolment_before_3"
    conn = await asyncpg.connect(before)  # its role may read what was there
    assert await conn.fetchval(MARKED) == 1
    await conn.close()


def spoil(backup: Backup, name: str, content: bytes) -> None:
    """Other bytes, which the list says are right."""
    (backup.folder / name).write_bytes(content)
    told = json.loads((backup.folder / MANIFEST).read_text())
    told["files"][name] = {"bytes": len(content), "sha256": backups._sha256(backup.folder / name)}
    (backup.folder / MANIFEST).write_text(json.dumps(told))
