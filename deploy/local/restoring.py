"""Puts databases back from a backup: beside what is there first, and in its place only when all of them are whole."""

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import asyncpg

from deploy.local import backups
from deploy.local.backups import Backup, Say
from deploy.local.places import SERVICES, Places
from deploy.local.service import command
from deploy.trouble import Trouble

SECONDS = 1200.0  # for what is read of two weeks of topics
OUTBOX = "SELECT to_regclass('public.outbox') IS NOT NULL AND to_regclass('public.epoch') IS NOT NULL"


@dataclass
class Done:
    """What a restore has done. `kept`: service -> the database that was there before, where there was one."""

    kept: dict[str, str] = field(default_factory=dict)
    services: dict[str, dict[str, Any]] = field(default_factory=dict)

    @property
    def lost(self) -> list[dict[str, Any]]:
        return [{"service": name, **one} for name, told in self.services.items() for one in told["lost"]]


async def restore(places: Places, backup: Backup, services: Sequence[str], stamp: str, note: Path, say: Say) -> Done:
    """Restore these services' databases while no service runs; `note` is where the list of what is lost is kept.

    Raises Trouble; before all dumps are loaded, nothing that was there has been touched then.
    """
    done = Done()
    for service in services:
        say(f"{service}: being loaded …")
        await _draft(places, service)
        await asyncio.to_thread(backups.load, places, service, backup.dump(service), _name(service))
    done.kept, asked = await _swap(places, services, stamp)
    for service in services:
        say(f"{service}: its epoch is raised, and what it has to hear again is looked up …")
        await command(places, service, "migrate", seconds=SECONDS)
        kept = ("--kept", done.kept[service]) if service in asked else ()
        above = await _heard(places, service)
        since = backup.taken_at.isoformat()
        told = await command(
            places, service, "restored", "--since", since, "--above", above, *kept, "--json", seconds=SECONDS
        )
        done.services[service] = json.loads(told)
        _write(note, done)
    for service in SERVICES:
        await command(places, service, "pass-over", str(note), seconds=SECONDS)
    return done


def _write(note: Path, done: Done) -> None:
    note.write_text(json.dumps({"lost": done.lost}, indent=2) + "\n")


def _name(service: str) -> str:
    return f"{service}_restoring"


async def _heard(places: Places, service: str) -> str:
    """The highest epoch in which another service has heard this one."""
    others = [one for one in SERVICES if one != service]
    numbers = await asyncio.gather(*(command(places, one, "epoch", "--of", service) for one in others))
    return str(max(int(number) for number in numbers))


async def _draft(places: Places, service: str) -> None:
    """An empty database to load into; one that a killed restore left behind goes."""
    async with _admin(places) as conn:
        await conn.execute(f'DROP DATABASE IF EXISTS "{_name(service)}" WITH (FORCE)')
        await conn.execute(f'CREATE DATABASE "{_name(service)}" OWNER "{service}" TEMPLATE template0')
        await conn.execute(f'REVOKE ALL ON DATABASE "{_name(service)}" FROM PUBLIC')


async def _swap(places: Places, services: Sequence[str], stamp: str) -> tuple[dict[str, str], set[str]]:
    """Put all that was loaded in the place of what is there, at once.

    Returns the names that what was there has now, and the services whose own can be asked. One that is empty goes.
    """
    kept = {service: f"{service}_before_{stamp}" for service in services}
    there = {service: await _there(places, service) for service in services}
    async with _admin(places) as conn:
        async with conn.transaction():
            for service in services:
                if there[service] != "none":
                    await conn.execute(f'ALTER DATABASE "{service}" RENAME TO "{kept[service]}"')
                await conn.execute(f'ALTER DATABASE "{_name(service)}" RENAME TO "{service}"')
        for service in services:
            if there[service] == "empty":
                await conn.execute(f'DROP DATABASE "{kept[service]}" WITH (FORCE)')
    names = {service: name for service, name in kept.items() if there[service] in ("whole", "broken")}
    return names, {service for service in services if there[service] == "whole"}


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


@asynccontextmanager
async def _admin(places: Places) -> AsyncIterator[Any]:
    try:
        conn = await asyncpg.connect(places.database("admin"), ssl=False, timeout=10)
    except (asyncpg.PostgresError, OSError, TimeoutError) as error:
        raise Trouble(f"PostgreSQL does not answer ({type(error).__name__}).", "See: kursnett doctor") from None
    try:
        yield conn
    finally:
        await conn.close()
