"""Where a person says over HTTP to which address and phone, and in which language, they are written to."""

from dataclasses import asdict
from typing import Annotated

from fastapi import APIRouter, Response
from pydantic import BaseModel, ConfigDict, Field

from contracts.fields import Language
from kit import openapi, tags
from kit.addresses import Address
from kit.auth import Signed
from kit.database import Connection
from kit.http import Db
from kit.idempotency import Answer, Repeatable, once, written
from kit.phones import Phone
from kit.problems import Problem
from kit.tags import IfMatch, IfNoneMatch
from services.notifier import bounces
from services.notifier.store import contacts as store
from services.notifier.store import preferences
from services.notifier.webhooks import BASE, Settings

PLACE = BASE + "/me/contact"
CACHING = "private, no-store"

router = APIRouter(tags=["contact"])


class Contact(BaseModel):
    """How one is reached: the same for all that one is enrolled in."""

    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True)

    email: Address
    language: Language
    phone: Annotated[Phone | None, Field(description="for SMS; left out: none, and no SMS")] = None


class ContactShown(BaseModel):
    """How one is reached, as one gave it last."""

    email: str
    language: Language
    phone: str | None


async def here(conn: Connection, who: str) -> bytes:
    """How a person is reached, as it is shown. Raises Problem (404) when nothing is known of them."""
    found = await store.reached(conn, who)
    if found is None:
        words = "You have given no address yet. You give one when you enrol in a course."
        raise Problem("not-found", "Not found", 404, words)
    return ContactShown.model_validate(asdict(found)).model_dump_json().encode()


async def replace(conn: Connection, who: str, wanted: Contact, private_json: str, if_match: str | None) -> bytes:
    """Reach the person like this from now on; as it is shown then. Raises Problem: 404 or 412.

    What was not sent to a bad address before is not sent now; what comes goes to the new one.
    """
    await preferences.lock(conn, who)
    tags.must_match(if_match, tags.tag(await here(conn, who)))
    learners, former = await store.change(conn, who, store.Reached(**wanted.model_dump()))
    await bounces.leave(conn, learners, former, private_json)
    return await here(conn, who)


@router.get(
    PLACE,
    response_model=ContactShown,
    responses={304: {"description": "It is as `If-None-Match` says."}, **openapi.problems(404)},
)
async def read_contact(caller: Signed, database: Db, if_none_match: IfNoneMatch = None) -> Response:
    """The address, the phone and the language that one gave last."""
    async with database.reading() as conn:
        body = await here(conn, caller.key)
    return tags.unless_known(body, if_none_match, CACHING)


@router.put(PLACE, response_model=ContactShown, responses=openapi.problems(404, 409, 412))
async def write_contact(
    body: Contact, caller: Signed, database: Db, asked: Repeatable, settings: Settings, if_match: IfMatch = None
) -> Response:
    """Be written to at this address and phone, in this language, about everything from now on."""
    private_json = settings.contact_private_key.get_secret_value()

    async def work(conn: Connection) -> Response:
        async def effect() -> Answer:
            kept = await replace(conn, caller.key, body, private_json, if_match)
            return Answer(None, 200, {"etag": tags.tag(kept), "cache-control": CACHING})

        return await once(conn, asked, effect)

    answer = await database.run(work)
    # The answer that is kept for a repeated request has no address: it is in the request, which is the same.
    told = {name: value for name, value in answer.headers.items() if name not in ("content-length", "content-type")}
    return written(Answer(body, answer.status_code, told))
