"""One trace over HTTP, SQL, the outbox and the listener of another service."""

from collections.abc import AsyncIterator

import pytest
from fastapi import APIRouter
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from contracts.envelope import Envelope, Event
from kit import http, outbox, tracing, trail
from kit.database import Connection
from kit.http import Db
from tests import web
from tests.delivery import Servers, running, until

pytestmark = pytest.mark.anyio
PARENT = "00-" + "a" * 32 + "-" + "b" * 16 + "-01"


class ThingTold(Event, topic="demo.things", aggregate="thing", key="thing"):
    thing: str


@pytest.fixture
async def spans() -> AsyncIterator[InMemorySpanExporter]:
    exporter = InMemorySpanExporter()
    tracing.start("demo", "", exporter)  # before the pools: they watch their connections only while tracing is on
    yield exporter
    await tracing.stop()


def parent_of(span: ReadableSpan) -> int:
    assert span.parent is not None
    return span.parent.span_id


async def test_one_trace_goes_through_http_sql_the_outbox_and_a_listener(
    servers: Servers, spans: InMemorySpanExporter
) -> None:
    said: list[Envelope] = []
    router = APIRouter()

    @router.post("/things")
    async def tell(db: Db) -> None:
        async def work(conn: Connection) -> None:
            said.append(await outbox.add(conn, ThingTold(thing="one")))

        await db.run(work)

    async with running(await servers.database(), "demo") as here, web.client(http.build(here, [router])) as asking:
        answer = await asking.post("/things", headers={"traceparent": PARENT})
        assert answer.status_code == 200

        async def inserted() -> list[ReadableSpan]:
            return [one for one in spans.get_finished_spans() if one.name == "INSERT"]

        statements = await until(inserted)
        (request,) = (one for one in spans.get_finished_spans() if one.name == "POST /things")
        assert f"{parent_of(request):016x}" == "b" * 16
        assert {parent_of(one) for one in statements} == {request.context.span_id}

        with tracing.hearing(trail.trail(None, said[0].id, said[0].traceparent), said[0].type):
            async with here.database.reading() as conn:
                await conn.execute("SELECT 1")

        async def heard() -> list[ReadableSpan]:
            return [one for one in spans.get_finished_spans() if one.name.startswith("hear ")]

        (listener,) = await until(heard)
        assert parent_of(listener) == request.context.span_id
        assert f"{listener.context.trace_id:032x}" == "a" * 32
