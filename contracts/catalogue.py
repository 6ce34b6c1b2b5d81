"""What the catalogue says: partners, courses and offerings, each with its whole state and a version that only grows."""

from typing import Annotated, Literal
from uuid import UUID

from pydantic import BaseModel, Field

from contracts.envelope import Event
from contracts.fields import Instant, Line, OfferingRules, Place, Session

# SHA-256 of a partner's key over HTTP. A key has 256 random bits, so that its digest gives it to nobody.
KeyDigest = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class PartnerState(Event, topic="catalogue.partners", aggregate="partner", key="partner"):
    partner: str
    name: str
    orgnr: str | None = None
    arenas: list[str]
    version: int
    keys: list[KeyDigest] = []
    contact: Annotated[Line, Field(description="whom learners may ask: its address, phone or page")] | None = None
    # Said with the rest each time: the topic keeps the newest word alone.
    sealed: (
        Annotated[str, Field(description="how to reach its office: a JWE for the notifier's key; none: no mail goes")]
        | None
    ) = None


class PartnerJoined(PartnerState):
    """A provider has joined and may publish courses."""


class PartnerChanged(PartnerState):
    """A provider's name, arenas, keys or mail address have changed, or it may publish again."""


class PartnerSuspended(PartnerState):
    """A provider may not publish for now, or is changed while it may not. Its courses stay as they are."""


class CourseState(Event, topic="catalogue.courses", aggregate="course", key="course_id"):
    course_id: UUID
    partner: str
    code: str
    version: int
    title: dict[str, str]
    summary: dict[str, str] = {}
    description: dict[str, str] = {}
    prerequisites: dict[str, str] = {}
    subjects: list[str] = []
    language: str = "nb"
    delivery_mode: str = "onsite"
    studiepoeng: str | None = None
    level: str | None = None
    price_ore: int = 0
    funded_by: str | None = None


class CourseCreated(CourseState):
    """A course is in the catalogue."""


class CourseChanged(CourseState):
    """A course's description has changed."""


class CourseWithdrawn(Event, topic="catalogue.courses", aggregate="course", key="course_id"):
    """A course is no longer offered. Its offerings are cancelled by events of their own."""

    course_id: UUID
    partner: str
    version: int


class CourseRestated(CourseState):
    """What a course is, said again by an operator's command: nothing has changed, and whoever knows it passes it over.

    `withdrawn`: it is no longer offered.
    """

    withdrawn: bool = False


class OfferingState(
    OfferingRules, Event, topic="catalogue.courses", aggregate="course", key="course_id", subject="offering_id"
):
    offering_id: UUID
    course_id: UUID
    partner: str
    key: str
    version: int
    starts_at: Instant
    ends_at: Instant
    sessions: list[Session] = []
    places: list[Place]


class OfferingScheduled(OfferingState):
    """A run of a course is open for enrolment."""


class OfferingChanged(OfferingState):
    """A run's dates, sessions or places have changed."""


class Judged(BaseModel):
    """What was found of a run's minimum, by the rules that it has."""

    decision: Literal["at_risk", "confirmed", "too_few"]
    decided_at: Instant


class OfferingRestated(OfferingState):
    """What a run is, said again by an operator's command: nothing has changed, and whoever knows it passes it over.

    Why it was cancelled, and what to take instead, is said once, in `OfferingCancelled`.
    """

    cancelled: bool = False
    judged: Judged | None = None


class OfferingConfirmed(Event, topic="catalogue.courses", aggregate="course", key="course_id", subject="offering_id"):
    """A run will take place: it has the learners it needs, or its provider says so though it has too few."""

    offering_id: UUID
    course_id: UUID
    partner: str
    version: int
    enrolled: int
    minimum: int


class Alternative(BaseModel):
    """Another run that somebody whose own was cancelled may want."""

    offering_id: UUID
    course_id: UUID
    title: dict[str, str]
    starts_at: Instant
    arenas: list[str]


class OfferingCancelled(Event, topic="catalogue.courses", aggregate="course", key="course_id", subject="offering_id"):
    """A run will not take place. `reason` is the partner's words for those who are told of it, `too_few` when not
    enough had enrolled, or `course_withdrawn` when the course is offered no more and nothing was said of the run."""

    offering_id: UUID
    course_id: UUID
    partner: str
    version: int
    reason: str = ""
    alternatives: list[Alternative] = []
