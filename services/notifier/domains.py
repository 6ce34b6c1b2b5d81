"""How many mails are under way to each recipient domain: one that is slow, or tells us to wait, delays no other."""

import asyncio
from dataclasses import dataclass
from random import uniform
from time import monotonic

PATIENCE_S = 4.0  # a letter waits so long for a turn; a domain none of whose turns was free for so long is slow
REST_S = (2.0, 60.0)  # after the first answer 4xx, and the longest: a domain that greylists answers so to each newcomer
AWAY_S = (2.0, 30.0)  # how long what is not taken stays away from a slow domain
KNOWN = 1_000  # domains; beyond, those are forgotten that nothing is under way to


@dataclass
class _Domain:
    """`given_at`: when the last turn was given, by time.monotonic(). `failures`: rests since a mail was taken."""

    turns: asyncio.Semaphore
    asked: int = 0  # mails that wait for a turn or have one
    given_at: float = 0.0
    failures: int = 0
    rests_until: float = 0.0


class Domains:
    """The turns of one sender; another replica counts its own."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._known: dict[str, _Domain] = {}

    async def enter(self, domain: str) -> float:
        """0 when a mail to this domain may go now: `leave` gives its turn back. Else in how many seconds to ask again.

        Nobody waits behind mails that are slow, and nobody goes to a domain that rests.
        """
        here = self._domain(domain)
        rest_s = here.rests_until - monotonic()
        if rest_s > 0:
            return rest_s + _jitter(REST_S[0])
        if here.turns.locked() and monotonic() - here.given_at > PATIENCE_S:
            return _away_s(here)
        here.asked += 1
        try:
            async with asyncio.timeout(PATIENCE_S):
                await here.turns.acquire()
        except TimeoutError:
            here.asked -= 1
            return _away_s(here)
        rest_s = here.rests_until - monotonic()
        if rest_s > 0:  # it was told to wait while this one waited
            self.leave(domain)
            return rest_s + _jitter(REST_S[0])
        here.given_at = monotonic()
        return 0.0

    def leave(self, domain: str) -> None:
        """Give a turn back."""
        here = self._known[domain]
        here.asked -= 1
        here.turns.release()

    def taken(self, domain: str) -> None:
        """A mail to this domain was taken: it rests no longer."""
        here = self._domain(domain)
        here.failures, here.rests_until = 0, 0.0

    def refused(self, domain: str) -> None:
        """This domain wants us to wait. Answers to mails that were under way when it began to rest count once."""
        here = self._domain(domain)
        now = monotonic()
        if now >= here.rests_until:
            here.rests_until = now + _jitter(min(REST_S[0] * 2.0 ** min(here.failures, 20), REST_S[1]))
            here.failures += 1

    def _domain(self, domain: str) -> _Domain:
        if domain not in self._known:
            if len(self._known) >= KNOWN:
                now = monotonic()
                self._known = {name: one for name, one in self._known.items() if _is_used(one, now)}
            self._known[domain] = _Domain(asyncio.Semaphore(self._most))
        return self._known[domain]


def of(address: str) -> str:
    """The domain of an address, as one that is compared."""
    return address.rpartition("@")[2].lower()


def _is_used(here: _Domain, now: float) -> bool:
    return here.asked > 0 or here.rests_until > now


def _away_s(here: _Domain) -> float:
    """As long as its turns have stood still, within limits: meanwhile the letters behind are looked at."""
    return _jitter(min(max(monotonic() - here.given_at, AWAY_S[0]), AWAY_S[1]))


def _jitter(pause_s: float) -> float:
    """Half to one and a half, so that what was put off together does not come back together."""
    return pause_s * uniform(0.5, 1.5)  # noqa: S311
