"""The operators' commands that every service has: parked records, consumer switches, replay, timeline."""

import asyncio
import getpass
import json
import sys
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import asyncpg
import cyclopts

from kit import acts, audit, lag, parking, restoring, standing, topics
from kit.acts import Operator
from kit.database import Connection, connect, is_away
from kit.settings import Settings
from kit.timeline import timeline

if TYPE_CHECKING:
    from kit.service import Service

T = TypeVar("T")
Json = Annotated[bool, cyclopts.Parameter(name="--json", negative="", help="print JSON for programs")]
From = Annotated[str, cyclopts.Parameter(name=["--from", "--since"])]

OUTDATED = (asyncpg.UndefinedTableError, asyncpg.UndefinedColumnError)  # as a database says that is older
MIGRATE = (
    "lacks what this version needs. To bring it up to date, start the stack anew: kursnett down, kursnett up; "
    "in containers, run this service's migrate."
)
BEGINNING = datetime(1970, 1, 1, tzinfo=UTC)  # a broker knows no time before it, and nothing of ours is older
_NOT_DONE = {
    None: "does not exist",
    "held": "waits behind another record with its key, and runs when that one is over",
    "redrive": "is about to run again",
    "redriven": "has run again and is over",
    "discarded": "was discarded and is over",
}


def add(app: cyclopts.App, build: "Callable[[], Service]") -> None:
    """Give a service's command line the operators' commands."""

    def ask(work: Callable[[Connection], Awaitable[T]]) -> T:
        return ended(asked(build().settings, work))

    def switched(names: Sequence[str], act: Callable[[Connection, str], Awaitable[None]]) -> list[str]:
        """Do this to these consumers, or to all of the service's when none is named; returns their groups."""
        chosen = groups_of(build(), names)

        async def each(conn: Connection) -> None:
            for group in chosen:
                await act(conn, group)

        ask(whole(each))
        return chosen

    parked = cyclopts.App(name="parked", help="Records that could not be handled: read, run again, give up.")
    consumer = cyclopts.App(name="consumer", help="Pause and resume what listens to events.")
    app.command(parked)
    app.command(consumer)

    @parked.command(name="list")
    def _list(*, closed: bool = False, as_json: Json = False) -> None:
        """List what is parked, held or refused; with --closed also what is over.

        Example: parked list --json
        """
        shown(ask(lambda conn: _all(conn, closed)), as_json, "nothing is parked")

    @parked.command(name="show")
    def _show(number: int, *, as_json: Json = False) -> None:
        """Show one record whole: headers, bytes, why it is here.

        Example: parked show 17
        """
        found = ask(lambda conn: parking.show(conn, number))
        if found is None:
            sys.exit(f"{number} does not exist. See: parked list --closed")
        shown([found], as_json, "")

    @parked.command(name="redrive")
    def _redrive(*numbers: int, by: str | None = None) -> None:
        """Let records run again; the service does it within a second or two. What fails again is parked again.

        Example: parked redrive 17 18
        """
        done = ask(whole(lambda conn: acts.redrive(conn, me(by), numbers)))
        _tell(numbers, done, ask(lambda conn: parking.states(conn, numbers)), "runs again within two seconds")

    @parked.command(name="discard")
    def _discard(*numbers: int, reason: str = "", by: str | None = None) -> None:
        """Give records up for good; what waited behind them runs on.

        Example: parked discard 17 --reason "the partner sent it anew"
        """
        if not reason.strip():
            sys.exit('Say why with --reason "…": a discarded record is gone for good.')
        done = ask(whole(lambda conn: acts.discard(conn, me(by), numbers, reason)))
        _tell(numbers, done, ask(lambda conn: parking.states(conn, numbers)), "is discarded")

    @consumer.command(name="pause")
    def _pause(*names: str, reason: str = "") -> None:
        """Stop these consumers, or all when none is named, within a second; a restart does not resume them.

        Example: consumer pause courses --reason "the catalogue is being restored"
        """
        for group in switched(names, lambda conn, group: acts.pause(conn, me(), group, reason.strip())):
            print(f"{group} is paused until it is resumed.")

    @consumer.command(name="resume")
    def _resume(*names: str) -> None:
        """Let these consumers, or all when none is named, go on from where they stopped.

        Example: consumer resume courses
        """
        for group in switched(names, lambda conn, group: acts.resume(conn, me(), group)):
            print(f"{group} goes on.")

    @consumer.command(name="status")
    def _status(*, as_json: Json = False) -> None:
        """Show each consumer: whether it is paused, and how many records wait for it (lag) and for you (parked).

        Example: consumer status --json
        """
        service = build()
        groups = groups_of(service, ())
        waiting = ended(standing.behind(service.settings.kafka_bootstrap, groups, lag.ASKING_S + 5))
        shown(ask(lambda conn: standing.consumers(conn, groups, waiting)), as_json, "this service listens to nothing")

    @app.command(name="replay")
    def _replay(*names: str, since: From, dry_run: bool = False) -> None:
        """Let these consumers, or all when none is named, read again what was written since an instant.

        What had its effect has none again: no mail is sent twice.
        Example: replay courses --from 2026-11-24T08:00:00Z --dry-run
        """
        instant, service = instant_of(since), build()
        chosen = groups_of(service, names)
        if dry_run:
            counts = ended(lag.since(service.settings.kafka_bootstrap, chosen, instant))
            for group, count in counts.items():
                print(f"{group} would read {count} records again.")
            return
        if service.consumers and not ask(restoring.runs):
            sys.exit(f"{service.name} does not run, and only a running one reads again: start it first.")
        for group in switched(names, lambda conn, group: acts.replay(conn, me(), group, instant)):
            print(f"{group} reads again from {instant.isoformat()}; what had its effect has none again.")

    @app.command(name="timeline")
    def _timeline(*ids: str, as_json: Json = False) -> None:
        """Follow one thing through this service: what it said, heard and did, by correlation, event or subject id.

        Example: timeline 019ab3c4-…
        """
        more = build().timeline
        shown(ask(lambda conn: timeline(conn, ids, more)), as_json, "nothing here has this id")

    @app.command(name="acts")
    def _acts(*, as_json: Json = False) -> None:
        """List what operators have done to this service, on the console and here, newest first.

        Example: acts --json
        """
        shown(ask(_acts_of), as_json, "no operator has done anything")

    @app.command(name="audit")
    def _audit(*, as_json: Json = False) -> None:
        """Check in the database what must always be so, and change nothing; exits with 1 when something is not.

        Example: audit --json
        """
        service = build()
        found = ended(audit.look(service.settings, [audit.KIT, service.migrations.with_name("audit.sql")]))
        shown([asdict(one) for one in found], as_json, "")
        if any(one.wrong for one in found):
            sys.exit(1)


