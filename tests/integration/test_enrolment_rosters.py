"""The partner's page when many wait: several let in or turned away at once, and a file that an office can read."""

import csv
import io
import re
import uuid
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from httpx2 import Response

from contracts.catalogue import OfferingChanged
from contracts.fields import Place
from services.enrolment import offerings, partners, roster
from services.enrolment.store import enrolments
from tests.delivery import Servers
from tests.integration.test_enrolment_http import World
from tests.integration.test_enrolment_pages import Known, open_pages, own, person, rows

pytestmark = pytest.mark.anyio

APPROVED = {"requires_approval": True}


async def asking(here: World, offering_id: uuid.UUID, *names: str) -> list[str]:
    """The ids of the enrolments of these, who wait for approval."""
    people = [person(here, name) for name in names]
    for one, name in zip(people, names, strict=True):
        await one.enrol(offering_id, name=name)
    return [own(one)[-36:] for one in people]


async def states(here: World, offering_id: uuid.UUID) -> list[str]:
    found = await rows(here, "SELECT state FROM enrolments WHERE offering_id = $1 ORDER BY id", offering_id)
    return [row["state"] for row in found]


async def decided(tor: Known, offering_id: uuid.UUID, what: str, *who: str, **fields: Any) -> Response:
    """The form for several, with the hidden fields of the page."""
    await tor.go(f"/deltakere/{offering_id}")
    return await tor.go(f"/deltakere/{offering_id}/flere", {**tor.hidden, "what": what, "who": list(who), **fields})  # type: ignore[dict-item]


async def test_several_are_let_in_at_once_in_the_order_in_which_they_asked(servers: Servers) -> None:
    async with open_pages(servers) as here:
        offering_id = await here.offering(online=1, rules=APPROVED)
        kari, _, per = await asking(here, offering_id, "kari", "ola", "per")
        tor = person(here, "tor", partner="torgar")
        await decided(tor, offering_id, "godkjenn", per, kari)
        assert (tor.status, tor.address) == (200, f"/deltakere/{offering_id}?avgjort=approve&antall=2")
        assert await states(here, offering_id) == ["associated", "pending", "queued"]
        await decided(tor, offering_id, "godkjenn", kari, per)
        assert tor.status == 200, "a second click"
        assert await states(here, offering_id) == ["associated", "pending", "queued"]


async def test_a_partner_is_told_what_was_decided(servers: Servers) -> None:
    """One, several, and with a reason; not again when the list is opened anew."""
    async with open_pages(servers) as here:
        offering_id = await here.offering(online=5, rules=APPROVED)
        kari, ola, per, siri = await asking(here, offering_id, "kari", "ola", "per", "siri")
        tor = person(here, "tor", partner="torgar")
        at = f"/deltakere/{offering_id}"
        await tor.go(at)
        assert "godkjent, og" not in tor.words
        await tor.send(f"{at}/{kari}/godkjenn")
        assert "Én påmelding er godkjent, og den det gjelder, får beskjed." in tor.words
        await tor.send(f"{at}/{ola}/avslaa", reason="Kurset krever fagbrev.")
        assert "Én påmelding er ikke godkjent, og den det gjelder, får begrunnelsen." in tor.words
        await decided(tor, offering_id, "godkjenn", per, siri)
        assert "2 påmeldinger er godkjent, og de det gjelder, får beskjed." in tor.words
        await tor.go(at)
        assert "godkjent, og" not in tor.words


async def test_who_asked_first_is_let_in_first_whichever_process_has_named_them(servers: Servers) -> None:
    """Ids are made by the clocks of processes, which differ; numbers in line are the database's."""
    async with open_pages(servers) as here:
        offering_id = await here.offering(online=1, rules=APPROVED)
        await asking(here, offering_id, "kari", "ola")
        await rows(here, "UPDATE enrolments SET queue_number = 1000 - queue_number WHERE offering_id = $1", offering_id)
        await decided(person(here, "tor", partner="torgar"), offering_id, "alle")
        assert await states(here, offering_id) == ["queued", "associated"], "by their ids; ola has the smaller number"


