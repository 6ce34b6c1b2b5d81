"""What learners do during a fault run, as the seed says: they enrol, withdraw, look, and answer what is offered."""

import asyncio
import contextlib
import hashlib
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tests.faults.clients import Operation
from tests.faults.history import Line
from tests.faults.partners import SORTS

if TYPE_CHECKING:
    from tests.faults.workload import Workload

NAME, HOST, NUMBER = "Zvaleria", "zvaleria.example", "13097248022"  # see workload.CANARIES
EACH = 125  # learners of one client
REGULARS = 3  # of them, who alone go to the steady run: few enough that its line stays short
STEADY_SHARE = 0.25
MIX = {"enrol": 42, "withdraw": 21, "answer": 14, "read": 8, "seats": 4, "browse": 6, "late": 5}
STEADY_MIX = {"seats": 20, "read": 20, "accept": 22, "decline": 12, "withdraw": 26}
LATELY = 8  # what one has asked for lately is thought better of more often
SOON = {n for n, sort in enumerate(SORTS) if sort.life == "soon"}
IGNORED, IGNORED_SOON = 0.03, 0.5  # of offers: where they lapse within the run, half are never answered


@dataclass(frozen=True)
class Letter:
    """A mail about an offer: whose, for which course, and the tokens of its two links."""

    learner: str
    course: str
    accept: str
    decline: str

    @property
    def soon(self) -> bool:
        return int(self.course.partition("-")[2]) in SOON


@dataclass(frozen=True)
class Held:
    """A learner's enrolment that was answered and not given up yet."""

    learner: str
    offering: str
    enrolment: str


