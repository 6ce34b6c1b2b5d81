"""Logging in, with an issuer that tells the truth, and with one whose every answer is spoiled in turn."""

import asyncio
import html
import json
import re
import time
from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import urlsplit

import pytest
from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import ECKey, RSAKey
from starlette.responses import HTMLResponse, JSONResponse, PlainTextResponse, Response, StreamingResponse

from kit import auth
from services.enrolment import issuer, login
from services.enrolment.issuer import MAX_BYTES
from tests.delivery import Servers
from tests.issuing import GATEWAY, Here, logging_in, parameters
from tests.visiting import Person

pytestmark = pytest.mark.anyio

LOGGED_IN = "/min-side"
AWAY = Response(status_code=503)


async def begun(person: Person, back_to: str = "/min-side") -> str:
    """Where the issuer leads the person who has logged in there: the address that ends the log-in here."""
    to_issuer = await person.ask("GET", f"/logg-inn?neste={back_to}")
    assert to_issuer.status_code == 303, to_issuer.text
    at_issuer = await person.ask("GET", to_issuer.headers["location"])
    assert at_issuer.status_code == 302
    return str(at_issuer.headers["location"])


async def refused(here: Here, person: Person, address: str, status: int = 400) -> str:
    """The page that says so; nobody is logged in by it."""
    answer = await person.ask("GET", address)
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"].startswith("text/html")
    assert answer.headers["cache-control"] == "no-store"
    assert person.session is None
    assert await here.rows("SELECT FROM sessions") == []
    return answer.text


async def test_who_comes_back_with_all_that_is_right_is_logged_in(servers: Servers) -> None:
    async with logging_in(servers) as here:
        here.issuer.claims = {"name": "Kari Åsnes"}
        person = here.person()
        page = await person.go("/logg-inn?neste=/min-side")
        assert (page.status_code, page.url.path) == (200, LOGGED_IN)
        caller = await here.caller(person.session)
        assert caller is not None
        assert (caller.issuer, caller.subject, caller.name) == (here.issuer.url, "kari", "Kari Åsnes")
        assert here.issuer.asked_for == ["discovery", "authorize", "token", "jwks"]


async def test_what_the_issuer_is_asked_with(servers: Servers) -> None:
    async with logging_in(servers, login_acr="high,higher", login_scope="openid email") as here:
        address = (await here.person().ask("GET", "/logg-inn")).headers["location"]
        again = (await here.person().ask("GET", "/logg-inn")).headers["location"]
    asked, second = parameters(address), parameters(again)
    assert asked["client_id"] == "kursnett"
    assert asked["redirect_uri"] == f"{GATEWAY}/logg-inn/svar"
    assert (asked["scope"], asked["acr_values"]) == ("openid email", "high higher")
    assert (asked["response_type"], asked["code_challenge_method"]) == ("code", "S256")
    for name in ("state", "nonce", "code_challenge"):
        assert len(asked[name]) >= 43
        assert asked[name] != second[name]
    assert len({asked[name] for name in ("state", "nonce", "code_challenge")}) == 3


SPOILT: dict[str, dict[str, Any]] = {
    "another nonce": {"nonce": "guessed"},
    "no nonce": {"nonce": None},
    "for another client": {"aud": "another"},
    "for others": {"aud": ["another", "third"]},
    "for nobody": {"aud": None},
    "got by another client": {"aud": ["kursnett", "another"], "azp": "another"},
    "of another issuer": {"iss": "http://rogue.test"},
    "of no issuer": {"iss": None},
    "over": {"exp": int(time.time()) - 60},
    "never over": {"exp": None},
    "not yet": {"nbf": int(time.time()) + 86_400},
    "about nobody": {"sub": None},
    "about a line break": {"sub": "kari\nola"},
    "a logout token": {"header": {"typ": "logout+jwt"}},
    "signed by another": {"key": RSAKey.generate_key(2048)},
    "with a secret that all know": {"header": {"alg": "HS256"}, "key": "known to all, and long enough"},
    "with a key of its own": {
        "header": {"kid": "mine", "jku": "http://rogue.test/jwks"},
        "key": RSAKey.generate_key(2048),
    },
}


