"""Which requests have a line in the log: a page has one, not the question that the gateway asks for it."""

from types import SimpleNamespace
from typing import Any

import pytest
from starlette.responses import Response

from kit.edge import Edge
from kit.metrics import Metrics

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize(
    ("route", "status", "is_told"),
    [("/kurs", 200, True), ("/readyz", 503, False), ("/sesjon", 204, False), ("/sesjon", 503, True)],
)
async def test_what_the_gateway_asks_for_each_page_is_told_where_it_fails(
    monkeypatch: pytest.MonkeyPatch, route: str, status: int, is_told: bool
) -> None:
    told: list[str] = []
    monkeypatch.setattr(
        "kit.edge.log",
        SimpleNamespace(debug=lambda *_, **__: None, info=lambda event, **fields: told.append(fields["route"])),
    )

    async def nothing(*_: Any) -> Any:
        return {"type": "http.request", "body": b"", "more_body": False}

    scope: dict[str, Any] = {"type": "http", "method": "GET", "path": route, "query_string": b"", "headers": []}
    scope["route"] = SimpleNamespace(path=route)
    await Edge(Response(status_code=status), Metrics(), "http://localhost")(scope, nothing, nothing)
    assert told == ([route] if is_told else [])
