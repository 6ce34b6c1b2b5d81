"""One JSON line for each thing worth telling: allow-listed fields only, never a value that a person typed."""

import contextlib
import json
import logging
import re
import sys
import time
import traceback
from collections.abc import Iterable
from datetime import datetime
from types import TracebackType
from typing import Any
from uuid import UUID

import structlog
from structlog.typing import EventDict, FilteringBoundLogger, WrappedLogger

from kit import trail

# Ids, codes, counts and times. Nothing that a person typed: no names, addresses, titles, bodies or query strings.
# fmt: off
FIELDS = frozenset({
    "event", "level", "time", "service", "module", "pid", "signal", "setting", "version", "migration",
    "correlation_id", "causation_id", "trace_id", "event_id", "event_type", "topic", "partition", "offset", "consumer",
    "group", "aggregate", "epoch", "seq", "holder", "term", "partitions", "purpose", "worker", "kid",
    "method", "route", "status", "slug", "reason", "code", "error", "at", "because", "sqlstate", "constraint",
    "dropped", "count", "attempt", "bytes", "backlog", "lag", "duration_ms", "delay_ms", "age_ms", "rss_kb",
})
# fmt: on
SAFE_ARGUMENT = re.compile(r"[\w.:/\[\]-]{1,120}", re.ASCII)
LONGEST_TEXT = 500  # characters; ids, codes and code locations are far shorter
REPEAT_S = 10.0  # a library in trouble says the same thing ten times a second; then `count` tells how often it did
REPEATS_KNOWN = 200
FRAMES = 8  # the innermost calls say where; the outer ones are always the same
LEVELS = {"debug": 10, "info": 20, "warning": 30, "error": 40}
CHATTY = ("aiokafka", "faststream", "asyncio", "httpx2", "httpcore2")  # they tell each heartbeat at info


def get(name: str) -> FilteringBoundLogger:
    """A logger for one module. May be called at import: it finds its settings when it is used."""
    logger: FilteringBoundLogger = structlog.get_logger(module=name)
    return logger


def configure(service: str, level: str = "info", also: Iterable[str] = ()) -> None:
    """Send every line to stdout as JSON, the libraries' too. `also`: a service's own field names, for ids only."""
    allowed = FIELDS | frozenset(also)

    def render(_: WrappedLogger, method: str, event: EventDict) -> str:
        return line(service, method, event, allowed)

    number = LEVELS[level]
    logging.disable(logging.NOTSET)  # an operator's command has none
    structlog.configure(
        processors=[render],
        wrapper_class=structlog.make_filtering_bound_logger(number),
        logger_factory=Stdout,
        cache_logger_on_first_use=False,  # a test configures twice
    )
    root = logging.getLogger()
    root.handlers[:] = [Borrowed()]
    root.setLevel(number)
    for name in CHATTY:
        logging.getLogger(name).setLevel(max(number, logging.WARNING))
    for name in ("uvicorn", "uvicorn.error", "uvicorn.access", *CHATTY):
        logging.getLogger(name).handlers.clear()
        logging.getLogger(name).propagate = True


def line(service: str, method: str, event: EventDict, allowed: frozenset[str]) -> str:
    """One event as one JSON line: what is not allowed is left out, and its name is told under `dropped`."""
    exception = event.pop("exc_info", None)
    told: dict[str, Any] = {
        "time": datetime.now().astimezone().isoformat(timespec="milliseconds"),
        "level": {"exception": "error", "warn": "warning"}.get(method, method),
        "service": service,
    }
    followed = trail.current()
    if followed is not None:
        told["correlation_id"] = followed.correlation_id
        if followed.causation_id:
            told["causation_id"] = followed.causation_id
        if followed.traceparent:
            told["trace_id"] = followed.traceparent[3:35]
    dropped = []
    for name, value in event.items():
        if name in allowed and speakable(value):
            told[name] = plain(value)
        else:
            dropped.append(name if name.isidentifier() else "?")
    if exception:
        told |= scrubbed(exception if isinstance(exception, BaseException) else sys.exc_info()[1])
    if dropped:
        told["dropped"] = [name[:40] for name in sorted(dropped)[:10]]
    return to_json(told)


