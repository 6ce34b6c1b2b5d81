"""SQL of what the notifier knows of people, courses and who sits where."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from contracts.catalogue import CourseState, OfferingCancelled, OfferingRestated, OfferingState, PartnerState
from kit.database import Connection
from services.notifier.store import columns


@dataclass(frozen=True)
class Contact:
    """How to reach a learner; `epoch` and `seq` say which of two is the newer.

    `login` is `kit.auth.Caller.key` of whoever gave it, who may see what is this learner's.
    """

    learner_id: UUID
    email: str
    name: str | None
    language: str
    login: str | None
    epoch: int
    seq: int
    said_at: datetime | None = None
    phone: str | None = None


@dataclass(frozen=True)
class Enrolment:
    """Where an enrolment has come to, and since when."""

    enrolment_id: UUID
    learner_id: UUID
    offering_id: UUID
    state: str
    place: str | None
    since: datetime | None
    epoch: int
    seq: int


@dataclass(frozen=True)
class Confirmation:
    """The catalogue's word that a run will take place."""

    offering_id: UUID
    version: int
    event_id: str
    at: datetime | None
    correlation_id: str
    traceparent: str | None


async def keep_contacts(conn: Connection, contacts: Sequence[Contact]) -> list[str]:
    """Keep each learner's newest contact; one row per learner at most. Returns addresses and numbers that are no more.

    What a person has changed here since it was said stays: it is heard late, or again. A language that was ever chosen
    here (`contacts.change`) stays in any case: the form of an enrolment always has one, its page's. So it is when the
    same log-in comes as another learner, as after a restore that lost the first. Who gives no phone this time has the
    one they gave before. Who was forgotten has none, however late one comes (`erased.stop_contacts`).
    """
    rows = await conn.fetch(
        """
        INSERT INTO contacts AS old (learner_id, email, name, language, login, epoch, seq, said_at, phone,
                                     language_chosen)
        SELECT learner_id, email, name, coalesce(chosen.language, new.language), login, epoch, seq, said_at, phone,
               chosen.language IS NOT NULL
        FROM unnest($1::uuid[], $2::text[], $3::text[], $4::text[], $5::text[], $6::int[], $7::bigint[],
                    $8::timestamptz[], $9::text[])
            AS new (learner_id, email, name, language, login, epoch, seq, said_at, phone)
        LEFT JOIN LATERAL (
            SELECT same.language FROM contacts AS same WHERE same.login = new.login AND same.language_chosen
            ORDER BY same.own_at DESC NULLS LAST LIMIT 1
        ) AS chosen ON true
        WHERE NOT EXISTS (SELECT FROM erased WHERE erased.learner_id = new.learner_id)
        ON CONFLICT (learner_id) DO UPDATE SET
            email = CASE WHEN old.own_at > excluded.said_at THEN old.email ELSE excluded.email END,
            phone = CASE WHEN old.own_at > excluded.said_at THEN old.phone ELSE coalesce(excluded.phone, old.phone) END,
            language = CASE WHEN old.language_chosen OR old.own_at > excluded.said_at THEN old.language
                            ELSE excluded.language END,
            language_chosen = old.language_chosen OR excluded.language_chosen,
            name = excluded.name, login = coalesce(excluded.login, old.login),
            epoch = excluded.epoch, seq = excluded.seq, said_at = excluded.said_at, updated_at = app_now()
        WHERE (excluded.epoch, excluded.seq) >= (old.epoch, old.seq)
        RETURNING WITH (OLD AS before, NEW AS now) nullif(before.email, now.email) AS email,
                  nullif(before.phone, now.phone) AS phone
        """,
        *columns(contacts, "learner_id email name language login epoch seq said_at phone"),
    )
    return [one for row in rows for one in row.values() if one is not None]


