"""A partner's office has a mail address: given and taken away by command or by the file, sealed from the first moment,
and in clear at the notifier alone."""

import json
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from contracts.envelope import decode
from contracts.topics import owned_by
from kit import topics
from kit.database import connect
from kit.parking import Record
from kit.sealing import unseal
from services.catalogue import joining
from services.catalogue import operating as catalogue
from services.catalogue.domain import Rule
from services.catalogue.members import Member
from services.catalogue.offices import Office
from services.catalogue.settings import CatalogueSettings
from services.notifier import events as notifier_events
from tests.delivery import Servers, listening, records, relaying, until
from tests.integration.test_catalogue import World, world
from tests.integration.test_catalogue_pages import look, words
from tests.integration.test_catalogue_partners import change
from tests.integration.test_catalogue_sync import environment, slug
from tests.integration.test_periods import publish
from tests.notifying import PRIVATE, PUBLIC, mail_server, notifier
from tests.typed import typed

pytestmark = pytest.mark.anyio

CANARY = "kari.kanari@nesna.example"
KARI = Office(CANARY, "nn")


async def everything(here: World) -> str:
    """Each row of each table of the catalogue's database."""
    conn = await connect(here.settings, "operator")
    try:
        tables = await conn.fetch("SELECT format('%I', tablename) AS name FROM pg_tables WHERE schemaname = 'public'")
        rows = [await conn.fetch(f"SELECT to_jsonb(row)::text AS row FROM {one['name']} AS row") for one in tables]
        payloads = await conn.fetch("SELECT payload FROM outbox")
    finally:
        await conn.close()
    assert {"partners", "outbox", "operator_acts"} <= {one["name"] for one in tables}
    found = [row["row"] for table in rows for row in table] + [one["payload"].decode() for one in payloads]
    return "\n".join(found)


async def letters(here: World) -> list[Any]:
    """What each word about the partner says of its office, opened; none where it says that there is none."""
    async with here.here.database.reading() as conn:
        rows = await conn.fetch("SELECT payload FROM outbox WHERE topic = 'catalogue.partners' ORDER BY id")
    sealed = [decode(row["payload"], []).data.get("sealed") for row in rows]
    return [None if one is None else unseal(PRIVATE, one) for one in sealed]


def member(here: World, office: Office | None) -> Member:
    return Member(here.partner, "Sveiseskolen", None, ("mosjoen", "online"), office)


async def test_an_address_is_given_kept_changed_and_taken_away_and_is_nowhere_in_clear(
    servers: Servers, capfd: pytest.CaptureFixture[str]
) -> None:
    async with world(servers, contact_public_key=PUBLIC) as here:

        async def sync(office: Office | None, dry_run: bool = False) -> dict[str, Any]:
            [step], _ = await catalogue.synced(here.settings, [member(here, office)], dry_run)
            assert (step.outcome == "changed") == bool(step.changes)
            return step.changes

        told = {"email": CANARY, "language": "nn"}
        given = {"mail": (None, "given"), "mail_language": (None, "nn")}
        assert await sync(KARI, dry_run=True) == given
        assert await letters(here) == [None], "a dry run gives nobody an address"
        assert await sync(KARI) == given
        assert await letters(here) == [None, told]
        assert await sync(KARI) == {}, "run again, it does nothing"
        assert await letters(here) == [None, told]
        await change(here, lambda conn: joining.rotate_key(conn, here.partner, False))
        await change(here, lambda conn: joining.suspend(conn, here.partner, "avtalen er ute"))
        assert await letters(here) == [None, *[told] * 3], "the newest word alone stays on its topic: each says it"
        assert CANARY not in await everything(here)
        assert "kanari" not in await everything(here)
        assert await sync(Office("ola@nesna.example", "nn")) == {"mail": ("given", "another")}
        assert await sync(Office("ola@nesna.example")) == {"mail_language": ("nn", "nb")}
        assert (await letters(here))[-1] == {"email": "ola@nesna.example", "language": "nb"}
        assert (await catalogue.listed(here.settings))[0]["mail"] == "given"
        assert await sync(None) == {"mail": ("given", None), "mail_language": ("nb", None)}
        assert (await letters(here))[-1] is None
        assert (await catalogue.listed(here.settings))[0]["mail"] is None
        other = slug()
        await catalogue.add(here.settings, other, "Nesna", None, ["online"], KARI)
        assert (await letters(here))[-1] == told
        assert "kanari" not in await everything(here)
        assert "kanari" not in "".join(capfd.readouterr())


