"""The page where a person chooses what to be told, when, and in which language, and shares their calendar."""

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from fastapi import APIRouter, Request
from pydantic import ValidationError
from starlette.datastructures import FormData
from starlette.responses import RedirectResponse, Response

from kit import tags
from kit.database import Connection
from kit.http import Db
from kit.pages.languages import NAMES
from kit.pages.visitors import Acting, Visiting, form
from kit.passes import Visitor
from kit.problems import Problem
from services.notifier import calendar, contact, preferences
from services.notifier.kinds import BY_SMS, SMS, TRANSACTIONAL, Category
from services.notifier.letterbox import PLACE as LETTERBOX
from services.notifier.preferences import Preferences
from services.notifier.settings import NotifierSettings
from services.notifier.site import site
from services.notifier.store import calendars, contacts
from services.notifier.store import preferences as store
from services.notifier.store.contacts import Reached
from services.notifier.webhooks import Settings

PLACE = f"{LETTERBOX}/valg"
LANGUAGES: Mapping[str, str] = {**NAMES, "sma": "Åarjelsaemien", "sme": "Davvisámegiella"}
# What a person can be told of, or not. There is no notice of the category `news` yet, and those of `partner` go to an
# office, which stops them by their own link: a choice that changes nothing is not asked for.
CHOOSABLE: tuple[Category, ...] = ("changes", "reminders")
USUAL, OWN, NEVER = "usual", "own", "never"
DONE = ("lagret", "sprak", "kalender", "sluttet")
# A new calendar address is shown on the page after the form that makes it, and never stands in an address of ours.
COOKIE = "__Host-kursnett-kalender"
COOKIE_S = 300

router = APIRouter(prefix=PLACE, include_in_schema=False)  # pages for people, not an interface for programs


@router.get("")
async def read_choices(
    request: Request, visitor: Visiting, database: Db, settings: Settings, gjort: str = ""
) -> Response:
    """What one has chosen; `gjort` is what was just done."""
    async with database.reading() as conn:
        return await _page(request, conn, visitor, settings, done=gjort)


@router.post("")
async def choose(request: Request, visitor: Acting, database: Db, settings: Settings) -> Response:
    """Keep what was chosen; the page again, with a sentence at each field, when something of it will not do."""
    sent, who = await form(request), visitor.caller.key

    async def again(conn: Connection, status: int, errors: Mapping[str, str]) -> Response:
        typed = {name: value for name, value in sent.items() if isinstance(value, str)}
        return await _page(request, conn, visitor, settings, status, typed=typed, errors=errors)

    async def work(conn: Connection) -> Response:
        await store.lock(conn, who)
        chosen, quiet = await store.choices(conn, who), await store.quiet(conn, who)
        asked = _asked(sent, CHOOSABLE, preferences.shown(chosen, quiet, None, None).categories.model_dump())
        try:
            wanted = Preferences.model_validate(asked)
        except ValidationError as refused:
            return await again(conn, 422, _told(request, refused))
        if (set(preferences.chosen(wanted.categories)), preferences.quiet_of(wanted)) != (set(chosen), quiet):
            try:
                await preferences.replace(conn, who, wanted, settings, str(sent.get("version") or ""))
            except Problem:  # another page of theirs was quicker
                _ = site().text(request)
                words = _("Valgene dine ble endret et annet sted mens du fylte ut. Se over, og lagre en gang til.")
                return await again(conn, 409, {"changed": words})
        return RedirectResponse(f"{PLACE}?gjort=lagret", 303)

    return await database.run(work)


@router.post("/sprak")
async def reach(request: Request, visitor: Acting, database: Db, settings: Settings) -> Response:
    """To which address and phone, and in which language, one is written to."""
    sent = await form(request)
    typed = {name: str(sent.get(name) or "").strip() for name in contact.Contact.model_fields}

    async def work(conn: Connection) -> Response:
        try:
            wanted = contact.Contact.model_validate(typed | {"phone": typed["phone"] or None})
        except ValidationError as refused:
            told = _unreachable(request, refused)
            return await _page(request, conn, visitor, settings, 422, typed=typed, errors=told)
        private_json = settings.contact_private_key.get_secret_value()
        await contact.replace(conn, visitor.caller.key, wanted, private_json, None)
        return RedirectResponse(f"{PLACE}?gjort=sprak", 303)

    return await database.run(work)


@router.post("/kalender")
async def share_calendar(visitor: Acting, database: Db) -> Response:
    """Make a new address for one's calendar, as the interface for programs does; the next page shows it."""
    secret = calendar.new_secret()

    async def work(conn: Connection) -> None:
        await calendars.renew(conn, visitor.caller.key, calendar.digest(secret))

    await database.run(work)
    answer = RedirectResponse(f"{PLACE}?gjort=kalender#kalender", 303)
    answer.set_cookie(COOKIE, secret, COOKIE_S, path="/", secure=True, httponly=True, samesite="lax")
    return answer


@router.post("/kalender/slutt")
async def end_calendar(visitor: Acting, database: Db) -> Response:
    """Let nobody read one's calendar by an address any more."""

    async def work(conn: Connection) -> None:
        await calendars.revoke(conn, visitor.caller.key)

    await database.run(work)
    answer = RedirectResponse(f"{PLACE}?gjort=sluttet#kalender", 303)
    answer.delete_cookie(COOKIE, path="/", secure=True, httponly=True, samesite="lax")
    return answer


