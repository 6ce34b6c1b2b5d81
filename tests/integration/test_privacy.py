"""A person is forgotten by enrolment, reads what it keeps of them, and comes back as somebody new."""

import asyncio
import json
import uuid
from pathlib import Path
from typing import Any

import pytest

from contracts.enrolment import ErasureRequested
from contracts.notifier import ErasureDone
from kit import acts, sealing
from kit.auth import Caller
from kit.database import Connection, connect
from services.enrolment import erasing, events, login, operating
from services.enrolment.commands import Enrol
from services.enrolment.erasing import Forgotten
from services.enrolment.restating import restating
from services.enrolment.store import erasures, sessions
from tests import personal, seats
from tests.delivery import Servers, somebody_waits, until
from tests.integration.test_enrolment_http import BASE, World, world
from tests.integration.test_enrolment_pages import FORM, Known, open_pages, person
from tests.integration.test_restoring import backup, finished, restored, said
from tests.integration.test_restoring import rows as restored_rows
from tests.integration.test_sessions import command
from tests.issuing import logging_in
from tests.seats import World as Seats
from tests.web import ISSUER

pytestmark = pytest.mark.anyio

KARI, OLA = ("issuer", "kari"), ("issuer", "ola")


async def forget(here: Seats, who: tuple[str, str] = KARI) -> Forgotten:
    return await here.database.run(lambda conn: erasing.forget_login(conn, who, here.settings))


async def rows(here: Seats | World, statement: str, *values: Any) -> list[Any]:
    async with here.database.reading() as conn:
        return [tuple(row) for row in await conn.fetch(statement, *values)]


# What is done


async def test_the_seats_go_to_the_next_in_line_and_past_enrolments_stay_without_a_name(servers: Servers) -> None:
    async with seats.world(servers) as here:
        first, second = await here.scheduled(online=1), await here.scheduled(online=1)
        seat = await here.enrol(first, "kari")
        waiting = await here.enrol(first, "ola")
        past = await here.enrol(second, "kari")
        await here.withdraw(past, "kari")
        [(learner_id,)] = await rows(here, "SELECT id FROM learners WHERE subject = 'kari'")
        done = await forget(here)
        assert (done.learner_id, done.withdrawn, done.anonymised) == (learner_id, 1, 2)
        assert await here.stands(seat, waiting, past) == [
            ("cancelled", None),
            ("offered", "online"),
            ("cancelled", None),
        ]
        assert await rows(here, "SELECT subject FROM learners WHERE subject <> '' ORDER BY 1") == [("ola",)]
        assert await rows(here, "SELECT learner_id, name FROM enrolments WHERE id <> $1", waiting.id) == [
            (erasures.NOBODY, ""),
            (erasures.NOBODY, ""),
        ]
        *_, (_, gave_up), (_, offered), (kind, asked) = await here.said()
        assert (gave_up["learner_id"], offered["enrolment_id"]) == (str(learner_id), str(waiting.id))
        said = ErasureRequested.model_validate(asked)
        assert (kind, said.learner_id, said.request_id) == ("ErasureRequested", learner_id, done.request_id)
        assert sealing.unseal(seats.PRIVATE, said.sealed or "") == {"login": Caller(*KARI).key}


async def test_the_same_person_comes_back_as_somebody_new(servers: Servers) -> None:
    async with seats.world(servers) as here:
        offering_id = await here.scheduled(online=2)
        before = await here.enrol(offering_id, "kari")
        await forget(here)
        again = await here.enrol(offering_id, "kari")
        assert again.state == "associated"
        assert again.learner_id not in (before.learner_id, erasures.NOBODY)
        assert (await here.places(offering_id))["online"].taken == 1


