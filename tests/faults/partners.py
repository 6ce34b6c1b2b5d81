"""The two partners of a fault run, over Kafka and over HTTP: they publish, change their minds, repeat, mistype."""

import asyncio
import contextlib
import hashlib
import json
import random
import uuid
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError

from tests.faults.clients import Caller, Operation
from tests.faults.history import History

ARENAS = ("mo-i-rana", "nesna", "online")
GROUPS = ("kommune", "naering")
STEADY = "steady"  # the key of a run that is never changed
NONE_WITHIN = timedelta(hours=12)  # of the start nothing is offered any more


@dataclass(frozen=True)
class Sort:
    """A course: `seats` online, half as many on site unless there is one; `groups` come first in line.

    Life: `lasting`; `moving`: cancelled now and then; `soon`: starts so soon that its offers lapse in a minute or two;
    `steady`: never changed, so that every answer about its seats can be judged by the answers before.
    """

    seats: int
    life: str = "lasting"
    groups: tuple[str, ...] = ()


SORTS = (
    *(Sort(1), Sort(1, groups=GROUPS), Sort(1), Sort(20), Sort(20, groups=GROUPS), Sort(20), Sort(200), Sort(200)),
    *(Sort(5, "moving"), Sort(5, "moving"), Sort(3, "soon"), Sort(3, "soon", GROUPS), Sort(2, STEADY), Sort(2, STEADY)),
)


@dataclass
class Run:
    """The run of a course that is open, as its partner means it to be now."""

    key: str
    start: datetime
    seats: int
    groups: tuple[str, ...]
    on_lapse: str


RATES = {"kafka": 2.0, "http": 1.0}  # a second
SEND_S = 12.0
GONE = {"reason": "for few", "confirmed": True}  # also with people enrolled: how else is one seen to be told?
TRIES = 4
MIX = {"capacity": 42, "text": 14, "dates": 8, "cancel": 8, "repeat": 18, "mistype": 10}


