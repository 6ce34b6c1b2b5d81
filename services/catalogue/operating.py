"""What operators do by command with partners and their files."""

import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import cyclopts

from contracts.fields import clean
from contracts.topics import partner_courses
from kit import acts, parking, topics
from kit.database import BUSY, connect, is_away
from kit.operating import me
from kit.partners import digest_of
from kit.settings import read
from services.catalogue import holding, joining, logins, members, offices, settling, sheet
from services.catalogue.domain import Rule
from services.catalogue.imports import Imported, bring_in
from services.catalogue.line import Flag, Json, changed, end
from services.catalogue.members import Member, NotValid, Step
from services.catalogue.offices import Office
from services.catalogue.settings import CatalogueSettings
from services.catalogue.sheet import Unreadable
from services.catalogue.store import partners

LABELS = {"slug": "SLUG", "arenas": "--arena", "mail_language": "--mail-language"}  # else as the field is called
LOST = (
    "the database went away at the end, so the key and the password at Kafka that it has may not work any more:"
    " run this again, and give it what is shown then"
)


def operators(app: cyclopts.App) -> None:
    """Give the command line what operators do with partners."""
    partners = cyclopts.App(name="partners", help="Providers of courses.")
    app.command(partners)

    @partners.command(name="add")
    def _add(
        slug: str,
        *,
        name: str,
        arena: Annotated[list[str], cyclopts.Parameter(negative="")],
        orgnr: str | None = None,
        contact: str | None = None,
        mail: str | None = None,
        mail_language: str | None = None,
        as_json: Json = False,
    ) -> None:
        """Let a provider in: its topic, its key and its log-in at Kafka, shown this once. Running services notice.

        In --contact stands how learners reach its office, such as "post@nesna.example, 75 00 00 00": it is public.
        Once a day its office is told by --mail what has happened to its courses; nobody but the notifier can read it.

        Example: partners add nesna --name "Nesna kurssenter" --orgnr 100000601 --arena mo-i-rana --arena online
        """
        for field, words in [*members.wrong(slug, name, orgnr, arena, contact), *offices.wrong(mail, mail_language)]:
            sys.exit(f"{LABELS.get(field, f'--{field}')} {words}.")
        office = offices.office(mail, mail_language)
        name, contact = clean(name), contact and clean(contact)
        made = end(add(read(CatalogueSettings), slug, name, orgnr, arena, office, contact), f"{slug} was not added")
        for words in members.misspelt(slug, arena):
            print(words, file=sys.stderr)
        if as_json:
            print(json.dumps(made))
            return
        print(f"Its key over HTTP, shown this once: {made['key']}")
        print(connecting(slug, made["kafka"]))

    @partners.command(name="list")
    def _list(*, as_json: Json = False) -> None:
        """List the providers."""
        rows = end(listed(read(CatalogueSettings)), "The providers cannot be listed")
        if as_json:
            print(json.dumps(rows, default=str, ensure_ascii=False))
        for row in () if as_json else rows:
            print(f"{row['slug']:<20} {row['state']:<12} {row['name']}  ({', '.join(row['arenas'])})")

    @partners.command(name="show")
    def _show(slug: str, *, as_json: Json = False) -> None:
        """Show one provider. Example: partners show nesna"""
        rows = [row for row in end(listed(read(CatalogueSettings)), "It cannot be shown") if row["slug"] == slug]
        if not rows:
            sys.exit(f"{slug} is not a partner; see: partners list.")
        if as_json:
            print(json.dumps(rows[0], default=str, ensure_ascii=False))
        for name, value in () if as_json else rows[0].items():
            print(f"{name:<14} {', '.join(value) if isinstance(value, list) else value if value is not None else '-'}")

    @partners.command(name="mail")
    def _mail(
        slug: str,
        address: str | None = None,
        *,
        language: str | None = None,
        remove: Flag = False,
    ) -> None:
        """Let a provider's office have its daily mail at this address from now on, or nowhere with --remove.

        An office that has stopped its mails by their link gets them again when its address is removed and given anew.

        Example: partners mail nesna post@nesna.example --language nn
        """
        if (address is None) != remove:
            sys.exit("Give an address, or --remove.")
        for field, words in offices.wrong(address, language):
            sys.exit(f"{'ADDRESS' if field == 'mail' else '--language'} {words}.")
        office = offices.office(address, language)
        end(give_mail(read(CatalogueSettings), slug, office), f"The address of {slug} was not changed")
        print(f"{slug} gets a mail a day at this address." if office else f"{slug} gets no mail any more.")

    @partners.command(name="suspend")
    def _suspend(slug: str, *, reason: str) -> None:
        """Take nothing more from a provider; what it sends over Kafka is kept until `partners release`.

        Example: partners suspend nesna --reason "the contract has ended"
        """
        if not reason.strip():
            sys.exit("Say why, with --reason: the provider is told.")
        end(changed(lambda conn: holding.suspend(conn, me(), slug, reason)), f"{slug} was not suspended")
        print(f"{slug} is suspended. Its courses stay; let it go on with: partners release {slug}")

    @partners.command(name="release")
    def _release(slug: str) -> None:
        """Take from a provider again; what was kept meanwhile runs on in its order. Example: partners release nesna"""
        count = end(changed(lambda conn: holding.release(conn, me(), slug)), f"{slug} was not released")
        print(f"{slug} may publish; {count} records that were kept run on now.")

    settling.add(partners)

    @partners.command(name="rotate-key")
    def _rotate(slug: str, *, at_once: Flag = False, as_json: Json = False) -> None:
        """Give a provider a new key and a new password at Kafka, shown this once.

        The old key works until the next, or not at all with --at-once. The old password lets nobody in from now on.

        Example: partners rotate-key nesna
        """
        made = end(rotate(read(CatalogueSettings), slug, at_once), f"{slug} got no new key to show")
        if as_json:
            print(json.dumps(made))
            return
        print(f"Its new key over HTTP, shown this once: {made['key']}")
        print("The key before it works no more." if at_once else "The key before it works until the next rotation.")
        print(connecting(slug, made["kafka"]))
        if made["kafka"]:
            print("A password before it lets nobody in from now on; what is connected is put out within the hour.")

    @partners.command(name="sync")
    def _sync(file: Path, *, dry_run: Flag = False, as_json: Json = False) -> None:
        """Let in and change providers as a file says; what it did is shown, with the keys of those let in, this once.

        Run again, it changes nothing. Who is not in the file stays as he is: nobody is taken out or suspended by it.
        Each who has joined may do at Kafka what partners may by now; the password there stays. Every service is told
        of the keys of those who joined before services were.

        Example: partners sync deploy/partners.toml --dry-run
        """
        try:
            wanted = members.read(file.read_bytes())
        except OSError as error:
            sys.exit(f"{file} cannot be read: {error.strerror}.")
        except NotValid as error:
            sys.exit("\n".join([*error.mistakes, f"Nothing was done: mend these in {file}, and run it again."]))
        steps, absent = end(synced(read(CatalogueSettings), wanted, dry_run), "Nothing was done")
        for words in (words for one in wanted for words in members.misspelt(one.slug, one.arenas)):
            print(words, file=sys.stderr)
        if as_json:
            told = [asdict(one) for one in steps]
            print(json.dumps({"dry_run": dry_run, "partners": told, "not_in_file": absent}, ensure_ascii=False))
            return
        print("\n".join(differences(steps, absent, dry_run)))

    @app.command(name="import")
    def _import(file: Path, *, partner: str, dry_run: Flag = False, as_json: Json = False) -> None:
        """Take in a CSV file of courses for a partner; all of it or nothing. Ends with 1 when it has mistakes.

        Example: import courses.csv --partner torgar --dry-run
        """
        try:
            content = file.read_bytes()
        except OSError as error:
            sys.exit(f"{file} cannot be read: {error.strerror}.")
        try:
            found = end(brought_in(read(CatalogueSettings), partner, content, dry_run), f"{file} was not taken in")
        except Unreadable as error:
            if as_json:
                print(json.dumps({"errors": [asdict(one) for one in error.mistakes]}, ensure_ascii=False))
                sys.exit(1)
            # A header may be anything: it must not look like a line of ours, or clear the screen.
            lines = [f"row {one.row:<5} {parking.readable(one.column):<14} {one.detail}" for one in error.mistakes]
            sys.exit("\n".join([*lines, f"{file} was not taken in: mend these, and run it again."]))
        if as_json:
            print(found.model_dump_json())
            return
        for item in found.items:
            print(f"row {item.row:<5} {item.outcome:<10} {item.code}{'/' + item.key if item.key else ''}")
        word = "would be " if dry_run else ""
        ended = f" {found.retracted} {word}retracted." if found.retracted else ""
        print(f"{found.created} {word}created, {found.changed} {word}changed, {found.unchanged} as they were.{ended}")


