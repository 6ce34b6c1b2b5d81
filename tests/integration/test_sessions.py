"""What a session is: how it begins and ends, what is kept of it, and the roles that it has."""

import asyncio
import hashlib
import json
from collections.abc import Sequence
from typing import Any
from uuid import uuid4

import pytest
from pydantic import SecretStr

from kit.auth import Caller
from kit.database import Connection
from kit.passes import Visitor
from kit.settings import PREFIX
from services.enrolment.login import COOKIE, digest_of
from services.enrolment.store import sessions
from tests.delivery import Servers
from tests.issuing import GATEWAY, Here, logging_in
from tests.typed import typed
from tests.visiting import Person

pytestmark = pytest.mark.anyio


async def logged_in(here: Here, subject: str = "kari") -> Person:
    here.issuer.subject = subject
    person = here.person()
    await person.go("/logg-inn")
    assert person.session
    return person


async def works(person: Person) -> bool:
    answer = await person.ask("GET", "/min-side")
    assert answer.status_code in (200, 303)
    return answer.status_code == 200


async def test_logging_in_again_ends_the_session_before(servers: Servers) -> None:
    async with logging_in(servers) as here:
        person = await logged_in(here)
        old = Person(here.web, GATEWAY, cookies={place: dict(jar) for place, jar in person.cookies.items()})
        assert await works(old), "the control"
        await person.go("/logg-inn")
        assert person.session != old.session
        assert (await works(person), await works(old)) == (True, False)


async def test_a_key_that_was_known_before_the_log_in_is_not_the_key_after(servers: Servers) -> None:
    async with logging_in(servers) as here:
        person = here.person()
        person.cookies = {"kursnett.test": {COOKIE: "known-to-the-thief"}}
        await person.go("/logg-inn")
        assert person.session not in (None, "known-to-the-thief")
        assert await here.caller("known-to-the-thief") is None


async def test_a_session_ends_when_it_is_not_used_and_when_it_is_old(servers: Servers) -> None:
    """By the database's clock: nothing here waits, and no clock of a process counts."""
    async with logging_in(servers) as here:
        person = await logged_in(here)
        await here.change("UPDATE sessions SET seen_at = app_now() - interval '29 minutes'")
        assert await works(person)
        [row] = await here.rows("SELECT seen_at > app_now() - interval '1 minute' AS noted FROM sessions")
        assert row["noted"], "it was used just now"
        await here.change("UPDATE sessions SET seen_at = app_now() - interval '31 minutes'")
        assert not await works(person)
        await here.change("UPDATE sessions SET seen_at = app_now()")
        assert await works(person), "the control: the row is there still"
        await here.change("UPDATE sessions SET created_at = app_now() - interval '8 hours'")
        assert not await works(person), "however much it was used"
        assert await here.world.database.run(sessions.forget) == 1
        assert await here.rows("SELECT FROM sessions") == []


async def test_a_page_that_is_left_open_does_not_keep_its_session_alive(servers: Servers) -> None:
    """What a page fetches by itself is no use of the session: else it would never be idle while the page is open."""
    async with logging_in(servers) as here:
        person = await logged_in(here)
        for dest, noted in (("empty", False), ("document", True)):
            await here.change("UPDATE sessions SET seen_at = app_now() - interval '20 minutes'")
            assert (await person.ask("GET", "/min-side/kurs", sec_fetch_dest=dest)).status_code == 200
            await here.caller(person.session, sec_fetch_dest=dest)
            [row] = await here.rows("SELECT seen_at > app_now() - interval '1 minute' AS noted FROM sessions")
            assert row["noted"] is noted, dest


async def test_who_is_told_that_the_session_ends_can_keep_it_but_not_bring_it_back(servers: Servers) -> None:
    """Though it is asked by the page itself, which is no use else; with the form's token, and not past its hours."""
    async with logging_in(servers) as here:
        person = await logged_in(here)
        page = (await person.go("/min-side")).text
        assert 'id="stay" data-idle="1740" data-left="2' in page, (
            "29 minutes, as it is noted by the minute, and 8 hours"
        )
        fetched = {"sec_fetch_dest": "empty"}
        rows = "SELECT seen_at > app_now() - interval '1 minute' AS used FROM sessions"
        for token, status, used in (("forged", 403, False), (person.csrf, 204, True)):
            await here.change("UPDATE sessions SET seen_at = app_now() - interval '29 minutes'")
            answer = await person.ask("POST", "/logg-inn/forleng", {"csrf": token}, **fetched)
            assert (answer.status_code, (await here.rows(rows))[0]["used"]) == (status, used)
        await here.change("UPDATE sessions SET seen_at = app_now() - interval '31 minutes'")
        late = await person.ask("POST", "/logg-inn/forleng", {"csrf": person.csrf}, **fetched)
        assert (late.status_code, await works(person)) == (401, False)


async def test_only_what_is_over_is_forgotten(servers: Servers) -> None:
    async with logging_in(servers) as here:
        fresh, idle = await logged_in(here), await logged_in(here, "ola")
        await here.change("UPDATE sessions SET seen_at = app_now() - interval '31 minutes' WHERE subject = 'ola'")
        assert await here.world.database.run(sessions.forget) == 1
        assert (await works(fresh), await works(idle)) == (True, False)


