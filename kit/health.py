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
    """The checks of one process. Ready means: every check is fine and nobody has asked the process to stop."""

    def __init__(self, service: str) -> None:
        self.service = service
        self.stopping = False
        self._checks: dict[str, Check] = {}

    def register(self, name: str, check: Check) -> None:
        """Add a check; a name given twice replaces the first."""
        self._checks[name] = check

    async def ready(self) -> tuple[bool, dict[str, Any]]:
        """Ask every check at once. The body names each with `ok` or what is wrong."""
        names = list(self._checks)
        answers = await asyncio.gather(*(_ask(self._checks[name]) for name in names))
        checks = {name: answer or "ok" for name, answer in zip(names, answers, strict=True)}
        if self.stopping:
            checks["stopping"] = "this process has been asked to stop"
        ready = all(answer == "ok" for answer in checks.values())
        return ready, {"service": self.service, "ready": ready, "checks": checks}


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
