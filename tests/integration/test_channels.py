"""What every channel must do, whatever it speaks: take a message once, tell "not now" from "never", and keep quiet.

A new file in `channels/` needs a rig here: the far side of it, which can be told what to say.
"""

import asyncio
import logging
import ssl
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

import httpx2
import pytest
import structlog
from pydantic import SecretStr

from contracts.enrolment import LearnerEnrolled
from deploy.local import composition
from deploy.local.mail import Box, application
from deploy.local.places import Places
from kit import logs
from services.notifier import channels, events
from services.notifier.app import LOG_FIELDS
from services.notifier.channels import CHANNELS, kafka, sms, webhook
from services.notifier.channels.channel import Channel, Later, Letter, Never
from services.notifier.channels.failing import Failing
from services.notifier.channels.webhook import Call, Webhook, new_secret
from services.notifier.settings import NotifierSettings
from services.notifier.store import feed
from services.notifier.store.webhooks import Told
from services.notifier.webhooks import guard_of
from tests import web
from tests.calling import listening_hooks, silence
from tests.certificates import certificate
from tests.delivery import Servers, running
from tests.notifying import PRIVATE, mail_server, notifier

pytestmark = pytest.mark.anyio

Outcome = Literal["taken", "later", "never"]
NUMBER = "+4799887766"
GATEWAY = "KURSNETT_SMS_GATEWAY_URL"
CANARIES = ("canary.person@example.no", NUMBER[3:], "Canary Navnesen", "Canary subject", "Canary words", "canary-path")
LIMIT_S = 8.0  # whatever the far side does, an attempt is over by then; the channels' own limits are set shorter here

LETTER = Letter(
    message_id="<1@kursnett.example>",
    written_at=datetime(2026, 11, 26, 9, tzinfo=UTC),
    address="canary.person@example.no",
    name="Canary Navnesen",
    language="nb",
    subject="Canary subject",
    text="Canary words\n",
    html="<p>Canary words</p>",
)


@dataclass
class Rig:
    """One channel and its far side: `says` sets what that answers next, `taken` counts what it has."""

    deliver: Callable[[], Awaitable[Outcome]]
    close: Callable[[], Awaitable[None]]
    taken: Callable[[], int]
    says: dict[str, Callable[[], None]] = field(default_factory=dict)
    secrets: tuple[str, ...] = ()


async def of_letter(channel: Channel, letter: Letter = LETTER) -> Outcome:
    try:
        await channel.deliver(letter)
    except Later:
        return "later"
    except Never:
        return "never"
    return "taken"


def settings(**changed: Any) -> NotifierSettings:
    plain = web.settings().model_dump(exclude={"contact_private_key", *changed})
    return NotifierSettings(**plain, contact_private_key=SecretStr(PRIVATE), **changed)


async def email_rig(stack: AsyncExitStack, monkeypatch: pytest.MonkeyPatch) -> Rig:
    sink = await stack.enter_async_context(mail_server())
    known = settings(smtp_port=sink.port, smtp_tls="none", smtp_timeout_s=2)
    channel = CHANNELS["email"](known)
    return Rig(
        lambda: of_letter(channel),
        channel.close,
        lambda: len(sink.mails),
        {
            "later": lambda: sink.rcpt.append("451 not now"),
            "never": lambda: sink.rcpt.append("550 nobody here"),
            "silence": lambda: sink.data.append("silence"),
            "gone": lambda: sink.data.append("gone"),
        },
    )


async def webhook_rig(stack: AsyncExitStack, monkeypatch: pytest.MonkeyPatch) -> Rig:
    monkeypatch.setattr(webhook, "TOTAL_S", 2.0)
    hooks = await stack.enter_async_context(listening_hooks())
    secret = new_secret()
    channel = Webhook(guard_of(settings(webhook_allow=f"127.0.0.1:{hooks.port}")))
    answered: list[bool] = []

    async def deliver() -> Outcome:
        answer = await channel.deliver(Call(hooks.url("/canary-path"), "1", b'{"a": "Canary words"}', [secret]))
        if answer.reason is None:
            answered.append(True)
            return "taken"
        return "never" if answer.gone else "later"

    async def close() -> None:  # it keeps no connection
        assert not any(hooks.under_way.values())

    def say(answer: Any) -> Callable[[], None]:
        return lambda: hooks.answers.setdefault("/canary-path", []).append(answer)

    async def hang_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.transport.abort()

    answers = {"later": say(503), "never": say(410), "silence": say(silence), "gone": say(hang_up)}
    return Rig(deliver, close, lambda: len(answered), answers, (secret, secret.removeprefix("whsec_")))


async def sms_rig(stack: AsyncExitStack, monkeypatch: pytest.MonkeyPatch) -> Rig:
    monkeypatch.setattr(sms, "TOTAL_S", 2.0)
    gateway = await stack.enter_async_context(listening_hooks())
    token = "canary-token"
    channel = CHANNELS["sms"](settings(sms_gateway_url=gateway.url("/canary-path"), sms_gateway_token=token))
    answered: list[Outcome] = []

    async def deliver() -> Outcome:
        came = await of_letter(channel, replace(LETTER, address=NUMBER, html=""))
        answered.extend([came] if came == "taken" else [])
        return came

    def say(answer: Any) -> Callable[[], None]:
        return lambda: gateway.answers.setdefault("/canary-path", []).append(answer)

    async def hang_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.transport.abort()

    answers = {"later": say(503), "never": say(400), "silence": say(silence), "gone": say(hang_up)}
    return Rig(deliver, channel.close, lambda: len(answered), answers, (token,))


