"""Events to a partner's own topic: rows of the outbox, which the relay writes there in their order, each once owed."""

from collections.abc import Sequence
from uuid import UUID

from contracts.topics import partner_feed
from kit import outbox
from kit.database import Connection
from kit.outbox import Copy
from services.notifier.store import partner_feeds
from services.notifier.store.webhooks import Told


async def deliver(conn: Connection, told: Sequence[Told]) -> None:
    """Say these events on their partners' feeds, in this order, with the caller's transaction; none that was said.

    The feed's rows must be held (`partner_feeds.reading`), so that nobody else says the same at the same time.
    """
    copies = [
        Copy(
            event_id=UUID(one.event_id),
            topic=partner_feed(one.partner).name,
            key=one.course_id.encode(),  # all of a course in its order, whoever of its learners it is about
            payload=one.body,
            subject=one.subject,
            correlation_id=one.correlation_id,
        )
        for one in told
    ]
    said = await partner_feeds.said(conn, [one.topic for one in copies], [one.event_id for one in copies])
    await outbox.pass_on(conn, [one for one in copies if (one.topic, one.event_id) not in said])
