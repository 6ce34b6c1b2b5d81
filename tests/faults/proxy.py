"""A TCP link that can be made to fail: every connection of a fault run goes through one of these."""

import asyncio
import contextlib
import socket
import struct
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

Direction = Literal["up", "down"]  # up: from who connected to whom it connected to

READ_BYTES = 64 * 1024
SLICED_BYTES = 512  # of each piece so many go one by one; all of a large record would cost a core for seconds
NO_ANSWER_S = 2.0  # a server that does not answer the doomed request by then keeps it no longer


@dataclass(frozen=True)
class Request:
    """A request of Kafka's protocol, by its number there."""

    api_key: int


PRODUCE = Request(0)

Spot = bytes | int | Request  # these bytes, so many bytes, or a request of Kafka's


class Frames:
    """Where Kafka's requests begin in a stream that comes in pieces."""

    def __init__(self) -> None:
        self._left = 0
        self._head = b""

    def feed(self, data: bytes) -> list[tuple[int, int, int]]:
        """For each request that begins here: where its body does, its number, its body's length in bytes."""
        found, at = [], 0
        while at < len(data):
            if self._left:
                step = min(self._left, len(data) - at)
                self._left -= step
                at += step
                continue
            taken = data[at : at + 6 - len(self._head)]
            self._head += taken
            at += len(taken)
            if len(self._head) == 6:
                size, api_key = struct.unpack(">ih", self._head)
                self._head, self._left = b"", max(0, size - 2)
                found.append((at, api_key, self._left))
        return found


