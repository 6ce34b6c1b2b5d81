"""Where a person says over HTTP what to be told of, how often, and when not to be disturbed."""

from collections.abc import Mapping, Sequence
from datetime import time
from typing import Annotated, Any, Literal, Self, get_args

from fastapi import APIRouter, Response
from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from kit import openapi, tags
from kit.auth import Signed
from kit.database import Connection
from kit.http import Db
from kit.idempotency import Answer, Repeatable, once
from kit.tags import IfMatch, IfNoneMatch
from services.notifier.decisions import Hours
from services.notifier.kinds import BY_SMS, SMS, TRANSACTIONAL, Category
from services.notifier.settings import NotifierSettings
from services.notifier.store import contacts
from services.notifier.store import preferences as store
from services.notifier.store.contacts import Reached
from services.notifier.store.preferences import Choice, Quiet
from services.notifier.webhooks import BASE, Settings

PLACE = BASE + "/me/preferences"
CLOCK = r"^([01]\d|2[0-3]):[0-5]\d$"
USUAL: Mapping[str, str] = {"email": "at_once", "inapp": "at_once", "sms": "off"}
ALWAYS = (
    "is always told at once, by mail and in the feed: it concerns your own seat. Leave both out, or as GET shows them"
)
NO_SMS = "is never told by SMS: only what cannot wait is"
NO_GATEWAY = "No SMS is sent from here: there is no gateway for them."
NO_PHONE = "You have given no phone number, so no SMS is sent to you. Give one with PUT /me/contact."

NEVER_BY_SMS: tuple[Category, ...] = tuple(one for one in get_args(Category) if one not in BY_SMS)

router = APIRouter(tags=["preferences"])


class Channels(BaseModel):
    """How often, by mail, in the feed and by SMS."""

    model_config = ConfigDict(extra="forbid")

    email: Literal["at_once", "daily", "weekly", "off"] = "at_once"
    inapp: Literal["at_once", "off"] = "at_once"
    sms: Literal["at_once", "off"] = "off"


class Categories(BaseModel):
    """What there is to be told of. What is left out is told at once."""

    model_config = ConfigDict(extra="forbid")

    seat: Channels = Channels()
    offer: Channels = Channels()
    changes: Channels = Channels()
    reminders: Channels = Channels()
    news: Channels = Channels()
    partner: Channels = Channels()

    @field_validator(*TRANSACTIONAL)
    @classmethod
    def stays(cls, value: Channels) -> Channels:
        if value != Channels(sms=value.sms):
            raise ValueError(ALWAYS)
        return value

    @field_validator(*NEVER_BY_SMS)
    @classmethod
    def stays_silent(cls, value: Channels) -> Channels:
        if value.sms != USUAL["sms"]:
            raise ValueError(NO_SMS)
        return value


class QuietHours(BaseModel):
    """From when to when, on Oslo's clock; over midnight when `until` is the earlier."""

    model_config = ConfigDict(extra="forbid")

    since: Annotated[str, Field(alias="from", pattern=CLOCK, examples=["21:00"])]
    until: Annotated[str, Field(pattern=CLOCK, examples=["07:00"])]

    @model_validator(mode="after")
    def ends(self) -> Self:
        if self.since == self.until:
            raise ValueError("from and until must differ; for no quiet hours at all send null")
        return self


class Preferences(BaseModel):
    """All that one has chosen. `quiet_hours` null: never; left out: as usual here."""

    model_config = ConfigDict(extra="forbid")

    categories: Categories = Categories()
    quiet_hours: QuietHours | None = None
    always: Annotated[list[str], Field(description="categories that cannot be turned off; ignored when sent")] = []
    unavailable: Annotated[dict[str, str], Field(description="ignored when sent")] = {}


class PreferencesShown(BaseModel):
    """What is told, how often, by which channel.

    `always` are the categories that cannot be turned off by mail and in the feed; `unavailable` says of a channel why
    nothing goes that way, whatever is chosen.
    """

    categories: Categories
    quiet_hours: QuietHours | None
    always: list[Category]
    unavailable: dict[str, str]


