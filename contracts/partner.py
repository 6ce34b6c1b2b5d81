"""What a partner may say of its courses, over Kafka, HTTP or a file; checked at the catalogue's door."""

import re
from typing import Annotated, Self

from pydantic import AfterValidator, ConfigDict, Field, ValidationError, model_validator
from pydantic_core import InitErrorDetails, PydanticCustomError

from contracts.envelope import Event
from contracts.fields import (
    Code,
    DeliveryMode,
    Instant,
    Language,
    Line,
    NkrLevel,
    OfferingRules,
    PartnerSeq,
    Place,
    Prose,
    Session,
    Slug,
    StudyPoints,
    Summary,
)

NUMBER_WORDS = "must not hold a national identity number: take it out"
_ELEVEN_DIGITS = re.compile(r"(?<![0-9])[0-9]{6}[\s-]?[0-9]{5}(?![0-9])")  # a text editor makes a space one that holds


def names_nobody(text: str) -> str:
    """Refuses a text with somebody's national identity number in it: what a partner writes here, everybody reads."""
    if names_somebody(text):
        raise ValueError(NUMBER_WORDS)
    return text


def names_somebody(text: str) -> bool:
    """Whether somebody's national identity number stands in it."""
    numbers = _ELEVEN_DIGITS.findall(text)
    if not numbers:
        return False
    from stdnum.no import fodselsnummer  # 1.4 MB of memory, for services that hear no partner

    return any(fodselsnummer.is_valid(number) for number in numbers)


_Line = Annotated[Line, AfterValidator(names_nobody)]
_Summary = Annotated[Summary, AfterValidator(names_nobody)]
_Prose = Annotated[Prose, AfterValidator(names_nobody)]
# Strict, as whatever decides about people: the text "false" must not be taken for a yes.
Confirmed = Annotated[
    bool, Field(strict=True, description="although people have a seat, wait or stand in line; they are told")
]


def _each_once(given: list[str]) -> list[str]:
    """A subject that stands twice says no more than once."""
    return list(dict.fromkeys(given))


def wrong(words: str, *field: str | int) -> ValidationError:
    """What is wrong between two fields, told at the one that the partner will change, as for a field alone."""
    error = PydanticCustomError("rule", words)
    return ValidationError.from_exception_data("OfferingDates", [InitErrorDetails(type=error, loc=field, input=None)])


class PartnerEvent(Event, topic="partners.{partner}.courses", aggregate="partner-course"):
    """Lies on `partners.<slug>.courses`: the topic, not the body, says who speaks."""

    model_config = ConfigDict(defer_build=False)  # they are HTTP bodies too, whose routes build theirs at once


class CourseText(PartnerEvent, key="code"):
    """A course as a partner describes it; `code` is told by the address over HTTP and by the event over Kafka."""

    title: dict[Language, _Line] = Field(min_length=1)
    summary: dict[Language, _Summary] = {}
    description: dict[Language, _Prose] = {}
    prerequisites: Annotated[dict[Language, _Summary], Field(description="what one must have or know beforehand")] = {}
    subjects: Annotated[list[Slug], Field(max_length=10), AfterValidator(_each_once)] = []
    language: Language = "nb"
    delivery_mode: DeliveryMode = "onsite"
    studiepoeng: StudyPoints | None = None
    level: NkrLevel | None = None
    price_ore: Annotated[int, Field(ge=0, le=100_000_000, strict=True, description="what the learner pays")] = 0
    funded_by: Annotated[_Line, Field(description="who pays the rest")] | None = None


class OfferingDates(OfferingRules, PartnerEvent, key="course_code"):
    """One run of a course as a partner describes it, and how its seats are given out."""

    starts_at: Instant
    ends_at: Instant
    sessions: Annotated[list[Session], Field(max_length=200)] = []
    places: Annotated[list[Place], Field(min_length=1, max_length=20)]

    @model_validator(mode="after")
    def whole(self) -> Self:
        if self.ends_at <= self.starts_at:
            raise wrong("must be after starts_at", "ends_at")
        for number, session in enumerate(self.sessions):
            if session.ends_at <= session.starts_at:
                raise wrong("must be after its starts_at", "sessions", number, "ends_at")
            if session.room is not None and names_somebody(session.room):
                raise wrong(NUMBER_WORDS, "sessions", number, "room")
        arenas = [place.arena for place in self.places]
        if len(set(arenas)) != len(arenas):
            raise wrong("must name each arena once", "places")
        self._seats_can_be_given_out()
        return self

    def _seats_can_be_given_out(self) -> None:
        if (self.minimum is None) != (self.decide_at is None):
            raise wrong(
                "must be there: minimum and decide_at need each other", "decide_at" if self.minimum else "minimum"
            )
        if self.decide_at is not None and self.decide_at >= self.starts_at:
            raise wrong("must be before starts_at", "decide_at")
        if self.minimum is not None and self.minimum > sum(place.capacity for place in self.places):
            raise wrong("must not be more than all places have together", "minimum")
        for number, period in enumerate(self.periods):
            if period.closes_at <= period.opens_at:
                raise wrong("must be after its opens_at", "periods", number, "closes_at")
        if self.late_enrolment_until is not None and not self.starts_at < self.late_enrolment_until <= self.ends_at:
            raise wrong("must be after starts_at and not after ends_at", "late_enrolment_until")
        if len(set(self.priority_groups)) != len(self.priority_groups):
            raise wrong("must name each group once", "priority_groups")
        if len(set(self.reminder_days)) != len(self.reminder_days):
            raise wrong("must name each day once", "reminder_days")


class CoursePublished(CourseText):
    """This course exists, or has changed. Idempotent: it carries the course's whole state."""

    code: Code
    seq: PartnerSeq | None = None


class CourseRetracted(PartnerEvent, key="code"):
    """This course is no longer offered. With people enrolled it waits until it comes again, `confirmed`."""

    code: Code
    confirmed: Confirmed = False
    seq: PartnerSeq | None = None


class OfferingPublished(OfferingDates):
    """This run of a course exists, or has changed. `key` is the partner's own name for it."""

    course_code: Code
    key: Code
    seq: PartnerSeq | None = None


class OfferingRetracted(PartnerEvent, key="course_code"):
    """This run of a course will not take place. With people enrolled it waits until it comes again, `confirmed`."""

    course_code: Code
    key: Code
    reason: _Prose = ""
    confirmed: Confirmed = False
    seq: PartnerSeq | None = None
