"""The kinds of value that events and request bodies are made of, each with its limits in one place."""

import re
import unicodedata
from collections.abc import Callable
from datetime import UTC, datetime
from decimal import Decimal
from typing import Annotated, Literal

from pydantic import AfterValidator, AwareDatetime, BaseModel, BeforeValidator, ConfigDict, Field

Language = Literal["nb", "nn", "en", "sma", "sme"]
DeliveryMode = Literal["onsite", "online", "hybrid", "blended"]
NkrLevel = Literal["2", "3", "4A", "4B", "5.1", "5.2", "6.1", "6.2", "7", "8"]

# Cc and Cs: control characters break logs and mail headers, and PostgreSQL keeps no U+0000. U+2028 and U+2029 are line
# breaks in JavaScript. Bidi overrides make a title lie about itself. U+FFFE and U+FFFF may not stand in XML (Atom).
_REFUSED = re.compile(
    "[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff\ufffe\uffff]"
)
# No language has so many marks on a letter (Unicode calls 30 stream-safe), and to put them in order takes Python the
# square of their number: half a minute for what one message holds. All marks stand above U+0300.
MOST_MARKS = 30
_MAY_BE_MARKS = re.compile(f"[\u0300-\U0010ffff]{{{MOST_MARKS + 1}}}")
_MADE_OF_MARKS = frozenset("\u0f73\u0f75\u0f81")  # no marks by name, but taken apart for it into two each
_SHAPELESS = frozenset("\u115f\u1160\u3164\uffa0")  # what fills a place in Korean: letters by name, and not to be seen
_STUDY_POINTS = r"[0-9]{1,3}(\.[0-9]{1,2})?"
_DATE_AND_TIME = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt ][0-9]{2}:")
# Outside these a time zone's offset may leave the calendar, and somebody has mistyped the year anyway.
FIRST = datetime(2000, 1, 1, tzinfo=UTC)
LAST = datetime(2100, 1, 1, tzinfo=UTC)
A_TIME = "must be a time with its zone such as 2026-03-02T18:00:00+01:00"
MOST_SEQ = 2**53 - 1  # above this, JavaScript rounds


def clean(text: str) -> str:
    """NFC-normalised and stripped, lines ended by one newline; refuses what is no language's text, or misleads."""
    if _REFUSED.search(text):
        raise ValueError("must not hold control characters or text direction overrides")
    if _MAY_BE_MARKS.search(text) and _is_piled(text):
        raise ValueError(f"must not hold more than {MOST_MARKS} marks on one letter")
    return unicodedata.normalize("NFC", text.replace("\r\n", "\n").replace("\r", "\n")).strip()


def _is_piled(text: str) -> bool:
    marks = 0
    for character in text:
        marks = marks + 1 if unicodedata.combining(character) or character in _MADE_OF_MARKS else 0
        if marks > MOST_MARKS:
            return True
    return False


def clean_line(text: str) -> str:
    """As `clean`, on one line and with something to read in it: spaces of no width alone are not a title."""
    text = clean(text)
    if "\n" in text or "\t" in text:
        raise ValueError("must be one line without tabs")
    if not any(character.isalnum() and character not in _SHAPELESS for character in text):
        raise ValueError("must hold a letter or a digit")
    return text


def at_most(length: int) -> Callable[[str], str]:
    """Limits the text that is kept, after `clean`: NFC makes three characters of some."""

    def check(text: str) -> str:
        if len(text) > length:
            raise ValueError(f"must be at most {length} characters")
        return text

    return check


def dotted_decimal(text: str) -> str:
    """Study points as a decimal string, e.g. "7.5": a float would turn 7.1 into 7.0999."""
    if not re.fullmatch(_STUDY_POINTS, text):
        if re.fullmatch(_STUDY_POINTS, text.replace(",", ".")):
            raise ValueError('must be written with a full stop, such as "7.5"')
        raise ValueError('must be a number of study points such as "7.5"')
    return format(Decimal(text).normalize(), "f")


def is_written_out(value: object) -> object:
    """Refuses a bare number for a time: whether it counts seconds or milliseconds would be a guess."""
    if isinstance(value, datetime) or (isinstance(value, str) and _DATE_AND_TIME.match(value)):
        return value
    raise ValueError(A_TIME)


