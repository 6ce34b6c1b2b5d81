"""No webhook leads inside: every spelling of an inner address is refused, and a connection goes where was looked."""

import asyncio
import ssl
from collections.abc import Sequence
from pathlib import Path

import pytest

from services.notifier import guard
from services.notifier.channels.webhook import Call, Webhook, new_secret
from services.notifier.guard import Guard, Refused, is_public, places
from tests.calling import Hooks, listening_hooks
from tests.certificates import certificate

pytestmark = pytest.mark.anyio

PUBLIC = "93.184.215.14"
OURS = ("kursnett.example", "issuer.example", "kafka.inside.example")


def answering(*answers: Sequence[str]) -> guard.Resolve:
    """A name server that gives these answers in turn, and the last of them for ever."""
    left = list(answers)

    async def resolve(host: str, port: int) -> list[str]:
        return list(left.pop(0) if len(left) > 1 else left[0])

    return resolve


ADDRESSES = {
    "loopback": "127.0.0.1 127.255.255.254 ::1",
    "unspecified": "0.0.0.0 0.1.2.3 ::",
    "private": "10.0.0.1 10.255.255.255 172.16.0.1 172.31.255.255 192.168.0.1 100.64.0.1 100.127.255.255"
    " fc00::1 fd12::1 fec0::1",
    "link-local and metadata": "169.254.169.254 169.254.0.1 fe80::1 fe80::1%eth0 fd00:ec2::254 100.100.100.200"
    " 192.0.0.192 168.63.129.16",
    "reserved": "192.0.0.1 192.0.2.1 198.18.0.1 198.19.255.255 198.51.100.1 203.0.113.1 192.88.99.1 224.0.0.1"
    " 239.255.255.255 240.0.0.1 255.255.255.255 ff02::1 100::1 2001:db8::1 3fff::1 5f00::1 2001::1 2001:1ff::1"
    " 192.31.196.1 192.52.193.1 192.175.48.1 2620:4f:8000::1",
    "embedded IPv4": "::ffff:127.0.0.1 ::ffff:93.184.215.14 ::127.0.0.1 ::ffff:0:127.0.0.1 64:ff9b::7f00:1"
    " 64:ff9b:1::7f00:1 2002:7f00:1:: 2001:0:7f00:1::",
    "no address": "localhost 127.1 2130706433",
}


@pytest.mark.parametrize("kind", ADDRESSES)
async def test_a_name_that_leads_to_such_an_address_is_refused(kind: str) -> None:
    for address in ADDRESSES[kind].split():
        assert not is_public(address), address
        for found in ([address], [PUBLIC, address], [address, PUBLIC]):  # one public among them makes none better
            watched = Guard(resolve=answering(found))
            with pytest.raises(Refused):
                await watched.addresses(watched.target("https://hooks.partner.example/"))


def test_the_public_network_may_be_called() -> None:
    for address in f"{PUBLIC} 1.1.1.1 172.15.255.255 172.32.0.1 2606:4700::1111 2a00:1450:400f::200e".split():
        assert is_public(address), address


URLS = {
    "loopback": [
        f"https://{one}/" for one in ("127.0.0.1", "[::1]", "localhost", "localhost.", "a.localhost", "LOCALHOST")
    ],
    "spelled": [
        f"https://{one}/"
        for one in (
            "127.1",
            "2130706433",
            "0x7f000001",
            "0177.0.0.1",
            "①②⑦.⓪.⓪.①",
            "[::]",
            "0.0.0.0",
            "0x7f.1",
            "a.0x7f",
        )
    ],
    "literal": [
        f"https://{one}/" for one in (PUBLIC, "[2606:4700::1111]", "10.0.0.1", "[fd00:ec2::254]", "[::ffff:127.0.0.1]")
    ],
    "names within": [
        f"https://{one}/"
        for one in (
            "kafka",
            "postgres",
            "notifier",
            "enrolment",
            "db.internal",
            "x.local",
            "a.lan",
            "b.home.arpa",
            "c.test",
        )
    ],
    "our own": [f"https://{one}/" for one in (*OURS, "KURSNETT.example")],
    "scheme": [f"{one}://hooks.partner.example/" for one in ("http", "file", "gopher", "ftp", "ws", "javascript")]
    + ["//hooks.partner.example/", "hooks.partner.example", "https:hooks.partner.example", "https:///hooks", ""],
    "port": [
        f"https://hooks.partner.example:{one}/"
        for one in (22, 25, 80, 6379, 8080, 8443, 9092, 0, 65536, 99999, "x", "")
    ],
    "user": [f"https://{one}/" for one in ("good@127.0.0.1", "a:b@hooks.partner.example", "@hooks.partner.example")],
    "tricks": [
        "https://127.0.0.1#good",
        "https://hooks.partner.example/#a",
        "https://good%2e127.0.0.1/",
        "https://hooks.partner.example\\@127.0.0.1/",
        "https:\\\\hooks.partner.example/",
        "https://hooks.partner\t.example/",
        "https://hooks.partner.example/\n",
        "https://hooks.partner.example/a b",
        " https://hooks.partner.example/",
        "https://hooks.partner.example/\r\nx: y",
        "https://hooks.partner.example\u3002no/",
        "https://hooks.pårtner.example/",
        "https://[::1/",
        "https://[v1.a]/",
        "https://-a.example/",
        "https://a..example/",
        "https://.example/",
        f"https://{'a.' * 130}example/",
        f"https://{'a' * 64}.example/",
        "https://hooks.partner.example/" + "a" * 2000,
    ],
}


