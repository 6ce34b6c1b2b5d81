"""Sealed letters: what one service encrypts for another, so that nobody in between can read it."""

import functools
import json
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from joserfc.jwk import ECKey

# joserfc is imported where it is used: with cryptography it takes 10 MB, which a service at rest does not need.

KEY_WRAPPING = "ECDH-ES+A256KW"
CONTENT = "A256GCM"
ALGORITHMS = [KEY_WRAPPING, CONTENT]  # anything else in a header is refused, whatever the library could do
CURVE = "P-256"


class Unsealable(Exception):
    """This letter cannot be opened: it is not for any of our keys, or it was changed. Its words are a code."""


def generate() -> tuple[str, str]:
    """A new key pair as (private JWK set, public JWK set), in JSON.

    To rotate: put the new key *first* in both sets, give the public one to the writers, and drop the old private key
    when no letter for it can still arrive.
    """
    from joserfc.jwk import ECKey

    key = ECKey.generate_key(CURVE, {"use": "enc", "alg": KEY_WRAPPING}, auto_kid=True)
    return _set(key.as_dict(private=True)), _set(key.as_dict(private=False))


def _set(key: Any) -> str:
    return json.dumps({"keys": [key]})


def seal(public_json: str, letter: dict[str, Any]) -> str:
    """Encrypt `letter` for the first key of the set: a compact JWE (ECDH-ES+A256KW, A256GCM). Raises Unsealable."""
    from joserfc import jwe

    key = _keys(public_json)[0]
    header = {"alg": KEY_WRAPPING, "enc": CONTENT, "kid": key.kid}
    return jwe.encrypt_compact(header, json.dumps(letter).encode(), key, algorithms=ALGORITHMS)


def unseal(private_json: str, sealed: str) -> dict[str, Any]:
    """The letter in a compact JWE that was sealed for one of our keys. Raises Unsealable with a code, no content."""
    from joserfc import jwe
    from joserfc.errors import JoseError

    keys = {key.kid: key for key in _keys(private_json)}

    def ours(recipient: Any) -> "ECKey":
        key = keys.get(recipient.headers().get("kid"))
        if key is None:
            raise Unsealable("unknown_key")
        return key

    try:
        opened = jwe.decrypt_compact(sealed.encode("ascii"), ours, algorithms=ALGORITHMS)
        letter = json.loads(opened.plaintext or b"")
    except Unsealable:
        raise
    except (JoseError, ValueError, TypeError, KeyError) as error:
        raise Unsealable("not_opened") from error
    if not isinstance(letter, dict):
        raise Unsealable("not_a_letter")
    return letter


@functools.lru_cache(maxsize=4)  # reading the set costs half of what sealing one letter does
def _keys(text: str) -> "list[ECKey]":
    from joserfc.errors import JoseError
    from joserfc.jwk import ECKey, KeySet

    try:
        keys = [key for key in KeySet.import_key_set(json.loads(text)).keys if isinstance(key, ECKey)]
    except (JoseError, ValueError, TypeError, KeyError) as error:
        raise Unsealable("bad_key_set") from error
    if not keys:
        raise Unsealable("bad_key_set")
    return keys
