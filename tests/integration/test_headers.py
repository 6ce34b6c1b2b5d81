"""What every answer says to a browser, and that looking changes nothing: all that can be got, twice."""

import re
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest
from httpx2 import Response

from contracts.topics import SERVICES
from kit import http
from kit.pages import languages
from tests.delivery import Servers
from tests.integration.test_matrix import changed
from tests.matrix import OPENED, ROUTERS, WHO, Here, Row, rows
from tests.visiting import HTML

pytestmark = pytest.mark.anyio

ACCEPTS = (HTML, "application/json")


@pytest.fixture(params=SERVICES)
async def here(request: pytest.FixtureRequest, servers: Servers) -> AsyncIterator[Here]:
    async with OPENED[request.param](servers) as opened:
        yield opened


def gets(service: str) -> list[Row]:
    return [row for row in rows(service) if row.method == "GET"]


def unsafe(answer: Response) -> list[str]:
    """What is wrong with the headers of this answer."""
    said = answer.headers
    policy = {part.split()[0]: part.split()[1:] for part in said.get("content-security-policy", "").split(";") if part}
    checks = {
        "no policy that denies what it does not name": policy.get("default-src") == ["'none'"],
        "may be framed": policy.get("frame-ancestors") == ["'none'"],
        "lets something inline run": "unsafe" not in str(policy),
        "lets another site in": not re.search(r"https?:|\*", str(policy)),
        "its kind may be guessed": said.get("x-content-type-options") == "nosniff",
        "tells others its address": said.get("referrer-policy") in ("no-referrer", "same-origin"),
        "may be kept by whoever passes it on": "cache-control" in said,
        "says what runs here": "server" not in said and "x-powered-by" not in said,
        "may be asked from any site": "access-control-allow-origin" not in said,
    }
    if said.get("content-type", "").startswith("text/html"):
        checks |= {
            "sends forms elsewhere": policy.get("form-action") in (["'self'"], ["'none'"]),
            "its addresses can be turned": policy.get("base-uri") == ["'none'"],
            "its letters may be misread": "charset=utf-8" in said["content-type"],
            "holds script, style or an event inline": not inline(answer.text),
            "fetches from elsewhere": not re.search(r"""(src|<link[^>]*href)=["']?(https?:)?//""", answer.text),
        }
    for line in said.get_list("set-cookie"):
        parts = [part.strip().lower() for part in line.split(";")]
        right = {"secure", "httponly", "samesite=lax", "path=/"} <= set(parts)
        checks[f"its cookie {parts[0].partition('=')[0]}"] = (
            right and line.startswith("__Host-") and "domain" not in line
        )
    return [name for name, fine in checks.items() if not fine]


def inline(text: str) -> bool:
    """Whether a page holds what our policy would forbid."""
    return bool(
        re.search(
            r"""<script(?![^>]*(\bsrc=|type="application/ld\+json"))|<style|\sstyle=|\son[a-z]+\s*=|javascript:""", text
        )
    )


async def test_every_answer_has_the_headers_that_keep_a_browser_safe(here: Here) -> None:
    wrong = []
    for row in gets(here.service):
        named = await here.given(row)
        for who in ("nobody", "learner A", "partner A", "operator"):
            for accept in ACCEPTS:
                answer = await here.ask(row, named, here.proof(row, who), accept=accept)
                wrong += [f"GET {row.path} as {who}, {accept[:9]}: {fault}" for fault in unsafe(answer)]
    for row in (Row("GET", "/no-such-page", (), "", ""), Row("POST", "/healthz", (), "", "")):
        for accept in ACCEPTS:
            answer = await here.ask(row, {}, {}, accept=accept)
            assert answer.status_code in (404, 405)
            wrong += [f"{row.method} {row.path}, {accept[:9]}: {fault}" for fault in unsafe(answer)]
    assert not wrong, "\n".join(sorted(set(wrong)))


async def test_what_is_told_to_one_person_is_kept_by_no_one_else(here: Here) -> None:
    """A route that refuses somebody, or shows each their own, says `private` or `no-store`."""
    wrong = []
    for row in gets(here.service):
        if "{secret}" not in row.path and "{token}" not in row.path and len(set(row.told)) == 1:
            continue
        named = await here.given(row)
        for who in WHO:
            answer = await here.ask(row, named, here.proof(row, who))
            said = answer.headers["cache-control"]
            if "private" not in said and "no-store" not in said:
                wrong.append(f"GET {row.path} as {who}: {said}")
    assert not wrong, "\n".join(wrong)


