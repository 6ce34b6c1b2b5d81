"""What a person sees of their own when they are logged in: their notices, in their language, also as they come."""

import functools
from datetime import datetime
from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Query, Response
from fastapi.responses import StreamingResponse
from jinja2.sandbox import SandboxedEnvironment
from pydantic import BaseModel

from kit import openapi
from kit.auth import Signed
from kit.database import Connection
from kit.http import Db, ThisService
from kit.live import LastEventId
from kit.problems import Problem
from services.notifier import letters
from services.notifier.kinds import KINDS, Category
from services.notifier.live import TheHub
from services.notifier.store import feed as store

BASE = "/api/notifier/v1"
MOST_LISTED = 100

router = APIRouter(prefix=BASE + "/me/notices", tags=["notices"])


class NoticeShown(BaseModel):
    """`about` is the enrolment; `language` that of the words, which may be shown as they are (they are no HTML)."""

    id: UUID
    category: Category
    template: str
    about: UUID
    offering_id: UUID
    language: str
    subject: str
    text: str
    created_at: datetime
    read_at: datetime | None


class NoticesListed(BaseModel):
    """One page, and how many there are unread on all of them."""

    items: list[NoticeShown]
    unread: int


LIVE: dict[int | str, Any] = {
    200: {
        "description": "Each event's data is `{unread, newest}`; its id may be sent as Last-Event-ID to go on.",
        "content": {"text/event-stream": {"schema": {"type": "string"}}},
    },
    **openapi.problems(401),
}


@functools.cache
def templates(origin: str) -> SandboxedEnvironment:
    return letters.environment(origin)


def shown(notice: store.Shown, origin: str) -> NoticeShown:
    """A notice in its person's language; `origin` is the gateway's, where courses that it names stand."""
    language, subject, text = letters.shown(templates(origin), notice.template, notice)
    return NoticeShown(
        id=notice.id,
        category=KINDS[notice.template].category,
        template=notice.template,
        about=notice.about,
        offering_id=notice.offering_id,
        language=language,
        subject=subject,
        text=text.rstrip() + "\n",
        created_at=notice.created_at,
        read_at=notice.read_at,
    )


@router.get("", response_model=NoticesListed, responses=openapi.problems(401))
async def read_notices(
    caller: Signed,
    database: Db,
    response: Response,
    running: ThisService,
    limit: Annotated[int, Query(ge=1, le=MOST_LISTED)] = 20,
    before: UUID | None = None,
) -> NoticesListed:
    """One's own notices, newest first; `before` is the last id of the page before."""
    async with database.reading() as conn:
        [found] = await store.pages(conn, [(caller.key, before, limit + 1)])
        counted = await store.counts(conn, [caller.key])
    page = found[:limit]
    if len(found) > limit:
        response.headers["link"] = f'<{BASE}/me/notices?limit={limit}&before={page[-1].id}>; rel="next"'
    response.headers["cache-control"] = "private, no-store"
    items = [shown(one, running.settings.public_url) for one in page]
    return NoticesListed(items=items, unread=counted.get(caller.key, store.Count()).unread)


@router.post("/{notice_id}/read", status_code=204, responses=openapi.problems(401, 404))
async def mark_read(notice_id: UUID, caller: Signed, database: Db) -> Response:
    """Note that one has read it. Safe to repeat."""

    async def work(conn: Connection) -> bool:
        return await store.read(conn, caller.key, notice_id)

    if not await database.run(work):
        raise Problem("not-found", "Not found", 404, "You have no such notice.")
    return Response(status_code=204)


@router.get("/live", response_class=StreamingResponse, responses=LIVE)
async def live(caller: Signed, hub: TheHub, last_event_id: LastEventId = None) -> Response:
    """How many of one's notices are unread, told again at each new one and each that is read, as server-sent events."""
    stream = await hub.listen(caller.key, last_event_id)
    return StreamingResponse(stream, media_type="text/event-stream", headers={"x-accel-buffering": "no"})
