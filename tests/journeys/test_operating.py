"""What operators do, with the real command on the whole stack: park, redrive, discard, replay, republish, pause."""

import asyncio
import json
import os
import re
import sys
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import asyncpg
import httpx2
import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer

from deploy.demo.data import bearer
from deploy.local.stack import Stack
from tests.delivery import until
from tests.journeys.web import Web

MAILS = "notifier.enrolments"
pytestmark = [pytest.mark.anyio, pytest.mark.timeout(240)]  # a command takes a second or two, more beside others


@dataclass
class Desk:
    """An operator at the shell, beside learners at the gateway."""

    stack: Stack
    web: Web

    async def run(self, *arguments: str) -> tuple[int, str, str]:
        """One `kursnett` command: its exit code, what it printed and what it said beside that."""
        process = await asyncio.create_subprocess_exec(
            str(Path(sys.executable).with_name("kursnett")),
            *arguments,
            env={**os.environ, "KURSNETT_HOME": str(self.stack.places.home), "COLUMNS": "200"},
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        out, err = await process.communicate()
        return process.returncode or 0, out.decode(), err.decode()

    async def ask(self, *arguments: str) -> Any:
        """What a listing says as JSON."""
        code, out, err = await self.run(*arguments, "--json")
        assert code == 0, err
        return json.loads(out)

    async def do(self, *arguments: str) -> str:
        code, out, err = await self.run(*arguments)
        assert code == 0, err
        return out

    @asynccontextmanager
    async def database(self, service: str) -> AsyncIterator[Any]:
        conn = await asyncpg.connect(self.stack.places.database(service))
        try:
            yield conn
        finally:
            await conn.close()

    async def parked_rows(self, key: str) -> list[tuple[str, str]]:
        """(state, reason) of what the notifier's consumer of mails has open of this key; webhooks have another."""
        async with self.database("notifier") as conn:
            rows = await conn.fetch(
                "SELECT state, reason FROM parked WHERE key = $1 AND consumer = $2 AND closed_at IS NULL ORDER BY id",
                key.encode(),
                MAILS,
            )
        return [(row["state"], row["reason"]) for row in rows]

    async def are_parked(self, key: str, *states: str) -> None:
        async def so() -> bool:
            return [state for state, _ in await self.parked_rows(key)] == list(states)

        await until(so)

    async def learner(self, enrolment: str) -> str:
        async with self.database("enrolment") as conn:
            found = await conn.fetchval("SELECT learner_id::text FROM enrolments WHERE id = $1", uuid.UUID(enrolment))
        return str(found)

    async def numbers(self, name: str, **labels: str) -> float:
        """One of the notifier's own numbers, summed over the labels that are not given."""
        text = (await self.web.http.get(f"http://{self.stack.places.address('notifier')}/metrics")).text
        wanted = [f'{label}="{value}"' for label, value in labels.items()]
        lines = [one for one in text.splitlines() if one.startswith(name) and all(part in one for part in wanted)]
        return sum(float(one.rpartition(" ")[2]) for one in lines)


@pytest.fixture
async def desk(stack: Stack) -> AsyncIterator[Desk]:
    async with httpx2.AsyncClient(base_url=stack.places.gateway, timeout=20) as http:
        yield Desk(stack, Web(stack.places, http))


@asynccontextmanager
async def no_queue_notices(desk: Desk, offering: str) -> AsyncIterator[None]:
    """A fault of ours, of the kind that a new version mends: the notifier cannot write that one stands in line here."""
    name = f"fault_{uuid.uuid4().hex}"
    async with desk.database("notifier") as conn:
        await conn.execute(f"""
            CREATE FUNCTION {name}() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RAISE ''a test''; END';
            CREATE TRIGGER {name} BEFORE INSERT ON notices FOR EACH ROW
                WHEN (NEW.offering_id = '{offering}' AND NEW.template = 'queued') EXECUTE FUNCTION {name}()
        """)
    try:
        yield
    finally:
        async with desk.database("notifier") as conn:
            await conn.execute(f"DROP FUNCTION {name} CASCADE")


async def withdraw(web: Web, enrolment: str, name: str) -> None:
    address = f"/api/enrolment/v1/enrolments/{enrolment}/withdraw"
    answer = await web.http.post(address, headers=bearer(await web.token(name)))
    assert answer.status_code == 200


async def test_what_was_parked_is_redriven_and_what_was_held_behind_it_runs_on(desk: Desk) -> None:
    web = desk.web
    offering = await web.offering(f"R-{web.word}", 1)
    seated, waiting = f"seated-{web.word}", f"waiting-{web.word}"
    first = (await web.enrol(offering, seated)).json()
    async with no_queue_notices(desk, offering):
        second = (await web.enrol(offering, waiting)).json()
        assert second["state"] == "queued"
        key = await desk.learner(second["enrolment_id"])
        await desk.are_parked(key, "parked")
        await withdraw(web, first["enrolment_id"], seated)
        await desk.are_parked(key, "parked", "held")
        await web.mails(seated, 2)  # another key: not held up

        rows = [row for row in await desk.ask("parked", "list", "notifier") if row["key"] == key]
        assert [(row["state"], row["reason"], row["consumer"]) for row in rows] == [
            ("parked", "failed", "notifier.enrolments"),
            ("held", "held", "notifier.enrolments"),
        ]
        head, behind = (str(row["id"]) for row in rows)
        [whole] = await desk.ask("parked", "show", "notifier", head)
        assert json.loads(whole["value"])["subject"] == second["enrolment_id"]
        assert "LearnerQueued" in whole["type"]

        code, _, said = await desk.run("parked", "redrive", "notifier", behind)
        assert (code, said.strip()) == (
            1,
            f"kursnett: {behind} waits behind another record with its key, and runs when that one is over.",
        )
        await desk.do("parked", "redrive", "notifier", head)  # nothing is mended yet

        async def tried() -> Any:
            async with desk.database("notifier") as conn:
                return await conn.fetchval(
                    "SELECT detail LIKE '%run again' AND state = 'parked' FROM parked WHERE id = $1", int(head)
                )

        await until(tried)
        await desk.are_parked(key, "parked", "held")

    assert await desk.do("parked", "redrive", "notifier", head) == f"{head} runs again within two seconds.\n"
    subjects = [mail["Subject"] for mail in await web.mails(waiting, 2)]
    assert [subject.split(" ")[1] for subject in subjects] == ["står", "har"]  # in line, then an offer: in order
    await desk.are_parked(key)
    over = [row for row in await desk.ask("parked", "list", "notifier", "--closed") if row["key"] == key]
    assert [row["state"] for row in over] == ["redriven", "redriven"]
    assert over[0]["closed_by"]


async def test_what_is_discarded_has_a_reason_and_holds_nobody_any_more(desk: Desk) -> None:
    web = desk.web
    name = f"gone-{web.word}"
    enrolled = (await web.enrol(await web.offering(f"D-{web.word}", 1), name)).json()
    await web.mails(name, 1)
    key = await desk.learner(enrolled["enrolment_id"])
    newer = {
        "specversion": "1.0",
        "id": str(uuid.uuid4()),
        "source": "/enrolment",
        "type": "no.kursnett.enrolment.LearnerEnrolled.v9",
        "data": {},
    }
    producer = AIOKafkaProducer(bootstrap_servers=web.places.address("kafka"))
    await producer.start()
    await producer.send_and_wait("enrolment.enrolments", json.dumps(newer).encode(), key=key.encode())
    await producer.stop()
    await desk.are_parked(key, "parked")
    assert await desk.parked_rows(key) == [("parked", "unknown_version")]
    await withdraw(web, enrolled["enrolment_id"], name)
    await desk.are_parked(key, "parked", "held")

    number = next(
        str(r["id"]) for r in await desk.ask("parked", "list", "notifier") if (r["key"], r["consumer"]) == (key, MAILS)
    )
    code, _, said = await desk.run("parked", "discard", "notifier", number)
    assert (code, "Say why with --reason" in said) == (1, True)
    assert await desk.do("parked", "discard", "notifier", number, "--reason", "nobody knows whose it was")
    assert len(await web.mails(name, 2)) == 2
    await desk.are_parked(key)
    code, _, said = await desk.run("parked", "discard", "notifier", number, "--reason", "again")
    assert (code, said.strip()) == (1, f"kursnett: {number} was discarded and is over.")
    async with desk.database("notifier") as conn:
        over = await conn.fetchrow("SELECT state, closed_reason FROM parked WHERE id = $1", int(number))
    assert tuple(over) == ("discarded", "nobody knows whose it was")


async def test_a_day_that_is_replayed_or_republished_sends_no_mail_again(desk: Desk) -> None:
    web = desk.web
    name = f"once-{web.word}"
    began = datetime.now(UTC)
    enrolled = (await web.enrol(await web.offering(f"A-{web.word}", 1), name)).json()
    await web.mails(name, 1)

    async def all_mails() -> int:
        base = f"http://127.0.0.1:{web.places.port('mail')}/api/v1"
        return int((await web.http.get(f"{base}/messages", params={"limit": 1})).json()["total"])

    async def held_back() -> int:  # also by what other journeys have done to this stack
        async with desk.database("notifier") as conn:
            return int(await conn.fetchval("SELECT count(*) FROM notices WHERE state NOT IN ('sent', 'due')"))

    mails, before_held = await all_mails(), await held_back()
    events = "kursnett_consumer_events_total"
    before = await desk.numbers(events, consumer="notifier.enrolments")
    yesterday = (began - timedelta(days=1)).isoformat()
    told = await desk.do("replay", "notifier", "--from", yesterday, "--dry-run")
    counts = {name: int(count) for name, count in re.findall(r"^(\S+) would read (\d+) records again\.$", told, re.M)}
    consumers = ("courses", "enrolments", "contacts", "webhooks", "partners", "erasures")
    assert counts.keys() == {f"notifier.{name}" for name in consumers}
    assert counts["notifier.enrolments"] > 0
    assert await desk.numbers(events, consumer="notifier.enrolments") == before
    await desk.do("replay", "notifier", "--from", yesterday)

    async def read_again() -> bool:
        now = await desk.numbers(events, consumer="notifier.enrolments")
        return now - before >= counts["notifier.enrolments"]

    await until(read_again)
    before = await desk.numbers(events, consumer="notifier.contacts", outcome="repeat")

    since = began.isoformat()
    told = await desk.do("republish", "enrolment", "--since", since, "--dry-run")
    count = int(told.split()[0])
    assert told == f"{count} events would be published again.\n"
    assert count >= 2  # a contact and a seat
    assert await desk.do("republish", "enrolment", "--since", since) == f"{count} events are published again.\n"
    assert await times_on_topic(desk, enrolled["enrolment_id"], 2) == 1  # the same bytes twice, one after the other

    async def heard_again() -> bool:
        return await desk.numbers(events, consumer="notifier.contacts", outcome="repeat") > before

    await until(heard_again)
    assert (await all_mails(), await held_back()) == (mails, before_held)


async def times_on_topic(desk: Desk, enrolment: str, count: int) -> int:
    """Waits until the topic has so many records of this enrolment's seat; returns how many different they are."""
    consumer = AIOKafkaConsumer(
        "enrolment.enrolments", bootstrap_servers=desk.web.places.address("kafka"), auto_offset_reset="earliest"
    )
    await consumer.start()
    found: list[bytes] = []
    try:
        async with asyncio.timeout(20):
            while len(found) < count:
                for part in (await consumer.getmany(timeout_ms=200)).values():
                    found += [one.value for one in part if enrolment.encode() in (one.value or b"")]
    finally:
        await consumer.stop()
    return len(set(found))


async def test_a_paused_consumer_waits_until_it_is_resumed(desk: Desk) -> None:
    web = desk.web
    name = f"later-{web.word}"
    offering = await web.offering(f"P-{web.word}", 1)
    said = await desk.do("consumer", "pause", "notifier", "enrolments", "--reason", "a test")
    try:
        assert said == "notifier.enrolments is paused until it is resumed.\n"
        readiness = f"http://{web.places.address('notifier')}/readyz"

        async def told() -> bool:
            told = (await web.http.get(readiness)).json()
            return bool(told["ready"] and told.get("attention") == {"consumer enrolments": "paused: a test"})

        await until(told)
        assert (await web.enrol(offering, name)).status_code == 201

        async def waits() -> Any:
            rows = {row["consumer"]: row for row in await desk.ask("consumer", "status", "notifier")}
            return rows if rows["notifier.enrolments"]["lag"] else None

        rows = await until(waits)
        assert (rows["notifier.enrolments"]["paused"], rows["notifier.enrolments"]["reason"]) == (True, "a test")
        assert not rows["notifier.courses"]["paused"]
        async with desk.database("notifier") as conn:
            assert await conn.fetchval("SELECT count(*) FROM notices WHERE offering_id = $1", uuid.UUID(offering)) == 0
    finally:
        await desk.do("consumer", "resume", "notifier", "enrolments")
    await web.mails(name, 1)


async def test_a_timeline_follows_a_seat_from_request_to_mail_and_names_nobody(desk: Desk) -> None:
    web = desk.web
    name = f"followed-{web.word}"
    answer = await web.enrol(await web.offering(f"T-{web.word}", 1), name)
    await web.mails(name, 1)
    enrolment, request = answer.json()["enrolment_id"], answer.headers["x-request-id"]

    async def told() -> bool:
        async with desk.database("notifier") as conn:
            return bool(await conn.fetchval("SELECT count(*) FROM outbox WHERE correlation_id = $1", request))

    await until(told)
    rows = await desk.ask("timeline", enrolment)
    found = []
    for row in rows:
        kind = (row.get("type") or row.get("consumer") or "").removesuffix(".v1")
        found.append(f"{row['service']} {row['what']} {kind.rpartition('.')[2]}".strip())
    for step in (
        "enrolment said ContactGiven",
        "enrolment said LearnerEnrolled",
        "notifier heard enrolments",
        "notifier heard contacts",
        "notifier notice sent",
        "notifier said NoticeSent",
    ):
        assert step in found, found
    assert found.index("enrolment said LearnerEnrolled") < found.index("notifier heard enrolments")
    assert all(row["published_at"] for row in rows if row["what"] == "said" and "Enrolled" in row["type"])
    text = await desk.do("timeline", request)
    assert "notice sent" in text
    assert name not in text + json.dumps(rows)
    code, out, said = await desk.run("timeline", str(uuid.uuid4()))
    assert (code, out) == (1, "")
    assert "No service knows" in said


async def test_a_command_that_cannot_be_says_so_in_words(desk: Desk, tmp_path: Path) -> None:
    wrong = {
        ("parked", "list"): "Say which service.",
        ("parked", "list", "nobody"): "There is no service 'nobody'.",
        (
            "consumer",
            "pause",
            "enrolment",
            "nonsense",
        ): "enrolment has no consumer 'nonsense'. It has: courses, titles, partners, erasures.",
    }
    for arguments, words in wrong.items():
        code, out, said = await desk.run(*arguments)
        assert (code, out) == (1, ""), arguments
        assert said.startswith(f"kursnett: {words}"), said
        assert "Traceback" not in said
    elsewhere = Desk(Stack.somewhere(tmp_path / "nothing"), desk.web)
    code, _, said = await elsewhere.run("parked", "list", "catalogue")
    assert (code, said.startswith("kursnett: The stack does not run.")) == (1, True)
