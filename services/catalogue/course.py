"""One course as it is held in memory to be found: what is asked of it, and how it stands in a list."""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import NamedTuple, get_args

from contracts.fields import Language
from services.catalogue.domain import eqf, is_open
from services.catalogue.languages import in_language
from services.catalogue.store import Row

LANGUAGES: tuple[str, ...] = get_args(Language)


class Run(NamedTuple):
    """A run that is not cancelled. `seats`: those of its arenas that are not known to be full. `periods`: when one may
    ask for a seat there (opens, closes). `free`: where one may at the time that it is."""

    starts_at: datetime
    arenas: tuple[str, ...]
    seats: tuple[str, ...]
    periods: tuple[tuple[datetime, datetime], ...]
    free: tuple[str, ...] = ()

    def at(self, now: datetime) -> "Run":
        """As it is then, by its periods."""
        return self._replace(free=self.seats if is_open(self.periods, now) else ())

    def fits(self, arena: str | None, free: bool) -> bool:
        there = self.free if free else self.arenas
        return bool(there) if arena is None else arena in there


@dataclass(frozen=True, slots=True)
class Course:
    """`kinds`: its values of what is counted. In JSON it is `about`, then `texts` in one language, then `more`."""

    id: str
    title_order: str
    withdrawn: bool
    kinds: Mapping[str, tuple[str, ...]]
    about: str
    texts: Mapping[str, str]
    more: str
    runs: tuple[Run, ...]

    @property
    def turns(self) -> Iterator[datetime]:
        """When one of its runs opens or closes."""
        return (moment for run in self.runs for period in run.periods for moment in period)

    def at(self, now: datetime) -> "Course":
        """As it is then, by the periods of its runs."""
        return replace(self, runs=tuple(run.at(now) for run in self.runs))

    def fitting(self, since: datetime, arena: str | None, free: bool) -> Iterator[Run]:
        """Its runs from then on that fit, the first first."""
        return (run for run in self.runs if run.starts_at >= since and run.fits(arena, free))

    def json(self, language: str, since: datetime, arena: str | None, free: bool) -> str:
        """As it stands in a list: the first start and the arenas are of its runs that fit."""
        fitting = list(self.fitting(since, arena, free))
        starts_at = f'"{written(fitting[0].starts_at)}"' if fitting else "null"
        arenas = ", ".join(f'"{arena}"' for arena in sorted({arena for run in fitting for arena in run.arenas}))
        text = self.texts[language]
        return f'{self.about}, "text": {text}, {self.more}, "starts_at": {starts_at}, "arenas": [{arenas}]}}'


def read(row: Row, runs: Iterable[Run]) -> Course:
    """The course that a row of `store.search` tells of."""
    title, summary = json.loads(row["title"]), json.loads(row["summary"] or "{}")
    about = {"course_id": str(row["id"]), "partner": row["partner"], "code": row["code"], "title": title}
    more = {
        "subjects": row["subjects"],
        "level": row["level"],
        "eqf": eqf(row["level"]),
        "language": row["language"],
        "studiepoeng": row["studiepoeng"],
        "price_ore": row["price_ore"],
    }
    kinds = {
        "partner": (row["partner"],),
        "subject": tuple(dict.fromkeys(row["subjects"])),
        "level": (row["level"],) if row["level"] else (),
        "language": (row["language"],),
    }
    order, at_last = row["title_order"], tuple(sorted(runs))
    head, tail = _json(about)[:-1], _json(more)[1:-1]
    return Course(str(row["id"]), order, row["withdrawn"], kinds, head, _texts(title, summary), tail, at_last)


def written(instant: datetime) -> str:
    return instant.isoformat().replace("+00:00", "Z")


def _texts(title: Mapping[str, str], summary: Mapping[str, str]) -> dict[str, str]:
    """Title and summary as JSON by the language that is asked for; one text for all whom it is the best for."""
    if len(title) == 1 and len(summary) <= 1:
        return dict.fromkeys(LANGUAGES, _text(title, summary, "nb"))
    known: dict[str, str] = {}
    return {one: known.setdefault(text := _text(title, summary, one), text) for one in LANGUAGES}


def _text(title: Mapping[str, str], summary: Mapping[str, str], language: str) -> str:
    found = {"title": in_language(title, language), "summary": in_language(summary, language)}
    return _json({name: text and {"language": text.language, "text": text.text} for name, text in found.items()})


def _json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False)


def runs_by_course(rows: Sequence[Row], now: datetime) -> dict[object, list[Run]]:
    """The runs that rows of `store.search` tell of, as they are then, by the course's id."""
    found: dict[object, list[Run]] = {}
    for row in rows:
        run = Run(row["starts_at"], tuple(row["arenas"]), tuple(row["seats"]), _periods(row["periods"]))
        found.setdefault(row["course_id"], []).append(run.at(now))
    return found


def _periods(content: str | None) -> tuple[tuple[datetime, datetime], ...]:
    periods = json.loads(content or "[]")
    return tuple((datetime.fromisoformat(one["opens_at"]), datetime.fromisoformat(one["closes_at"])) for one in periods)
