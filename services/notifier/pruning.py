"""Deletes notices that have been over for long, some at a time: nobody needs to know for ever who was written to."""

from kit.running import Running
from services.notifier.settings import NotifierSettings
from services.notifier.store import pruning as store

LOOK_S = 3600.0
SOON_S = 0.2  # when there is more: others use the database meanwhile
MOST = 2_000  # in one transaction


class Pruning:
    """A worker; many may work beside each other."""

    def __init__(self, settings: NotifierSettings) -> None:
        self._days = settings.notices_kept_days

    async def run(self, running: Running) -> None:
        """Look until the process is to stop."""
        while True:
            gone = await running.database.run(lambda conn: store.prune(conn, self._days, MOST), "worker")
            if not await running.pause(LOOK_S if gone < MOST else SOON_S):
                return
