"""The partners' webhooks of a fault run: their server, which says no when told to, and what is judged by it (V13).

What came stands in a file of JSON lines {"t", "path", "event_id", "signed", "data", "outcome"}: t in seconds of
time.monotonic(), `signed` whether the published library of Standard Webhooks takes the signature. Outcome: `ok`
(answered 200), `unanswered` (the connection was dropped instead of the answer), or the status of the refusal.
"""

import asyncio
import contextlib
import json
import time
from collections import defaultdict
from pathlib import Path
from typing import Any, Literal

from standardwebhooks import Webhook as Verifier
from standardwebhooks.webhooks import WebhookVerificationError

from tests.faults.evidence import Row
from tests.faults.model import World
from tests.faults.verdict import Looked

Behaviour = Literal["ok", "hook_500", "hook_drop", "hook_slow"]

SLOW_S = 3.0
TOLD = ("catalogue.courses", "enrolment.enrolments")
# Who has a webhook, and the events it wants; none: all of them.
WANTED: dict[str, tuple[str, ...]] = {"nord": (), "fjord": ("OfferingScheduled", "LearnerEnrolled")}


class HookSink:
    """Listens on a port of its own in this process, each partner's webhook at a path with its name."""

    def __init__(self, folder: Path) -> None:
        self.calls = folder / "calls.jsonl"
        self.behaviour: Behaviour = "ok"
        self.secrets: dict[str, str] = {}  # partner -> what the service has shown when the webhook was made
        self.port = 0
        self.taken_at = 0.0  # when the last call was answered 200, by time.monotonic()
        self.felt = asyncio.Event()  # somebody was not answered as he should be

    async def start(self) -> None:
        self.calls.parent.mkdir(parents=True, exist_ok=True)
        self._file = self.calls.open("a", buffering=1)
        self._server = await asyncio.start_server(self._answer, "127.0.0.1", 0, backlog=512)
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        self._server.close()
        self._file.close()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            head = (await reader.readuntil(b"\r\n\r\n")).decode()
            first, *lines = head.split("\r\n")
            headers = {
                name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines if line)
            }
            body = await reader.readexactly(int(headers["content-length"]))
            behaviour = self.behaviour
            if behaviour != "ok":
                self.felt.set()
            if behaviour == "hook_slow":
                await asyncio.sleep(SLOW_S)
            outcome = {"hook_500": "500", "hook_drop": "unanswered"}.get(behaviour, "ok")
            self._note(first.split(" ")[1].strip("/"), headers, body, outcome)
            if outcome != "unanswered":
                status = "200 OK" if outcome == "ok" else "500 No"
                writer.write(f"HTTP/1.1 {status}\r\ncontent-length: 0\r\n\r\n".encode())
                await writer.drain()
        writer.close()

    def _note(self, partner: str, headers: dict[str, str], body: bytes, outcome: str) -> None:
        signed = True
        try:
            Verifier(self.secrets[partner]).verify(body, headers)
        except (WebhookVerificationError, KeyError):
            signed = False
        event, now = json.loads(body), time.monotonic()
        self.taken_at = now if outcome == "ok" else self.taken_at
        line = {
            "t": now,
            "path": partner,
            "event_id": event["id"],
            "signed": signed,
            "data": event["data"],
            "outcome": outcome,
        }
        if not self._file.closed:
            self._file.write(json.dumps(line) + "\n")


def each_is_told(world: World) -> Looked:
    """V13: each event of a partner that its webhook wants was taken there, signed, and nothing else came."""
    found = Looked({"events to tell": 0, "calls taken": 0})
    found.also |= {"taken more than once": 0, "not taken": 0, "still to be tried again": 0}
    came: dict[tuple[str, str], list[Row]] = defaultdict(list)
    for call in world.evidence.calls:
        came[call["path"], call["event_id"]].append(call)
        found.seen["calls taken"] += call["outcome"] == "ok"
        found.also["not taken"] += call["outcome"] != "ok"
        if not call["signed"]:
            found.wrong.append(("the signature of a call is not good", [call]))
    rows = {(row["partner"], row["event_id"]): row for row in world.rows("notifier.webhook_deliveries")}
    waiting = {key for key, row in rows.items() if row["later"]}
    said: set[tuple[str, str]] = set()
    for row in [*world.rows("catalogue.outbox"), *world.rows("enrolment.outbox")]:
        told = _told(row)
        if told is None:
            continue
        said.add((told, row["event_id"]))
        found.seen["events to tell"] += 1
        calls = came.get((told, row["event_id"]), [])
        taken = [call for call in calls if call["outcome"] == "ok"]
        found.also["taken more than once"] += len(taken) > 1
        found.also["still to be tried again"] += not taken and (told, row["event_id"]) in waiting
        if not taken and (told, row["event_id"]) not in waiting:
            done = rows.get((told, row["event_id"]), {}).get("state") == "delivered"  # else it may still be
            words = "this event is called delivered, and" if done else "this event"
            found.wrong.append((f"{words} was never taken at its partner's webhook", [row, *calls]))
        data = {name: value for name, value in json.loads(row["payload"])["data"].items() if name != "sealed"}
        if any(call["data"] != data for call in calls):
            found.wrong.append(("a partner was told other words than were said", [row, *calls]))
    for (partner, event_id), calls in came.items():
        if (partner, event_id) not in said:
            found.wrong.append((f"{partner} was told what is not for it", calls))
    return found


def _told(row: Row) -> str | None:
    """The partner whose webhook wants this event of an outbox, if one does."""
    if row["topic"] not in TOLD:
        return None
    event: dict[str, Any] = json.loads(row["payload"])
    partner = str(event["data"].get("partner"))
    wanted = WANTED.get(partner)
    if wanted is None or (wanted and event["type"].split(".")[-2] not in wanted):
        return None
    return partner
