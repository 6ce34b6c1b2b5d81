"""Makes .venv from the lock file: run by the system's Python, so it uses the standard library only.

python3 deploy/install.py          everything: to run, to test, to change
python3 deploy/install.py stack    what `make up` needs; the Java archives are fetched meanwhile
"""

import signal

if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # until all is loaded: Python's way is a traceback through all that

import fcntl
import hashlib
import importlib.util
import os
import platform
import re
import runpy
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"
CONFIGURATION = VENV / "pyvenv.cfg"
FETCHED = VENV / "fetched"  # packages until they are unpacked
LOCK = ROOT / "requirements-dev.lock"
OLDEST = (3, 11)
NEWER = ("python3.13", "python3.12", "python3.11", "python3.14")  # every locked package has a file for these
ROOM_BYTES = {"stack": 500 * 10**6, "dev": 800 * 10**6}  # .venv itself, and what is unpacked beside it
ROOTS = {  # who asks for a package, in the lock's words
    "stack": {f"kursnett (pyproject.toml{group})" for group in ("", ":stack", ":build", ":web")},
    "npm": {"kursnett (pyproject.toml:web)"},  # not needed where the system has it
    "archives": {"jgo"},  # what fetches the Java archives
}
SERVICES = ("catalogue", "enrolment", "notifier")
AT_ONCE = 3  # pip fetches one package at a time, and thinks before each
STARTED = ("deploy.cli", "deploy.local.__main__", "deploy.local.mail", *(f"services.{name}.app" for name in SERVICES))
ONCE_ON = ("joserfc.jwt", "uvicorn.lifespan.on", "uvicorn.protocols.websockets.auto")  # loaded when a service runs
FEW = 5  # some of the lock's entries are for other systems, and never there
LARGE_MB = 10.0  # such a package is told of, so that nobody thinks that it hangs


class Failure(Exception):
    """What went wrong, and what mends it."""


def main(arguments: "list[str]") -> int:
    """Install what is asked for, once per lock and Python; returns the exit code."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    kind = "stack" if arguments == ["stack"] else "dev"
    try:
        if is_done(kind):
            return pages()
    except KeyboardInterrupt:
        return stopped()
    except OSError as error:
        return fail(*refusal(error))
    if sys.version_info < OLDEST:
        found = newer()
        if found:
            return subprocess.call([found, "-I", __file__, *arguments])
        return fail(
            f"Python {sys.version_info.major}.{sys.version_info.minor} is too old; Kursnett needs 3.11 or newer.",
            "Install a newer one (3.11 to 3.14) and run the same command again: it is found by itself.",
        )
    signal.signal(signal.SIGTERM, interrupt)
    try:
        with Path(__file__).open() as lock:
            alone(lock.fileno())
            if not is_done(kind):
                install(kind, lock.fileno())
        return pages()
    except Failure as failure:
        return fail(*failure.args)
    except KeyboardInterrupt:
        return stopped()
    except OSError as error:
        return fail(*refusal(error))


def refusal(error: OSError) -> "tuple[str, str]":
    """What the system would not let us do, and what mends it."""
    mend = "It takes a disk with room and a folder that is yours to write in: df -h . ; ls -ld . .venv"
    return f"{error.filename or VENV} cannot be used: {error.strerror}.", mend


def newer() -> "str | None":
    """A Python on the PATH that is new enough, and whole."""
    for name in NEWER:
        found = shutil.which(name)
        if found and subprocess.run([found, "-c", "import ensurepip"], capture_output=True).returncode == 0:
            return found
    return None


def alone(lock: int) -> None:
    """Wait until nobody else installs here. What we start holds the lock too, so a killed run's pip is waited for."""
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        say("another installation is under way here; waiting for its end")
        fcntl.flock(lock, fcntl.LOCK_EX)


def stopped() -> int:
    return fail("Stopped half-way.", "Run the same command again: it goes on.")


def interrupt(number: int, frame: object) -> None:
    raise KeyboardInterrupt


def install(kind: str, lock: int) -> None:
    """Make .venv if there is no whole one, and put the locked packages into it. Raises Failure."""
    started = time.monotonic()
    if not VENV.exists():
        free = shutil.disk_usage(ROOT).free // 10**6
        needed = ROOM_BYTES[kind] // 10**6
        if free < needed:
            raise Failure(f"The disk of {ROOT} has {free} MB left; .venv needs {needed} MB.", "Make room first.")
    if not usable():
        say("making .venv")
        make()
    for each in ("stack", "dev"):
        stamp(each).unlink(missing_ok=True)
    text = LOCK.read_text()
    here = whole()
    wanted = {name: block for name, block in chosen(text, kind).items() if name not in here}
    first = {name: block for name, block in wanted.items() if kind == "stack" and name in locked(text, "archives")}
    rest = [block for name, block in wanted.items() if name not in first]
    (FETCHED / "tmp").mkdir(parents=True, exist_ok=True)
    running = Running(len(wanted), lock)
    if len(wanted) > FEW:
        say(f"fetching {len(wanted)} packages; the first time takes a minute, or some on a slow line")
    with ThreadPoolExecutor(AT_ONCE + 1) as pool:
        try:
            work = [pool.submit(running.fetch, n, rest[n::AT_ONCE]) for n in range(AT_ONCE)]
            archives = pool.submit(running.archives, first) if kind == "stack" else None
            finish(work)
            if wanted:
                say("unpacking them")
                running.pip("install", "--no-index", *running.listed("all", wanted.values()))
            running.pip("install", "--no-build-isolation", "-e", str(ROOT))
            running.compile()
            finish([archives] if archives else [])
        except BaseException:
            running.stop()
            raise
    shutil.rmtree(FETCHED, ignore_errors=True)
    for each in {"stack", kind}:
        stamp(each).write_text(fingerprint(each))
    say(f"ready in {time.monotonic() - started:.0f} s")


