"""Which class reads which event type."""

from contracts import catalogue, enrolment, notifier, partner
from contracts.envelope import Event

EVENTS: tuple[type[Event], ...] = (
    catalogue.PartnerJoined,
    catalogue.PartnerChanged,
    catalogue.CourseCreated,
    catalogue.CourseChanged,
    catalogue.CourseWithdrawn,
    catalogue.OfferingScheduled,
    catalogue.OfferingChanged,
    catalogue.OfferingCancelled,
    enrolment.LearnerEnrolled,
    enrolment.LearnerQueued,
    enrolment.LearnerWithdrew,
    enrolment.OfferingFilled,
    enrolment.OfferingReopened,
    enrolment.ContactGiven,
    notifier.NoticeSent,
    notifier.NoticeFailed,
    partner.CoursePublished,
    partner.CourseRetracted,
    partner.OfferingPublished,
    partner.OfferingRetracted,
)

BY_TYPE: dict[str, type[Event]] = {event.spec.type: event for event in EVENTS}
