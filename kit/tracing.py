"""Traces over HTTP, SQL and Kafka: off, and not even imported, unless an endpoint is set."""

import asyncio
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Literal

from kit import trail

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import SpanExporter
    from opentelemetry.trace import Tracer

Kind = Literal["server", "client", "consumer", "internal"]
FLUSH_S = 3.0  # a collector that is away must not hold up a stop

_provider: "TracerProvider | None" = None
_tracer: "Tracer | None" = None


class Span:
    """One span being written; without tracing, nothing at all."""

    def __init__(self, inner: Any = None) -> None:
        self._inner = inner

    def rename(self, name: str) -> None:
        if self._inner is not None:
            self._inner.update_name(name)

    def note(self, name: str, value: str | int) -> None:
        """Set an attribute: ids, codes and numbers only, as in the log."""
        if self._inner is not None:
            self._inner.set_attribute(name, value)


NOTHING = Span()


def start(service: str, endpoint: str, exporter: "SpanExporter | None" = None) -> None:
    """Begin to write spans to `endpoint` (OTLP over HTTP); an empty one leaves tracing off. `exporter`: for tests."""
    global _provider, _tracer
    if not endpoint and exporter is None:
        return
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor, SimpleSpanProcessor

    provider = TracerProvider(resource=Resource.create({"service.name": service}), shutdown_on_exit=False)
    if exporter is None:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter

        sending = OTLPSpanExporter(endpoint=f"{endpoint.rstrip('/')}/v1/traces", timeout=FLUSH_S)
        provider.add_span_processor(BatchSpanProcessor(sending))
    else:
        provider.add_span_processor(SimpleSpanProcessor(exporter))
    _provider, _tracer = provider, provider.get_tracer("kit")


async def stop() -> None:
    """Send what is left, within 3 s, and turn tracing off."""
    global _provider, _tracer
    provider, _provider, _tracer = _provider, None, None
    if provider is not None:
        flushing = asyncio.ensure_future(asyncio.to_thread(provider.shutdown))
        await asyncio.wait([flushing], timeout=FLUSH_S)


@contextmanager
def span(name: str, kind: Kind = "internal") -> Iterator[Span]:
    """A span under the trail's; what happens inside, events too, continues it. Without tracing nothing changes."""
    if _tracer is None:
        yield NOTHING
        return
    from opentelemetry.trace import SpanKind, Status, StatusCode

    followed = trail.here()
    inner = _tracer.start_span(name, _context(followed.traceparent), SpanKind[kind.upper()])
    context = inner.get_span_context()
    parent = f"00-{context.trace_id:032x}-{context.span_id:016x}-{context.trace_flags:02x}"
    try:
        with trail.following(trail.Trail(followed.correlation_id, followed.causation_id, parent)):
            yield Span(inner)
    except BaseException as error:
        inner.set_status(Status(StatusCode.ERROR, type(error).__name__))  # never its words
        raise
    finally:
        inner.end()


@contextmanager
def hearing(followed: trail.Trail, kind: str) -> Iterator[Span]:
    """What one event causes, on its trail: around a listener's work for that event. `kind` is the event's type."""
    with trail.following(followed), span(f"hear {kind}", "consumer") as heard:
        yield heard


def _context(traceparent: str | None) -> Any:
    """What OpenTelemetry calls the parent's context; none begins a new trace."""
    from opentelemetry.context import Context
    from opentelemetry.trace import NonRecordingSpan, SpanContext, TraceFlags, set_span_in_context

    if traceparent is None:
        return Context()
    _, trace_id, span_id, flags = traceparent.split("-")
    parent = SpanContext(int(trace_id, 16), int(span_id, 16), True, TraceFlags(int(flags, 16)))
    return set_span_in_context(NonRecordingSpan(parent), Context())


async def watch(conn: Any) -> None:
    """Write a span for each statement on this asyncpg connection, if tracing is on: for a pool's `init`."""
    if _tracer is not None:
        conn.add_query_logger(_statement_ran)


def _statement_ran(told: Any) -> None:
    followed = trail.current()
    if _tracer is None or followed is None or followed.traceparent is None:
        return  # the relay's polling belongs to nobody's trace
    from opentelemetry.trace import SpanKind, Status, StatusCode

    end = time.time_ns()
    words = told.query.split()
    inner = _tracer.start_span(
        words[0].upper() if words else "SQL",
        _context(followed.traceparent),
        SpanKind.CLIENT,
        {"db.system.name": "postgresql", "db.query.text": " ".join(words)[:500]},  # parameters are not in the text
        start_time=end - int(told.elapsed * 1e9),
    )
    if told.exception is not None:
        inner.set_status(Status(StatusCode.ERROR, type(told.exception).__name__))
    inner.end(end)
