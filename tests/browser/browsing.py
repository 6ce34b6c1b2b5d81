"""Windows of a browser: who looks, in which language, with or without JavaScript; and what must not happen in them."""

import json
from typing import Literal
from urllib.parse import urlsplit

from playwright.sync_api import (
    Browser,
    BrowserContext,
    ConsoleMessage,
    Dialog,
    Page,
    Request,
    Response,
    StorageState,
    ViewportSize,
    WebError,
)

from deploy.local.places import Places

Scheme = Literal["light", "dark"]
DESK: ViewportSize = {"width": 1280, "height": 900}
PHONE: ViewportSize = {"width": 390, "height": 844}
NARROW: ViewportSize = {"width": 320, "height": 640}
LANGUAGES = ("nb", "nn", "en")
# What a browser says of an answer that is no success; whether it may be none, `People` looks at itself.
ANSWERED = "Failed to load resource: the server responded"
OFFLINE = ("net::ERR_INTERNET_DISCONNECTED",)


def origin(address: str) -> str:
    parts = urlsplit(address)
    return f"{parts.scheme}://{parts.netloc}"


class People:
    """Opens windows on one stack; `troubles` are what the browser complained of in any of them."""

    def __init__(self, chrome: Browser, places: Places, sessions: dict[str, StorageState]) -> None:
        self.places = places
        self.troubles: list[str] = []
        self.expected = 0  # the status that the page looked at shall have, where it is one that is a trouble elsewhere
        self._chrome = chrome
        self._sessions = sessions
        self._contexts: list[BrowserContext] = []
        self._known = {origin(places.gateway), origin(places.issuer)}

    def window(
        self,
        who: str = "",
        *,
        name: str = "",
        language: str = "nb",
        size: ViewportSize = DESK,
        scheme: Scheme = "light",
        javascript: bool = True,
    ) -> Page:
        """A window of a new browser; of somebody who is logged in, if `who` is given, and is called `name`."""
        if who and who not in self._sessions:
            self._sessions[who] = self._session(who, name)
        context = self._chrome.new_context(
            base_url=self.places.gateway,
            locale={"nb": "nb-NO", "nn": "nn-NO", "en": "en-GB"}[language],
            viewport=size,
            color_scheme=scheme,
            java_script_enabled=javascript,
            reduced_motion="reduce",
            storage_state=self._sessions[who] if who else None,
        )
        context.set_default_timeout(15_000)
        self._watch(context)
        self._contexts.append(context)
        return context.new_page()

    def leave(self) -> None:
        """Close all windows."""
        for context in self._contexts:
            context.close()
        self._contexts.clear()

    def _session(self, who: str, name: str) -> StorageState:
        page = self.window()
        page.goto("/logg-inn")
        log_in(page, who, name)
        page.wait_for_url("**/min-side")
        return page.context.storage_state()

    def _watch(self, context: BrowserContext) -> None:
        def complained(message: ConsoleMessage) -> None:
            ours = origin(message.location["url"]) == origin(self.places.gateway)
            expected = message.text.startswith(ANSWERED) or any(one in message.text for one in OFFLINE)
            if message.type == "error" and ours and not expected:
                self.troubles.append(f"the console says: {message.text}")

        def failed(error: WebError) -> None:
            self.troubles.append(f"a script failed: {error.error}")

        def asked(request: Request) -> None:
            if urlsplit(request.url).scheme != "data" and origin(request.url) not in self._known:
                self.troubles.append(f"a stranger is asked: {request.url}")

        def answered(response: Response) -> None:
            most = 499 if response.request.is_navigation_request() else 399
            if (
                response.status > most
                and response.status != self.expected
                and origin(response.url) == origin(self.places.gateway)
            ):
                self.troubles.append(f"{response.status} for {response.url}")

        def opened(dialog: Dialog) -> None:
            self.troubles.append(f"a dialog opened: {dialog.message}")
            dialog.dismiss()

        context.on("console", complained)
        context.on("weberror", failed)
        context.on("request", asked)
        context.on("response", answered)
        context.on("dialog", opened)


def log_in(page: Page, who: str, name: str = "") -> None:
    """At the development issuer's form, which is on the screen, as somebody whom the demo data need not know."""
    page.get_by_label("Name").fill(who)
    if name:
        page.get_by_label("Claims").fill(json.dumps({"name": name}))
    page.get_by_role("button", name="Log in", exact=True).click()


def sideways(page: Page) -> str:
    """What makes the page wider than the window; empty when nothing does."""
    return str(
        page.evaluate(
            """() => {
                const width = document.documentElement.clientWidth;
                if (document.scrollingElement.scrollWidth <= width) return "";
                const end = (one) => Math.ceil(one.getBoundingClientRect().right);
                const wide = [...document.querySelectorAll("body *")]
                    .filter((one) => end(one) > width + 1 && !one.closest(".scroll"))
                    .map((one) => `${one.tagName.toLowerCase()}.${one.className} to ${end(one)}`);
                return `${document.scrollingElement.scrollWidth} wide: ${wide.slice(0, 5).join(", ") || "?"}`;
            }"""
        )
    )
