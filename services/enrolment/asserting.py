"""Proves to the issuer that it is we who ask, by a key of our own: `private_key_jwt` of OpenID Connect (RFC 7523)."""

import json
import secrets
import time
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from joserfc.jwk import ECKey, RSAKey

LASTS_S = 60  # ID-porten takes at most 120
KIND = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"


def asserted(private_json: str, client: str, issuer: str) -> dict[str, str]:
    """What is sent along with a code: new each time, and worth something to this issuer alone."""
    from joserfc import jwt

    key, algorithm = opened(private_json)
    now = int(time.time())
    claims = {"iss": client, "sub": client, "aud": issuer, "iat": now, "exp": now + LASTS_S}
    head = {"alg": algorithm} | ({"kid": key.kid} if key.kid else {})
    proof = jwt.encode(head, claims | {"jti": secrets.token_urlsafe(16)}, key, algorithms=[algorithm])
    return {"client_assertion_type": KIND, "client_assertion": proof}


def opened(private_json: str) -> "tuple[RSAKey | ECKey, str]":
    """(key, algorithm) of a private JWK. Raises ValueError, with words, when the key will not do."""
    from joserfc.errors import JoseError
    from joserfc.jwk import ECKey, RSAKey

    wrong = "must be a private JWK: RSA, or EC with P-256"
    try:
        entry: dict[str, Any] = json.loads(private_json)
        key = (RSAKey if entry["kty"] == "RSA" else ECKey).import_key(entry)
    except (JoseError, ValueError, TypeError, KeyError) as error:
        raise ValueError(wrong) from error
    if not key.is_private or (isinstance(key, ECKey) and key.curve_name != "P-256"):
        raise ValueError(wrong)
    return key, "RS256" if isinstance(key, RSAKey) else "ES256"
