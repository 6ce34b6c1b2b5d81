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

BACK_S = 60.0  # one of three brokers must be back before the next dies: two at once are for a slot that says so
LOOK_S = 0.2
SETTLE_S = 0.7  # between two slots, so that one's end is not taken for the other's


async def run(stack: FaultStack, faults: Sequence[Fault], history: History, stopping: asyncio.Event) -> None:
    """Let these faults happen, and return when the last has been healed; sooner, healed too, when told to stop.

    Each fault is a `fault` line when it begins and a `heal` line when it is over: `recovery_s` is the time from the
    kill, the cut or the end of what lasted to the first success of `awaited`, none when that did not come in 30 s;
    `back_s` the time until the process was ready again, and its brokers in step, none after 60 s.
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
    back_s = await _back_s(stack, fault, since)
    history.add(
        "heal",
        **known,
        began=round(began, 4),
        ended=round(ended, 4),
        since=round(since, 4),
        recovery_s=recovery_s,
        awaited=awaited,
        back_s=back_s,
        overlaps=overlaps,
        **strike.facts,
    )


async def _back_s(stack: FaultStack, fault: Fault, since: float) -> float | None:
    while not await stack.is_back(fault.target):
        if time.monotonic() - since > BACK_S:
            return None
        await asyncio.sleep(LOOK_S)
    return round(time.monotonic() - since, 3)
