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
    """A notice was taken by the mail server or, with the channel `sms`, by the gateway for SMS."""


class NoticeFailed(NoticeEvent):
    """A notice will not be sent; `reason` is a code."""

    reason: str


class AddressBounced(Event, topic="notifier.notices", aggregate="notices", key="learner_id", subject="learner_id"):
    """A learner's address is refused for good: nothing is sent there until they give another. `reason` is a code."""

    learner_id: UUID
    # An enhanced status code such as 5.1.1 (RFC 3463), or the code of the mail server's answer; of a phone
    # `invalid_number`.
    reason: str


class ErasureDone(Event, topic="notifier.erasures", aggregate="erased", key="request_id"):
    """What a service knew of a person is deleted. `counts`: what -> how many rows, for the record of the request."""

    request_id: UUID
    service: str
    counts: dict[str, int] = {}
