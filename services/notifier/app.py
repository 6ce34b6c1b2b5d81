"""What the notifier is made of."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fastapi import APIRouter

from kit import console
from kit.database import Connection
from kit.plots import MINUTES, Plot, published
from kit.service import Service
from kit.settings import read
from services.notifier import (
    calendar,
    choosing,
    contact,
    deliveries,
    digests,
    erasing,
    events,
    feed,
    letterbox,
    offices,
    partner_feed,
    partners,
    personal,
    preferences,
    remembering,
    reminders,
    unsubscribe,
    webhooks,
)
from services.notifier.channels.webhook import Webhook
from services.notifier.deliveries import Deliverer
from services.notifier.pruning import Pruning
from services.notifier.sender import Sender
from services.notifier.settings import NotifierSettings
from services.notifier.store import outgoing
from services.notifier.store import webhooks as webhook_store

MIGRATIONS = Path(__file__).parent / "migrations"
LOG_FIELDS = frozenset({"notice_id", "template", "webhook_id", "delivery_id"})  # which notice, never whose
ROUTERS: tuple[APIRouter, ...] = (
    webhooks.router,
    partner_feed.router,
    contact.router,
    preferences.router,
    unsubscribe.router,
    feed.router,
    calendar.router,
    letterbox.listed,
    letterbox.router,
    choosing.router,
    personal.api,
    personal.router,
    console.mounted("notifier"),
)
PLOTS = (
    Plot(
        {"nb": "E-poster og SMS per minutt", "nn": "E-postar og SMS per minutt", "en": "Mails and SMS per minute"},
        MINUTES,
        published("no.kursnett.notifier.NoticeSent."),
    ),
    Plot(
        {"nb": "Varsler som ble gitt opp, per minutt", "nn": "Varsel som blei gitt opp, per minutt"}
        | {"en": "Notices that were given up, per minute"},
        MINUTES,
        published("no.kursnett.notifier.NoticeFailed."),
    ),
)


def build() -> Service:
    """The service with the settings of this process. Ends the process on a setting that will not do."""
    settings = read(NotifierSettings)
    return Service(
        name="notifier",
        settings=settings,
        migrations=MIGRATIONS,
        routers=ROUTERS,
        log_fields=LOG_FIELDS,
        consumers=[*events.consumers(settings.contact_private_key.get_secret_value()), partners.consumer()],
        workers={
            "sender": Sender(settings).run,
            "digests": digests.run,
            "reminders": reminders.run,
            "erasures": erasing.run,
            "offices": offices.Offices(settings).run,
            "webhooks": Deliverer(settings, Webhook(webhooks.guard_of(settings))).run,
            "webhook_log": deliveries.forget,
            "pruning": Pruning(settings).run,
        },
        timeline=timeline,
        restate=remembering.remember,
        plots=PLOTS,
    )


async def timeline(conn: Connection, ids: Sequence[str]) -> list[dict[str, Any]]:
    """What became of notices, and of events at webhooks."""
    return [*await outgoing.timeline(conn, ids), *await webhook_store.timeline(conn, ids)]
