"""What people have chosen to be told is kept to, over HTTP and by the link in each mail that can be stopped."""

import asyncio
import functools
import re
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from httpx2 import AsyncClient

from contracts.enrolment import LearnerEnrolled
from kit import http
from kit.auth import Caller
from kit.database import connect
from services.notifier import events, unsubscribe
from services.notifier.app import ROUTERS
from services.notifier.store import preferences
from services.notifier.tokens import Link, Signer
from tests.delivery import Servers, until
from tests.integration.test_notifier_changes import changed
from tests.notifying import PRIVATE, START, Sink, World, mail_server, notifier
from tests.web import ISSUER, Issuer, held_to_its_word

pytestmark = pytest.mark.anyio

PLACE = "/api/notifier/v1/me/preferences"
USUAL = {"email": "at_once", "inapp": "at_once", "sms": "off"}


class People:
    """A notifier with its HTTP, and tokens for people."""

    def __init__(self, world: World, sink: Sink, asking: AsyncClient, issuer: Issuer) -> None:
        self.world, self.sink, self.asking, self.issuer = world, sink, asking, issuer

    def signed(self, who: str = "kari") -> dict[str, str]:
        return {"authorization": f"Bearer {self.issuer.token(sub=who)}"}

    async def get(self, who: str = "kari", **headers: str) -> Any:
        return await self.asking.get(PLACE, headers=self.signed(who) | headers)

    async def put(self, body: Any, who: str = "kari", **headers: str) -> Any:
        return await self.asking.put(PLACE, json=body, headers=self.signed(who) | headers)

    async def seated(
        self, who: str = "kari", language: str = "nb", login: bool = True, learner: uuid.UUID | None = None
    ) -> dict[str, Any]:
        """Somebody with a seat, known by their log-in."""
        about = self.world.about(learner or uuid.uuid4(), uuid.uuid4())
        key = Caller(ISSUER, who).key if login else None
        await self.world.contact_is_known(about["learner_id"], f"{who}@example.no", language, key)
        await self.world.hear(events.enrolments, [LearnerEnrolled(**about, place="mosjoen")])
        return about

    async def course_changes(self, version: int) -> None:
        at = START + timedelta(hours=version)
        new = changed(self.world, version, starts_at=at, ends_at=at + timedelta(hours=2))
        await self.world.hear(events.courses, [new])

    async def count(self, **states: int) -> None:
        async def done() -> bool:
            return await self.world.states() == states

        await until(done)

    def stopping(self, mail: int = -1) -> str:
        """The path of the one-click address in a mail, from the bytes that came over the wire."""
        found = re.search(rb"\r\nList-Unsubscribe: <http://localhost:8080(/[!-;=?-~]+)>\r\n", self.sink.raw[mail])
        assert found, self.sink.raw[mail][:1500]
        return found[1].decode()


@asynccontextmanager
async def people(servers: Servers, **changed: Any) -> AsyncIterator[People]:
    async with mail_server() as sink, notifier(servers, sink, issuer=ISSUER, **changed) as world:
        app, issuer = http.build(world.here, ROUTERS), Issuer()
        issuer.serve(app.state.keys)
        async with held_to_its_word(app) as asking:
            yield People(world, sink, asking, issuer)


@pytest.fixture
async def here(servers: Servers) -> AsyncIterator[People]:
    async with people(servers) as here:
        yield here


