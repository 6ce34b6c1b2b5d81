"""What the notifier says: which notices reached whom. Ids and codes only, never an address."""

from uuid import UUID

from contracts.envelope import Event


class NoticeEvent(Event, topic="notifier.notices", aggregate="notices", key="learner_id", subject="notice_id"):
    notice_id: UUID
    learner_id: UUID
    template: str
    channel: str
    about: UUID  # the enrolment it speaks of


class NoticeSent(NoticeEvent):
    """A notice was taken by the mail server."""


class NoticeFailed(NoticeEvent):
    """A notice will not be sent; `reason` is a code."""

    reason: str
