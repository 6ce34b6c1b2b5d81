"""How long until it worked again: the first success, after a fault, of what the fault had hit."""

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Any

import asyncpg
import httpx2

from tests.faults.history import History
from tests.faults.schedule import Fault
from tests.faults.stack import FaultStack

WITHIN_S = 30.0  # what takes longer is told as not recovered; the checker then waits for the whole to come to rest
LOOK_S = 0.05
READS = {"catalogue": "/api/catalogue/v1/courses?limit=1", "enrolment": "/api/enrolment/v1/me/enrolments?limit=1"}
WRITES = ("enrol", "withdraw")

# When all of the first half second's events were out: of three brokers, the two that are left take theirs at once.
_PUBLISHED = """
SELECT max(published_at) FROM outbox, (SELECT min(created_at) AS at FROM outbox WHERE created_at >= $1) AS first
WHERE created_at BETWEEN first.at AND first.at + interval '0.5 s' AND clock_timestamp() > first.at + interval '0.7 s'
HAVING count(*) = count(published_at)
"""
_HEARD = "SELECT min(received_at) FROM inbox WHERE received_at >= $1"

Success = Callable[[float], Awaitable[float | None]]  # since (monotonic) -> when (monotonic)


class Recovery:
    """Asks a stack, as its clients do and in its databases, what works since an instant of time.monotonic()."""

    def __init__(self, stack: FaultStack, history: History) -> None:
        self._stack = stack
        self._history = history
        self._web = httpx2.AsyncClient(timeout=2, trust_env=False)
        self._token = stack.token("nemesis")

    async def close(self) -> None:
        await self._web.aclose()

    async def seconds(self, fault: Fault, since: float) -> tuple[str, float | None]:
        """What was waited for, and how many seconds after `since` it first succeeded; None: not within 30 s."""
        what, success = self._awaited(fault.target)
        try:
            async with asyncio.timeout(WITHIN_S):
                while True:
                    when = await success(since)
                    if when is not None:
                        return what, round(max(0.0, when - since), 3)
                    await asyncio.sleep(LOOK_S)
        except TimeoutError:
            return what, None

    def _awaited(self, target: str) -> tuple[str, Success]:
        """The operation that this target takes part in."""
        service, _, link = target.removeprefix("clients-").partition("-")
        if target == "sink" or link == "smtp":
            return "mail taken", self._mailed
        if target == "hooks" or link == "hooks":
            return "webhook called", self._called
        if service == "kafka" or (link.startswith("kafka") and service != "notifier"):
            speaker = "enrolment" if service == "kafka" else service
            return f"events of {speaker} published", lambda since: self._row(speaker, _PUBLISHED, since)
        if service == "notifier":
            return "event heard by notifier", lambda since: self._row("notifier", _HEARD, since)
        if service == "catalogue":
            return "catalogue read", lambda since: self._read("catalogue")
        return "seat taken or given back", self._wrote

    async def _wrote(self, since: float) -> float | None:
        """The first learner's write that was asked for since then and done."""
        asked = set()
        for line in self._lines(since):
            if line["kind"] == "invoke" and line.get("f") in WRITES:
                asked.add((line["id"], line["n"]))
            elif line["kind"] == "ok" and (line["id"], line["n"]) in asked:
                return float(line["t"])
        return None

    def _lines(self, since: float) -> list[dict[str, Any]]:
        """The lines written since then; they are in order of time."""
        lines = self._history.lines
        place = len(lines)
        while place and lines[place - 1]["t"] >= since:
            place -= 1
        return lines[place:]

    async def _read(self, service: str) -> float | None:
        headers = {"authorization": f"Bearer {self._token}"}
        with contextlib.suppress(httpx2.HTTPError, OSError):
            answer = await self._web.get(self._stack.url(service) + READS[service], headers=headers)
            if answer.status_code == 200:
                return time.monotonic()
        return None

    async def _row(self, database: str, question: str, since: float) -> float | None:
        """When the database says that it first happened; its clock is this machine's."""
        offset = time.time() - time.monotonic()
        found = await ask(self._stack, database, question, datetime.fromtimestamp(since + offset, UTC))
        return None if found is None else found.timestamp() - offset

    async def _mailed(self, since: float) -> float | None:
        return self._stack.sink.taken_at if self._stack.sink.taken_at >= since else None

    async def _called(self, since: float) -> float | None:
        return self._stack.hooks.taken_at if self._stack.hooks.taken_at >= since else None


async def ask(stack: FaultStack, database: str, question: str, *values: Any) -> Any:
    """One value from a database past every link; None where it does not answer."""
    with contextlib.suppress(OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError):
        connection = await asyncpg.connect(stack.dsn(database), timeout=2, command_timeout=4)
        try:
            return await connection.fetchval(question, *values)
        finally:
            connection.terminate()
    return None
