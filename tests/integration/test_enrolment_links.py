"""Offers as people meet them: by HTTP, by the links in a mail, in a partner's roster, and live."""

import asyncio
import csv
import io
import json
import uuid
from collections.abc import AsyncIterator
from typing import Any

import pytest

from contracts.catalogue import CourseChanged, OfferingCancelled
from contracts.envelope import decode
from kit import sealing
from kit.database import Connection
from services.enrolment import commands, offerings
from services.enrolment.commands import Act
from services.enrolment.store import courses
from tests.delivery import Servers, until
from tests.integration.test_enrolment_http import BASE, PRIVATE, World, world

pytestmark = pytest.mark.anyio


async def offered(here: World, *line: str, **rules: Any) -> tuple[uuid.UUID, list[Any]]:
    """An offering with one seat, which is offered to the first in line."""
    offering_id = await here.offering(online=1, rules=rules)
    first = await here.enrol(offering_id, "kari")
    made = [await here.enrol(offering_id, who) for who in line]
    await here.asking.post(f"{first.headers['location']}/withdraw", headers=here.signed("kari"))
    return offering_id, made


async def links(here: World) -> dict[str, str]:
    """The tokens of the newest offer, as only the notifier can read them."""
    async with here.database.reading() as conn:
        rows = await conn.fetch("SELECT payload FROM outbox ORDER BY id DESC")
    newest = next(event for event in (decode(row["payload"], []) for row in rows) if "SeatOffered." in event.type)
    return sealing.unseal(PRIVATE, newest.data["sealed"])


async def test_an_offer_is_accepted_or_declined_by_who_it_is_for(servers: Servers) -> None:
    async with world(servers) as here:
        _, [ola, per] = await offered(here, "ola", "per")
        at = ola.headers["location"]
        shown = (await here.asking.get(at, headers=here.signed("ola"))).json()
        assert shown["state"] == "offered"
        assert shown["expires_at"].endswith("Z")
        assert (await here.asking.post(f"{at}/accept", headers=here.signed("per"))).status_code == 404
        declined = await here.asking.post(f"{at}/decline", json={"stay": True}, headers=here.signed("ola", "key"))
        assert (declined.status_code, declined.json()["state"]) == (200, "queued")
        again = await here.asking.post(f"{at}/decline", json={"stay": True}, headers=here.signed("ola", "key"))
        assert again.json() == declined.json()
        refused = await here.asking.post(f"{at}/accept", headers=here.signed("ola"))
        assert (refused.status_code, refused.json()["type"].rpartition("/")[2]) == (409, "no-offer")
        other = per.headers["location"]
        taken = await here.asking.post(f"{other}/accept", headers=here.signed("per"))
        assert (taken.status_code, taken.json()["state"], taken.json()["place"]) == (200, "associated", "online")


@pytest.mark.parametrize("seen", [False, True], ids=["not-yet-seen-by-the-clock", "seen-by-the-clock"])
async def test_who_opens_a_link_too_late_is_told_that_it_is_too_late(servers: Servers, seen: bool) -> None:
    """And not that they have answered, whether the clock has come by or not: it mostly has."""
    async with world(servers) as here:
        await offered(here, "ola")
        token = (await links(here))["accept"]
        over = "expires_at = made_at" + (", ended_at = app_now(), outcome = 'lapsed'" if seen else "")
        async with here.database.reading() as conn:
            await conn.execute(f"UPDATE offers SET {over}")
        page = await here.asking.get(f"/tilbud/{token}/godta", headers={"accept-language": "nb"})
        assert (page.status_code, "Fristen er ute" in page.text) == (410, True)


