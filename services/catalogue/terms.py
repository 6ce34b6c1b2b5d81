"""On which terms OOAPI is asked and answers: its version, its pages and filters, and its way to tell of errors."""

import re
import unicodedata
from collections.abc import Callable, Coroutine, Iterator
from datetime import UTC, datetime, time
from typing import Annotated, Any, get_args

from fastapi import Depends, Query, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from pydantic import AfterValidator, AwareDatetime, BeforeValidator

from contracts.fields import FIRST, LAST, NkrLevel
from kit import openapi, problems
from kit.pages.languages import ALIASES
from kit.problems import Problem
from kit.running import Running
from services.catalogue import exchange
from services.catalogue.search import MOMENT, a_moment

VERSION = "6.0"
KIND = "application/vnd.oeapi+json"
SIZES = (10, 20, 50, 100, 250)

problems.explain(
    "version-not-acceptable",
    "Version not acceptable",
    "This is OOAPI v6. Ask for `application/vnd.oeapi+json;version=6.0` or any other version 6, or for no version.",
)


class Exchanged(APIRoute):
    """A route that tells of errors as OOAPI does: 400 for each wrong parameter, `instance`, 406 for another version."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        answer = super().get_route_handler()

        async def answering(request: Request) -> Response:
            running: Running = request.app.state.running
            instance = f"{running.settings.public_url}{request.url.path}"
            try:
                versioned = wanted_version(request.headers.get("accept", ""))
                response = await answer(request)
            except RequestValidationError as error:
                raise bad_request(problems.invalid(error.errors()), instance) from None
            except Problem as problem:
                raise bad_request(problem, instance) from None
            if versioned and response.status_code == 200:
                response.headers["content-type"] = f"{KIND};version={VERSION}"
            response.headers["vary"] = "accept"
            return response

        return answering


def bad_request(problem: Problem, instance: str) -> Problem:
    status = 400 if problem.status == 422 else problem.status
    extensions = {**problem.extensions, "instance": instance}
    return Problem(problem.slug, problem.title, status, problem.detail, headers=problem.headers, **extensions)


def wanted_version(accept: str) -> bool:
    """Whether a version was asked for. Raises Problem (406) when it is not a version 6."""
    found = next(_versions(accept), None)
    if found is None:
        return KIND in accept.lower()
    if found.partition(".")[0] != "6":
        words = f"The requested OEAPI version '{found}' cannot be served."
        raise Problem(
            "version-not-acceptable",
            "Version not acceptable",
            406,
            words,
            requestedVersion=found,
            supportedVersions=[VERSION],
        )
    return True


def _versions(accept: str) -> Iterator[str]:
    """Each version that an Accept names, part by part: one pattern for the whole would go over a long one again and
    again."""
    for part in accept.split(","):
        kind, *parameters = part.split(";")
        for one in parameters if kind.strip().lower() == KIND else ():
            name, _, value = one.partition("=")
            number = value.strip().strip('"')
            if name.strip().lower() == "version" and re.fullmatch(r"[0-9]{1,9}(\.[0-9]{1,9})?", number):
                yield number


def a_number(value: object) -> object:
    """Refuses what would be read as another number than it is written: `10.0`, ` 10`."""
    if isinstance(value, str) and not re.fullmatch(r"-?[0-9]+", value):
        raise ValueError("must be a whole number")
    return value


def an_id(value: object) -> object:
    """Refuses what is a UUID to Python alone: in braces, without hyphens, as a URN."""
    if isinstance(value, str) and not re.fullmatch(r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}", value):
        raise ValueError("must be a UUID such as 123e4567-e89b-12d3-a456-426614174000")
    return value


def at_some_time(moment: datetime) -> datetime:
    """Any time is one to ask from, such as 1970 for all that there ever was: nothing of ours lies outside these."""
    return min(max(moment, FIRST), LAST).astimezone(UTC)


def an_end(value: object) -> object:
    """As `a_moment`; a date is the end of that day, and what ends on it has ended by then."""
    moment = a_moment(value)
    return datetime.combine(moment, time.max, moment.tzinfo) if isinstance(moment, datetime) else moment


def a_size(size: int) -> int:
    if size not in SIZES:
        raise ValueError(f"must be one of {', '.join(map(str, SIZES))}")
    return size


def among(*names: str) -> Callable[[str | None], str | None]:
    """Checks an `expand`: names of these, with commas between."""

    def check(text: str | None) -> str | None:
        if set((text or names[0]).split(",")) - set(names):
            raise ValueError(f"must be of {', '.join(names)}, with commas between")
        return text

    return check


class Paged:
    """Which page, of which size."""

    def __init__(self, size: int, number: int) -> None:
        self.size = size
        self.number = number

    @property
    def offset(self) -> int:
        return self.size * (self.number - 1)

    def told(self, total: int) -> dict[str, Any]:
        pages = -(-total // self.size)
        return {
            "pageSize": self.size,
            "pageNumber": self.number,
            "hasPreviousPage": self.number > 1,
            "hasNextPage": self.number < pages,
            "totalPages": pages,
        }


async def the_page(
    size: Annotated[
        int,
        Query(alias="pageSize", json_schema_extra={"enum": [*SIZES]}),
        BeforeValidator(a_number),
        AfterValidator(a_size),
    ] = 10,
    number: Annotated[int, Query(alias="pageNumber", ge=1, le=2**31 - 1), BeforeValidator(a_number)] = 1,
    consumer: Annotated[str | None, Query(description="no consumer has data of its own here")] = None,
    fields: Annotated[str | None, Query(description="a hint; every field is returned")] = None,
) -> Paged:
    return Paged(size, number)


async def ignored(consumer: str | None = None, fields: str | None = None) -> None:
    """What every address of OOAPI takes and nothing here depends on."""


ThePage = Annotated[Paged, Depends(the_page)]
Ignored = Depends(ignored)
Search = Annotated[
    str,
    Query(alias="q", max_length=200, description="stands in the name, code or description"),
    AfterValidator(lambda text: unicodedata.normalize("NFC", text)),  # as the texts are
]
Teaching = Annotated[str | None, Query(alias="teachingLanguage", pattern=r"^[a-z]{2,3}(-.*)?$", max_length=40)]
Mode = Annotated[str | None, Query(alias="modeOfDelivery", max_length=40)]
Level = Annotated[str | None, Query(max_length=40)]
State = Annotated[str | None, Query(max_length=40)]
Moment = Annotated[AwareDatetime, BeforeValidator(a_moment), AfterValidator(at_some_time), MOMENT]
Since = Annotated[Moment | None, Query(description="starts then or later; left out: today")]
End = Annotated[AwareDatetime, BeforeValidator(an_end), AfterValidator(at_some_time), MOMENT]
Until = Annotated[End | None, Query(description="ends by then, or on that day")]


def mode_of(name: str | None) -> str | None:
    """Our word for a mode of delivery; one that finds nothing for what we have not."""
    return name and {theirs: ours for ours, theirs in exchange.MODES.items()}.get(name, "none")


def levels_of(name: str | None) -> list[str] | None:
    if name is None:
        return None
    return [level for level in get_args(NkrLevel) if exchange.level_of(level) == name]


def spoken(tag: str | None) -> str | None:
    primary = (tag or "").partition("-")[0]
    return ALIASES.get(primary, primary) or None


def state_of(name: str | None) -> str | None:
    return name and {theirs: ours for ours, theirs in exchange.STATES.items()}.get(name, "none")


def told(*statuses: int) -> dict[int | str, Any]:
    """What an address tells of its answers beside 200."""
    versioned = {"content": {KIND: {"schema": {"type": "object"}}}}  # the same, when a version was asked for
    return {
        200: versioned,
        304: {"description": "It is as `If-None-Match` says."},
        **openapi.problems(400, 406, *statuses),
    }