async def test_all_who_are_shown_are_let_in_and_nobody_who_came_since(servers: Servers) -> None:
    async with open_pages(servers) as here:
        offering_id = await here.offering(online=5, rules=APPROVED)
        await asking(here, offering_id, "kari", "ola")
        tor = person(here, "tor", partner="torgar")
        await tor.go(f"/deltakere/{offering_id}")
        assert "Godkjenn alle 2 som står her" in tor.words
        sent = {**tor.hidden, "what": "alle"}
        await asking(here, offering_id, "per")
        await tor.go(f"/deltakere/{offering_id}/flere", sent)
        assert await states(here, offering_id) == ["associated", "associated", "pending"]
        assert ("Godkjenn alle" in tor.words, "per" in tor.words) == (False, True), "one is no crowd"


async def test_several_are_turned_away_with_one_reason(servers: Servers) -> None:
    async with open_pages(servers) as here:
        offering_id = await here.offering(online=5, rules=APPROVED)
        kari, ola, per = await asking(here, offering_id, "kari", "ola", "per")
        tor = person(here, "tor", partner="torgar")
        for reason in (" ", "N" * 201):
            await decided(tor, offering_id, "avslaa", kari, per, reason=reason)
            assert (tor.status, "Skriv en begrunnelse" in tor.words) == (422, True)
            assert re.findall(r'id="who-([^"]+)"[^>]* checked', tor.text) == [kari, per], "they are chosen still"
        await decided(tor, offering_id, "godkjenn", kari, per, reason="For ansatte.")
        assert (tor.status, "Du har skrevet en begrunnelse for avslag." in tor.words) == (422, True)
        assert 'value="For ansatte."' in tor.text
        assert await states(here, offering_id) == ["pending"] * 3, "the key Enter presses the first button"
        await decided(tor, offering_id, "avslaa", kari, per, reason="  For a\u030arets ansatte. ")  # typed on a Mac
        assert await states(here, offering_id) == ["denied", "pending", "denied"]
        told = await rows(here, "SELECT denied_because FROM enrolments WHERE state = 'denied'")
        assert {row["denied_because"] for row in told} == {"For årets ansatte."}
        await decided(tor, offering_id, "godkjenn", kari, ola)
        assert (tor.status, "Noen ble ikke endret" in tor.words) == (409, True)
        assert await states(here, offering_id) == ["denied", "associated", "denied"]
        await decided(tor, offering_id, "godkjenn", kari)
        assert (tor.status, "Ingenting er endret" in tor.words) == (409, True)


