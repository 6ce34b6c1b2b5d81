"""Makes a service's HTTP application: its routes inside the manners that all services share."""

import functools
from collections.abc import Iterable, Sequence
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any

import asyncpg
from fastapi import APIRouter, Depends, FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.routing import RouteContext, iter_route_contexts
from starlette.exceptions import HTTPException
from starlette.responses import FileResponse, JSONResponse, Response
from starlette.routing import BaseRoute
from starlette.types import ASGIApp, Receive, Scope, Send

import contracts
from kit import edge, logs, metrics, openapi, problems, shortway
from kit.auth import Keys
from kit.database import BUSY, Busy, Database, Unknown
from kit.pages import errors, static
from kit.pages.visitors import perhaps_visitor
from kit.problems import Problem
from kit.running import Running
from kit.shortway import ShortWays

log = logs.get(__name__)

DEEPEST = 12  # parts of an address, its beginning before the first stroke included
BODY_BYTES = 256 * 1024  # a course in five languages is under 40 KiB; a route that takes files says its own limit
SLUGS = {
    400: ("malformed-request", "The request is malformed"),
    401: ("unauthenticated", "Log in first"),
    403: ("forbidden", "Not allowed"),
    404: ("not-found", "Not found"),
    405: ("method-not-allowed", "Method not allowed"),
    409: ("conflict", "Conflict"),
    412: ("precondition-failed", "It has changed since you read it"),
    413: ("body-too-large", "The body is too large"),
    415: ("wrong-content-type", "Wrong content type"),
    429: ("too-many-requests", "Too many requests"),
    503: ("busy", "Busy at the moment"),
}


