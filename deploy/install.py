"""Makes .venv from the lock file: run by the system's Python, so it uses the standard library only."""

import collections
import hashlib
import importlib.util
import os
import platform
import shutil
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"
STAMP = VENV / "installed"  # written last: a half-made .venv has none and is finished by the next run
LOCK = ROOT / "requirements-dev.lock"
OLDEST = (3, 11)
ROOM_BYTES = 900 * 10**6  # .venv itself, and what pip unpacks beside it


def main() -> int:
    """Install what the lock names into .venv, once per lock and Python; returns the exit code."""
    if sys.version_info < OLDEST:
        return fail(
            f"Python {sys.version_info.major}.{sys.version_info.minor} is too old; Kursnett needs 3.11 or newer.",
            "Install a newer Python, then run: make install PYTHON=python3.13",
        )
    wanted = fingerprint()
    if STAMP.exists() and STAMP.read_text() == wanted and python().exists():
        return 0
    try:
        return install(wanted)
    except KeyboardInterrupt:
        return fail("Stopped half-way.", "Run the same command again: it goes on.")
    except OSError as error:
        return fail(
            f"The files in {VENV} cannot be written: {error.strerror}.", "Is the disk full, or not yours? df -h ."
        )


def install(wanted: str) -> int:
    """Make .venv if there is no whole one of this Python, and put the locked packages into it."""
    started = time.monotonic()
    free = shutil.disk_usage(ROOT).free
    if not STAMP.exists() and free < ROOM_BYTES:
        return fail(f"The disk has {free // 10**6} MB left; .venv needs {ROOM_BYTES // 10**6} MB.", "Make room first.")
    if not usable():
        say("making .venv")
        shutil.rmtree(VENV, ignore_errors=True)
        if importlib.util.find_spec("ensurepip") is None:
            return fail("This Python has no venv module.", "On Debian and Ubuntu: apt install python3-venv")
        made = subprocess.run([sys.executable, "-m", "venv", str(VENV)], stdout=subprocess.PIPE, text=True)
        if made.returncode:
            return fail(
                "Python could not make a virtual environment here.",
                "On Debian and Ubuntu: apt install python3-venv. Is the disk full? df -h .",
            )
    STAMP.unlink(missing_ok=True)
    say("fetching the locked packages (a minute the first time)")
    for step in (["--require-hashes", "-r", str(LOCK)], ["--no-build-isolation", "-e", str(ROOT)]):
        words = pip(step)
        if words:
            return fail(*diagnosis(words))
    STAMP.write_text(wanted)
    say(f"ready in {time.monotonic() - started:.0f} s")
    return 0


def usable() -> bool:
    """Whether .venv is whole, of this Python, and made where it stands: a moved one starts its programs elsewhere."""
    configuration = VENV / "pyvenv.cfg"
    if not configuration.exists() or not python().exists():
        return False
    text = configuration.read_text()
    if f"version = {platform.python_version()}" not in text or str(VENV) not in text:
        return False
    return subprocess.run([str(python()), "-m", "pip", "--version"], capture_output=True).returncode == 0


def pip(arguments: "list[str]") -> "list[str]":
    """Run pip install, saying how far it is; returns its last words if it failed, else nothing."""
    command = [str(python()), "-m", "pip", "install", "--disable-pip-version-check", "--no-input", "--progress-bar=off"]
    command.append("--no-deps")  # the lock is whole
    command.append("--no-compile")  # most of it is never run; what is, is compiled when it is
    count = 0
    words: collections.deque[str] = collections.deque(maxlen=30)
    with subprocess.Popen(command + arguments, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as running:
        for line in running.stdout or ():
            words.append(line.rstrip())
            if line.startswith("Collecting "):
                count += 1
                if count % 20 == 0:
                    say(f"{count} packages found")
            elif line.startswith("Installing collected packages") and count:
                say(f"unpacking {count} packages")
    return list(words) or ["nothing"] if running.returncode else []


def diagnosis(words: "list[str]") -> "tuple[str, str]":
    """What went wrong, by pip's last words, and what mends it."""
    text = "\n".join(words)
    again = "Then run the same command again: it goes on."
    if "No space left" in text:
        return "The disk is full.", f"Make room. {again}"
    if "DO NOT MATCH THE HASHES" in text:
        return "A package is not the one that the lock names, and was not installed.", "Try another network or index."
    if any(
        sign in text for sign in ("Max retries", "NewConnectionError", "Connection", "Temporary failure", "timed out")
    ):
        return "The package index cannot be reached.", f"Check the network (and the proxy, if there is one). {again}"
    if "No matching distribution" in text:
        return "The package index gives no file for this system, or gives none at all.", f"Check the network. {again}"
    error = next((line for line in reversed(words) if line.startswith("ERROR")), words[-1])
    return f"pip could not install the locked packages: {error.removeprefix('ERROR: ')}", again


def fingerprint() -> str:
    """What .venv was made from: the lock, the project file, the Python that runs it, and where."""
    files = (LOCK, ROOT / "pyproject.toml")
    made_by = f"{sys.version} {VENV}"
    return hashlib.sha256(b"".join(f.read_bytes() for f in files) + made_by.encode()).hexdigest()


def python() -> Path:
    return VENV / ("Scripts/python.exe" if os.name == "nt" else "bin/python")


def say(text: str) -> None:
    print(f"install: {text}", flush=True)


def fail(what: str, mend: str) -> int:
    print(f"install: {what}\n         {mend}", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main())
