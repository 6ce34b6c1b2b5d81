"""A partner's office and its mail address: what will do as one, sealed for the notifier, and known again here.

The catalogue cannot read what it keeps: a letter that only the notifier opens, and a digest by which it sees that an
address given again is the same. That is all it needs, as it never writes to anybody. Unlike a partner's key, an address
can be guessed: so each digest has a salt, and whoever would try many needs a long time.
"""

import hashlib
import hmac
import secrets
from dataclasses import dataclass, field
from typing import Any, get_args

from pydantic import TypeAdapter, ValidationError

from contracts.fields import Language
from kit import sealing
from kit.addresses import Address
from services.catalogue.domain import Rule
from services.catalogue.store import Row

USUAL: Language = "nb"
LANGUAGES: tuple[str, ...] = get_args(Language)
SALT_BYTES = 16

_ADDRESS: TypeAdapter[str] = TypeAdapter(Address)


@dataclass(frozen=True, slots=True)
class Office:
    """Where a partner's mail goes, and in which language. The address may be a person's: it is in no `repr`."""

    mail: str = field(repr=False)
    language: str = USUAL


@dataclass(frozen=True, slots=True)
class Sealed:
    """An office as the catalogue keeps and tells it."""

    letter: str = field(repr=False)
    digest: bytes = field(repr=False)
    language: str


def wrong(mail: object, language: object) -> list[tuple[str, str]]:
    """(field, words) for all that cannot be so of an office; the words never repeat the address."""
    found = []
    if mail is not None:
        try:
            _ADDRESS.validate_python(mail, strict=True)
        except ValidationError:
            found.append(("mail", "must be one mail address such as post@nesna.example"))
    if language is not None and language not in LANGUAGES:
        found.append(("mail_language", f"must be one of {', '.join(LANGUAGES)}"))
    if language is not None and mail is None:
        found.append(("mail_language", "says nothing without a mail address"))
    return found


def office(mail: str | None, language: str | None) -> Office | None:
    """The office with this address, which will do (`wrong`), in its usual form; none without an address."""
    return None if mail is None else Office(_ADDRESS.validate_python(mail), language or USUAL)


def changes(found: Office | None, row: Row | dict[str, Any]) -> dict[str, tuple[Any, Any]]:
    """field -> (as it is, as it should be), of what is other; of an address only whether it is one, or another."""
    before, after = row["mail_digest"] is not None, found is not None
    told: dict[str, tuple[Any, Any]] = {}
    if found is None or not before or not _same(found, row):
        told["mail"] = ("given" if before else None, ("another" if before else "given") if after else None)
    told["mail_language"] = (row["mail_language"], found.language if found else None)
    return {name: both for name, both in told.items() if both[0] != both[1]}


def sealed(public_json: str, found: Office) -> Sealed:
    """The office, for the notifier alone. Raises Rule when we have no key to seal it with."""
    if not public_json:
        words = "no address can be sealed: contact_public_key is missing; python -m deploy.secrets DIR makes it"
        raise Rule("no_contact_key", "mail", words)
    letter = sealing.seal(public_json, {"email": found.mail, "language": found.language})
    salt = secrets.token_bytes(SALT_BYTES)
    return Sealed(letter, salt + _digest(found.mail, salt), found.language)


def _same(found: Office, row: Row | dict[str, Any]) -> bool:
    salt, digest = row["mail_digest"][:SALT_BYTES], row["mail_digest"][SALT_BYTES:]
    return hmac.compare_digest(_digest(found.mail, salt), digest)


def _digest(mail: str, salt: bytes) -> bytes:
    return hashlib.scrypt(mail.encode(), salt=salt, n=2**14, r=8, p=1, dklen=32)
