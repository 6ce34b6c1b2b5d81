"""Against Mailpit with its chaos switched on, where there is one: each mail comes once, or is given up with its cause.

`KURSNETT_MAILPIT` names the program, else it is looked for on the PATH; `go install` builds one from its module.
"""

import asyncio
import os
import shutil
import uuid
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx2
import pytest

from contracts.enrolment import LearnerEnrolled
from deploy.local import ports
from services.notifier import events
from tests.delivery import Servers, until
from tests.notifying import Sink, World, notifier

PROGRAM = os.environ.get("KURSNETT_MAILPIT") or shutil.which("mailpit")
pytestmark = [
    pytest.mark.anyio,
    pytest.mark.timeout(180),
    pytest.mark.skipif(not PROGRAM, reason="no Mailpit here: set KURSNETT_MAILPIT to its program"),
]

MANY = 30  # at 30 % nothing happens to all of them once in 50,000 runs
NEVER = {name: {"ErrorCode": 451, "Probability": 0} for name in ("Sender", "Recipient", "Authentication")}


class Mailpit:
    def __init__(self, http: httpx2.AsyncClient) -> None:
        self.http = http

    async def refuse(self, **triggers: tuple[int, int]) -> None:
        """Trigger -> (its answer, how often in a hundred); the others never."""
        wanted = NEVER | {name: {"ErrorCode": code, "Probability": often} for name, (code, often) in triggers.items()}
        answer = await self.http.put("/api/v1/chaos", json=wanted)
        assert answer.status_code == 200, answer.text

    async def taken(self) -> list[dict[str, Any]]:
        listed = (await self.http.get("/api/v1/messages", params={"limit": 500})).json()
        assert listed["total"] == len(listed["messages"])
        found: list[dict[str, Any]] = listed["messages"]
        return found


@asynccontextmanager
async def mailpit(tmp_path: Path) -> AsyncIterator[tuple[Mailpit, int]]:
    """A Mailpit on free ports, and its port for mail. It wants a log-in, and takes any."""
    base = ports.open_block()
    process = await asyncio.create_subprocess_exec(
        str(PROGRAM),
        *("--smtp", f"127.0.0.1:{base}", "--listen", f"127.0.0.1:{base + 1}", "--database", str(tmp_path / "mails.db")),
        *("--smtp-auth-accept-any", "--smtp-auth-allow-insecure", "--smtp-disable-rdns"),
        *("--enable-chaos", "--disable-version-check", "--quiet"),
    )
    try:
        async with httpx2.AsyncClient(base_url=f"http://127.0.0.1:{base + 1}") as http:

            async def ready() -> bool:
                try:
                    return (await http.get("/readyz")).status_code == 200
                except httpx2.HTTPError:
                    return False

            await until(ready)
            yield Mailpit(http), base
    finally:
        process.terminate()
        await process.wait()


async def learners(world: World, word: str) -> None:
    """So many get a seat. Each has a domain of its own: one that refuses rests as a whole, and they are to be quick."""
    for number in range(MANY):
        learner = uuid.uuid4()
        await world.contact_is_known(learner, f"kari@{word}{number}.example.no")
        await world.hear(events.enrolments, [LearnerEnrolled(**world.about(learner), place="mosjoen")])


async def gone(world: World) -> set[str]:
    """Send until every notice has gone or never will; the causes for which one was put off on the way."""
    causes: set[str] = set()

    async def done() -> bool:
        rows = await world.rows("SELECT DISTINCT reason FROM notices WHERE state = 'deferred'")
        causes.update(row["reason"] for row in rows)
        await world.hurry()
        return not {"due", "sending", "deferred"} & (await world.states()).keys()

    async with world.sending():
        await until(done, within_s=120)
    return causes


async def notices(world: World) -> dict[str, tuple[str, str | None]]:
    """Address -> (state, cause)."""
    rows = await world.rows("SELECT email, state, reason FROM notices JOIN contacts USING (learner_id)")
    return {row["email"]: (row["state"], row["reason"]) for row in rows}


async def test_mailpit_takes_each_mail_once_whatever_it_says_at_random(servers: Servers, tmp_path: Path) -> None:
    async with mailpit(tmp_path) as (server, port):
        sink = Sink()
        sink.port = port
        login = {"smtp_user": "kursnett", "smtp_password": "any"}
        async with notifier(servers, sink, **login) as world:
            # "Later", at each of the three places where it may say so.
            await server.refuse(Sender=(451, 30), Recipient=(450, 30), Authentication=(454, 30))
            await learners(world, "later")
            causes = await gone(world)
            assert await world.states() == {"sent": MANY}
            assert {"answer_451", "answer_450"} <= causes <= {"answer_451", "answer_450", "answer_454"}

            # "Never": for a recipient that is final, for us it is a fault of the set-up, and tried again.
            await server.refuse(Sender=(553, 30), Recipient=(550, 30), Authentication=(535, 30))
            await learners(world, "never")
            causes = await gone(world)
            assert "answer_553" in causes
            assert causes <= {"answer_553", "answer_535"}

            found = await notices(world)
            states = Counter(found.values())
            assert set(states) == {("sent", None), ("failed", "refused_address")}
            assert states["failed", "refused_address"] < MANY
            mails = await server.taken()
            came = Counter(one["To"][0]["Address"] for one in mails)
            assert set(came.values()) == {1}, "none comes twice"
            assert set(came) == {address for address, (state, _) in found.items() if state == "sent"}
            assert len({one["MessageID"] for one in mails}) == len(mails)
            told = Counter(kind for kind, _ in await world.told())
            assert (told["NoticeSent"], told["NoticeFailed"]) == (len(mails), 2 * MANY - len(mails))
