"""The catalogue's pages at the gateway of the whole stack: kept by a browser, and a provider's own by logging in."""

import re
from collections.abc import AsyncIterator

import httpx2
import pytest

from deploy.local.issuer import LOGINS
from deploy.local.stack import Stack
from tests.visiting import Person

pytestmark = pytest.mark.anyio

FILE = "code;title_nb;subjects\n{code};Kurs fra en fil;helse\n"


@pytest.fixture
async def web() -> AsyncIterator[httpx2.AsyncClient]:
    async with httpx2.AsyncClient(timeout=20) as asking:
        yield asking


async def test_a_browser_that_has_a_page_is_not_sent_it_again(stack: Stack, web: httpx2.AsyncClient) -> None:
    person = Person(web, stack.places.gateway)
    for address in ("/", "/kurs", "/kurs?q=et+kurs&free=true"):
        first = await person.ask("GET", address, accept_encoding="gzip")
        assert (first.status_code, first.headers["content-encoding"]) == (200, "gzip")
        # At first it is made small by the gateway, and once it is kept by the catalogue: to a browser that is the same.
        later = [await person.ask("GET", address, accept_encoding="gzip") for _ in range(3)]
        assert {(one.text, one.headers["etag"]) for one in later} == {(first.text, first.headers["etag"])}
        assert "content-length" in later[-1].headers, "the gateway passes it on as it is"
        again = await person.ask("GET", address, accept_encoding="gzip", if_none_match=first.headers["etag"])
        assert again.status_code == 304, address


async def test_a_provider_logs_in_and_takes_in_a_file(stack: Stack, web: httpx2.AsyncClient) -> None:
    login = LOGINS["partner"]
    person = Person(web, stack.places.gateway)
    await person.log_in(login.username, "/partner/fil")
    assert person.page is not None
    assert person.page.status_code == 200, person.text
    address = f"{stack.places.gateway}/partner/fil"
    headers = {"accept": "text/html", "cookie": f"__Host-kursnett={person.session}"}
    code = "FIL-1"
    files = {"fil": ("kurs.csv", FILE.format(code=code).encode(), "text/csv")}
    for button, status in (("prov", 200), ("lagre", 303)):
        fields = {"csrf": person.csrf, "gjor": button}
        answer = await web.post(address, data=fields, files=files, headers=headers, follow_redirects=False)
        assert answer.status_code == status, answer.text
    page = await person.go("/partner")
    assert re.search(rf">{code}<", page.text), "the course stands among its own"
    found = await person.go(f"/kurs?q={code}")
    assert "Kurs fra en fil" in found.text
