"""What docker-compose.yml promises, read without an engine: who may do what, who reaches whom, and with what."""

import copy
import importlib
import os
import re
from pathlib import Path
from typing import Any

import pytest
from compose_spec import PyOptions

from contracts.topics import SERVICES, owned_by
from deploy.local.kafka import PARTNERS
from kit.settings import PREFIX, Settings

ROOT = Path(__file__).resolve().parents[2]
COMPOSE = (ROOT / "docker-compose.yml").read_text()
PRODUCTION = (ROOT / "deploy/compose/production.yml").read_text()
DOCKERFILE = (ROOT / "deploy/Dockerfile").read_text()
EXAMPLE = (ROOT / "deploy/example.env").read_text()

VARIABLE = re.compile(r"\$\{([A-Z_]+)(:-|:\?)([^${}]*)\}")
PINNED = re.compile(r":v?\d[\w.-]*$|@sha256:[0-9a-f]{64}$")
SECRET = re.compile(r"PASSWORD|SECRET|TOKEN|PRIVATE|CREDENTIAL")
NO_SHELL = {"issuer"}  # its public image has no program that a health check could run
STEPS = {"secrets", *(f"{service}-migrate" for service in SERVICES)}


def read(text: str, **given: str) -> dict[str, Any]:
    """The file as compose sees it with these variables set. Raises ValueError on what compose-spec does not know."""

    def value(found: re.Match[str]) -> str:
        name, operator, rest = found.groups()
        if name in given:
            return given[name]
        if operator == ":?":
            raise KeyError(name)
        return rest

    while VARIABLE.search(text):  # innermost first: a default may hold a variable
        text = VARIABLE.sub(value, text)
    whole: dict[str, Any] = PyOptions(apply_merge=True).from_yaml(text).to_dict()
    return whole


CONTAINERS: dict[str, dict[str, Any]] = read(COMPOSE)["services"]


def lacking(name: str, block: dict[str, Any]) -> set[str]:
    """The hardening that one container lacks; empty when it has all."""
    lacks = set()
    wanted: dict[str, object] = {
        "read_only": True,
        "cap_drop": ["ALL"],
        "security_opt": ["no-new-privileges:true"],
        "stop_grace_period": "40s",
        "restart": "no" if name in STEPS else "unless-stopped",
    }
    lacks |= {line for line, value in wanted.items() if block.get(line) != value}
    lacks |= {line for line in ("pids_limit", "mem_limit") if not block.get(line)}
    if not any(str(mount).split(":")[0] == "/tmp" for mount in block.get("tmpfs", [])):
        lacks.add("tmpfs")
    if not {"max-size", "max-file"} <= block.get("logging", {}).get("options", {}).keys():
        lacks.add("logging")
    built = "build" in block or str(block["image"]).endswith(":local")  # the Dockerfile says who and how healthy
    if not built and block.get("user", "0").split(":")[0] in ("0", "root"):
        lacks.add("user")
    if not built and name not in NO_SHELL and "test" not in block.get("healthcheck", {}):
        lacks.add("healthcheck")
    return lacks


def overreaching(block: dict[str, Any]) -> set[str]:
    """What a container has that would undo the rest."""
    has = {line for line in ("privileged", "devices", "pid", "ipc", "userns_mode") if block.get(line)}
    has |= {"host network"} if block.get("network_mode") == "host" else set()
    has |= {"engine's socket"} if any("docker.sock" in str(mount) for mount in block.get("volumes", [])) else set()
    return has


@pytest.mark.parametrize("name", CONTAINERS)
def test_each_container_is_hardened(name: str) -> None:
    assert lacking(name, CONTAINERS[name]) == set()
    assert overreaching(CONTAINERS[name]) == set()


LINES = ("read_only", "cap_drop", "security_opt", "stop_grace_period", "restart", "pids_limit", "mem_limit")


@pytest.mark.parametrize("line", [*LINES, "tmpfs", "logging", "user", "healthcheck"])
def test_a_missing_line_is_seen(line: str) -> None:
    block = copy.deepcopy(CONTAINERS["postgres"])
    del block[line]
    assert lacking("postgres", block) == {line}


def test_the_engines_socket_is_seen() -> None:
    assert overreaching({"volumes": ["/var/run/docker.sock:/var/run/docker.sock"], "privileged": True}) == {
        "engine's socket",
        "privileged",
    }


@pytest.mark.parametrize(
    ("right", "wrong", "said"),
    [
        ("  init: true", "  inti: true", "inti"),
        ("condition: service_healthy", "condition: healthy", "healthy"),
        ("\nnetworks:", "\nnetwork:", "network"),
    ],
)
def test_a_misspelt_line_is_refused(right: str, wrong: str, said: str) -> None:
    assert right in COMPOSE
    with pytest.raises(ValueError, match=said):
        read(COMPOSE.replace(right, wrong))


