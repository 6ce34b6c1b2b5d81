"""Commands that go to a mail server together: each answer is its own command's, and each mail's state is right."""

import asyncio
import uuid
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime
from email import message_from_bytes, policy
from typing import Any

import pytest
from pydantic import SecretStr

from services.notifier.channels import wire
from services.notifier.channels.channel import UNANSWERED, Later, Letter, Never
from services.notifier.channels.email import Email
from services.notifier.settings import NotifierSettings
from tests.delivery import Servers, until
from tests.notifying import PRIVATE, Sink, World, notifier
from tests.web import settings as plain_settings

pytestmark = pytest.mark.anyio
LETTER = Letter(
    message_id="<1@kursnett.example>",
    written_at=datetime(2026, 11, 26, 9, tzinfo=UTC),
    address="kari@example.no",
    name="Kari",
    language="nb",
    subject="Plass",
    text="Hei\n.\n..alene\n",
    html="<p>Hei</p>",
)
BEGIN = b"MAIL FROM:<ikke-svar@kursnett.example>\r\nRCPT TO:<kari@example.no>\r\nDATA\r\n"


class Server:
    """A mail server that keeps what came in one piece; `says` is what it answers to a command instead, by its words.

    `hang_up` is said behind an answer after which it closes the connection.
    """

    def __init__(self, *, pipelining: bool = True) -> None:
        self.pipelining = pipelining
        self.heard: list[bytes] = []  # pieces of commands, and of letters
        self.mails: list[tuple[list[str], bytes]] = []  # (recipients, letter) of each that was taken
        self.says: dict[str, str] = {}
        self.connections = 0
        self.open = 0  # of these, at this moment
        self.port = 0

    def connect(self) -> "Talk":
        self.connections += 1
        return Talk(self)


class Talk(asyncio.Protocol):
    def __init__(self, server: Server) -> None:
        self.server, self.rest, self.recipients, self.begun = server, b"", list[str](), False
        self.in_data = False

    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        self.server.open += 1
        transport.write(b"220 server\r\n")

    def connection_lost(self, error: Exception | None) -> None:
        self.server.open -= 1

    def data_received(self, data: bytes) -> None:
        self.server.heard.append(data)
        self.rest += data
        while True:
            line, found, rest = self.rest.partition(b"\r\n.\r\n" if self.in_data else b"\r\n")
            if self.in_data and self.rest.startswith(b".\r\n"):  # an empty letter
                line, found, rest = b"", b".\r\n", self.rest[3:]
            if not found:
                return
            self.rest = rest
            said = self.answer(line)
            if said == "silence":
                return
            for one in said.removesuffix(" hang_up").split("|"):
                self.transport.write(f"{one}\r\n".encode())
            if said.endswith("hang_up"):
                self.transport.close()
                return

    def answer(self, line: bytes) -> str:
        words = line.decode()
        told = self.server.says.get("letter" if self.in_data else words.partition(":<")[2].rstrip(">") or words)
        if self.in_data:
            self.in_data = self.begun = False
            if not self.recipients:
                return "554 to nobody"
            if told is None or told.startswith("250"):
                self.server.mails.append((self.recipients, line))
            return told or "250 taken"
        verb = words.partition(" ")[0]
        if verb == "EHLO" and "EHLO" in self.server.says:
            return self.server.says["EHLO"]
        if verb == "EHLO":
            return "250-server|250-PIPELINING|250 SIZE 1000000" if self.server.pipelining else "250-server|250 8BITMIME"
        if verb == "MAIL":
            if self.begun:
                return "503 one mail at a time"
            self.begun, self.recipients = told is None, []
        elif verb == "RCPT" and (told or "250").startswith("25") and self.begun:
            self.recipients.append(words[9:-1])
        elif verb == "RSET":
            self.begun = False
        elif verb == "DATA":
            self.in_data = bool(self.recipients and self.begun) if told is None else told.startswith("354")
            return told or ("354 go on" if self.in_data else "503 nobody to send to")
        return told or "250 ok"


