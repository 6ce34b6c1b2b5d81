"""What tests of a person's rights use: the lists of columns, and what stands in each column of a database."""

import re
from dataclasses import dataclass
from functools import cache
from typing import Any

from deploy.local.places import ROOT
from kit.database import Connection

LINE = re.compile(r"^(\w+)\.(\w+|\*)\s*\| (\S+)\s*\| (\S+)(?: \| (.+))?$")
COLUMNS = """
SELECT c.table_name, c.column_name, t.table_type = 'VIEW' AS is_view
FROM information_schema.columns c JOIN information_schema.tables t USING (table_schema, table_name)
WHERE c.table_schema = 'public' ORDER BY 1, 2
"""
NOTHING = {None, "", "{}", "[]", False}


@dataclass(frozen=True)
class Line:
    """What was decided of a column, or of a table's columns without a line of their own (`*`)."""

    table: str
    column: str
    forgotten: str
    document: str
    reason: str | None


@cache
def lines(service: str) -> tuple[Line, ...]:
    """The list of a service, with that of the kit. Raises ValueError for a line that cannot be read."""
    found = []
    for path in (ROOT / "services" / service / "personal.txt", ROOT / "kit" / "personal.txt"):
        for text in path.read_text("utf-8").splitlines():
            if "|" in text and not text.startswith("A line is"):
                match = LINE.match(text)
                if match is None:
                    raise ValueError(text)
                found.append(Line(*match.groups()))
    return tuple(found)


def undecided(service: str, columns: list[tuple[str, str]]) -> list[str]:
    """What is wrong with the list: columns without a line, lines without a column, lines that lack their reason."""
    known = {(one.table, one.column) for one in lines(service)}
    there = {*columns, *((table, "*") for table, _ in columns)}
    wrong = [
        f"{table}.{column} has no line" for table, column in columns if not {(table, column), (table, "*")} & known
    ]
    wrong += [f"there is no {table}.{column}" for table, column in sorted(known - there)]
    for one in lines(service):
        plain = one.forgotten in ("deleted", "emptied") and one.document != "-"
        if one.forgotten not in ("deleted", "emptied", "kept", "-") or not (plain or one.reason):
            wrong.append(f"{one.table}.{one.column}: say what, and why")
    return wrong


def column_of(service: str, table: str, column: str) -> Line:
    """The line that holds for a column."""
    by_name = {(one.table, one.column): one for one in lines(service)}
    return by_name.get((table, column)) or by_name[table, "*"]


async def columns(conn: Connection) -> list[tuple[str, str]]:
    return [(row["table_name"], row["column_name"]) for row in await conn.fetch(COLUMNS)]


async def values(conn: Connection) -> dict[tuple[str, str], set[str]]:
    """(table, column) -> each value that stands there, as text, but for those that say nothing."""
    found: dict[tuple[str, str], set[str]] = {}
    for row in await conn.fetch(COLUMNS):
        table, column = row["table_name"], row["column_name"]
        kept = await conn.fetch(f'SELECT DISTINCT "{column}"::text AS v FROM "{table}"')
        found[table, column] = {one["v"] for one in kept} - NOTHING
    return found


def paths(document: Any, before: str = "") -> set[str]:
    """The names of everything in a document, as `enrolments.offers.place`; a list has those of its items."""
    if isinstance(document, list):
        return {path for one in document for path in paths(one, before)}
    if not isinstance(document, dict):
        return set()
    found = set()
    for name, value in document.items():
        found |= {f"{before}{name}"} | paths(value, f"{before}{name}.")
    return found


async def everything(conn: Connection) -> str:
    """All that stands in any column of any table, as one text; bytes as they are, where they are text."""
    parts = []
    for row in await conn.fetch(COLUMNS):
        if row["is_view"]:
            continue
        for one in await conn.fetch(f'SELECT "{row["column_name"]}" AS v FROM "{row["table_name"]}"'):
            value = one["v"]
            parts.append(value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value))
    return "\n".join(parts)
