"""The links by which an offer is answered: opened from their seal only when the letter that holds them is written."""

import re
from dataclasses import dataclass, field

from kit.sealing import Unsealable, unseal
from services.notifier.channels.channel import Never

# Unreserved in an address (RFC 3986): anything else could end the link and begin words of its own.
TOKEN = re.compile(r"[A-Za-z0-9._~-]{1,1000}")


@dataclass(frozen=True)
class Links:
    """Where the learner says yes or no. Each acts for the learner without a log-in: it is neither kept nor logged."""

    accept: str = field(repr=False)
    decline: str = field(repr=False)


def opened(private_key: str, origin: str, sealed: str) -> Links:
    """The links in a sealed letter, on the gateway's origin. Raises Never, without a word of what is in it."""
    try:
        letter = unseal(private_key, sealed)
    except Unsealable:
        raise Never("unsealable") from None
    accept, decline = letter.get("accept"), letter.get("decline")
    if not (_is_token(accept) and _is_token(decline)):
        raise Never("bad_tokens")
    return Links(accept=f"{origin}/tilbud/{accept}/godta", decline=f"{origin}/tilbud/{decline}/avslaa")


def _is_token(value: object) -> bool:
    return isinstance(value, str) and TOKEN.fullmatch(value) is not None
