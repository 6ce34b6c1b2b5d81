"""Each way in which a link of the fault suite fails, shown on real sockets."""

import asyncio
import struct
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest

from tests.faults.proxy import PRODUCE, Frames, Link

pytestmark = pytest.mark.anyio

Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]

WITHIN_S = 10.0
SILENCE_S = 0.15  # after so long without a byte, none comes


class Server:
    """Answers `+` to each line, and keeps what it was sent."""

    def __init__(self) -> None:
        self.received = bytearray()
        self.pieces = 0
        self.resets = 0
        self.ends = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while piece := await reader.read(4096):
                self.received += piece
                self.pieces += 1
                writer.write(b"+" * piece.count(b"\n"))
            self.ends += 1
        except ConnectionResetError:
            self.resets += 1
        writer.close()


@asynccontextmanager
async def linked(kafka: bool = False) -> AsyncIterator[tuple[Server, Link, Callable[[], Awaitable[Streams]]]]:
    """A server, a link to it, and how to connect through the link."""
    server = Server()
    listening = await asyncio.start_server(server.serve, "127.0.0.1", 0)
    link = Link("test", kafka=kafka)
    port = await link.open(listening.sockets[0].getsockname()[1])
    made: list[asyncio.StreamWriter] = []

    async def connect() -> Streams:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        made.append(writer)
        return reader, writer

    try:
        yield server, link, connect
    finally:
        for writer in made:
            writer.close()
        await link.close()
        listening.close()


async def answer(streams: Streams, question: bytes = b"hello\n", count: int = 1) -> bytes:
    """What comes back; empty when the connection ends first. Raises ConnectionResetError."""
    reader, writer = streams
    writer.write(question)
    async with asyncio.timeout(WITHIN_S):
        return await reader.read(count)


async def silent(streams: Streams) -> bool:
    try:
        async with asyncio.timeout(SILENCE_S):
            return not await streams[0].read(1)
    except TimeoutError:
        return True


async def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + WITHIN_S
    while True:
        if condition():
            return
        assert time.monotonic() < deadline
        await asyncio.sleep(0.005)


async def test_a_link_passes_everything_on_and_the_end_too() -> None:
    async with linked() as (server, _, connect):
        reader, writer = await connect()
        assert await answer((reader, writer)) == b"+"
        large = b"x" * 300_000 + b"\n"
        assert await answer((reader, writer), large) == b"+"
        writer.write_eof()
        async with asyncio.timeout(WITHIN_S):
            assert await reader.read() == b""
        assert bytes(server.received) == b"hello\n" + large
        assert (server.ends, server.resets) == (1, 0)


async def test_a_cut_resets_both_sides_and_refuses_until_mended() -> None:
    async with linked() as (server, link, connect):
        before = await connect()
        assert await answer(before) == b"+"
        link.cut()
        with pytest.raises(ConnectionResetError):
            await answer(before)
        await until(lambda: server.resets == 1)
        with pytest.raises(ConnectionResetError):
            await answer(await connect())
        link.mend()
        assert await answer(await connect()) == b"+"


async def test_a_server_that_is_gone_refuses() -> None:
    async with linked() as (_, link, _connect):
        port = await link.open(1)  # nobody listens there
        with pytest.raises(ConnectionResetError):
            await answer(await asyncio.open_connection("127.0.0.1", port))


async def test_a_black_hole_holds_one_direction_and_lets_go_when_mended() -> None:
    async with linked() as (server, link, connect):
        up = await connect()
        assert await answer(up) == b"+"
        link.blackhole("up")
        up[1].write(b"held\n")
        assert await silent(up)
        assert b"held" not in server.received
        link.mend()
        async with asyncio.timeout(WITHIN_S):
            assert await up[0].read(1) == b"+"
        assert server.received.endswith(b"held\n")

        link.blackhole("down")
        up[1].write(b"heard\n")
        await until(lambda: server.received.endswith(b"heard\n"))
        assert await silent(up)
        link.mend()
        async with asyncio.timeout(WITHIN_S):
            assert await up[0].read(1) == b"+"


async def test_a_black_hole_takes_new_connections_and_stays_silent() -> None:
    async with linked() as (server, link, connect):
        link.blackhole()
        streams = await connect()
        streams[1].write(b"anybody\n")
        assert await silent(streams)
        assert not server.received
        link.mend()
        async with asyncio.timeout(WITHIN_S):
            assert await streams[0].read(1) == b"+"


async def test_a_cut_ends_what_a_black_hole_holds() -> None:
    async with linked() as (server, link, connect):
        streams = await connect()
        assert await answer(streams) == b"+"
        link.blackhole()
        streams[1].write(b"never\n")
        assert await silent(streams)
        link.cut()
        with pytest.raises(ConnectionResetError):
            await answer(streams)
        await until(lambda: not link.connections)
        assert b"never" not in server.received


async def test_a_delay_holds_both_ways() -> None:
    async with linked() as (_, link, connect):
        streams = await connect()
        assert await answer(streams) == b"+"
        link.delay(100)
        began = time.monotonic()
        assert await answer(streams) == b"+"
        assert time.monotonic() - began >= 0.2
        link.mend()
        assert await answer(streams) == b"+"


