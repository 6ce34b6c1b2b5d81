"""What a check gives back, and how it becomes a verdict: red for what is wrong, and red for what it saw nothing of."""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from tests.faults.evidence import Row

MOST_SHOWN = 12


@dataclass
class Verdict:
    """One invariant: `counts` is what was looked at, `example` the lines of the first of the `wrong` things."""

    name: str
    ok: bool
    counts: str
    example: list[str] = field(default_factory=list)
    wrong: int = 0  # none in a verdict that is red for having seen too little
    said: list[str] = field(default_factory=list)  # the sentence of each wrong thing


@dataclass
class Looked:
    """What a check has found: `wrong` is (one sentence, the lines that show it); no count in `seen` may be zero."""

    seen: dict[str, int]
    wrong: list[tuple[str, Sequence[Any]]] = field(default_factory=list)
    also: dict[str, Any] = field(default_factory=dict)  # counts that may be zero


def verdict(name: str, looked: Looked) -> Verdict:
    """Red when something is wrong or nothing of some kind was seen: a check that had no work proves nothing."""
    nothing = [what for what, count in looked.seen.items() if not count]
    counts = ", ".join(f"{count} {what}" for what, count in {**looked.seen, **looked.also}.items())
    if looked.wrong:
        words, lines = looked.wrong[0]
        shown = [json.dumps(line, ensure_ascii=False, default=_text) for line in lines[:MOST_SHOWN]]
        said = [sentence for sentence, _ in looked.wrong]
        return Verdict(name, False, f"{counts}; {len(looked.wrong)} wrong", [words, *shown], len(looked.wrong), said)
    if nothing:
        return Verdict(name, False, counts, [f"saw nothing of: {', '.join(nothing)}; the run did not do its part"])
    return Verdict(name, True, counts)


def outcomes(lines: Iterable[Row], kind: str) -> list[Row]:
    return [line for line in lines if line["kind"] == kind]


def _text(value: Any) -> str:
    return value.decode(errors="replace")[:300] if isinstance(value, bytes) else str(value)
