"""After the database was restored: says of each enrolment that was spoken of since the backup what it is now."""

from uuid import UUID

from contracts.enrolment import EnrolmentEvent, EnrolmentRestated, SeatsEvent
from contracts.registry import BY_TYPE
from kit import outbox
from kit.database import Connection
from kit.restoring import Restate, Restated, Restored
from services.enrolment.settings import EnrolmentSettings
from services.enrolment.store import enrolments
from services.enrolment.work import Work


def restating(settings: EnrolmentSettings) -> Restate:
    """What makes the other services' copies equal this database again; no learner is told anything by it."""

    async def restate(conn: Connection, restored: Restored) -> Restated:
        last: dict[UUID, EnrolmentEvent] = {}
        runs: set[UUID] = set()
        for one in restored.lost:
            kind = BY_TYPE.get(one.type)
            event = kind.model_validate(one.data) if kind else None
            if isinstance(event, EnrolmentEvent):
                last[event.enrolment_id] = event
            if isinstance(event, (EnrolmentEvent, SeatsEvent)):
                runs.add(event.offering_id)
        work = await Work.on(conn, runs, settings)
        there = await enrolments.enrolments(conn, list(last))
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
        return Restated([f"{gone} enrolments are lost, {len(there)} are as they were at the backup: said to all."])

    return restate
