"""A short way past FastAPI's machinery, for the few addresses that many ask at once."""

from collections.abc import Awaitable, Callable, Iterable, Iterator
from typing import Any

from fastapi import APIRouter, FastAPI, Request, Response
from fastapi.routing import APIRoute
from starlette.types import ASGIApp, Message, Receive, Scope, Send

Plainly = Callable[[Request], Awaitable[Awaitable[Response] | None]]


class ShortWay(APIRoute):
    """A route that is described and checked like any other, and has a short way too."""

    plainly: Plainly


def route_class(plainly: Plainly) -> type[ShortWay]:
    """Routes that first give each request to `plainly`.

    It calls the route's function for a request that is plainly in order. For any other it gives none, and the request
    goes the whole way, which says what is wrong with it. FastAPI and Starlette take half of such a request's time, to
    go through nine layers that do nothing with it, and to find out in which order to call the same few functions.
    """
    return type("OneShortWay", (ShortWay,), {"plainly": staticmethod(plainly)})


def among(routers: Iterable[APIRouter]) -> Iterator[ShortWay]:
    """The routes of these that have a short way."""
    for router in routers:
        yield from (route for route in router.routes if isinstance(route, ShortWay))


class ShortWays:
    """An ASGI layer between the edge and FastAPI: what is plainly in order goes no further."""

    def __init__(self, app: ASGIApp, owner: FastAPI, routes: Iterable[ShortWay], most_bytes: int) -> None:
        self.app = app
        self._owner = owner
        self._routes = [(route.methods, route.path_regex, route) for route in routes]
        self._most_bytes = most_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        found = self._found(scope) if scope["type"] == "http" else None
        if found is None:
            await self.app(scope, receive, send)
            return
        route, parts = found
        scope.update(route=route, path_params=parts)
        request = Request(scope, receive)
        try:
            straight = await route.plainly(request)
            response = None if straight is None else await straight
        except Exception as error:
            response = await self._told(request, error)
        if response is not None:
            await response(scope, receive, send)
            return
        del scope["route"], scope["path_params"]
        await self.app(scope, _again(request, receive), send)

    def _found(self, scope: Scope) -> tuple[ShortWay, dict[str, Any]] | None:
        for methods, pattern, route in self._routes:
            if scope["method"] in (methods or ()) and (match := pattern.match(scope["path"])):
                return (route, match.groupdict()) if self._is_small(scope) else None
        return None

    def _is_small(self, scope: Scope) -> bool:
        """Whether it has no body, or says that it has one of a size that we take: else FastAPI counts it."""
        if scope["method"] in ("GET", "HEAD"):
            return True
        length = next((value for name, value in scope["headers"] if name == b"content-length"), b"")
        return length.isdigit() and len(length) < 10 and int(length) <= self._most_bytes

    async def _told(self, request: Request, error: Exception) -> Response:
        """What the application answers to this exception; raised on when it foresees it as little as we do."""
        for kind in type(error).__mro__:
            if kind is not Exception and kind in self._owner.exception_handlers:
                told: Response = await self._owner.exception_handlers[kind](request, error)  # type: ignore[misc]  # ours all wait
                return told
        raise error


def _again(request: Request, receive: Receive) -> Receive:
    """Give out once more what was read of the body, and then what comes."""
    body = getattr(request, "_body", None)  # where Starlette keeps it
    if body is None:
        return receive
    given = False

    async def receiving() -> Message:
        nonlocal given
        if given:
            return await receive()
        given = True
        return {"type": "http.request", "body": body, "more_body": False}

    return receiving
