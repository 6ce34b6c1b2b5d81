"""Small plots of the last hour or day: how many of something there were in each minute or hour, as bars to draw."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

import asyncpg

from kit.database import Connection

# Given the first instant and the step: (beginning of a step, how many) for each step that had any.
Count = Callable[[Connection, datetime, timedelta], Awaitable[list[tuple[datetime, int]]]]

MINUTES, HOURS = timedelta(minutes=1), timedelta(hours=1)
STEPS = {MINUTES: 60, HOURS: 24}
WIDTH, HEIGHT = 240, 48  # of a drawing, in its own units

_FIRST = "SELECT date_bin($1, app_now(), '2000-01-01Z') - $1 * $2::float8"
# By created_at, which has an index: what waited longer than the time that is drawn is left out.
_PUBLISHED = """
SELECT date_bin($2, published_at, $1) AS at, count(*) FROM outbox
WHERE created_at >= $1 AND published_at >= $1 AND ($3::bytea IS NULL OR position($3 IN payload) > 0) GROUP BY 1
"""
_PARKED = """
SELECT date_bin($2, parked_at, $1) AS at, count(*) FROM parked
WHERE parked_at >= $1 AND state <> 'held' GROUP BY 1
"""


@dataclass(frozen=True, slots=True)
class Plot:
    """What is counted. `title`: {language: text}."""

    title: Mapping[str, str]
    step: timedelta
    count: Count


@dataclass(frozen=True, slots=True)
class Bar:
    """One step: when it began, how many there were, and its rectangle."""

    at: datetime
    count: int
    x: int
    y: int
    width: int
    height: int


@dataclass(frozen=True, slots=True)
class Drawn:
    """`bars` is none when there was too much to count in the time that a page may take."""

    title: Mapping[str, str]
    step: timedelta
    bars: Sequence[Bar] | None

    @property
    def total(self) -> int:
        return sum(bar.count for bar in self.bars or ())

    @property
    def most(self) -> int:
        return max((bar.count for bar in self.bars or ()), default=0)


def published(type_prefix: str = "") -> Count:
    """Counts events by when the broker took them; with `type_prefix` only those whose type begins so."""
    sought = f'"type":"{type_prefix}'.encode() if type_prefix else None

    async def count(conn: Connection, first: datetime, step: timedelta) -> list[tuple[datetime, int]]:
        return [(row[0], row[1]) for row in await conn.fetch(_PUBLISHED, first, step, sought)]

    return count


async def _parked(conn: Connection, first: datetime, step: timedelta) -> list[tuple[datetime, int]]:
    return [(row[0], row[1]) for row in await conn.fetch(_PARKED, first, step)]


OF_ALL = (
    Plot(
        {
            "nb": "Hendelser sendt per minutt",
            "nn": "Hendingar sende per minutt",
            "en": "Events sent per minute",
        },
        MINUTES,
        published(),
    ),
    Plot(
        {
            "nb": "Parkert eller avvist per time",
            "nn": "Parkert eller avvist per time",
            "en": "Parked or refused per hour",
        },
        HOURS,
        _parked,
    ),
)


async def draw(conn: Connection, plot: Plot) -> Drawn:
    """Count and lay out the bars of one plot, the last of them the step that is not over."""
    steps = STEPS[plot.step]
    first = await conn.fetchval(_FIRST, plot.step, steps - 1)
    try:
        found = dict(await plot.count(conn, first, plot.step))
    except (asyncpg.QueryCanceledError, TimeoutError):
        return Drawn(plot.title, plot.step, None)
    counts = [(first + number * plot.step, found.get(first + number * plot.step, 0)) for number in range(steps)]
    return Drawn(plot.title, plot.step, laid_out(counts))


def laid_out(counts: Sequence[tuple[datetime, int]]) -> list[Bar]:
    """The bars side by side; the highest fills the drawing, and one that is not zero can be seen."""
    most = max((count for _, count in counts), default=0)
    room = WIDTH // max(1, len(counts))
    bars = []
    for number, (at, count) in enumerate(counts):
        height = max(2, round(HEIGHT * count / most)) if count else 0
        bars.append(Bar(at, count, number * room, HEIGHT - height, max(1, room - 1), height))
    return bars