async def _page(
    request: Request,
    conn: Connection,
    visitor: Visitor,
    settings: NotifierSettings,
    status: int = 200,
    *,
    done: str = "",
    typed: Mapping[str, str] | None = None,
    errors: Mapping[str, str] | None = None,
) -> Response:
    who = visitor.caller.key
    chosen, quiet = await store.choices(conn, who), await store.quiet(conn, who)
    usual = settings.quiet
    now = preferences.shown(chosen, quiet, usual, None)
    secret = request.cookies.get(COOKIE, "")
    is_mine = bool(secret) and await calendars.owner(conn, calendar.digest(secret)) == who
    made_at = await calendars.made_at(conn, who)
    hours = now.quiet_hours
    reached = await contacts.reached(conn, who)
    is_reached = {} if reached is None else {name: value or "" for name, value in asdict(reached).items()}
    return site().page(
        request,
        "choosing.html",
        status,
        visitor=visitor,
        done=done if done in DONE else "",
        errors=errors or {},
        version=tags.tag(await preferences.here(conn, who, settings)),
        categories=CHOOSABLE,
        fields=_fields(now.categories.model_dump(), quiet, hours) | is_reached | dict(typed or {}),
        hours=hours,
        usual=None if usual is None else [at.strftime("%H:%M") for at in usual],
        reached=reached,
        tongues=LANGUAGES,
        why_no_sms=_no_sms(request, reached, settings),
        by_sms=BY_SMS,
        always=TRANSACTIONAL,
        made_at=made_at,
        addresses=calendar.addresses(settings.public_url, secret) if is_mine else None,
    )


def _no_sms(request: Request, reached: Reached | None, settings: NotifierSettings) -> str:
    """Why no SMS is sent to this reader, in their language; nothing when some are, if they want them."""
    _ = site().text(request)
    why = preferences.no_sms(reached, bool(settings.sms_gateway_url))
    if why == preferences.NO_GATEWAY:
        return _("Vi sender ikke SMS herfra.")
    return _("Vil du ha SMS, så oppgi mobilnummeret ditt lenger ned på siden.") if why else ""


def _fields(
    categories: Mapping[str, Mapping[str, str]], quiet: store.Quiet | None, hours: preferences.QuietHours | None
) -> dict[str, str]:
    """The fields of the form as they are filled in by what is chosen now."""
    fields = {f"{category}-{channel}": how for category, each in categories.items() for channel, how in each.items()}
    fields["quiet"] = USUAL if quiet is None else NEVER if hours is None else OWN
    return fields | {"from": hours.since if hours else "21:00", "until": hours.until if hours else "07:00"}


def _asked(sent: FormData, categories: tuple[Category, ...], now: Mapping[str, Any]) -> dict[str, Any]:
    """The form as the interface for programs takes it. What is not on this person's form stays as it is `now`."""
    table = {name: dict(each) for name, each in now.items()}
    for category in (*TRANSACTIONAL, *categories):
        is_own = category in TRANSACTIONAL  # of these an SMS is all that there is to choose
        for channel in (SMS,) if is_own else table[category]:
            if channel != SMS or f"{category}-{SMS}" in sent:  # it is not on the form of one who can get none
                table[category][channel] = str(sent.get(f"{category}-{channel}") or "")
    asked: dict[str, Any] = {"categories": table}
    if sent.get("quiet") != USUAL:
        own = {"from": _clock(sent.get("from")), "until": _clock(sent.get("until"))}
        asked["quiet_hours"] = None if sent.get("quiet") == NEVER else own
    return asked


def _clock(sent: object) -> str:
    """`9.30`, as people here write it where the browser has no field for times, as `09:30`."""
    text = str(sent or "").strip().replace(".", ":")
    return text.zfill(5) if ":" in text else text


def _unreachable(request: Request, refused: ValidationError) -> dict[str, str]:
    """Field of the form about the address -> what is wrong with it, in the reader's language."""
    _ = site().text(request)
    words = {
        "email": _("Skriv en e-postadresse, for eksempel kari@example.no."),
        "phone": _("Skriv et telefonnummer, for eksempel 912 34 567 eller +46 70 123 45 67, eller la feltet stå tomt."),
        "language": _("Velg et av språkene."),
    }
    return {str(error["loc"][0]): words[str(error["loc"][0])] for error in refused.errors()}


def _told(request: Request, refused: ValidationError) -> dict[str, str]:
    """Field -> what is wrong with it, in the reader's language."""
    _ = site().text(request)
    told: dict[str, str] = {}
    for error in refused.errors():
        place = [str(part) for part in error["loc"]]
        if place[0] == "categories":
            told["-".join(place[1:3])] = _("Velg et av alternativene.")
        elif place[-1] in ("from", "until"):
            told[place[-1]] = _("Skriv et klokkeslett, for eksempel 22:00.")
        else:
            told["until"] = _("De to klokkeslettene må være forskjellige. Vil du aldri ha stille tid, så velg «Aldri».")
    return told
