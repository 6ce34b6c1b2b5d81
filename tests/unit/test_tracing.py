import subprocess
import sys
from collections.abc import AsyncIterator
from types import SimpleNamespace
from typing import Any

import pytest
from fastapi import APIRouter
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from kit import tracing, trail
from tests import web

pytestmark = pytest.mark.anyio
PARENT = "00-" + "a" * 32 + "-" + "b" * 16 + "-01"
router = APIRouter()


@router.get("/things/{thing}")
async def tell(thing: str) -> str | None:
    tracing._statement_ran(SimpleNamespace(query="SELECT a\n FROM b WHERE c = $1", elapsed=0.01, exception=None))
    return trail.here().traceparent


@pytest.fixture
async def spans() -> AsyncIterator[InMemorySpanExporter]:
    exporter = InMemorySpanExporter()
    tracing.start("demo", "", exporter)
    yield exporter
    await tracing.stop()


async def get(path: str, **headers: str) -> Any:
    async with web.client(web.build([router])) as asking:
        return (await asking.get(path, headers=headers)).json()


async def test_a_trace_goes_on_through_http_and_sql(spans: InMemorySpanExporter) -> None:
    inner = await get("/things/canary", traceparent=PARENT)
    statement, request = spans.get_finished_spans()
    assert request.name == "GET /things/{thing}"
    assert statement.name == "SELECT"
    assert dict(statement.attributes or {})["db.query.text"] == "SELECT a FROM b WHERE c = $1"
    assert request.parent is not None
    assert f"{request.parent.span_id:016x}" == "b" * 16
    assert statement.parent is not None
    assert statement.parent.span_id == request.context.span_id
    assert {f"{span.context.trace_id:032x}" for span in (statement, request)} == {"a" * 32}
    assert inner == f"00-{'a' * 32}-{request.context.span_id:016x}-01"
    assert "canary" not in statement.to_json() + request.to_json()


async def test_a_trace_begins_here_when_none_came(spans: InMemorySpanExporter) -> None:
    await get("/things/1")
    request = spans.get_finished_spans()[-1]
    assert request.parent is None


async def test_a_trace_that_is_not_sampled_is_not_written(spans: InMemorySpanExporter) -> None:
    inner = await get("/things/1", traceparent=PARENT[:-1] + "0")
    assert spans.get_finished_spans() == ()
    assert inner.startswith("00-" + "a" * 32)
    assert inner.endswith("-00")


async def test_a_failure_is_marked_by_its_type_alone(spans: InMemorySpanExporter) -> None:
    with pytest.raises(ValueError, match="canary"), tracing.span("work"):
        raise ValueError("canary")
    (span,) = spans.get_finished_spans()
    assert span.status.description == "ValueError"
    assert "canary" not in span.to_json()


async def test_without_an_endpoint_the_trace_is_passed_on_untouched() -> None:
    tracing.start("demo", "")
    assert await get("/things/1", traceparent=PARENT) == PARENT


def test_without_an_endpoint_the_library_is_not_loaded() -> None:
    code = "import sys, kit.service; sys.exit('opentelemetry.sdk' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