async def keep_providers(conn: Connection, partners: Sequence[PartnerState]) -> None:
    """Keep each partner's newest version; one row per partner at most."""
    await conn.execute(
        """
        INSERT INTO providers AS old (partner, name, contact, version)
        SELECT * FROM unnest($1::text[], $2::text[], $3::text[], $4::integer[])
        ON CONFLICT (partner) DO UPDATE SET
            name = excluded.name, contact = excluded.contact, version = excluded.version
        WHERE excluded.version >= old.version
        """,
        *columns(partners, "partner name contact version"),
    )


async def keep_courses(conn: Connection, courses: Sequence[CourseState]) -> list[UUID]:
    """Keep each course's newest version; one row per course at most. Returns which have another title than before."""
    rows = await conn.fetch(
        """
        INSERT INTO courses AS mine (course_id, partner, title, version)
        SELECT * FROM unnest($1::uuid[], $2::text[], $3::jsonb[], $4::bigint[])
        ON CONFLICT (course_id) DO UPDATE SET
            partner = excluded.partner, title = excluded.title, version = excluded.version
        WHERE excluded.version >= mine.version
        RETURNING mine.course_id, old.title <> new.title AS retitled
        """,
        [one.course_id for one in courses],
        [one.partner for one in courses],
        [json.dumps(one.title) for one in courses],
        [one.version for one in courses],
    )
    return [row["course_id"] for row in rows if row["retitled"]]


async def keep_offerings(conn: Connection, offerings: Sequence[OfferingState]) -> None:
    """Keep each offering's newest version; one row per offering at most.

    With another day of decision it is not known any more whether it takes place: so the catalogue has it, too. Without
    one its partner's office is asked for no decision: the catalogue takes none.
    """
    await conn.execute(
        """
        WITH kept AS (
            INSERT INTO offerings AS old (offering_id, course_id, starts_at, ends_at, version, sessions, arenas,
                                          reminder_days, decide_at)
            SELECT offering_id, course_id, starts_at, ends_at, version, sessions,
                   ARRAY(SELECT jsonb_array_elements_text(arenas)),
                   ARRAY(SELECT jsonb_array_elements_text(reminder_days)::int), decide_at
            FROM unnest($1::uuid[], $2::uuid[], $3::timestamptz[], $4::timestamptz[], $5::bigint[], $6::timestamptz[],
                        $7::jsonb[], $8::jsonb[], $9::jsonb[])
                AS new (offering_id, course_id, starts_at, ends_at, version, decide_at, sessions, arenas, reminder_days)
            ON CONFLICT (offering_id) DO UPDATE SET
                course_id = excluded.course_id, starts_at = excluded.starts_at, ends_at = excluded.ends_at,
                version = excluded.version, sessions = excluded.sessions, arenas = excluded.arenas,
                reminder_days = excluded.reminder_days, decide_at = excluded.decide_at,
                takes_place = old.takes_place AND old.decide_at IS NOT DISTINCT FROM excluded.decide_at
            WHERE excluded.version >= old.version
            RETURNING WITH (OLD AS before, NEW AS now)
                      now.offering_id, before.decide_at IS NOT NULL AND now.decide_at IS NULL AS undecided
        )
        DELETE FROM partner_news AS news USING kept
        WHERE kept.undecided AND news.offering_id = kept.offering_id AND news.kind = 'on_hold'
        """,
        *columns(offerings, "offering_id course_id starts_at ends_at version decide_at"),
        [json.dumps([meeting.model_dump(mode="json") for meeting in one.sessions]) for one in offerings],
        [json.dumps(open_arenas(one)) for one in offerings],
        [json.dumps(one.reminder_days) for one in offerings],
    )


def open_arenas(offering: OfferingState) -> list[str]:
    """Where there is a seat to be had at all: a place that is closed has a capacity of none."""
    return sorted({place.arena for place in offering.places if place.capacity})