class Partner(ABC):
    """Courses as their partner knows them, and what it does with them. `publish` is how it speaks."""

    rate = RATES["http"]

    def __init__(
        self,
        history: History,
        dice: random.Random,
        name: Callable[[str], str],
        *,
        slug: str,
        key: str,
        kafka: str,
        url: str,
        caller: Caller,
    ) -> None:
        self.slug = slug
        self._history = history
        self._dice = dice
        self._name = name
        self._key = key
        self._kafka = kafka
        self._base = f"{url}/api/catalogue/v1/partners/{slug}"
        self._caller = caller
        self._start = datetime.now(UTC).replace(minute=0, second=0, microsecond=0) + timedelta(days=60)
        self.courses = {f"{slug.upper()}-{n}": sort for n, sort in enumerate(SORTS)}
        self._runs: dict[str, Run] = {}
        self._texts = dict.fromkeys(self.courses, 1)

    def _next(self, code: str) -> Run:
        """Another run of a course, not yet told of."""
        sort = self.courses[code]
        before = self._runs.get(code)
        key = STEADY if sort.life == STEADY else str(int(before.key) + 1 if before is not None else 1)
        soon = datetime.now(UTC).replace(microsecond=0) + NONE_WITHIN + timedelta(seconds=self._dice.randint(30, 90))
        on_lapse = self._dice.choice(("leave", "back_of_queue"))
        start = soon if sort.life == "soon" else self._start
        run = self._runs[code] = Run(key, start, sort.seats, sort.groups, on_lapse)
        return run

    async def prepare(self) -> None:
        """Publish every course and its first run; all of it has been taken when this returns."""
        for code in self.courses:
            await self.publish("CoursePublished", code, "", self._text(code), sure=True)
            await self._publish_next(code)

    async def live(self, stopping: asyncio.Event) -> None:
        """Change something now and then until told to stop."""
        while not stopping.is_set():
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(stopping.wait(), min(5.0, self._dice.expovariate(self.rate)))
                return
            with contextlib.suppress(TimeoutError):  # a service that stays away is the checker's to judge
                await self._change()

    async def _change(self) -> None:
        changing = [code for code, sort in self.courses.items() if sort.life != STEADY]
        kind = self._dice.choices(list(MIX), list(MIX.values()))[0]
        code = self._dice.choice(changing)
        run, sort = self._runs[code], self.courses[code]
        past = [one for one in changing if self.courses[one].life == "soon" and self._is_past(one)]
        if past:
            await self._publish_next(past[0])
        elif kind == "text":
            self._texts[code] += 1
            await self.publish("CoursePublished", code, "", self._text(code))
        elif kind == "capacity":
            run.seats = self._dice.randint(max(1, sort.seats // 2), sort.seats * 3 // 2 + 1)
            if self._dice.random() < 0.2:
                run.groups = run.groups[::-1]
            await self.publish("OfferingPublished", code, run.key, self._dates(code))
        elif kind == "dates":
            soon = timedelta(seconds=self._dice.randint(5, 30))  # later: what has lapsed by then is offered again
            run.start += soon if sort.life == "soon" else timedelta(hours=self._dice.randint(1, 20))
            await self.publish("OfferingPublished", code, run.key, self._dates(code))
        elif kind == "cancel":
            code = self._dice.choice([one for one in changing if self.courses[one].life == "moving"])
            await self.publish("OfferingRetracted", code, self._runs[code].key, GONE)
            await self._publish_next(code)
        elif kind == "repeat":
            await self.repeat()
        else:
            await self.mistype(code, run.key)

    async def _publish_next(self, code: str) -> None:
        await self.publish("OfferingPublished", code, self._next(code).key, self._dates(code), sure=True)

    def _is_past(self, code: str) -> bool:
        """Whether nothing has been offered for some seconds, and nobody looks at this run any more."""
        return datetime.now(UTC) > self._runs[code].start - NONE_WITHIN + timedelta(seconds=8)

    def _text(self, code: str) -> dict[str, Any]:
        return {"title": {"nb": f"Kurs {code} {self._texts[code]}"}, "subjects": ["bygg"], "price_ore": 0}

    def _dates(self, code: str) -> dict[str, Any]:
        run, sort = self._runs[code], self.courses[code]
        places = [{"arena": "online", "capacity": run.seats}]
        if sort.seats > 1 and sort.life != STEADY:
            places.insert(0, {"arena": "mo-i-rana", "capacity": max(1, run.seats // 2)})
        times = {"starts_at": run.start, "ends_at": run.start + timedelta(days=2)}
        rules = {"priority_groups": list(run.groups), "on_lapse": run.on_lapse}
        return {**{name: at.strftime("%Y-%m-%dT%H:%M:%SZ") for name, at in times.items()}, **rules, "places": places}

    @abstractmethod
    async def publish(self, what: str, code: str, run: str, data: dict[str, Any], sure: bool = False) -> None:
        """Say that a course or a run is there, has changed or is gone; `sure`: until it is taken."""

    @abstractmethod
    async def repeat(self) -> None:
        """Say something again as it was said before."""

    @abstractmethod
    async def mistype(self, code: str, run: str) -> None:
        """Say something that has to be refused."""

    async def close(self) -> None:
        return None


class HttpPartner(Partner):
    """Speaks over HTTP, with a key for each request."""

    def __init__(self, *known: Any, **more: Any) -> None:
        super().__init__(*known, **more)
        self._past: deque[Operation] = deque(maxlen=100)

    def _op(self, what: str, code: str, run: str, data: dict[str, Any]) -> Operation:
        url, method = f"{self._base}/courses/{code}", "PUT"
        if run:
            url += f"/offerings/{run}"
        if what == "OfferingRetracted":
            url, method = f"{url}/cancel", "POST"
        said = {"partner": self.slug, "code": code, "what": what, "run": run}
        op = Operation("partner_http", self._name(self.slug), method, url, self._key, data, said)
        op.other = {**data, "reason": "another"} if method == "POST" else {**data, "price_ore": 7}
        if what == "OfferingPublished":
            op.other = {**data, "places": [{"arena": "online", "capacity": 77}]}
        return op

    async def publish(self, what: str, code: str, run: str, data: dict[str, Any], sure: bool = False) -> None:
        op = self._op(what, code, run, data)
        if sure:
            await self._caller.insist(self.slug, op, within_s=180.0)
        elif await self._caller.play(self.slug, op) is None:
            return
        self._past.append(op)

    async def repeat(self) -> None:
        if self._past:
            await self._caller.persist(self.slug, self._dice.choice(self._past))

    async def mistype(self, code: str, run: str) -> None:
        await self._caller.once(self.slug, self._op("OfferingPublished", code, run, {"places": "two"}))


class KafkaPartner(Partner):
    """Speaks on its own topic, with a plain Kafka client as its own program would use."""

    rate = RATES["kafka"]
    f = "partner"

    def __init__(self, *known: Any, **more: Any) -> None:
        super().__init__(*known, **more)
        self.topic = f"partners.{self.slug}.courses"
        self._producer: AIOKafkaProducer | None = None
        self._past: deque[tuple[str, str, dict[str, Any]]] = deque(maxlen=100)

    def _event(self, what: str, code: str, run: str, data: dict[str, Any]) -> dict[str, Any]:
        named = {"code": code} if what == "CoursePublished" else {"course_code": code, "key": run}
        return {
            "specversion": "1.0",
            "id": str(uuid.UUID(int=self._dice.getrandbits(128), version=4)),
            "source": f"/partners/{self.slug}",
            "type": f"no.kursnett.partner.{what}.v1",
            "data": {**named, **data},
        }

    async def publish(self, what: str, code: str, run: str, data: dict[str, Any], sure: bool = False) -> None:
        event = self._event(what, code, run, data)
        headers: list[tuple[str, bytes]] = []
        if self._dice.random() < 0.15:  # what a service must not be led astray by
            headers = [("content-type", b"text/\xff"), ("reply_to", b"enrolment.enrolments"), ("correlation_id", b"1")]
        if await self._send(what, code, json.dumps(event).encode(), headers, "taken", 100 if sure else TRIES):
            self._past.append((what, code, event))

    async def repeat(self) -> None:
        """The same event with the same id, byte for byte."""
        if self._past:
            what, code, event = self._dice.choice(self._past)
            await self._send(what, code, json.dumps(event).encode(), [], "taken", TRIES)

    async def mistype(self, code: str, run: str) -> None:
        """One of the ways in which strangers' events are wrong."""
        event = self._event(
            "OfferingPublished", code, run, self._dates(code) | {"places": [{"arena": "online", "capacity": 4321}]}
        )
        wrong: list[bytes | None] = [
            b'{"specversion": "1.0", "id": ',
            b"\xff\xfe no text",
            None,
            json.dumps({**event, "source": "/partners/nord"}).encode(),
            json.dumps({**event, "type": "no.kursnett.partner.OfferingRenamed.v1"}).encode(),
            json.dumps({**event, "data": {**event["data"], "places": [{"arena": "lund", "capacity": 1}]}}).encode(),
            json.dumps({**event, "data": {"course_code": code}}).encode(),
        ]
        if self._past:  # a new thing said under an old id
            wrong.append(json.dumps({**event, "id": self._past[-1][2]["id"]}).encode())
            code = self._past[-1][1]
        await self._send("OfferingPublished", code, self._dice.choice(wrong), [], "refused", TRIES)

    async def _send(
        self, what: str, code: str, value: bytes | None, headers: list[tuple[str, bytes]], expect: str, tries: int
    ) -> bool:
        """Until it is acked, at most so often. Whether it was."""
        name = self._name(self.slug)
        known = {"who": self.slug, "f": self.f, "id": name, "partner": self.slug, "code": code}
        digest = hashlib.sha256(value or b"").hexdigest()
        for n in range(1, tries + 1):
            self._history.add("invoke", **known, n=n, what=what, expect=expect, digest=digest)
            try:
                producer = await self._open()
                sending = await producer.send(self.topic, value, key=code.encode(), headers=headers)
                told = await asyncio.wait_for(asyncio.shield(sending), SEND_S)
            except (KafkaError, OSError, TimeoutError) as error:
                self._history.add("info", **known, n=n, err=type(error).__name__)
                if not isinstance(error, TimeoutError):
                    await self.close()
                await asyncio.sleep(0.5)
                continue
            self._history.add("ok", **known, n=n, topic=self.topic, partition=told.partition, offset=told.offset)
            return True
        return False

    async def _open(self) -> AIOKafkaProducer:
        if self._producer is None:
            producer = AIOKafkaProducer(bootstrap_servers=self._kafka, acks="all", enable_idempotence=True)
            try:
                await producer.start()
            except BaseException:
                await producer.stop()
                raise
            self._producer = producer
        return self._producer

    async def close(self) -> None:
        producer, self._producer = self._producer, None
        if producer is not None:
            stop = asyncio.ensure_future(producer.stop())
            await asyncio.wait([stop], timeout=2)
            stop.cancel()
