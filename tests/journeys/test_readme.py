"""The README's commands do what it says, as somebody types them who has just run `make up`."""

import asyncio
import json
import os
import re
import sys
from pathlib import Path
from typing import Any

import httpx2
import pytest

from deploy.demo.data import bearer
from deploy.local.places import ROOT
from deploy.local.stack import Stack
from tests.delivery import until
from tests.journeys.web import Web

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(240)]  # several commands of a second or two each

USUAL = "http://localhost:8080"


def commands(heading: str) -> str:
    """The one block of commands under this heading of the README."""
    section = (ROOT / "README.md").read_text(encoding="utf-8").partition(f"## {heading}\n")[2].partition("\n## ")[0]
    [block] = re.findall(r"```bash\n(.*?)```", section, re.DOTALL)
    assert block.strip()
    return str(block)


async def typed(stack: Stack, *blocks: str) -> str:
    """What the commands print, at this stack's addresses; the shell ends at the first that fails."""
    text = "\n".join(blocks).replace(USUAL, stack.places.gateway)
    programs = str(Path(sys.executable).parent)
    process = await asyncio.create_subprocess_exec(
        *("bash", "-euo", "pipefail", "-c", text),
        env={**os.environ, "KURSNETT_HOME": str(stack.places.home), "PATH": f"{programs}:{os.environ['PATH']}"},
        cwd=ROOT,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, err = await process.communicate()
    assert process.returncode == 0, f"{out.decode()}\n{err.decode()}"
    return out.decode()


def answers(printed: str) -> list[Any]:
    """The JSON values in what was printed, one after the other."""
    found, decoder, at = [], json.JSONDecoder(), 0
    while at < len(printed):
        value, at = decoder.raw_decode(printed, at)
        found.append(value)
        at = len(printed) - len(printed[at:].lstrip())
    return found


async def test_a_first_enrolment(stack: Stack) -> None:
    course, enrolment = answers(await typed(stack, commands("A first enrolment")))
    assert course["version"] == 1
    assert (enrolment["state"], enrolment["place"]) == ("associated", "bronnoysund")
    [search] = re.findall(r"`(curl \"\$API/catalogue[^`]+)`", (ROOT / "README.md").read_text(encoding="utf-8"))
    [found] = answers(await typed(stack, f"API={USUAL}/api", search))
    assert "Trygg bruk av legemidler" in [one["title"]["nb"] for one in found["items"]]


async def test_the_partners_of_the_demonstration_data_are_in_step_with_their_file(stack: Stack) -> None:
    printed = await typed(stack, "kursnett partners sync --dry-run")
    assert "0 would be added, 0 would be changed, 4 as they were." in printed


async def test_a_partner_joins_and_publishes_three_ways(stack: Stack) -> None:
    first, file, feed, _ = answers(await typed(stack, f"API={USUAL}/api", commands("Join as a partner")))
    assert first["version"] == 1
    assert (file["created"], file["changed"]) == (2, 0)
    assert (feed["on"], feed["topic"]) == (True, "partners.nesna.feed")
    async with httpx2.AsyncClient(base_url=stack.places.gateway, timeout=20) as http:
        key = bearer(await Web(stack.places, http).token("nesna", "nesna"))

        async def taken() -> Any:
            items = (await http.get("/api/catalogue/v1/partners/nesna/intake", headers=key)).json()["items"]
            return items if {item["way"] for item in items} == {"http", "csv", "kafka"} else None

        items = await until(taken)
    assert {item["outcome"] for item in items} == {"taken"}
    assert {item["code"] for item in items} == {"HAV-1", "HAV-2", "HAV-3"}
