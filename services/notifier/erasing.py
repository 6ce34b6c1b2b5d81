"""Forgetting a person: the address, the choices, the calendar, and what a notice said; and nothing of it comes back."""

from collections.abc import Iterable, Sequence
from typing import cast
from uuid import UUID

from contracts.enrolment import ContactGiven, ErasureRequested
from contracts.envelope import Envelope
from contracts.notifier import ErasureDone
from kit import idempotency, logs, outbox, parking, tracing
from kit.consumer import Consumer
from kit.database import Connection
from kit.listeners import Listeners, Received
from kit.running import Running
from kit.sealing import Unsealable, unseal
from services.notifier import bounces
from services.notifier.store import bounces as refused
from services.notifier.store import erased as store

log = logs.get(__name__)

LOOK_S = 60.0


def listeners(private_key: str) -> Listeners:
    """The listener that forgets, with the key that opens by which log-in a person is known."""
    asked = Listeners()

    @asked.on(ErasureRequested)
    async def forget_people(conn: Connection, received: Sequence[Received]) -> None:
        await store.stop_contacts(conn)
        for each in received:
            one = cast(ErasureRequested, each.event)
            with tracing.hearing(each.trail, each.envelope.type):
                counts = await forget(conn, one.learner_id, _login(one, private_key), private_key)
                await outbox.add(conn, ErasureDone(request_id=one.request_id, service="notifier", counts=counts))
                log.info("person_forgotten", count=sum(counts.values()))

    return asked


def consumer(private_key: str) -> Consumer:
    """On a topic of its own: whatever is parked of a contact holds back nobody who asks to be forgotten."""
    return Consumer("erasures", listeners(private_key), topics=("enrolment.erasures",))


def logins(heard: Iterable[Envelope], private_key: str) -> dict[UUID, str]:
    """Learner -> by which log-in they are known, by what was said of those who are to be forgotten."""
    asked = (ErasureRequested.model_validate(one.data) for one in heard if one.type == ErasureRequested.spec.type)
    return {one.learner_id: login for one in asked if (login := _login(one, private_key))}


def _login(asked: ErasureRequested, private_key: str) -> str | None:
    """By which log-in this person is known; none when it was not said, or for a key that we have no more."""
    if asked.sealed is None:
        return None
    try:
        found = unseal(private_key, asked.sealed).get("login")
    except Unsealable as error:
        log.warning("login_not_opened", reason=str(error))  # the address goes by the learner's id all the same
        return None
    return found if isinstance(found, str) else None


async def forget(conn: Connection, learner_id: UUID, login: str | None, private_key: str) -> dict[str, int]:
    """Delete what is known of this learner, in the caller's transaction, which has stopped contacts; what, how many.

    Asked again, it deletes what has come since under the learner's id. What belongs to the log-in is deleted the first
    time only: the same person may have come again since, as another learner. One who came before is a learner whom
    enrolment has lost with its database, so that nobody can ask for them.
    """
    known = login or await store.login(conn, learner_id)
    addresses = await refused.reached(conn, learner_id)
    counts = {"refusals": 0, "preferences": 0, "quiet_hours": 0, "calendars": 0, "answers": 0}
    counts["contacts"] = await store.delete_contact(conn, learner_id)  # first: whoever notes a refusal holds it
    if addresses:
        digests = [digest for one in addresses for digest in bounces.digests(private_key, one)]
        counts["refusals"] = await refused.remove(conn, digests)
    counts["refusals"] += await store.delete_bounced(conn, learner_id)
    counts["notices"] = await store.empty_notices(conn, learner_id)
    key = str(learner_id)
    counts["parked"] = await parking.empty(conn, ContactGiven.spec.topic, key.encode(), "erasure", store.REASON)
    if await store.add(conn, learner_id):
        people = [one for one in (known, key) if one]
        counts["preferences"] = await store.delete_preferences(conn, people)
        counts["quiet_hours"] = await store.delete_quiet_hours(conn, people)
        counts["calendars"] = await store.delete_calendars(conn, people)
        counts["answers"] = await idempotency.forget_caller(conn, known) if known else 0
        for earlier in await store.came_before(conn, learner_id, known) if known else []:
            for name, count in (await forget(conn, earlier, None, private_key)).items():
                counts[name] += count
    return counts


async def run(running: Running) -> None:
    """A worker: end what was owed to people after they were forgotten. Many may do so beside each other."""
    while True:
        await running.database.run(store.suppress_late, "worker")
        if not await running.pause(LOOK_S):
            return
