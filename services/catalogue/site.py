"""The catalogue's pages: where their templates are, and how those that are the same for everybody are kept ready."""

import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from functools import cache

from fastapi import Request
from starlette.responses import Response

from contracts.arenas import place_name
from kit import tags
from kit.pages.languages import spoken
from kit.pages.site import Site
from kit.running import Running
from services.catalogue import words
from services.catalogue.current import current
from services.catalogue.search import CACHING
from services.catalogue.store import views
from services.catalogue.store.search import Words

MOST_PAGES = 500  # of 10 to 40 KB: what people look at is the same again and again
LONGEST_S = 60.0  # a page tells what the index does not hold: names of providers, what has ended meanwhile
_LEFT_BEHIND = ("content-length", "content-type", "cache-control")


@cache
def site() -> Site:
    return Site(words.FOLDER, {"place": place_name, **words.FILTERS})


@dataclass(frozen=True, slots=True)
class _Kept:
    version: tuple[int, int]  # which index, and what stood in it
    made_s: float
    page: Response


class Pages:
    """The pages for everybody of one process, as they were last made."""

    def __init__(self) -> None:
        self._kept: OrderedDict[tuple[str, str], _Kept] = OrderedDict()

    def find(self, key: tuple[str, str], version: tuple[int, int]) -> Response | None:
        found = self._kept.get(key)
        if found is None or found.version != version or time.monotonic() - found.made_s > LONGEST_S:
            return None
        self._kept.move_to_end(key)
        return found.page

    def keep(self, key: tuple[str, str], version: tuple[int, int], page: Response) -> None:
        self._kept[key] = _Kept(version, time.monotonic(), page)
        self._kept.move_to_end(key)
        if len(self._kept) > MOST_PAGES:
            self._kept.popitem(last=False)


async def for_everybody(request: Request, running: Running, make: Callable[[], Awaitable[Response]]) -> Response:
    """The page at this address, or 304 for whoever has it. It knows no visitor.

    Made anew when a course, a run or its seats have changed since, and after a minute. Whether they have is asked of
    the database each time, once for all who ask at that time.
    """
    pages = running.kept.setdefault(Pages, Pages())
    index, _ = await current(running).index(Words())
    version = (id(index), index.version)
    key = (spoken(request), request.url.path + "?" + request.url.query)
    page: Response | None = pages.find(key, version)
    if page is None:
        page = await make()
        if page.status_code == 200 and "set-cookie" not in page.headers:
            pages.keep(key, version, page)
    if page.status_code != 200:
        return page
    known = request.headers.get("if-none-match")
    answer = tags.unless_known(bytes(page.body), known, CACHING, "text/html; charset=utf-8")
    answer.headers.update({name: value for name, value in page.headers.items() if name not in _LEFT_BEHIND})
    return answer


async def names(running: Running) -> Mapping[str, str]:
    """Slug -> name of every provider."""
    async with running.database.reading() as conn:
        return {row["slug"]: row["name"] for row in await views.providers(conn)}
