"""Sealed letters: what one service encrypts for another, so that nobody in between can read it.

A letter is a compact JWE (RFC 7516; ECDH-ES+A256KW of RFC 7518, 4.6, with A256GCM). Each has a content key of its own.
The sender's half of the key agreement, which costs more than all the rest, is made anew once a minute, and whoever
opens remembers it: `joserfc` opens what is sealed here and the other way about, at twenty times the price.
"""

import base64
import functools
import json
import os
import struct
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey, EllipticCurvePublicKey

# The libraries are imported where they are used: `cryptography` takes 12 MB of a service at rest, `joserfc` 2 more.

KEY_WRAPPING = "ECDH-ES+A256KW"
CONTENT = "A256GCM"
CURVE = "P-256"
SENDER_S = 60.0  # how long one half of ours serves: a minute's letters, should it ever be known
MOST_SENDERS = 1_000  # of others that are remembered: an hour of sixteen processes
# P-256 (SP 800-186, 3.2.1.3): the points (x, y) with y² = x³ - 3x + b, modulo p.
P = 2**256 - 2**224 + 2**192 + 2**96 - 1
B = 0x5AC635D8AA3A93E7B3EBBD55769886BC651D06B0CC53B0F63BCE3C3E27D2604B
HEADER = (
    "alg",
    "enc",
    "kid",
    "epk",
)  # no more and no less: nothing else is ever written, and `crit` and `zip` say more


class Unsealable(Exception):
    """This letter cannot be opened: it is not for any of our keys, or it was changed. Its words are a code."""


@dataclass(frozen=True, slots=True)
class _Key:
    kid: str
    public: "EllipticCurvePublicKey"
    private: "EllipticCurvePrivateKey | None"


@dataclass(frozen=True, slots=True)
class _Sender:
    """Our half for a minute: the header of its letters, and the key that wraps their content keys."""

    header: bytes
    wrapping: bytes
    until: float


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


def check_public(text: str) -> None:
    """Raise Unsealable unless each key of this JWK set is public and can seal.

    By arithmetic alone: a service that has nothing to seal yet starts without the libraries.
    """
    try:
        keys = json.loads(text)["keys"]
        points = [(_integer(key["x"]), _integer(key["y"])) for key in keys]
        if not all(key["kty"] == "EC" and key["crv"] == CURVE and "d" not in key for key in keys):
            raise Unsealable("bad_key_set")
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise Unsealable("bad_key_set") from error
    if not points or any((y * y - x**3 + 3 * x - B) % P for x, y in points):
        raise Unsealable("bad_key_set")


def check_private(text: str) -> None:
    """Raise Unsealable unless each key of this JWK set can open letters."""
    if not all(key.private for key in _keys(text)):
        raise Unsealable("bad_key_set")


def seal(public_json: str, letter: dict[str, Any]) -> str:
    """Encrypt `letter` for the first key of the set: a compact JWE. Raises Unsealable."""
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM
    from cryptography.hazmat.primitives.keywrap import aes_key_wrap

    sender = _senders.get(public_json)
    if sender is None or time.monotonic() > sender.until:
        sender = _senders[public_json] = _sender(_keys(public_json)[0])
    content_key, nonce = os.urandom(32), os.urandom(12)
    boxed = AESGCM(content_key).encrypt(nonce, json.dumps(letter).encode(), sender.header)
    wrapped = aes_key_wrap(sender.wrapping, content_key)
    return b".".join([sender.header, *map(_base64, (wrapped, nonce, boxed[:-16], boxed[-16:]))]).decode()


