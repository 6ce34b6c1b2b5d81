"""What the fault suite's mail server answers, and that a mail is written down before it is answered."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from email.message import EmailMessage
from pathlib import Path
from typing import Any

import aiosmtplib
import pytest

from tests.faults.sinks import Behaviour, SmtpSink

pytestmark = pytest.mark.anyio


@asynccontextmanager
async def listening(folder: Path) -> AsyncIterator[SmtpSink]:
    sink = SmtpSink(folder)
    await sink.start()
    try:
        yield sink
    finally:
        await sink.stop()


async def send(sink: SmtpSink) -> None:
    mail = EmailMessage()
    mail["From"], mail["To"], mail["Message-ID"] = "us@example.no", "kari@example.no", "<1@example.no>"
    mail.set_content("Hei")
    await aiosmtplib.send(mail, hostname="127.0.0.1", port=sink.port, start_tls=False, timeout=10)


def lines(sink: SmtpSink) -> list[dict[str, Any]]:
    return [json.loads(line) for line in sink.deliveries.read_text().splitlines()]


async def test_a_mail_is_written_down_before_it_is_answered(tmp_path: Path) -> None:
    async with listening(tmp_path) as sink:
        await send(sink)
        (line,) = lines(sink)
        assert (line["recipient"], line["message_id"], line["outcome"]) == ("kari@example.no", "<1@example.no>", "ok")
        assert line["t"] == sink.taken_at
        assert not sink.felt.is_set()
        await send(sink)
        assert [one["digest"] for one in lines(sink)] == [line["digest"]] * 2


@pytest.mark.parametrize(("behaviour", "with_mail"), [("421", True), ("450", False), ("550", False)])
async def test_a_refusal_is_answered_and_nothing_is_taken(
    tmp_path: Path, behaviour: Behaviour, with_mail: bool
) -> None:
    async with listening(tmp_path) as sink:
        sink.behaviour = behaviour
        with pytest.raises((aiosmtplib.SMTPResponseException, aiosmtplib.SMTPRecipientsRefused)) as refused:
            await send(sink)
        assert behaviour in str(refused.value)
        (line,) = lines(sink)
        assert line["outcome"] == behaviour
        assert (line["message_id"] is not None) == with_mail
        assert sink.taken_at == 0
        assert sink.felt.is_set()


async def test_a_mail_may_be_taken_and_never_answered(tmp_path: Path) -> None:
    async with listening(tmp_path) as sink:
        sink.behaviour = "drop_before_250"
        with pytest.raises(aiosmtplib.SMTPException):
            await send(sink)
        assert [line["outcome"] for line in lines(sink)] == ["unanswered"]
        assert sink.felt.is_set()


async def test_a_slow_server_takes_the_mail_in_the_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tests.faults.sinks.SLOW_S", 0.2)
    async with listening(tmp_path) as sink:
        sink.behaviour = "slow"
        await send(sink)
        assert [line["outcome"] for line in lines(sink)] == ["ok"]
        assert sink.felt.is_set()
