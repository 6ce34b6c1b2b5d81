"""What a benchmark tells: a table with medians, and a plot of every round against what is wanted."""

import html
import math
import os
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from deploy.local.places import ROOT

FOLDER = ROOT / ".kursnett" / "bench"
WIDE, LINE, LABELS, EDGE = 1000, 28, 360, 20
DECADES = (0.01, 0.1, 1, 10)  # of what is wanted, along the plot


@dataclass(frozen=True)
class Row:
    """One figure: its value in each round; `at_least` or `at_most` is what is wanted of the median."""

    what: str
    rounds: Sequence[float]
    unit: str
    at_least: float | None = None
    at_most: float | None = None

    @property
    def median(self) -> float:
        return statistics.median(self.rounds)

    def reached(self, value: float) -> float | None:
        """How much of what is wanted this value is: 1 just reaches it, 2 is twice as good. None: nothing is wanted."""
        if self.at_least is not None:
            return value / self.at_least
        return None if self.at_most is None else self.at_most / value


class Table:
    """The figures of one benchmark, told as they are known."""

    def __init__(self, name: str, title: str, folder: Path) -> None:
        self.name = name
        self.title = f"{title}; one fdatasync takes {fsync_us(folder):.0f} us here"
        self.rows: list[Row] = []
        print(self.title, flush=True)

    def add(
        self,
        what: str,
        rounds: Sequence[float],
        unit: str = "",
        *,
        at_least: float | None = None,
        at_most: float | None = None,
    ) -> None:
        """Tell one figure."""
        row = Row(what, rounds, unit, at_least, at_most)
        self.rows.append(row)
        bar = at_least if at_least is not None else at_most
        wanted = "" if bar is None else f"wanted {'at least' if at_least is not None else 'at most'} {bar:g}"
        print(f"{what:<50}{row.median:>11,.2f} {unit:<10}{wanted}", flush=True)

    def draw(self) -> None:
        """Write the plot to `.kursnett/bench/`."""
        FOLDER.mkdir(parents=True, exist_ok=True)
        path = FOLDER / f"{self.name}.svg"
        judged = [row for row in self.rows if row.reached(row.median) is not None]
        path.write_text(plot(self.title, judged), encoding="utf-8")
        print(f"the plot is {path}", flush=True)


def plot(title: str, rows: Sequence[Row]) -> str:
    """One line a figure: a dot for each round, a bar at the median; right of the line at 1 is as good as wanted."""
    high = (len(rows) + 3) * LINE
    parts = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDE} {high}" font-family="sans-serif">']
    parts.append(f'<rect width="{WIDE}" height="{high}" fill="#fff"/>')
    parts.append(f'<text x="{EDGE}" y="{LINE * 0.8:.0f}" font-size="14">{html.escape(title)}</text>')
    for share in DECADES:
        x, colour = along(share), "#1b4f72" if share == 1 else "#ccc"
        parts.append(f'<line x1="{x:.1f}" y1="{LINE}" x2="{x:.1f}" y2="{high - LINE}" stroke="{colour}"/>')
        told = "as wanted" if share == 1 else f"{share:g} times"
        parts.append(f'<text x="{x:.1f}" y="{high - 8}" font-size="11" text-anchor="middle">{told}</text>')
    for number, row in enumerate(rows, 1):
        y = (number + 0.5) * LINE
        told = f"{row.what.strip()}: {row.median:,.2f} {row.unit}".strip()
        parts.append(f'<text x="{EDGE}" y="{y + 4:.1f}" font-size="12">{html.escape(told)}</text>')
        dots = (along(row.reached(value)) for value in row.rounds)
        parts += [f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="#7f8c8d"/>' for x in dots]
        x = along(row.reached(row.median))
        parts.append(f'<rect x="{x - 1.5:.1f}" y="{y - 9:.1f}" width="3" height="18" fill="#c0392b"/>')
    return "\n".join([*parts, "</svg>"]) + "\n"


def along(share: float | None) -> float:
    """Where on the plot so much of what is wanted stands: each decade is as wide as the next."""
    least, most = DECADES[0], DECADES[-1]
    kept = min(max(share or least, least), most)
    decades = len(DECADES) - 1
    part = (math.log10(kept) - math.log10(least)) / decades
    return LABELS + part * (WIDE - LABELS - 3 * EDGE)


def fsync_us(folder: Path) -> float:
    """Median time of one fdatasync of a small append, microseconds: what every commit waits for."""
    took = []
    with (folder / "fsync").open("wb", buffering=0) as file:
        for _ in range(200):
            file.write(b"x" * 512)
            began = time.perf_counter()
            os.fdatasync(file.fileno())
            took.append((time.perf_counter() - began) * 1e6)
    return statistics.median(took)