class Learners:
    """One client, and the learners who use it one after the other."""

    def __init__(self, workload: "Workload", number: int) -> None:
        self.who = f"client-{number}"
        self.letters: deque[Letter] = deque(maxlen=200)
        self._workload = workload
        self._number = number
        self._dice = workload.dice(self.who)
        self.caller = workload.caller(self.who)
        self._names = [f"laerer-{number}-{n}" for n in range(EACH)]
        self._tokens: dict[str, str] = {}
        self._held: list[Held] = []
        self._offers: deque[Held] = deque(maxlen=50)  # seen to be offered
        self._steady: dict[str, str] = {}  # learner -> enrolment in the steady run
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
            if self._dice.random() < STEADY_SHARE:
                await self._visit()
                continue
            kind = self._dice.choices(list(MIX), list(MIX.values()))[0]
            acts: dict[str, Callable[[], Awaitable[object]]] = {
                "enrol": self._enrol,
                "withdraw": self._withdraw,
                "answer": self._answer,
                "read": self._read,
                "seats": self._seats,
                "browse": self._browse,
                "late": self._late,
            }
            await acts[kind]()

    def _op(self, f: str, method: str, path: str, learner: str | None, body: Any, said: Any, keyed: bool) -> Operation:
        token = None
        if learner is not None:
            token = self._tokens[learner] = self._tokens.get(learner) or self._workload.token(learner)
        name = self._workload.name(self.who)
        return Operation(f, name, method, self._workload.url(path), token, body, said, keyed)

    async def _play(self, op: Operation) -> Line | None:
        answer = await self.caller.play(self.who, op)
        if answer is not None:
            self._past.append(op)
        return answer

    async def _rush(self, opened: str) -> None:
        """Ask whether enrolment has it yet, and for a seat as soon as it has."""
        for _ in range(12):
            if (await self._seats(opened))["kind"] == "ok":
                await self._enrol(opened)
                return
            await asyncio.sleep(0.25)

    async def _enrol(self, opened: str = "") -> None:
        learner = self._dice.choice(self._names[REGULARS:])
        offering, places = self._workload.market.choose(self._dice, opened)
        there = any((learner, offering) == (held.learner, held.offering) for held in self._held)
        if there and self._dice.random() > 0.1:  # sometimes one forgets, and is told; or takes a seat open to all
            return
        open_run = self._workload.market.runs.get(offering)
        group = self._dice.choice((*open_run.groups, None)) if open_run is not None else None
        wait, on_lapse = self._dice.random() < 0.85, self._dice.choice((None, None, "leave", "back_of_queue"))
        answer = await self._ask(learner, offering, places, group, wait, on_lapse)
        if answer is not None and not there:
            self._held.append(Held(learner, offering, answer["body"]["enrolment_id"]))

    async def _ask(
        self,
        learner: str,
        offering: str,
        places: list[str],
        group: str | None = None,
        wait: bool = True,
        on_lapse: str | None = None,
    ) -> Line | None:
        op = self._op("enrol", "POST", f"/offerings/{offering}/enrolments", learner, None, {}, keyed=True)
        # The name is the operation's own, so that whatever comes of it can be traced to it.
        name, other = f"{NAME} {op.id} {NUMBER}", f"{NAME} {op.id} annen"
        contact = {"email": f"{learner}@{HOST}", "language": self._dice.choice(("nb", "nn", "en"))}
        more = {"group": group, "wait_for_earlier": wait, "on_lapse": on_lapse}
        op.body = {"places": places, "name": name, "contact": contact, **more}
        op.other = {**op.body, "name": other}
        op.said = {"learner": learner, "offering": offering, "places": places, "name": name, "other_name": other}
        op.said |= {"group_name": group, "wait_for_earlier": wait, "on_lapse": on_lapse}
        return await self._play(op)

    async def _withdraw(self) -> None:
        if not self._held:
            return
        first = max(0, len(self._held) - LATELY) if self._dice.random() < 0.5 else 0
        await self._leave(self._held.pop(self._dice.randrange(first, len(self._held))))

    async def _leave(self, held: Held) -> Line | None:
        return await self._play(
            self._op("withdraw", "POST", f"/enrolments/{held.enrolment}/withdraw", held.learner, None, vars(held), True)
        )

    async def _read(self) -> None:
        if self._held:
            await self._look(self._dice.choice(self._held))

    async def _look(self, held: Held, alone: bool = True) -> Line:
        """One enrolment, or all of a learner's; an offer that is seen there may be answered."""
        path = f"/enrolments/{held.enrolment}" if alone and self._dice.random() < 0.6 else "/me/enrolments"
        line = await self.caller.once(self.who, self._op("read", "GET", path, held.learner, None, vars(held), False))
        if line["kind"] == "ok":
            for one in line["body"].get("items", [line["body"]]):
                seen = Held(held.learner, one["offering_id"], one["enrolment_id"])
                if one["state"] == "offered" and seen not in self._offers and self._steady.get(seen.learner) is None:
                    self._offers.append(seen)
        return line

    async def _answer(self) -> None:
        """One offer, by the links of its mail or, as a mail or a look has told of it, over HTTP; or never."""
        if self.letters and (not self._offers or self._dice.random() < 0.7):
            letter = self.letters.popleft()
            if self._dice.random() < (IGNORED_SOON if letter.soon else IGNORED):
                return
            mine = [held for held in self._held if held.learner == letter.learner]
            if mine and self._dice.random() < 0.4:
                await self._look(mine[0], alone=False)
            else:
                await self._follow(letter)
        elif self._offers:
            offer = self._offers.popleft()
            f = "accept" if self._dice.random() < 0.65 else "decline"
            stay = self._dice.random() < 0.5
            answer = await self._say(f, offer, stay)
            if answer is not None and f == "decline" and not stay and offer in self._held:
                self._held.remove(offer)

    async def _say(self, f: str, offer: Held, stay: bool) -> Line | None:
        said = {**vars(offer), "way": "http", **({"stay": stay} if f == "decline" else {})}
        body = {"stay": stay} if f == "decline" else None
        op = self._op(f, "POST", f"/enrolments/{offer.enrolment}/{f}", offer.learner, body, said, keyed=True)
        op.other = {"stay": not stay} if f == "decline" else None
        return await self._play(op)

    async def _follow(self, letter: Letter) -> None:
        """Press the button behind one of the links. A program that looks at mails has opened both before, sometimes."""
        f = "accept" if self._dice.random() < 0.65 else "decline"
        links = {"accept": f"{letter.accept}/godta", "decline": f"{letter.decline}/avslaa"}
        said = {"learner": letter.learner, "course": letter.course, "way": "link"}
        if self._dice.random() < 0.2:
            for link in links.values():
                op = self._op("open", "GET", "", None, None, said, keyed=False)
                op.url = f"{self._workload.links}/{link}"
                await self.caller.once(self.who, op)
        token = letter.accept if f == "accept" else letter.decline
        said |= {"digest": hashlib.sha256(token.encode()).hexdigest()}
        op = self._op(f, "POST", "", None, None, said, keyed=False)
        op.url = f"{self._workload.links}/{links[f]}"
        await self.caller.persist(self.who, op)

    async def _seats(self, offering: str = "") -> Line:
        offering = offering or self._workload.market.choose(self._dice)[0]
        op = self._op("seats", "GET", f"/offerings/{offering}", None, None, {"offering": offering}, keyed=False)
        return await self.caller.once(self.who, op)

    async def _visit(self) -> None:
        """Something at the steady run that this client's regulars go to."""
        runs = sorted(self._workload.market.steady)
        if not runs:
            return
        offering, learner = runs[self._number % len(runs)], self._dice.choice(self._names[:REGULARS])
        kind = self._dice.choices(list(STEADY_MIX), list(STEADY_MIX.values()))[0]
        if kind == "seats":
            await self._seats(offering)
        elif learner not in self._steady or self._dice.random() < 0.03:
            answer = await self._ask(learner, offering, ["online"])
            if answer is not None:
                self._steady[learner] = answer["body"]["enrolment_id"]
            else:
                await self._remember(learner, offering)
        else:
            held = Held(learner, offering, self._steady[learner])
            if kind == "withdraw":
                await self._leave(held)
                self._steady.pop(learner)
            elif kind == "read":
                await self._look(held)
            elif await self._say(kind, held, stay=self._dice.random() < 0.6) is not None and kind == "decline":
                await self._remember(learner, offering)

    async def _remember(self, learner: str, offering: str) -> None:
        """Look for the enrolment here that is open: nobody has told us, or it may have ended."""
        line = await self._look(Held(learner, offering, ""), alone=False)
        if line["kind"] == "ok":
            mine = [one for one in line["body"]["items"] if one["offering_id"] == offering]
            live = [one["enrolment_id"] for one in mine if one["state"] != "cancelled"]
            self._steady.pop(learner, None)
            self._steady |= {learner: live[0]} if live else {}

    async def _browse(self) -> None:
        op = self._op("browse", "GET", "", None, None, {}, keyed=False)
        op.url = f"{self._workload.catalogue}/courses?q=kurs"
        await self.caller.once(self.who, op)

    async def _late(self) -> None:
        """A request that was answered long ago is sent again."""
        if self._past:
            await self.caller.persist(self.who, self._dice.choice(self._past))
