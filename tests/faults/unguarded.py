"""`python -m tests.faults.unguarded <control> services.<name> serve`: a service without one of its guards.

What it takes out, it takes out of the source text while that is imported: the services themselves have no switch for
it, and a text that is not there any more ends the process, so that no control can go green by having missed its guard.
"""

import asyncio
import os
import runpy
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader
from pathlib import Path
from types import ModuleType
from typing import Any

import asyncpg

from deploy.local.places import ROOT

WAITING_S = 60.0


@dataclass(frozen=True)
class Patch:
    """`old`, which stands in the module so many `times`, becomes `new`."""

    module: str
    old: str
    new: str
    times: int = 1


@dataclass(frozen=True)
class Control:
    """A guard that is taken out. `behind` is what stands behind it and goes with it; `first`: the faults it is for.

    `says`, a regular expression, is in the invariant's finding when it is red for want of the guard. It may be red for
    another reason, too: on a slow machine what has not come to rest looks lost.
    """

    guard: str
    invariant: str
    says: str
    patches: tuple[Patch, ...]
    behind: str = ""
    statements: Mapping[str, Sequence[str]] = field(default_factory=dict)  # service -> SQL, before it serves
    brokers: int = 1
    first: tuple[str, ...] = ()


CONTROLS: dict[str, Control] = {
    "row-lock": Control(
        "the offering's row lock",
        "V6",
        r"\d+ seats taken of \d+",
        (
            Patch("services.enrolment.store.seats", 'ORDER BY id FOR UPDATE"', 'ORDER BY id"'),
            Patch(
                "kit.groupcommit",
                "        return await future\n",
                "        self._waiting.remove((command, future))\n"
                "        [result] = await self._together([command], None)\n"
                "        if isinstance(result, Exception):\n"
                "            raise result\n"
                "        return result\n",
            ),
        ),
        behind="CHECK (taken <= capacity), and that one process decides one batch at a time",
        statements={"enrolment": ("ALTER TABLE places DROP CONSTRAINT IF EXISTS offering_not_oversold",)},
    ),
    "fill": Control(
        "the path that fills a freed seat, after a withdrawal or an answer",
        "V7",
        r"seats are free, and \d+ stand in line",
        (Patch("services.enrolment.commands", "        await work.fill(offering_id, path)\n", "        pass\n"),),
    ),
    "group-order": Control(
        "the order of the groups, before the time of asking",
        "V8",
        r"was given the seat before \S+, by group the first",
        (
            Patch(
                "services.enrolment.store.enrolments",
                "ORDER BY e.rank, e.queue_number LIMIT",
                "ORDER BY e.queue_number, e.rank LIMIT",
            ),
        ),
    ),
    "line-order": Control(
        "the time of asking, within a group",
        "V8",
        r"was given the seat before \S+, by time of asking the first",
        (
            Patch(
                "services.enrolment.store.enrolments",
                "ORDER BY e.rank, e.queue_number LIMIT",
                "ORDER BY e.rank, e.queue_number DESC LIMIT",
            ),
        ),
    ),
    "database-clock": Control(
        "the database's clock, instead of a process's own that is ten minutes slow",
        "V9",
        r"an offer was accepted after its hour|was asked for after the hour, and done",
        (
            Patch(
                "services.enrolment.work",
                "await seats.now(conn), settings)",
                'await seats.now(conn) - __import__("datetime").timedelta(minutes=10), settings)',
            ),
        ),
    ),
    "fresh-reads": Control(
        "reading an enrolment from the database, instead of from memory",
        "V10",
        r"no order of what was under way explains",
        (
            Patch(
                "services.enrolment.api",
                "        found = await enrolments.own_enrolment(conn, enrolment_id, *login(caller))\n",
                '        old = vars(router).setdefault("old", {})\n'
                "        if enrolment_id not in old:\n"
                "            old[enrolment_id] = await enrolments.own_enrolment(conn, enrolment_id, *login(caller))\n"
                "        found = old[enrolment_id]\n",
            ),
        ),
    ),
    "inbox-key": Control(
        "the inbox's unique key",
        "V5",
        r"is more than the topics come to",
        (
            Patch("kit.inbox", 'first.keys() if all_new else set(row["heard"])', "first.keys()"),
            Patch("kit.inbox", "            if aggregate not in last:\n                continue\n", ""),
            Patch("kit.inbox", "there = last[aggregate]", "there = None"),
        ),
        behind="the last number heard of each aggregate",
    ),
    "mark-after-ack": Control(
        "marking a row only after the ack",
        "V3",
        r"is marked as published and not on",
        (
            Patch(
                "kit.relay",
                "        flights = await self._producer.send(rows) if rows else []\n",
                '        await self._mark([row["id"] for row in rows])\n'
                "        flights = await self._producer.send(rows) if rows else []\n",
            ),
        ),
        first=("kill-sending",),
    ),
    "flag": Control(
        "the relay's flag, instead of the last id seen",
        "V3",
        r"is passed over and not on",
        (
            Patch(
                "kit.relay",
                "WHERE published_at IS NULL AND aggregate",
                "WHERE id > (SELECT coalesce(max(id), 0) FROM outbox WHERE published_at IS NOT NULL) AND aggregate",
            ),
        ),
    ),
    "no-reply": Control(
        "no_reply=True",
        "V4",
        r"holds what nobody has said",
        (
            Patch("kit.consumer", "            no_reply=True,", "            no_reply=False,"),
            Patch("kit.consumer", "            consumer_only=True,", ""),
            Patch(
                "kit.consumer",
                "raw_message=records, consumer=self._kafka)",
                "raw_message=records, consumer=self._kafka, "
                'reply_to=next((v.decode() for r in records for k, v in r.headers if k == "reply_to"), ""))',
            ),
        ),
        behind="a consumer without a producer; a parser that reads no reply_to",
    ),
    "idempotency": Control(
        "the table of Idempotency-Keys",
        "V11",
        r"had \d+ effects|under the key of \S+ was not refused|was answered, and refused|was answered in two ways",
        (
            Patch("kit.idempotency", "    if not places:\n", "    if places:\n"),
            Patch("kit.idempotency", "    if not answers:\n", "    if answers:\n"),
        ),
    ),
    "sending": Control(
        "the state `sending` of a mail in hand",
        "V12",
        r"taken more often than the service says",
        (
            Patch(
                "services.notifier.store.outgoing",
                "state = 'sending', sending_since",
                "state = notice.state, sending_since",
            ),
            Patch(
                "services.notifier.store.outgoing",
                "AND state = 'sending' AND attempts = $2",
                "AND $2::int IS NOT NULL",
                2,
            ),
        ),
        behind="who notes a mail must have it in hand",
    ),
    "webhook-answer": Control(
        "what a webhook's answer means, instead of any answer for a yes",
        "V13",
        r"is called delivered, and was never taken",
        (Patch("services.notifier.channels.webhook", "if 200 <= status < 300:", "if status:"),),
        first=("hook_500",),
    ),
    "quarantine": Control(
        "the quarantine of a partner whose records are refused",
        "V15",
        r"is active, and \d{3,} of its records were refused",
        (Patch("services.catalogue.quarantine", "        if count < most or", "        if count >= 0 or"),),
    ),
    "quarantine-alone": Control(
        "that a quarantine is that partner's alone",
        "V15",
        r"a record of \S+ is \w+ \(quarantined\)",
        (
            Patch(
                "services.catalogue.quarantine",
                'return self._closed.get(topic, "")',
                'return next(iter(self._closed.values()), "")',
            ),
        ),
    ),
    "acks": Control(
        "acks=all with three brokers",
        "V3",
        r"is marked as published and not on",
        (
            Patch("kit.producer", 'acks="all"', "acks=1"),
            Patch("kit.producer", "enable_idempotence=True", "enable_idempotence=False"),
        ),
        behind="the idempotent producer, which needs acks=all",
        brokers=3,
        first=("isolate",),
    ),
}


