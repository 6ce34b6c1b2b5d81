"""Every text of every page is in every language; the slot for Southern Sámi falls back and says so."""

import re
from pathlib import Path
from typing import Any

import pytest
from starlette.requests import Request

from deploy import texts
from kit.pages import languages
from kit.pages.site import Site

SAYS: dict[str, Any] = {"title": "T", "words": "W", "login": "", "again": "", "anew": ""}  # what an error's page says


def asked(query: str = "", **headers: str) -> Request:
    sent = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
    scope = {"type": "http", "method": "GET", "path": "/x", "query_string": query.encode(), "headers": sent}
    return Request({**scope, "scheme": "http", "server": ("test", 80)})


def test_every_text_is_translated_and_every_translation_is_used() -> None:
    assert all(len(texts.used(folder)) for folder in texts.FOLDERS[:1]), "the control: texts are found"
    assert not list(texts.missing())


@pytest.mark.parametrize("text", ["Meld deg på", "Still deg i kø"])
@pytest.mark.parametrize("language", languages.LANGUAGES)
def test_a_button_that_one_service_shows_and_another_renews_keeps_its_words(text: str, language: str) -> None:
    """The catalogue gives a course's page; the part with the seats comes from enrolment a moment later."""
    first, later = (
        languages.texts(texts.ROOT / "services" / service / "pages", language).gettext(text)
        for service in ("catalogue", "enrolment")
    )
    assert first == later


def test_a_text_that_nobody_has_translated_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pages = tmp_path / "demo" / "pages"
    (pages / "locale").mkdir(parents=True)
    (pages / "a.html").write_text('{{ _("Ny tekst") }} {% trans n=2 %}ett{% pluralize %}{{ n }} kurs{% endtrans %}')
    (pages / "locale" / "nn.po").write_text('msgid "Ny tekst"\nmsgstr "Ny tekst"\n\nmsgid "Gammel"\nmsgstr "Gammal"\n')
    monkeypatch.setattr(texts, "FOLDERS", (pages,))
    monkeypatch.setattr(texts, "ROOT", tmp_path)
    told = list(texts.missing())
    assert any("nn" in line and "Gammel" in line and "nowhere" in line for line in told)
    assert any("nn" in line and "kurs" in line and "not translated" in line for line in told)
    assert any("en" in line and "Ny tekst" in line for line in told)
    assert not any("nn" in line and "Ny tekst" in line for line in told)


def test_a_text_inside_an_expression_reads_as_one_outside(tmp_path: Path) -> None:
    (tmp_path / "locale").mkdir()
    (tmp_path / "a.html").write_text(
        """{{ _("Ny tekst") }}{% for one in [_('Ny tekst'), "<"] %}|{{ one }}{% endfor %}|{{ x or _("Ny tekst") }}"""
    )
    said = """<b>100 %</b> 'a' "b" \\u00e5 å"""
    spelled = said.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%")
    (tmp_path / "locale" / "en.po").write_text(f'msgid "Ny tekst"\nmsgstr "{spelled}"\n')
    assert Site(tmp_path).part("a.html", "en", x="") == f"{said}|{said}|&lt;|{said}"
    assert Site(tmp_path).part("a.html", "nb", x="<") == "Ny tekst|Ny tekst|&lt;|&lt;"


@pytest.mark.parametrize(
    ("query", "headers", "language"),
    [
        ("", {}, "nb"),
        ("", {"accept_language": "fr,nn;q=0.8,en"}, "en"),
        ("", {"accept_language": "nn;q=0.5, en;q=0.9"}, "en"),
        ("", {"accept_language": "nn; Q=0.7, EN;q=0.7"}, "nn"),
        ("", {"accept_language": "en;q=0, nn;q=0.001"}, "nn"),
        ("", {"accept_language": "en;q=nan, nn;q=2, *"}, "nb"),
        ("", {"accept_language": "no"}, "nb"),
        ("", {"accept_language": "nn", "cookie": "__Host-sprak=en"}, "en"),
        ("sprak=nn", {"cookie": "__Host-sprak=en"}, "nn"),
        ("sprak=klingon", {"cookie": "__Host-sprak=<script>"}, "nb"),
        ("sprak=sma", {}, "sma"),
    ],
)
def test_what_the_reader_has_chosen_counts_before_what_the_browser_says(
    query: str, headers: dict[str, str], language: str
) -> None:
    assert languages.spoken(asked(query, **headers)) == language


def test_a_page_in_southern_sami_is_shown_in_bokmal_and_says_so() -> None:
    page = Site().page(asked("sprak=sma"), "error.html", **SAYS)
    text = bytes(page.body).decode()
    assert '<html lang="nb">' in text
    assert "sørsamisk" in text
    assert "sørsamisk" not in bytes(Site().page(asked(), "error.html", **SAYS).body).decode()


def test_a_choice_of_language_is_kept_and_nothing_else_is() -> None:
    kept = Site().page(asked("sprak=en"), "error.html", **SAYS)
    assert "sprak=en" in kept.headers["set-cookie"]
    strange = Site().page(asked("sprak=xx"), "error.html", **SAYS)
    assert "set-cookie" not in strange.headers


def test_a_text_without_the_readers_language_is_marked_with_its_own() -> None:
    assert languages.pick({"nb": "Kurs", "en": "Course"}, "en") == ("Course", "en")
    assert languages.pick({"nb": "Kurs", "se": "Gursa"}, "en") == ("Kurs", "nb")
    assert languages.pick({"se": "Gursa"}, "nn") == ("Gursa", "se")
    assert languages.pick({}, "nn") == ("", "nn")


@pytest.mark.parametrize(("language", "said"), [("sme", "se"), ("sma", "sma"), ("nb", "nb")])
def test_a_language_is_named_as_other_programs_name_it(language: str, said: str) -> None:
    """BCP 47: Northern Sámi has a code of two letters, so its three are no name there; Southern Sámi has only three."""
    assert languages.tag(language) == languages.lang(language, "nb") == said


def test_the_choice_of_language_says_which_each_is() -> None:
    text = bytes(Site().page(asked("sprak=sma"), "error.html", **SAYS).body).decode()
    named = re.findall(r'lang="(\w+)" hreflang="(\w+)"', text)
    assert named == [(one, one) for one in ("nb", "nn", "en", "sma")]


def test_a_page_says_the_same_of_its_language_in_its_head_and_its_header() -> None:
    page = Site().page(asked("sprak=sma"), "error.html", **SAYS)
    assert page.headers["content-language"] == "nb"