def in_utc(instant: datetime) -> datetime:
    """The same instant in UTC; refuses years that nobody means."""
    if not FIRST <= instant < LAST:
        raise ValueError(f"must be between {FIRST.year} and {LAST.year}")
    return (
        instant.astimezone(UTC) if instant.utcoffset() else instant.replace(tzinfo=UTC)
    )  # ours are: a tenth of the time


_SLUG = r"^[a-z0-9](?:[a-z0-9-]{0,38}[a-z0-9])?$"
_CODE = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,59}$"
Slug = Annotated[str, Field(pattern=_SLUG, description="a-z, 0-9 and hyphens")]
Code = Annotated[str, Field(pattern=_CODE, description="the partner's own code: A-Z a-z 0-9 . _ -")]
NOT_A_SLUG = "must be 1 to 40 of a-z, 0-9 and hyphens, such as mo-i-rana"
PRINTABLE = r"^[^\u0000-\u001f\u007f-\u009f\ufffe\uffff]*$"
IN_WORDS = {  # what a value must be that does not fit the pattern: few people read one
    _SLUG: NOT_A_SLUG,
    _CODE: "must be 1 to 60 of A-Z a-z 0-9 . _ -, such as HVG-01",
    PRINTABLE: "must not hold control characters",
}
# The three limits together keep a course in five languages under MAX_EVENT_BYTES, whatever its letters (4 bytes each).
Line = Annotated[
    str, AfterValidator(clean_line), AfterValidator(at_most(200)), Field(json_schema_extra={"maxLength": 200})
]
Summary = Annotated[
    str, AfterValidator(clean), AfterValidator(at_most(2_000)), Field(json_schema_extra={"maxLength": 2_000})
]
Prose = Annotated[
    str, AfterValidator(clean), AfterValidator(at_most(8_000)), Field(json_schema_extra={"maxLength": 8_000})
]
Room = Annotated[str, AfterValidator(clean), AfterValidator(at_most(200)), Field(json_schema_extra={"maxLength": 200})]
StudyPoints = Annotated[str, AfterValidator(dotted_decimal), Field(json_schema_extra={"pattern": f"^{_STUDY_POINTS}$"})]
# A time without a zone is refused: nobody knows when it is.
Instant = Annotated[AwareDatetime, BeforeValidator(is_written_out), AfterValidator(in_utc)]
PartnerSeq = Annotated[int, Field(ge=0, le=MOST_SEQ, strict=True)]


class Session(BaseModel):
    """One meeting of an offering."""

    model_config = ConfigDict(frozen=True)

    starts_at: Instant
    ends_at: Instant
    room: Room | None = None


class Place(BaseModel):
    """Where one can attend, and how many can: a learning arena, or `online`."""

    model_config = ConfigDict(frozen=True)

    arena: Slug
    capacity: Annotated[int, Field(ge=0, le=100_000, strict=True)]


class Period(BaseModel):
    """When one may ask for a seat: those of a group, or everybody."""

    model_config = ConfigDict(frozen=True)

    group: Slug | None = None
    opens_at: Instant
    closes_at: Instant


class OfferingRules(BaseModel):
    """How the seats of one run are given out and its learners reminded; what a partner leaves out is as it is here."""

    minimum: Annotated[int, Field(ge=1, le=100_000, strict=True, description="learners over all places")] | None = None
    decide_at: Annotated[Instant, Field(description="when it is judged whether the minimum is reached")] | None = None
    on_too_few: Annotated[
        Literal["hold", "cancel"], Field(description="hold: the partner decides; cancel: all are told at once")
    ] = "hold"
    requires_approval: Annotated[bool, Field(strict=True)] = False
    periods: Annotated[list[Period], Field(max_length=20, description="none: open until the start")] = []
    late_enrolment_until: (
        Annotated[Instant, Field(description="seats are given out until then, not the start")] | None
    ) = None
    priority_groups: Annotated[list[Slug], Field(max_length=10, description="first in line, best first")] = []
    offer_hours: Annotated[int, Field(ge=1, le=336, strict=True, description="how long a freed seat is offered")] = 48
    on_lapse: Annotated[
        Literal["leave", "back_of_queue"], Field(description="what an offer nobody answers does to the learner")
    ] = "leave"
    reminder_days: Annotated[
        list[Annotated[int, Field(ge=1, le=60, strict=True)]],
        Field(max_length=3, description="so many days before the first meeting learners are reminded; none: never"),
    ] = [7, 1]
