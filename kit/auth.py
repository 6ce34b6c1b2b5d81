"""Who is asking: bearer tokens of the one configured issuer, checked against its public keys."""

import asyncio
import base64
import hashlib
import json
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated, Any, Literal

from fastapi import Depends, Request
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from kit import logs
from kit.problems import Problem
from kit.settings import Settings

if TYPE_CHECKING:
    from httpx2 import AsyncClient
    from joserfc.jwk import ECKey, RSAKey

log = logs.get(__name__)

ALGORITHMS = ["RS256", "ES256"]  # what real issuers sign with; `none` and shared-secret kinds are never accepted
TYPES = ("jwt", "at+jwt", "application/at+jwt")  # a logout token or a DPoP proof is not an access token
LEEWAY_S = 10  # clocks differ by less
KEYS_LAST_S = 600  # a key that the issuer has withdrawn is refused after ten minutes
ASK_AGAIN_S = 10  # tokens with made-up key ids must not make us flood the issuer
NO_KEYS_S = 1  # an issuer that starts beside us is there soon
FETCH_S = 3.0
MAX_KEYS_BYTES = 256 * 1024
LONGEST_TOKEN = 8 * 1024
# What only an ID token has. It tells the client who asked for it who has logged in; it is nobody's key to an interface.
OF_AN_ID_TOKEN = ("nonce", "at_hash", "c_hash")
MOST_CHECKED = 10_000  # tokens whose signature need not be looked at again: a person asks many times with one

bearer = HTTPBearer(auto_error=False, bearerFormat="JWT", description="An access token of the configured issuer.")


@dataclass(frozen=True)
class Caller:
    """Who is asking. (issuer, subject) is who it is; the rest is what the issuer says, where it is believed."""

    issuer: str
    subject: str
    role: Literal["learner", "operator"] = "learner"
    partner: str | None = None
    employer: str | None = None
    name: str | None = None

    @property
    def key(self) -> str:
        """The same text for the same caller, which tells nobody who it is."""
        return hashlib.sha256(f"{self.issuer}\0{self.subject}".encode()).hexdigest()[:32]


class Refused(Exception):
    """This token will not do; the words are a code for the log, and the caller is not told which check it failed."""


class Keys:
    """The issuer's public keys: fetched when first needed, kept while the issuer is away."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._keys: dict[str | None, RSAKey | ECKey] = {}
        self._checked: dict[bytes, tuple[Caller, float]] = {}  # digest of a token -> whom it speaks for, and until when
        self._fetched = self._asked = float("-inf")
        self._away = False  # whether the issuer did not answer when last asked
        self._lock = asyncio.Lock()
        self._renewal: asyncio.Task[None] | None = None
        self._client: AsyncClient | None = None

    async def caller(self, token: str) -> Caller:
        """Who this token speaks for. Raises Refused; raises Problem (503) when its key could not be asked for."""
        kid = key_id(token)
        await self._freshen(kid)
        digest = hashlib.sha256(token.encode()).digest()
        caller, expires_at = self._checked.get(digest, (None, 0.0))
        if caller is not None and time.time() < expires_at:
            return caller
        claims = self._opened(token, kid, self._settings.audience)
        if claims.get("typ") == "ID" or any(name in claims for name in OF_AN_ID_TOKEN):
            raise Refused("id_token")
        caller = speaks_for(claims, self._settings.trust_role_claims)
        if len(self._checked) >= MOST_CHECKED:
            self._checked.clear()
        self._checked[digest] = (caller, float(claims["exp"]))
        return caller

    async def claims(self, token: str, audience: str) -> dict[str, Any]:
        """What a token says that the issuer made for this audience, such as an ID token. Raises as `caller` does."""
        kid = key_id(token)
        await self._freshen(kid)
        return self._opened(token, kid, audience)

    def _opened(self, token: str, kid: str | None, audience: str) -> dict[str, Any]:
        from joserfc import jwt  # with cryptography 10 MB, which a service that nobody has asked yet does not need
        from joserfc.errors import JoseError

        key = self._keys.get(kid)
        if key is None:
            if not self._keys or self._away:  # it may be a new one: we do not know that it is wrong
                words = "The log-in service does not answer. Ask again in a moment."
                raise Problem("busy", "Busy at the moment", 503, words, headers={"retry-after": "5"})
            raise Refused("unknown_key")
        try:
            opened = jwt.decode(token, key, algorithms=ALGORITHMS)
            rules = jwt.JWTClaimsRegistry(
                leeway=LEEWAY_S,
                iss={"essential": True, "value": self._settings.issuer},
                aud={"essential": True, "value": audience},
                exp={"essential": True},
                sub={"essential": True},
            )
            rules.validate(opened.claims)
        except (JoseError, ValueError, TypeError, KeyError) as error:
            raise Refused(str(getattr(error, "error", type(error).__name__))) from None
        if str(opened.header.get("typ", "jwt")).lower() not in TYPES:
            raise Refused("wrong_typ")
        return opened.claims

    async def _freshen(self, kid: str | None) -> None:
        """Fetch the keys when they are old or this one is not among them, but not more often than every 10 s."""
        now = time.monotonic()
        known = kid in self._keys
        if known and now - self._fetched < KEYS_LAST_S:
            return
        if now - self._asked < (ASK_AGAIN_S if self._keys else NO_KEYS_S):
            return
        if known:  # nobody waits for an issuer that may be away
            self._asked = now
            self._renewal = asyncio.create_task(self._renew())
            return
        async with self._lock:
            if self._asked < now:  # else somebody asked while we waited
                await self._renew()

    async def _renew(self) -> None:
        try:
            self._keys = await self._fetch()
            self._fetched = time.monotonic()
            self._away = False
            self._checked.clear()  # a key may be gone, and what it signed is worth nothing any more
        except Exception as error:  # whatever is wrong with the issuer, the keys we have are still good
            self._away = True
            log.warning("issuer_keys_not_fetched", error=type(error).__name__)
        finally:
            self._asked = time.monotonic()

    async def _fetch(self) -> "dict[str | None, RSAKey | ECKey]":
        if self._client is None:
            from httpx2 import AsyncClient

            self._client = AsyncClient(timeout=FETCH_S, follow_redirects=False, trust_env=False)
        async with asyncio.timeout(FETCH_S):  # of all of it: the client's own counts from one piece to the next
            answer = await self._client.get(self._settings.issuer_keys_url)
        answer.raise_for_status()
        if len(answer.content) > MAX_KEYS_BYTES:
            raise ValueError("the key set is too large")
        return usable(answer.json())

    async def close(self) -> None:
        if self._renewal is not None:
            self._renewal.cancel()
        if self._client is not None:
            await self._client.aclose()


def usable(key_set: Any) -> "dict[str | None, RSAKey | ECKey]":
    """The signing keys of a JWK set by id. A set of one key serves tokens that name none, too.

    One that we cannot read, of a curve that we do not know say, takes none of the others away.
    """
    from joserfc.errors import JoseError
    from joserfc.jwk import ECKey, KeySet, RSAKey

    found: dict[str | None, RSAKey | ECKey] = {}
    for entry in key_set["keys"]:
        if entry.get("use", "sig") != "sig" or entry.get("kty") not in ("RSA", "EC"):
            continue
        try:
            keys = KeySet.import_key_set({"keys": [entry]}).keys
        except (JoseError, ValueError, TypeError, KeyError) as error:
            log.warning("issuer_key_not_read", error=type(error).__name__)
            continue
        for key in keys:
            if isinstance(key, (RSAKey, ECKey)):
                found[key.kid] = key
    if len(found) == 1:
        found[None] = next(iter(found.values()))
    if not found:
        raise ValueError("the key set has no signing key")
    return found


def key_id(token: str) -> str | None:
    """The `kid` in a token's header, which nobody has checked yet. Raises Refused."""
    head, *rest = token.split(".")
    if len(token) > LONGEST_TOKEN or len(rest) != 2:
        raise Refused("not_a_token")
    try:
        header = json.loads(base64.urlsafe_b64decode(head.encode("ascii") + b"=" * (-len(head) % 4)))
    except (ValueError, RecursionError):
        raise Refused("not_a_token") from None
    kid = header.get("kid") if isinstance(header, dict) else None
    if kid is not None and not isinstance(kid, str):
        raise Refused("not_a_token")
    return kid