async def test_whom_learners_may_ask_is_told_with_all_that_is_said_of_a_partner_and_stands_with_its_courses(
    servers: Servers,
) -> None:
    async with world(servers, contact_public_key=PUBLIC) as here:

        async def sync(contact: str | None) -> dict[str, Any]:
            wanted = Member(here.partner, "Sveiseskolen", None, ("mosjoen", "online"), contact=contact)
            [step], _ = await catalogue.synced(here.settings, [wanted], False)
            return step.changes

        async def said(partner: str) -> list[Any]:
            async with here.here.database.reading() as conn:
                rows = await conn.fetch("SELECT payload FROM outbox WHERE topic = 'catalogue.partners' ORDER BY id")
            told = [decode(row["payload"], []).data for row in rows]
            return [one.get("contact") for one in told if one["partner"] == partner]

        page = await publish(here, "A")
        assert "Spørsmål om kurset" not in (await look(here, page)).text
        assert await sync("post@sveis.example") == {"contact": (None, "post@sveis.example")}
        assert await sync("post@sveis.example") == {}
        await change(here, lambda conn: joining.rotate_key(conn, here.partner, False))
        assert await said(here.partner) == [None, "post@sveis.example", "post@sveis.example"]
        page_with = await look(here, await publish(here, "B"))
        assert "Spørsmål om kurset post@sveis.example" in words(page_with)
        assert 'href="mailto:post@sveis.example"' in page_with.text
        assert await sync(None) == {"contact": ("post@sveis.example", None)}
        assert (await said(here.partner))[-1] is None
        other = slug()
        await catalogue.add(here.settings, other, "Nesna", None, ["online"], contact="75 00 00 00")
        assert await said(other) == ["75 00 00 00"]


async def test_an_address_in_clear_would_be_found(servers: Servers) -> None:
    """The red control of the one before."""
    async with world(servers, contact_public_key=PUBLIC) as here:
        await change(
            here, lambda conn: conn.execute("UPDATE partners SET state_because = $1 WHERE true", f"<{CANARY}>")
        )
        assert CANARY in await everything(here)
        conn = await connect(here.settings, "operator")
        try:
            with pytest.raises(Exception, match="partner_mail_whole"):
                await conn.execute("UPDATE partners SET mail_sealed = $1", CANARY)
        finally:
            await conn.close()


async def test_without_the_notifiers_key_no_address_is_taken(servers: Servers) -> None:
    async with world(servers) as here:
        with pytest.raises(Rule, match=r"contact_public_key is missing; python -m deploy\.secrets DIR makes it"):
            await catalogue.give_mail(here.settings, here.partner, KARI)
        with pytest.raises(Rule, match="contact_public_key is missing"):
            await catalogue.synced(here.settings, [member(here, KARI)], False)
        assert await letters(here) == [None]
        await catalogue.give_mail(here.settings, here.partner, None)  # nothing has to be sealed for that
        with pytest.raises(ValidationError, match="must be a JWK set with a public EC key"):
            CatalogueSettings(**here.settings.model_dump() | {"contact_public_key": '{"keys": []}'})


