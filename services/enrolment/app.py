"""What the enrolment service is made of."""

from pathlib import Path

from kit.service import Service
from kit.settings import read
from services.enrolment import api, desk, events
from services.enrolment.settings import EnrolmentSettings

MIGRATIONS = Path(__file__).parent / "migrations"
LOG_FIELDS: frozenset[str] = frozenset()  # who got which seat is told by events and the timeline, not by log lines
ROUTERS = (api.router,)


def build() -> Service:
    """The service with the settings of this process. Ends the process on a setting that will not do."""
    return Service(
        name="enrolment",
        settings=read(EnrolmentSettings),
        migrations=MIGRATIONS,
        routers=ROUTERS,
        log_fields=LOG_FIELDS,
        consumers=(events.courses(),),
        decide=desk.decide,
    )
