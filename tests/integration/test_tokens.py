"""Proofs of who is asking that will not do: at each service's own doors, and each kind at the other's door.

What a bearer token must be is tried one by one in `tests/unit/test_auth.py`; here it is what a pass must be, and what
a proof of one kind, one person or one issuer is worth elsewhere.
"""

import base64
import hmac
import json
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import asdict
from typing import Any

import pytest
from httpx2 import AsyncClient
from joserfc import jwt
from joserfc.jwk import ECKey, RSAKey

from contracts.topics import SERVICES
from kit import http, passes
from kit.auth import Caller
from kit.pages.visitors import HEADER
from kit.passes import Visitor
from kit.running import Running
from tests.delivery import Servers
from tests.matrix import CSRF, KEYS, OPENED, ROUTERS, Briefly, Here, Row, rows, told
from tests.web import ISSUER

pytestmark = pytest.mark.anyio

OWN = ECKey.import_key(json.loads(KEYS[0]))
MINE = Row("GET", "/min-side", ("login",) * 6, "", "")
LISTED = Row("GET", "/api/enrolment/v1/me/enrolments", ("401",) * 6, "", "")


@pytest.fixture
async def here(servers: Servers) -> AsyncIterator[Here]:
    async with OPENED["enrolment"](servers) as opened:
        yield opened


def made(header: dict[str, Any] | None = None, key: Any = OWN, **claims: Any) -> str:
    """A pass of kari's, right but for what is said here; None takes a claim away."""
    kari = asdict(Caller(ISSUER, "kari"))
    known = {"aud": passes.AUDIENCE, "exp": int(time.time()) + 60, "caller": kari, "csrf": CSRF} | claims
    head = {"alg": "ES256"} | (header or {})
    said = {name: value for name, value in known.items() if value is not None}
    return jwt.encode(head, said, key, algorithms=[head["alg"]])


def by_hand(header: dict[str, Any], sign: Callable[[bytes], bytes] = lambda _: b"") -> str:
    body = made().split(".")[1]
    signed = base64.urlsafe_b64encode(json.dumps(header).encode()).rstrip(b"=") + b"." + body.encode()
    return (signed + b"." + base64.urlsafe_b64encode(sign(signed)).rstrip(b"=")).decode()


def rogue() -> ECKey:
    return ECKey.generate_key("P-256", auto_kid=True)


BAD: dict[str, Callable[[Here], str]] = {
    "over": lambda _: made(exp=int(time.time()) - passes.LEEWAY_S - 1),
    "never over": lambda _: made(exp=None),
    "over by words": lambda _: made(exp="tomorrow"),
    "not yet": lambda _: made(nbf=int(time.time()) + 3600),
    "for others": lambda _: made(aud="kursnett"),
    "for nobody": lambda _: made(aud=None),
    "about nobody": lambda _: made(caller=None),
    "about a name": lambda _: made(caller="kari"),
    "about more than we know": lambda _: made(caller={"issuer": ISSUER, "subject": "kari", "admin": True}),
    "without its forms": lambda _: made(csrf=None),
    "signed by another": lambda _: made(key=rogue()),
    "with a key of its own": lambda _: made(
        {"jwk": rogue().as_dict(private=False), "jku": "http://rogue.test/"}, rogue()
    ),
    "not signed": lambda _: by_hand({"alg": "none"}),
    "not signed, in other letters": lambda _: by_hand({"alg": "nOnE"}),
    "no algorithm": lambda _: by_hand({}),
    "a secret that all know": lambda _: by_hand(
        {"alg": "HS256"}, lambda signed: hmac.digest(KEYS[1].encode(), signed, "sha256")
    ),
    "of nothing but zeros": lambda _: by_hand({"alg": "ES256"}, lambda _: b"\0" * 64),
    "changed": lambda _: ".".join((made().split(".")[0], made(csrf="x").split(".")[1], made().split(".")[2])),
    "must be understood": lambda _: made({"crit": ["b64"], "b64": False}),
    "encrypted": lambda _: "a.b.c.d.e",
    "rubbish": lambda _: "!.!.!",
    "empty parts": lambda _: "..",
    "huge": lambda _: made(csrf="x" * 20_000, exp=1),
    "an access token": lambda here: here.bearer("learner A")["authorization"].split()[1],
    "an access token that calls itself one": lambda here: here.issuer.token(
        aud=passes.AUDIENCE, caller=asdict(Caller(ISSUER, "kari")), csrf=CSRF
    ),
}


