import base64
import hmac
import json
import time
from collections.abc import AsyncIterator, Callable
from typing import Annotated, Any

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding
from fastapi import APIRouter, Depends
from httpx2 import AsyncClient
from joserfc import jwe, jwt
from joserfc.jwk import ECKey, RSAKey

from kit import auth
from kit.auth import Caller, Keys, Operator, PerhapsSigned, Signed, must_act_for
from kit.problems import Problem
from kit.settings import Settings
from tests import web
from tests.web import Issuer

pytestmark = pytest.mark.anyio
router = APIRouter()


@router.get("/me")
async def me(caller: Signed) -> dict[str, Any]:
    return caller.__dict__ | {"key": caller.key}


@router.get("/open")
async def open_to_all(caller: PerhapsSigned) -> str:
    return caller.subject if caller else "nobody"


@router.get("/operators")
async def operators(caller: Operator) -> str:
    return caller.subject


@router.get("/partners/{partner}")
async def partners(partner: str, caller: Annotated[Caller, Depends(auth.signed)]) -> str:
    must_act_for(caller, partner)
    return partner


@pytest.fixture(scope="module")
def issuer() -> Issuer:
    return Issuer()


@pytest.fixture
async def asking(issuer: Issuer) -> AsyncIterator[AsyncClient]:
    app = web.build([router], trust_role_claims=True)
    issuer.serve(app.state.keys)
    async with web.client(app) as client:
        yield client


def bearer(token: str) -> dict[str, str]:
    return {"authorization": f"Bearer {token}"}


def refused(answer: Any) -> None:
    assert answer.status_code == 401, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.headers["www-authenticate"] == 'Bearer realm="kursnett", error="invalid_token"'


async def test_a_token_of_the_issuer_says_who_is_asking(asking: AsyncClient, issuer: Issuer) -> None:
    token = issuer.token(name="Kari Åsnes", kursnett_partner="torgar", kursnett_employer="974760673")
    body = (await asking.get("/me", headers=bearer(token))).json()
    assert body["issuer"] == web.ISSUER
    assert body["subject"] == "kari"
    assert body["name"] == "Kari Åsnes"
    assert (body["role"], body["partner"], body["employer"]) == ("learner", "torgar", "974760673")
    assert "kari" not in body["key"]


async def test_an_elliptic_curve_key_will_do(asking: AsyncClient) -> None:
    issuer = Issuer()
    issuer.key = ECKey.generate_key("P-256", {"use": "sig"}, auto_kid=True)
    app = web.build([router])
    issuer.serve(app.state.keys)
    async with web.client(app) as client:
        assert (await client.get("/me", headers=bearer(issuer.token()))).status_code == 200


async def test_nobody_is_let_in_without_a_token(asking: AsyncClient) -> None:
    answer = await asking.get("/me")
    assert answer.status_code == 401
    assert answer.headers["www-authenticate"] == 'Bearer realm="kursnett"'
    assert (await asking.get("/open")).json() == "nobody"


@pytest.mark.parametrize("header", ["Basic a2FyaTprYXJp", "Bearer", "bearer  ", "kari"])
async def test_another_scheme_is_no_token(asking: AsyncClient, header: str) -> None:
    for path in ("/me", "/open"):
        assert (await asking.get(path, headers={"authorization": header})).status_code == 401


BAD_CLAIMS: dict[str, dict[str, Any]] = {
    "wrong_aud": {"aud": "another"},
    "wrong_aud_list": {"aud": ["another", "third"]},
    "no_aud": {"aud": None},
    "wrong_iss": {"iss": "http://rogue.test"},
    "no_iss": {"iss": None},
    "expired": {"exp": int(time.time()) - 60},
    "no_exp": {"exp": None},
    "exp_as_text": {"exp": "tomorrow"},
    "not_yet": {"nbf": int(time.time()) + 86_400},  # a run of all tests may take longer than minutes
    "no_sub": {"sub": None},
    "empty_sub": {"sub": ""},
    "long_sub": {"sub": "x" * 256},
    "control_sub": {"sub": "kari\n"},
    "number_sub": {"sub": 7},
}


@pytest.mark.parametrize("kind", BAD_CLAIMS)
async def test_a_token_with_wrong_claims_is_refused(asking: AsyncClient, issuer: Issuer, kind: str) -> None:
    refused(await asking.get("/me", headers=bearer(issuer.token(**BAD_CLAIMS[kind]))))


async def test_clocks_may_differ_a_little(asking: AsyncClient, issuer: Issuer) -> None:
    token = issuer.token(exp=int(time.time()) - 5, aud=["another", "kursnett"])
    assert (await asking.get("/me", headers=bearer(token))).status_code == 200


