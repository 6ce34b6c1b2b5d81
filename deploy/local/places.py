"""Where a local stack keeps its files and which ports it answers on: all counts from one folder and two numbers."""

import os
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

from deploy.trouble import Trouble

ROOT = Path(__file__).resolve().parents[2]
SERVICES = ("catalogue", "enrolment", "notifier")
OURS = (sys.executable, "-P", "-m")  # runs a module of ours; without -P, its namesake in the folder where one stands
OFFSETS = {  # from the base port
    "postgres": 0,
    "kafka": 1,
    "kafka-controller": 2,
    "kafka-partners": 3,
    "issuer": 4,
    "smtp": 5,
    "mail": 6,
    "catalogue": 10,
    "enrolment": 11,
    "notifier": 12,
}
PORTS_SPANNED = max(OFFSETS.values()) + 1
ISSUER_ID = "kursnett"
SMS = "/sms"  # where at the mail catcher the notifier posts each SMS, as to a gateway


@dataclass(frozen=True)
class Places:
    """A stack's folder, its first port (the servers count from it) and the gateway's port."""

    home: Path
    base_port: int = 18000
    gateway_port: int = 8080

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] = os.environ) -> Self:
        """KURSNETT_HOME, KURSNETT_BASE_PORT and KURSNETT_PORT, or what stands in the README. Raises Trouble."""
        home = Path(environment.get("KURSNETT_HOME") or ROOT / ".kursnett").expanduser().absolute()
        if "," in str(home):
            raise Trouble(
                f"{home} holds a comma, and Kafka takes that for two folders.",
                "Set KURSNETT_HOME to a folder without one.",
            )
        base = _port(environment, "KURSNETT_BASE_PORT", 18000, 65535 - PORTS_SPANNED)
        gateway = _port(environment, "KURSNETT_PORT", 8080, 65535)
        other = next((name for name, offset in OFFSETS.items() if base + offset == gateway), None)
        if other is not None:
            raise Trouble(
                f"KURSNETT_PORT is {gateway}, which is {other}'s port: those count from KURSNETT_BASE_PORT.",
                f"Set it to a number below {base} or above {base + PORTS_SPANNED}.",
            )
        return cls(home, base, gateway)

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> Self:
        """What `record` wrote, read back: a running stack's places, whatever the environment says now."""
        return cls(Path(record["home"]), int(record["base_port"]), int(record["gateway_port"]))

    def record(self) -> dict[str, Any]:
        return {**asdict(self), "home": str(self.home)}

    def port(self, name: str) -> int:
        return self.gateway_port if name == "gateway" else self.base_port + OFFSETS[name]

    def address(self, name: str) -> str:
        return f"127.0.0.1:{self.port(name)}"

    @property
    def gateway(self) -> str:
        return f"http://localhost:{self.gateway_port}"

    @property
    def issuer(self) -> str:
        return f"http://localhost:{self.port('issuer')}/{ISSUER_ID}"

    @property
    def logs(self) -> Path:
        return self.home / "logs"

    @property
    def secrets(self) -> Path:
        return self.home / "secrets"

    @property
    def lock(self) -> Path:
        return self.home / "lock"

    @property
    def state(self) -> Path:
        return self.home / "state.json"

    def log(self, name: str) -> Path:
        return self.logs / f"{name}.log"

    def secret(self, name: str) -> str:
        """One secret's text, e.g. `postgres/admin_password`. Raises FileNotFoundError before the first start."""
        return (self.secrets / name).read_text().strip()

    def database(self, name: str) -> str:
        """The address of one service's database, or `admin`'s, with its password."""
        database = "postgres" if name == "admin" else name
        password = self.secret(f"postgres/{name}_password")
        return f"postgresql://{name}:{password}@{self.address('postgres')}/{database}"


def cache() -> Path:
    """Where what was fetched is kept for all stacks of this user: KURSNETT_CACHE, else the user's cache folder."""
    chosen = os.environ.get("KURSNETT_CACHE")
    if chosen:
        folder = Path(chosen).expanduser().absolute()
    else:
        folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache").absolute() / "kursnett"
    if os.pathsep in str(folder):
        raise Trouble(
            f"{folder} holds a colon, and Java takes that for two folders.",
            "Set KURSNETT_CACHE to a folder without one.",
        )
    return folder


def _port(environment: Mapping[str, str], name: str, otherwise: int, highest: int) -> int:
    text = environment.get(name) or str(otherwise)
    if not (text.isascii() and text.isdecimal()) or not 1024 <= int(text) <= highest:
        raise Trouble(f"{name} is {text!r}, which is no port.", f"Set it to a number from 1024 to {highest}.")
    return int(text)
