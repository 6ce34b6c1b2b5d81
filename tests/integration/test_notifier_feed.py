"""What a person sees when they are logged in: their own notices in their own language, and at once when one comes."""

import asyncio
import json
import uuid
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from httpx2 import AsyncClient, Timeout

from contracts.catalogue import PartnerJoined
from contracts.enrolment import ContactGiven, LearnerEnrolled, LearnerQueued, SeatOffered
from kit import sealing
from kit.auth import Caller
from services.notifier import events, live
from services.notifier.live import Hub
from services.notifier.store import outgoing
from tests.calling import Calling, calling_notifier, listening_hooks
from tests.delivery import Servers, until
from tests.notifying import PRIVATE, PUBLIC
from tests.web import ISSUER, served

pytestmark = pytest.mark.anyio

NOTICES = "/api/notifier/v1/me/notices"


@pytest.fixture
async def world(servers: Servers) -> AsyncIterator[Calling]:
    async with listening_hooks() as hooks, calling_notifier(servers, hooks) as world:
        await world.course_is_known()
        yield world


def as_person(world: Calling, who: str) -> dict[str, str]:
    return {"authorization": f"Bearer {world.issuer.token(sub=who)}"}


async def person(world: Calling, who: str, language: str = "nb") -> uuid.UUID:
    """A learner of this log-in, as enrolment tells of them."""
    learner = uuid.uuid4()
    letter = {"email": f"{who}@example.no", "name": who.title(), "language": language}
    sealed = sealing.seal(PUBLIC, letter | {"login": Caller(issuer=ISSUER, subject=who).key})
    await world.hear(world.contacts, [ContactGiven(learner_id=learner, sealed=sealed)])
    return learner


async def asked(world: Calling, who: str, path: str = "") -> Any:
    answer = await world.asking.get(NOTICES + path, headers=as_person(world, who))
    assert answer.status_code == 200, answer.text
    return answer


async def subjects(world: Calling, who: str) -> list[str]:
    return [one["subject"] for one in (await asked(world, who)).json()["items"]]


async def test_each_sees_their_own_in_their_own_language_newest_first(world: Calling) -> None:
    kari, ola = await person(world, "kari"), await person(world, "ola", "en")
    about = world.about(kari)
    await world.hear(events.enrolments, [LearnerQueued(**about, places=["mosjoen"], place_in_line=2)])
    await world.hear(events.enrolments, [LearnerEnrolled(**about, place="mosjoen", from_queue=True)])
    await world.hear(events.enrolments, [LearnerEnrolled(**world.about(ola), place="mosjoen")])
    body = (await asked(world, "kari")).json()
    assert body["unread"] == 2
    assert [one["template"] for one in body["items"]] == ["seat_from_line", "queued"]
    assert [one["language"] for one in body["items"]] == ["nb", "nb"]
    assert body["items"][0]["category"] == "seat"
    assert body["items"][0]["about"] == str(about["enrolment_id"])
    assert "torsdag 14. januar 2049 kl. 18.00" in body["items"][0]["text"]
    assert "e-post" not in body["items"][0]["text"]
    assert await subjects(world, "ola") == ["You have a seat on Leadership"]
    assert await subjects(world, "stranger") == []


@pytest.mark.parametrize(
    ("language", "asked_of", "named"),
    [
        ("nb", "Spørsmål om kurset? Spør Torgar: post@torgar.example", "Arrangør: Torgar"),
        ("nn", "Spørsmål om kurset? Spør Torgar: post@torgar.example", "Arrangør: Torgar"),
        ("en", "Questions about the course? Ask Torgar: post@torgar.example", "Organiser: Torgar"),
    ],
)
async def test_a_notice_ends_with_whom_to_ask_as_its_mail_does(
    world: Calling, language: str, asked_of: str, named: str
) -> None:
    """Red control: it stands at the end of the mail alone, and who reads here asks nobody."""
    await world.hear(
        events.enrolments, [LearnerEnrolled(**world.about(await person(world, "kari", language)), place="online")]
    )

    partners = events.partner_listeners(PRIVATE)

    async def last() -> str:
        [notice] = (await asked(world, "kari")).json()["items"]
        return str(notice["text"].splitlines()[-1])

    assert await last() == "Kursnett", "nobody has said who holds the course"
    for version, contact, line in ((1, "post@torgar.example", asked_of), (2, None, named)):
        partner = PartnerJoined(partner="torgar", name="Torgar", contact=contact, arenas=["online"], version=version)
        await world.hear(partners, [partner])
        assert await last() == line
    [notice] = (await asked(world, "kari")).json()["items"]
    assert "\n\n\n" not in notice["text"]


