"""Gathers what is held for a person's digest into one notice when its hour has come, and writes its letter."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from email.headerregistry import Address
from typing import Any
from uuid import UUID

from jinja2.sandbox import SandboxedEnvironment

from kit import logs
from kit.database import Connection
from kit.running import Running
from services.notifier import appointments, changes, letters
from services.notifier.channels.channel import Letter
from services.notifier.decisions import CHANGED, refused
from services.notifier.kinds import ADVANCED, KINDS
from services.notifier.store import digests as store
from services.notifier.store.outgoing import Claimed

log = logs.get(__name__)

DIGEST = "digest"
SAID_AGAIN = ("reminder", ADVANCED)
MOST = 100  # that are held, and what else is held of the same people, in one transaction
EVERY_S = 1.0


async def run(running: Running) -> None:
    """A worker: look for digests whose hour has come until the process is to stop."""
    while not running.stopping.is_set():
        made = await running.database.run(gather, "worker")
        if made < MOST and not await running.pause(EVERY_S):
            return


async def gather(conn: Connection) -> int:
    """Make one digest for each of some people who have something held for now; returns how many notices these were."""
    held = await store.held(conn, MOST)
    people: dict[UUID, list[store.Held]] = {}
    for one in held:
        people.setdefault(one.learner_id, []).append(one)
    for mine in people.values():
        decided = [(one, refused(one.cadence, concerned=one.concerned)) for one in mine]
        dropped = {one.id: no.reason for one, no in decided if no is not None}
        left = [one for one, no in decided if no is None]
        told = newest(left)
        if told:
            await store.owe(conn, told, DIGEST, facts(told))
        dropped |= {one.id: "told_with_later" for one in left} | {one.id: "in_digest" for one in told}
        await store.done_with(conn, dropped)
        log.info("digest_gathered", count=len(told))
    return len(held)


def newest(left: Sequence[store.Held]) -> list[store.Held]:
    """These without what a later one says again: one letter reminds of a course once."""
    last = {(one.about, one.template): one.id for one in left}
    return [one for one in left if one.template not in SAID_AGAIN or last[one.about, one.template] == one.id]


def facts(told: Sequence[store.Held]) -> dict[str, Any]:
    """What the letter of these notices needs: they are not looked at again, but for `as_chosen`."""
    return {
        "categories": sorted({KINDS[one.template].category for one in told}),
        "items": [
            {
                "template": one.template,
                "about": str(one.about),
                "place": one.place,
                "place_in_line": one.place_in_line,
                "facts": one.facts,
                "title": one.title,
                "starts_at": one.starts_at.isoformat(),
                "ends_at": one.ends_at.isoformat(),
                "sessions": one.sessions if len(one.sessions) == 1 else [],  # of several the run's own times are told
                "appointment": None
                if one.sequence is None
                else {
                    "about": str(one.about),
                    "sequence": one.sequence,
                    "sessions": one.sessions,
                    "before": one.sessions_before,
                },
            }
            for one in told
        ],
    }


async def as_chosen(conn: Connection, claimed: Sequence[Claimed]) -> list[Claimed]:
    """The same, each digest as its runs are by now, since a mail server may have been away: without what has begun or
    is nothing for its person any more, and without what they have turned off; with nothing left, it is not sent."""
    mine = [one for one in claimed if one.template == DIGEST]
    if not mine:
        return list(claimed)
    off = await store.turned_off(conn, [one.person for one in mine])
    seats = await store.seats(conn, [item["about"] for one in mine for item in one.facts["items"] if "about" in item])
    return [_left(one, off, seats) if one.template == DIGEST else one for one in claimed]


def _left(digest: Claimed, off: Collection[tuple[str, str, str]], seats: Mapping[str, store.Seat]) -> Claimed:
    items = [_as_it_is(digest, item, seats.get(item.get("about", ""))) for item in digest.facts["items"]]
    so = [(KINDS[item["template"]].category, item) for item in items if item is not None]
    told = [(category, item) for category, item in so if (digest.person, category, digest.channel) not in off]
    said = {"categories": sorted({category for category, _ in told}), "items": [item for _, item in told]}
    return replace(digest, facts=said, cadence="off" if so and not told else digest.cadence, concerned=bool(so))


def _as_it_is(digest: Claimed, item: Mapping[str, Any], seat: store.Seat | None) -> Mapping[str, Any] | None:
    """One of its notices as it would be written now; none when it is not told any more. One of a seat that is not
    known, or of before this was looked at, stays as it was."""
    if seat is None:
        return item
    template, facts, entered = item["template"], item["facts"], item["appointment"]
    elsewhere = template == ADVANCED and (seat.state != "queued" or (seat.placed_by or digest.id) > digest.id)
    now = digest.now or digest.sending_since
    begun = template == "reminder" and seat.begins_at <= now
    ends_at = (
        max(seat.ends_at, datetime.fromisoformat(facts["was"]["ends_at"])) if template == CHANGED else seat.ends_at
    )
    over = seat.state in ("finished", "over") and ends_at <= now  # as in `outgoing.claim`
    if not seat.concerned or elsewhere or begun or over:
        return None
    times = {"starts_at": seat.starts_at.isoformat(), "ends_at": seat.ends_at.isoformat()}
    if template == CHANGED:
        facts = changes.merged(facts, {**facts, "now": {**times, "sessions": seat.sessions}}, seat.arenas)
    if facts is None:
        return None
    if entered is not None:
        entered = {**entered, "sequence": max(entered["sequence"], seat.sequence or 0), "sessions": seat.sessions}
    sessions = seat.sessions if len(seat.sessions) == 1 else []
    held = {"place": seat.place or item["place"], "title": seat.title, "sessions": sessions, "appointment": entered}
    return {**item, **times, **held, "facts": facts}


def letter(templates: SandboxedEnvironment, notice: Claimed, unsubscribe: str | None, organizer: Address) -> Letter:
    """The digest in its person's language, with the appointments that have changed. Raises jinja2.TemplateError."""
    each = [_alone(notice, one) for one in notice.facts["items"]]
    whole = replace(notice, facts={"items": [_item(templates, one) for one in each]}, provider=None)  # of several
    made = letters.letter(templates, whole, None, unsubscribe)
    entered = [appointments.appointment(one, made, organizer) for one in each if one.sequence is not None]
    return replace(made, appointment=appointments.together(entered)) if entered else made


