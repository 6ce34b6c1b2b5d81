"""From 12 hours before the start nothing is offered: a free seat is whose who asks first, also of those in line."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from contracts.envelope import decode
from kit import sealing
from kit.problems import Problem
from services.enrolment.commands import Enrol, decide
from tests.delivery import Servers
from tests.integration.test_enrolment_http import PRIVATE
from tests.integration.test_enrolment_pages import FORM, open_pages, own, person
from tests.seats import World, world

pytestmark = pytest.mark.anyio


async def soon(here: Any) -> None:
    """It is so late that nothing is offered any more."""
    await here.database.run(
        lambda conn: conn.execute("UPDATE offerings SET starts_at = app_now() + interval '2 hours'")
    )


async def freed(here: World, *arenas: str, rules: dict[str, Any] | None = None, **places: Any) -> Any:
    """(an offering that begins soon, one in line for these), where each place has a seat that came free too late."""
    offering_id = await here.scheduled(rules=rules, **places)
    seated = [await here.enrol(offering_id, f"at-{arena}", arena.replace("_", "-")) for arena in places]
    ola = await here.enrol(offering_id, "ola", *arenas)
    assert ola.state == "queued"
    await soon(here)
    for one in seated:
        await here.act("withdraw", one)
    assert await here.stands(ola) == [("queued", None)]
    return offering_id, ola


async def test_who_stands_in_line_gets_the_open_seat_that_they_ask_for(servers: Servers) -> None:
    async with world(servers) as here:
        offering_id, ola = await freed(here, "mosjoen", "online", mosjoen=1, online=1)
        got = await here.enrol(offering_id, "ola", "online", sealed="a letter")
        assert (got.id, got.state, got.place) == (ola.id, "associated", "online"), "not where they asked at first"
        assert got.waiting_for == ()
        assert await here.now(ola) == got
        assert (await here.kinds())[-2:] == ["ContactGiven", "LearnerEnrolled"], "the newest address is the one to use"


async def test_who_stands_in_line_may_take_an_open_seat_elsewhere(servers: Servers) -> None:
    async with world(servers) as here:
        offering_id, ola = await freed(here, "mosjoen", mosjoen=1, online=1)
        got = await here.enrol(offering_id, "ola", "online", "mosjoen")
        assert (got.id, got.place, got.choices) == (ola.id, "online", ("online", "mosjoen"))
        assert {place.queued for place in (await here.places(offering_id)).values()} == {0}


async def test_an_open_seat_is_taken_after_the_time_of_enrolment_by_who_asked_in_it(servers: Servers) -> None:
    """Else the seat would be nobody's, while somebody waits for it."""
    async with world(servers) as here:
        now = datetime.now(UTC)
        rules = {"periods": [{"opens_at": now - timedelta(days=1), "closes_at": now + timedelta(hours=1)}]}
        offering_id, _ = await freed(here, "online", online=1, rules=rules)
        async with here.later(hours=1.5) as then:
            with pytest.raises(Problem) as refused:
                await then.enrol(offering_id, "per")
            assert refused.value.extensions["reason"] == "over"
            assert (await then.enrol(offering_id, "ola")).state == "associated"


async def test_who_asks_after_one_in_line_has_taken_the_seat_is_told_the_right_place(servers: Servers) -> None:
    async with world(servers) as here:
        offering_id, _ = await freed(here, "online", online=1)
        ola, per = await here.decided([Enrol(offering_id, ("issuer", who), ("online",), who) for who in ("ola", "per")])
        assert (ola.state, per.state) == ("associated", "queued")
        assert per.place_in_line == (await here.now(per)).place_in_line == 1
        offers = [data["offers"] for kind, data in await here.said() if kind == "LearnerQueued"]
        assert offers == [True, False], "who comes so late is promised no offer"