async def log_rig(stack: AsyncExitStack, monkeypatch: pytest.MonkeyPatch) -> Rig:
    """Nothing can refuse it."""
    channel = CHANNELS["log"](settings())
    taken: list[Outcome] = []

    async def deliver() -> Outcome:
        taken.append(await of_letter(channel))
        return taken[-1]

    return Rig(deliver, channel.close, lambda: len(taken))


async def failing_rig(stack: AsyncExitStack, monkeypatch: pytest.MonkeyPatch) -> Rig:
    """It takes nothing: both ways of saying no are the far side's."""
    answers: list[Later | Never] = []

    async def deliver() -> Outcome:
        return await of_letter(Failing(answers.pop()))

    return Rig(
        deliver,
        Failing(Later("x")).close,
        lambda: 0,
        {"later": lambda: answers.append(Later("busy")), "never": lambda: answers.append(Never("no"))},
    )


async def kafka_rig(stack: AsyncExitStack, monkeypatch: pytest.MonkeyPatch, servers: Servers) -> Rig:
    """What takes a message is the outbox, in the caller's transaction: it is the relay that waits for the broker."""
    here = await stack.enter_async_context(running(await servers.database(), "notifier"))
    taken: list[int] = []

    async def deliver() -> Outcome:
        body = b'{"a": "Canary words"}'
        told = Told(str(uuid.uuid4()), "canary-partner", "a.type", "Type", "key", body, course_id="canary-path")

        async def work(conn: Any) -> int:
            await kafka.deliver(conn, [told])
            return int(await conn.fetchval("SELECT count(*) FROM outbox"))

        taken.append(await here.database.run(work))
        return "taken"

    async def close() -> None:  # it keeps nothing
        return None

    return Rig(deliver, close, lambda: max(taken, default=0))


async def inapp_rig(stack: AsyncExitStack, monkeypatch: pytest.MonkeyPatch, servers: Servers) -> Rig:
    """No file and no far side: what was heard is in its person's feed, whatever becomes of its mail."""
    world = await stack.enter_async_context(notifier(servers, await stack.enter_async_context(mail_server())))
    learner = uuid.uuid4()
    await world.contact_is_known(learner, LETTER.address, login="canary-path")
    shown: list[int] = []

    async def deliver() -> Outcome:
        word, event = uuid.uuid4(), LearnerEnrolled(**world.about(learner), place="mosjoen")
        for _ in range(2):  # the same is said again, and stands there once
            await world.hear(events.enrolments, [event], word)
        async with world.here.database.reading() as conn:
            shown.append((await feed.counts(conn, ["canary-path"]))["canary-path"].unread)
        return "taken"

    async def close() -> None:  # it keeps nothing
        return None

    return Rig(deliver, close, lambda: max(shown, default=0))


RIGS: dict[str, Callable[..., Awaitable[Rig]]] = {
    "email": email_rig,
    "webhook": webhook_rig,
    "kafka": kafka_rig,
    "inapp": inapp_rig,
    "sms": sms_rig,
    "log": log_rig,
    "failing": failing_rig,
}
NEEDS = {"kafka": ("servers",), "inapp": ("servers",)}
NO_FILE = {"inapp"}  # it is a look at the notices themselves
TAKING = [name for name in RIGS if name != "failing"]
REFUSED = [(name, word) for name in ("email", "webhook", "sms", "failing") for word in ("later", "never")]
CUT_OFF = [(name, word) for name in ("email", "webhook", "sms") for word in ("silence", "gone")]