def by_hand(header: dict[str, Any], sign: Callable[[bytes], bytes]) -> str:
    """A token that a careful library would not make."""

    def part(raw: bytes) -> bytes:
        return base64.urlsafe_b64encode(raw).rstrip(b"=")

    body = {"iss": web.ISSUER, "aud": "kursnett", "sub": "kari", "exp": int(time.time()) + 300}
    signed = part(json.dumps(header).encode()) + b"." + part(json.dumps(body).encode())
    return (signed + b"." + part(sign(signed))).decode()


def rs256(issuer: Issuer) -> Callable[[bytes], bytes]:
    key: Any = issuer.key.get_op_key("sign")
    return lambda signed: bytes(key.sign(signed, padding.PKCS1v15(), hashes.SHA256()))


def by_hand_but_right(issuer: Issuer) -> str:
    return by_hand({"alg": "RS256", "kid": issuer.key.kid}, rs256(issuer))


def unsigned(issuer: Issuer) -> str:
    return by_hand({"alg": "none", "kid": issuer.key.kid}, lambda _: b"")


def shared_secret(issuer: Issuer) -> str:
    public = issuer.key.as_pem(private=False)
    header = {"alg": "HS256", "kid": issuer.key.kid}
    return by_hand(header, lambda signed: hmac.digest(public, signed, "sha256"))


def critical(issuer: Issuer) -> str:
    header = {"alg": "RS256", "kid": issuer.key.kid, "crit": ["must"], "must": "be understood"}
    return by_hand(header, rs256(issuer))


def changed(issuer: Issuer) -> str:
    head, body, signature = issuer.token().split(".")
    other = issuer.token(sub="ola").split(".")[1]
    assert other != body
    return f"{head}.{other}.{signature}"


def encrypted(issuer: Issuer) -> str:
    """Anybody can encrypt for a public key: that is no signature."""
    public: Any = RSAKey.import_key(issuer.key.as_pem(private=False))
    inner = json.dumps({"iss": web.ISSUER, "aud": "kursnett", "sub": "kari", "exp": int(time.time()) + 300})
    return jwe.encrypt_compact({"alg": "RSA-OAEP", "enc": "A128GCM", "kid": issuer.key.kid}, inner, public)


def other_key(issuer: Issuer) -> str:
    return issuer.token(key=RSAKey.generate_key(2048))


FORGED: dict[str, Callable[[Issuer], str]] = {
    "none": unsigned,
    "shared_secret": shared_secret,
    "changed": changed,
    "other_key": other_key,
    "unknown_kid": lambda issuer: issuer.token({"kid": "another"}, key=RSAKey.generate_key(2048)),
    "kid_path": lambda issuer: issuer.token({"kid": "../../etc/passwd"}, key=RSAKey.generate_key(2048)),
    "kid_sql": lambda issuer: issuer.token({"kid": "' OR 1=1; --"}, key=RSAKey.generate_key(2048)),
    "kid_list": lambda issuer: by_hand({"alg": "RS256", "kid": [issuer.key.kid]}, rs256(issuer)),
    "none_in_other_letters": lambda issuer: by_hand({"alg": "nOnE", "kid": issuer.key.kid}, lambda _: b""),
    "alg_in_other_letters": lambda issuer: by_hand({"alg": "rs256", "kid": issuer.key.kid}, rs256(issuer)),
    "alg_of_another_kind": lambda issuer: by_hand({"alg": "ES256", "kid": issuer.key.kid}, rs256(issuer)),
    "no_alg": lambda issuer: by_hand({"kid": issuer.key.kid}, rs256(issuer)),
    "detached": lambda issuer: by_hand(
        {"alg": "RS256", "kid": issuer.key.kid, "b64": False, "crit": ["b64"]}, rs256(issuer)
    ),
    "encrypted": encrypted,
    "pss": lambda issuer: jwt.encode(
        {"alg": "PS256", "kid": issuer.key.kid},
        {"iss": web.ISSUER, "aud": "kursnett", "sub": "kari", "exp": int(time.time()) + 300},
        issuer.key,
        algorithms=["PS256"],
    ),
    "kid_number": lambda issuer: issuer.token().replace(
        issuer.token().split(".")[0], "eyJhbGciOiJSUzI1NiIsImtpZCI6N30"
    ),
    "stronger": lambda issuer: jwt.encode(
        {"alg": "RS512", "kid": issuer.key.kid}, {}, issuer.key, algorithms=["RS512"]
    ),
    "logout": lambda issuer: issuer.token({"typ": "logout+jwt"}),
    "critical": critical,
    "two_parts": lambda _: "a.b",
    "five_parts": lambda _: "a.b.c.d.e",
    "rubbish": lambda _: "!.!.!",
    "huge": lambda issuer: issuer.token(pad="x" * 9000),
    "deep_header": lambda _: base64.urlsafe_b64encode(b"[" * 5000).decode() + ".b.c",
}


