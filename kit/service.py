"""Runs a service: what it is made of, its start, and its graceful stop."""

import asyncio
import contextlib
import gc
import os
import random
import signal
import socket
import sys
import time
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import asyncpg
import uvicorn
from fastapi import APIRouter

from contracts.topics import owned_by
from kit import health, http, idempotency, logs, migrations, topics, tracing
from kit.consumer import Consumer
from kit.database import DESK, POOLS, Connection, Database, connect
from kit.groupcommit import Commit, GroupCommit
from kit.metrics import Metrics
from kit.onewrite import OneWrite
from kit.plots import Plot
from kit.relay import Relay
from kit.restoring import Restate, nothing_to_restate
from kit.running import Running, SessionOf, Shown
from kit.settings import Settings
from kit.state import State
from kit.timeline import More, nothing_more

log = logs.get(__name__)

Worker = Callable[[Running], Awaitable[None]]

STOP_S = 18.0  # a supervisor waits 20 s and containers 40 s before they kill
HTTP_STOP_S = 10  # for requests under way
WAITING_S = 60.0  # servers that start beside us are there well before
BACKOFF_S = (0.1, 10.0)


@dataclass(frozen=True)
class Service:
    """What one service is made of. `workers` are long-running; one that raises is started again with back-off."""

    name: str
    settings: Settings
    migrations: Path
    routers: Sequence[APIRouter] = ()
    consumers: Sequence[Consumer] = ()
    workers: Mapping[str, Worker] = field(default_factory=dict)
    decide: Commit[Any, Any] | None = None  # decides a batch of commands that are committed together
    session: SessionOf | None = None  # of the service that keeps sessions
    timeline: More = nothing_more  # what it knows of one thing beside what it said and heard
    restate: Restate = nothing_to_restate  # its own part after its database was restored from a backup
    state: State | None = None  # how it says anew all that it has, where others keep copies of it
    plots: Sequence[Plot] = ()  # for the operators' console
    links: Mapping[str, Mapping[str, str]] = field(default_factory=dict)  # from there: {language: text} by address
    log_fields: frozenset[str] = frozenset()  # what its own log lines may hold beside the kit's fields: ids, never text


def shown(service: Service) -> Shown:
    """What the console shows of it."""
    return Shown([one.name for one in service.consumers], service.timeline, service.plots, service.links)


class Unready(Exception):
    """The service cannot start; the message says what to do."""


def run(service: Service) -> None:
    """Serve until SIGTERM or SIGINT, then finish what is in hand and end within 20 s."""
    logs.configure(service.name, service.settings.log_level, service.log_fields)
    tracing.start(service.name, service.settings.otlp_endpoint)
    try:
        _loop(serve(service))
    except Unready as error:
        sys.exit(str(error))


def migrate(service: Service) -> None:
    """Make the database's schema and the service's own topics ready. May be run at any time and by many at once."""
    logs.configure(service.name, service.settings.log_level, service.log_fields)
    try:
        _loop(prepare(service))
    except (Unready, migrations.MigrationError, topics.TopicsError) as error:
        sys.exit(str(error))


async def prepare(service: Service) -> None:
    """What `migrate` does. Raises Unready, MigrationError or TopicsError."""
    conn = await _patiently(service.settings)
    try:
        for applied in await migrations.migrate(conn, [migrations.KIT, service.migrations]):
            log.info("migration_applied", migration=f"{applied.folder}/{applied.name}")
    finally:
        await conn.close()
    await topics.declare(service.settings.kafka_bootstrap, owned_by(service.name))


