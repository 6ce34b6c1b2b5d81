"""What people and partners do during a fault run: learners who enrol, withdraw and look, as the seed says."""

import asyncio
import contextlib
import json
import random
import time
from collections import deque
from dataclasses import dataclass, field
from typing import Any

from aiokafka import AIOKafkaConsumer
from aiokafka.errors import KafkaError

from tests.faults.clients import Caller, Operation
from tests.faults.history import History
from tests.faults.partners import ARENAS, HttpPartner, KafkaPartner, Partner
from tests.faults.stack import FaultStack

RATE = 40.0  # operations a second, all clients together
CLIENTS = 16
LEARNERS = 2000
# Words that stand in what people type and nowhere else: no log, topic or metric may hold them.
NAME, HOST, NUMBER = "Zvaleria", "zvaleria.example", "13097248022"
CANARIES = (NAME, HOST, NUMBER)
MIX = {"enrol": 48, "withdraw": 23, "read": 10, "seats": 5, "browse": 8, "late": 6}
READY_S = 45.0


@dataclass
class Market:
    """The runs that learners know of: offering id -> its arenas and seats, as partners hear it on the topic.

    `waiting` are those who want to hear at once when a new run opens: then all of them want its seats.
    """

    runs: dict[str, dict[str, int]] = field(default_factory=dict)
    waiting: list[asyncio.Queue[str]] = field(default_factory=list)
    _seen: set[str] = field(default_factory=set)

    def hear(self, value: bytes | None) -> None:
        event = json.loads(value or b"{}")
        data = event.get("data", {})
        if "places" in data:
            offering = data["offering_id"]
            self.runs[offering] = {place["arena"]: place["capacity"] for place in data["places"]}
            if offering not in self._seen:
                self._seen.add(offering)
                for one in self.waiting:
                    one.put_nowait(offering)
        elif "offering_id" in data:
            self.runs.pop(data["offering_id"], None)

    def choose(self, dice: random.Random, offering: str = "") -> tuple[str, list[str]]:
        """A run, the small ones more often, and where to sit, best first."""
        if offering not in self.runs:
            names = list(self.runs)
            offering = dice.choices(names, [4 if sum(self.runs[name].values()) < 5 else 2 for name in names])[0]
        arenas = list(self.runs[offering])
        dice.shuffle(arenas)
        return offering, arenas[: dice.randint(1, len(arenas))]


class Workload:
    """All clients and partners of a run. `prepare` once, then `run` as often as one likes."""

    def __init__(self, stack: FaultStack, seed: int, history: History, rate: float = RATE) -> None:
        self._stack = stack
        self._history = history
        self._seed = seed
        self._rate = rate
        self._number = 0
        self.market = Market()
        self.partners: list[Partner] = []
        self._callers: list[Caller] = []
        self._learners = [Learners(self, number) for number in range(CLIENTS)]
        self._watch: asyncio.Task[None] | None = None

    def name(self, who: str) -> str:
        """A name for an operation, never given twice."""
        self._number += 1
        return f"{who}.{self._number}"

    def dice(self, who: str) -> random.Random:
        return random.Random(f"{self._seed} {who}")

    def caller(self, who: str) -> Caller:
        made = Caller(self._history, self.dice(f"{who} calls"))
        self._callers.append(made)
        return made

    async def prepare(self) -> None:
        """Let the partners in, publish their courses and wait until enrolment knows them all, or long enough.

        A run that enrolment never hears of is for the checker to find. Raises TimeoutError when it knows none.
        """
        self._watch = asyncio.create_task(self._follow())
        arenas = [part for arena in ARENAS for part in ("--arena", arena)]
        for slug, kind in (("fjord", KafkaPartner), ("nord", HttpPartner)):
            made = json.loads(
                await self._stack.command("catalogue", "partners", "add", slug, "--name", slug, *arenas, "--json")
            )
            self.partners.append(
                kind(
                    self._history,
                    self.dice(slug),
                    self.name,
                    slug=slug,
                    key=made["key"],
                    kafka=self._stack.partner_kafka,
                    url=self._stack.url("catalogue"),
                    caller=self.caller(slug),
                )
            )
        await asyncio.gather(*(partner.prepare() for partner in self.partners))
        wanted = sum(len(partner.courses) for partner in self.partners)
        give_up = time.monotonic() + READY_S
        while True:
            offerings = list(self.market.runs)
            known = [await self._known(one) for one in offerings]
            if len(offerings) == wanted and all(known):
                return
            if time.monotonic() > give_up:
                if not any(known):
                    raise TimeoutError("enrolment has heard of no offering: see the logs")
                return
            await asyncio.sleep(0.2)

    async def run(self, stopping: asyncio.Event) -> None:
        """Work until told to stop; what is under way is finished."""
        lives = [one.live(self._rate / CLIENTS, stopping) for one in self._learners]
        await asyncio.gather(*lives, *(partner.live(stopping) for partner in self.partners))

    async def close(self) -> None:
        """Hang up everywhere."""
        if self._watch is not None:
            self._watch.cancel()
            await asyncio.gather(self._watch, return_exceptions=True)
        await asyncio.gather(*(partner.close() for partner in self.partners), return_exceptions=True)
        await asyncio.gather(*(caller.close() for caller in self._callers), return_exceptions=True)

    def url(self, path: str) -> str:
        return f"{self._stack.url('enrolment')}/api/enrolment/v1{path}"

    @property
    def catalogue(self) -> str:
        return f"{self._stack.url('catalogue')}/api/catalogue/v1"

    def token(self, learner: str) -> str:
        return self._stack.token(learner)

    async def _known(self, offering: str) -> bool:
        url = self.url(f"/offerings/{offering}")
        op = Operation("seats", self.name("setup"), "GET", url, None, None, {"offering": offering}, keyed=False)
        line = await self._learners[0].caller.once("setup", op)
        return bool(line["kind"] == "ok")

    async def _follow(self) -> None:
        """Read the catalogue's topic as a partner may; a broker that is away is asked again."""
        while True:
            consumer = AIOKafkaConsumer(
                "catalogue.courses", bootstrap_servers=self._stack.partner_kafka, auto_offset_reset="earliest"
            )
            with contextlib.suppress(KafkaError, OSError):
                await consumer.start()
                async for record in consumer:
                    self.market.hear(record.value)
            with contextlib.suppress(KafkaError, OSError):
                await consumer.stop()
            await asyncio.sleep(1)


