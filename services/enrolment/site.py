"""The pages of enrolment: where their templates and texts are, and how they name places, groups and courses."""

from functools import cache
from pathlib import Path

from fastapi import Request
from starlette.datastructures import FormData
from starlette.responses import RedirectResponse, Response

from contracts.arenas import place_name
from kit.pages.languages import pick
from kit.pages.site import Site
from services.enrolment.store.courses import Run


@cache
def site() -> Site:
    return Site(
        Path(__file__).parent / "pages",
        {"place": place_name, "group": lambda group, _: group_name(group), "titled": titled},
    )


def group_name(group: str) -> str:
    """A group has a slug and no name: `ansatte-i-kommunen` is shown as `Ansatte i kommunen`."""
    return group.replace("-", " ").capitalize()


def titled(run: Run, language: str) -> tuple[str, str]:
    """(what the run's course is called, the language of that); empty while it is not known."""
    text, spoken = pick(run.title, language)
    return text or run.code, spoken if text else ""


def sent_text(sent: FormData, name: str) -> str:
    """A field that was sent, empty when it was not, or when it is a file."""
    value = sent.get(name)
    return value if isinstance(value, str) else ""


def to(address: str, request: Request) -> Response:
    """Lead on to another page, in the language that was chosen on the way."""
    query = f"?{request.url.query}" if request.url.query else ""
    return RedirectResponse(address + query, 303)
