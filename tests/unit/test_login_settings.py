"""What a service that logs people in is told at start, and what the documents tell whoever sets it up."""

import json
import re
from typing import Any

import pytest
from joserfc.jwk import ECKey, OctKey, RSAKey

from deploy.local.places import ROOT
from kit import sealing
from kit.settings import read
from services.enrolment.settings import EnrolmentSettings

ISSUERS = ("Keycloak", "Feide", "ID-porten")


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    _, public = sealing.generate()
    for name, value in {
        "DATABASE_PASSWORD": "not-used",
        "KAFKA_BOOTSTRAP": "127.0.0.1:9092",
        "ISSUER": "http://issuer/kursnett",
        "ISSUER_KEYS_URL": "http://issuer/kursnett/jwks",
        "CONTACT_PUBLIC_KEY": public,
    }.items():
        monkeypatch.setenv(f"KURSNETT_{name}", value)
    return monkeypatch


def private(key: Any) -> str:
    return json.dumps(key.as_dict(private=True))


@pytest.mark.parametrize(
    "wrong",
    [
        "canary",
        "{}",
        '["canary"]',
        json.dumps(ECKey.generate_key("P-256").as_dict(private=False)),
        json.dumps(RSAKey.generate_key(2048).as_dict(private=False)),
        private(ECKey.generate_key("P-384")),
        private(OctKey.generate_key(256)),
    ],
    ids=["no JSON", "no key", "a list", "a public key", "a public RSA key", "another curve", "a secret"],
)
def test_a_key_that_cannot_prove_anything_is_told_at_start(environment: pytest.MonkeyPatch, wrong: str) -> None:
    environment.setenv("KURSNETT_LOGIN_CLIENT_KEY", wrong)
    with pytest.raises(SystemExit) as ended:
        read(EnrolmentSettings)
    assert str(ended.value).startswith("KURSNETT_LOGIN_CLIENT_KEY is wrong (a private JWK")
    assert "canary" not in str(ended.value)


@pytest.mark.parametrize("wrong", ["canary", "{}", private(ECKey.generate_key("P-384"))])
def test_a_key_that_cannot_sign_a_pass_is_named(environment: pytest.MonkeyPatch, wrong: str) -> None:
    environment.setenv("KURSNETT_PASS_PRIVATE_KEY", wrong)
    with pytest.raises(SystemExit) as ended:
        read(EnrolmentSettings)
    assert str(ended.value).startswith("KURSNETT_PASS_PRIVATE_KEY is wrong (what the passes")
    assert "canary" not in str(ended.value)


def test_one_who_has_two_proofs_is_asked_which(environment: pytest.MonkeyPatch) -> None:
    environment.setenv("KURSNETT_LOGIN_CLIENT_KEY", private(ECKey.generate_key("P-256")))
    assert read(EnrolmentSettings).login_client_key.get_secret_value(), "the control"
    environment.setenv("KURSNETT_LOGIN_CLIENT_SECRET", "canary")
    with pytest.raises(SystemExit, match="are both set: keep the one the issuer knows"):
        read(EnrolmentSettings)


@pytest.mark.parametrize("issuer", ISSUERS)
def test_the_settings_that_the_documents_give_for_an_issuer_are_taken(
    environment: pytest.MonkeyPatch, issuer: str
) -> None:
    """They are not tried at the issuers themselves; a misspelt name would be passed over without a word."""
    found = re.search(
        rf"### {issuer} \(not tried\)\n\n```text\n(.*?)```", (ROOT / "docs/security.md").read_text(), re.S
    )
    assert found
    given = dict(line.split("=", 1) for line in found[1].splitlines())
    assert {f"KURSNETT_{name}" for name in ("ISSUER", "ISSUER_KEYS_URL", "LOGIN_SCOPE", "LOGIN_ACR")} <= given.keys()
    assert given["KURSNETT_TRUST_ROLE_CLAIMS"] == "false"
    for name, value in given.items():
        assert name.removeprefix("KURSNETT_").lower() in EnrolmentSettings.model_fields, name
        environment.setenv(name, value if "<" not in value else "https://issuer.test/looked-up")
    settings = read(EnrolmentSettings)
    assert settings.issuer.startswith("https://")
    assert settings.audience != settings.login_client_id
