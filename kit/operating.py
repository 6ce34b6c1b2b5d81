"""The operators' commands that every service has: parked records, consumer switches, replay, republish, timeline."""

import asyncio
import getpass
import json
import sys
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime
from typing import Annotated, Any, TypeVar

import cyclopts

from kit import parking, switch
from kit.database import Connection, connect
from kit.settings import Settings

T = TypeVar("T")
Json = Annotated[bool, cyclopts.Parameter(name="--json", negative="", help="print JSON for programs")]

_COUNT = "SELECT count(*) FROM outbox WHERE created_at >= $1 AND published_at IS NOT NULL"
_REPUBLISH = """
UPDATE outbox SET published_at = NULL WHERE id IN (
    SELECT id FROM outbox WHERE id > $2 AND created_at >= $1 AND published_at IS NOT NULL ORDER BY id LIMIT 5000
) RETURNING id
"""
_SAID = """
SELECT created_at AS at, 'said' AS what, topic, convert_from(payload, 'UTF8')::json->>'type' AS type,
       event_id::text AS event_id, subject, correlation_id, published_at
FROM outbox
WHERE headers IS NULL AND (correlation_id = $1 OR subject = $1 OR event_id::text = $1) ORDER BY id
"""
_HEARD = "SELECT received_at AS at, 'heard' AS what, consumer, event_id FROM inbox WHERE event_id = ANY($1::text[])"
_PARKED = """
SELECT parked_at AS at, state AS what, consumer, event_id, type, reason FROM parked WHERE event_id = ANY($1::text[])
"""


def add(app: cyclopts.App, service: str, settings: Callable[[], Settings]) -> None:
    """Give a service's command line the operators' commands."""

    def ask(work: Callable[[Connection], Awaitable[T]]) -> T:
        return asyncio.run(_with(settings(), work))

    parked = cyclopts.App(name="parked", help="Records that could not be handled: read, run again, give up.")
    consumer = cyclopts.App(name="consumer", help="Pause and resume what listens to events.")
    app.command(parked)
    app.command(consumer)

    @parked.command(name="list")
    def _list(*, closed: bool = False, as_json: Json = False) -> None:
        """List what is parked, held or refused; with --closed also what is over.

        Example: parked list --json
        """
        _print(ask(lambda conn: parking.listing(conn, closed=closed)), as_json, "nothing is parked")

    @parked.command(name="show")
    def _show(number: int, *, as_json: Json = False) -> None:
        """Show one record whole: headers, bytes, why it is here."""
        found = ask(lambda conn: parking.show(conn, number))
        if found is None:
            sys.exit(f"No parked record has the number {number}. See: parked list")
        _print([found], as_json, "")

    @parked.command(name="redrive")
    def _redrive(*numbers: int, by: str | None = None) -> None:
        """Let records run again; the service does it within a second or two. What fails again is parked again.

        Example: parked redrive 17 18
        """
        done = ask(_whole(lambda conn: parking.redrive(conn, numbers, by or _me())))
        _tell(numbers, done, "will run again", "is not parked or refused")

    @parked.command(name="discard")
    def _discard(*numbers: int, reason: str, by: str | None = None) -> None:
        """Give records up for good; what waited behind them runs on.

        Example: parked discard 17 --reason "the partner sent it anew"
        """
        if not reason.strip():
            sys.exit("Say why with --reason: a discarded record is gone for good.")
        done = ask(_whole(lambda conn: parking.discard(conn, numbers, by or _me(), reason)))
        _tell(numbers, done, "is discarded", "is not open")

    @consumer.command(name="pause")
    def _pause(name: str, *, reason: str) -> None:
        """Stop a consumer within a second, until it is resumed; a restart does not resume it.

        Example: consumer pause courses --reason "the catalogue is being restored"
        """
        ask(lambda conn: switch.pause(conn, f"{service}.{name}", reason))
        print(f"{service}.{name} is paused.")

    @consumer.command(name="resume")
    def _resume(name: str) -> None:
        """Let a consumer go on from where it stopped."""
        ask(lambda conn: switch.resume(conn, f"{service}.{name}"))
        print(f"{service}.{name} goes on.")

    @consumer.command(name="status")
    def _status(*, as_json: Json = False) -> None:
        """Show each consumer that an operator has ever switched."""
        _print(ask(switch.listing), as_json, "no consumer was ever switched: all listen")

    @app.command(name="replay")
    def _replay(name: str, *, since: Annotated[datetime, cyclopts.Parameter(name=["--from", "--since"])]) -> None:
        """Let a consumer read again what was written since an instant. What had its effect has none again.

        Example: replay courses --from 2026-11-24T08:00:00Z
        """
        ask(lambda conn: switch.replay(conn, f"{service}.{name}", _instant(since)))
        print(f"{service}.{name} reads again from {_instant(since).isoformat()}; mails are not sent again.")

    @app.command(name="republish")
    def _republish(*, since: datetime, dry_run: bool = False) -> None:
        """Put on its topics again what this service has said since an instant. Listeners know what they had.

        Example: republish --since 2026-11-20T00:00:00Z --dry-run
        """
        if dry_run:
            print(f"{ask(lambda conn: conn.fetchval(_COUNT, _instant(since)))} events would be published again.")
            return
        print(f"{ask(lambda conn: _again(conn, _instant(since)))} events are published again.")

    @app.command(name="timeline")
    def _timeline(id: str, *, as_json: Json = False) -> None:
        """Follow one thing through this service: what it said and heard, by correlation, event or subject id."""
        _print(ask(lambda conn: timeline(conn, [id])), as_json, "nothing here has this id")


