"""Makes .venv from the lock file: run by the system's Python, so it uses the standard library only."""

import hashlib
import os
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
    started = time.monotonic()
    if not python().exists():
        say("making .venv")
        shutil.rmtree(VENV, ignore_errors=True)
        made = subprocess.run([sys.executable, "-m", "venv", str(VENV)], stdout=subprocess.PIPE, text=True)
        if made.returncode:
            return fail(
                "Python could not make a virtual environment here.",
                "On Debian and Ubuntu: apt install python3-venv. Is the disk full? df -h .",
            )
    say("installing the locked packages (a minute the first time)")
    pip = [str(python()), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-input"]
    for step in (["--require-hashes", "-r", str(LOCK)], ["--no-deps", "--no-build-isolation", "-e", str(ROOT)]):
        if subprocess.run(pip + step).returncode:
            return fail(
                "pip could not install the locked packages.",
                "Is the package index reachable, and is there room on the disk? Then run the same command again.",
            )
    STAMP.write_text(wanted)
    say(f"ready in {time.monotonic() - started:.0f} s")
    return 0


def fingerprint() -> str:
    """What .venv was made from: the lock, the project file and the Python that runs it."""
    files = (LOCK, ROOT / "pyproject.toml")
    return hashlib.sha256(b"".join(f.read_bytes() for f in files) + sys.version.encode()).hexdigest()


def python() -> Path:
    return VENV / ("Scripts/python.exe" if os.name == "nt" else "bin/python")


def say(text: str) -> None:
    print(f"install: {text}", flush=True)


def fail(what: str, mend: str) -> int:
    print(f"install: {what}\n         {mend}", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main())
