"""Lets the faults of a schedule happen to a stack, one slot after the other, and writes down how long each was felt."""

import asyncio
import time
from collections.abc import Sequence
from itertools import groupby

from tests.faults.history import History
from tests.faults.recovery import Recovery
from tests.faults.schedule import PROFILES, Fault, Profile, schedule
from tests.faults.stack import FaultStack
from tests.faults.strikes import STRIKES, Strike

__all__ = ["PROFILES", "Fault", "Profile", "run", "schedule"]

SETTLE_S = 0.7  # between two slots, so that one's end is not taken for the other's


async def run(stack: FaultStack, faults: Sequence[Fault], history: History, stopping: asyncio.Event) -> None:
    """Let these faults happen, and return when the last has been healed; sooner, healed too, when told to stop.

    Each fault is a `fault` line when it begins and a `heal` line when it is over: `recovery_s` is the time from the
    kill, the cut or the end of what lasted to the first success of `awaited`, none when that did not come in 30 s.
    `hit` tells, where it may fail, whether the fault found something to hit.
    """
    recovery = Recovery(stack, history)
    try:
        for _, slot in groupby(faults, lambda fault: fault.slot):
            together = list(slot)
            await asyncio.gather(*(_strike(stack, fault, history, recovery, len(together) > 1) for fault in together))
            if stopping.is_set():
                return
            await asyncio.sleep(SETTLE_S)
    finally:
        stack.mend()
        await recovery.close()


async def _strike(stack: FaultStack, fault: Fault, history: History, recovery: Recovery, overlaps: bool) -> None:
    await asyncio.sleep(fault.after_s)
    strike = Strike(stack, fault)
    known = {"id": f"fault-{fault.number}", "family": fault.family, "f": fault.f, "target": fault.target}
    history.add("fault", **known, slot=fault.slot, lasts_s=fault.lasts_s, overlaps=overlaps)
    began = time.monotonic()
    async with STRIKES[fault.f](strike):
        await asyncio.sleep(fault.lasts_s)
    ended = time.monotonic()
    since = strike.since or (ended if fault.lasts_s else began)
    awaited, recovery_s = await recovery.seconds(fault, since)
    history.add(
        "heal",
        **known,
        began=round(began, 4),
        ended=round(ended, 4),
        since=round(since, 4),
        recovery_s=recovery_s,
        awaited=awaited,
        overlaps=overlaps,
        **strike.facts,
    )
