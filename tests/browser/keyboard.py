"""Somebody who has no mouse: goes by Tab, acts by Enter and Space, and must see where they are."""

from typing import Any

from playwright.sync_api import Locator, Page

MOST = 80
LINE_PX = 60  # two things on one line may stand a little higher or lower

WHERE = """() => {
    const here = document.activeElement;
    if (!here || here === document.body) return null;
    const box = here.getBoundingClientRect(), style = getComputedStyle(here);
    const ring = (one) => {
        const drawn = getComputedStyle(one);
        return (drawn.outlineStyle !== "none" && parseFloat(drawn.outlineWidth) >= 1) || drawn.boxShadow !== "none";
    };
    const name = (here.getAttribute("aria-label") || here.labels?.[0]?.textContent || here.textContent || here.id || "")
        .trim().replace(/\\s+/g, " ").slice(0, 60);
    const stops = (window.__stops ??= []), passed = stops.at(-1);
    const again = stops.includes(here);  // round, and on from the first
    const onwards = !document.contains(passed ?? null)
        || !!(passed.compareDocumentPosition(here) & Node.DOCUMENT_POSITION_FOLLOWING);
    stops.push(here);
    return {
        name: `${here.tagName.toLowerCase()} ${name}`,
        ring: ring(here) || (here.parentElement && here.matches("input") && ring(here.parentElement)),
        seen: box.width > 0 && box.height > 0 && box.bottom > 0 && box.top < innerHeight
            && style.visibility === "visible",
        top: box.top + scrollY,
        again,
        onwards,
    };
}"""


Stop = dict[str, Any]


def step(page: Page, at: Stop | None) -> Stop | None:
    """Press Tab once, from the stop `at`; none past the last. The next stop must be seen, and come after this one."""
    page.keyboard.press("Tab")
    found: Stop | None = page.evaluate(WHERE)
    if found is None or found["again"]:  # round, and on from the first
        return found
    assert found["seen"], f"{found['name']} has the focus and is not to be seen"
    assert found["ring"], f"{found['name']} does not show that it has the focus"
    if at is not None:
        assert found["onwards"], f"{found['name']} comes before {at['name']}, and gets the focus after it"
        assert found["top"] >= at["top"] - LINE_PX, f"{found['name']} stands above {at['name']}, which is before it"
    return found


def tab_to(page: Page, target: Locator) -> None:
    """Press Tab until the target has the focus."""
    expected = target.first
    expected.wait_for()
    at: Stop | None = None
    for _ in range(MOST):
        at = step(page, at)
        if at is not None and expected.evaluate("one => one === document.activeElement"):
            return
    raise AssertionError(f"{MOST} times Tab do not lead there: {target}")


def go_round(page: Page) -> None:
    """Press Tab through the whole page, or a long way into it."""
    at = step(page, None)
    for _ in range(MOST):
        at = step(page, at)
        if at is None or at["again"]:
            return


def press(page: Page, target: Locator, key: str = "Enter") -> None:
    """Go there and press a key."""
    tab_to(page, target)
    page.keyboard.press(key)


def write(page: Page, target: Locator, text: str) -> None:
    """Go there and write, over what is there."""
    tab_to(page, target)
    page.keyboard.press("Control+a")
    page.keyboard.type(text)