def connecting(slug: str, kafka: dict[str, Any] | None) -> str:
    """How a provider connects to Kafka, for people; the password is in it."""
    if kafka is None:
        return "It has no log-in at Kafka: KURSNETT_KAFKA_PARTNERS_BOOTSTRAP names no listener. It publishes over HTTP."
    how = f"{kafka['bootstrap']} with {kafka['security_protocol']} and {kafka['mechanism']}"
    return (
        f"Over Kafka it may publish to {partner_courses(slug).name} at {how}.\n"
        f"Its log-in there, shown this once: {kafka['username']} {kafka['password']}"
    )


def differences(steps: list[Step], absent: list[str], dry_run: bool) -> list[str]:
    """What a file of providers has changed, or would, in lines for people."""
    lines = []
    for one in steps:
        sign = {"added": "+", "changed": "~", "unchanged": " "}[one.outcome]
        lines.append(f"{sign} {one.slug}" + (f"  ({one.state}, and stays so)" if one.state != "active" else ""))
        for name, (before, after) in one.changes.items():
            old, new = (", ".join(it) if isinstance(it, list) else it or "none" for it in (before, after))
            lines.append(f"    {name:<8} {new}" if one.outcome == "added" else f"    {name:<8} {old}  ->  {new}")
        if one.key is not None:
            lines += [f"    Its key over HTTP, shown this once: {one.key}"]
            lines += [f"    {line}" for line in connecting(one.slug, one.kafka).splitlines()]
    lines += [
        f"? {slug}  (not in the file: left as it is; to hold it up: partners suspend {slug} --reason …)"
        for slug in absent
    ]
    count = {name: sum(one.outcome == name for one in steps) for name in ("added", "changed", "unchanged")}
    word = "would be " if dry_run else ""
    return [
        *lines,
        f"{count['added']} {word}added, {count['changed']} {word}changed, {count['unchanged']} as they were.",
    ]


