"""Tells how a run went, for people: verdicts, how long each kind of fault was felt, and a picture of the whole."""

import math
import statistics
from bisect import bisect_right
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.faults.evidence import Evidence
from tests.faults.verdict import Verdict, outcomes

COLOURS = {
    "service": "#c0392b",
    "broker": "#8e44ad",
    "database": "#2471a3",
    "network": "#d68910",
    "mail": "#148f77",
    "repeat": "#7f8c8d",
}
LINES = (("learners", "#1b4f72"), ("catalogue", "#b9770e"), ("partner", "#6c3483"), ("mails", "#117864"))
WIDE, HIGH, EDGE = 1400, 300, 40
MOST_BINS = 700


@dataclass(frozen=True)
class Felt:
    """One fault: when it struck and ended, and how long it was felt; `hit`: whether there was something to hit."""

    id: str
    at: float
    until: float
    kind: str
    target: str
    family: str
    recovery_s: float | None
    awaited: str
    alone: bool
    hit: bool


def successes(evidence: Evidence) -> dict[str, list[tuple[float, float]]]:
    """For each sort of operation (begun, answered), in seconds; a mail is both at once."""
    found: dict[str, list[tuple[float, float]]] = defaultdict(list)
    begun: dict[tuple[str, int], float] = {}
    for line in evidence.history:
        if line["kind"] == "invoke":
            begun[line["id"], line["n"]] = line["t"]
        elif line["kind"] == "ok":
            found[line["f"]].append((begun[line["id"], line["n"]], line["t"]))
    found["mail"] = [(one["t"], one["t"]) for one in evidence.deliveries if one["outcome"] == "ok"]
    return {f: sorted(times) for f, times in found.items()}


def felt(evidence: Evidence) -> list[Felt]:
    """Every fault with how long it was felt, as the nemesis measured it; none where it was not over in its time."""
    heals = {line["id"]: line for line in outcomes(evidence.history, "heal")}
    found = []
    for line in outcomes(evidence.history, "fault"):
        heal = heals.get(line["id"], {})
        kind = f"{line.get('family', '')} {line['f']}".strip()
        found.append(
            Felt(
                id=str(line["id"]),
                at=float(line["t"]),
                until=float(heal["ended"] if "ended" in heal else line["t"]),
                kind=kind,
                target=line["target"],
                family=line.get("family", ""),
                recovery_s=heal.get("recovery_s"),
                awaited=heal.get("awaited", ""),
                alone=not line.get("overlaps"),
                hit=heal.get("hit", True) is not False,
            )
        )
    return found


def percentile(values: Sequence[float], share: float) -> float:
    return sorted(values)[max(0, math.ceil(share * len(values)) - 1)]


def write(folder: Path, title: str, evidence: Evidence, verdicts: Iterable[Verdict]) -> Path:
    """Write report.md and timeline.svg into the folder; returns the report's path."""
    faults = felt(evidence)
    lines = evidence.history
    counts = Counter((line["f"], line["kind"]) for line in lines if line["kind"] in ("ok", "fail", "info"))
    text = [f"# {title}", "", f"{(lines[-1]['t'] - lines[0]['t']) / 60:.1f} minutes, {len(faults)} faults.", ""]
    text += ["![operations per second, with the faults marked](timeline.svg)", "", "## Invariants", ""]
    for verdict in verdicts:
        text += [f"- {'green' if verdict.ok else '**RED**'}: {verdict.name}: {verdict.counts}"]
        text += ["", "  ```", *(f"  {line}" for line in verdict.example), "  ```", ""] if verdict.example else []
    text += ["", "## Operations", "", "| operation | done | refused | unknown |", "|---|--:|--:|--:|"]
    text += [
        f"| {f} | {counts[f, 'ok']} | {counts[f, 'fail']} | {counts[f, 'info']} |"
        for f in sorted({f for f, _ in counts})
    ]
    text += ["", "## How long each kind of fault was felt", ""]
    text += ["Seconds from the blow, or from the end of what lasted, to the first success of what was hit."]
    text += ["Faults that met another one are left out.", ""]
    text += ["| fault | times | p50 | p95 | max |", "|---|--:|--:|--:|--:|"]
    kinds: dict[str, list[float]] = defaultdict(list)
    for fault in faults:
        if fault.recovery_s is not None and fault.alone:
            kinds[fault.kind].append(fault.recovery_s)
    for kind, values in sorted(kinds.items()):
        figures = f"{statistics.median(values):.1f} | {percentile(values, 0.95):.1f} | {max(values):.1f}"
        text.append(f"| {kind} | {len(values)} | {figures} |")
    text += ["", "## Processes that ended", "", "| at s | program | code | asked for |", "|--:|---|--:|---|"]
    began = lines[0]["t"]
    text += [
        f"| {line['t'] - began:.1f} | {line['who']} | {line['status']} | {line.get('asked') or '**by itself**'} |"
        for line in outcomes(lines, "exit")
    ]
    text += [
        "",
        "## Faults",
        "",
        "| | at s | lasted s | fault | target | awaited | felt s |",
        "|--:|--:|--:|---|---|---|--:|",
    ]
    for one in faults:
        told = "–" if one.recovery_s is None else f"{one.recovery_s:.1f}"
        told += "" if one.alone else " (met another)"
        told += "" if one.hit else " (hit nothing)"
        times = f"{one.at - began:.1f} | {one.until - one.at:.1f}"
        text.append(f"| {one.id} | {times} | {one.kind} | {one.target} | {one.awaited} | {told} |")
    path = folder / "report.md"
    path.write_text("\n".join(text) + "\n", encoding="utf-8")
    (folder / "timeline.svg").write_text(timeline(evidence, faults), encoding="utf-8")
    return path


