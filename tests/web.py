"""A small service in one process, and an issuer of tokens for it: for tests of the kit's HTTP side."""

import asyncio
import functools
import re
import socket
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import uvicorn
from fastapi import APIRouter
from httpx2 import ASGITransport, AsyncClient, Response
from joserfc import jwt
from joserfc.jwk import ECKey, RSAKey
from openapi_schema_validator import OAS31Validator
from pydantic import SecretStr
from starlette.types import ASGIApp

from kit import http
from kit.auth import Keys, usable
from kit.database import Database
from kit.health import Health
from kit.metrics import Metrics
from kit.onewrite import OneWrite
from kit.running import Running
from kit.settings import Settings

ISSUER = "http://issuer.test/kursnett"


def settings(**changes: Any) -> Settings:
    known: dict[str, Any] = {
        "database_name": "demo",
        "database_user": "demo",
        "database_password": SecretStr("not-used"),
        "kafka_bootstrap": "127.0.0.1:1",
        "issuer": ISSUER,
        "issuer_keys_url": f"{ISSUER}/jwks",
    }
    return Settings(**(known | changes))


def running(**changes: Any) -> Running:
    made = settings(**changes)
    return Running("demo", made, Database(made), Metrics(), Health("demo"))


@asynccontextmanager
async def client(app: http.Application) -> AsyncIterator[AsyncClient]:
    async with AsyncClient(transport=ASGITransport(app), base_url="http://demo.test") as asking:
        yield asking


@asynccontextmanager
async def served(app: ASGIApp) -> AsyncIterator[str]:
    """The application behind a real socket; where it is."""
    config = uvicorn.Config(app, http=OneWrite, log_config=None, access_log=False, timeout_graceful_shutdown=5)
    server = uvicorn.Server(config)
    with socket.create_server(("127.0.0.1", 0), backlog=2048) as listening:
        serving = asyncio.create_task(server.serve([listening]))
        try:
            yield f"http://127.0.0.1:{listening.getsockname()[1]}"
        finally:
            server.should_exit = True
            await serving


_documents: dict[tuple[Any, ...], tuple[list[Any], dict[str, Any]]] = {}


def describe_once(app: http.Application) -> None:
    """Give an application the OpenAPI document of the first with the same routes: writing one takes 0.1 to 0.4 s."""
    routers = [route.original_router for route in app.routes if hasattr(route, "original_router")]
    key = (app.title, *map(id, routers))
    if key not in _documents:
        _documents[key] = routers, app.openapi()  # the routers are held, so that no other gets the id of one
    app.openapi_schema = _documents[key][1]


@asynccontextmanager
async def held_to_its_word(app: http.Application) -> AsyncIterator[AsyncClient]:
    """A client that fails on an answer which the service's OpenAPI document does not describe."""

    describe_once(app)

    async def compare(answer: Response) -> None:
        await answer.aread()
        wrong = beside_the_document(app.openapi(), answer)
        assert not wrong, f"{answer.request.method} {answer.url.path}: {wrong}"

    async with client(app) as asking:
        asking.event_hooks = {"response": [compare]}
        yield asking


def beside_the_document(document: dict[str, Any], answer: Response) -> str:
    """What the document does not say of this answer: its status, its content type, or a field; empty when it does."""
    for template, operations in document["paths"].items():
        shape = re.sub(r"\{\w+\}", "[^/]+", template)
        operation = operations.get(answer.request.method.lower())
        if operation and re.fullmatch(shape, answer.url.path):
            break
    else:
        return ""  # an address that is not described is none of the document's business
    described = operation["responses"].get(str(answer.status_code))
    if described is None:
        return f"status {answer.status_code} is not described"
    if "$ref" in described:
        described = document["components"]["responses"][described["$ref"].rpartition("/")[2]]
    if "content" not in described:
        return "a body is not described" if answer.content else ""
    kind = answer.headers.get("content-type", "none").partition(";")[0]
    if kind not in described["content"]:
        return f"content type {kind} is not described"
    if not kind.endswith("json"):
        return ""
    schema = {**described["content"][kind]["schema"], "components": document["components"]}
    wrong = [f"{error.json_path}: {error.message}" for error in OAS31Validator(schema).iter_errors(answer.json())]
    return "; ".join(wrong)


def build(routers: Sequence[APIRouter], **changes: Any) -> http.Application:
    return http.build(running(**changes), routers)


@functools.cache
def rsa_key() -> RSAKey:
    """One for all tests: finding two primes takes 0.1 s."""
    return RSAKey.generate_key(2048, {"use": "sig"}, auto_kid=True)


class Issuer:
    """Signs tokens, and hands out its public keys without a network."""

    def __init__(self) -> None:
        self.key: RSAKey | ECKey = rsa_key()
        self.up = True
        self.asked = 0

    def token(self, header: dict[str, Any] | None = None, key: Any = None, **claims: Any) -> str:
        known = {"iss": ISSUER, "aud": "kursnett", "sub": "kari", "exp": int(time.time()) + 300}
        alg = "ES256" if isinstance(self.key, ECKey) else "RS256"
        head = {"alg": alg, "kid": self.key.kid, "typ": "JWT"} | (header or {})
        body = {name: value for name, value in (known | claims).items() if value is not None}
        return jwt.encode(head, body, key or self.key, algorithms=[head["alg"]])

    def serve(self, keys: Keys) -> None:
        """Let `keys` fetch from this issuer."""

        async def fetch() -> Any:
            self.asked += 1
            if not self.up:
                raise OSError("the issuer is down")
            return usable({"keys": [self.key.as_dict(private=False)]})

        keys._fetch = fetch  # type: ignore[method-assign]  # the network is not what is tested
