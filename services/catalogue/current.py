"""How the courses in memory are kept as the database is: every search is answered by what was committed before it."""

from collections import OrderedDict
from collections.abc import Sequence
from uuid import UUID

from kit import logs
from kit.database import Connection, Database
from kit.groupcommit import GroupRead
from kit.running import Running
from kit.service import spare_collector
from services.catalogue.index import Index
from services.catalogue.postings import NOWHERE, Places
from services.catalogue.store import Row, search
from services.catalogue.store.search import Words
from services.catalogue.tsquery import asks_for_places, read

log = logs.get(__name__)

Version = tuple[int, int]

AT_ONCE = 250  # courses: some 20 ms in which nothing else is answered
MOST_QUERIES = 2_000  # what people search for is the same again and again; half a KB each
FIRST = UUID(int=0)


class Current:
    """The index of one process.

    Each search waits for a look at the database that begins after it was asked; all that wait share one. A look tells
    what has changed since the last, and its words as PostgreSQL reads them.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._looks = GroupRead(database, self._look)
        self._queries: OrderedDict[Words, str | None] = OrderedDict()
        self._index: Index | None = None
        self._seen = ""
        self._epoch = 0

    @property
    def version(self) -> Version:
        """Which index, and how often it has changed, as of the last look: what was made of it since is as it was."""
        return (0, 0) if self._index is None else (id(self._index), self._index.version)

    async def index(self, words: Words) -> tuple[Index, str | None]:
        """The courses as they are now, and the words as a tsquery: none where nothing can be found by them.

        Raises Busy or the database's own error when it cannot be asked.
        """
        query = self._queries.get(words)
        if words in self._queries or not words:
            await self._looks.submit(None)
        else:
            query = self._queries[words] = await self._looks.submit(words)
            if len(self._queries) > MOST_QUERIES:
                self._queries.popitem(last=False)
        if self._index is None:
            raise LookupError("a look makes the index")
        return self._index, query

    async def where(self, query: str | None, index: Index) -> Places:
        """Where the words are; those that must stand at certain places from each other are asked of PostgreSQL."""
        if query is None:
            return NOWHERE
        tree = read(query)
        if not asks_for_places(tree):
            return index.places(tree)
        may_be = index.places(tree, loosely=True)
        ids = [UUID(one) for one in index.ids(may_be.title | may_be.brief | may_be.all)]
        if not ids:
            return NOWHERE
        async with self._database.reading() as conn:
            return index.told(await search.where(conn, ids, query))

    async def _look(self, conn: Connection, asked: Sequence[Words | None]) -> Sequence[str | None]:
        new = [one for one in dict.fromkeys(asked) if one]
        row = await search.look(conn, self._seen or None, new)
        if self._index is None or self._is_another(row):
            self._index = await self._read_all(conn, row)
        else:
            await self._read_changed(conn, self._index, row["changed"])
            self._index.pass_to(row["now"])
        self._seen, self._epoch = row["seen"], row["epoch"]  # now that all of it is in the index, and not before
        queries = dict(zip(new, row["queries"], strict=True))
        return [queries[one] if one else None for one in asked]

    def _is_another(self, row: Row) -> bool:
        """Whether the database was put back to what it was: then it does not know what has changed."""
        newest, before = (int(seen.split(":")[1]) for seen in (row["seen"], self._seen))
        return newest < before or row["epoch"] != self._epoch

    async def _read_all(self, conn: Connection, look: Row) -> Index:
        """All courses. What is written meanwhile is found by the next look, which asks from this one on."""
        index, last, count = Index(look["now"]), FIRST, 0
        while rows := await search.courses_after(conn, last, AT_ONCE):
            last, count = rows[-1]["id"], count + len(rows)
            index.put(rows, await search.runs_of(conn, [row["id"] for row in rows]))
        spare_collector()  # some millions of objects that live as long as the process: a look at all takes 0.5 s
        log.info("courses_read", count=count)
        return index

    async def _read_changed(self, conn: Connection, index: Index, ids: Sequence[UUID]) -> None:
        for begin in range(0, len(ids), AT_ONCE):
            some = ids[begin : begin + AT_ONCE]
            index.put(await search.these_courses(conn, some), await search.runs_of(conn, some))


def current(running: Running) -> Current:
    """The one of this process."""
    found: Current | None = running.kept.get(Current)
    if found is None:
        found = running.kept[Current] = Current(running.database)
    return found


async def warm(running: Running) -> None:
    """Read the courses before anybody searches. Until then the service is not ready."""
    is_read = False

    async def check() -> str | None:
        return None if is_read else "the courses are still being read"

    running.health.register("search", check)
    await current(running).index(Words())
    is_read = True
    await running.stopping.wait()
