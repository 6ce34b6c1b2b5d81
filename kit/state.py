"""How a service says anew all that it has as it is now: what `republish --state` asks of it."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

from kit.database import Connection


@dataclass(frozen=True)
class State:
    """`count`: how many events of each kind that is. `say`: those of the part after a place, with the caller's
    transaction; how many of each kind they are, and the next place. None is before the first, and after the last."""

    count: Callable[[Connection], Awaitable[Mapping[str, int]]]
    say: Callable[[Connection, Any], Awaitable[tuple[Mapping[str, int], Any]]]
