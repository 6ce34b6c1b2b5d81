"""Whether a process makes progress: the answers of /healthz and /readyz."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from typing import Any

from aiokafka.conn import create_conn
from aiokafka.errors import KafkaError

from kit.database import Database

Check = Callable[[], Awaitable[str | None]]  # None: fine; else what is wrong, in words without values

CHECK_S = 2.0  # a check that says nothing for so long is itself a finding


class Health:
    """The checks of one process. Ready means: every check is fine and nobody has asked the process to stop.

    Beside them stands what the process can live with and an operator must look at: `attention`, only when there is any.
    """

    def __init__(self, service: str) -> None:
        self.service = service
        self.stopping = False
        self._checks: dict[str, Check] = {}
        self._worries: dict[str, Check] = {}

    def register(self, name: str, check: Check) -> None:
        """Add a check; a name given twice replaces the first."""
        self._checks[name] = check

    def mention(self, name: str, check: Check) -> None:
        """Add a check whose finding is told, and leaves the process ready."""
        self._worries[name] = check

    async def ready(self) -> tuple[bool, dict[str, Any]]:
        """Ask every check at once. The body names each with `ok` or what is wrong."""
        asked = [*self._checks.values(), *self._worries.values()]
        answers = await asyncio.gather(*map(_ask, asked))
        checks = {name: answer or "ok" for name, answer in zip(self._checks, answers, strict=False)}
        worries = zip(self._worries, answers[len(self._checks) :], strict=True)
        attention = {name: answer for name, answer in worries if answer}
        if self.stopping:
            checks["stopping"] = "this process has been asked to stop"
        ready = all(answer == "ok" for answer in checks.values())
        body = {"service": self.service, "ready": ready, "checks": checks}
        return ready, body | ({"attention": attention} if attention else {})


async def _ask(check: Check) -> str | None:
    try:
        async with asyncio.timeout(CHECK_S):
            return await check()
    except TimeoutError:
        return f"no answer within {CHECK_S:g} s"
    except Exception as error:
        return f"the check failed: {type(error).__name__}"


def database_answers(database: Database) -> Check:
    async def check() -> str | None:
        async with database.reading("worker") as conn:
            await conn.fetchval("SELECT 1")
        return None

    return check


def broker_answers(bootstrap: str) -> Check:
    """Asks a broker which protocol it speaks: an open port may be anybody's."""
    places = [place.rpartition(":") for place in bootstrap.split(",")]

    async def check() -> str | None:
        for host, _, port in places:
            with contextlib.suppress(KafkaError, OSError):
                connection = await create_conn(host, int(port), request_timeout_ms=1000)
                connection.close()
                return None
        return "no broker answers"

    return check
