"""SQL of notices that wait for their hour, or are not sent by the person's own choice."""

from datetime import datetime

from kit.database import Connection
from services.notifier.store.outgoing import Claimed


async def hold(conn: Connection, notice: Claimed, until: datetime, reason: str) -> None:
    """Let go of a notice until then. The number of its appointment is free for what goes before it.

    What was tried stays counted. One that is no longer in this sender's hands is left as it is.
    """
    await conn.execute(
        """
        UPDATE notices SET state = 'held', due_at = $3, reason = $4, attempts = attempts - (attempts = 1)::int,
            sequence = NULL, updated_at = app_now()
        WHERE id = $1 AND state = 'sending' AND attempts = $2
        """,
        notice.id,
        notice.attempt,
        until,
        reason,
    )


async def suppress(conn: Connection, notice: Claimed, reason: str) -> None:
    """Note that this notice is not to be sent. One that is no longer in this sender's hands is left as it is."""
    await conn.execute(
        """
        UPDATE notices SET state = 'suppressed', reason = $3, sealed = NULL, resends = resends - $4::boolean::int,
            sequence = CASE WHEN attempts = 1 THEN NULL ELSE sequence END, updated_at = app_now()
        WHERE id = $1 AND state = 'sending' AND attempts = $2
        """,
        notice.id,
        notice.attempt,
        reason,
        notice.may_have_gone,
    )