@pytest.fixture
async def rigged(
    monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> AsyncIterator[Callable[[str], Awaitable[Rig]]]:
    async with AsyncExitStack() as stack:
        yield lambda name: RIGS[name](
            stack, monkeypatch, *(request.getfixturevalue(one) for one in NEEDS.get(name, ()))
        )


def test_every_channel_has_a_rig() -> None:
    files = {path.stem for path in Path(channels.__path__[0]).glob("*.py")} - {"__init__", "channel", "mime", "wire"}
    assert files == set(RIGS) - NO_FILE
    assert set(CHANNELS) <= set(RIGS)


@pytest.mark.parametrize("name", TAKING)
async def test_each_message_is_taken_once(name: str, rigged: Any) -> None:
    rig = await rigged(name)
    for count in (1, 2):
        assert await rig.deliver() == "taken"
        assert rig.taken() == count
    await asyncio.gather(*(rig.deliver() for _ in range(5)))
    assert rig.taken() == 7
    await rig.close()


@pytest.mark.parametrize(("name", "word"), REFUSED)
async def test_not_now_and_never_are_told_apart_and_neither_spoils_the_next(name: str, word: str, rigged: Any) -> None:
    rig = await rigged(name)
    rig.says[word]()
    assert await rig.deliver() == word
    assert rig.taken() == 0
    if name in TAKING:
        assert await rig.deliver() == "taken"
        assert rig.taken() == 1
    await rig.close()


@pytest.mark.parametrize(("name", "word"), CUT_OFF)
async def test_a_far_side_that_falls_silent_or_away_costs_a_limited_time(name: str, word: str, rigged: Any) -> None:
    rig = await rigged(name)
    rig.says[word]()
    async with asyncio.timeout(LIMIT_S):
        assert await rig.deliver() == "later"
        assert await rig.deliver() == "taken"
    await rig.close()


async def test_an_sms_goes_over_tls_to_who_can_prove_to_be_the_gateway_and_to_nobody_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, trusts in (("127.0.0.1", False), ("127.0.0.1", True), ("sms.example", True)):
        both, _ = certificate(tmp_path, name)
        if trusts:
            monkeypatch.setenv("SSL_CERT_FILE", str(both))
        server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        server.load_cert_chain(both)
        async with listening_hooks(ssl=server) as gateway:
            known = settings(sms_gateway_url=f"https://127.0.0.1:{gateway.port}/canary-path", sms_gateway_token="t")
            channel = CHANNELS["sms"](known)
            if trusts and name == "127.0.0.1":
                await channel.deliver(LETTER)
                assert len(gateway.came) == 1
                continue
            with pytest.raises(Later) as refused:
                await channel.deliver(LETTER)
            assert (refused.value.reason, refused.value.of_domain) == ("bad_certificate", True)
            assert gateway.came == []


async def test_a_text_of_more_than_three_parts_is_not_handed_over() -> None:
    async with listening_hooks() as gateway:
        channel = CHANNELS["sms"](settings(sms_gateway_url=gateway.url("/canary-path")))
        await channel.deliver(replace(LETTER, text="x" * 459))
        with pytest.raises(Never, match="too_long"):
            await channel.deliver(replace(LETTER, text="x" * 460))
        assert len(gateway.came) == 1


async def test_an_answer_without_an_end_is_heard_as_far_as_it_matters() -> None:
    async def goes_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 So\r\n\r\n")
        while True:
            writer.write(b"x" * 10_000)
            await writer.drain()

    async with listening_hooks() as gateway:
        gateway.always["/canary-path"] = goes_on
        channel = CHANNELS["sms"](settings(sms_gateway_url=gateway.url("/canary-path")))
        async with asyncio.timeout(LIMIT_S):
            await channel.deliver(LETTER)


@pytest.fixture
def logging_all() -> Iterator[None]:
    """The log as a process writes it, at its most talkative."""
    root = logging.getLogger()
    before, structured = (root.handlers[:], root.level), structlog.get_config()
    logs.configure("notifier", "debug", LOG_FIELDS)
    yield
    root.handlers[:], root.level = before[0], before[1]
    structlog.configure(**structured)


@pytest.mark.parametrize("name", RIGS)
async def test_no_log_line_has_a_person_words_or_secrets(
    name: str, rigged: Any, logging_all: None, capsys: pytest.CaptureFixture[str]
) -> None:
    rig = await rigged(name)
    for word in (*rig.says, None):
        if word is not None:
            rig.says[word]()
        elif name == "failing":
            continue
        await rig.deliver()
    await rig.close()
    said = capsys.readouterr()
    if name == "log":  # what it says is seen here: the test would see a canary, too
        assert "letter_not_sent" in said.out
    for canary in (*CANARIES, *rig.secrets):
        assert canary not in said.out + said.err


@pytest.mark.parametrize("name", RIGS)
async def test_a_channel_is_closed_more_than_once_without_harm(name: str, rigged: Any) -> None:
    rig = await rigged(name)
    if name in TAKING:
        await rig.deliver()
    async with asyncio.timeout(LIMIT_S):
        await rig.close()
        await rig.close()


async def test_the_catcher_of_the_local_stack_takes_a_text_and_shows_it_beside_mails(tmp_path: Path) -> None:
    """By the path that the stack's setting gives the notifier."""
    path = urlsplit(composition.settings(Places(tmp_path), "notifier")[GATEWAY]).path
    text = replace(LETTER, address=NUMBER, text="Du har fått plass på Sveising: http://localhost/min-side", html="")
    async with web.served(application(Box())) as address, httpx2.AsyncClient(base_url=address) as http:
        channel = CHANNELS["sms"](settings(sms_gateway_url=address + path))
        assert await of_letter(channel, text) == "taken"
        assert await of_letter(channel, replace(text, address="12")) == "never"
        assert (await http.post("/sms", json={"to": NUMBER})).status_code == 400
        [shown] = (await http.get("/api/v1/messages")).json()["messages"]
        assert (shown["To"][0]["Address"], shown["Tags"]) == (NUMBER, ["sms"])
        assert shown["MessageID"] == "1@sms"
        assert (await http.get(f"/api/v1/message/{shown['ID']}")).json()["Text"].strip() == text.text
        page = (await http.get("/")).text
        assert f"SMS: {text.text}" in page
        assert NUMBER in page