async def test_nobody_who_has_never_asked_is_refused_and_a_second_time_changes_nothing(servers: Servers) -> None:
    async with seats.world(servers) as here:
        await here.enrol(await here.scheduled(online=1), "kari")
        for expected in (1, 0):
            done = await forget(here)
            assert (done.withdrawn, done.anonymised) == (expected, expected)
        assert (await forget(here, ("issuer", "a stranger"))).withdrawn == 0
        assert (await here.kinds()).count("ErasureRequested") == 3


# At the same moment


async def test_who_asks_for_a_seat_at_the_same_moment_is_forgotten_with_it(servers: Servers) -> None:
    """Their seat is not seen at first, nor its offering locked: what was begun is begun anew."""
    async with seats.world(servers) as here:
        await here.enrol(await here.scheduled(online=1), "kari")
        offering_id = await here.scheduled(online=1)
        async with here.database.reading() as conn:
            async with conn.transaction():
                seat = await here.one(conn, Enrol(offering_id, KARI, ("online",), "Kari"))
                forgetting = asyncio.create_task(forget(here))
                await until(lambda: somebody_waits(here.database))
            done = await forgetting
        assert (done.withdrawn, await here.stands(seat)) == (2, [("cancelled", None)])
        assert await rows(here, "SELECT name FROM enrolments WHERE name <> ''") == []


async def test_a_seat_that_is_asked_for_while_one_is_forgotten_is_somebody_elses(servers: Servers) -> None:
    async with seats.world(servers) as here:
        before = await here.enrol(await here.scheduled(online=1), "kari")
        offering_id = await here.scheduled(online=1)
        async with here.database.reading() as conn:
            async with conn.transaction():
                await erasing.forget_login(conn, KARI, here.settings)
                asking = asyncio.create_task(here.enrol(offering_id, "kari"))
                await until(lambda: somebody_waits(here.database))
            seat = await asking
        assert seat.state == "associated"
        assert seat.learner_id not in (before.learner_id, erasures.NOBODY)


async def test_who_gives_up_a_seat_while_being_forgotten_leaves_no_answer_behind(servers: Servers) -> None:
    """They wait behind it for the run's lock, and then it is nobody's seat: no answer may be kept for them."""
    async with world(servers) as here:
        seat = (await here.enrol(await here.offering(online=1), "kari")).headers["location"]
        asked = {**here.signed("kari"), "idempotency-key": "canary-key"}
        async with here.database.reading() as conn:
            async with conn.transaction():
                await erasing.forget_login(conn, (ISSUER, "kari"), here.settings)
                leaving = asyncio.create_task(here.asking.post(f"{seat}/withdraw", headers=asked))
                await until(lambda: somebody_waits(here.database))
            answer = await leaving
        assert await rows(here, "SELECT key FROM idempotency") == []
        assert answer.status_code == 404


# Answers, and who looks after them


async def test_a_request_is_done_when_all_have_answered_and_is_late_after_three_days(servers: Servers) -> None:
    async with seats.world(servers) as here:
        done = await forget(here)
        listeners = events.erasures()._listeners

        async def answer(conn: Connection) -> None:
            said = ErasureDone(request_id=done.request_id, service="notifier", counts={"contacts": 1})
            await erasures.answered(conn, said.request_id, said.service, said.counts)

        assert ErasureDone in listeners._by_event
        async with here.database.reading() as conn:
            [before] = await erasures.listed(conn, 9)
        assert (before.waits_for, before.done_at) == (("notifier",), None)
        for _ in range(2):
            await here.database.run(answer)
        async with here.database.reading() as conn:
            [after] = await erasures.listed(conn, 9)
        assert (after.waits_for, after.counts["notifier"]) == ((), {"contacts": 1})
        assert after.done_at is not None


