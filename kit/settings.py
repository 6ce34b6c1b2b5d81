"""Every knob that all services share, with its unit and its reason, and how a wrong one is told."""

import json
import os
import re
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any, Literal, Self, TypeVar
from urllib.parse import urlsplit

from pydantic import BeforeValidator, Field, SecretStr, ValidationError, field_validator, model_validator
from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

PREFIX = "KURSNETT_"
SECRETS_DIR = "KURSNETT_SECRETS_DIR"
OFFSET = re.compile(r"([+-]?)(\d{1,6})([smhd])")
UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}


def offset(value: Any) -> Any:
    """Read `+48h`, `-30m` or `+10d` as a time span; whatever is not text is left to pydantic."""
    if not isinstance(value, str):
        return value
    found = OFFSET.fullmatch(value.strip())
    if found is None:
        raise ValueError("must look like +48h, -30m or +10d")
    sign, number, unit = found.groups()
    return timedelta(**{UNITS[unit]: int(number) * (-1 if sign == "-" else 1)})


def host(value: str) -> str:
    """The same name or address. Raises ValueError for what no look-up takes: it would end in words of the library's."""
    try:
        if not value.startswith("/"):  # the folder of PostgreSQL's socket
            value.encode("idna")
        right = bool(value) and "://" not in value and not re.search(r"\s", value)
    except UnicodeError:
        right = False
    if not right:
        raise ValueError("must be a host's name or address, without spaces, port or https://")
    return value


class SecretFiles(PydanticBaseSettingsSource):
    """Settings from files: a file named for the field, in the directory KURSNETT_SECRETS_DIR."""

    def get_field_value(self, field: FieldInfo, field_name: str) -> tuple[Any, str, bool]:
        directory = os.environ.get(SECRETS_DIR, "")
        path = Path(directory) / field_name
        found = bool(directory) and path.is_file()
        text = path.read_text("utf-8-sig").strip() if found else ""  # an editor may put a mark before it
        return text or None, field_name, False  # an empty file is an unset variable, as an empty variable is

    def __call__(self) -> dict[str, Any]:
        found = {name: self.get_field_value(field, name)[0] for name, field in self.settings_cls.model_fields.items()}
        return {name: value for name, value in found.items() if value is not None}