def no_sms(reached: Reached | None, gateway: bool) -> str | None:
    """Why no SMS is sent to this person; none when some are, if they want them."""
    if not gateway:
        return NO_GATEWAY
    return None if reached is not None and reached.phone is not None else NO_PHONE


def shown(
    chosen: Sequence[Choice], quiet: Quiet | None, usual: Hours | None, why_no_sms: str | None
) -> PreferencesShown:
    """Choices as they are shown, with the usual where nothing was chosen."""
    table: dict[str, dict[str, Any]] = {category: {} for category in get_args(Category)}
    for one in chosen:
        table[one.category][one.channel] = one.cadence
    hours = usual if quiet is None else hours_of(quiet)
    return PreferencesShown(
        categories=Categories.model_validate(table),
        quiet_hours=None
        if hours is None
        else QuietHours.model_validate({"from": _clock(hours[0]), "until": _clock(hours[1])}),
        always=list(TRANSACTIONAL),
        unavailable={} if why_no_sms is None else {SMS: why_no_sms},
    )


def hours_of(quiet: Quiet) -> Hours | None:
    """Quiet hours as decisions are made by them."""
    if quiet.quiet_from is None or quiet.quiet_until is None:
        return None
    return quiet.quiet_from, quiet.quiet_until


def _clock(at: time) -> str:
    return at.strftime("%H:%M")


def chosen(categories: Categories) -> list[Choice]:
    """What is not as usual."""
    table: Mapping[str, Mapping[str, str]] = categories.model_dump()
    return [
        Choice(category, channel, cadence)
        for category, channels in table.items()
        for channel, cadence in channels.items()
        if cadence != USUAL[channel]
    ]


def quiet_of(wanted: Preferences) -> Quiet | None:
    """The quiet hours that are wanted; none when nothing is said of them."""
    if "quiet_hours" not in wanted.model_fields_set:
        return None
    hours = wanted.quiet_hours
    return Quiet(None, None) if hours is None else Quiet(*map(time.fromisoformat, (hours.since, hours.until)))


async def here(conn: Connection, who: str, settings: NotifierSettings) -> bytes:
    """What a person has chosen, as it is shown."""
    why_no_sms = no_sms(await contacts.reached(conn, who), bool(settings.sms_gateway_url))
    found = shown(await store.choices(conn, who), await store.quiet(conn, who), settings.quiet, why_no_sms)
    return found.model_dump_json(by_alias=True).encode()


async def replace(
    conn: Connection, who: str, wanted: Preferences, settings: NotifierSettings, if_match: str | None
) -> bytes:
    """Let this be all that the person has chosen; as it is shown then. Raises Problem (412) when it had changed."""
    await store.lock(conn, who)
    tags.must_match(if_match, tags.tag(await here(conn, who, settings)))
    await store.forget(conn, who)
    await store.keep(conn, who, chosen(wanted.categories))
    await store.keep_quiet(conn, who, quiet_of(wanted))
    return await here(conn, who, settings)


@router.get(
    PLACE,
    response_model=PreferencesShown,
    responses={304: {"description": "It is as `If-None-Match` says."}},
)
async def read_preferences(
    caller: Signed, database: Db, settings: Settings, if_none_match: IfNoneMatch = None
) -> Response:
    """What one is told, how often, and when one is not disturbed."""
    async with database.reading() as conn:
        body = await here(conn, caller.key, settings)
    return tags.unless_known(body, if_none_match, "private, no-cache")


@router.put(PLACE, response_model=PreferencesShown, responses=openapi.problems(409, 412))
async def write_preferences(
    body: Preferences, caller: Signed, database: Db, asked: Repeatable, settings: Settings, if_match: IfMatch = None
) -> Response:
    """Choose anew, as a whole: what is left out is as usual again. Seats and offers are always told."""

    async def work(conn: Connection) -> Response:
        async def effect() -> Answer:
            kept = await replace(conn, caller.key, body, settings, if_match)
            return Answer(PreferencesShown.model_validate_json(kept), 200, {"etag": tags.tag(kept)})

        return await once(conn, asked, effect)

    return await database.run(work)
