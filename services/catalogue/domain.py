"""The catalogue's pure rules: what a partner may say, and what a judgement changes."""

from collections.abc import Iterable, Sequence
from datetime import datetime

# What is judged for the same day goes one way: who was told that a run takes place, can rely on it.
_DECISIONS = ("none", "at_risk", "too_few", "confirmed")


class Rule(Exception):
    """What was said breaks a rule. `code` is for programs, `field` names the place, the text says why."""

    def __init__(self, code: str, field: str, text: str) -> None:
        super().__init__(text)
        self.code = code
        self.field = field
        self.text = text


def known_subjects(given: Sequence[str], known: Sequence[str]) -> None:
    """Raises Rule for a subject that is not on the list."""
    strange = sorted(set(given) - set(known))
    if strange:
        raise Rule(
            "unknown_subject", "subjects", f"{', '.join(strange)} is not a subject; choose of {', '.join(known)}"
        )


def own_arenas(given: Sequence[str], own: Sequence[str]) -> None:
    """Raises Rule for an arena that the partner may not use."""
    strange = sorted(set(given) - set(own))
    if strange:
        text = f"{', '.join(strange)} is not an arena of this partner; choose of {', '.join(sorted(set(own)))}"
        raise Rule("unknown_arena", "places", text)


def meets_within(starts_at: datetime, ends_at: datetime, meetings: Sequence[tuple[datetime, datetime]]) -> None:
    """Raises Rule for a meeting outside its run: people are reminded by the one, and it is over by the other."""
    for number, (begins, ends) in enumerate(meetings):
        if begins < starts_at or ends > ends_at:
            field = f"sessions[{number}].{'starts_at' if begins < starts_at else 'ends_at'}"
            raise Rule("meeting_outside", field, "must lie between starts_at and ends_at of the run")


def ends_ahead(ends_at: datetime, said_at: datetime) -> None:
    """Raises Rule when a run that has not begun would be over: its seats and its line would be gone at once."""
    if ends_at <= said_at:
        text = "has passed, and this run has not begun: give a day to come, or cancel it"
        raise Rule("ends_at_passed", "ends_at", text)


def takes_nobody(until: datetime, now: datetime) -> None:
    """Raises Rule when a run that was over would give out its seats again, which it does `until` then: who had one has
    none any more, is told of no other day, and would stand among the others on its lists. That it goes on longer than
    it was said to, as when its last meetings were dropped by mistake, gives nobody else a seat."""
    if until > now:
        text = "this offering is over, and would take others than its own learners; publish a new one under another key"
        raise Rule("offering_over", "key", text)


def has_not_ended(is_over: bool) -> None:
    """Raises Rule for a run that is over: whoever would cancel it must not believe that people were told."""
    if is_over:
        raise Rule("offering_over", "key", "this offering is over: it took place, and cannot be cancelled any more")


def decided_ahead(decide_at: datetime | None, starts_at: datetime, said_at: datetime) -> None:
    """Raises Rule when it would be judged on the spot whether the run has enough: nobody could see that coming.

    What was ahead when it was said is taken, and judged on the spot: that it was read late is not its partner's fault.
    """
    if decide_at is not None and decide_at <= said_at < starts_at:
        text = "has passed: give a day to come, or leave out minimum and decide_at"
        raise Rule("decide_at_passed", "decide_at", text)


def says_more(decision: str, known: str) -> bool:
    """Whether a judgement goes beyond the one that is known for the same day; a repeat or an older one does not."""
    return _DECISIONS.index(decision) > _DECISIONS.index(known)


def is_open(periods: Iterable[tuple[datetime, datetime]], now: datetime) -> bool:
    """Whether somebody may ask for a seat by these periods (opens, closes), be it those of one group; none: all may."""
    known = list(periods)
    return not known or any(opens_at <= now < closes_at for opens_at, closes_at in known)


def eqf(level: str | None) -> int | None:
    """The European level of a Norwegian one: the same number, without the parts of it (4A, 5.1)."""
    return int(level[0]) if level else None