class Settings(BaseSettings):
    """What every service needs to know. A service's own class gives its database names and adds its own knobs."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX,
        env_ignore_empty=True,  # compose writes an unset variable as an empty one
        extra="ignore",
        frozen=True,
        hide_input_in_errors=True,  # a mistyped secret must not reach the log
        defer_build=True,  # this class is never read itself: its checks would take 1 MB beside those of its heirs
    )

    environment: Literal["development", "production"] = Field(
        "development", description="production refuses what only a test may do"
    )
    instance: str = Field(
        "",
        pattern=r"^[A-Za-z0-9._-]*$",
        description="this replica's lasting name: restarted, it takes its work back at once",
    )
    database_host: str = Field("127.0.0.1", description="where PostgreSQL answers")
    database_port: int = Field(5432, ge=1, le=65535, description="the port PostgreSQL answers on")
    database_name: str = Field(description="this service's own database; no other service may connect to it")
    database_user: str = Field(description="this service's own login role, which owns its database")
    database_password: SecretStr = Field(description="the password of the database role")
    kafka_bootstrap: str = Field(
        pattern=r"^[^\s:,]+:\d{1,5}(,[^\s:,]+:\d{1,5})*$",
        description="Kafka's addresses, host:port with commas between, for the first contact",
    )
    http_host: str = Field("127.0.0.1", description="the address to listen on; a container says 0.0.0.0")
    http_port: int = Field(8000, ge=1, le=65535, description="the port to listen on")
    issuer: str = Field(description="the `iss` that a bearer token must have: who may say who somebody is")
    issuer_keys_url: str = Field(
        pattern=r"^https?://", description="the address of the issuer's public keys (a JWK set)"
    )
    audience: str = Field("kursnett", description="the `aud` that a bearer token must have, so that it was made for us")
    trust_role_claims: bool = Field(
        False, description="whether the issuer's role claims are believed; true only where the issuer is ours alone"
    )
    pass_public_key: str = Field(
        "", description="by which a page knows who is logged in (a JWK); empty: nobody is, and no page asks"
    )
    public_url: str = Field(
        "http://localhost:8080", pattern=r"^https?://[^/]+$", description="the gateway's origin, for links we write"
    )
    otlp_endpoint: str = Field(
        "", pattern=r"^(https?://.+)?$", description="where traces are sent (OTLP over HTTP); empty: no traces"
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field("info", description="how much is logged")
    test_clock_offset: Annotated[timedelta, BeforeValidator(offset)] = Field(
        timedelta(0), description="moves the clock that app_now() tells, e.g. +48h, so that a test need not wait"
    )

    @field_validator("kafka_bootstrap")
    @classmethod
    def real_ports(cls, value: str) -> str:
        if any(not 1 <= int(place.rpartition(":")[2]) <= 65535 for place in value.split(",")):
            raise ValueError("a port must be a number from 1 to 65535")
        for place in value.split(","):
            host(place.rpartition(":")[0])
        return value

    @field_validator("database_host", "http_host")
    @classmethod
    def can_be_looked_up(cls, value: str) -> str:
        return host(value)

    @field_validator("public_url", "issuer_keys_url", "otlp_endpoint")
    @classmethod
    def can_be_taken_apart(cls, value: str) -> str:
        try:
            urlsplit(value)
        except ValueError:
            raise ValueError("must be an address such as https://host.example") from None
        return value

    @field_validator("pass_public_key")
    @classmethod
    def public_key(cls, value: str) -> str:
        """With a wrong one nobody is logged in, and nothing says so. The library that reads it is loaded when used."""
        try:
            names = set(json.loads(value)) if value else {"x", "y"}
        except (ValueError, TypeError):
            names = set()
        if not {"x", "y"} <= names or "d" in names:
            raise ValueError("must be the public half of the key (a JWK), as `python -m deploy.secrets DIR` makes it")
        return value

    @model_validator(mode="after")
    def real_time_in_production(self) -> Self:
        if self.environment == "production" and self.test_clock_offset:
            raise ValueError("KURSNETT_TEST_CLOCK_OFFSET is for tests and is refused in production: remove it")
        return self

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        return init_settings, env_settings, SecretFiles(settings_cls)


S = TypeVar("S", bound=Settings)


def read(kind: type[S]) -> S:
    """The settings of this process. Ends the process, with one sentence for each wrong one, when they do not do."""
    directory = os.environ.get(SECRETS_DIR, "")
    if directory and not Path(directory).is_dir():
        raise SystemExit(f"{SECRETS_DIR} names no directory: create it with one file for each secret, or unset it.")
    try:
        return kind()
    except ValidationError as error:
        raise SystemExit("\n".join(sentence(kind, problem) for problem in error.errors(include_input=False))) from None
    except (OSError, UnicodeDecodeError) as error:
        raise SystemExit(
            f"A secret file could not be read ({type(error).__name__}): check its owner and mode."
        ) from None


def sentence(kind: type[Settings], problem: Any) -> str:
    """What is wrong with one setting and how to mend it, without its value."""
    text = str(problem["msg"]).removeprefix("Value error, ")
    if not problem["loc"]:
        return text if text.endswith(".") else f"{text}."
    name = str(problem["loc"][0])
    variable = PREFIX + name.upper()
    field = kind.model_fields[name]
    place = f"set it, or put it in the file {name} in the directory {SECRETS_DIR}"
    if problem["type"] == "missing":
        return f"{variable} is missing ({field.description}): {place}."
    return f"{variable} is wrong ({field.description}): {text[:1].lower()}{text[1:]}; {place}."
