"""`python -m tests.faults.controls`: takes out one guard after the other, and shows how soon its invariant is red.

Red counts when it says what the control must cause: a slow heal alone can make an invariant red, too.
"""

import argparse
import asyncio
import logging
import re
import shutil
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

from deploy.local.places import ROOT
from tests.faults.nemesis import Fault, schedule
from tests.faults.trial import Trial
from tests.faults.unguarded import CONTROLS, Control, missing
from tests.faults.verdict import Verdict

SLOTS = 3  # between two looks
REST_S = 25.0


@dataclass(frozen=True)
class Result:
    """What one control has shown: red after so many faults and seconds, or not within the profile.

    `words` is the finding that says so; without it, the first of another cause, if there was one.
    """

    name: str
    red: bool
    faults: int
    seconds: float
    words: str


def rounds(control: Control, seed: int) -> list[list[Fault]]:
    """The smoke profile's faults, those that the guard is for first, some slots at a time."""
    faults = schedule("smoke", seed, brokers=control.brokers)
    slots = [list(slot) for _, slot in groupby(faults, lambda fault: fault.slot)]
    slots.sort(key=lambda slot: not any(fault.f in control.first for fault in slot))
    return [[fault for slot in slots[n : n + SLOTS] for fault in slot] for n in range(0, len(slots), SLOTS)]


def shown(control: Control, verdict: Verdict) -> str | None:
    """The finding that the want of this guard must cause, none where the verdict has no such one."""
    return next((words for words in verdict.said if re.search(control.says, words)), None)


async def show(name: str, seed: int, home: Path) -> Result:
    """Run the workload and the faults without this guard until its invariant is red for the want of it."""
    control = CONTROLS[name]
    struck, began, other = 0, time.monotonic(), ""
    async with Trial(home / name, seed, brokers=control.brokers, control=name) as trial:
        for faults in rounds(control, seed):
            await trial.strain(faults)
            struck += len(faults)
            [verdict] = await trial.judge(only=[control.invariant], rest_s=REST_S)
            print(f"  {name}: {struck} faults, {'green' if verdict.ok else 'red'}: {verdict.counts}", flush=True)
            words = shown(control, verdict)
            if words is not None:
                return Result(name, True, struck, time.monotonic() - began, words)
            for words in verdict.said[:1]:
                print(f"  {name}: red for another reason: {words}", flush=True)
                other = other or f"red for another reason: {words}"
    return Result(name, False, struck, time.monotonic() - began, other)


def table(results: Sequence[Result]) -> str:
    lines = ["| guard taken out | with it | invariant | red after | it says |", "|---|---|---|---|---|"]
    for one in results:
        control = CONTROLS[one.name]
        after = f"{one.faults} faults, {one.seconds:.0f} s" if one.red else f"**never**, in {one.faults} faults"
        lines.append(f"| {control.guard} | {control.behind} | {control.invariant} | {after} | {one.words} |")
    return "\n".join(lines)


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="tests.faults.controls", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="control", help=f"of: {', '.join(CONTROLS)} (all)")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--home", type=Path, default=ROOT / ".kursnett" / "faults" / "controls")
    given = parser.parse_args(arguments)
    names = given.names or list(CONTROLS)
    logging.disable(logging.CRITICAL)
    gone = [words for name in names for words in missing(CONTROLS[name])]
    if gone:
        sys.exit("\n".join(gone))
    results = []
    for name in names:
        print(f"without {CONTROLS[name].guard}:", flush=True)
        shutil.rmtree(given.home / name, ignore_errors=True)
        results.append(asyncio.run(show(name, given.seed, given.home.absolute())))
    print(f"\n{table(results)}")
    return 0 if all(one.red for one in results) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