async def test_an_operator_has_one_forgotten_by_the_id_of_an_enrolment(servers: Servers) -> None:
    async with seats.world(servers) as here:
        seat = await here.enrol(await here.scheduled(online=1), "kari")

        async def erase(id_: uuid.UUID, dry_run: bool = False) -> Any:
            return await here.database.run(
                lambda conn: operating.erase(conn, here.settings, id_, "letter of 12 May", dry_run)
            )

        assert await erase(uuid.uuid4()) is None
        assert await erase(erasures.NOBODY) is None
        would = await erase(seat.id, dry_run=True)
        assert (would["withdrawn"], would["enrolments"], await here.stands(seat)) == (1, 1, [("associated", "online")])
        did = await erase(seat.id)
        assert (did["withdrawn"], did["learner_id"]) == (1, str(seat.learner_id))
        again = await erase(seat.learner_id)
        assert (again["withdrawn"], again["request_id"] != did["request_id"]) == (0, True), "it is asked for anew"
        async with here.database.reading() as conn:
            [_, line] = await acts.listing(conn)
        assert (line["act"], line["about"], line["reason"]) == ("people erase", did["learner_id"], "letter of 12 May")


async def test_why_an_operator_turned_somebody_away_is_not_kept_for_ever(servers: Servers) -> None:
    """It is about that person, and goes with them; the list of what operators do says that it was done."""
    async with world(servers) as here:
        seat = (await here.enrol(await here.offering({"requires_approval": True}, online=1), "kari")).json()
        drift = {"authorization": f"Bearer {here.issuer.token(sub='drift', kursnett_role='operator')}"}
        address = f"{BASE}/enrolments/{seat['enrolment_id']}/deny"
        assert (await here.asking.post(address, json={"reason": "Canary reason"}, headers=drift)).status_code == 200
        assert (await here.asking.delete(f"{BASE}/me", headers=here.signed("kari"))).status_code == 202
        async with here.database.reading() as conn:
            [line] = await acts.listing(conn)
        assert (line["act"], line["about"]) == ("enrolments deny", seat["enrolment_id"])
        assert "Canary" not in str(line)


# A backup from before


@pytest.mark.parametrize("by", ["what was said", "the database before", "nothing"])
async def test_who_was_forgotten_after_the_backup_is_forgotten_again(servers: Servers, tmp_path: Path, by: str) -> None:
    """By what stands on the topic, or by the database that was there before; where neither is, an operator is told."""
    async with seats.world(servers) as here:
        offering_id = await here.scheduled(online=1)
        seat, waiting = await here.enrol(offering_id, "kari"), await here.enrol(offering_id, "ola")
        since = await backup(here.settings, tmp_path / "dump")
        done = await forget(here)
        [lost] = [one for one in await said(here.settings) if one.type == ErasureRequested.spec.type]
        settings = await restored(here.settings, tmp_path / "dump")
        kept = await connect(here.settings, "operator") if by == "the database before" else None
        outcome = await finished(
            settings, since, [lost] if by == "what was said" else [], restating(here.settings), kept=kept
        )
        if kept:
            await kept.close()
        names = await restored_rows(settings, "SELECT name FROM enrolments ORDER BY name")
        known = await restored_rows(settings, "SELECT subject FROM learners WHERE subject <> '' ORDER BY 1")
        if by == "nothing":
            assert (names, known) == ([("kari",), ("ola",)], [("kari",), ("ola",)]), "the control"
            assert outcome.told[1].startswith("0 people had been forgotten since the backup")
            assert "people erase ID" in outcome.told[1]
            return
        assert (names, known) == ([("",), ("ola",)], [("ola",)])
        assert outcome.told[1].startswith("1 people had been forgotten since the backup, and are forgotten again.")
        stands = await restored_rows(settings, "SELECT id, state FROM enrolments")
        assert dict(stands) == {seat.id: "cancelled", waiting.id: "offered"}
        asked = [one for one in await said(settings) if one.type == ErasureRequested.spec.type]
        assert [one.data["learner_id"] for one in asked] == [str(done.learner_id)], "the others are told again"


