"""A partner is held up and let go on without losing a word, and its keys are changed in pairs."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import asyncpg
import pytest

from kit import operating
from kit.database import Connection, connect
from services.catalogue import events, joining, line, logins
from services.catalogue import operating as catalogue
from services.catalogue.domain import Rule
from services.catalogue.settings import CatalogueSettings
from tests.delivery import Servers, listening, until
from tests.integration.corpus import COURSE, DATES
from tests.integration.test_catalogue import World, world

pytestmark = pytest.mark.anyio


async def change(here: World, what: Any) -> Any:
    conn = await connect(here.settings, "operator")
    try:
        async with conn.transaction():
            return await what(conn)
    finally:
        await conn.close()


async def test_what_a_suspended_partner_sends_is_kept_and_runs_on_in_its_order(servers: Servers) -> None:
    async with world(servers) as here:
        assert (await here.put("SV-1", COURSE)).status_code == 201
        await change(here, lambda conn: joining.suspend(conn, here.partner, "avtalen er ute"))
        refused = await here.put("SV-2", COURSE)
        assert (refused.status_code, refused.json()["type"].rpartition("/")[2]) == (403, "partner-suspended")
        assert "avtalen er ute" in refused.json()["detail"]
        assert (await here.intake())[0]["outcome"] == "taken", "it may still read what became of everything"

        titles = [{"nb": f"Sveising {number}"} for number in range(3)]
        async with listening(here.here, events.partners()):
            await here.send(*(("CoursePublished", {**COURSE, "code": "SV-1", "title": title}) for title in titles))
            await until(lambda: kept(here, 3))
            assert (await here.said())[-1] == ("PartnerSuspended", 2)
            assert await change(here, lambda conn: joining.release(conn, here.partner)) == 3
            await until(lambda: shows(here, titles[-1]))
        kinds = [kind for kind, _ in await here.said()]
        assert kinds[-4:] == ["PartnerChanged", "CourseChanged", "CourseChanged", "CourseChanged"]
        assert (await here.put("SV-2", COURSE)).status_code == 201


async def kept(here: World, count: int) -> bool:
    return [(one["outcome"], one["reason"]) for one in await here.intake()].count(("parked", "suspended")) == count


async def shows(here: World, title: dict[str, str]) -> bool:
    async with here.here.database.reading() as conn:
        content = await conn.fetchval("SELECT content FROM courses WHERE code = 'SV-1'")
    return bool(json.loads(content)["title"] == title)


async def test_a_key_works_until_the_one_after_the_next(servers: Servers) -> None:
    async with world(servers) as here:
        first = here.key
        second = await change(here, lambda conn: joining.rotate_key(conn, here.partner, False))

        async def works(key: str) -> bool:
            here.key = key
            return bool((await here.put("SV-1", COURSE)).status_code in (200, 201))

        assert [await works(key) for key in (first, second)] == [True, True]
        third = await change(here, lambda conn: joining.rotate_key(conn, here.partner, False))
        assert [await works(key) for key in (first, second, third)] == [False, True, True]
        last = await change(here, lambda conn: joining.rotate_key(conn, here.partner, True))
        assert [await works(key) for key in (second, third, last)] == [False, False, True]


async def test_a_partner_publishes_while_an_operators_command_waits_for_the_broker(servers: Servers) -> None:
    """The command gives a key and a log-in in one transaction, and a broker that is away is waited for."""
    async with world(servers) as here:

        async def slowly(conn: Connection) -> None:
            await joining.rotate_key(conn, here.partner, False)
            assert (await here.put("SV-1", COURSE)).status_code == 201, "its rows were locked until the broker answers"

        await change(here, slowly)


async def test_who_changes_a_key_and_loses_the_database_at_the_end_hears_that_it_must_be_done_again(
    servers: Servers, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A password at Kafka is no part of the transaction: nobody knows it, and the one before it lets nobody in."""
    async with world(servers) as here:

        async def give(settings: CatalogueSettings, slug: str) -> dict[str, str]:
            async with here.here.database.reading() as conn:
                ended = await conn.fetchval(
                    "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE application_name = $1 AND "
                    "datname = current_database()",
                    f"{settings.database_user}/operator",
                )
            assert ended == 1
            return {"password": slug}

        monkeypatch.setattr(logins, "give", give)
        with pytest.raises(Rule, match="run this again"):
            await catalogue.rotate(here.settings, here.partner, False)
        monkeypatch.undo()
        made = await catalogue.rotate(here.settings, here.partner, False)
        here.key = made["key"]
        assert (await here.put("SV-1", COURSE)).status_code == 201


class Unanswered:
    """A connection that is lost after COMMIT: it was done, and nobody hears so."""

    def __init__(self, conn: Connection) -> None:
        self._conn = conn

    def __getattr__(self, name: str) -> Any:
        return getattr(self._conn, name)

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[None]:
        async with self._conn.transaction():
            yield
        raise ConnectionResetError("gone")


async def test_a_key_is_shown_also_when_the_answer_to_its_commit_was_lost(
    servers: Servers, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Unseen, it would be the newest: to run the command again would end the key that the partner uses."""
    async with world(servers) as here:
        connections = [Unanswered]

        async def lost(settings: CatalogueSettings, purpose: str) -> Any:
            conn = await connect(settings, purpose)
            return connections.pop()(conn) if connections else conn

        monkeypatch.setattr(catalogue, "connect", lost)
        before, here.key = here.key, (await catalogue.rotate(here.settings, here.partner, False))["key"]
        assert here.key != before
        assert (await here.put("SV-1", COURSE)).status_code == 201
        here.key = before
        assert (await here.put("SV-1", COURSE)).status_code == 200, "as after any rotation"


@pytest.mark.parametrize("ended", [line.end, lambda work, _: operating.ended(work)])
def test_a_connection_that_breaks_under_a_command_is_one_sentence(ended: Any) -> None:
    """asyncpg's own ROLLBACK says so, on the connection that is gone."""

    async def broken() -> None:
        raise asyncpg.InterfaceError("connection is closed")

    async def wrong() -> None:
        raise asyncpg.InterfaceError("the server expects 1 argument for this query, 2 were passed")

    with pytest.raises(SystemExit, match="database does not answer"):
        ended(broken(), "nesna was not added")
    with pytest.raises(asyncpg.InterfaceError, match="expects 1"):
        ended(wrong(), "nesna was not added")


async def test_an_arena_that_was_taken_away_keeps_the_runs_that_it_has_and_gets_no_other(servers: Servers) -> None:
    """Else who sends all its runs each night were refused for each of them there, and at last quarantined."""
    async with world(servers) as here:
        await here.put("SV-1", COURSE)
        both = {**DATES, "places": [{"arena": "mosjoen", "capacity": 5}, {"arena": "online", "capacity": 5}]}
        assert (await here.put("SV-1/offerings/v", both)).status_code == 201
        await change(here, lambda conn: joining.change_partner(conn, here.partner, "Sveiseskolen", None, ["online"]))
        assert (await here.put("SV-1/offerings/v", both)).json()["version"] == 1
        more = {**both, "places": [{"arena": "mosjoen", "capacity": 6}, {"arena": "online", "capacity": 5}]}
        assert (await here.put("SV-1/offerings/v", more)).json()["version"] == 2
        assert (await here.put("SV-1/offerings/h", both)).status_code == 422
        assert (await here.put("SV-1/offerings/v", {**both, "places": both["places"][1:]})).status_code == 200
        assert (await here.put("SV-1/offerings/v", both)).status_code == 422, "it was given up there"