def timeline(evidence: Evidence, faults: Sequence[Felt]) -> str:
    """Operations a second over the whole run as lines, and each fault as a band in its family's colour."""
    began, ended = float(evidence.history[0]["t"]), float(evidence.history[-1]["t"])
    bins = max(1, min(MOST_BINS, int(ended - began)))
    width_s = max(1e-9, (ended - began) / bins)
    done = successes(evidence)
    groups = {
        "learners": [t for f in ("enrol", "withdraw", "read", "seats") for _, t in done.get(f, ())],
        "catalogue": [t for f in ("browse", "partner_http") for _, t in done.get(f, ())],
        "partner": [t for _, t in done.get("partner", ())],
        "mails": [t for _, t in done.get("mail", ())],
    }
    edges = [began + n * width_s for n in range(bins)]
    rates = {}
    for name, times in groups.items():
        held = Counter(max(0, bisect_right(edges, t) - 1) for t in times)
        rates[name] = [held[n] / width_s for n in range(bins)]
    most = max((rate for values in rates.values() for rate in values), default=0.0) or 1.0

    def x(t: float) -> float:
        return EDGE + (t - began) / max(1e-9, ended - began) * (WIDE - 2 * EDGE)

    def y(rate: float) -> float:
        return HIGH - EDGE - rate / most * (HIGH - 2 * EDGE)

    parts = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDE} {HIGH}" font-family="sans-serif">']
    parts.append(f'<rect width="{WIDE}" height="{HIGH}" fill="#fff"/>')
    for one in faults:
        span = max(1.5, x(one.until) - x(one.at))
        colour = COLOURS.get(one.family, "#999")
        parts.append(
            f'<rect x="{x(one.at):.1f}" y="{EDGE}" width="{span:.1f}" height="{HIGH - 2 * EDGE}" fill="{colour}" '
            f'fill-opacity="0.25"><title>{one.kind} {one.target} at {one.at - began:.0f} s</title></rect>'
        )
    for name, colour in LINES:
        points = " ".join(f"{x(edges[n] + width_s / 2):.1f},{y(rate):.1f}" for n, rate in enumerate(rates[name]))
        parts.append(f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="1.2"/>')
    legend = [*LINES, *((f"fault: {name}", colour) for name, colour in COLOURS.items())]
    for n, (name, colour) in enumerate(legend):
        at = EDGE + n * 130
        parts.append(f'<rect x="{at}" y="10" width="12" height="12" fill="{colour}"/>')
        parts.append(f'<text x="{at + 16}" y="20" font-size="12">{name}</text>')
    for share in (0, 0.5, 1):
        parts.append(f'<text x="4" y="{y(most * share) + 4:.1f}" font-size="11">{most * share:.0f}/s</text>')
        told = f"{(ended - began) * share:.0f} s"
        parts.append(
            f'<text x="{x(began + (ended - began) * share) - 12:.1f}" y="{HIGH - 14}" font-size="11">{told}</text>'
        )
    return "\n".join([*parts, "</svg>"]) + "\n"
