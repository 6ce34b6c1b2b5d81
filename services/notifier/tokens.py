"""Signed links that act without a log-in: each names whom it is for, what it may do and until when."""

import base64
import hashlib
import hmac
import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal, get_args

from services.notifier.kinds import Category

Purpose = Literal["unsubscribe", "undo"]

LONGEST = 400
_MAC = 16  # bytes: 128 bits cannot be guessed
_CATEGORIES: tuple[Category, ...] = get_args(Category)


@dataclass(frozen=True)
class Link:
    """Whose choice it changes, about which categories; after `expires_at` it does nothing."""

    person: str
    categories: tuple[Category, ...]
    expires_at: datetime


class Invalid(Exception):
    """This is no link of ours for this purpose: forged, cut short, or made for something else."""


class Signer:
    """Signs by the first of our private keys, and knows what any of them has signed: they are replaced in pairs.

    The key is made from the secret that the service has anyway, for this use alone: who has only the database cannot
    make a link.
    """

    def __init__(self, private_json: str) -> None:
        self._keys = [
            hmac.digest(str(one["d"]).encode(), b"kursnett links by hmac-sha256", "sha256")
            for one in json.loads(private_json)["keys"]
        ]

    def token(self, purpose: Purpose, link: Link) -> str:
        """The link as text that stands in an address as it is."""
        payload = json.dumps(
            [link.person, int(link.expires_at.timestamp()), *(_CATEGORIES.index(one) for one in link.categories)],
            separators=(",", ":"),
        ).encode()
        return base64.urlsafe_b64encode(_mac(self._keys[0], purpose, payload) + payload).decode().rstrip("=")

    def opened(self, purpose: Purpose, token: str) -> Link:
        """What a token says. Raises Invalid; whether it has expired is for the caller, who has the time."""
        try:
            if len(token) > LONGEST:
                raise Invalid
            whole = base64.b64decode(token + "=" * (-len(token) % 4), b"-_", validate=True)
        except ValueError:
            raise Invalid from None
        mac, payload = whole[:_MAC], whole[_MAC:]
        if not any(hmac.compare_digest(mac, _mac(key, purpose, payload)) for key in self._keys):
            raise Invalid
        person, expires_at, *numbers = json.loads(payload)
        categories = tuple(_CATEGORIES[number] for number in numbers)
        return Link(person, categories, datetime.fromtimestamp(expires_at, UTC))


def _mac(key: bytes, purpose: str, payload: bytes) -> bytes:
    return hmac.new(key, purpose.encode() + b"\0" + payload, hashlib.sha256).digest()[:_MAC]


def in_order(categories: Sequence[Category]) -> tuple[Category, ...]:
    """Each once, in the order in which they are always named."""
    return tuple(one for one in _CATEGORIES if one in categories)
