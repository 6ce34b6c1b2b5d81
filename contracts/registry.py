"""Which class reads which event type."""

from contracts import catalogue, enrolment, notifier, partner
from contracts.envelope import Event

EVENTS: tuple[type[Event], ...] = (
    catalogue.PartnerJoined,
    catalogue.PartnerChanged,
    catalogue.PartnerSuspended,
    catalogue.CourseCreated,
    catalogue.CourseChanged,
    catalogue.CourseWithdrawn,
    catalogue.CourseRestated,
    catalogue.OfferingScheduled,
    catalogue.OfferingChanged,
    catalogue.OfferingConfirmed,
    catalogue.OfferingCancelled,
    catalogue.OfferingRestated,
    enrolment.LearnerEnrolled,
    enrolment.LearnerQueued,
    enrolment.EnrolmentPending,
    enrolment.EnrolmentDenied,
    enrolment.SeatOffered,
    enrolment.SeatOfferLapsed,
    enrolment.SeatOfferDeclined,
    enrolment.LearnerMoved,
    enrolment.LearnerAdvanced,
    enrolment.LearnerGotNoSeat,
    enrolment.LearnerWithdrew,
    enrolment.EnrolmentFinished,
    enrolment.EnrolmentRestated,
    enrolment.OfferingFilled,
    enrolment.OfferingReopened,
    enrolment.MinimumAtRisk,
    enrolment.MinimumReached,
    enrolment.MinimumMissed,
    enrolment.ContactGiven,
    enrolment.ErasureRequested,
    notifier.NoticeSent,
    notifier.NoticeFailed,
    notifier.AddressBounced,
    notifier.ErasureDone,
    partner.CoursePublished,
    partner.CourseRetracted,
    partner.OfferingPublished,
    partner.OfferingRetracted,
)

BY_TYPE: dict[str, type[Event]] = {event.spec.type: event for event in EVENTS}

# What is said to partners, too. The others tell of no change: they are for who keeps a copy.
TOLD = tuple(event for event in EVENTS if event not in (catalogue.CourseRestated, catalogue.OfferingRestated))
