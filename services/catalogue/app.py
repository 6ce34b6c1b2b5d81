"""What the catalogue is made of."""

from pathlib import Path

from kit import console
from kit.service import Service
from kit.settings import read
from services.catalogue import (
    api,
    browse,
    cancelling,
    current,
    deciding,
    details,
    events,
    feeds,
    holding,
    imports,
    intake,
    ooapi,
    provider,
    restating,
    retaking,
    search,
    upload,
)
from services.catalogue.settings import CatalogueSettings

MIGRATIONS = Path(__file__).parent / "migrations"
LOG_FIELDS = frozenset({"partner", "owner", "offering_id"})  # slugs of organisations, and an id
PAGES = (browse.router, details.router, provider.first, provider.router, deciding.router, upload.router, holding.router)
ROUTERS = (
    search.router,
    feeds.router,
    api.router,
    cancelling.router,
    imports.router,
    intake.router,
    ooapi.router,
    *PAGES,
    console.first,
    console.shared,
    console.mounted("catalogue"),
)


def build() -> Service:
    """The service with the settings of this process. Ends the process on a setting that will not do."""
    return Service(
        name="catalogue",
        settings=read(CatalogueSettings),
        migrations=MIGRATIONS,
        routers=ROUTERS,
        consumers=(events.partners(), events.enrolments(), events.learners()),
        workers={"search": current.warm, "intake_log": intake.forget},
        links=holding.LINKS,
        log_fields=LOG_FIELDS,
        restate=retaking.take_back,
        state=restating.STATE,
    )
