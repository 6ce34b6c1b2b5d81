"""Where a partner says over HTTP to which addresses its events go, sees what became of them, and has them sent anew."""

import asyncio
import functools
import json
from datetime import datetime
from typing import Annotated, Any, Literal
from uuid import UUID

import uuid_utils.compat as uuid
from fastapi import APIRouter, Depends, Query, Response
from pydantic import BaseModel, ConfigDict, Field, field_validator

from contracts.envelope import TYPE_PREFIX, Envelope, source_of
from contracts.fields import Instant
from kit import openapi, problems, trail
from kit.database import Connection
from kit.http import Db, ThisService
from kit.idempotency import Answer, once, written
from kit.partners import Partner, Repeatable
from kit.problems import Problem
from kit.sealing import seal, unseal
from services.notifier import partners
from services.notifier.channels.webhook import new_secret
from services.notifier.guard import LONGEST_URL, Guard, Refused
from services.notifier.settings import NotifierSettings
from services.notifier.store import webhooks as store

BASE = "/api/notifier/v1"
TEST_TYPE = f"{TYPE_PREFIX}notifier.WebhookTested.v1"
MOST_WEBHOOKS = 10  # of one partner: each event goes to all of them
MOST_LISTED = 100
MOST_REPLAYED = 10_000
NAME_S = 10.0  # for the name servers to say where an address is; the partner waits for it

router = APIRouter(prefix=BASE + "/partners/{partner}/webhooks", tags=["webhooks"])


class WantedWebhook(BaseModel):
    """Where events are to go, and which."""

    model_config = ConfigDict(extra="forbid")

    url: Annotated[str, Field(max_length=LONGEST_URL, description="https, on the public network")]
    events: Annotated[
        list[Annotated[str, Field(max_length=100)]],
        Field(min_length=1, max_length=50, description='types of events or their names; "*" for all'),
    ]

    @field_validator("events")
    @classmethod
    def known(cls, value: list[str]) -> list[str]:
        if set(value) - {"*", *partners.TYPES, *partners.TYPES.values()}:
            raise ValueError(f'must be "*" or some of {", ".join(sorted(partners.TYPES.values()))}')
        return list(dict.fromkeys(value))


class WebhookShown(BaseModel):
    """`off`: it answered 410, and is sent nothing but tests until it takes one. `failing_since`: nobody answers."""

    id: UUID
    url: str
    events: list[str]
    state: Literal["on", "off"]
    reason: str | None
    created_at: datetime
    failing_since: datetime | None


class WebhookMade(WebhookShown):
    """A webhook with its secret, which is shown in this answer only. `old_secret_until`: the one before signs too."""

    secret: str
    old_secret_until: datetime | None


class WebhooksListed(BaseModel):
    items: list[WebhookShown]


class Delivery(BaseModel):
    """One event for one webhook. `reason` is a code: why the last attempt failed."""

    id: int
    event_id: str
    type: str
    state: Literal["pending", "sending", "delivered", "deferred", "failed"]
    attempts: int
    status_code: int | None
    reason: str | None
    created_at: datetime
    next_try_at: datetime | None
    delivered_at: datetime | None


class Deliveries(BaseModel):
    items: list[Delivery]


class Owed(BaseModel):
    """A test event is on its way: see the deliveries."""

    id: int
    event_id: str


class Span(BaseModel):
    """From when to when: by the times at which deliveries were owed first (`created_at`)."""

    model_config = ConfigDict(extra="forbid")

    since: Annotated[Instant, Field(alias="from")]
    until: Annotated[Instant | None, Field(alias="to")] = None


class Replayed(BaseModel):
    """How many are sent anew, with the webhook-id that each had."""

    count: int


@functools.lru_cache(maxsize=4)
def guard_of(settings: NotifierSettings) -> Guard:
    """One for a process: its threads are shared."""
    return Guard(settings.webhook_places, settings.own_hosts)


