"""The operators' commands for after a restore, which every service has: epoch, restored, pass-over."""

import json
import sys
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cyclopts

from contracts.envelope import Envelope
from contracts.topics import SERVICES
from kit import restoring
from kit.database import Connection, connect
from kit.operating import From, Json, asked, ended, groups_of, instant_of, me, plain, shown, whole

if TYPE_CHECKING:
    from kit.service import Service


def add(app: cyclopts.App, build: "Callable[[], Service]") -> None:
    """Give a service's command line what is done after its database was restored from a backup."""

    @app.command(name="epoch")
    def _epoch(*, of: str | None = None) -> None:
        """Print the number under which this database speaks, or the highest in which it has heard another service.

        Example: epoch --of enrolment
        """
        if of is not None and of not in SERVICES:
            sys.exit(f"There is no service {of!r}. Choose one of: {', '.join(SERVICES)}.")

        async def number(conn: Connection) -> int:
            return await (restoring.epoch(conn) if of is None else restoring.heard_epoch(conn, of))

        print(ended(asked(build().settings, number)))

    @app.command(name="restored")
    def _restored(
        *, since: From, above: int = 0, kept: str | None = None, dry_run: bool = False, as_json: Json = False
    ) -> None:
        """After this database was restored from a backup of that instant, and before the service is started: raise its
        epoch, let it hear again what it heard since, and list what it had said since and knows nothing of.

        The epoch goes above --above (what others have heard: see epoch --of) and all that is on the topics. --kept
        names the database that was there before, on the same server, when there is one.

        Example: restored --since 2026-11-24T08:00:00Z --above 1 --json
        """
        instant, service = instant_of(since), build()
        outcome = ended(_after_restore(service, instant, above, kept, dry_run))
        lost = [_lost(one) for one in outcome.lost]
        if as_json:
            told = {"service": service.name, "epoch": outcome.epoch, "lost": lost}
            print(json.dumps({**told, "told": outcome.told, "read_again": outcome.rewound}, default=plain))
            return
        shown(lost, False, "nothing is lost")
        for line in outcome.told:
            print(line)
        if dry_run:
            print(f"{len(lost)} events were said since and are not known here. Nothing was changed.")
        else:
            print(f"{service.name} speaks in epoch {outcome.epoch} from now on; start it.")

    @app.command(name="pass-over")
    def _pass_over(file: Path) -> None:
        """Hear nothing of what another service has lost: FILE is what its `restored --json` printed.

        Example: pass-over lost.json
        """
        try:
            lost = [(str(one["topic"]), str(one["event_id"])) for one in json.loads(file.read_text())["lost"]]
        except (OSError, ValueError, LookupError, TypeError):
            sys.exit(f"{file} is not what `restored --json` printed.")
        service = build()
        heard = [
            (f"{service.name}.{one.name}", id_)
            for one in service.consumers
            for topic, id_ in lost
            if topic in one.topics
        ]
        count = ended(asked(service.settings, whole(lambda conn: restoring.pass_over(conn, heard))))
        print(f"{count} events are passed over.")


async def _after_restore(
    service: "Service", since: datetime, above: int, kept: str | None, dry_run: bool
) -> restoring.Outcome:
    conn = await connect(service.settings, "operator")
    try:
        if await restoring.runs(conn):
            sys.exit(f"{service.name} is running on this database: stop it, then run this again.")
        async with restoring.beside(service.settings, kept) as before:
            found = await restoring.look(conn, service.name, service.settings, since, before)
            if dry_run:
                return found
            heard = sorted({topic for one in service.consumers for topic in one.topics})
            restored = restoring.Restored(service.settings, since, found.lost, heard, before)
            highest = max(above, found.epoch)
            return await restoring.finish(
                conn, service.name, me(), restored, highest, service.restate, groups_of(service, ())
            )
    finally:
        await conn.close()


def _lost(one: Envelope) -> dict[str, Any]:
    """An event of which the database knows nothing, as an operator reads it: ids and numbers, nothing that it said."""
    return {
        "topic": restoring.topic_of(one),
        "event_id": one.id,
        "type": one.type,
        "subject": one.subject,
        "aggregate": one.aggregate,
        "epoch": one.epoch,
        "seq": one.seq,
        "time": one.time,
    }