async def test_operators_give_an_address_at_the_command_line(servers: Servers, tmp_path: Path) -> None:
    async with world(servers, contact_public_key=PUBLIC) as here:

        async def run(*arguments: str) -> tuple[int | None, str]:
            code, out, err = await typed("catalogue", "partners", *arguments, environment=environment(here))
            assert "kanari" not in out + err
            return code, (out + err).strip()

        wrong = "must be one mail address such as post@nesna.example."
        for bad in ("kari.kanari", "kari@", f"{CANARY}, ola@nesna.example", "kåri.kanari@nesna.example", ""):
            assert await run("mail", here.partner, bad) == (1, f"ADDRESS {wrong}"), bad
        added = ("add", slug(), "--name", "Nesna", "--arena", "online")
        assert await run(*added, "--mail", "kari.kanari") == (1, f"--mail {wrong}")
        code, out = await run(*added, "--mail-language", "nn")
        assert (code, out) == (1, "--mail-language says nothing without a mail address.")
        code, out = await run("mail", here.partner, CANARY, "--language", "no")
        assert (code, out) == (1, "--language must be one of nb, nn, en, sma, sme.")
        assert await run("mail", here.partner) == (1, "Give an address, or --remove.")
        assert (await run("mail", "nobody", CANARY))[1].endswith("nobody is not a partner; see: partners list.")
        assert await letters(here) == [None]

        assert (await run("mail", here.partner, CANARY, "--language", "nn"))[0] == 0
        assert (await letters(here))[-1] == {"email": CANARY, "language": "nn"}
        shown = json.loads((await run("show", here.partner, "--json"))[1])
        assert (shown["mail"], shown["mail_language"]) == ("given", "nn")
        file = tmp_path / "partners.toml"
        whole = f'[{here.partner}]\nname = "Sveiseskolen"\narenas = ["mosjoen", "online"]\n'
        file.write_text(whole + f'mail = "{CANARY}"\nmail_language = "nn"\n')
        assert "0 would be added, 0 would be changed, 1 as" in (await run("sync", str(file), "--dry-run"))[1]
        file.write_text(whole)
        code, out = await run("sync", str(file), "--json")
        changes = {"mail": ["given", None], "mail_language": ["nn", None]}
        assert json.loads(out)["partners"][0]["changes"] == changes
        assert (await run(*added, "--mail", CANARY))[0] == 0
        assert (await run("mail", here.partner, "ola@nesna.example"))[0] == 0
        assert (await run("mail", here.partner, "--remove"))[0] == 0
        assert [one and one["email"] for one in await letters(here)][-4:] == [None, CANARY, "ola@nesna.example", None]


async def test_the_notifier_hears_it_over_kafka_where_it_is_in_clear_for_nobody(
    servers: Servers, capfd: pytest.CaptureFixture[str]
) -> None:
    await topics.declare(servers.kafka, owned_by("catalogue"))
    async with (
        world(servers, contact_public_key=PUBLIC) as here,
        mail_server() as sink,
        notifier(servers, sink) as there,
    ):
        [told] = [one for one in notifier_events.consumers(PRIVATE) if one.name == "partners"]
        query = """
            SELECT email, name, language FROM contacts JOIN partner_offices ON learner_id = office_id WHERE partner = $1
        """

        async def becomes(*wanted: tuple[str, str, str]) -> None:
            async def done() -> bool:
                return [tuple(row) for row in await there.rows(query, here.partner)] == list(wanted)

            await until(done)

        async with relaying(here.here), listening(there.here, told):
            await catalogue.give_mail(here.settings, here.partner, KARI)
            await becomes((CANARY, "Sveiseskolen", "nn"))
            async with here.here.database.reading() as conn:
                count = await conn.fetchval("SELECT count(*) FROM outbox WHERE topic = 'catalogue.partners'")
            await change(
                here, lambda conn: joining.change_partner(conn, here.partner, "Sveis", None, ["mosjoen", "online"])
            )
            await becomes((CANARY, "Sveis", "nn"))
            await catalogue.give_mail(here.settings, here.partner, None)
            await becomes()
        values = b"".join(one.value for one in await records(servers.kafka, "catalogue.partners", count + 2))
    assert here.partner.encode() in values
    assert b"kanari" not in values
    assert "kanari" not in "".join(capfd.readouterr())


async def test_a_word_of_before_there_were_addresses_is_understood(servers: Servers) -> None:
    folder = Path("contracts/examples")
    async with mail_server() as sink, notifier(servers, sink) as there:
        listeners = notifier_events.partner_listeners(PRIVATE)
        for kind in ("PartnerJoined", "PartnerChanged", "PartnerSuspended"):
            value = (folder / f"no.kursnett.catalogue.{kind}.v1" / "keys.json").read_bytes()
            assert "sealed" not in json.loads(value)["data"]
            received = listeners.read(Record("catalogue.partners", 0, 0, b"torgar", (), value))
            await there.here.database.run(lambda conn, one=received: listeners.tell(conn, [one]), "consumer")  # type: ignore[misc]
        assert await there.rows("SELECT slug FROM partners") == [("torgar",)]
        assert await there.rows("SELECT FROM partner_offices") == []