async def timeline(conn: Connection, ids: Sequence[str]) -> list[dict[str, Any]]:
    """What one service said and heard of these ids (correlation, event or subject), in time order."""
    rows = [dict(row) for one in ids for row in await conn.fetch(_SAID, one)]
    events = [*ids, *(row["event_id"] for row in rows)]
    rows += [dict(row) for statement in (_HEARD, _PARKED) for row in await conn.fetch(statement, events)]
    return sorted(rows, key=lambda row: row["at"])


async def _again(conn: Connection, since: datetime) -> int:
    count, last = 0, 0
    while rows := await conn.fetch(_REPUBLISH, since, last):  # in parts, so that no statement holds thousands of rows
        count += len(rows)
        last = max(row["id"] for row in rows)
        print(f"{count} …", file=sys.stderr)
    return count


async def _with(settings: Settings, work: Callable[[Connection], Awaitable[T]]) -> T:
    conn = await connect(settings, "operator")
    try:
        return await work(conn)
    finally:
        await conn.close()


def _whole(work: Callable[[Connection], Awaitable[T]]) -> Callable[[Connection], Awaitable[T]]:
    async def inside(conn: Connection) -> T:
        async with conn.transaction():
            return await work(conn)

    return inside


def _instant(given: datetime) -> datetime:
    if given.tzinfo is None:
        sys.exit("Say the time with its zone, e.g. 2026-11-24T08:00:00Z or …+01:00.")
    return given.astimezone(UTC)


def _me() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container's user has no name
        return "operator"


def _tell(asked: Sequence[int], done: Sequence[int], yes: str, no: str) -> None:
    for number in asked:
        print(f"{number} {yes if number in done else no}.")
    if set(asked) - set(done) or not asked:
        sys.exit("Nothing was named. See: parked list" if not asked else 1)


def _print(rows: Sequence[dict[str, Any]], as_json: bool, none: str) -> None:
    if as_json:
        print(json.dumps(rows, default=_plain, ensure_ascii=False))
        return
    for row in rows:
        print("  ".join(f"{name}={_plain(value)}" for name, value in row.items() if value is not None))
    if not rows:
        print(none)


def _plain(value: Any) -> Any:
    return value.isoformat() if isinstance(value, datetime) else str(value)
