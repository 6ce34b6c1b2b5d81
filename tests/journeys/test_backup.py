"""An operator backs up a stack that serves, loses a database, and puts it back: who enrolled meanwhile is listed."""

import asyncio
import json
import os
import sys
import uuid
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import asyncpg
import httpx2
import pytest

from deploy.local.stack import Stack
from kit import lag
from tests.delivery import until
from tests.journeys.test_operating import Desk
from tests.journeys.web import HOOKS, Web

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(600)]  # the stack is stopped and started twice

LISTENERS = {
    "catalogue": ("partners", "enrolments", "learners"),
    "enrolment": ("courses", "titles", "partners", "erasures"),
    "notifier": ("courses", "partners", "enrolments", "contacts", "erasures", "webhooks"),
}
GROUPS = [f"{service}.{name}" for service, names in LISTENERS.items() for name in names]


class Operator(Desk):
    """As the operator at the shell, with a stack that may stand still: then the ports are the environment's."""

    async def run(self, *arguments: str) -> tuple[int, str, str]:
        places = self.stack.places
        process = await asyncio.create_subprocess_exec(
            str(Path(sys.executable).with_name("kursnett")),
            *arguments,
            env={
                **os.environ,
                "KURSNETT_HOME": str(places.home),
                "KURSNETT_BASE_PORT": str(places.base_port),
                "KURSNETT_PORT": str(places.gateway_port),
                "COLUMNS": "200",
            },
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        out, err = await process.communicate()
        return process.returncode or 0, out.decode(), err.decode()

    async def refused(self, *arguments: str) -> str:
        code, _, err = await self.run(*arguments)
        assert (code, "Traceback" in err) == (1, False), err
        return " ".join(err.split())

    async def down(self) -> None:
        await asyncio.to_thread(self.stack.stop)

    async def up(self) -> None:
        await asyncio.to_thread(self.stack.start)

    async def has_caught_up(self) -> None:
        """Wait until everybody has heard and sent all that there is."""

        async def so() -> bool:
            if any((await lag.behind(self.stack.places.address("kafka"), GROUPS)).values()):
                return False
            for service in ("catalogue", "enrolment", "notifier"):
                async with self.database(service) as conn:
                    if await conn.fetchval("SELECT count(*) FROM outbox WHERE published_at IS NULL"):
                        return False
            async with self.database("notifier") as conn:
                waits = "SELECT count(*) FROM notices WHERE state IN ('due', 'sending') AND learner_id = ANY ($1)"
                ids = [row["learner_id"] for row in await conn.fetch("SELECT learner_id FROM contacts")]
                return not await conn.fetchval(waits, ids)

        await until(so, 60)

    async def is_sound(self) -> None:
        async def so() -> bool:
            code, out, _ = await self.run("audit", "--json")
            assert code in (0, 1)
            self.findings = json.loads(out)["findings"]
            return not self.findings

        try:
            await until(so, 90)  # what waited while the stack stood still is on its topic within a minute
        except AssertionError:
            raise AssertionError(self.findings) from None

    async def mailed(self) -> list[str]:
        """Who has had a mail since the stack was started: the catcher keeps none longer."""
        base = f"http://127.0.0.1:{self.stack.places.port('mail')}/api/v1"
        listed = (await self.web.http.get(f"{base}/messages", params={"limit": 1000})).json()["messages"]
        return sorted(one["To"][0]["Address"].partition("@")[0] for one in listed)


@pytest.fixture
def hooks(stack: Stack) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as environment:  # as at the first start: other journeys go on with this stack
        environment.setenv("KURSNETT_WEBHOOK_ALLOW", f"127.0.0.1:{stack.places.base_port + HOOKS}")
        yield


@pytest.fixture
async def operator(stack: Stack, hooks: None) -> AsyncIterator[Operator]:
    async with httpx2.AsyncClient(base_url=stack.places.gateway, timeout=20) as http:
        yield Operator(stack, Web(stack.places, http))
    await asyncio.to_thread(stack.start)  # for the journeys after this one, however it ended


async def test_a_lost_database_comes_back_and_whoever_enrolled_since_is_listed(
    operator: Operator, tmp_path: Path
) -> None:
    web, folder = operator.web, tmp_path / "backup"
    old, fresh = f"old-{web.word}", f"fresh-{web.word}"
    first = await web.offering(f"BA-{web.word}", 3)
    kept = (await web.enrol(first, old)).json()["enrolment_id"]
    await web.mails(old, 1)

    made = await operator.ask("backup", str(folder))
    assert set(made["files"]) > {"catalogue.dump", "enrolment.dump", "notifier.dump"}
    assert "secrets/notifier/contact_private_key" in made["files"]
    assert not any("password" in name for name in made["files"])
    assert oct(folder.stat().st_mode & 0o777) == "0o700"
    assert {path.stat().st_mode & 0o777 for path in folder.rglob("*") if path.is_file()} == {0o600}
    assert os.listdir(tmp_path) == ["backup"]
    assert "is there already and not empty" in await operator.refused("backup", str(folder))
    assert "The stack is running. Stop it first" in await operator.refused("restore", str(folder), "--yes")

    second = await web.offering(f"BB-{web.word}", 3)
    lost = [(await web.enrol(where, who)).json()["enrolment_id"] for where, who in ((second, old), (first, fresh))]
    await web.mails(old, 2)
    await web.mails(fresh, 1)
    await operator.has_caught_up()
    admin = await asyncpg.connect(operator.stack.places.database("admin"))
    await admin.execute("DROP DATABASE enrolment WITH (FORCE)")
    await admin.close()
    await operator.down()

    assert "there is nobody to ask" in await operator.refused("restore", str(folder), "--only", "enrolment")
    assert "Nothing was changed." in await operator.do("restore", str(folder), "--only", "enrolment", "--dry-run")
    done = await operator.ask("restore", str(folder), "--only", "enrolment", "--yes")
    told = done["services"]["enrolment"]
    assert told["epoch"] == 2
    # Whoever enrolled after the backup, by name of key; what they are called or where they live is not in it.
    assert {one["subject"] for one in told["lost"] if "LearnerEnrolled" in one["type"]} >= set(lost)
    assert listed(done) == [{"service": "enrolment", **one} for one in told["lost"]]
    assert done["kept"] == {}  # there was nothing to keep
    await operator.up()

    assert await taken(web, first) == 1
    await until(lambda: is_there(web, second))  # it was published after the backup, and is heard of again
    assert (await web.enrol(second, old)).json()["state"] == "associated"
    await web.mails(old, 1, within_s=30)
    await operator.has_caught_up()
    assert await operator.mailed() == [old]  # once, of the new seat
    async with operator.database("catalogue") as conn:
        of_ours = "SELECT enrolment_id::text FROM live_enrolments WHERE offering_id = ANY ($1)"
        live = {row[0] for row in await conn.fetch(of_ours, [uuid.UUID(first), uuid.UUID(second)])}
    assert (kept in live, len(live), live & set(lost)) == (True, 2, set())
    async with operator.database("notifier") as conn:
        states = await conn.fetch(
            "SELECT state FROM enrolments WHERE enrolment_id = ANY ($1)", [uuid.UUID(one) for one in lost]
        )
    assert [row["state"] for row in states] == ["cancelled", "cancelled"]
    await operator.is_sound()

    # All of it, from the same backup: the notifier has forgotten what it sent.
    await operator.down()
    done = await operator.ask("restore", str(folder), "--yes")
    assert done["services"]["enrolment"]["epoch"] == 3
    assert set(done["kept"]) == {"catalogue", "enrolment", "notifier"}
    assert done["services"]["catalogue"]["lost"] == []
    assert set(lost) <= {one["subject"] for one in done["services"]["enrolment"]["lost"]}
    await operator.up()
    assert await taken(web, first) == 1
    await until(lambda: is_there(web, second))  # it was published after the backup
    await operator.has_caught_up()
    assert await operator.mailed() == []
    assert (await web.enrol(second, fresh)).json()["state"] == "associated"
    await web.mails(fresh, 1, within_s=30)
    await operator.has_caught_up()
    assert await operator.mailed() == [fresh]
    await operator.is_sound()
    async with operator.database("notifier") as conn:
        assert await conn.fetchval("SELECT datname FROM pg_database WHERE datname = $1", done["kept"]["notifier"])


def listed(done: Any) -> Any:
    return json.loads(Path(done["list"]).read_text())["lost"]


async def taken(web: Web, offering: str) -> int:
    answer: Any = (await web.http.get(f"/api/enrolment/v1/offerings/{offering}")).json()
    return int(answer["places"][0]["taken"])


async def is_there(web: Web, offering: str) -> bool:
    return (await web.http.get(f"/api/enrolment/v1/offerings/{offering}")).status_code == 200
