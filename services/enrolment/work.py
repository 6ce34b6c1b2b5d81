"""One transaction over some offerings: each step is noted in their books, written and said; freed seats are filled."""

import hashlib
import secrets
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Self
from uuid import UUID

import uuid_utils.compat as uuid

from contracts.enrolment import ContactGiven, OfferingFilled, OfferingReopened
from contracts.envelope import Event
from kit import outbox, sealing, trail
from kit.database import Connection
from kit.trail import Trail
from services.enrolment import acts, domain, telling
from services.enrolment.domain import UNRANKED, Book, Change, Enrolment
from services.enrolment.settings import EnrolmentSettings
from services.enrolment.store import enrolments, lines, seats, times
from services.enrolment.store.times import NewOffer


class Work:
    """What one transaction does to the offerings it has locked. Nothing else writes seats, lines or enrolments."""

    def __init__(self, conn: Connection, books: dict[UUID, Book], now: datetime, settings: EnrolmentSettings) -> None:
        self.conn = conn
        self.books = books
        self.now = now
        self.settings = settings
        self.had_free: dict[UUID, bool | None] = {  # none: it is to be said how it is, whatever was said before
            offering_id: bool(book.free()) for offering_id, book in books.items()
        }
        self._counts: defaultdict[tuple[UUID, str], list[int]] = defaultdict(lambda: [0, 0])
        self._said: list[tuple[Event, Trail]] = []
        self._due: set[tuple[UUID, datetime]] = set()
        self._moved: set[UUID] = set()

    @classmethod
    async def on(cls, conn: Connection, offering_ids: Iterable[UUID], settings: EnrolmentSettings) -> Self:
        """Lock these offerings and read their books; those that are not there have none."""
        offerings = await seats.lock(conn, sorted(offering_ids))
        places = await seats.places(conn, list(offerings))
        books = {offering_id: Book(offerings[offering_id], places[offering_id]) for offering_id in offerings}
        return cls(conn, books, await seats.now(conn), settings)

    async def add(self, made: Sequence[Enrolment], trails: Sequence[Trail], sealed: Sequence[str | None]) -> None:
        """New enrolments, in the order of asking; the books know them already. `sealed`: how to reach who has said."""
        for one, path, contact in zip(made, trails, sealed, strict=True):
            self._count(None, one)
            if contact is not None:
                self._said.append((ContactGiven(learner_id=one.learner_id, sealed=contact), path))
            self._said.append((telling.of_new(one, self.books[one.offering_id].offering, self.now), path))
        if made:
            await enrolments.add(self.conn, made)

    async def change(self, changes: Sequence[Change], trails: Sequence[Trail], noted: bool = False) -> list[Enrolment]:
        """Take these steps, each of another enrolment; what each is then. `noted`: the books know them already."""
        if not changes:
            return []
        back = iter(await enrolments.numbers(self.conn, sum(one.to_back for one in changes)))
        changes = [
            replace(one, after=replace(one.after, queue_number=next(back), rank=UNRANKED)) if one.to_back else one
            for one in changes
        ]
        made, letters = self._offers(changes)
        await enrolments.change(self.conn, changes)
        over = [(one.before.offer_id, _outcome(one)) for one in changes if one.before.offer_id is not None]
        ended = [(offer_id, outcome) for offer_id, outcome in over if outcome]
        if ended:
            await times.end_offers(self.conn, ended)
        if made:
            await times.add_offers(self.conn, made)
        for one, path in zip(changes, trails, strict=True):
            self._count(one.before, one.after)
            if one.moves_line:
                self.line_moved(one.after.offering_id)
            book = self.books[one.after.offering_id]
            if not noted:
                book.note(one.before, one.after)
            self._said.append((telling.of(one, book.offering, self.now, letters.get(one.after.id, "")), path))
        return [one.after for one in changes]

    def _offers(self, changes: Sequence[Change]) -> tuple[list[NewOffer], dict[UUID, str]]:
        """The offers that these steps make, and for each enrolment its links, sealed for the notifier."""
        made: list[NewOffer] = []
        letters: dict[UUID, str] = {}
        for one in changes:
            after = one.after
            if after.offer_id == one.before.offer_id:
                continue
            if after.offer_id is None or after.place is None or after.expires_at is None:
                continue
            links = {"accept": secrets.token_urlsafe(24), "decline": secrets.token_urlsafe(24)}
            letters[after.id] = sealing.seal(self.settings.contact_public_key, links)
            accept, decline = (digest(token) for token in links.values())
            made.append(
                NewOffer(after.offer_id, after.offering_id, after.id, after.place, after.expires_at, accept, decline)
            )
            self.look_at(after.offering_id, after.expires_at)
        return made, letters

    async def fill(self, offering_id: UUID, path: Trail) -> None:
        """Give every free seat to the first in line who would sit there.

        The one path for a seat that became free, whatever freed it, in the transaction that freed it and under the
        offering's lock: so at no commit is a seat free that somebody stands in line for. Closed offerings stay as they
        are, and so do those that start so soon that a seat is whose who asks first.
        """
        book = self.books[offering_id]
        if domain.closed(book.offering, self.now) is not None or book.offering.open_to_all(self.now):
            return
        while arenas := book.wanted():
            free = {arena: book.places[arena].free for arena in arenas}
            line = await enrolments.first_in_line(self.conn, offering_id, arenas, sum(free.values()))
            # Whoever let an offer lapse stands here no more, be the clock late: their own seat is free then, too.
            lapsed = [acts.lapse(one, book.offering) for one in line if one.expires_at and one.expires_at <= self.now]
            # The first of these always gets a seat, so each round leaves fewer in line or moves one to a better place.
            changes = lapsed or domain.fill(line, free, book.offering, self.now, uuid.uuid7)
            if not changes:
                raise RuntimeError(f"{offering_id}: places say that somebody stands in line, and nobody does")
            await self.change(changes, [path] * len(changes))

    async def placed(self, step: Change) -> Change:
        """With the place in line that the time of asking gives: some who stand there already have asked later."""
        if step.after.state != "queued":
            return step
        in_front = await enrolments.in_front(self.conn, step.after)
        return replace(step, after=replace(step.after, place_in_line=in_front + 1))

    def say(self, event: Event, path: Trail | None = None) -> None:
        self._said.append((event, path or trail.here()))

    def look_at(self, offering_id: UUID, at: datetime) -> None:
        """Look at this offering again at that hour."""
        self._due.add((offering_id, at))

    def line_moved(self, offering_id: UUID) -> None:
        """Somebody may stand further in front than before: those in line are told at the next hour for it."""
        self._moved.add(offering_id)

    async def close(self) -> None:
        """Write what is counted, and say everything that has been done. Nothing may follow."""
        counts = {key: (seated, waiting) for key, (seated, waiting) in self._counts.items() if seated or waiting}
        if counts:
            await seats.count(self.conn, counts)
        for offering_id in sorted(self._moved):
            book = self.books[offering_id]
            if book.offering.tell_line_at is None and any(place.queued for place in book.places.values()):
                at = domain.next_hour(self.now, self.settings.line_told_at)
                await lines.tell_at(self.conn, offering_id, at)
                self.look_at(offering_id, at)
        if self._due:
            await times.add_timers(self.conn, sorted(self._due))
        last = self._said[-1][1] if self._said else trail.here()
        for offering_id, book in self.books.items():
            has_free = bool(book.free())
            run = book.offering
            over = run.cancelled or self.now >= run.ends_at or run.over_since is not None
            if has_free != self.had_free[offering_id] and not over:
                self.say((OfferingReopened if has_free else OfferingFilled)(**telling.seats(book)), last)
        await outbox.add_all(self.conn, [event for event, _ in self._said], [path for _, path in self._said])

    def _count(self, before: Enrolment | None, after: Enrolment) -> None:
        for arena, seated, waiting in domain.steps(before, after):
            counted = self._counts[after.offering_id, arena]
            counted[0] += seated
            counted[1] += waiting


def digest(token: str) -> bytes:
    """What is kept of a link's token: it has 192 random bits, so that a plain digest cannot be guessed back."""
    return hashlib.sha256(token.encode()).digest()


def _outcome(change: Change) -> str | None:
    """How the offer that was open has ended with this step, none when it is open still."""
    if change.after.offer_id == change.before.offer_id:
        return None
    if change.why in ("accepted", "declined", "lapsed"):
        return change.why
    return "replaced" if change.after.offer_id is not None else "withdrawn"
