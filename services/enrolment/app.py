"""What the enrolment service is made of."""

from pathlib import Path

from kit import console
from kit.plots import MINUTES, Plot
from kit.service import Service
from kit.settings import read
from services.enrolment import (
    api,
    clock,
    desk,
    events,
    join,
    links,
    login,
    mine,
    own,
    partners,
    privacy,
    restating,
    roster,
    rush,
)
from services.enrolment.settings import EnrolmentSettings
from services.enrolment.store import steps

MIGRATIONS = Path(__file__).parent / "migrations"
LOG_FIELDS = frozenset({"offering_id"})  # who got which seat is told by events and the timeline, not by log lines
PAGES = (
    links.router,
    login.router,
    login.gateway,
    join.shown,
    join.router,
    mine.listed,
    mine.router,
    own.router,
    roster.listed,
    roster.router,
    privacy.router,
    console.mounted("enrolment"),
)
ROUTERS = (api.router, rush.router, partners.router, privacy.api, *PAGES)
PLOTS = (
    Plot(
        {"nb": "Påmeldinger per minutt", "nn": "Påmeldingar per minutt", "en": "Enrolments per minute"},
        MINUTES,
        steps.asked_per,
    ),
)


def build() -> Service:
    """The service with the settings of this process. Ends the process on a setting that will not do."""
    settings = read(EnrolmentSettings)
    return Service(
        name="enrolment",
        settings=settings,
        migrations=MIGRATIONS,
        routers=ROUTERS,
        log_fields=LOG_FIELDS,
        consumers=(events.courses(settings), events.titles(), events.partners(), events.erasures()),
        workers={"clock": clock.run, "sessions": login.forget},
        plots=PLOTS,
        decide=desk.deciding(settings),
        session=login.visitor_of,
        restate=restating.restating(settings),
    )