async def test_the_log_in_of_one_who_never_asked_for_a_seat_is_told_again(servers: Servers, tmp_path: Path) -> None:
    """They are nobody here. What they had chosen comes back at the notifier, which knows them by nothing else."""
    async with seats.world(servers) as here:
        since = await backup(here.settings, tmp_path / "dump")
        done = await forget(here)
        [lost] = [one for one in await said(here.settings) if one.type == ErasureRequested.spec.type]
        settings = await restored(here.settings, tmp_path / "dump")
        await finished(settings, since, [lost], restating(here.settings))
        [asked] = [one for one in await said(settings) if one.type == ErasureRequested.spec.type]
        assert lost.data["sealed"]
        assert asked.data["learner_id"] == str(done.learner_id)
        assert asked.data["sealed"] == lost.data["sealed"]


async def test_an_operator_hears_which_databases_no_erasing_reaches(servers: Servers) -> None:
    async with logging_in(servers) as here:
        database = here.world.database
        kari = await database.run(lambda conn: forget_kari(conn, here.world.settings))
        names = [f"{service}_before_{uuid.uuid4().hex[:8]}" for service in ("catalogue", "enrolment", "notifier")]

        async def erased() -> Any:
            return await database.run(
                lambda conn: operating.erase(conn, here.world.settings, kari.learner_id, "a letter", True)
            )

        assert set((await erased())["not_reached"]).isdisjoint(names)
        admin = await connect(here.world.settings, "operator")
        for name in names:
            await admin.execute(f'CREATE DATABASE "{name}"')
        try:
            assert set((await erased())["not_reached"]) >= set(names[1:]), "the catalogue knows nobody"
            code, told = await command(here, "people", "erasures")
            assert (code, all(name in told for name in names[1:]), names[0] in told) == (0, True, False)
            assert "DROP DATABASE " in told
            assert names[1] not in (await command(here, "people", "erasures", "--json"))[1]
        finally:
            for name in names:
                await admin.execute(f'DROP DATABASE "{name}"')
            await admin.close()


async def forget_kari(conn: Connection, settings: Any) -> Forgotten:
    return await erasing.forget_login(conn, KARI, settings)


# The page, and the interface for programs


async def logged_in(here: World, who: Known) -> str:
    """A session of this person, beside the pass that the test gives; returns its key."""
    key = f"key-of-{who.visitor.caller.subject}"

    async def begin(conn: Connection) -> None:
        await sessions.begin(conn, login.digest_of(key), who.visitor.caller, "csrf", {})

    await here.database.run(begin)
    return key


async def test_a_person_reads_what_is_kept_says_yes_and_is_gone(servers: Servers) -> None:
    async with open_pages(servers) as here:
        offering_id = await here.offering(online=1)
        kari = person(here, "kari", "Kari Nordmann")
        await logged_in(here, kari)
        await kari.enrol(offering_id)
        ola = person(here, "ola", "Ola")
        await ola.enrol(offering_id)
        await kari.go("/personvern")
        assert 'href="/personvern/data.json"' in kari.text
        assert 'href="/varsler/data.json"' in kari.text
        assert 'href="/personvern/slett"' in kari.text
        await kari.go("/personvern/slett")
        assert "Du mister én plass eller plass i kø." in kari.words
        assert await rows(here, "SELECT name FROM enrolments ORDER BY name") == [("Kari Nordmann",)] * 2
        forged = await kari.ask("POST", "/personvern/slett", {"csrf": "forged"})
        assert (forged.status_code, await rows(here, "SELECT FROM erasures")) == (403, [])
        sent = await kari.ask("POST", "/personvern/slett", {"csrf": kari.csrf})
        assert sent.status_code == 303
        assert "__Host-kursnett=" in sent.headers["set-cookie"]
        assert await rows(here, "SELECT FROM sessions") == []
        anybody = person(here, "anybody")
        await anybody.go(sent.headers["location"])
        assert "Opplysningene dine blir slettet" in anybody.words
        [(request_id,)] = await rows(here, "SELECT request_id FROM erasures")
        await here.database.run(lambda conn: erasures.answered(conn, request_id, "notifier", {}))
        await anybody.go(sent.headers["location"])
        assert "Opplysningene dine er slettet" in anybody.words
        partner = person(here, "tor", partner="torgar")
        await partner.go(f"/deltakere/{offering_id}.csv")
        assert partner.text.count("Kari Nordmann") == 1, "that is Ola, who wrote the same name"


