"""An issuer with a log-in, whose every answer a test can spoil, and the gateway as pages see it."""

import base64
import hashlib
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from http.cookiejar import CookieJar, DefaultCookiePolicy
from typing import Annotated, Any
from urllib.parse import parse_qs, urlencode, urlsplit

import httpx2
from fastapi import FastAPI, Form, Request
from httpx2 import ASGITransport, AsyncBaseTransport, AsyncHTTPTransport
from starlette.responses import JSONResponse, RedirectResponse, Response

from kit import http, passes
from kit.auth import Caller
from kit.http import Application
from kit.pages.visitors import HEADER
from services.enrolment.app import ROUTERS
from services.enrolment.issuer import HEARD_S
from services.enrolment.login import COOKIE
from tests.delivery import Servers
from tests.integration.test_enrolment_http import World, world
from tests.visiting import Person
from tests.web import Issuer, client, served

GATEWAY = "https://kursnett.test"


class LoginIssuer(Issuer):
    """Logs in whoever `subject` is. What is put into `claims`, `says` and `answers` spoils what it tells."""

    def __init__(self) -> None:
        super().__init__()
        self.url = self.inside = ""
        self.subject = "kari"
        self.claims: dict[str, Any] = {}  # beside, or in place of, what a right ID token has
        self.says: dict[str, Any] = {}  # the same for the discovery document
        self.answers: dict[str, Response] = {}  # last part of the address -> what is said there instead
        self.codes: dict[str, dict[str, str]] = {}
        self.checks_proof = True
        self.asked_for: list[str] = []
        self.asked_with: dict[str, Any] = {}  # what came with the last code
        self.app = FastAPI()
        for path, method, route in (
            ("/.well-known/openid-configuration", "GET", self._discovery),
            ("/authorize", "GET", self._authorize),
            ("/token", "POST", self._token),
            ("/jwks", "GET", self._jwks),
        ):
            self.app.add_api_route(f"/kursnett{path}", route, methods=[method], response_model=None)

    def _spoilt(self, name: str) -> Response | None:
        self.asked_for.append(name)
        return self.answers.get(name)

    async def _discovery(self) -> Response:
        said = {"authorization_endpoint": "authorize", "token_endpoint": "token", "end_session_endpoint": "ended"}
        known = {"issuer": self.url} | {name: f"{self.url}/{path}" for name, path in said.items()} | self.says
        return self._spoilt("discovery") or JSONResponse({k: v for k, v in known.items() if v is not None})

    async def _authorize(self, request: Request) -> Response:
        asked = dict(request.query_params)
        assert (asked["response_type"], asked["code_challenge_method"]) == ("code", "S256")
        code = secrets.token_urlsafe(16)
        self.codes[code] = asked
        return self._spoilt("authorize") or RedirectResponse(
            f"{asked['redirect_uri']}?{urlencode({'code': code, 'state': asked['state']})}", 302
        )

    async def _token(
        self, request: Request, code: Annotated[str, Form()] = "", code_verifier: Annotated[str, Form()] = ""
    ) -> Response:
        """A code is good once, and for whoever knows what its challenge was made from."""
        self.asked_with = {**await request.form(), "authorization": request.headers.get("authorization", "")}
        if (spoilt := self._spoilt("token")) is not None:
            return spoilt
        asked = self.codes.pop(code, None)
        challenge = base64.urlsafe_b64encode(hashlib.sha256(code_verifier.encode()).digest()).rstrip(b"=").decode()
        if asked is None or (self.checks_proof and asked["code_challenge"] != challenge):
            return JSONResponse({"error": "invalid_grant"}, 400)
        known = {"iss": self.url, "sub": self.subject, "aud": asked["client_id"], "nonce": asked["nonce"]}
        return JSONResponse({"access_token": "x", "token_type": "Bearer", "id_token": self.id_token(**known)})

    def id_token(self, **known: Any) -> str:
        head = self.claims.get("header")
        changed = {name: value for name, value in self.claims.items() if name not in ("header", "key")}
        return self.token(head, self.claims.get("key"), **(known | changed))

    async def _jwks(self) -> Response:
        return self._spoilt("jwks") or JSONResponse({"keys": [self.key.as_dict(private=False)]})


@asynccontextmanager
async def issuing() -> AsyncIterator[LoginIssuer]:
    issuer = LoginIssuer()
    async with served(issuer.app) as address:
        issuer.inside, issuer.url = address, f"{address}/kursnett"
        yield issuer


class Gateway(AsyncBaseTransport):
    """What the Caddyfile says of enrolment's pages: the cookie comes through, and a pass never from the client."""

    def __init__(self, app: Application) -> None:
        self._app = ASGITransport(app)
        self._web = AsyncHTTPTransport()

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        if request.url.host != urlsplit(GATEWAY).hostname:
            return await self._web.handle_async_request(request)
        request.headers.pop(HEADER, None)
        return await self._app.handle_async_request(request)


def parameters(address: str) -> dict[str, str]:
    return {name: values[0] for name, values in parse_qs(urlsplit(address).query).items()}


@dataclass
class Here:
    """The enrolment service on its own database, its issuer, and the web that a browser reaches both by."""

    world: World
    issuer: LoginIssuer
    app: Application
    web: httpx2.AsyncClient
    public: str

    def person(self) -> Person:
        return Person(self.web, GATEWAY)

    async def caller(self, key: str | None, **sent: str) -> Caller | None:
        """Who is logged in by this key, as the gateway is told; a header's name is written with `_` for `-`."""
        headers = {"cookie": f"{COOKIE}={key}"} | {name.replace("_", "-"): value for name, value in sent.items()}
        async with client(self.app) as asking:
            known = await asking.get("/sesjon", headers=headers)
        assert known.status_code == 204
        return passes.read(self.public, known.headers[HEADER]).caller if HEADER in known.headers else None

    async def rows(self, query: str, *values: Any) -> list[Any]:
        async with self.world.database.reading() as conn:
            return list(await conn.fetch(query, *values))

    async def change(self, query: str, *values: Any) -> None:
        await self.world.database.run(lambda conn: conn.execute(query, *values))

    def later(self) -> None:
        """Let it be long ago that the service asked its issuer anything."""
        issuer = self.app.state.issuer
        issuer._heard = issuer._missed = issuer._heard - 2 * HEARD_S

    def restarted(self) -> None:
        """Let the service know nothing of its issuer, as after a start."""
        del self.app.state.issuer


@asynccontextmanager
async def logging_in(servers: Servers, **changed: Any) -> AsyncIterator[Here]:
    private, public = passes.generate()
    async with issuing() as issuer:
        known = {"issuer": issuer.url, "issuer_keys_url": f"{issuer.url}/jwks", "public_url": GATEWAY}
        known |= {"pass_private_key": private, "pass_public_key": public}
        async with world(servers, **(known | changed)) as there:
            app = http.build(there.running, ROUTERS)  # one that fetches the issuer's keys itself
            none = CookieJar(DefaultCookiePolicy(allowed_domains=[]))  # each person has cookies of their own
            async with httpx2.AsyncClient(transport=Gateway(app), cookies=none, timeout=20) as web:
                yield Here(there, issuer, app, web, public)
            await app.state.keys.close()
