"""Who may do what: every route of every service, asked by each of six, about their own and about another's."""

import re
import uuid
from collections.abc import AsyncIterator
from html import unescape
from typing import Any
from urllib.parse import unquote

import pytest
from httpx2 import Response

from contracts.topics import SERVICES
from tests.delivery import Servers
from tests.matrix import OPENED, WHO, Here, Row, routes, rows, told

pytestmark = pytest.mark.anyio


@pytest.fixture(params=SERVICES)
async def here(request: pytest.FixtureRequest, servers: Servers) -> AsyncIterator[Here]:
    async with OPENED[request.param](servers) as opened:
        yield opened


@pytest.mark.parametrize("service", SERVICES)
def test_the_table_has_every_route_and_nothing_else(service: str) -> None:
    listed = [(row.method, row.path) for row in rows(service)]
    assert len(listed) == len(set(listed))
    assert {row.route for row in rows(service)} == routes(service), "mend tests/matrix.txt: who may do what?"


async def test_each_is_told_what_the_table_says(here: Here) -> None:
    wrong = []
    for row in rows(here.service):
        for who, expected in zip(WHO, row.told, strict=True):
            answer = await here.ask(row, await here.given(row), here.proof(row, who))
            if told(answer) != expected:
                wrong.append(f"{row.method} {row.path}: {who} is told {told(answer)}, not {expected}: {answer.text}")
    assert not wrong, "\n".join(wrong)


async def test_a_refusal_does_nothing(here: Here) -> None:
    wrong = []
    for row in rows(here.service):
        for who, expected in zip(WHO, row.told, strict=True):
            if row.method == "GET" or expected not in ("401", "403", "404"):
                continue
            named = await here.given(row)
            before = await here.state()
            await here.ask(row, named, here.proof(row, who))
            wrong += [
                f"{row.method} {row.path}: {who} has changed {name}" for name in changed(before, await here.state())
            ]
    assert not wrong, "\n".join(wrong)


def changed(before: dict[str, str], after: dict[str, str]) -> list[str]:
    return [name for name in after if before[name] != after[name]]


async def test_a_page_takes_no_token_and_the_interface_for_programs_no_pass(here: Here) -> None:
    """What a browser sends by itself, or by what the gateway adds, must open nothing that asks for no form's token."""
    wrong = []
    for row in rows(here.service):
        for who in WHO[1:]:
            other = here.bearer(who) if row.of_people else here.visit(who)
            answer = await here.ask(row, await here.given(row), other)
            if told(answer) != row.told[0]:
                wrong.append(f"{row.method} {row.path}: {who} is told {told(answer)} by the wrong proof")
    assert not wrong, "\n".join(wrong)


async def test_what_is_told_of_a_form_that_was_not_taken_leads_on_to_pages(here: Here) -> None:
    """A session that ended while somebody looked at a page: its form's address may take nothing but forms, and they
    log in and come back, or read on in another language."""
    wrong = []
    for row in [row for row in rows(here.service) if row.is_form]:
        named = await here.given(row)
        refused = await here.ask(row, named, {})
        [address] = set(re.findall(r'href="/logg-inn\?neste=([^"]*)"', refused.text))
        [in_nynorsk] = re.findall(r'href="([^"]*sprak=nn)"', refused.text)
        may = next(who for who, expected in zip(WHO, row.told, strict=True) if expected not in ("401", "403", "404"))
        for leads_to in (unquote(address), unescape(in_nynorsk)):
            answer = await here.ask(Row("GET", leads_to, row.told, "", ""), {}, here.visit(may))
            if told(answer) not in ("200", "303"):
                wrong.append(f"{row.method} {row.path} leads to {leads_to}: {told(answer)}")
    assert not wrong, "\n".join(wrong)


async def test_a_form_that_we_did_not_give_does_nothing(here: Here) -> None:
    wrong = []
    for row in [row for row in rows(here.service) if row.is_form]:
        for who in WHO[1:]:
            for token in ("", "of-another-session"):
                named = await here.given(row)
                before = await here.state()
                answer = await here.ask(row, named, here.visit(who), csrf=token)
                if answer.status_code != 403 or changed(before, await here.state()):
                    wrong.append(f"{row.method} {row.path}: {who} is told {answer.status_code}")
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize(("service", "least"), [("catalogue", 5), ("enrolment", 3), ("notifier", 9)])
async def test_partners_are_told_the_same_by_their_key(servers: Servers, service: str, least: int) -> None:
    async with OPENED[service](servers) as here:
        wrong, taking = [], [row for row in rows(service) if here.takes_key(row)]
        assert len(taking) >= least
        assert {row.path for row in rows(service) if "{partner}" in row.path and not row.of_people} <= {
            row.path for row in taking
        }
        for row in taking:
            for who, key in here.keys.items():
                answer = await here.ask(row, await here.given(row), {"authorization": f"Bearer {key}"})
                if told(answer) != row.told[WHO.index(who)]:
                    wrong.append(f"{row.method} {row.path}: {who} is told {told(answer)}: {answer.text}")
        assert not wrong, "\n".join(wrong)


async def test_a_partner_does_not_find_anothers_webhook_below_its_own_name(servers: Servers) -> None:
    async with OPENED["notifier"](servers) as here:
        for row in [row for row in rows("notifier") if "{webhook_id}" in row.path]:
            named = await here.given(row)
            before = await here.state()
            own = named | {"partner": here.partners[1]}
            answer = await here.ask(row, own, here.bearer("partner B"))
            assert (answer.status_code, changed(before, await here.state())) == (404, []), row


async def test_a_partner_does_not_reach_anothers_course_below_its_own_name(servers: Servers) -> None:
    """A course's code is its partner's own: the same code below another name is another course."""
    async with OPENED["catalogue"](servers) as here:
        for row in [row for row in rows("catalogue") if "{code}" in row.path and row.method != "GET"]:
            named = await here.given(row)
            show = Row("GET", "/api/catalogue/v1/courses/{course_id}", (), "", "")
            before = (await here.ask(show, named, {})).json()
            await here.ask(row, named | {"partner": here.partners[1]}, here.bearer("partner B"))
            assert (await here.ask(show, named, {})).json() == before, row


async def test_what_is_not_there_is_told_as_what_is_anothers(servers: Servers) -> None:
    """Nobody can find out, by asking, which enrolments there are."""
    async with OPENED["enrolment"](servers) as here:
        for row in [row for row in rows("enrolment") if "{enrolment_id}" in row.path and not row.of_people]:
            for who in ("learner B", "partner B"):
                theirs = await here.ask(row, await here.given(row), here.bearer(who))
                none = await here.ask(row, {"enrolment_id": str(uuid.uuid4())}, here.bearer(who))
                assert without_id(theirs) == without_id(none), row


def without_id(answer: Response) -> dict[str, Any]:
    return {name: value for name, value in answer.json().items() if name != "request_id"}


async def test_lists_of_ones_own_hold_nothing_of_others(servers: Servers) -> None:
    for service, path, name, made in (
        ("enrolment", "/api/enrolment/v1/me/enrolments", "enrolment_id", "enrolment"),
        ("notifier", "/api/notifier/v1/me/notices", "notice_id", "notice"),
    ):
        async with OPENED[service](servers) as here:
            named = await here.makes[made]()
            row = Row("GET", path, (), "", "")
            for who in WHO[1:]:
                listed = (await here.ask(row, {}, here.bearer(who))).text
                assert (named[name] in listed) is (who == "learner A"), (path, who)