async def test_choices_are_read_and_written_by_their_own_person(here: People) -> None:
    assert (await here.asking.get(PLACE)).status_code == 401
    first = await here.get()
    assert first.status_code == 200
    assert first.json()["categories"] == dict.fromkeys(
        ("seat", "offer", "changes", "reminders", "news", "partner"), USUAL
    )
    assert first.json()["always"] == ["seat", "offer"]
    body = {
        "categories": {"changes": {"email": "daily"}, "news": {"email": "off", "inapp": "off"}},
        "quiet_hours": {"from": "22:30", "until": "06:00"},
    }
    made = await here.put(body, **{"if-match": first.headers["etag"], "idempotency-key": "one"})
    assert made.status_code == 200, made.text
    assert made.json()["categories"]["changes"] == {**USUAL, "email": "daily"}
    assert made.json()["categories"]["news"] == {**USUAL, "email": "off", "inapp": "off"}
    assert made.json()["quiet_hours"] == {"from": "22:30", "until": "06:00"}
    again = await here.put(body, **{"if-match": first.headers["etag"], "idempotency-key": "one"})
    assert (again.json(), again.headers["idempotency-replayed"]) == (made.json(), "true")
    seen = await here.get()
    assert (seen.json(), seen.headers["etag"]) == (made.json(), made.headers["etag"])
    assert (await here.get(**{"if-none-match": made.headers["etag"]})).status_code == 304
    stale = await here.put({}, **{"if-match": first.headers["etag"]})
    assert (stale.status_code, stale.json()["type"].rpartition("/")[2]) == (412, "precondition-failed")
    assert (await here.get("ola")).json() == first.json(), "another's are another's"
    whole = await here.put(seen.json())  # what was read can be sent
    assert whole.json() == made.json()
    assert (await here.put({"quiet_hours": None})).json()["quiet_hours"] is None
    usual = await here.put({})
    assert usual.json() == first.json()


@pytest.mark.parametrize(
    ("body", "field", "words"),
    [
        ({"categories": {"seat": {"email": "off"}}}, "categories.seat", "always told"),
        ({"categories": {"offer": {"inapp": "off"}}}, "categories.offer", "always told"),
        ({"categories": {"offer": {"email": "daily"}}}, "categories.offer", "always told"),
        ({"categories": {"news": {"sms": "at_once"}}}, "categories.news", "never told by SMS"),
        ({"categories": {"seat": {"sms": "daily"}}}, "categories.seat.sms", "at_once"),
        ({"categories": {"weather": {}}}, "categories.weather", "not a field"),
        ({"categories": {"news": {"email": "monthly"}}}, "categories.news.email", "at_once"),
        ({"categories": {"news": {"inapp": "daily"}}}, "categories.news.inapp", "at_once"),
        ({"quiet_hours": {"from": "25:00", "until": "06:00"}}, "quiet_hours.from", "pattern"),
        ({"quiet_hours": {"from": "06:00", "until": "06:00"}}, "quiet_hours", "must differ"),
        ({"language": "nb"}, "language", "not a field"),
    ],
)
async def test_what_cannot_be_chosen_is_refused_by_name(here: People, body: Any, field: str, words: str) -> None:
    refused = await here.put(body)
    assert refused.status_code == 422
    [error] = refused.json()["errors"]
    assert error["field"] == field
    assert words in error["detail"]
    assert await here.world.rows("SELECT FROM preferences") == []


async def test_what_was_turned_off_is_not_sent_and_seats_are_told(here: People) -> None:
    await here.put({"categories": {"changes": {"email": "off"}}})
    about = await here.seated()
    await here.seated("ola")
    async with here.world.sending():
        await here.count(sent=2)
        await here.course_changes(2)
        await here.count(sent=3, suppressed=1)
    assert here.sink.recipients().count("kari@example.no") == 1
    [row] = await here.world.rows("SELECT reason, learner_id, sequence FROM notices WHERE state = 'suppressed'")
    assert (row["reason"], row["learner_id"], row["sequence"]) == ("preference", about["learner_id"], None)
    assert {kind for kind, _ in await here.world.told()} == {"NoticeSent"}


async def test_choices_outlive_every_new_enrolment(here: People) -> None:
    """A person enrols again, with another address and language, and as another learner: the choice stays."""
    await here.put({"categories": {"changes": {"email": "off"}}})
    about = await here.seated()
    await here.world.contact_is_known(about["learner_id"], "kari@other.no", "en", Caller(ISSUER, "kari").key)
    await here.seated()
    await here.course_changes(2)
    async with here.world.sending():
        await here.count(sent=2, suppressed=2)
    assert (await here.get()).json()["categories"]["changes"]["email"] == "off"


