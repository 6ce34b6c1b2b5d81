"""What partners are told: each event of their own courses, without what is sealed or for our own machinery."""

import json
from collections.abc import Sequence
from typing import Any, cast

from contracts.envelope import Envelope
from contracts.registry import TOLD
from contracts.topics import TOLD_TO_PARTNERS
from kit import tracing
from kit.consumer import Consumer
from kit.database import Connection
from kit.listeners import Listeners, Received
from kit.trail import here
from services.notifier import offices
from services.notifier.channels import kafka
from services.notifier.store import partner_feeds, webhooks
from services.notifier.store.webhooks import Told

TELLS = tuple(event for event in TOLD if event.spec.topic in TOLD_TO_PARTNERS)
TYPES = {event.spec.type: event.__name__ for event in TELLS}
LEFT_OUT = {"causationid", "traceparent"}
SEALED = "sealed"  # the links of an offer act for the learner

listeners = Listeners()


def consumer() -> Consumer:
    """One of its own: a fault in what partners are told must not hold back a learner's mail."""
    return Consumer("webhooks", listeners, topics=TOLD_TO_PARTNERS)


@listeners.on(*TELLS)
async def owe(conn: Connection, received: Sequence[Received]) -> None:
    """Owe each event to its partner's webhooks, say it on its partner's feed, and count it for its office's mail."""
    await offices.note(conn, received)
    concerned = sorted({_partner(one) for one in received})
    called = await webhooks.listening(conn, concerned)
    read = await partner_feeds.reading(conn, concerned)
    told = []
    for one in received:
        if _partner(one) in called | read:
            with tracing.hearing(one.trail, one.envelope.type):
                told.append(_told(one))
    await webhooks.owe(conn, [one for one in told if one.partner in called])
    await kafka.deliver(conn, [one for one in told if one.partner in read])


def _partner(one: Received) -> str:
    return str(cast(Any, one.event).partner)


def _told(one: Received) -> Told:
    path = here()
    return Told(
        event_id=one.event_id,
        partner=_partner(one),
        type=one.envelope.type,
        name=TYPES[one.envelope.type],
        key=one.envelope.partitionkey or str(one.envelope.subject),
        body=body(one.envelope),
        course_id=str(cast(Any, one.event).course_id),
        subject=one.envelope.subject,
        correlation_id=path.correlation_id,
        traceparent=path.traceparent,
    )


def body(envelope: Envelope) -> bytes:
    """The CloudEvent as a partner gets it, in JSON: only the fields that our contracts have, and nothing sealed."""
    whole = envelope.model_dump(mode="json", exclude_none=True, exclude=LEFT_OUT)
    whole["data"] = {name: value for name, value in envelope.data.items() if name != SEALED}
    return json.dumps(whole, ensure_ascii=False, separators=(",", ":")).encode()
