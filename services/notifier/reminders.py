"""Reminds those who have a seat that their course begins: on the days before that its partner has named, in Oslo."""

from kit.database import Connection
from kit.running import Running
from services.notifier import notices
from services.notifier.store import reminders

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
