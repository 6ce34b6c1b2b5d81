"""A small service in one process, and an issuer of tokens for it: for tests of the kit's HTTP side."""

import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

from fastapi import APIRouter
from httpx2 import ASGITransport, AsyncClient
from joserfc import jwt
from joserfc.jwk import ECKey, RSAKey
from pydantic import SecretStr

from kit import http
from kit.auth import Keys, usable
from kit.database import Database
from kit.health import Health
from kit.metrics import Metrics
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


def build(routers: Sequence[APIRouter], **changes: Any) -> http.Application:
    return http.build(running(**changes), routers)


class Issuer:
    """Signs tokens, and hands out its public keys without a network."""

    def __init__(self) -> None:
        self.key: RSAKey | ECKey = RSAKey.generate_key(2048, {"use": "sig"}, auto_kid=True)
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
