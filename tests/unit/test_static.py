"""What pages are drawn with: from us alone, small, and for ever under an address that changes with it."""

import re
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from fastapi import APIRouter
from httpx2 import AsyncClient

from kit.pages import static
from tests.web import build, client

pytestmark = pytest.mark.anyio


@pytest.fixture
async def asking() -> AsyncIterator[AsyncClient]:
    async with client(build([APIRouter()])) as found:
        yield found


async def test_a_file_is_kept_for_ever_under_todays_address_only(asking: AsyncClient) -> None:
    today = await asking.get(static.address("site.css"))
    assert (today.status_code, today.headers["content-type"]) == (200, "text/css; charset=utf-8")
    assert "immutable" in today.headers["cache-control"]
    before = await asking.get("/felles/0123456789abcdef/site.css")
    assert (before.text, before.headers["cache-control"]) == (today.text, "no-cache")


async def test_a_browser_gets_it_small_and_whoever_cannot_read_that_gets_it_plain(asking: AsyncClient) -> None:
    address = static.address("site.css")
    small = await asking.get(address, headers={"accept-encoding": "gzip"})
    plain = await asking.get(address, headers={"accept-encoding": "identity"})
    assert small.headers["content-encoding"] == "gzip"
    assert "content-encoding" not in plain.headers
    assert small.text == plain.text
    assert {"accept-encoding"} <= {one.strip() for one in small.headers["vary"].split(",")}


async def test_style_and_script_name_no_other_host(asking: AsyncClient) -> None:
    style = (await asking.get(static.address("site.css"))).text
    assert not re.findall(r"""(?:url\(|@import\s+)["']?(?:https?:)?//""", style)


@pytest.mark.parametrize("name", ["site.map", "..%2f..%2fsite.py", "package.json", "%00"])
async def test_nothing_else_is_given_out(asking: AsyncClient, name: str) -> None:
    assert (await asking.get(f"/felles/{static.digest()}/{name}")).status_code in (400, 404)


def test_without_what_npm_brings_pages_are_plain_and_not_broken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(static, "STYLE", (tmp_path / "index.css", static.STYLE[-1]))
    monkeypatch.setattr(static, "SCRIPT", (tmp_path / "htmx.min.js", static.SCRIPT[-1]))
    monkeypatch.setattr(static, "FONTS", {"inter-latin.woff2": tmp_path / "inter.woff2"})
    found = static.files.__wrapped__()
    assert set(found) == {"site.css", "site.js"}
    assert b".wide" in found["site.css"].plain