async def cancel_offerings(conn: Connection, cancelled: Sequence[OfferingCancelled]) -> None:
    """Mark offerings as cancelled. Their dates stay: the letter that tells of it names them."""
    await conn.execute(
        """
        UPDATE offerings AS old SET cancelled = true, version = new.version, alternatives = new.alternatives,
            cancelled_because = new.because
        FROM unnest($1::uuid[], $2::bigint[], $3::jsonb[], $4::text[])
            AS new (offering_id, version, alternatives, because)
        WHERE old.offering_id = new.offering_id AND new.version >= old.version
        """,
        [one.offering_id for one in cancelled],
        [one.version for one in cancelled],
        [json.dumps([other.model_dump(mode="json") for other in one.alternatives]) for one in cancelled],
        [one.reason for one in cancelled],
    )


async def confirm_offerings(conn: Connection, confirmed: Sequence[Confirmation]) -> None:
    """Note which runs will take place, by which event; the first word is the one that is told."""
    await conn.execute(
        """
        UPDATE offerings AS old SET
            confirmed_by = coalesce(old.confirmed_by, new.event_id),
            confirmed_at = CASE WHEN old.confirmed_by IS NULL THEN coalesce(new.at, app_now())
                                ELSE old.confirmed_at END,
            takes_place = true, version = new.version
        FROM unnest($1::uuid[], $2::bigint[], $3::text[], $4::timestamptz[]) AS new (offering_id, version, event_id, at)
        WHERE old.offering_id = new.offering_id AND new.version >= old.version
        """,
        *columns(confirmed, "offering_id version event_id at"),
    )


async def keep_outcomes(conn: Connection, again: Sequence[OfferingRestated]) -> None:
    """What had become of runs that are said again, where it is not known. The word that one takes place is owed to
    nobody by this: it has no event here that tells of it."""
    await conn.execute(
        "UPDATE offerings SET cancelled = true WHERE offering_id = ANY($1) AND NOT cancelled",
        [one.offering_id for one in again if one.cancelled],
    )
    confirmed = {
        one.offering_id: (one.judged.decided_at, one.version)
        for one in again
        if one.judged and one.judged.decision == "confirmed"
    }
    await conn.execute(
        """
        UPDATE offerings AS old SET confirmed_at = coalesce(old.confirmed_at, new.at),
            takes_place = old.takes_place OR old.version = new.version  -- an old one may have been of another day
        FROM unnest($1::uuid[], $2::timestamptz[], $3::bigint[]) AS new (id, at, version)
        WHERE old.offering_id = new.id
        """,
        list(confirmed),
        [at for at, _ in confirmed.values()],
        [version for _, version in confirmed.values()],
    )


async def confirmations(conn: Connection, offerings: Sequence[UUID]) -> dict[UUID, tuple[str, datetime]]:
    """Offering -> (event, time) of those of these that are confirmed.

    Each is locked against being confirmed meanwhile: either this transaction sees the word or the other the seats.
    """
    rows = await conn.fetch(
        """
        SELECT offering_id, confirmed_by, confirmed_at FROM offerings WHERE offering_id = ANY($1)
        ORDER BY offering_id FOR SHARE
        """,
        offerings,
    )
    return {row["offering_id"]: (row["confirmed_by"], row["confirmed_at"]) for row in rows if row["confirmed_by"]}


async def keep_enrolments(conn: Connection, enrolments: Sequence[Enrolment]) -> None:
    """Keep each enrolment's newest state; one row per enrolment at most."""
    await conn.execute(
        """
        INSERT INTO enrolments AS old (enrolment_id, learner_id, offering_id, state, place, since, epoch, seq)
        SELECT * FROM unnest($1::uuid[], $2::uuid[], $3::uuid[], $4::text[], $5::text[], $6::timestamptz[], $7::int[],
                             $8::bigint[])
        ON CONFLICT (enrolment_id) DO UPDATE SET
            state = excluded.state, place = excluded.place, epoch = excluded.epoch, seq = excluded.seq,
            since = CASE WHEN old.state = excluded.state THEN old.since ELSE excluded.since END
        WHERE (excluded.epoch, excluded.seq) >= (old.epoch, old.seq)
        """,
        *columns(enrolments, "enrolment_id learner_id offering_id state place since epoch seq"),
    )
