"""A browser without JavaScript, for tests of pages: keeps cookies, follows redirects, logs in at the issuer's form."""

import re
from dataclasses import dataclass, field
from html import unescape
from http.cookies import SimpleCookie
from urllib.parse import urljoin, urlsplit

from httpx2 import AsyncClient, Response

HTML = "text/html,application/xhtml+xml"
MOST_REDIRECTS = 8


@dataclass
class Person:
    """One browser. `page` is the last answer, whose forms are filled in; `cookies` are by origin, then name."""

    web: AsyncClient
    gateway: str
    language: str = "nb"
    page: Response | None = None
    cookies: dict[str, dict[str, str]] = field(default_factory=dict)

    async def ask(self, method: str, address: str, fields: dict[str, str] | None = None, **headers: str) -> Response:
        """One request, without following where it leads. A header's name is written with `_` for `-`."""
        url = urljoin(f"{self.gateway}/", address)
        origin = urlsplit(url).netloc
        jar = self.cookies.setdefault(origin, {})
        sent = {"accept": HTML, "accept-language": self.language}
        sent |= {name.replace("_", "-"): value for name, value in headers.items()}
        if jar:
            sent["cookie"] = "; ".join(f"{name}={value}" for name, value in jar.items())
        answer = await self.web.request(method, url, data=fields, headers=sent, follow_redirects=False)
        for line in answer.headers.get_list("set-cookie"):
            for name, morsel in SimpleCookie(line).items():
                if morsel["max-age"] == "0":
                    jar.pop(name, None)
                else:
                    jar[name] = morsel.value
        return answer

    async def go(self, address: str, fields: dict[str, str] | None = None) -> Response:
        """Open an address, or send a form there, and follow where it leads."""
        answer = await self.ask("GET" if fields is None else "POST", address, fields)
        for _ in range(MOST_REDIRECTS):
            if answer.status_code not in (302, 303, 307):
                break
            answer = await self.ask("GET", urljoin(str(answer.url), answer.headers["location"]))
        self.page = answer
        return answer

    async def log_in(self, username: str, back_to: str = "/min-side") -> Response:
        """Through the issuer's own form, as a person does."""
        form = await self.go(f"/logg-inn?neste={back_to}")
        return await self.go(str(form.url), {"username": username})

    @property
    def text(self) -> str:
        assert self.page is not None
        return self.page.text

    @property
    def csrf(self) -> str:
        """The token of the forms on the last page."""
        found = re.search(r'name="csrf" value="([^"]+)"', self.text)
        assert found, "the page has no form of somebody who is logged in"
        return unescape(found[1])

    async def send(self, address: str, **fields: str) -> Response:
        """Send a form of the last page, with its token."""
        return await self.go(address, {"csrf": self.csrf, **fields})

    @property
    def session(self) -> str | None:
        return self.cookies.get(urlsplit(self.gateway).netloc, {}).get("__Host-kursnett")
