"""Where a partner says over HTTP whether it wants to read what happens to its courses on a topic of its own."""

import asyncio
from datetime import datetime
from typing import Any

from fastapi import APIRouter, Response
from pydantic import BaseModel, ConfigDict, StrictBool

from contracts.topics import partner_feed
from kit import openapi, topics
from kit.database import Connection
from kit.http import Db
from kit.idempotency import Answer, once
from kit.partners import Partner, Repeatable
from kit.problems import Problem
from services.notifier.store import partner_feeds as store
from services.notifier.webhooks import BASE, Settings

MAKING_S = 5.0  # for the broker to make the topic; a partner waits for it

router = APIRouter(prefix=BASE + "/partners/{partner}/feed", tags=["feed"])


class WantedFeed(BaseModel):
    """Whether events are to come there from now on."""

    model_config = ConfigDict(extra="forbid")

    on: StrictBool


class FeedShown(BaseModel):
    """The partner's own topic; `since` when events come there, null when it is off."""

    on: bool
    topic: str
    since: datetime | None


async def _shown(conn: Connection, partner: str) -> dict[str, Any]:
    since = await store.since(conn, partner)
    return {"on": since is not None, "topic": partner_feed(partner).name, "since": since}


@router.get("", response_model=FeedShown, responses=openapi.problems(403))
async def read_feed(partner: Partner, database: Db) -> dict[str, Any]:
    """Whether events come on the partner's own topic, and which that is."""
    async with database.reading() as conn:
        return await _shown(conn, partner)


@router.put("", response_model=FeedShown, responses=openapi.problems(403, 409, 503))
async def turn_feed(
    body: WantedFeed, partner: Partner, database: Db, asked: Repeatable, settings: Settings
) -> Response:
    """Have events come on the partner's own topic from now on, or no more."""
    if body.on:  # first: an empty topic harms nobody, and what has no topic would wait in the outbox
        await _make(settings.kafka_bootstrap, partner)

    async def work(conn: Connection) -> Response:
        async def effect() -> Answer:
            await (store.turn_on if body.on else store.turn_off)(conn, partner)
            return Answer(FeedShown(**await _shown(conn, partner)), 200)

        return await once(conn, asked, effect)

    return await database.run(work)


async def _make(bootstrap: str, partner: str) -> None:
    """Make the topic when it is not there. Raises Problem when Kafka does not do it in time."""
    try:
        async with asyncio.timeout(MAKING_S):
            await topics.declare(bootstrap, [partner_feed(partner)])
    except (topics.TopicsError, TimeoutError) as error:
        words = "Kafka does not answer at the moment. Nothing was changed: ask again in a moment."
        raise Problem("busy", "Busy at the moment", 503, words, headers={"retry-after": "5"}) from error
