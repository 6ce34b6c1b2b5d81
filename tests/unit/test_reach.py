"""Free words, such as whom one may ask, stand on a page as they were written; what one can press there leads there."""

import re

import pytest
from markupsafe import escape

from kit.pages.reach import reached

LINKS = re.compile(r'<a class="ds-link" href="([^"]*)">([^<]*)</a>')


@pytest.mark.parametrize(
    ("contact", "leads"),
    [
        ("post@nesna.example, 75 00 00 00", ["mailto:post@nesna.example", "tel:+4775000000"]),
        ("Kari (+46 70 123 45 67).", ["tel:+46701234567"]),
        ("tlf.: 75000000/91\u00a023\u00a045\u00a067", ["tel:+4775000000", "tel:+4791234567"]),
        ("Se https://nesna.example/kontakt?a=1&b=(2).", ["https://nesna.example/kontakt?a=1&b=(2)"]),
        ("HTTP://nesna.example", ["HTTP://nesna.example"]),
        ("www.nesna.example, <post@nesna.example>", ["https://www.nesna.example", "mailto:post@nesna.example"]),
        ("post+kurs?cc=x@nesna.example", ["mailto:post%2Bkurs%3Fcc%3Dx@nesna.example"]),
        ("post@blåbær.example", ["mailto:post@xn--blbr-roah.example"]),
        ("https://post@nesna.example/", ["https://post@nesna.example/"]),
    ],
)
def test_what_one_can_press_leads_there(contact: str, leads: list[str]) -> None:
    written = str(reached(contact))
    found = LINKS.findall(written)
    assert [href for href, _ in found] == [str(escape(one)) for one in leads]
    assert LINKS.sub(r"\2", written) == escape(contact), "the words are the partner's own, each once"


@pytest.mark.parametrize(
    "contact",
    [
        "javascript:alert(1)",
        "JavaScript:alert(1)//https:x",
        "data:text/html,<script>alert(1)</script>",
        '"><img src=x onerror=alert(1)>',
        "https://",
        "www.",
        "Org.nr. 999 888 777, frist 28.11.2026 kl. 10.30",
        "Spør i resepsjonen, rom 20 10, innen 2026-11-28",
        "@nesna, kari@",
        "1" * 200,
    ],
)
def test_nothing_else_is_a_link(contact: str) -> None:
    assert reached(contact) == escape(contact)


def test_what_a_link_is_made_of_is_escaped() -> None:
    written = str(reached('https://nesna.example/"onmouseover="alert(1)\'<b>'))
    assert re.fullmatch(r'<a class="ds-link" href="[^"<>]*">[^<>]*</a>[^<>]*', written)
