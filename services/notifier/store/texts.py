"""SQL of the SMS that are owed beside a mail."""

import json
from collections.abc import Sequence
from uuid import UUID

from kit.database import Connection
from services.notifier.kinds import TEXTED_CATEGORY_OF


async def owe(conn: Connection, abouts: Sequence[UUID]) -> None:
    """Owe an SMS beside each mail about these that is in hand or ought to go, to those who want that; once for each.

    Of these enrolments all, also what waits behind an older mail: a mail server that is away delays no SMS but for the
    time until one of these mails is tried again. What is not chosen is not in the table of choices, as it is the usual.
    """
    await conn.execute(
        """
        INSERT INTO notices (event_id, learner_id, offering_id, about, template, channel, place, correlation_id,
                             traceparent, facts, expires_at, created_at)
        SELECT mail.event_id, mail.learner_id, mail.offering_id, mail.about, mail.template, 'sms', mail.place,
               mail.correlation_id, mail.traceparent, mail.facts, mail.expires_at, mail.created_at
        FROM notices AS mail
        JOIN contacts AS contact USING (learner_id)
        JOIN preferences AS choice ON choice.person = coalesce(contact.login, contact.learner_id::text)
            AND choice.category = $2::jsonb ->> mail.template AND choice.channel = 'sms'
        WHERE mail.about = ANY($1::uuid[]) AND mail.channel = 'email'
          AND mail.state NOT IN ('held', 'sent', 'failed', 'suppressed')  -- as in `outgoing.claim`
        ORDER BY mail.id
        ON CONFLICT ON CONSTRAINT notices_once DO NOTHING
        """,
        abouts,
        json.dumps(TEXTED_CATEGORY_OF),
    )
