"""A pass: who is logged in, signed by the service that keeps sessions, for one request, from the gateway to a page.

The gateway asks for it with the session cookie and hands it on. A page believes it as it believes a bearer token: by
its signature. It never leaves the house, and lasts a minute at most.
"""

import functools
import json
import time
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from kit.auth import Caller

if TYPE_CHECKING:
    from joserfc.jwk import ECKey

ALGORITHM = "ES256"
CURVE = "P-256"
WRONG = "must be a private JWK with a P-256 key, as `kit.passes.generate` makes"
AUDIENCE = "kursnett-pages"
LASTS_S = 60  # from when it was signed
IDLE_S = 30 * 60  # a session that nobody uses ends after so long
NOTED_S = 60  # how exactly it is known when it was last used: not a write for each page
SAME_S = 30  # who asks again within it is given the same: half of its time is left at least
LEEWAY_S = 10  # clocks of two machines differ by less
MOST_KEPT = 2_000  # passes signed, and passes read, of some 2 KB: people who look at pages within half a minute


@dataclass(frozen=True, slots=True)
class Visitor:
    """Somebody who is logged in. `csrf` stands in every form of theirs, and nowhere else.

    `ends_at`: when they are logged out however much they do, in seconds since 1970; 0 where that is not known.
    """

    caller: Caller
    csrf: str
    ends_at: int = 0


class NotValid(Exception):
    """This pass is none of ours, or is over."""


def generate() -> tuple[str, str]:
    """A new key pair as (private JWK, public JWK), in JSON."""
    from joserfc.jwk import ECKey

    key = ECKey.generate_key(CURVE, {"use": "sig", "alg": ALGORITHM}, auto_kid=True)
    return json.dumps(key.as_dict(private=True)), json.dumps(key.as_dict(private=False))


def check(private_json: str) -> None:
    """Raises ValueError, with words, when the key will not do."""
    key = _key(private_json)
    if not key.is_private or key.curve_name != CURVE:
        raise ValueError(WRONG)


def sign(private_json: str, visitor: Visitor) -> str:
    """The pass for this visitor. Raises ValueError when the key will not do.

    Signing takes ten times as long as asking who it is. So one is signed for whoever is the same in all that it says,
    and given again for half of its time; whoever has another role, or logged in again, is another visitor.
    """
    return _signed(private_json, visitor, (int(time.time()) // SAME_S) * SAME_S + LASTS_S)


@functools.lru_cache(maxsize=MOST_KEPT)
def _signed(private_json: str, visitor: Visitor, expires_at: int) -> str:
    from joserfc import jwt

    claims = {"aud": AUDIENCE, "exp": expires_at, "caller": asdict(visitor.caller), "csrf": visitor.csrf}
    claims["ends_at"] = visitor.ends_at
    return jwt.encode({"alg": ALGORITHM}, claims, _key(private_json), algorithms=[ALGORITHM])


def read(public_json: str, text: str) -> Visitor:
    """Whom a pass is for. Raises NotValid.

    The signature of one that was found good is not looked at again; its time is, each time.
    """
    visitor, expires_at = _opened(public_json, text)
    if expires_at <= int(time.time()) - LEEWAY_S:
        raise NotValid("over")
    return visitor


@functools.lru_cache(maxsize=MOST_KEPT)
def _opened(public_json: str, text: str) -> tuple[Visitor, float]:
    """(whom a pass is for, when it is over). Raises NotValid, which is not kept: strangers fill nothing."""
    from joserfc import jwt
    from joserfc.errors import JoseError

    try:
        opened = jwt.decode(text, _key(public_json), algorithms=[ALGORITHM])
        rules = jwt.JWTClaimsRegistry(
            leeway=LEEWAY_S, aud={"essential": True, "value": AUDIENCE}, exp={"essential": True}
        )
        rules.validate(opened.claims)
        said = opened.claims
        visitor = Visitor(Caller(**said["caller"]), said["csrf"], int(said.get("ends_at", 0)))  # 0: of an older process
        return visitor, float(said["exp"])
    except (JoseError, ValueError, TypeError, KeyError) as error:
        raise NotValid(type(error).__name__) from None


@functools.lru_cache(maxsize=4)
def _key(text: str) -> "ECKey":
    from joserfc.errors import JoseError
    from joserfc.jwk import ECKey

    try:
        entry: dict[str, Any] = json.loads(text)
        return ECKey.import_key(entry)
    except (JoseError, ValueError, TypeError, KeyError) as error:
        raise ValueError(WRONG) from error