async def its_settings(running: ThisService) -> NotifierSettings:
    if not isinstance(running.settings, NotifierSettings):
        raise TypeError("these routes are the notifier's")
    return running.settings


Settings = Annotated[NotifierSettings, Depends(its_settings)]


async def its_guard(settings: Settings) -> Guard:
    return guard_of(settings)


def unknown() -> Problem:
    return Problem("not-found", "Not found", 404, "There is no such webhook.")


def shown(row: Any) -> dict[str, Any]:
    return {name: row[name] for name in WebhookShown.model_fields}


def sealed(settings: NotifierSettings) -> str:
    """A new secret, sealed with our own key: a copy of the database alone signs nothing."""
    return seal(settings.contact_private_key.get_secret_value(), {"secret": new_secret()})


def with_secret(answer: Response, settings: NotifierSettings) -> Response:
    """The stored answer has the secret sealed, so that none lies open among the answers kept for repeated requests."""
    made = json.loads(bytes(answer.body))
    made["secret"] = unseal(settings.contact_private_key.get_secret_value(), made["secret"])["secret"]
    headers = {name: value for name, value in answer.headers.items() if name not in ("content-length", "content-type")}
    return written(Answer(made, answer.status_code, headers))


@router.post(
    "",
    status_code=201,
    response_model=WebhookMade,
    responses=openapi.problems(403, 409),
)
async def add_webhook(
    body: WantedWebhook,
    partner: Partner,
    database: Db,
    asked: Repeatable,
    settings: Settings,
    guard: Annotated[Guard, Depends(its_guard)],
) -> Response:
    """Have events sent to an address. The answer has the secret that signs them, this once."""
    try:
        async with asyncio.timeout(NAME_S):
            await guard.addresses(guard.target(body.url))
    except Refused as refused:
        raise problems.invalid([{"loc": ("body", "url"), "msg": str(refused)}]) from None
    except TimeoutError:
        words = "has a host whose name servers do not answer: try again once they do"
        raise problems.invalid([{"loc": ("body", "url"), "msg": words}]) from None
    secret = sealed(settings)

    async def work(conn: Connection) -> Response:
        async def effect() -> Answer:
            row = await store.add(conn, partner, body.url, body.events, secret, MOST_WEBHOOKS)
            if row is None:
                words = f"A partner may have {MOST_WEBHOOKS} webhooks: delete one first."
                raise Problem("conflict", "Conflict", 409, words)
            made = {**shown(row), "secret": row["secret"], "old_secret_until": None}
            return Answer(made, 201, {"location": f"{BASE}/partners/{partner}/webhooks/{row['id']}"})

        return await once(conn, asked, effect)

    return with_secret(await database.run(work), settings)


@router.get("", response_model=WebhooksListed, responses=openapi.problems(403))
async def list_webhooks(partner: Partner, database: Db) -> dict[str, Any]:
    """All webhooks of this partner, oldest first."""
    async with database.reading() as conn:
        return {"items": [shown(row) for row in await store.webhooks(conn, partner)]}


@router.get("/{webhook_id}", response_model=WebhookShown, responses=openapi.problems(403, 404))
async def read_webhook(webhook_id: UUID, partner: Partner, database: Db) -> dict[str, Any]:
    """One webhook."""
    async with database.reading() as conn:
        return shown(await found(conn, partner, webhook_id))


async def found(conn: Connection, partner: str, webhook_id: UUID) -> Any:
    row = await store.webhook(conn, partner, webhook_id)
    if row is None:
        raise unknown()
    return row


@router.delete("/{webhook_id}", status_code=204, responses=openapi.problems(403, 404))
async def delete_webhook(webhook_id: UUID, partner: Partner, database: Db, asked: Repeatable) -> Response:
    """Send nothing more there, and forget its secret and its log."""

    async def work(conn: Connection) -> Response:
        async def effect() -> Answer:
            if not await store.delete(conn, partner, webhook_id):
                raise unknown()
            return Answer(None, 204)

        return await once(conn, asked, effect)

    return await database.run(work)