async def test_an_id_token_with_one_thing_wrong_logs_nobody_in(servers: Servers) -> None:
    async with logging_in(servers) as here:
        for kind, claims in SPOILT.items():
            person = here.person()
            here.issuer.claims = _with_key(claims)
            text = await refused(here, person, await begun(person, "/min-side"))
            assert "/logg-inn?neste=/min-side" in text, kind
        here.issuer.claims = {"aud": ["another", "kursnett"], "azp": "kursnett", "exp": int(time.time()) - 5}
        assert (await here.person().go("/logg-inn")).url.path == LOGGED_IN, "the control"


def _with_key(claims: dict[str, Any]) -> dict[str, Any]:
    """A shared secret as joserfc wants it."""
    if not isinstance(claims.get("key"), str):
        return claims
    from joserfc.jwk import OctKey

    return claims | {"key": OctKey.import_key(claims["key"])}


async def test_who_has_logged_in_too_lightly_is_not_let_in(servers: Servers) -> None:
    async with logging_in(servers, login_acr="high,higher") as here:
        for acr in (None, "low", "high,higher", ["high"]):
            here.issuer.claims = {"acr": acr}
            person = here.person()
            await refused(here, person, await begun(person))
        here.issuer.claims = {"acr": "higher"}
        assert (await here.person().go("/logg-inn")).url.path == LOGGED_IN, "the control"


async def test_a_code_is_worth_nothing_in_another_log_in(servers: Servers) -> None:
    async with logging_in(servers) as here:
        for careful in (True, False):  # the proof stops it at the issuer, and the nonce here when the issuer is not so
            here.issuer.checks_proof = careful
            thief, victim = here.person(), here.person()
            stolen = parameters(await begun(victim))["code"]
            own = parameters(await begun(thief))["state"]
            await refused(here, thief, f"/logg-inn/svar?code={stolen}&state={own}")


async def test_an_answer_counts_once_and_where_it_was_asked_for(servers: Servers) -> None:
    async with logging_in(servers) as here:
        person = here.person()
        address = await begun(person)
        state = parameters(address)["state"]
        stranger = here.person()
        await refused(here, stranger, address)
        for forged in (
            "/logg-inn/svar",
            f"/logg-inn/svar?code={parameters(address)['code']}",
            address.replace(state, state[:8] + "x" * (len(state) - 8)),
            address.replace(state, "y" * len(state)),
            address.replace(state, "%00%ff"),
        ):
            answer = await person.ask("GET", forged)
            assert answer.status_code == 400
            assert person.session is None
        kept = {origin: dict(jar) for origin, jar in person.cookies.items()}
        done = await person.ask("GET", address)
        assert (done.status_code, done.headers["location"]) == (303, "/min-side"), "the control"
        again = await person.ask("GET", address)
        assert again.status_code == 400, "the browser has forgotten that log-in"
        assert "Du ble ikke logget inn" not in again.text, "a second click, or the back button: it has its session"
        assert ("Du er logget inn" in again.text, 'href="/min-side"' in again.text) == (True, True)
        person.cookies = kept
        assert (await person.ask("GET", address)).status_code == 400, "and the issuer its code"
        assert len(await here.rows("SELECT FROM sessions")) == 1