async def test_who_is_not_logged_in_reads_the_page_and_a_second_press_is_a_sentence(servers: Servers) -> None:
    async with open_pages(servers) as here:
        page = await here.asking.get("/personvern", headers={"accept": "text/html"})
        assert (page.status_code, "/logg-inn?neste=" in page.text, "/slett" in page.text) == (200, True, False)
        twice = await here.asking.post("/personvern/slett", headers={"accept": "text/html"}, data={"csrf": "old"})
        assert (twice.status_code, "er det gjort" in twice.text) == (401, True)
        unknown = await here.asking.get(f"/personvern/slettet/{uuid.uuid4()}", headers={"accept": "text/html"})
        assert unknown.status_code == 404


async def test_past_enrolments_are_shown_without_a_name(servers: Servers) -> None:
    async with open_pages(servers) as here:
        offering_id = await here.offering(online=1)
        await person(here, "kari").enrol(offering_id)
        await here.database.run(lambda conn: conn.execute("UPDATE enrolments SET state = 'finished'"))
        kari = person(here, "kari")
        await kari.go("/personvern/slett")
        await kari.send("/personvern/slett")
        for address in (f"/deltakere/{offering_id}", f"/deltakere/{offering_id}/ark"):
            partner = person(here, "tor", partner="torgar")
            await partner.go(address)
            assert ("Navnet er slettet" in partner.words, FORM["name"] in partner.words) == (True, False), address
        roster = await here.asking.get(f"{BASE}/offerings/{offering_id}/roster", headers=here.partner("torgar"))
        assert [one["name"] for one in roster.json()["items"]] == [""]


async def test_a_program_has_its_person_forgotten(servers: Servers) -> None:
    async with world(servers) as here:
        await here.enrol(await here.offering(online=1), "kari", key="once")
        assert (await here.asking.delete(f"{BASE}/me")).status_code == 401
        first = await here.asking.delete(f"{BASE}/me", headers=here.signed("kari"))
        assert (first.status_code, first.json()["withdrawn"]) == (202, 1)
        again = await here.asking.delete(f"{BASE}/me", headers=here.signed("kari"))
        assert (again.status_code, again.json()["withdrawn"]) == (202, 0)
        assert await rows(here, "SELECT FROM idempotency") == []
        own = await here.asking.get(f"{BASE}/me/enrolments", headers=here.signed("kari"))
        assert own.json() == {"items": []}


async def test_to_be_forgotten_twice_under_one_key_is_once_and_keeps_no_name(servers: Servers) -> None:
    async with world(servers) as here:
        await here.enrol(await here.offering(online=1), "kari")
        headers = {**here.signed("kari"), "idempotency-key": "forget-kari"}
        first, again = [await here.asking.delete(f"{BASE}/me", headers=headers) for _ in range(2)]
        assert (first.status_code, first.json()["withdrawn"]) == (202, 1)
        assert (again.status_code, again.json()) == (202, first.json())
        assert len(await rows(here, "SELECT FROM erasures")) == 1
        [kept] = await rows(here, "SELECT caller, route, key, convert_from(body, 'UTF8') AS body FROM idempotency")
        assert not any(word in str(kept) for word in ("kari", "forget-kari")), kept
        other = await here.asking.delete(f"{BASE}/me", headers={**here.signed("ola"), "idempotency-key": "forget-kari"})
        assert other.json()["request_id"] != first.json()["request_id"], "another's answer"


# Every column


