"""One HTTP question to a server of the stack, by hand: a client library takes longer than they do."""

import asyncio
import json
from typing import Any

LONGEST_SECONDS = 10.0


async def ask(port: int, what: str, body: str = "") -> bytes:
    """The body of one answer on 127.0.0.1; `what` is a method and a path. Raises OSError or TimeoutError."""
    async with asyncio.timeout(LONGEST_SECONDS):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        try:
            # HTTP/1.0, so that nobody answers in chunks. `localhost` is the name that the issuer calls itself by.
            head = f"{what} HTTP/1.0\r\nHost: localhost:{port}\r\nContent-Length: {len(body.encode())}\r\n"
            writer.write(f"{head}Content-Type: application/x-www-form-urlencoded\r\n\r\n{body}".encode())
            return (await reader.read()).partition(b"\r\n\r\n")[2]
        finally:
            writer.close()


async def said(port: int, path: str, **expected: Any) -> bool:
    """Whether the JSON at this path has all of the expected values: who it is, and that it is ready."""
    try:
        answer = json.loads(await ask(port, f"GET {path}"))
        return all(answer.get(name) == value for name, value in expected.items())
    except (OSError, ValueError, AttributeError, TimeoutError):
        return False