async def test_a_link_shows_what_it_does_and_does_it_once(servers: Servers) -> None:
    async with world(servers) as here:
        offering_id, [ola] = await offered(here, "ola")
        token = (await links(here))["accept"]
        async with here.database.reading() as conn:
            course_id = await conn.fetchval("SELECT course_id FROM offerings WHERE id = $1", offering_id)
            await conn.execute("UPDATE offerings SET starts_at = '2030-02-01 17:00Z' WHERE id = $1", offering_id)
        title = {"nb": "Sveising", "nn": "Sveising på nynorsk"}
        said = CourseChanged(course_id=course_id, partner="torgar", code="BYG-1", version=1, title=title)
        await here.database.run(lambda conn: courses.keep(conn, [said]))
        for _ in range(3):  # a program that looks at mails opens what it finds
            page = await here.asking.get(f"/tilbud/{token}/godta", headers={"accept-language": "nn;q=0.9"})
            assert page.status_code == 200
            assert '<html lang="nn">' in page.text
            assert page.text.count("<form") == 1
            assert 'type="hidden"' in page.text
            assert '<strong lang="nn">Sveising på nynorsk</strong>' in page.text, "one may have more offers"
            assert "Startar fredag 1. februar 2030 kl. 18.00." in page.text
            assert page.headers["referrer-policy"] == "no-referrer"
            assert "no-store" in page.headers["cache-control"]
        assert (await here.asking.get(ola.headers["location"], headers=here.signed("ola"))).json()["state"] == "offered"
        done = await here.asking.post(f"/tilbud/{token}/godta", data={"act": "godta"})
        assert (done.status_code, "Plassen er din" in done.text) == (200, True)
        again = await here.asking.post(f"/tilbud/{token}/godta", data={"act": "godta"})
        assert (again.status_code, "<form" in again.text) == (410, False)
        assert '<strong lang="nb">Sveising</strong>' in again.text, "one may have had more offers"
        for told in (done, again):
            assert ('href="/min-side"' in main(told.text), 'href="/kurs"' in main(told.text)) == (True, True), (
                "a way on"
            )
        assert (await here.asking.get(f"/tilbud/{token}/godta")).status_code == 410
        shown = await here.asking.get(ola.headers["location"], headers=here.signed("ola"))
        assert shown.json()["state"] == "associated"
        seats = (await here.asking.get(f"{BASE}/offerings/{offering_id}")).json()["places"]
        assert seats[0]["taken"] == 1


@pytest.mark.parametrize(
    ("kind", "verb", "told"),
    [("accept", "godta", "Du har sagt ja til plassen"), ("decline", "avslaa", "Du har sagt nei til plassen")],
)
async def test_who_presses_twice_is_told_what_they_have_answered(
    servers: Servers, kind: str, verb: str, told: str
) -> None:
    """In the same moment, by the back button, or with the mail's other link: the answer that is shown is the last."""
    async with world(servers) as here:
        await offered(here, "ola")
        both = await links(here)
        address = f"/tilbud/{both[kind]}/{verb}"
        pressed = await asyncio.gather(*(here.asking.post(address, data={"act": verb}) for _ in range(2)))
        assert sorted(one.status_code for one in pressed) == [200, 410]
        second = next(one for one in pressed if one.status_code == 410)
        assert f"{told}</h1>" in main(second.text)
        for path in (f"{both['accept']}/godta", f"{both['decline']}/avslaa"):
            assert f"{told}</h1>" in main((await here.asking.get(f"/tilbud/{path}")).text)


@pytest.mark.parametrize(
    ("sent", "state", "told"), [({}, "cancelled", "ikke lenger i kø"), ({"stay": "1"}, "queued", "bakerst")]
)
async def test_who_says_no_by_the_link_chooses_whether_to_stay_in_line(
    servers: Servers, sent: dict[str, str], state: str, told: str
) -> None:
    """As on Min side: a polite no must not cost more than silence does."""
    async with world(servers) as here:
        _, [ola, _] = await offered(here, "ola", "per")
        address = f"/tilbud/{(await links(here))['decline']}/avslaa"
        asked = main((await here.asking.get(address)).text)
        assert ("ta meg ut av køen" in asked, "la meg stå bakerst" in asked) == (True, True)
        done = await here.asking.post(address, data={"act": "avslaa", **sent})
        assert (done.status_code, told in main(done.text)) == (200, True)
        shown = await here.asking.get(ola.headers["location"], headers=here.signed("ola"))
        assert shown.json()["state"] == state


@pytest.mark.parametrize(
    ("sent", "told", "state"),
    [({}, "du står ikke lenger i kø", "cancelled"), ({"stay": "1"}, "du har fått tilbudet på nytt", "offered")],
)
async def test_who_says_no_by_the_link_and_is_alone_in_line_is_told_of_no_next_one(
    servers: Servers, sent: dict[str, str], told: str, state: str
) -> None:
    """At the back of a line of nobody one is at its front, and the seat comes back at once."""
    async with world(servers) as here:
        _, [ola] = await offered(here, "ola")
        address = f"/tilbud/{(await links(here))['decline']}/avslaa"
        asked = main((await here.asking.get(address)).text)
        done = main((await here.asking.post(address, data={"act": "avslaa", **sent})).text)
        assert ("neste i køen" in asked + done, "bakerst." in done, told in done) == (False, False, True)
        shown = await here.asking.get(ola.headers["location"], headers=here.signed("ola"))
        assert shown.json()["state"] == state


def main(text: str) -> str:
    """What stands on a page between its head and its foot."""
    return text.partition("<main")[2].partition("</main>")[0]


