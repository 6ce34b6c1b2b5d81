"""`python -m tests.faults --profile smoke --seed 1`: strains a stack of its own; ends with 1 when something broke."""

import argparse
import asyncio
import contextlib
import logging
import shutil
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from deploy.local.places import ROOT
from tests.faults import report
from tests.faults.history import History
from tests.faults.nemesis import PROFILES, schedule
from tests.faults.trial import Trial
from tests.faults.verdict import Verdict

TELL_S = 15.0


async def run(profile: str, seed: int, control: str, home: Path) -> list[Verdict]:
    """One whole run; its history and report stay in `home`."""
    faults = schedule(profile, seed)
    began = time.monotonic()
    print(f"{profile}, seed {seed}: {len(faults)} faults, in {home}", flush=True)
    async with Trial(home, seed, brokers=PROFILES[profile].brokers, control=control) as trial:
        telling = asyncio.create_task(_tell(trial.history, began, len(faults)))
        try:
            await trial.strain(faults)
        finally:
            telling.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await telling
        print(f"{_clock(began)} waiting until all is at rest", flush=True)
        verdicts = await trial.judge()
    title = f"Fault run: {profile}, seed {seed}" + (f", without {control}" if control else "")
    path = report.write(home, title, trial.evidence, verdicts)
    for one in verdicts:
        print(f"{'green' if one.ok else 'RED  '} {one.name}: {one.counts}")
        for line in one.example:
            print(f"        {line}")
    print(f"{_clock(began)} done; the report is {path}", flush=True)
    return verdicts


async def _tell(history: History, began: float, faults: int) -> None:
    while True:
        await asyncio.sleep(TELL_S)
        kinds = [line["kind"] for line in history.lines]
        counts = ", ".join(f"{kinds.count(kind)} {kind}" for kind in ("ok", "fail", "info", "exit"))
        print(f"{_clock(began)} fault {kinds.count('fault')} of {faults}; {counts}", flush=True)


def _clock(began: float) -> str:
    return f"{int(time.monotonic() - began) // 60:>3}:{int(time.monotonic() - began) % 60:02}"


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="tests.faults", description=__doc__)
    parser.add_argument("--profile", choices=sorted(PROFILES), default="smoke")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--control", default="", help="run without this guard: see tests.faults.unguarded")
    parser.add_argument("--home", type=Path, help="where history, logs and report go (.kursnett/faults/<seed>)")
    given = parser.parse_args(arguments)
    home = given.home or ROOT / ".kursnett" / "faults" / str(given.seed)
    logging.disable(logging.CRITICAL)  # the clients' own libraries tell each broken connection
    shutil.rmtree(home, ignore_errors=True)
    verdicts = asyncio.run(run(given.profile, given.seed, given.control, home.absolute()))
    return 0 if all(one.ok for one in verdicts) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
