"""What a backup is: one dump for each database, the secrets that they cannot be read without, and a list of it all."""

import asyncio
import contextlib
import fcntl
import hashlib
import json
import os
import re
import shutil
import stat
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import asyncpg

from deploy.local.places import ROOT, SERVICES, Places
from deploy.local.postgres import NO_TLS, binaries
from deploy.trouble import Trouble, refused
from kit import migrations

FORMAT = 1
MANIFEST = "manifest.json"
LEFT_OUT = "database_password"  # the server that a backup is restored to has its own
CHUNK = 1024 * 1024
DRAFT = re.compile(r"\..+\.[0-9]+\.new")  # what a backup is called while it is written

Say = Callable[[str], None]


@dataclass(frozen=True)
class Backup:
    """A backup that was read and is whole."""

    folder: Path
    taken_at: datetime
    version: str
    files: dict[str, dict[str, Any]]
    migrations: dict[str, dict[str, int]]

    def dump(self, service: str) -> Path:
        return self.folder / f"{service}.dump"

    @property
    def secrets(self) -> list[str]:
        """As <service>/<name>, relative to the folder `secrets`."""
        return sorted(name.removeprefix("secrets/") for name in self.files if name.startswith("secrets/"))


def write(places: Places, folder: Path, say: Say) -> Backup:
    """Make a backup in a folder that is new or empty. It appears whole or not at all. Raises Trouble."""
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise Trouble(f"{folder} is there already and not empty.", "Name a folder that is new.")
    draft = folder.parent / f".{folder.name}.{os.getpid()}.new"
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        _clear(folder.parent, say)
        draft.mkdir(mode=0o700)
        with _locked(draft):
            _fill(places, draft, say)
            if folder.exists():
                folder.rmdir()
            draft.rename(folder)
    except OSError as error:
        raise refused(error) or Trouble(f"{folder} could not be written: {error.strerror}.") from error
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    return read(folder)


def _clear(parent: Path, say: Say) -> None:
    """Remove what backups that were killed have left beside the new one: the services' secrets may lie in it."""
    for draft in parent.glob(".*.new"):
        if not DRAFT.fullmatch(draft.name) or draft.is_symlink() or not draft.is_dir():
            continue
        with contextlib.suppress(OSError), _locked(draft):  # else it is being written, or another's
            if all(path.name in ("secrets", MANIFEST) or path.suffix == ".dump" for path in draft.iterdir()):
                shutil.rmtree(draft)
                say(f"Removed {draft}, which a backup that was cut off had left.")


@contextlib.contextmanager
def _locked(draft: Path) -> Iterator[None]:
    """A mark of whoever is at work in this folder, which goes with him. Raises BlockingIOError when one is."""
    folder = os.open(draft, os.O_RDONLY)
    try:
        fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    finally:
        os.close(folder)


def _fill(places: Places, draft: Path, say: Say) -> None:
    taken_at, applied = _now(places)  # before the first dump: what is heard again begins here
    names = []
    for service in SERVICES:
        began = time.monotonic()
        say(f"{service}: being dumped …")
        dump(places, service, draft / f"{service}.dump")
        size = (draft / f"{service}.dump").stat().st_size
        say(f"{service}: {size / 1e6:.1f} MB in {time.monotonic() - began:.1f} s")
        names.append(f"{service}.dump")
    for source in sorted(path for service in SERVICES for path in (places.secrets / service).glob("*")):
        if source.name == LEFT_OUT or source.name.startswith("."):
            continue
        name = f"secrets/{source.parent.name}/{source.name}"
        for made in (draft / "secrets", draft / "secrets" / source.parent.name):
            made.mkdir(mode=0o700, exist_ok=True)
        _private(draft / name, source.read_bytes())
        names.append(name)
    manifest = {
        "kursnett_backup": FORMAT,
        "taken_at": taken_at.isoformat(),
        "version": version("kursnett"),
        "migrations": applied,
        "files": {name: {"bytes": (draft / name).stat().st_size, "sha256": _sha256(draft / name)} for name in names},
    }
    _private(draft / MANIFEST, (json.dumps(manifest, indent=2) + "\n").encode())
    for path in (*(draft / name for name in names), draft / MANIFEST):
        with path.open("rb") as file:
            os.fsync(file.fileno())


def _now(places: Places) -> tuple[datetime, dict[str, dict[str, int]]]:
    """The database's time, and for each service the last number that was applied of each folder of migrations."""

    async def ask() -> tuple[datetime, dict[str, dict[str, int]]]:
        at, applied = None, {}
        for service in SERVICES:
            conn = await asyncpg.connect(places.database(service), ssl=False, timeout=10)
            try:
                at = at or await conn.fetchval("SELECT clock_timestamp()")
                rows = await conn.fetch("SELECT folder, max(number) AS number FROM migrations GROUP BY folder")
                applied[service] = {row["folder"]: row["number"] for row in rows}
            finally:
                await conn.close()
        if at is None:
            raise LookupError("there is no service")
        return at, applied

    try:
        return asyncio.run(ask())
    except (asyncpg.PostgresError, OSError, TimeoutError) as error:
        raise Trouble(
            f"The databases do not answer ({type(error).__name__}).", "See: kursnett status, kursnett logs postgres"
        ) from None


def dump(places: Places, service: str, file: Path) -> None:
    """One service's database as it is at one instant, while it is used. Raises Trouble."""
    file.touch(mode=0o600)
    _run(places, service, "pg_dump", "--format=custom", "--no-owner", "--no-privileges", f"--file={file}", service)


