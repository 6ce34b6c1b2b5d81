"""How much a browser that knows nothing of us fetches for a page: every page, logged in, as the gateway sends it."""

import asyncio
import re
from collections.abc import AsyncIterator
from html import unescape

import httpx2
import pytest

from contracts.topics import SERVICES
from deploy.local.issuer import LOGINS
from deploy.local.stack import Stack
from tests.journeys.web import Web
from tests.visiting import HTML, Person

pytestmark = pytest.mark.anyio

MOST_BYTES = 100 * 1024  # without fonts and images
LEARNERS, ENROLMENTS = 60, 10  # a roster shows 50 at a time; a learner may have 10


@pytest.fixture
async def web(stack: Stack) -> AsyncIterator[Web]:
    async with httpx2.AsyncClient(base_url=stack.places.gateway, timeout=30) as http:
        yield Web(stack.places, http)


async def fetched(web: Web, address: str, person: Person | None) -> tuple[int, str]:
    """(bytes as they were sent, text) of one answer."""
    sent = {"accept": HTML, "accept-encoding": "gzip", "accept-language": "nb"}
    if person is not None:
        sent["cookie"] = f"__Host-kursnett={person.session}"
    async with web.http.stream("GET", address, headers=sent) as answer:
        text = (await answer.aread()).decode()
        assert answer.status_code == 200, f"{address}: {answer.status_code}"
        small = len(text) < 1000  # not worth the work
        own = person is not None and not address.startswith("/felles/")  # its length would tell its forms' secret
        assert small or own or answer.headers.get("content-encoding") == "gzip", address
        return answer.num_bytes_downloaded, text


async def first_view(web: Web, address: str, person: Person | None) -> int:
    """Bytes of the page, of all that it is drawn with, and of the parts that come by themselves at once."""
    size, text = await fetched(web, address, person)
    drawn_with = re.findall(r'<link rel="stylesheet" href="([^"]+)"|<script src="([^"]+)"', text)
    parts = [tag for tag in re.findall(r"<[^>]*data-part=[^>]*>", text) if "data-load" in tag]
    more = [style or script for style, script in drawn_with]
    more += [found[1] for tag in parts if (found := re.search(r'data-part="([^"]+)"', tag))]
    assert len(drawn_with) >= 2, f"{address} is drawn with nothing"
    for one in dict.fromkeys(map(unescape, more)):
        size += (await fetched(web, one, person))[0]
    return size


async def test_the_first_view_of_every_page_is_light(web: Web) -> None:
    who = f"v-{web.word}"
    title = "Et ganske langt navn på et kurs som handler om mange ting på en gang"
    offerings = [await web.offering(f"V-{web.word}-{n}", 30, f"{title} {n}") for n in range(ENROLMENTS)]
    learners = [(offerings[0], f"{who}-{n}") for n in range(LEARNERS)]
    asked = [*learners, *((one, who) for one in offerings)]
    made = await asyncio.gather(*(web.enrol(*one) for one in asked))
    assert {one.status_code for one in made} == {201}
    enrolment = made[-1].json()["enrolment_id"]
    course = (await web.http.get(f"/api/catalogue/v1/offerings/{offerings[0]}")).json()["course_id"]
    await web.mails(who, ENROLMENTS, within_s=30)

    people = {kind: Person(web.http, web.places.gateway) for kind in ("learner", *LOGINS)}
    for kind, person in people.items():
        await person.log_in(who if kind == "learner" else LOGINS[kind].username)
    rows = [
        ("", ["/", "/kurs", f"/kurs/{course}"]),
        (
            "learner",
            [
                f"/delta/{offerings[0]}",
                "/min-side",
                f"/min-side/{enrolment}",
                f"/min-side/{enrolment}/meld-av",
                "/varsler",
                "/varsler/valg",
            ],
        ),
        (
            "partner",
            [
                "/partner",
                "/partner/mottak",
                "/partner/fil",
                f"/deltakere/{offerings[0]}",
                f"/deltakere/{offerings[0]}/ark",
            ],
        ),
        (
            "operator",
            [
                "/drift",
                f"/drift/tidslinje?id={enrolment}",
                "/drift/catalogue/tilbydere",
                *(f"/drift/{service}{page}" for service in SERVICES for page in ("", "/parkert", "/logg")),
            ],
        ),
    ]
    sizes = {address: await first_view(web, address, people.get(kind)) for kind, some in rows for address in some}
    heavy = [f"{address}: {size} bytes" for address, size in sizes.items() if size > MOST_BYTES]
    assert not heavy, "\n".join(heavy)
    assert max(sizes.values()) > MOST_BYTES // 4, f"the control: it counts what is sent: {sizes}"
