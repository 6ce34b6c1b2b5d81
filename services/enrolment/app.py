"""What the enrolment service is made of."""

from pathlib import Path

from kit.service import Service
from kit.settings import read
from services.enrolment import api, events
from services.enrolment.settings import EnrolmentSettings

MIGRATIONS = Path(__file__).parent / "migrations"
ROUTERS = (api.router,)


def build() -> Service:
    """The service with the settings of this process. Ends the process on a setting that will not do."""
    return Service(
        name="enrolment",
        settings=read(EnrolmentSettings),
        migrations=MIGRATIONS,
        routers=ROUTERS,
        consumers=(events.courses(),),
    )