async def test_one_click_stops_that_category_for_that_person(here: People) -> None:
    await here.seated(language="nn")
    await here.seated("ola")
    async with here.world.sending():
        await here.count(sent=2)
        assert not any(b"List-Unsubscribe" in raw for raw in here.sink.raw), "what nobody may miss cannot be stopped"
        await here.course_changes(2)
        await here.count(sent=4)
        mail = next(n for n, raw in enumerate(here.sink.raw) if b"To:" in raw and b"kari@" in raw and n >= 2)
        assert b"\r\nList-Unsubscribe-Post: List-Unsubscribe=One-Click\r\n" in here.sink.raw[mail]
        path = here.stopping(mail)
        text = here.sink.mails[mail].get_body(("plain",)).get_content()
        assert path in text
        for _ in range(2):  # a program that looks at mails opens what it finds
            page = await here.asking.get(path)
            assert (page.status_code, '<html lang="nn">' in page.text, page.text.count("<form")) == (200, True, 1)
            assert page.headers["referrer-policy"] == "no-referrer"
            assert "no-store" in page.headers["cache-control"]
            assert "form-action 'self'" in page.headers["content-security-policy"]
        assert await here.world.rows("SELECT FROM preferences") == []
        answers = [await here.asking.post(path, data={"List-Unsubscribe": "One-Click"}) for _ in range(2)]
        assert [one.status_code for one in answers] == [200, 200]
        assert "Du får ikkje fleire slike e-postar" in answers[0].text
        await here.course_changes(3)
        await here.count(sent=5, suppressed=1)
    assert here.sink.recipients()[-1] == "ola@example.no"
    assert (await here.get()).json()["categories"]["changes"] == {**USUAL, "email": "off"}
    assert (await here.get()).json()["categories"]["reminders"] == USUAL
    assert (await here.get("ola")).json()["categories"]["changes"] == USUAL


async def _waits_or_is_done(here: People, clicked: asyncio.Task[Any]) -> bool:
    waiting = await here.world.rows("SELECT FROM pg_locks WHERE locktype = 'advisory' AND NOT granted")
    return bool(waiting) or clicked.done()


async def test_a_click_waits_for_a_form_that_is_being_kept_and_is_not_lost_in_it(here: People) -> None:
    """Red control: without the lock it is kept between the form's look and its writing, which takes it away again."""
    who = Caller(ISSUER, "kari").key
    await here.seated()
    path = f"{unsubscribe.PLACE}/{Signer(PRIVATE).token('unsubscribe', Link(who, ('changes',), START))}"
    conn = await connect(here.world.settings, "operator")
    try:
        async with conn.transaction():
            await preferences.lock(conn, who)  # as a form's transaction begins
            clicked = asyncio.create_task(here.asking.post(path, data={"List-Unsubscribe": "One-Click"}))
            await until(functools.partial(_waits_or_is_done, here, clicked))
            assert not clicked.done()
            await preferences.forget(conn, who)
            await preferences.keep(conn, who, [preferences.Choice("reminders", "email", "daily")])
        assert (await clicked).status_code == 200
    finally:
        await conn.close()
    chosen = (await here.get()).json()["categories"]
    assert (chosen["changes"]["email"], chosen["reminders"]["email"]) == ("off", "daily")


async def test_the_page_undoes_what_it_did_as_it_was_before(here: People) -> None:
    await here.seated()
    await here.put({"categories": {"changes": {"email": "weekly"}}})
    link = Link(Caller(ISSUER, "kari").key, ("changes",), START + timedelta(days=900))
    path = f"{unsubscribe.PLACE}/{Signer(PRIVATE).token('unsubscribe', link)}"
    files = {"List-Unsubscribe": (None, "One-Click")}  # some programs send it as a form with parts
    assert (await here.asking.post(path, files=files)).status_code == 200
    stopped = await here.asking.post(path, files=files)
    found = re.search(r'action="([^"]+/undo)"', stopped.text)
    assert found
    assert (await here.asking.get(found[1])).status_code == 200
    assert (await here.get()).json()["categories"]["changes"]["email"] == "off"
    for _ in range(2):
        undone = await here.asking.post(found[1])
        assert (undone.status_code, "igjen" in undone.text) == (200, True)
    assert (await here.get()).json()["categories"]["changes"]["email"] == "weekly"


