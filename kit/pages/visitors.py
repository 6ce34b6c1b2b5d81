"""Who looks at a page, and whether a form that comes back is one that we gave them."""

import hmac
import re
from collections.abc import Awaitable, Callable
from typing import Annotated

from fastapi import Depends, Request
from starlette.datastructures import FormData

from kit import logs, passes
from kit.auth import forbidden, unauthenticated
from kit.passes import Visitor
from kit.problems import Problem, explain
from kit.running import Running

log = logs.get(__name__)

HEADER = "kursnett-pass"
FOUND = "kursnett.visitor"  # in the scope of a request: who it was found to be from
HALF = re.compile("[\ud800-\udfff]")
CHALLENGE = 'Session realm="kursnett"'

explain(
    "form-not-ours",
    "This form is not from here",
    "The form is too old, or came from another page. Load its page again and send it once more. Nothing was done.",
)


def known(request: Request) -> Visitor | None:
    """Who is logged in, or none, as far as is known without asking the database.

    A pass that will not do counts as none: it can only be an old one, or forged.
    """
    if FOUND in request.scope:
        found: Visitor | None = request.scope[FOUND]
        return found
    given = request.headers.get(HEADER)
    running: Running = request.app.state.running
    if not given or not running.settings.pass_public_key:
        return None
    try:
        return passes.read(running.settings.pass_public_key, given)
    except passes.NotValid as refused:
        log.warning("pass_refused", reason=str(refused))
        return None


async def perhaps_visitor(request: Request) -> Visitor | None:
    """Who is logged in, or none: by the pass that the gateway hands on; where sessions are kept, by the session."""
    running: Running = request.app.state.running
    if FOUND not in request.scope:
        visitor = known(request)
        if visitor is None and running.session is not None:
            visitor = await running.session(request)
        request.scope[FOUND] = visitor
    return known(request)


PerhapsVisitor = Annotated[Visitor | None, Depends(perhaps_visitor)]


async def visiting(visitor: PerhapsVisitor) -> Visitor:
    """Who is logged in. Nobody: 401, which a page answers by leading to the log-in."""
    if visitor is None:
        raise unauthenticated("Log in first.", CHALLENGE)
    return visitor


Visiting = Annotated[Visitor, Depends(visiting)]


async def acting(request: Request, visitor: Visiting) -> Visitor:
    """Who sends a form that we gave them; 403 for a form from anywhere else. The page reads it by `form(request)`."""
    if not await ours(request, visitor):
        raise not_ours()
    return visitor


Acting = Annotated[Visitor, Depends(acting)]


async def ours(request: Request, visitor: Visitor) -> bool:
    """Whether the form that was sent is one that we gave this visitor; one that is not is written down."""
    if same(visitor, (await form(request)).get("csrf")):
        return True
    log.info("form_refused", route=str(getattr(request.scope.get("route"), "path", "")))
    return False


async def visiting_plainly(request: Request) -> Visitor | None:
    """As `visiting`, for a page's short way; none for an address with a query, which goes the whole way."""
    return None if request.scope["query_string"] else await visiting(await perhaps_visitor(request))


def acting_as(role: str) -> Callable[[Visitor], Awaitable[Visitor]]:
    """A dependency for the forms of one role, as `visiting_as` for its pages."""

    async def check(visitor: Acting) -> Visitor:
        return await visiting_as(role)(visitor)

    return check


def not_ours() -> Problem:
    return Problem("form-not-ours", "This form is not from here", 403, "Load the page again, and send its form.")


def same(visitor: Visitor, sent: object) -> bool:
    """Whether this is the token of the visitor's forms."""
    return isinstance(sent, str) and hmac.compare_digest(visitor.csrf.encode(), sent.encode())


async def form(request: Request) -> FormData:
    """The fields that were sent; read once, and the same each time. Raises Problem (400) for half a character.

    A form says in which encoding it comes, and some of those have such: neither a page nor a database can hold one.
    """
    sent = await request.form(max_files=2, max_fields=100)
    for part in sent.multi_items():
        if any(isinstance(text, str) and HALF.search(text) for text in part):
            raise Problem("malformed-request", "The request is malformed", 400, "The form holds half a character.")
    return sent


def visiting_as(role: str) -> Callable[[Visitor], Awaitable[Visitor]]:
    """A dependency for pages of one role: `Annotated[Visitor, Depends(visiting_as("operator"))]`. 403 for others."""

    async def check(visitor: Visiting) -> Visitor:
        if visitor.caller.role != role:
            raise forbidden(f"This is for the role {role}.")
        return visitor

    return check