def pages() -> int:
    """Fetch what the web pages are drawn with, once for each lock of theirs. Without it they are plain, and work."""
    web = ROOT / "deploy" / "web.py"
    if runpy.run_path(str(web))["is_here"]():  # another program takes longer to start than to look
        return 0
    return subprocess.call([str(python()), "-m", "deploy.web"], cwd=ROOT)


def finish(work: "list[Future[None]]") -> None:
    """Wait for all, or for the first failure, which is raised."""
    done, _ = wait(work, return_when=FIRST_EXCEPTION)
    for one in done:
        one.result()


def make() -> None:
    """A new .venv, with nothing of an old one. Raises Failure."""
    if importlib.util.find_spec("ensurepip") is None:
        raise Failure("This Python has no venv module.", "On Debian and Ubuntu: apt install python3-venv")
    if VENV.exists():
        shutil.rmtree(VENV)
    made = subprocess.run([sys.executable, "-m", "venv", str(VENV)], capture_output=True, text=True)
    if made.returncode:
        words = f"{made.stdout}{made.stderr}".strip().splitlines() or ["nothing"]
        raise Failure(*diagnosis(words, "Python could not make .venv"))


def usable() -> bool:
    """Whether .venv works, and was made where it stands: a moved one starts its programs elsewhere."""
    if not CONFIGURATION.exists() or not python().exists() or str(VENV) not in CONFIGURATION.read_text():
        return False
    works = f"import pip._internal, sys; sys.exit(sys.version_info < {OLDEST})"
    return subprocess.run([str(python()), "-I", "-c", works], capture_output=True).returncode == 0


def locked(text: str, kind: str) -> "dict[str, str]":
    """The lock's entries by `name==version`: all, or what ROOTS[kind] asks for and all that this needs in turn."""
    entries, asked = {}, {}
    for entry in re.finditer(r"^([\w.-]+)==([^\s;]+).*\n(?: .*\n)*", text, re.MULTILINE):
        key = normal(entry[1], entry[2])
        entries[key] = entry[0]
        asked[key] = set(re.findall(r"^ +#(?: via)? +(\S.*)$", entry[0], re.MULTILINE))
    if kind not in ROOTS:
        return entries
    names = set(ROOTS[kind])
    chosen: set[str] = set()
    while True:
        found = {key for key in entries if asked[key] & names or key.split("==")[0] in names} - chosen
        if not found:
            return {key: entry for key, entry in entries.items() if key in chosen}
        chosen |= found
        names |= {key.split("==")[0] for key in found}


def chosen(text: str, kind: str) -> "dict[str, str]":
    """As `locked`, without what brings an npm where the system has one."""
    spared = locked(text, "npm") if shutil.which("npm") else {}
    return {key: entry for key, entry in locked(text, kind).items() if key not in spared}


def whole() -> "set[str]":
    """What is in .venv, as `name==version`; what a killed pip has left half there is taken out, to come anew."""
    found = set()
    for folder in VENV.glob("lib/*/site-packages/*.dist-info"):
        record = folder / "RECORD"
        if record.exists() and "/INSTALLER," in record.read_text():  # pip writes both when all else is there
            found.add(normal(*folder.stem.rsplit("-", 1)))
        else:
            shutil.rmtree(folder)
    return found


def normal(name: str, version: str) -> str:
    return f"{re.sub('[-_.]+', '-', name).lower()}=={version}"