class Loader(SourceFileLoader):
    """Compiles a module from its text without the guard, and never from or into a cache that others use."""

    def __init__(self, name: str, path: str, patches: Sequence[Patch]) -> None:
        super().__init__(name, path)
        self._patches = patches

    def path_stats(self, path: Any) -> Any:
        raise OSError("no cache")

    def get_data(self, path: Any) -> bytes:
        text = super().get_data(path).decode()
        for patch in self._patches:
            text = text.replace(patch.old, patch.new)
        return text.encode()


class Finder(MetaPathFinder):
    """Finds the modules that have a guard to lose."""

    def __init__(self, patches: Sequence[Patch]) -> None:
        self._patches = patches

    def find_spec(self, name: str, path: Any, target: ModuleType | None = None) -> ModuleSpec | None:
        mine = [patch for patch in self._patches if patch.module == name]
        spec = PathFinder.find_spec(name, path) if mine else None
        if spec is not None and spec.origin is not None:
            spec.loader = Loader(name, spec.origin, mine)
        return spec


def missing(control: Control) -> list[str]:
    """One sentence for each text that is not in its module as often as the control expects.

    It imports nothing: a package may bring its modules with it, and these would then be there with their guards.
    """
    found = []
    for patch in control.patches:
        path = ROOT / f"{patch.module.replace('.', '/')}.py"
        text = path.read_text(encoding="utf-8") if path.exists() else ""
        if text.count(patch.old) != patch.times:
            found.append(f"{patch.module} does not hold {patch.old!r} {patch.times} times: mend the control")
    return found


def take_out(control: Control) -> None:
    """Have the guard's modules imported without it. Ends the process when a text is not as the control expects."""
    gone = missing(control)
    if gone:
        sys.exit("\n".join(gone))
    sys.meta_path.insert(0, Finder(control.patches))


async def execute(statements: Sequence[str]) -> None:
    """Run these in the service's own database, waiting for it as a service does."""
    setting = {name: os.environ[f"KURSNETT_DATABASE_{name.upper()}"] for name in ("host", "port", "name", "user")}
    password = (Path(os.environ["KURSNETT_SECRETS_DIR"]) / "database_password").read_text().strip()
    deadline = time.monotonic() + WAITING_S
    while True:
        try:
            conn = await asyncpg.connect(
                host=setting["host"],
                port=int(setting["port"]),
                database=setting["name"],
                user=setting["user"],
                password=password,
                timeout=2,
                command_timeout=3,
            )
            try:
                for statement in statements:
                    await conn.execute(statement)
                return
            finally:
                conn.terminate()
        except (OSError, asyncpg.PostgresError, TimeoutError):
            if time.monotonic() > deadline:
                raise
        await asyncio.sleep(0.3)


def main() -> None:
    name, service, *arguments = sys.argv[1:]
    control = CONTROLS[name]
    take_out(control)
    statements = control.statements.get(service.removeprefix("services."), ())
    if statements:
        asyncio.run(execute(statements))
    sys.argv = [service, *arguments]
    runpy.run_module(service, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
