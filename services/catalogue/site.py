"""The catalogue's pages: where their templates are, and how those that are the same for everybody are kept ready."""

import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Generic, TypeVar

from fastapi import Request
from starlette.responses import Response

from contracts.arenas import place_name
from kit import console, tags
from kit.pages.languages import spoken
from kit.pages.site import Site
from kit.running import Running
from services.catalogue import words
from services.catalogue.current import current
from services.catalogue.search import CACHING
from services.catalogue.store import views
from services.catalogue.store.search import Words

T = TypeVar("T")

MOST_PAGES = 500  # of 10 to 40 KB: what people look at is the same again and again
LONGEST_S = 60.0  # a page tells what the index does not hold: names of providers, what has ended meanwhile
_LEFT_BEHIND = ("content-length", "content-type", "cache-control")


@cache
def site() -> Site:
    return Site(words.FOLDER, {"place": place_name, **words.FILTERS, **console.FILTERS})


Version = tuple[int, int]


@dataclass(frozen=True, slots=True)
class _Kept(Generic[T]):
    what: T
    version: Version
    made_s: float

    def holds(self, version: Version) -> bool:
        return self.version == version and time.monotonic() - self.made_s < LONGEST_S


class _Pages:
    """What one process has made for everybody: pages by the reader's language and the address, the last used last."""

    def __init__(self) -> None:
        self.pages: OrderedDict[tuple[str, str], _Kept[Response]] = OrderedDict()
        self.names: _Kept[Mapping[str, str]] | None = None

    def keep(self, key: tuple[str, str], version: Version, page: Response) -> None:
        self.pages[key] = _Kept(page, version, time.monotonic())
        self.pages.move_to_end(key)
        if len(self.pages) > MOST_PAGES:
            self.pages.popitem(last=False)


def _pages(running: Running) -> _Pages:
    found: _Pages = running.kept.setdefault(_Pages, _Pages())
    return found


async def for_everybody(request: Request, running: Running, make: Callable[[], Awaitable[Response]]) -> Response:
    """The page at this address, or 304 for whoever has it. It knows no visitor.

    Made anew when a course, a run or its seats have changed since, and after a minute. Whether they have is asked of
    the database each time, once for all who ask at that time. `make` looks for itself.
    """
    pages, now = _pages(running), current(running)
    key = (spoken(request), f"{request.url.path}?{request.url.query}")
    kept, page = pages.pages.get(key), None
    if kept is not None:
        await now.index(Words())
        page = kept.what if kept.holds(now.version) else None
    if page is None:
        version = now.version  # before it is made: what changes meanwhile makes it old
        page = await make()
        if page.status_code != 200:
            return page
        if "set-cookie" not in page.headers:
            pages.keep(key, version, page)
    known = request.headers.get("if-none-match")
    answer = tags.unless_known(bytes(page.body), known, CACHING, "text/html; charset=utf-8")
    answer.headers.update({name: value for name, value in page.headers.items() if name not in _LEFT_BEHIND})
    return answer


async def names(running: Running) -> Mapping[str, str]:
    """Slug -> name of every provider; one that is new is there with its first course."""
    pages, version = _pages(running), current(running).version
    if pages.names is None or not pages.names.holds(version):
        async with running.database.reading() as conn:
            rows = await views.providers(conn)
        pages.names = _Kept({row["slug"]: row["name"] for row in rows}, version, time.monotonic())
    return pages.names.what
