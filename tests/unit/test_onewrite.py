"""How an answer leaves: by what uvicorn's protocol hands to its transport."""

import asyncio
from collections.abc import Iterable
from typing import Any

import pytest
import uvicorn
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Receive, Scope, Send
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.server import ServerState

from kit.onewrite import OneWrite
from tests.delivery import until

pytestmark = pytest.mark.anyio
BODY = "a seat in Brønnøysund"


class Wire(asyncio.Transport):
    """Keeps each write as it comes. What comes after the close is lost, as it would be."""

    def __init__(self) -> None:
        super().__init__({"socket": None, "peername": ("127.0.0.1", 1), "sockname": ("127.0.0.1", 2)})
        self.writes: list[bytes] = []
        self.closed = False

    def write(self, data: Any) -> None:
        self.writelines([data])

    def writelines(self, parts: Iterable[Any]) -> None:
        if not self.closed:
            self.writes.append(b"".join(parts))

    def close(self) -> None:
        self.closed = True

    def is_closing(self) -> bool:
        return self.closed


def asked(app: ASGIApp, header: str = "", protocol: type[HttpToolsProtocol] = OneWrite) -> Wire:
    """The wire to one who has just asked."""
    config = uvicorn.Config(app, log_config=None, access_log=False, server_header=False, date_header=False)
    config.load()
    wire = Wire()
    answering = protocol(config, ServerState(), {})
    answering.connection_made(wire)
    answering.data_received(f"GET / HTTP/1.1\r\nhost: x\r\n{header}\r\n".encode())
    return wire


@pytest.mark.parametrize(("protocol", "writes"), [(OneWrite, 1), (HttpToolsProtocol, 2)])
async def test_a_head_leaves_with_its_body(protocol: type[HttpToolsProtocol], writes: int) -> None:
    """The second is how uvicorn does it by itself: when it does it better, this file and kit/onewrite.py can go."""
    wire = asked(PlainTextResponse(BODY), protocol=protocol)
    await until(lambda: asyncio.sleep(0, bool(wire.writes) and wire.writes[-1].endswith(BODY.encode())))
    assert len(wire.writes) == writes
    assert wire.writes[0].startswith(b"HTTP/1.1 200 OK\r\n")


async def test_a_stream_that_says_nothing_yet_is_begun() -> None:
    more = asyncio.Event()

    async def stream(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await more.wait()
        for part in (b"one", b"two"):
            await send({"type": "http.response.body", "body": part, "more_body": True})
        await send({"type": "http.response.body", "body": b"three"})

    wire = asked(stream)
    await until(lambda: asyncio.sleep(0, bool(wire.writes)))
    [head] = wire.writes
    assert head.startswith(b"HTTP/1.1 200 OK\r\n")
    more.set()
    await until(lambda: asyncio.sleep(0, wire.writes[-1].endswith(b"0\r\n\r\n")))
    assert b"".join(wire.writes[1:]) == b"3\r\none\r\n3\r\ntwo\r\n5\r\nthree\r\n0\r\n\r\n"


@pytest.mark.parametrize("parts", [(), (b"one",), (b"one", b"two")])
async def test_who_is_hung_up_on_afterwards_has_the_whole_answer(parts: tuple[bytes, ...]) -> None:
    async def stream(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        for part in parts:
            await send({"type": "http.response.body", "body": part, "more_body": True})
        await send({"type": "http.response.body", "body": b""})

    wire = asked(stream, header="connection: close\r\n")
    await until(lambda: asyncio.sleep(0, wire.is_closing()))
    _, _, body = b"".join(wire.writes).partition(b"\r\n\r\n")
    assert body == b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in parts) + b"0\r\n\r\n"
