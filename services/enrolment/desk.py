"""Where learners' requests are decided together: each once by its key, in the order they came, in one transaction."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, cast
from uuid import UUID

from fastapi import Depends
from starlette.responses import Response

from kit import idempotency
from kit.auth import Caller, Signed
from kit.database import Connection
from kit.groupcommit import Commit, GroupCommit
from kit.http import ThisService
from kit.idempotency import Asked
from kit.pages.visitors import Acting
from kit.passes import Visitor
from kit.problems import Problem
from kit.running import Running
from services.enrolment import commands
from services.enrolment.commands import Command, Enrol
from services.enrolment.settings import EnrolmentSettings
from services.enrolment.shown import EnrolmentShown, answer


@dataclass(frozen=True, slots=True)
class Request:
    """A command, and the key under which it may be sent again."""

    command: Command
    asked: Asked | None

    @property
    def lock(self) -> UUID | None:
        """Which offering's, where it is known: who comes to one that others wait for waits behind them."""
        return self.command.lock


async def the_desk(running: ThisService) -> GroupCommit[Request, Response]:
    if running.desk is None:
        raise RuntimeError("the service was built without its desk")
    return running.desk


async def paced(caller: Signed, running: ThisService) -> Caller:
    """The caller, unless they ask too often."""
    at_pace(caller, running)
    return caller


async def paced_visitor(visitor: Acting, running: ThisService) -> Visitor:
    """Who sends a form of ours, unless they ask too often, over the pages and the interface together."""
    at_pace(visitor.caller, running)
    return visitor


def at_pace(caller: Caller, running: Running) -> None:
    """Raises a 429, told when to come again, for one who asks too often. By person, never by address."""
    most = cast(EnrolmentSettings, running.settings).requests_per_minute
    wait_s = running.pace.wait_s(caller.key, most)
    if wait_s:
        words = f"You may change something {most} times a minute. Wait {wait_s} s."
        raise Problem("too-many-requests", "Too many requests", 429, words, headers={"retry-after": str(wait_s)})


def login(caller: Caller) -> tuple[str, str]:
    return caller.issuer, caller.subject


Desk = Annotated[GroupCommit[Request, Response], Depends(the_desk)]
Paced = Annotated[Caller, Depends(paced)]
PacedVisitor = Annotated[Visitor, Depends(paced_visitor)]


def is_offered(answer: Response) -> bool:
    """Whether a decided enrolment has an offer by then, as who declines to stay in a line that holds nobody else."""
    return EnrolmentShown.model_validate_json(bytes(answer.body)).state == "offered"


def deciding(settings: EnrolmentSettings) -> Commit[Request, Response]:
    """What decides a batch: the answer to each request, with the effects of all in the caller's transaction."""

    async def decide(conn: Connection, requests: Sequence[Request]) -> list[Response | Exception]:
        answers: list[Response | Exception | None] = list(
            await idempotency.answered(conn, [request.asked for request in requests])
        )
        places = [place for place, found in enumerate(answers) if found is None]
        outcomes = await commands.decide(conn, [requests[place].command for place in places], settings)
        kept: list[tuple[Asked, Response]] = []
        for place, outcome in zip(places, outcomes, strict=True):
            request = requests[place]
            if isinstance(outcome, Problem):
                answers[place] = outcome
                continue
            response = answer(outcome, new=isinstance(request.command, Enrol))
            answers[place] = response
            if request.asked is not None:
                kept.append((request.asked, response))
        await idempotency.keep(conn, kept)
        return [found for found in answers if found is not None]

    return decide
