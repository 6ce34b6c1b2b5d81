"""Which request or event is being served now: the ids that go with every row, event and log line it causes."""

import re
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass

TRACEPARENT = re.compile(r"(?!ff)[0-9a-f]{2}-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}")
ID = re.compile(r"[A-Za-z0-9._:/-]{1,100}")


@dataclass(frozen=True, slots=True)
class Trail:
    """`correlation_id`: the request that began it all. `causation_id`: the event being listened to, if one is.

    `traceparent` (W3C) is passed on whether or not this process writes traces.
    """

    correlation_id: str
    causation_id: str | None = None
    traceparent: str | None = None


_trail: ContextVar[Trail | None] = ContextVar("trail", default=None)


def current() -> Trail | None:
    """The trail being followed, none outside any."""
    return _trail.get()


def here() -> Trail:
    """The trail being followed; outside any (a timer's work) one that begins here."""
    return _trail.get() or Trail(correlation_id=str(uuid.uuid4()))


def trail(correlation_id: str | None = None, causation_id: str | None = None, traceparent: str | None = None) -> Trail:
    """A trail from what others sent: an id or traceparent that is not well formed is left out, a missing id is made."""
    return Trail(
        correlation_id=correlation_id if correlation_id and ID.fullmatch(correlation_id) else str(uuid.uuid4()),
        causation_id=causation_id,
        traceparent=traceparent if traceparent and TRACEPARENT.fullmatch(traceparent) else None,
    )


@contextmanager
def following(followed: Trail) -> Iterator[Trail]:
    """Everything inside happens on this trail."""
    token = _trail.set(followed)
    try:
        yield followed
    finally:
        _trail.reset(token)
