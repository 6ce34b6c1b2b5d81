"""A batch of strangers' records in one transaction: what one of them gets wrong is refused alone and delays nobody."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field

import asyncpg

from kit import inbox, parking
from kit.database import Connection
from kit.gate import Gate
from kit.listeners import Listeners, Received, Refused, can_be_kept
from kit.parking import Record, Waiting
from kit.settings import Settings

REUSED = ("id_reused", "id: was sent before with other data; a new event needs a new id")
BEHIND = "behind"  # let go, but what was kept has not all run on yet
IN_HAND = "in_hand"  # something long has its lock: whoever waited for it would have all the others wait
DETAILS = {
    IN_HAND: "waits until what else was asked of the same has been done",
    "": "waits behind a parked record with the same key",
    BEHIND: "waits behind what was kept of its sender before it",
}

Refuse = Callable[[Connection, Record, Refused], Awaitable[bool]]  # False: it was kept before


@dataclass(slots=True)
class Outcome:
    """How many records had their effect, came again, wait; and the ids that were noted as heard and must not be."""

    done: int = 0
    repeat: int = 0
    waiting: list[Waiting] = field(default_factory=list)
    unheard: list[str] = field(default_factory=list)


async def effects(
    conn: Connection,
    group: str,
    listeners: Listeners,
    gate: Gate | None,
    settings: Settings,
    records: Sequence[Record],
    refuse: Refuse,
) -> Outcome:
    """Give each record of the batch its effect, refuse it or keep it back. Raises what a listener did not foresee.

    Each listener's work stands behind a savepoint of its own: a broken rule takes back that one record's. What meets a
    lock that is held for long, as while a file of its sender is taken in, is kept and runs when the lock is free.
    """
    topics = sorted({record.topic for record in records})
    watch = await gate.look(conn, settings, topics) if gate else _Open()
    behind = await parking.kept_back(conn, group, topics) if gate else set()
    held = await parking.held_keys(conn, group, records)
    read = [_read(listeners, record) for record in records]
    candidates = [
        one
        for one in read
        if isinstance(one, Received)
        and not (watch.closed(one.topic) or one.topic in behind or one.record.held_by(held))
    ]
    heard = await inbox.hear(conn, group, candidates, whatever_is_held=True) if candidates else inbox.Heard()
    fresh = {id(candidates[place]) for place in heard.fresh}
    reused = {id(candidates[place]) for place in heard.reused}
    refused: dict[str, Refused] = {}  # by event id, in this batch
    in_hand: set[str] = set()  # topics of which one has met a lock: two seconds of everybody's time, and no more
    outcome = Outcome()
    for record, one in zip(records, read, strict=True):
        why = watch.closed(record.topic) or (BEHIND if record.topic in behind | in_hand else "")
        if (why or record.held_by(held)) and can_be_kept(record):
            outcome.waiting.append(_waiting(record, one, why))
            if id(one) in fresh:  # its topic was closed by one before it in this batch
                outcome.unheard.append(one.event_id if isinstance(one, Received) else "")
            continue
        error = one if isinstance(one, Refused) else Refused(*REUSED) if id(one) in reused else None
        if error is None and isinstance(one, Received):
            error = refused.get(one.event_id)  # a copy of what was refused is no repeat: it is refused as well
            if error is None and id(one) not in fresh:
                outcome.repeat += 1
                continue
            try:
                error = error or await _tell(conn, listeners, one)
            except asyncpg.LockNotAvailableError:
                in_hand.add(record.topic)
                outcome.waiting.append(_waiting(record, one, IN_HAND))
                outcome.unheard.append(one.event_id)
                continue
            if error is None:
                outcome.done += 1
                watch.taken(record.topic)
                continue
            refused[one.event_id] = error
            outcome.unheard.append(one.event_id)
        if error is not None and await refuse(conn, record, error):
            await watch.refused(record.topic)
    if outcome.waiting:
        await parking.hold(conn, group, outcome.waiting)
    if outcome.unheard:
        await parking.forget(conn, group, outcome.unheard)
    return outcome


def _read(listeners: Listeners, record: Record) -> Received | Refused:
    try:
        return listeners.read(record)
    except Refused as error:
        return error


async def _tell(conn: Connection, listeners: Listeners, one: Received) -> Refused | None:
    try:
        async with conn.transaction():
            await listeners.tell(conn, [one])
    except Refused as error:
        return error
    return None


def _waiting(record: Record, one: Received | Refused, why: str) -> Waiting:
    event_id, kind = one.event_id, one.envelope.type if isinstance(one, Received) else one.type
    return Waiting(record, event_id, kind, why or parking.HELD, DETAILS.get(why, "waits until its sender is let go on"))


class _Open:
    """Nobody is kept out."""

    def closed(self, topic: str) -> str:
        return ""

    def taken(self, topic: str) -> None:
        return None

    async def refused(self, topic: str) -> None:
        return None