async def test_a_link_answers_its_own_offer_and_not_one_that_takes_its_place_meanwhile(servers: Servers) -> None:
    async with world(servers) as here:
        _, [ola] = await offered(here, "ola")
        token, one = (await links(here))["accept"], ola.json()["enrolment_id"]
        decided, go = asyncio.Event(), asyncio.Event()

        async def stay(conn: Connection) -> None:
            act = Act("decline", uuid.UUID(one), lambda _: True, stay=True)
            await commands.decide(conn, [act], here.settings)  # nobody else is in line: it is offered anew
            decided.set()
            await go.wait()

        async def waits() -> Any:
            async with here.database.reading() as conn:
                return await conn.fetchval("SELECT count(*) FROM pg_locks WHERE NOT granted")

        staying = asyncio.create_task(here.database.run(stay))
        await decided.wait()
        clicking = asyncio.create_task(here.asking.post(f"/tilbud/{token}/godta"))
        await until(waits)
        go.set()
        await staying
        assert (await clicking).status_code == 410
        shown = await here.asking.get(ola.headers["location"], headers=here.signed("ola"))
        assert shown.json()["state"] == "offered"


async def test_a_link_is_for_one_act_only(servers: Servers) -> None:
    async with world(servers) as here:
        _, [ola, per] = await offered(here, "ola", "per")
        both = await links(here)
        for token, verb in (
            (both["accept"], "avslaa"),
            (both["decline"], "godta"),
            ("x" * 32, "godta"),
            ("y" * 400, "godta"),
            (both["accept"], "godta."),
        ):
            for answer in (
                await here.asking.get(f"/tilbud/{token}/{verb}"),
                await here.asking.post(f"/tilbud/{token}/{verb}"),
            ):
                assert (answer.status_code, "Lenken virker ikke" in answer.text) == (404, True)
        for cut in ("", both["accept"], f"{both['accept']}/", f"{both['accept']}/godta/"):  # where a mail broke it
            answer = await here.asking.get(f"/tilbud/{cut}")
            assert (answer.status_code, "Lenken virker ikke" in answer.text) == (404, True), cut
        told = await here.asking.post(f"/tilbud/{both['decline']}/avslaa", headers={"accept-language": "en"})
        assert (told.status_code, "Thank you" in told.text) == (200, True)
        assert (await here.asking.post(f"/tilbud/{both['accept']}/godta")).status_code == 410, "the offer has ended"
        shown = [
            await here.asking.get(one.headers["location"], headers=here.signed(who))
            for one, who in ((ola, "ola"), (per, "per"))
        ]
        assert [one.json()["state"] for one in shown] == ["cancelled", "offered"]


async def test_a_partner_lets_in_and_turns_away_its_own(servers: Servers) -> None:
    async with world(servers) as here:
        offering_id = await here.offering(online=1, rules={"requires_approval": True})
        made = [await here.enrol(offering_id, who, name=name) for who, name in (("kari", "Kari"), ("ola", "=cmd|Ola"))]
        assert [one.json()["state"] for one in made] == ["pending", "pending"]
        torgar, other = here.partner("torgar"), here.partner("mosjoen")
        at = [one.headers["location"] for one in made]
        for headers in (other, here.signed("kari")):
            assert (await here.asking.post(f"{at[0]}/approve", headers=headers)).status_code == 404
            assert (await here.asking.get(f"{BASE}/offerings/{offering_id}/roster", headers=headers)).status_code == 403
        let_in = await here.asking.post(f"{at[0]}/approve", headers=torgar)
        assert (let_in.status_code, let_in.json()["state"]) == (200, "associated")
        assert (await here.asking.post(f"{at[1]}/deny", json={"reason": ""}, headers=torgar)).status_code == 422
        denied = await here.asking.post(f"{at[1]}/deny", json={"reason": "For ansatte."}, headers=torgar)
        assert (denied.json()["state"], denied.json()["reason"]) == ("denied", "For ansatte.")
        late = await here.asking.post(f"{at[1]}/approve", headers=torgar)
        assert (late.status_code, late.json()["type"].rpartition("/")[2]) == (409, "not-pending")

        roster = await here.asking.get(f"{BASE}/offerings/{offering_id}/roster?limit=1", headers=torgar)
        assert [row["name"] for row in roster.json()["items"]] == ["Kari"]
        address = roster.headers["link"].partition(";")[0].strip("<>")
        rest = await here.asking.get(address, headers=torgar)
        assert [row["state"] for row in rest.json()["items"]] == ["denied"]
        sheet = await here.asking.get(f"{BASE}/offerings/{offering_id}/roster?format=csv", headers=torgar)
        rows = list(csv.DictReader(io.StringIO(sheet.content.decode("utf-8-sig")), delimiter=";"))
        assert [row["name"] for row in rows] == ["Kari", "'=cmd|Ola"]
        for accepted, kind in (
            ("text/csv", "text/csv"),
            ("text/csv, */*;q=0.5", "text/csv"),
            ("application/json, text/csv;q=0.5", "application/json"),
            ("*/*", "application/json"),
        ):
            got = await here.asking.get(
                f"{BASE}/offerings/{offering_id}/roster?limit=1", headers=torgar | {"accept": accepted}
            )
            assert got.headers["content-type"].partition(";")[0] == kind, accepted
            assert ("format=csv" in got.headers["link"]) == (kind == "text/csv"), "the rest in the same form"
        asked = {"accept": "text/csv"}
        json_all_the_same = await here.asking.get(
            f"{BASE}/offerings/{offering_id}/roster?format=json", headers=torgar | asked
        )
        assert json_all_the_same.json()["items"]


