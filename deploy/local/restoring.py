"""Puts databases back from a backup: beside what is there first, and in its place only when all of them are whole."""

import asyncio
import contextlib
import json
import os
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import asyncpg

from deploy.local import backups
from deploy.local.backups import Backup, Say
from deploy.local.places import SERVICES, Places
from deploy.local.service import command, together
from deploy.trouble import Trouble

SECONDS = 1200.0  # each step: two weeks of topics are read, maybe on a machine that has much else to do
UNFINISHED = "unfinished.json"
OUTBOX = "SELECT to_regclass('public.outbox') IS NOT NULL AND to_regclass('public.epoch') IS NOT NULL"


@dataclass
class Done:
    """What a restore has done. `kept`: service -> the database that was there before, where there was one."""

    kept: dict[str, str] = field(default_factory=dict)
    services: dict[str, dict[str, Any]] = field(default_factory=dict)

    @property
    def lost(self) -> list[dict[str, Any]]:
        return [{"service": name, **one} for name, told in self.services.items() for one in told["lost"]]


async def restore(
    places: Places,
    backup: Backup,
    services: Sequence[str],
    stamp: str,
    note: Path,
    say: Say,
    secrets: Sequence[str] = (),
) -> Done:
    """Restore these services' databases, and these secrets, while no service runs.

    `note` is where the list of what is lost is kept; secrets that were there go beside it. Raises Trouble; all that was
    there is in its place then.
    """
    done, folder = Done(), note.parent
    there = {service: await _there(places, service) for service in services}
    before = {one: f"{one}_before_{stamp}" for one in services if there[one] != "none"}
    _begin(folder, {"services": list(services), "before": before, "secrets": list(secrets)})
    try:
        backups.bring_secrets(places, backup, secrets, folder / "secrets")
        for service in services:
            say(f"{service}: being loaded …")
            await _draft(places, service)
            await asyncio.to_thread(backups.load, places, service, backup.dump(service), _name(service))
        await _rename(places, [*before.items(), *((_name(one), one) for one in services)])
        say("epochs are raised, and what is to be heard again is looked up …")
        kept = {service: name for service, name in before.items() if there[service] == "whole"}
        steps = (_into_step(places, backup, one, kept.get(one)) for one in services)
        done.services = dict(zip(services, await together(steps), strict=True))
        _write(note, done)
        await together(command(places, one, "pass-over", str(note), seconds=SECONDS) for one in SERVICES)
    except BaseException:  # what does not know of its epoch must never run
        await take_back(places, folder)
        raise
    (folder / UNFINISHED).unlink()
    async with _admin(places) as conn:
        for service, name in before.items():
            if there[service] == "empty":
                await conn.execute(f'DROP DATABASE "{name}" WITH (FORCE)')
            else:
                done.kept[service] = name
    return done


def cut_off(places: Places) -> list[Path]:
    """The folders of restores that were killed before they were done, the last one first."""
    return sorted((note.parent for note in (places.home / "restored").glob(f"*/{UNFINISHED}")), reverse=True)


async def take_back(places: Places, folder: Path) -> None:
    """What was there before a restore that is not done is there again, wherever that was cut off."""
    begun = take_back_secrets(places, folder)
    services, before = begun["services"], begun["before"]
    if await _is_there(places, next(iter(before.values()), services[0])):  # all change their names at once
        back = [(one, _name(one)) for one in services] + [(name, one) for one, name in before.items()]
        await _rename(places, back)
    with contextlib.suppress(asyncpg.PostgresError, OSError):  # else they go with the next restore
        for service in services:  # who is forgotten from now on would be in there still
            await _drop_draft(places, service)
    (folder / UNFINISHED).unlink()


def take_back_secrets(places: Places, folder: Path) -> dict[str, Any]:
    """The first part of it, which needs no server, and which servers may need to start; what the restore had noted."""
    begun: dict[str, Any] = json.loads((folder / UNFINISHED).read_text())
    backups.take_back_secrets(places, begun["secrets"], folder / "secrets")
    return begun


def _begin(folder: Path, begun: dict[str, Any]) -> None:
    """Note what is about to change, so that it can be taken back after a power cut too."""
    draft = folder / f"{UNFINISHED}.new"
    with draft.open("w") as file:
        json.dump(begun, file)
        file.flush()
        os.fsync(file.fileno())
    draft.replace(folder / UNFINISHED)


async def _into_step(places: Places, backup: Backup, service: str, kept: str | None) -> dict[str, Any]:
    """What a service's own `restored` prints; its tables are brought up to date first."""
    await command(places, service, "migrate", seconds=SECONDS)
    since = ("--since", backup.taken_at.isoformat(), "--above", await _heard(places, service))
    before = ("--kept", kept) if kept else ()
    told: dict[str, Any] = json.loads(
        await command(places, service, "restored", *since, *before, "--json", seconds=SECONDS)
    )
    return told


def _write(note: Path, done: Done) -> None:
    note.write_text(json.dumps({"lost": done.lost}, indent=2) + "\n")


def _name(service: str) -> str:
    return f"{service}_restoring"


async def _heard(places: Places, service: str) -> str:
    """The highest epoch in which another service has heard this one."""
    others = [one for one in SERVICES if one != service]
    asked = (command(places, one, "epoch", "--of", service, seconds=SECONDS) for one in others)
    numbers = await together(asked)
    return str(max(int(number) for number in numbers))


async def _draft(places: Places, service: str) -> None:
    """An empty database to load into."""
    await _drop_draft(places, service)
    async with _admin(places) as conn:
        try:
            await conn.execute(f'CREATE DATABASE "{_name(service)}" OWNER "{service}" TEMPLATE template0')
        except asyncpg.DiskFullError:
            raise Trouble("The disk is full.", "Make room (df -h), then run the same command again.") from None
        await conn.execute(f'REVOKE ALL ON DATABASE "{_name(service)}" FROM PUBLIC')


async def _drop_draft(places: Places, service: str) -> None:
    async with _admin(places) as conn:
        await conn.execute(f'DROP DATABASE IF EXISTS "{_name(service)}" WITH (FORCE)')


async def _is_there(places: Places, database: str) -> bool:
    async with _admin(places) as conn:
        return bool(await conn.fetchval("SELECT count(*) FROM pg_database WHERE datname = $1", database))


async def _rename(places: Places, names: Sequence[tuple[str, str]]) -> None:
    """Give each of these databases its other name, all at once."""
    async with _admin(places) as conn, conn.transaction():
        for now, then in names:
            await conn.execute(f'ALTER DATABASE "{now}" RENAME TO "{then}"')


async def _there(places: Places, service: str) -> str:
    """What there is of a service's database: none, empty, whole, or broken when it does not even open."""
    try:
        conn = await asyncpg.connect(places.database(service), ssl=False, timeout=10)
    except asyncpg.InvalidCatalogNameError:
        return "none"
    except asyncpg.PostgresError:
        return "broken"
    try:
        return "whole" if await conn.fetchval(OUTBOX) else "empty"
    except asyncpg.PostgresError:
        return "broken"
    finally:
        await conn.close()


@contextlib.asynccontextmanager
async def _admin(places: Places) -> AsyncIterator[Any]:
    try:
        conn = await asyncpg.connect(places.database("admin"), ssl=False, timeout=10)
    except (asyncpg.PostgresError, OSError, TimeoutError) as error:
        raise Trouble(f"PostgreSQL does not answer ({type(error).__name__}).", "See: kursnett doctor") from None
    try:
        yield conn
    finally:
        await conn.close()
