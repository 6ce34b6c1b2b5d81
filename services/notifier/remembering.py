"""After the database was restored: keeps what was sent after the backup from being sent again, and people forgotten."""

from collections.abc import Iterable
from contextlib import suppress
from datetime import datetime
from typing import cast
from uuid import UUID

import asyncpg

from contracts.enrolment import EnrolmentEvent
from contracts.envelope import Envelope
from contracts.notifier import NoticeEvent
from contracts.registry import BY_TYPE
from contracts.topics import KEPT_DAYS, partner_feed
from kit import topics
from kit.database import Connection
from kit.restoring import MARGIN, Restated, Restored
from services.notifier import erasing
from services.notifier.settings import NotifierSettings
from services.notifier.store import erased, remembered
from services.notifier.store.remembered import Sent


async def remember(conn: Connection, restored: Restored) -> Restated:
    """What became of each notice was said, with the event that it was owed for: none of these is owed again.

    What has become of partners' webhooks, and what they have taken, stands in the database that was there before, and
    nowhere else.
    """
    heard = await restored.later()
    forgotten = await _forget_again(conn, restored, heard)
    runs = await remembered.runs(conn) | _runs(heard)
    sent, unknown = [], 0
    for one in restored.lost:
        kind = BY_TYPE.get(one.type)
        event = kind.model_validate(one.data) if kind else None
        if not isinstance(event, NoticeEvent):
            continue
        run = runs.get(event.about)
        if run is None or one.causationid is None:
            unknown += 1  # a mail that gathers several, or one to a partner's office
            continue
        about = event.model_dump(include=set(NoticeEvent.model_fields))
        sent.append(Sent(**about, event_id=one.causationid, offering_id=run, at=_time(one, restored.since)))
    await remembered.keep(conn, sent)
    read = [partner_feed(one) for one in await remembered.feeds(conn)]
    if read:  # beside a new broker they are gone
        await topics.declare(restored.settings.kafka_bootstrap, read)
    told = [f"{len(sent)} notices had their answer after the backup, and are not sent again.", forgotten]
    if unknown:
        told.append(f"{unknown} mails that gathered several things may have their contents told again.")
    if restored.kept is None:
        told.append(
            "Partners' webhooks are as they were at the backup: one that was deleted or turned off since is called "
            "again, and one with a new secret signs with the one before. Tell partners to look at theirs."
        )
        told.append("What partners' webhooks have taken since is not known: they get it again under the same ids.")
    else:
        if changed := await remembered.take_webhooks(conn, restored.kept):
            told.append(f"{changed} webhooks are on, off or deleted, and sign, as in the database before.")
        count = await remembered.take_deliveries(conn, restored.kept, restored.since)
        told.append(f"{count} deliveries to webhooks were taken over from the database before.")
    return Restated(told)


async def _forget_again(conn: Connection, restored: Restored, heard: Iterable[Envelope]) -> str:
    """Forget whom this database had forgotten after the backup, as far as the database before knows; in words.

    What stands on the topic is heard again, when the service starts.
    """
    if restored.kept is None:
        return (
            f"Who was forgotten in the last {KEPT_DAYS} days is forgotten again when the service starts: it stands on "
            "the topic. If the backup is older, ask for the others anew, by what enrolment has: people erasures"
        )
    gone: list[UUID] = []
    with suppress(asyncpg.UndefinedTableError):  # it is of before there were any
        gone = await erased.since(restored.kept, restored.since - MARGIN)
    await erased.stop_contacts(conn)
    private_key = cast(NotifierSettings, restored.settings).contact_private_key.get_secret_value()
    # By the log-in too, which the database before has forgotten: when the service hears of them again, they are noted
    # as forgotten, and what belongs to a log-in is theirs who may have come again since.
    logins = erasing.logins(heard, private_key)
    for learner_id in gone:
        await erasing.forget(conn, learner_id, logins.get(learner_id), private_key)
    return f"{len(gone)} people had been forgotten since the backup, and are forgotten again."


def _runs(heard: Iterable[Envelope]) -> dict[UUID, UUID]:
    """Enrolment id -> its run, by what was said of enrolments."""
    found = {}
    for one in heard:
        kind = BY_TYPE.get(one.type)
        if kind is not None and issubclass(kind, EnrolmentEvent):
            event = kind.model_validate(one.data)
            found[event.enrolment_id] = event.offering_id
    return found


def _time(one: Envelope, otherwise: datetime) -> datetime:
    return one.time or otherwise
