"""The file of partners brought about on a running catalogue: who is new publishes at once, nobody is taken out."""

import json
import uuid
from pathlib import Path
from typing import Any

import pytest
from aiokafka.admin import AIOKafkaAdminClient

from kit import access
from kit.database import connect
from services.catalogue import events, joining
from services.catalogue import operating as catalogue
from services.catalogue.members import Member
from tests.delivery import Servers, listening, until
from tests.integration.corpus import COURSE
from tests.integration.test_catalogue import World, world
from tests.integration.test_catalogue_partners import change
from tests.typed import typed

pytestmark = pytest.mark.anyio


def slug() -> str:
    return f"p-{uuid.uuid4().hex[:12]}"


async def known(here: World) -> dict[str, Any]:
    return {one["slug"]: one for one in await catalogue.listed(here.settings)}


async def keys(here: World) -> list[Any]:
    conn = await connect(here.settings, "operator")
    try:
        return [dict(row) for row in await conn.fetch("SELECT * FROM partner_keys ORDER BY partner, digest")]
    finally:
        await conn.close()


async def test_a_file_lets_in_changes_and_leaves_alone_and_run_again_does_nothing(servers: Servers) -> None:
    async with world(servers) as here, listening(here.here, events.partners()):
        new, left = slug(), slug()
        await catalogue.add(here.settings, left, "Står ikke der", None, ["online"])
        await change(here, lambda conn: joining.suspend(conn, here.partner, "avtalen er ute"))
        wanted = [
            Member(here.partner, "Sveiseskolen i Mosjøen", "100000601", ("mosjoen",)),
            Member(new, "Ny", None, ("online",)),
        ]
        before, said = await keys(here), await here.said()
        tried, absent = await catalogue.synced(here.settings, wanted, True)
        assert [(one.slug, one.outcome) for one in tried] == [(here.partner, "changed"), (new, "added")]
        assert absent == [left]
        assert (await keys(here), await here.said()) == (before, said), "a dry run does nothing"
        async with admin(here) as broker:
            assert f"partners.{new}.courses" not in await broker.list_topics()

        done, _ = await catalogue.synced(here.settings, wanted, False)
        assert [one.changes for one in done] == [one.changes for one in tried]
        now = await known(here)
        mine = now[here.partner]
        assert (mine["name"], mine["orgnr"], mine["arenas"]) == ("Sveiseskolen i Mosjøen", "100000601", ["mosjoen"])
        assert mine["state"] == "suspended", "the file lets nobody go on"
        assert (now[left]["state"], now[left]["name"]) == ("active", "Står ikke der")
        assert (await here.said())[len(said) :] == [("PartnerSuspended", 3), ("PartnerJoined", 1)]

        here.partner, here.key = new, str(done[1].key)
        assert (await here.put("SV-1", COURSE)).status_code == 201
        await here.send(("CoursePublished", {"code": "SV-2", **COURSE}))

        async def both() -> bool:
            return len(await here.intake()) == 2

        await until(both, within_s=40)
        after, said = await keys(here), await here.said()
        again, _ = await catalogue.synced(here.settings, wanted, False)
        assert [(one.outcome, one.changes, one.key) for one in again] == [("unchanged", {}, None)] * 2
        assert (await keys(here), await here.said()) == (after, said)


class admin:
    """A broker's admin client for a `with` block."""

    def __init__(self, here: World) -> None:
        self._client = AIOKafkaAdminClient(bootstrap_servers=here.settings.kafka_bootstrap)

    async def __aenter__(self) -> AIOKafkaAdminClient:
        await self._client.start()
        return self._client

    async def __aexit__(self, *_: object) -> None:
        await self._client.close()


