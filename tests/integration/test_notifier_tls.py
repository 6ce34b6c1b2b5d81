"""Mail goes over TLS to a server whose certificate is checked, or it waits: nothing of it is ever said in clear."""

import ssl
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from tests.certificates import certificate
from tests.delivery import Servers
from tests.notifying import Sink, World, mail_server, notifier

pytestmark = pytest.mark.anyio
HERE, ELSEWHERE = "127.0.0.1", "smtp.example.no"


def of_server(both: Path) -> ssl.SSLContext:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(both)
    return context


async def world_with(
    stack: AsyncExitStack, servers: Servers, how: str, tls: ssl.SSLContext | None, settings: str = ""
) -> tuple[World, Sink]:
    """A mail server that has this TLS by STARTTLS or from the first byte (`how`), and a notifier of that setting."""
    sink = await stack.enter_async_context(mail_server(tls if how == "tls" else None))
    sink.tls = tls if how == "starttls" else None
    return await stack.enter_async_context(notifier(servers, sink, smtp_tls=settings or how)), sink


@pytest.mark.parametrize("how", ["starttls", "tls"])
async def test_a_mail_goes_over_tls_to_a_server_whose_certificate_is_good(
    servers: Servers, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    both, _ = certificate(tmp_path, HERE)
    monkeypatch.setenv("SSL_CERT_FILE", str(both))
    async with AsyncExitStack() as stack:
        world, sink = await world_with(stack, servers, how, of_server(both))
        await world.learners(3)
        async with world.sending():
            await world.all_are("sent", 3)
    assert len(sink.mails) == 3
    assert sink.in_clear == []


@pytest.mark.parametrize("how", ["starttls", "tls"])
@pytest.mark.parametrize(("name", "trusted"), [(ELSEWHERE, True), (HERE, False)])
async def test_a_certificate_of_another_name_or_of_nobody_gets_no_mail(
    servers: Servers, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: str, name: str, trusted: bool
) -> None:
    both, _ = certificate(tmp_path, name)
    if trusted:
        monkeypatch.setenv("SSL_CERT_FILE", str(both))
    async with AsyncExitStack() as stack:
        world, sink = await world_with(stack, servers, how, of_server(both))
        await world.learners(1)
        async with world.sending():
            await world.all_are("deferred", 1)
        [row] = await world.rows("SELECT reason, resends FROM notices")
    assert (row["reason"], row["resends"]) == ("bad_certificate", 0)
    assert sink.asked == []


async def test_a_server_without_starttls_gets_no_mail(servers: Servers) -> None:
    async with AsyncExitStack() as stack:
        world, sink = await world_with(stack, servers, "starttls", None)
        await world.learners(1)
        async with world.sending():
            await world.all_are("deferred", 1)
        [row] = await world.rows("SELECT reason FROM notices")
    assert row["reason"] == "no_tls"
    assert sink.asked == []


async def test_the_sink_sees_what_comes_in_clear(servers: Servers) -> None:
    """The red control of this file: without TLS in the settings, the same notifier sends in clear."""
    async with AsyncExitStack() as stack:
        world, sink = await world_with(stack, servers, "starttls", None, settings="none")
        await world.learners(1)
        async with world.sending():
            await world.all_are("sent", 1)
    assert sink.in_clear == ["l0@example.no"]
