"""Answers that are the same for everybody, kept ready for as long as nothing has changed of what they tell."""

import gzip
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Generic, TypeVar

from fastapi import Request
from markupsafe import Markup
from starlette.responses import Response

from kit import tags
from kit.pages.static import takes_gzip
from kit.running import Running
from services.catalogue.current import Version, current
from services.catalogue.store.search import Words

T = TypeVar("T")

MOST_BYTES = 16 << 20  # what people look at is the same again and again: some 1,000 pages, or 2,000 lists
EACH_BYTES = 1_000  # what keeping an answer takes beside its body and address: one that nothing was found for is tiny
LONGEST_S = 60.0  # a page tells what the index does not hold: names of providers, what has ended meanwhile
CACHING = "public, no-cache"  # anybody may keep it, and asks each time whether it still holds
_LEFT_BEHIND = ("content-length", "set-cookie")

Key = tuple[str, str]  # the reader's language, the address


@dataclass(frozen=True, slots=True)
class Made(Generic[T]):
    """What was made of a version of the courses, and when."""

    what: T
    version: Version
    made_s: float

    def holds(self, version: Version) -> bool:
        return self.version == version and time.monotonic() - self.made_s < LONGEST_S


@dataclass(slots=True)
class Answer:
    """What is told at an address; the ETag is among the headers.

    `small`: a page's body in gzip, once it was asked for again. Else the gateway would do that anew for each reader.
    """

    body: bytes
    headers: Mapping[str, str]
    small: bytes | None = None

    @property
    def is_page(self) -> bool:
        return self.headers.get("content-type", "").startswith("text/html")

    def to(self, request: Request) -> Response:
        """The answer, or 304 without its body for whoever has it, in gzip or not."""
        headers, body = {**self.headers}, self.body
        plain, known = headers["etag"], request.headers.get("if-none-match")
        if self.is_page:
            headers["vary"] = f"{headers['vary']}, accept-encoding"
            if self.small is not None and takes_gzip(
                request
            ):  # other bytes have another tag: the gateway's word for it
                headers |= {"etag": f'{plain[:-1]}-gzip"', "content-encoding": "gzip"}
                body = self.small
        if tags.names(known, plain) or tags.names(known, headers["etag"]):
            return Response(status_code=304, headers=headers)
        return Response(body, headers=headers)


class Kept:
    """The answers of one process, the one used last at the end."""

    def __init__(self, most_bytes: int = MOST_BYTES) -> None:
        self._answers: OrderedDict[Key, Made[Answer]] = OrderedDict()
        self._most = most_bytes
        self._bytes = 0

    def __len__(self) -> int:
        return len(self._answers)

    def get(self, key: Key) -> Made[Answer] | None:
        found = self._answers.get(key)
        if found is not None:
            self._answers.move_to_end(key)
        return found

    def keep(self, key: Key, made: Made[Answer]) -> None:
        self.forget(key)
        self._answers[key] = made
        self._grow(_room(key, made))

    def press(self, key: Key, made: Made[Answer]) -> None:
        """Keep this page in gzip too, unless it is not kept any more."""
        if made.what.small is None and self._answers.get(key) is made:
            made.what.small = gzip.compress(made.what.body, mtime=0)
            self._grow(len(made.what.small))

    def forget(self, key: Key) -> None:
        old = self._answers.pop(key, None)
        self._bytes -= _room(key, old) if old is not None else 0

    def _grow(self, by: int) -> None:
        self._bytes += by
        while self._bytes > self._most:
            self.forget(next(iter(self._answers)))


def _room(key: Key, made: Made[Answer]) -> int:
    return EACH_BYTES + len(key[1]) + len(made.what.body) + len(made.what.small or b"")


def kept(running: Running) -> Kept:
    """The one of this process."""
    found: Kept = running.kept.setdefault(Kept, Kept())
    return found


async def for_everybody(
    request: Request, running: Running, language: str, make: Callable[[], Awaitable[tuple[Response, Version]]]
) -> Response:
    """What `make` answers at this address in this language, with its ETag; 304 for whoever has it. It knows no visitor.

    Made anew when a course, a run or its seats have changed since, and after a minute. Whether they have is asked of
    the database each time, once for all who ask at that time. `make` looks for itself, and says which version its
    look has found before it read anything: what changes meanwhile makes its answer old.
    """
    answers, now = kept(running), current(running)
    key = (language, f"{request.scope['path']}?{request.scope['query_string'].decode('latin-1')}")
    found = answers.get(key)
    if found is not None:
        await now.index(Words())
        if found.holds(now.version):
            if found.what.is_page and takes_gzip(request):
                answers.press(key, found)
            return found.what.to(request)
        answers.forget(key)
    made, version = await make()
    if made.status_code != 200:
        return made
    headers = {name: value for name, value in made.headers.items() if name not in _LEFT_BEHIND}
    body = bytes(made.body)
    answer = Answer(body, headers | {"etag": tags.tag(body), "cache-control": CACHING})
    if "set-cookie" in made.headers:  # it is for this visitor, who has chosen a language with it
        made.headers.update(answer.headers)
        return made
    answers.keep(key, Made(answer, version, time.monotonic()))
    return answer.to(request)


async def part_for_everybody(running: Running, key: Key, make: Callable[[], Awaitable[Markup]]) -> Markup:
    """What `make` draws of courses, runs and their seats alone: a piece of pages, kept as they are, by its own key.

    Whoever asks has looked whether they have changed (`current(running).index`) since the page was asked for.
    """
    answers, version = kept(running), current(running).version
    found = answers.get(key)
    if found is not None and found.holds(version):
        return Markup(found.what.body.decode())  # noqa: S704 - `make` has escaped it
    made = await make()
    answers.keep(key, Made(Answer(made.encode(), {}), version, time.monotonic()))
    return made
