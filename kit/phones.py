"""Phone numbers as people write them, kept in one form (E.164); the same everywhere where one is asked for."""

import re
from typing import Annotated

from pydantic import AfterValidator, Field

_BETWEEN = re.compile(r"[ \u00a0().-]")
_WHOLE = re.compile(r"\+(?:47[2-9][0-9]{7}|(?!47)[1-9][0-9]{7,14})")
_NORWEGIAN = re.compile(r"[2-9][0-9]{7}")


def a_number(text: str) -> str:
    """`912 34 567`, `0047 91234567` and `+47 912 34 567` as `+4791234567`. Whether anybody has it is not asked."""
    number = _BETWEEN.sub("", text)
    if number.startswith("00"):
        number = f"+{number[2:]}"
    elif _NORWEGIAN.fullmatch(number):
        number = f"+47{number}"
    if not _WHOLE.fullmatch(number):
        raise ValueError("must be a phone number such as 912 34 567, or with the country before it: +46 70 123 45 67")
    return number


Phone = Annotated[str, Field(max_length=32), AfterValidator(a_number)]
