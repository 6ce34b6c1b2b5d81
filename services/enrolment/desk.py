"""Where learners' requests are decided together: each once by its key, in the order they came, in one transaction."""

from collections.abc import Sequence
from dataclasses import dataclass

from starlette.responses import Response

from kit import idempotency
from kit.database import Connection
from kit.idempotency import Asked
from kit.problems import Problem
from services.enrolment import commands
from services.enrolment.commands import Command, Enrol
from services.enrolment.shown import answer


@dataclass(frozen=True, slots=True)
class Request:
    """A command, and the key under which it may be sent again."""

    command: Command
    asked: Asked | None


async def decide(conn: Connection, requests: Sequence[Request]) -> list[Response | Exception]:
    """The answer to each request, with the effects of all in the caller's transaction."""
    answers: list[Response | Exception | None] = list(
        await idempotency.answered(conn, [request.asked for request in requests])
    )
    places = [place for place, found in enumerate(answers) if found is None]
    outcomes = await commands.decide(conn, [requests[place].command for place in places])
    kept: list[tuple[Asked, Response]] = []
    for place, outcome in zip(places, outcomes, strict=True):
        request = requests[place]
        if isinstance(outcome, Problem):
            answers[place] = outcome
            continue
        response = idempotency.written(answer(outcome, new=isinstance(request.command, Enrol)))
        answers[place] = response
        if request.asked is not None:
            kept.append((request.asked, response))
    await idempotency.keep(conn, kept)
    return [found for found in answers if found is not None]
