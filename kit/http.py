"""Makes a service's HTTP application: its routes inside the manners that all services share."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import asyncpg
from fastapi import APIRouter, Depends, FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import FileResponse, JSONResponse, Response
from starlette.types import ASGIApp

import contracts
from kit import edge, logs, metrics, problems
from kit.auth import Keys
from kit.database import Busy, Database, Unknown
from kit.problems import Problem
from kit.running import Running

log = logs.get(__name__)

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
PROBLEM_SCHEMA = {
    "title": "Problem",
    "description": "RFC 9457. `type` is an address that explains this kind of problem; others members may follow.",
    "type": "object",
    "required": ["type", "title", "status"],
    "properties": {
        "type": {"type": "string", "format": "uri"},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "detail": {"type": "string"},
        "request_id": {"type": "string"},
        "errors": {
            "type": "array",
            "items": {
                "type": "object",
                "required": ["field", "detail"],
                "properties": {"field": {"type": "string"}, "detail": {"type": "string"}},
            },
        },
    },
}
ANY_PROBLEM: dict[int | str, dict[str, Any]] = {
    "default": {
        "description": "Not what was asked for.",
        "content": {problems.CONTENT_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}},
    }
}


class Application(FastAPI):
    """FastAPI inside our edge."""

    def build_middleware_stack(self) -> ASGIApp:
        running: Running = self.state.running
        return edge.Edge(super().build_middleware_stack(), running.metrics, running.settings.public_url)

    def openapi(self) -> dict[str, Any]:
        document = super().openapi()
        document.setdefault("components", {}).setdefault("schemas", {})["Problem"] = PROBLEM_SCHEMA
        return document


def build(running: Running, routers: Sequence[APIRouter], title: str = "") -> Application:
    """The application of one service. Its routes find what they need through `ThisService` and `Db`."""
    app = Application(
        title=title or f"Kursnett: {running.name}",
        version="1",
        docs_url=None,  # FastAPI's pages load scripts from elsewhere
        redoc_url=None,
        max_body_size=BODY_BYTES,
        responses=ANY_PROBLEM,
        redirect_slashes=False,  # a redirect would drop the body and show an address that is not ours
    )
    app.state.running = running
    app.state.keys = Keys(running.settings)
    public_url = running.settings.public_url

    def told(problem: Problem) -> Response:
        return problems.answer(problem, public_url)

    async def on_problem(_: Request, error: Any) -> Response:
        return told(error)

    async def on_invalid(request: Request, error: Any) -> Response:
        return told(wrong_content_type(request, error) or problems.invalid(error.errors()))

    async def on_http(_: Request, error: Any) -> Response:
        return told(of_http(error))

    async def on_busy(_: Request, error: Any) -> Response:
        log.warning("busy", reason=type(error).__name__)
        return told(edge.busy(Busy.retry_after_s))

    async def on_unknown(_: Request, __: Any) -> Response:
        log.warning("outcome_unknown")
        return told(edge.unknown())

    async def on_unstorable(_: Request, __: Any) -> Response:
        return told(Problem("invalid", "The request is not valid", 422, "A text holds a character we cannot keep."))

    async def on_any(_: Request, error: Any) -> Response:
        return told(edge.unforeseen(error))

    for kinds, answer in (
        ([Problem], on_problem),
        ([RequestValidationError], on_invalid),
        ([HTTPException], on_http),
        ([Busy, asyncpg.QueryCanceledError, asyncpg.LockNotAvailableError], on_busy),  # our limits ended the statement
        ([Unknown], on_unknown),
        ([asyncpg.CharacterNotInRepertoireError, asyncpg.UntranslatableCharacterError], on_unstorable),
        ([Exception], on_any),
    ):
        for kind in kinds:
            app.add_exception_handler(kind, answer)

    for router in routers:
        app.include_router(router)
    app.include_router(common)
    return app


def wrong_content_type(request: Request, error: RequestValidationError) -> Problem | None:
    """A body that was not even read as JSON, because it was not called JSON."""
    unread = any(part["loc"] == ("body",) and isinstance(part.get("input"), bytes) for part in error.errors())
    if not unread or edge.is_json(edge.content_type_of(request)):
        return None
    return Problem("wrong-content-type", "Wrong content type", 415, "Send the body as application/json.")


def of_http(error: HTTPException) -> Problem:
    """Starlette's own errors, in our form."""
    if isinstance(error.__cause__, Problem):  # raised while the body was read; FastAPI wraps what it does not know
        return error.__cause__
    slug, title = SLUGS.get(error.status_code, ("internal-error", "Something went wrong on our side"))
    if slug == "internal-error" and error.status_code < 500:
        slug, title = SLUGS[400]
    detail = {404: "There is nothing at this address.", 405: None, 413: None}.get(error.status_code, error.detail)
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
