"""What a partner may do at the broker, how much of it, and the log-in that it does it with."""

import secrets
from collections.abc import Sequence
from typing import Any

from contracts.topics import SERVICES, TOPICS, partner_courses, partner_feed
from kit import access
from kit.access import Right
from services.catalogue.domain import Rule
from services.catalogue.settings import CatalogueSettings

# The longest course is 204 KB: a partner says more than one a second, and cannot fill the disk in an hour.
BYTES_PER_S = {"producer_byte_rate": 256 * 1024.0, "consumer_byte_rate": 1024 * 1024.0}


def rights(slug: str) -> list[Right]:
    """All that a partner may do. To write is enough for an idempotent producer; what is not named here is denied."""
    return [
        Right("write", "topic", partner_courses(slug).name),
        Right("read", "topic", partner_feed(slug).name),
        *(Right("read", "topic", topic.name) for topic in TOPICS if "partners" in topic.readers),
        Right("read", "group", f"{slug}.", prefixed=True),
    ]


def user_of(slug: str) -> str:
    """The name by which the broker knows a partner."""
    return f"partner-{slug}"


async def allow(settings: CatalogueSettings, slugs: Sequence[str]) -> None:
    """Give partners that have joined the rights that there are by now; passwords stay. Raises AccessError."""
    if settings.kafka_partners_bootstrap and slugs:
        await access.allow(settings.kafka_bootstrap, {user_of(slug): rights(slug) for slug in slugs})


async def give(settings: CatalogueSettings, slug: str) -> dict[str, Any] | None:
    """A user for a partner, or a new password for the one that it has; None where partners have no listener.

    {bootstrap, security_protocol, mechanism, username, password}: what a client needs, shown this once. Raises Rule
    for a slug that is a service's name, whose consumer groups would be the partner's own; and AccessError.
    """
    if slug in SERVICES:
        raise Rule("reserved", "slug", f"{slug} is the name of a service; choose another")
    if not settings.kafka_partners_bootstrap:
        return None
    user, password = user_of(slug), secrets.token_urlsafe(32)
    await access.give(settings.kafka_bootstrap, user, password, rights(slug), BYTES_PER_S)
    return {
        "bootstrap": settings.kafka_partners_bootstrap,
        "security_protocol": settings.kafka_partners_security,
        "mechanism": access.MECHANISM,
        "username": user,
        "password": password,
    }