async def test_a_pass_with_one_thing_wrong_is_no_pass(here: Here) -> None:
    wrong = []
    for kind, bad in BAD.items():
        answer = await here.ask(MINE, {}, {HEADER: bad(here)})
        if told(answer) != "login":
            wrong.append(f"{kind}: {told(answer)}")
    assert not wrong, "\n".join(wrong)
    for right in (made(), made(exp=int(time.time()) - passes.LEEWAY_S + 5), made({"kid": "any", "typ": "JWT"})):
        assert told(await here.ask(MINE, {}, {HEADER: right})) == "200", "the control"


async def test_a_pass_is_no_access_token(here: Here) -> None:
    for token in (
        here.visit("learner A")[HEADER],
        made(aud="kursnett", iss=ISSUER, sub="kari"),  # all that an access token has, by the key of passes
        made({"kid": here.issuer.key.kid}, aud="kursnett", iss=ISSUER, sub="kari"),
    ):
        answer = await here.ask(LISTED, {}, {"authorization": f"Bearer {token}"})
        assert told(answer) == "401"
    assert told(await here.ask(LISTED, {}, here.bearer("learner A"))) == "200", "the control"


async def test_an_id_token_opens_no_interface(servers: Servers) -> None:
    """Of the person who has just logged in, by the client whose name is the interface's own: our defaults."""
    for service in SERVICES:
        async with OPENED[service](servers) as here:
            nonce = {"authorization": f"Bearer {here.issuer.token(nonce='of a log-in')}"}
            for row in rows(service):
                if row.told[0] == "401":
                    assert told(await here.ask(row, await here.given(row), nonce)) == "401", row


async def test_a_forged_operator_gets_nothing_from_any_service(servers: Servers) -> None:
    """At each service and each of its pages and routes that not all may have."""
    operator = asdict(Caller(ISSUER, "drift", role="operator"))
    for service in SERVICES:
        async with OPENED[service](servers) as here:
            forged = here.issuer.token(sub="drift", kursnett_role="operator", key=RSAKey.generate_key(2048))
            proof = {HEADER: made(key=rogue(), caller=operator), "authorization": f"Bearer {forged}"}
            for row in rows(service):
                if row.told[0] in ("401", "login"):
                    answer = await here.ask(row, await here.given(row), proof)
                    assert told(answer) == row.told[0], row


async def test_two_passes_at_once_are_malformed(here: Here) -> None:
    """Two readers could each take another one."""
    right = here.visit("learner A")[HEADER]
    async with AsyncClient(transport=Briefly(here.app), base_url="http://kursnett.test") as asking:
        for two in ((right, made(key=rogue())), (made(key=rogue()), right), (right, right)):
            answer = await asking.get("/min-side", headers=[(HEADER, one) for one in two])
            assert answer.status_code == 400


async def test_the_same_name_at_another_issuer_is_another_person(here: Here) -> None:
    """Whoever may choose names at a second issuer is nobody here by it."""
    enrolled = await here.makes["enrolment"]()
    own = Row("GET", "/api/enrolment/v1/enrolments/{enrolment_id}", (), "", "")
    elsewhere = {"authorization": f"Bearer {here.issuer.token(iss='http://second.test')}"}
    assert told(await here.ask(own, enrolled, elsewhere)) == "401", "we have one issuer"

    settings = here.running.settings.model_copy(update={"issuer": "http://second.test"})
    moved = Running("enrolment", settings, here.running.database, here.running.metrics, here.running.health)
    moved.desk = here.running.desk
    second = Here("enrolment", moved, http.build(moved, ROUTERS["enrolment"]), here.issuer, {})
    here.issuer.serve(second.app.state.keys)
    assert told(await second.ask(own, enrolled, elsewhere)) == "404", "had we the other, its kari is not ours"
    withdraw = Row("POST", "/api/enrolment/v1/enrolments/{enrolment_id}/withdraw", (), "", "")
    assert told(await second.ask(withdraw, enrolled, elsewhere)) == "404"
    listed = await second.ask(LISTED, {}, elsewhere)
    assert listed.json() == {"items": []}
    assert told(await here.ask(own, enrolled, here.bearer("learner A"))) == "200", "the control"


async def test_the_same_name_at_another_issuer_has_another_page(here: Here) -> None:
    await here.makes["enrolment"]()
    for issuer, has in ((ISSUER, True), ("http://second.test", False)):
        visitor = Visitor(Caller(issuer, "kari"), CSRF)
        page = await here.ask(MINE, {}, {HEADER: passes.sign(KEYS[0], visitor)})
        assert page.status_code == 200
        assert ('class="ds-card"' in page.text) is has
