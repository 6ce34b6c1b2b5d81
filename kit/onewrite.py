"""An answer leaves in one write, its head with its body: uvicorn writes them one after the other.

uvloop sends each write at once. Two of them are two system calls, two packets, and whoever waits for the answer woken
twice for it.
"""

import asyncio
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol


class OneWrite(HttpToolsProtocol):
    """uvicorn's protocol on a transport that holds back the first write of each turn of the loop."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(_Held(transport, asyncio.get_running_loop()))  # type: ignore[arg-type]


class _Held:
    """A transport whose first write waits for the second, or for the loop's next turn where there is none.

    A head alone, as of a stream that has nothing to say yet, so leaves as soon as before.
    """

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop) -> None:
        self._transport = transport
        self._loop = loop
        self._first: bytes | None = None

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    def write(self, data: bytes) -> None:
        if self._first is None:
            self._first = data
            self._loop.call_soon(self._send)
        else:
            first, self._first = self._first, None
            self._transport.writelines((first, data))

    def close(self) -> None:
        self._send()
        self._transport.close()

    def _send(self) -> None:
        if self._first is not None and not self._transport.is_closing():
            self._transport.write(self._first)
        self._first = None
