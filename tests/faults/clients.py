"""Sends one request as a client would: with its key, again when the answer was lost, and every try in the history."""

import asyncio
import itertools
import random
from dataclasses import dataclass, field
from typing import Any

import httpx2

from tests.faults.history import History, Line

TRY_S = 6.0  # longer than the services' own limits, so that theirs is what one sees
MOST_RETRIES = 3
AGAIN_S = 0.25


@dataclass
class Operation:
    """One thing that a client wants, under one key. `said` is what its first line tells of it."""

    f: str
    id: str
    method: str
    url: str
    token: str | None
    body: Line | None
    said: Line
    keyed: bool = True
    other: Line | None = None  # another body, to be sent under the same key
    tries: Any = field(default_factory=lambda: itertools.count(1))
    answer: Line | None = None  # the first that was as wanted


def unsure(line: Line) -> bool:
    """Whether nobody knows yet what has become of it; also when an earlier try is still under way."""
    return line["kind"] == "info" or line.get("err") == "request-in-progress"


class Caller:
    """Who sends requests; several at once may share it."""

    def __init__(self, history: History, dice: random.Random) -> None:
        self._history = history
        self._dice = dice
        self._web = httpx2.AsyncClient(timeout=TRY_S, trust_env=False)

    async def close(self) -> None:
        await self._web.aclose()

    async def once(self, who: str, op: Operation, variant: int = 0) -> Line:
        """One try. Returns its outcome's line: ok (2xx), fail (a certain no) or info (nobody knows)."""
        n = next(op.tries)
        known: Line = {"who": who, "f": op.f, "id": op.id, "n": n}
        if op.keyed:
            known["key"] = op.id
        if variant:
            known["variant"] = variant
        self._history.add("invoke", **known, **op.said)
        headers = {"authorization": f"Bearer {op.token}"} if op.token else {}
        if op.keyed:
            headers["idempotency-key"] = op.id
        body = op.other if variant else op.body
        try:
            answer = await self._web.request(op.method, op.url, json=body, headers=headers)
            told = answer.json() if "json" in answer.headers.get("content-type", "") else {}  # else a page for people
        except (httpx2.HTTPError, OSError, ValueError) as error:
            return self._history.add("info", **known, err=type(error).__name__)
        status = answer.status_code
        if 200 <= status < 300:
            line = self._history.add("ok", **known, status=status, body=told)
            if not variant:
                op.answer = op.answer or line
            return line
        slug = str(told.get("type", "")).rpartition("/")[2] if isinstance(told, dict) else ""
        kind = "info" if status >= 500 or status in (408, 429) else "fail"
        return self._history.add(kind, **known, status=status, err=slug)

    async def persist(self, who: str, op: Operation, retries: int | None = None) -> Line:
        """Try, and after an unknown outcome try again with the same key, 0 to 3 times as the dice say."""
        left = self._dice.randint(0, MOST_RETRIES) if retries is None else retries
        pause_s = AGAIN_S
        while True:
            line = await self.once(who, op)
            if not unsure(line) or not left:
                return line
            left -= 1
            await asyncio.sleep(pause_s * self._dice.uniform(0.5, 1.5))
            pause_s *= 2

    async def insist(self, who: str, op: Operation, within_s: float = 60.0) -> Line:
        """Try until it is done. Raises TimeoutError; what is refused for certain is an error of the suite's own."""
        async with asyncio.timeout(within_s):
            while True:
                line = await self.once(who, op)
                if line["kind"] == "ok":
                    return line
                if not unsure(line):
                    raise RuntimeError(f"{op.method} {op.url} was refused: {line}")
                await asyncio.sleep(AGAIN_S)

    async def play(self, who: str, op: Operation) -> Line | None:
        """The whole of an operation as a rough client does it: sometimes twice at once, again, or with another body."""
        if op.keyed and self._dice.random() < 0.06:
            await asyncio.gather(self.once(who, op), self.once(f"{who}b", op))
        if op.answer is None:
            await self.persist(who, op)
        if op.answer is not None and op.keyed:
            if self._dice.random() < 0.08:
                await self.persist(who, op)
            if op.other is not None and self._dice.random() < 0.05:
                await self.once(who, op, variant=1)
        return op.answer