async def test_a_link_that_will_not_do_says_so_and_does_nothing(here: People) -> None:
    signer, key = Signer(PRIVATE), Caller(ISSUER, "kari").key
    await here.seated(language="en")
    good = Link(key, ("changes",), START + timedelta(days=900))
    old = Link(key, ("changes",), datetime.now(UTC) - timedelta(days=900))
    token = signer.token("unsubscribe", good)
    for path, status, words in (
        (f"/{token[:-2]}xx", 404, "Lenken virker ikke"),
        ("/x", 404, "Lenken virker ikke"),
        (f"/{signer.token('undo', good)}", 404, "Lenken virker ikke"),
        (f"/{token}/undo", 404, "Lenken virker ikke"),
        (f"/{'y' * 2000}", 404, "Lenken virker ikke"),
        (f"/{signer.token('unsubscribe', old)}", 410, "The link is too old"),
        (f"/{signer.token('undo', old)}/undo", 410, "The link is too old"),
    ):
        for answer in (
            await here.asking.get(unsubscribe.PLACE + path),
            await here.asking.post(unsubscribe.PLACE + path),
        ):
            assert (answer.status_code, words in answer.text, "<form" in answer.text) == (status, True, False)
    assert await here.world.rows("SELECT FROM preferences") == []


async def test_the_answer_does_not_tell_whether_there_is_such_a_person(here: People) -> None:
    await here.seated()
    until_then = START + timedelta(days=900)
    bodies = []
    for person in (Caller(ISSUER, "kari").key, "f" * 32, str(uuid.uuid4())):
        token = Signer(PRIVATE).token("unsubscribe", Link(person, ("news",), until_then))
        answer = await here.asking.post(f"{unsubscribe.PLACE}/{token}")
        bodies.append((answer.status_code, re.sub(r"/[\w-]+/undo", "", answer.text.replace(token, ""))))
    assert bodies[0] == bodies[1] == bodies[2]


async def test_who_had_no_log_in_yet_keeps_the_choice_when_it_comes(here: People) -> None:
    about = await here.seated(login=False)
    async with here.world.sending():
        await here.count(sent=1)
        await here.course_changes(2)
        await here.count(sent=2)
        assert (await here.asking.post(here.stopping())).status_code == 200
        await here.world.contact_is_known(about["learner_id"], "kari@example.no", "nb", Caller(ISSUER, "kari").key)
        await here.course_changes(3)
        await here.count(sent=2, suppressed=1)
    assert (await here.get()).json()["categories"]["changes"]["email"] == "off"


async def test_a_link_of_before_the_log_in_was_known_works_after_it(here: People) -> None:
    """Red control: with what the link says alone, the choice is kept for somebody whom nobody asks about any more."""
    about = await here.seated(login=False)
    async with here.world.sending():
        await here.count(sent=1)
        await here.course_changes(2)
        await here.count(sent=2)
        await here.world.contact_is_known(about["learner_id"], "kari@example.no", "nb", Caller(ISSUER, "kari").key)
        stopped = await here.asking.post(here.stopping())
        assert stopped.status_code == 200
        assert (await here.get()).json()["categories"]["changes"]["email"] == "off"
        await here.course_changes(3)
        await here.count(sent=2, suppressed=1)
    undo = re.search(r'action="(/[^"]+/undo)"', stopped.text)
    assert undo, stopped.text
    assert (await here.asking.post(undo[1])).status_code == 200
    assert (await here.get()).json()["categories"]["changes"]["email"] == "at_once"
