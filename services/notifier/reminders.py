"""Reminds those who have a seat that their course begins: on the days before that its partner has named, in Oslo."""

from dataclasses import replace
from datetime import timedelta

from kit.database import Connection
from kit.running import Running
from services.notifier import notices
from services.notifier.store import reminders
from services.notifier.store.outgoing import Claimed

LOOK_S = 30.0
MOST = 2_000  # owed in one transaction


async def run(running: Running) -> None:
    """A worker: owe what it is time for, and take back what has become wrong. Many may do so beside each other."""
    while True:
        count = await running.database.run(turn, "worker")
        if not await running.pause(LOOK_S if count < MOST else 0.1):
            return


async def turn(conn: Connection) -> int:
    """One look, in one transaction; returns how many reminders it has owed."""
    await reminders.take_back(conn)
    return await reminders.owe(conn, notices.CHANNEL, MOST)


def as_it_is(notice: Claimed) -> Claimed:
    """A reminder that was put off says how many days are left by now; whatever else it is stays as it is."""
    if notice.template != "reminder":
        return notice
    left = round((min(notice.starts()) - (notice.now or notice.sending_since)) / timedelta(days=1))
    return replace(notice, facts={**notice.facts, "days": min(notice.facts["days"], max(left, 1))})
