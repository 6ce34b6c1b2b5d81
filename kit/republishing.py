"""The operators' command that fills readers again: what was said since an instant, or all as it is now."""

import json
import sys
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from datetime import datetime
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any

import cyclopts

from kit import acts, trail
from kit.database import Connection
from kit.operating import Json, asked, ended, instant_of, me
from kit.state import State

if TYPE_CHECKING:
    from kit.service import Service

Counts = Mapping[str, int]

_COUNT = "SELECT count(*) FROM outbox WHERE created_at >= $1 AND published_at IS NOT NULL"
_REPUBLISH = """
UPDATE outbox SET published_at = NULL WHERE id IN (
    SELECT id FROM outbox WHERE id > $2 AND created_at >= $1 AND published_at IS NOT NULL ORDER BY id LIMIT 5000
) RETURNING id
"""


def add(app: cyclopts.App, build: "Callable[[], Service]") -> None:
    """Give a service's command line `republish`."""

    @app.command(name="republish")
    def _republish(
        *,
        since: str | None = None,
        state: Annotated[bool, cyclopts.Parameter(negative="")] = False,
        dry_run: Annotated[bool, cyclopts.Parameter(negative="")] = False,
        as_json: Json = False,
    ) -> None:
        """Put on its topics again what this service has said since an instant, or say all as it is now, by --state.

        Listeners know what they had: nobody is told anything twice. What was said is kept for 14 days; --state needs
        none of it, and reaches a listener that has heard it, too.

        Example: republish --since 2026-11-20T00:00:00Z --dry-run
        Example: republish --state --dry-run
        """
        if (since is None) != state:
            sys.exit("Say since when with --since, or --state for all as it is now.")
        service = build()
        work: Callable[[Connection], Awaitable[Counts]]
        if since is not None:
            work = partial(to_come if dry_run else again, since=instant_of(since))
        elif service.state is None:
            sys.exit(f"{service.name} keeps no state that others copy: only the catalogue does. Use --since.")
        else:
            work = service.state.count if dry_run else partial(whole_state, state=service.state)
        in_parts = "a part may be done. Run this again: nobody is told twice by it."
        counts = ended(asked(service.settings, work), "nothing was changed." if dry_run else in_parts)
        if as_json:
            print(json.dumps({"dry_run": dry_run, **counts}))
            return
        if since is not None:
            print(f"{counts['events']} events {'would be' if dry_run else 'are'} published again.")
            return
        told = ", ".join(f"{count} {kind}" for kind, count in counts.items())
        print(f"{told} {'would be' if dry_run else 'are'} said as they are now; nobody is told of a change by it.")


async def to_come(conn: Connection, since: datetime) -> Counts:
    return {"events": await conn.fetchval(_COUNT, since)}


async def again(conn: Connection, since: datetime) -> Counts:
    """Let the relay publish once more what was said since then; how many events that is."""
    async with conn.transaction():
        await acts.add(conn, me(), "republish", ["outbox"], f"since {since.isoformat()}")
    count, last = 0, 0
    while rows := await conn.fetch(_REPUBLISH, since, last):  # in parts, so that no statement holds thousands of rows
        count += len(rows)
        last = max(row["id"] for row in rows)
        print(f"{count} …", file=sys.stderr)
    return {"events": count}


async def whole_state(conn: Connection, state: State) -> Counts:
    """Say all, each part in a transaction of its own: whoever publishes waits for one. What stops can be run again."""
    counts: Counter[str] = Counter()
    place: Any = None
    with trail.following(trail.trail()):  # one correlation id for all
        async with conn.transaction():
            await acts.add(conn, me(), "republish", ["state"])
        while True:
            async with conn.transaction():
                said, place = await state.say(conn, place)
            counts.update(said)
            if place is None:
                return dict(counts)
            print(f"{counts.total()} …", file=sys.stderr)