async def test_one_who_logs_out_is_out_whoever_has_the_key(servers: Servers) -> None:
    async with logging_in(servers) as here:
        person = await logged_in(here)
        await person.go("/min-side")
        thief = Person(here.web, GATEWAY, cookies={place: dict(jar) for place, jar in person.cookies.items()})
        assert await works(thief), "the control"
        out = await person.send("/logg-ut")
        assert (out.status_code, person.session) == (200, None)
        assert f"{here.issuer.url}/ended?client_id=kursnett&amp;post_logout_redirect_uri=https" in out.text
        assert not await works(thief)
        assert await here.rows("SELECT FROM sessions") == []
        again = await person.ask("POST", "/logg-ut", {})
        assert again.status_code == 200, "a second press is no error"


async def test_a_pass_that_was_given_is_not_given_after_the_log_out(servers: Servers) -> None:
    """It is kept for who asks again, and given to whoever has a session at that moment, and nobody else."""
    async with logging_in(servers) as here:
        person = await logged_in(here)
        key = person.session
        assert await here.caller(key) == await here.caller(key) is not None, "the control"
        await person.go("/min-side")
        await person.send("/logg-ut")
        assert await here.caller(key) is None


async def test_many_who_ask_at_once_are_each_told_who_they_are_in_few_looks(
    servers: Servers, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks: list[Any] = []
    visitors = sessions.visitors

    async def looking(conn: Connection, asked: Sequence[tuple[bytes, bool]], trusts: bool) -> list[Visitor | None]:
        looks.append(asked)
        return await visitors(conn, asked, trusts)

    monkeypatch.setattr(sessions, "visitors", looking)
    names = [f"kari-{number}" for number in range(12)]
    async with logging_in(servers) as here:

        async def begin(conn: Connection) -> None:
            for name in names:
                await sessions.begin(conn, digest_of(name), Caller(here.issuer.url, name), name, {})

        await here.world.database.run(begin)
        await here.change("UPDATE sessions SET seen_at = app_now() - interval '5 minutes'")
        asked = [*names, "unknown", *names, ""]
        found = await asyncio.gather(*(here.caller(key) for key in asked))
        assert [one and one.subject for one in found] == [key if key in names else None for key in asked]
        assert len(looks) < 4
        [row] = await here.rows("SELECT min(seen_at) > app_now() - interval '1 minute' AS noted FROM sessions")
        assert row["noted"], "of each of them"


async def test_nobody_waits_for_another_process_that_notes_the_same_session(servers: Servers) -> None:
    async with logging_in(servers) as here:
        person = await logged_in(here)
        await here.change("UPDATE sessions SET seen_at = app_now() - interval '5 minutes'")
        async with here.world.database.reading() as other, other.transaction():
            await other.execute("SELECT FROM sessions FOR UPDATE")
            assert await asyncio.wait_for(here.caller(person.session), 1) is not None


async def test_a_page_that_says_no_knows_who_it_says_it_to(servers: Servers) -> None:
    """Whoever is logged in can log out of it."""
    async with logging_in(servers) as here:
        person = await logged_in(here)
        for address, status in (
            (f"/deltakere/{uuid4()}", 404),
            (f"/deltakere/{uuid4()}?etter={uuid4()}", 404),
            ("/drift/enrolment", 403),
            ("/min-side/nothing", 404),
        ):
            answer = await person.ask("GET", address)
            assert (answer.status_code, 'action="/logg-ut"' in answer.text) == (status, True), address
            assert 'action="/logg-ut"' not in (await here.person().ask("GET", address)).text, "the control"


async def test_another_site_logs_nobody_out(servers: Servers) -> None:
    """Its form comes without the cookie (SameSite), so the answer must not take the cookie away."""
    async with logging_in(servers) as here:
        person = await logged_in(here)
        blind = Person(here.web, GATEWAY)
        answer = await blind.ask("POST", "/logg-ut", {}, origin="https://evil.example")
        assert not [line for line in answer.headers.get_list("set-cookie") if line.startswith(COOKIE)]
        assert await works(person)
        for token in ("forged", ""):
            assert (await person.ask("POST", "/logg-ut", {"csrf": token})).status_code == 403
        assert await works(person)


async def test_the_database_keeps_no_key(servers: Servers) -> None:
    async with logging_in(servers) as here:
        person = await logged_in(here)
        assert person.session
        assert len(person.session) >= 43, "256 random bits"
        [row] = await here.rows("SELECT * FROM sessions")
        assert row["digest"] == hashlib.sha256(person.session.encode()).digest()
        assert person.session not in str({name: value for name, value in row.items() if name != "digest"})
        assert await here.caller(row["digest"].hex()) is None
        assert await here.caller("") is None


async def test_each_session_has_forms_of_its_own(servers: Servers) -> None:
    async with logging_in(servers) as here:
        kari, ola = await logged_in(here), await logged_in(here, "ola")
        await kari.go("/min-side")
        await ola.go("/min-side")
        assert kari.csrf != ola.csrf
        assert (await ola.ask("POST", "/logg-ut", {"csrf": kari.csrf})).status_code == 403


async def command(here: Here, *arguments: str) -> tuple[int, str]:
    """(code, what it printed) of the service's own command line."""
    known = {name: value for name, value in here.world.settings.model_dump().items() if value not in (None, "")}
    environment = {
        f"{PREFIX}{name.upper()}": value.get_secret_value() if isinstance(value, SecretStr) else str(value)
        for name, value in known.items()
        if name != "test_clock_offset"
    }
    code, out, err = await typed("enrolment", *arguments, environment=environment)
    return code or 0, out + err


async def test_a_role_counts_from_the_next_page_and_ends_with_its_sessions(servers: Servers) -> None:
    async with logging_in(servers, trust_role_claims=False) as here:
        person, other = await logged_in(here, "tor"), await logged_in(here, "kari")

        async def role() -> Any:
            caller = await here.caller(person.session)
            return caller and (caller.role, caller.partner, caller.employer)

        assert await role() == ("learner", None, None)
        assert (await command(here, "people", "add", "tor", "--partner", "torgar"))[0] == 0
        assert await role() == ("learner", "torgar", None)
        assert (await command(here, "people", "add", "tor", "--role", "operator"))[0] == 0
        assert await role() == ("operator", None, None), "in place of what they had"
        _, listed = await command(here, "people", "list", "--json")
        assert [(one["subject"], one["issuer"], one["role"]) for one in json.loads(listed)] == [
            ("tor", here.issuer.url, "operator")
        ]
        assert (await command(here, "people", "remove", "tor"))[0] == 0
        assert await role() is None
        assert (await works(person), await works(other)) == (False, True)
        again = await logged_in(here, "tor")
        caller = await here.caller(again.session)
        assert caller is not None
        assert caller.role == "learner"


async def test_a_role_of_an_issuer_that_is_not_believed_any_more_is_none(servers: Servers) -> None:
    """Also in the sessions that were begun before: who may edit what the issuer says of them may have one for hours."""
    async with logging_in(servers, trust_role_claims=True) as here:
        here.issuer.claims = {"kursnett_role": "operator", "kursnett_partner": "torgar"}
        person = await logged_in(here, "tor")
        caller = await here.caller(person.session)
        assert caller is not None
        assert (caller.role, caller.partner) == ("operator", "torgar"), "the control"
        here.world.running.settings = here.world.running.settings.model_copy(update={"trust_role_claims": False})
        here.world.running.kept.clear()  # as after a start
        caller = await here.caller(person.session)
        assert caller is not None
        assert (caller.role, caller.partner) == ("learner", None)


async def test_anybody_can_be_logged_out_by_the_operators(servers: Servers) -> None:
    async with logging_in(servers) as here:
        person = await logged_in(here)
        code, said = await command(here, "people", "remove", "kari")
        assert (code, "logged out" in said) == (0, True), said
        assert not await works(person)
        code, said = await command(here, "people", "remove", "kari")
        assert (code, "See: people list" in said) == (1, True)


async def test_a_role_is_that_of_one_person_at_one_issuer(servers: Servers) -> None:
    async with logging_in(servers) as here:
        person = await logged_in(here, "tor")
        added = await command(here, "people", "add", "tor", "--role", "operator", "--issuer", "https://another.example")
        assert added[0] == 0, added[1]
        caller = await here.caller(person.session)
        assert caller is not None
        assert caller.role == "learner"


BAD: list[tuple[tuple[str, ...], str]] = [
    (("add", "tor"), "Say what the person may do"),
    (("add", "tor", "--role", "learner"), "Say what the person may do"),
    (("add", "tor", "--role", "admin"), "role"),
    (("add", "tor", "--employer", "12345678"), "9 digits"),
    (("add", "tor", "--employer", "١٢٣٤٥٦٧٨٩"), "9 digits"),
    (("add", "", "--partner", "torgar"), "1 to 255 printable"),
    (("add", "x" * 256, "--partner", "torgar"), "1 to 255 printable"),
    (("add", "a\nb", "--partner", "torgar"), "1 to 255 printable"),
    (("add", "tor", "--partner", "Torgar AS"), "slug"),
    (("add", "tor", "--partner", ""), "Say what the person may do"),
    (("add", "tor", "--partner", "torgar", "--issuer", "torgar"), "https://"),
    (("remove", "nobody"), "See: people list"),
]


async def test_what_will_not_do_is_told_in_a_sentence_and_changes_nothing(servers: Servers) -> None:
    async with logging_in(servers) as here:
        for arguments, words in BAD:
            code, said = await command(here, "people", *arguments)
            assert (code != 0, words in said, "Traceback" in said) == (True, True, False), (arguments, said)
        assert await here.rows("SELECT FROM members") == []
        assert (await command(here, "people", "add", "tor", "--employer", "974760673"))[0] == 0, "the control"
