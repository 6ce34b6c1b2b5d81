"""The shapes of what the catalogue answers over HTTP."""

import json
from datetime import datetime
from typing import Literal
from uuid import UUID

from pydantic import BaseModel

from contracts.fields import Instant, OfferingRules, Place, Session
from services.catalogue.languages import Texts
from services.catalogue.store import Row


class CourseTaken(BaseModel):
    """`version` is the number in the `ETag`; it grows with each change."""

    course_id: UUID
    version: int


class OfferingTaken(BaseModel):
    offering_id: UUID
    version: int


class SeatCount(BaseModel):
    arena: str
    capacity: int
    taken: int
    queued: int


class Seats(BaseModel):
    """What enrolment last said of a run's seats, and when: it speaks when a run fills, opens again or is judged."""

    as_of: datetime
    places: list[SeatCount]

    @classmethod
    def of(cls, row: Row | None) -> "Seats | None":
        """None when it has not spoken of them yet."""
        return cls(as_of=row["as_of"], places=json.loads(row["places"])) if row and row["as_of"] else None


class Judgement(BaseModel):
    """Whether enough have enrolled: warned of a week before `decide_at`, judged then. Goes when that day changes."""

    decision: Literal["none", "at_risk", "confirmed", "too_few"] = "none"
    enrolled: int | None = None
    minimum: int | None = None
    decided_at: datetime | None = None


class OfferingShown(OfferingRules):
    """One run of a course, how its seats are given out, and how it was judged."""

    offering_id: UUID
    key: str
    version: int
    state: Literal["scheduled", "cancelled"]
    starts_at: Instant
    ends_at: Instant
    sessions: list[Session] = []
    places: list[Place]
    judgement: Judgement
    seats: Seats | None = None


class OfferingOfCourse(OfferingShown):
    """One run of a course, and whose course it is."""

    course_id: UUID
    partner: str
    code: str


class CourseShown(BaseModel):
    """One course, and its runs. Texts stand by language; `text` has them in the one asked for, or the next best.

    `mixed_scripts` are the languages whose title has a word of two alphabets: it may not be what it looks like.
    """

    course_id: UUID
    partner: str
    code: str
    version: int
    withdrawn: bool
    title: dict[str, str]
    summary: dict[str, str] = {}
    description: dict[str, str] = {}
    prerequisites: dict[str, str] = {}
    subjects: list[str] = []
    language: str = "nb"
    delivery_mode: str = "onsite"
    studiepoeng: str | None = None
    level: str | None = None
    eqf: int | None = None
    price_ore: int = 0
    funded_by: str | None = None
    text: Texts
    mixed_scripts: list[str] = []
    offerings: list[OfferingShown]
