"""What the notifier is made of."""

from pathlib import Path

from fastapi import APIRouter

from kit.service import Service
from kit.settings import read
from services.notifier import events
from services.notifier.sender import Sender
from services.notifier.settings import NotifierSettings
from services.notifier.store import outgoing

MIGRATIONS = Path(__file__).parent / "migrations"
LOG_FIELDS = frozenset({"notice_id", "template"})  # which notice, never whose
ROUTERS: tuple[APIRouter, ...] = ()  # it says nothing over HTTP yet but how it is


def build() -> Service:
    """The service with the settings of this process. Ends the process on a setting that will not do."""
    settings = read(NotifierSettings)
    return Service(
        name="notifier",
        settings=settings,
        migrations=MIGRATIONS,
        routers=ROUTERS,
        log_fields=LOG_FIELDS,
        consumers=events.consumers(settings.contact_private_key.get_secret_value()),
        workers={"sender": Sender(settings).run},
        timeline=outgoing.timeline,
    )