def _alone(notice: Claimed, one: Mapping[str, Any]) -> Claimed:
    """One notice of many, as if it went by itself."""
    starts_at, ends_at = (datetime.fromisoformat(one[name]) for name in ("starts_at", "ends_at"))
    entered = one.get("appointment")  # as with what follows: one of before there was such news has none
    alone = replace(
        notice,
        template=one["template"],
        place=one["place"],
        place_in_line=one.get("place_in_line"),
        facts=one["facts"],
        title=one["title"],
        starts_at=starts_at,
        ends_at=ends_at,
        sessions=one.get("sessions", []),
    )
    if entered is None:
        return alone
    return replace(
        alone,
        about=UUID(entered["about"]),
        sequence=entered["sequence"],
        sessions=entered["sessions"],
        sessions_before=entered.get("before", one["facts"]["was"]["sessions"]),
    )


def _item(templates: SandboxedEnvironment, alone: Claimed) -> dict[str, Any]:
    """Its subject, and what is of it alone; of several meetings the run's own times."""
    alone = replace(alone, sessions=alone.sessions if len(alone.sessions) == 1 else [])
    said = letters.words(alone)
    return {
        "subject": letters.letter(templates, alone).subject,
        "when": said["when"],
        "place": said["place"],
        "before": said.get("before", []),
        "after": said.get("after", []),
        "closed_places": said.get("closed_places", ""),
    }