def test_added_capabilities_are_the_gateways_alone() -> None:
    assert {name: block["cap_add"] for name, block in CONTAINERS.items() if block.get("cap_add")} == {
        "gateway": ["NET_BIND_SERVICE"]
    }


def test_our_own_image_is_nobodys_root_and_knows_its_health() -> None:
    service = DOCKERFILE.partition("AS service")[2]
    assert "USER $UID:$UID" in service
    assert re.search(r"^ARG UID=[1-9]\d{3,}$", DOCKERFILE, re.M)
    assert re.search(r"^HEALTHCHECK .*\n.*/readyz", service, re.M)
    assert "KURSNETT_ENVIRONMENT=production" in DOCKERFILE
    assert "--require-hashes" in DOCKERFILE


def test_an_image_is_given_its_own_service_and_no_other() -> None:
    copied = re.findall(r"^COPY (?!--from)(.+)$", DOCKERFILE.partition("AS service")[2], re.M)
    assert copied == ["services/__init__.py services/", "services/$SERVICE services/$SERVICE"]
    ignored = (ROOT / "deploy/Dockerfile.dockerignore").read_text().splitlines()
    assert next(line for line in ignored if line and not line.startswith("#")) == "*"


@pytest.mark.parametrize("name", CONTAINERS)
def test_each_image_is_pinned(name: str) -> None:
    image = str(CONTAINERS[name]["image"])
    assert PINNED.search(image) or re.fullmatch(r"kursnett-[a-z]+:local", image)


@pytest.mark.parametrize("image", ["caddy", "caddy:latest", "registry:5000/caddy"])
def test_an_image_without_a_version_is_seen(image: str) -> None:
    assert not PINNED.search(image)


@pytest.mark.parametrize("name", CONTAINERS)
def test_no_secret_stands_in_an_environment(name: str) -> None:
    named = {key for key in CONTAINERS[name].get("environment", {}) if SECRET.search(key)}
    assert {key for key in named if not key.endswith(("_FILE", "_DIR"))} == set()


def test_only_the_gateway_is_published_to_other_machines() -> None:
    published = {name: block["ports"] for name, block in CONTAINERS.items() if block.get("ports")}
    open_to_all = {name for name, ports in published.items() if not all(p.startswith("127.0.0.1:") for p in ports)}
    assert open_to_all == {"gateway"}
    assert published["gateway"] == ["8080:8080"]
    local = {name: [p.split(":")[1] for p in ports] for name, ports in published.items() if name != "gateway"}
    assert local == {"postgres": ["18000"], "kafka": ["18001", "18003"], "issuer": ["18004"], "mail": ["18006"]}


def test_folder_is_compose_block_is_database_is_topic_owner() -> None:
    folders = {path.parent.name for path in (ROOT / "services").glob("*/__init__.py")}
    built = {name: block["build"]["args"] for name, block in CONTAINERS.items() if block.get("build", {}).get("args")}
    made = re.findall(r"CREATE DATABASE (\w+) OWNER \1\b", (ROOT / "deploy/databases.sql").read_text())
    assert folders == set(SERVICES) == set(made)
    assert built == {service: {"SERVICE": service} for service in folders}
    assert all(owned_by(service) for service in folders)


@pytest.mark.parametrize("service", SERVICES)
def test_a_service_has_its_own_database_and_secrets(service: str) -> None:
    for name in (service, f"{service}-migrate"):
        block = CONTAINERS[name]
        assert block["image"] == f"kursnett-{service}:local"
        assert block["environment"]["KURSNETT_DATABASE_NAME"] == service
        assert block["environment"]["KURSNETT_DATABASE_USER"] == service
        assert block["volumes"] == [f"{service}-secrets:/run/kursnett:ro"]


def test_secrets_are_written_by_their_own_step_alone() -> None:
    holders: dict[str, set[str]] = {}
    for name, block in CONTAINERS.items():
        for mount in block.get("volumes", []):
            source, _, rest = str(mount).partition(":")
            if source.endswith("-secrets"):
                holders.setdefault(source, set()).add(name)
                assert rest.endswith(":ro") or name == "secrets"
    services = {f"{service}-secrets": {"secrets", service, f"{service}-migrate"} for service in SERVICES}
    assert holders == {**services, "postgres-secrets": {"secrets", "postgres"}}
    assert CONTAINERS["secrets"]["network_mode"] == "none"


