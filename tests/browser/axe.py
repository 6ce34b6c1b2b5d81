"""Asks axe-core which rules of WCAG 2.1, A and AA, a page breaks."""

from functools import cache
from pathlib import Path

from playwright.sync_api import Page

SCRIPT = Path(__file__).resolve().parents[2] / "kit/pages/node_modules/axe-core/axe.min.js"
TAGS = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa"]


@cache
def script() -> str:
    assert SCRIPT.is_file(), "axe-core is not here: run `make install` with a network"
    return SCRIPT.read_text("utf-8")


def faults(page: Page) -> list[str]:
    """One line for each element that breaks a rule: the rule, where, and what mends it."""
    page.evaluate(script())  # by the browser's own debugger: the page's policy lets no other script in
    found = page.evaluate(
        """async (tags) => {
            const asked = { runOnly: { type: "tag", values: tags }, resultTypes: ["violations"] };
            const said = await axe.run(document, asked);
            return said.violations.flatMap((rule) =>
                rule.nodes.map((node) => `${rule.id} at ${node.target.join(" ")}: ${node.failureSummary}`));
        }""",
        TAGS,
    )
    return [" ".join(line.split()) for line in found]
