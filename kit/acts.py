"""What operators do to a service, and the list of it: an act and its line in `operator_acts` are one transaction."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

from kit import parking, switch
from kit.database import Connection

_ADD = """
INSERT INTO operator_acts (way, by, name, act, about, reason)
SELECT $1, $2, $3, $4, about, $6 FROM unnest($5::text[]) WITH ORDINALITY AS given (about, place) ORDER BY place
"""
_LIST = """
SELECT id, at, way, by, name, act, about, reason FROM operator_acts WHERE id < $1 ORDER BY id DESC LIMIT $2
"""

NEWEST = 2**63 - 1  # an id above all others: the list begins with the newest


@dataclass(frozen=True, slots=True)
class Operator:
    """Who acts. `by`: the digest of a log-in, or the user of the machine. `name`: what people call them, if known."""

    way: Literal["console", "command"]
    by: str
    name: str | None = None

    @property
    def called(self) -> str:
        return self.name or self.by


async def add(conn: Connection, who: Operator, act: str, about: Sequence[str], reason: str = "") -> None:
    """Write one line for each thing that was acted on. Raises RuntimeError outside the transaction of the act."""
    if not conn.is_in_transaction():
        raise RuntimeError("an act is written in its own transaction: it could be written and not done")
    await conn.execute(_ADD, who.way, who.by, who.name, act, list(about), reason)


async def listing(conn: Connection, before: int = NEWEST, limit: int = 1000) -> list[dict[str, Any]]:
    """The acts, newest first, that are older than the one with the id `before`."""
    return [dict(row) for row in await conn.fetch(_LIST, before, limit)]


async def redrive(conn: Connection, who: Operator, numbers: Sequence[int]) -> list[int]:
    """Let parked records run again; returns the numbers of those that could be."""
    done = await parking.redrive(conn, numbers, who.called)
    await add(conn, who, "parked redrive", [str(number) for number in done])
    return done


async def discard(conn: Connection, who: Operator, numbers: Sequence[int], reason: str) -> list[int]:
    """Give parked records up for good; returns the numbers of those that could be. Raises ValueError without a reason.

    Its event counts as heard from then on, and what waited behind it runs.
    """
    done = await parking.discard(conn, numbers, who.called, reason)
    await add(conn, who, "parked discard", [str(number) for number in done], reason)
    return done


async def ask_discard(conn: Connection, who: Operator, number: int, reason: str) -> bool:
    """Ask that another operator discards this record; false when it is over, or is asked for already."""
    done = await parking.ask(conn, number, parking.Asked(who.by, who.called, reason))
    await add(conn, who, "parked discard ask", [str(number)] if done else [], reason)
    return done


async def discard_asked(conn: Connection, who: Operator, number: int) -> bool:
    """Discard what another has asked for, by that one's reason; false when nobody has, or nobody but who acts."""
    asked = await parking.asked(conn, number)
    if asked is None or asked.by == who.by:
        return False
    done = await parking.discard(conn, [number], f"{asked.name}, {who.called}", asked.reason)
    await add(conn, who, "parked discard", [str(number)], asked.reason)
    return bool(done)


async def keep_asked(conn: Connection, who: Operator, number: int) -> bool:
    """Do not discard it: one who asked takes it back, or another says no. False when nobody has asked."""
    if await parking.asked(conn, number) is None:
        return False
    await parking.unask(conn, number)
    await add(conn, who, "parked keep", [str(number)])
    return True


async def read(conn: Connection, who: Operator, number: int, reason: str) -> dict[str, Any] | None:
    """What was sent, whole, as `parking.show`; that somebody has read it is written down. None when there is none."""
    found = await parking.show(conn, number)
    if found is not None:
        await add(conn, who, "parked show", [str(number)], reason)
    return found


async def pause(conn: Connection, who: Operator, group: str, reason: str) -> None:
    """Stop a consumer within a second; a restart does not resume it."""
    await switch.pause(conn, group, reason or f"by {who.called}")
    await add(conn, who, "consumer pause", [group], reason)


async def resume(conn: Connection, who: Operator, group: str) -> None:
    await switch.resume(conn, group)
    await add(conn, who, "consumer resume", [group])


async def replay(conn: Connection, who: Operator, group: str, since: datetime) -> None:
    """Let a consumer read again what was written since an instant."""
    await switch.replay(conn, group, since)
    await add(conn, who, "replay", [group], f"from {since.isoformat()}")
