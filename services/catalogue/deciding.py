"""Who decides what was retracted with people enrolled, or has too few: a provider on its page, or an operator."""

from fastapi import APIRouter, Request
from starlette.responses import RedirectResponse, Response

from kit import acts, problems
from kit.acts import Operator
from kit.console import operator
from kit.database import Connection
from kit.http import Db
from kit.pages.visitors import Acting, form
from kit.partners import must_not_be_suspended
from services.catalogue import judging, retracting
from services.catalogue.api import refused
from services.catalogue.domain import Rule
from services.catalogue.provider import TheProvider
from services.catalogue.store import intake

# What was done in another window or by somebody else, or is too late.
TOO_LATE = {
    "nothing_waits": "alt",
    "offering_cancelled": "alt",
    "offering_confirmed": "alt",
    "course_withdrawn": "alt",
    "offering_begun": "begynt",
    "offering_over": "begynt",
}

router = APIRouter(include_in_schema=False)


async def confirm(conn: Connection, who: Operator | None, partner: str, code: str, key: str | None) -> int:
    """As `retracting.confirm`: how many are told. What an operator (`who`) does is written down. Raises Rule."""
    _, people = await retracting.confirm(conn, partner, code, key)
    await _note(conn, who, "confirm", "Retracted", partner, code, key)
    return people


async def keep(conn: Connection, who: Operator | None, partner: str, code: str, key: str | None) -> int:
    """As `retracting.keep`: nobody is told. What an operator (`who`) does is written down. Raises Rule."""
    await retracting.keep(conn, partner, code, key)
    await _note(conn, who, "keep", "Kept", partner, code, key)
    return 0


async def go_ahead(conn: Connection, who: Operator | None, partner: str, code: str, key: str | None) -> int:
    """As `judging.go_ahead`, and what an operator (`who`) does is written down. Raises Rule, also when it was said."""
    done = await judging.go_ahead(conn, partner, code, key)
    if not done.changed:
        raise Rule("offering_confirmed", "key", "this offering takes place: that was said")
    await _note(conn, who, "go-ahead", "Confirmed", partner, code, key)
    return 0


async def call_off(conn: Connection, who: Operator | None, partner: str, code: str, key: str | None) -> int:
    """As `judging.call_off`: how many are told. What an operator (`who`) does is written down. Raises Rule."""
    people = await judging.call_off(conn, partner, code, key)
    await _note(conn, who, "call-off", "Retracted", partner, code, key)
    return people


async def _note(
    conn: Connection, who: Operator | None, act: str, what: str, partner: str, code: str, key: str | None
) -> None:
    """In the partner's intake, so that what was kept of it does not undo this; and an operator's act in the list."""
    await intake.note_intake(conn, partner, "http", f"{'Offering' if key else 'Course'}{what}", code, key)
    if who is not None:
        await acts.add(conn, who, f"partners {act}", [_name(partner, code, key)])


ACTS = {
    "avlys": ("avlyst", confirm),
    "behold": ("beholdt", keep),
    "gar": ("gar", go_ahead),
    "avlys-for-fa": ("avlyst", call_off),
}


@router.post("/partner/avgjor")
async def decide(request: Request, visitor: Acting, provider: TheProvider, database: Db) -> Response:
    """Cancel what waits, or let it be; the page then says what was done, also when somebody was quicker."""
    fields = await form(request)
    act = ACTS.get(str(fields.get("gjor")))
    if act is None:
        raise problems.invalid([{"loc": ("body", "gjor"), "msg": f"must be one of {', '.join(ACTS)}"}])
    await must_not_be_suspended(database, provider.slug)
    code, key = str(fields.get("kurs", "")), str(fields.get("dato", "")) or None
    who = operator(visitor) if provider.by_operator else None
    done, command = act
    try:
        people = await database.run(lambda conn: command(conn, who, provider.slug, code, key))
    except Rule as rule:
        if rule.code not in TOO_LATE:
            raise refused(rule) from None
        return RedirectResponse(provider.address(avgjort=TOO_LATE[rule.code]), 303)
    return RedirectResponse(provider.address(avgjort=done, antall=people), 303)


def _name(partner: str, code: str, key: str | None) -> str:
    return "/".join(part for part in (partner, code, key) if part)
