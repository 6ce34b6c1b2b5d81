"""A freed seat by its public interface: the mail that offers it, its two links, and what comes of each."""

from collections.abc import AsyncIterator
from typing import Any

import httpx2
import pytest

from deploy.demo.data import bearer
from deploy.local.stack import Stack
from tests.journeys.web import Web

pytestmark = pytest.mark.anyio


@pytest.fixture
async def web(stack: Stack) -> AsyncIterator[Web]:
    async with httpx2.AsyncClient(base_url=stack.places.gateway, timeout=20) as http:
        yield Web(stack.places, http)


async def offered(web: Web, name: str) -> tuple[str, str, str]:
    """(enrolment, link to accept, link to decline) of a learner to whom a seat has just been offered by mail."""
    offering = await web.offering(f"O-{name}", 1, "Sveising")
    first = (await web.enrol(offering, f"first-{name}")).json()
    second = (await web.enrol(offering, name)).json()
    assert (first["state"], second["state"]) == ("associated", "queued")
    token = await web.token(f"first-{name}")
    left = await web.http.post(f"/api/enrolment/v1/enrolments/{first['enrolment_id']}/withdraw", headers=bearer(token))
    assert left.status_code == 200
    queued, mail = await web.mails(name, 2)
    assert queued["Subject"] == "Du står i kø for Sveising"
    assert mail["Subject"] == "Du har fått tilbud om plass på Sveising"
    accept, decline = [
        line for line in mail.get_body(("plain",)).get_content().splitlines() if line.startswith(web.places.gateway)
    ]
    assert accept.endswith("/godta")
    assert decline.endswith("/avslaa")
    return str(second["enrolment_id"]), accept, decline


async def enrolment(web: Web, enrolment_id: str, name: str) -> dict[str, Any]:
    token = await web.token(name)
    found: dict[str, Any] = (
        await web.http.get(f"/api/enrolment/v1/enrolments/{enrolment_id}", headers=bearer(token))
    ).json()
    return found


async def test_a_link_in_the_mail_takes_the_seat_when_its_button_is_pressed_and_not_before(web: Web) -> None:
    name = f"yes-{web.word}"
    enrolment_id, accept, decline = await offered(web, name)
    for link in (accept, decline, accept):
        shown = await web.http.get(link)
        assert shown.status_code == 200
        assert '<form method="post">' in shown.text
    assert (await enrolment(web, enrolment_id, name))["state"] == "offered"
    assert (await web.http.post(accept)).status_code == 200
    seated = await enrolment(web, enrolment_id, name)
    assert (seated["state"], seated["place"]) == ("associated", "bronnoysund")
    assert [mail["Subject"] for mail in await web.mails(name, 3)][2] == "Plassen på Sveising er din"
    for used in (accept, decline):
        assert (await web.http.post(used)).status_code in (409, 410)
    assert (await enrolment(web, enrolment_id, name))["state"] == "associated"


async def test_the_other_link_leaves_the_seat_to_others_and_says_so(web: Web) -> None:
    name = f"no-{web.word}"
    enrolment_id, accept, decline = await offered(web, name)
    assert (await web.http.post(decline)).status_code == 200
    assert (await enrolment(web, enrolment_id, name))["state"] == "cancelled"
    assert [mail["Subject"] for mail in await web.mails(name, 3)][2] == "Du har takket nei til plassen på Sveising"
    assert (await web.http.post(accept)).status_code in (409, 410)
