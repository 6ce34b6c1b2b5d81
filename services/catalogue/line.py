"""What the catalogue's commands share: one transaction, and one sentence when it cannot be."""

import asyncio
import sys
from collections.abc import Awaitable, Callable, Coroutine
from typing import Annotated, Any, TypeVar

import asyncpg
import cyclopts

from kit import topics
from kit.access import AccessError
from kit.database import Connection, connect, is_away
from kit.operating import MIGRATE, OUTDATED
from kit.settings import read
from services.catalogue.domain import Rule
from services.catalogue.settings import CatalogueSettings

T = TypeVar("T")
Json = Annotated[bool, cyclopts.Parameter(name="--json", negative="")]
Flag = Annotated[bool, cyclopts.Parameter(negative="")]


def end(work: Coroutine[Any, Any, T], otherwise: str) -> T:
    """What the work gives; ends the process with one sentence when it fails for a reason that an operator can mend."""
    try:
        return asyncio.run(work)
    except (Rule, topics.TopicsError, AccessError) as error:
        sys.exit(f"{otherwise}: {error}.")
    except (OSError, asyncpg.InterfaceError, asyncpg.AdminShutdownError) as error:
        if not is_away(error):
            raise
        sys.exit(f"{otherwise}: the database does not answer. Start it, then run this again.")
    except OUTDATED:
        sys.exit(f"{otherwise}: the database {MIGRATE}")
    except asyncpg.PostgresError as error:
        sys.exit(f"{otherwise}: the database says {type(error).__name__}.")


async def changed(change: Callable[[Connection], Awaitable[T]]) -> T:
    """What a change of one provider gives, in one transaction."""
    conn = await connect(read(CatalogueSettings), "operator")
    try:
        async with conn.transaction():
            return await change(conn)
    finally:
        await conn.close()