async def test_pages_follow_each_other_and_each_notice_is_on_one(world: Calling) -> None:
    kari = await person(world, "kari")
    for _ in range(5):
        await world.hear(events.enrolments, [LearnerEnrolled(**world.about(kari), place="mosjoen")])
    seen, path = [], "?limit=2"
    while path:
        answer = await asked(world, "kari", path)
        seen += [one["id"] for one in answer.json()["items"]]
        assert answer.json()["unread"] == 5
        path = answer.headers.get("link", "").partition(">")[0].partition("notices")[2]
    assert len(seen) == len(set(seen)) == 5
    assert seen == sorted(seen, reverse=True)


async def test_read_is_noted_for_ones_own_notice_only(world: Calling) -> None:
    kari = await person(world, "kari")
    await person(world, "ola")
    await world.hear(events.enrolments, [LearnerEnrolled(**world.about(kari), place="mosjoen")])
    [notice] = (await asked(world, "kari")).json()["items"]
    address = f"{NOTICES}/{notice['id']}/read"
    for who in ("ola", "stranger"):  # whoever has the id of another's notice has nothing
        refused = await world.asking.post(address, headers=as_person(world, who))
        assert refused.status_code == 404
    assert (await world.asking.post(address)).status_code == 401
    assert (await asked(world, "kari")).json()["unread"] == 1
    for _ in range(2):
        assert (await world.asking.post(address, headers=as_person(world, "kari"))).status_code == 204
    body = (await asked(world, "kari")).json()
    assert body["unread"] == 0
    assert body["items"][0]["read_at"] is not None


@pytest.mark.parametrize("before", [None, "settling"])
async def test_a_notice_stays_while_its_mail_waits_for_a_turn(world: Calling, before: str | None) -> None:
    """Red control: it goes from the page, and from the count, as often as its recipient's mail server rests."""
    kari = await person(world, "kari")
    await world.hear(events.enrolments, [LearnerEnrolled(**world.about(kari), place="mosjoen")])
    await world.rows("UPDATE notices SET reason = $1", before)
    [mail] = await world.here.database.run(lambda conn: outgoing.claim(conn, 5, "x.example", ""))
    assert len(await subjects(world, "kari")) == 1
    await world.here.database.run(lambda conn: outgoing.put_back(conn, [mail], [60.0]))
    assert len(await subjects(world, "kari")) == 1


async def test_what_is_not_known_yet_is_not_shown(world: Calling) -> None:
    kari = await person(world, "kari")
    await world.hear(events.enrolments, [LearnerEnrolled(**world.about(kari), place="mosjoen")])
    assert len(await subjects(world, "kari")) == 1
    await world.rows("UPDATE courses SET course_id = uuidv4()")
    assert await subjects(world, "kari") == []


async def test_what_a_person_has_turned_off_in_the_feed_is_not_shown_there(world: Calling) -> None:
    for who in ("kari", "ola"):
        await world.hear(events.enrolments, [LearnerEnrolled(**world.about(await person(world, who)), place="mosjoen")])
    await world.rows("UPDATE notices SET template = 'reminder', facts = '{\"days\": 1}'")
    off = {"categories": {"reminders": {"inapp": "off"}}}
    answer = await world.asking.put("/api/notifier/v1/me/preferences", json=off, headers=as_person(world, "kari"))
    assert answer.status_code == 200, answer.text
    body = (await asked(world, "kari")).json()
    assert (body["items"], body["unread"]) == ([], 0)
    assert (await asked(world, "ola")).json()["unread"] == 1


async def test_an_offer_is_shown_without_the_links_that_act_for_whoever_has_them(world: Calling) -> None:
    kari = await person(world, "kari")
    sealed = sealing.seal(PUBLIC, {"accept": "SECRETYES", "decline": "SECRETNO"})
    in_a_day = datetime.now(UTC) + timedelta(days=1)
    offer: dict[str, Any] = {"offer_id": uuid.uuid4(), "place": "mosjoen", "expires_at": in_a_day, "on_lapse": "leave"}
    await world.hear(events.enrolments, [SeatOffered(**world.about(kari), **offer, sealed=sealed)])
    answer = await asked(world, "kari")
    assert "Svar innen" in answer.json()["items"][0]["text"]
    assert "SECRET" not in answer.text
    assert "tilbud/" not in answer.text