@asynccontextmanager
async def serving(server: Server) -> AsyncIterator[Email]:
    """A channel to this server."""
    listening = await asyncio.get_running_loop().create_server(server.connect, "127.0.0.1", 0)
    server.port = listening.sockets[0].getsockname()[1]
    known = plain_settings().model_dump(exclude={"contact_private_key"})
    channel = Email(
        NotifierSettings(
            **known, contact_private_key=SecretStr(PRIVATE), smtp_port=server.port, smtp_tls="none", smtp_timeout_s=2
        )
    )
    yield channel
    await channel.close()
    listening.close()


def to(address: str) -> Letter:
    return replace(LETTER, address=address, message_id=f"<{uuid.uuid4()}@kursnett.example>")


async def test_both_sides_of_a_mail_are_named_in_one_write_where_the_server_lets_us() -> None:
    server = Server()
    async with serving(server) as channel:
        await channel.deliver(LETTER)
    _, begin, letter, goodbye = server.heard
    assert begin == BEGIN
    assert letter.endswith(b"\r\n.\r\n")
    assert goodbye == b"QUIT\r\n"
    [(recipients, taken)] = server.mails
    assert recipients == ["kari@example.no"]
    assert taken.count(b"\r\n.") == taken.count(b"\r\n..")  # no line of the letter can end it (RFC 5321, 4.5.2)
    mail: Any = message_from_bytes(taken.replace(b"\r\n..", b"\r\n."), policy=policy.default)
    assert mail.get_body(("plain",)).get_content().splitlines() == LETTER.text.splitlines()


async def test_a_server_that_does_not_offer_it_gets_one_command_at_a_time() -> None:
    server = Server(pipelining=False)
    async with serving(server) as channel:
        await channel.deliver(LETTER)
        await channel.deliver(LETTER)
    commands = BEGIN.splitlines(keepends=True)
    assert [piece for piece in server.heard if piece in commands] == commands * 2
    assert len(server.mails) == 2
    assert server.connections == 1


@pytest.mark.parametrize("pipelining", [True, False])
@pytest.mark.parametrize("to_data", ["503 nobody to send to", "354 go on"])
async def test_a_refused_recipient_in_the_middle_loses_and_doubles_no_other_mail(
    pipelining: bool, to_data: str
) -> None:
    """Some servers wait for a letter although nobody is to get it (RFC 2920, 3.1). Red control: no empty letter."""
    server = Server(pipelining=pipelining)
    server.says["nobody@example.no"] = "550 5.1.1 no such person"
    async with serving(server) as channel:
        for name in ("first", "second"):
            await channel.deliver(to(f"{name}@example.no"))
        server.says["DATA"] = to_data
        with pytest.raises(Never) as refused:
            await channel.deliver(to("nobody@example.no"))
        del server.says["DATA"]
        for name in ("third", "fourth"):
            await channel.deliver(to(f"{name}@example.no"))
    assert (refused.value.reason, refused.value.status) == ("refused_address", "5.1.1")
    assert [one for one, _ in server.mails] == [
        [f"{name}@example.no"] for name in ("first", "second", "third", "fourth")
    ]
    assert server.connections == 1


@pytest.mark.parametrize(
    ("command", "said", "reason"),
    [
        ("ikke-svar@kursnett.example", "451 not from you now", "answer_451"),
        ("ikke-svar@kursnett.example", "421 going down hang_up", "answer_421"),
        ("kari@example.no", "450 4.2.0 greylisted", "answer_450"),
        ("kari@example.no", "421 going down hang_up", "answer_421"),
        ("DATA", "451 no room", "answer_451"),
        ("letter", "452 no room", "answer_452"),
        ("kari@example.no", "250 ok hang_up", "hung_up"),  # it had nothing of the letter: it cannot have taken it
        ("kari@example.no", "silence", "timed_out"),
        ("DATA", "silence", "timed_out"),
        ("letter", "silence", UNANSWERED),
        ("letter", "250- hang_up", UNANSWERED),
        ("letter", "nonsense", UNANSWERED),
        ("letter", "250", ""),
        ("kari@example.no", "251 elsewhere", ""),
        ("kari@example.no", "250-ok|250-and|250 more", ""),
    ],
)
@pytest.mark.parametrize("pipelining", [True, False])
async def test_each_answer_is_the_one_to_its_own_command(
    pipelining: bool, command: str, said: str, reason: str
) -> None:
    """Red control: with the last answer of a group for all of it, a refused sender is a 503."""
    server = Server(pipelining=pipelining)
    server.says[command] = said
    async with serving(server) as channel:
        told = ""
        try:
            await channel.deliver(LETTER)
        except Later as no:
            told = no.reason
        assert told == reason
        server.says.clear()
        await channel.deliver(to("next@example.no"))
    assert server.mails[-1][0] == ["next@example.no"]


