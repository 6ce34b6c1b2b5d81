"""Logging in and out: the code flow with PKCE, and the session that comes of it."""

import base64
import functools
import hashlib
import re
import secrets
from collections.abc import Awaitable
from typing import Annotated, cast

from fastapi import APIRouter, Depends, Request
from itsdangerous import BadSignature, URLSafeTimedSerializer
from starlette.responses import RedirectResponse, Response

from kit import logs, passes
from kit.auth import Refused, speaks_for
from kit.database import Connection
from kit.groupcommit import GroupRead
from kit.http import Db, ThisService
from kit.pages.site import login_address
from kit.pages.visitors import HEADER, Acting, PerhapsVisitor, form, not_ours, same
from kit.passes import Visitor
from kit.problems import Problem
from kit.running import Running
from kit.shortway import route_class
from services.enrolment.issuer import CALLBACK, Issuer, LoginRefused
from services.enrolment.settings import EnrolmentSettings
from services.enrolment.site import site
from services.enrolment.store import sessions

log = logs.get(__name__)

# `__Host-`: only over https (or to this machine), for this host alone, whatever else answers under its domain.
COOKIE = "__Host-kursnett"
UNDER_WAY = "__Host-kursnett-inn-"  # one for each log-in, by its state: a person has more than one tab
NAMED = re.compile(re.escape(UNDER_WAY) + r"[\w-]{8}", re.ASCII)
UNDER_WAY_S = 600
MOST_UNDER_WAY = 8  # in one browser, of some 500 bytes: all its cookies together must stay a header that is taken
HOME = "/min-side"
LOCAL = re.compile(r"/(?![/\\])[\x21-\x7e]{0,500}")
FRESH = {"cache-control": "no-store"}

router = APIRouter(include_in_schema=False)  # pages for people, not an interface for programs


async def the_issuer(request: Request, running: ThisService) -> Issuer:
    state = request.app.state
    if not hasattr(state, "issuer"):
        state.issuer = Issuer(cast(EnrolmentSettings, running.settings), state.keys)
    issuer: Issuer = state.issuer
    return issuer


TheIssuer = Annotated[Issuer, Depends(the_issuer)]


@router.get("/logg-inn")
async def log_in(request: Request, running: ThisService, issuer: TheIssuer) -> Response:
    """Send the person to the issuer; `neste` is where to come back to, on this site."""
    state, nonce, verifier = (secrets.token_urlsafe(32) for _ in range(3))
    back_to, signer = local(request.query_params.get("neste")), _signer(running)
    try:
        address = await issuer.login_address(state, nonce, verifier)
    except Problem as away:
        return _issuer_away(request, away, back_to)
    answer = RedirectResponse(address, 303, FRESH)
    kept = signer.dumps({"state": state, "nonce": nonce, "verifier": verifier, "neste": back_to})
    _set(answer, UNDER_WAY + state[:8], kept, UNDER_WAY_S)
    under_way = [name for name in request.cookies if NAMED.fullmatch(name)]  # a browser names its oldest first
    for name in under_way[: max(0, len(under_way) + 1 - MOST_UNDER_WAY)]:
        _drop(answer, name)
    return answer


@router.get(CALLBACK)
async def come_back(request: Request, running: ThisService, database: Db, issuer: TheIssuer) -> Response:
    """The issuer's answer: begin a session, or say in a sentence why there is none."""
    asked = request.query_params
    name = UNDER_WAY + asked.get("state", "")[:8]
    try:
        begun = _signer(running).loads(request.cookies.get(name, ""), max_age=UNDER_WAY_S)
    except BadSignature:
        begun = {}
    if not begun or not secrets.compare_digest(str(begun["state"]).encode(), asked.get("state", "").encode()):
        return await _not_logged_in(request, "unknown_state", HOME)
    if "error" in asked:
        return await _not_logged_in(request, "refused_by_issuer", begun["neste"])
    trusts = running.settings.trust_role_claims
    try:
        claims = await issuer.claims(asked.get("code", ""), begun["nonce"], begun["verifier"])
        caller = speaks_for(claims, trusts)
    except (LoginRefused, Refused) as refused:
        return await _not_logged_in(request, str(refused), begun["neste"])
    except Problem as away:
        return _issuer_away(request, away, begun["neste"])
    said = {"role": caller.role, "partner": caller.partner, "employer": caller.employer}
    key, old = secrets.token_urlsafe(32), request.cookies.get(COOKIE)

    async def work(conn: Connection) -> None:
        if old:  # whoever knew the key from before is not logged in by it
            await sessions.end(conn, digest_of(old))
        told = {name: value for name, value in said.items() if value and trusts}
        await sessions.begin(conn, digest_of(key), caller, secrets.token_urlsafe(32), told)

    await database.run(work)
    log.info("logged_in")
    answer = RedirectResponse(begun["neste"], 303, FRESH)
    _set(answer, COOKIE, key, int(sessions.LASTS.total_seconds()))
    _drop(answer, name)
    return answer