@pytest.mark.parametrize("kind", FORGED)
async def test_a_forged_token_is_refused(asking: AsyncClient, issuer: Issuer, kind: str) -> None:
    token = FORGED[kind](issuer)
    refused(await asking.get("/me", headers=bearer(token)))


async def test_a_token_made_by_hand_passes_when_it_is_right(asking: AsyncClient, issuer: Issuer) -> None:
    assert (await asking.get("/me", headers=bearer(by_hand_but_right(issuer)))).status_code == 200


async def test_bytes_that_are_no_token_are_refused(asking: AsyncClient) -> None:
    refused(await asking.get("/me", headers={b"authorization": "Bearer ÿ.ÿ.ÿ".encode("latin-1")}))


async def test_an_embedded_key_or_address_of_keys_is_not_believed(asking: AsyncClient, issuer: Issuer) -> None:
    rogue = RSAKey.generate_key(2048, auto_kid=True)
    header = {"jku": "http://rogue.test/jwks", "jwk": rogue.as_dict(private=False), "kid": issuer.key.kid}
    refused(await asking.get("/me", headers=bearer(issuer.token(header, key=rogue))))
    refused(await asking.get("/me", headers=bearer(issuer.token(header | {"kid": rogue.kid}, key=rogue))))


async def test_roles_count_only_where_the_issuer_is_trusted_with_them(issuer: Issuer, asking: AsyncClient) -> None:
    token = issuer.token(kursnett_role="operator", kursnett_partner="torgar", kursnett_employer="974760673")
    assert (await asking.get("/operators", headers=bearer(token))).status_code == 200
    app = web.build([router])
    issuer.serve(app.state.keys)
    async with web.client(app) as wary:
        body = (await wary.get("/me", headers=bearer(token))).json()
        assert (body["role"], body["partner"], body["employer"]) == ("learner", None, None)
        answer = await wary.get("/operators", headers=bearer(token))
        assert answer.status_code == 403
        assert answer.json()["type"].endswith("/problems/forbidden")


async def test_a_partner_acts_for_itself_alone_and_an_operator_for_all(asking: AsyncClient, issuer: Issuer) -> None:
    partner, operator = issuer.token(kursnett_partner="torgar"), issuer.token(kursnett_role="operator")
    assert (await asking.get("/partners/torgar", headers=bearer(partner))).status_code == 200
    assert (await asking.get("/partners/mosjoen", headers=bearer(partner))).status_code == 403
    assert (await asking.get("/partners/mosjoen", headers=bearer(operator))).status_code == 200
    assert (await asking.get("/partners/mosjoen", headers=bearer(issuer.token()))).status_code == 403


class Clock:
    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 1000.0
        monkeypatch.setattr(auth, "time", self)

    def monotonic(self) -> float:
        return self.now

    def time(self) -> float:
        return time.time()


def keys_of(issuer: Issuer) -> tuple[Keys, Settings]:
    settings = web.settings()
    keys = Keys(settings)
    issuer.serve(keys)
    return keys, settings


async def test_a_new_key_is_fetched_and_made_up_ids_do_not_flood_the_issuer(monkeypatch: pytest.MonkeyPatch) -> None:
    clock, issuer = Clock(monkeypatch), Issuer()
    keys, _ = keys_of(issuer)
    await keys.caller(issuer.token())
    assert issuer.asked == 1
    issuer.key = RSAKey.generate_key(2048, {"use": "sig"}, auto_kid=True)
    for _ in range(20):
        with pytest.raises(auth.Refused):
            await keys.caller(issuer.token())
    assert issuer.asked == 1
    clock.now += auth.ASK_AGAIN_S
    await keys.caller(issuer.token())
    assert issuer.asked == 2


async def test_known_keys_are_kept_while_the_issuer_is_down(monkeypatch: pytest.MonkeyPatch) -> None:
    clock, issuer = Clock(monkeypatch), Issuer()
    keys, _ = keys_of(issuer)
    await keys.caller(issuer.token())
    issuer.up = False
    for _ in range(5):
        clock.now += auth.KEYS_LAST_S
        await keys.caller(issuer.token())
        assert keys._renewal is not None
        await keys._renewal
    assert issuer.asked == 6