async def test_a_connection_with_an_answer_too_many_is_not_used_again() -> None:
    """What came behind it would be taken for the next mail's. Red control: without that, the next one is refused."""
    server = Server()
    server.says["letter"] = "250 taken|550 5.1.1 no such person"
    async with serving(server) as channel:
        await channel.deliver(LETTER)
        server.says.clear()
        await asyncio.sleep(0)
        await channel.deliver(to("next@example.no"))
    assert [one for one, _ in server.mails] == [["kari@example.no"], ["next@example.no"]]
    assert server.connections == 2


@pytest.mark.parametrize(
    ("said", "reason"), [("550 5.7.1 not you", "answer_550"), ("silence", "timed_out"), ("421 busy", "answer_421")]
)
async def test_a_greeting_that_comes_to_nothing_leaves_no_connection_open(said: str, reason: str) -> None:
    """A server that means no good at night would have them all in the morning. Red control: nobody closes it."""
    server = Server()
    server.says["EHLO"] = said
    async with serving(server) as channel:
        for _ in range(3):
            with pytest.raises(Later) as no:
                await channel.deliver(LETTER)
            assert no.value.reason == reason
        assert server.connections == 3

        async def closed() -> bool:
            return server.open == 0

        await until(closed)


async def test_an_answer_that_does_not_end_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wire, "MOST_UNREAD", 1000)
    server = Server()
    server.says["letter"] = "|".join(["250-more"] * 200)
    async with serving(server) as channel:
        with pytest.raises(Later) as no:
            async with asyncio.timeout(1):  # long before the mail's own limit
                await channel.deliver(LETTER)
    assert no.value.reason == UNANSWERED


@pytest.fixture
async def world(servers: Servers) -> AsyncIterator[tuple[World, Server]]:
    server = Server()
    listening = await asyncio.get_running_loop().create_server(server.connect, "127.0.0.1", 0)
    sink = Sink()
    sink.port = listening.sockets[0].getsockname()[1]
    async with notifier(servers, sink) as world:
        yield world, server
    listening.close()


async def test_many_at_once_with_refusals_and_cut_connections_among_them_each_go_once(
    world: tuple[World, Server],
) -> None:
    here, server = world
    server.says |= {
        "l3@example.no": "550 5.1.1 no such person",
        "l7@example.no": "421 4.2.1 going down hang_up",  # about one mailbox: the others need not wait
        "l11@example.no": "450 4.2.2 full",
        "l12@example.no": "250 ok hang_up",
    }
    await here.learners(40)
    async with here.sending():

        async def tried() -> bool:
            return (await here.states()) == {"sent": 36, "failed": 1, "deferred": 3}

        await until(tried)
        rows = await here.rows("SELECT email, reason FROM notices JOIN contacts USING (learner_id) WHERE reason <> ''")
        assert {row["email"]: row["reason"] for row in rows} == {
            "l3@example.no": "refused_address",
            "l7@example.no": "answer_421",
            "l11@example.no": "answer_450",
            "l12@example.no": "hung_up",
        }
        for number in (7, 11, 12):
            del server.says[f"l{number}@example.no"]

        async def rest_sent() -> bool:
            await here.hurry()
            return (await here.states()) == {"sent": 39, "failed": 1}

        await until(rest_sent)
    got = Counter(address for recipients, _ in server.mails for address in recipients)
    assert got == {f"l{number}@example.no": 1 for number in range(40) if number != 3}
    for recipients, letter in server.mails:  # each the letter that is its own
        assert f"<{recipients[0]}>".encode() in letter
    assert len({letter.partition(b"Message-ID: ")[2].partition(b"\r\n")[0] for _, letter in server.mails}) == 39