async def add(
    settings: CatalogueSettings,
    slug: str,
    name: str,
    orgnr: str | None,
    arenas: list[str],
    office: Office | None = None,
    contact: str | None = None,
) -> dict[str, Any]:
    """Make the partner, its key, its topic and its user at Kafka: {slug, key, kafka}, as logins.give says it.

    Raises Rule, TopicsError or AccessError, with nothing half done that matters.
    """
    await topics.declare(settings.kafka_bootstrap, [partner_courses(slug)])  # first: an empty topic harms nobody
    conn = await connect(settings, "operator")
    try:
        async with conn.transaction():
            key = await joining.add_partner(conn, slug, name, orgnr, sorted(set(arenas)), contact)
            if office is not None:
                await joining.set_mail(conn, slug, offices.sealed(settings.contact_public_key, office))
            await acts.add(conn, me(), "partners add", [slug])
            # In the transaction: a slug that is taken must not cost its partner the password that it has.
            return {"slug": slug, "key": key, "kafka": await logins.give(settings, slug)}
    finally:
        await conn.close()


async def give_mail(settings: CatalogueSettings, slug: str, office: Office | None) -> None:
    """Give the partner's office this address, or none. Raises Rule."""
    sealed = offices.sealed(settings.contact_public_key, office) if office else None
    conn = await connect(settings, "operator")
    try:
        async with conn.transaction():
            await joining.set_mail(conn, slug, sealed)
            await acts.add(conn, me(), "partners mail", [slug], "" if office else "removed")
    finally:
        await conn.close()


