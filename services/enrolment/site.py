"""The pages of enrolment: where their templates and texts are."""

from functools import cache
from pathlib import Path

from contracts.arenas import place_name
from kit.pages.site import Site


@cache
def site() -> Site:
    return Site(Path(__file__).parent / "pages", {"place": place_name})