@router.post("/{webhook_id}/rotate", response_model=WebhookMade, responses=openapi.problems(403, 404))
async def rotate_secret(
    webhook_id: UUID, partner: Partner, database: Db, asked: Repeatable, settings: Settings
) -> Response:
    """Make a new secret. For a day both sign, so that you can change over in your own time."""
    secret = sealed(settings)

    async def work(conn: Connection) -> Response:
        async def effect() -> Answer:
            row = await store.rotate(conn, partner, webhook_id, secret)
            if row is None:
                raise unknown()
            return Answer({**shown(row), "secret": row["secret"], "old_secret_until": row["old_secret_until"]})

        return await once(conn, asked, effect)

    return with_secret(await database.run(work), settings)


@router.post("/{webhook_id}/test", status_code=202, response_model=Owed, responses=openapi.problems(403, 404))
async def test_webhook(webhook_id: UUID, partner: Partner, database: Db, asked: Repeatable) -> Response:
    """Send an event that says nothing. When one that is off takes it, it is on again."""

    async def work(conn: Connection) -> Response:
        async def effect() -> Answer:
            await found(conn, partner, webhook_id)
            path = trail.here()
            whole = Envelope(
                id=str(uuid.uuid7()),
                source=source_of("notifier"),
                type=TEST_TYPE,
                subject=str(webhook_id),
                time=await store.now(conn),
                partner=partner,
                correlationid=path.correlation_id,
                data={"webhook_id": str(webhook_id)},
            )
            told = store.Told(
                event_id=whole.id,
                partner=partner,
                type=whole.type,
                name="",
                key=str(webhook_id),
                body=partners.body(whole),
                correlation_id=path.correlation_id,
            )
            row = await store.owe_test(conn, webhook_id, told)
            return Answer({"id": row["id"], "event_id": row["event_id"]}, 202)

        return await once(conn, asked, effect)

    return await database.run(work)


@router.get("/{webhook_id}/deliveries", response_model=Deliveries, responses=openapi.problems(403, 404))
async def list_deliveries(
    webhook_id: UUID,
    partner: Partner,
    database: Db,
    response: Response,
    limit: Annotated[int, Query(ge=1, le=MOST_LISTED)] = MOST_LISTED,
    before: Annotated[int | None, Query(ge=1, le=2**63 - 1)] = None,
) -> dict[str, Any]:
    """What was owed to it in the last 14 days, newest first; `before` is the last id of the page before."""
    async with database.reading() as conn:
        await found(conn, partner, webhook_id)
        rows = await store.log(conn, webhook_id, before, limit + 1)
    page = [dict(row) for row in rows[:limit]]
    if len(rows) > limit:
        here = f"{BASE}/partners/{partner}/webhooks/{webhook_id}/deliveries"
        response.headers["link"] = f'<{here}?limit={limit}&before={page[-1]["id"]}>; rel="next"'
    return {"items": page}


@router.post(
    "/{webhook_id}/replay", status_code=202, response_model=Replayed, responses=openapi.problems(403, 404, 409)
)
async def replay_deliveries(
    webhook_id: UUID, body: Span, partner: Partner, database: Db, asked: Repeatable
) -> Response:
    """Send again what was owed first in this time, whether it was taken then or not, in its order."""

    async def work(conn: Connection) -> Response:
        async def effect() -> Answer:
            if (await found(conn, partner, webhook_id))["state"] == "off":
                raise Problem("conflict", "Conflict", 409, "The webhook is off. Have it take a test first.")
            if await store.count_over(conn, webhook_id, body.since, body.until, MOST_REPLAYED) > MOST_REPLAYED:
                words = f"names more than {MOST_REPLAYED} deliveries: ask for a shorter time"
                raise problems.invalid([{"loc": ("body", "from"), "msg": words}])
            return Answer({"count": await store.replay(conn, webhook_id, body.since, body.until)}, 202)

        return await once(conn, asked, effect)

    return await database.run(work)