async def test_a_token_is_checked_once_and_only_while_it_lasts(monkeypatch: pytest.MonkeyPatch) -> None:
    issuer, wall, decoded = Issuer(), time.time(), []
    keys, _ = keys_of(issuer)
    decode = jwt.decode

    def counted(token: str, *rest: Any, **more: Any) -> Any:
        decoded.append(token)
        return decode(token, *rest, **more)

    monkeypatch.setattr(jwt, "decode", counted)
    token, other = issuer.token(sub="kari", exp=int(wall) + 60), issuer.token(sub="ola")
    assert [(await keys.caller(token)).subject for _ in range(3)] == ["kari"] * 3
    assert (await keys.caller(other)).subject == "ola"
    assert decoded == [token, other]
    with pytest.raises(auth.Refused):
        await keys.caller(token[:-4] + ("AAAA" if token[-4:] != "AAAA" else "BBBB"))
    monkeypatch.setattr(time, "time", lambda: wall + 60 + auth.LEEWAY_S + 1)
    with pytest.raises(auth.Refused):
        await keys.caller(token)


async def test_a_token_of_a_key_that_was_withdrawn_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    clock, issuer = Clock(monkeypatch), Issuer()
    keys, _ = keys_of(issuer)
    token = issuer.token()
    await keys.caller(token)
    issuer.key = RSAKey.generate_key(2048, {"use": "sig"}, auto_kid=True)
    clock.now += auth.KEYS_LAST_S
    await keys.caller(token)  # while the keys are fetched the old ones hold
    assert keys._renewal is not None
    await keys._renewal
    with pytest.raises(auth.Refused):
        await keys.caller(token)


async def test_without_any_keys_a_caller_is_asked_to_wait(issuer: Issuer) -> None:
    app = web.build([router])
    issuer.serve(app.state.keys)
    issuer.up = False
    try:
        async with web.client(app) as asking:
            answer = await asking.get("/me", headers=bearer(issuer.token()))
    finally:
        issuer.up = True
    assert answer.status_code == 503
    assert answer.headers["retry-after"] == "5"


async def test_a_token_whose_key_cannot_be_asked_for_is_asked_for_again_later(monkeypatch: pytest.MonkeyPatch) -> None:
    """It may be the first of a new key: that it is wrong is not known."""
    clock, issuer = Clock(monkeypatch), Issuer()
    keys, _ = keys_of(issuer)
    old = issuer.token()
    await keys.caller(old)
    issuer.key, issuer.up = RSAKey.generate_key(2048, {"use": "sig"}, auto_kid=True), False
    clock.now += auth.ASK_AGAIN_S
    for _ in range(3):
        with pytest.raises(Problem) as told:
            await keys.caller(issuer.token())
        assert (told.value.status, told.value.headers["retry-after"]) == (503, "5")
        await keys.caller(old)
    issuer.up = True
    clock.now += auth.ASK_AGAIN_S
    await keys.caller(issuer.token())
    with pytest.raises(auth.Refused):
        await keys.caller(old)


@pytest.mark.parametrize("only", [{"nonce": "n"}, {"nonce": ""}, {"at_hash": "x"}, {"c_hash": "x"}, {"typ": "ID"}])
async def test_an_id_token_is_no_access_token(asking: AsyncClient, issuer: Issuer, only: dict[str, Any]) -> None:
    """It has all that an access token has where both are made for the same name, as by our defaults."""
    refused(await asking.get("/me", headers=bearer(issuer.token(**only))))
    refused(await asking.get("/me", headers=bearer(issuer.token({"typ": "at+jwt"}, **only))))
    others: list[dict[str, Any]] = [{}, {"typ": "Bearer"}, {"azp": "kursnett", "scope": "openid", "auth_time": 1}]
    for right in others:
        assert (await asking.get("/me", headers=bearer(issuer.token(**right)))).status_code == 200, "the control"


async def test_the_same_name_at_another_issuer_is_another_caller() -> None:
    assert Caller("http://a", "kari").key != Caller("http://b", "kari").key


@pytest.mark.parametrize(
    "odd",
    [
        {"kty": "EC", "crv": "of-tomorrow", "x": "AA", "y": "AA", "kid": "odd"},
        {"kty": "EC", "crv": "P-256", "x": "AA", "y": "AA", "kid": "odd"},
        {"kty": "RSA", "kid": "odd"},
    ],
)
def test_a_key_of_the_issuer_that_we_cannot_read_takes_none_of_the_others_away(odd: dict[str, str]) -> None:
    good = Issuer().key
    found = auth.usable({"keys": [odd, good.as_dict(private=False)]})
    assert found.keys() == {good.kid, None}
    with pytest.raises(ValueError, match="no signing key"):
        auth.usable({"keys": [odd]})