def unseal(private_json: str, sealed: str) -> dict[str, Any]:
    """The letter in a compact JWE that was sealed for one of our keys. Raises Unsealable with a code, no content."""
    from cryptography.exceptions import InvalidTag
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM
    from cryptography.hazmat.primitives.keywrap import InvalidUnwrap, aes_key_unwrap

    _keys(private_json)
    try:
        header, *rest = sealed.encode("ascii").split(b".")
        wrapped, nonce, box, tag = map(_bytes, rest)
        if len(nonce) != 12 or len(tag) != 16:
            raise Unsealable("not_opened")
        content_key = aes_key_unwrap(_wrapping(private_json, header), wrapped)
        letter = json.loads(AESGCM(content_key).decrypt(nonce, box + tag, header))
    except (InvalidTag, InvalidUnwrap, ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise Unsealable("not_opened") from error
    if not isinstance(letter, dict):
        raise Unsealable("not_a_letter")
    return letter


_senders: dict[str, _Sender] = {}  # by the public set: one in a process


def _sender(theirs: _Key) -> _Sender:
    from cryptography.hazmat.primitives.asymmetric import ec

    ours = ec.generate_private_key(ec.SECP256R1())
    shared = ours.exchange(ec.ECDH(), theirs.public)
    point = ours.public_key().public_numbers()
    half = {"kty": "EC", "crv": CURVE, "x": _number(point.x), "y": _number(point.y)}
    header = {"alg": KEY_WRAPPING, "enc": CONTENT, "kid": theirs.kid, "epk": half}
    return _Sender(_base64(json.dumps(header).encode()), _derived(shared), time.monotonic() + SENDER_S)


@functools.lru_cache(maxsize=MOST_SENDERS)
def _wrapping(private_json: str, header: bytes) -> bytes:
    """The key that wraps the content keys of letters with this header. Raises Unsealable, ValueError."""
    from cryptography.hazmat.primitives.asymmetric import ec

    said = json.loads(_bytes(header))
    if not isinstance(said, dict) or sorted(said) != sorted(HEADER):
        raise Unsealable("not_opened")
    if (said["alg"], said["enc"]) != (KEY_WRAPPING, CONTENT):  # whatever the library could do
        raise Unsealable("not_opened")
    ours = next((key for key in _keys(private_json) if key.kid == said["kid"]), None)
    if ours is None:
        raise Unsealable("unknown_key")
    if ours.private is None:
        raise Unsealable("not_opened")
    return _derived(ours.private.exchange(ec.ECDH(), _key({"kid": "", **said["epk"]}).public))


def _derived(shared: bytes) -> bytes:
    """RFC 7518, 4.6.2, without names of the two sides."""
    from cryptography.hazmat.primitives.hashes import SHA256
    from cryptography.hazmat.primitives.kdf.concatkdf import ConcatKDFHash

    name = KEY_WRAPPING.encode()
    other = struct.pack(">I", len(name)) + name + struct.pack(">III", 0, 0, 256)
    return ConcatKDFHash(SHA256(), 32, other).derive(shared)


def _number(value: int) -> str:
    return _base64(value.to_bytes(32, "big")).decode()


def _integer(text: str) -> int:
    return int.from_bytes(_bytes(text.encode()), "big")  # some libraries leave out what is 0 before it


def _base64(raw: bytes) -> bytes:
    return base64.urlsafe_b64encode(raw).rstrip(b"=")


def _bytes(text: bytes) -> bytes:
    """Base64url without padding. Raises ValueError for anything else."""
    return base64.b64decode(text + b"=" * (-len(text) % 4), altchars=b"-_", validate=True)


@functools.lru_cache(maxsize=4)  # reading the set costs half of what sealing one letter does
def _keys(text: str) -> list[_Key]:
    try:
        keys = [_key(entry) for entry in json.loads(text)["keys"]]
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise Unsealable("bad_key_set") from error
    if not keys:
        raise Unsealable("bad_key_set")
    return keys


def _key(entry: dict[str, Any]) -> _Key:
    """One key of a set. Raises ValueError, also for a point that is not on the curve, TypeError, KeyError."""
    from cryptography.hazmat.primitives.asymmetric import ec

    if (entry["kty"], entry["crv"]) != ("EC", CURVE):
        raise ValueError("not a key for letters")
    point = ec.EllipticCurvePublicNumbers(_integer(entry["x"]), _integer(entry["y"]), ec.SECP256R1())
    private = ec.EllipticCurvePrivateNumbers(_integer(entry["d"]), point).private_key() if "d" in entry else None
    return _Key(entry["kid"], point.public_key(), private)