class Running:
    """The pips at work side by side: starts them, tells how far they are, ends them."""

    def __init__(self, total: int, lock: int) -> None:
        self.total = total
        self._lock = lock
        self._counted: set[str] = set()
        self._waits = False
        self._stopped = False
        self._processes: list[subprocess.Popen[str]] = []

    def fetch(self, number: int, blocks: "list[str]") -> None:
        """Download packages, to be unpacked later."""
        if blocks:
            self.pip("download", "-d", str(FETCHED), *self.listed(str(number), blocks))

    def archives(self, first: "dict[str, str]") -> None:
        """Put in place what fetches the Java archives, and let it; the first start asks again for what did not come."""
        if first:
            self.pip("install", *self.listed("archives", first.values()))
        self._run([str(python()), "-m", "deploy.local.jars", "fetch"], self._tell_archives)

    def compile(self) -> None:
        """Compile what every start imports, once and here: else six programs do it at the same time, each anew.

        And each keeps the 3 MB that compiling took it.
        """
        self._run([str(python()), "-c", f"import {', '.join(STARTED + ONCE_ON)}"], lambda line: None)

    def listed(self, name: str, blocks: "Iterable[str]") -> "list[str]":
        """The arguments that name these packages and their hashes, by a file."""
        path = FETCHED / f"{name}.txt"
        path.write_text("".join(blocks))
        # No dependencies: the lock is whole.
        return ["--no-deps", "--require-hashes", "--only-binary=:all:", "--find-links", str(FETCHED), "-r", str(path)]

    def pip(self, verb: str, *arguments: str) -> None:
        """Run pip. Raises Failure with what it said."""
        command = [str(python()), "-I", "-m", "pip", verb, "--disable-pip-version-check", "--no-input"]
        command += ["--progress-bar=off", "--retries=3"]
        if verb == "install":
            command += ["--no-compile", "--no-warn-script-location"]  # most of it is never imported
        words = self._run([*command, *arguments], self._tell)
        if words:
            raise Failure(*diagnosis(words, "The locked packages could not be installed"))

    def stop(self) -> None:
        """End whatever runs, and start nothing more."""
        self._stopped = True
        for process in self._processes:
            process.terminate()

    def _run(self, command: "list[str]", tell: "Callable[[str], None]") -> "list[str]":
        """The last words of a program that failed; nothing when it did not."""
        if self._stopped:
            return ["stopped"]
        environment = {**os.environ, "TMPDIR": str(FETCHED / "tmp"), "PIP_USER": "0", "PYTHONUNBUFFERED": "1"}
        environment.pop("PYTHONDONTWRITEBYTECODE", None)  # where it is set, each start would compile everything anew
        words: list[str] = []
        with subprocess.Popen(
            command,
            cwd=ROOT,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            pass_fds=(self._lock,),
        ) as process:
            self._processes.append(process)
            for line in process.stdout or ():
                words.append(line.rstrip())
                tell(line)
        return words[-40:] or ["nothing"] if process.returncode else []

    def _tell(self, line: str) -> None:
        """One line of pip's, told to whoever waits if it says how far things are."""
        words = line.split()
        if line.startswith("Collecting ") and words[1] not in self._counted:
            self._counted.add(words[1])
            if len(self._counted) % 20 == 0:
                say(f"fetching package {len(self._counted)} of {self.total}")
        elif words[:1] == ["Downloading"] and words[-1] == "MB)" and float(words[-2].strip("(")) >= LARGE_MB:
            say(f"fetching {words[1].split('-')[0]}, {' '.join(words[2:]).strip('()')}")
        elif line.startswith("WARNING: Retrying") and not self._waits:
            self._waits = True
            say("the package index does not answer; trying again for a while")

    def _tell_archives(self, line: str) -> None:
        count = re.match(r"fetched (\d+)", line)
        if count and int(count[1]) % 20 == 0:
            say(line.rstrip())


def diagnosis(words: "list[str]", otherwise: str) -> "tuple[str, str]":
    """What went wrong, by a program's last words, and what mends it."""
    text = "\n".join(words)
    again = "Then run the same command again: it goes on."
    if "No space left" in text or "Errno 122" in text:
        return f"The disk of {ROOT} is full.", f"Make room. {again}"
    if "DO NOT MATCH THE HASHES" in text:
        return "A package is not the one that the lock names, and was not installed.", "Try another network or index."
    signs = ("Max retries", "NewConnectionError", "Connection", "Temporary failure", "timed out", "Retrying")
    if any(sign in text for sign in signs):
        return "The package index cannot be reached.", f"Check the network (and the proxy, if there is one). {again}"
    if "No matching distribution" in text:
        return (
            f"The package index has no file for Python {platform.python_version()} on this system, or none at all.",
            f"Check the network, or try another Python: PYTHON=python3.13. {again}",
        )
    if "ermission denied" in text:
        return f"You may not write in {VENV}.", "It is somebody else's: clone to a folder of your own, or chown it."
    if "Read-only file system" in text:
        return f"The disk of {ROOT} is read-only.", "Clone to a folder that you may write in."
    error = next((line for line in reversed(words) if line.startswith("ERROR")), words[-1])
    return f"{otherwise}: {error.removeprefix('ERROR: ')}", again


def is_done(kind: str) -> bool:
    whole = python().exists() and CONFIGURATION.exists() and stamp(kind).exists()
    return whole and stamp(kind).read_text() == fingerprint(kind)


def stamp(kind: str) -> Path:
    """The note that all of a kind is there, written last: without it, the next run finishes what it finds."""
    return VENV / f"installed-{kind}"


def fingerprint(kind: str) -> str:
    """What .venv was made from: the lock, the project file, its Python, and where."""
    made_from = b"".join(path.read_bytes() for path in (LOCK, ROOT / "pyproject.toml", CONFIGURATION))
    return hashlib.sha256(f"{kind} {VENV} ".encode() + made_from).hexdigest()


def python() -> Path:
    return VENV / "bin" / "python"


def say(text: str) -> None:
    print(f"install: {text}", flush=True)


def fail(what: str, mend: str) -> int:
    print(f"install: {what}\n         {mend}", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
