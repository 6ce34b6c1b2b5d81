"""Tells people who are logged in that they have something to read."""

import json
from collections.abc import Mapping, Sequence
from typing import Annotated

from fastapi import Depends, Request
from fastapi.sse import format_sse_event

from kit import live, tags
from kit.database import Database
from kit.http import ThisService
from services.notifier.store import feed


class Hub(live.Hub[str]):
    """Who listens to their own notices, by log-in."""

    most_each = 10  # of one person: browsers that were left open

    async def look(self, keys: Sequence[str]) -> Mapping[str, tuple[str, bytes]]:
        return await _look(self._running.database, keys)


async def _look(database: Database, logins: Sequence[str]) -> dict[str, tuple[str, bytes]]:
    """Log-in -> the id of what they have now, and the event that tells it."""
    async with database.reading() as conn:
        counted = await feed.counts(conn, logins)
    found = {}
    for login in logins:
        count = counted.get(login, feed.Count())
        text = json.dumps({"unread": count.unread, "newest": str(count.newest) if count.newest else None})
        name = tags.tag(f"{count.total} {text}".encode()).strip('"')
        found[login] = (name, format_sse_event(data_str=text, event="notices", id=name))
    return found


async def the_hub(request: Request, running: ThisService) -> Hub:
    state = request.app.state
    if not hasattr(state, "hub"):
        state.hub = Hub(running)
    hub: Hub = state.hub
    return hub


TheHub = Annotated[Hub, Depends(the_hub)]
