"""What can be done in the catalogue: let partners in, publish and withdraw courses and offerings."""

import hashlib
import json
import secrets
from dataclasses import dataclass
from typing import Any, Literal
from uuid import UUID

from contracts.catalogue import (
    CourseChanged,
    CourseCreated,
    CourseWithdrawn,
    OfferingCancelled,
    OfferingChanged,
    OfferingScheduled,
    PartnerJoined,
)
from contracts.partner import CourseText, OfferingDates
from kit import outbox
from kit.database import Connection
from services.catalogue import domain, store
from services.catalogue.domain import Rule

# What the address and the envelope say is not part of the content.
ADDRESS = {"code", "course_code", "key", "seq"}

Wanted = int | Literal["*"] | None  # the version that must be there; "*": any; none: no condition


@dataclass(frozen=True, slots=True)
class Published:
    """`created` or `changed`, or neither when nothing new was said."""

    id: UUID
    version: int
    created: bool = False
    changed: bool = False


def digest_of(key: str) -> bytes:
    """A key has 256 random bits, so that a plain digest cannot be guessed back."""
    return hashlib.sha256(key.encode()).digest()


async def add_partner(conn: Connection, slug: str, name: str, orgnr: str | None, arenas: list[str]) -> str:
    """Let a partner in; returns its key, which is shown this once. Raises Rule when the slug is taken."""
    if not await store.add_partner(conn, slug, name, orgnr, arenas):
        raise Rule("partner_exists", "slug", f"{slug} is a partner already; see: partners list")
    key = f"kn_{slug}_{secrets.token_urlsafe(32)}"
    await store.add_key(conn, slug, digest_of(key))
    await outbox.add(conn, PartnerJoined(partner=slug, name=name, orgnr=orgnr, arenas=arenas, version=1))
    return key


async def publish_course(
    conn: Connection, partner: str, code: str, text: CourseText, if_version: Wanted = None
) -> Published:
    """Make or change a course. Saying the same again changes nothing. Raises Rule."""
    domain.known_subjects(text.subjects, await store.subjects(conn))
    if await store.partner(conn, partner) is None:
        raise Rule("unknown_partner", "partner", f"{partner} is not a partner")
    content = _content(text)
    made = await store.create_course(conn, partner, code, content)
    if made is not None:
        _expect(if_version, 0)
        await outbox.add(conn, CourseCreated(course_id=made, partner=partner, code=code, version=1, **content))
        return Published(made, 1, created=True)
    row = await store.lock_course(conn, partner, code)
    if row is None:
        raise LookupError("a course that was there is gone")
    _expect(if_version, row["version"])
    if json.loads(row["content"]) == content and not row["withdrawn"]:
        return Published(row["id"], row["version"])
    version = await store.change_course(conn, row["id"], content)
    await outbox.add(conn, CourseChanged(course_id=row["id"], partner=partner, code=code, version=version, **content))
    return Published(row["id"], version, changed=True)


async def retract_course(conn: Connection, partner: str, code: str) -> None:
    """Offer a course no more, and cancel its offerings. Raises Rule when there is none."""
    row = await _locked(conn, partner, code)
    if row["withdrawn"]:
        return
    for offering in await store.offerings(conn, row["id"]):
        await _cancel(conn, row, offering, "the course was withdrawn")
    version = await store.withdraw_course(conn, row["id"])
    await outbox.add(conn, CourseWithdrawn(course_id=row["id"], partner=partner, version=version))


async def publish_offering(
    conn: Connection, partner: str, code: str, key: str, dates: OfferingDates, if_version: Wanted = None
) -> Published:
    """Schedule or change a run of a course. Saying the same again changes nothing. Raises Rule."""
    course = await _locked(conn, partner, code)
    if course["withdrawn"]:
        raise Rule("course_withdrawn", "code", f"course {code} was withdrawn; publish it again first")
    owner = await store.partner(conn, partner)
    domain.own_arenas([place.arena for place in dates.places], owner["arenas"] if owner else [])
    content = _content(dates)
    found = await store.offering_of(conn, course["id"], key)
    if found is None:
        _expect(if_version, 0)
        offering_id = await store.create_offering(conn, course["id"], key, content)
        await outbox.add(conn, OfferingScheduled(**_about(course, offering_id, key, 1), **content))
        return Published(offering_id, 1, created=True)
    _expect(if_version, found["version"])
    if found["state"] == "cancelled":
        raise Rule("offering_cancelled", "key", "this offering was cancelled; publish a new one under another key")
    if json.loads(found["content"]) == content:
        return Published(found["id"], found["version"])
    version = await store.change_offering(conn, found["id"], content, "scheduled")
    await outbox.add(conn, OfferingChanged(**_about(course, found["id"], key, version), **content))
    return Published(found["id"], version, changed=True)


async def cancel_offering(conn: Connection, partner: str, code: str, key: str, reason: str) -> Published:
    """Cancel a run; doing so twice changes nothing. Raises Rule when there is none."""
    course = await _locked(conn, partner, code)
    found = await store.offering_of(conn, course["id"], key)
    if found is None:
        raise Rule("unknown_offering", "key", f"course {code} has no offering {key}")
    version = await _cancel(conn, course, found, reason)
    return Published(found["id"], version, changed=version != found["version"])


async def _cancel(conn: Connection, course: store.Row, offering: store.Row, reason: str) -> int:
    if offering["state"] == "cancelled":
        version: int = offering["version"]
        return version
    version = await store.change_offering(conn, offering["id"], json.loads(offering["content"]), "cancelled")
    about = {"offering_id": offering["id"], "course_id": course["id"], "partner": course["partner"]}
    await outbox.add(conn, OfferingCancelled(**about, version=version, reason=reason))
    return version


async def _locked(conn: Connection, partner: str, code: str) -> store.Row:
    row = await store.lock_course(conn, partner, code)
    if row is None:
        raise Rule("unknown_course", "code", f"{partner} has no course {code}; publish it first")
    return row


def _about(course: store.Row, offering_id: UUID, key: str, version: int) -> dict[str, Any]:
    return {
        "offering_id": offering_id,
        "course_id": course["id"],
        "partner": course["partner"],
        "key": key,
        "version": version,
    }


def _content(said: CourseText | OfferingDates) -> dict[str, Any]:
    return said.model_dump(mode="json", exclude=ADDRESS)


def _expect(wanted: Wanted, version: int) -> None:
    """Raises Rule when it is not what the caller has read; `version` is 0 while there is none."""
    if wanted is None or wanted == version or (wanted == "*" and version):
        return
    now = (
        f"it is at version {version}: read it again" if version else "there is none yet: leave If-Match out to make it"
    )
    raise Rule("stale", "header if-match", f"does not name the present version; {now}")
