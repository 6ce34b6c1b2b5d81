"""How often one caller asks: counted by the minute in this process, and forgotten after it."""

import time
from collections import Counter

MINUTE_S = 60


class Pace:
    """Each caller's requests of the present minute; all of it is gone with the minute, however many callers come."""

    def __init__(self) -> None:
        self._minute = 0
        self._counts: Counter[str] = Counter()

    def wait_s(self, caller: str, most: int) -> int:
        """0 and counted when the caller may ask now, else the seconds until they may."""
        now = time.monotonic()
        minute = int(now // MINUTE_S)
        if minute != self._minute:
            self._minute = minute
            self._counts.clear()
        if self._counts[caller] >= most:
            return int(MINUTE_S - now % MINUTE_S) + 1
        self._counts[caller] += 1
        return 0
