"""The catalogue's pages: where their templates are, and what stands on many of them."""

import time
from collections.abc import Mapping
from functools import cache

from contracts.arenas import place_name
from kit import console
from kit.pages.site import Site
from kit.running import Running
from services.catalogue import words
from services.catalogue.current import current
from services.catalogue.kept import Made
from services.catalogue.store import views


@cache
def site() -> Site:
    return Site(words.FOLDER, {"place": place_name, **words.FILTERS, **console.FILTERS})


class Names(Made[Mapping[str, str]]):
    """Slug -> name of every provider."""


async def names(running: Running) -> Mapping[str, str]:
    """Slug -> name of every provider; one that is new is there with its first course."""
    version = current(running).version
    made: Names | None = running.kept.get(Names)
    if made is None or not made.holds(version):
        async with running.database.reading() as conn:
            rows = await views.providers(conn)
        made = running.kept[Names] = Names({row["slug"]: row["name"] for row in rows}, version, time.monotonic())
    return made.what
