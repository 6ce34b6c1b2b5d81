"""Does what is due when nobody asks: offers that lapse, go or no-go, the end. Any number of replicas may do it."""

from typing import cast
from uuid import UUID

import asyncpg

from kit import logs
from kit.database import AWAY, Busy, Connection, Unknown
from kit.running import Running
from services.enrolment import offerings
from services.enrolment.settings import EnrolmentSettings
from services.enrolment.store import times

log = logs.get(__name__)

LOOK_S = 1.0  # an offer lapses at most so long after its hour
AGAIN_S = 30.0  # when an offering's look has failed
SOON_S = 1.0  # when somebody else held its row, or nobody knows whether it was done
HELD = (asyncpg.LockNotAvailableError, asyncpg.QueryCanceledError, Unknown)


async def run(running: Running) -> None:
    """Look at each offering whose hour has come, until the process is asked to stop.

    What was due while everything was down is due still, and is done once, at the start.
    """
    settings = cast(EnrolmentSettings, running.settings)
    while True:
        try:
            while not running.stopping.is_set() and await _next(running, settings):
                pass
        except (Busy, *AWAY) as error:
            log.info("clock_waits_for_database", error=type(error).__name__)
        if not await running.pause(LOOK_S):
            return


async def _next(running: Running, settings: EnrolmentSettings) -> bool:
    """The first that is due, in a transaction of its own. False when none is."""
    due: list[UUID] = []

    async def look(conn: Connection) -> None:
        due.clear()
        offering_id = await times.take_timer(conn)
        if offering_id is not None:
            due.append(offering_id)
            await offerings.look(conn, offering_id, settings)

    try:
        await running.database.run(look, "worker")
    except (Busy, *AWAY):
        raise
    except Exception as error:
        if not due:
            raise
        held = isinstance(error, HELD)
        (log.warning if held else log.error)("offering_not_looked_at", offering_id=str(due[0]), exc_info=error)
        wait_s = SOON_S if held else AGAIN_S
        await running.database.run(lambda conn: times.put_off(conn, due[0], wait_s), "worker")
    return bool(due)