async def serve(service: Service) -> None:
    """The whole life of one process. Raises Unready when the database lacks a migration."""
    conn = await _patiently(service.settings)
    try:
        missing = await migrations.pending(conn, [migrations.KIT, service.migrations])
    except migrations.MigrationError as error:
        raise Unready(str(error)) from error
    finally:
        await conn.close()
    if missing:
        raise Unready(f"The database lacks {missing[0].name}. Run: python -m services.{service.name} migrate")

    listening = _listen(service.settings.http_host, service.settings.http_port)
    database = Database(service.settings, POOLS if service.decide is None else {**POOLS, **DESK})
    await database.open()
    running = Running(service.name, service.settings, database, Metrics(), health.Health(service.name))
    if service.decide is not None:
        running.desk = GroupCommit(database, service.decide, "desk")
    running.session = service.session
    running.shown = shown(service)
    relay = Relay(database, service.settings, running.metrics)
    running.health.register("database", health.database_answers(database))
    running.health.register("broker", health.broker_answers(service.settings.kafka_bootstrap))
    running.health.register("relay", relay.check)
    running.health.mention("relay", relay.refused)
    application = http.build(running, service.routers)
    server = _Server(
        uvicorn.Config(
            application,
            http=OneWrite,
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=False,  # nothing here asks for a caller's address, so that nobody can forge one
            timeout_graceful_shutdown=HTTP_STOP_S,
            timeout_keep_alive=150,  # the gateway keeps an idle connection for 120: it never meets a closed one
        )
    )
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, running.stopping.set)
    workers: dict[str, Worker] = {
        **{f"consumer {one.name}": one.run for one in service.consumers},
        **service.workers,
        "idempotency": idempotency.forget,
    }
    tasks = [asyncio.create_task(_kept_up(name, worker, running)) for name, worker in workers.items()]
    publishing = asyncio.create_task(relay.run(running.stopping))
    serving = asyncio.create_task(server.serve([listening]))
    spare_collector()
    log.info("service_started", pid=os.getpid())
    stop = asyncio.create_task(running.stopping.wait())
    await asyncio.wait([stop, serving, publishing], return_when=asyncio.FIRST_COMPLETED)  # none of them ends by itself
    running.stopping.set()
    running.health.stopping = True
    began = time.monotonic()
    server.should_exit = True
    _, late = await asyncio.wait([serving, publishing, *tasks], timeout=STOP_S)
    for task in late:
        task.cancel()
    if late:
        await asyncio.wait(late, timeout=1)
    stop.cancel()
    await application.state.keys.close()
    await database.close()
    await tracing.stop()
    log.info("service_stopped", duration_ms=round((time.monotonic() - began) * 1000), count=len(late))


class _Server(uvicorn.Server):
    """uvicorn without its own signal handling: ours stops the whole service, not only HTTP."""

    @contextlib.contextmanager
    def capture_signals(self) -> Any:
        yield


async def _kept_up(name: str, worker: Worker, running: Running) -> None:
    pause_s = BACKOFF_S[0]
    while not running.stopping.is_set():
        began = time.monotonic()
        try:
            await worker(running)
            if running.stopping.is_set():
                return
        except Exception as error:
            log.error("worker_failed", worker=name, exc_info=error)
        running.metrics.worker_restarts.labels(name).inc()
        if time.monotonic() - began > BACKOFF_S[1]:
            pause_s = BACKOFF_S[0]
        await running.pause(pause_s * random.uniform(0.5, 1.5))  # noqa: S311 - jitter
        pause_s = min(pause_s * 2, BACKOFF_S[1])


def _listen(host: str, port: int) -> socket.socket:
    """The socket to serve on. Raises Unready when it cannot be had."""
    try:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        return socket.create_server((host, port), family=family, backlog=2048)
    except OSError as error:
        where = f"{host}:{port}"
        reason = os.strerror(error.errno or 0)
        raise Unready(f"Cannot listen on {where} ({reason}): free it, or set KURSNETT_HTTP_PORT.") from None


async def _patiently(settings: Settings) -> Connection:
    """A connection, waiting up to 60 s for a server that is still starting. Raises Unready.

    At once where waiting mends nothing: who starts us has made the server's roles and databases before.
    """
    deadline = time.monotonic() + WAITING_S
    while True:
        try:
            return await connect(settings, "migrate")
        except (asyncpg.InvalidPasswordError, asyncpg.InvalidAuthorizationSpecificationError):
            raise Unready(
                f"The database does not let {settings.database_user} in: check KURSNETT_DATABASE_USER "
                "and the secret database_password."
            ) from None
        except (asyncpg.InvalidCatalogNameError, asyncpg.InsufficientPrivilegeError) as error:
            why = "there is none" if isinstance(error, asyncpg.InvalidCatalogNameError) else "it may not connect to it"
            raise Unready(
                f"{settings.database_user} cannot have the database {settings.database_name}: {why}. "
                "Check KURSNETT_DATABASE_NAME; deploy/databases.sql makes each service's database and role."
            ) from None
        except (OSError, asyncpg.PostgresError) as error:
            if time.monotonic() > deadline:
                where = f"{settings.database_host}:{settings.database_port}/{settings.database_name}"
                raise Unready(f"No database answers at {where} ({type(error).__name__}): start it first.") from None
            await asyncio.sleep(0.3)


def spare_collector() -> None:
    """Let Python look for cycles less often, and never among what lives as long as the process.

    A batch makes thousands of objects that live for its time only: at the default of 700 the collector walks them over
    and over, a tenth of a consumer's time, and finds nothing. At 10,000 it stops everything for some 15 ms now and
    then; at 50,000 it was 50 to 80, in which nobody is answered, and no consumer read more for it. What has lived for a
    while is looked at after 5 such looks instead of 20, which took 25 ms at once.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(10_000, 5, 80)


def _loop(work: Coroutine[Any, Any, None]) -> None:
    try:
        import uvloop
    except ImportError:
        asyncio.run(work)
    else:
        uvloop.run(work)
