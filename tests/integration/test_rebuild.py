"""Enrolment's copy of the catalogue made anew from what the catalogue says again: `republish`, and what it takes."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from contracts.topics import owned_by
from kit import republishing, topics
from kit.database import connect
from kit.running import Running
from services.enrolment import events
from services.enrolment.settings import EnrolmentSettings
from tests.delivery import Servers, listening, relaying, running, until
from tests.integration.corpus import COURSE
from tests.integration.test_catalogue import World, world
from tests.seats import PUBLIC

pytestmark = pytest.mark.anyio


async def copy_of(there: Running, here: World) -> dict[str, Any]:
    """What enrolment keeps of this partner's runs."""
    async with there.database.reading() as conn:
        runs = await conn.fetch("SELECT * FROM offerings WHERE partner = $1 ORDER BY id", here.partner)
        places = await conn.fetch(
            "SELECT * FROM places WHERE offering_id = ANY($1) ORDER BY offering_id, arena", [run["id"] for run in runs]
        )
        titles = await conn.fetch(
            "SELECT id, code, title, version FROM courses WHERE id = ANY($1) ORDER BY id",
            list(
                await conn.fetchval("SELECT array_agg(course_id) FROM offerings WHERE partner = $1", here.partner) or ()
            ),
        )
    return {
        "runs": [dict(run) for run in runs],
        "places": [dict(place) for place in places],
        "titles": [dict(title) for title in titles],
    }


async def said_again(here: World) -> None:
    conn = await connect(here.settings, "operator")
    try:
        await republishing.again(conn, datetime.now(UTC) - timedelta(days=1))
    finally:
        await conn.close()


async def test_enrolments_copy_of_the_catalogue_is_made_anew_from_nothing(servers: Servers) -> None:
    known = (await servers.database("enrolment")).model_dump() | {"contact_public_key": PUBLIC}
    settings = EnrolmentSettings(**known)

    @asynccontextmanager
    async def both_listening() -> AsyncIterator[None]:
        hearing = (events.courses(settings), events.titles())
        async with listening(there, hearing[0]), listening(there, hearing[1]):
            yield

    await topics.declare(servers.kafka, owned_by("catalogue"))
    async with world(servers) as here, running(settings) as there:
        await here.put("A", COURSE)
        starts_at = datetime.now(UTC) + timedelta(days=20)
        day = starts_at.date().isoformat()
        dates: dict[str, Any] = {
            "starts_at": starts_at.isoformat(),
            "ends_at": (starts_at + timedelta(days=1)).isoformat(),
            "places": [{"arena": "online", "capacity": 5}],
        }
        for key in ("one", "two", "three"):
            await here.put(f"A/offerings/{key}", dates)
        more = [{"arena": "mosjoen", "capacity": 7}, {"arena": "online", "capacity": 9}]
        await here.put(
            "A/offerings/two",
            dates | {"places": more, "minimum": 4, "decide_at": f"{day}T00:00:00Z"},
        )
        await here.cancel("A/offerings/three")

        async def all_told() -> bool:
            copy = await copy_of(there, here)
            told = len(copy["runs"]) == 3 and len(copy["places"]) == 4 and copy["titles"]
            return bool(told) and any(run["cancelled"] for run in copy["runs"])

        async with relaying(here.here), both_listening():
            await until(all_told, within_s=60)
            before = await copy_of(there, here)

        # What was heard has no effect again: the copy stays lost while the inbox remembers it.
        async with there.database.reading() as conn:
            await conn.execute("TRUNCATE offerings, courses CASCADE")
        await said_again(here)
        await here.put("A/offerings/four", dates)  # comes after what is said again

        async def the_newest_is_told() -> bool:
            return bool((await copy_of(there, here))["runs"])

        async with relaying(here.here), both_listening():
            await until(the_newest_is_told, within_s=60)
        newest = await copy_of(there, here)
        assert len(newest["runs"]) == 1

        async with there.database.reading() as conn:
            await conn.execute("DELETE FROM inbox WHERE consumer LIKE ANY(ARRAY['%courses', '%titles'])")
            await conn.execute("DELETE FROM inbox_position WHERE consumer LIKE ANY(ARRAY['%courses', '%titles'])")
        await said_again(here)

        async def all_are_told_again() -> bool:
            copy = await copy_of(there, here)
            told = len(copy["runs"]) == 4 and copy["titles"]
            return bool(told) and any(run["cancelled"] for run in copy["runs"])

        async with relaying(here.here), both_listening():
            await until(all_are_told_again, within_s=60)
        again = await copy_of(there, here)
        assert newest["titles"] == []
    assert [one["code"] for one in before["titles"]] == ["A"]
    for kind in ("runs", "places", "titles"):
        assert [one for one in again[kind] if one not in newest[kind]] == before[kind]
