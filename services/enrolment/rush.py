"""Asking for a seat: the one request that comes in a rush, so the one that has a short way past FastAPI's machinery."""

from collections.abc import Awaitable
from typing import Annotated, Literal, cast
from uuid import UUID

from fastapi import APIRouter, Request, Response
from fastapi.security import HTTPAuthorizationCredentials
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from contracts.fields import Language, Line, Slug
from kit import auth, idempotency, openapi, sealing
from kit.addresses import Address
from kit.auth import Caller
from kit.http import ThisService
from kit.idempotency import Repeatable
from kit.phones import Phone
from kit.shortway import route_class
from services.enrolment import commands, refusals
from services.enrolment import desk as desks
from services.enrolment.desk import Desk, Paced, login
from services.enrolment.settings import EnrolmentSettings
from services.enrolment.shown import BASE, EnrolmentShown


class Contact(BaseModel):
    """How to reach the learner. It is sealed for the notifier at once and not kept here."""

    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True)

    email: Address
    language: Language = "nb"
    phone: Annotated[Phone | None, Field(description="for SMS, which whoever wants them turns on")] = None


class Asking(BaseModel):
    """A learner asks for a seat."""

    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True)

    places: Annotated[
        list[Slug],
        Field(min_length=1, max_length=3, description="arenas, best first", json_schema_extra={"uniqueItems": True}),
    ]
    name: Annotated[Line, Field(description="shown to the partner in the list of those who attend")]
    contact: Contact | None = None
    group: Annotated[Slug | None, Field(description="one of the offering's groups, if one belongs to it")] = None
    wait_for_earlier: Annotated[
        bool,
        Field(strict=True, description="seated at a later choice, stand in line for the earlier ones"),
    ] = True
    on_lapse: Annotated[
        Literal["leave", "back_of_queue"] | None,
        Field(description="what an offer that the learner does not answer does; none: what the offering says"),
    ] = None


async def plainly(request: Request) -> Awaitable[Response] | None:
    """`enrol` called with what a request that is plainly in order brings; none for any other request.

    Raises what the same dependencies raise the whole way: Problem for a token, a key, or one who asks too often.
    """
    headers, scheme = request.headers, "Bearer "
    token = headers.get("authorization", "")
    if request.scope["query_string"] or headers.get("content-type") != "application/json":
        return None
    if not token.startswith(scheme):
        return None
    try:
        offering_id = UUID(request.path_params["offering_id"])
        body = Asking.model_validate_json(await request.body())
    except (ValueError, ValidationError):
        return None
    except ClientDisconnect:
        raise HTTPException(400, "There was an error parsing the body") from None
    running = request.app.state.running
    credentials = HTTPAuthorizationCredentials(scheme="Bearer", credentials=token.removeprefix(scheme))
    caller = await auth.signed(await auth.perhaps_signed(request, credentials))
    paced = await desks.paced(caller, running)
    repeatable = await idempotency.asked(request, caller, headers.get("idempotency-key"))
    return enrol(offering_id, body, paced, repeatable, running, await desks.the_desk(running))


router = APIRouter(prefix=BASE, tags=["enrolment"], route_class=route_class(plainly))


@router.post(
    "/offerings/{offering_id}/enrolments",
    status_code=201,
    response_model=EnrolmentShown,
    responses=openapi.problems(
        404,
        kinds={
            409: ("already-enrolled", "offering-closed", "not-open-yet", "other-group", "too-many-enrolments"),
            422: ("unknown-place", "place-twice", "unknown-group"),
            429: ("enrolling-too-often",),
        },
    ),
)
async def enrol(
    offering_id: UUID, body: Asking, caller: Paced, repeatable: Repeatable, running: ThisService, desk: Desk
) -> Response:
    """Ask for a seat: `associated` with a `place`, `queued` with a `place_in_line`, or `pending` till approved."""
    command = command_of(offering_id, body, caller, cast(EnrolmentSettings, running.settings))
    return await desk.submit(desks.Request(command, repeatable))


def command_of(offering_id: UUID, body: Asking, caller: Caller, settings: EnrolmentSettings) -> commands.Enrol:
    """What is asked, with the contact sealed before the transaction: nobody waits for our arithmetic.

    Raises Problem (422) when a place is named twice.
    """
    if len(set(body.places)) < len(body.places):
        raise refusals.place_twice()
    sealed = None
    if body.contact is not None:  # the login: by it they see what is theirs
        letter = {**body.contact.model_dump(exclude_none=True), "name": body.name, "login": caller.key}
        sealed = sealing.seal(settings.contact_public_key, letter)
    return commands.Enrol(
        offering_id,
        login(caller),
        tuple(body.places),
        body.name,
        sealed,
        body.group,
        body.wait_for_earlier,
        body.on_lapse,
    )
