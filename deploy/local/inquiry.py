"""What `kursnett status` tells: every address of a stack, and whether what answers there is ours and well."""

import asyncio
from collections.abc import Sequence
from typing import Any

from deploy.local.composition import questions
from deploy.local.issuer import LOGINS
from deploy.local.places import SERVICES, Places
from deploy.local.stack import Stack

PATIENCE_SECONDS = 5.0


async def answers(places: Places, names: Sequence[str]) -> dict[str, bool]:
    """For each program whether it answers as ours and ready; all are asked at once."""
    asked = questions(places)

    async def well(name: str) -> bool:
        try:
            return await asyncio.wait_for(asked[name](), PATIENCE_SECONDS)
        except (OSError, TimeoutError):
            return False

    return dict(zip(names, await asyncio.gather(*(well(name) for name in names)), strict=True))


async def report(stack: Stack) -> dict[str, Any]:
    """The object of `kursnett status --json`; its keys are a promise to programs."""
    places = stack.places
    runs = stack.supervisor is not None
    names = list(stack.state().get("programs", {})) if runs else []
    well = await answers(places, names)
    has_secrets = (places.secrets / "postgres" / "admin_password").exists()
    return {
        "ready": runs and bool(well) and all(well.values()),
        "gateway": places.gateway,
        "kafka": places.address("kafka"),
        "partner_kafka": places.address("kafka-partners"),
        "postgres": {name: places.database(name) for name in (*SERVICES, "admin")} if has_secrets else {},
        "smtp": places.address("smtp"),
        "mail": f"http://localhost:{places.port('mail')}",
        "issuer": places.issuer,
        "services": {
            name: {"url": f"http://{places.address(name)}", "pids": stack.pids(name) if runs else []}
            for name in SERVICES
        },
        "logins": {kind: login.username for kind, login in LOGINS.items()},
        "home": str(places.home),
        "programs": well,
    }