@asynccontextmanager
async def reached(world: Calling, hub: Hub | None = None) -> AsyncIterator[AsyncClient]:
    """The service behind a socket, as a browser reaches it."""
    world.app.state.hub = hub or Hub(world.here)
    world.here.stopping.clear()
    async with served(world.app) as address, AsyncClient(base_url=address, timeout=Timeout(10)) as asking:
        yield asking
        world.here.stopping.set()


@asynccontextmanager
async def listening(world: Calling, asking: AsyncClient, who: str, **headers: str) -> AsyncIterator[Any]:
    known = {name.replace("_", "-"): value for name, value in headers.items()} | as_person(world, who)
    async with asking.stream("GET", f"{NOTICES}/live", headers=known) as answer:
        assert answer.status_code == 200
        assert answer.headers["content-type"].startswith("text/event-stream")
        assert answer.headers["x-accel-buffering"] == "no"
        yield told(answer.aiter_lines())


async def told(lines: AsyncIterator[str]) -> AsyncIterator[tuple[str, int]]:
    """(id, unread) of each event."""
    fields: dict[str, str] = {}
    async for line in lines:
        name, _, value = line.partition(": ")
        fields[name] = value
        if not line and fields.get("event") == "notices":
            yield fields["id"], json.loads(fields["data"])["unread"]
            fields = {}


async def test_who_listens_hears_of_a_new_notice_and_of_one_that_is_read_and_goes_on_from_there(world: Calling) -> None:
    kari = await person(world, "kari")
    await person(world, "ola")
    async with reached(world) as asking, asyncio.timeout(20):
        async with listening(world, asking, "kari") as one, listening(world, asking, "ola") as other:
            assert (await anext(one))[1] == (await anext(other))[1] == 0
            await world.hear(events.enrolments, [LearnerEnrolled(**world.about(kari), place="mosjoen")])
            last, unread = await anext(one)
            assert unread == 1
            [notice] = (await asked(world, "kari")).json()["items"]
        async with listening(world, asking, "kari", last_event_id=last) as one:
            await world.asking.post(f"{NOTICES}/{notice['id']}/read", headers=as_person(world, "kari"))
            assert (await anext(one))[1] == 0  # what was seen before is not told again
            assert (await world.asking.get(f"{NOTICES}/live")).status_code == 401


async def test_many_who_listen_cost_one_query(world: Calling, monkeypatch: pytest.MonkeyPatch) -> None:
    looks: list[int] = []
    first = live._look

    async def look(database: Any, logins: list[str]) -> Any:
        looks.append(len(logins))
        return await first(database, logins)

    monkeypatch.setattr(live, "_look", look)
    learners = [await person(world, f"p{number}") for number in range(8)]
    async with reached(world) as asking, asyncio.timeout(30):
        async with AsyncExitStack() as opened:
            streams = [await opened.enter_async_context(listening(world, asking, f"p{number}")) for number in range(8)]
            for one in streams:
                await anext(one)
            before = len(looks)
            await world.hear(
                events.enrolments, [LearnerEnrolled(**world.about(one), place="mosjoen") for one in learners]
            )
            for one in streams:
                assert (await anext(one))[1] == 1
            assert set(looks[before:]) == {8}

        async def nobody_listens() -> bool:
            return not world.app.state.hub._watched

        await until(nobody_listens)


@pytest.mark.parametrize("reason", ["settling", "told_with_later", "changed_back"])
async def test_what_another_notice_tells_is_not_shown_beside_it(world: Calling, reason: str) -> None:
    kari = await person(world, "kari")
    await world.hear(events.enrolments, [LearnerEnrolled(**world.about(kari), place="mosjoen")])
    assert len(await subjects(world, "kari")) == 1
    await world.rows("UPDATE notices SET state = 'held', reason = $1", reason)
    assert await subjects(world, "kari") == []


async def test_a_digest_is_for_mail_and_repeats_nothing_here(world: Calling) -> None:
    kari = await person(world, "kari")
    await world.hear(events.enrolments, [LearnerEnrolled(**world.about(kari), place="mosjoen")])
    await world.rows(
        """
        INSERT INTO notices (event_id, learner_id, offering_id, about, template, channel)
        SELECT 'a-digest', learner_id, offering_id, about, 'digest', channel FROM notices
        """
    )
    assert len(await subjects(world, "kari")) == 1
