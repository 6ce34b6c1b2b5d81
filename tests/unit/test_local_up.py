"""Two who start the same stack at once: one of them runs it, and nothing that happens to the other stops it."""

import asyncio
import signal
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from deploy.commands import stack as commands
from deploy.demo import data
from deploy.local.places import Places
from deploy.local.stack import Stack
from deploy.trouble import Trouble


class Late(Stack):
    """Looks, sees that nobody runs the stack, and is not the first to start it."""

    looks = 0

    @property
    def supervisor(self) -> int | None:
        self.looks += 1
        return super().supervisor if self.looks > 1 else None


@pytest.mark.parametrize("what", [Trouble("the demonstration data is there already"), KeyboardInterrupt()])
def test_who_came_second_does_not_stop_what_the_first_has_started(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, what: BaseException
) -> None:
    def fails(places: Places) -> None:
        raise what

    monkeypatch.setattr(commands, "_demo", fails)
    monkeypatch.setattr("deploy.local.ports.require_free", lambda places, names: None)
    with Stack.somewhere(tmp_path / "home", programs=("mail",)) as first:
        runs = first.supervisor
        monkeypatch.setattr(Stack, "here", lambda: Late(first.places, first.programs))
        if isinstance(what, KeyboardInterrupt):
            assert commands.up() == 130
        else:
            with pytest.raises(Trouble, match="there already"):
                commands.up()
        assert first.supervisor == runs
        monkeypatch.setattr(commands, "_demo", lambda places: None)
        assert commands.up() == 0  # and does not wait for the end of what is not his
        assert first.supervisor == runs


def test_servers_that_run_for_a_restore_are_not_the_stack(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who starts it meanwhile must not hear that it runs."""
    done: list[Places] = []
    monkeypatch.setattr(commands, "_demo", done.append)
    with Stack.somewhere(tmp_path / "home", programs=("mail",)) as first:
        runs = first.supervisor
        monkeypatch.setattr(Stack, "here", lambda: Late(first.places, ("mail", "catalogue")))
        with pytest.raises(Trouble, match=r"Only mail runs here.*Wait until it is done"):
            commands.up()
        assert (first.supervisor, done) == (runs, [])


def test_a_start_that_is_interrupted_is_no_success(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever begins something when it has come up must not begin it."""

    def interrupted(places: Places) -> None:
        raise KeyboardInterrupt

    stack = Stack.somewhere(tmp_path / "home", programs=("mail",))
    monkeypatch.setattr(Stack, "here", lambda: stack)
    monkeypatch.setattr(commands, "_demo", interrupted)
    before = {one: signal.getsignal(one) for one in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    try:
        assert commands.up(detach=True) == 130
    finally:
        for one, handler in before.items():
            signal.signal(one, handler)
    assert stack.supervisor is None


async def _hello(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.readuntil(b"\r\n\r\n")
    writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\nhi")
    await writer.drain()
    writer.close()


def test_a_proxy_of_the_network_is_not_asked_for_what_runs_on_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who needs one to fetch the packages has it set for everything, and it knows no localhost of ours."""
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    monkeypatch.delenv("NO_PROXY", raising=False)
    monkeypatch.delenv("no_proxy", raising=False)

    async def ask() -> str:
        server = await asyncio.start_server(_hello, "127.0.0.1", 0)
        async with server, data.browser(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}") as web:
            return (await web.get("/")).text

    assert asyncio.run(ask()) == "hi"


def test_the_demonstration_data_is_put_in_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    loads: list[float] = []

    async def load(places: Places, say: Any) -> None:
        loads.append(time.monotonic())
        await asyncio.sleep(0.3)

    monkeypatch.setattr(data, "load", load)
    both = [threading.Thread(target=commands._demo, args=(Places(tmp_path),)) for _ in range(2)]
    for one in both:
        one.start()
    for one in both:
        one.join()
    assert len(loads) == 1
