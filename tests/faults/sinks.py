"""The mail server of a fault run: writes every mail down before it says 250, and says no when it is told to."""

import asyncio
import hashlib
import json
import time
from collections.abc import Callable
from email import message_from_bytes
from email.policy import compat32
from pathlib import Path
from typing import Any, Literal

from aiosmtpd.smtp import SMTP

Behaviour = Literal["ok", "421", "450", "550", "drop_before_250", "slow"]

SLOW_S = 3.0
# 5.5.0 is a final no, for which nobody's address is given up, so that whoever was refused gets later mails.
REFUSALS = {"450": "450 4.2.1 try again later", "550": "550 5.5.0 not taken"}


class SmtpSink:
    """Listens on a port of its own in this process. `behaviour` may be set at any time.

    `deliveries` is a file of JSON lines {"t", "recipient", "message_id", "digest", "outcome"}: t in seconds of
    time.monotonic(), digest the SHA-256 of the mail. Outcome: `ok` (taken and answered 250), `unanswered` (taken, but
    the connection was dropped instead of the answer), or the code of the refusal; message_id and digest are null where
    it was refused before the mail came.
    """

    def __init__(self, folder: Path) -> None:
        self.deliveries = folder / "deliveries.jsonl"
        self.behaviour: Behaviour = "ok"
        self.reader: Callable[[str, bytes], None] = lambda recipient, content: None  # who gets the mails that are taken
        self.port = 0
        self.taken_at = 0.0  # when the last mail was taken and answered 250, by time.monotonic()
        self.felt = asyncio.Event()  # somebody was not answered as he should be

    async def start(self) -> None:
        self.deliveries.parent.mkdir(parents=True, exist_ok=True)
        self._file = self.deliveries.open("a", buffering=1)  # each line is with the system before the answer goes out
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(
            lambda: SMTP(self, enable_SMTPUTF8=True, hostname="localhost", loop=loop, timeout=600), "127.0.0.1", 0
        )
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        self._server.close()
        self._file.close()

    def _note(self, recipient: str, content: bytes | None, outcome: str) -> None:
        digest = message_id = None
        if content is not None:
            digest = hashlib.sha256(content).hexdigest()
            message_id = str(message_from_bytes(content, policy=compat32).get("Message-ID", "")).strip() or None
        now = time.monotonic()
        self.taken_at = now if outcome == "ok" else self.taken_at
        line = {
            "t": now,
            "recipient": recipient,
            "message_id": message_id,
            "digest": digest,
            "outcome": outcome,
        }
        if not self._file.closed:
            self._file.write(json.dumps(line) + "\n")

    # The names that aiosmtpd calls.

    async def handle_RCPT(self, server: Any, session: Any, envelope: Any, address: str, options: Any) -> str:
        refusal = REFUSALS.get(self.behaviour)
        if refusal is not None:
            self.felt.set()
            self._note(address, None, self.behaviour)
            return refusal
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, server: Any, session: Any, envelope: Any) -> str:
        content = envelope.content if isinstance(envelope.content, bytes) else str(envelope.content).encode()
        behaviour = self.behaviour
        if behaviour != "ok":
            self.felt.set()
        if behaviour == "421":
            for recipient in envelope.rcpt_tos:
                self._note(recipient, content, "421")
            return "421 4.3.2 closing down"
        if behaviour == "slow":
            await asyncio.sleep(SLOW_S)
        for recipient in envelope.rcpt_tos:
            self._note(recipient, content, "unanswered" if behaviour == "drop_before_250" else "ok")
            self.reader(recipient, content)
        if behaviour == "drop_before_250":
            server.transport.abort()
        return "250 OK"