@pytest.mark.parametrize("kind", URLS)
def test_such_an_address_is_refused_before_anybody_is_asked(kind: str) -> None:
    watched = Guard(ours=OURS, resolve=answering([PUBLIC]))
    for url in URLS[kind]:
        with pytest.raises(Refused) as refused:
            watched.target(url)
        assert "partner" not in str(refused.value), "the reason holds nothing of the address"


def test_an_address_of_the_public_network_is_taken_as_it_is() -> None:
    watched = Guard(ours=OURS)
    found = watched.target("https://Hooks.Partner.example:443/a/../b?c=%2e&d=1")
    assert (found.scheme, found.host, found.port, found.path) == (
        "https",
        "hooks.partner.example",
        443,
        "/a/../b?c=%2e&d=1",
    )
    assert watched.target("https://xn--prtner-jua.example").path == "/"
    assert not found.exempt


async def test_what_is_allowed_is_that_host_and_port_and_nothing_beside_it() -> None:
    watched = Guard(places("127.0.0.1:9000, [::1]:9001,hooks.inside:8443"), resolve=answering(["10.0.0.1"]))
    for url in (
        "http://127.0.0.1:9000/a",
        "https://127.0.0.1:9000/a",
        "http://[::1]:9001/",
        "https://hooks.inside:8443/",
    ):
        assert await watched.addresses(watched.target(url)) == ["10.0.0.1"]
    assert watched.target("http://[::1]:9001/").authority == "[::1]:9001"
    for url in (
        *("http://127.0.0.1:9001/", "http://127.0.0.1/", "http://127.1:9000/", "http://localhost:9000/"),
        *("http://a@127.0.0.1:9000/", "http://127.0.0.1:9000/#a", "ftp://127.0.0.1:9000/", "http://[::1]:9000/"),
    ):
        with pytest.raises(Refused):
            watched.target(url)
    for text in ("127.0.0.1", "127.0.0.1:", "127.0.0.1:0", "127.0.0.1:65536", "http://127.0.0.1:1", "a b:1", "::1:9"):
        with pytest.raises(ValueError, match="host:port"):
            places(text)
    assert places("") == frozenset()


async def test_a_name_that_nobody_knows_is_refused() -> None:
    async def lost(host: str, port: int) -> list[str]:
        raise OSError("no such name")

    for resolve in (lost, answering([])):
        watched = Guard(resolve=resolve)
        with pytest.raises(Refused, match="name servers"):
            await watched.addresses(watched.target("https://hooks.partner.example/"))


async def test_the_system_is_asked_for_names_and_knows_a_number_when_it_sees_one() -> None:
    resolve = guard.Resolver()
    assert set(await resolve("localhost", 443)) <= {"127.0.0.1", "::1"}
    assert await resolve("127.0.0.1", 443) == ["127.0.0.1"]
    with pytest.raises(OSError):  # noqa: PT011 - whatever it says
        await resolve("nobody.invalid", 443)


