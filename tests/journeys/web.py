"""A partner and learners at the gateway, and the mail catcher, as journeys use them."""

import asyncio
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from email import message_from_bytes, policy
from pathlib import Path
from typing import Any

import httpx2
import pytest

from deploy.demo import data
from deploy.demo.data import bearer
from deploy.local.issuer import Login, tokens
from deploy.local.places import Places
from deploy.local.stack import EVERYTHING, Stack
from tests.delivery import until

HOOKS = 7  # from a stack's first port: nothing of its own listens there


@contextmanager
def whole_stack(home: Path) -> Iterator[Stack]:
    """The whole product on free ports, with the demonstration data.

    Webhooks may call the port `HOOKS` from its first, where a journey serves as a partner does.
    """
    running = Stack.somewhere(home, programs=EVERYTHING)
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("KURSNETT_WEBHOOK_ALLOW", f"127.0.0.1:{running.places.base_port + HOOKS}")
        running.start()
    with running:
        asyncio.run(data.load(running.places, lambda text: None))
        yield running
        running.stop()
    running.reset()


class Web:
    """A partner and learners at the gateway, and the mail catcher."""

    def __init__(self, places: Places, http: httpx2.AsyncClient) -> None:
        self.places = places
        self.http = http
        self.word = uuid.uuid4().hex[:8]

    async def token(self, name: str, partner: str = "") -> str:
        [found] = await tokens(self.places, [Login(name, name, partner=partner)])
        return found

    async def offering(self, code: str, capacity: int, title: str = "Kurs") -> str:
        """A course and a run of it by PUT; waits until enrolment has heard of it."""
        key = await self.token("torgar", "torgar")
        address = f"/api/catalogue/v1/partners/torgar/courses/{code}"
        made = await self.http.put(address, json={"title": {"nb": title, "en": f"{title} (en)"}}, headers=bearer(key))
        assert made.status_code == 201, made.text
        start = datetime.now(UTC) + timedelta(days=30)
        run = {
            "starts_at": start.isoformat(),
            "ends_at": (start + timedelta(hours=6)).isoformat(),
            "places": [{"arena": "bronnoysund", "capacity": capacity}],
        }
        made = await self.http.put(f"{address}/offerings/1", json=run, headers=bearer(key))
        assert made.status_code == 201, made.text
        offering = str(made.json()["offering_id"])

        async def open_there() -> bool:
            return (await self.http.get(f"/api/enrolment/v1/offerings/{offering}")).status_code == 200

        await until(open_there)
        return offering

    async def enrol(self, offering: str, name: str, language: str = "nb", **headers: str) -> httpx2.Response:
        body = {
            "places": ["bronnoysund"],
            "name": name,
            "contact": {"email": f"{name}@example.org", "language": language},
        }
        token = await self.token(name)
        return await self.http.post(
            f"/api/enrolment/v1/offerings/{offering}/enrolments", json=body, headers=bearer(token) | headers
        )

    async def mails(self, name: str, count: int, within_s: float = 10, domain: str = "example.org") -> list[Any]:
        """The mails to one learner, or to another address, oldest first, once there are so many."""
        base = f"http://127.0.0.1:{self.places.port('mail')}/api/v1"

        async def come() -> list[str] | None:
            listed = (await self.http.get(f"{base}/messages", params={"limit": 1000})).json()["messages"]
            ids = [m["ID"] for m in listed if m["To"][0]["Address"] == f"{name}@{domain}"]
            return ids[::-1] if len(ids) >= count else None

        ids = await until(come, within_s)
        raw = [(await self.http.get(f"{base}/message/{one}/raw")).content for one in ids]
        return [message_from_bytes(one, policy=policy.default) for one in raw]