def speaks_for(claims: dict[str, Any], trust_role_claims: bool) -> Caller:
    """The caller in checked claims. Roles, partners and employers count only where the issuer is trusted with them."""

    def text(name: str, longest: int) -> str | None:
        value = claims.get(name)
        return value if isinstance(value, str) and 0 < len(value) <= longest and value.isprintable() else None

    subject = text("sub", 255)
    if subject is None:
        raise Refused("bad_sub")
    caller = Caller(issuer=claims["iss"], subject=subject, name=text("name", 200))
    if not trust_role_claims:
        return caller
    return replace(
        caller,
        role="operator" if claims.get("kursnett_role") == "operator" else "learner",
        partner=text("kursnett_partner", 40),
        employer=text("kursnett_employer", 9),
    )


def unauthenticated(detail: str, challenge: str) -> Problem:
    return Problem("unauthenticated", "Log in first", 401, detail, headers={"www-authenticate": challenge})


def forbidden(detail: str) -> Problem:
    return Problem("forbidden", "Not allowed", 403, detail)


Token = Annotated[HTTPAuthorizationCredentials | None, Depends(bearer)]


async def perhaps_signed(request: Request, token: Token) -> Caller | None:
    """The caller, or none when no token was sent. A token that will not do is a 401 even where none is needed."""
    if token is None:
        if "authorization" in request.headers:
            raise unauthenticated("Authorization must be: Bearer <access token>.", 'Bearer realm="kursnett"')
        return None
    keys: Keys = request.app.state.keys
    try:
        return await keys.caller(token.credentials)
    except Refused as refused:
        log.info("token_refused", reason=str(refused))
        challenge = 'Bearer realm="kursnett", error="invalid_token"'
        raise unauthenticated("The access token is not valid here, or no longer.", challenge) from None


async def signed(caller: Annotated[Caller | None, Depends(perhaps_signed)]) -> Caller:
    """The caller; 401 when there is none."""
    if caller is None:
        raise unauthenticated("Send an access token.", 'Bearer realm="kursnett"')
    return caller


PerhapsSigned = Annotated[Caller | None, Depends(perhaps_signed)]
Signed = Annotated[Caller, Depends(signed)]


def signed_as(role: str) -> Callable[[Caller], Awaitable[Caller]]:
    """A dependency for routes of one role: `Annotated[Caller, Depends(signed_as("operator"))]`. 403 for others."""

    async def check(caller: Signed) -> Caller:
        if caller.role != role:
            raise forbidden(f"This is for the role {role}.")
        return caller

    return check


Operator = Annotated[Caller, Depends(signed_as("operator"))]


def must_act_for(caller: Caller, partner: str) -> None:
    """Raises a 403 unless the caller is this partner or an operator."""
    if caller.partner != partner and caller.role != "operator":
        raise forbidden("This belongs to another partner.")