@dataclass
class Trap:
    """Where the next cut falls: at the spot's match number `skip` + 1, counted over all connections of a link."""

    spot: Spot
    direction: Direction
    lose: Literal["answer", "request"]
    skip: int
    at_once: Callable[[], None] = lambda: None
    sprung: asyncio.Event = field(default_factory=asyncio.Event)
    passed_bytes: int = 0

    def find(self, wire: "Wire", data: bytes, requests: list[tuple[int, int, int]]) -> int | None:
        """How many of these bytes come before the cut, should the request be lost; None while it is not here."""
        for at in self._matches(wire, data, requests):
            if not self.skip:
                return min(max(at, 0), len(data))
            self.skip -= 1
        return None

    def _matches(self, wire: "Wire", data: bytes, requests: list[tuple[int, int, int]]) -> list[int]:
        if isinstance(self.spot, int):
            before, self.passed_bytes = self.passed_bytes, self.passed_bytes + len(data)
            return [self.spot - before] if before < self.spot <= self.passed_bytes else []
        if isinstance(self.spot, Request):
            return [at + size // 2 for at, api_key, size in requests if api_key == self.spot.api_key]
        tail = wire.tails.get(self.direction, b"")
        text, found, start = tail + data, [], 0
        while (start := text.find(self.spot, start)) >= 0:
            found.append(start + len(self.spot) // 2 - len(tail))
            start += len(self.spot)
        wire.tails[self.direction] = text[len(text) - len(self.spot) + 1 :] if len(self.spot) > 1 else b""
        return found


class Wire:
    """One connection through a link: the side that called and the side that was called."""

    def __init__(self, caller: asyncio.StreamWriter, called: asyncio.StreamWriter) -> None:
        self._sides = (caller, called)
        self.frames = Frames()
        self.tails: dict[Direction, bytes] = {}
        self.doomed = False  # its next answer is not passed on

    def reset(self) -> None:
        """End it as a cut cable's router does: RST to both sides, and nothing that was still on its way."""
        for side in self._sides:
            reset(side)

    def close(self) -> None:
        for side in self._sides:
            side.close()


class Link:
    """All connections of one client to one server, through a port of our own; passes everything on until told not to.

    `mend()` undoes every other method. `kafka`: whether Kafka's requests are to be told apart in what passes.
    """

    def __init__(self, name: str, kafka: bool = False) -> None:
        self.name = name
        self._kafka = kafka
        self._refusing = False
        self._passing: dict[Direction, asyncio.Event] = {"up": asyncio.Event(), "down": asyncio.Event()}
        self._delay_s = 0.0
        self._sliced = False
        self._trap: Trap | None = None
        self._wires: set[Wire] = set()
        self._doors: list[asyncio.Server] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self.mend()

    @property
    def connections(self) -> int:
        return len(self._wires)

    async def open(self, port: int, host: str = "127.0.0.1") -> int:
        """Listen for connections to this server; returns the port to connect to instead."""

        async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await self.carry(reader, writer, port, host)

        door = await asyncio.start_server(accept, "127.0.0.1", 0, limit=READ_BYTES, backlog=512)
        self._doors.append(door)
        return int(door.sockets[0].getsockname()[1])

    async def close(self) -> None:
        for door in self._doors:
            door.close()
        for task in self._tasks:
            task.cancel()
        self.cut()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def mend(self) -> None:
        """Pass everything on again; what was held goes out first."""
        self._refusing, self._delay_s, self._sliced, self._trap = False, 0.0, False, None
        for gate in self._passing.values():
            gate.set()

    def cut(self) -> None:
        """Reset every connection, and each new one until it is mended."""
        self._refusing = True
        self.reset()
        for gate in self._passing.values():  # whoever waits there must see that its connection is gone
            gate.set()

    def reset(self) -> None:
        """Reset every connection once; new ones pass."""
        for wire in list(self._wires):
            wire.reset()

    def blackhole(self, *directions: Direction) -> None:
        """Hold back what goes in these directions (both, if none is named), as a network does that drops packets.

        It is not lost: TCP would send it again, so what the sides have not given up comes through when it is mended.
        New connections are taken and stay silent.
        """
        for direction in directions or ("up", "down"):
            self._passing[direction].clear()

    def delay(self, ms: float) -> None:
        """Hold each piece for so long, in each direction."""
        self._delay_s = ms / 1000

    def slice(self) -> None:
        """Pass pieces on byte by byte."""
        self._sliced = True

    def trap(
        self,
        spot: Spot,
        direction: Direction = "up",
        lose: Literal["answer", "request"] = "answer",
        skip: int = 0,
        at_once: Callable[[], None] = lambda: None,
    ) -> asyncio.Event:
        """Cut one connection at this spot, once; the event tells when. `skip`: so many matches pass before.

        `lose="answer"`: the server gets the request, and the connection is reset instead of bringing its answer.
        `lose="request"`: the server gets half of it. A number of bytes always cuts right there.
        `at_once` is done before either side can see of it.
        """
        self._trap = Trap(spot, direction, lose, skip, at_once)
        return self._trap.sprung

    def release(self, sprung: asyncio.Event) -> None:
        """Take away the trap whose event this is, if it is still there, and nothing else that is being done here."""
        if self._trap is not None and self._trap.sprung is sprung:
            self._trap = None

    async def cut_after(
        self,
        spot: Spot,
        direction: Direction = "up",
        lose: Literal["answer", "request"] = "answer",
        skip: int = 0,
        within_s: float = 5.0,
    ) -> bool:
        """Set a trap and wait for it. False when nothing came that way in time; then the trap is taken away."""
        sprung = self.trap(spot, direction, lose, skip)
        try:
            async with asyncio.timeout(within_s):
                await sprung.wait()
        except TimeoutError:
            self.release(sprung)
            return False
        return True

    async def carry(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, port: int, host: str = "127.0.0.1"
    ) -> None:
        """Carry one connection that somebody has accepted to this server, until it ends."""
        task = asyncio.current_task()
        if task is not None:
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        for gate in self._passing.values():
            await gate.wait()
        if self._refuses():
            reset(writer)
            return
        try:
            back, forth = await asyncio.open_connection(host, port, limit=READ_BYTES)
        except OSError:
            reset(writer)
            return
        wire = Wire(writer, forth)
        self._wires.add(wire)
        try:
            if self._refuses():
                wire.reset()
            await asyncio.gather(self._pump(wire, "up", reader, forth), self._pump(wire, "down", back, writer))
        finally:
            wire.close()
            self._wires.discard(wire)

    def _refuses(self) -> bool:
        return self._refusing

    async def _pump(
        self, wire: Wire, direction: Direction, source: asyncio.StreamReader, sink: asyncio.StreamWriter
    ) -> None:
        try:
            while data := await source.read(READ_BYTES):
                if self._delay_s:
                    await asyncio.sleep(self._delay_s)
                await self._passing[direction].wait()
                if wire.doomed and direction == "down":
                    wire.reset()
                    return
                data, ends = self._spring(wire, direction, data)
                await self._write(sink, data)
                if ends:
                    wire.reset()
                    return
            await self._passing[direction].wait()
            if sink.can_write_eof():
                sink.write_eof()
        except OSError:  # one side is gone, so the other is told
            wire.reset()

    def _spring(self, wire: Wire, direction: Direction, data: bytes) -> tuple[bytes, bool]:
        """What of this piece is passed on, and whether the connection ends after it."""
        requests = wire.frames.feed(data) if self._kafka and direction == "up" else []
        trap = self._trap
        if trap is None or trap.direction != direction:
            return data, False
        at = trap.find(wire, data, requests)
        if at is None:
            return data, False
        self._trap = None
        trap.at_once()
        trap.sprung.set()
        if trap.lose == "request" or isinstance(trap.spot, int):
            return data[:at], True
        wire.doomed = True
        asyncio.get_running_loop().call_later(NO_ANSWER_S, wire.reset)
        return data, False

    async def _write(self, sink: asyncio.StreamWriter, data: bytes) -> None:
        if self._sliced:
            for place in range(min(len(data), SLICED_BYTES)):
                sink.write(data[place : place + 1])
                await sink.drain()
                await asyncio.sleep(0)
            data = data[SLICED_BYTES:]
        if data:
            sink.write(data)
            await sink.drain()


def reset(writer: asyncio.StreamWriter) -> None:
    """Close a connection with RST instead of FIN."""
    connected = writer.get_extra_info("socket")
    if connected is not None:
        with contextlib.suppress(OSError):  # it is gone already
            connected.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()
