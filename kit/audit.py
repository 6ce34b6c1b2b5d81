"""Asks a service's own database whether what must always be so is so: one statement a rule, and nothing written."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from kit.database import connect
from kit.settings import Settings

KIT = Path(__file__).parent / "audit.sql"

# A rule is a heading with its number and its sentence, and the statement below it. One whose count is of use by itself
# has a name after the number.
_HEADING = re.compile(r"^-- (V\d+)(?: (\w+))?: (.+)$", re.MULTILINE)


@dataclass(frozen=True)
class Rule:
    """One rule; its statement gives one row: how many were looked at, how many break it, one of those."""

    number: str
    name: str | None
    words: str
    statement: str


@dataclass(frozen=True)
class Found:
    """What one rule has found."""

    invariant: str
    name: str | None
    words: str
    looked: int
    wrong: int
    example: str | None


def rules(path: Path) -> list[Rule]:
    """The rules in one file of SQL, in their order."""
    parts = _HEADING.split(path.read_text(encoding="utf-8"))[1:]
    return [Rule(*parts[n : n + 4]) for n in range(0, len(parts), 4)]


async def look(settings: Settings, paths: Iterable[Path]) -> list[Found]:
    """Try every rule on one and the same moment of the database, in a session that cannot write."""
    conn = await connect(settings, "operator")
    try:
        await conn.execute("SET default_transaction_read_only = on")
        found = []
        async with conn.transaction(isolation="repeatable_read"):
            for rule in (rule for path in paths for rule in rules(path)):
                row = await conn.fetchrow(rule.statement)
                if row is None:
                    raise RuntimeError(f"the rule {rule.words!r} gave no row")
                found.append(Found(rule.number, rule.name, rule.words, row["looked"], row["wrong"], row["example"]))
        return found
    finally:
        await conn.close()
