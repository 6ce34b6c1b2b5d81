"""A form that comes back late: after another log-in, a move of the course, in a crowd. What was typed is not lost."""

import re
from datetime import timedelta

import asyncpg
import pytest

from kit.database import Busy
from tests.delivery import Servers
from tests.integration.test_enrolment_pages import FORM, Known, open_pages, person, rows
from tests.visiting import Person

pytestmark = pytest.mark.anyio

TYPED = FORM | {"name": "Kari Ånes", "email": "kari@blåbær.no", "phone": "912 34 567"}


def kept(page: Known) -> bool:
    return all(f'value="{value}"' in page.text for name, value in TYPED.items() if name not in ("place1", "language"))


async def test_who_has_logged_in_again_since_sends_what_was_typed_once_more(servers: Servers) -> None:
    """Two tabs with different log-ins: the form of the one before does nothing for the other by itself."""
    async with open_pages(servers) as here:
        offering_id = await here.offering(online=1)
        kari, ola = person(here, "kari"), person(here, "ola")
        await kari.go(f"/delta/{offering_id}")
        ola.page = kari.page
        await ola.send(f"/delta/{offering_id}", **TYPED)
        assert (ola.status, "Skjemaet kan ikke brukes lenger" in ola.words, kept(ola)) == (403, True, True)
        assert not await rows(here, "SELECT id FROM enrolments")
        assert ola.csrf == "token-of-ola"
        await ola.send(f"/delta/{offering_id}", **TYPED)
        assert "Du har plass." in ola.words


async def test_who_is_logged_out_meanwhile_is_told_that_nothing_is_kept(servers: Servers) -> None:
    async with open_pages(servers) as here:
        offering_id = await here.offering(online=1)
        told = await Person(here.asking, "http://demo.test").ask("POST", f"/delta/{offering_id}", TYPED)
        assert (told.status_code, "Skrev du noe i et skjema, må du skrive det på nytt." in told.text) == (401, True)
        assert f'href="/logg-inn?neste=/delta/{offering_id}"' in told.text


async def test_who_has_seen_other_hours_is_asked_again(servers: Servers) -> None:
    async with open_pages(servers) as here:
        offering_id = await here.offering(online=1)
        kari = person(here, "kari")
        for column in ("starts_at", "ends_at"):
            await kari.go(f"/delta/{offering_id}")
            async with here.database.reading() as conn:
                await conn.execute(f"UPDATE offerings SET {column} = {column} + $1", timedelta(hours=1))
            await kari.send(f"/delta/{offering_id}", **kari.hidden, **TYPED)
            assert (kari.status, kept(kari)) == (412, True)
            assert "Kurset er flyttet siden du åpnet siden." in kari.words
        assert not await rows(here, "SELECT id FROM enrolments")
        await kari.send(f"/delta/{offering_id}", **kari.hidden, **TYPED)
        assert "Du har plass." in kari.words


async def test_a_form_of_a_run_that_has_changed_otherwise_says_what_can_be_done(servers: Servers) -> None:
    async with open_pages(servers) as here:
        offering_id = await here.offering(online=1, mosjoen=1)
        kari = person(here, "kari")
        await kari.go(f"/delta/{offering_id}")
        sent = kari.hidden | TYPED
        async with here.database.reading() as conn:
            await conn.execute("UPDATE places SET open = false WHERE arena = 'online'")
        await kari.send(f"/delta/{offering_id}", **sent)
        assert (kari.status, kept(kari)) == (422, True)
        assert "Velg hvor du helst vil delta." in kari.words
        assert 'value="online"' not in kari.text
        async with here.database.reading() as conn:
            await conn.execute("UPDATE places SET open = true, taken = 1 WHERE arena = 'online'")
        await kari.send(f"/delta/{offering_id}", **sent)
        assert "Du er nummer 1 i køen." in kari.words, "it has filled: what the page has promised for that"
        ola = person(here, "ola")
        await ola.go(f"/delta/{offering_id}")
        async with here.database.reading() as conn:
            await conn.execute("UPDATE offerings SET cancelled = true")
        await ola.send(f"/delta/{offering_id}", **ola.hidden, **TYPED)
        assert (ola.status, "Kurset er avlyst, så ingen kan melde seg på." in ola.words) == (409, True)
        assert 'href="/kurs"' in ola.text


@pytest.mark.parametrize("error", [Busy("many"), asyncpg.LockNotAvailableError("held")])
async def test_what_was_typed_is_kept_in_a_crowd(servers: Servers, error: Exception) -> None:
    async with open_pages(servers) as here:
        offering_id = await here.offering(online=1)
        kari = person(here, "kari")
        await kari.go(f"/delta/{offering_id}")
        desk = here.running.desk
        here.running.desk = Full(error)  # type: ignore[assignment]
        await kari.send(f"/delta/{offering_id}", **kari.hidden, **TYPED)
        assert (kari.status, "Vi har det travelt akkurat nå." in kari.words, kept(kari)) == (503, True, True)
        assert kari.page is not None
        assert kari.page.headers["retry-after"] == "1"
        here.running.desk = desk
        await kari.send(f"/delta/{offering_id}", **kari.hidden, **TYPED)
        assert "Du har plass." in kari.words


async def test_what_was_typed_is_kept_by_who_sends_too_often(servers: Servers) -> None:
    async with open_pages(servers, requests_per_minute=1) as here:
        offering_id = await here.offering(online=1)
        kari = person(here, "kari")
        await kari.go(f"/delta/{offering_id}")
        for _ in range(3):  # a minute may end on the way
            await kari.send(f"/delta/{offering_id}", **kari.hidden, **TYPED | {"email": "?"})
            if kari.status == 429:
                break
        assert (kari.status, "Det gikk litt fort." in kari.words) == (429, True)
        assert re.search(r'name="name"[^>]* value="Kari Ånes"', kari.text)


class Full:
    """A desk at which nobody is helped."""

    def __init__(self, error: Exception) -> None:
        self._error = error

    async def submit(self, _: object) -> None:
        raise self._error