async def test_who_changes_things_too_often_is_told_to_wait(servers: Servers) -> None:
    async with world(servers, requests_per_minute=3) as here:
        offering_id = await here.offering(online=5)
        answers = [await here.enrol(offering_id, "kari") for _ in range(6)]
        codes = [one.status_code for one in answers]
        assert codes[:3] == [201, 409, 409]
        assert 429 in codes  # a minute may end on the way
        waiting = next(one for one in answers if one.status_code == 429)
        assert 1 <= int(waiting.headers["retry-after"]) <= 61
        assert (await here.enrol(offering_id, "ola")).status_code == 201, "others are not in it"


class Listening:
    """One who listens: the events that have come."""

    def __init__(self, hub: Any, offering_id: uuid.UUID, last_id: str | None = None) -> None:
        self.events: list[tuple[str, Any]] = []
        self._hub, self._offering_id, self._last_id = hub, offering_id, last_id
        self.task = asyncio.create_task(self._listen())

    async def _listen(self) -> None:
        stream: AsyncIterator[bytes] = await self._hub.listen(self._offering_id, self._last_id)
        async for text in stream:
            fields = dict(line.partition(": ")[::2] for line in text.decode().splitlines() if ": " in line)
            if fields.get("event") == "seats":
                self.events.append((fields["id"], json.loads(fields["data"])))


async def test_thousands_who_listen_are_told_of_each_change_from_one_look(servers: Servers) -> None:
    async with world(servers) as here:
        offering_id = await here.offering(online=2)
        hub = here.hub()
        many = [Listening(hub, offering_id) for _ in range(1_000)]
        await until(lambda: asyncio.sleep(0.01, all(one.events for one in many)))
        await here.enrol(offering_id, "kari")
        await until(lambda: asyncio.sleep(0.01, all(len(one.events) == 2 for one in many)))
        assert [place["taken"] for place in many[0].events[1][1]] == [1]
        name = many[0].events[1][0]
        for one in many:
            one.task.cancel()
        # Who comes back with the id of what they saw is told nothing until it changes.
        back = Listening(hub, offering_id, name)
        old = Listening(hub, offering_id, many[0].events[0][0])
        await until(lambda: asyncio.sleep(0.01, bool(old.events)))
        assert (old.events[0][0], back.events) == (name, [])
        await here.enrol(offering_id, "ola")
        await until(lambda: asyncio.sleep(0.01, bool(back.events)))
        assert [place["free"] for place in back.events[0][1]] == [0]
        here.running.stopping.set()
        await asyncio.wait_for(asyncio.gather(back.task, old.task), 5)  # a stream ends when the process is to stop


@pytest.mark.parametrize("over", ["cancelled", "begun"])
async def test_who_listens_is_told_when_nobody_gets_a_seat_any_more(servers: Servers, over: str) -> None:
    """Whose page is open sees free seats else until they load it anew: none was given back."""
    async with world(servers) as here:
        offering_id = await here.offering(online=2)
        page = Listening(here.hub(), offering_id)
        await until(lambda: asyncio.sleep(0.01, page.events))
        said = OfferingCancelled(offering_id=offering_id, course_id=uuid.uuid4(), partner="torgar", version=9)
        if over == "cancelled":
            await here.database.run(lambda conn: offerings.cancel(conn, said, here.settings))
        else:
            await here.database.run(lambda conn: conn.execute("UPDATE offerings SET starts_at = app_now()"))
        await until(lambda: asyncio.sleep(0.01, len(page.events) == 2), 5)
        assert page.events[0][1] == page.events[1][1], "the seats are as they were"
        part = await here.asking.get(f"/plasser/{offering_id}")
        assert ("avlyst" if over == "cancelled" else "har begynt") in part.text
        here.running.stopping.set()
        await asyncio.wait_for(page.task, 5)


async def test_nobody_listens_to_what_is_not_there(servers: Servers) -> None:
    async with world(servers) as here:
        assert (await here.asking.get(f"{BASE}/offerings/{uuid.uuid4()}/live")).status_code == 404
