"""Reads JSON from strangers: what two readers could take differently, or a database could not keep, is refused."""

import json
import math
import re
from typing import Any, Never

from contracts.topics import MAX_EVENT_BYTES

MAX_DEPTH = 32  # a course is five levels deep; deeper costs stack and nobody means it
MAX_INTEGER = 2**63 - 1  # PostgreSQL's bigint
_UNKEPT = re.compile("[\x00\ud800-\udfff]")  # no text column keeps these, and surrogates have no UTF-8


class Undecodable(Exception):
    """These bytes are not an event. `reason` is a code for counting, `detail` names the place and never the value.

    `id` is the one that its sender gave it, where that can be told: who sent it looks for it by that.
    """

    def __init__(self, reason: str, detail: str, id: str | None = None) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason = reason
        self.detail = detail
        self.id = id


def read(value: bytes) -> Any:
    """The JSON value of these bytes: UTF-8 without a byte order mark, each name once in its object, finite numbers.

    Raises `Undecodable`, whatever the bytes are, with the reason `too_large`, `not_utf8`, `not_json` or `invalid`.
    """
    if len(value) > MAX_EVENT_BYTES:
        raise Undecodable("too_large", f"the value is {len(value)} bytes; an event may have {MAX_EVENT_BYTES}")
    try:
        text = value.decode()
    except UnicodeDecodeError:
        raise Undecodable("not_utf8", "the value is not UTF-8") from None
    try:
        found = _DECODER.decode(text)
    except json.JSONDecodeError as error:
        raise Undecodable("not_json", f"the value is not JSON at line {error.lineno}, column {error.colno}") from None
    except RecursionError:
        raise Undecodable("invalid", _TOO_DEEP) from None
    # Only an escape can name a character that UTF-8 cannot carry, and depth needs brackets: most values need no walk.
    if "\\u" in text or text.count("{") + text.count("[") > MAX_DEPTH:
        _walk(found, 1)
    return found


_TOO_DEEP = f"nested deeper than {MAX_DEPTH} levels"


def _walk(value: Any, depth: int) -> None:
    if isinstance(value, str):
        if _UNKEPT.search(value):
            raise Undecodable("invalid", "a text holds U+0000 or half a character")
        return
    if not isinstance(value, dict | list):
        return
    if depth > MAX_DEPTH:
        raise Undecodable("invalid", _TOO_DEEP)
    if isinstance(value, dict):
        for name in value:
            _walk(name, depth)
        value = value.values()
    for part in value:
        _walk(part, depth + 1)


def _named_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):  # some readers keep the first, some the last
        raise Undecodable("invalid", "a name stands twice in one object")
    return found


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):  # 1e400
        raise Undecodable("invalid", "a number is out of range")
    return number


def _integer(text: str) -> int:
    # The length first: int() of many digits is slow, and refused by itself only above 4,300.
    if len(text) > len(f"-{MAX_INTEGER}") or abs(number := int(text)) > MAX_INTEGER:
        raise Undecodable("invalid", "a number is out of range")
    return number


def _no_constant(_: str) -> Never:
    raise Undecodable("not_json", "NaN and Infinity are not JSON")


_DECODER = json.JSONDecoder(
    object_pairs_hook=_named_once, parse_float=_finite, parse_int=_integer, parse_constant=_no_constant
)
