"""Every topic there is: its owner, key, readers, partitions and how long it is kept. Nothing else creates topics."""

from dataclasses import dataclass

DAY_MS = 24 * 60 * 60 * 1000
KEPT_DAYS = 14  # an event can be read again for two weeks; `republish` rebuilds what is older
MAX_EVENT_BYTES = 256 * 1024  # a course with five languages is under 40 KiB; a partner's mistake is not a course
SERVICES = ("catalogue", "enrolment", "notifier")


@dataclass(frozen=True)
class Topic:
    name: str
    owner: str
    key: str
    readers: tuple[str, ...]
    partitions: int = 8  # the most replicas of one reader that can share the work
    compacted: bool = False

    @property
    def settings(self) -> dict[str, str]:
        """The broker's settings for this topic."""
        if self.compacted:
            return {"cleanup.policy": "compact", "max.message.bytes": str(MAX_EVENT_BYTES)}
        return {
            "cleanup.policy": "delete",
            "retention.ms": str(KEPT_DAYS * DAY_MS),
            "max.message.bytes": str(MAX_EVENT_BYTES),
        }


def parked(service: str) -> Topic:
    """Where a service shows operators what it could not handle. One partition: it is read by people."""
    return Topic(f"{service}.parked", service, "key of the parked record", ("operators",), partitions=1)


def partner_courses(partner: str) -> Topic:
    """What one partner says of its courses. Only that partner writes here; the topic's name says who speaks."""
    return Topic(f"partners.{partner}.courses", "catalogue", "the partner's course code", ("catalogue",), partitions=4)


PARTNER_COURSES = r"^partners\.[a-z0-9-]+\.courses$"

TOPICS = (
    Topic("catalogue.courses", "catalogue", "course_id", ("enrolment", "notifier", "partners")),
    Topic("catalogue.partners", "catalogue", "partner", ("enrolment", "notifier"), partitions=1, compacted=True),
    Topic("enrolment.enrolments", "enrolment", "learner_id", ("notifier", "catalogue")),
    Topic("enrolment.contacts", "enrolment", "learner_id", ("notifier",)),
    Topic("notifier.notices", "notifier", "learner_id", ("operators", "enrolment")),
    *(parked(service) for service in SERVICES),
)


def owned_by(service: str) -> tuple[Topic, ...]:
    return tuple(topic for topic in TOPICS if topic.owner == service)
