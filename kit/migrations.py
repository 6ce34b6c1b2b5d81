"""Brings a database to the newest schema: numbered SQL files, each applied once and never edited afterwards."""

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import asyncpg

from kit.database import Connection

KIT = Path(__file__).parent / "migrations"
_NAME = re.compile(r"^(\d{4})_[a-z0-9_]+\.sql$")
_LOCK = 0x6B75_7273  # one number for all services: each has its own database, so they never wait for each other

_HISTORY = """
CREATE TABLE IF NOT EXISTS migrations (
    folder text NOT NULL,
    number integer NOT NULL,
    name text NOT NULL,
    sha256 text NOT NULL,
    applied_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (folder, number)  -- applied once
)
"""


class MigrationError(Exception):
    """The files and the database disagree; the message says about which file and what to do."""


@dataclass(frozen=True)
class Migration:
    folder: str
    number: int
    name: str
    sql: str

    @property
    def sha256(self) -> str:
        return hashlib.sha256(self.sql.encode()).hexdigest()


def read(folder: Path) -> list[Migration]:
    """The migrations of one folder in order. Raises MigrationError on a gap or a name that is not NNNN_words.sql."""
    label = "kit" if folder == KIT else folder.parent.name
    found: list[Migration] = []
    for path in sorted(folder.glob("*.sql")):
        match = _NAME.match(path.name)
        if not match:
            raise MigrationError(f"{label}: {path.name} must be named like 0002_what_it_does.sql")
        found.append(Migration(label, int(match[1]), path.name, path.read_text(encoding="utf-8")))
    if [m.number for m in found] != list(range(1, len(found) + 1)):
        raise MigrationError(f"{label}: migrations must be numbered 0001, 0002, … without gaps or repeats")
    return found


async def pending(conn: Connection, folders: Sequence[Path]) -> list[Migration]:
    """What is not applied yet. Raises MigrationError when an applied file was edited or has gone."""
    known = await conn.fetchval("SELECT to_regclass('migrations') IS NOT NULL")
    rows = await conn.fetch("SELECT folder, number, name, sha256 FROM migrations") if known else []
    applied = {(row["folder"], row["number"]): row for row in rows}
    files = {(m.folder, m.number): m for folder in folders for m in read(folder)}
    for place, row in applied.items():
        file = files.get(place)
        if file is None:
            raise MigrationError(
                f"{row['folder']}: this database has {row['name']}, which this version does not know. "
                "It was made by a newer version: run that one."
            )
        if file.sha256 != row["sha256"]:
            raise MigrationError(
                f"{row['folder']}: {file.name} was changed after it was applied. "
                "Restore the file and put the change in the next number."
            )
    return [m for place, m in files.items() if place not in applied]


async def migrate(conn: Connection, folders: Sequence[Path]) -> list[Migration]:
    """Apply what is missing, each file in its own transaction; returns what was applied. Many at once are safe.

    Raises MigrationError.
    """
    await conn.execute("SELECT pg_advisory_lock($1)", _LOCK)
    try:
        await conn.execute(_HISTORY)
        missing = await pending(conn, folders)
        for migration in missing:
            try:
                await _apply(conn, migration)
            except (asyncpg.PostgresError, asyncpg.InterfaceError, OSError) as error:
                raise MigrationError(  # without the error's own words, which may hold what is in the tables
                    f"{migration.folder}: {migration.name} was not applied ({type(error).__name__}), and nothing of it "
                    "is half done. Look at what the database says, then run this again."
                ) from error
        return missing
    finally:
        if not conn.is_closed():
            await conn.execute("SELECT pg_advisory_unlock($1)", _LOCK)


async def _apply(conn: Connection, migration: Migration) -> None:
    async with conn.transaction():
        await conn.execute("SET LOCAL lock_timeout = '5s'")  # better to fail than to make everybody queue
        await conn.execute(migration.sql)
        await conn.execute(
            "INSERT INTO migrations (folder, number, name, sha256) VALUES ($1, $2, $3, $4)",
            migration.folder,
            migration.number,
            migration.name,
            migration.sha256,
        )
