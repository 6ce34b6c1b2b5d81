"""The kinds of value that events and request bodies are made of, each with its limits in one place."""

import re
import unicodedata
from decimal import Decimal
from typing import Annotated, Literal

from pydantic import AfterValidator, AwareDatetime, BaseModel, ConfigDict, Field

Language = Literal["nb", "nn", "en", "sma", "sme"]
DeliveryMode = Literal["onsite", "online", "hybrid", "blended"]
NkrLevel = Literal["2", "3", "4A", "4B", "5.1", "5.2", "6.1", "6.2", "7", "8"]

# Cc and Cs: control characters break logs and mail headers; Bidi overrides make a title lie about itself.
_REFUSED = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]")


def clean(text: str) -> str:
    """NFC-normalised and stripped; refuses control characters and text direction overrides."""
    if _REFUSED.search(text):
        raise ValueError("must not hold control characters or text direction overrides")
    return unicodedata.normalize("NFC", text).strip()


def clean_line(text: str) -> str:
    """As `clean`, on one line and not empty."""
    text = clean(text)
    if "\n" in text or "\r" in text:
        raise ValueError("must be one line")
    if not text:
        raise ValueError("must not be empty")
    return text


def dotted_decimal(text: str) -> str:
    """Study points as a decimal string, e.g. "7.5": a float would turn 7.1 into 7.0999."""
    if not re.fullmatch(r"\d{1,3}(\.\d{1,2})?", text):
        raise ValueError('must be a number of study points such as "7.5"')
    return str(Decimal(text).normalize()) if "." in text else text


Slug = Annotated[str, Field(pattern=r"^[a-z0-9](?:[a-z0-9-]{0,38}[a-z0-9])?$", description="a-z, 0-9 and hyphens")]
Code = Annotated[
    str,
    Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,59}$", description="the partner's own code: A-Z a-z 0-9 . _ -"),
]
Line = Annotated[str, Field(max_length=200), AfterValidator(clean_line)]
Prose = Annotated[str, Field(max_length=8_000), AfterValidator(clean)]
StudyPoints = Annotated[str, AfterValidator(dotted_decimal)]
Instant = AwareDatetime  # a time without a zone is refused: nobody knows when it is


class Session(BaseModel):
    """One meeting of an offering."""

    model_config = ConfigDict(frozen=True)

    starts_at: Instant
    ends_at: Instant
    room: Annotated[str, Field(max_length=200), AfterValidator(clean)] | None = None


class Place(BaseModel):
    """Where one can attend, and how many can: a learning arena, or `online`."""

    model_config = ConfigDict(frozen=True)

    arena: Slug
    capacity: Annotated[int, Field(ge=0, le=100_000, strict=True)]
