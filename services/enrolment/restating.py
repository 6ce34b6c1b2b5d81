"""After the database was restored: says of each enrolment that was spoken of since the backup what it is now.

Who was forgotten after the backup is forgotten again first; who was logged out or lost a role is not let in again.
"""

from contextlib import suppress
from datetime import datetime
from uuid import UUID

import asyncpg

from contracts.enrolment import EnrolmentEvent, EnrolmentRestated, ErasureRequested, LearnerGotNoSeat, SeatsEvent
from contracts.registry import BY_TYPE
from contracts.topics import KEPT_DAYS
from kit import outbox
from kit.database import Connection
from kit.restoring import MARGIN, Restate, Restated, Restored
from services.enrolment import erasing
from services.enrolment.settings import EnrolmentSettings
from services.enrolment.store import enrolments, erasures, lines, sessions
from services.enrolment.work import Work


def restating(settings: EnrolmentSettings) -> Restate:
    """What makes the other services' copies equal this database again; no learner is told anything by it."""

    async def restate(conn: Connection, restored: Restored) -> Restated:
        forgotten = await _forget_again(conn, restored, settings)
        last: dict[UUID, EnrolmentEvent] = {}
        runs: set[UUID] = set()
        in_vain: dict[UUID, datetime] = {}  # who was told so is not told again by the clock
        for one in restored.lost:
            kind = BY_TYPE.get(one.type)
            event = kind.model_validate(one.data) if kind else None
            if isinstance(event, EnrolmentEvent):
                last[event.enrolment_id] = event
            if isinstance(event, LearnerGotNoSeat):
                in_vain[event.enrolment_id] = one.time or restored.since
            if isinstance(event, (EnrolmentEvent, SeatsEvent)):
                runs.add(event.offering_id)
        work = await Work.on(conn, runs, settings)
        there = await enrolments.enrolments(conn, list(last))
        await lines.told_in_vain(conn, list(in_vain.items()))
        said = []
        for enrolment_id, event in last.items():
            now = there.get(enrolment_id)
            about = event.model_dump(include=set(EnrolmentEvent.model_fields))
            state = {"state": now.state, "place": now.place} if now else {"state": "lost"}
            said.append(EnrolmentRestated.model_validate({**about, **state}))
        await outbox.add_all(conn, said)
        work.had_free = dict.fromkeys(work.had_free)  # how many seats are free is said anew of each run
        await work.close()
        gone = len(last) - len(there)
        told = [f"{gone} enrolments are lost, {len(there)} are as they were at the backup: said to all."]
        return Restated([*told, _told(forgotten, restored), *await _let_nobody_back_in(conn, restored)])

    return restate


async def _forget_again(conn: Connection, restored: Restored, settings: EnrolmentSettings) -> int:
    """Forget whom this database had forgotten after the backup, as far as that is known: it stands on the topic, and in
    the database that was there before. Returns how many these are.

    Who had never asked for a seat is nobody here: only what was said of them tells the notifier by which log-in.
    """
    known = [BY_TYPE[one.type].model_validate(one.data) for one in restored.lost if one.type in BY_TYPE]
    asked = [one for one in known if isinstance(one, ErasureRequested)]
    again = {one.learner_id for one in asked}
    sealed = {one.learner_id: one.sealed for one in asked if one.sealed}
    if restored.kept is not None:
        with suppress(asyncpg.UndefinedTableError):  # it is of before there were any
            again.update(await erasures.forgotten_since(restored.kept, restored.since - MARGIN))
    for learner_id in sorted(again):
        await erasing.forget(conn, learner_id, "restore", settings, sealed=sealed.get(learner_id))
    return len(again)


async def _let_nobody_back_in(conn: Connection, restored: Restored) -> list[str]:
    """Who was logged out or lost a role after the backup is not let in by it again; in words."""
    told = [f"Nobody is logged in any more: {await sessions.end_all(conn)} sessions of the backup are over."]
    if restored.kept is None:
        return [*told, "Roles are as they were at the backup, also those taken away since. Look at each: people list"]
    dropped = await sessions.drop_others(conn, await sessions.members(restored.kept))
    if dropped:
        told.append(
            f"{dropped} people had roles at the backup that were taken away or changed since, and have none now. "
            "Where that is wrong: people add"
        )
    return told


def _told(forgotten: int, restored: Restored) -> str:
    """Nobody comes back in silence: what the topics do not tell any more, an operator has to see to."""
    known = f"{forgotten} people had been forgotten since the backup, and are forgotten again."
    if restored.kept is not None:
        return known
    return (
        f"{known} Known is what stands on the topic, {KEPT_DAYS} days of it: whoever was forgotten before that, and "
        "after the backup, is here again. Forget each anew: people erase ID --reason WHY --yes"
    )
