"""Who acts for a partner over HTTP, in every service: the partner's own key, or a token of a person who may.

A service has the tables `partners (slug, state, version)` and `partner_keys (digest, partner)`: the catalogue as their
owner, the others as it tells them (`keep`).
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends, Request
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from contracts.fields import Slug
from kit import auth, idempotency, logs, problems
from kit.auth import Caller
from kit.database import Connection, Database
from kit.http import Db
from kit.idempotency import Asked, IdempotencyKey
from kit.problems import Problem

log = logs.get(__name__)

PREFIX = "kn_"  # what every partner key begins with, and no token of an issuer does
ISSUER = "partners"  # of a caller who is a partner itself, and no person

problems.explain(
    "not-this-partner", "Not allowed", "A partner sees and changes what is its own: use your own address and key."
)
problems.explain(
    "partner-suspended",
    "The partner is suspended",
    "An operator has suspended it, and `detail` says why. What it has published stays. Ask the operators.",
)

_OWNER = "SELECT partner FROM partner_keys WHERE digest = $1"
_STATE = "SELECT * FROM partners WHERE slug = $1"  # why it is suspended is known to the catalogue only
_KEEP = """
INSERT INTO partners AS old (slug, state, version) SELECT * FROM unnest($1::text[], $2::text[], $3::integer[])
ON CONFLICT (slug) DO UPDATE SET state = excluded.state, version = excluded.version
WHERE excluded.version >= old.version
RETURNING slug
"""
_FORGET_KEYS = "DELETE FROM partner_keys WHERE partner = ANY($1)"
_KEEP_KEYS = "INSERT INTO partner_keys (digest, partner) SELECT * FROM unnest($1::bytea[], $2::text[])"


@dataclass(frozen=True)
class Told:
    """A partner as the catalogue has told of it. `keys`: the digests of those that work, as hexadecimal text."""

    slug: str
    suspended: bool
    version: int
    keys: Sequence[str]


def digest_of(key: str) -> bytes:
    """A key has 256 random bits, so that a plain digest cannot be guessed back."""
    return hashlib.sha256(key.encode()).digest()


async def keep(conn: Connection, told: Sequence[Told]) -> None:
    """Keep the newest that was told of each partner; its keys are those that it names, and no others."""
    newest: dict[str, Told] = {}
    for one in told:
        if one.slug not in newest or one.version >= newest[one.slug].version:
            newest[one.slug] = one
    states = ["suspended" if one.suspended else "active" for one in newest.values()]
    rows = await conn.fetch(_KEEP, list(newest), states, [one.version for one in newest.values()])
    kept = [row["slug"] for row in rows]
    await conn.execute(_FORGET_KEYS, kept)
    keys = [(bytes.fromhex(key), slug) for slug in kept for key in newest[slug].keys]
    await conn.execute(_KEEP_KEYS, [digest for digest, _ in keys], [slug for _, slug in keys])


PartnerKey = Annotated[
    HTTPAuthorizationCredentials | None,
    Depends(
        HTTPBearer(
            auto_error=False,
            scheme_name="PartnerKey",
            description="The partner's own key, or an access token of a person who may act for it.",
        )
    ),
]


async def speaking(request: Request, database: Db, key: PartnerKey) -> Caller:
    """The caller: a partner by its key, or whoever a token names. 401 for none, and for a key that does not work."""
    if key is None or not key.credentials.startswith(PREFIX):
        return await auth.signed(await auth.perhaps_signed(request, key))
    async with database.reading() as conn:
        owner = await conn.fetchval(_OWNER, digest_of(key.credentials))
    if owner is None:
        log.info("partner_key_refused")
        challenge = 'Bearer realm="kursnett", error="invalid_token"'
        raise auth.unauthenticated("This partner key is not valid, or no longer.", challenge)
    return Caller(issuer=ISSUER, subject=owner, partner=owner)


Speaking = Annotated[Caller, Depends(speaking)]


def must_act_for(caller: Caller, partner: str) -> None:
    """Raises a 403 unless the caller is this partner, somebody who acts for it, or an operator."""
    if caller.issuer == ISSUER and caller.partner != partner:
        log.info("partner_key_of_another", slug=caller.partner)
        raise Problem("not-this-partner", "Not allowed", 403, "This key belongs to another partner.")
    auth.must_act_for(caller, partner)


async def must_not_be_suspended(database: Database, partner: str) -> None:
    """Raises a 403 for a partner that is suspended; one that nobody has told of is not."""
    async with database.reading() as conn:
        row = await conn.fetchrow(_STATE, partner)
    if row is not None and row["state"] == "suspended":
        because = row.get("state_because") or "an operator has decided so"
        words = f"{partner} may not publish or change anything for now: {because}"
        raise Problem("partner-suspended", "The partner is suspended", 403, words)


async def acting_for(request: Request, partner: Slug, database: Db, caller: Speaking) -> str:
    """The partner whose address this is; 401 without a key or token; 403 with another's, or to write when suspended.

    An operator may: who is shut out must not go on hearing because nobody may turn it off.
    """
    must_act_for(caller, partner)
    if request.method != "GET" and caller.role != "operator":
        await must_not_be_suspended(database, partner)
    return partner


Partner = Annotated[str, Depends(acting_for)]


async def repeatable(request: Request, partner: Partner, idempotency_key: IdempotencyKey = None) -> Asked | None:
    """The kit's dependency of every write, for whoever acts for this partner: one scope for its key and its people."""
    return await idempotency.asked(request, of(partner), idempotency_key)


Repeatable = Annotated[Asked | None, Depends(repeatable)]


async def writing(caller: Speaking, database: Db) -> Caller:
    """As `speaking`, where the address names no partner; 403 for who acts for one that is suspended."""
    if caller.partner is not None and caller.role != "operator":
        await must_not_be_suspended(database, caller.partner)
    return caller


Writing = Annotated[Caller, Depends(writing)]


async def repeatable_by(request: Request, caller: Writing, idempotency_key: IdempotencyKey = None) -> Asked | None:
    """As `repeatable`, where the address names no partner: whoever acts for one shares its scope."""
    return await idempotency.asked(request, of(caller.partner) if caller.partner else caller, idempotency_key)


RepeatableBy = Annotated[Asked | None, Depends(repeatable_by)]


def of(partner: str) -> Caller:
    """The partner itself, as the owner of what was asked under an Idempotency-Key."""
    return Caller(issuer=ISSUER, subject=partner)
