"""Forgetting a person: their seats go to the next in line, what is known of them here goes, and the others are told."""

import json
from dataclasses import dataclass
from typing import Literal
from uuid import UUID

from contracts.enrolment import ErasureRequested
from kit import idempotency, outbox, sealing
from kit.auth import Caller
from kit.database import Connection
from services.enrolment import commands
from services.enrolment.commands import Act
from services.enrolment.domain import Enrolment
from services.enrolment.settings import EnrolmentSettings
from services.enrolment.store import enrolments, erasures, seats, sessions

# Who answers that it has deleted what it knows of a learner. The catalogue knows none: it counts seats.
OTHERS = ("notifier",)

By = Literal["learner", "operator", "restore"]


@dataclass(frozen=True, slots=True)
class Forgotten:
    """A request, and what was deleted here: how many live enrolments were withdrawn, past ones kept without a name."""

    request_id: UUID
    learner_id: UUID
    withdrawn: int
    anonymised: int


async def forget_login(conn: Connection, login: tuple[str, str], settings: EnrolmentSettings) -> Forgotten:
    """Forget whoever logs in so, in the caller's transaction.

    Somebody who has never asked for a seat has no id; the notifier may know what they have chosen all the same, and
    hears of them under one that is made for that.
    """
    known = await erasures.learner(conn, *login) or await erasures.new_id(conn)
    return await forget(conn, known, "learner", settings, login)


async def forget(
    conn: Connection,
    learner_id: UUID,
    by: By,
    settings: EnrolmentSettings,
    login: tuple[str, str] | None = None,
    sealed: str | None = None,
) -> Forgotten:
    """Forget a learner, in the caller's transaction. Asked again, it is said again to the others.

    `sealed`: the log-in as it was told before, for one of whom it is not known here any more.

    The locks are taken as `seats.lock` says: the learner, and then the offerings by their ids, also those of past
    enrolments. Nobody can ask for a seat as this learner from then on: who tries is somebody who was never here.
    """
    login = await erasures.lock(conn, learner_id) or login
    await seats.lock(conn, sorted(await erasures.offerings(conn, learner_id)))
    withdrawn = await _withdraw(conn, learner_id, settings)
    past = await erasures.anonymise(conn, learner_id)
    await erasures.drop(conn, learner_id)
    counts = {"withdrawn": withdrawn, "enrolments": past, "sessions": 0, "answers": 0}
    if login is not None:
        key = Caller(*login).key
        counts["sessions"] = await sessions.end_of(conn, *login)
        counts["answers"] = await idempotency.forget_caller(conn, key)
        sealed = sealing.seal(settings.contact_public_key, {"login": key})
    request_id = await erasures.add(conn, learner_id, by, OTHERS, json.dumps({"enrolment": counts}))
    await outbox.add(conn, ErasureRequested(learner_id=learner_id, request_id=request_id, sealed=sealed))
    return Forgotten(request_id, learner_id, withdrawn, past)


async def _withdraw(conn: Connection, learner_id: UUID, settings: EnrolmentSettings) -> int:
    """Give up all that this learner has or waits for, as they would themselves; how much that was."""
    live = await enrolments.of_learners(conn, [learner_id])
    acts = [Act("withdraw", one.id, lambda owner: True) for one in live]
    for outcome in await commands.decide(conn, acts, settings) if acts else []:
        if not isinstance(outcome, Enrolment):  # whatever lives can be withdrawn
            raise outcome
    return len(live)