async def test_a_log_in_that_cannot_be_given_leaves_the_database_as_it_was(
    servers: Servers, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with world(servers) as here:
        wanted = [Member(one, "Ny", None, ("online",)) for one in sorted((slug(), slug()))]
        given = access.give

        async def second_fails(bootstrap: str, user: str, *more: Any) -> None:
            if user.endswith(wanted[1].slug):
                raise access.AccessError("Kafka does not answer")
            await given(bootstrap, user, *more)

        monkeypatch.setattr(access, "give", second_fails)
        known_doors = here.settings.model_copy(update={"kafka_partners_bootstrap": here.settings.kafka_bootstrap})
        before = await keys(here)
        with pytest.raises(access.AccessError):
            await catalogue.synced(known_doors, wanted, False)
        assert await keys(here) == before
        assert sorted(await known(here)) == [here.partner]


async def test_the_command_tells_the_line_that_is_wrong_and_ends_with_1(servers: Servers, tmp_path: Path) -> None:
    async with world(servers) as here:
        file = tmp_path / "partners.toml"
        name = slug()

        async def sync(text: str, *more: str) -> tuple[int | None, str, str]:
            file.write_text(text, encoding="utf-8")
            return await typed("catalogue", "partners", "sync", str(file), *more, environment=environment(here))

        code, out, err = await sync(f'[{name}]\nname = "Ny"\narenaer = ["online"]\n')
        assert (code, out) == (1, "")
        assert "line 3: " in err
        assert "is arenas meant?" in err
        assert "Nothing was done" in err
        code, out, _ = await sync(f'[{name}]\nname = "Ny"\narenas = ["online"]\n', "--json")
        told = json.loads(out)
        assert (code, told["not_in_file"]) == (0, [here.partner])
        assert told["partners"][0]["key"].startswith(f"kn_{name}_")
        code, out, err = await sync(f'[{name}]\nname = "Ny"\narenas = ["mosjon", "sjona"]\n', "--dry-run", "--json")
        assert err == f"{name} has mosjon, which people will read as Mosjon: is mosjoen meant?\n", "sjona may be new"
        assert (code, json.loads(out)["partners"][0]["outcome"]) == (0, "changed")
        code, out, _ = await sync(f'[{name}]\nname = "Nyere"\narenas = ["online"]\n', "--dry-run")
        assert "Ny  ->  Nyere" in out
        assert "0 would be added, 1 would be changed, 0 as they were." in out
        assert (await known(here))[name]["name"] == "Ny"


async def test_operators_have_partners_in_hand_at_the_command_line(servers: Servers) -> None:
    async with world(servers) as here:

        async def run(*arguments: str) -> tuple[int | None, str]:
            code, out, err = await typed("catalogue", "partners", *arguments, environment=environment(here))
            return code, out + err

        async def shown() -> dict[str, Any]:
            code, out = await run("show", here.partner, "--json")
            assert code == 0, out
            found: dict[str, Any] = json.loads(out)
            return found

        first = await shown()
        assert (first["name"], first["state"], first["arenas"]) == ("Sveiseskolen", "active", ["mosjoen", "online"])
        assert "kn_" not in json.dumps(first), "no key is shown twice"
        assert (await run("suspend", here.partner))[0] != 0, "a reason is asked for"
        assert (await run("suspend", here.partner, "--reason", " "))[0] == 1, "of spaces there is none"
        assert (await run("suspend", here.partner, "--reason", "avtalen er ute"))[0] == 0
        assert (await shown())["state"] == "suspended"
        assert (await run("release", here.partner))[0] == 0
        assert (await shown())["state"] == "active"
        made = json.loads((await run("rotate-key", here.partner, "--at-once", "--json"))[1])
        assert (await here.put("SV-1", COURSE)).status_code == 401
        here.key = made["key"]
        assert (await here.put("SV-1", COURSE)).status_code == 201
        for verb in ("show", "suspend", "release", "rotate-key"):
            code, out = await run(verb, "nobody", *(("--reason", "x") if verb == "suspend" else ()))
            assert (code, "nobody is not a partner; see: partners list" in out) == (1, True), verb


def environment(here: World) -> dict[str, str]:
    """The settings of this catalogue, as its processes are given them."""
    known = here.settings.model_dump(exclude={"test_clock_offset", "database_password"})
    known["database_password"] = here.settings.database_password.get_secret_value()
    return {f"KURSNETT_{name.upper()}": str(value) for name, value in known.items() if value != ""}