async def test_slices_arrive_in_many_pieces_and_whole() -> None:
    async with linked() as (server, link, connect):
        streams = await connect()
        link.slice()
        text = bytes(range(11, 11 + 100)) + b"\n"
        assert await answer(streams, text) == b"+"
        assert bytes(server.received) == text
        assert server.pieces > 10


async def test_a_cut_after_so_many_bytes_falls_right_there() -> None:
    async with linked() as (server, link, connect):
        bystander, streams = await connect(), await connect()
        assert await answer(bystander) == b"+"
        link.trap(10)
        with pytest.raises(ConnectionResetError):
            await answer(streams, b"0123456789abcdef\n")
        await until(lambda: server.resets == 1)
        assert bytes(server.received) == b"hello\n0123456789"
        assert await answer(bystander) == b"+"


async def test_an_answer_is_lost_after_the_server_had_the_request() -> None:
    async with linked() as (server, link, connect):
        bystander, streams = await connect(), await connect()
        assert await answer(streams, b"INSERT\n") == b"+"
        cut = asyncio.create_task(link.cut_after(b"COMMIT"))
        await asyncio.sleep(0)
        with pytest.raises(ConnectionResetError):
            await answer(streams, b"COMMIT;\n")
        assert await cut
        assert server.received.endswith(b"COMMIT;\n")
        assert await answer(bystander, b"COMMIT;\n") == b"+"  # once is once


async def test_a_request_is_lost_before_the_server_has_it_whole() -> None:
    async with linked() as (server, link, connect):
        streams = await connect()
        assert await answer(streams) == b"+"
        link.trap(b"COMMIT", lose="request")
        with pytest.raises(ConnectionResetError):
            await answer(streams, b"begin COMMIT;\n")
        await until(lambda: server.resets == 1)
        assert server.received.endswith(b"begin COM")


async def test_a_server_that_never_answers_does_not_keep_a_doomed_connection() -> None:
    async with linked() as (_, link, connect):
        streams = await connect()
        sprung = link.trap(b"COMMIT")
        with pytest.raises(ConnectionResetError):
            await answer(streams, b"COMMIT without an end of line")
        assert sprung.is_set()


async def test_a_spot_is_found_across_two_pieces_and_after_others() -> None:
    async with linked() as (server, link, connect):
        streams = await connect()
        sprung = link.trap(b"\r\n.\r\n", skip=1)
        streams[1].write(b"mail\r\n.\r\n")
        async with asyncio.timeout(WITHIN_S):
            assert await streams[0].readexactly(2) == b"++"
        streams[1].write(b"mail\r\n.")
        await until(lambda: server.received.endswith(b"\n."))
        assert not sprung.is_set()
        streams[1].write(b"\r\n")
        with pytest.raises(ConnectionResetError):
            await streams[0].read()
        assert sprung.is_set()


async def test_what_is_to_happen_at_the_spot_happens_before_either_side_sees_the_cut() -> None:
    async with linked() as (server, link, connect):
        streams = await connect()
        assert await answer(streams) == b"+"
        seen: list[bytes] = []
        link.trap(b"COMMIT", lose="request", at_once=lambda: seen.append(bytes(server.received)))
        with pytest.raises(ConnectionResetError):
            await answer(streams, b"begin COMMIT;\n")
        assert seen == [b"hello\n"]


async def test_one_trap_is_taken_away_and_nothing_else() -> None:
    async with linked() as (_, link, connect):
        streams = await connect()
        assert await answer(streams) == b"+"
        older = link.trap(b"COMMIT")
        newer = link.trap(b"ROLLBACK")
        link.release(older)
        with pytest.raises(ConnectionResetError):
            await answer(streams, b"COMMIT ROLLBACK\n")
        assert (older.is_set(), newer.is_set()) == (False, True)
        last = link.trap(b"COMMIT")
        link.blackhole()
        link.release(last)
        streams = await connect()
        streams[1].write(b"COMMIT\n")
        assert await silent(streams)
        link.mend()
        async with asyncio.timeout(WITHIN_S):
            assert await streams[0].read(1) == b"+"


async def test_nothing_at_the_spot_takes_the_trap_away() -> None:
    async with linked() as (_, link, connect):
        streams = await connect()
        assert not await link.cut_after(b"COMMIT", within_s=0.05)
        assert await answer(streams, b"COMMIT\n") == b"+"


def request(api_key: int, body: bytes) -> bytes:
    return struct.pack(">ih", len(body) + 2, api_key) + body


def test_requests_of_kafka_are_told_apart_however_they_are_cut() -> None:
    stream = request(3, b"metadata") + request(0, b"produce") + request(1, b"") + request(0, b"p" * 100)
    for size in (1, 5, 6, 7, 13, len(stream)):
        frames = Frames()
        pieces = [stream[start : start + size] for start in range(0, len(stream), size)]
        assert [key for piece in pieces for _, key, _ in frames.feed(piece)] == [3, 0, 1, 0]


async def test_a_produce_is_cut_and_no_other_request() -> None:
    async with linked(kafka=True) as (server, link, connect):
        streams = await connect()
        sprung = link.trap(PRODUCE, lose="request")
        fetch = request(1, b"\0\0\0\0\n")
        assert await answer(streams, fetch) == b"+"
        assert not sprung.is_set()
        with pytest.raises(ConnectionResetError):
            await answer(streams, request(0, b"first half second half\n"))
        await until(lambda: server.resets == 1)
        assert server.received.endswith(b"first half ")