async def test_whose_offer_lapses_as_the_last_is_promised_no_other(servers: Servers) -> None:
    async with world(servers) as here:
        offering_id = await here.scheduled(rules={"on_lapse": "back_of_queue"}, online=1)
        kari = await here.enrol(offering_id, "kari")
        ola = await here.enrol(offering_id, "ola")
        await here.database.run(
            lambda conn: conn.execute("UPDATE offerings SET starts_at = app_now() + interval '14 hours'")
        )
        await here.act("withdraw", kari)
        async with here.later(hours=2.1) as then:
            await then.tick()
            assert await then.stands(ola) == [("queued", None)]
        [lapsed] = [data for kind, data in await here.said() if kind == "SeatOfferLapsed"]
        assert (lapsed["in_line"], lapsed["offers"]) == (True, False)


@pytest.mark.parametrize("choice", [None, "leave"])
async def test_whose_last_offer_lapses_in_the_night_may_have_the_seat_in_the_morning(
    servers: Servers, choice: str | None
) -> None:
    """They were first in line: thrown out after the time of enrolment, they alone could not ask for it."""
    async with world(servers) as here:
        now = datetime.now(UTC)
        periods = [{"opens_at": now - timedelta(days=1), "closes_at": now + timedelta(minutes=30)}]
        offering_id = await here.scheduled(rules={"on_lapse": "leave", "periods": periods}, online=1)
        kari = await here.enrol(offering_id, "kari")
        ola = await here.enrol(offering_id, "ola", on_lapse=choice)
        await here.enrol(offering_id, "per")
        await here.database.run(
            lambda conn: conn.execute("UPDATE offerings SET starts_at = app_now() + interval '14 hours'")
        )
        await here.act("withdraw", kari)
        async with here.later(hours=2.1) as then:
            await then.tick()
            assert await then.stands(ola) == [("queued", None)]
            assert (await then.enrol(offering_id, "ola")).state == "associated"
        [offered] = [data for kind, data in await here.said() if kind == "SeatOffered"]
        assert offered["on_lapse"] == "back_of_queue", "what the mail says of it"
        [lapsed] = [data for kind, data in await here.said() if kind == "SeatOfferLapsed"]
        assert (lapsed["in_line"], lapsed["offers"]) == (True, False)


async def test_the_page_of_who_has_the_last_offer_says_that_they_stay_in_line(servers: Servers) -> None:
    async with open_pages(servers) as here:
        offering_id = await here.offering(online=1)
        kari, ola = person(here, "kari"), person(here, "ola")
        await kari.enrol(offering_id)
        await ola.enrol(offering_id)
        begins = "UPDATE offerings SET starts_at = app_now() + interval '{} hours'"
        await here.database.run(lambda conn: conn.execute(begins.format(14)))
        await kari.send(f"{own(kari)}/meld-av", **kari.hidden)
        await ola.go(own(ola))
        assert ("du stiller bakerst i køen" in ola.words, "du går ut av køen" in ola.words) == (True, False)
        await here.database.run(lambda conn: conn.execute(begins.format(72)))
        await ola.go(own(ola))
        assert ("du stiller bakerst i køen" in ola.words, "du går ut av køen" in ola.words) == (False, True)


async def test_one_who_asks_twice_in_one_moment_breaks_nobodys_batch(servers: Servers) -> None:
    """In line by the first, they would take the seat by the second: each of a batch pays for one that breaks it."""
    async with world(servers) as here:
        offering_id = await here.scheduled(mosjoen=1, online=1)
        await here.enrol(offering_id, "kari", "mosjoen")
        await soon(here)
        asked = [Enrol(offering_id, ("issuer", "ola"), (place,), "Ola") for place in ("mosjoen", "online")]
        found = await here.database.run(lambda conn: decide(conn, asked, here.settings))
        assert [getattr(one, "state", None) or getattr(one, "slug", None) for one in found] == [
            "queued",
            "already-enrolled",
        ]
        assert await here.states(offering_id) == {"associated": 1, "queued": 1}


