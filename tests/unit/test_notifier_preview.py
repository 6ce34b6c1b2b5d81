"""`make messages`: a page for each mail in each language, and an index of them."""

import re
from pathlib import Path

import pytest

from services.notifier import letters, preview
from services.notifier.kinds import KINDS, TEXTED

PAGES = {f"{template}.{language}.html" for template in (*KINDS, "digest") for language in ("nb", "nn", "en")}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return preview.write(tmp_path_factory.mktemp("messages")).parent


def test_each_template_has_a_page_in_each_language_and_the_index_links_them_all(folder: Path) -> None:
    words = {path.stem.partition(".")[0] for path in letters.MESSAGES.glob("*.nb.txt")} - {
        "facts",
        "goodbye",
        "meetings",
    }
    assert words == {*KINDS, "digest"}  # a new one has its page, too
    assert {path.name for path in folder.iterdir()} == PAGES | {"index.html"}
    assert sorted(re.findall(r'href="([^"]+)"', (folder / "index.html").read_text())) == sorted(PAGES)


@pytest.mark.parametrize("template", KINDS)
def test_a_page_shows_the_whole_mail(folder: Path, template: str) -> None:
    page = (folder / f"{template}.nn.html").read_text()
    assert '<html lang="nn">' in page
    assert "Kari Åsnes" in page
    assert "Leiing i praksis" in page
    assert ("text/calendar" in page) == (KINDS[template].method is not None)
    assert ("List-Unsubscribe" in page) == (KINDS[template].category not in ("seat", "offer"))
    assert ("tilbud/eksempel/godta" in page) == (template == "offered")
    assert ("<h2>SMS (1)</h2>" in page) == (template in TEXTED)


def test_the_examples_have_a_change_others_to_take_instead_and_a_deadline(folder: Path) -> None:
    assert "Rom 1" in (folder / "changed.en.html").read_text()
    assert "Leadership online" in (folder / "offering_cancelled.en.html").read_text()
    assert "METHOD:CANCEL" in (folder / "withdrawn.en.html").read_text()
    assert "Answer by Saturday 5 December 2026 at 18:00" in (folder / "offered.en.html").read_text()
