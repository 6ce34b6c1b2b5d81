"""The pages of the notifier: where their templates and texts are."""

from functools import cache
from pathlib import Path

from kit.pages.site import Site


@cache
def site() -> Site:
    return Site(Path(__file__).parent / "pages")