@pytest.mark.parametrize("service", SERVICES)
def test_a_service_starts_after_its_migration_and_that_after_its_servers(service: str) -> None:
    assert CONTAINERS[service]["depends_on"] == {
        f"{service}-migrate": {"condition": "service_completed_successfully"},
    }
    assert CONTAINERS[f"{service}-migrate"]["command"] == ["migrate"]
    assert CONTAINERS[f"{service}-migrate"]["depends_on"] == {
        "secrets": {"condition": "service_completed_successfully"},
        "postgres": {"condition": "service_healthy"},
        "kafka": {"condition": "service_healthy"},
    }


def test_only_the_notifier_has_a_way_out() -> None:
    networks = read(COMPOSE)["networks"]
    closed = {name for name, network in networks.items() if (network or {}).get("internal")}
    assert closed == {"web", "bus", "database"}
    inside = {name for name, block in CONTAINERS.items() if "egress" in (block.get("networks") or [])}
    assert inside == {"notifier", "mail"}
    for name in ("front", "operators"):
        assert networks[name]["driver_opts"] == {"com.docker.network.bridge.enable_ip_masquerade": "false"}


def test_the_gateway_reaches_no_server() -> None:
    for server in ("postgres", "kafka", "mail"):
        assert not set(CONTAINERS["gateway"]["networks"]) & set(CONTAINERS[server]["networks"])


def test_data_lies_where_the_images_keep_it() -> None:
    assert "postgres:/var/lib/postgresql" in CONTAINERS["postgres"]["volumes"]
    assert "kafka:/var/lib/kafka/data" in CONTAINERS["kafka"]["volumes"]
    assert CONTAINERS["kafka"]["environment"]["KAFKA_LOG_DIRS"] == "/var/lib/kafka/data"


def test_partners_meet_the_same_broker_as_in_the_local_stack() -> None:
    environment = CONTAINERS["kafka"]["environment"]
    plain = {name.removeprefix("KAFKA_").replace("___", "-").replace("_", ".").lower(): name for name in environment}
    assert {name: str(environment[plain[name]]) for name in PARTNERS} == PARTNERS
    told = CONTAINERS["catalogue"]["environment"]
    bootstrap, security = (told[f"KURSNETT_KAFKA_PARTNERS_{name}"] for name in ("BOOTSTRAP", "SECURITY"))
    assert f"PARTNERS://{bootstrap}" in environment["KAFKA_ADVERTISED_LISTENERS"].split(",")
    assert f"PARTNERS:{security}" in environment["KAFKA_LISTENER_SECURITY_PROTOCOL_MAP"].split(",")
    assert (bootstrap, security) == ("127.0.0.1:18003", "SASL_PLAINTEXT")


def test_the_first_start_needs_no_setting() -> None:
    assert ":?" not in COMPOSE
    assert read(COMPOSE)["name"] == "kursnett"


def test_production_asks_for_what_has_no_safe_default() -> None:
    asked = {name: "told" for name, operator, _ in VARIABLE.findall(PRODUCTION) if operator == ":?"}
    assert asked.keys() == {
        *("KURSNETT_PUBLIC_URL", "KURSNETT_ISSUER", "KURSNETT_ISSUER_KEYS_URL"),
        *("KURSNETT_SMTP_HOST", "KURSNETT_MAIL_FROM"),
    }
    for name in asked:
        with pytest.raises(KeyError, match=name):
            read(PRODUCTION, **{other: value for other, value in asked.items() if other != name})
    overlay = read(PRODUCTION, **asked)["services"]
    assert {overlay[service]["environment"]["KURSNETT_TRUST_ROLE_CLAIMS"] for service in SERVICES} == {"false"}
    assert {name for name, block in overlay.items() if block.get("profiles")} == {"issuer", "mail"}


def test_every_variable_of_the_files_is_in_the_example() -> None:
    used = {name for name, _, _ in VARIABLE.findall(COMPOSE + PRODUCTION)}
    told = set(re.findall(r"^#?([A-Z_]+)=", EXAMPLE, re.M))
    assert used - told == set()


def test_every_setting_of_a_service_is_in_the_example() -> None:
    told = set(re.findall(r"^#?([A-Z_]+)=", EXAMPLE, re.M))
    for service in SERVICES:
        module = importlib.import_module(f"services.{service}.settings")
        kinds = [kind for kind in vars(module).values() if isinstance(kind, type) and issubclass(kind, Settings)]
        fields = {field for kind in kinds for field in kind.model_fields}
        assert "database_name" in fields
        assert {PREFIX + field.upper() for field in fields} - told == set()


def test_every_mounted_file_is_in_the_clone() -> None:
    mounted = [str(mount).split(":")[0] for block in CONTAINERS.values() for mount in block.get("volumes", [])]
    files = [ROOT / source for source in mounted if source.startswith("./")]
    assert len(files) == 4
    for file in files:
        assert file.exists()
        assert os.access(file, os.R_OK)