async def synced(settings: CatalogueSettings, wanted: list[Member], dry_run: bool) -> tuple[list[Step], list[str]]:
    """Bring about what the file of providers wants, or find out what that is; and who is not in it.

    All of it or nothing. Raises Rule, TopicsError or AccessError.
    """
    conn = await connect(settings, "operator")
    try:
        async with conn.transaction():
            steps, absent = await members.compare(conn, wanted)
            if not dry_run:
                new = [partner_courses(one.slug) for one in steps if one.outcome == "added"]
                if new:
                    await topics.declare(settings.kafka_bootstrap, new)  # an empty topic harms nobody
                await members.bring_about(conn, settings, wanted, steps)
                await joining.tell_keys(conn)
                await acts.add(conn, me(), "partners sync", [one.slug for one in steps if one.outcome != "unchanged"])
                await logins.allow(settings, [*(one.slug for one in steps if one.outcome != "added"), *absent])
        return steps, absent
    finally:
        await conn.close()


async def rotate(settings: CatalogueSettings, slug: str, at_once: bool) -> dict[str, Any]:
    """A new key and a new log-in at Kafka: {slug, key, kafka}. Raises Rule or AccessError, with all as it was but for
    what `LOST` says."""
    conn = await connect(settings, "operator")
    made: dict[str, Any] | None = None
    try:
        async with conn.transaction():
            key = await joining.rotate_key(conn, slug, at_once)
            await acts.add(conn, me(), "partners rotate-key", [slug], "at once" if at_once else "")
            made = {"slug": slug, "key": key, "kafka": await logins.give(settings, slug)}
    except Exception as error:  # whatever it is
        if made is None:
            raise
        if not await _opens(settings, slug, made["key"]):
            raise Rule("lost", "slug", LOST) from error
    finally:
        await conn.close()
    return made


async def _opens(settings: CatalogueSettings, slug: str, key: str) -> bool:
    """Whether the database has this key after all, with the answer to COMMIT lost. Unseen, it would be the newest: the
    next rotation would keep it, and end the one that the partner has."""
    try:
        conn = await connect(settings, "operator")
        try:
            async with conn.transaction():
                await partners.lock(conn, slug)  # waits for a COMMIT that is under way
                return digest_of(key) in await partners.keys(conn, slug)
        finally:
            await conn.close()
    except Exception as error:
        if is_away(error) or isinstance(error, BUSY):
            return False
        raise


async def brought_in(settings: CatalogueSettings, partner: str, content: bytes, dry_run: bool) -> Imported:
    """Take in a file in one transaction, or find out what it would do. Raises Unreadable and Rule."""
    whole = sheet.read(content)
    conn = await connect(settings, "operator")
    try:
        transaction = conn.transaction()
        await transaction.start()
        try:
            if await partners.known(conn, partner) is None:
                raise Rule("unknown_partner", "partner", f"{partner} is not a partner; see: partners list")
            found = await bring_in(conn, partner, whole, dry_run)
            await acts.add(conn, me(), "import", [partner])  # goes with the rest when this is a dry run
        except BaseException:
            await transaction.rollback()
            raise
        await (transaction.rollback() if dry_run else transaction.commit())
        return found
    finally:
        await conn.close()


async def listed(settings: CatalogueSettings) -> list[dict[str, Any]]:
    conn = await connect(settings, "operator")
    try:
        rows = [dict(row) for row in await partners.partners(conn)]
        return [row | {"mail": None if row.pop("mail_digest") is None else "given"} for row in rows]
    finally:
        await conn.close()