class Application(FastAPI):
    """FastAPI inside our edge, with short ways to what is asked most."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        # FastAPI would first ask whether to tell OpenTelemetry: kit/tracing.py does that, when it is on.
        if scope["type"] != "http":
            await super().__call__(scope, receive, send)
            return
        scope["app"] = self
        if self.middleware_stack is None:
            self.middleware_stack = self.build_middleware_stack()
        await self.middleware_stack(scope, receive, send)

    def build_middleware_stack(self) -> ASGIApp:
        running: Running = self.state.running
        inside = ShortWays(super().build_middleware_stack(), self, self.state.short_ways, BODY_BYTES)
        return edge.Edge(inside, running.metrics, running.settings.public_url)

    def openapi(self) -> dict[str, Any]:
        if self.openapi_schema is None:
            self.openapi_schema = openapi.complete(super().openapi())
        return self.openapi_schema

    @cached_property
    def queries(self) -> dict[tuple[str, str], list[str]]:
        return openapi.queries(self.openapi())


def routed(name: str, routers: Sequence[APIRouter]) -> Application:
    """The routes of one service, enough to describe them: `routed(…).openapi()` needs no settings and no servers."""
    app = Application(
        title=f"Kursnett: {name}",
        version="1",
        docs_url=None,  # FastAPI's pages load scripts from elsewhere
        redoc_url=None,
        max_body_size=BODY_BYTES,
        redirect_slashes=False,  # a redirect would drop the body and show an address that is not ours
    )
    app.router.routes.extend(_together(routers))
    return app


_TOGETHER: dict[tuple[int, ...], list[BaseRoute]] = {}  # by the routers' ids, which their routes keep taken


def _together(routers: Sequence[APIRouter]) -> list[BaseRoute]:
    """These routes and ours. FastAPI reads every signature when it first sees one, 0.1 s in all: once, not per test."""
    key = tuple(map(id, routers))
    if key not in _TOGETHER:
        whole = APIRouter(
            responses=openapi.ANY,
            generate_unique_id_function=lambda route: route.name,  # a client's function has the name of ours
        )
        for router in routers:
            whole.include_router(router, dependencies=[Depends(only_known_queries)])
        whole.include_router(static.router)
        whole.include_router(common)
        _TOGETHER[key] = whole.routes
    return _TOGETHER[key]


def build(running: Running, routers: Sequence[APIRouter]) -> Application:
    """The application of one service. Its routes find what they need through `ThisService` and `Db`."""
    app = routed(running.name, routers)
    app.state.running = running
    app.state.keys = Keys(running.settings)
    app.state.short_ways = list(shortway.among(routers))
    public_url = running.settings.public_url
    routes = [one for router in (*routers, static.router, common) for one in iter_route_contexts(router.routes)]
    app.state.page_above = functools.partial(page_above, routes=routes)

    async def told(request: Request, problem: Problem) -> Response:
        if not errors.wanted(request):
            return problems.answer(problem, public_url)
        if problem.status < 500:  # else the database may be away: a page that names nobody is better than none
            await perhaps_visitor(request)
        return errors.answer(request, problem)

    async def on_problem(request: Request, error: Any) -> Response:
        return await told(request, error)

    async def on_invalid(request: Request, error: Any) -> Response:
        return await told(request, wrong_content_type(request, error) or problems.invalid(error.errors()))

    async def on_http(request: Request, error: Any) -> Response:
        return await told(request, of_http(error, methods(request.url.path, routes)))

    async def on_busy(request: Request, error: Any) -> Response:
        log.warning("busy", reason=type(error).__name__)
        return await told(request, edge.busy(Busy.retry_after_s))

    async def on_unknown(request: Request, _: Any) -> Response:
        log.warning("outcome_unknown")
        return await told(request, edge.unknown())

    async def on_unstorable(request: Request, _: Any) -> Response:
        words = "A text holds a character we cannot keep."
        return await told(request, Problem("invalid", "The request is not valid", 422, words))

    async def on_any(request: Request, error: Any) -> Response:
        return await told(request, edge.unforeseen(error))

    for kinds, answer in (
        ([Problem], on_problem),
        ([RequestValidationError], on_invalid),
        ([HTTPException], on_http),
        (BUSY, on_busy),
        ([Unknown], on_unknown),
        ([asyncpg.CharacterNotInRepertoireError, asyncpg.UntranslatableCharacterError], on_unstorable),
        ([Exception], on_any),
    ):
        for kind in kinds:
            app.add_exception_handler(kind, answer)
    return app


async def only_known_queries(request: Request) -> None:
    """A misspelt filter must not show everything: each parameter that the address does not take is named."""
    app: Application = request.app
    known = app.queries.get((request.method, edge.template(request.scope))) if request.url.query else None
    if known is None:
        return
    takes = f"this address takes {', '.join(known)}" if known else "this address takes none"
    strange = [name for name in dict.fromkeys(request.query_params) if name not in known]
    if strange:
        raise problems.invalid([{"loc": ("query", name), "msg": f"is not known; {takes}"} for name in strange])


def wrong_content_type(request: Request, error: RequestValidationError) -> Problem | None:
    """A body that was not even read as JSON, because it was not called JSON."""
    unread = any(part["loc"] == ("body",) and isinstance(part.get("input"), bytes) for part in error.errors())
    if not unread or edge.is_json(edge.content_type_of(request)):
        return None
    errors = [{"field": "header content-type", "detail": "must be application/json"}]
    return Problem("wrong-content-type", "Wrong content type", 415, "Send the body as application/json.", errors=errors)


def methods(path: str, routes: Iterable[RouteContext]) -> str:
    """What an address takes, as `Allow` names it: Starlette knows the methods of one function alone."""
    found = {method for one in routes if one.path_regex.match(path) for method in one.methods or ()}
    return ", ".join(sorted(found | ({"HEAD"} if "GET" in found else set())))  # the edge gives every GET a HEAD


def page_above(path: str, routes: Iterable[RouteContext]) -> str:
    """This address, or the nearest above it that can be looked at. No route of ours is as deep as a stranger's address
    may be, and each step looks at all of them.
    """
    path = "/".join(path.split("/", DEEPEST)[:DEEPEST])
    while path.count("/") > 1 and "GET" not in methods(path, routes):
        path = path.rpartition("/")[0]
    return path


def of_http(error: HTTPException, takes: str) -> Problem:
    """Starlette's own errors, in our form. `takes`: the methods of the address."""
    if isinstance(error.__cause__, Problem):  # raised while the body was read; FastAPI wraps what it does not know
        return error.__cause__
    slug, title = SLUGS.get(error.status_code, ("internal-error", "Something went wrong on our side"))
    if slug == "internal-error" and error.status_code < 500:
        slug, title = SLUGS[400]
    if error.status_code == 413:
        return edge.too_large()
    if error.status_code == 405:
        takes = takes or (error.headers or {}).get("Allow", "other methods")
        return Problem(slug, title, 405, f"This address takes {takes}.", headers={"allow": takes})
    detail = "There is nothing at this address." if error.status_code == 404 else error.detail
    return Problem(slug, title, error.status_code, detail, headers=error.headers)


async def this_service(request: Request) -> Running:
    running: Running = request.app.state.running
    return running


async def its_database(request: Request) -> Database:
    running: Running = request.app.state.running
    return running.database


ThisService = Annotated[Running, Depends(this_service)]
Db = Annotated[Database, Depends(its_database)]

common = APIRouter(include_in_schema=False)


@common.get("/healthz")
async def alive() -> dict[str, str]:
    return {"status": "alive"}


@common.get("/readyz")
async def ready(running: ThisService) -> JSONResponse:
    is_ready, body = await running.health.ready()
    return JSONResponse(body, 200 if is_ready else 503)


@common.get("/metrics")
async def numbers(running: ThisService) -> Response:
    return Response(running.metrics.text(), media_type=metrics.CONTENT_TYPE)


@common.get("/problems/{slug}")
async def problem_page(request: Request) -> Response:
    return await problems.page(request)


@common.get("/asyncapi.json")
async def asyncapi() -> Response:
    path = Path(contracts.__path__[0]) / "asyncapi.json"
    if not path.is_file():
        raise Problem("not-found", "Not found", 404, "This build has no AsyncAPI document.")
    return FileResponse(path, media_type="application/json")