def load(places: Places, service: str, file: Path, database: str) -> None:
    """Fill an empty database from a dump, all of it or nothing. Raises Trouble."""
    options = ["--no-owner", "--no-privileges", "--exit-on-error", "--single-transaction"]
    _run(places, service, "pg_restore", *options, f"--dbname={database}", str(file))


def _run(places: Places, service: str, program: str, *arguments: str) -> None:
    address = ["--host=127.0.0.1", f"--port={places.port('postgres')}", f"--username={service}", "--no-password"]
    done = subprocess.run(
        [binaries() / "bin" / program, *address, *arguments],
        env={
            **NO_TLS,
            "PATH": os.environ.get("PATH", ""),
            "LC_ALL": "C",
            "PGPASSWORD": places.secret(f"postgres/{service}_password"),
            "PGCONNECT_TIMEOUT": "10",
        },
        capture_output=True,
        text=True,
    )
    if done.returncode:
        words = done.stderr.strip().splitlines() or ["nothing"]
        if "No space left" in done.stderr:
            mend = "or name a folder on another disk" if program == "pg_dump" else "then run the same command again"
            raise Trouble("The disk is full.", f"Make room (df -h), {mend}.")
        told = next((line for line in words if "error:" in line), words[-1])
        raise Trouble(f"{service}: {told}", "See: kursnett status, kursnett logs postgres")


def read(folder: Path) -> Backup:
    """The backup in a folder, after each of its files was looked at. Raises Trouble when it is not whole."""
    if not folder.is_dir():
        raise Trouble(f"There is no folder {folder}.", "Name one that kursnett backup has made.")
    try:
        told = json.loads((folder / MANIFEST).read_text())
        if not isinstance(told["kursnett_backup"], int):
            raise TypeError
    except FileNotFoundError:
        raise Trouble(
            f"{folder} is no backup: it has no {MANIFEST}.", "Name a folder that kursnett backup has made."
        ) from None
    except (ValueError, LookupError, TypeError):
        raise Trouble(f"{folder / MANIFEST} is damaged.", "Take another backup.") from None
    if told["kursnett_backup"] > FORMAT:
        raise Trouble(f"{folder} was made by a newer version ({told.get('version')}).", "Restore it with that version.")
    try:
        backup = Backup(
            folder,
            datetime.fromisoformat(told["taken_at"]),
            str(told["version"]),
            {str(name): dict(one) for name, one in told["files"].items()},
            {service: dict(told["migrations"][service]) for service in SERVICES},
        )
        dumps = [backup.files[f"{service}.dump"] for service in SERVICES]
        wrong = [name for name, one in backup.files.items() if not _is_whole(folder, name, one)]
    except (ValueError, LookupError, TypeError, AttributeError):
        raise Trouble(f"{folder / MANIFEST} is damaged.", "Take another backup.") from None
    if wrong or not dumps:
        raise Trouble(
            f"{folder} is damaged: {', '.join(wrong)} is missing or not what was written.", "Take another backup."
        )
    _is_known(backup)
    return backup


def _is_whole(folder: Path, name: str, told: dict[str, Any]) -> bool:
    path = folder / name
    if not path.resolve().is_relative_to(folder.resolve()) or not path.is_file():
        return False
    return path.stat().st_size == int(told["bytes"]) and _sha256(path) == str(told["sha256"])


def _is_known(backup: Backup) -> None:
    """Raises Trouble when the code here is older than what made the backup."""
    for service in SERVICES:
        for name, folder in (("kit", migrations.KIT), (service, ROOT / "services" / service / "migrations")):
            have, has = len(migrations.read(folder)), backup.migrations[service].get(name, 0)
            if has > have:
                raise Trouble(
                    f"{backup.folder} was made by a newer version ({backup.version}): its {service} has migration "
                    f"{has} of {name}, and this version knows {have}.",
                    "Restore it with that version.",
                )


def differing(places: Places, backup: Backup) -> Sequence[str]:
    """The secrets of the backup that the stack has not, or has otherwise."""
    return [
        name
        for name in backup.secrets
        if not (places.secrets / name).exists()
        or (places.secrets / name).read_bytes() != (backup.folder / "secrets" / name).read_bytes()
    ]


def bring_secrets(places: Places, backup: Backup, names: Sequence[str], aside: Path) -> None:
    """Put these in their places; what was there goes aside."""
    for name in names:
        target = places.secrets / name
        if target.exists():
            (aside / name).parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            target.rename(aside / name)
        target.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        draft = target.with_name(f".{target.name}.{os.getpid()}")  # it appears whole: half of one would be read as all
        draft.unlink(missing_ok=True)
        try:
            _private(draft, (backup.folder / "secrets" / name).read_bytes())
            draft.chmod(0o400)
            draft.replace(target)
        finally:
            draft.unlink(missing_ok=True)


def take_back_secrets(places: Places, names: Sequence[str], aside: Path) -> None:
    """What was there before `bring_secrets` is there again, also when that was cut off."""
    for name in names:
        if (aside / name).exists():
            (aside / name).replace(places.secrets / name)


def _private(path: Path, content: bytes) -> None:
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, stat.S_IRUSR | stat.S_IWUSR), "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while part := file.read(CHUNK):
            digest.update(part)
    return digest.hexdigest()
