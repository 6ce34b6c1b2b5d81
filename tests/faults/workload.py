"""The people and partners of a fault run, what they hear of the runs that are open, and the mails that they get."""

import asyncio
import contextlib
import hashlib
import json
import random
import re
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

from aiokafka import AIOKafkaConsumer
from aiokafka.errors import KafkaError

from tests.faults.clients import Caller, Operation
from tests.faults.history import History
from tests.faults.hooks import WANTED
from tests.faults.learners import HOST, NAME, NUMBER, Learners, Letter
from tests.faults.noise import Noise
from tests.faults.partners import ARENAS, STEADY, HttpPartner, KafkaPartner, Partner
from tests.faults.stack import FaultStack

RATE = 40.0  # operations a second, all clients together
CLIENTS = 16
# Words that stand in what people type and nowhere else: no log, topic or metric may hold them.
CANARIES = (NAME, HOST, NUMBER)
MOST_TOKENS = 50  # of the links, which no log may hold either
LINK = re.compile(rb"/tilbud/([A-Za-z0-9._~-]+)/(godta|avslaa)")
COURSE = re.compile(rb"Kurs ([A-Z]+-[0-9]+)")
READY_S = 45.0


@dataclass(frozen=True)
class Open:
    """A run as partners hear it on the topic: arenas with their seats, and the groups that come first."""

    arenas: dict[str, int]
    groups: tuple[str, ...]


@dataclass
class Market:
    """The runs that learners know of, by offering id; `steady` are those that are never changed.

    `waiting` are those who want to hear at once when a new run opens: then all of them want its seats.
    """

    runs: dict[str, Open] = field(default_factory=dict)
    steady: list[str] = field(default_factory=list)
    waiting: list[asyncio.Queue[str]] = field(default_factory=list)
    _seen: set[str] = field(default_factory=set)

    def hear(self, value: bytes | None) -> None:
        event = json.loads(value or b"{}")
        data = event.get("data", {})
        if "places" not in data:
            if "offering_id" in data:
                self.runs.pop(data["offering_id"], None)
            return
        offering, new = data["offering_id"], data["offering_id"] not in self._seen
        self._seen.add(offering)
        if data["key"] == STEADY:
            self.steady += [offering] if new else []
            return
        arenas = {place["arena"]: place["capacity"] for place in data["places"]}
        self.runs[offering] = Open(arenas, tuple(data["priority_groups"]))
        for one in self.waiting if new else ():
            one.put_nowait(offering)

    def choose(self, dice: random.Random, offering: str = "") -> tuple[str, list[str]]:
        """A run, the small ones more often, and where to sit, best first."""
        if offering not in self.runs:
            names = list(self.runs)
            weights = [4 if sum(self.runs[name].arenas.values()) < 6 else 2 for name in names]
            offering = dice.choices(names, weights)[0]
        arenas = list(self.runs[offering].arenas)
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
        self._tokens: set[str] = set()
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
        self._stack.sink.reader = self._deliver
        arenas = [part for arena in ARENAS for part in ("--arena", arena)]
        names = ("fjord", "nord")
        made_as: dict[str, Callable[..., Partner]] = {
            "fjord": KafkaPartner,
            "nord": HttpPartner,
            "skrall": partial(Noise, others=names),
        }
        for slug, kind in made_as.items():
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
        for slug, events in WANTED.items():
            await self._stack.add_webhook(slug, events)
        await asyncio.gather(*(partner.prepare() for partner in self.partners))
        wanted = sum(len(partner.courses) for partner in self.partners)
        give_up = time.monotonic() + READY_S
        while True:
            offerings = [*self.market.runs, *self.market.steady]
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

    @property
    def links(self) -> str:
        """Where the links of a mail lead: their host is the gateway's, which is not part of a fault run."""
        return f"{self._stack.url('enrolment')}/tilbud"

    @property
    def canaries(self) -> list[str]:
        """What no log, topic, metric or reason may hold: names, addresses, and the tokens of links."""
        return [
            *CANARIES,
            *sorted(self._tokens, key=lambda token: hashlib.sha256(token.encode()).digest())[:MOST_TOKENS],
        ]

    def token(self, learner: str) -> str:
        return self._stack.token(learner)

    def _deliver(self, recipient: str, content: bytes) -> None:
        """A mail has come: what it says of an offer goes to the learner."""
        text = content.replace(b"=\r\n", b"").replace(b"=\n", b"")  # quoted-printable breaks long lines
        tokens = {verb.decode(): token.decode() for token, verb in LINK.findall(text)}
        learner, course = recipient.partition("@")[0], COURSE.search(text)
        if len(tokens) == 2 and course is not None:
            self._tokens |= set(tokens.values())
            client = self._learners[int(learner.split("-")[1])]
            client.letters.append(Letter(learner, course[1].decode(), tokens["godta"], tokens["avslaa"]))

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
