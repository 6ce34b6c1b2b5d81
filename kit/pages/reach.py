"""Free words with links where one can press: an address, a phone number or a page that somebody wrote in them."""

import re
from functools import lru_cache
from urllib.parse import quote

from markupsafe import Markup, escape

from kit.addresses import an_address
from kit.phones import a_number

# A web address, a mail address, a phone number: the first that fits, so that what is within a web address stays there.
# A number is grouped by spaces alone, as people write it: with dots or strokes it may be a date.
_FOUND = re.compile(
    r"(?P<web>\b(?:https?://|www\.)[^\s<>\"']+)|(?<![^\s<>\"',;:()/])(?P<mail>[^\s<>\"',;:()/@]+@[^\s<>\"',;:()/]+)"
    r"|(?P<phone>(?<![\w.+-])\+?\d(?:[ \u00a0]?\d){7,14}(?![\w-]|\.\d|[ \u00a0]\d))",
    re.IGNORECASE,
)
# What each of them has: most lines have none, and a page of notices has hundreds.
_MAY_HOLD = re.compile(r"[@+]|://|www\.|(?:\d[ \u00a0]?){8}", re.IGNORECASE)
_AFTER = ".,;:!?"  # ends the sentence, not the address


@lru_cache(maxsize=512)  # a contact is shown to all who look at its course, a notice to many and anew at each new one
def reached(words: str, _: str = "") -> Markup:
    """`post@nesna.example, 75 00 00 00`, each a link; all other words as they are, escaped."""
    made, plain = Markup(), ""
    for line in words.splitlines(keepends=True):
        if _MAY_HOLD.search(line) is None:
            plain += line
        else:
            made += escape(plain) + _line(line)
            plain = ""
    return made + escape(plain)


def _line(words: str) -> Markup:
    made, end = Markup(), 0
    for found in _FOUND.finditer(words):
        one = found[0].rstrip(_AFTER)
        if one.endswith(")") and "(" not in one:
            one = one.rstrip(")" + _AFTER)
        address = _address(found.lastgroup, one)
        if address:
            made += escape(words[end : found.start()])
            made += Markup('<a class="ds-link" href="{}">{}</a>').format(address, one)
            end = found.start() + len(one)
    return made + escape(words[end:])


def _address(kind: str | None, words: str) -> str:
    """Where a link leads; empty for what only looks like one."""
    if kind == "web":
        begin, _, host = words.rpartition("://") if "://" in words else ("", "", words[len("www.") :])
        return (words if begin else f"https://{words}") if host else ""
    try:
        if kind == "phone":
            return f"tel:{a_number(words)}"
        name, _, domain = an_address(words).rpartition("@")
    except ValueError:
        return ""
    return f"mailto:{quote(name, safe='')}@{domain}"
