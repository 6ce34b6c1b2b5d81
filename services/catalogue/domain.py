"""The catalogue's pure rules: what a partner may say, what a judgement changes, what to offer instead of a run."""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

MOST_ALTERNATIVES = 5  # a mail's worth: more is not read
# What is judged by the same minimum on the same day goes one way: who was told that a run takes place, can rely on it.
_DECISIONS = ("none", "at_risk", "too_few", "confirmed")


@dataclass(frozen=True, slots=True)
class Run:
    """A run that is to come, as far as it matters to who may take it instead of another."""

    offering_id: UUID
    course_id: UUID
    starts_at: datetime
    subjects: Collection[str]


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
        text = f"{', '.join(strange)} is not an arena of this partner; choose of {', '.join(sorted(own))}"
        raise Rule("unknown_arena", "places", text)


def says_more(decision: str, known: str) -> bool:
    """Whether a judgement goes beyond the one that is known of the same rules; a repeat or an older one does not."""
    return _DECISIONS.index(decision) > _DECISIONS.index(known)


def alternatives(runs: Iterable[Run], course_id: UUID, subjects: Collection[str]) -> list[Run]:
    """At most five of these runs: those of the same course, then of a course with a subject in common, soonest first.

    `course_id` and `subjects` are those of the run that is gone, which is not among `runs` any more.
    """
    akin = [run for run in runs if run.course_id == course_id or not set(subjects).isdisjoint(run.subjects)]
    akin.sort(key=lambda run: (run.course_id != course_id, run.starts_at, run.offering_id))
    return akin[:MOST_ALTERNATIVES]


def eqf(level: str | None) -> int | None:
    """The European level of a Norwegian one: the same number, without the parts of it (4A, 5.1)."""
    return int(level[0]) if level else None