async def filled(here: World) -> uuid.UUID:
    """A person of whom something stands in each column; the run that they are in."""
    rules = {"priority_groups": ["ansatte"], "on_lapse": "leave"}
    offering_id = await here.offering(rules, online=1, mosjoen=1)
    await here.enrol(offering_id, "ola")
    asked = {"places": ["online", "mosjoen"], "name": "Canary Kanari", "group": "ansatte", "on_lapse": "leave"}
    await here.enrol(offering_id, "kari", key="canary-key", **asked)
    denied = await here.offering({"requires_approval": True}, online=1)
    seat = (await here.enrol(denied, "kari", name="Canary Kanari")).json()["enrolment_id"]
    await here.asking.post(
        f"{BASE}/enrolments/{seat}/deny", json={"reason": "Canary reason"}, headers=here.partner("torgar")
    )
    queue = await here.offering(online=1)
    first = (await here.enrol(queue, "ola")).json()["enrolment_id"]
    await here.enrol(queue, "kari", name="Canary Kanari")
    await here.asking.post(f"{BASE}/enrolments/{first}/withdraw", headers=here.signed("ola"))  # an offer for Kari

    async def more(conn: Connection) -> None:
        who = Caller(ISSUER, "kari", name="Canary Login")
        await sessions.begin(conn, b"canary digest", who, "canary csrf", {"role": "learner"})
        await sessions.keep_member(conn, sessions.Member(ISSUER, "kari", "learner", "torgar", "974760673"))

    await here.database.run(more)
    return offering_id


async def test_each_column_is_told_and_erased_or_says_why_not(servers: Servers) -> None:
    async with world(servers) as here:
        await filled(here)
        told = await here.asking.get(f"{BASE}/me/data", headers=here.signed("kari"))
        assert (told.status_code, told.headers["cache-control"]) == (200, "no-store")
        names = personal.paths(told.json())
        async with here.database.reading() as conn:
            columns, before = await personal.columns(conn), await personal.values(conn)
        assert personal.undecided("enrolment", columns) == []
        wanted = {one.document for one in personal.lines("enrolment")} - {"-"}
        assert wanted <= names, f"not in the document: {sorted(wanted - names)}"
        [(olas,)] = await rows(here, "SELECT id::text FROM learners WHERE subject = 'ola'")
        others = {str(erasures.NOBODY), olas, "ola", ISSUER, "Kari Nordmann"}  # Ola's own, whose name is that, too
        assert (await here.asking.delete(f"{BASE}/me", headers=here.signed("kari"))).status_code == 202
        async with here.database.reading() as conn:
            after = await personal.values(conn)
            whole = await personal.everything(conn)
        for place in columns:
            if personal.column_of("enrolment", *place).forgotten in ("deleted", "emptied"):
                assert not before[place] & after[place] - others, place
        said = '"reason":"Canary reason"'  # a partner's words to one whom it denies stand in what was said of it
        assert (said in whole, "anary" in whole.replace(said, "")) == (True, False)


async def test_a_new_column_needs_a_decision() -> None:
    known = [(one.table, "id" if one.column == "*" else one.column) for one in personal.lines("enrolment")]
    assert personal.undecided("enrolment", known) == []
    assert personal.undecided("enrolment", [*known, ("enrolments", "shoe_size")]) == [
        "enrolments.shoe_size has no line"
    ]


async def test_nobodys_own_document_is_empty_and_has_nothing_of_others(servers: Servers) -> None:
    async with world(servers) as here:
        await filled(here)
        told = (await here.asking.get(f"{BASE}/me/data", headers=here.signed("a stranger"))).json()
        assert (told["learner_id"], told["enrolments"], told["sessions"], told["role"]) == (None, [], [], None)
        nobody = (await here.asking.get(f"{BASE}/me/data", headers=here.signed(""))).status_code
        assert nobody == 401
        page = await here.asking.get("/personvern/data.json")
        assert page.status_code == 401
        assert "Canary" not in json.dumps(told)
