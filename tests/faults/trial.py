"""One run from start to verdict: stack, workload, faults, rest, evidence."""

import asyncio
import contextlib
import json
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import httpx2

from deploy.local.places import SERVICES
from deploy.trouble import Trouble
from tests.faults import evidence
from tests.faults.checker import check
from tests.faults.evidence import Evidence
from tests.faults.history import History
from tests.faults.nemesis import Fault
from tests.faults.nemesis import run as strike
from tests.faults.stack import FaultStack
from tests.faults.verdict import Verdict
from tests.faults.workload import Workload

WARM_UP_S = 8.0
REST_S = 90.0
STILL_TRIES = 5


class Trial:
    """A stack under work. `strain` it with faults, then `judge` it; both may be done again."""

    def __init__(self, home: Path, seed: int, brokers: int = 1, control: str = "") -> None:
        self.home = home
        self.history = History(home / "history.jsonl")
        self.stack = FaultStack(home / "stack", brokers=brokers, unguarded=control)
        self.workload = Workload(self.stack, seed, self.history)
        self.evidence = Evidence()
        self._healed = 0.0
        self._before: dict[str, Any] = {}

    async def __aenter__(self) -> Self:
        self.history.add("begin", wall=time.time())
        await self.stack.__aenter__()
        try:
            self.stack.watch(self.history)
            await self.workload.prepare()
            await self._work(asyncio.sleep(WARM_UP_S))
            self._before = await self._processes()
        except BaseException as error:
            await self.__aexit__(type(error), error, error.__traceback__)
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.workload.close()
        await self.stack.__aexit__(kind, error, trace)
        self.history.__exit__()

    async def strain(self, faults: Sequence[Fault]) -> None:
        """Let these faults happen, one after the other, while clients and partners work."""
        await self._work(strike(self.stack, faults, self.history, asyncio.Event()))
        self.stack.mend()
        self._healed = time.monotonic()

    async def _work(self, meanwhile: Any) -> None:
        stopping = asyncio.Event()
        working = asyncio.create_task(self.workload.run(stopping))
        going = asyncio.ensure_future(meanwhile)
        await asyncio.wait([working, going], return_when=asyncio.FIRST_COMPLETED)
        stopping.set()
        if not going.done():  # the workload has ended by itself, which is a fault of the suite
            going.cancel()
        await asyncio.gather(working, going)

    async def judge(self, only: Iterable[str] = (), rest_s: float = REST_S) -> list[Verdict]:
        """Wait until all is at rest, at most so long after the last heal; read what there is, and judge it."""
        self.evidence = await self.gather(rest_s)
        if not only:
            self.evidence.audit = [row for service in SERVICES for row in await self._audit(service)]
        return check(self.evidence, only)

    async def gather(self, rest_s: float) -> Evidence:
        dsns = {service: self.stack.dsn(service) for service in SERVICES}
        found = Evidence(history=self.history.lines, before=self._before)
        found.quiet = await evidence.rest(dsns, self.stack.partner_kafka, self._healed, rest_s)
        found.after = await self._processes()
        metrics = await self._metrics()
        await self._hold_still(dsns)
        try:
            found.tables = await evidence.tables(dsns)
            found.records = await evidence.records(self.stack.partner_kafka)
            found.deliveries = evidence.lines(self.stack.sink.deliveries)
            found.calls = evidence.lines(self.stack.hooks.calls)
        finally:
            self.stack.mend()
        found.notifier_log = evidence.lines(self.stack.services["notifier"].log_path)
        places = {path.name: path.read_bytes() for path in sorted(self.stack.logs.glob("*.log*"))}
        topics: dict[str, bytearray] = {}
        for one in found.records:
            if not one.topic.startswith("partners."):
                whole = b"|".join([one.key or b"", one.value or b"", *(value or b"" for _, value in one.headers)])
                topics.setdefault(one.topic, bytearray()).extend(whole + b"\n")
        reasons = {
            f"{service}.parked": "\n".join(
                f"{r['reason']} {r['detail']}" for r in found.rows(f"{service}.parked")
            ).encode()
            for service in SERVICES
        }
        read: dict[str, Mapping[str, bytes | bytearray]] = {"logs": places, "topics": topics}
        read |= {"metrics": metrics, "reasons": reasons, "webhooks": {"calls": self.stack.hooks.calls.read_bytes()}}
        for what, texts in read.items():
            found.scanned[what] = sum(len(text) for text in texts.values())
            found.leaks += evidence.leaks(self.workload.canaries, texts)
        return found

    async def _hold_still(self, dsns: Mapping[str, str]) -> None:
        """Freeze the services at a moment at which nothing moves: a mail that was put off may go out at any time."""
        for _ in range(STILL_TRIES):
            for service in self.stack.services.values():
                service.freeze()
            if not any((await evidence.waiting(dsns, self.stack.partner_kafka)).values()):
                return
            self.stack.mend()
            await asyncio.sleep(1)
        for service in self.stack.services.values():
            service.freeze()

    async def _audit(self, service: str) -> list[Any]:
        try:
            rows = json.loads(await self.stack.command(service, "audit", "--json"))
        except Trouble as trouble:  # it ends with 1 when it finds something, and what it printed is in the words
            unasked = [{"words": f"could not be asked: {trouble.what}", "looked": 0, "wrong": 1}]
            rows = json.loads(trouble.what) if trouble.what.startswith("[") else unasked
        return [{"service": service, **row} for row in rows]

    async def _metrics(self) -> dict[str, bytes]:
        async with httpx2.AsyncClient(timeout=5, trust_env=False) as web:
            answers = [await web.get(f"{self.stack.url(service)}/metrics") for service in SERVICES]
        return {f"{name}/metrics": answer.content for name, answer in zip(SERVICES, answers, strict=True)}

    async def _processes(self) -> dict[str, Any]:
        with contextlib.suppress(OSError):
            pids = {name: child.pid for name, child in self.stack.services.items()}
            running = {name: pid for name, pid in pids.items() if pid is not None}
            return await evidence.processes(running, self.stack.dsn("postgres"))
        return {}