async def test_nobody_is_chosen_by_what_is_no_name(servers: Servers, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(roster, "MOST_PENDING", 2)
    async with open_pages(servers) as here:
        offering_id = await here.offering(online=5, rules=APPROVED)
        several = await asking(here, offering_id, "kari", "ola", "per")
        tor, other = person(here, "tor", partner="torgar"), person(here, "mo", partner="mosjoen")
        for who in ((), ("x",), ("{" + several[0] + "}",), (several[0].replace("-", ""),)):
            await decided(tor, offering_id, "godkjenn", *who)
            assert (tor.status, "Kryss av for dem det gjelder." in tor.words) == (422, True)
        await decided(tor, offering_id, "?", several[0])
        assert tor.status == 422
        await decided(tor, offering_id, "godkjenn", str(uuid.uuid4()))
        assert tor.status == 404
        fields: Any = {"csrf": other.visitor.csrf, "what": "godkjenn", "who": several}
        assert (await other.ask("POST", f"/deltakere/{offering_id}/flere", fields)).status_code == 403
        assert await states(here, offering_id) == ["pending"] * 3
        await decided(tor, offering_id, "godkjenn", *several)
        assert await states(here, offering_id) == ["associated", "associated", "pending"], "as many as are shown"
        async with here.database.reading() as conn:
            await conn.execute("INSERT INTO partners (slug, state, version) VALUES ('torgar', 'suspended', 1)")
        await decided(tor, offering_id, "godkjenn", several[2])
        assert (tor.status, await states(here, offering_id)) == (403, ["associated", "associated", "pending"])


@pytest.mark.parametrize(
    ("language", "head", "first"),
    [
        ("nb", "Navn;Tilstand;Sted;Valg;Gruppe;Meldte seg på", "Åse Ødegård;Plass;På nett;På nett, Mosjøen;"),
        ("en", "Name;State;Place;Choices;Group;Enrolled", "Åse Ødegård;Seat;Online;Online, Mosjøen;"),
    ],
)
async def test_the_file_is_in_words_and_opens_in_a_norwegian_spreadsheet(
    servers: Servers, language: str, head: str, first: str
) -> None:
    async with open_pages(servers) as here:
        offering_id = await here.offering(online=1, mosjoen=1)
        await person(here, "aase").enrol(offering_id, name="Åse Ødegård", place2="mosjoen")
        await person(here, "x").enrol(offering_id, name='A;"B"')
        async with here.database.reading() as conn:
            await conn.execute("UPDATE enrolments SET asked_at = '2049-07-01 22:30Z'")
            await conn.execute("UPDATE offerings SET starts_at = '2049-08-01 22:30Z'")
        tor = person(here, "tor", partner="torgar")
        tor.language = language
        file = await tor.ask("GET", f"/deltakere/{offering_id}.csv")
        assert file.content.startswith(b"\xef\xbb\xbf"), "else a spreadsheet takes it for another alphabet"
        lines = file.content.decode("utf-8-sig").split("\r\n")
        assert (lines[0], lines[1]) == (head, f"{first};2049-07-02 00:30"), "on Oslo's clock"
        assert next(csv.reader(io.StringIO(lines[2]), delimiter=";"))[0] == 'A;"B"'
        assert file.headers["content-disposition"] == 'attachment; filename="deltakere-2049-08-02.csv"'


@pytest.mark.parametrize("between", [";", ",", "\t"])
async def test_no_name_is_a_formula_whatever_a_spreadsheet_takes_for_the_end_of_a_cell(
    servers: Servers, between: str
) -> None:
    names = ["=1+1", "Ola,=cmd|' /C calc'!A0,x", 'Ola,"=1+1",x', "Ola, @SUM(A1)", "Ola;-1", 'Ola;"+1"', "Ola,Kari"]
    async with open_pages(servers) as here:
        offering_id = await here.offering(online=len(names))
        for number, name in enumerate(names):
            await person(here, f"learner{number}").enrol(offering_id, name=name)
        tor = person(here, "tor", partner="torgar")
        page = (await tor.ask("GET", f"/deltakere/{offering_id}.csv")).content
        async with here.database.reading() as conn:
            shown = [partners.attending(one) for one in await enrolments.roster(conn, offering_id, None, 100)]
        for content in (page, bytes(partners.file(offering_id, shown).body)):
            text = content.decode("utf-8-sig")
            table = list(csv.reader(io.StringIO(text), delimiter=between))
            assert len(table) == 1 + len(names)
            assert not [cell for row in table for cell in row if cell.strip()[:1] in {"=", "+", "-", "@"}], text
            assert "Ola,Kari" in text, "the control: a name that is none stays as it is"


async def test_fewer_seats_than_are_taken_are_shown_as_wanted(servers: Servers) -> None:
    """Nobody is thrown out, so that the partner would take what it has sent for lost."""
    async with open_pages(servers) as here:
        offering_id = await here.offering(online=2)
        for name in ("kari", "ola"):
            await person(here, name).enrol(offering_id)
        tor = person(here, "tor", partner="torgar")
        await tor.go(f"/deltakere/{offering_id}")
        assert "Dere har bedt om" not in tor.words
        starts_at = datetime.now(UTC) + timedelta(days=9)
        fewer = OfferingChanged(
            offering_id=offering_id,
            course_id=uuid.uuid4(),
            partner="torgar",
            key="h26",
            version=2,
            starts_at=starts_at,
            ends_at=starts_at + timedelta(hours=2),
            places=[Place(arena="online", capacity=1)],
        )
        await here.database.run(lambda conn: offerings.keep(conn, fewer, here.settings))
        await tor.go(f"/deltakere/{offering_id}")
        assert "På nett: Dere har bedt om 1 i alt, og flere er opptatt." in tor.words
        await rows(here, "UPDATE places SET open = false, wanted_capacity = 0")
        await tor.go(f"/deltakere/{offering_id}")
        assert "Dere har bedt om" not in tor.words, "the partner names the place no more"
