"""How partners come, change, are held up and go on; and their keys, which are shown once."""

import secrets
from collections.abc import Mapping
from typing import Any

from contracts.catalogue import PartnerChanged, PartnerJoined, PartnerState, PartnerSuspended
from contracts.topics import partner_courses
from kit import outbox
from kit.database import Connection
from kit.partners import PREFIX, digest_of
from services.catalogue.domain import Rule
from services.catalogue.offices import Sealed
from services.catalogue.store import Row, partners


async def add_partner(
    conn: Connection, slug: str, name: str, orgnr: str | None, arenas: list[str], contact: str | None = None
) -> str:
    """Let a partner in; returns its key, which is shown this once. Raises Rule when the slug is taken."""
    if not await partners.add_partner(conn, slug, name, orgnr, arenas, contact):
        raise Rule("partner_exists", "slug", f"{slug} is a partner already; see: partners list")
    key = await _new_key(conn, slug)  # before it is spoken of: its digest is told with the rest
    await _say(conn, PartnerJoined, dict(await partners.told(conn, slug)))
    return key


async def change_partner(
    conn: Connection, slug: str, name: str, orgnr: str | None, arenas: list[str], contact: str | None = None
) -> bool:
    """Let a partner be as this says, all of it. False when it is so already. Raises Rule when there is none."""
    row = await _locked(conn, slug)
    if (row["name"], row["orgnr"], sorted(row["arenas"]), row["contact"]) == (name, orgnr, sorted(arenas), contact):
        return False
    await _say_changed(conn, await partners.change(conn, slug, name, orgnr, arenas, contact))
    return True


async def set_mail(conn: Connection, slug: str, office: Sealed | None) -> None:
    """Let the notifier write to this office of a partner from now on, or to none. Raises Rule when it is unknown."""
    await _locked(conn, slug)
    kept = (office.letter, office.digest, office.language) if office else (None, None, None)
    await _say_changed(conn, await partners.set_mail(conn, slug, *kept))


async def suspend(conn: Connection, slug: str, because: str) -> None:
    """Take nothing more from a partner; what it sends over Kafka is kept. Raises Rule when there is none."""
    row = await _locked(conn, slug)
    changed = await partners.set_state(conn, slug, "suspended", because)
    if row["state"] != "suspended":
        await _say_changed(conn, changed)


async def quarantine(conn: Connection, slug: str, because: str) -> bool:
    """Keep what a partner sends over Kafka until it is let go on; over HTTP and in files it is told at once anyway.

    False when it is held up already. Raises Rule when there is none.
    """
    row = await _locked(conn, slug)
    if row["state"] != "active":
        return False
    await _say_changed(conn, await partners.set_state(conn, slug, "quarantined", because))
    return True


async def release(conn: Connection, slug: str) -> int:
    """Take from a partner again; how many records that were kept run on now, in the order in which they came.

    What comes meanwhile waits behind them. Raises Rule when there is no such partner.
    """
    row = await _locked(conn, slug)
    topic = partner_courses(slug).name
    if row["state"] != "active":
        await _say_changed(conn, await partners.set_state(conn, slug, "active", ""))
        await partners.count_anew(conn, slug, topic)
    return await partners.waiting(conn, topic)


async def rotate_key(conn: Connection, slug: str, at_once: bool) -> str:
    """A new key, shown this once. The one before it works until the next rotation, or not at all when `at_once`.

    The other services are told with the same transaction, and know it a moment later.
    """
    await _locked(conn, slug)
    await partners.drop_keys(conn, slug, 0 if at_once else 1)
    key = await _new_key(conn, slug)
    await _say_changed(conn, await partners.keys_changed(conn, slug))
    return key


async def tell_keys(conn: Connection) -> list[str]:
    """Tell of the keys of those who joined before the other services were told of any; who they are."""
    untold = await partners.keys_untold(conn)
    for slug in untold:
        await _say_changed(conn, await partners.keys_changed(conn, slug))
    return untold


async def say_again(conn: Connection, slug: str) -> None:
    """Say how a partner is, at the version that it has. The caller has locked it."""
    await _say_changed(conn, await partners.told(conn, slug))


async def _new_key(conn: Connection, slug: str) -> str:
    key = f"{PREFIX}{slug}_{secrets.token_urlsafe(32)}"
    await partners.add_key(conn, slug, digest_of(key))
    return key


async def _locked(conn: Connection, slug: str) -> Row:
    row = await partners.lock(conn, slug)
    if row is None:
        raise Rule("unknown_partner", "slug", f"{slug} is not a partner; see: partners list")
    return row


async def _say_changed(conn: Connection, row: Row) -> None:
    """Say how a partner is now. One that is suspended stays so for whoever hears of its new name or key."""
    await _say(conn, PartnerSuspended if row["state"] == "suspended" else PartnerChanged, dict(row))


async def _say(conn: Connection, kind: type[PartnerState], row: Mapping[str, Any]) -> None:
    about: dict[str, Any] = {name: row[name] for name in ("name", "orgnr", "arenas", "contact", "version")}
    keys = [digest.hex() for digest in await partners.keys(conn, row["slug"])]
    await outbox.add(conn, kind(partner=row["slug"], keys=keys, sealed=row["mail_sealed"], **about))
    await partners.keys_are_told(conn, row["slug"])