async def called(hooks: Hooks, monkeypatch: pytest.MonkeyPatch, *answers: Sequence[str]) -> str | None:
    """Why a webhook was not taken whose name was public when it was made, and is what the name server says now."""
    monkeypatch.setattr("services.notifier.channels.webhook.TOTAL_S", 1)
    monkeypatch.setattr(guard, "PORTS", (443, hooks.port))  # so that only the address is what is wrong with it
    watched = Guard(resolve=answering(*answers))
    url = f"https://hooks.partner.example:{hooks.port}/hook"
    assert await watched.addresses(watched.target(url)) == list(answers[0])
    answer = await Webhook(watched).deliver(Call(url, "id", b"{}", [new_secret()]))
    return answer.reason


async def test_a_name_that_turns_inside_after_it_was_checked_is_not_connected_to(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with listening_hooks() as hooks:
        assert await called(hooks, monkeypatch, [PUBLIC], ["127.0.0.1"]) == "refused_address"
        assert await called(hooks, monkeypatch, [PUBLIC], [PUBLIC, "127.0.0.1"]) == "refused_address"
        assert hooks.connections == 0


async def test_without_the_guard_such_a_name_is_connected_to(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guard, "is_public", lambda address: True)
    async with listening_hooks() as hooks:
        assert await called(hooks, monkeypatch, [PUBLIC], ["127.0.0.1"]) == "timed_out"  # it speaks no TLS
        assert hooks.connections == 1


async def test_the_name_is_asked_for_once_an_attempt_and_the_connection_goes_to_that_answer(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(guard, "is_public", lambda address: address != "127.0.0.2")
    async with listening_hooks() as hooks:
        monkeypatch.setattr("services.notifier.channels.webhook.TOTAL_S", 1)
        monkeypatch.setattr(guard, "PORTS", (443, hooks.port))
        watched = Guard(resolve=answering(["127.0.0.1"], ["127.0.0.2"]))
        url = f"https://hooks.partner.example:{hooks.port}/hook"
        answers = [(await Webhook(watched).deliver(Call(url, "id", b"{}", [new_secret()]))).reason for _ in range(3)]
        assert answers == ["timed_out", "refused_address", "refused_address"]
        assert hooks.connections == 1


@pytest.mark.parametrize(("name", "reason"), [("hooks.partner.example", None), ("other.example", "no_connection")])
async def test_the_certificate_must_be_the_names_although_the_address_was_fixed(
    tmp_path: Path, name: str, reason: str | None
) -> None:
    pem, client = certificate(tmp_path, name)
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(pem)
    async with listening_hooks(ssl=server) as hooks:
        watched = Guard([("hooks.partner.example", hooks.port)], resolve=answering(["127.0.0.1"]))
        url = f"https://hooks.partner.example:{hooks.port}/hook"
        answer = await Webhook(watched, client).deliver(Call(url, "id", b"{}", [new_secret()]))
        assert answer.reason == reason
        assert [one.headers["host"] for one in hooks.came] == (
            [f"hooks.partner.example:{hooks.port}"] if not reason else []
        )
        untrusting = await Webhook(watched).deliver(Call(url, "id", b"{}", [new_secret()]))
        assert untrusting.reason == "no_connection"


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_no_redirect_is_followed(status: int) -> None:
    async with listening_hooks() as hooks:
        watched = Guard([("127.0.0.1", hooks.port)])
        for place in (hooks.url("/inside"), "http://169.254.169.254/", "file:///etc/passwd", "gopher://127.0.0.1/"):
            hooks.answers["/hook"] = [(status, {"location": place})]
            answer = await Webhook(watched).deliver(Call(hooks.url(), "id", b"{}", [new_secret()]))
            assert (answer.status, answer.reason) == (status, "redirect")
        assert [one.path for one in hooks.came] == ["/hook"] * 4


async def test_no_proxy_of_the_environment_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    async with listening_hooks() as hooks:
        answer = await Webhook(Guard([("127.0.0.1", hooks.port)])).deliver(
            Call(hooks.url(), "id", b"{}", [new_secret()])
        )
        assert answer.reason is None


async def test_a_name_server_that_is_silent_holds_up_only_who_asks_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("services.notifier.channels.webhook.TOTAL_S", 0.2)

    async def silent(host: str, port: int) -> list[str]:
        await asyncio.Event().wait()
        return []

    answer = await Webhook(Guard(resolve=silent)).deliver(
        Call("https://hooks.partner.example/", "id", b"{}", [new_secret()])
    )
    assert (answer.reason, answer.reached) == ("timed_out", False)
