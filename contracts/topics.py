"""Every topic there is: its owner, key, readers, partitions and how long it is kept. Nothing else creates topics."""

from dataclasses import dataclass

DAY_MS = 24 * 60 * 60 * 1000
KEPT_DAYS = 14  # an event can be read again for two weeks; `republish --state` needs none of them
MAX_EVENT_BYTES = 256 * 1024  # the longest course in five languages is 204 KB; a partner's mistake is not a course
# The broker counts a whole batch with its headers, and refuses one that is larger: several events must fit together.
# A partner's value between the two limits is taken by the broker, and refused by the reader with a reason to read.
MAX_BATCH_BYTES = 1024 * 1024
MAX_PARKED_BYTES = 2 * MAX_BATCH_BYTES  # a copy of the largest record, with headers that say why it is there
SERVICES = ("catalogue", "enrolment", "notifier")


@dataclass(frozen=True)
class Topic:
    name: str
    owner: str
    key: str
    readers: tuple[str, ...]
    partitions: int = 8  # the most replicas of one reader that can share the work
    compacted: bool = False
    batch_bytes: int = MAX_BATCH_BYTES
    foreign: bool = False  # strangers write here, with programs and clocks of their own
    repeats: tuple[str, ...] = ()  # the topics whose events are said again here

    @property
    def settings(self) -> dict[str, str]:
        """The broker's settings for this topic."""
        kept = {"cleanup.policy": "delete", "retention.ms": str(KEPT_DAYS * DAY_MS)}
        if self.compacted:  # the newest word about each key stays, however old
            kept = {"cleanup.policy": "compact"}
        if self.foreign:
            # The broker unpacks what comes packed, whatever with, and measures it then: a megabyte may unpack to
            # gigabytes, and a reader that lacks the sender's codec would read nothing more from anybody.
            kept["compression.type"] = "uncompressed"
            # A sender's clock that is wrong must not make the broker delete at once what came today.
            kept["message.timestamp.type"] = "LogAppendTime"
        return {**kept, "max.message.bytes": str(self.batch_bytes)}


def parked(service: str) -> Topic:
    """Where a service shows operators what it could not handle. One partition: it is read by people."""
    name, key = f"{service}.parked", "key of the parked record"
    return Topic(name, service, key, ("operators",), partitions=1, batch_bytes=MAX_PARKED_BYTES)


def partner_courses(partner: str) -> Topic:
    """What one partner says of its courses. Only that partner writes here; the topic's name says who speaks."""
    name, key = f"partners.{partner}.courses", "the partner's course code"
    return Topic(name, "catalogue", key, ("catalogue",), partitions=4, foreign=True)


# What partners are told of. Never enrolment.contacts: who somebody is, is not told there.
TOLD_TO_PARTNERS = ("catalogue.courses", "enrolment.enrolments")


def partner_feed(partner: str) -> Topic:
    """What happens to one partner's courses, for it alone to read. The notifier makes it when the partner asks."""
    return Topic(
        f"partners.{partner}.feed", "notifier", "course_id", ("partners",), partitions=4, repeats=TOLD_TO_PARTNERS
    )


PARTNER_COURSES = r"^partners\.[a-z0-9-]+\.courses$"

TOPICS = (
    Topic("catalogue.courses", "catalogue", "course_id", ("enrolment", "notifier", "partners")),
    Topic("catalogue.partners", "catalogue", "partner", ("enrolment", "notifier"), partitions=1, compacted=True),
    Topic("enrolment.enrolments", "enrolment", "learner_id; offering_id for its seats", ("notifier", "catalogue")),
    Topic("enrolment.contacts", "enrolment", "learner_id", ("notifier",)),
    # Of its own, so that nothing that is parked on another holds back who asks to be forgotten.
    Topic("enrolment.erasures", "enrolment", "learner_id", ("notifier",), partitions=1),
    Topic("notifier.notices", "notifier", "learner_id", ("operators", "enrolment")),
    Topic("notifier.erasures", "notifier", "request_id", ("enrolment",), partitions=1),
    *(parked(service) for service in SERVICES),
)


def owned_by(service: str) -> tuple[Topic, ...]:
    return tuple(topic for topic in TOPICS if topic.owner == service)
