"""Judges a run: one verdict for each invariant, from evidence alone and without a line of the services' code."""

from collections.abc import Callable, Iterable

from tests.faults import course, events, hooks, isolation, lines, mails, offers, rest, seats, writes
from tests.faults.evidence import Evidence
from tests.faults.model import World
from tests.faults.verdict import Looked, Verdict, verdict

# A new invariant is a function here; its number is the one in the design.
CHECKS: dict[str, tuple[str, Callable[[World], Looked]]] = {
    "V1": ("no lost write", writes.no_lost_write),
    "V2": ("no phantom", writes.no_phantom),
    "V3": ("no lost event", events.no_lost_event),
    "V4": ("no event that was not said", events.no_counterfactual),
    "V5": ("one effect", events.one_effect),
    "V6": ("never oversold", seats.never_oversold),
    "V7": ("no idle seat", lines.no_idle_seat),
    "V8": ("no queue jump", lines.no_queue_jump),
    "V9": ("offers within their hour", offers.within_their_hour),
    "V10": ("one order explains all answers", course.linearizable),
    "V11": ("one key, one effect", writes.idempotent),
    "V12": ("one mail", mails.one_mail),
    "V13": ("partners are told", hooks.each_is_told),
    "V14": ("comes to rest", rest.comes_to_rest),
    "V15": ("one partner's noise is its own", isolation.isolated),
    "V16": ("no leak", rest.no_leak),
    "V17": ("no personal data", rest.no_personal_data),
    "audit": ("finds nothing", rest.audited),
}


def check(evidence: Evidence, only: Iterable[str] = ()) -> list[Verdict]:
    """Judge the evidence by every invariant, or by those numbered in `only`."""
    world = World(evidence)
    chosen = set(only) or set(CHECKS)
    return [verdict(f"{name} {words}", judge(world)) for name, (words, judge) in CHECKS.items() if name in chosen]
