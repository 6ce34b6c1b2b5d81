"""What a channel is: the one thing it does, what it is given, and the two ways it says no."""

from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from services.notifier.kinds import Method


@dataclass(frozen=True)
class Appointment:
    """What a calendar is asked to do, in the text of RFC 5545."""

    method: Method
    text: str


@dataclass(frozen=True)
class Letter:
    """One message, ready: to whom, in which language, and its words. `message_id` is the same at every attempt.

    `unsubscribe` is the address that stops such messages, for those that may be stopped.
    """

    message_id: str
    written_at: datetime
    address: str
    name: str | None
    language: str
    subject: str
    text: str
    html: str
    appointment: Appointment | None = None
    unsubscribe: str | None = None


# The reason when the server had all or part of it and said nothing more: it may have taken it.
UNANSWERED = "unanswered"


class Later(Exception):
    """Not now; the same letter may be taken later. `reason` is a code.

    `of_domain`: whoever takes what is for the recipient's domain said so, and would to others of it too. `wait_s`: they
    want it no sooner.
    """

    def __init__(self, reason: str, of_domain: bool = False, wait_s: float = 0.0) -> None:
        super().__init__(reason)
        self.reason = reason
        self.of_domain = of_domain
        self.wait_s = wait_s


class Never(Exception):
    """This letter will not be taken however often it is tried. `reason` is a code.

    `status` is why its address was refused, as `bounces` reads it; none when something else was.
    """

    def __init__(self, reason: str, status: str | None = None) -> None:
        super().__init__(reason)
        self.reason = reason
        self.status = status


class Channel(Protocol):
    """A way to a person."""

    async def deliver(self, letter: Letter) -> None:
        """Hand over one letter; returning means that it was taken. Raises Later or Never."""
        ...

    async def close(self) -> None:
        """Let go of connections."""
        ...
