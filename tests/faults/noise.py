"""A partner of a fault run whose program has gone wrong: a thousand bad records a minute, which no other may feel."""

import asyncio
import contextlib
import json
import time
import uuid
from typing import Any

from tests.faults.partners import KafkaPartner

A_MINUTE = 1_000
BEHIND_S = 2.0  # what a broker that was away is made up for, at most


class Noise(KafkaPartner):
    """Has no course, and never says anything that can be taken; under the others' codes, keys and names, too."""

    f = "noise"

    def __init__(self, *known: Any, others: tuple[str, ...], **more: Any) -> None:
        super().__init__(*known, **more)
        self.courses = {}
        self._others = others

    async def live(self, stopping: asyncio.Event) -> None:
        due = time.monotonic()
        while not stopping.is_set():
            other = self._dice.choice(self._others)
            value = self._dice.choice(self._wrong(other))
            await self._send("nonsense", f"{other.upper()}-{self._dice.randint(0, 13)}", value, [], "noise", 1)
            due = max(due + 60 / A_MINUTE, time.monotonic() - BEHIND_S)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(stopping.wait(), max(0.0, due - time.monotonic()))

    def _wrong(self, other: str) -> list[bytes | None]:
        event = self._event("OfferingPublished", f"{other.upper()}-1", "1", {"places": [{"arena": "online"}]})
        theirs = {**event, "source": f"/partners/{other}", "partner": other, "aggregate": f"partner-course/{other}"}
        unknown = {"code": "Z", "title": {"nb": f"Kurs {uuid.UUID(int=self._dice.getrandbits(128))}"}}
        return [
            b'{"specversion": "1.0", "id": ',
            b"\xff\xfe no text",
            None,
            b"[" * 200,
            json.dumps(event).encode(),
            json.dumps(theirs).encode(),
            json.dumps({**event, "type": "no.kursnett.catalogue.CourseWithdrawn.v1"}).encode(),
            json.dumps(
                {**event, "type": "no.kursnett.partner.CoursePublished.v1", "data": unknown | {"level": "12"}}
            ).encode(),
            json.dumps({**event, "data": {"title": {"nb": "x" * 20_000}}}).encode(),
        ]