async def test_what_a_browser_keeps_of_a_log_in_cannot_be_changed_and_gets_old(
    servers: Servers, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with logging_in(servers) as here:
        person = here.person()
        address = await begun(person)
        jar = person.cookies[urlsplit(GATEWAY).netloc]
        [name] = [name for name in jar if name.startswith(login.UNDER_WAY)]
        right = jar[name]
        for wrong in ("", "x", right[:-2] + "xx", "x" + right, right.partition(".")[0]):
            jar[name] = wrong
            await refused(here, person, address)
        jar[name] = right
        with monkeypatch.context() as later:
            later.setattr(login, "UNDER_WAY_S", -1)
            await refused(here, person, address)
        assert (await person.ask("GET", address)).status_code == 303, "the control"


async def test_two_tabs_each_finish_what_they_began(servers: Servers) -> None:
    async with logging_in(servers) as here:
        person = here.person()
        first, second = await begun(person, "/min-side"), await begun(person, "/min-side%3Fvis%3Dalle")
        for address, back_to in ((second, "/min-side?vis=alle"), (first, "/min-side")):
            done = await person.ask("GET", address)
            assert (done.status_code, done.headers["location"]) == (303, back_to)
        assert await here.caller(person.session) is not None
        assert len(await here.rows("SELECT FROM sessions")) == 1, "the first of the two was ended by the second"


async def test_who_says_no_at_the_issuer_is_told_so_and_can_begin_again(servers: Servers) -> None:
    async with logging_in(servers) as here:
        person = here.person()
        state = parameters(await begun(person, "/min-side"))["state"]
        text = await refused(here, person, f"/logg-inn/svar?error=access_denied&state={state}")
        assert 'href="/logg-inn?neste=/min-side"' in text
        await refused(here, here.person(), "/logg-inn/svar?error=<script>alert(1)</script>&state=x")


NO_DISCOVERY: dict[str, Response | dict[str, Any]] = {
    "away": AWAY,
    "not found": Response(status_code=404),
    "a page": HTMLResponse("<html>"),
    "a list": JSONResponse([]),
    "nested without end": Response("[" * 100_000),
    "too large": {"pad": "x" * MAX_BYTES},
    "a redirect": Response(status_code=302, headers={"location": "http://rogue.test/"}),
    "of another issuer": {"issuer": "http://rogue.test"},
    "without where to log in": {"authorization_endpoint": None},
    "without where codes are worth something": {"token_endpoint": None},
}


async def told_that_it_is_away(
    here: Here, person: Person, address: str, kind: str = "", back: str = "/varsler"
) -> None:
    """A page of our own says so, with a way on; and nobody is sent to where nobody answers."""
    answer = await person.ask("GET", address)
    assert (answer.status_code, answer.headers.get("retry-after")) == (503, "5"), kind
    assert answer.headers["content-type"].startswith("text/html")
    assert answer.headers["cache-control"] == "no-store"
    assert "Innloggingen svarer ikke" in answer.text, kind
    assert f'href="/logg-inn?neste={back}"' in answer.text
    assert "location" not in answer.headers
    assert "set-cookie" not in answer.headers


async def test_an_issuer_that_does_not_say_where_to_log_in_is_away(servers: Servers) -> None:
    async with logging_in(servers) as here:
        for kind, said in NO_DISCOVERY.items():
            here.issuer.answers = {"discovery": said} if isinstance(said, Response) else {}
            here.issuer.says = said if isinstance(said, dict) else {}
            if hasattr(here.app.state, "issuer"):
                here.restarted()
            await told_that_it_is_away(here, here.person(), "/logg-inn?neste=/varsler", kind)
        here.issuer.answers, here.issuer.says = {}, {}
        here.restarted()
        assert (await here.person().go("/logg-inn")).url.path == LOGGED_IN, "the control"


NO_TOKENS: dict[str, tuple[Response, int]] = {
    "away": (AWAY, 503),
    "too busy": (PlainTextResponse("slow down", 429), 503),
    "a page": (HTMLResponse("<html>"), 503),
    "a list": (JSONResponse([]), 503),
    "empty": (Response(), 503),
    "a redirect": (Response(status_code=302, headers={"location": "http://rogue.test/"}), 503),
    "rubbish for a time": (JSONResponse({"access_token": "x", "expires_in": "soon"}), 503),
    "a list for a time": (JSONResponse({"access_token": "x", "expires_in": [60]}), 503),
    "a time that never ends": (Response('{"access_token": "x", "expires_in": 1e999}'), 503),
    "an object for one, and a time": (JSONResponse({"access_token": "x", "expires_at": {}, "id_token": {}}), 503),
    "nested without end": (Response("[" * 100_000), 503),
    "a number for no": (JSONResponse({"error": 7}, 400), 400),
    "nothing for no": (JSONResponse({"error": None, "error_description": [1]}, 400), 400),
    "no": (JSONResponse({"error": "invalid_client"}, 401), 400),
    "no, strangely": (JSONResponse({"error": {"code": 1}}, 400), 400),
    "no ID token": (JSONResponse({"access_token": "x", "token_type": "Bearer"}), 400),
    "a number for one": (JSONResponse({"access_token": "x", "id_token": 7}), 400),
    "a large one": (JSONResponse({"access_token": "x", "id_token": "x" * 100_000}), 400),
}


async def test_what_the_issuer_says_of_a_code_may_be_anything(servers: Servers) -> None:
    async with logging_in(servers) as here:
        for said, status in NO_TOKENS.values():
            here.issuer.answers = {"token": said}
            person = here.person()
            await refused(here, person, await begun(person), status)
        here.issuer.answers = {}
        assert (await here.person().go("/logg-inn")).url.path == LOGGED_IN, "the control"


async def test_where_the_issuer_takes_codes_may_be_no_address(servers: Servers) -> None:
    async with logging_in(servers) as here:
        for address in ("nowhere", "http://[::1", "http://x:y/token", "http://x\n/"):
            here.issuer.says = {"token_endpoint": address}
            if hasattr(here.app.state, "issuer"):
                here.restarted()
            person = here.person()
            await refused(here, person, await begun(person), 503)


async def test_an_issuer_whose_name_ends_in_a_stroke_is_found(servers: Servers) -> None:
    """Discovery leaves that stroke out of the document's address (OpenID Connect Discovery 1.0, 4.1)."""
    async with logging_in(servers) as here:
        here.issuer.says = {"issuer": f"{here.issuer.url}/"}
        here.issuer.claims = {"iss": f"{here.issuer.url}/"}
        settings = here.world.running.settings.model_copy(update={"issuer": f"{here.issuer.url}/"})
        here.world.running.settings = here.app.state.keys._settings = settings
        person = here.person()
        assert (await person.go("/logg-inn")).url.path == LOGGED_IN
        caller = await here.caller(person.session)
        assert caller is not None
        assert caller.issuer == f"{here.issuer.url}/"


async def test_the_address_where_the_issuer_ends_its_session_keeps_what_it_asks_for(servers: Servers) -> None:
    async with logging_in(servers) as here:
        here.issuer.says = {"end_session_endpoint": f"{here.issuer.url}/ended?policy=kursnett"}
        person = here.person()
        await person.go("/logg-inn")
        page = await person.send("/logg-ut")
        [address] = re.findall(r'href="([^"]*/ended[^"]*)"', page.text)
        asked = parameters(html.unescape(address))
        assert asked == {
            "policy": "kursnett",
            "client_id": "kursnett",
            "post_logout_redirect_uri": f"{GATEWAY}/",
        }


async def test_while_the_issuer_is_away_those_who_are_logged_in_stay_so(servers: Servers) -> None:
    async with logging_in(servers) as here:
        person, late = here.person(), here.person()
        await person.go("/logg-inn")
        address = await begun(late, "/varsler")
        here.issuer.answers = dict.fromkeys(("discovery", "authorize", "token", "jwks"), AWAY)
        assert (await person.go("/min-side")).url.path == LOGGED_IN
        await told_that_it_is_away(here, late, address)
        assert (await person.send("/logg-ut")).status_code == 200, "one can log out, too"
        here.restarted()
        await told_that_it_is_away(here, here.person(), "/logg-inn?neste=/varsler")
        here.issuer.answers = {}
        here.restarted()
        done = await late.ask("GET", address)
        assert done.status_code == 303, "the log-in that was under way goes on"


async def test_nobody_is_sent_to_an_issuer_that_has_gone_away_since(
    servers: Servers, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(issuer, "AGAIN_S", 50)  # twenty may take longer than two seconds where others are at work
    async with logging_in(servers) as here:
        await here.person().go("/logg-inn")
        here.issuer.answers = {"discovery": AWAY}
        here.issuer.asked_for.clear()
        assert (await here.person().ask("GET", "/logg-inn")).status_code == 303, "it answered a moment ago"
        here.later()
        many = [here.person().ask("GET", "/logg-inn?neste=/varsler") for _ in range(20)]
        assert {answer.status_code for answer in await asyncio.gather(*many)} == {503}
        await told_that_it_is_away(here, here.person(), "/logg-inn?neste=/varsler")
        assert here.issuer.asked_for == ["discovery"], "once for all who come"
        here.issuer.answers = {}
        here.later()
        assert (await here.person().go("/logg-inn")).url.path == LOGGED_IN


async def test_an_issuer_of_whom_nothing_is_heard_costs_two_seconds_at_most(
    servers: Servers, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that takes no connection, and one that takes it and says nothing."""
    monkeypatch.setattr(issuer, "HEARING_S", 0.3)
    silent = await asyncio.start_server(lambda _, writer: asyncio.sleep(60), "127.0.0.1", 0)
    closed = await asyncio.start_server(lambda _, writer: asyncio.sleep(60), "127.0.0.1", 0)
    ports = [one.sockets[0].getsockname()[1] for one in (silent, closed)]
    closed.close()
    try:
        for port in ports:
            async with logging_in(servers, issuer_inside=f"http://127.0.0.1:{port}") as here:
                async with asyncio.timeout(3):
                    await told_that_it_is_away(here, here.person(), "/logg-inn?neste=/varsler")
    finally:
        silent.close()


@pytest.mark.parametrize("slow", ["token", "jwks"])
async def test_an_issuer_whose_answer_never_ends_keeps_nobody_waiting(
    servers: Servers, monkeypatch: pytest.MonkeyPatch, slow: str
) -> None:
    async def drops() -> AsyncIterator[bytes]:
        while not over.is_set():
            yield b" "
            await asyncio.sleep(0.05)

    over = asyncio.Event()
    monkeypatch.setattr(issuer, "ASKING_S", 0.5)
    monkeypatch.setattr(auth, "FETCH_S", 0.5)
    async with logging_in(servers) as here:
        person = here.person()
        address = await begun(person, "/varsler")
        here.issuer.answers = {slow: StreamingResponse(drops(), media_type="application/json")}
        try:
            async with asyncio.timeout(5):
                await told_that_it_is_away(here, person, address)
        finally:
            over.set()


async def test_the_keys_of_an_issuer_that_goes_away_mid_log_in_are_waited_for(servers: Servers) -> None:
    async with logging_in(servers) as here:
        person = here.person()
        address = await begun(person, "/varsler")
        here.issuer.answers = {"jwks": AWAY}
        await told_that_it_is_away(here, person, address)
        assert await here.rows("SELECT FROM sessions") == []


async def test_a_log_in_that_is_only_begun_leaves_nothing_behind_here(servers: Servers) -> None:
    async with logging_in(servers) as here:
        person = here.person()
        await person.go("/logg-inn")
        tables = [
            row["name"]
            for row in await here.rows("SELECT tablename AS name FROM pg_tables WHERE schemaname = 'public'")
        ]
        assert "sessions" in tables

        async def written() -> dict[str, tuple[int, int]]:
            """Table -> (its rows, the last transaction that wrote one of them)."""
            counts: dict[str, tuple[int, int]] = {}
            for table in tables:
                [row] = await here.rows(
                    f"SELECT count(*) AS n, coalesce(max(xmin::text::bigint), 0) AS last FROM {table}"
                )
                counts[table] = (row["n"], row["last"])
            return counts

        before = await written()
        assert before["sessions"][0] == 1, "the control: one that is ended does"
        for _ in range(50):
            await begun(here.person())
        assert await written() == before


async def test_a_browser_keeps_the_last_of_the_log_ins_that_it_began(servers: Servers) -> None:
    async with logging_in(servers) as here:
        person = here.person()
        addresses = [await begun(person) for _ in range(login.MOST_UNDER_WAY + 5)]
        jar = person.cookies[urlsplit(GATEWAY).netloc]
        assert len(jar) == login.MOST_UNDER_WAY
        assert sum(len(name) + len(value) for name, value in jar.items()) < 6_000
        await refused(here, person, addresses[4])
        for address in addresses[-login.MOST_UNDER_WAY :]:
            assert (await person.ask("GET", address)).status_code == 303


async def test_names_of_cookies_that_are_none_of_ours_disturb_no_log_in(servers: Servers) -> None:
    async with logging_in(servers) as here:
        person = here.person()
        jar = person.cookies.setdefault(urlsplit(GATEWAY).netloc, {})
        jar |= {f"{login.UNDER_WAY}{name}": "x" for name in ("(", "a b", "<", "[]", '"', "@", "?", "=", "{", "}")}
        assert (await person.ask("GET", "/logg-inn")).status_code == 303


@pytest.mark.parametrize("kind", ["RSA", "EC"])
async def test_the_issuer_is_shown_by_a_key_who_asks(servers: Servers, kind: str) -> None:
    key: Any = RSAKey.generate_key(2048, auto_kid=True) if kind == "RSA" else ECKey.generate_key("P-256", auto_kid=True)
    public = type(key).import_key(key.as_dict(private=False))
    private = json.dumps(key.as_dict(private=True))
    async with logging_in(servers, login_client_key=private, login_client_id="kursnett-123") as here:
        proofs: dict[str, str] = {}
        for _ in range(2):
            assert (await here.person().go("/logg-inn")).url.path == LOGGED_IN
            asked = here.issuer.asked_with
            assert asked["client_assertion_type"] == "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
            assert (asked["client_id"], asked["authorization"]) == ("kursnett-123", ""), "shown by nothing else"
            assert not {"client_secret"} & asked.keys()
            proof = jwt.decode(asked["client_assertion"], public, algorithms=["RS256" if kind == "RSA" else "ES256"])
            said = proof.claims
            assert (said["iss"], said["sub"], said["aud"]) == ("kursnett-123", "kursnett-123", here.issuer.url)
            assert proof.header["kid"] == key.kid
            assert time.time() - 5 < said["iat"] < said["exp"] <= time.time() + 120, "ID-porten takes no longer one"
            proofs[said["jti"]] = asked["client_assertion"]
        assert len(proofs) == 2, "each is new"
        other: Any = type(key).generate_key(2048 if kind == "RSA" else "P-256")
        for proof_of_ours in proofs.values():
            with pytest.raises(JoseError):
                jwt.decode(proof_of_ours, other, algorithms=["RS256", "ES256"])


async def test_a_key_that_the_issuer_has_changed_is_fetched(servers: Servers) -> None:
    async with logging_in(servers) as here:
        person = here.person()
        await person.go("/logg-inn")
        here.issuer.key = RSAKey.generate_key(2048, {"use": "sig"}, auto_kid=True)
        here.app.state.keys._asked = float("-inf")  # it is long ago that the keys were asked for
        assert (await here.person().go("/logg-inn")).url.path == LOGGED_IN
        assert (await person.go("/min-side")).url.path == LOGGED_IN, "who was logged in by the old one stays so"


@pytest.mark.parametrize("trusts", [False, True])
async def test_what_the_issuer_says_of_roles_counts_where_it_is_believed(servers: Servers, trusts: bool) -> None:
    async with logging_in(servers, trust_role_claims=trusts) as here:
        here.issuer.claims = {"kursnett_role": "operator", "kursnett_partner": "torgar"}
        person = here.person()
        await person.go("/logg-inn")
        caller = await here.caller(person.session)
        assert caller is not None
        assert (caller.role, caller.partner) == (("operator", "torgar") if trusts else ("learner", None))


STRANGE = [
    None,
    "",
    "min-side",
    "//evil.example",
    "/\\evil.example",
    "\\/evil.example",
    "///evil.example",
    "https://evil.example",
    "javascript:alert(1)",
    "/a\nb",
    "/a\r\nset-cookie: x=y",
    "/\t/evil.example",
    " /min-side",
    "/å",
    "/" + "x" * 501,
]


@pytest.mark.parametrize("strange", STRANGE)
async def test_one_is_led_back_to_this_site_only(strange: str | None) -> None:
    assert login.local(strange) == login.HOME
    assert login.local("/kurs?q=sveis&sted=mosjoen#b") == "/kurs?q=sveis&sted=mosjoen#b", "the control"
