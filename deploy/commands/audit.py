"""audit: whether what must always be so is so, in the databases of every service."""

import asyncio
import json
from typing import Annotated, Any

from cyclopts import Parameter
from rich.console import Console

from deploy.local.places import SERVICES, Places
from deploy.local.service import command, together
from deploy.local.stack import Stack
from deploy.trouble import Trouble

SECONDS = 1200.0  # whole tables are read, maybe on a machine that has much else to do


def audit(*, as_json: Annotated[bool, Parameter(name="--json", negative="")] = False) -> int:
    """Check in all databases what must always be so, and change nothing; exits with 1 when something is not.

    Numbers are those of docs/reliability.md. A rule that looked at nothing has not been broken yet.

    Example: `kursnett audit`

    Parameters
    ----------
    as_json
        Print `findings` (the rules that are broken), `declared_resends` (how many mails went out again because nobody
        could know whether the first had arrived) and `rules` (what each looked at) as JSON.
    """
    stack = Stack.here()
    if stack.supervisor is None:
        raise Trouble("The stack does not run.", "Start it: make up, or kursnett up --detach")
    found = asyncio.run(look(stack.places))
    if as_json:
        resends = sum(one["looked"] for one in found if one["name"] == "declared_resends")
        findings = [one for one in found if one["wrong"]]
        told = {"findings": findings, "declared_resends": resends, "rules": found}
        print(json.dumps(told, indent=2, ensure_ascii=False))
    else:
        console = Console(highlight=False, soft_wrap=True)
        for one in found:
            mark = "[red]✗[/]" if one["wrong"] else "[green]✓[/]"
            console.print(
                f"{mark} {one['service']:<10} {one['invariant']:<4} {one['words']} ({one['looked']} looked at)"
            )
            if one["wrong"]:
                console.print(f"    {one['wrong']} are not so, such as {one['example']}", markup=False)
    return 1 if any(one["wrong"] for one in found) else 0


async def look(places: Places) -> list[dict[str, Any]]:
    """What the rules of each service found."""
    asked = (command(places, service, "audit", "--json", red=True, seconds=SECONDS) for service in SERVICES)
    told = await together(asked)
    return [
        {"service": service, **one} for service, text in zip(SERVICES, told, strict=True) for one in json.loads(text)
    ]