async def test_the_page_of_who_stands_in_line_says_that_seats_are_open_and_leads_there(servers: Servers) -> None:
    async with open_pages(servers) as here:
        offering_id = await here.offering(online=1, mosjoen=1)
        for who, place in (("kari", "online"), ("liv", "mosjoen")):
            await person(here, who).enrol(offering_id, place1=place)
        ola = person(here, "ola")
        await ola.enrol(offering_id, name="Ola")
        mine = own(ola)
        for address in (mine, "/min-side", f"/delta/{offering_id}"):
            await ola.go(address)
            assert "får du tilbud om plassen på e-post" in ola.words, "the control"
        await soon(here)
        for address in (mine, f"{mine}/tilstand", "/min-side", f"/delta/{offering_id}"):
            await ola.go(address)
            assert "får du tilbud" not in ola.words, "nothing is offered any more"
            assert "en plass som blir ledig, går til den som spør først" in ola.words
            assert address.startswith("/delta") or f'href="/delta/{offering_id}"' in ola.text
        await here.database.run(lambda conn: conn.execute("UPDATE offerings SET starts_at = app_now()"))
        await ola.go(mine)
        assert "Kurset har begynt" in ola.words
        assert (f'href="/delta/{offering_id}"' in ola.text, "får du tilbud" in ola.words) == (False, False)


async def test_the_form_of_who_stands_in_line_shows_what_they_asked_and_takes_a_seat_anywhere(
    servers: Servers,
) -> None:
    async with open_pages(servers) as here:
        now = datetime.now(UTC)
        period = {"group": "ansatte", "opens_at": (now - timedelta(days=1)).isoformat()}
        period |= {"closes_at": (now + timedelta(days=1)).isoformat()}
        offering_id = await here.offering(online=1, mosjoen=1, rules={"periods": [period]})
        kari, ola = person(here, "kari"), person(here, "ola")
        await kari.enrol(offering_id, place1="mosjoen", group="ansatte")
        await ola.enrol(offering_id, place1="mosjoen", name="Ola", group="ansatte")
        await soon(here)
        await here.database.run(
            lambda conn: conn.execute(
                "UPDATE offerings SET rules = jsonb_set(rules, '{periods,0,closes_at}', to_jsonb(app_now()))"
            )
        )
        await ola.go(f"/delta/{offering_id}")
        assert "Du står i kø, og nå er det en ledig plass." in ola.words
        assert "bare åpen for" not in ola.words
        assert 'value="Ola"' in ola.text
        assert '<option value="mosjoen" selected>' in ola.text
        await ola.send(f"/delta/{offering_id}", **FORM | {"email": "ola@example.no", "place1": "mosjoen"})
        assert (ola.status, "Det er ingen ledig plass der nå." in ola.words) == (409, True), (
            "the form as it stood there"
        )
        assert 'value="ola@example.no"' in ola.text
        await ola.send(f"/delta/{offering_id}", **FORM | {"email": "ola@example.no"})
        assert "Du har plass. Sted: På nett." in ola.words
        async with here.database.reading() as conn:
            sent = await conn.fetch("SELECT payload FROM outbox WHERE topic = 'enrolment.contacts' ORDER BY id")
        letters = [sealing.unseal(PRIVATE, decode(row["payload"], []).data["sealed"]) for row in sent]
        assert [one["email"] for one in letters[-2:]] == ["kari@example.no", "ola@example.no"]


async def test_nobody_is_promised_to_be_moved_or_let_in_again_when_that_is_over(servers: Servers) -> None:
    async with open_pages(servers) as here:
        offering_id = await here.offering(online=1, mosjoen=1)
        await person(here, "kari").enrol(offering_id, place1="mosjoen")
        ola, per = person(here, "ola"), person(here, "per")
        await ola.enrol(offering_id, place1="mosjoen", place2="online")
        await per.enrol(offering_id)
        mine, waiting = own(ola), own(per)
        assert ("flytter vi deg dit" in ola.words, "I kø" in per.words) == (True, True), "the control"
        await soon(here)
        await ola.go(mine)
        assert ("Du har plass." in ola.words, "flytter vi deg dit" in ola.words) == (True, False)
        await ola.go(f"{mine}/meld-av")
        assert "må du melde deg på igjen" in ola.words
        await here.database.run(lambda conn: conn.execute("UPDATE offerings SET starts_at = app_now()"))
        for who, address in ((ola, mine), (per, waiting)):
            await who.go(f"{address}/meld-av")
            assert "Kurset har begynt, så du kan ikke melde deg på igjen." in who.words
            assert not any(said in who.words for said in ("må du melde deg på igjen", "Melder du deg på igjen"))