class Learners:
    """One client, and the learners who use it one after the other."""

    def __init__(self, workload: Workload, number: int) -> None:
        self.who = f"client-{number}"
        self._workload = workload
        self._dice = workload.dice(self.who)
        self.caller = workload.caller(self.who)
        self._names = [f"laerer-{number}-{n}" for n in range(LEARNERS // CLIENTS)]
        self._tokens: dict[str, str] = {}
        self._held: list[tuple[str, str, str]] = []  # learner, offering, enrolment
        self._past: deque[Operation] = deque(maxlen=200)
        self._news: asyncio.Queue[str] = asyncio.Queue()
        workload.market.waiting.append(self._news)

    async def live(self, rate: float, stopping: asyncio.Event) -> None:
        """So many operations a second, at uneven times, until told to stop; and a try for each new run at once."""
        while not stopping.is_set():
            with contextlib.suppress(TimeoutError):
                opened = await asyncio.wait_for(self._news.get(), min(2.0, self._dice.expovariate(rate)))
                await self._rush(opened)
                continue
            kind = self._dice.choices(list(MIX), list(MIX.values()))[0]
            await {
                "enrol": self._enrol,
                "withdraw": self._withdraw,
                "read": self._read,
                "seats": self._seats,
                "browse": self._browse,
                "late": self._late,
            }[kind]()

    def _op(self, f: str, method: str, path: str, learner: str | None, body: Any, said: Any, keyed: bool) -> Operation:
        token = None
        if learner is not None:
            token = self._tokens[learner] = self._tokens.get(learner) or self._workload.token(learner)
        name = self._workload.name(self.who)
        return Operation(f, name, method, self._workload.url(path), token, body, said, keyed)

    async def _rush(self, opened: str) -> None:
        """Ask whether enrolment has it yet, and for a seat as soon as it has."""
        for _ in range(12):
            op = self._op("seats", "GET", f"/offerings/{opened}", None, None, {"offering": opened}, keyed=False)
            if (await self.caller.once(self.who, op))["kind"] == "ok":
                await self._enrol(opened)
                return
            await asyncio.sleep(0.25)

    async def _enrol(self, opened: str = "") -> None:
        learner = self._dice.choice(self._names)
        offering, places = self._workload.market.choose(self._dice, opened)
        there = any((learner, offering) == held[:2] for held in self._held)
        if there and self._dice.random() > 0.1:  # sometimes one forgets, and is told
            return
        op = self._op("enrol", "POST", f"/offerings/{offering}/enrolments", learner, None, {}, keyed=True)
        # The name is the operation's own, so that whatever comes of it can be traced to it.
        name, other = f"{NAME} {op.id} {NUMBER}", f"{NAME} {op.id} annen"
        contact = {"email": f"{learner}@{HOST}", "language": self._dice.choice(("nb", "nn", "en"))}
        op.body = {"places": places, "name": name, "contact": contact}
        op.other = {**op.body, "name": other}
        op.said = {"learner": learner, "offering": offering, "places": places, "name": name, "other_name": other}
        answer = await self.caller.play(self.who, op)
        if answer is not None:
            self._held.append((learner, offering, answer["body"]["enrolment_id"]))
            self._past.append(op)

    async def _withdraw(self) -> None:
        if not self._held:
            return
        learner, offering, enrolment = self._held.pop(self._dice.randrange(len(self._held)))
        said = {"learner": learner, "offering": offering, "enrolment": enrolment}
        op = self._op("withdraw", "POST", f"/enrolments/{enrolment}/withdraw", learner, None, said, keyed=True)
        if await self.caller.play(self.who, op) is not None:
            self._past.append(op)

    async def _read(self) -> None:
        if not self._held:
            return
        learner, offering, enrolment = self._dice.choice(self._held)
        path = f"/enrolments/{enrolment}" if self._dice.random() < 0.5 else "/me/enrolments"
        said = {"learner": learner, "offering": offering, "enrolment": enrolment}
        await self.caller.once(self.who, self._op("read", "GET", path, learner, None, said, keyed=False))

    async def _seats(self) -> None:
        offering, _ = self._workload.market.choose(self._dice)
        op = self._op("seats", "GET", f"/offerings/{offering}", None, None, {"offering": offering}, keyed=False)
        await self.caller.once(self.who, op)

    async def _browse(self) -> None:
        op = self._op("browse", "GET", "", None, None, {}, keyed=False)
        op.url = f"{self._workload.catalogue}/courses?q=kurs"
        await self.caller.once(self.who, op)

    async def _late(self) -> None:
        """A request that was answered long ago is sent again."""
        if self._past:
            await self.caller.persist(self.who, self._dice.choice(self._past))