async def test_looking_changes_nothing(here: Here) -> None:
    """Every address that can be got, by everybody: programs that look ahead, and crawlers, do the same."""
    seen = [(row, await here.given(row)) for row in gets(here.service)]
    before = await here.state()
    assert any(before.values())
    for row, named in seen:
        for who in WHO:
            await here.ask(row, named, here.proof(row, who))
    assert changed(before, await here.state()) == []


async def test_whoever_asks_for_the_head_alone_is_told_what_getting_would_tell(here: Here) -> None:
    """Feed readers, link checkers and previews of links ask so before they get a page, or instead."""
    wrong = []
    once = {"x-request-id", "set-cookie", "etag", "last-modified", "content-length", "location"}  # may differ each time
    for row in gets(here.service):
        named = await here.given(row)
        for who in ("nobody", "learner A", "operator"):
            got = await here.ask(row, named, here.proof(row, who))
            head = await here.ask(replace(row, method="HEAD"), named, here.proof(row, who))
            said, known = (dict(one.headers.items()) for one in (head, got))
            same = {name for name in known if said.get(name) == known[name]} | once
            if head.status_code != got.status_code or head.content or set(known) - same:
                wrong.append(f"{row.path} as {who}: {head.status_code} {sorted(set(known) - same)}")
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("service", SERVICES)
def test_no_route_acts_by_a_method_that_only_looks(service: str) -> None:
    assert {row.method for row in rows(service)} <= {"GET", "POST", "PUT", "DELETE"}


async def test_a_choice_of_language_is_kept_in_a_cookie_of_this_host(servers: Servers) -> None:
    async with OPENED["enrolment"](servers) as here:
        row = Row("GET", "/min-side?sprak=nn", ("login",) * 6, "", "")
        answer = await here.ask(row, {}, here.visit("learner A"))
        assert languages.COOKIE in answer.headers["set-cookie"]
        assert unsafe(answer) == []


@pytest.mark.parametrize("service", SERVICES)
async def test_only_where_the_gateway_speaks_https_browsers_are_told_to_stay_there(
    servers: Servers, service: str
) -> None:
    async with OPENED[service](servers) as here:
        row = Row("GET", "/no-such-page", (), "", "")
        assert "strict-transport-security" not in (await here.ask(row, {}, {})).headers
        secure = here.running.settings.model_copy(update={"public_url": "https://kursnett.test"})
        here.running.settings = secure
        here.app = http.build(here.running, ROUTERS[service])
        for accept in ACCEPTS:
            answer = await here.ask(row, {}, {}, accept=accept)
            assert answer.headers["strict-transport-security"].startswith("max-age=31536000")


def test_the_tests_eye_sees_what_it_looks_for() -> None:
    """The control: each of these would be found."""
    safe = {
        "content-security-policy": "default-src 'none'; frame-ancestors 'none'; form-action 'self'; base-uri 'none'",
        "x-content-type-options": "nosniff",
        "referrer-policy": "no-referrer",
        "cache-control": "no-store",
        "content-type": "text/html; charset=utf-8",
    }
    assert unsafe(Response(200, headers=safe, text="<p>")) == []
    for name in safe:
        if name != "content-type":
            assert unsafe(Response(200, headers=_without(safe, name), text="<p>")), name
    for text in ("<script>x</script>", "<p style='x'>", "<style>", '<a onclick="x">', '<a href="javascript:x">'):
        assert unsafe(Response(200, headers=safe, text=text)), text
    assert unsafe(Response(200, headers=safe, text='<img src="https://evil.example/x">'))
    for cookie in ("a=b; Secure; HttpOnly; SameSite=Lax; Path=/", "__Host-a=b; HttpOnly; SameSite=Lax; Path=/"):
        assert unsafe(Response(200, headers=safe | {"set-cookie": cookie}))


def _without(headers: dict[str, str], name: str) -> dict[str, str]:
    return {key: value for key, value in headers.items() if key != name}
