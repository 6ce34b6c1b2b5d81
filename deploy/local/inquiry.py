"""What `kursnett status` tells: every address of a stack, and whether what answers there is ours and well."""

import asyncio
import json
from collections.abc import Sequence
from typing import Any

from deploy.local.asking import ask
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


async def attention(places: Places, names: Sequence[str]) -> dict[str, str]:
    """What these services want an operator to look at though they are ready: `catalogue: relay` and its sentence."""

    async def told(name: str) -> dict[str, str]:
        try:
            body = json.loads(await asyncio.wait_for(ask(places.port(name), "GET /readyz"), PATIENCE_SECONDS))
            return {f"{name}: {who}": str(words) for who, words in body.get("attention", {}).items()}
        except (OSError, TimeoutError, ValueError, AttributeError):  # whether it answers at all is asked elsewhere
            return {}

    found = await asyncio.gather(*(told(name) for name in names if name in SERVICES))
    return {key: words for one in found for key, words in one.items()}


async def report(stack: Stack) -> dict[str, Any]:
    """The object of `kursnett status --json`; its keys are a promise to programs."""
    places = stack.places
    runs = stack.supervisor is not None
    names = list(stack.state().get("programs", {})) if runs else []
    well, worries = await asyncio.gather(answers(places, names), attention(places, names))
    # None before the first start, and those whose file is lost are left out: `up` makes it anew, or says what to do.
    known = [one for one in (*SERVICES, "admin") if (places.secrets / "postgres" / f"{one}_password").exists()]
    return {
        "ready": runs and bool(well) and all(well.values()),
        "gateway": places.gateway,
        "kafka": places.address("kafka"),
        "partner_kafka": places.address("kafka-partners"),
        "postgres": {name: places.database(name) for name in known},
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
        "attention": worries,
    }
