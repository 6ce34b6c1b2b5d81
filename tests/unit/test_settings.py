from datetime import timedelta
from pathlib import Path

import pytest

from kit.settings import Settings, read

GOOD = {
    "KURSNETT_DATABASE_NAME": "demo",
    "KURSNETT_DATABASE_USER": "demo",
    "KURSNETT_DATABASE_PASSWORD": "hunter2-canary",
    "KURSNETT_KAFKA_BOOTSTRAP": "127.0.0.1:9092",
    "KURSNETT_ISSUER": "http://issuer/kursnett",
    "KURSNETT_ISSUER_KEYS_URL": "http://issuer/kursnett/jwks",
}


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    for name, value in GOOD.items():
        monkeypatch.setenv(name, value)
    for name in ("ENVIRONMENT", "SECRETS_DIR", "TEST_CLOCK_OFFSET", "HTTP_PORT"):
        monkeypatch.delenv(f"KURSNETT_{name}", raising=False)
    return monkeypatch


def refusal() -> str:
    with pytest.raises(SystemExit) as ended:
        read(Settings)
    return str(ended.value)


def test_a_service_starts_with_the_few_that_have_no_default(environment: pytest.MonkeyPatch) -> None:
    settings = read(Settings)
    assert settings.database_port == 5432
    assert settings.trust_role_claims is False
    assert settings.test_clock_offset == timedelta(0)


def test_a_secret_is_read_from_its_file_and_never_shown(environment: pytest.MonkeyPatch, tmp_path: Path) -> None:
    environment.delenv("KURSNETT_DATABASE_PASSWORD")
    environment.setenv("KURSNETT_SECRETS_DIR", str(tmp_path))
    (tmp_path / "database_password").write_text("from-a-file\n")
    settings = read(Settings)
    assert settings.database_password.get_secret_value() == "from-a-file"
    assert "from-a-file" not in repr(settings) + str(settings.model_dump())


def test_a_missing_setting_is_named_with_its_mend(environment: pytest.MonkeyPatch) -> None:
    environment.delenv("KURSNETT_DATABASE_PASSWORD")
    environment.delenv("KURSNETT_ISSUER")
    lines = refusal().splitlines()
    assert len(lines) == 2
    assert lines[0].startswith("KURSNETT_DATABASE_PASSWORD is missing (the password of the database role): set it, or")
    assert "file issuer in the directory KURSNETT_SECRETS_DIR" in lines[1]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("HTTP_PORT", "eighty-canary"),
        ("HTTP_PORT", "0"),
        ("KAFKA_BOOTSTRAP", "no port canary"),
        ("KAFKA_BOOTSTRAP", "canary:9092,canary:99999"),
        ("KAFKA_BOOTSTRAP", "canary..internal:9092"),
        ("DATABASE_HOST", "canary..internal"),
        ("DATABASE_HOST", "https://canary"),
        ("HTTP_HOST", " canary"),
        ("PUBLIC_URL", "https://[canary"),
        ("OTLP_ENDPOINT", "https://[canary"),
        ("OTLP_ENDPOINT", "canary:4318"),
        ("PASS_PUBLIC_KEY", "canary"),
        ("PASS_PUBLIC_KEY", '{"kty": "canary"}'),
        ("PASS_PUBLIC_KEY", '{"kty": "EC", "crv": "P-256", "x": "canary", "y": "canary", "d": "canary"}'),
        ("TEST_CLOCK_OFFSET", "tomorrow-canary"),
        ("ISSUER_KEYS_URL", "file:///canary"),
        ("ENVIRONMENT", "canary"),
    ],
)
def test_a_wrong_setting_is_named_without_its_value(environment: pytest.MonkeyPatch, name: str, value: str) -> None:
    environment.setenv(f"KURSNETT_{name}", value)
    text = refusal()
    assert text.startswith(f"KURSNETT_{name} is wrong (")
    assert text.count("\n") == 0
    assert "canary" not in text


def test_a_missing_secrets_directory_is_said(environment: pytest.MonkeyPatch) -> None:
    environment.setenv("KURSNETT_SECRETS_DIR", "/no/such/directory")
    assert refusal().startswith("KURSNETT_SECRETS_DIR names no directory: ")


@pytest.mark.parametrize(
    ("text", "span"),
    [
        ("+48h", timedelta(hours=48)),
        ("-30m", timedelta(minutes=-30)),
        ("10d", timedelta(days=10)),
        ("+5s", timedelta(seconds=5)),
    ],
)
def test_the_test_clock_is_moved(environment: pytest.MonkeyPatch, text: str, span: timedelta) -> None:
    environment.setenv("KURSNETT_TEST_CLOCK_OFFSET", text)
    assert read(Settings).test_clock_offset == span


def test_production_refuses_a_moved_clock(environment: pytest.MonkeyPatch) -> None:
    environment.setenv("KURSNETT_TEST_CLOCK_OFFSET", "+48h")
    environment.setenv("KURSNETT_ENVIRONMENT", "production")
    assert refusal() == "KURSNETT_TEST_CLOCK_OFFSET is for tests and is refused in production: remove it."


def test_an_empty_variable_is_an_unset_one(environment: pytest.MonkeyPatch) -> None:
    environment.setenv("KURSNETT_HTTP_PORT", "")
    assert read(Settings).http_port == 8000


def test_an_empty_secret_file_is_a_missing_one(environment: pytest.MonkeyPatch, tmp_path: Path) -> None:
    environment.delenv("KURSNETT_DATABASE_PASSWORD")
    environment.setenv("KURSNETT_SECRETS_DIR", str(tmp_path))
    (tmp_path / "database_password").write_text("\n")
    (tmp_path / "http_port").write_text("")
    assert refusal().startswith("KURSNETT_DATABASE_PASSWORD is missing (the password of the database role): set it, or")


def test_a_secret_file_may_come_from_another_editor(environment: pytest.MonkeyPatch, tmp_path: Path) -> None:
    environment.delenv("KURSNETT_DATABASE_PASSWORD")
    environment.setenv("KURSNETT_SECRETS_DIR", str(tmp_path))
    (tmp_path / "database_password").write_bytes(b"\xef\xbb\xbffrom-a-file\r\n")
    assert read(Settings).database_password.get_secret_value() == "from-a-file"


def test_every_setting_says_why_it_is_there() -> None:
    assert [name for name, field in Settings.model_fields.items() if not field.description] == []
