"""One trace of a seat, as a collector receives it: request, SQL, Kafka, the listener of another service, the mail."""

import gzip
import threading
import uuid
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx2
import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)

from deploy.demo.data import bearer
from deploy.local.service import command
from deploy.local.stack import EVERYTHING, Stack
from tests.delivery import until
from tests.journeys.web import Web

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(300)]  # a whole stack of its own is started

REQUEST = ("enrolment", "POST /api/enrolment/v1/offerings/{offering_id}/enrolments")
HEARD = ("notifier", "hear no.kursnett.enrolment.LearnerEnrolled.v1")
SENDING = ("notifier", "send enrolled")


@dataclass(frozen=True)
class Span:
    """One span as it came; `words` is all text that it holds."""

    service: str
    trace: str
    id: str
    parent: str
    name: str
    words: str


class Collector:
    """The receiving end of OTLP over HTTP."""

    def __init__(self) -> None:
        self.spans: list[Span] = []
        collector = self

        class Door(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                collector.take(self.path, gzip.decompress(body) if self.headers["Content-Encoding"] else body)
                self.send_response(200)
                self.send_header("Content-Type", "application/x-protobuf")
                self.end_headers()
                self.wfile.write(ExportTraceServiceResponse().SerializeToString())

            def log_message(self, format: str, *values: Any) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Door)
        self.address = f"http://127.0.0.1:{self.server.server_port}"

    def take(self, path: str, body: bytes) -> None:
        assert path == "/v1/traces"
        asked = ExportTraceServiceRequest.FromString(body)
        for resource in asked.resource_spans:
            told = {one.key: one.value.string_value for one in resource.resource.attributes}
            for scope in resource.scope_spans:
                for one in scope.spans:
                    ids = (one.trace_id.hex(), one.span_id.hex(), one.parent_span_id.hex())
                    self.spans.append(Span(told["service.name"], *ids, one.name, f"{one} {resource.resource}"))

    def of(self, trace: str) -> list[Span]:
        return [one for one in self.spans if one.trace == trace]


@pytest.fixture(scope="module")
def collector() -> Iterator[Collector]:
    collector = Collector()
    thread = threading.Thread(target=collector.server.serve_forever)
    thread.start()
    yield collector
    collector.server.shutdown()
    thread.join()
    collector.server.server_close()


@pytest.fixture
async def web(collector: Collector, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Web]:
    """A stack that tells the collector of its traces."""
    monkeypatch.setenv("KURSNETT_OTLP_ENDPOINT", collector.address)
    with Stack.somewhere(tmp_path / "home", programs=EVERYTHING) as stack:
        arenas = ("--arena", "bronnoysund")
        await command(stack.places, "catalogue", "partners", "add", "torgar", "--name", "Torgar", *arenas)
        async with httpx2.AsyncClient(base_url=stack.places.gateway, timeout=20) as http:
            yield Web(stack.places, http)


async def test_one_trace_runs_from_the_request_to_the_mail_and_names_nobody(web: Web, collector: Collector) -> None:
    trace, outer = uuid.uuid4().hex, uuid.uuid4().hex[:16]
    name = f"traced{web.word}"
    offering = await web.offering(f"T-{web.word}", 1)
    answer = await web.enrol(offering, name, traceparent=f"00-{trace}-{outer}-01")
    assert answer.status_code == 201
    await web.mails(name, 1)

    async def whole() -> Any:  # each service sends its spans when it pleases: a part may be here before its whole
        spans = collector.of(trace)
        names = {(one.service, one.name) for one in spans}
        if not {REQUEST, HEARD, SENDING} <= names:
            return None
        sending = next(one for one in spans if (one.service, one.name) == SENDING)
        noted = {one.name for one in spans if one.parent == sending.id}
        loose = {one.parent for one in spans} - {one.id for one in spans} - {outer}
        return spans if {"UPDATE", "INSERT"} <= noted and not loose else None

    spans: list[Span] = await until(whole, 30)

    def only(service_and_name: tuple[str, str]) -> Span:
        [found] = (one for one in spans if (one.service, one.name) == service_and_name)
        return found

    request, heard, sending = only(REQUEST), only(HEARD), only(SENDING)
    assert request.parent == outer
    assert heard.parent == request.id
    assert sending.parent == heard.id
    assert {"INSERT", "SELECT"} <= {one.name for one in spans if one.parent == request.id}
    noted = [one for one in spans if one.parent == sending.id]
    assert any("UPDATE notices" in one.words for one in noted)
    assert any("INSERT INTO outbox" in one.words for one in noted)

    everything = " ".join(one.words for one in collector.spans)
    assert name not in everything
    assert "example.org" not in everything
    learner = bearer(await web.token(name))["Authorization"].removeprefix("Bearer ")
    assert learner[:40] not in everything