# ASCII only: no character that ends a line or moves a terminal's cursor survives.
to_json = json.JSONEncoder(ensure_ascii=True, separators=(",", ":")).encode


def speakable(value: Any) -> bool:
    if isinstance(value, (list, tuple)):
        return all(isinstance(part, (str, int, float)) for part in value)
    return value is None or isinstance(value, (str, int, float, bool, UUID, datetime))


def plain(value: Any) -> Any:
    if isinstance(value, (list, tuple)):
        return [plain(part) for part in value[:20]]
    if isinstance(value, (UUID, datetime)):
        return str(value)
    return value[:LONGEST_TEXT] if isinstance(value, str) else value


def scrubbed(error: BaseException | None) -> dict[str, Any]:
    """An exception as its type and where it was raised. Its text may hold what a person typed, and is left out."""
    if error is None:
        return {}
    told: dict[str, Any] = {"error": kind_of(error), "at": frames(error.__traceback__)}
    causes: list[str] = []
    cause = error.__cause__ or error.__context__
    while cause is not None and len(causes) < 5:
        causes.append(kind_of(cause))
        cause = cause.__cause__ or cause.__context__
    if isinstance(error, BaseExceptionGroup):
        causes += [kind_of(part) for part in error.exceptions[:5]]
    if causes:
        told["because"] = causes
    for name, attribute in (("sqlstate", "sqlstate"), ("constraint", "constraint_name")):
        value = getattr(error, attribute, None)
        if isinstance(value, str):
            told[name] = value
    return told


def kind_of(error: BaseException) -> str:
    return f"{type(error).__module__}.{type(error).__qualname__}".removeprefix("builtins.")


def frames(stack: TracebackType | None) -> list[str]:
    """`module:line function` of the innermost calls: no paths of the machine, no arguments."""
    return [
        f"{frame.f_globals.get('__name__', '?')}:{number} {frame.f_code.co_name}"
        for frame, number in list(traceback.walk_tb(stack))[-FRAMES:]
    ]


class Stdout:
    """Where structlog writes; asks for stdout each time, so that one that was replaced is honoured."""

    def __init__(self, *_: Any) -> None:
        pass

    def msg(self, text: str) -> None:
        # On a full disk the line is lost. Raised, it would end the task that told it, and the disk's room comes back.
        with contextlib.suppress(OSError):
            sys.stdout.write(text + "\n")
            sys.stdout.flush()

    debug = info = warning = warn = error = critical = exception = fatal = msg


class Borrowed(logging.Handler):
    """Lines of libraries that use the standard `logging`, told in our form; the same one at most every 10 s."""

    def __init__(self) -> None:
        super().__init__()
        self._told: dict[tuple[str, str], tuple[float, int]] = {}  # what -> when it was told, how often not since

    def emit(self, record: logging.LogRecord) -> None:
        exception = record.exc_info[1] if record.exc_info else None
        level = "error" if record.levelno >= logging.ERROR else record.levelname.lower()
        text = borrowed_text(record)
        same = (record.name, text if exception is None else f"{text} {kind_of(exception)}")
        now = time.monotonic()
        told, unsaid = self._told.get(same, (-REPEAT_S, 0))
        if now - told < REPEAT_S:
            self._told[same] = told, unsaid + 1
            return
        if len(self._told) > REPEATS_KNOWN:
            self._told.clear()
        self._told[same] = now, 0
        tell = getattr(structlog.get_logger(), level if level in LEVELS else "info")
        tell(text, module=record.name[:60], exc_info=exception, **({"count": unsaid + 1} if unsaid else {}))


def borrowed_text(record: logging.LogRecord) -> str:
    """A library's sentence. Arguments that are not plain names or numbers are hidden, as are exceptions' own words."""
    if record.exc_info and not record.args:
        return "a library met an exception"  # the sentence was made from the exception's text
    arguments = record.args if isinstance(record.args, tuple) else ()
    shown = tuple(
        part if isinstance(part, (int, float)) or SAFE_ARGUMENT.fullmatch(str(part)) else "…" for part in arguments
    )
    try:
        text = str(record.msg) % shown if shown else str(record.msg)
    except (TypeError, ValueError):
        text = str(record.msg)
    return re.sub(r"\S*@\S*", "…", text)
