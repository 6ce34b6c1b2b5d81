"""Which function listens to which event, and how a Kafka record becomes an event or a reason why not."""

import functools
import hashlib
import json
import re
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import groupby

from pydantic import ValidationError

from contracts.envelope import Envelope, Event, Undecodable, decode, explain
from contracts.registry import BY_TYPE
from kit.database import Connection
from kit.gate import Gate
from kit.parking import Record
from kit.trail import Trail, trail

# A parked record's key is indexed, and an index takes 2,704 bytes at most: parking a longer one would fail for ever.
MOST_KEY_BYTES = 1000
_PARTNER_TOPIC = re.compile(r"^partners\.([a-z0-9-]+)\.")
_MAJOR = re.compile(r"\.v\d+$")


@functools.lru_cache(maxsize=1000)
def _speaker(topic: str) -> tuple[str | None, str]:
    """(the partner whose topic it is, or none for one of ours; what the `source` of its events must be)."""
    owner = _PARTNER_TOPIC.match(topic)
    return (owner[1], f"/partners/{owner[1]}") if owner else (None, f"/{topic.partition('.')[0]}")


def can_be_kept(record: Record) -> bool:
    """Whether a record can wait among the parked; one that cannot is refused, whoever else is waiting."""
    return record.key is None or len(record.key) <= MOST_KEY_BYTES


class Refused(Exception):
    """This event can never be right as it is. `reason` is a code, `detail` names the field and the rule, no values.

    `event_id` and `type` are those of the event, as `Received` has them, where its envelope could be read.
    """

    def __init__(self, reason: str, detail: str, event_id: str | None = None, type: str | None = None) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason = reason
        self.detail = detail
        self.event_id = event_id
        self.type = type


@dataclass(frozen=True, slots=True)
class Received:
    """One event as a listener gets it. `event_id` is unique among all senders; `event` is none when nobody listens.

    `said_at_latest`: by when what was kept back or parked was said; of what has just come its record tells.
    """

    record: Record
    envelope: Envelope
    event_id: str
    digest: bytes | None
    event: Event | None
    said_at_latest: datetime | None = None

    @property
    def topic(self) -> str:
        return self.record.topic

    @property
    def trail(self) -> Trail:
        """What this event causes happens on this trail."""
        return trail(self.envelope.correlationid, self.event_id, self.envelope.traceparent)


Listener = Callable[[Connection, Sequence[Received]], Awaitable[None]]


class Listeners:
    """The table of one consumer: event class -> listener. Filled by decorators, like a router's routes."""

    def __init__(self, gate: Gate | None = None) -> None:
        self.gate = gate  # who among strangers is listened to; none: everybody
        self._by_event: dict[type[Event], Listener] = {}

    def on(self, *events: type[Event]) -> Callable[[Listener], Listener]:
        """Let a function listen to these events: it gets runs of them, in order, in their batch's transaction."""

        def add(listener: Listener) -> Listener:
            for event in events:
                if event in self._by_event:
                    raise ValueError(f"{event.__name__} has a listener already")
                self._by_event[event] = listener
            return listener

        return add

    def read(self, record: Record) -> Received:
        """The record as an event. Raises Refused with the reason, whatever the bytes and headers are."""
        if not can_be_kept(record):
            raise Refused("too_large", f"key: is {len(record.key or b'')} bytes; a key may have {MOST_KEY_BYTES}")
        owner, expected = _speaker(record.topic)
        try:
            envelope = decode(record.value, record.headers, ours=owner is None)
        except Undecodable as error:
            id_ = f"{owner}/{error.id}" if owner and error.id else None
            raise Refused(error.reason, error.detail, id_) from None
        if envelope.source != expected:
            id_ = f"{owner}/{envelope.id}" if owner else None  # of ours nobody knows whose id it is
            raise Refused("foreign_source", f"source: must be {expected} on this topic", id_, envelope.type)
        if owner:  # a partner chooses its own ids: they are unique within the partner only
            event_id = f"{owner}/{envelope.id}"
            # … and its numbering says nothing: a made-up aggregate would make another partner's events look old.
            envelope = envelope.model_copy(update={"aggregate": None, "epoch": None, "seq": None})
            digest = hashlib.sha256(f"{envelope.type}\n{json.dumps(envelope.data, sort_keys=True)}".encode()).digest()
        else:
            event_id, digest = envelope.id, None
        try:
            event = self._event(envelope, foreign=bool(owner))
        except Refused as error:  # its sender looks for it by its id
            raise Refused(error.reason, error.detail, event_id, envelope.type) from None
        return Received(record, envelope, event_id, digest, event)

    def _event(self, envelope: Envelope, *, foreign: bool) -> Event | None:
        kind = BY_TYPE.get(envelope.type)
        if kind is None:
            known = {_MAJOR.sub("", event.spec.type) for event in self._by_event}
            if _MAJOR.sub("", envelope.type) in known:
                raise Refused("unknown_version", "type: has a major version that this service does not know")
            if foreign:
                raise Refused("unknown_type", f"type: must be one of {', '.join(sorted(self._types()))}")
            return None  # something new that others may want
        if kind not in self._by_event:
            if foreign:
                raise Refused("unknown_type", f"type: must be one of {', '.join(sorted(self._types()))}")
            return None
        try:
            return kind.model_validate(envelope.data)
        except ValidationError as error:
            raise Refused(*explain(error)) from None

    def _types(self) -> Iterator[str]:
        return (event.spec.type for event in self._by_event)

    async def tell(self, conn: Connection, received: Sequence[Received]) -> None:
        """Call the listeners, each with its run of consecutive events, so that the whole order is kept."""
        told = [one for one in received if one.event is not None]
        for listener, run in groupby(told, key=lambda one: self._by_event[type(one.event)]):  # type: ignore[index]
            await listener(conn, list(run))
