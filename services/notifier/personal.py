"""What the notifier keeps about a person, all of it in one document, for that person: over HTTP and from the page."""

from datetime import datetime
from typing import Annotated, Any

from fastapi import APIRouter
from pydantic import BaseModel, Field
from starlette.responses import Response

from kit import openapi
from kit.auth import Signed
from kit.database import Connection, Database
from kit.http import Db
from kit.pages.visitors import Visiting
from services.notifier.letterbox import PLACE
from services.notifier.store import personal as store
from services.notifier.webhooks import BASE, Settings

api = APIRouter(tags=["privacy"])
router = APIRouter(prefix=PLACE, include_in_schema=False)

Rows = list[dict[str, Any]]


class Personal(BaseModel):
    """All that is kept here. `about` is where purposes, recipients and times are told in words.

    The texts of notices are not kept: they are made of `facts` when they are sent, and when they are shown.
    """

    service: str = "notifier"
    made_at: datetime
    about: str
    login: Annotated[str, Field(description="a digest of the issuer and its name for the person")]
    contacts: Rows
    preferences: Rows
    quiet_hours: dict[str, Any] | None
    calendar: dict[str, Any] | None
    notices: Rows
    enrolments: Rows


async def personal(conn: Connection, login: str, public_url: str) -> Personal:
    """The document of whoever is known by this (`kit.auth.Caller.key`)."""
    return Personal(
        made_at=await store.made_at(conn),
        about=f"{public_url}/personvern",
        login=login,
        contacts=await store.contacts(conn, login),
        preferences=await store.preferences(conn, login),
        quiet_hours=await store.quiet_hours(conn, login),
        calendar=await store.calendar(conn, login),
        notices=await store.notices(conn, login),
        enrolments=await store.enrolments(conn, login),
    )


@api.get(BASE + "/me/data", response_model=Personal, responses=openapi.problems(401))
async def read_data(caller: Signed, database: Db, settings: Settings) -> Response:
    """All that the notifier keeps about whoever asks. What enrolment keeps is at its own `/me/data`."""
    return await _file(database, caller.key, settings.public_url)


@router.get("/data.json")
async def file(visitor: Visiting, database: Db, settings: Settings) -> Response:
    """The same, as a file, for whoever is logged in."""
    return await _file(database, visitor.caller.key, settings.public_url)


async def _file(database: Database, login: str, public_url: str) -> Response:
    async with database.reading() as conn:
        found = await personal(conn, login, public_url)
    named = {"content-disposition": 'attachment; filename="kursnett-notifier.json"', "cache-control": "no-store"}
    return Response(found.model_dump_json(indent=2), headers=named, media_type="application/json")