@router.post("/logg-inn/forleng")
async def stay(request: Request, running: ThisService, visitor: Acting) -> Response:
    """Use the session: by the script of a page that has warned that it ends, whose requests else are no use of it."""
    await sessions_of(running).submit((digest_of(request.cookies.get(COOKIE, "")), True))
    return Response(status_code=204, headers=FRESH)


@router.get("/logg-ut")
async def show_log_out(visitor: PerhapsVisitor) -> Response:
    """There is nothing to see here: one logs out by a button."""
    return RedirectResponse(HOME if visitor else "/", 303, FRESH)


@router.post("/logg-ut")
async def log_out(request: Request, database: Db, issuer: TheIssuer, visitor: PerhapsVisitor) -> Response:
    """End the session here, and lead to where the issuer's own is ended."""
    key = request.cookies.get(COOKIE)
    if visitor is not None and not same(visitor, (await form(request)).get("csrf")):
        raise not_ours()
    if key and visitor is not None:

        async def work(conn: Connection) -> bool:
            return await sessions.end(conn, digest_of(key))

        if await database.run(work):
            log.info("logged_out")
    # Another site's form comes without the cookie: its answer must not take the cookie away, nor tell tabs that it has.
    answer = site().page(request, "logged_out.html", issuer=await issuer.logout_address(), ended=bool(key))
    if key:
        _drop(answer, COOKIE)
    return answer


async def plainly(request: Request) -> Awaitable[Response]:
    """The pass, which the gateway asks for each time that somebody opens a page of their own."""
    return session(request, request.app.state.running)


gateway = APIRouter(include_in_schema=False, route_class=route_class(plainly))


class Sessions(GroupRead[tuple[bytes, bool], Visitor | None]):
    """Whose session a key's digest is: one look for all who ask at the same time.

    It begins after each has asked, so that nobody who was logged out before is found.
    """


def sessions_of(running: Running) -> Sessions:
    """The one of this process."""
    found: Sessions | None = running.kept.get(Sessions)
    if found is None:
        look = functools.partial(sessions.visitors, trusts=running.settings.trust_role_claims)
        found = running.kept[Sessions] = Sessions(running.database, look)
    return found


async def visitor_of(request: Request) -> Visitor | None:
    """Who is logged in by the cookie of a request, none where nobody is: our own pages need no pass to know it.

    What an open page fetches by itself, as each stream that ends and begins again, is no use of the session.
    """
    key = request.cookies.get(COOKIE)
    if not key:
        return None
    used = request.headers.get("sec-fetch-dest") != "empty"
    return await sessions_of(request.app.state.running).submit((digest_of(key), used))


@gateway.get("/sesjon")
async def session(request: Request, running: ThisService) -> Response:
    """For the gateway alone: the pass of whoever is logged in by this cookie, or none. Never reached from outside."""
    visitor, headers = await visitor_of(request), {}
    signing = cast(EnrolmentSettings, running.settings).pass_private_key.get_secret_value()
    if visitor is not None and signing:
        headers[HEADER] = passes.sign(signing, visitor)
    return Response(status_code=204, headers=headers)


async def forget(running: Running) -> None:
    """Drop the sessions that are over, now and then."""
    while await running.pause(600):
        await running.database.run(sessions.forget)


def digest_of(key: str) -> bytes:
    """A key has 256 random bits, so that a plain digest cannot be guessed back."""
    return hashlib.sha256(key.encode()).digest()


def local(wanted: str | None) -> str:
    """An address on this site, and nowhere else; one's own page when it is none."""
    return wanted if wanted and LOCAL.fullmatch(wanted) else HOME


def drop_key(answer: Response) -> None:
    """Let the browser forget the key of its session, which is over."""
    _drop(answer, COOKIE)


async def _not_logged_in(request: Request, reason: str, back_to: str) -> Response:
    """Who came a second time, by another click or the back button, is logged in by the first."""
    log.info("login_refused", reason=reason)
    visitor = await visitor_of(request)
    return site().page(request, "not_logged_in.html", 400, visitor=visitor, again=login_address(back_to))


def _issuer_away(request: Request, away: Problem, back_to: str) -> Response:
    return site().page(request, "issuer_away.html", away.status, headers=away.headers, again=login_address(back_to))


def _signer(running: Running) -> URLSafeTimedSerializer:
    settings = cast(EnrolmentSettings, running.settings)
    if not settings.pass_private_key.get_secret_value():
        raise Problem("busy", "Busy at the moment", 503, "Nobody can log in: the service has no key for it.")
    return _signed_by(settings.pass_private_key.get_secret_value())


@functools.lru_cache(maxsize=4)
def _signed_by(key: str) -> URLSafeTimedSerializer:
    """Signs what a log-in under way needs to remember; with a key of its own, made from the one that there is."""
    derived = hashlib.sha256(b"kursnett log-in under way" + key.encode()).digest()
    return URLSafeTimedSerializer(base64.b64encode(derived), salt="log-in")


def _set(answer: Response, name: str, value: str, seconds: int) -> None:
    answer.set_cookie(name, value, seconds, path="/", secure=True, httponly=True, samesite="lax")


def _drop(answer: Response, name: str) -> None:
    answer.delete_cookie(name, path="/", secure=True, httponly=True, samesite="lax")