def groups_of(service: "Service", names: Sequence[str]) -> list[str]:
    """The consumer groups of these consumers, or of all that the service has when none is named."""
    known = [one.name for one in service.consumers]
    for name in names:
        if name not in known:
            sys.exit(f"{service.name} has no consumer {name!r}. It has: {', '.join(known) or 'none'}.")
    return [f"{service.name}.{name}" for name in names or known]


async def _all(conn: Connection, closed: bool) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    while more := await parking.listing(conn, closed=closed, after=rows[-1]["id"] if rows else 0):
        rows += more
    return rows


async def _acts_of(conn: Connection) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    while more := await acts.listing(conn, rows[-1]["id"] if rows else acts.NEWEST):
        rows += more
    return rows


async def asked(settings: Settings, work: Callable[[Connection], Awaitable[T]]) -> T:
    """What this work gives on a connection of its own."""
    conn = await connect(settings, "operator")
    try:
        return await work(conn)
    finally:
        await conn.close()


def ended(work: Coroutine[Any, Any, T], undone: str = "nothing was changed.") -> T:
    """What the work gives; ends the process with one sentence when a server is not there to give it.

    `undone`: what has come of it when the database refuses, of work that is more than one transaction.
    """
    try:
        return asyncio.run(work)
    except lag.NoAnswer:
        sys.exit("The broker does not answer: start it, then run this again.")
    except topics.TopicsError as error:
        sys.exit(f"{error}.")
    except OUTDATED:
        sys.exit(f"The database {MIGRATE}")
    except (
        OSError,
        asyncpg.InterfaceError,
        asyncpg.PostgresConnectionError,
        asyncpg.CannotConnectNowError,
        asyncpg.AdminShutdownError,
    ) as error:
        if not is_away(error):
            raise
        sys.exit("The database does not answer: start it, then run this again.")
    except asyncpg.PostgresError as error:
        sys.exit(f"The database says {type(error).__name__}; {undone}")


def whole(work: Callable[[Connection], Awaitable[T]]) -> Callable[[Connection], Awaitable[T]]:
    """The same work in one transaction."""

    async def inside(conn: Connection) -> T:
        async with conn.transaction():
            return await work(conn)

    return inside


def instant_of(given: str) -> datetime:
    example = "2026-11-24T08:00:00Z or 2026-11-24T09:00:00+01:00"
    try:
        instant = datetime.fromisoformat(given)
    except ValueError:
        sys.exit(f"{given!r} is not a time. Say it like {example}.")
    if instant.tzinfo is None:
        sys.exit(f"Say the time with its zone, like {example}.")
    if instant > datetime.now(UTC):
        sys.exit(f"{given} has not come yet.")
    return max(instant, BEGINNING).astimezone(UTC)


def me(name: str | None = None) -> Operator:
    """Who is at this command line: the machine's user, and what they call themselves."""
    try:
        return Operator("command", getpass.getuser(), name)
    except (KeyError, OSError):  # a container's user has no name
        return Operator("command", "operator", name)


def _tell(asked: Sequence[int], done: Sequence[int], states: dict[int, str], yes: str) -> None:
    if not asked:
        sys.exit("Say which, by number. See: parked list")
    for number in done:
        print(f"{number} {yes}.")
    refused = [f"{one} {_NOT_DONE.get(states.get(one), 'cannot be')}." for one in asked if one not in done]
    if refused:
        sys.exit("\n".join(refused))


def shown(rows: Sequence[dict[str, Any]], as_json: bool, none: str) -> None:
    """Print rows, for programs or for people; `none` is what people read when there are none."""
    if as_json:
        print(json.dumps(rows, default=plain, ensure_ascii=False))
        return
    for row in rows:
        told = "  ".join(f"{name}={plain(value)}" for name, value in row.items() if value is not None)
        print(parking.readable(told))  # a partner's key must not look like a row of ours, or clear the screen
    if not rows:
        print(none)


def plain(value: Any) -> Any:
    return value.isoformat() if isinstance(value, datetime) else str(value)
