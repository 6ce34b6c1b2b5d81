"""Operators hold partners up and let them go on: each change with its line in the list of acts, and the page for it."""

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from fastapi import APIRouter, Request
from starlette.responses import RedirectResponse, Response

from kit import acts
from kit.acts import Operator
from kit.console import FRESH, Acting, Watching, operator, reason
from kit.database import Connection
from kit.http import Db, ThisService
from kit.problems import Problem
from kit.running import Running
from services.catalogue import joining
from services.catalogue.domain import Rule
from services.catalogue.site import site
from services.catalogue.store import partners

ADDRESS = "/drift/catalogue/tilbydere"
LINKS: Mapping[str, Mapping[str, str]] = {
    ADDRESS: {"nb": "Se tilbydere", "nn": "Sjå tilbydarar", "en": "See providers"}
}

router = APIRouter(prefix=ADDRESS, include_in_schema=False)  # pages for people, not an interface for programs


async def suspend(conn: Connection, who: Operator, slug: str, because: str) -> bool:
    """As `joining.suspend`. Raises Rule when there is no such partner."""
    await joining.suspend(conn, slug, because)
    await acts.add(conn, who, "partners suspend", [slug], because)
    return True


async def quarantine(conn: Connection, who: Operator, slug: str, because: str) -> bool:
    """As `joining.quarantine`: False, and nothing written, when it is held up already. Raises Rule."""
    done = await joining.quarantine(conn, slug, because)
    if done:
        await acts.add(conn, who, "partners quarantine", [slug], because)
    return done


async def release(conn: Connection, who: Operator, slug: str, because: str = "") -> int:
    """As `joining.release`: how many records that were kept run on now. Raises Rule."""
    waiting = await joining.release(conn, slug)
    await acts.add(conn, who, "partners release", [slug], because)
    return waiting


ACTS: Mapping[str, Callable[[Connection, Operator, str, str], Awaitable[bool | int]]] = {
    "suspend": suspend,
    "quarantine": quarantine,
    "release": release,
}


@router.get("")
async def show(request: Request, visitor: Watching, running: ThisService) -> Response:
    """All partners, with what holds each up and how much waits for it."""
    return await _page(request, running, visitor, done=request.query_params.get("done", ""))


async def _page(request: Request, running: Running, visitor: Any, status: int = 200, **told: str) -> Response:
    """`wrong`: the act that was refused, `of`: to which partner, `typed`: its reason; `done`: what was done."""
    async with running.database.reading() as conn:
        rows = await partners.partners(conn)
    context: dict[str, Any] = {"wrong": "", "of": "", "done": "", "typed": ""} | told
    return site().page(request, "holding.html", status, visitor=visitor, service=running.name, rows=rows, **context)


@router.post("/{slug}/{act}")
async def change(
    request: Request, slug: str, act: str, visitor: Acting, running: ThisService, database: Db
) -> Response:
    """Hold one up, with a reason, or let it go on. 422 without a reason, 409 when it is held up already."""
    if act not in ACTS:
        raise Problem("not-found", "Not found", 404, "There is nothing at this address.")
    why = await reason(request)
    if act != "release" and not why:
        return await _page(request, running, visitor, 422, wrong=act, of=slug)

    async def work(conn: Connection) -> bool | int:
        return await ACTS[act](conn, operator(visitor), slug, why)

    try:
        done = await database.run(work)
    except Rule:
        raise Problem("not-found", "Not found", 404, "There is no such partner.") from None
    if done is False:
        return await _page(request, running, visitor, 409, wrong=act, of=slug, typed=why)
    return RedirectResponse(f"{ADDRESS}?done={act}", 303, FRESH)
