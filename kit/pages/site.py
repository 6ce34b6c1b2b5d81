"""Renders a service's pages: its own templates inside the layout that all share, in the reader's language."""

import re
import time
from collections.abc import Callable, Mapping, MutableMapping, Sequence
from datetime import UTC, datetime
from functools import cached_property, partial
from gettext import NullTranslations
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

from fastapi import Request
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup, escape
from starlette.responses import HTMLResponse, Response

from kit.pages import languages, static
from kit.pages.reach import reached
from kit.passes import IDLE_S, NOTED_S, Visitor

HERE = Path(__file__).parent
POLICY = (
    "default-src 'none'; style-src 'self'; script-src 'self'; font-src 'self'; connect-src 'self'; "
    "img-src 'self' data:; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
A_YEAR_S = 365 * 24 * 3600
HEADERS = {
    "content-security-policy": POLICY,
    "vary": "accept, accept-language, cookie",
    # A form's own address may be told to us, no address to anybody else.
    "referrer-policy": "same-origin",
}

# A text that is the same whoever asks: most are. One with values is asked for by Jinja.
_TEXT = re.compile(r"""\{\{ _\((["'])([^"'\\]*)\1\) \}\}""")
_IN_EXPRESSION = re.compile(r"""\b_\((["'])([^"'\\]*)\1\)""")


class _Templates(FileSystemLoader):
    """Templates with their texts in one language.

    They are put in when a template is read: a page has some forty, and for each Jinja would take as long as for ten
    other words.
    """

    def __init__(self, folders: Sequence[Path], texts: NullTranslations) -> None:
        super().__init__(folders)
        self._texts = texts

    def get_source(self, environment: Environment, template: str) -> tuple[str, str, Callable[[], bool]]:
        source, path, is_fresh = super().get_source(environment, template)
        source = _TEXT.sub(lambda found: self._said(found[2]), source)
        # Texts may hold marks of HTML, as those do that Jinja asks for.
        return _IN_EXPRESSION.sub(lambda found: f"({self._said(found[2])!r}|safe)", source), path, is_fresh

    def _said(self, text: str) -> str:
        return self._texts.gettext(text) % ()


class _Environment(Environment):
    def make_globals(self, d: MutableMapping[str, Any] | None) -> MutableMapping[str, Any]:
        """What every template knows, as it is: no template here has names of its own beside it.

        Jinja would put two mappings before each other, and read all of both for every page and every part of one.
        """
        return self.globals


class Site:
    """The pages of one folder: templates beside `locale/<language>.po`. `filters` are the service's own."""

    def __init__(self, folder: Path = HERE, filters: Mapping[str, Callable[..., Any]] | None = None) -> None:
        """A filter gets the value and the language."""
        self.folder = folder
        self._filters: dict[str, Callable[..., Any]] = {
            "moment": languages.moment,
            "day": languages.day,
            "clock": languages.clock,
            "lang": languages.lang,
            "reached": reached,
            **(filters or {}),
        }

    @cached_property
    def _environments(self) -> dict[str, Environment]:
        return {language: self._environment(language) for language in (*languages.LANGUAGES, languages.SLOT)}

    def _environment(self, language: str) -> Environment:
        texts = languages.texts(self.folder, language)
        made = _Environment(
            loader=_Templates([self.folder, HERE], texts),
            autoescape=True,
            undefined=StrictUndefined,
            auto_reload=False,
            trim_blocks=True,
            lstrip_blocks=True,
            extensions=["jinja2.ext.i18n"],
        )
        made.install_gettext_translations(texts, newstyle=True)  # type: ignore[attr-defined]  # the extension adds it
        made.filters |= {name: partial(_in, language, of) for name, of in self._filters.items()}
        named = {**languages.NAMES, languages.SLOT: "Åarjelsaemien"}
        made.globals |= {
            "_": partial(_filled, texts),
            "static": static.address,
            "language": language,
            "html_language": _whole(language),
            "languages": [(code, languages.tag(code), name) for code, name in named.items()],
            "slot": languages.SLOT,
        }
        return made

    def text(self, request: Request) -> Callable[[str], str]:
        """The text in the reader's language: `_ = site.text(request)`, then `_("…")`, as in a template."""
        return languages.texts(self.folder, languages.spoken(request)).gettext

    def part(self, name: str, language: str, **context: Any) -> Markup:
        """A piece of pages, which may be kept and shown in many: it knows neither the request nor who asks."""
        return Markup(self._environments[language].get_template(name).render(context))  # noqa: S704 - it escapes itself

    def page(
        self,
        request: Request,
        name: str,
        status: int = 200,
        *,
        visitor: Visitor | None = None,
        headers: Mapping[str, str] | None = None,
        language: str = "",
        **context: Any,
    ) -> Response:
        """The template `name` as a whole page, or as a part of one. `visitor` is who is logged in.

        `language`: what is known of the reader; else what the browser says.
        """
        language = language or languages.spoken(request)
        path = _path(request)
        text = (
            self._environments[language]
            .get_template(name)
            .render(
                context
                | {
                    "visitor": visitor,
                    "csrf": _csrf(visitor),
                    "path": request.url.path,
                    "here": _asked(request, path),
                    "in_language": _in_language(request, path),
                    **_lasts(path, visitor),
                }
            )
        )
        answer = HTMLResponse(text, status, {**HEADERS, "content-language": _whole(language), **(headers or {})})
        if request.query_params.get(languages.QUERY) == language:
            answer.set_cookie(languages.COOKIE, language, A_YEAR_S, secure=True, httponly=True, samesite="lax")
        return answer


def _whole(language: str) -> str:
    """The language that most of a page's words are in."""
    return languages.SOURCE if language == languages.SLOT else language


def _filled(texts: NullTranslations, text: str, **values: Any) -> Markup:
    """A text with values in it, as Jinja's own `_` makes it by a longer way; the values are escaped."""
    return Markup(texts.gettext(text)) % values  # noqa: S704 - texts are ours


def _in(language: str, of: Callable[..., Any], value: Any, *more: Any) -> Any:
    return of(value, language, *more)


def _csrf(visitor: Visitor | None) -> Markup:
    """The hidden field of every form of somebody who is logged in."""
    value = escape(visitor.csrf if visitor else "")
    return Markup(f'<input type="hidden" name="csrf" value="{value}">')  # noqa: S704 - escaped just now


def _lasts(path: str, visitor: Visitor | None) -> dict[str, Any]:
    """How long this page's visitor stays logged in: without doing anything, and at most (`ends_at`, none: unknown).

    `back_in`: where one logs in and comes back here. `who`: the same at each of their log-ins, and nobody else's.
    """
    at = visitor.ends_at if visitor else 0
    return {
        "who": visitor.caller.key if visitor else "",
        "back_in": login_address(path),
        "idle_s": IDLE_S - NOTED_S,
        "left_s": max(0, at - int(time.time())) if at else None,
        "ends_at": datetime.fromtimestamp(at, UTC) if at else None,
    }


def _in_language(request: Request, path: str) -> str:
    """The address of this page in another language, which the language's code completes."""
    others = [(name, value) for name, value in request.query_params.multi_items() if name != languages.QUERY]
    return f"{path}?{urlencode([*others, (languages.QUERY, '')])}"


def here(request: Request) -> str:
    """The address of this page, to come back to."""
    return _asked(request, _path(request))


def _asked(request: Request, path: str) -> str:
    query = request.url.query
    return f"{path}?{query}" if query else path


def _path(request: Request) -> str:
    """The path, of this site for certain: a browser takes what follows two strokes at its beginning for a host.

    Of a form, the nearest above it that can be looked at: many a form's own address takes nothing but forms.
    """
    path = request.url.path if request.method in ("GET", "HEAD") else request.app.state.page_above(request.url.path)
    return f"/{path.lstrip('/')}"


def login_address(back_to: str) -> str:
    """Where one logs in and then comes back."""
    return f"/logg-inn?neste={quote(back_to, safe='/')}"
