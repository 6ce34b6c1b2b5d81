"""When an address is no longer written to: what a server's refusal says of it, and how it is known without its name."""

import hashlib
import hmac
import json
import re
from collections.abc import Sequence
from functools import lru_cache
from typing import TYPE_CHECKING
from uuid import UUID

from contracts.notifier import AddressBounced
from kit import outbox
from kit.database import Connection
from services.notifier.store import bounces

if TYPE_CHECKING:
    from services.notifier.store.outgoing import Claimed

BAD_ADDRESS = ("5.1.1", "5.1.2", "5.1.3", "5.1.10")  # no such person, no such domain, no address, takes no mail at all
BAD_NUMBER = "invalid_number"  # what the SMS gateway calls one that it can reach nobody at
# About the sender, the protocol, or what the server thinks of us: our set-up, a blocklist. The address may be right.
ABOUT_US = re.compile(r"5\.(1\.[78]|5\.\d+|7\.\d+)")
# Of these, what is otherwise with another set-up, or another day: who we are, whether we logged in, a blocklist.
TO_US = re.compile(r"5\.(1\.[78]|7\.\d+)")
NOT_LOGGED_IN = 530
# What servers write that give no such status, or a general one; not "unknown in relay recipient table".
_NAMES_US = re.compile(
    r"\brelay(ing)?\b(?! recipient)|\bauthenticat|\bsender (address|verify|domain|denied|reject)|\bclient host\b"
    r"|\byour (host|ip|server)\b|\bhelo\b|\bbl(o|a)ck ?list|\breverse dns\b|\bspf\b|\bdmarc\b",
    re.IGNORECASE,
)
_ADDRESS = re.compile(r"\S+@\S+")
DAYS = 3  # on so many days refused, within `bounces.WITHIN_DAYS`: a server that is wrong for one evening bars nobody
_STATUS = re.compile(r"5\.\d{1,3}\.\d{1,3}(?![\d.])")


def status(code: int, text: str) -> str:
    """The enhanced status code (RFC 3463) that a final refusal begins with, e.g. `5.1.1`; else its code, e.g. `550`."""
    found = _STATUS.match(text)
    return found[0] if found else str(code)


def is_to_us(code: int, text: str) -> bool:
    """Whether a final no at the recipient is one to us, as a relay gives that knows us no more: it is tried again."""
    found = status(code, text)
    if code == NOT_LOGGED_IN or TO_US.fullmatch(found):
        return True
    return not found.startswith(("5.1.", "5.2.")) and bool(_NAMES_US.search(_ADDRESS.sub("", text)))


def counts(status: str) -> bool:
    """Whether this refusal says anything about the address."""
    return not ABOUT_US.fullmatch(status)


def is_bounced(status: str, days: int) -> bool:
    """Whether the address is not written to any more. `days`: on how many it was refused lately, this one with them."""
    return status in (*BAD_ADDRESS, BAD_NUMBER) or (counts(status) and days >= DAYS)


def digests(private_json: str, address: str) -> list[bytes]:
    """An address as it stands in the list, by each of our private keys, the first first: they are replaced in pairs.

    Who has only the database cannot try addresses against it. Letters count alike, large or small.
    """
    return [hmac.digest(key, address.lower().encode(), "sha256") for key in _keys(private_json)]


@lru_cache(maxsize=4)
def _keys(private_json: str) -> Sequence[bytes]:
    """Made from the secrets that the service has anyway, for this use alone."""
    keys = [str(one["d"]).encode() for one in json.loads(private_json)["keys"]]
    return [hmac.digest(key, b"kursnett addresses by hmac-sha256", hashlib.sha256) for key in keys]


async def note(conn: Connection, notice: "Claimed", status: str, private_json: str) -> bool:
    """Note that this notice's address was refused; says so, and returns true, when it is not written to from now on.

    Of one that is its learner's no more, or whose learner was forgotten while the mail was under way, nothing is noted.
    """
    if not counts(status) or notice.address not in await bounces.reached(conn, notice.learner_id):
        return False
    address = digests(private_json, notice.address)[0]
    days = await bounces.count(conn, address)
    if not is_bounced(status, days) or not await bounces.add(conn, address, notice.learner_id, status):
        return False
    await outbox.add(conn, AddressBounced(learner_id=notice.learner_id, reason=status))
    return True


async def leave(conn: Connection, learners: Sequence[UUID], former: Sequence[str], private_json: str) -> None:
    """Take out what these learners had in the list, if it is not the address that they have now.

    `former` are addresses that are theirs no more: whoever is forgotten later is known by others, so what was refused
    there is forgotten now.
    """
    if former:
        await bounces.forget_refusals(conn, [digest for one in former for digest in digests(private_json, one)])
    addresses = await bounces.addresses(conn, learners)
    if addresses:
        now = [digest for address in addresses for digest in digests(private_json, address)]
        await bounces.leave(conn, learners, now)
